"""`detections up`, started and ended as a person does it: real processes, real signals."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detections import Client
from detections.local import LocalStack
from detections.rabbitmq import free_port, is_free
from tests.e2e.up import NO_BOX_TIME, clip, port_of, running, up_is_refused
from tests.processes import is_gone, processes_of, wait_until, wait_until_nothing_lives_of

pytestmark = pytest.mark.e2e


def test_ctrl_c_leaves_nothing_behind_and_the_data_is_there_the_next_time(tmp_path: Path, scripted_model: Path) -> None:
    storage, arguments = tmp_path / "storage", ("--model", str(scripted_model), "--port", str(free_port()))
    with running(storage, *arguments) as first:
        first.wait_until_ready()
        with Client(first.url) as client:
            task_id = client.submit(clip(tmp_path), config=NO_BOX_TIME).task_id
            before = numbers(client, task_id)
        assert len(processes_of(storage)) >= 5
        first.interrupt()
        code, said = first.ended()
        wait_until_nothing_lives_of(storage)
        ports = [port_of(first.url), port_of(first.management_url)]
    with running(storage, *arguments) as second:
        second.wait_until_ready()
        with Client(second.url) as client:
            after = numbers(client, task_id)
            again = client.submit(clip(tmp_path, frames=20), config=NO_BOX_TIME).task_id
            assert numbers(client, again) == list(range(1, 22))
        second.interrupt()
        second.wait_until_it_ends()
        second.interrupt()
        code_twice, _ = second.ended()

    assert (code, [is_free(port) for port in ports]) == (0, [True, True]), said
    assert "Traceback" not in said
    assert after == before == list(range(1, 52))
    assert code_twice == 130
    wait_until_nothing_lives_of(storage)


def numbers(client: Client, task_id: str) -> list[int]:
    """Of a task's reports and its end, as they come."""
    return [event.sequence for event in client.events(task_id) if event.sequence]


@pytest.mark.parametrize("after_s", [0.5, 3.0])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path, after_s: float) -> None:
    with running(tmp_path / "storage", "--port", "0") as up:
        wait_until(lambda: processes_of(tmp_path / "storage"))
        time.sleep(after_s)
        up.interrupt()
        code, said = up.ended()
        wait_until_nothing_lives_of(tmp_path / "storage")

    assert code in (130, -signal.SIGINT)  # the second: it was still loading its modules
    assert "Traceback" not in said


def test_sigterm_is_like_ctrl_c_and_sigkill_leaves_nothing_behind_either(
    tmp_path: Path, scripted_model: Path, new_host: Callable[[], dict[str, str]]
) -> None:
    storage = tmp_path / "storage"
    with running(storage, "--port", "0", "--model", str(scripted_model)) as up:
        up.wait_until_ready()
        up.process.kill()
        up.process.communicate()
        wait_until(lambda: not processes_of(storage))
    elsewhere = new_host()
    with running(storage, "--port", "0", "--model", str(scripted_model), environ=elsewhere) as up:
        up.wait_until_ready()
        up.process.terminate()
        code, said = up.ended()
        wait_until_nothing_lives_of(storage)

    assert code == 0, said


def test_without_a_broker_it_names_the_command_that_installs_one(tmp_path: Path) -> None:
    said = up_is_refused(tmp_path / "storage", "--port", "0", environ={"PATH": "/nowhere"})

    assert said == "detections: no RabbitMQ on this machine; install one: apt-get install rabbitmq-server\n"


def test_a_port_in_use_is_said_wherever_it_was_named(stack: LocalStack, tmp_path: Path) -> None:
    port = str(port_of(stack.url))
    by_option = up_is_refused(tmp_path / "storage", "--port", port)
    by_environment = up_is_refused(tmp_path / "storage", environ={"EDGE_PORT": port})

    assert by_option == by_environment == f"detections: port {port} is in use; name another one with --port\n"


def test_a_part_that_does_not_start_ends_the_others_and_shows_its_last_lines(
    tmp_path: Path, new_host: Callable[[], dict[str, str]]
) -> None:
    environ = {"CONSUMER_WORKERS": "none", **new_host()}
    said = up_is_refused(tmp_path / "storage", "--port", "0", environ=environ)

    assert "consumer-1 ended with code 1" in said
    assert "CONSUMER_WORKERS='none'" in said


def test_with_a_broker_of_somebody_else_none_is_started(
    tmp_path: Path, scripted_model: Path, new_host: Callable[[], dict[str, str]]
) -> None:
    amqp = new_host()
    with LocalStack(tmp_path / "storage", model=scripted_model, consumers=0, environ=amqp) as second:
        assert (second.pids("broker"), second.management_url, second.amqp_url) == ([], None, amqp["AMQP_URL"])
        edge = second.pids("edge")
    assert all(is_gone(pid) for pid in edge)
