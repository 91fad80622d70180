"""One post on its way to the Annotations service, with a token that is good now; and where it goes when it came to nothing."""

import msgspec
import structlog

from contracts.failures import Failure, FailureCode
from contracts.posts import DeadPost, Post
from edge.annotations import Annotations
from edge.clock import Clock, system_clock
from edge.metrics import DEAD_LETTERS, POSTS
from edge.outbox import Outbox
from edge.tokens import Tokens

_log = structlog.get_logger()


class PostSender(msgspec.Struct, frozen=True, kw_only=True):
    """Makes posts."""

    annotations: Annotations
    tokens: Tokens
    outbox: Outbox
    clock: Clock = system_clock

    async def make(self, task_id: str, post: Post) -> Failure | None:
        """Make a post, after a 401 once more with another token; returns why it could not be made."""
        try:
            bearer = await self.tokens.bearer(task_id)
            try:
                await self.annotations.send(post, bearer)
            except Failure as failure:
                if failure.code is not FailureCode.UNAUTHENTICATED:
                    raise
                await self.annotations.send(post, await self.tokens.renew(task_id, rejected=bearer))
        except Failure as failure:
            POSTS.labels(failure.code.value).inc()
            return failure
        POSTS.labels("made").inc()
        return None

    async def bury(self, task_id: str, media_id: str, post: Post, failure: Failure) -> None:
        """Give a post to the operator, whole. Raises `Failure` broker_unavailable."""
        _log.error("a post is given up", task_id=task_id, key=post.key, code=failure.code, detail=failure.detail)
        dead = DeadPost(task_id=task_id, media_id=media_id, post=post, reason=failure.record(), at=self.clock())
        await self.outbox.bury(dead)
        DEAD_LETTERS.labels(failure.code.value).inc()

    async def replay(self, dead: DeadPost) -> None:
        """Try a post once more that an operator has taken out of the dead letters; it goes back there if that fails."""
        failure = await self.make(dead.task_id, dead.post)
        if failure is not None:
            await self.bury(dead.task_id, dead.media_id, dead.post, failure)
