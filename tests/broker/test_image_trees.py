"""The command of each image, run where there is only what the image would hold, as its user, until a picture is looked at."""

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from detections import Client
from detections.answers import ClientError
from detections.rabbitmq import free_port
from tests.bare import Bare, folder
from tests.compose_file import COMPOSE, environ_of, read_compose
from tests.conftest import REPOSITORY
from tests.container_files import read_images
from tests.processes import wait_until

pytestmark = pytest.mark.broker

KEY = "a key that is only for tests, and long enough"
SEAL_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def root() -> Iterator[Path]:
    with folder() as path:
        yield path


SECRETS = {"edge_jwt_key": KEY, "edge_seal_keys": SEAL_KEY}


def bare(root: Path, *, image: str, service: Mapping[str, Any], amqp_url: str) -> Bare:
    """What compose.yaml would start as this service."""
    secrets = {name: SECRETS.get(name, amqp_url) for name in service["secrets"]}
    stage = read_images(REPOSITORY / service["build"]["dockerfile"])[service["build"].get("target", image)]
    root.mkdir()
    return Bare(root, stage, lock=COMPOSE / f"requirements-{image}.lock", context=REPOSITORY, secrets=secrets)


def test_what_the_images_hold_is_enough_to_look_at_a_picture(root: Path, new_host: Callable[[], str]) -> None:
    services = read_compose({"CONSUMER_CPUS": "1"})["services"]
    amqp_url, port = new_host(), free_port()
    edge = bare(root / "edge", image="edge", service=services["edge"], amqp_url=amqp_url)
    consumer = bare(root / "consumer", image="consumer-cpu", service=services["consumer-cpu"], amqp_url=amqp_url)
    share_storage(edge, consumer)
    here = {"EDGE_HOST": "127.0.0.1", "EDGE_PORT": str(port), "EDGE_METRICS_ADDRESS": f"127.0.0.1:{free_port()}"}
    edge_environ = environ_of(services["edge"]) | here
    operator = f"127.0.0.1:{free_port()}"
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
