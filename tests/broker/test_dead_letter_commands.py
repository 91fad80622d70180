"""`detections dead-letters`: looking loses nothing, and what is sent on its way again is no dead letter any more."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
import msgspec
import pytest
from typer.testing import CliRunner

from contracts import topology
from contracts.commands import DetectImage, DetectVideo
from contracts.failures import FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.posts import DeadPost, Post
from contracts.storage import upload_medium
from contracts.wire import decode_command, encode
from detections import cli
from detections.rabbitmq import PrivateRabbit

pytestmark = pytest.mark.broker
LOOKS = 22
"""More often than a broker of today gives a message out before it drops it."""


def run(rabbit: PrivateRabbit, *arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["dead-letters", *arguments, "--amqp-url", rabbit.url])
    assert done.exit_code == 0, done.output
    return done.stdout


def ids_of(listed: str, *texts: str) -> list[str]:
    """The ids of the lines with these texts."""
    return [next(line.split()[0] for line in listed.splitlines() if text in line) for text in texts]


async def bury(rabbit: PrivateRabbit, *bodies: bytes, detail: str) -> None:
    async with await aio_pika.connect(rabbit.url) as connection:
        channel = await connection.channel()
        await topology.declare(channel)
        headers = {topology.FAILURE_CODE_HEADER: "internal", topology.FAILURE_DETAIL_HEADER: detail}
        for body in bodies:
            message = aio_pika.Message(body, headers=dict(headers), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, topology.DEAD_LETTERS)


async def taken(rabbit: PrivateRabbit, queue: str) -> list[bytes]:
    """Everything in a queue, taken out."""
    async with await aio_pika.connect(rabbit.url) as connection:
        waiting = await (await connection.channel()).get_queue(queue)
        bodies: list[bytes] = []
        while (message := await waiting.get(fail=False)) is not None:
            bodies.append(message.body)
            await message.ack()
        return bodies


def test_letters_are_listed_shown_and_sent_again(rabbit: PrivateRabbit) -> None:
    command = DetectImage(task_id=str(uuid4()), medium=Medium(root="images", path="a.jpg", kind=MediumKind.IMAGE))
    post = DeadPost(
        task_id=str(uuid4()),
        media_id="m",
        post=Post(method="POST", path="/annotations", body=msgspec.Raw(b'{"image":"%s"}' % (b"x" * 5000)), key="k"),
        reason=FailureRecord(code=FailureCode.ANNOTATIONS_REFUSED, detail="no"),
        at=datetime.now(UTC),
    )
    unreadable = f"not json {uuid4()}".encode()
    asyncio.run(bury(rabbit, encode(command), encode(post), unreadable, detail="as the test says"))

    listed = run(rabbit, "list")
    for _ in range(LOOKS):
        assert sorted(run(rabbit, "list").splitlines()) == sorted(listed.splitlines())
    command_id, post_id = ids_of(listed, command.task_id, post.task_id)
    assert "unreadable" in listed
    shown = json.loads(run(rabbit, "show", post_id))
    assert shown["detail"] == "as the test says"
    assert "5000 characters" in shown["letter"]["post"]["body"]["image"]

    assert len(run(rabbit, "replay", command_id, post_id).splitlines()) == 2
    rest = run(rabbit, "list")
    assert command_id not in rest
    assert post_id not in rest
    assert "unreadable" in rest
    sent = [decode_command(body) for body in asyncio.run(taken(rabbit, topology.IMAGE_COMMANDS))]
    assert [one.medium for one in sent].count(command.medium) == 1
    assert command.task_id not in {one.task_id for one in sent}  # that task has ended
    assert encode(post) in asyncio.run(taken(rabbit, topology.OUTBOX))
    assert unreadable in asyncio.run(taken(rabbit, topology.DEAD_LETTERS))


def test_the_command_of_an_upload_is_left_and_the_way_to_do_it_again_is_named(rabbit: PrivateRabbit) -> None:
    task_id = str(uuid4())
    medium = upload_medium(task_id, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    command = encode(DetectVideo(task_id=task_id, medium=medium))
    asyncio.run(bury(rabbit, command, detail="of an upload that went a minute after its task"))

    said = run(rabbit, "replay", *ids_of(run(rabbit, "list"), task_id))
    assert f"POST /tasks/{task_id}/retry" in said
    assert asyncio.run(taken(rabbit, topology.VIDEO_COMMANDS)) == []
    assert command in asyncio.run(taken(rabbit, topology.DEAD_LETTERS))


def test_a_letter_that_is_not_there_is_said(rabbit: PrivateRabbit) -> None:
    asyncio.run(bury(rabbit, detail=""))
    for command in ("show", "replay"):
        done = CliRunner().invoke(cli.app, ["dead-letters", command, "absent", "--amqp-url", rabbit.url])
        assert done.exit_code == 1, done.output
