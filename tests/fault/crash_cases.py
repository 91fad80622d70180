"""Every crash point of the product, and the flow in which a process is killed there."""

import re
from enum import Enum, auto

import msgspec

from tests.conftest import REPOSITORY


class Flow(Enum):
    """What happens while a process waits to be killed."""

    UPLOAD = auto()
    """A video comes in two halves; between them its task begins to report."""
    HELD = auto()
    """The same, but the second half waits for the death."""
    POSTED = auto()
    """A video of a user, of which the Annotations service is told."""
    HANDED_ON = auto()
    """The consumer is asked to stop in the middle of a video."""
    CANCELLED = auto()
    """A video is cancelled before anybody has taken it."""
    CUT = auto()
    """The client goes away in the middle."""
    LETTER = auto()
    """A command that nobody can read."""
    PICTURE = auto()
    """A client waits for what one picture shows."""
    RESUMED = auto()
    """The line breaks in the middle, and the client goes on where the upload stands."""
    PARTS = auto()
    """The client sends the two halves in two requests."""
    ASKED_BACK = auto()
    """The client asks on another connection how far it came, while the first one still stands."""
    ABANDONED = auto()
    """The line breaks in the middle, and nobody comes back."""


class Content(Enum):
    """What is looked for in the video."""

    OBJECTS = auto()
    SHOTS = auto()
    """A `/shots` task."""
    BOTH = auto()
    """Objects, with `"shots": true`."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody dies."""

    point: str
    passage: int = 1
    victim: str
    """`edge` or `consumer`."""
    flow: Flow = Flow.UPLOAD
    content: Content = Content.OBJECTS
    then: str | None = None
    """Where the next life ends, `name:n`, before there is one that goes on."""
    is_always_run: bool = False
    """In every run of the tests; the others are left to `make soak`."""

    @property
    def name(self) -> str:
        what = [self.flow.name] if self.flow is Flow.RESUMED else []
        what += [self.content.name] if self.content is not Content.OBJECTS else []
        point = f"{self.victim}-{self.point}:{self.passage}"
        return "-".join([point, *([self.then] if self.then else []), *map(str.lower, what)])


def _edge(*points: str, flow: Flow = Flow.UPLOAD, passage: int = 1, content: Content = Content.OBJECTS) -> list[Case]:
    return [Case(point=point, victim="edge", flow=flow, passage=passage, content=content) for point in points]


def _consumer(
    *points: str,
    flow: Flow = Flow.UPLOAD,
    passage: int = 1,
    then: str | None = None,
    content: Content = Content.OBJECTS,
) -> list[Case]:
    return [
        Case(point=point, victim="consumer", flow=flow, passage=passage, then=then, content=content) for point in points
    ]


_OF_OBJECTS = [
    *_edge(
        "edge.upload.folder-made",
        "edge.body.begun",
        "edge.body.written",
        "edge.body.told",
        "edge.task.folder-made",
        "edge.task.marked",
        "edge.task.recorded",
        "edge.command.begun",
        "edge.command.confirmed",
        "edge.task.published",
        "edge.seal.begun",
        "edge.seal.synced",
        "edge.medium.linked",
        "edge.medium.recorded",
        "edge.medium.moved-in",
        "edge.seal.kept",
        "edge.seal.told",
        "edge.upload.answered",
    ),
    Case(point="edge.seal.recorded", victim="edge", is_always_run=True),
    *_edge("edge.body.told", passage=2),
    *_edge("edge.cancel.marked", "edge.end.begun", "edge.end.confirmed", flow=Flow.CANCELLED),
    Case(point="edge.end.created", victim="edge", flow=Flow.CANCELLED),
    *_edge("edge.abort.recorded", "edge.abort.told", flow=Flow.CUT),
    *_edge("edge.notice.ended", "edge.notice.done", flow=Flow.LETTER),
    *_edge("edge.post.enlisted", "edge.post.claimed", "edge.wake.done", flow=Flow.POSTED),
    *_edge("edge.post.begun", "edge.post.made", "edge.post.moved", flow=Flow.POSTED, passage=4),
    *_edge("file.replaced", flow=Flow.POSTED, passage=3),
    *_consumer(
        "consumer.command.taken",
        "consumer.claim.created",
        "consumer.claim.stands",
        "consumer.claim.reserved",
        "consumer.claim.leased",
        "consumer.claim.noted",
        "consumer.reports.confirmed",
        "consumer.end.written",
        "consumer.end.synced",
        "consumer.end.confirmed",
        "consumer.end.given-back",
        "consumer.command.done",
        "file.synced",
        "file.replaced",
    ),
    *_consumer(
        "consumer.journal.begun",
        "consumer.journal.checked",
        "consumer.report.begun",
        "consumer.report.sent",
        "consumer.report.confirmed",
        passage=5,
    ),
    *_consumer("consumer.journal.written", passage=5),
    *_consumer("consumer.end.created"),
    *_consumer("consumer.report.sent", passage=30),
    *_consumer("consumer.journal.written", passage=5, then="consumer.claim.created:1"),
    *_consumer("consumer.journal.written", passage=5, then="consumer.stand.written:1"),
    *_consumer("consumer.journal.written", passage=5, then="consumer.journal.written:1"),
    *_consumer("consumer.end.created", then="consumer.end.told-again:1"),
    *_consumer("consumer.journal.synced"),
    *_consumer("consumer.lease.renewed", flow=Flow.HELD),
    *_consumer("consumer.lease.released", "consumer.command.handed-on", flow=Flow.HANDED_ON),
    *_consumer("consumer.letter.sent", "consumer.letter.told", flow=Flow.LETTER),
    *_consumer("consumer.answer.begun", "consumer.answer.sent", flow=Flow.PICTURE),
    *_consumer("consumer.frame.kept", flow=Flow.POSTED, passage=5),
]

_OF_SHOTS = [
    *_edge("edge.task.recorded", "edge.command.confirmed", "edge.seal.recorded", content=Content.SHOTS),
    *_consumer(
        "consumer.shots.loaded",
        "consumer.claim.noted",
        "consumer.reports.confirmed",
        "consumer.end.written",
        "consumer.end.created",
        "consumer.end.confirmed",
        "consumer.command.done",
        content=Content.SHOTS,
    ),
    *_consumer(
        "consumer.journal.begun",
        "consumer.journal.checked",
        "consumer.report.begun",
        "consumer.report.sent",
        "consumer.report.confirmed",
        content=Content.SHOTS,
        passage=2,
    ),
    Case(point="consumer.journal.written", passage=2, victim="consumer", content=Content.SHOTS, is_always_run=True),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=1),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=6),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=2, then="consumer.claim.created:1"),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=2, then="consumer.shots.loaded:1"),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=2, then="consumer.stand.written:1"),
    *_consumer("consumer.journal.written", content=Content.SHOTS, passage=2, then="consumer.journal.written:1"),
    *_consumer("consumer.lease.renewed", flow=Flow.HELD, content=Content.SHOTS),
    *_consumer("consumer.lease.released", "consumer.command.handed-on", flow=Flow.HANDED_ON, content=Content.SHOTS),
    *_consumer("consumer.shots.loaded", "consumer.end.created", content=Content.BOTH),
    *_consumer("consumer.journal.written", "consumer.report.sent", content=Content.BOTH, passage=5),
    *_consumer("consumer.journal.written", content=Content.BOTH, passage=90),
    *_consumer("consumer.journal.written", content=Content.BOTH, passage=5, then="consumer.stand.written:1"),
    *_consumer("consumer.command.handed-on", flow=Flow.HANDED_ON, content=Content.BOTH),
]

_OF_RESUMED_UPLOADS = [
    *_edge(
        "edge.upload.begun",
        "edge.body.told",
        "edge.upload.left",
        "edge.resumable.asked",
        "edge.resumable.reopened",
        "edge.task.assured",
        "edge.seal.begun",
        "edge.seal.recorded",
        "edge.seal.told",
        "edge.upload.answered",
        flow=Flow.RESUMED,
    ),
    *_edge("edge.part.kept", flow=Flow.PARTS),
    *_edge("edge.resumable.asked-back", flow=Flow.ASKED_BACK),
    *_edge("edge.resumable.reclaimed", flow=Flow.ABANDONED),
    *_edge("edge.upload.left", "edge.task.assured", "edge.seal.told", flow=Flow.RESUMED, content=Content.SHOTS),
    Case(
        point="edge.resumable.reopened",
        victim="edge",
        flow=Flow.RESUMED,
        content=Content.SHOTS,
        is_always_run=True,
    ),
    *_consumer("consumer.journal.written", "consumer.report.sent", flow=Flow.RESUMED, passage=5),
    *_consumer("consumer.journal.written", "consumer.report.sent", flow=Flow.RESUMED, content=Content.SHOTS),
    *_consumer("consumer.journal.written", flow=Flow.RESUMED, content=Content.BOTH, passage=5),
]

CASES = [*_OF_OBJECTS, *_OF_SHOTS, *_OF_RESUMED_UPLOADS]


def points_in_the_code() -> set[str]:
    """Every name that a process can be killed at."""
    sources = (path for folder in ("contracts", "edge", "consumers") for path in (REPOSITORY / folder).glob("*.py"))
    return {name for source in sources for name in re.findall(r'crashpoint\("([^"]+)"\)', source.read_text())}
