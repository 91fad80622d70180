"""`POST /detect/{media_id}`, `POST /shots/{media_id}`: look at a medium that the Annotations service knows, where it lies."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from contracts.commands import COMMANDS, AnyCommand, TaskKind, kind_of
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.options import CONFIG_BYTES_MAX, ReadOptions, read_options
from edge import headers
from edge.annotations import Annotations
from edge.announce import Announcer
from edge.auth import Caller
from edge.describing import TASK_AT, WARNED, StoredMedium, problems
from edge.failures import RequestFailed
from edge.guard import Guard, checked_media_id
from edge.idempotency import IdempotencyKeys, checked_key, fingerprint, once
from edge.media_roots import MediaRoots
from edge.outcomes import Started, TaskStarted
from edge.request_trace import note_task
from edge.tokens import Tokens
from edge.upload import small_body
from edge.user_settings import merged

CONFIG_WAIT_S = 30.0
"""How long a configuration may take; then 408."""

_Request = Request[Any, Any, Any]


class MediaById:
    """Starts tasks on media of the Annotations service."""

    def __init__(
        self, *, annotations: Annotations, roots: MediaRoots, guard: Guard, tokens: Tokens, announcer: Announcer
    ) -> None:
        self._annotations = annotations
        self._roots = roots
        self._guard = guard
        self._tokens = tokens
        self._announcer = announcer

    async def start(self, media_id: str, config: bytes, caller: Caller, *, kind: TaskKind | None = None) -> TaskStarted:
        """Return when the broker has the command.

        kind: what is to be done; None: its objects are looked for, whether it is a picture or a video.
        Raises `Failure`: as `merged`, `Annotations`, `MediaRoots.medium` and `Announcer.announce_once`; `RequestFailed` if
        such a task works on the medium already.
        """
        read_options(config)  # refused before anybody is asked
        if caller.bearer is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "media by id belong to users: a bearer token is needed")
        checked_media_id(media_id)
        path, settings = await asyncio.gather(
            self._annotations.media_path(media_id, caller.bearer), self._settings(caller, caller.bearer)
        )
        medium = await asyncio.to_thread(self._medium, media_id, path)
        if kind is TaskKind.SHOTS and medium.kind is not MediumKind.VIDEO:
            raise Failure(FailureCode.UNSUPPORTED_MEDIA, "shots are looked for in videos, this is an image")
        read = merged(config, settings)
        command = self._command(kind or TaskKind(medium.kind.value), medium, read, caller)
        note_task(command.task_id, media_id)
        await asyncio.to_thread(self._guard.enter, media_id, command.task_id, kind=kind_of(command), caller=caller)
        await self._tokens.keep(command.task_id, caller)
        await self._announcer.announce_once(command)
        started = Started(media_id=media_id, task_id=command.task_id)
        return TaskStarted(started=started, unknown_fields=read.unknown_fields)

    async def _settings(self, caller: Caller, bearer: str) -> dict[str, Any]:
        return await self._annotations.ai_settings(caller.user_id, bearer) if caller.user_id else {}

    def _medium(self, media_id: str, path: str) -> Medium:
        try:
            return self._roots.medium(media_id, path)
        except Failure as failure:
            if failure.code is FailureCode.FORBIDDEN_PATH:  # it is not the client who named it
                raise RequestFailed(failure, status=HTTPStatus.BAD_GATEWAY) from failure
            raise

    def _command(self, kind: TaskKind, medium: Medium, read: ReadOptions, caller: Caller) -> AnyCommand:
        return COMMANDS[kind](
            task_id=str(uuid4()),
            medium=medium,
            options=read.options,
            owner=caller.user_id,
            is_posted=True,
            created_at=self._announcer.now(),
        )


_REFUSALS = (
    FailureCode.MALFORMED_OPTIONS,
    FailureCode.OPTIONS_OUT_OF_RANGE,
    FailureCode.TOO_LARGE,
    FailureCode.UPLOAD_STALLED,
    FailureCode.UNSUPPORTED_MEDIA,
    FailureCode.MEDIA_NOT_FOUND,
    FailureCode.MEDIUM_MISSING,
    FailureCode.MEDIA_BUSY,
    FailureCode.IDEMPOTENCY_KEY_IN_USE,
    FailureCode.IDEMPOTENCY_KEY_REUSED,
    FailureCode.ANNOTATIONS_UNAVAILABLE,
    FailureCode.ANNOTATIONS_REFUSED,
    FailureCode.ANNOTATIONS_TIMEOUT,
    FailureCode.BROKER_UNAVAILABLE,
    FailureCode.STORAGE_FULL,
)

_PROBLEMS = problems(*_REFUSALS, also={HTTPStatus.BAD_GATEWAY: (FailureCode.FORBIDDEN_PATH,)})


@post(
    "/detect/{media_id:str}",
    operation_id="detectMedia",
    operation_class=StoredMedium,
    summary="Detect in a medium of the Annotations service",
    status_code=202,
    response_headers=(TASK_AT, WARNED),
    request_max_body_size=CONFIG_BYTES_MAX,
    responses=_PROBLEMS,
)
async def detect_media(
    request: _Request,
    media_id: FromPath[str],
    caller: NamedDependency[Caller],
    media_by_id: NamedDependency[MediaById],
    idempotency_keys: NamedDependency[IdempotencyKeys],
) -> Response[Started]:
    """Look at a medium where it lies, as its user has set it; the body may be a configuration that goes over that."""
    return await _started(request, idempotency_keys, caller, partial(media_by_id.start, media_id))


@post(
    "/shots/{media_id:str}",
    operation_id="findShotsInMedia",
    operation_class=StoredMedium,
    summary="Find the shots of a video of the Annotations service",
    status_code=202,
    response_headers=(TASK_AT, WARNED),
    request_max_body_size=CONFIG_BYTES_MAX,
    responses=_PROBLEMS,
)
async def find_shots_in_media(
    request: _Request,
    media_id: FromPath[str],
    caller: NamedDependency[Caller],
    media_by_id: NamedDependency[MediaById],
    idempotency_keys: NamedDependency[IdempotencyKeys],
) -> Response[Started]:
    """Find the shots of a video where it lies, as its user has set it; the body may be a configuration that goes over that."""
    return await _started(request, idempotency_keys, caller, partial(media_by_id.start, media_id, kind=TaskKind.SHOTS))


async def _started(
    request: _Request, keys: IdempotencyKeys, caller: Caller, start: Callable[[bytes, Caller], Awaitable[TaskStarted]]
) -> Response[Started]:
    """Start with what the body says, once for each `Idempotency-Key`."""
    config = await small_body(request, bytes_max=CONFIG_BYTES_MAX, timeout_s=CONFIG_WAIT_S)
    key = checked_key(request.headers.get("idempotency-key"), user_id=caller.user_id)
    asked = fingerprint(request.url.path, config)
    outcome = await once(keys, key, asked, lambda: start(config, caller))
    assert isinstance(outcome, TaskStarted)  # noqa: S101 - another outcome has another fingerprint
    location = {"location": f"/tasks/{outcome.started.task_id}"}
    return Response(outcome.started, headers=location | headers.warnings(outcome.unknown_fields))


routes = [detect_media, find_shots_in_media]
