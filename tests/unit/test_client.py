"""The client against a small edge over real HTTP: the same for both of its forms."""

import asyncio
import contextlib
import io
import itertools
import os
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Response

from contracts.events import DetectionEvent, MediaStatus
from detections import AsyncClient, Client
from detections.answers import ClientError, ServiceError, TaskStatus, UnreachableError, UnusableError
from detections.calls import TRIES_MAX
from detections.following import OPENING_RETRIES_MAX
from detections.rabbitmq import free_port
from detections.uploading import Progress
from tests.fake_edge import SEEN, FakeEdge, cut_off, file_name, problem

TASK = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
FTYP = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"
MOOV = (58).to_bytes(4, "big") + b"moov" + b"index" * 10
MDAT = (900_008).to_bytes(4, "big") + b"mdat" + b"frames" * 150_000


class Blocking:
    """`AsyncClient` called as `Client` is, so that both have the same tests."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(url)

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self._runner.run(getattr(self._client, name)(*args, **options))

    def events(self, *args: Any, **options: Any) -> Iterator[DetectionEvent]:
        return self._stepped(self._client.events(*args, **options))

    @contextlib.contextmanager
    def listen(self, task_id: str | None = None) -> Iterator[Iterator[DetectionEvent]]:
        listening = self._client.listen(task_id)
        events = self._runner.run(listening.__aenter__())
        try:
            yield self._stepped(events)
        finally:
            self._runner.run(listening.__aexit__(None, None, None))

    def _stepped(self, events: AsyncGenerator[DetectionEvent, None]) -> Iterator[DetectionEvent]:
        async def step() -> DetectionEvent | None:
            return await anext(events, None)

        while (event := self._runner.run(step())) is not None:
            yield event


@pytest.fixture(scope="module")
def started_edge() -> Iterator[FakeEdge]:
    with FakeEdge() as edge:
        yield edge


@pytest.fixture
def edge(started_edge: FakeEdge) -> FakeEdge:
    started_edge.forget()
    return started_edge


@pytest.fixture(params=[Client, Blocking], ids=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Client]]:
    with contextlib.ExitStack() as closing:

        def make(url: str) -> Client:
            client = request.param(url)
            closing.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(edge: FakeEdge, make_client: Callable[[str], Client]) -> Client:
    return make_client(edge.url)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "Straße 1.mp4"
    path.write_bytes(FTYP + MOOV + MDAT)
    return path


def sequences(events: Iterator[DetectionEvent]) -> list[int | None]:
    return [event.sequence for event in events]


def test_health_is_understood(client: Client) -> None:
    assert client.health().ai_availability == "Enabled"


def test_an_image_is_sent_with_its_name_and_configuration(client: Client, edge: FakeEdge, tmp_path: Path) -> None:
    image = tmp_path / "street.png"
    image.write_bytes(b"pixels")

    found = client.detect(image, config={"probability_threshold": 0.4})

    assert found == [SEEN]
    assert edge.detect_forms == [
        {"name": "street.png", "content": b"pixels", "config": '{"probability_threshold":0.4}'}
    ]


def test_a_file_whose_name_is_no_text_is_sent_all_the_same(client: Client, edge: FakeEdge, tmp_path: Path) -> None:
    image, video = (tmp_path / os.fsdecode(b"gr\xfcn" + extension) for extension in (b".png", b".ts"))
    image.write_bytes(b"pixels")
    video.write_bytes(b"frames")

    client.detect(image)
    client.submit(video, task_id=TASK)

    assert edge.detect_forms[0]["name"] == "gr?n.png"
    assert file_name(edge.uploads[TASK]) == "gr?n.ts"


def test_bytes_are_an_image_too(client: Client, edge: FakeEdge) -> None:
    assert client.detect(b"pixels") == [SEEN]
    assert edge.detect_forms == [{"name": "image.jpg", "content": b"pixels", "config": None}]


def test_an_image_that_is_not_there_is_an_error_of_the_caller(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.detect(tmp_path / "nothing.png")


def test_a_video_arrives_as_it_is_under_the_task_that_was_chosen(client: Client, edge: FakeEdge, clip: Path) -> None:
    started = client.submit(clip, task_id=TASK, config={"tiling": "off"})

    received = edge.uploads[TASK]
    assert (started.task_id, started.media_id) == (TASK, f"m-{TASK}")
    assert received.content == clip.read_bytes()
    assert file_name(received) == "Straße 1.mp4"
    assert received.headers["x-config"] == '{"tiling":"off"}'
    assert received.headers["content-length"] == str(clip.stat().st_size)


def test_a_configuration_of_several_lines_in_any_language_arrives(client: Client, edge: FakeEdge, clip: Path) -> None:
    client.submit(clip, task_id=TASK, config='\n{\r\n  "note": "Straße  1 🚗"\n}\n')

    arrived = edge.uploads[TASK].headers["x-config"].encode("latin-1")  # which the server read it as
    assert msgspec.json.decode(arrived) == {"note": "Straße  1 🚗"}


def test_a_video_with_its_index_at_the_end_arrives_tail_first(client: Client, edge: FakeEdge, clip: Path) -> None:
    clip.write_bytes(FTYP + MDAT + MOOV)

    client.submit(clip, task_id=TASK)

    assert edge.uploads[TASK].headers["x-tail-bytes"] == str(len(MOOV))
    assert edge.uploads[TASK].body.startswith(MOOV)
    assert edge.uploads[TASK].content == clip.read_bytes()


def test_a_source_without_an_end_in_sight_is_streamed(client: Client, edge: FakeEdge) -> None:
    client.submit(io.BytesIO(MDAT), name="camera.ts", task_id=TASK)

    assert edge.uploads[TASK].body == MDAT
    assert edge.uploads[TASK].headers["transfer-encoding"] == "chunked"


def test_progress_grows_to_the_whole_file(client: Client, clip: Path) -> None:
    told: list[Progress] = []

    client.submit(clip, on_progress=told.append)

    sent = [progress.sent_bytes for progress in told]
    assert sent == sorted(set(sent))
    assert sent[-1] == told[-1].total_bytes == clip.stat().st_size


def test_a_throttled_upload_takes_its_time(client: Client, clip: Path) -> None:
    started_s = time.monotonic()

    client.submit(clip, bytes_per_s_max=3_000_000)

    assert time.monotonic() - started_s > 0.25


def test_events_come_while_the_file_is_sent(edge: FakeEdge, clip: Path) -> None:
    with Client(edge.url) as client, client.listen(TASK) as events:
        sending = threading.Thread(target=client.submit, args=(clip,), kwargs={"task_id": TASK, "bytes_per_s_max": 1e6})
        sending.start()
        seen_at_bytes = [len(edge.uploads[TASK].body) for event in events if event.annotations]
        sending.join()

    assert len(seen_at_bytes) == 9
    assert seen_at_bytes[0] < 300_000


def test_listening_before_submitting_misses_nothing(client: Client, clip: Path) -> None:
    with client.listen(TASK) as events:
        client.submit(clip, task_id=TASK)

        assert sequences(events) == list(range(1, 11))


def test_only_the_task_s_own_events_are_given(client: Client, edge: FakeEdge) -> None:
    with client.listen(TASK) as events:
        edge.report(OTHER, 1)
        edge.report(TASK, 1)
        edge.end(TASK)

        assert [event.task_id for event in events] == [TASK, TASK]


@pytest.mark.parametrize("cuts", [[0], [1], [2, 0, 1], [0, 0, 0]])
def test_a_cut_connection_costs_no_event_and_doubles_none(client: Client, edge: FakeEdge, cuts: list[int]) -> None:
    edge.cut_after_events = list(cuts)
    with client.listen(TASK) as events:
        edge.report(TASK, 1)
        first = next(events)  # from here on nothing is read from the results
        for sequence in range(2, 6):
            edge.report(TASK, sequence)
        edge.end(TASK)

        assert [first.sequence, *sequences(events)] == [1, 2, 3, 4, 5, 6]

    assert len(edge.last_event_ids) == 1 + len(cuts)
    assert edge.last_event_ids[0] is None
    assert None not in edge.last_event_ids[1:]


def test_a_task_that_has_ended_is_told_from_what_is_stored(client: Client, edge: FakeEdge) -> None:
    edge.report(TASK, 1)
    edge.report(TASK, 2)
    edge.end(TASK)

    events = list(client.events(TASK))

    assert [event.sequence for event in events] == [1, 2, 3]
    assert events[-1].media_status is MediaStatus.AI_PROCESSED
    assert events[-1].media_percent == 100


def test_what_the_log_no_longer_has_is_read_from_the_results(client: Client, edge: FakeEdge) -> None:
    for sequence in range(1, 5):
        edge.report(TASK, sequence)
    edge.end(TASK)
    edge.first_offset = 3

    assert sequences(client.events(TASK, last_event_id="0")) == [1, 2, 3, 4, 5]


def test_a_gap_is_told_to_whoever_listens_to_everything(client: Client, edge: FakeEdge) -> None:
    for sequence in range(1, 5):
        edge.report(TASK, sequence)
    edge.first_offset = 3
    gaps: list[str] = []

    events = client.events(last_event_id="0", on_gap=lambda: gaps.append("gap"))

    assert next(iter(events)).sequence == 4
    assert gaps == ["gap"]


def test_events_of_an_unknown_task_are_refused(client: Client) -> None:
    with pytest.raises(ServiceError) as raised:
        list(client.events(TASK))

    assert (raised.value.status, raised.value.code) == (404, "task_not_found")


def test_a_busy_stream_is_asked_again(client: Client, edge: FakeEdge) -> None:
    edge.end(TASK)
    edge.answers_before = [problem(503, "too_many_requests", "2000 listeners")]

    assert sequences(client.events(TASK)) == [1]


def test_a_refusal_says_status_code_and_detail(client: Client, edge: FakeEdge, clip: Path) -> None:
    edge.answers_before = [problem(409, "task_id_in_use", f"task {TASK} exists")]

    with pytest.raises(ServiceError) as raised:
        client.submit(clip, task_id=TASK)

    assert (raised.value.status, raised.value.code, raised.value.detail) == (
        409,
        "task_id_in_use",
        f"task {TASK} exists",
    )


def test_a_refusal_of_somebody_else_is_still_said(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [Response(b"<html>Bad Gateway</html>", status_code=502, media_type="text/html")]

    with pytest.raises(ServiceError) as raised:
        client.health()

    assert (raised.value.status, raised.value.code, raised.value.detail) == (502, "http_502", "Bad Gateway")


def test_an_answer_that_is_none_is_no_crash(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [Response(b"<html>welcome</html>", media_type="text/html")]

    with pytest.raises(ClientError, match="something else"):
        client.health()


def test_a_task_that_fails_while_its_file_arrives_stops_the_upload(
    client: Client, edge: FakeEdge, tmp_path: Path
) -> None:
    edge.refuse_upload_at_bytes = 300_000
    clip = tmp_path / "sound.mkv"
    clip.write_bytes(bytes(20_000_000))

    with pytest.raises(ServiceError) as raised:
        client.submit(clip, task_id=TASK)

    assert (raised.value.status, raised.value.code) == (422, "no_video_stream")
    assert not edge.uploads[TASK].is_whole


def test_an_answer_before_the_end_of_the_body_is_not_lost(client: Client, edge: FakeEdge, tmp_path: Path) -> None:
    edge.is_full = True
    clip = tmp_path / "long.mkv"
    clip.write_bytes(bytes(20_000_000))

    with pytest.raises(ServiceError) as raised:
        client.submit(clip)

    assert (raised.value.status, raised.value.code) == (507, "storage_full")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_upload_that_its_caller_breaks_off_leaves_no_task(
    edge: FakeEdge, tmp_path: Path, error: type[BaseException]
) -> None:
    clip = tmp_path / "long.mkv"
    clip.write_bytes(bytes(5_000_000))

    def stop(progress: Progress) -> None:
        if progress.sent_bytes > 1_000_000:
            raise error

    with Client(edge.url) as client, pytest.raises(error):
        client.submit(clip, task_id=TASK, on_progress=stop)

    assert edge.cancelled == [TASK]


async def test_a_cancelled_upload_breaks_off(edge: FakeEdge, tmp_path: Path) -> None:
    clip = tmp_path / "long.mkv"
    clip.write_bytes(bytes(5_000_000))
    async with AsyncClient(edge.url) as client:
        sending = asyncio.create_task(client.submit(clip, task_id=TASK, bytes_per_s_max=1e6))
        while TASK not in edge.uploads:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert edge.cancelled == [TASK], "the edge was told before the process may end"
        received = -1
        while received != len(edge.uploads[TASK].body):  # what was on its way still arrives
            received = len(edge.uploads[TASK].body)
            await asyncio.sleep(0.2)

    assert received < clip.stat().st_size
    assert not edge.uploads[TASK].is_whole


def test_a_task_s_state_is_told(client: Client, edge: FakeEdge) -> None:
    edge.report(TASK, 1)
    running = client.task(TASK)
    client.cancel(TASK)
    cancelled = client.task(TASK)

    assert (running.status, cancelled.status) == (TaskStatus.RUNNING, TaskStatus.FAILED)
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert [event.sequence for event in client.results(TASK)] == [1]


def test_cancelling_what_has_ended_is_refused(client: Client, edge: FakeEdge) -> None:
    edge.end(TASK)

    with pytest.raises(ServiceError, match="task_ended"):
        client.cancel(TASK)


CALLS: dict[str, Callable[[Client], object]] = {
    "health": lambda client: client.health(),
    "detect": lambda client: client.detect(b"pixels"),
    "submit": lambda client: client.submit(io.BytesIO(b"x"), name="x.ts"),
    "events": lambda client: list(client.events()),
    "listen": lambda client: client.listen(TASK).__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nobody_there_is_said_soon(make_client: Callable[[str], Client], call: Callable[[Client], object]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    client, started_s = make_client(url), time.monotonic()

    with pytest.raises(UnreachableError, match=url):
        call(client)

    assert time.monotonic() - started_s < 15, "as long as an edge may take to come back"


def test_an_address_is_shown_without_its_password(make_client: Callable[[str], Client]) -> None:
    address = f"127.0.0.1:{free_port()}"

    with pytest.raises(UnreachableError, match=f"http://{address}:") as caught:
        make_client(f"http://user:canary@{address}").health()

    assert "canary" not in str(caught.value) + caught.value.url


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:99999", "http://127.0.0.1:http", "http://[::1", "127.0.0.1:8000", "ftp://edge", "http://xn--"],
)
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_an_address_that_can_be_none_is_said_at_once(make: Callable[[str], object], url: str) -> None:
    with pytest.raises(UnusableError, match=re.escape(url)):
        make(url)


def test_a_web_server_that_answers_everything_is_not_listened_to_for_ever(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [Response("<html></html>", media_type="text/html") for _ in range(50)]

    with pytest.raises(ClientError, match="answered with something else: text/html"):
        next(iter(client.events(TASK)))

    assert len(edge.last_event_ids) == OPENING_RETRIES_MAX + 1


def test_a_question_survives_an_edge_that_is_started_again(make_client: Callable[[str], Client]) -> None:
    with FakeEdge() as edge:
        client = make_client(edge.url)
        client.health()
    with FakeEdge(port=int(edge.url.rpartition(":")[2])) as again:
        again.report(TASK, 1)

        assert client.task(TASK).task_id == TASK


def test_a_question_whose_answer_breaks_off_is_asked_again(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [cut_off(), cut_off()]

    assert client.health().status == "healthy"


def test_it_is_not_asked_for_ever(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [cut_off() for _ in range(TRIES_MAX)]

    with pytest.raises(UnreachableError):
        client.health()


def test_what_changes_something_is_said_once(client: Client, edge: FakeEdge) -> None:
    edge.answers_before = [cut_off()]

    with pytest.raises(UnreachableError):
        client.detect(b"pixels")

    assert len(edge.detect_forms) == 1


def test_leaving_early_closes_the_connection(client: Client, edge: FakeEdge) -> None:
    for sequence in range(1, 4):
        edge.report(TASK, sequence)

    with client.listen(TASK) as events:
        first = list(itertools.islice(events, 1))

    assert sequences(iter(first)) == [1]
