"""Everything on one machine: a broker of our own (unless `AMQP_URL` names one), an edge and consumers, supervised.

The command line, the demo and the tests all start the system with this.
"""

import errno
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from contracts.allocator import HUGE_PAGES
from contracts.failures import FailureCode
from contracts.storage import read_record
from contracts.whole_files import replace_file
from detections.answers import ClientError, ServiceError
from detections.client import Client
from detections.local_broker import BrokerUrls, private_broker, urls_of
from detections.processes import Guard, Program
from detections.rabbitmq import PrivateRabbit, RabbitMissingError, free_port, why_taken
from detections.stack_lock import StackError, locked
from detections.supervision import Say, Supervisor
from edge.disk import PRIVATE

if TYPE_CHECKING:
    from engine.sources import ModelSource

START_TIMEOUT_S = 180.0
"""For the broker (5 to 8 s alone, ten times that on a busy machine), the edge and the first heartbeat of every consumer."""
STOP_TIMEOUT_S = 30.0
"""For the edge and the consumers together, and for the broker after them; then they are killed."""
CONSUMERS_MAX = 64
RUNNING = "stack.json"
FAKE = "fake"
"""As `ANNOTATIONS_URL`: the double."""
_POLL_S = 0.05
_SOURCE = Path(__file__).resolve().parent.parent


class RunningStack(msgspec.Struct, frozen=True, kw_only=True):
    """`stack.json` in the storage folder of a stack that runs: how other commands find it."""

    url: str
    amqp_url: str
    management_url: str | None = None
    """Of a broker that is ours."""
    metrics_urls: dict[str, str] = {}
    """Where each process shows its metrics: `edge`, `consumer-1`, ..."""


def amqp_url_of(storage: Path) -> str | None:
    """Of the broker that the stack on a folder uses, None if none was started there."""
    stack = read_record(storage / RUNNING, RunningStack)
    return None if stack is None else stack.amqp_url


class LocalStack:
    """The whole system below one storage folder. As a context manager it is ready inside and gone afterwards.

    What it starts ends with it, whatever ends it: normally in good order, on a second interrupt at once, and after a
    SIGKILL by its guard.
    """

    def __init__(
        self,
        storage: Path,
        *,
        model: "ModelSource | None" = None,
        port: int = 0,
        consumers: int = 1,
        environ: Mapping[str, str] | None = None,
        say: Say | None = None,
    ) -> None:
        """model: None leaves the choice to the consumer. port: 0 takes a free one. environ: over the process's own;
        with `ANNOTATIONS_URL` = `fake` a double of the Annotations service is started too.

        Raises `ValueError` for a number of consumers outside 0..`CONSUMERS_MAX`.
        """
        if not 0 <= consumers <= CONSUMERS_MAX:
            raise ValueError(f"consumers: {consumers}, allowed: 0..{CONSUMERS_MAX}")
        self.storage = storage.absolute()
        self.logs = self.storage / "logs"
        self.consumers = consumers
        self._environ = {**os.environ, **(environ or {})}
        self._model = model
        self._port = port
        self._annotations_port = 0 if self._environ.get("ANNOTATIONS_URL") == FAKE else None
        self._say = say or _say_on_stderr
        self._rabbit: PrivateRabbit | None = None
        self._amqp: BrokerUrls | None = None
        self._supervisor: Supervisor | None = None
        self._guard: Guard | None = None
        self._lock: int | None = None
        self._metrics_ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Of the edge."""
        host = self._host if self._host not in ("", "0.0.0.0", "::") else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def amqp_url(self) -> str:
        """Of the broker in use, for its operator; empty before a private one is started."""
        return self._amqp.operator if self._amqp else self._environ.get("AMQP_URL", "")

    @property
    def management_url(self) -> str | None:
        """Of the private broker's management UI, None if the broker is not ours."""
        return self._rabbit.management_url if self._rabbit else None

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Of the metrics of `edge` and each `consumer-<n>`; empty before they are started."""
        return {name: f"http://127.0.0.1:{port}/metrics" for name, port in self._metrics_ports.items()}

    @property
    def annotations_url(self) -> str | None:
        """Of the double of the Annotations service, None without one."""
        return None if self._annotations_port is None else f"http://127.0.0.1:{self._annotations_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the edge is ready and every consumer was seen.

        Raises `StackError`, and then nothing of it runs any more.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            self._start(deadline_s)
        except RabbitMissingError as error:
            self.kill()
            raise StackError(str(error)) from error
        except BaseException:  # an interrupt, too, leaves nothing behind
            self.kill()
            raise

    def stop(self) -> None:
        """End everything in good order. An exception that arrives meanwhile (a second Ctrl-C) ends it at once."""
        try:
            if self._supervisor is not None:
                self._supervisor.stop(timeout_s=STOP_TIMEOUT_S, last=("broker", "epmd"))
        finally:
            self.kill()

    def kill(self) -> None:
        """End everything at once, as a crash would."""
        if self._lock is not None:
            (self.storage / RUNNING).unlink(missing_ok=True)
        supervisor, guard, lock = self._supervisor, self._guard, self._lock
        self._supervisor = self._guard = self._rabbit = self._amqp = self._lock = None
        if supervisor is not None:
            supervisor.kill()
        if guard is not None:
            guard.close()
        if lock is not None:
            os.close(lock)

    def pids(self, name: str) -> list[int]:
        """Process ids of `broker`, `epmd`, `edge` or `consumer-<n>` (from 1) that run now."""
        return self._supervisor.pids(name) if self._supervisor else []

    def failure(self) -> str | None:
        """Why the stack cannot go on: somebody died too often. None while all is well."""
        death = self._supervisor.given_up() if self._supervisor else None
        return None if death is None else str(death)

    @property
    def _host(self) -> str:
        return self._environ.get("EDGE_HOST", "127.0.0.1")

    def _start(self, deadline_s: float) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.storage / ".stack.lock")
        self._take_port()
        self._guard = Guard(lock=self._lock)
        supervisor = self._supervisor = Supervisor(self._guard, self._say)
        if "AMQP_URL" in self._environ:
            self._amqp = urls_of(self._environ)
        else:
            self._rabbit, self._amqp = private_broker(self.storage / "rabbitmq", logs=self.logs)
        for program in self._rabbit.programs() if self._rabbit else ():
            supervisor.start(program)  # the others wait for it by themselves
        self._metrics_ports = {name: free_port() for name, _ in self._services()}
        running = RunningStack(
            url=self.url,
            amqp_url=self.amqp_url,
            management_url=self.management_url,
            metrics_urls=self.metrics_urls,
        )
        # nobody else may read it at any time: the broker's password is in it
        replace_file(self.storage / RUNNING, msgspec.json.encode(running), mode=PRIVATE)
        if self._model is not None:  # said now, so it goes before what was chosen earlier
            models = Path(self._environ.get("MODELS_DIR") or self.storage / "models")
            (models / "active.json").unlink(missing_ok=True)
        if self._annotations_port is not None:
            supervisor.start(self._annotations_double(self._annotations_port))
        for name, module in self._services():
            supervisor.start(self._program(name, module, self._amqp))
        self._wait_until_ready(supervisor, deadline_s)
        supervisor.watch()

    def _take_port(self) -> None:
        if self._port == 0:
            self._port = free_port()
        elif (error := why_taken(self._port, self._host)) is not None:
            if error.errno == errno.EADDRINUSE:
                raise StackError(f"port {self._port} is in use; name another one with --port")
            raise StackError(f"nobody can listen on port {self._port} of {self._host}: {error.strerror}")
        if self._annotations_port == 0:
            self._annotations_port = free_port()

    def _services(self) -> list[tuple[str, str]]:
        return [("edge", "edge"), *((f"consumer-{number}", "consumers") for number in range(1, self.consumers + 1))]

    def _annotations_double(self, port: int) -> Program:
        folder = self.storage / "annotations-double"
        module = "detections.annotations_double"
        command = (sys.executable, "-P", "-m", module, "--port", str(port), "--folder", str(folder))
        own = _without_others_settings(self._environ, module)
        environ = {**own, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(_SOURCE)}
        return Program(name="annotations", command=command, environ=environ, log=self.logs / "annotations.log")

    def _program(self, name: str, module: str, amqp: BrokerUrls) -> Program:
        environ = {
            **_without_others_settings(self._environ, module),
            "AMQP_URL": amqp.edge if module == "edge" else amqp.consumer,
            "STORAGE_DIR": str(self.storage),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(_SOURCE),  # the children run the code that we run, wherever we were started
        }
        address = f"127.0.0.1:{self._metrics_ports.get(name, 0)}"  # 0 takes a free one
        if module == "edge":
            environ |= {"EDGE_HOST": self._host, "EDGE_PORT": str(self._port), "EDGE_METRICS_ADDRESS": address}
        else:
            environ = HUGE_PAGES | environ | {"CONSUMER_METRICS_ADDRESS": address}
        if self.annotations_url is not None:
            environ["ANNOTATIONS_URL"] = self.annotations_url
        if self._model is not None:
            environ["CONSUMER_MODEL"] = str(self._model.absolute() if isinstance(self._model, Path) else self._model)
        command = (sys.executable, "-P", "-m", module)
        return Program(name=name, command=command, environ=environ, log=self.logs / f"{name}.log")

    def _wait_until_ready(self, supervisor: Supervisor, deadline_s: float) -> None:
        with Client(self.url) as client:
            while (missing := self._missing(client)) is not None:
                _raise_for_death(supervisor)
                if time.monotonic() > deadline_s:
                    raise StackError(f"not ready in time: {missing}; logs are in {self.logs}")
                time.sleep(_POLL_S)

    def _missing(self, client: Client) -> str | None:
        """What is still waited for, None if nothing."""
        try:
            client.check_ready()
            seen = len(client.health().consumers)
        except ServiceError as error:
            is_all_else_there = error.code == FailureCode.ENGINE_UNAVAILABLE  # the edge asks for a consumer last
            return None if self.consumers == 0 and is_all_else_there else str(error)
        except ClientError as error:
            return str(error)
        return None if seen >= self.consumers else f"{seen} of {self.consumers} consumers were seen"


def _without_others_settings(environ: Mapping[str, str], module: str) -> dict[str, str]:
    """The environment without the edge's own settings for what is no edge: a consumer opens untrusted media, and no tokens.

    And without the brokers of both, which they are told of as `AMQP_URL`.
    """
    others = ("EDGE_AMQP_URL" if module == "edge" else "EDGE_", "CONSUMER_AMQP_URL")
    return {name: value for name, value in environ.items() if not name.startswith(others)}


def _raise_for_death(supervisor: Supervisor) -> None:
    death = supervisor.first_death()
    if death is not None:
        raise StackError(death.with_last_lines())


def _say_on_stderr(text: str) -> None:
    print(f"detections: {text}", file=sys.stderr, flush=True)
