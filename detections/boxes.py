"""The order of an MP4's top-level boxes: must its end be sent first, or it could not be decoded before all of it is there?"""

import os
from typing import BinaryIO

import msgspec

from contracts.media import TAIL_BYTES_MAX

_BOXES_MAX = 1_000
"""Boxes looked at before the first `moov`; a file with more is sent in its own order."""
_FIRST_TYPES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"))
_HEADER_BYTES = 8
_LARGE_HEADER_BYTES = 16


class Box(msgspec.Struct, frozen=True):
    """A top-level box: its four-byte type and where it ends in the file."""

    type: bytes
    end_bytes: int


def tail_bytes(file: BinaryIO, *, tail_bytes_max: int = TAIL_BYTES_MAX) -> int | None:
    """How many bytes of the end go first; None if the file's own order is best. The file's position moves.

    That is an MP4 or MOV whose `moov` follows its `mdat`: everything after the last `mdat` before the `moov`, so that a
    reader finds every box header between them. None for other containers, broken or cut boxes, and a tail of more than
    `tail_bytes_max`.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    media_end_bytes: int | None = None
    offset_bytes = 0
    for index in range(_BOXES_MAX):
        box = _box(file, offset_bytes, size_bytes)
        if box is None or (index == 0 and box.type not in _FIRST_TYPES):
            return None
        if box.type == b"moov":
            tail = 0 if media_end_bytes is None else size_bytes - media_end_bytes
            return tail if 0 < tail <= tail_bytes_max else None
        if box.type == b"mdat":
            media_end_bytes = box.end_bytes
        offset_bytes = box.end_bytes
    return None


def _box(file: BinaryIO, offset_bytes: int, size_bytes: int) -> Box | None:
    """The box at `offset_bytes`, None if there is none or it does not fit into the file."""
    file.seek(offset_bytes)
    header = file.read(_LARGE_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return None
    length, type_ = int.from_bytes(header[:4], "big"), header[4:8]
    least = _HEADER_BYTES
    if length == 0:  # up to the end of the file
        length = size_bytes - offset_bytes
    elif length == 1:
        if len(header) < _LARGE_HEADER_BYTES:
            return None
        length, least = int.from_bytes(header[8:16], "big"), _LARGE_HEADER_BYTES
    if length < least or offset_bytes + length > size_bytes:
        return None
    return Box(type_, offset_bytes + length)
