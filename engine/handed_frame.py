"""A frame that one process decoded and another looks at: its pixels as they lie in shared memory.

Either it was shrunk to the size in which it is looked at, by the same code that would do it in the process that looks, or
it is whole: its planes as they are stored where that is 8 bit 4:2:0, else converted to RGB.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated

import msgspec
import numpy as np
from av.video.frame import VideoFrame
from msgspec import Meta
from numpy.typing import NDArray

from engine.frame_arena import Bytes
from engine.orientation import Size
from engine.picture import Crop, Rgb
from engine.video_frame import (
    COMMON_FORMATS,
    PLANES,
    DecoderPixels,
    copy_planes,
    pixels_of,
    rgb_frame,
    rgb_of,
    rows_of,
    scaled_frame,
)

SIDE_PX_MAX = 65_535
_Side = Annotated[int, Meta(ge=1, le=SIDE_PX_MAX)]
_Tag = Annotated[int, Meta(ge=0, le=255)]


class Kind(IntEnum):
    """How pixels lie there."""

    RGB_PLANES = 0
    """Red, green and blue one after the other."""
    RGB_ROWS = 1
    STORED_PLANES = 2
    """Brightness, then the two of colour, each half as wide and high."""


class Handed(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where and how the pixels of a frame lie."""

    at: Annotated[int, Meta(ge=0)]
    kind: Kind
    width: _Side
    """Of what lies there; stored, not displayed."""
    height: _Side
    is_shrunk: bool
    pixel_format: str = ""
    """Of stored planes, with their colour space and range."""
    colorspace: _Tag = 0
    color_range: _Tag = 0

    @property
    def size_bytes(self) -> int:
        """Bytes that lie there."""
        pixels = self.width * self.height
        return pixels * 3 // 2 if self.kind is Kind.STORED_PLANES else pixels * 3


class Offer:
    """A frame that is about to be handed over."""

    def __init__(self, frame: VideoFrame, shown: Size | None) -> None:
        """shown: the stored size in which it will be looked at; None: whole."""
        self._frame = frame
        self._colours = (int(frame.colorspace), int(frame.color_range))
        self._is_shrunk = shown is not None
        if shown is not None:
            self._frame = scaled_frame(frame, shown)
        elif not _can_be_laid_down(frame):
            self._frame = rgb_frame(frame)

    def handed(self, at: int) -> Handed:
        """How it will lie at that place."""
        frame = self._frame
        name = frame.format.name
        kind = {PLANES: Kind.RGB_PLANES, "rgb24": Kind.RGB_ROWS}.get(name, Kind.STORED_PLANES)
        is_stored = kind is Kind.STORED_PLANES
        colorspace, color_range = self._colours if is_stored else (0, 0)
        return Handed(
            at=at,
            kind=kind,
            width=frame.width,
            height=frame.height,
            is_shrunk=self._is_shrunk,
            pixel_format=name if is_stored else "",
            colorspace=colorspace,
            color_range=color_range,
        )

    def lay_down(self, handed: Handed, room: Bytes) -> None:
        """Write it. room: uint8[handed.size_bytes]."""
        frame, width, height = self._frame, handed.width, handed.height
        match handed.kind:
            case Kind.RGB_PLANES:
                copy_planes(frame, room.reshape(3, height, width))
            case Kind.RGB_ROWS:
                room.reshape(height, width, 3)[...] = pixels_of(frame)
            case Kind.STORED_PLANES:
                for plane, part in zip(frame.planes, _stored_planes(room, width, height), strict=True):
                    part[...] = rows_of(plane, part.shape[0])[:, : part.shape[1]]


class Laid(msgspec.Struct, frozen=True):
    """Pixels in shared memory."""

    handed: Handed
    content: Bytes
    """uint8[handed.size_bytes]"""

    def rgb(self) -> Rgb:
        """uint8[H, W, 3] of what is no stored planes: a view."""
        handed = self.handed
        if handed.kind is Kind.RGB_PLANES:
            return self.content.reshape(3, handed.height, handed.width).transpose(1, 2, 0)
        return self.content.reshape(handed.height, handed.width, 3)

    def frame(self) -> VideoFrame:
        """A view as a frame. Raises `ValueError` for planes that are none."""
        handed = self.handed
        if handed.kind is not Kind.STORED_PLANES:
            return VideoFrame.from_numpy_buffer(np.ascontiguousarray(self.rgb()), format="rgb24")
        if handed.pixel_format not in COMMON_FORMATS or handed.width % 2 or handed.height % 4:
            raise ValueError(f"{handed.pixel_format} of {handed.width} x {handed.height}")
        rows = self.content.reshape(handed.height * 3 // 2, handed.width)
        frame = VideoFrame.from_numpy_buffer(rows, format=handed.pixel_format)
        frame.colorspace, frame.color_range = handed.colorspace, handed.color_range
        return frame


class HandedPixels:
    """The pixels of a frame that was handed over, as `engine.video_frame.StoredPixels`."""

    def __init__(self, laid: Sequence[Laid], *, stored: Size) -> None:
        """laid: what there is of it, at least one. stored: its size before it was shrunk.

        Raises `ValueError` for what cannot be.
        """
        self.width, self.height = stored.width, stored.height
        self._shrunk = [each for each in laid if each.handed.is_shrunk]
        whole = next((each for each in laid if not each.handed.is_shrunk), None)
        if whole is not None and (whole.handed.width, whole.handed.height) != (stored.width, stored.height):
            raise ValueError(f"{whole.handed.width} x {whole.handed.height} pixels of a frame of {stored}")
        self._whole = None if whole is None else DecoderPixels(whole.frame())

    def scaled(self, size: Size, crop: Crop | None) -> Rgb:
        """uint8[H, W, 3] of that size: what lies there if that is what was asked for, else made of it.

        A frame that was shrunk for a model that has been swapped meanwhile is made of what there is.
        """
        for shrunk in self._shrunk:
            if crop is None and (shrunk.handed.width, shrunk.handed.height) == (size.width, size.height):
                return shrunk.rgb()
        if self._whole is not None:
            return self._whole.scaled(size, crop)
        return self._made_of(max(self._shrunk, key=lambda each: each.handed.size_bytes), size, crop)

    def _made_of(self, shrunk: Laid, size: Size, crop: Crop | None) -> Rgb:
        part, there = shrunk.rgb(), shrunk.handed
        if crop is not None:
            x, right = (side * there.width // self.width for side in (crop.x, crop.x + crop.width))
            y, bottom = (side * there.height // self.height for side in (crop.y, crop.y + crop.height))
            part = part[y : max(bottom, y + 1), x : max(right, x + 1)]
        source = VideoFrame.from_numpy_buffer(np.ascontiguousarray(part), format="rgb24")
        return rgb_of(scaled_frame(source, size))


def _can_be_laid_down(frame: VideoFrame) -> bool:
    """PyAV makes frames of such planes again only of these sizes."""
    return frame.format.name in COMMON_FORMATS and frame.width % 2 == 0 and frame.height % 4 == 0


def _stored_planes(room: Bytes, width: int, height: int) -> list[NDArray[np.uint8]]:
    """Where the planes of a 4:2:0 frame of even sides go."""
    pixels = width * height
    quarter = pixels // 4
    return [
        room[:pixels].reshape(height, width),
        room[pixels : pixels + quarter].reshape(height // 2, width // 2),
        room[pixels + quarter :].reshape(height // 2, width // 2),
    ]
