"""What is answered at the port for operators, without the port."""

import asyncio
import os
import socket
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers import settings as consumer
from contracts.operator_port import CONNECTIONS_MAX, HEAD_BYTES_MAX, Address, Page, _Visitors, address_of, operator_port
from contracts.settings import ConfigurationError
from edge import settings as edge
from tests.conftest import REPOSITORY


class Writer:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


async def shown() -> Page:
    return Page(body=b"x 1\n", content_type="text/plain; version=0.0.4")


async def broken() -> Page:
    return Page(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"no broker\n")


WAIT_S = 30.0
PAGES = {"/metrics": shown, "/health/ready": broken}


async def answer_to(request: bytes, *, visitors: _Visitors | None = None) -> Writer:
    reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
    reader.feed_data(request)
    reader.feed_eof()
    writer: Any = Writer()
    await (visitors or _Visitors(PAGES)).answer(reader, writer)
    return writer


async def test_a_page_is_answered_and_the_connection_ends() -> None:
    answer = await answer_to(b"GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\n\r\n")

    head, _, body = answer.written.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"content-type: text/plain; version=0.0.4",
        b"content-length: 4",
        b"connection: close",
    ]
    assert body == b"x 1\n"
    assert answer.is_closed


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /health/ready HTTP/1.1", b"503 Service Unavailable"),
        (b"GET / HTTP/1.1", b"404 Not Found"),
        (b"GET /tasks HTTP/1.1", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1", b"405 Method Not Allowed"),
        (b"\xff\x00", b"404 Not Found"),
    ],
)
async def test_everything_else_is_refused(request_line: bytes, status: bytes) -> None:
    answer = await answer_to(request_line + b"\r\n\r\n")

    assert answer.written.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("request_", [b"", b"GET /metrics HTTP/1.1\r\n", b"x" * (HEAD_BYTES_MAX * 3)])
async def test_who_sends_no_whole_head_is_told_nothing(request_: bytes) -> None:
    answer = await answer_to(request_)

    assert (answer.written, answer.is_closed) == (b"", True)


async def test_of_too_many_visitors_the_last_are_sent_away() -> None:
    held = asyncio.Event()

    async def slow() -> Page:
        await held.wait()
        return Page(body=b"")

    visitors = _Visitors({"/metrics": slow})
    request = b"GET /metrics HTTP/1.1\r\n\r\n"
    waiting = [asyncio.create_task(answer_to(request, visitors=visitors)) for _ in range(CONNECTIONS_MAX)]
    await asyncio.sleep(0)  # each has come in
    async with asyncio.timeout(WAIT_S):
        one_more = await answer_to(request, visitors=visitors)
    held.set()
    answers = await asyncio.gather(*waiting)

    assert (one_more.written, one_more.is_closed) == (b"", True)
    assert all(answer.written.startswith(b"HTTP/1.1 200") for answer in answers)


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1:9464", Address("127.0.0.1", 9464), "http://127.0.0.1:9464"),
        ("[::1]:0", Address("::1", 0), "http://[::1]:0"),
        ("0.0.0.0:65535", Address("0.0.0.0", 65_535), "http://0.0.0.0:65535"),
        ("metrics.local:80", Address("metrics.local", 80), "http://metrics.local:80"),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address, url: str) -> None:
    assert (address_of(text), address_of(text).url) == (address, url)


@pytest.mark.parametrize(
    "text", ["9464", "127.0.0.1", "127.0.0.1:", "a b:1", "127.0.0.1:123456", "127.0.0.1:65536", ":9464"]
)
def test_what_is_no_address_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="EDGE_METRICS_ADDRESS"):
        edge.from_environment({"EDGE_METRICS_ADDRESS": text})
    with pytest.raises(ConfigurationError, match="CONSUMER_METRICS_ADDRESS"):
        consumer.from_environment({"CONSUMER_METRICS_ADDRESS": text})


def test_without_a_setting_there_is_no_port() -> None:
    assert msgspec.structs.asdict(edge.EdgeSettings())["metrics_address"] == ""
    assert consumer.ConsumerSettings().metrics_address == ""


async def test_whoever_is_answered_when_the_port_closes_is_waited_for() -> None:
    is_asked, may_answer, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> Page:
        is_asked.set()
        await may_answer.wait()
        answered.set()
        return Page(body=b"")

    async with operator_port("127.0.0.1:0", {"/slow": slow}, variable="A") as address:
        assert address is not None
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /slow HTTP/1.1\r\n\r\n")
        await is_asked.wait()
        asyncio.get_running_loop().call_later(0.05, may_answer.set)
    writer.close()
    assert answered.is_set()


@pytest.mark.parametrize(("process", "prefix"), [("edge", "EDGE_"), ("consumers", "CONSUMER_")])
def test_a_process_whose_metrics_address_is_in_use_says_so_in_one_line(
    tmp_path: Path, process: str, prefix: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = {f"{prefix}METRICS_ADDRESS": address, "STORAGE_DIR": str(tmp_path), "EDGE_PORT": "0"}
        environ |= {"AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
        ended = subprocess.run(
            [sys.executable, "-m", process],
            env=os.environ | environ,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=4 * WAIT_S,
            check=False,
        )

    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert f"{prefix}METRICS_ADDRESS='{address}'" in line
    assert "in use" in line
    assert "Traceback" not in ended.stdout
