"""`POST /detect/{media_id}`: look at a medium that the Annotations service knows, where it lies."""

import asyncio
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from contracts.commands import AnyCommand, DetectImage, DetectVideo
from contracts.failures import Failure, FailureCode
from contracts.media import Medium, MediumKind
from contracts.options import ReadOptions, read_options
from edge import headers
from edge.annotations import Annotations
from edge.announce import Announcer
from edge.auth import Caller
from edge.describing import problems
from edge.failures import RequestFailed
from edge.guard import Guard, checked_media_id
from edge.media_roots import MediaRoots
from edge.outcomes import Started
from edge.settings import EdgeSettings
from edge.tokens import Tokens
from edge.upload import small_body
from edge.user_settings import merged

CONFIG_BYTES_MAX = 64 * 1024
"""Bytes of the configuration; more is 413."""

_Request = Request[Any, Any, Any]


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """A task on a medium has started, and what of its configuration was ignored."""

    started: Started
    unknown_fields: tuple[str, ...]


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

    async def start(self, media_id: str, config: bytes, caller: Caller) -> Ordered:
        """Return when the broker has the command.

        Raises `Failure`: as `merged`, `Annotations`, `MediaRoots.medium` and `Announcer.announce_once`; `RequestFailed` if a
        task works on the medium already.
        """
        read_options(config)  # refused before anybody is asked
        if caller.bearer is None:
            raise Failure(FailureCode.UNAUTHENTICATED, "media by id belong to users: a bearer token is needed")
        checked_media_id(media_id)
        path, settings = await asyncio.gather(
            self._annotations.media_path(media_id, caller.bearer), self._settings(caller, caller.bearer)
        )
        medium = await asyncio.to_thread(self._medium, media_id, path)
        read = merged(config, settings)
        command = self._command(medium, read, caller)
        await asyncio.to_thread(self._guard.enter, media_id, command.task_id)
        await self._tokens.keep(command.task_id, caller)
        await self._announcer.announce_once(command)
        started = Started(media_id=media_id, task_id=command.task_id)
        return Ordered(started=started, unknown_fields=read.unknown_fields)

    async def _settings(self, caller: Caller, bearer: str) -> dict[str, Any]:
        return await self._annotations.ai_settings(caller.user_id, bearer) if caller.user_id else {}

    def _medium(self, media_id: str, path: str) -> Medium:
        try:
            return self._roots.medium(media_id, path)
        except Failure as failure:
            if failure.code is FailureCode.FORBIDDEN_PATH:  # it is not the client who named it
                raise RequestFailed(failure, status=HTTPStatus.BAD_GATEWAY) from failure
            raise

    def _command(self, medium: Medium, read: ReadOptions, caller: Caller) -> AnyCommand:
        make = DetectVideo if medium.kind is MediumKind.VIDEO else DetectImage
        return make(
            task_id=str(uuid4()),
            medium=medium,
            options=read.options,
            owner=caller.user_id,
            is_posted=True,
            created_at=self._announcer.now(),
        )


@post(
    "/detect/{media_id:str}",
    operation_id="detectMedia",
    summary="Detect in a medium of the Annotations service",
    status_code=202,
    request_max_body_size=CONFIG_BYTES_MAX,
    responses=problems(
        FailureCode.MALFORMED_OPTIONS,
        FailureCode.OPTIONS_OUT_OF_RANGE,
        FailureCode.UNSUPPORTED_MEDIA,
        FailureCode.UNAUTHENTICATED,
        FailureCode.FORBIDDEN,
        FailureCode.MEDIA_NOT_FOUND,
        FailureCode.MEDIUM_MISSING,
        FailureCode.MEDIA_BUSY,
        FailureCode.TOO_LARGE,
        FailureCode.UPLOAD_STALLED,
        FailureCode.ANNOTATIONS_UNAVAILABLE,
        FailureCode.ANNOTATIONS_TIMEOUT,
        FailureCode.BROKER_UNAVAILABLE,
        FailureCode.STORAGE_FULL,
    ),
)
async def detect_media(
    request: _Request,
    media_id: FromPath[str],
    caller: NamedDependency[Caller],
    settings: NamedDependency[EdgeSettings],
    media_by_id: NamedDependency[MediaById],
) -> Response[Started]:
    """Look at a medium where it lies, as its user has set it; the body may be a configuration that goes over that."""
    config = await small_body(request, timeout_s=settings.upload_idle_s)
    ordered = await media_by_id.start(media_id, config, caller)
    location = {"location": f"/tasks/{ordered.started.task_id}"}
    return Response(ordered.started, headers=location | headers.warnings(ordered.unknown_fields))


routes = [detect_media]
