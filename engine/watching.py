"""A whole video: frames in, reports out, while the file may still be arriving.

Two threads share the work. The decode thread submits frames; the caller's thread takes the results in the order of their
frames and applies the reporting rule, so a report never waits for a decoder that starves.
"""

import threading
from collections.abc import Generator
from concurrent.futures import CancelledError

from contracts.failures import Failure
from contracts.options import DetectionOptions
from contracts.results import Checkpoint
from engine.account import Account, Finished, FrameReport, Progressed
from engine.batching import Workers
from engine.decode_thread import DecodeThread, Over, Terms
from engine.growing_file import MediumFile, Time

PROGRESS_S = 1.0
TERMS = Terms()

Seen = FrameReport | Checkpoint | Progressed | Finished


def watch_video(
    medium: MediumFile,
    *,
    workers: Workers,
    options: DetectionOptions,
    stop: threading.Event,
    resume: Checkpoint | None = None,
    terms: Terms = TERMS,
) -> Generator[Seen]:
    """What is seen in a video, in the order of its frames.

    A `Checkpoint` follows each `FrameReport` and comes every 5 s of media; the last one is a `Finished`. When `stop` is set
    it ends within a second with a last `Checkpoint` (none if there was nothing to resume from yet) and no `Finished`.
    With `resume`, frames up to that checkpoint are decoded again and neither looked at nor counted again.
    Closing the generator ends its thread and closes the file.
    Raises `Failure(engine_unavailable)`, after a last `Checkpoint`, when the engine is away: the rest can be watched later.
    """
    decoder = DecodeThread(medium, workers=workers, options=options, resume=resume, terms=terms)
    account = Account(options, resume)
    progress = _Progress(terms.passing)
    try:
        while not stop.is_set():
            looked = decoder.next_result()
            if isinstance(looked, Over):
                yield account.finished(looked)
                return
            if looked is not None and not stop.is_set():
                yield from account.take(looked)
            if progress.is_due(decoder.waiting_for):
                yield account.progressed(decoder.waiting_for)
        yield from account.last_checkpoint()
    except CancelledError:  # the workers were closed: the same as a stop
        yield from account.last_checkpoint()
    except Failure:
        yield from account.last_checkpoint()
        raise
    finally:
        decoder.close()


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
