"""What a consumer and its libraries log: JSON lines on stdout."""

import logging
import sys

import structlog

from contracts.trace_context import add_trace_id


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
    quietest_of = {
        "aiormq": logging.ERROR,
        "aiormq.connection": logging.CRITICAL,  # what aio_pika says again
        "aio_pika": logging.WARNING,
        "urllib3": logging.ERROR,
    }
    for library, quietest in quietest_of.items():
        logging.getLogger(library).setLevel(quietest)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
