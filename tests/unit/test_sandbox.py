"""Videos decoded in confined processes: the same frames as in a thread, and whatever happens there ends one video."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from contracts.storage import Extent, ExtentState, pack_extent
from engine.batching import Workers
from engine.confinement import ProcessLimits
from engine.decode import open_video
from engine.decode_thread import Terms
from engine.frame_arena import ARENA_BYTES, Places, ShownPlaces, new_arena
from engine.growing_file import GrowingFile, MediumFile, StoppedError
from engine.handed_frame import Handed, Kind
from engine.orientation import UPRIGHT, Size
from engine.picture import Crop
from engine.sandbox import Sandbox
from engine.sandbox_messages import Asks, Born, Ended, Exited, FromDecoder, Line, Opened, packed
from engine.sandbox_messages import Seen as FrameSeen
from engine.sandboxed_video import SandboxedVideo
from engine.video import EVERYTHING, OpenVideo, ReadableVideo, VideoLimits, Wanted, Wish
from engine.video_frame import DecodedFrame
from engine.watching import Finished, FrameReport, Progressed, Seen, watch_video
from tests.conftest import REPOSITORY
from tests.finders import RedFinder
from tests.media import Container, write_audio_only, write_resolution_change, write_video
from tests.processes import wait_until
from tests.uploads import Upload, VirtualTime

HALF = Wanted(wishes=(Wish(size=lambda size: Size(max(size.width // 2, 1), max(size.height // 2, 1))),))
EVERY = DetectionOptions(frame_period_recognition=1, frame_recognition_seconds=0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox()) as sandbox:
        yield sandbox


@contextlib.contextmanager
def opened(
    way: OpenVideo, medium: Path | MediumFile, wanted: Wanted = EVERYTHING, *, stop: threading.Event | None = None
) -> Generator[ReadableVideo]:
    medium = MediumFile(path=medium) if isinstance(medium, Path) else medium
    with GrowingFile(medium, stop=stop) as source, way(source, limits=VideoLimits(), wanted=wanted) as video:
        yield video


def failure_of(way: OpenVideo, medium: Path, limits: VideoLimits | None = None) -> Failure:
    with (
        pytest.raises(Failure) as failed,
        GrowingFile(MediumFile(path=medium)) as source,
        way(source, limits=limits or VideoLimits()) as video,
    ):
        count_of(video)
    return failed.value


def count_of(video: ReadableVideo) -> int:
    """Frames of a video; none is held, since a decoder waits while too many are."""
    return sum(1 for _ in video.frames())


def looked_at(way: OpenVideo, medium: Path, wanted: Wanted, *, frames_max: int = 1 << 30) -> list[object]:
    """Everything that can be known of a video, or of its first frames."""
    seen: list[object] = []
    with opened(way, medium, wanted) as video:
        for frame in video.frames():
            size = wanted.wishes[0].size(Size(frame.width, frame.height)) or Size(frame.width, frame.height)
            rgb = frame.scaled(width=size.width, height=size.height)
            seen.append((frame.index, frame.at_s, frame.position_bytes, frame.width, frame.height, rgb.tobytes()))
            if len(seen) == frames_max:
                return seen
        seen.append((video.decoded, video.damaged, video.is_partial()))
    return seen


def failure_when(way: OpenVideo, clip: Path, happens: Callable[[ReadableVideo], object]) -> Failure:
    """How a video ends to which that happens with every frame."""
    try:
        with opened(way, clip) as video:
            for _frame in video.frames():
                happens(video)
    except Failure as failure:
        return failure
    raise AssertionError("it came to its end")


def pid_of(video: ReadableVideo) -> int:
    assert isinstance(video, SandboxedVideo)
    assert video._decoder is not None
    return video._decoder._pid


def crash(video: ReadableVideo) -> None:
    """Its decoder; what had been handed over before still comes."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid_of(video), signal.SIGSEGV)


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# The same as in a thread


@pytest.mark.parametrize("wanted", [EVERYTHING, HALF], ids=["whole", "shrunk"])
@pytest.mark.parametrize(
    "container",
    [Container.MP4_FRONT, Container.MP4_END, Container.MKV, Container.WEBM_VP9, Container.TS, Container.AVI_MJPEG],
)
def test_frames_are_those_of_a_thread(sandbox: Sandbox, tmp_path: Path, container: Container, wanted: Wanted) -> None:
    clip = write_video(tmp_path / "clip", frames=12, size=(192, 128), container=container, noise=9)

    assert looked_at(sandbox.open_video, clip, wanted) == looked_at(open_video, clip, wanted)


@pytest.mark.real_media
def test_frames_of_real_clips_are_those_of_a_thread(sandbox: Sandbox, shared_data: Path) -> None:
    clips = [*(shared_data / "videos" / "clips").glob("*.m[pk]*"), *(shared_data / "videos" / "codecs").iterdir()]
    assert len(clips) > 20

    for clip in clips:
        shown = [looked_at(way, clip, HALF, frames_max=6) for way in (sandbox.open_video, open_video)]
        assert shown[0] == shown[1], clip.name


@pytest.mark.parametrize("wanted", [EVERYTHING, HALF], ids=["whole", "shrunk"])
def test_odd_sizes_turned_and_changing_pictures_are_those_of_a_thread(
    sandbox: Sandbox, tmp_path: Path, wanted: Wanted
) -> None:
    clips = [
        write_video(tmp_path / "odd", frames=5, size=(150, 94), noise=9),
        write_video(tmp_path / "turned", frames=5, rotation=90, noise=9),
        write_resolution_change(tmp_path / "changing"),
    ]

    for clip in clips:
        assert looked_at(sandbox.open_video, clip, wanted) == looked_at(open_video, clip, wanted)


def test_a_part_of_a_whole_picture_is_that_of_a_thread(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=3, size=(192, 128), rotation=90, noise=9)
    crop = Crop(x=8, y=40, width=64, height=96)

    def parts(way: OpenVideo) -> list[bytes]:
        with opened(way, clip) as video:
            return [frame.scaled(width=32, height=48, crop=crop).tobytes() for frame in video.frames()]

    assert parts(sandbox.open_video) == parts(open_video)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("sound", FailureCode.NO_VIDEO_STREAM),
        ("text", FailureCode.UNSUPPORTED_MEDIA),
        ("cut", FailureCode.UNREADABLE_MEDIA),
    ],
)
def test_what_is_no_video_is_refused_as_by_a_thread(
    sandbox: Sandbox, tmp_path: Path, name: str, code: FailureCode
) -> None:
    path = tmp_path / name
    match name:
        case "sound":
            write_audio_only(path)
        case "text":
            path.write_text("ffconcat version 1.0\nfile other\n")
        case _:
            path.write_bytes(write_video(path, frames=3, container=Container.MKV).read_bytes()[:60])

    failure = failure_of(sandbox.open_video, path)

    assert failure.code is code
    assert failure.record() == failure_of(open_video, path).record()


def test_a_file_that_cannot_be_read_is_no_crash_of_its_decoder(sandbox: Sandbox, tmp_path: Path) -> None:
    """Reading the memory of a process where it has none is an I/O error, as of a disk."""
    extent = Extent(head_bytes=5000, total_bytes=5000, state=ExtentState.SEALED)
    (tmp_path / "extent").write_bytes(pack_extent(extent))
    medium = MediumFile(path=Path("/proc/self/mem"), extent=tmp_path / "extent")

    with pytest.raises(Failure, match="Input/output error") as failed, opened(sandbox.open_video, medium):
        pass
    assert failed.value.code is FailureCode.MEDIUM_MISSING


def test_limits_hold_there(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=30)

    assert failure_of(sandbox.open_video, clip, VideoLimits(pixels_max=100)).code is FailureCode.TOO_MANY_PIXELS
    assert failure_of(sandbox.open_video, clip, VideoLimits(frames_max=20)).code is FailureCode.DURATION_LIMIT


@pytest.mark.parametrize("case", ["whole", "sampled", "kept", "cut", "growing", "aborted"])
def test_what_is_seen_of_a_video_is_the_same(sandbox: Sandbox, tmp_path: Path, case: str) -> None:
    clip = write_video(tmp_path / "clip", frames=60, container=Container.MKV, noise=20)
    content = clip.read_bytes()
    options = EVERY if case != "sampled" else DetectionOptions()
    if case == "cut":
        clip.write_bytes(content[: len(content) * 6 // 10])

    def seen(way: OpenVideo) -> list[str]:
        medium, time = MediumFile(path=clip), VirtualTime()
        if case in ("growing", "aborted"):
            (folder := tmp_path / way.__qualname__.replace(".", "")).mkdir()
            upload = Upload(folder, content, chunks=(4000,))
            medium = upload.medium

            def arrives() -> None:
                if case == "aborted" and upload.sent_bytes > len(content) // 2:
                    upload.abort()
                else:
                    upload.step()

            time = VirtualTime(on_sleep=arrives)
        terms = Terms(open_video=way, passing=time.passing(), keeps_frames=case == "kept")
        with closing(Workers(RedFinder(), count=2)) as workers:
            stop = threading.Event()
            steps = watch_video(medium, workers=workers, options=options, stop=stop, terms=terms)
            return [described(step) for step in steps if not isinstance(step, Progressed)]

    assert seen(sandbox.open_video) == seen(open_video)


def described(step: Seen) -> str:
    """A step, with what its picture shows instead of the picture."""
    if isinstance(step, FrameReport) and step.picture is not None:
        shown = step.picture.scaled(width=step.picture.width, height=step.picture.height)
        return str(msgspec.structs.replace(step, picture=None)) + str(zlib.crc32(shown.tobytes()))
    return str(step)


def test_only_frames_that_are_wanted_have_pixels(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=12)
    small, large = Size(48, 27), Size(80, 64)
    wanted = Wanted(wishes=(Wish(period=4, after_index=2, size=lambda _: large), Wish(period=2, size=lambda _: small)))

    def has(frame: DecodedFrame, size: Size) -> bool:
        try:
            return frame.scaled(width=size.width, height=size.height).shape == (size.height, size.width, 3)
        except LookupError:
            return False

    with opened(sandbox.open_video, clip, wanted) as video:
        frames = [(has(frame, large), has(frame, small)) for frame in video.frames()]

    assert [index for index, (_, is_there) in enumerate(frames) if is_there] == [0, 2, 4, 6, 8, 10]
    assert len(frames) == 12


def test_pixels_outlive_the_video(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=5, noise=9)

    def kept(way: OpenVideo) -> bytes:
        with opened(way, clip) as video:
            frame = next(iter(video.frames()))
        return frame.scaled(width=160, height=128).tobytes()

    assert kept(sandbox.open_video) == kept(open_video)


# Whatever happens there ends one video


def test_a_decoder_that_crashes_fails_its_video_and_no_other(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=200)
    with opened(sandbox.open_video, clip) as other:
        frames = other.frames()
        next(frames)
        failure = failure_when(sandbox.open_video, clip, crash)
        assert sum(1 for _ in frames) == 199

    assert failure.code is FailureCode.DECODER_CRASHED
    assert "SIGSEGV" in failure.detail
    with opened(sandbox.open_video, clip) as video:
        assert count_of(video) == 200


def test_a_crash_in_mid_video_ends_its_task_with_what_was_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=400)
    pids: list[int] = []

    @contextlib.contextmanager
    def watched(source: GrowingFile, *, limits: VideoLimits, wanted: Wanted = EVERYTHING) -> Generator[ReadableVideo]:
        with sandbox.open_video(source, limits=limits, wanted=wanted) as video:
            pids.append(pid_of(video))
            yield video

    with closing(Workers(RedFinder(), count=2)) as workers:
        steps = watch_video(
            MediumFile(path=clip),
            workers=workers,
            options=EVERY,
            stop=threading.Event(),
            terms=Terms(open_video=watched),
        )
        first = next(steps)
        os.kill(pids[0], signal.SIGKILL)
        *_, end = steps

    assert isinstance(first, FrameReport | Progressed)
    assert isinstance(end, Finished)
    assert end.failure is not None
    assert end.failure.code is FailureCode.DECODER_CRASHED
    assert end.counts.reported < 400


def test_a_decoder_that_hangs_is_ended(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=200)
    pids: set[int] = set()

    def stop(video: ReadableVideo) -> None:
        pids.add(pid_of(video))
        os.kill(pid_of(video), signal.SIGSTOP)

    with closing(Sandbox(silent_s=1.0)) as sandbox:
        failure = failure_when(sandbox.open_video, clip, stop)

    assert failure.code is FailureCode.DECODER_HUNG
    wait_until(lambda: not any(is_alive(pid) for pid in pids), timeout_s=30)


def test_a_video_that_needs_more_memory_than_a_decoder_has_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    small = write_video(tmp_path / "small", frames=60, container=Container.MPG)  # more than may be held
    large = write_video(tmp_path / "large", frames=3, size=(3840, 2160), squares=(), container=Container.MPG)
    with opened(sandbox.open_video, small) as video:
        first = next(iter(video.frames()))
        status = Path(f"/proc/{pid_of(video)}/status").read_text()
    assert first.index == 0
    (peak,) = [line for line in status.splitlines() if line.startswith("VmPeak")]

    with closing(Sandbox(memory_bytes=(int(peak.split()[1]) << 10) + (8 << 20))) as tight:
        with opened(tight.open_video, small) as video:
            assert count_of(video) == 60
        failure = failure_of(tight.open_video, large)

    assert failure.code is FailureCode.DECODER_CRASHED
    assert "memory" in failure.detail


def test_after_the_process_that_forks_them_is_killed_there_is_another(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=200)
    with closing(Sandbox()) as sandbox:
        assert sandbox._nursery is not None
        nursery = sandbox._nursery._process
        failure = failure_when(sandbox.open_video, clip, lambda _video: nursery.kill())
        with opened(sandbox.open_video, clip) as video:
            assert count_of(video) == 200

    assert failure.code is FailureCode.DECODER_CRASHED


def test_a_video_that_is_stopped_ends_its_decoder(sandbox: Sandbox, tmp_path: Path) -> None:
    clip, stop = write_video(tmp_path / "clip", frames=200), threading.Event()
    with opened(sandbox.open_video, clip, stop=stop) as video:
        pid, frames = pid_of(video), video.frames()
        next(frames)
        stop.set()
        with pytest.raises(StoppedError):
            next(frames)

    wait_until(lambda: not is_alive(pid), timeout_s=30)


def test_a_decoder_waits_while_its_frames_are_held(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=30)
    wanted = Wanted(wishes=HALF.wishes, held_max=lambda: 3)
    with opened(sandbox.open_video, clip, wanted) as video:
        frames = video.frames()
        held = [next(frames) for _ in range(5)]
        last = held[0].scaled(width=80, height=64).copy()
        assert not video._line._buffer  # type: ignore[attr-defined]
        assert np.array_equal(held[0].scaled(width=80, height=64), last)
        del held
        assert sum(1 for _ in frames) == 25


def test_nothing_is_left_behind_after_many_videos(sandbox: Sandbox, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip", frames=3)
    (broken := tmp_path / "broken").write_bytes(clip.read_bytes()[:300])
    assert sandbox._nursery is not None
    nursery = sandbox._nursery._process.pid

    def descriptors() -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), nursery))

    def children() -> str:
        return Path(f"/proc/{nursery}/task/{nursery}/children").read_text()

    wait_until(lambda: not children(), timeout_s=30)
    before = descriptors()
    for _ in range(15):
        looked_at(sandbox.open_video, clip, HALF)
        failure_of(sandbox.open_video, broken)
        with opened(sandbox.open_video, clip) as video:
            next(iter(video.frames()))

    gc.collect()  # exceptions that pytest remembers
    wait_until(lambda: not children(), timeout_s=30)
    wait_until(lambda: descriptors() <= before, timeout_s=30)
    assert "/memfd:frames" not in Path("/proc/self/maps").read_text()


CONSUMER = """
import pathlib, sys, time
from engine.sandbox import Sandbox
from engine.growing_file import GrowingFile, MediumFile
from engine.video import VideoLimits
sandbox = Sandbox()
with GrowingFile(MediumFile(path=pathlib.Path(sys.argv[1]))) as source:
    with sandbox.open_video(source, limits=VideoLimits()) as video:
        next(iter(video.frames()))
        print(sandbox._nursery._process.pid, video._decoder._pid, flush=True)
        time.sleep(300)
"""


@pytest.mark.parametrize("is_decoder_stopped", [False, True])
def test_no_process_outlives_a_killed_consumer(tmp_path: Path, is_decoder_stopped: bool) -> None:
    clip = write_video(tmp_path / "clip", frames=200)
    consumer = subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(clip)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with consumer:
        pids = _pids(consumer)
        if is_decoder_stopped:
            os.kill(pids[1], signal.SIGSTOP)
        consumer.kill()

    assert len(pids) == 2
    wait_until(lambda: not any(is_alive(pid) for pid in pids), timeout_s=30)


def _pids(consumer: "subprocess.Popen[str]") -> list[int]:
    assert consumer.stdout is not None
    for line in consumer.stdout:
        if line[0].isdigit() and len(line.split()) == 2:
            return [int(word) for word in line.split()]
    raise AssertionError("it did not start")


def test_it_knows_no_password_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://user:canary@127.0.0.1/")
    clip = write_video(tmp_path / "clip", frames=3)
    with closing(Sandbox()) as sandbox, opened(sandbox.open_video, clip) as video:
        assert b"canary" not in Path(f"/proc/{pid_of(video)}/environ").read_bytes()


# A decoder that was taken over says anything


def whole(**changes: object) -> Handed:
    fields: dict[str, object] = {"at": 0, "kind": Kind.RGB_ROWS, "width": 160, "height": 128, "is_shrunk": False}
    return Handed(**(fields | changes))  # type: ignore[arg-type]


def seen(**changes: object) -> FrameSeen:
    fields: dict[str, object] = {
        "index": 0,
        "at_s": 0.0,
        "position_bytes": 0,
        "picture": Size(160, 128),
        "turn": UPRIGHT,
        "handed": (whole(),),
    }
    return FrameSeen(**(fields | changes))  # type: ignore[arg-type]


GONE_PID = 1 << 22
"""No process has it: Linux gives smaller ones."""
SILENT_S = 0.3
PROCESS = ProcessLimits(memory_bytes=1 << 30, cpu_s=60)


def shown(picture: Size) -> Size:
    assert 0 < picture.width * picture.height <= 1 << 26, "nobody is asked about what no picture can be"
    return picture


class Paused(Line[FromDecoder]):
    """A line whose first wait takes longer than a decoder may be silent: all of us were paused."""

    is_past = False

    def receive(self, timeout_s: float | None = None) -> FromDecoder | None:
        if self.is_past:
            return super().receive(timeout_s)
        self.is_past = True
        time.sleep(2 * SILENT_S)
        return None


def video_told(
    source: GrowingFile, said: bytes, arena: int, *, kind: type[Line[FromDecoder]] = Line[FromDecoder]
) -> SandboxedVideo:
    """The video of a decoder that has said that, and is gone."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        os.write(theirs.fileno(), said)
        line = kind(os.dup(ours.fileno()), FromDecoder)
    return SandboxedVideo(source, line, arena, wanted=Wanted(wishes=(Wish(size=shown),)), silent_s=SILENT_S)


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00\xc1\xc1",
        packed(Opened()),
        packed(seen(index=1)),
        packed(seen(at_s=float("nan"))),
        packed(seen(at_s=-1.0)),
        packed(seen(picture=Size(-160, -128))),
        packed(seen(picture=Size(1 << 20, 1 << 20))),
        packed(seen(handed=(whole(at=ARENA_BYTES - 1),))),
        packed(seen(handed=(whole(width=1 << 17),))),
        packed(seen(handed=(whole(width=80),))),
        packed(seen(handed=(whole(kind=Kind.STORED_PLANES, pixel_format="vaapi"),))),
        packed(seen(handed=(whole(),) * 9)),
        packed(Asks(Size(0, 0))),
        packed(Asks(Size(-160, -128))),
        packed(Asks(Size(1 << 60, 1 << 60))),
        packed(Exited(-9999)),
        packed(Ended(decoded=0, damaged=0, failure=Failure(FailureCode.ENGINE_UNAVAILABLE, "lie").record())),
        b"",
    ],
)
def test_whatever_a_decoder_says_is_a_failure_of_its_video(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    arena = new_arena()
    with (
        GrowingFile(MediumFile(path=tmp_path / "clip")) as source,
        closing(video_told(source, said, arena)) as video,
        pytest.raises(Failure) as failed,
    ):
        count_of(video)
    os.close(arena)

    assert failed.value.code is FailureCode.DECODER_CRASHED


def test_a_decoder_is_not_silent_while_everybody_is_paused(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    arena = new_arena()
    with (
        GrowingFile(MediumFile(path=tmp_path / "clip")) as source,
        closing(video_told(source, packed(Ended(decoded=0, damaged=0)), arena, kind=Paused)) as video,
    ):
        assert count_of(video) == 0
    os.close(arena)


def test_a_decoder_that_is_gone_before_it_was_known_has_crashed(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    arena = new_arena()
    with (
        GrowingFile(MediumFile(path=tmp_path / "clip")) as source,
        closing(video_told(source, packed(Born(GONE_PID), Exited(-signal.SIGKILL)), arena)) as video,
        pytest.raises(Failure, match="SIGKILL"),
    ):
        video.open(VideoLimits(), PROCESS)
    os.close(arena)


def test_a_decoder_cannot_have_another_process_killed(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"x")
    sleeping = (sys.executable, "-c", "import time; time.sleep(60)")
    arena = new_arena()
    with subprocess.Popen(sleeping) as decoder, subprocess.Popen(sleeping) as other:
        with (
            GrowingFile(MediumFile(path=tmp_path / "clip")) as source,
            closing(video_told(source, packed(Born(decoder.pid), Born(other.pid)), arena)) as video,
            pytest.raises(Failure, match="Born"),
        ):
            video.open(VideoLimits(), PROCESS)
        assert decoder.wait(10) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
    os.close(arena)


def test_the_size_of_the_arena_cannot_be_changed() -> None:
    arena = new_arena()
    for size in (0, ARENA_BYTES * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(arena, size)
    os.close(arena)


def test_places_are_used_again_from_the_lowest() -> None:
    arena, freed = new_arena(), list[int]()
    places, shown = Places(arena), ShownPlaces(arena, freed.append)
    first, second, third = (places.take(1000) for _ in range(3))
    assert (first, second, third) == (0, 1024, 2048)
    places.free(1024)
    assert places.take(2000) == 3072
    assert places.take(900) == 1024
    assert places.take(ARENA_BYTES) is None

    places.at(1024, 3)[...] = (1, 2, 3)
    view = shown.at(1024, 3)[1:].reshape(2, 1)
    assert view.ravel().tolist() == [2, 3]
    assert freed == []
    del view
    assert freed == [1024]
    os.close(arena)
