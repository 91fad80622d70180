"""What the guard remembers, and how it ends what is left."""

import subprocess
import sys

from detections import guard


def a_group(code: str) -> "subprocess.Popen[bytes]":
    """A process in a group of its own that has run `code` and sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{code}; print('up', flush=True); import time; time.sleep(60)"],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_it_remembers_who_was_added_and_not_taken_away() -> None:
    assert guard.follow([b"+10\n", b"+11\n", b"-10\n", b"+12\n", b"-99\n"]) == {11, 12}


def test_a_group_that_is_gone_is_no_mistake() -> None:
    process = a_group("pass")
    process.kill()
    process.communicate()

    guard.end({process.pid}, grace_s=0)

    assert not guard.is_alive(process.pid)


def test_who_does_not_end_by_asking_is_killed() -> None:
    process = a_group("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")

    guard.end({process.pid}, grace_s=0.1)

    process.communicate()
    assert process.returncode == -9
