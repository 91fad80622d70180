"""What a consumer and its libraries log: JSON lines on stdout."""

import logging
import sys
import time

import structlog

from contracts.broker_calls import plainly
from contracts.trace_context import add_trace_id

REPEATED_AFTER_S = 60.0
"""A try to connect that fails as the one before is told so often: there is one each second."""
_LINES_MAX = 64


class Seldom(logging.Filter):
    """Lets a line through, and not again within `REPEATED_AFTER_S`."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = plainly(record.getMessage()), None
        line, now_s = record.msg, time.monotonic()
        if line in self._said_at_s and now_s - self._said_at_s[line] < REPEATED_AFTER_S:
            return False
        if len(self._said_at_s) >= _LINES_MAX:
            self._said_at_s.clear()
        self._said_at_s[line] = now_s
        return True


def log_as_json(level: str) -> None:
    """One JSON object per line on stdout, of ours and of the libraries."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)  # Python's own, else on stderr as no JSON
    quietest_of = {
        "aiormq": logging.ERROR,
        "aiormq.connection": logging.CRITICAL,  # what aio_pika says again
        "aio_pika": logging.WARNING,
        "aio_pika.tools": logging.CRITICAL,  # of callbacks of its own, which fail of the connection that just went
        "urllib3": logging.ERROR,
    }
    for library, quietest in quietest_of.items():
        logging.getLogger(library).setLevel(quietest)
    logging.getLogger("aio_pika.robust_connection").addFilter(Seldom())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
