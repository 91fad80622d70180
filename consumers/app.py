"""A consumer process: two connections, four queues, one engine for objects and one for shots."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket

import aiormq.exceptions
import structlog
from faststream.exceptions import NackMessage, RejectMessage
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue

from consumers.attempt import Desk, StopReason
from consumers.connections import INCOMPLETE, RECONNECT_INTERVAL_S, complete_topology
from consumers.detect import Detecting, NotPutAside
from consumers.follower import Follower
from consumers.heartbeat import Heartbeat
from consumers.incoming import delivery_of, taken
from consumers.leases import Leases
from consumers.media_limits import limits_of
from consumers.metrics_page import Observed
from consumers.model_store import store_of
from consumers.outgoing import RabbitSender, Undelivered
from consumers.rooms import room_of
from consumers.roots import roots_of
from consumers.settings import ConsumerSettings
from consumers.shot_room import shot_room_of
from contracts import topology, wire
from contracts.broker_calls import broker_call, end
from contracts.broker_nodes import without_users
from contracts.commands import CancelTask
from contracts.crashpoints import crashpoint
from contracts.events import ModelChanged
from contracts.failures import Failure
from contracts.storage import Layout
from engine.sandbox import sandbox_of

COMPLETE_TRIES_MAX = 30
"""Tries, one each `RECONNECT_INTERVAL_S`, while a starting broker does not know its own queues."""
GIVE_BACK_PAUSE_S = (0.2, 2.0)
"""Between these, by chance: what failed together is not tried again together."""
LAST_WORD_S = 2.0
"""For the heartbeat that says that this consumer leaves."""
IMAGES_PER_WORKER = 2
"""Image commands in flight for each worker: one is looked at, one is read."""

logger = structlog.get_logger(__name__)


class EngineLostError(Exception):
    """The engine cannot work in this process any more, only in another one; the message says why."""


class ConsumerApp:
    """One consumer, from its first connection to its last ack."""

    def __init__(self, settings: ConsumerSettings, *, incoming: RabbitBroker, outgoing: RabbitBroker) -> None:
        self._settings = settings
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._incoming = incoming
        self._outgoing = outgoing
        self._sender = RabbitSender(outgoing)
        self._in_doubt = asyncio.Event()
        """Whether the broker has all that there should be."""
        self._news = asyncio.Event()
        self._stopping = asyncio.Event()
        models = store_of(settings)
        self.room = room_of(settings, models, announce=self._news.set)
        self._shot_room = shot_room_of(settings, announce=self._news.set)
        self._follower = Follower(self.room, models)
        layout = Layout(settings.storage)
        desk = Desk(
            layout=layout,
            leases=Leases(layout, owner=self.id),
            sender=self._sender,
            ahead_max=settings.ahead_max,
            limits=limits_of(settings),
        )
        self._sandbox = sandbox_of(settings.decode)
        self._detecting = Detecting(
            desk,
            room=self.room,
            shot_room=self._shot_room,
            roots=roots_of(settings),
            pictures_max=IMAGES_PER_WORKER * settings.workers,
            sandbox=self._sandbox,
        )
        self._heartbeat = Heartbeat(
            self.id,
            objects=self.room,
            shots=self._shot_room,
            sender=self._sender,
            tasks_running=lambda: self._detecting.tasks_running,
            is_stopping=self._stopping.is_set,
        )
        self._subscribe()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Without a broker or a model it waits for them.

        Raises `EngineLostError`, with all tasks handed on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        observed = Observed(
            incoming=self._incoming,
            outgoing=self._outgoing,
            objects=self.room,
            shots=self._shot_room,
            tasks_running=lambda: self._detecting.tasks_running,
            is_stopping=self._stopping.is_set,
        )
        async with observed.shown_to_operators(self._settings.metrics_address):
            serving = asyncio.create_task(self._serve())
            stopping = asyncio.create_task(self._stopping.wait())
            losing = asyncio.create_task(self.room.lost())
            await asyncio.wait((serving, stopping, losing), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            is_lost = losing.done()
            if is_lost:
                self._stopping.set()  # as the last heartbeat says
            await end(losing)
            await self._stop(serving, StopReason.ENGINE_LOST if is_lost else StopReason.SHUTDOWN)
        if is_lost:
            raise EngineLostError(losing.result())
        if not serving.cancelled():
            serving.result()  # it never returns: this raises why it could not serve

    async def is_stopped_within(self, seconds: float) -> bool:
        """True once a signal has told it to stop, also after it could not serve."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _serve(self) -> None:
        with broker_call():
            await self._begin()
        async with asyncio.TaskGroup() as serving:
            serving.create_task(self._heartbeat.run(self._news))
            serving.create_task(self._follower.run())
            serving.create_task(self._keep_complete())
            if self._settings.warm_up:
                serving.create_task(self._warm_up())

    async def _begin(self) -> None:
        logger.info("starting", id=self.id, broker=without_users(self._settings.amqp_url))
        connection = await self._outgoing.connect()
        connection.reconnect_callbacks.add(self._be_reconnected)
        await self._complete()
        await self._outgoing.start()
        await self._sender.prepare()
        await self._follower.begin()
        if self._sandbox is not None:
            await asyncio.to_thread(self._sandbox.confinement)  # it says in the log what is in force
        await self._incoming.start()
        logger.info("ready", id=self.id, workers=self._settings.workers, videos_max=self._settings.videos_max)

    async def _warm_up(self) -> None:
        try:
            await self.room.workers()
        except Failure as failure:
            logger.warning("not warm", code=failure.code.value, detail=failure.detail)

    def _be_reconnected(self, *_: object) -> None:
        logger.info("connected to the broker again")
        self._in_doubt.set()

    async def _complete(self) -> None:
        """Create what is missing on the broker, if it lets us.

        A broker that starts on old data speaks before its streams are there, and then says that they do not exist.
        """
        for _ in range(COMPLETE_TRIES_MAX):
            try:
                return await complete_topology(self._settings.amqp_url)
            except INCOMPLETE as error:
                logger.info("the broker is not whole yet", error=str(error))
                await asyncio.sleep(RECONNECT_INTERVAL_S)
        return await complete_topology(self._settings.amqp_url)

    async def _keep_complete(self) -> None:
        """The same after each reconnect, and when something could not be sent: a broker may be without what it had."""
        while True:
            await self._in_doubt.wait()
            self._in_doubt.clear()
            try:
                await self._complete()
            except (aiormq.exceptions.AMQPError, OSError) as error:
                logger.warning("the broker is not whole", error=str(error))

    async def _stop(self, serving: "asyncio.Task[None]", reason: StopReason) -> None:
        """Hand running tasks on, answer what is nearly answered, and leave."""
        logger.info("stopping", tasks=self._detecting.tasks_running)
        self._detecting.stop(reason)
        await end(serving)
        await self._incoming.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._heartbeat.beat()
        await self._outgoing.stop()
        self._detecting.close()
        if self._sandbox is not None:
            self._sandbox.close()
        self.room.close()
        self._shot_room.close()
        logger.info("stopped")

    def _subscribe(self) -> None:
        prefetch = {
            topology.IMAGE_COMMANDS: IMAGES_PER_WORKER * self._settings.workers,
            topology.VIDEO_COMMANDS: self._settings.videos_max,
            topology.SHOTS_COMMANDS: self._settings.shots_max,
        }
        for name, count in prefetch.items():
            queue = RabbitQueue(name, declare=False)
            subscribe = self._incoming.subscriber(queue, channel=Channel(prefetch_count=count), no_reply=True)
            subscribe(self._on_command)
        name = topology.own_queue(topology.CONTROL, self.id)
        control = RabbitQueue(name, durable=False, exclusive=True, auto_delete=True)
        exchange = RabbitExchange(topology.CONTROL, type=ExchangeType.FANOUT, durable=True, declare=False)
        self._incoming.subscriber(control, exchange, no_reply=True)(self._on_control)

    async def _on_command(self, message: RabbitMessage) -> None:
        with taken(message):
            await self._take(message)

    async def _take(self, message: RabbitMessage) -> None:
        try:
            await self._detecting.take(delivery_of(message))
            crashpoint("consumer.command.done")
        except NotPutAside as error:
            logger.warning("left to the broker", error=str(error))
            raise RejectMessage from error
        except Undelivered as error:
            logger.warning("given back", error=str(error))
            await self._hold_back()
            raise NackMessage(requeue=True) from error

    async def _hold_back(self) -> None:
        """Wait until an answer could leave: the broker counts deliveries, and gives a task up after `DELIVERY_LIMIT`."""
        recovering = asyncio.create_task(self._sender.recovered())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((recovering, stopping), return_when=asyncio.FIRST_COMPLETED)
            self._in_doubt.set()
            await asyncio.sleep(random.uniform(*GIVE_BACK_PAUSE_S))  # noqa: S311 - spreads load, keeps no secret
        finally:
            recovering.cancel()
            stopping.cancel()
            await asyncio.gather(recovering, stopping, return_exceptions=True)

    async def _on_control(self, message: RabbitMessage) -> None:
        try:
            command = wire.decode_control(message.body)
        except Failure as failure:
            logger.info("control ignored", code=failure.code.value, detail=failure.detail)
            return
        match command:
            case CancelTask():
                self._detecting.cancel(command.task_id)
            case ModelChanged():
                self._follower.hear(command.active)
