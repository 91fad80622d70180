"""Edges, consumers and a broker as processes that a test kills, stops and starts again, each by its pid."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import httpx

from detections.processes import Guard, Program
from detections.rabbitmq import PrivateRabbit, free_port
from tests.conftest import REPOSITORY
from tests.processes import wait_until

WAIT_S = 90.0
"""How long a process may take for anything on a busy machine."""


START_TIMEOUT_S = 240.0
"""For a broker on a machine that runs everything at once."""


class Actor:
    """One process of ours over its lives."""

    def __init__(self, guard: Guard, program: Program, *, ready: str) -> None:
        self.name = program.name
        self._guard = guard
        self._program = program
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0
        self.lives = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def is_working(self) -> bool:
        """Whether it runs and is not stopped by a signal."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return self.is_running and state != "T"
        return False

    @property
    def output(self) -> str:
        """What it has said in this life."""
        with contextlib.suppress(FileNotFoundError), self._program.log.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")
        return ""

    def start(self, **environ: str) -> None:
        """Begin another life. environ: of this life alone."""
        assert not self.is_running
        log = self._program.log
        self._log_begins = log.stat().st_size if log.exists() else 0
        program = Program(
            name=self.name,
            command=self._program.command,
            environ={**self._program.environ, **environ},
            log=log,
            folder=REPOSITORY,
        )
        self._process = self._guard.start(program)
        self.lives += 1

    def wait_until_ready(self) -> None:
        """Raises `AssertionError` with what it said if it dies instead."""
        wait_until(lambda: self._ready in self.output or not self.is_running, timeout_s=WAIT_S)
        assert self.is_running, self.output

    def wait_until_dead(self) -> int:
        """Return its exit code, -9 for a kill."""
        assert self._process is not None
        code = self._process.wait(WAIT_S)
        self._guard.forget(self._process)
        return code

    def kill(self) -> None:
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_until_dead()

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: it is there, holds what it holds, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


_Actor = TypeVar("_Actor", bound=Actor)


class EdgeActor(Actor):
    """An edge, at its own port over all its lives."""

    def __init__(self, guard: Guard, program: Program, *, port: int) -> None:
        super().__init__(guard, program, ready="edge listens")
        self.url = f"http://127.0.0.1:{port}"

    def is_serving(self) -> bool:
        """Whether it would take a video now: it hears a consumer and has a broker."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=10, trust_env=False).is_success
        except httpx.TransportError:
            return False


class Fleet:
    """Edges and consumers on one storage and one broker; all of them are gone when the block ends."""

    def __init__(self, storage: Path, *, amqp_url: str, model: Path, **environ: str) -> None:
        """environ: of every process, over its own."""
        self.storage = storage
        self._logs = storage / "logs"
        self._guard = Guard()
        self._environ = {
            **os.environ,
            "AMQP_URL": amqp_url,
            "STORAGE_DIR": str(storage),
            "CONSUMER_MODEL": str(model),
            "CONSUMER_WORKERS": "1",
            "PYTHONUNBUFFERED": "1",
            **environ,
        }
        self._actors: list[Actor] = []
        self.edge = self._edge("edge")

    @property
    def url(self) -> str:
        """Of the first edge."""
        return self.edge.url

    def another_edge(self) -> EdgeActor:
        """One more, not started yet."""
        return self._edge(f"edge-{len(self._actors)}")

    def consumer(self) -> Actor:
        """One more, not started yet."""
        name = f"consumer-{len(self._actors)}"
        return self._known(Actor(self._guard, self._program(name, "consumers"), ready='"ready"'))

    def is_ready(self) -> bool:
        """Whether each edge that runs would take a video now."""
        return all(edge.is_serving() for edge in self._actors if isinstance(edge, EdgeActor) and edge.is_running)

    def wait_until_ready(self) -> None:
        for actor in self._actors:
            if actor.is_running:
                actor.wait_until_ready()
        wait_until(self.is_ready, timeout_s=WAIT_S)

    def end(self) -> None:
        for actor in self._actors:
            if actor.is_running:
                with contextlib.suppress(ProcessLookupError):
                    actor.wake()
                actor.kill()
        self._guard.close()

    def _edge(self, name: str) -> EdgeActor:
        port = free_port()
        return self._known(EdgeActor(self._guard, self._program(name, "edge", EDGE_PORT=str(port)), port=port))

    def _known(self, actor: _Actor) -> _Actor:
        self._actors.append(actor)
        return actor

    def _program(self, name: str, module: str, **environ: str) -> Program:
        return Program(
            name=name,
            command=(sys.executable, "-P", "-m", module),
            environ={**self._environ, "PYTHONPATH": str(REPOSITORY), **environ},
            log=self._logs / f"{name}.log",
        )


@contextlib.contextmanager
def fleet(storage: Path, *, amqp_url: str, model: Path, **environ: str) -> Iterator[Fleet]:
    built = Fleet(storage, amqp_url=amqp_url, model=model, **environ)
    try:
        yield built
    finally:
        built.end()


class BrokerHandle:
    """A broker of a test's own, so that it may be killed."""

    NODE_AGE_S = 12.0
    """RabbitMQ loses quorum queues that are younger when it is killed; it is a fault of the broker, not under test."""

    def __init__(self, node: PrivateRabbit) -> None:
        self.node = node
        self.url = node.url
        self._started_s = 0.0

    def start(self) -> None:
        self.node.start(timeout_s=START_TIMEOUT_S)
        self._started_s = time.monotonic()

    def settle(self) -> None:
        """Wait until its queues are old enough to survive a kill; call it once they are declared."""
        time.sleep(max(0.0, self._started_s + self.NODE_AGE_S - time.monotonic()))

    def kill(self) -> None:
        self.node.kill()

    def freeze(self) -> None:
        """SIGSTOP to the node and its helpers: it holds its connections and says nothing."""
        assert self.node.pid is not None
        os.killpg(self.node.pid, signal.SIGSTOP)

    def wake(self) -> None:
        assert self.node.pid is not None
        os.killpg(self.node.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """The broker has used all the memory it may: it stops reading from whoever publishes."""
        self.node.ctl("set_vm_memory_high_watermark", "0.00001")
        try:
            yield
        finally:
            self.node.ctl("set_vm_memory_high_watermark", "absolute", "512MB")


@contextlib.contextmanager
def private_broker(folder: Path) -> Iterator[BrokerHandle]:
    """A running broker that ends with the block, whatever was done to it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = BrokerHandle(PrivateRabbit(folder))
    handle.start()
    try:
        yield handle
    finally:
        if handle.node.is_running():
            handle.wake()
        handle.kill()
