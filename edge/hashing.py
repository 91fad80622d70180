"""What names a file: the sampled hash that clients know it by, and the digest of every byte that tells two files apart."""

import os
import struct
from collections.abc import Iterator

import xxhash

SAMPLE_BYTES = 1024
"""Bytes of each of the three samples of a file that is long enough."""
SAMPLED_FROM_BYTES = 3 * SAMPLE_BYTES
"""A shorter file is hashed whole."""
READ_BYTES = 1 << 20
"""How much of a file is read at once."""


def content_hash(descriptor: int, *, size_bytes: int) -> str:
    """The media hash of an open file, 16 hex digits (CONTRACT section 5): its size, and three samples of its content."""
    hashed = xxhash.xxh64(struct.pack("<Q", size_bytes))
    for offset, length in _samples(size_bytes):
        for part in read_range(descriptor, offset=offset, size_bytes=length):
            hashed.update(part)
    return hashed.hexdigest()


def _samples(size_bytes: int) -> list[tuple[int, int]]:
    if size_bytes < SAMPLED_FROM_BYTES:
        return [(0, size_bytes)]
    offsets = (0, (size_bytes - SAMPLE_BYTES) // 2, size_bytes - SAMPLE_BYTES)
    return [(offset, SAMPLE_BYTES) for offset in offsets]


def read_range(descriptor: int, *, offset: int, size_bytes: int) -> Iterator[bytes]:
    """The bytes of a range, at most `READ_BYTES` at a time; fewer than asked for where the file ends."""
    end = offset + size_bytes
    while offset < end and (part := os.pread(descriptor, min(READ_BYTES, end - offset), offset)):
        yield part
        offset += len(part)


class Digest:
    """XXH3-128 over bytes in file order."""

    def __init__(self) -> None:
        self._hashed = xxhash.xxh3_128()

    def update(self, part: bytes) -> None:
        self._hashed.update(part)

    def copy(self) -> "Digest":
        """One that goes on from here by itself."""
        copied = Digest()
        copied._hashed = self._hashed.copy()
        return copied

    def hexdigest(self) -> str:
        """32 hex digits."""
        return self._hashed.hexdigest()
