"""A whole video: frames in, reports out, while the file may still be arriving.

Two threads share the work. The decode thread submits frames; the caller's thread takes the results in the order of their
frames and applies the reporting rule, so a report never waits for a decoder that starves.
"""

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError

from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.account import Account, Finished, FrameReport, Progressed
from engine.batching import Workers
from engine.decode_thread import DecodeThread, Looked, Over, Terms
from engine.growing_file import MediumFile, Time
from engine.shot_cuts import Cuts, Passed
from engine.shot_feed import Searched

PROGRESS_S = 1.0
TERMS = Terms()

Seen = FrameReport | Checkpoint | Progressed | Finished


def watch_video(
    medium: MediumFile,
    *,
    workers: Workers | None,
    options: DetectionOptions,
    stop: threading.Event,
    resume: Checkpoint | None = None,
    terms: Terms = TERMS,
) -> Generator[Seen]:
    """What is seen in a video, in the order of its frames: its objects, its shots (`terms.shots`), or both in one pass.

    A `Checkpoint` follows each `FrameReport` and comes every 5 s of media; the last one is a `Finished`. When `stop` is set
    it ends within a second with a last `Checkpoint` (none if there was nothing to resume from yet) and no `Finished`.
    With `resume`, frames up to that checkpoint are decoded again and neither looked at nor counted again.
    Closing the generator ends its thread and closes the file.
    workers: who looks for objects; None: nobody.
    Raises `Failure(engine_unavailable)`, after a last `Checkpoint`, when the engine is away: the rest can be watched later.
    """
    decoder = DecodeThread(medium, workers=workers, options=options, resume=resume, terms=terms)
    account = Account(options, resume, is_for_shots_only=workers is None)
    cuts = Cuts(options, resume) if terms.shots is not None else None
    progress = _Progress(terms.passing)
    try:
        while not stop.is_set():
            result = decoder.next_result()
            if isinstance(result, Over):
                for passed in cuts.end() if cuts is not None and result.failure is None else ():
                    yield from account.take(passed)
                yield account.finished(result)
                return
            for passed in _passed(result, cuts):
                if stop.is_set():
                    break
                yield from account.take(passed)
            if progress.is_due(decoder.waiting_for):
                yield account.progressed(decoder.waiting_for)
        yield from account.last_checkpoint()
    except CancelledError:  # the workers were closed: the same as a stop
        yield from account.last_checkpoint()
    except Failure as failure:
        if failure.code is not FailureCode.ENGINE_UNAVAILABLE:  # a window: nobody knows whether shots end in it
            yield account.finished(Over(failure=failure))
            return
        yield from account.last_checkpoint()
        raise
    finally:
        decoder.close()


def _passed(result: Looked | Searched | None, cuts: Cuts | None) -> Iterable[Passed]:
    """The frames about which everything is known with this result."""
    match result:
        case Looked() if cuts is None:
            return (Passed(looked=result),)
        case Looked() | Searched() if cuts is not None:
            return cuts.passed(result)
        case _:
            return ()


class _Progress:
    """When it is time to say that the task is alive."""

    def __init__(self, passing: Time) -> None:
        self._now_s = passing.now_s
        self._said_at_s = passing.now_s()
        self._said: str | None = None

    def is_due(self, waiting_for: str | None) -> bool:
        """True if a second has passed since it was last true, or the waiting state has changed."""
        now_s = self._now_s()
        if now_s - self._said_at_s < PROGRESS_S and waiting_for == self._said:
            return False
        self._said_at_s, self._said = now_s, waiting_for
        return True
