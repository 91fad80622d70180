"""The process that forks a decoder for each file: what a decoder imports is imported once, here, before there is a file.

`python -m engine.sandbox_nursery N` is started by a consumer (`engine/sandbox.py`) and hears from it on the socket N. It
never reads a medium. It has one thread, so that a fork is a whole process; it ends when the consumer does, however that
ends, and its children with it.
"""

import contextlib
import gc
import os
import select
import signal
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import msgspec

from engine.confinement import Confinement, ProcessLimits, confine, die_with_parent
from engine.decode import import_everything
from engine.sandbox_child import decode
from engine.sandbox_messages import Born, Exited, Line, ToDecoder, packed

_DESCRIPTORS_MAX = 1 << 16


def main() -> None:
    """Fork until the consumer is gone."""
    control = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the consumer decides
    import_everything()
    gc.freeze()  # what is here already is never looked at again, so children share it
    control.send_bytes(msgspec.json.encode(_tried()))
    nursery = Nursery(control)
    with contextlib.suppress(EOFError, OSError):
        while True:
            nursery.step()


class Nursery:
    """Forks decoders, and tells of each how it ended."""

    def __init__(self, control: Connection) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._children: dict[int, tuple[int, int]] = {}
        """By pidfd: the pid, and the line on which its end is told."""

    def step(self) -> None:
        """Wait for an order or for the end of a child. Raises `EOFError` when the consumer is gone."""
        for descriptor, _ in self._poll.poll():
            if descriptor in self._children:
                self._bury(descriptor)
            else:
                self._bear()

    def _bear(self) -> None:
        self._control.recv_bytes(1)
        line, file, arena = (recv_handle(self._control) for _ in range(3))
        pid = os.fork()
        if pid == 0:
            _live(line, file, arena)
        os.close(file)
        os.close(arena)
        _say(line, Born(pid))
        child = os.pidfd_open(pid)
        self._children[child] = (pid, line)
        self._poll.register(child, select.POLLIN)

    def _bury(self, child: int) -> None:
        pid, line = self._children.pop(child)
        self._poll.unregister(child)
        os.close(child)
        _, status = os.waitpid(pid, 0)
        _say(line, Exited(os.waitstatus_to_exitcode(status)))
        os.close(line)


def _say(line: int, message: Born | Exited) -> None:
    """Say it, if somebody listens who is not behind: the end of the line says enough."""
    writable = select.poll()
    writable.register(line, select.POLLOUT)
    if writable.poll(0):
        with contextlib.suppress(OSError):
            os.write(line, packed(message))


def _live(line: int, file: int, arena: int) -> None:
    """The whole life of a child, which never returns."""
    status = 1
    try:
        die_with_parent()
        _close_all_but(line, file, arena)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever asked is gone: so is this process
        decode(Line[ToDecoder](line, ToDecoder), file, arena)
        status = 0
    except EOFError:
        status = 0
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    """Lines and files of others; 0 to 2 are the null device."""
    below = 3
    for descriptor in sorted(kept):
        os.closerange(below, descriptor)
        below = descriptor + 1
    os.closerange(below, _DESCRIPTORS_MAX)


def _tried() -> Confinement:
    """What will be in force in each child, as one says that does nothing else."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, msgspec.json.encode(confine(ProcessLimits(memory_bytes=1 << 32, cpu_s=5))))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:  # noqa: PTH123 - a descriptor
        answer = told.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(answer, type=Confinement)


if __name__ == "__main__":
    main()
