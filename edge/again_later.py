"""Loops that never end: a turn that fails is written down, and the next one may fare better."""

from collections.abc import Generator
from contextlib import contextmanager

import msgspec
import structlog

from contracts.failures import Failure

PASSING = (OSError, Failure, msgspec.DecodeError)
"""What a storage, a broker and a file that is being replaced make of a turn; anything else is a fault of ours."""

_log = structlog.get_logger()


@contextmanager
def again_later(what: str, **of: str) -> Generator[None]:
    """Around a turn of such a loop; nothing but a cancellation leaves it.

    what: happened, for the log. of: whose turn it was.
    """
    try:
        yield
    except PASSING as error:
        _log.warning(what, reason=f"{type(error).__name__}: {error}", **of)
    except Exception:  # noqa: BLE001 - a loop that ends would leave an edge half dead
        _log.exception(what, **of)


@contextmanager
def left_alone_if_broken(**of: str) -> Generator[None]:
    """Around work on records: one that cannot be read is an operator's business, and no reason to hold up others.

    of: whose record it is, for the log.
    """
    try:
        yield
    except msgspec.DecodeError as error:
        _log.error("left alone: a record is broken", reason=str(error), **of)
