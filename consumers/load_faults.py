"""What a model that does not load is to those who wait for it: always a `Failure`."""

import contextlib
from collections.abc import Generator

import structlog

from contracts.failures import Failure, FailureCode

logger = structlog.get_logger(__name__)


def closed() -> Failure:
    """What those hear who still wait for a model."""
    return Failure(FailureCode.ENGINE_UNAVAILABLE, "this consumer stops")


@contextlib.contextmanager
def every_fault_named() -> Generator[None]:
    """The outermost loop of a load: whatever happens, it is a `Failure`."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        logger.exception("the engine did not load")
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{type(error).__name__}: {error}") from error
