"""A process is killed at every named point of its work; whoever comes next brings everything to its one end.

A few points in every run, all of them with `make soak`. A case fails if its point is not reached.
"""

import asyncio
import time
from collections.abc import Iterator

import msgspec
import pytest

from contracts import crashpoints
from contracts.failures import FailureCode
from contracts.results import latest_epoch
from contracts.storage import TaskRecord, read_record
from detections.rabbitmq import PrivateRabbit
from tests.fault.checker import Accepted, Posted, Seen, check
from tests.fault.crash_cases import CASES, Case, Content, Flow, points_in_the_code
from tests.fault.crash_flows import FLOWS
from tests.fault.crash_world import Run, World, a_world
from tests.fault.fleet import WAIT_S, BrokerHandle, private_broker
from tests.fault.flow import new_task, seen_on, send_video, until_empty, virtual_host, wait_for_end
from tests.fault.timeline import timeline

pytestmark = [pytest.mark.e2e, pytest.mark.broker, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def world(rabbit: PrivateRabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with virtual_host(rabbit) as url, a_world(tmp_path_factory.mktemp("crashes"), url) as made:
        yield made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerHandle]:
    """One that may be killed."""
    with private_broker(tmp_path_factory.mktemp("broker")) as handle:
        yield handle


@pytest.fixture(scope="module")
def other_world(broker: BrokerHandle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On the broker that is killed."""
    with a_world(tmp_path_factory.mktemp("broker-crashes"), broker.url) as made:
        broker.settle()
        yield made


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=() if case.is_always_run else pytest.mark.soak) for case in CASES],
)
def test_a_death_costs_nothing_that_was_promised(world: World, case: Case) -> None:
    with timeline(case.name) as told:
        run = Run(world, case, told)
        run.arm()
        accepted = FLOWS[case.flow](run)
        after = Run(world, case, told)
        assert after.result(after.upload(after.until_it_reports)) == 202
        assert wait_for_end(world.layout, after.task_id).failure is None
        if read_record(world.layout.task_record(run.task_id), TaskRecord) is not None:
            failure = wait_for_end(world.layout, run.task_id).failure
            told.note(f"it ended as {failure}")
            accepted = accepted or [Accepted(task_id=run.task_id)]  # written down: it has an end for everybody
            assert failure is not None or world.said(run.task_id) == world.said(after.task_id), "as if nobody had died"
        assert_clean(run, [*accepted, after.order.promised(after.task_id)])


@pytest.mark.soak
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name)
        for case in CASES
        if case.flow is Flow.UPLOAD and not case.then and case.content is Content.OBJECTS
    ],
)
def test_a_broker_that_dies_at_that_moment_costs_nothing(other_world: World, broker: BrokerHandle, case: Case) -> None:
    with timeline(case.name) as told:
        run = Run(other_world, case, told)
        run.arm(":stop")
        sending = run.upload(run.until_it_reports)
        run.kill_the_broker_meanwhile(broker)
        accepted = run.order.promised(run.task_id)
        assert run.result(sending) in (202, 503), "a medium that is stored is looked at, whatever its client was told"
        assert wait_for_end(other_world.layout, run.task_id).failure is None
        assert_clean(run, [accepted])


def assert_clean(run: Run, accepted: list[Accepted]) -> None:
    """Nothing is lost, double, out of order or stuck. An end is written down a moment before it is in the log."""
    deadline_s = time.monotonic() + WAIT_S
    while not (verdict := check(seen_in(run, accepted))).is_clean and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert verdict.is_clean, verdict
    asyncio.run(until_empty(run.world.amqp_url))


def seen_in(run: Run, accepted: list[Accepted]) -> Seen:
    """What a case left behind; the others used the same log."""
    seen = asyncio.run(seen_on(run.world.amqp_url, accepted))
    ours = {run.task_id, *(promise.task_id for promise in accepted)}
    letters = [task for task in seen.dead_letters if task in ours and run.case.flow is Flow.LETTER]
    posts = [
        Posted(task_id=key.partition(":")[0], key=key)
        for each in run.world.annotations.stored()
        if (key := str(each.get("key"))).partition(":")[0] in ours
    ]
    events = [event for event in seen.events if event.task_id in ours]
    return msgspec.structs.replace(seen, events=events, dead_letters=letters, posts=posts)


@pytest.mark.soak
def test_a_video_that_kills_three_consumers_is_ended_by_the_fourth(world: World) -> None:
    task, kills = new_task(), 3
    world.consumer.kill()
    assert send_video(world.fleet.url, task, world.clip) == 202
    for _ in range(kills):
        world.consumer.start(**{crashpoints.VARIABLE: "consumer.claim.noted:1"})
        assert world.consumer.wait_until_dead() == -9
    world.consumer.start()
    world.fleet.wait_until_ready()
    failure = wait_for_end(world.layout, task).failure

    assert failure is not None
    assert failure.code is FailureCode.POISON
    assert latest_epoch(world.layout, task) == kills + 1
    asyncio.run(until_empty(world.amqp_url))


def test_every_crash_point_of_the_code_is_in_the_matrix() -> None:
    named = {name for case in CASES for name in (case.point, *([case.then.rpartition(":")[0]] if case.then else []))}

    assert points_in_the_code() == named
    assert len(named) >= 40


def test_the_slice_that_is_always_run_kills_both() -> None:
    assert {case.victim for case in CASES if case.is_always_run} == {"edge", "consumer"}
