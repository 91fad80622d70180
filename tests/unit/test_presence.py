"""Who is there, by heartbeats alone."""

import msgspec
import pytest

from contracts.events import ConsumerSeen, EngineSeen, EngineStatus
from edge.health import Presence, health
from edge.settings import EdgeSettings


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def consumer(
    name: str = "c", status: EngineStatus = EngineStatus.ENABLED, *, is_stopping: bool = False, error: str | None = None
) -> ConsumerSeen:
    return ConsumerSeen(
        id=name, host="h", engine_type="onnx", status=status, model="m", error_message=error, is_stopping=is_stopping
    )


def presence_of(*consumers: ConsumerSeen, clock: Clock | None = None, **settings: float) -> Presence:
    presence = Presence(EdgeSettings(**settings), clock_s=clock or Clock())
    for each in consumers:
        presence.see(each)
    return presence


def test_nobody_is_there_at_first() -> None:
    presence = presence_of()
    assert not presence.has_live_consumer()
    assert presence.best() is None


def test_a_consumer_is_there_until_it_has_been_silent_for_too_long() -> None:
    clock = Clock()
    presence = presence_of(consumer(), clock=clock, presence_expiry_s=4.0)
    clock.now_s += 4.0
    assert presence.has_live_consumer()
    clock.now_s += 0.1
    assert not presence.has_live_consumer()
    assert presence.reports() == []


def test_a_heartbeat_renews_the_place() -> None:
    clock = Clock()
    presence = presence_of(consumer(), clock=clock)
    clock.now_s += 3
    presence.see(consumer(status=EngineStatus.WARNING))
    clock.now_s += 3
    assert [report.ai_availability for report in presence.reports()] == ["Warning"]


def test_the_colours_of_the_classes_are_those_of_the_model_that_serves_best() -> None:
    asleep = msgspec.structs.replace(consumer("a", EngineStatus.NONE), class_colours={0: "#111111"})
    ready = msgspec.structs.replace(consumer("b"), class_colours={0: "#ff0000"})

    answer = msgspec.to_builtins(health.fn(presence_of(asleep, ready)), str_keys=True)

    assert answer["classColours"] == {"0": "#ff0000"}


def test_the_engine_for_shots_is_told_of_where_there_is_one() -> None:
    shots = EngineSeen(status=EngineStatus.ERROR, engine_type="triton", model="transnetv2", error_message="away")
    known = msgspec.structs.replace(consumer("a"), shots=shots)
    told, without = health.fn(presence_of(known, consumer("b"))).consumers

    assert told.shots is not None
    assert (told.shots.ai_availability, told.shots.model, told.shots.error_message) == ("Error", "transnetv2", "away")
    assert without.shots is None
    assert health.fn(presence_of(known)).ai_availability == "Enabled", "objects are another matter"


def test_a_consumer_that_stops_is_seen_and_takes_nothing_more() -> None:
    presence = presence_of(consumer(is_stopping=True))
    assert not presence.has_live_consumer()
    assert len(presence.reports()) == 1


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (EngineStatus.ERROR, EngineStatus.NONE),
        (EngineStatus.NONE, EngineStatus.DOWNLOADING),
        (EngineStatus.DOWNLOADING, EngineStatus.CONVERTING),
        (EngineStatus.CONVERTING, EngineStatus.UPLOADING),
        (EngineStatus.UPLOADING, EngineStatus.WARNING),
        (EngineStatus.WARNING, EngineStatus.ENABLED),
    ],
)
def test_the_best_is_who_could_answer_soonest(worse: EngineStatus, better: EngineStatus) -> None:
    best = presence_of(consumer("a", worse), consumer("b", better)).best()
    assert best is not None
    assert best.id == "b"


def test_one_that_works_is_better_than_one_that_stops() -> None:
    best = presence_of(consumer("a", is_stopping=True), consumer("b", EngineStatus.ERROR)).best()
    assert best is not None
    assert best.id == "b"


def test_a_full_table_forgets_who_has_been_silent_longest() -> None:
    presence = presence_of(consumer("a"), consumer("b"), consumer("a"), consumer("c"), presence_consumers_max=2)
    assert [report.id for report in presence.reports()] == ["a", "c"]


def test_health_shows_the_error_of_the_best_and_stays_healthy() -> None:
    answer = health.fn(presence_of(consumer(status=EngineStatus.ERROR, error="no model")))
    assert (answer.status, answer.ai_availability, answer.error_message) == ("healthy", "Error", "no model")


def test_each_consumer_says_why_it_does_not_serve_as_well_as_it_should() -> None:
    answer = health.fn(presence_of(consumer("a"), consumer("b", EngineStatus.WARNING, error="b.onnx does not serve")))

    assert (answer.ai_availability, answer.error_message) == ("Enabled", None)
    assert [entry.error_message for entry in answer.consumers] == [None, "b.onnx does not serve"]
