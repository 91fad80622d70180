"""The memory in which the process that decodes lays down pixels for the one that looks at them.

Its size is sealed, so neither side can make the other touch memory that is not there. The decoder has it mapped for writing,
lays each frame at the first place with room and hears when nobody looks at it any more; low addresses are used again
first, so that no more memory is touched than frames are held at once.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ARENA_BYTES = 256 << 20
"""Two frames of the largest size that is let in, in RGB; memory is taken only where something was laid down."""
PLACE_BYTES = 64
"""Frames begin at multiples of it, as vector instructions want."""

Bytes = NDArray[np.uint8]


def new_arena() -> int:
    """The descriptor of an empty arena of `ARENA_BYTES`."""
    descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, ARENA_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


class ShownPlaces:
    """The arena as whoever looks at frames sees it."""

    def __init__(self, descriptor: int, freed: Callable[[int], None]) -> None:
        """freed: told of a place, by any thread, when the last array that shows it is gone."""
        self._memory: mmap.mmap | None = mmap.mmap(descriptor, ARENA_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        self._freed = freed

    def at(self, place: int, count: int) -> Bytes:
        """uint8[count], read only: what lies there. Raises `ValueError` outside of the arena."""
        if self._memory is None or not 0 <= place <= ARENA_BYTES - count:
            raise ValueError(f"{count} bytes at {place} of {ARENA_BYTES}")
        shown = np.frombuffer(self._memory, np.uint8, count, place)  # the base of every array made of it
        weakref.finalize(shown, self._freed, place).atexit = False
        return shown

    def close(self) -> None:
        """Show nothing more; what is shown stays as long as it is held."""
        self._memory = None


class Places:
    """The arena as whoever lays down frames sees it."""

    def __init__(self, descriptor: int) -> None:
        self._memory = np.frombuffer(mmap.mmap(descriptor, ARENA_BYTES, mmap.MAP_SHARED), np.uint8)
        self._taken: dict[int, int] = {}
        """Where each place that is taken begins and ends."""

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._taken)

    def take(self, count: int) -> int | None:
        """The first place with room for so many bytes; None if there is none."""
        place = 0
        for start in sorted(self._taken):
            if start - place >= count:
                break
            place = self._taken[start]
        if place + count > ARENA_BYTES:
            return None
        self._taken[place] = place + -(-count // PLACE_BYTES) * PLACE_BYTES
        return place

    def free(self, place: int) -> None:
        """Nobody looks at what lies there any more."""
        self._taken.pop(place, None)

    def at(self, place: int, count: int) -> Bytes:
        """uint8[count], to be written."""
        return self._memory[place : place + count]
