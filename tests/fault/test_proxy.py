"""The proxy does what it says, and a timeline is printed when a run fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.fault.proxy import Proxy, proxy_to
from tests.fault.timeline import Timeline, timeline

WAIT_S = 30.0


@asynccontextmanager
async def an_echo() -> AsyncGenerator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server that says back what it hears, the proxy in front of it, and a client's two ends."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxy_to(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with asyncio.timeout(WAIT_S):
            yield proxy, reader, writer
        writer.close()
    server.close()


async def said_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> bool:
    writer.write(what)
    return await reader.readexactly(len(what)) == what


async def test_what_is_sent_arrives_and_comes_back() -> None:
    async with an_echo() as (proxy, reader, writer):
        assert await said_back(reader, writer, b"hello")
        assert (proxy.connections, proxy.passed_bytes) == (1, 5)


async def test_a_cut_connection_ends_in_good_order() -> None:
    async with an_echo() as (proxy, reader, writer):
        assert await said_back(reader, writer, b"hello")
        proxy.cut()
        assert await reader.read() == b""


async def test_a_reset_connection_breaks() -> None:
    async with an_echo() as (proxy, reader, writer):
        assert await said_back(reader, writer, b"hello")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_connection_that_its_client_lost_stands_for_the_server() -> None:
    async with an_echo() as (proxy, reader, writer):
        assert await said_back(reader, writer, b"hello")
        proxy.lose_clients()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await asyncio.sleep(0.1)
        assert proxy.connections == 1


async def test_a_silent_connection_says_nothing_and_then_everything() -> None:
    async with an_echo() as (proxy, reader, writer):
        assert await said_back(reader, writer, b"hello")
        proxy.fall_silent()
        writer.write(b"later")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        proxy.speak()
        assert await reader.readexactly(5) == b"later"


async def test_a_dripping_connection_gives_a_few_bytes_at_a_time() -> None:
    async with an_echo() as (proxy, reader, writer):
        proxy.drip_bytes, proxy.delay_s = 2, 0.01
        assert await said_back(reader, writer, b"hello")  # the first piece was asked for whole
        writer.write(b"slowly")
        assert len(await reader.read(1000)) <= 2


async def test_a_refusing_proxy_takes_nobody() -> None:
    async with an_echo() as (proxy, _, _):
        proxy.is_refusing = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


def test_a_failed_run_prints_its_seed_and_what_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT_SEED", "7")

    def failing() -> None:
        with timeline("a run") as told:
            told.note("the broker was killed")
            raise AssertionError

    with pytest.raises(AssertionError):
        failing()

    said = capsys.readouterr().err
    assert said.startswith("a run\nFAULT_SEED=7\n")
    assert "the broker was killed" in said


def test_a_seed_decides_what_happens() -> None:
    assert Timeline(7).chance.random() == Timeline(7).chance.random() != Timeline(8).chance.random()
