"""What the Annotations service is told, in which order, and what becomes of a post that fails; by virtual time."""

import asyncio
import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from contracts.commands import DetectVideo
from contracts.detections import Counts, Detection
from contracts.events import FrameDetected, TaskEnded
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.posts import DeadPost, Post, WakeUp
from contracts.results import Checkpoint, Reported
from contracts.shots import Shot
from contracts.storage import Layout, Seal, create_record, upload_medium
from contracts.topology import EVENTS
from contracts.wire import encode
from edge.annotations import PutOffError
from edge.media_roots import MediaRoots
from edge.post_sending import PostSender
from edge.posting import Poster
from edge.posting_line import Line, TurnLostError
from edge.posts import BATCH_REPORTS, MediaTypes, Posts
from edge.settings import EdgeSettings
from edge.task_store import TaskStore
from edge.telling import PosterParts

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WAIT_S = 30.0
SEEN = Detection(center_x=0.5, center_y=0.5, width=0.1, height=0.2, class_num=0, label="car", confidence=0.7)
SHOT = Shot(
    start_frame=0, end_frame=9, start_time="00:00:00.000", end_time="00:00:00.400", confidence=0.9, transition="cut"
)
UNAVAILABLE = Failure(FailureCode.ANNOTATIONS_UNAVAILABLE, "away")
REFUSED = Failure(FailureCode.ANNOTATIONS_REFUSED, "no")
UNKNOWN = Failure(FailureCode.MEDIA_NOT_FOUND, "never heard of it")
UNAUTHENTICATED = Failure(FailureCode.UNAUTHENTICATED, "who?")


class FakeOutbox:
    """Keeps what is to come back later, and what is buried."""

    def __init__(self) -> None:
        self.later: list[tuple[WakeUp, int, float]] = []
        self.dead: list[DeadPost] = []
        self.is_away = False

    async def wake_later(self, wake: WakeUp, *, step: int, delay_s: float) -> None:
        if self.is_away:
            raise Failure(FailureCode.BROKER_UNAVAILABLE, "not connected")
        self.later.append((wake, step, delay_s))

    async def bury(self, dead: DeadPost) -> None:
        self.dead.append(dead)


class FakeAnnotations:
    """Is told, unless a test says what it answers to a key."""

    is_configured = True

    def __init__(self) -> None:
        self.told: list[Post] = []
        self.tokens: list[str] = []
        self.answer: Callable[[Post, str], Failure | None] = lambda _post, _bearer: None
        self.at_once = 0
        self.at_once_max = 0

    @property
    def keys(self) -> list[str]:
        return [post.key.partition(":")[2] for post in self.told]

    async def send(self, post: Post, bearer: str) -> None:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.tokens.append(bearer)
        if failure := self.answer(post, bearer):
            raise failure
        self.told.append(post)


class FakeTokens:
    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.failure: Failure | None = None

    async def bearer(self, task_id: str) -> str:
        if self.failure:
            raise self.failure
        return "old"

    async def renew(self, task_id: str, *, rejected: str | None = None) -> str:
        assert rejected == "old"
        return "new"

    async def forget(self, task_id: str) -> None:
        self.forgotten.append(task_id)


class Edge:
    """A poster with everything around it faked but the storage."""

    def __init__(self, root: Path, *, name: str = "edge-1", **settings: Any) -> None:
        self.layout = Layout(root)
        self.settings = EdgeSettings(storage_dir=str(root), annotations_url="http://x", **settings)
        self.tasks = TaskStore(self.layout)
        self.outbox = FakeOutbox()
        self.annotations = FakeAnnotations()
        self.tokens = FakeTokens()
        self.now = NOW
        posts = Posts(self.layout, roots=MediaRoots(self.settings), media_types=MediaTypes())
        self.poster = Poster(
            PosterParts(
                settings=self.settings,
                posts=posts,
                sender=PostSender(
                    annotations=self.annotations,  # type: ignore[arg-type]
                    tokens=self.tokens,  # type: ignore[arg-type]
                    outbox=self.outbox,  # type: ignore[arg-type]
                    clock=lambda: self.now,
                ),
                edge=name,
                clock=lambda: self.now,
            )
        )

    async def wake(self, task_id: str, *, attempt: int = 0, is_again: bool = False) -> None:
        await self.poster.wake(WakeUp(task_id=task_id, attempt=attempt), is_again=is_again)

    def medium_task(self, *, at: datetime = NOW, media_id: str = "m") -> str:
        """A task on a medium of the service."""
        medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id=media_id, name="a.mp4")
        return self._task(
            lambda task_id: DetectVideo(task_id=task_id, medium=medium, owner="u", is_posted=True, created_at=at)
        )

    def upload_task(self) -> str:
        return self._task(
            lambda task_id: DetectVideo(
                task_id=task_id,
                medium=upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True),
                owner="u",
                is_posted=True,
            )
        )

    def seal(self, task_id: str, media_id: str) -> None:
        create_record(self.layout.seal(task_id), Seal(media_id=media_id, size_bytes=1, digest="d"))

    def report(self, task_id: str, *sequences: int, seen: tuple[Detection, ...] = (SEEN,), shots: int = 0) -> None:
        with self.layout.results(task_id, epoch=1).open("ab") as file:
            for sequence in sequences:
                event = FrameDetected(
                    task_id=task_id,
                    media_id="m",
                    sequence=sequence,
                    video_time="00:00:01.500",
                    annotations=list(seen),
                    shots=[SHOT] * shots,
                )
                done = Checkpoint(frame_index=sequence, at_s=1.0, counts=Counts(), sequence=sequence)
                for record in (Reported(event=event), done):
                    file.write(msgspec.json.encode(record) + b"\n")

    def end(self, task_id: str, *, media_id: str = "m", failure: FailureCode | None = None, sequence: int = 9) -> None:
        record = FailureRecord(code=failure, detail="") if failure else None
        create_record(
            self.layout.end(task_id), TaskEnded(task_id=task_id, media_id=media_id, sequence=sequence, failure=record)
        )

    def _task(self, make: Callable[[str], DetectVideo]) -> str:
        task_id = str(uuid4())
        self.tasks.create(make(task_id))
        return task_id


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


async def test_a_task_is_told_of_as_it_goes_each_thing_once(edge: Edge) -> None:
    task_id = edge.medium_task()
    await edge.wake(task_id)
    edge.report(task_id, 1, 2)
    await edge.wake(task_id)
    await edge.wake(task_id)
    edge.report(task_id, 3)
    edge.end(task_id)
    await edge.wake(task_id)
    await edge.wake(task_id)

    assert edge.annotations.keys == ["processing", "1", "2", "3", "9"]
    assert [msgspec.json.decode(post.body).get("status") for post in edge.annotations.told] == [2, None, None, None, 3]
    assert edge.tokens.forgotten == [task_id]


async def test_an_upload_waits_for_its_id_and_begins_with_its_record(edge: Edge) -> None:
    task_id = edge.upload_task()
    edge.report(task_id, 1)
    await edge.wake(task_id)
    assert edge.annotations.told == []

    edge.seal(task_id, "hash")
    await edge.wake(task_id)

    assert edge.annotations.keys == ["media", "processing", "1"]
    record = msgspec.json.decode(edge.annotations.told[0].body)
    assert (record["id"], record["mediaType"], record["mediaStatus"], record["userId"]) == ("hash", 20, 1, "u")
    assert msgspec.json.decode(edge.annotations.told[2].body)["mediaId"] == "hash"


async def test_the_id_of_an_upload_outlives_its_folder(edge: Edge) -> None:
    task_id = edge.upload_task()
    edge.end(task_id, media_id="hash")
    await edge.wake(task_id)

    assert edge.annotations.keys == ["media", "processing", "9"]


async def test_an_upload_that_came_to_nothing_is_told_to_nobody(edge: Edge) -> None:
    task_id = edge.upload_task()
    edge.end(task_id, media_id=task_id, failure=FailureCode.UPLOAD_ABORTED)
    await edge.wake(task_id)

    assert edge.annotations.told == []
    assert edge.tokens.forgotten == [task_id]


async def test_a_task_that_failed_ends_as_an_error(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.end(task_id, failure=FailureCode.CANCELLED)
    await edge.wake(task_id)

    assert msgspec.json.decode(edge.annotations.told[-1].body) == {"status": 6}


async def test_an_annotation_says_what_the_contract_says_and_its_frame_goes(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, 1)
    frame = edge.layout.frame(task_id, 1)
    frame.parent.mkdir()
    frame.write_bytes(b"jpeg")
    await edge.wake(task_id)

    assert msgspec.json.decode(edge.annotations.told[-1].body) == {
        "mediaId": "m",
        "source": 0,
        "videoTime": "00:00:01",
        "detections": [msgspec.to_builtins(SEEN)],
        "image": "anBlZw==",
    }
    assert not frame.exists()


async def test_more_reports_than_are_read_at_once_are_all_told_in_order(edge: Edge) -> None:
    task_id = edge.medium_task()
    count = 2 * BATCH_REPORTS
    edge.report(task_id, *range(1, count + 1))
    edge.end(task_id, sequence=count + 1)
    await edge.wake(task_id)

    assert edge.annotations.keys == ["processing", *map(str, range(1, count + 2))]


async def test_shots_are_no_annotations_however_many_there_are(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, *range(1, 2 * BATCH_REPORTS + 1), seen=(), shots=1)
    await edge.wake(task_id)
    before = list(edge.annotations.keys)
    last = 2 * BATCH_REPORTS + 3
    edge.report(task_id, last - 2, shots=1)
    edge.report(task_id, last - 1, seen=())
    edge.end(task_id, sequence=last)
    await edge.wake(task_id)

    assert before == ["processing"]
    assert edge.annotations.keys == ["processing", str(last - 2), str(last - 1), str(last)]


async def test_what_fails_waits_and_goes_on_in_order(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, 1, 2)
    edge.annotations.answer = lambda post, _: UNAVAILABLE if post.key.endswith(":1") else None
    await edge.wake(task_id)
    assert edge.annotations.keys == ["processing"]
    ((wake, step, delay_s),) = edge.outbox.later
    assert (wake.attempt, step) == (1, 0)
    assert delay_s == pytest.approx(5, rel=0.2)
    assert edge.tasks.view(task_id).told is not None
    assert edge.tasks.view(task_id).told.waits_for.code is FailureCode.ANNOTATIONS_UNAVAILABLE

    edge.annotations.answer = lambda _post, _bearer: None
    await edge.wake(task_id)  # a report's: it is not yet time
    assert edge.annotations.keys == ["processing"]
    await edge.wake(task_id, attempt=1)

    assert edge.annotations.keys == ["processing", "1", "2"]
    assert edge.tasks.view(task_id).told.waits_for is None


async def test_delays_grow_and_the_last_one_repeats(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    for attempt in range(6):
        await edge.wake(task_id, attempt=attempt)

    assert [step for _, step, _ in edge.outbox.later] == [0, 1, 2, 3, 3, 3]
    for (_, _, delay_s), expected in zip(edge.outbox.later, (5, 30, 120, 600, 600, 600), strict=True):
        assert expected * 0.8 <= delay_s <= expected * 1.2


@pytest.mark.parametrize(
    ("asked_s", "step", "at_least_s"), [(0, 0, 4), (5, 0, 5), (100, 2, 100), (120, 2, 120), (1e9, 3, 600)]
)
async def test_a_service_that_says_when_is_asked_no_sooner_but_after_the_longest_delay(
    edge: Edge, asked_s: float, step: int, at_least_s: float
) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: PutOffError("busy", asked_s=asked_s)
    await edge.wake(task_id)

    ((_, waits_at, delay_s),) = edge.outbox.later
    assert waits_at == step
    assert at_least_s <= delay_s <= 600 * 1.2


async def test_a_wake_up_that_came_twice_makes_no_second_chain(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(task_id)
    await edge.wake(task_id, attempt=1)
    await edge.wake(task_id, attempt=1)

    assert len(edge.outbox.later) == 2


async def test_a_wake_up_that_was_lost_is_made_up_for(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(task_id)
    edge.annotations.answer = lambda _post, _bearer: None
    edge.now += timedelta(seconds=5 * 1.2 + edge.settings.post_scan_s + 1)
    await edge.wake(task_id)

    assert edge.annotations.keys == ["processing"]


async def test_what_is_refused_for_good_is_buried_whole_and_the_rest_goes_on(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, 1, 2)
    edge.end(task_id)
    edge.annotations.answer = lambda post, _: REFUSED if post.key.endswith(":1") else None
    await edge.wake(task_id)

    assert edge.annotations.keys == ["processing", "2", "9"]
    (dead,) = edge.outbox.dead
    assert (dead.task_id, dead.media_id, dead.post.key, dead.reason.code) == (
        task_id,
        "m",
        f"{task_id}:1",
        FailureCode.ANNOTATIONS_REFUSED,
    )
    assert msgspec.json.decode(dead.post.body)["detections"] == [msgspec.to_builtins(SEEN)]
    assert edge.tokens.forgotten == []  # a replay needs them
    assert edge.tasks.view(task_id).told.given_up == 1


async def test_an_unknown_medium_is_final_only_if_the_service_knew_it(edge: Edge) -> None:
    known, upload = edge.medium_task(), edge.upload_task()
    edge.seal(upload, "hash")
    edge.annotations.answer = lambda post, _: UNKNOWN
    await edge.wake(known)
    await edge.wake(upload)

    assert [dead.task_id for dead in edge.outbox.dead] == [known]
    assert [wake.task_id for wake, _, _ in edge.outbox.later] == [upload]


async def test_after_a_day_a_post_is_given_up_and_those_behind_it_have_one_try_each(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, 1)
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(task_id)
    edge.now += timedelta(seconds=edge.settings.post_retry_for_s + 1)
    await edge.wake(task_id, attempt=1)

    assert [dead.post.key for dead in edge.outbox.dead] == [f"{task_id}:processing", f"{task_id}:1"]


async def test_a_trouble_of_long_ago_takes_no_try_from_the_next_task_of_the_medium(edge: Edge) -> None:
    old = edge.medium_task()
    edge.end(old)
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(old)
    edge.now += timedelta(seconds=edge.settings.post_retry_for_s + 1)
    await edge.wake(old, attempt=1)
    assert len(edge.outbox.dead) == 2
    edge.now += timedelta(days=3)
    new = edge.medium_task()
    await edge.wake(new)

    assert len(edge.outbox.dead) == 2
    assert edge.outbox.later[-1][0] == WakeUp(task_id=new, attempt=1)


async def test_an_answer_that_is_final_ends_the_trouble_before_it(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(task_id)
    edge.annotations.answer = lambda _post, _bearer: REFUSED
    await edge.wake(task_id, attempt=1)
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    edge.now += timedelta(seconds=edge.settings.post_retry_for_s + 1)
    edge.report(task_id, 1)
    await edge.wake(task_id, attempt=1)

    assert [dead.post.key for dead in edge.outbox.dead] == [f"{task_id}:processing"]
    assert edge.outbox.later[-1][0] == WakeUp(task_id=task_id, attempt=1)


async def test_a_token_that_is_rejected_is_renewed_once(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, bearer: UNAUTHENTICATED if bearer == "old" else None
    await edge.wake(task_id)

    assert edge.annotations.tokens == ["old", "new"]
    assert edge.annotations.keys == ["processing"]


async def test_without_a_valid_token_posts_wait_and_the_task_says_so(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.tokens.failure = UNAUTHENTICATED
    await edge.wake(task_id)

    assert edge.outbox.dead == []
    assert len(edge.outbox.later) == 1
    assert edge.tasks.view(task_id).told.waits_for.code is FailureCode.UNAUTHENTICATED


async def test_a_medium_is_told_of_by_one_at_a_time_and_nothing_is_missed(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.report(task_id, *range(1, 30))

    async def more() -> None:
        for sequence in range(30, 60):
            edge.report(task_id, sequence)
            await edge.wake(task_id)

    await asyncio.gather(*(edge.wake(task_id) for _ in range(10)), more())

    assert edge.annotations.at_once_max == 1
    assert edge.annotations.keys == ["processing", *map(str, range(1, 60))]


async def test_tasks_of_one_medium_are_told_of_one_after_the_other(edge: Edge) -> None:
    first = edge.medium_task(at=NOW)
    second = edge.medium_task(at=NOW + timedelta(seconds=1))
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    await edge.wake(first)
    edge.report(first, 1)
    edge.end(first)
    edge.end(second)
    edge.annotations.answer = lambda _post, _bearer: None
    await edge.wake(second)
    assert edge.annotations.told == []
    await edge.wake(first, attempt=1)

    assert [post.key for post in edge.annotations.told] == [
        f"{first}:processing",
        f"{first}:1",
        f"{first}:9",
        f"{second}:processing",
        f"{second}:9",
    ]


async def test_another_edge_leaves_a_medium_to_the_one_that_tells_of_it(tmp_path: Path) -> None:
    one, other = Edge(tmp_path, name="one"), Edge(tmp_path, name="other")
    task_id = one.medium_task()
    is_telling, go_on = asyncio.Event(), asyncio.Event()

    async def slow(post: Post, bearer: str) -> None:
        is_telling.set()
        await go_on.wait()
        one.annotations.told.append(post)

    one.annotations.send = slow  # type: ignore[method-assign]
    telling = asyncio.create_task(one.wake(task_id))
    await is_telling.wait()
    one.report(task_id, 1)
    await other.wake(task_id)
    await other.wake(task_id, is_again=True)
    assert other.annotations.told == []
    assert [wake.task_id for wake, _, _ in other.outbox.later] == [task_id]  # should the one that tells be dead
    go_on.set()
    await telling

    assert one.annotations.keys == ["processing", "1"]


@pytest.mark.parametrize("at_last", [None, UNAVAILABLE, REFUSED])
async def test_an_edge_that_fell_silent_is_taken_over_from_and_tells_no_more(
    tmp_path: Path, at_last: Failure | None
) -> None:
    silent, other = Edge(tmp_path, name="silent"), Edge(tmp_path, name="other")
    task_id = silent.medium_task()
    silent.report(task_id, 1)
    silent.end(task_id)
    is_telling, go_on = asyncio.Event(), asyncio.Event()

    async def stuck(post: Post, bearer: str) -> None:
        is_telling.set()
        await go_on.wait()
        if at_last:
            raise at_last
        silent.annotations.told.append(post)

    silent.annotations.send = stuck  # type: ignore[method-assign]
    telling = asyncio.create_task(silent.wake(task_id))
    await is_telling.wait()
    other.now += timedelta(seconds=other.settings.post_lease_s + 1)
    await other.wake(task_id)
    go_on.set()
    await telling

    assert other.annotations.keys == ["processing", "1", "9"]
    assert silent.annotations.keys == ([] if at_last else ["processing"])  # it was on its way: the same key
    assert silent.outbox.dead == silent.outbox.later == []
    told = silent.tasks.view(task_id).told
    assert told is not None
    assert (told.is_done, told.reports, told.waits_for) == (True, 1, None)


def test_an_edge_whose_clock_was_ahead_holds_up_no_medium_once_it_is_gone(tmp_path: Path) -> None:
    stale_after, now = timedelta(seconds=10), datetime(2026, 1, 1, tzinfo=UTC)
    gone = Line(Layout(tmp_path), "m", edge="gone", stale_after=stale_after, clock=lambda: now + timedelta(hours=2))
    here = Line(Layout(tmp_path), "m", edge="here", stale_after=stale_after, clock=lambda: now)
    turn = gone.claim()
    assert turn is not None
    assert here.claim() is not None
    with pytest.raises(TurnLostError):
        gone.check_ours(turn)


async def test_a_broker_that_is_away_keeps_the_wake_up_unacknowledged(edge: Edge) -> None:
    task_id = edge.medium_task()
    edge.annotations.answer = lambda _post, _bearer: UNAVAILABLE
    edge.outbox.is_away = True
    with pytest.raises(Failure):
        await edge.wake(task_id)

    edge.outbox.is_away = False
    edge.annotations.answer = lambda _post, _bearer: None
    await edge.wake(task_id, is_again=True)
    assert edge.annotations.keys == ["processing"]


async def test_a_storage_that_fails_for_a_moment_keeps_nobody_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = Edge(tmp_path, dead_letter_retry_s=0.01)
    task_id = edge.medium_task()
    failures: list[Exception] = [OSError(errno.EIO, "Input/output error"), ValueError("a fault of ours")]
    wake = edge.poster.wake

    async def failing(*arguments: Any, **named: Any) -> None:
        if failures:
            raise failures.pop()
        await wake(*arguments, **named)

    monkeypatch.setattr(edge.poster, "wake", failing)
    message = FakeMessage(encode(WakeUp(task_id=task_id)))
    await edge.poster._take(message)  # type: ignore[arg-type]

    assert edge.annotations.keys == ["processing"]
    assert message.acknowledged == 1


@pytest.mark.parametrize("record", ["task_record", "posted", "end"])
async def test_a_task_with_a_broken_record_holds_nobody_up_and_is_told_of_when_it_is_mended(
    edge: Edge, record: str
) -> None:
    task_id = edge.medium_task()
    path: Path = getattr(edge.layout, record)(task_id)
    before = rewritten(path, b"{")
    message = FakeMessage(encode(WakeUp(task_id=task_id)))
    async with asyncio.timeout(WAIT_S):
        await edge.poster._take(message)  # type: ignore[arg-type]
    assert message.acknowledged == 1

    rewritten(path, before)
    await edge.wake(task_id)
    assert "processing" in edge.annotations.keys


def rewritten(path: Path, content: bytes | None) -> bytes | None:
    """What was there before, None for no file."""
    before = path.read_bytes() if path.exists() else None
    path.unlink() if content is None else path.write_bytes(content)
    return before


class FakeMessage:
    """A message as the broker hands it over."""

    redelivered = False

    def __init__(self, body: bytes, *, exchange: str = "") -> None:
        self.body = body
        self.exchange = exchange
        self.headers: dict[str, Any] = {}
        self.acknowledged = 0

    async def ack(self) -> None:
        self.acknowledged += 1


@pytest.mark.parametrize(("exchange", "keys"), [("", ["1"]), (EVENTS, [])])
async def test_a_post_is_tried_again_for_an_operator_and_not_for_whoever_may_publish_events(
    edge: Edge, exchange: str, keys: list[str]
) -> None:
    task_id = edge.medium_task()
    post = Post(method="POST", path="/annotations", body=msgspec.Raw(b"{}"), key=f"{task_id}:1")
    reason = FailureRecord(code=FailureCode.ANNOTATIONS_REFUSED, detail="")
    message = FakeMessage(
        encode(DeadPost(task_id=task_id, media_id="m", post=post, reason=reason, at=NOW)), exchange=exchange
    )
    await edge.poster._take(message)  # type: ignore[arg-type]

    assert edge.annotations.keys == keys
    assert message.acknowledged == 1


async def test_an_id_that_would_name_another_folder_makes_none_and_nobody_is_told(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "storage")
    task_id = edge.medium_task(media_id="../../elsewhere")
    edge.report(task_id, 1)
    await edge.wake(task_id)

    assert not (tmp_path / "elsewhere").exists()
    assert edge.annotations.told == edge.outbox.later == []


async def test_a_task_that_nobody_is_told_of_is_left_alone(edge: Edge) -> None:
    task_id = str(uuid4())
    medium = Medium(root="videos", path="a.mp4", kind=MediumKind.VIDEO, media_id="m")
    edge.tasks.create(DetectVideo(task_id=task_id, medium=medium, owner="u"))
    edge.end(task_id)
    await edge.wake(task_id)
    await edge.wake(str(uuid4()))

    assert edge.annotations.told == []
    assert edge.tasks.view(task_id).told is None
