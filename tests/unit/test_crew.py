"""Threads that begin together and end together."""

import threading

import pytest

from contracts.failures import Failure, FailureCode
from engine.crew import Crew


class NoRoom(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_where_there_is_no_room_for_all_none_goes_on() -> None:
    ended = threading.Event()
    first = threading.Thread(target=ended.wait)
    crew = Crew()

    def close() -> None:
        ended.set()
        crew.join()

    with pytest.raises(Failure, match="can't start new thread") as failed:
        crew.begin([first, NoRoom()], close=close)

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert first.ident is not None
    assert not first.is_alive()
