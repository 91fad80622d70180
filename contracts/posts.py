"""What the Annotations service is told, and what travels when telling it has to wait or came to nothing.

The posts themselves follow from the storage: a wake-up says of which task, never what.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from contracts.commands import TaskId
from contracts.failures import FailureRecord
from contracts.media import MEDIA_ID_PATTERN

PostPath = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^/(annotations|api/media(/{MEDIA_ID_PATTERN}/status)?)$",
        description="of the Annotations service: a token goes with it, so nothing else is let in",
    ),
]


class Post(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One call of the Annotations service, without the token it is made with."""

    method: Literal["POST", "PUT"]
    path: PostPath
    body: msgspec.Raw
    key: str
    """Equal whenever the same thing is told again: the service may know by it what it has been told."""


class WakeUp(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="WakeUp"):
    """To any edge: see whether the Annotations service is to be told something of this task."""

    task_id: TaskId
    attempt: int = 0
    """How many tries have failed when this was sent; it counts only while that is still so."""
    version: Literal[1] = 1


class DeadPost(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="DeadPost"):
    """A post that came to nothing, for the operator; sent to the outbox it is tried once more."""

    task_id: TaskId
    media_id: str
    post: Post
    reason: FailureRecord
    at: datetime
    version: Literal[1] = 1
