"""What the Annotations service is still to be told of a task: it follows from what lies in the storage. All of it blocks.

In this order: the medium's record (of what came in here), that it is being looked at, each report, how it ended. A cursor
says what was confirmed; it moves after each post, so that an edge that takes over goes on behind it.
"""

import base64
import contextlib
from collections.abc import Iterator, Mapping

import msgspec

from contracts.events import FrameDetected, TaskEnded
from contracts.failures import FailureRecord
from contracts.media import MediumKind, is_media_id
from contracts.posts import Post
from contracts.results import reports_after
from contracts.storage import (
    ExtentState,
    Layout,
    Seal,
    TaskRecord,
    is_of_an_upload,
    read_extent,
    read_record,
    replace_record,
)
from edge.annotations import MEDIA
from edge.media_roots import MediaRoots

BATCH_REPORTS = 128
"""Reports that are read at a time; their frames are read one by one."""
SOURCE_AI = 0
STATUS_NEW, STATUS_PROCESSING, STATUS_PROCESSED, STATUS_ERROR = 1, 2, 3, 6


class Cursor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`tasks/<id>/posted.json`: what is behind us."""

    is_recorded: bool = False
    """The medium's record is behind us, or it needed none."""
    is_known: bool = False
    """The service has confirmed that it knows the medium: a 404 is its last word."""
    is_begun: bool = False
    sequence: int = 0
    """Of the last report that was posted, or given up."""
    is_done: bool = False
    dead: int = 0
    """Posts that were given up; their tokens are kept for a replay."""
    trouble: FailureRecord | None = None
    """Why the next post has not been made yet."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A task of which the service is told."""

    task: TaskRecord
    media_id: str
    cursor: Cursor

    @property
    def task_id(self) -> str:
        return self.task.task_id

    @property
    def place(self) -> str:
        """Its place among the tasks of its medium: older ones first."""
        return f"{self.task.created_at.timestamp():017.6f}-{self.task_id}"


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A post, and the cursor once it is made."""

    post: Post
    after: Cursor
    report: int | None = None
    """The report's sequence: its frame goes when it has been posted."""


class MediaTypes(msgspec.Struct, frozen=True, kw_only=True):
    """What the service calls the two kinds."""

    image: int = 10
    video: int = 20

    def number(self, kind: MediumKind) -> int:
        return self.image if kind is MediumKind.IMAGE else self.video


class Posts:
    """Reads what is to be told, and remembers what was."""

    def __init__(self, layout: Layout, *, roots: MediaRoots, media_types: MediaTypes) -> None:
        self._layout = layout
        self._roots = roots
        self._media_types = media_types

    def subject(self, task_id: str) -> Subject | None:
        """The task and how far it has been told of; None if there is nothing to tell: not yet, not any more, or never."""
        task = read_record(self._layout.task_record(task_id), TaskRecord)
        if task is None or not task.command.is_posted:
            return None
        is_known = not is_of_an_upload(task.command.medium)  # the service itself said where it lies
        cursor = read_record(self._layout.posted(task_id), Cursor) or Cursor(is_known=is_known)
        media_id = self._media_id(task)
        if cursor.is_done or media_id is None or not is_media_id(media_id):  # whoever publishes commands names it
            return None
        return Subject(task=task, media_id=media_id, cursor=cursor)

    def is_without_medium(self, task_id: str) -> bool:
        """True if the upload of an ended task came to nothing: no medium will ever be, and nobody is told."""
        task = read_record(self._layout.task_record(task_id), TaskRecord)
        if task is None or self._end(task_id) is None or self._media_id(task) is not None:
            return False
        try:
            return read_extent(self._layout.extent(task_id)).state is ExtentState.ABORTED
        except FileNotFoundError:
            return True

    def due(self, subject: Subject) -> Iterator[Due]:
        """The next posts in order, each with its cursor."""
        cursor = subject.cursor
        if not cursor.is_recorded:
            cursor = msgspec.structs.replace(cursor, is_recorded=True, is_known=True)
            if is_of_an_upload(subject.task.command.medium):
                yield Due(post=self._record(subject), after=cursor)
        if not cursor.is_begun:
            cursor = msgspec.structs.replace(cursor, is_begun=True)
            yield Due(post=self._status(subject, STATUS_PROCESSING, "processing"), after=cursor)
        end = self._end(subject.task_id)  # before the reports: none comes after it
        for report in self._reports(subject.task_id, cursor.sequence):
            cursor = msgspec.structs.replace(cursor, sequence=report.sequence)
            if report.annotations or not report.shots:  # there is no annotation of shots
                yield Due(post=self._annotation(subject, report), after=cursor, report=report.sequence)
        if end is not None:
            status = STATUS_ERROR if end.failure else STATUS_PROCESSED
            after = msgspec.structs.replace(cursor, is_done=True)
            yield Due(post=self._status(subject, status, str(end.sequence)), after=after)

    def move(self, subject: Subject, due: Due) -> Subject:
        """Remember that a post was confirmed; the frame in it is needed no more."""
        cursor = msgspec.structs.replace(due.after, is_known=True, dead=subject.cursor.dead)
        return self._moved(subject, cursor, due)

    def give_up(self, subject: Subject, due: Due) -> Subject:
        """Remember that a post lies with the dead letters, frame and all."""
        known, dead = subject.cursor.is_known, subject.cursor.dead + 1
        return self._moved(subject, msgspec.structs.replace(due.after, is_known=known, dead=dead), due)

    def note_trouble(self, subject: Subject, trouble: FailureRecord) -> None:
        """Remember why the next post has to wait, for whoever asks after the task."""
        replace_record(self._layout.posted(subject.task_id), msgspec.structs.replace(subject.cursor, trouble=trouble))

    def _moved(self, subject: Subject, cursor: Cursor, due: Due) -> Subject:
        replace_record(self._layout.posted(subject.task_id), msgspec.structs.replace(cursor, trouble=None))
        if due.report is not None:
            self._layout.frame(subject.task_id, due.report).unlink(missing_ok=True)
        if cursor.is_done:
            with contextlib.suppress(OSError):
                self._layout.frame(subject.task_id, 0).parent.rmdir()
        return msgspec.structs.replace(subject, cursor=cursor)

    def _reports(self, task_id: str, sequence: int) -> Iterator[FrameDetected]:
        """The reports behind `sequence`, some at a time."""
        while reports := reports_after(self._layout, task_id, sequence, at_most=BATCH_REPORTS):
            yield from reports
            sequence = reports[-1].sequence

    def _record(self, subject: Subject) -> Post:
        medium = subject.task.command.medium
        record = {
            "id": subject.media_id,
            "name": medium.name or subject.media_id,
            "path": self._roots.stored_path(subject.media_id),
            "mediaType": self._media_types.number(medium.kind),
            "mediaStatus": STATUS_NEW,
            "userId": subject.task.command.owner,
        }
        return _post("POST", MEDIA, record, key=f"{subject.task_id}:media")

    def _status(self, subject: Subject, status: int, what: str) -> Post:
        path = f"{MEDIA}/{subject.media_id}/status"
        return _post("PUT", path, {"status": status}, key=f"{subject.task_id}:{what}")

    def _annotation(self, subject: Subject, report: FrameDetected) -> Post:
        said: dict[str, object] = {
            "mediaId": subject.media_id,
            "source": SOURCE_AI,
            "videoTime": (report.video_time or "00:00:00").partition(".")[0],
            "detections": report.annotations,
        }
        with contextlib.suppress(FileNotFoundError):  # the disk was full: the medium itself is known by its id
            picture = self._layout.frame(subject.task_id, report.sequence).read_bytes()
            said["image"] = base64.b64encode(picture).decode()
        return _post("POST", "/annotations", said, key=f"{subject.task_id}:{report.sequence}")

    def _end(self, task_id: str) -> TaskEnded | None:
        return read_record(self._layout.end(task_id), TaskEnded)

    def _media_id(self, task: TaskRecord) -> str | None:
        """The id under which the medium is known for good; None while its upload runs."""
        if task.command.medium.media_id is not None:
            return task.command.medium.media_id
        if seal := read_record(self._layout.seal(task.task_id), Seal):
            return seal.media_id
        end = self._end(task.task_id)  # the upload's folder goes after the end
        return end.media_id if end is not None and end.media_id != task.task_id else None


def _post(method: str, path: str, said: Mapping[str, object], *, key: str) -> Post:
    return msgspec.convert(
        {"method": method, "path": path, "body": msgspec.Raw(msgspec.json.encode(said)), "key": key}, Post
    )
