"""How a model wants its pixels: the input that takes pictures, and the rule by which they are put there."""

from collections.abc import Sequence

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.heads import InputSize
from engine.preprocess import InputRule, up_to_multiple
from engine.refusals import described, line, not_a_detector
from engine.runtime import TensorSpec
from engine.side_files import InputStatement, SideFile

SIDE_PX_DEFAULT = 640
"""Side of the frames of a model with free sides whose side file states none."""
MULTIPLE_DEFAULT = 32
"""Of which free sides are a multiple if the side file states none: the coarsest stride of most detectors."""
INPUT_BYTES_MAX = 2 << 30
"""Of one tensor of pictures: a model may say any size, and a server's is tried in the process that serves."""
_IMAGE_DTYPES = ("float32", "float16", "uint8")


class ImageInput(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a model that looks at pictures."""

    spec: TensorSpec
    layout: str
    size: InputSize
    batch: int | None
    has_free_sides: bool
    is_size_stated: bool
    """False: the sides are free and nobody said how large frames should be."""
    size_tensor: str | None


def image_input(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], side: SideFile) -> ImageInput:
    """The input that takes pictures.

    Raises `Failure`: `model_not_a_detector` naming the shapes if there is none, `model_corrupt` if it has another size than
    the side file states, or one that nobody has memory for.
    """
    pictures = [spec for spec in inputs if _layout(spec, side.input) is not None]
    sizes = [spec for spec in inputs if spec not in pictures and _is_size_tensor(spec)]
    if len(pictures) != 1 or len(pictures) + len(sizes) != len(inputs) or len(sizes) > 1:
        why = "it has no single input of pictures [N, 3, H, W] or [N, H, W, 3]"
        helps = line(
            {"input": {"layout": "NCHW"}}, "(or NHWC) if one of its inputs takes pictures of any number of colours"
        )
        raise not_a_detector(inputs, outputs, why, lines=(helps,))
    spec = pictures[0]
    layout = _layout(spec, side.input) or "NCHW"
    height, width = spec.shape[2:] if layout == "NCHW" else spec.shape[1:3]
    stated = InputSize(width=side.input.size[0], height=side.input.size[1]) if side.input.size else None
    if stated and ((width or stated.width) != stated.width or (height or stated.height) != stated.height):
        raise Failure(
            FailureCode.MODEL_CORRUPT,
            f"side file: size {stated.width} x {stated.height}, but the model takes {width} x {height}",
        )
    default = stated or InputSize(width=SIDE_PX_DEFAULT, height=SIDE_PX_DEFAULT)
    has_free_sides = width is None and height is None
    image = ImageInput(
        spec=spec,
        layout=layout,
        size=_padded(default, side.input)
        if has_free_sides
        else InputSize(width=width or default.width, height=height or default.height),
        batch=spec.shape[0],
        has_free_sides=has_free_sides,
        is_size_stated=(width is not None and height is not None) or stated is not None,
        size_tensor=sizes[0].name if sizes else None,
    )
    _refuse_too_large(image)
    return image


def input_rule(image: ImageInput, usual: InputStatement, stated: InputStatement) -> InputRule:
    """How the model wants its pixels: the side file's word, else as is usual for its head. Raises `Failure(model_corrupt)`."""
    resize = stated.resize or usual.resize or "letterbox"
    if resize == "native" and not image.has_free_sides:
        raise Failure(FailureCode.MODEL_CORRUPT, "side file: resize native needs a model with free sides")
    is_bytes = image.spec.dtype == "uint8"
    if is_bytes and (stated.scale == "0..1" or stated.mean is not None or stated.std is not None):
        raise Failure(
            FailureCode.MODEL_CORRUPT,
            "side file: scale, mean and std are for inputs of floats, and this one takes bytes",
        )
    unscaled = InputStatement(scale="0..255", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    family = unscaled if is_bytes else usual
    return InputRule(
        tensor=image.spec.name,
        dtype=image.spec.dtype,
        layout=image.layout,
        batch=image.batch,
        width=image.size.width,
        height=image.size.height,
        multiple=stated.multiple or (MULTIPLE_DEFAULT if image.has_free_sides else 1),
        colour=stated.colour or usual.colour or "RGB",
        scale=stated.scale or family.scale or "0..1",
        mean=stated.mean or family.mean or (0.0, 0.0, 0.0),
        std=stated.std or family.std or (1.0, 1.0, 1.0),
        resize=resize,
        pad=stated.pad if stated.pad is not None else 114 if usual.pad is None else usual.pad,
        size_tensor=image.size_tensor,
    )


def _refuse_too_large(image: ImageInput) -> None:
    """Raises `Failure(model_corrupt)`."""
    pixels = image.size.width * image.size.height * (image.batch or 1)
    mebibytes = 3 * pixels * np.dtype(image.spec.dtype).itemsize >> 20
    if mebibytes > INPUT_BYTES_MAX >> 20:
        raise Failure(
            FailureCode.MODEL_CORRUPT,
            f"its input {described([image.spec])} has {mebibytes} MiB, more than {INPUT_BYTES_MAX >> 20}",
        )


def _layout(spec: TensorSpec, stated: InputStatement) -> str | None:
    """Where the colours are, None if the tensor takes no pictures."""
    if spec.dtype not in _IMAGE_DTYPES:
        return None
    match spec.shape, stated.layout:
        case ((_, 3, _, _), None | "NCHW") | ((_, None, _, _), "NCHW"):
            return "NCHW"
        case ((_, _, _, 3), None | "NHWC") | ((_, _, _, None), "NHWC"):
            return "NHWC"
        case _:
            return None


def _padded(size: InputSize, stated: InputStatement) -> InputSize:
    """The size of frames with free sides. One that is stated alone is taken at its word: some models want no multiple of 32."""
    multiple = stated.multiple or (MULTIPLE_DEFAULT if stated.resize == "native" else 1)
    return InputSize(width=up_to_multiple(size.width, multiple), height=up_to_multiple(size.height, multiple))


def _is_size_tensor(spec: TensorSpec) -> bool:
    match spec.shape:
        case (_, 2):
            return spec.dtype == "int64"
        case _:
            return False
