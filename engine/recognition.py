"""Which head a model has and how it wants its pixels: read from names, shapes, types and metadata of its file.

What the file cannot say, the side file says; what neither says has the default of the head's family.
"""

from collections.abc import Mapping, Sequence

import msgspec

from contracts.failures import Failure, FailureCode
from engine.heads import (
    YOLOV8_NMS_IOU,
    YOLOX_NMS_IOU,
    AnyHead,
    DetrHead,
    EndToEndHead,
    FlatHead,
    InputSize,
    YoloV8Head,
    YoloxHead,
    grid_cells,
)
from engine.preprocess import InputRule
from engine.runtime import TensorSpec
from engine.side_files import InputStatement, SideFile

SIDE_PX_DEFAULT = 640
"""Side of the frames of a model with free sides whose side file states none."""
YOLOX_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
YOLOV8_STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (4,), (8,))
END_TO_END_ROWS_MAX = 1000
END_TO_END_COLUMNS = 6
YOLOX_FIXED_COLUMNS = 5
"""Box and objectness; the class scores follow."""
YOLOV8_FIXED_ROWS = 4
"""The box; the class scores follow."""
_IMAGE_DTYPES = ("float32", "float16", "uint8")
_ADVICE = (
    'if it is one, write `<model>.json` beside it with "head" (yolox, yolov8, detr, end_to_end or flat)'
    ' and "input" (layout, colour, scale, resize, size)'
)


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
    """The input that takes pictures. Raises `Failure(model_not_a_detector)` naming the shapes if there is none."""
    pictures = [spec for spec in inputs if _layout(spec, side.input) is not None]
    sizes = [spec for spec in inputs if spec not in pictures and _is_size_tensor(spec)]
    if len(pictures) != 1 or len(pictures) + len(sizes) != len(inputs) or len(sizes) > 1:
        raise not_a_detector(inputs, outputs, "it has no single input of pictures [N, 3, H, W] or [N, H, W, 3]")
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
    return ImageInput(
        spec=spec,
        layout=layout,
        size=InputSize(width=width or default.width, height=height or default.height),
        batch=spec.shape[0],
        has_free_sides=width is None and height is None,
        is_size_stated=(width is not None and height is not None) or stated is not None,
        size_tensor=sizes[0].name if sizes else None,
    )


def head_of(
    outputs: Sequence[TensorSpec], *, size: InputSize, metadata: Mapping[str, str], side: SideFile
) -> AnyHead | None:
    """The head of a model whose outputs had these shapes for one picture of that size; None if it is not recognised."""
    if side.head is not None:
        return _stated_head(outputs, side, size)
    if (detr := _detr(outputs)) is not None:
        return detr
    if len(outputs) != 1 or not outputs[0].dtype.startswith("float"):
        return None
    match outputs[0].shape:
        case (_, 7):
            return FlatHead()
        case (_, int(rows), int(columns)):
            return _of_matrix(rows, columns, size=size, metadata=metadata, nms=side.thresholds.nms)
        case _:
            return None


def input_rule(image: ImageInput, head: AnyHead, side: SideFile) -> InputRule:
    """How the model wants its pixels: the side file's word, else the convention of the head's family."""
    stated = side.input
    family = _family(head)
    resize = stated.resize or family.resize or "letterbox"
    if resize == "native" and not image.has_free_sides:
        raise Failure(FailureCode.MODEL_CORRUPT, "side file: resize native needs a model with free sides")
    is_bytes = image.spec.dtype == "uint8"
    return InputRule(
        tensor=image.spec.name,
        dtype=image.spec.dtype,
        layout=image.layout,
        batch=image.batch,
        width=image.size.width,
        height=image.size.height,
        multiple=stated.multiple or (32 if image.has_free_sides else 1),
        colour=stated.colour or family.colour or "RGB",
        scale=stated.scale or ("0..255" if is_bytes else family.scale or "0..1"),
        mean=stated.mean or (0.0, 0.0, 0.0),
        std=stated.std or (1.0, 1.0, 1.0),
        resize=resize,
        pad=114 if stated.pad is None else stated.pad,
        size_tensor=image.size_tensor,
    )


def not_a_detector(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], why: str) -> Failure:
    """The refusal of a model, with the shapes that were seen."""
    seen = f"inputs {described(inputs)}; outputs {described(outputs)}"
    return Failure(FailureCode.MODEL_NOT_A_DETECTOR, f"{why}: {seen}; {_ADVICE}")


def described(specs: Sequence[TensorSpec]) -> str:
    """`images float32[?, 3, 640, 640], ...`."""
    sides = ((spec, ", ".join("?" if side is None else str(side) for side in spec.shape)) for spec in specs)
    return ", ".join(f"{spec.name} {spec.dtype}[{shape}]" for spec, shape in sides)


def class_count(head: AnyHead, outputs: Sequence[TensorSpec]) -> int | None:
    """How many classes the outputs tell apart; None if they do not say it."""
    shape = outputs[0].shape
    match head:
        case YoloxHead():
            return None if shape[2] is None else shape[2] - YOLOX_FIXED_COLUMNS
        case YoloV8Head():
            return None if shape[1] is None else shape[1] - YOLOV8_FIXED_ROWS
        case _:
            return None


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


def _is_size_tensor(spec: TensorSpec) -> bool:
    match spec.shape:
        case (_, 2):
            return spec.dtype == "int64"
        case _:
            return False


def _detr(outputs: Sequence[TensorSpec]) -> DetrHead | None:
    """Labels, corners and scores, in any order, told apart by rank and type."""
    at: dict[str, int] = {}
    for place, spec in enumerate(outputs):
        match spec.shape, spec.dtype:
            case (_, _, 4), "float32" | "float16":
                at["boxes"] = place
            case (_, _), "float32" | "float16":
                at["scores"] = place
            case (_, _), "int64" | "int32":
                at["labels"] = place
            case _:
                return None
    match at:
        case {"boxes": boxes, "scores": scores, "labels": labels} if len(outputs) == len(at):
            return DetrHead(labels_at=labels, boxes_at=boxes, scores_at=scores)
        case _:
            return None


def _of_matrix(
    rows: int, columns: int, *, size: InputSize, metadata: Mapping[str, str], nms: float | None
) -> AnyHead | None:
    """The head of a single output [N, rows, columns]: the number of anchors tells rows from columns."""
    strides = _strides(YOLOX_STRIDES, rows, size)
    is_end_to_end = metadata.get("end2end") == "True" or (strides is None and rows <= END_TO_END_ROWS_MAX)
    if columns == END_TO_END_COLUMNS and is_end_to_end:
        return EndToEndHead()
    if strides is not None and columns > YOLOX_FIXED_COLUMNS:
        return YoloxHead(strides=strides, nms_iou=nms or YOLOX_NMS_IOU)
    is_grid = _strides(YOLOV8_STRIDES, columns, size) is not None
    if YOLOV8_FIXED_ROWS < rows < columns and (is_grid or metadata.get("task") == "detect"):
        return YoloV8Head(nms_iou=nms or YOLOV8_NMS_IOU)
    return None


def _strides(known: tuple[tuple[int, ...], ...], anchors: int, size: InputSize) -> tuple[int, ...] | None:
    """The strides of the grids that have this many cells together."""
    return next((strides for strides in known if anchors == grid_cells(size.width, size.height, strides)), None)


def _stated_head(outputs: Sequence[TensorSpec], side: SideFile, size: InputSize) -> AnyHead | None:
    """The head that the side file names, if the outputs can be one."""
    nms = side.thresholds.nms
    match side.head, outputs[0].shape:
        case "yolox", (_, int(anchors), int(columns)) if columns > YOLOX_FIXED_COLUMNS:
            strides = _strides(YOLOX_STRIDES, anchors, size)
            return None if strides is None else YoloxHead(strides=strides, nms_iou=nms or YOLOX_NMS_IOU)
        case "yolov8", (_, int(rows), _) if rows > YOLOV8_FIXED_ROWS:
            return YoloV8Head(nms_iou=nms or YOLOV8_NMS_IOU)
        case "detr", _:
            return _detr(outputs)
        case "end_to_end", (_, _, 6):
            return EndToEndHead()
        case "flat", (_, 7):
            return FlatHead()
        case _:
            return None


def _family(head: AnyHead) -> InputStatement:
    """How the models of a head's family usually want their pixels."""
    match head:
        case YoloxHead() | FlatHead():
            return InputStatement(colour="BGR", scale="0..255", resize="letterbox_top_left")
        case DetrHead():
            return InputStatement(colour="RGB", scale="0..1", resize="stretch")
        case YoloV8Head() | EndToEndHead():
            return InputStatement(colour="RGB", scale="0..1", resize="letterbox")
