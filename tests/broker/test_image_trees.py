"""compose.yaml without containers: its broker, and the command of each image where there is only what the image would hold."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from detections import Client
from detections.answers import ClientError
from detections.rabbitmq import PrivateRabbit, free_port
from tests.bare import Bare, folder
from tests.compose_file import COMPOSE, environ_of, read_compose
from tests.conftest import REPOSITORY
from tests.container_files import read_images
from tests.processes import wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="make-secrets.sh needs openssl"),
]

SET_HERE = ("listeners.", "management.", "prometheus.", "log.", "consumer_timeout", "vm_memory", "disk_free")
"""What of rabbitmq.conf the launcher of the tests sets for a broker of its own."""


@pytest.fixture
def root() -> Iterator[Path]:
    with folder() as path:
        yield path


@pytest.fixture
def secrets(root: Path) -> dict[str, str]:
    """Every secret, as `make-secrets.sh` makes them in a copy of `compose`."""
    for name in ("make-secrets.sh", "definitions.json"):
        (root / "compose").mkdir(exist_ok=True)
        shutil.copyfile(COMPOSE / name, root / "compose" / name)
    subprocess.run(["sh", root / "compose" / "make-secrets.sh"], check=True, timeout=60)
    return {path.name: path.read_text().strip() for path in (root / "compose" / "secrets").iterdir()}


@pytest.fixture
def broker(root: Path, secrets: dict[str, str]) -> Iterator[str]:
    """Where a broker of our configuration is, with the users that were made and no other: `host:port`."""
    definitions = str(root / "compose" / "secrets" / "definitions.json")
    assert secrets["definitions.json"]
    lines = (COMPOSE / "rabbitmq" / "rabbitmq.conf").read_text().splitlines()
    ours = [line for line in lines if line and not line.startswith(("#", *SET_HERE))]
    conf = "\n".join(ours).replace("/etc/rabbitmq/definitions.json", definitions) + "\n"
    node = PrivateRabbit(root / "rabbitmq", conf=conf)
    try:
        node.start()
        yield f"127.0.0.1:{node.port}"
    finally:
        node.kill()


def bare(root: Path, *, image: str, service: Mapping[str, Any], secrets: Mapping[str, str]) -> Bare:
    """What compose.yaml would start as this service."""
    mounted = {name: secrets[name] for name in service["secrets"]}
    stage = read_images(REPOSITORY / service["build"]["dockerfile"])[service["build"].get("target", image)]
    root.mkdir()
    return Bare(root, stage, lock=COMPOSE / f"requirements-{image}.lock", context=REPOSITORY, secrets=mounted)


def test_what_the_images_hold_is_enough_to_look_at_a_picture(root: Path, broker: str, secrets: dict[str, str]) -> None:
    services = read_compose({"CONSUMER_CPUS": "1"})["services"]
    here = {name: secret.replace("@rabbitmq:5672", f"@{broker}") for name, secret in secrets.items()}
    edge = bare(root / "edge", image="edge", service=services["edge"], secrets=here)
    consumer = bare(root / "consumer", image="consumer-cpu", service=services["consumer-cpu"], secrets=here)
    share_storage(edge, consumer)
    port, metrics, operator = free_port(), f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    at = {"EDGE_HOST": "127.0.0.1", "EDGE_PORT": str(port), "EDGE_METRICS_ADDRESS": metrics}
    edge_environ = environ_of(services["edge"]) | at
    consumer_environ = environ_of(services["consumer-cpu"]) | {"CONSUMER_METRICS_ADDRESS": operator}
    with (
        consumer.running(consumer_environ, log=root / "consumer.log") as looking,
        edge.running(edge_environ, log=root / "edge.log") as listening,
        Client(f"http://127.0.0.1:{port}", token=token_of(edge, edge_environ)) as client,
    ):
        wait_until(lambda: is_ready(client, root, (looking.poll(), listening.poll())))

        assert client.detect(picture(), name="grey.png") == []
        assert edge.run(edge.image.health_check, edge_environ).returncode == 0
        assert consumer.run(consumer.image.health_check, consumer_environ).returncode == 0
        assert httpx.get(f"http://{operator}/health/ready", timeout=60).status_code == 200
        assert "detections_" in httpx.get(f"http://{metrics}/metrics", timeout=60).text

        for process in (listening, looking):
            process.send_signal(signal.SIGTERM)
        assert [listening.wait(60), looking.wait(60)] == [0, 0]

    assert edge.changes == []
    assert consumer.changes == []
    for each, environ in ((edge, edge_environ), (consumer, consumer_environ)):
        assert each.run(each.image.health_check, environ).returncode != 0


def token_of(edge: Bare, environ: Mapping[str, str]) -> str:
    """What the command in the documentation prints."""
    section = (REPOSITORY / "docs" / "deployment.md").read_text().partition("<!-- token:")[2]
    code = section.partition("python -c '")[2].partition("'\n```")[0]
    done = edge.run(("python", "-c", code), environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def share_storage(edge: Bare, consumer: Bare) -> None:
    """One volume, as in compose.yaml."""
    storage = consumer.root / "storage"
    consumer.root.chmod(0o755)
    storage.rmdir()
    storage.symlink_to(edge.root / "storage")
    consumer.root.chmod(0o555)


def is_ready(client: Client, root: Path, ended: tuple[int | None, int | None]) -> bool:
    logs = [(root / name).read_text(errors="replace") for name in ("consumer.log", "edge.log")]
    assert ended == (None, None), "\n".join(log[-2000:] for log in logs)
    try:
        client.check_ready()
    except ClientError:
        return False
    return True


def picture() -> bytes:
    done, encoded = cv2.imencode(".png", np.full((64, 96, 3), 90, np.uint8))
    assert done
    return encoded.tobytes()
