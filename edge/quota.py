"""How much each client may have under way at a time on this edge."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from contracts.failures import Failure, FailureCode


class Quota:
    """Counts one kind of thing by client."""

    def __init__(self, *, each_max: int, what: str) -> None:
        """what: in the plural, for the refusal."""
        self._each_max = each_max
        self._what = what
        self._under_way: Counter[str] = Counter()

    def check(self, client: str) -> None:
        """Raises `Failure(too_many_requests)` if the client has as many as it may."""
        if self._under_way[client] >= self._each_max:
            raise Failure(
                FailureCode.TOO_MANY_REQUESTS, f"{self._each_max} {self._what} at a time, which is the maximum"
            )

    @contextmanager
    def counted(self, client: str) -> Generator[None]:
        """Count one more while it is under way."""
        self._under_way[client] += 1
        try:
            yield
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]
