"""A RabbitMQ of our own: a child process with its own node, ports, cookie and data, all on 127.0.0.1.

It never touches a broker that the machine already runs: nothing of its configuration, data folder, cookie or name service
is shared (the node gets its own `epmd`, in the foreground, so that nothing outlives us).
"""

import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections import deque
from pathlib import Path

from contracts.whole_files import create_file
from detections import processes
from detections.broker_setup import CONSUMER_TIMEOUT_MS
from detections.processes import Guard, Program

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
CTL_TIMEOUT_S = 180.0
"""For `rabbitmqctl`, which needs seconds of CPU before it begins."""
INSTALL_HINT = "apt-get install rabbitmq-server"
_SCRIPTS = Path("/usr/lib/rabbitmq/bin")  # not /usr/sbin, whose wrapper changes user and folder
_NODE = "detections@localhost"  # the same at every start, or the data would belong to another node
PORTS = range(20_000, 32_000)
_PORT_TRIES_MAX = 100
PROMISES_MAX = 500
"""Ports, and so file descriptors."""
_promises: deque[socket.socket] = deque()
_HELLO = b"AMQP\0\0\x09\x01"


class RabbitMissingError(Exception):
    """There is no rabbitmq-server on this machine; the message says how to install one."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago, and that nobody else is given who asks here.

    Below the range of outgoing connections (32768 on Linux): a server that comes back finds its port still free.
    """
    for port in random.sample(PORTS, k=_PORT_TRIES_MAX):
        if is_free(port) and _promise(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _promise(port: int) -> bool:
    """Keep others from being given a port whose server does not listen yet: several brokers may be starting, here and in
    other processes. A name of this machine's says so; it goes with this process, or after `PROMISES_MAX` more."""
    promise = socket.socket(socket.AF_UNIX)
    try:
        promise.bind(f"\0detections-port-{port}")
    except OSError:
        promise.close()
        return False
    if len(_promises) == PROMISES_MAX:
        _promises.popleft().close()
    _promises.append(promise)
    return True


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True if a server could listen there now."""
    return why_taken(port, host) is None


def why_taken(port: int, host: str = "127.0.0.1") -> OSError | None:
    """Why no server could listen there now: it is in use, or forbidden, or no address of this machine. None: one could."""
    try:
        family, *_, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            probe.bind(address)
    except OSError as error:
        return error
    return None


class PrivateRabbit:
    """One node below `folder`; the same folder started again has the same data."""

    def __init__(
        self,
        folder: Path,
        *,
        scripts: Path = _SCRIPTS,
        with_management: bool = True,
        conf: str = "",
        logs: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = free_port()
        self.management_port = free_port() if with_management else None
        self._node = _NODE
        self.metrics_port = free_port() if with_management else None
        self._scripts = scripts
        self._extra_conf = conf
        self._logs = (logs or self.folder / "log").absolute()
        self._guard = Guard()
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def management_url(self) -> str | None:
        """Of the management UI and its HTTP interface, user and password `guest`."""
        return f"http://127.0.0.1:{self.management_port}" if self.management_port else None

    @property
    def metrics_url(self) -> str | None:
        """Of the node's metrics in Prometheus's format; those of each queue are at `/metrics/detailed`."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics" if self.metrics_port else None

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    def programs(self) -> tuple[Program, Program]:
        """The name service and the node, in the order in which they start; their files are written.

        Raises `RabbitMissingError` if none is installed.
        """
        epmd = shutil.which("epmd")
        if epmd is None or not (self._scripts / "rabbitmq-server").exists():
            raise RabbitMissingError(f"no RabbitMQ on this machine; install one: {INSTALL_HINT}")
        self._write_files()
        return (
            self._program("epmd", [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]),
            self._program("broker", [str(self._scripts / "rabbitmq-server")]),
        )

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the node speaks AMQP.

        Raises `RabbitMissingError` if none is installed, `TimeoutError` if it does not speak in time, `RuntimeError` with
        the end of its output if it exits.
        """
        epmd, server = self.programs()
        try:
            self._epmd = self._guard.start(epmd)
            self._server = self._guard.start(server)
            self._wait_until_it_speaks(timeout_s, server.log)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the node in good order; after `STOP_TIMEOUT_S` it is killed."""
        if self._server is not None:
            processes.end([self._server], timeout_s=STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End everything at once, as a crash would; the data stays."""
        for process in (self._server, self._epmd):
            if process is not None:
                processes.kill([process])
                self._guard.forget(process)
        self._server = self._epmd = None
        self._guard.close()

    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def ctl(self, *arguments: str) -> str:
        """The output of `rabbitmqctl ARGUMENTS`. Raises `subprocess.CalledProcessError`."""
        command = [str(self._scripts / "rabbitmqctl"), "-n", self._node, *arguments]
        done = subprocess.run(  # noqa: S603 - our own script and arguments
            command,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=CTL_TIMEOUT_S,
            check=True,
            cwd=self.folder,
        )
        return done.stdout

    def speaks(self) -> bool:
        """True when the node answers AMQP."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
                connection.settimeout(2)
                connection.sendall(_HELLO)
                return bool(connection.recv(4))
        except OSError:
            return False

    def _program(self, name: str, command: list[str]) -> Program:
        return Program(
            name=name,
            command=command,
            environ=self._environment(),
            log=self._logs / f"{name}-output.log",
            folder=self.folder,
        )

    def _wait_until_it_speaks(self, timeout_s: float, output: Path) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.is_running():
                raise RuntimeError(f"RabbitMQ did not start: {processes.last_lines(output)}")
            if self.speaks():
                return
            time.sleep(0.05)
        raise TimeoutError(f"RabbitMQ did not answer on 127.0.0.1:{self.port} within {timeout_s:.0f} s")

    def _write_files(self) -> None:
        for folder in (self.folder / "home", self.folder / "mnesia", self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        create_file(self.folder / "home" / ".erlang.cookie", secrets.token_hex(16).encode(), mode=0o400)
        plugins = "[rabbitmq_management,rabbitmq_prometheus]." if self.management_port else "[]."
        (self.folder / "enabled_plugins").write_text(plugins + "\n")
        (self.folder / "env.conf").write_text("")  # empty: else the machine's own rabbitmq-env.conf is read
        (self.folder / "rabbitmq.conf").write_text(self._conf())

    def _conf(self) -> str:
        management = (
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {self.metrics_port}\n"
        )
        return (
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"{management if self.management_port else ''}"
            "log.console = false\n"
            f"log.file = {self._logs}/broker.log\n"
            "log.file.level = info\n"
            f"log.file.rotation.size = {processes.LOG_BYTES_MAX}\n"
            "log.file.rotation.count = 1\n"
            f"consumer_timeout = {CONSUMER_TIMEOUT_MS}\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 100MB\n"
            f"{self._extra_conf}"
        )

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self.folder / "home"),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_MNESIA_DIR": str(self.folder / "mnesia" / "node"),
            "RABBITMQ_LOG_BASE": str(self._logs),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SCHEMA_DIR": str(self.folder / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # without it the distribution port listens on every address
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
