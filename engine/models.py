"""What a model file is: opened, tried once, and described."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from contracts.settings import Provider
from engine.checksums import sha256_of
from engine.coco import COCO_NAMES
from engine.external_data import external_files
from engine.heads import Head
from engine.opening import is_script, open_runtime
from engine.picture_input import ImageInput, image_input, input_rule
from engine.plans import is_plan
from engine.preprocess import InputRule
from engine.probing import Probe, mixes_pictures, probe
from engine.recognition import recognise
from engine.runtime import Runtime, Tensor, TensorSpec
from engine.seen import Seen
from engine.side_files import (
    CLASS_NAME_CHARACTERS_MAX,
    CLASSES_MAX,
    HeadName,
    InputStatement,
    ObjectClass,
    SideFile,
    read_classes,
    read_side_file,
)
from engine.sources import ModelSource, beside, name_of

VARIANT_OFFSET = 20
VARIANT_SUFFIXES = ("", "(Wint)", "(Night)")
_NAMES_CHARACTERS_MAX = 1_000_000


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a loaded model."""

    name: str
    """The file's name without its extension, or what its server calls it."""
    sha256: str | None
    """Of the file; None: a server has it."""
    engine_type: str
    head: HeadName
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input: InputRule
    batch_max: int | None = None
    """Pictures that one inference may be shown; None: any number. A model that mixes its pictures is shown one."""
    usual: tuple[str, ...] = ()
    """Which of colour, scale, resize and mean nobody stated: they are as usual for the head."""
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

    @property
    def colours(self) -> dict[int, str]:
        """The colours that the class list states, as CSS writes them: `#rrggbb`; of variants too."""
        variants = range(len(VARIANT_SUFFIXES) if self.has_class_variants else 1)
        stated = {number: found.colour for number, found in self.classes.items()}
        return {
            number + variant * VARIANT_OFFSET: colour
            for variant in variants
            for number, colour in stated.items()
            if colour is not None
        }

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
    head: Head
    card: ModelCard


def describe(source: ModelSource, *, provider: Provider = "auto") -> ModelCard:
    """What a model is. Raises `Failure` as `open_model`."""
    opened = open_model(source, provider=provider)
    opened.runtime.close()
    return opened.card


def open_model(
    source: ModelSource, *, threads: int = 1, provider: Provider = "auto", checks_batch: bool | None = None
) -> OpenModel:
    """The model in an `.onnx` file, of a server, or the script in a `.json` file, after it was tried on a known picture.

    checks_batch: whether it is also shown two pictures at once and alone; None: where its runtime gathers pictures,
    since elsewhere none is ever shown two.
    Raises `Failure`: `model_missing`, also of weights beside it; `forbidden_path` of weights elsewhere; `model_corrupt`
    (unreadable, another checksum than its side file's, does not run, a side file that is wrong); `model_not_a_detector`
    naming the shapes seen; `engine_unavailable` for a provider that is not installed and a server that is away.
    """
    if isinstance(source, Path) and not source.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {source.name}")
    side = SideFile() if is_script(source) else read_side_file(beside(source))
    digest = sha256_of(source) if isinstance(source, Path) else None
    is_vouched_for = isinstance(source, Path) and is_plan(source)  # it has a record of its own, see `read_plan`
    if digest is not None and side.sha256 not in (None, digest) and not is_vouched_for:
        raise Failure(
            FailureCode.MODEL_CORRUPT, f"{name_of(source)}: sha256 {digest}, its side file states {side.sha256}"
        )
    if isinstance(source, Path):
        external_files(source)  # said here: onnxruntime would look for them wherever the file says
    runtime = open_runtime(source, threads=threads, provider=provider)
    try:
        card, head = _described(source, runtime, side, digest)
        if card.batch_max != 1 and (runtime.gathers if checks_batch is None else checks_batch):
            card = _with_checked_batch(card, runtime, head)
    except Failure:
        runtime.close()
        raise
    return OpenModel(runtime=runtime, head=head, card=card)


def _described(source: ModelSource, runtime: Runtime, side: SideFile, digest: str | None) -> tuple[ModelCard, Head]:
    image = image_input(runtime.inputs, runtime.outputs, side)
    tried = probe(runtime, image, side.input)
    if not _are_finite(tried.outputs):
        raise Failure(FailureCode.MODEL_CORRUPT, "its outputs are not finite")
    names = _metadata_names(runtime.metadata.get("names", ""))
    found = recognise(_seen(runtime, tried, image, side, names))
    rule, listed = input_rule(image, found.usual, side.input), read_classes(beside(source))
    warnings = [
        listed.warning,
        None if image.is_size_stated else f"free sides and no size in a side file: {image.size.width} px is used",
        *(f"{missing} is not available" for missing in getattr(runtime, "missing_providers", ())),
    ]
    card = ModelCard(
        name=name_of(source),
        sha256=digest,
        engine_type=runtime.engine_type,
        head=found.head.name,
        inputs=runtime.inputs,
        outputs=runtime.outputs,
        input=rule,
        batch_max=1 if found.reads_one_picture else image.batch or getattr(runtime, "batch_max", None),
        usual=_unstated(side.input, rule),
        nms_iou=found.head.nms_iou,
        classes=listed.classes or _named_classes(side, names, found.class_count),
        class_count=found.class_count,
        has_class_variants=side.class_variants or runtime.metadata.get("class_variants") == "True",
        warnings=tuple(warning for warning in warnings if warning),
    )
    return card, found.head


def _seen(runtime: Runtime, tried: Probe, image: ImageInput, side: SideFile, names: Mapping[int, str]) -> Seen:
    """What the head is told from."""
    stated_names = dict(enumerate(side.classes)) if isinstance(side.classes, list) else names
    return Seen(
        inputs=runtime.inputs,
        outputs=tried.specs(runtime.outputs),
        values=tried.outputs,
        size=image.size,
        scale=tried.scale,
        names=len(COCO_NAMES) if side.classes == "coco" else len(stated_names) or None,
        metadata=runtime.metadata,
        side=side,
    )


def _are_finite(outputs: Sequence[Tensor]) -> bool:
    return all(bool(np.isfinite(output).all()) for output in outputs if output.dtype.kind == "f")


def _unstated(stated: InputStatement, rule: InputRule) -> tuple[str, ...]:
    """What the model is shown in a way that nobody stated."""
    return tuple(
        name
        for name, said in (
            ("colour", stated.colour),
            ("scale", stated.scale if rule.dtype != "uint8" else "bytes"),
            ("resize", stated.resize),
            ("mean", stated.mean if any(rule.mean) else "none"),
        )
        if said is None
    )


def _with_checked_batch(card: ModelCard, runtime: Runtime, head: Head) -> ModelCard:
    """The card of a model of any batch, limited to one picture at a time if several would be mixed."""
    why = mixes_pictures(runtime, card.input, head)
    if why is None:
        return card
    warning = f"one picture at a time: {why}"
    return msgspec.structs.replace(card, batch_max=1, warnings=(*card.warnings, warning))


def _named_classes(side: SideFile, own: Mapping[int, str], count: int | None) -> dict[int, ObjectClass]:
    """Names from the side file, else from the model, else COCO's for 80 classes, else none."""
    names: Mapping[int, str]
    if side.classes == "coco" or (side.classes is None and not own and count == len(COCO_NAMES)):
        names = dict(enumerate(COCO_NAMES))
    elif side.classes is not None:
        names = dict(enumerate(side.classes))
    else:
        names = own
    return {number: ObjectClass(id=number, name=name) for number, name in names.items()}


def _metadata_names(text: str) -> dict[int, str]:
    """The names in a text such as `{0: 'vehicle'}`, `{"0": "vehicle"}` or `['a', 'b']`; none if it is anything else."""
    if not text or len(text) > _NAMES_CHARACTERS_MAX:
        return {}
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = dict(enumerate(value))
    try:
        names = msgspec.convert(value, dict[int, str], strict=False)  # the keys of JSON are texts
    except msgspec.ValidationError:
        return {}
    return {number: _sayable(name) for number, name in names.items() if 0 <= number < CLASSES_MAX and name}


def _sayable(name: str) -> str:
    """A name that fits into a message: it stands in each of 300 detections, and half a character has no bytes in UTF-8."""
    return name[:CLASS_NAME_CHARACTERS_MAX].encode(errors="replace").decode()
