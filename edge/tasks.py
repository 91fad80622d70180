"""Where a task stands, what it reported, an end to it, and a new start: from the storage, so by any edge at any time."""

import asyncio
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream

from contracts.commands import FindShots
from contracts.events import DetectionEvent, as_seen_by_clients
from contracts.failures import Failure, FailureCode
from contracts.formats import CONTENT_TYPES, ResultFormat, render
from contracts.storage import TaskRecord
from edge.announce import Announcer
from edge.auth import Caller
from edge.describing import TASK_AT, ForUser, answer, problems
from edge.headers import is_task_id
from edge.outcomes import Started
from edge.rendering import pieces
from edge.request_trace import note_task
from edge.retries import Retries
from edge.task_store import TaskView, no_task

_FORMATS = {content_type: name for name, content_type in CONTENT_TYPES.items()}

_Request = Request[Any, Any, Any]


@get(
    "/tasks/{task_id:str}",
    operation_id="getTask",
    summary="Where a task stands",
    responses=problems(FailureCode.TASK_NOT_FOUND),
)
async def get_task(
    task_id: FromPath[str], announcer: NamedDependency[Announcer], caller: NamedDependency[Caller]
) -> TaskView:
    """Where a task stands."""
    await _theirs(task_id, announcer, caller)
    return await asyncio.to_thread(announcer.tasks.view, task_id)


@get(
    "/tasks/{task_id:str}/results",
    operation_id="getResults",
    summary="What a task has reported",
    responses={
        200: answer(
            DetectionEvent,
            "one report a line; with `Accept: application/json` one array, with `text/csv` a row per detection",
            media_type=CONTENT_TYPES[ResultFormat.JSONL],
        )
    }
    | problems(FailureCode.TASK_NOT_FOUND),
)
async def get_results(
    task_id: FromPath[str],
    request: _Request,
    announcer: NamedDependency[Announcer],
    caller: NamedDependency[Caller],
) -> Stream:
    """What a task has reported so far, in order: JSON lines, one JSON array, or CSV, as `Accept` asks.

    The CSV of a task that finds shots is a scene list in PySceneDetect's columns.
    """
    tasks = announcer.tasks
    record = await _theirs(task_id, announcer, caller)
    wanted = request.accept.best_match(list(_FORMATS), default=CONTENT_TYPES[ResultFormat.JSONL])
    result_format = _FORMATS[wanted]
    events = (as_seen_by_clients(report) for report in tasks.reports(task_id))
    text = render(events, result_format, is_scene_list=isinstance(record.command, FindShots))
    return Stream(pieces(text), media_type=CONTENT_TYPES[result_format])


@delete(
    "/tasks/{task_id:str}",
    operation_id="cancelTask",
    summary="Stop a task",
    status_code=202,
    response_headers=(TASK_AT,),
    responses=problems(
        FailureCode.TASK_NOT_FOUND,
        FailureCode.TASK_ENDED,
        FailureCode.BROKER_UNAVAILABLE,
        FailureCode.STORAGE_FULL,
    ),
)
async def cancel_task(
    task_id: FromPath[str], announcer: NamedDependency[Announcer], caller: NamedDependency[Caller]
) -> Response[TaskView]:
    """Stop a task within a second; what it has reported stays."""
    tasks = announcer.tasks
    await _theirs(task_id, announcer, caller)
    if await asyncio.to_thread(tasks.last_event, task_id):
        raise Failure(FailureCode.TASK_ENDED, f"task {task_id} has ended")
    await announcer.cancel(task_id)
    view = await asyncio.to_thread(tasks.view, task_id)
    return Response(view, headers={"location": f"/tasks/{task_id}"})


@post(
    "/tasks/{task_id:str}/retry",
    operation_id="retryTask",
    operation_class=ForUser,
    summary="Do a failed task again",
    status_code=202,
    response_headers=(TASK_AT,),
    responses=problems(
        FailureCode.TASK_NOT_FOUND,
        FailureCode.TASK_NOT_FAILED,
        FailureCode.MEDIUM_MISSING,
        FailureCode.MEDIA_BUSY,
        FailureCode.BROKER_UNAVAILABLE,
        FailureCode.STORAGE_FULL,
    ),
)
async def retry_task(
    task_id: FromPath[str],
    announcer: NamedDependency[Announcer],
    caller: NamedDependency[Caller],
    retries: NamedDependency[Retries],
) -> Response[Started]:
    """Do the work of a failed task again, as another task; asked for twice, the answer is the same task."""
    await _theirs(task_id, announcer, caller)
    started = await retries.start(task_id, caller)
    return Response(started, headers={"location": f"/tasks/{started.task_id}"})


async def _theirs(task_id: str, announcer: Announcer, caller: Caller) -> TaskRecord:
    """The task. Raises `Failure(task_not_found)`, also for somebody else's task, in the same words: ids cannot be probed."""
    if not is_task_id(task_id):  # what is no task id names no folder
        raise Failure(FailureCode.TASK_NOT_FOUND, "there is no such task: the id is not a UUID in lower case")
    note_task(task_id)
    record = await asyncio.to_thread(announcer.tasks.record, task_id)
    if not caller.may_see(record.command.owner):
        raise no_task(task_id)
    return record


routes = [get_task, get_results, cancel_task, retry_task]
