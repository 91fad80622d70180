"""What an edge counts, and where that may be read."""

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.commands import TaskKind
from contracts.events import AnyEvent
from contracts.failures import FailureCode, FailureRecord
from contracts.storage import Layout, replace_record
from edge import metrics
from edge.app import build
from edge.feed import Feed
from edge.first_reports import FIRST_REPORTS, MEDIA_MAX, FirstReports
from edge.health import Presence
from edge.metrics_page import asking, metrics_route, observe, page
from edge.outbox import Outbox
from edge.posting_line import Delay, Line, backlog_in
from edge.request_end import request_end
from edge.settings import EdgeSettings
from tests.edge_app import running_edge
from tests.events import end, new_task, progress, report, reports
from tests.signing import SHARED_KEY
from tests.unit.test_feed import Log
from tests.unit.test_listener import LiveLog, sent


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


class Growth:
    """How much a series has grown since the test began: the registry is the process's."""

    def __init__(self, name: str, **labels: str) -> None:
        self._read = lambda: value(name, **labels)
        self._before = self._read()

    @property
    def now(self) -> float:
        return self._read() - self._before


async def asked(scope: dict[str, Any], *, status: int | None = 200) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})

    async def nothing(*_: Any) -> Any: ...

    await request_end(app)({"type": "http", "method": "GET"} | scope, nothing, nothing)  # type: ignore[arg-type]


async def test_a_request_is_counted_under_its_route_and_never_under_its_path() -> None:
    answered = Growth("detections_http_requests_total", route="/tasks/{id}", method="GET", status="200")
    timed = Growth("detections_http_request_seconds_count", route="/tasks/{id}", method="GET")

    await asked({"path": "/tasks/7", "path_template": "/tasks/{id}"})

    assert (answered.now, timed.now) == (1, 1)
    assert b"/tasks/7" not in (await page()).body


async def test_a_method_that_a_client_invents_makes_no_series_of_its_own() -> None:
    other = Growth("detections_http_requests_total", route="/health", method="other", status="405")

    await asked({"method": "BREW", "path": "/health", "path_template": "/health"}, status=405)

    assert other.now == 1
    assert b"BREW" not in (await page()).body


async def test_a_client_that_left_before_its_answer_is_counted_too() -> None:
    gone = Growth("detections_http_requests_total", route="/detect", method="GET", status="0")

    await asked({"path": "/detect", "path_template": "/detect"}, status=None)

    assert gone.now == 1


async def test_a_path_without_a_route_is_counted_as_unmatched(tmp_path: Path) -> None:
    unmatched = Growth("detections_http_requests_total", route="unmatched", method="GET", status="404")
    failed = Growth("detections_http_failures_total", code="not_found")

    async with running_edge(tmp_path) as edge:
        assert (await edge.send("GET", "/nowhere/7")).status == 404

    assert (unmatched.now, failed.now) == (1, 1)


async def test_a_refused_upload_is_counted_by_its_code_and_its_bytes(tmp_path: Path) -> None:
    received = Growth("detections_upload_bytes_total")
    refused = Growth("detections_http_failures_total", code="too_large")

    async with running_edge(tmp_path, upload_bytes_max=10) as edge:
        headers = {"x-filename": "a.mp4", "transfer-encoding": "chunked"}
        await edge.send("POST", "/detect/video", b"12345", b"123456", headers=headers)

    assert (received.now, refused.now) == (11, 1)


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(None, "succeeded"), (FailureCode.CANCELLED, "cancelled"), (FailureCode.POISON, "failed")],
)
def test_a_task_ends_in_one_of_three_ways(failure: FailureCode | None, outcome: str) -> None:
    ended = Growth("detections_tasks_ended_total", kind="video", outcome=outcome)
    poison = Growth("detections_task_failures_total", code="poison")

    metrics.task_ended(TaskKind.VIDEO, failure and FailureRecord(code=failure, detail=""))

    assert (ended.now, poison.now) == (1, failure is FailureCode.POISON)


class Waits:
    """Media that wait for their first report, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.reports = FirstReports(clock_s=lambda: self.now_s)
        self.count = {medium: Growth("detections_first_detection_seconds_count", medium=medium) for medium in MEDIA}
        self.seconds = {medium: Growth("detections_first_detection_seconds_sum", medium=medium) for medium in MEDIA}

    def see(self, *events: AnyEvent, at_s: float) -> None:
        self.now_s = at_s
        for event in events:
            self.reports.see(event)


MEDIA = ("image", "video")


def test_the_first_report_of_a_medium_says_how_long_it_took_and_later_ones_say_nothing() -> None:
    waits, task = Waits(), new_task()
    waits.reports.begin(task)

    waits.see(progress(task), *(with_time(event) for event in reports(task, 1, 3)), at_s=2.5)

    assert (waits.count["video"].now, waits.seconds["video"].now) == (1, 2.5)


def test_a_report_without_a_time_is_of_a_picture() -> None:
    waits, task = Waits(), new_task()
    waits.reports.begin(task)

    waits.see(report(task, 1), at_s=0.5)

    assert (waits.count["image"].now, waits.count["video"].now) == (1, 0)


def test_media_of_other_edges_and_media_that_showed_nothing_are_not_timed() -> None:
    waits, task = Waits(), new_task()
    waits.reports.begin(task)

    waits.see(end(task, 1), report(task, 2), report(new_task(), 1), at_s=1.0)

    assert waits.count["image"].now == 0


async def test_a_medium_that_came_to_nothing_is_not_waited_for(tmp_path: Path) -> None:
    task, timed = new_task(), Growth("detections_first_detection_seconds_count", medium="image")
    async with running_edge(tmp_path) as edge:
        call = edge.request("POST", "/detect/video", headers={"X-Filename": "a.mp4", "X-Task-Id": task})
        call.disconnect()
        await call.answer()
    FIRST_REPORTS.see(report(task, 1))

    assert timed.now == 0


def test_of_too_many_media_the_oldest_are_forgotten() -> None:
    waits, first, second = Waits(), new_task(), new_task()
    for task in (first, second, *map(str, range(MEDIA_MAX - 1))):
        waits.reports.begin(task)

    waits.see(report(first, 1), report(second, 1), at_s=1.0)

    assert waits.count["image"].now == 1


def with_time(event: Any) -> Any:
    return msgspec.structs.replace(event, video_time="00:00:00.000")


async def test_the_lag_is_that_of_the_listener_who_is_furthest_behind() -> None:
    log = LiveLog(ring_events_max=3)
    keeps_up, stays = log.listen(), log.listen()
    await sent(keeps_up)
    await sent(stays)
    assert (log.feed.listeners, log.feed.lag_events()) == (2, 0)

    log.add(*reports(new_task(), 1, 5))
    assert log.feed.lag_events() == 5
    await stays.aclose()
    await keeps_up.aclose()
    assert (log.feed.listeners, log.feed.lag_events()) == (0, 0)


def test_a_listener_that_waits_beyond_the_end_is_not_behind() -> None:
    log = Log()
    with log.feed.counted(lambda: 1_000):
        assert log.feed.lag_events() == 0


async def test_who_asks_for_events_that_are_gone_is_counted_as_a_gap() -> None:
    log, gaps = LiveLog(), Growth("detections_sse_gaps_total")
    await sent(log.listen("no offset"))
    assert gaps.now == 1


def test_the_backlog_is_every_task_in_a_line_and_the_post_that_has_failed_for_longest(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    layout = Layout(tmp_path)
    for media_id, failing_s in (("a", 30), ("b", 90), ("c", None)):
        line = Line(layout, media_id, edge="me", stale_after=timedelta(seconds=1), clock=lambda: now)
        line.enlist(f"1-{media_id}")
        if failing_s is not None:
            line.put_off(Delay(tries=1, first_failed_at=now - timedelta(seconds=failing_s), due_at=now))
    line.enlist("2-c")
    given_up = Delay(tries=9, first_failed_at=now - timedelta(days=9), due_at=now)
    (layout.posting / "d").mkdir()
    replace_record(layout.posting / "d" / "delay.json", given_up)  # nobody waits behind it any more
    (layout.posting / "c" / "delay.json").write_bytes(b"{")  # broken

    backlog = backlog_in(layout.posting, now=now)

    assert (backlog.tasks, backlog.failing_s) == (4, 90)


@pytest.mark.parametrize(
    ("settings", "is_shown"), [(EdgeSettings(), True), (EdgeSettings(auth="jwt", jwt_key=SHARED_KEY), False)]
)
def test_an_edge_that_asks_for_tokens_does_not_show_its_metrics_where_it_serves(
    settings: EdgeSettings, *, is_shown: bool
) -> None:
    handlers = {handler for route in build(settings).routes for handler in getattr(route, "route_handlers", ())}

    assert (metrics_route.fn in {getattr(handler, "fn", None) for handler in handlers}) is is_shown


async def observed(folder: Path, storage: Path, *, presence: type[Presence] = Presence) -> bytes:
    """What the metrics of an edge say that has no broker."""
    settings = EdgeSettings(storage_dir=str(storage), free_bytes_min=0)
    outbox = Outbox(settings)
    async with running_edge(folder) as edge:
        observe(
            settings,
            outbox=outbox,
            feed=Feed(settings, outbox.mark_log),
            presence=presence(settings),
            announcer=edge.parts.announcer,
        )
        return (await page()).body


async def test_a_storage_that_takes_no_file_is_not_ready_however_much_is_free(tmp_path: Path) -> None:
    storage = tmp_path / "no folder"
    storage.touch()

    shown = await observed(tmp_path, storage)

    assert b'detections_ready{check="storage"} 0.0' in shown
    assert value("detections_storage_free_bytes") > 0


async def test_one_check_says_nothing_of_the_others(tmp_path: Path) -> None:
    shown = await observed(tmp_path, tmp_path)

    assert re.findall(rb"^detections_ready.*$", shown, re.MULTILINE) == [
        b'detections_ready{check="broker"} 0.0',
        b'detections_ready{check="storage"} 1.0',
        b'detections_ready{check="consumer"} 0.0',
    ]


async def test_the_port_for_operators_outlives_what_is_asked(tmp_path: Path) -> None:
    async with asking():
        before = await observed(tmp_path, tmp_path)
        asyncio.get_running_loop().set_default_executor(gone := ThreadPoolExecutor(1))
        gone.shutdown()

    assert len((await page()).body) == pytest.approx(len(before), rel=0.1)


class Watched(Presence):
    """It knows who asks."""

    askers: set[int] = set()

    def live(self) -> Any:
        self.askers.add(threading.get_ident())
        return super().live()


async def test_metrics_are_read_where_what_they_tell_of_changes(tmp_path: Path) -> None:
    await observed(tmp_path, tmp_path, presence=Watched)

    assert Watched.askers == {threading.get_ident()}


async def test_a_refusal_is_seen_to_grow_from_nothing(tmp_path: Path) -> None:
    shown = (await observed(tmp_path, tmp_path)).decode()

    shown_codes = set(re.findall(r'^detections_http_failures_total{code="(\w+)"}', shown, re.MULTILINE))
    assert shown_codes >= {code.value for code in FailureCode}


async def test_everything_that_is_declared_is_shown_in_base_units() -> None:
    text = (await page()).body.decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)

    assert [name for name in names if not name.startswith(("detections_", "process_"))] == []
    assert [name for name in names if re.search("_(ms|milli|minutes|percent|kib|mb)", name)] == []
