"""Whose an upload is, and whether the Annotations service is told what becomes of it."""

import msgspec

from edge.annotations import Annotations
from edge.auth import Caller
from edge.tokens import Tokens


class Belonging(msgspec.Struct, frozen=True, kw_only=True):
    """What a command says of its medium's owner."""

    owner: str | None = None
    is_posted: bool = False


class Owners:
    """Takes tasks on for their callers."""

    def __init__(self, annotations: Annotations, tokens: Tokens) -> None:
        self._annotations = annotations
        self._tokens = tokens

    def belonging(self, caller: Caller) -> Belonging:
        """Whose the medium is: a user's with a token, whom the Annotations service knows, if there is one."""
        is_posted = self._annotations.is_configured and caller.bearer is not None and caller.user_id is not None
        return Belonging(owner=caller.user_id, is_posted=is_posted)

    async def adopt(self, task_id: str, caller: Caller) -> Belonging:
        """The same, with what it takes to tell the service kept beside the task. Raises `Failure(storage_full)`."""
        belonging = self.belonging(caller)
        if belonging.is_posted:
            await self._tokens.keep(task_id, caller)
        return belonging
