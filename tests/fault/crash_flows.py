"""What happens around a death, and what was promised by then: a flow for each way in which a process is at work."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import aio_pika
import httpx
import msgspec

from contracts import topology
from tests.fault.checker import Accepted
from tests.fault.crash_cases import Flow
from tests.fault.crash_world import FRAMES, Run
from tests.fault.fleet import WAIT_S
from tests.fault.flow import channel_on, wait_for_end
from tests.media import STATIC, write_image


def upload(run: Run) -> list[Accepted]:
    held = run.case.flow is Flow.HELD
    sending = run.upload(run.until_it_dies if held else run.until_it_reports)
    run.bury()
    return promised(run, run.result(sending))


def promised(run: Run, status: int | None) -> list[Accepted]:
    """A client that got its 202 gets every report."""
    return [run.order.promised(run.task_id)] if status == 202 else []


def posted(run: Run) -> list[Accepted]:
    sending = run.upload(run.until_it_reports, **run.world.annotations.headers())
    run.bury()
    if run.result(sending) != 202:
        return []
    keys = ("media", "processing", *(str(number) for number in range(1, FRAMES + 2)))
    return [run.order.promised(run.task_id, posts=tuple(f"{run.task_id}:{key}" for key in keys))]


def handed_on(run: Run) -> list[Accepted]:
    def ask_it_to_stop() -> None:
        run.until_it_reports()
        run.victim.terminate()
        run.until_it_dies()

    sending = run.upload(ask_it_to_stop)
    run.bury()
    return promised(run, run.result(sending))


def cancelled(run: Run) -> list[Accepted]:
    run.world.consumer.kill()
    assert run.result(run.upload(lambda: None)) == 202
    with contextlib.suppress(httpx.TransportError):
        httpx.delete(f"{run.world.fleet.url}/tasks/{run.task_id}", timeout=60, trust_env=False)
    run.victim.wait_until_dead()
    run.world.consumer.start()
    run.bury()
    return [Accepted(task_id=run.task_id)]


def cut(run: Run) -> list[Accepted]:
    gone = threading.Event()

    def leave() -> None:
        run.until_it_reports()
        gone.set()
        raise httpx.WriteError("the client goes away")

    run.result(run.upload(leave))
    assert gone.is_set() or not run.victim.is_running
    run.bury()
    return []


def letter(run: Run) -> list[Accepted]:
    body = msgspec.json.encode({"type": "DetectVideo", "version": 1, "taskId": run.task_id, "medium": 7})

    async def publish() -> None:
        async with channel_on(run.world.amqp_url) as channel:
            exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
            await exchange.publish(aio_pika.Message(body, delivery_mode=2), "video")

    asyncio.run(publish())
    run.bury()
    wait_for_end(run.world.layout, run.task_id)
    return [Accepted(task_id=run.task_id)]


def picture(run: Run) -> list[Accepted]:
    content = write_image(run.world.fleet.storage / "a.png", squares=STATIC).read_bytes()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(
            httpx.post,
            f"{run.world.fleet.url}/detect",
            files={"file": ("a.png", content)},
            timeout=WAIT_S,
            trust_env=False,
        )
        run.bury()
        answer = asking.result(WAIT_S)
    assert answer.status_code == 200, answer.text
    return []


def resumed(run: Run) -> list[Accepted]:
    """A consumer dies while its client is away; an edge wherever it is to."""

    def send() -> int | None:
        client = run.resuming_client()
        client.break_off(run.until_it_reports)
        if run.case.victim == "consumer":
            run.until_it_dies()
        return client.go_on()

    sending = run.meanwhile(send)
    run.bury()
    return promised(run, run.result(sending))


def in_parts(run: Run) -> list[Accepted]:
    def send() -> int | None:
        client = run.resuming_client()
        client.send_first()
        return client.go_on()

    sending = run.meanwhile(send)
    run.bury()
    return promised(run, run.result(sending))


def asked_back(run: Run) -> list[Accepted]:
    def send() -> int | None:
        client = run.resuming_client()

        def ask_elsewhere() -> None:
            run.until_it_reports()
            client.ask()

        client.break_off(ask_elsewhere)
        return client.go_on()

    sending = run.meanwhile(send)
    run.bury()
    return promised(run, run.result(sending))


def abandoned(run: Run) -> list[Accepted]:
    run.resuming_client().break_off(run.until_it_reports)
    run.bury()
    end = wait_for_end(run.world.layout, run.task_id)
    assert end.failure is not None
    assert end.failure.code == "upload_abandoned"
    return [Accepted(task_id=run.task_id)]


FLOWS: dict[Flow, Callable[[Run], list[Accepted]]] = {
    Flow.UPLOAD: upload,
    Flow.HELD: upload,
    Flow.POSTED: posted,
    Flow.HANDED_ON: handed_on,
    Flow.CANCELLED: cancelled,
    Flow.CUT: cut,
    Flow.LETTER: letter,
    Flow.PICTURE: picture,
    Flow.RESUMED: resumed,
    Flow.PARTS: in_parts,
    Flow.ASKED_BACK: asked_back,
    Flow.ABANDONED: abandoned,
}
