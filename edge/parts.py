"""The half of the edge that takes media in, wired: what its handlers are given, and what runs beside them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta

from litestar.di import Provide

from contracts.broker_calls import end
from contracts.storage import Layout
from edge.abandonment import Abandonment
from edge.announce import Announcer
from edge.answers import Answers
from edge.background import Background
from edge.form_intake import FormIntake
from edge.forms import FormParts, Forms
from edge.guard import Guard
from edge.idempotency import KEPT_FOR, IdempotencyKeys
from edge.intake import VideoIntake
from edge.janitor import Expiring, Janitor, Retention
from edge.owners import Owners
from edge.ports import Neighbours
from edge.retries import Retries
from edge.settings import EdgeSettings
from edge.storage import UploadStore
from edge.task_store import TaskStore
from edge.upload import UploadLimits

UNFINISHED_KEPT_S = 7200.0
"""Files that no task refers to, beyond the time that a request, or an upload without a byte, may wait: an edge's that died."""


class IntakeParts:
    """One of each, shared by all requests of an edge."""

    def __init__(
        self, settings: EdgeSettings, *, neighbours: Neighbours, owners: Owners, expiring: Sequence[Expiring] = ()
    ) -> None:
        """expiring: what the janitor looks through beside the records of this half."""
        layout = Layout(settings.storage)
        self._settings = settings
        self._upload_limits = _upload_limits(settings)
        self.background = Background()
        self.tasks = TaskStore(layout)
        self.announcer = Announcer(self.tasks, neighbours.outbox)
        self.keys = _keys(settings, layout)
        self.janitor = Janitor(layout, (self.keys, *expiring), retention=_retention(settings))
        self.uploads = UploadStore(
            layout,
            free_bytes_min=settings.free_bytes_min,
            keep_for=timedelta(seconds=settings.media_kept_s),
            each_client_max=settings.uploads_per_client_max,
        )
        self.video_intake = VideoIntake(
            uploads=self.uploads,
            announcer=self.announcer,
            feed=neighbours.feed,
            background=self.background,
            owners=owners,
            limits=self._upload_limits,
        )
        self.abandonment = Abandonment(self.uploads.resumable, self.video_intake, resume_s=settings.upload_resume_s)
        self.guard = Guard(self.tasks)
        self.retries = Retries(
            announcer=self.announcer, guard=self.guard, owners=owners, confirm_wait_s=settings.confirm_wait_s
        )
        self.forms = Forms(self._form_parts(neighbours, owners))

    @property
    def dependencies(self) -> dict[str, Provide]:
        """What the handlers of this half ask for by name."""
        return {
            "video_intake": Provide(lambda: self.video_intake, sync_to_thread=False),
            "upload_limits": Provide(lambda: self._upload_limits, sync_to_thread=False),
            "idempotency_keys": Provide(lambda: self.keys, sync_to_thread=False),
            "forms": Provide(lambda: self.forms, sync_to_thread=False),
            "retries": Provide(lambda: self.retries, sync_to_thread=False),
            "announcer": Provide(lambda: self.announcer, sync_to_thread=False),
        }

    def _form_parts(self, neighbours: Neighbours, owners: Owners) -> FormParts:
        return FormParts(
            intake=FormIntake(uploads=self.uploads, presence=neighbours.presence, limits=self._upload_limits),
            uploads=self.uploads,
            announcer=self.announcer,
            answers=Answers(
                outbox=neighbours.outbox,
                feed=neighbours.feed,
                announcer=self.announcer,
                wait_s=self._settings.answer_wait_s,
            ),
            keys=self.keys,
            owners=owners,
            background=self.background,
            limits=self._upload_limits,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Everything that runs beside the requests, for as long as the edge lives."""
        threads = ThreadPoolExecutor(self._settings.disk_threads, thread_name_prefix="disk")
        with threads as disk, self.video_intake.running():
            asyncio.get_running_loop().set_default_executor(disk)  # its own default has 6 threads on 2 cores
            works = (self.announcer.run(), self.janitor.run(), self.abandonment.run())
            beside = [asyncio.create_task(work) for work in works]
            try:
                yield
            finally:
                await asyncio.gather(*(end(task) for task in beside))
                await self.background.stop()


def _upload_limits(settings: EdgeSettings) -> UploadLimits:
    return UploadLimits(
        bytes_max=settings.upload_bytes_max,
        idle_s=settings.upload_idle_s,
        resume_s=settings.upload_resume_s,
        confirm_wait_s=settings.confirm_wait_s,
    )


def _keys(settings: EdgeSettings, layout: Layout) -> IdempotencyKeys:
    """Those of requests, none kept for longer than the task that its outcome speaks of."""
    claim_max, tasks_kept = timedelta(seconds=settings.answer_wait_s * 2), timedelta(seconds=settings.tasks_kept_s)
    return IdempotencyKeys(layout, claim_max=claim_max, kept_for=min(KEPT_FOR, tasks_kept))


def _retention(settings: EdgeSettings) -> Retention:
    return Retention(
        tasks=timedelta(seconds=settings.tasks_kept_s),
        silent=timedelta(seconds=settings.tasks_silent_s),
        unfinished=timedelta(seconds=UNFINISHED_KEPT_S + max(settings.answer_wait_s, settings.upload_resume_s)),
        interval=timedelta(seconds=settings.sweep_interval_s),
    )
