"""What a model file is: opened, tried once, and described."""

import ast
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.coco import COCO_NAMES
from engine.heads import AnyHead
from engine.opening import is_script, open_runtime
from engine.plans import is_plan, model_of
from engine.preprocess import InputRule
from engine.recognition import ImageInput, class_count, head_of, image_input, input_rule, not_a_detector
from engine.runtime import Runtime, Tensor, TensorSpec
from engine.side_files import CLASSES_MAX, ObjectClass, SideFile, read_classes, read_side_file

VARIANT_OFFSET = 20
VARIANT_SUFFIXES = ("", "(Wint)", "(Night)")
_HASHED_AT_ONCE = 1 << 20
_NAMES_CHARACTERS_MAX = 1_000_000


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a loaded model."""

    name: str
    """The file's name without its extension."""
    sha256: str
    engine_type: str
    head: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input: InputRule
    nms_iou: float | None
    """None: the model does not repeat itself."""
    classes: dict[int, ObjectClass]
    class_count: int | None
    """None: the outputs do not say it."""
    has_class_variants: bool = False
    warnings: tuple[str, ...] = ()

    def label(self, class_num: int) -> str:
        """The name of a class, `class_<n>` if nobody named it."""
        found, suffix = self._class(class_num)
        return f"class_{class_num}" if found is None else found.name + suffix

    def max_size_m(self, class_num: int) -> float | None:
        """The largest size in metres that an object of the class can have, if it is stated."""
        found, _ = self._class(class_num)
        return None if found is None else found.max_size_m

    def _class(self, class_num: int) -> tuple[ObjectClass | None, str]:
        if not self.has_class_variants:
            return self.classes.get(class_num), ""
        variant, number = divmod(class_num, VARIANT_OFFSET)
        if variant >= len(VARIANT_SUFFIXES):
            return None, ""
        return self.classes.get(number), VARIANT_SUFFIXES[variant]


class OpenModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be used."""

    runtime: Runtime
    head: AnyHead
    card: ModelCard


def describe(path: Path) -> ModelCard:
    """What the model in a file is. Raises `Failure` as `open_model`."""
    opened = open_model(path)
    opened.runtime.close()
    return opened.card


def open_model(path: Path, *, threads: int = 1) -> OpenModel:
    """The model in an `.onnx` file, or the script in a `.json` file, after it was tried on one grey picture.

    Raises `Failure`: `model_missing`; `model_corrupt` (unreadable, another checksum than its side file's, does not run,
    a side file that is wrong); `model_not_a_detector` naming the shapes seen.
    """
    if not path.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name}")
    side = SideFile() if is_script(path) else read_side_file(model_of(path))
    digest = _sha256(path)
    if side.sha256 not in (None, digest) and not is_plan(path):  # a plan has a record of its own, see `read_plan`
        raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: sha256 {digest}, its side file states {side.sha256}")
    runtime = open_runtime(path, threads=threads)
    try:
        return _recognised(path, runtime, side, digest)
    except Failure:
        runtime.close()
        raise


def _recognised(path: Path, runtime: Runtime, side: SideFile, digest: str) -> OpenModel:
    image = image_input(runtime.inputs, runtime.outputs, side)
    seen = _tried(runtime, image)
    head = head_of(seen, size=image.size, metadata=runtime.metadata, side=side)
    if head is None:
        why = "its outputs are of no known head" if side.head is None else f"its outputs are not of head {side.head}"
        raise not_a_detector(runtime.inputs, seen, why)
    rule = input_rule(image, head, side)
    count = class_count(head, seen)
    listed = read_classes(path)
    warnings = [
        listed.warning,
        None if image.is_size_stated else f"free sides and no size in a side file: {image.size.width} px is used",
        *(f"{missing} is not available" for missing in getattr(runtime, "missing_providers", ())),
    ]
    card = ModelCard(
        name=model_of(path).stem,
        sha256=digest,
        engine_type=runtime.engine_type,
        head=head.name,
        inputs=runtime.inputs,
        outputs=runtime.outputs,
        input=rule,
        nms_iou=getattr(head, "nms_iou", None),
        classes=listed.classes or _named_classes(side, runtime.metadata, count),
        class_count=count,
        has_class_variants=side.class_variants or runtime.metadata.get("class_variants") == "True",
        warnings=tuple(warning for warning in warnings if warning),
    )
    return OpenModel(runtime=runtime, head=head, card=card)


def _tried(runtime: Runtime, image: ImageInput) -> tuple[TensorSpec, ...]:
    """The outputs with the shapes that one grey picture gives. Raises `Failure(model_corrupt)` if it does not run."""
    sides = (image.size.height, image.size.width)
    rows = image.batch or 1
    shape = (rows, 3, *sides) if image.layout == "NCHW" else (rows, *sides, 3)
    dtype = np.dtype(image.spec.dtype)
    tensors: dict[str, Tensor] = {image.spec.name: np.full(shape, 114 if dtype == np.uint8 else 0.45, dtype)}
    if image.size_tensor is not None:
        tensors[image.size_tensor] = np.array([[image.size.width, image.size.height]] * rows, np.int64)
    try:
        outputs = runtime.infer(tensors)
    except Failure as failure:
        raise Failure(FailureCode.MODEL_CORRUPT, f"it does not run: {failure.detail}") from failure
    return tuple(
        TensorSpec(name=spec.name, shape=tuple(output.shape), dtype=str(output.dtype))
        for spec, output in zip(runtime.outputs, outputs, strict=True)
    )


def _named_classes(side: SideFile, metadata: Mapping[str, str], count: int | None) -> dict[int, ObjectClass]:
    """Names from the side file, else from the model, else COCO's for 80 classes, else none."""
    names: Mapping[int, str]
    if side.classes == "coco" or (side.classes is None and not metadata.get("names") and count == len(COCO_NAMES)):
        names = dict(enumerate(COCO_NAMES))
    elif side.classes is not None:
        names = dict(enumerate(side.classes))
    else:
        names = _metadata_names(metadata.get("names", ""))
    return {number: ObjectClass(id=number, name=name) for number, name in names.items()}


def _metadata_names(text: str) -> dict[int, str]:
    """The names in a text such as `{0: 'vehicle'}` or `['a', 'b']`; none if it is anything else."""
    if not text or len(text) > _NAMES_CHARACTERS_MAX:
        return {}
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = dict(enumerate(value))
    try:
        names = msgspec.convert(value, dict[int, str])
    except msgspec.ValidationError:
        return {}
    return {number: name for number, name in names.items() if 0 <= number < CLASSES_MAX and name}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASHED_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()
