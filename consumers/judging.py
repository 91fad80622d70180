"""A new engine is shown what the serving one is shown, before it takes its place; the verdict is kept with it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from contracts.failures import Failure, FailureCode
from engine.agreement import AgreementLimits, compare
from engine.checksums import sha256_of
from engine.detector import Detector
from engine.picture import Picture
from engine.plans import PlanRecord, Verdict, drop_plan, read_record, write_record
from engine.reference_pictures import digest_of_pictures, reference_pictures


async def judged(
    plan: Path, model: Path, serving: Detector, limits: AgreementLimits, *, load: Callable[[Path], Detector]
) -> Detector:
    """The engine's detector, warm, after it saw what the serving one sees. Raises `Failure` with the numbers."""
    stop = threading.Event()
    judging = asyncio.ensure_future(
        asyncio.to_thread(lambda: _judge(plan, model, serving, limits, load=load, stop=stop))
    )
    try:
        return await asyncio.shield(judging)
    except asyncio.CancelledError:
        stop.set()
        judging.add_done_callback(_close)
        await asyncio.wait((judging,))  # it ends after the picture it looks at; `serving` is not closed before
        raise


def _judge(
    plan: Path,
    model: Path,
    serving: Detector,
    limits: AgreementLimits,
    *,
    load: Callable[[Path], Detector],
    stop: threading.Event,
) -> Detector:
    try:
        detector = load(plan)
    except Failure as failure:
        if failure.code is FailureCode.MODEL_CORRUPT:
            _give_up(plan, model, failure)
        raise
    record = read_record(plan)
    if record is None or (record.verdict is not None and record.verdict.is_enough):
        return detector
    try:
        pictures = digest_of_pictures(model)
        agreement = compare(serving, detector, _until(stop, reference_pictures(model)), limits=limits)
        verdict = Verdict(is_enough=agreement.is_enough, agreement=str(agreement), pictures=pictures)
        _record_verdict(plan, record, verdict)
    except BaseException:
        detector.close()
        raise
    return detector


def _give_up(plan: Path, model: Path, failure: Failure) -> None:
    """Refuse what was built for what it is (outputs that are not finite, of any size): built again it would be the same.

    One whose bytes are others by now, or that once passed, is dropped and built again next time.
    """
    record = read_record(plan)
    if record is None or record.verdict is not None or record.plan_sha256 != sha256_of(plan):
        drop_plan(plan)
    else:
        pictures = digest_of_pictures(model)
        _write_verdict(plan, record, Verdict(is_enough=False, agreement=failure.detail, pictures=pictures))


def _write_verdict(plan: Path, record: PlanRecord, verdict: Verdict) -> None:
    """The plan is gone if it is not enough."""
    write_record(plan, msgspec.structs.replace(record, verdict=verdict))
    if not verdict.is_enough:
        plan.unlink(missing_ok=True)


def _record_verdict(plan: Path, record: PlanRecord, verdict: Verdict) -> None:
    """Write the verdict down. Raises `Failure(engine_unavailable)` if it is not enough."""
    _write_verdict(plan, record, verdict)
    if not verdict.is_enough:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"it does not see the same: {verdict.agreement}")


def _until(stop: threading.Event, pictures: Iterator[Picture]) -> Iterator[Picture]:
    for picture in pictures:
        if stop.is_set():
            raise Failure(FailureCode.CANCELLED, "stopped between two pictures")
        yield picture


def _close(judging: "asyncio.Future[Detector]") -> None:
    """Free an engine that nobody waits for any more."""
    if not judging.cancelled() and judging.exception() is None:
        judging.result().close()
