"""Threads that begin together and end together."""

import threading
from collections.abc import Callable, Iterable

from contracts.failures import Failure, FailureCode


class Crew:
    """The threads of one owner, who tells them when to end."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def begin(self, threads: Iterable[threading.Thread], *, close: Callable[[], None]) -> None:
        """Start them all. close: how the owner ends those that began where there is no room for another one.

        Raises `Failure(engine_unavailable)` after that.
        """
        try:
            for thread in threads:
                thread.start()
                self._threads.append(thread)
        except RuntimeError as error:
            close()
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, str(error)) from error

    def join(self) -> None:
        """Wait until each has ended."""
        for thread in self._threads:
            thread.join()
