"""A consumer as a process: begun anew while its broker is not there, ended with a status that says how it went."""

import asyncio
import os
import sys

import aiormq.exceptions
import structlog
import uvloop

from consumers.app import ConsumerApp, EngineLostError
from consumers.connections import RECONNECT_INTERVAL_S, is_lost, to_consume, to_publish
from consumers.log import log_as_json
from consumers.settings import ConsumerSettings, unread
from contracts.allocator import keep_an_arena_a_core
from contracts.broker_calls import BrokerSilentError

logger = structlog.get_logger(__name__)


def build(settings: ConsumerSettings) -> ConsumerApp:
    """Wire a consumer; nothing connects before it runs."""
    incoming = to_consume(settings.amqp_url, stop_s=settings.stop_s)
    return ConsumerApp(settings, incoming=incoming, outgoing=to_publish(settings.amqp_url))


def run(settings: ConsumerSettings) -> None:
    """Serve until SIGTERM."""
    keep_an_arena_a_core(os.environ, workers=settings.workers)
    log_as_json(settings.log_level)
    for variable in unread(os.environ):
        logger.warning("there is no such setting", variable=variable)

    async def serve() -> None:
        while True:
            app = build(settings)
            try:
                return await app.run()
            except (
                aiormq.exceptions.AMQPError,
                aiormq.exceptions.ChannelInvalidStateError,
                BrokerSilentError,
            ) as error:
                if not is_lost(error):
                    raise
                logger.warning("the broker went away before all was ready", error=repr(error))
            if await app.is_stopped_within(RECONNECT_INTERVAL_S):
                return None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve())
        except aiormq.exceptions.AMQPError as error:
            logger.error("the broker refuses", error=repr(error))  # noqa: TRY400 - the reason is the broker's
            sys.exit(1)
        except EngineLostError as error:
            logger.error("ends, for another process to go on", error=str(error))  # noqa: TRY400 - no fault of ours
            sys.exit(1)
