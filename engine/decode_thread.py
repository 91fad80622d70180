"""The thread that reads, decodes and submits the sampled frames of one video; it is the one that waits for bytes.

What happened to the frames travels through one bounded queue, in order, and ends with one `Over`.
"""

import itertools
import queue
import threading
from concurrent.futures import CancelledError
from typing import Literal

import msgspec
import structlog

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.batching import Workers
from engine.decode import must_wait_for_index, open_video
from engine.growing_file import REAL_TIME, GrowingFile, MediumFile, StoppedError, Time
from engine.orientation import Size
from engine.picture import Picture
from engine.sampling import is_sampled
from engine.showing import Detections
from engine.video import OpenVideo, VideoLimits, Wanted, Wish
from engine.video_frame import DecodedFrame

MARK_MEDIA_S = 5.0
"""Seconds of video after which a frame is told of that is not looked at, so that there is somewhere to resume from."""
POLL_S = 0.05
"""How often either side looks whether it should stop while nothing comes from the other."""
AHEAD_MAX = 64
"""Frames whose results may wait for the caller: detections without their pictures. Full: the decoder waits."""
AHEAD_WITH_FRAMES_MAX = 4
"""The same with their pictures, which may have 100 MB each."""

_stream_numbers = itertools.count(1)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a video may claim, and how time passes while it is watched."""

    limits: VideoLimits = VideoLimits()
    passing: Time = REAL_TIME
    keeps_frames: bool = False
    """Whether the frame of a report is asked for."""
    open_video: OpenVideo = open_video
    """Where it is decoded."""


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """A frame has been decoded; `detections` is None for one that only marks how far the video has come."""

    frame_index: int
    at_s: float
    percent: int
    size: Size
    detections: Detections | None
    frame: Picture | None = None
    """Kept if it is asked for and somebody looks at it."""


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing comes after it."""

    decoded: int = 0
    is_partial: bool = False
    failure: Failure | None = None


class DecodeThread:
    """The decode thread of one video, and the queue through which it speaks."""

    def __init__(
        self,
        medium: MediumFile,
        *,
        workers: Workers,
        options: DetectionOptions,
        resume: Checkpoint | None,
        terms: Terms,
    ) -> None:
        self._medium = medium
        self._workers = workers
        self._options = options
        self._done_index = resume.frame_index if resume else -1
        self._marked_s = resume.at_s if resume else 0.0
        self._percent = resume.percent if resume else 0
        self._terms = terms
        self._stream = f"video-{next(_stream_numbers)}"
        self._halt = threading.Event()
        self._results: queue.Queue[Looked | Over] = queue.Queue(
            AHEAD_WITH_FRAMES_MAX if terms.keeps_frames else AHEAD_MAX
        )
        self._head: Looked | Over | None = None
        self._source: GrowingFile | None = None
        self._is_before_index = False
        self._decoded = 0
        self._thread = threading.Thread(target=self._run, name=self._stream)
        self._thread.start()

    @property
    def waiting_for(self) -> Literal["moov"] | None:
        """`moov` while an index at the end of the file is awaited."""
        source = self._source
        return "moov" if self._is_before_index and source is not None and source.is_starving else None

    def next_result(self) -> Looked | Over | None:
        """The next frame whose detections are there; None if there is none yet, after `POLL_S` at most."""
        if self._head is None:
            try:
                self._head = self._results.get(timeout=POLL_S)
            except queue.Empty:
                return None
        if isinstance(self._head, Looked) and not _is_ready(self._head):
            return None
        looked, self._head = self._head, None
        return looked

    def close(self) -> None:
        """End the thread, which closes the file; what workers hold of this video is dropped."""
        self._halt.set()
        self._workers.forget(self._stream)
        self._thread.join()
        self._workers.forget(self._stream)  # what it submitted in between

    def _run(self) -> None:
        """The outermost loop of the thread: whatever ends it becomes an `Over`."""
        try:
            self._offer(self._ended())
        except StoppedError:
            return

    def _ended(self) -> Over:
        try:
            return self._decode()
        except StoppedError:
            raise
        except Failure as failure:
            return Over(decoded=self._decoded, failure=failure)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a thread
            structlog.get_logger().exception("decoding broke", medium=self._medium.path.name)
            failure = Failure(FailureCode.INTERNAL, f"{type(error).__name__}: {error}")
            return Over(decoded=self._decoded, failure=failure)

    def _decode(self) -> Over:
        with GrowingFile(self._medium, stop=self._halt, passing=self._terms.passing) as source:
            self._source = source
            self._is_before_index = must_wait_for_index(source)
            with self._terms.open_video(source, limits=self._terms.limits, wanted=self._wanted()) as video:
                self._is_before_index = False
                for frame in video.frames():
                    self._decoded = frame.index + 1
                    if frame.index > self._done_index:
                        self._look(frame, source)
                source.wait_until_complete()
                source.raise_if_over()
                if video.decoded == 0:
                    raise _nothing_decoded(video.damaged)
                return Over(decoded=video.decoded, is_partial=video.is_partial())

    def _wanted(self) -> Wanted:
        """The frames that will be looked at."""
        sampled = Wish(
            period=self._options.frame_period_recognition,
            after_index=self._done_index,
            size=lambda picture: self._workers.shown_as(picture, self._options),
            is_kept=self._terms.keeps_frames,
        )
        return Wanted(wishes=(sampled,), held_max=lambda: self._workers.held_max)

    def _look(self, frame: DecodedFrame, source: GrowingFile) -> None:
        is_wanted = is_sampled(frame.index, period=self._options.frame_period_recognition)
        if not is_wanted and frame.at_s - self._marked_s < MARK_MEDIA_S:
            return
        self._marked_s = frame.at_s
        self._percent = max(self._percent, _percent(frame.position_bytes, source.total_bytes))
        detections = self._workers.submit(frame, self._options, stream=self._stream) if is_wanted else None
        self._offer(
            Looked(
                frame_index=frame.index,
                at_s=frame.at_s,
                percent=self._percent,
                size=Size(frame.width, frame.height),
                detections=detections,
                frame=frame if is_wanted and self._terms.keeps_frames else None,
            )
        )

    def _offer(self, result: Looked | Over) -> None:
        while not self._halt.is_set():
            try:
                return self._results.put(result, timeout=POLL_S)
            except queue.Full:
                continue
        raise StoppedError


def _is_ready(looked: Looked) -> bool:
    """True once the detections are there, waiting for them `POLL_S` at most."""
    if looked.detections is None:
        return True
    try:
        looked.detections.exception(timeout=POLL_S)
    except TimeoutError:
        return False
    except CancelledError:
        return True
    return True


def _percent(position_bytes: int, total_bytes: int | None) -> int:
    """0..99: only the end is 100; 0 while the total is unknown."""
    return min(position_bytes * 100 // total_bytes, 99) if total_bytes else 0


def _nothing_decoded(damaged: int) -> Failure:
    if damaged:
        return Failure(FailureCode.UNREADABLE_MEDIA, f"not one frame can be decoded, {damaged} packets are damaged")
    return Failure(FailureCode.NO_FRAMES, "the video stream has no frames")
