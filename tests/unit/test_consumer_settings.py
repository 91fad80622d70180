"""How a consumer is configured."""

from pathlib import Path

import msgspec
import pytest

from consumers.media_limits import MediaLimits, limits_of
from consumers.settings import ConsumerSettings, from_environment, unread
from contracts.settings import ConfigurationError
from engine.gathering import BATCH_MAX, BATCH_WAIT_S
from engine.images import PictureLimits
from engine.video import VideoLimits


def test_shared_names_have_no_prefix_and_own_names_have_one() -> None:
    settings = from_environment({"STORAGE_DIR": "s", "CONSUMER_VIDEOS_MAX": "3", "CONSUMER_WARM_UP": "true"})

    assert (settings.storage_dir, settings.videos_max, settings.warm_up) == ("s", 3, True)


def test_there_is_a_worker_for_each_core_unless_said_otherwise() -> None:
    assert from_environment({}).workers >= 1
    assert from_environment({"CONSUMER_WORKERS": "5"}).workers == 5


def test_the_engine_s_own_bounds_are_the_defaults() -> None:
    settings = from_environment({})

    assert (settings.batch_max, settings.batch_wait_s) == (BATCH_MAX, BATCH_WAIT_S)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CONSUMER_BATCH_MAX", "0"),
        ("CONSUMER_BATCH_WAIT_S", "2"),
        ("CONSUMER_TENSORRT_LIBRARY", "tensorrt_xyz"),
        ("CONSUMER_WORKERS", "0"),
        ("CONSUMER_VIDEOS_MAX", "many"),
        ("CONSUMER_AHEAD_MAX", "100"),
        ("CONSUMER_STOP_S", "-1"),
        ("CONSUMER_LOG_LEVEL", "loud"),
        ("LOADER_URL", "loader:8080"),
        ("STORAGE_DIR", ""),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        from_environment({variable: value})


def test_a_misspelt_setting_is_noticed() -> None:
    assert unread({"CONSUMER_WORKER": "1", "CONSUMER_WORKERS": "1", "EDGE_X": "1"}) == ["CONSUMER_WORKER"]


def test_every_setting_says_what_it_is() -> None:
    described = [field for field in msgspec.inspect.type_info(ConsumerSettings).fields if _description(field.type)]

    assert len(described) == len(ConsumerSettings.__struct_fields__)


def _description(described: object) -> str | None:
    if isinstance(described, msgspec.inspect.Metadata):
        return (described.extra_json_schema or {}).get("description")
    return None


def test_models_lie_in_the_storage_unless_said_otherwise(tmp_path: Path) -> None:
    assert ConsumerSettings(storage_dir=str(tmp_path)).models == tmp_path / "models"
    assert ConsumerSettings(storage_dir=str(tmp_path), models_dir="/m").models == Path("/m")


def test_the_limits_of_media_are_settings_and_the_engines_by_default() -> None:
    assert limits_of(from_environment({})) == MediaLimits()
    set_lower = from_environment(
        {
            "CONSUMER_IMAGE_PIXELS_MAX": "1",
            "CONSUMER_IMAGE_SIDE_PX_MAX": "2",
            "CONSUMER_VIDEO_PIXELS_MAX": "3",
            "CONSUMER_VIDEO_SIDE_PX_MAX": "4",
            "CONSUMER_VIDEO_DURATION_MAX_S": "5",
            "CONSUMER_VIDEO_FRAMES_MAX": "6",
        }
    )
    assert limits_of(set_lower) == MediaLimits(
        picture=PictureLimits(pixels_max=1, side_px_max=2),
        video=VideoLimits(pixels_max=3, side_px_max=4, duration_max_s=5, frames_max=6),
    )
