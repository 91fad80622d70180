"""A whole system that asks who calls, and the search for every token that went through it: in nothing that was written.

The search covers the storage, the broker's data folder and the logs (all at level debug), and what was answered over HTTP;
that it finds what is there is shown with texts that are planted in each of these places.
"""

import asyncio
import base64
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import msgspec
import pytest
from cryptography.fernet import Fernet

from contracts import topology
from contracts.storage import Layout, read_record
from detections import Client
from detections.annotations_double import KEY
from detections.answers import ServiceError
from detections.local import LocalStack
from edge.posts import Cursor
from tests.annotations import AnnotationsProcess
from tests.media import write_image, write_video
from tests.processes import wait_until
from tests.searching import found_in
from tests.signing import assembled, claims

pytestmark = pytest.mark.e2e

ADA, BOB = (f"{name}-{secrets.token_hex(6)}" for name in ("ada", "bob"))
SEAL_KEYS = f"{Fernet.generate_key().decode()},{Fernet.generate_key().decode()}"
WAIT_S = 60.0


class System:
    """The stack, the service it tells, and every secret and every answer of the tests so far."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.annotations = AnnotationsProcess(folder.with_name("annotations"))
        self.stack = LocalStack(folder / "storage", model=model, environ=self._environ())
        self.secrets = {"the JWT key": KEY}
        self.secrets |= {f"seal key {number}": key for number, key in enumerate(SEAL_KEYS.split(","))}

    def _environ(self) -> dict[str, str]:
        return {
            "ANNOTATIONS_URL": self.annotations.url,
            "EDGE_AUTH": "jwt",
            "EDGE_JWT_KEY": KEY,
            "EDGE_SEAL_KEYS": SEAL_KEYS,
            "EDGE_POST_DELAYS_S": "0.2 0.5",
            "EDGE_LOG_LEVEL": "debug",
            "CONSUMER_LOG_LEVEL": "debug",
        }

    def headers(self, user_id: str) -> dict[str, str]:
        """What a client of this user sends, with a new token; noted as a secret."""
        headers = self.annotations.headers(user_id)
        self.note(f"a token of {user_id[:3]}", headers["Authorization"].rpartition(".")[2])
        self.note(f"the refresh token of {user_id[:3]}", headers["X-Refresh-Token"])
        return headers

    def note(self, name: str, secret: str) -> None:
        self.secrets[f"{name} ({len(self.secrets)})"] = secret

    def ask(self, method: str, path: str, *, headers: dict[str, str], **content: Any) -> httpx.Response:
        """A request whose answer is written down, to be searched too."""
        with httpx.Client(base_url=self.stack.url, timeout=WAIT_S, trust_env=False) as client:
            answer = client.request(method, path, headers=headers, **content)
        self.write_down(f"{answer.status_code} {answer.headers}\n".encode() + answer.content)
        return answer

    def write_down(self, text: bytes) -> None:
        with (self.folder / "answers").open("ab") as file:
            file.write(text + b"\n")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, scripted_model: Path) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("secret") / "all", scripted_model)
    made.folder.mkdir()
    made.annotations.start()
    made.stack.start()
    yield made
    made.stack.kill()
    made.annotations.kill()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("media") / "clip.mp4", frames=30)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("media") / "picture.png")


def send_video(system: System, clip: Path, headers: dict[str, str], name: str = "clip.mp4") -> dict[str, Any]:
    """A video whose every frame is reported; returns the answer."""
    every = {"X-Config": '{"frame_period_recognition": 4, "frame_recognition_seconds": 0}'}
    asks = headers | every | {"X-Filename": name}
    answer = system.ask("POST", "/detect/video", headers=asks, content=clip.read_bytes() + secrets.token_bytes(9))
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_nft_sec_03_the_service_sees_the_identical_authorization(system: System, clip: Path) -> None:
    headers = system.headers(ADA)
    media_id = send_video(system, clip, headers)["mediaId"]
    system.annotations.wait_for_end(media_id)

    assert len(system.annotations.annotations(media_id)) >= 3
    assert set(system.annotations.seen()["authorizations"]) == {headers["Authorization"]}


def test_two_users_of_one_system_see_nothing_of_each_other(system: System, clip: Path) -> None:
    ada, bob = (system.headers(user_id) for user_id in (ADA, BOB))
    task_id = send_video(system, clip, ada)["taskId"]
    mine, theirs = (
        Client(system.stack.url, token=headers["Authorization"].removeprefix("Bearer ")) for headers in (ada, bob)
    )
    with mine, theirs:
        events = list(mine.events(task_id))
        assert [event.media_status.value for event in events][-1] == "AIProcessed"
        assert mine.task(task_id).task_id == task_id
        for ask in (theirs.task, theirs.results, theirs.cancel, lambda task_id: list(theirs.events(task_id))):
            with pytest.raises(ServiceError) as caught:
                ask(task_id)
            assert caught.value.status == 404


def stream_with_ticket(system: System, headers: dict[str, str]) -> int:
    """What a browser does: a ticket for a token, and an address with the ticket; returns the status."""
    with httpx.Client(base_url=system.stack.url, timeout=WAIT_S, trust_env=False) as client:
        ticket = client.post("/detect/stream/ticket", headers=headers).json()["ticket"]
        system.note("a used ticket", ticket)
        with client.stream("GET", f"/detect/stream?ticket={ticket}") as answer:
            system.write_down(next(answer.iter_bytes()))
            return answer.status_code


def refused(system: System, path: str, headers: dict[str, str]) -> int:
    return system.ask("GET", path, headers=headers).status_code


def make_traffic(system: System, clip: Path, picture: Path) -> None:
    """Tokens on every way that they can take: good, refreshed, rejected, forged, misplaced."""
    ada = system.headers(ADA)
    form = {"file": ("picture.png", picture.read_bytes())}
    assert system.ask("POST", "/detect", headers=ada, files=form).status_code == 200
    later = ada | {"Prefer": "respond-async", "Idempotency-Key": "key"}
    assert [system.ask("POST", "/detect", headers=later, files=form).status_code for _ in range(2)] == [202, 202]
    assert stream_with_ticket(system, ada) == 200
    system.ask("POST", "/detect/video", headers=ada | {"X-Filename": "no video.mp4"}, content=b"x" * 99)
    system.annotations.fault(token_life_s=30)
    refreshed = send_video(system, clip, system.headers(BOB))
    system.annotations.wait_for_end(refreshed["mediaId"])
    for mode, has_come in (("401", is_put_off), ("400", is_given_up)):
        system.annotations.fault(mode=mode)
        sent = send_video(system, clip, ada)
        system.write_down(msgspec.json.encode(sent))
        wait_until(partial(has_come, system, sent["taskId"]))
    system.annotations.fault()
    forged = assembled({"alg": "HS256"}, claims(ADA), key=b"another key")
    system.note("a forged token", forged.rpartition(".")[2])
    misplaced = f"/tasks/{secrets.token_hex(4)}?access_token={forged}"
    assert refused(system, misplaced, {"Authorization": f"Bearer {forged}"}) == 401
    assert refused(system, misplaced, {"Authorization": f"Basic {forged}"}) == 401
    assert refused(system, misplaced, {"Authorization": f"Bearer {forged} {forged}", "X-Refresh-Token": forged}) == 401
    assert system.ask("DELETE", f"/tasks/{refreshed['taskId']}", headers=system.headers(BOB)).status_code == 409


def is_put_off(system: System, task_id: str) -> bool:
    """Whether a post was rejected, its token renewed in vain, and it is tried again later."""
    told = told_of(system, task_id)
    return told is not None and told.trouble is not None


def is_given_up(system: System, task_id: str) -> bool:
    """Whether a post has become a dead letter."""
    told = told_of(system, task_id)
    return told is not None and told.dead > 0


def told_of(system: System, task_id: str) -> Cursor | None:
    return read_record(Layout(system.stack.storage).posted(task_id), Cursor)


async def plant_in_broker(amqp_url: str, text: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in (topology.DEAD_LETTERS, topology.EVENTS_LOG):
            message = aio_pika.Message(f"<{text}>".encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, queue)


def test_no_token_is_in_anything_that_was_written(system: System, clip: Path, picture: Path) -> None:
    make_traffic(system, clip, picture)
    layout = Layout(system.stack.storage)
    assert list(layout.tasks.glob("*/credentials")), "no tokens are kept: nothing was tried"
    assert list(layout.sessions.glob("*.sealed")), "no token was refreshed: nothing was tried"
    assert list(layout.tickets.iterdir())
    planted = f"planted-{secrets.token_hex(16)}"
    (system.stack.storage / "uploads" / "planted").write_bytes(
        b"." * 2_000_000 + base64.b64encode(f"1{planted}".encode())
    )
    asyncio.run(plant_in_broker(system.stack.amqp_url, planted))
    assert refused(system, f"/tasks/{planted}", {}) == 401
    system.stack.kill()

    found = found_in(system.folder, system.secrets | {"the planted text": planted})

    places = {place.rpartition(" in ")[2] for place in found if place.startswith("the planted text")}
    assert {"storage/uploads/planted", "storage/logs/edge.log", "answers"} <= places
    assert len([place for place in places if place.startswith("storage/rabbitmq/")]) >= 2, "a queue and the log"
    assert [place for place in found if not place.startswith("the planted text")] == []
