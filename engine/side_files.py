"""What the operator says of a model: the side file `<model>.json` and the class list `classes.json` beside it."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.failures import Failure, FailureCode

SIDE_FILE_BYTES_MAX = 1_000_000
CLASSES_MAX = 10_000
SIDE_PX_MAX = 8192

Side = Annotated[int, Meta(ge=32, le=SIDE_PX_MAX)]
Share = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Triple = tuple[float, float, float]
Resize = Literal["letterbox", "letterbox_top_left", "stretch", "native"]
"""How a picture comes to the size of the input; `native` shows it unscaled and needs a model with free sides."""
HeadName = Literal["yolox", "yolov8", "detr", "end_to_end", "flat"]


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


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nms: Share | None = None
    """IoU above which the weaker of two boxes of a class goes, for heads that repeat themselves."""


class SideFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The side file; everything in it is optional."""

    description: str | None = None
    head: HeadName | None = None
    input: InputStatement = InputStatement()
    thresholds: Thresholds = Thresholds()
    classes: Annotated[list[str], Meta(min_length=1, max_length=CLASSES_MAX)] | Literal["coco"] | None = None
    class_variants: bool = False
    """Class ids from 20 are winter, from 40 night variants of the class 20 or 40 below."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class ObjectClass(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One class, as `classes.json` lists it."""

    id: Annotated[int, Meta(ge=0, le=CLASSES_MAX)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    color: str | None = None
    max_size_m: Annotated[float, Meta(gt=0)] | None = msgspec.field(default=None, name="MaxSizeM")
    """Metres; larger objects of this class are no objects of this class."""


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
