"""What the first bytes of a file, and the lengths it states, say about its container.

FFmpeg decides what a file is; this module answers three questions that FFmpeg does not: may the frames be read before the
end of the file has arrived, was a file that cannot be opened meant to be a video at all, and was it cut off. A decoder
ends a cut MKV, AVI or TS as it ends a whole one, without an error.
"""

import struct
from collections.abc import Callable
from enum import StrEnum

import msgspec

ReadAt = Callable[[int, int], bytes]
"""`(offset, count) -> bytes`; fewer bytes than asked for only at the end of the file."""

HEAD_BYTES = 1024
"""Enough for three packets of a transport stream, and for the signature of everything else."""
FIRST_BOXES_MAX = 64
"""Boxes looked at before the index or the frames of an MP4 must have appeared."""
BOXES_MAX = 200_000
"""Boxes of an MP4 that are counted to its end: four days of two-second fragments; a longer file counts as whole."""
ASF_HEADER_BYTES_MAX = 65_536

_TOP_LEVEL_BOXES = frozenset(
    b"ftyp styp moov moof mdat mfra free skip wide uuid meta udta sidx ssix emsg prft pdin pnot PICT".split()
)
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_TS_PACKET_BYTES = (188, 192, 204)


class Family(StrEnum):
    """Containers that are accepted; the value is what a person calls them."""

    MP4 = "MP4 or MOV"
    MATROSKA = "MKV or WebM"
    AVI = "AVI"
    TS = "MPEG transport stream"
    PS = "MPEG program stream"
    FLV = "FLV"
    ASF = "WMV"


class _Box(msgspec.Struct, frozen=True):
    name: bytes
    end: int | None
    """None: it reaches to the end of the file."""


def family(head: bytes) -> Family | None:
    """The container whose signature the first `HEAD_BYTES` bytes carry, None if they carry none."""
    if head[4:8] in _TOP_LEVEL_BOXES:
        return Family.MP4
    if head.startswith(_EBML):
        return Family.MATROSKA
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return Family.AVI
    if head.startswith(b"FLV\x01"):
        return Family.FLV
    if head.startswith(_ASF_HEADER):
        return Family.ASF
    if head.startswith(b"\x00\x00\x01\xba"):
        return Family.PS
    return Family.TS if _ts_packet_bytes(head) else None


def is_index_last(read_at: ReadAt) -> bool:
    """True if an MP4's frames (`mdat`) come before its index (`moov`), so that its end must be there first."""
    offset: int | None = 0
    for _ in range(FIRST_BOXES_MAX):
        box = _box_at(read_at, offset) if offset is not None else None
        if box is None or box.name in {b"moov", b"moof"}:
            return False
        if box.name == b"mdat":
            return True
        offset = box.end
    return False


def is_fragmented(read_at: ReadAt) -> bool:
    """True if an MP4 has its first fragment (`moof`) right behind its header."""
    offset: int | None = 0
    for _ in range(FIRST_BOXES_MAX):
        box = _box_at(read_at, offset) if offset is not None else None
        if box is None or box.name in {b"mdat", b"moof"}:
            return box is not None and box.name == b"moof"
        offset = box.end
    return False


def is_cut(kind: Family | None, read_at: ReadAt, *, size_bytes: int) -> bool:
    """True if the lengths that the container states reach beyond the end of the file.

    False also where it states none: a program stream, a live MKV of unknown length, a transport stream that ends between
    two packets, an FLV without its closing field. Only the uploader knows better.
    """
    match kind:
        case Family.MP4:
            return _is_cut_mp4(read_at, size_bytes)
        case Family.MATROSKA:
            return _is_cut_matroska(read_at, size_bytes)
        case Family.AVI:
            return _is_cut_avi(read_at, size_bytes)
        case Family.TS:
            packet_bytes = _ts_packet_bytes(read_at(0, HEAD_BYTES))
            return packet_bytes is not None and size_bytes % packet_bytes != 0
        case Family.FLV:
            return _is_cut_flv(read_at, size_bytes)
        case Family.ASF:
            return _is_cut_asf(read_at, size_bytes)
        case Family.PS | None:
            return False


def _ts_packet_bytes(head: bytes) -> int | None:
    """The distance of the first three sync bytes; in the 192-byte form four bytes of time precede each packet."""
    for packet_bytes in _TS_PACKET_BYTES:
        start = 4 if packet_bytes == 192 else 0  # noqa: PLR2004 - the sizes of the three forms
        if head[start : start + 2 * packet_bytes + 1 : packet_bytes] == b"\x47\x47\x47":
            return packet_bytes
    return None


def _box_at(read_at: ReadAt, offset: int) -> _Box | None:
    """The box that starts at `offset`, None at the end of the file or where no box can start."""
    header = read_at(offset, 16)
    if len(header) < 8:  # noqa: PLR2004 - a length and a name
        return None
    length, name = struct.unpack_from(">I4s", header)
    if length == 0:
        return _Box(name, None)
    if length == 1:
        if len(header) < 16:  # noqa: PLR2004 - and a 64 bit length
            return None
        (length,) = struct.unpack_from(">Q", header, 8)
    return _Box(name, offset + length) if length >= 8 else None  # noqa: PLR2004


def _is_cut_mp4(read_at: ReadAt, size_bytes: int) -> bool:
    offset = 0
    for _ in range(BOXES_MAX):
        if offset >= size_bytes:
            return offset > size_bytes
        box = _box_at(read_at, offset)
        if box is None:
            return size_bytes - offset < 8  # noqa: PLR2004 - cut inside a header; anything else is padding
        if box.end is None or box.name not in _TOP_LEVEL_BOXES:
            return False
        offset = box.end
    return False


def _is_cut_matroska(read_at: ReadAt, size_bytes: int) -> bool:
    head = read_at(0, HEAD_BYTES)
    header_length = _vint(head, len(_EBML))
    if header_length is None:
        return False
    offset = header_length.end + (header_length.value or 0)
    segment = read_at(offset, 12)
    length = _vint(segment, len(_SEGMENT)) if segment.startswith(_SEGMENT) else None
    return length is not None and length.value is not None and offset + length.end + length.value > size_bytes


class _Vint(msgspec.Struct, frozen=True):
    value: int | None
    """None: unknown, which EBML writes as all ones."""
    end: int


def _vint(content: bytes, offset: int) -> _Vint | None:
    """The variable-length integer of EBML at `offset`, None if there is none."""
    if offset >= len(content) or content[offset] == 0:
        return None
    length = 9 - content[offset].bit_length()
    raw = content[offset : offset + length]
    if len(raw) < length:
        return None
    ones = (1 << (7 * length)) - 1
    value = int.from_bytes(raw, "big") & ones
    return _Vint(None if value == ones else value, offset + length)


def _is_cut_avi(read_at: ReadAt, size_bytes: int) -> bool:
    """Large files are a row of RIFF chunks; a writer that could not seek left their length at zero."""
    offset = 0
    while offset < size_bytes:
        header = read_at(offset, 8)
        if len(header) < 8 or not header.startswith(b"RIFF"):  # noqa: PLR2004 - a name and a length
            return False
        (length,) = struct.unpack_from("<I", header, 4)
        if length == 0:
            return False
        offset += 8 + length
    return offset > size_bytes


def _is_cut_flv(read_at: ReadAt, size_bytes: int) -> bool:
    """Each tag is followed by its length: the last four bytes lead back to the header of the last tag."""
    closing = read_at(max(size_bytes - 4, 0), 4)
    tag_bytes = int.from_bytes(closing, "big")
    start = size_bytes - 4 - tag_bytes
    if start < 0:
        return True
    tag = read_at(start, 4)
    return len(tag) < 4 or int.from_bytes(tag[1:4], "big") + 11 != tag_bytes  # noqa: PLR2004


def _is_cut_asf(read_at: ReadAt, size_bytes: int) -> bool:
    head = read_at(0, ASF_HEADER_BYTES_MAX)
    start = head.find(_ASF_FILE_PROPERTIES)
    if start < 0 or start + 92 > len(head):
        return False
    (stated_bytes,) = struct.unpack_from("<Q", head, start + 40)
    (flags,) = struct.unpack_from("<I", head, start + 88)
    is_broadcast = bool(flags & 1)
    return not is_broadcast and stated_bytes > size_bytes
