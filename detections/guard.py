"""The process that outlives a killed parent for a moment, to end what the parent started. Standard library only, run by path.

Standard input says `+<group>` and `-<group>`, one a line; its end means that the parent is gone, however it went. A death
signal (`PR_SET_PDEATHSIG`) would not do: it reaches only direct children, and RabbitMQ is a shell that starts a virtual
machine that starts port programs; it is also lost when the thread that forked ends, not the process.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 15.0
"""For processes to end by themselves; a broker needs 6 s. Then they are killed."""
_POLL_S = 0.05
_STAT = "/proc/{}/stat"
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Follow the parent's list of process groups; end them when it closes."""
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    end(follow(sys.stdin.buffer))


def follow(lines: Iterable[bytes]) -> set[int]:
    """The groups that are on the list when it ends."""
    groups: set[int] = set()
    for line in lines:
        if line.startswith(b"+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    return groups


def end(groups: set[int], *, grace_s: float = GRACE_S) -> None:
    """Ask every group to end; return when all are gone, by force after `grace_s`."""
    for group in groups:
        send(group, signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    while any(is_alive(group) for group in groups) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    for group in groups:
        send(group, signal.SIGKILL)


def send(group: int, number: signal.Signals) -> None:
    """Signal a process group, if there still is one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def is_alive(group: int) -> bool:
    """True while the group has a process; those that only wait to be reaped do not count, where the system can tell."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    if not os.path.exists(_STAT.format("self")):  # noqa: PTH110 - without pathlib it starts in half the time
        return True
    return any(_is_member(entry, group) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208


def _is_member(pid: str, group: int) -> bool:
    try:
        with open(_STAT.format(pid)) as file:  # noqa: PTH123
            state, _parent, its_group = file.read().rpartition(")")[2].split()[:3]
    except OSError:  # it ended meanwhile
        return False
    return int(its_group) == group and state not in "ZX"


if __name__ == "__main__":
    main()
