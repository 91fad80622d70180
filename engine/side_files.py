"""What the operator says of a model: the side file `<model>.json` and the class list `classes.json` beside it."""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.failures import Failure, FailureCode

SIDE_FILE_BYTES_MAX = 1_000_000
CLASSES_MAX = 10_000
CLASS_NAME_CHARACTERS_MAX = 200
SIDE_PX_MAX = 8192
_COLOUR = re.compile("#([0-9A-Fa-f]{6}|[0-9A-Fa-f]{3})")

Side = Annotated[int, Meta(ge=32, le=SIDE_PX_MAX)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Triple = tuple[float, float, float]
ClassName = Annotated[str, Meta(min_length=1, max_length=CLASS_NAME_CHARACTERS_MAX)]
Resize = Literal["letterbox", "letterbox_top_left", "stretch", "native"]
"""How a picture comes to the size of the input; `native` shows it unscaled and needs a model with free sides."""
HeadName = Literal[
    "yolov5",
    "yolov8",
    "yolox",
    "yolox_decoded",
    "rtdetr",
    "detr_logits",
    "boxes_scores",
    "nanodet",
    "fastestdet",
    "end_to_end",
    "flat",
    "detr",
    "padded",
]
"""What the outputs of a model mean; `docs/models.md` says it of each."""
BoxForm = Literal["x1y1x2y2", "y1x1y2x2", "cxcywh"]
Unit = Literal["pixels", "fractions"]
"""Pixels of the input, or 0..1 of it."""
Activation = Literal["none", "sigmoid", "softmax"]
Background = Literal["none", "first", "last"]
ClassesPerBox = Literal["best", "all"]
"""One box of the class that is surest, or one of each class that is sure enough."""
Column = Literal["batch", "x1", "y1", "x2", "y2", "cx", "cy", "w", "h", "score", "class"]


class InputStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model wants its pixels, as far as its file does not say it."""

    layout: Literal["NCHW", "NHWC"] | None = None
    colour: Literal["RGB", "BGR"] | None = None
    scale: Literal["0..1", "0..255"] | None = None
    mean: Triple | None = None
    """Subtracted after scaling, in the model's order of colours."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Divided by after `mean`."""
    resize: Resize | None = None
    size: tuple[Side, Side] | None = None
    """Width and height, pixels; for a model with free sides the size of its frames and tiles."""
    multiple: Annotated[int, Meta(ge=1, le=256)] | None = None
    """Free sides are padded to a multiple of this."""
    pad: Annotated[int, Meta(ge=0, le=255)] | None = None


BOX_COLUMNS: dict[BoxForm, tuple[Column, ...]] = {
    "x1y1x2y2": ("x1", "y1", "x2", "y2"),
    "y1x1y2x2": ("y1", "x1", "y2", "x2"),
    "cxcywh": ("cx", "cy", "w", "h"),
}


class OutputStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the numbers of a model mean, as far as it is not its head's rule."""

    columns: Annotated[list[Column], Meta(min_length=6, max_length=7)] | None = None
    """Of a row of finished boxes (heads end_to_end and flat), in their order."""
    box: BoxForm | None = None
    """How a box is written."""
    unit: Unit | None = None
    activation: Activation | None = None
    """What makes scores 0..1 of the numbers."""
    background: Background | None = None
    """Which column of the class scores is no class."""
    first_class: Annotated[int, Meta(ge=0, le=CLASSES_MAX)] = 0
    """What a model with finished boxes calls its first class: 1 if 0 is the background."""
    classes_per_box: ClassesPerBox = "best"
    objectness: bool | None = None
    """Whether the number behind a box is multiplied with every class."""
    boxes: str | None = None
    """Name of the output with the boxes, where there are several outputs."""
    scores: str | None = None
    classes: str | None = None
    counts: str | None = None
    """Name of the output that says how many boxes of each picture mean something."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for columns that make no box."""
        if self.columns is None:
            return
        known = [{*box, "score", "class"} for box in BOX_COLUMNS.values()]
        if len(set(self.columns)) < len(self.columns) or {*self.columns} - {"batch"} not in known:
            raise ValueError(
                "columns are a box (x1, y1, x2, y2 or cx, cy, w, h), score and class, each once, and batch if there is one"
            )


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nms: Share | None = None
    """IoU above which the weaker of two boxes of a class goes, for heads that repeat themselves."""


class SideFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The side file; everything in it is optional."""

    description: str | None = None
    head: HeadName | None = None
    input: InputStatement = InputStatement()
    output: OutputStatement = OutputStatement()
    thresholds: Thresholds = Thresholds()
    classes: Annotated[list[ClassName], Meta(min_length=1, max_length=CLASSES_MAX)] | Literal["coco"] | None = None
    class_variants: bool = False
    """Class ids from 20 are winter, from 40 night variants of the class 20 or 40 below."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class ObjectClass(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One class, as `classes.json` lists it."""

    id: Annotated[int, Meta(ge=0, le=CLASSES_MAX)]
    name: ClassName
    color: str | None = None
    """As the page draws it: `#rrggbb` or `#rgb`; others are left out, since a colour is no reason to refuse a model."""
    max_size_m: Annotated[float, Meta(gt=0)] | None = msgspec.field(default=None, name="MaxSizeM")
    """Metres; larger objects of this class are no objects of this class."""

    @property
    def colour(self) -> str | None:
        """`#rrggbb` in small letters, None if none is stated."""
        found = None if self.color is None else _COLOUR.fullmatch(self.color)
        if found is None:
            return None
        digits = found[1].lower()
        return f"#{digits}" if len(digits) == len("rrggbb") else "#" + "".join(digit * 2 for digit in digits)


def side_file_of(model: Path) -> Path:
    """Where the side file of a model lies, if it has one."""
    return model.with_suffix(".json")


def read_side_file(model: Path) -> SideFile:
    """What the side file says, nothing if there is none.

    Raises `Failure(model_corrupt)` naming the file and the field: a model fed in a wrong way finds nonsense.
    """
    path = side_file_of(model)
    try:
        return msgspec.json.decode(_bounded(path), type=SideFile)
    except FileNotFoundError:
        return SideFile()
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise Failure(FailureCode.MODEL_CORRUPT, f"side file {path.name}: {error}") from error


class _Script(msgspec.Struct, frozen=True):
    runtime: str
    """Every script has it and no side file may."""


def is_side_file(path: Path) -> bool:
    """True for JSON that is no script: of the same extension, it lies where the model is not (yet, or any more)."""
    if path.suffix != ".json":
        return False
    try:
        msgspec.json.decode(_bounded(path), type=_Script)
    except (OSError, ValueError):
        return True
    return False


class ReadClasses(msgspec.Struct, frozen=True, kw_only=True):
    """The class list beside a model; None if there is none that can be used, and then why, if there is one."""

    classes: dict[int, ObjectClass] | None = None
    warning: str | None = None


def read_classes(model: Path) -> ReadClasses:
    """The class list beside the model. A broken one is a warning: detections without names beat none."""
    path = model.with_name("classes.json")
    try:
        listed = msgspec.json.decode(_bounded(path), type=list[ObjectClass])
    except FileNotFoundError:
        return ReadClasses()
    except (OSError, ValueError) as error:
        return ReadClasses(warning=f"classes.json is not used: {error}")
    classes = {entry.id: entry for entry in listed}
    if len(classes) != len(listed):
        return ReadClasses(warning="classes.json is not used: two classes have the same Id")
    if not classes:
        return ReadClasses(warning="classes.json is not used: it is empty")
    return ReadClasses(classes=classes)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(SIDE_FILE_BYTES_MAX + 1)
    if len(content) > SIDE_FILE_BYTES_MAX:
        raise ValueError(f"larger than {SIDE_FILE_BYTES_MAX} bytes")
    return content
