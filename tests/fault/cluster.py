"""A cluster of three brokers of our own, any of which may be killed or restarted."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from contracts import topology
from detections import processes
from detections.rabbitmq import PrivateRabbit
from tests.fault.fleet import START_TIMEOUT_S, WAIT_S
from tests.processes import wait_until

NAMES = ("one", "two", "three")


class Member(PrivateRabbit):
    """One node, whose name service is that of the cluster."""

    def __init__(
        self, folder: Path, name: str, *, names: Sequence[str], cookie: str, name_service: PrivateRabbit | None
    ) -> None:
        """name_service: the member whose `epmd` serves all; None: its own does."""
        peers = "".join(
            f"cluster_formation.classic_config.nodes.{at} = {peer}@localhost\n"
            for at, peer in enumerate(names, start=1)
        )
        discovery = "cluster_formation.peer_discovery_backend = classic_config\n"
        super().__init__(folder / name, conf=f"{discovery}{peers}")
        self._node = f"{name}@localhost"
        kept = self.folder / "home" / ".erlang.cookie"
        kept.parent.mkdir(parents=True)
        kept.write_text(cookie)
        kept.chmod(0o400)
        if name_service is not None:
            self._epmd_port = name_service._epmd_port

    @property
    def name(self) -> str:
        return self._node

    def start_names(self) -> None:
        """The name service, for as long as the cluster lives."""
        epmd, _ = self.programs()
        self._epmd = self._guard.start(epmd)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the node speaks; the name service must be there."""
        _, server = self.programs()
        self._server = self._guard.start(server)
        self._wait_until_it_speaks(timeout_s, server.log)

    def kill_node(self) -> None:
        """At once; the name service stays."""
        self._end(in_good_order=False)

    def stop_node(self) -> None:
        """As an operator does who restarts it."""
        self._end(in_good_order=True)

    def _end(self, *, in_good_order: bool) -> None:
        server = self._server
        assert server is not None
        if in_good_order:
            processes.end([server], timeout_s=WAIT_S)
        processes.kill([server])
        self._guard.forget(server)
        self._server = None


class Cluster:
    """Three nodes; queues that are declared on it have a copy on each."""

    def __init__(self, folder: Path) -> None:
        cookie = secrets.token_hex(16)
        first, *others = NAMES
        one = Member(folder, first, names=NAMES, cookie=cookie, name_service=None)
        self.nodes = [one, *(Member(folder, name, names=NAMES, cookie=cookie, name_service=one) for name in others)]

    @property
    def url(self) -> str:
        """As an operator says it: every node, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Return when all know each other."""
        self.nodes[0].start_names()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for starting in [pool.submit(node.start) for node in self.nodes]:
                starting.result()
        wait_until(lambda: self.running() == {node.name for node in self.nodes}, timeout_s=START_TIMEOUT_S)

    def running(self) -> set[str]:
        """The names of the nodes that are up, as the first one that answers has it."""
        return {node["name"] for node in self._asked("nodes") if node["running"]}

    def leader(self, queue: str) -> Member:
        """The node that leads a quorum queue or a stream."""
        name = self._asked(f"queues/%2f/{queue}")["leader"]
        return next(node for node in self.nodes if node.name == name)

    def is_whole(self) -> bool:
        """Whether each of our queues has a living copy on every node (again)."""
        names = [queue.name for queue in topology.topology().queues]
        with contextlib.suppress(httpx.HTTPError, KeyError):
            return all(len(self._asked(f"queues/%2f/{name}")["online"]) == len(self.nodes) for name in names)
        return False

    def end(self) -> None:
        for node in reversed(self.nodes):
            node.kill()

    def _asked(self, what: str) -> Any:
        failure: httpx.HTTPError | None = None
        for node in self.nodes:
            try:
                address = f"{node.management_url}/api/{what}"
                answer = httpx.get(address, auth=("guest", "guest"), timeout=30, trust_env=False)
                return answer.raise_for_status().json()
            except httpx.HTTPError as error:
                failure = error
        raise failure or AssertionError("there are nodes")


@contextlib.contextmanager
def private_cluster(folder: Path) -> Iterator[Cluster]:
    """Running; all of it is gone when the block ends."""
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()
