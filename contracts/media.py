"""What is looked at: a medium, where it lies, and how much of it has arrived."""

import re
from enum import StrEnum

import msgspec

MEDIA_ID_PATTERN = r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}"
"""What a medium may be called where its id names a folder or is a part of an address."""

TAIL_BYTES_MAX = 64 * 1024 * 1024
"""Of the end of a file that is sent before the rest (`X-Tail-Bytes`)."""

_MEDIA_ID = re.compile(MEDIA_ID_PATTERN)


class MediumKind(StrEnum):
    IMAGE = "image"
    VIDEO = "video"


class Medium(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file below one of the configured roots.

    `path` is relative to the root and uses `/`; a path that resolves outside its root is refused (`forbidden_path`).
    """

    root: str
    """Name of a root of the settings: `storage`, `videos` or `images`."""
    path: str
    kind: MediumKind
    media_id: str | None = None
    """The content hash; None while the file is still arriving."""
    name: str | None = None
    """The client's file name: data, never used as a path."""
    is_growing: bool = False
    """True while the file is being uploaded: an extent lies beside it."""


VIDEO_EXTENSIONS = frozenset(("mp4", "mov", "webm", "mkv", "avi", "m4v", "ts", "mpg", "wmv", "flv", "3gp"))
IMAGE_EXTENSIONS = frozenset(("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff"))


def is_media_id(text: str) -> bool:
    """False for what could name anything but the folder of one medium."""
    return _MEDIA_ID.fullmatch(text) is not None


def kind_by_extension(name: str) -> MediumKind | None:
    """The kind that a file name's extension promises, or None for an unknown one."""
    extension = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if extension in VIDEO_EXTENSIONS:
        return MediumKind.VIDEO
    if extension in IMAGE_EXTENSIONS:
        return MediumKind.IMAGE
    return None
