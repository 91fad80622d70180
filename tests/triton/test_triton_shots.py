"""The shots of a video by a model on a real Triton: those that the model in a file finds."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.decode_thread import Terms
from engine.growing_file import MediumFile
from engine.shot_finder import FoundShot
from engine.shot_model import open_shot_model
from engine.shot_workers import GATHERED_MAX, ShotWorkers
from engine.sources import ModelSource
from engine.watching import FrameReport, Seen, watch_video
from tests.conftest import REPOSITORY
from tests.cut_finder import write_scenes
from tests.triton_server import SHIPPED, TritonServer
from tests.uploads import Upload, VirtualTime

WAIT_S = 60

LOCAL = REPOSITORY / "models" / SHIPPED["transnetv2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("clip") / "clip", 30, 70, 190, frames=230)


def seen_in(medium: MediumFile, terms: Terms, *, resume: Checkpoint | None = None) -> Iterator[Seen]:
    return watch_video(
        medium, workers=None, options=DetectionOptions(), stop=threading.Event(), resume=resume, terms=terms
    )


def shots_by(source: ModelSource, clip: Path) -> list[FoundShot]:
    with closing(ShotWorkers(open_shot_model(source), count=2)) as shots:
        return shots_of(seen_in(MediumFile(path=clip), Terms(shots=shots)))


def shots_of(seen: Iterable[Seen]) -> list[FoundShot]:
    return [shot for each in seen if isinstance(each, FrameReport) for shot in each.shots]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_server_finds_the_shots_of_the_local_model(triton: TritonServer, clip: Path, protocol: str) -> None:
    found = shots_by(triton.model("transnetv2", protocol), clip)

    assert {29, 229} <= {shot.end_frame for shot in found}
    assert found == shots_by(LOCAL, clip)


@pytest.mark.real_media
def test_real_videos_have_the_same_shots_by_both(triton: TritonServer, shared_data: Path) -> None:
    clip = shared_data / "videos" / "shots" / "bikes_scene_test.mp4"

    found = shots_by(triton.model("transnetv2"), clip)

    assert [shot.end_frame for shot in found] == [29, 75, 136, 186, 241, 249]
    assert found == shots_by(LOCAL, clip)


def test_windows_are_gathered(triton: TritonServer, clip: Path) -> None:
    model = open_shot_model(triton.model("transnetv2"))
    assert model.card.engine_type == "triton"
    assert model.rows_best is None
    with closing(ShotWorkers(model, count=2)) as shots:
        shots_of(seen_in(MediumFile(path=clip), Terms(shots=shots)))
    assert max(triton.batch_sizes("transnetv2")) <= GATHERED_MAX


def test_a_server_that_goes_away_costs_no_shot(triton: TritonServer, clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    upload = Upload(tmp_path, content)
    upload.send_until(len(content) // 2)
    is_away = threading.Event()

    def send_the_rest_when_it_is_away() -> None:
        assert is_away.wait(WAIT_S)
        upload.step()

    passing = VirtualTime(send_the_rest_when_it_is_away).passing()
    with closing(ShotWorkers(open_shot_model(triton.model("transnetv2")), count=1)) as shots:
        watched = seen_in(upload.medium, Terms(shots=shots, passing=passing))
        seen = [next(each for each in watched if isinstance(each, FrameReport))]
        triton.kill()
        is_away.set()
        try:
            with pytest.raises(Failure) as away:
                seen.extend(watched)
        finally:
            triton.start("transnetv2")
    assert away.value.code is FailureCode.ENGINE_UNAVAILABLE
    last = seen[-1]
    assert isinstance(last, Checkpoint)
    with closing(ShotWorkers(open_shot_model(triton.model("transnetv2")), count=1)) as shots:
        rest = seen_in(MediumFile(path=clip), Terms(shots=shots), resume=last)
        assert shots_of(seen) + shots_of(rest) == shots_by(LOCAL, clip)
