"""What `detections top` knows and draws, without a broker."""

from collections.abc import Callable
from http import HTTPStatus

import httpx
import pytest
from rich.console import Console

from contracts.events import ConsumerSeen, EngineSeen, EngineStatus, TaskProgressed
from contracts.failures import Failure, FailureCode
from detections.management import Management, QueueSeen, Rate, Traffic, address_of
from detections.top_board import CONSUMER_SILENT_S, RATE_WINDOW_S, TASK_SILENT_S, TASKS_MAX, Board
from detections.top_tables import TASKS_SHOWN_MAX, drawn
from tests.events import end, report


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock_s=clock)


def consumer(name: str = "host:1:abc", **changes: object) -> ConsumerSeen:
    known = {
        "id": name,
        "host": "host",
        "engine_type": "onnx",
        "status": EngineStatus.ENABLED,
        "model": "cars",
        "shots": EngineSeen(status=EngineStatus.NONE),
        "tasks_running": 3,
    }
    return ConsumerSeen(**(known | changes))  # pyright: ignore[reportArgumentType]


def progress(task_id: str, percent: int, *, epoch: int = 1) -> TaskProgressed:
    return TaskProgressed(task_id=task_id, media_id=task_id, percent=percent, epoch=epoch)


def text(board: Board) -> str:
    console = Console(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(drawn(board, broker="amqp://broker"))
    return captured.get()


def test_a_consumer_is_there_until_it_is_silent(board: Board, clock: Clock) -> None:
    board.hear_consumer(consumer("b:1:x"))
    board.hear_consumer(consumer("a:1:x"))
    assert [seen.id for seen in board.consumers] == ["a:1:x", "b:1:x"]
    clock.now_s += CONSUMER_SILENT_S
    board.hear_consumer(consumer("b:1:x"))
    assert [seen.id for seen in board.consumers] == ["b:1:x"]


def test_a_task_is_in_progress_from_its_first_word_to_its_end(board: Board) -> None:
    board.hear_event(progress("t", 10))
    board.hear_event(report("t", 7))
    board.hear_event(progress("t", 40, epoch=2))
    (task,) = board.tasks
    assert (task.percent, task.reports, task.attempt) == (40, 7, 2)
    board.hear_event(end("t", 8))
    assert board.tasks == []


def test_a_task_that_nobody_speaks_of_is_left_out_and_too_many_are_forgotten(board: Board, clock: Clock) -> None:
    board.hear_event(progress("old", 1))
    clock.now_s += TASK_SILENT_S
    for number in range(TASKS_MAX + 5):
        board.hear_event(progress(f"{number:04}", 1))
    assert len(board.tasks) == TASKS_MAX
    assert board.tasks[0].task_id == "0005"


def test_rates_are_of_the_last_seconds(board: Board, clock: Clock) -> None:
    clock.now_s += RATE_WINDOW_S
    for sequence in range(1, 21):
        board.hear_event(report("t", sequence))
    board.hear_event(progress("t", 1))
    assert (board.rates.reports, board.rates.progress, board.rates.ends) == (2.0, 0.1, 0.0)
    clock.now_s += RATE_WINDOW_S + 1
    assert board.rates.reports == 0.0


def test_the_picture_says_all_of_it(board: Board) -> None:
    board.hear_consumer(consumer())
    board.hear_consumer(consumer("host:2:abc", status=EngineStatus.ERROR, error_message="no model [red]", model=None))
    board.hear_event(progress("some-task", 50))
    traffic = Traffic(publish_details=Rate(1.5), deliver_get_details=Rate(2.25))
    board.queues = [QueueSeen("detections.commands.video", 3, 2, 1, traffic), QueueSeen("theirs", 9, 9, 9)]
    board.troubles["x"] = "something is amiss"
    lines = [" ".join(line.split()) for line in text(board).splitlines()]
    assert "detections.commands.video 3 2 1 1.5 2.2" in lines
    assert "host:1 Enabled onnx cars None 3" in lines
    assert "host:2 Error onnx - None 3 no model [red]" in lines
    assert "some-task ██████████·········· 50 % 0 1" in lines
    assert "something is amiss" in lines
    assert "theirs" not in text(board)


def test_nobody_and_nothing_is_said_too(board: Board) -> None:
    assert "none was heard" in text(board)


def test_more_tasks_than_fit_are_counted(board: Board) -> None:
    for number in range(TASKS_SHOWN_MAX + 1):
        board.hear_event(progress(f"task-{number:02}", 1))
    assert f"tasks in progress, {TASKS_SHOWN_MAX} of {TASKS_SHOWN_MAX + 1}" in text(board)
    assert f"task-{TASKS_SHOWN_MAX}" not in text(board)


def management(answer: Callable[[httpx.Request], httpx.Response]) -> Management:
    url = "http://ada:s%40cret@host:15672"
    return Management(url, virtual_host="a/b", transport=httpx.MockTransport(answer))


async def test_queues_are_asked_for_with_the_user_of_the_address() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == httpx.BasicAuth("ada", "s@cret")._auth_header
        if request.url.path == "/api/overview":
            return httpx.Response(200, json={"disable_stats": False})
        assert request.url.raw_path.startswith(b"/api/queues/a%2Fb?columns=name")
        return httpx.Response(200, json=[{"name": "q", "messages_ready": 4, "message_stats": {}}, {"name": "new"}])

    assert await management(answer).queues() == [QueueSeen("q", 4), QueueSeen("new")]


async def test_a_management_that_counts_nothing_is_no_empty_queue() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        said = {"disable_stats": True} if request.url.path == "/api/overview" else [{"name": "q"}]
        return httpx.Response(200, json=said)

    with pytest.raises(Failure, match="disable_metrics_collector"):
        await management(answer).queues()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (HTTPStatus.UNAUTHORIZED, FailureCode.FORBIDDEN),
        (HTTPStatus.FORBIDDEN, FailureCode.FORBIDDEN),
        (HTTPStatus.NOT_FOUND, FailureCode.BROKER_UNAVAILABLE),
        (HTTPStatus.OK, FailureCode.BROKER_UNAVAILABLE),
    ],
)
async def test_what_the_management_refuses_is_said_without_the_password(status: HTTPStatus, code: FailureCode) -> None:
    with pytest.raises(Failure) as caught:
        await management(lambda _: httpx.Response(status, text="<html>")).queues()
    assert caught.value.code is code
    assert "cret" not in caught.value.detail


@pytest.mark.parametrize(
    ("amqp", "asked", "address"),
    [
        ("amqp://u:p@rabbit:5672/", None, "http://u:p@rabbit:15672"),
        ("amqp://u:p@[::1]:5672/", None, "http://u:p@[::1]:15672"),
        ("amqp://rabbit/x", None, "http://rabbit:15672"),
        ("amqp://u:p@rabbit/", "https://m:15671", "https://u:p@m:15671"),
        ("amqp://u:p@rabbit/", "http://o:q@m", "http://o:q@m"),
        ("amqp://u:p@one/,amqp://u:p@two/", None, "http://u:p@one:15672"),
    ],
)
def test_the_management_is_where_the_broker_is_unless_it_is_named(amqp: str, asked: str | None, address: str) -> None:
    assert address_of(amqp, asked) == address
