"""A picture, or a part of one, becomes one entry of a model's input tensor; and boxes find their way back."""

import math
import threading
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.picture import Crop, Picture, Rgb
from engine.postprocess import Boxes
from engine.runtime import Tensor
from engine.side_files import Resize, Triple

NATIVE_AREA_FACTOR = 1.5
"""A picture shown unscaled has at most the area of a frame of this times the model's size; a larger one is shrunk."""
NATIVE_SIDE_FACTOR = 2
"""No side of a picture shown unscaled is longer than this times the model's: engines for a GPU are built for so much."""


class InputRule(msgspec.Struct, frozen=True, kw_only=True):
    """How a model wants its pixels."""

    tensor: str
    """Name of the input."""
    dtype: str
    layout: str
    """`NCHW` or `NHWC`."""
    batch: int | None
    """None: any number of pictures at once."""
    width: int
    """Pixels; of a model with free sides, the size of its frames."""
    height: int
    multiple: int = 1
    colour: str = "RGB"
    scale: str = "0..1"
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    resize: Resize = "letterbox"
    pad: int = 114
    size_tensor: str | None = None
    """Name of an input int64[N, 2] that asks for the size (width, height) in which boxes are wanted."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part of a picture lies in a model's input."""

    crop: Crop
    """In displayed pixels of the picture."""
    input_width: int
    input_height: int
    x: int
    """Left edge of the content in the input, pixels."""
    y: int
    width: int
    """Of the content in the input, pixels."""
    height: int

    def to_picture(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of the input become boxes in displayed pixels of the whole picture."""
        factors = np.array([self.crop.width / self.width, self.crop.height / self.height] * 2, np.float32)
        moved = boxes.corners - np.array([self.x, self.y] * 2, np.float32)
        corners = moved * factors + np.array([self.crop.x, self.crop.y] * 2, np.float32)
        return Boxes(corners=corners, scores=boxes.scores, classes=boxes.classes)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is shown at once: a part of a picture, and where it will lie in the input."""

    picture: Picture
    placement: Placement


def whole_view(rule: InputRule, picture: Picture) -> View:
    """The whole picture, as such a model is shown it."""
    return View(picture=picture, placement=place(rule, Crop(x=0, y=0, width=picture.width, height=picture.height)))


def inputs_of(rule: InputRule, rows: Tensor, placed: Placement) -> dict[str, Tensor]:
    """Every input of a model by its name, where those rows are its pictures: all are placed in one input size."""
    inputs: dict[str, Tensor] = {rule.tensor: rows}
    if rule.size_tensor is not None:
        inputs[rule.size_tensor] = np.array([[placed.input_width, placed.input_height]] * len(rows), np.int64)
    return inputs


def place(rule: InputRule, crop: Crop) -> Placement:
    """Where that part of a picture will lie in the input of such a model."""
    match rule.resize:
        case "native":
            return _unscaled(rule, crop)
        case "stretch":
            width, height, x, y = rule.width, rule.height, 0, 0
        case _:
            scale = min(rule.width / crop.width, rule.height / crop.height)
            width = min(rule.width, max(1, round(crop.width * scale)))
            height = min(rule.height, max(1, round(crop.height * scale)))
            is_centred = rule.resize == "letterbox"
            x, y = ((rule.width - width) // 2, (rule.height - height) // 2) if is_centred else (0, 0)
    return Placement(crop=crop, input_width=rule.width, input_height=rule.height, x=x, y=y, width=width, height=height)


def _unscaled(rule: InputRule, crop: Crop) -> Placement:
    area_max = NATIVE_AREA_FACTOR**2 * rule.width * rule.height
    by_side = min(NATIVE_SIDE_FACTOR * rule.width / crop.width, NATIVE_SIDE_FACTOR * rule.height / crop.height)
    scale = min(1.0, math.sqrt(area_max / (crop.width * crop.height)), by_side)
    width, height = max(1, round(crop.width * scale)), max(1, round(crop.height * scale))
    return Placement(
        crop=crop,
        input_width=up_to_multiple(width, rule.multiple),
        input_height=up_to_multiple(height, rule.multiple),
        x=0,
        y=0,
        width=width,
        height=height,
    )


def up_to_multiple(side: int, multiple: int) -> int:
    """The least multiple that is not smaller, pixels."""
    return -(-side // multiple) * multiple


class _Scratch(threading.local):
    """The buffers of one thread, grown to the largest batch it has seen and never freed before the thread."""

    def __init__(self) -> None:
        self.tensor: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.planes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.bordered: object = None
        """Shape and contents whose borders are in `tensor`; they stay from one batch to the next."""


class Preprocessor:
    """Writes views into the input tensor of a model. Thread-safe: each thread has its own tensor."""

    def __init__(self, rule: InputRule) -> None:
        self._rule = rule
        self._dtype = np.dtype(rule.dtype)
        unit = 255.0 if rule.scale == "0..1" else 1.0
        std = np.array(rule.std, np.float32)
        self._gains = (1.0 / (unit * std)).astype(np.float32)
        self._offsets = (-np.array(rule.mean, np.float32) / std).astype(np.float32)
        self._channels = (0, 1, 2) if rule.colour == "RGB" else (2, 1, 0)
        self._scratch = _Scratch()

    def batch(self, views: Sequence[View]) -> Tensor:
        """The views as one tensor, in the model's layout. All have one input size.

        The tensor belongs to the calling thread and is overwritten by its next call.
        """
        first = views[0].placement
        tensor = self._scratched(self._shape(len(views), width=first.input_width, height=first.input_height))
        channels = tensor if self._rule.layout == "NCHW" else tensor.transpose(0, 3, 1, 2)
        contents = [_content(view.placement) for view in views]
        if (channels.shape, contents) != self._scratch.bordered:
            for entry, content in zip(channels, contents, strict=False):
                self._paint_border(entry, content)
            self._scratch.bordered = (channels.shape, contents)
        for entry, view in zip(channels, views, strict=False):
            self._write(entry, view)
        return tensor

    def room(self, rows: int, *, width: int, height: int) -> Tensor:
        """A fresh tensor for so many views of an input size, to be filled by `write`."""
        return np.zeros(self._shape(rows, width=width, height=height), self._dtype)

    def write(self, tensor: Tensor, row: int, view: View) -> None:
        """Put a view into its row of a tensor; other threads may write other rows."""
        entry = tensor[row] if self._rule.layout == "NCHW" else tensor[row].transpose(2, 0, 1)
        self._paint_border(entry, _content(view.placement))
        self._write(entry, view)

    def _shape(self, rows: int, *, width: int, height: int) -> tuple[int, ...]:
        rows = self._rule.batch or rows
        return (rows, 3, height, width) if self._rule.layout == "NCHW" else (rows, height, width, 3)

    def _scratched(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor in the thread's buffer: a fresh array of this size costs milliseconds of page faults (ENGINE 4)."""
        size_bytes = math.prod(shape) * self._dtype.itemsize
        if self._scratch.tensor.nbytes < size_bytes:
            self._scratch.tensor = np.zeros(size_bytes, np.uint8)
            self._scratch.bordered = None
        return self._scratch.tensor[:size_bytes].view(self._dtype).reshape(shape)

    def _paint_border(self, channels: Tensor, content: tuple[int, int, int, int]) -> None:
        """Fill one entry around its content. channels: dtype[3, H, W], a view on the tensor whatever its layout."""
        x, y, right, bottom = content
        for to, channel in enumerate(channels):
            pad = self._rule.pad * self._gains[to] + self._offsets[to]
            for edge in (channel[:y], channel[bottom:], channel[y:bottom, :x], channel[y:bottom, right:]):
                edge[...] = pad

    def _write(self, channels: Tensor, view: View) -> None:
        """Fill the content of one entry. channels: dtype[3, H, W], a view on the tensor whatever its layout."""
        placed = view.placement
        content = view.picture.scaled(width=placed.width, height=placed.height, crop=placed.crop)
        x, y, right, bottom = _content(placed)
        planes = self._planes(content)
        for to, source in enumerate(self._channels):
            inside = channels[to, y:bottom, x:right]
            if self._gains[to] == 1:
                inside[...] = planes[source]
            else:
                np.multiply(planes[source], self._gains[to], out=inside, casting="unsafe")
            if self._offsets[to]:
                inside += self._offsets[to]

    def _planes(self, content: Rgb) -> Rgb:
        """uint8[3, H, W] of uint8[H, W, 3]: bytes are cheaper to rearrange than the floats they become (0.74 for 1.0 ms)."""
        if content.strides[1] == 1:
            return content.transpose(2, 0, 1)  # a view on planes
        if self._scratch.planes.size < content.size:
            self._scratch.planes = np.empty(content.size, np.uint8)
        planes = self._scratch.planes[: content.size].reshape(3, *content.shape[:2])
        for channel in range(3):
            planes[channel] = content[..., channel]
        return planes


def _content(placed: Placement) -> tuple[int, int, int, int]:
    """x, y, right and bottom of the content in the input, pixels."""
    return placed.x, placed.y, placed.x + placed.width, placed.y + placed.height
