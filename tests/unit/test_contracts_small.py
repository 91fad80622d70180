"""The smaller words: times, kinds, settings, topology, documents."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from contracts import topology
from contracts.commands import DetectImage, DetectVideo, FindShots
from contracts.detections import video_time
from contracts.events import EngineStatus, FrameDetected, TaskEnded, TaskProgressed
from contracts.media import Medium, MediumKind, kind_by_extension
from contracts.settings import ConfigurationError, read_settings
from tests.conftest import REPOSITORY

TASK_ID = "00000000-0000-0000-0000-000000000001"
MEDIUM = Medium(root="storage", path="x", kind=MediumKind.VIDEO)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00.000"),
        (1.9996, "00:00:02.000"),
        (61.25, "00:01:01.250"),
        (3599.9999, "01:00:00.000"),
        (360000, "100:00:00.000"),
    ],
)
def test_a_video_time_has_hours_minutes_seconds_and_milliseconds(seconds: float, text: str) -> None:
    assert video_time(seconds) == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.MP4", "video"),
        ("a.b.ts", "video"),
        ("../x.JPeG", "image"),
        ("a.txt", None),
        ("mp4", None),
        ("", None),
        ("a.", None),
    ],
)
def test_the_kind_follows_the_extension(name: str, kind: str | None) -> None:
    assert kind_by_extension(name) == kind


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    amqp_url: str = "amqp://localhost"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8000
    is_warm: bool = False


SHARED = frozenset({"amqp_url"})


def test_settings_come_from_the_environment_with_a_prefix_for_their_own_and_none_for_shared_ones() -> None:
    environ = {"AMQP_URL": "amqp://b", "EDGE_PORT": "9000", "EDGE_IS_WARM": "true", "EDGE_UNKNOWN": "1", "PORT": "1"}

    settings = read_settings(Settings, environ, prefix="EDGE_", shared=SHARED)

    assert settings == Settings(amqp_url="amqp://b", port=9000, is_warm=True)


@pytest.mark.parametrize("value", ["0", "70000", "x", ""])
def test_a_setting_outside_its_range_names_the_variable(value: str) -> None:
    with pytest.raises(ConfigurationError, match="EDGE_PORT"):
        read_settings(Settings, {"EDGE_PORT": value}, prefix="EDGE_", shared=SHARED)


def test_a_setting_may_lie_in_a_file_that_its_variable_names(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("amqp://user:word@broker/\n")
    environ = {"AMQP_URL_FILE": str(secret), "EDGE_PORT": "9000"}

    assert read_settings(Settings, environ, prefix="EDGE_", shared=SHARED) == Settings(
        amqp_url="amqp://user:word@broker/", port=9000
    )
    with pytest.raises(ConfigurationError, match="AMQP_URL and AMQP_URL_FILE"):
        read_settings(Settings, environ | {"AMQP_URL": "amqp://other"}, prefix="EDGE_", shared=SHARED)
    with pytest.raises(ConfigurationError, match="AMQP_URL_FILE="):
        read_settings(Settings, {"AMQP_URL_FILE": str(tmp_path / "nowhere")}, prefix="EDGE_", shared=SHARED)


def test_images_never_wait_behind_videos_nor_these_behind_shots() -> None:
    keys = [
        topology.command_key(kind(task_id=TASK_ID, medium=MEDIUM)) for kind in (DetectImage, DetectVideo, FindShots)
    ]
    queues = {
        binding.routing_key: binding.queue
        for binding in topology.topology().bindings
        if binding.exchange == topology.COMMANDS
    }

    assert [queues[key] for key in keys] == [topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS]


def test_every_command_queue_keeps_its_dead_letters() -> None:
    queues = {queue.name: queue.arguments for queue in topology.topology().queues}

    for name in (topology.IMAGE_COMMANDS, topology.VIDEO_COMMANDS, topology.SHOTS_COMMANDS):
        assert queues[name]["x-queue-type"] == "quorum"
        assert queues[name]["x-dead-letter-exchange"] == topology.DEAD


def test_no_routing_key_holds_a_task_id() -> None:
    events = (
        FrameDetected(task_id=TASK_ID, media_id="m", sequence=1),
        TaskProgressed(task_id=TASK_ID, media_id="m"),
        TaskEnded(task_id=TASK_ID, media_id="m", sequence=2),
    )

    assert [topology.event_key(event) for event in events] == ["frame.free", "progress.free", "end.free"]
    owned = [msgspec.structs.replace(event, owner="anna") for event in events]
    assert [topology.event_key(event) for event in owned] == ["frame.owned", "progress.owned", "end.owned"]


def test_engine_statuses_are_numbers_in_messages_and_names_in_answers() -> None:
    assert {status.api_name: int(status) for status in EngineStatus} == {
        "None": 0,
        "Downloading": 10,
        "Converting": 20,
        "Uploading": 30,
        "Enabled": 200,
        "Warning": 300,
        "Error": 500,
    }


def test_the_generated_documents_are_up_to_date() -> None:
    check = [sys.executable, "docs/generate.py", "--check"]
    done = subprocess.run(check, cwd=REPOSITORY, env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
