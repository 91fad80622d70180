"""Resumable uploads whose client does not come back come to an end, on whatever edge they began, also on one that died."""

import asyncio

from contracts.failures import Failure, FailureCode
from edge.again_later import again_later
from edge.intake import VideoIntake
from edge.resumable import ResumableUploads, UploadRecord

LOOKS_PER_WAIT = 4
"""How often the storage is looked through while a client may come back."""
LOOK_MAX_S = 15.0
"""Longest time between two looks."""


class Abandonment:
    """Looks for them."""

    def __init__(self, uploads: ResumableUploads, intake: VideoIntake, *, resume_s: float) -> None:
        self._uploads = uploads
        self._intake = intake
        self._every_s = min(LOOK_MAX_S, resume_s / LOOKS_PER_WAIT)

    async def run(self) -> None:
        """End what is overdue, from time to time, for ever."""
        while True:
            await asyncio.sleep(self._every_s)
            with again_later("uploads could not be looked through"):
                await self.look()

    async def look(self) -> None:
        """End what is overdue now."""
        for record in await asyncio.to_thread(lambda: list(self._uploads.overdue())):
            with again_later("an upload could not be ended", task_id=record.command.task_id):
                await self._abandon(record)

    async def _abandon(self, record: UploadRecord) -> None:
        body = await asyncio.to_thread(self._uploads.reclaim, record)
        if body is not None:
            detail = f"the client did not come back within {record.plan.resume_s} s"
            await self._intake.abort(record.command.task_id, body, Failure(FailureCode.UPLOAD_ABANDONED, detail))
