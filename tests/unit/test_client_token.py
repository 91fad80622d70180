"""The client's token: in the header of every request, and nowhere else."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from detections.answers import ClientError
from detections.cli import app
from detections.client import AsyncClient, Client
from tests.fake_edge import FakeEdge

TOKEN = "canary.token.x-y_z"
ONLY = {f"Bearer {TOKEN}"}
REFRESH = "canary-refresh=="
ENVIRON = {"DETECTIONS_TOKEN": TOKEN, "DETECTIONS_REFRESH_TOKEN": REFRESH}


@pytest.fixture
def edge() -> Iterator[FakeEdge]:
    with FakeEdge() as edge:
        yield edge


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.ts"
    path.write_bytes(b"x" * 300_000)
    return path


def test_every_request_of_the_client_carries_it(edge: FakeEdge, clip: Path) -> None:
    with Client(edge.url, token=TOKEN, refresh_token=REFRESH) as client:
        client.health()
        client.detect(b"pixels")
        task_id = client.submit(clip).task_id
        client.task(task_id)
        client.results(task_id)
        list(client.events(task_id))

    assert edge.authorizations == ONLY
    assert edge.refresh_tokens == {REFRESH}


def test_every_request_of_the_asyncio_client_carries_it(edge: FakeEdge, clip: Path) -> None:
    async def ask() -> None:
        async with AsyncClient(edge.url, token=TOKEN, refresh_token=REFRESH) as client:
            await client.health()
            task_id = (await client.submit(clip)).task_id
            assert [event async for event in client.events(task_id)]

    asyncio.run(ask())

    assert edge.authorizations == ONLY
    assert edge.refresh_tokens == {REFRESH}


def test_without_one_nothing_is_said(edge: FakeEdge) -> None:
    with Client(edge.url) as client:
        client.health()

    assert edge.authorizations == edge.refresh_tokens == {None}


@pytest.mark.parametrize("name", ["clip.ts", "picture.png"])
@pytest.mark.parametrize("given", ["option", "environment"])
def test_the_command_line_takes_it_and_shows_it_nowhere(edge: FakeEdge, tmp_path: Path, name: str, given: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"x" * 1000)
    arguments = ["submit", str(file), "--url", edge.url]
    done = CliRunner().invoke(
        app,
        [*arguments, "--token", TOKEN, "--refresh-token", REFRESH] if given == "option" else arguments,
        env=ENVIRON if given == "environment" else {},
    )

    assert done.exit_code == 0, done.output
    assert edge.authorizations == ONLY
    assert edge.refresh_tokens == {REFRESH}
    assert "canary" not in done.output
    assert "canary" not in CliRunner().invoke(app, ["submit", "--help"], env=ENVIRON).output


@pytest.mark.parametrize("token", ["", "canary\r\nX-Evil: 1", "canary\n", "canary two", "cänary"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_fits_into_no_header_is_refused_without_showing_it(kind: type[Client | AsyncClient], token: str) -> None:
    with pytest.raises(ClientError) as caught:
        kind("http://127.0.0.1:9", token=token)
    assert "nary" not in str(caught.value)
    with pytest.raises(ClientError) as caught:
        kind("http://127.0.0.1:9", token=TOKEN, refresh_token=token)
    assert "nary" not in str(caught.value)


def test_a_refresh_token_alone_is_refused_for_it_could_refresh_nothing() -> None:
    with pytest.raises(ClientError, match="without a token"):
        Client("http://127.0.0.1:9", refresh_token=REFRESH)
