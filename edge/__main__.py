"""`python -m edge`: serve HTTP until SIGTERM or Ctrl-C."""

import logging
import os
import signal
import socket
import sys
from types import FrameType

import structlog
import uvicorn

from contracts import crashpoints
from contracts.allocator import keep_an_arena_a_core
from contracts.settings import ConfigurationError
from contracts.trace_context import add_trace_id
from contracts.tracing import recording
from edge.admission import check_admission
from edge.app import STOP_SIGNALS, build
from edge.connections import HeaderLimits, guarded
from edge.heads import answering_heads
from edge.metrics_page import shown_to_operators
from edge.settings import EdgeSettings, from_environment, unread


class _Server(uvicorn.Server):
    """uvicorn, saying where it listens once it does, and when it ends; with the port for operators beside it."""

    def __init__(self, settings: EdgeSettings) -> None:
        super().__init__(_server_config(settings))
        self._settings = settings

    async def serve(self, sockets: "list[socket.socket] | None" = None) -> None:
        """Raises `ConfigurationError` here, since of what fails in an application's own beginning a server tells at length."""
        async with shown_to_operators(self._settings):
            await super().serve(sockets)

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                structlog.get_logger().info("edge listens", url=f"http://{host}:{port}", pid=os.getpid())

    async def shutdown(self, sockets: "list[socket.socket] | None" = None) -> None:
        structlog.get_logger().info("edge stops", requests=len(self.server_state.tasks))
        await super().shutdown(sockets)
        structlog.get_logger().info("edge has stopped")


def main() -> int:
    """Run an edge; the exit status says whether it was told to stop (0) or could not start."""
    try:
        settings = from_environment(os.environ)
        check_admission(settings)
        with recording(service="detections-edge"):
            return _serve(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2


def _serve(settings: EdgeSettings) -> int:
    keep_an_arena_a_core(os.environ)
    crashpoints.arm(os.environ)
    try:
        settings.storage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"STORAGE_DIR={settings.storage_dir!r}: {error.strerror}") from error
    log_to_stdout(settings)
    for variable in unread(os.environ):
        structlog.get_logger().warning("there is no such setting", variable=variable)
    server = _Server(settings)
    for number in STOP_SIGNALS:  # uvicorn raises the signal again once it has stopped, with the handler of before
        signal.signal(number, _exit)
    server.run()
    return 0 if server.started else 1


def _exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def log_to_stdout(settings: EdgeSettings) -> None:
    """One JSON object per line, the standard library's records included."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(capture=True)  # Python's own, else on stderr as no JSON
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)  # each try of each connection; we say it once
    for chatty in ("aio_pika", "aiormq", "uvicorn.error", "httpx", "httpcore", "urllib3"):
        logging.getLogger(chatty).setLevel(max(level, logging.ERROR))


def _server_config(settings: EdgeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        answering_heads(build(settings)),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=guarded(HeaderLimits(timeout_s=settings.header_timeout_s, bytes_max=settings.header_bytes_max)),
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.stop_timeout_s,
    )


if __name__ == "__main__":
    sys.exit(main())
