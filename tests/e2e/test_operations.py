"""The runbook tells the truth: each of its commands runs against a live system, in order, and prints what is written there."""

import asyncio
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aio_pika
import httpx
import msgspec
import pytest

from contracts import topology
from detections.local import LocalStack
from detections.rabbitmq import PrivateRabbit
from tests.conftest import REPOSITORY
from tests.gated import Gated
from tests.media import Container, write_video
from tests.metrics import values_at
from tests.processes import WAIT_S, wait_until

RUNBOOK = (REPOSITORY / "docs" / "operations.md").read_text()
ANYTHING = "…"


class Said(msgspec.Struct, frozen=True):
    """A command of the runbook, and what it prints."""

    chapter: str
    command: str
    printed: tuple[str, ...]


def said() -> Iterator[Said]:
    for chapter in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]:
        title = chapter.partition("\n")[0]
        for block in re.findall(r"^```console\n(.*?)^```", chapter, re.DOTALL | re.MULTILINE):
            for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, *printed = command.splitlines()
                yield Said(title, line, tuple(printed))


def pattern_of(printed: tuple[str, ...]) -> str:
    """`…` alone is any lines or none; within a line it is anything; blanks of a table are blanks."""
    lines = [
        r"(?:.*\n)*?" if line == ANYTHING else r"\s+".join(map(escaped, line.split())) + r"\s*\n" for line in printed
    ]
    return "".join(lines)


def escaped(word: str) -> str:
    return ".*".join(re.escape(part) for part in word.split(ANYTHING))


@pytest.fixture
def tools(rabbit: PrivateRabbit, stack: LocalStack, tmp_path: Path) -> Path:
    """A folder with the commands of an operator, for this broker and its virtual host."""
    folder = tmp_path / "bin"
    folder.mkdir()
    settings = "".join(f"export {name}='{value}'\n" for name, value in rabbit._environment().items() if name != "PATH")
    host = httpx.URL(stack.amqp_url).path.strip("/")
    for name, arguments in (("rabbitmqctl", f"-p {host}"), ("rabbitmq-diagnostics", "")):
        script = f'#!/bin/sh\n{settings}exec /usr/lib/rabbitmq/bin/{name} -n detections@localhost "$@" {arguments}\n'
        (folder / name).write_text(script)
    (folder / "detections").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m detections "$@"\n')
    for script in folder.iterdir():
        script.chmod(0o755)
    return folder


@pytest.mark.e2e
def test_every_command_of_the_runbook_prints_what_is_written(stack: LocalStack, tools: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    (tmp_path / "backup").mkdir()
    environ = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "PYTHONPATH": str(REPOSITORY),
        "LANG": "C.UTF-8",
        "EDGE": stack.url,
        "METRICS": stack.metrics_urls["edge"],
        "CONSUMER": stack.metrics_urls["consumer-1"].removesuffix("/metrics"),
        "STORAGE_DIR": str(stack.storage),
        "AMQP_URL": stack.amqp_url,
        "BACKUP": str(tmp_path / "backup"),
        "TASK": str(uuid.uuid4()),
    }
    asyncio.run(send_junk(stack))
    with ThreadPoolExecutor(1) as sending:
        clip = write_video(tmp_path / "a.mp4", frames=30, container=Container.MP4_FRAGMENTED).read_bytes()
        whole = Gated(clip, open_bytes=0)
        whole.gate.set()
        assert upload(stack.url, str(uuid.uuid4()), whole) == 202
        body = Gated(clip, open_bytes=len(clip) // 2)
        uploading = sending.submit(upload, stack.url, environ["TASK"], body)
        try:
            wait_until(lambda: (stack.storage / "tasks" / environ["TASK"] / "lease").exists())
            wait_until(lambda: has_dead_letter(stack))
            wrong = [wrong for one in said() if (wrong := tried(one, environ))]
        finally:
            body.gate.set()
        uploading.result(WAIT_S)
    assert not wrong, "\n".join(wrong)


def tried(one: Said, environ: dict[str, str]) -> str | None:
    """What is wrong with a command, None if nothing is."""
    shell = ["bash", "-o", "pipefail", "-c", one.command]
    done = subprocess.run(shell, env=environ, capture_output=True, text=True, check=False, timeout=2 * WAIT_S)
    printed = done.stdout if not done.stdout or done.stdout.endswith("\n") else f"{done.stdout}\n"
    if done.returncode == 0 and re.fullmatch(pattern_of(one.printed), printed):
        return None
    return f"{one.chapter}: {one.command} ended with {done.returncode} and printed {printed} {done.stderr}"


def upload(url: str, task_id: str, body: Gated) -> int:
    headers = {"X-Filename": "a.mp4", "X-Task-Id": task_id}
    chunks = iter(lambda: body.read(4096), b"")
    return httpx.post(
        f"{url}/detect/video", content=chunks, headers=headers, timeout=WAIT_S, trust_env=False
    ).status_code


async def send_junk(stack: LocalStack) -> None:
    async with await aio_pika.connect(stack.amqp_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"junk"), topology.VIDEO_COMMANDS)


def has_dead_letter(stack: LocalStack) -> bool:
    letters = values_at(f"{stack.url}/metrics")["detections_dead_letters_total"]
    return any(count > 0 for count in letters.values())


def test_the_runbook_has_commands_in_every_chapter_that_an_alert_leads_to() -> None:
    with_commands = {one.chapter for one in said()}
    chapters = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)

    assert [chapter for chapter in chapters if chapter not in with_commands] == ["Sizing", "Upgrade", "Retention"]


def test_every_link_of_the_runbook_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[)#]", RUNBOOK)

    assert [link for link in links if not (REPOSITORY / "docs" / link).exists()] == []
