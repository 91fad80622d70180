"""The thread that reads and decodes one video, and submits its sampled frames, or windows of all its frames, or both.

It is the one that waits for bytes.

What happened to the frames travels through one bounded queue, in order, and ends with one `Over`.
"""

import contextvars
import itertools
import queue
import threading
from collections.abc import Callable
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
from engine.shot_feed import Searched, ShotFeed
from engine.shot_workers import ShotWorkers
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
    """What a video may claim, how time passes while it is watched, and what is wanted of it beside its objects."""

    limits: VideoLimits = VideoLimits()
    passing: Time = REAL_TIME
    keeps_frames: bool = False
    """Whether the frame of a report is asked for."""
    shots: ShotWorkers | None = None
    """Who looks for its shots; None: nobody."""
    open_video: OpenVideo = open_video
    """Where it is decoded."""
    offered: Callable[["Result"], None] = lambda _: None
    """Told of each result as it is awaited, in the decode thread."""


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


Result = Looked | Searched | Over
"""The frames of a `Searched` come before it, as `Looked` if they were looked at for objects."""


class DecodeThread:
    """The decode thread of one video, and the queue through which it speaks."""

    def __init__(
        self,
        medium: MediumFile,
        *,
        workers: Workers | None,
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
        behind = self._done_index + 1
        self._feed = ShotFeed(terms.shots, behind=behind, halt=self._halt) if terms.shots is not None else None
        self._results: queue.Queue[Result] = queue.Queue(AHEAD_WITH_FRAMES_MAX if terms.keeps_frames else AHEAD_MAX)
        self._head: Result | None = None
        self._source: GrowingFile | None = None
        self._is_before_index = False
        self._decoded = 0
        here = contextvars.copy_context()  # whose video it is, for the log
        self._thread = threading.Thread(target=here.run, args=(self._run,), name=self._stream)
        self._thread.start()

    @property
    def waiting_for(self) -> Literal["moov"] | None:
        """`moov` while an index at the end of the file is awaited."""
        source = self._source
        return "moov" if self._is_before_index and source is not None and source.is_starving else None

    def next_result(self) -> Result | None:
        """What comes next, once it was looked at; None if it was not yet, after `POLL_S` at most."""
        if self._head is None:
            try:
                self._head = self._results.get(timeout=POLL_S)
            except queue.Empty:
                return None
        if not _is_ready(self._head):
            return None
        result, self._head = self._head, None
        return result

    def close(self) -> None:
        """End the thread, which closes the file; what workers hold of this video is dropped."""
        self._halt.set()
        if self._workers is not None:
            self._workers.forget(self._stream)
        self._thread.join()
        if self._workers is not None:
            self._workers.forget(self._stream)  # what it submitted in between
        if self._feed is not None:
            self._feed.forget()

    def _run(self) -> None:
        """The outermost loop of the thread: whatever ends it becomes an `Over`."""
        try:
            over = self._ended()
            if self._feed is not None:
                for searched in self._feed.end() if over.failure is None else self._feed.given_up():
                    self._offer(searched)
            self._offer(over)
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
                    self._take(frame, source)
                source.wait_until_complete()
                source.raise_if_over()
                if video.decoded == 0:
                    raise _nothing_decoded(video.damaged)
                return Over(decoded=video.decoded, is_partial=video.is_partial())

    def _wanted(self) -> Wanted:
        """The frames that will be looked at."""
        wishes: list[Wish] = []
        if (workers := self._workers) is not None:
            sampled = Wish(
                period=self._options.frame_period_recognition,
                after_index=self._done_index,
                size=lambda picture: workers.shown_as(picture, self._options),
                is_kept=self._terms.keeps_frames,
            )
            wishes.append(sampled)
        if self._feed is not None:
            wishes.append(self._feed.wish)
        return Wanted(wishes=tuple(wishes), held_max=lambda: 1 if workers is None else workers.held_max)

    def _take(self, frame: DecodedFrame, source: GrowingFile) -> None:
        """Have a frame looked at, by all who want it."""
        percent = max(self._percent, _percent(frame.position_bytes, source.total_bytes))
        if frame.index > self._done_index:
            self._look(frame, percent=percent)
        for searched in self._feed.add(frame, percent=percent) if self._feed is not None else ():
            self._percent = percent
            self._offer(searched)

    def _look(self, frame: DecodedFrame, *, percent: int) -> None:
        is_wanted = self._workers is not None and is_sampled(frame.index, period=self._options.frame_period_recognition)
        is_mark = self._feed is None and frame.at_s - self._marked_s >= MARK_MEDIA_S
        if not is_wanted and not is_mark:
            return
        self._marked_s, self._percent = frame.at_s, percent
        detections = None
        if is_wanted and self._workers is not None:
            detections = self._workers.submit(frame, self._options, stream=self._stream)
        self._offer(
            Looked(
                frame_index=frame.index,
                at_s=frame.at_s,
                percent=percent,
                size=Size(frame.width, frame.height),
                detections=detections,
                frame=frame if is_wanted and self._terms.keeps_frames else None,
            )
        )

    def _offer(self, result: Result) -> None:
        self._terms.offered(result)
        while not self._halt.is_set():
            try:
                return self._results.put(result, timeout=POLL_S)
            except queue.Full:
                continue
        raise StoppedError


def _is_ready(result: Result) -> bool:
    """True once what was asked of the workers is there, waiting for it `POLL_S` at most."""
    match result:
        case Looked(detections=awaited) | Searched(odds=awaited):
            pass
        case Over():
            return True
    if awaited is None:
        return True
    try:
        awaited.exception(timeout=POLL_S)
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
