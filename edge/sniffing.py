"""What a file is by its first bytes: enough to refuse what is no medium before anybody is asked to look at it.

Nothing is decoded here, and nothing is promised: what passes may still turn out to be unreadable.
"""

from contracts.media import MediumKind

SNIFFED_BYTES = 1024
"""Bytes from the start that are looked at, fewer of a shorter file."""

_BOX_TYPES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"moof", b"styp", b"sidx")
)
_VIDEO_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF: wmv
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video sequence
)
_IMAGE_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",  # BigTIFF
    b"MM\x00+",
)
_STILL_BRANDS = frozenset((b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1"))
"""Pictures in the boxes of a video (HEIF, ISO/IEC 23008-12): neither is what they are read as."""
_SYNC = 0x47
_PACKETS = (188, 192)
"""Bytes of a packet of a transport stream, without and with a time stamp before it."""


def kind_by_content(head: bytes) -> MediumKind | None:
    """The kind of a file whose first bytes are `head`, or None for something that is no known medium."""
    riff = head[8:12] if head[:4] == b"RIFF" else b""
    if head.startswith(_IMAGE_STARTS) or riff == b"WEBP":
        return MediumKind.IMAGE
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return None
    if head.startswith(_VIDEO_STARTS) or riff == b"AVI " or head[4:8] in _BOX_TYPES or _is_transport_stream(head):
        return MediumKind.VIDEO
    return None


def _is_transport_stream(head: bytes) -> bool:
    """Whether sync bytes lie a packet apart, from anywhere in the first packet on."""
    return any(
        head[start] == head[start + size] == head[start + 2 * size] == _SYNC
        for size in _PACKETS
        for start in range(min(size, max(0, len(head) - 2 * size)))
    )
