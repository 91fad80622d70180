"""What a process logs while its broker is away: once what is wrong, and not at each try what a library knows of it."""

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

NOWHERE = "amqp://127.0.0.1:1/"
TRY = f"""
import asyncio, contextlib, logging, aio_pika
with contextlib.suppress(ConnectionError):
    asyncio.run(aio_pika.connect("{NOWHERE}"))
logging.getLogger("aiormq.channel").error("of a channel")
"""
COMMAND = f"""
import asyncio, contextlib
from detections.broker_connection import connect
with contextlib.suppress(ConnectionError):
    asyncio.run(connect("{NOWHERE}", name="a", timeout_s=5))
"""


TRIES = f"""
import asyncio, contextlib
from aio_pika import RobustConnection
from yarl import URL
from consumers.log import log_as_json
log_as_json("info")
async def try_for_a_while():
    connection = RobustConnection(URL("{NOWHERE}?reconnect_interval=0.05&fail_fast=0"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await connection.connect()
    await connection.close()
asyncio.run(try_for_a_while())
"""


def printed_by(program: str) -> list[str]:
    command = (sys.executable, "-c", program)
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    return (ended.stdout + ended.stderr).splitlines()


logging_begun = pytest.mark.parametrize(
    "begin",
    [
        "from edge.__main__ import log_to_stdout; from edge.settings import EdgeSettings; log_to_stdout(EdgeSettings())",
        "from consumers.log import log_as_json; log_as_json('info')",
    ],
    ids=["edge", "consumer"],
)


@logging_begun
def test_a_try_that_failed_is_no_error_of_the_library_and_others_of_its_errors_are(begin: str) -> None:
    (line,) = printed_by(begin + TRY)
    assert "of a channel" in line


@logging_begun
def test_a_warning_of_python_is_a_line_of_json_too(begin: str) -> None:
    (line,) = printed_by(f"{begin}\nimport warnings; warnings.warn('overflow in cast', RuntimeWarning)")
    said = json.loads(line)

    assert "overflow in cast" in said["event"]
    assert said["level"] == "warning"


def test_a_command_leaves_it_to_its_own_line_that_the_broker_is_away() -> None:
    assert printed_by(COMMAND) == []


def test_a_consumer_that_waits_for_its_broker_says_so_once_and_not_at_each_try() -> None:
    (line,) = printed_by(TRIES)
    assert "Reconnecting after 0.05 seconds" in line
