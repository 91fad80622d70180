"""The end of an upload, as a task that has read its medium waits for it: which content hash it got."""

import asyncio
import threading
import time
from pathlib import Path

from contracts.failures import Failure, FailureCode
from contracts.storage import ExtentState, Seal, read_extent, read_record

POLL_S = 0.02
SILENCE_MAX_S = 10.0
"""Without a heartbeat of the writer for so long, it is gone."""


async def wait_for_seal(body: Path, *, stop: threading.Event) -> Seal | None:
    """The seal beside a growing file once its upload has ended; None if its folder is gone by then, or when stopped.

    A decoder may be done before the last bytes are there (an index or padding at the end). Raises `Failure`:
    `upload_aborted`, `upload_abandoned`.
    """
    extent_path = body.with_name("extent")
    heartbeat_s, heard_at_s = -1.0, time.monotonic()
    while not stop.is_set():
        try:
            extent = read_extent(extent_path)
        except FileNotFoundError:
            return None
        if extent.state is ExtentState.SEALED:
            return read_record(body.with_name("seal.json"), Seal)
        if extent.state is ExtentState.ABORTED:
            raise Failure(FailureCode.UPLOAD_ABORTED, "the upload ended before its last byte")
        if extent.heartbeat_s != heartbeat_s:
            heartbeat_s, heard_at_s = extent.heartbeat_s, time.monotonic()
        if time.monotonic() - heard_at_s > SILENCE_MAX_S:
            raise Failure(FailureCode.UPLOAD_ABANDONED, f"no sign of the writer for {SILENCE_MAX_S:g} s")
        await asyncio.sleep(POLL_S)
    return None
