"""Supervision of small real processes: who dies is started again, and said so; nobody is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detections import processes, supervision
from detections.processes import Guard, Program
from detections.supervision import Supervisor, delay_s
from tests.processes import WAIT_S, is_gone, wait_until

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
WITH_A_CHILD = (
    "import subprocess, time; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


@pytest.fixture
def supervisor(guard: Guard, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(guard, said.append)
    yield supervisor
    supervisor.kill()


def program(folder: Path, code: str = SLEEP, *, name: str = "worker") -> Program:
    command = (sys.executable, "-I", "-S", "-c", code)
    return Program(name=name, command=command, environ=dict(os.environ), log=folder / f"{name}.log")


def wait_until_up(log: Path) -> None:
    wait_until(lambda: log.exists() and "\n" in log.read_text())


def test_a_killed_process_is_started_again_and_said_so(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.start(program(tmp_path))
    supervisor.watch()
    wait_until_up(tmp_path / "worker.log")
    (first,) = supervisor.pids("worker")

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(said) == 2)

    assert said == [
        f"worker was killed by signal 9; starting it again in 0.2 s (log: {tmp_path}/worker.log)",
        f"worker started again (process {supervisor.pids('worker')[0]})",
    ]


def test_delays_double_up_to_a_bound() -> None:
    delays = [delay_s(deaths) for deaths in range(1, 12)]

    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert max(delays) == supervision.DELAY_MAX_S


def test_who_dies_too_often_is_left_alone_with_its_last_words(guard: Guard, said: list[str], tmp_path: Path) -> None:
    supervisor = Supervisor(guard, said.append, deaths_max=2)
    supervisor.start(program(tmp_path, "import sys; sys.exit('no model')"))
    supervisor.watch()

    wait_until(lambda: supervisor.given_up())
    supervisor.kill()

    assert [line.split(";")[0] for line in said[:1]] == ["worker ended with code 1"]
    assert said[-1].startswith("worker ended with code 1; the end of")
    assert "no model" in said[-1]
    assert said[-1].endswith("worker died 3 times in a row: left alone")


def test_a_death_before_the_watch_is_told_not_repaired(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, "import sys; sys.exit('port in use')"))

    wait_until(supervisor.first_death)

    death = supervisor.first_death()
    assert death is not None
    assert (death.name, death.exit_code) == ("worker", 1)
    assert death.with_last_lines().endswith("port in use")
    assert said == []


def test_what_another_one_has_written_before_is_not_what_a_process_died_of(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    dying = program(tmp_path, "import sys; sys.exit('port in use')")
    dying.log.write_text("no room on the disk\n")
    supervisor.start(dying)

    wait_until(supervisor.first_death)

    death = supervisor.first_death()
    assert death is not None
    assert death.with_last_lines().splitlines()[1:] == ["port in use"]


def test_the_last_named_end_last(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(open({order!r}, 'a').write({name!r} + ' ') * 0))"
        "; print('up', flush=True); time.sleep(60)"
    )
    for name in ("broker", "edge", "epmd"):
        supervisor.start(program(tmp_path, code.format(order=str(order), name=name), name=name))
    supervisor.watch()
    for name in ("broker", "edge", "epmd"):
        wait_until_up(tmp_path / f"{name}.log")

    supervisor.stop(timeout_s=WAIT_S, last=("broker", "epmd"))

    assert order.read_text() == "edge broker epmd "


def test_who_does_not_stop_in_time_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, STUBBORN))
    supervisor.watch()
    wait_until_up(tmp_path / "worker.log")
    (pid,) = supervisor.pids("worker")

    supervisor.stop(timeout_s=0.2)

    assert is_gone(pid)


def test_what_a_dead_process_left_behind_is_ended_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program(tmp_path, WITH_A_CHILD))
    supervisor.watch()
    wait_until_up(tmp_path / "worker.log")
    grandchild = int((tmp_path / "worker.log").read_text())

    os.kill(supervisor.pids("worker")[0], signal.SIGKILL)

    wait_until(lambda: is_gone(grandchild))


def test_a_parent_that_is_killed_leaves_nobody_behind(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child, grandchild, guard_pid = (int(word) for word in parent.stdout.readline().split())

    parent.kill()
    parent.communicate()

    for pid in (child, grandchild, guard_pid):
        wait_until(lambda pid=pid: is_gone(pid))


_PARENT = """
import sys, time
from pathlib import Path
from detections.processes import Guard
from tests.unit.test_supervision import program, wait_until_up, WITH_A_CHILD
folder = Path(sys.argv[1])
guard = Guard()
child = guard.start(program(folder, WITH_A_CHILD))
wait_until_up(folder / "worker.log")
print(child.pid, (folder / "worker.log").read_text().strip(), guard._process.pid, flush=True)
time.sleep(60)
"""


def test_a_guard_that_was_killed_is_replaced_and_learns_everything(guard: Guard, tmp_path: Path) -> None:
    first = guard.start(program(tmp_path, name="first"))
    killed = guard._process
    assert killed is not None
    killed.kill()
    killed.wait()

    second = guard.start(program(tmp_path, name="second"))
    guard.close()

    assert [first.wait(WAIT_S), second.wait(WAIT_S)] == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_program_that_is_not_there_dies_at_once_saying_so(supervisor: Supervisor, tmp_path: Path) -> None:
    missing = Program(name="x", command=("/nowhere/x",), environ={"PATH": "/bin"}, log=tmp_path / "x.log")

    supervisor.start(missing)
    wait_until(supervisor.first_death)

    death = supervisor.first_death()
    assert death is not None
    assert "/nowhere/x" in death.with_last_lines()


def test_a_log_is_cut_at_its_bound_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(bytes(processes.LOG_BYTES_MAX + 1))
        processes.bound(log)
        writer.write(b"after")

    assert log.read_bytes() == b"after"
    assert (tmp_path / "x.log.1").stat().st_size == processes.LOG_BYTES_MAX + 1


def test_a_log_within_its_bound_is_left_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"few")

    processes.bound(log)
    processes.bound(tmp_path / "none.log")

    assert log.read_bytes() == b"few"
    assert not (tmp_path / "x.log.1").exists()


def test_only_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {n}\n" for n in range(10_000)))

    shown = processes.last_lines(log).splitlines()

    assert shown == [f"line {n}" for n in range(10_000 - processes.LAST_LINES_MAX, 10_000)]
    assert processes.last_lines(log, since_bytes=log.stat().st_size + 1).splitlines() == shown  # it was emptied since
    assert processes.last_lines(tmp_path / "none.log") == ""
