"""What is known of a model when its head is looked for, and what is then known of the head."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from contracts.failures import Failure
from engine.evidence import are_shares, finite_rows, unit_of
from engine.heads import BATCH, ROWS, Head, InputSize
from engine.refusals import not_a_detector
from engine.runtime import Tensor, TensorSpec
from engine.scoring import Scoring
from engine.side_files import Activation, Background, InputStatement, OutputStatement, SideFile, Unit


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A model after it was shown the known picture."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    """With the shapes that one run gave."""
    values: tuple[Tensor, ...]
    """What it gave; the first row of each belongs to the known picture."""
    size: InputSize
    scale: str
    """Of the pixels it was shown: `0..1` or `0..255`."""
    names: int | None = None
    """How many classes the model's own metadata, or its side file, names."""
    metadata: Mapping[str, str] = {}
    side: SideFile = SideFile()

    @property
    def stated(self) -> OutputStatement:
        return self.side.output

    @property
    def is_stated(self) -> bool:
        """Whether the side file names the head: then its word is enough where the numbers say nothing."""
        return self.side.head is not None

    def matrix(self) -> Tensor | None:
        """float[rows, columns] of the known picture, if the model has a single output float[N, rows, columns]."""
        return self.rows(0) if len(self.values) == 1 else None

    def rows(self, at: int) -> Tensor | None:
        """float[rows, columns] of the known picture, if that output is float[N, rows, columns]."""
        output = self.values[at]
        return output[0] if output.ndim == BATCH and len(output) and output.dtype.kind == "f" else None

    def named(self, *names: str) -> int | None:
        """Where the first output of one of these names is."""
        return next((at for at, spec in enumerate(self.outputs) if spec.name in names), None)

    def unit(self, boxes: Tensor, *, otherwise: Unit = "pixels") -> Unit:
        """The unit of boxes [K, 4]: the side file's word, else what the numbers tell, else the head's rule."""
        return self.stated.unit or unit_of(finite_rows(boxes)) or otherwise

    def scoring(
        self,
        scores: Tensor,
        *,
        has_objectness: bool = False,
        activation: Activation | None = None,
        background: Background = "none",
    ) -> Scoring:
        """How classes are read from numbers float[K, C]; the side file's word is above what is given.

        activation: None: none for numbers that are 0..1 already, else each number stands for itself.
        """
        told: Activation = activation or ("none" if are_shares(finite_rows(scores)) else "sigmoid")
        return Scoring(
            has_objectness=has_objectness,
            activation=self.stated.activation or told,
            background=self.stated.background or background,
            classes_per_box=self.stated.classes_per_box,
        )

    def nms(self, usual: float | None) -> float | None:
        return self.side.thresholds.nms or usual

    def refused(self, why: str, lines: Sequence[str] = ()) -> Failure:
        """The refusal of this model."""
        return not_a_detector(self.inputs, self.outputs, why, lines=lines)


class Recognised(msgspec.Struct, frozen=True, kw_only=True):
    """A head, and what is usual where such heads come from."""

    head: Head
    usual: InputStatement
    """How models of this kind want their pixels, unless their side file says otherwise."""
    class_count: int | None = None
    """None: the outputs do not say it."""
    reads_one_picture: bool = False
    """Nothing in the outputs says to which picture of a batch a box belongs."""


YOLO = InputStatement(colour="RGB", scale="0..1", resize="letterbox")
YOLOX = InputStatement(colour="BGR", scale="0..255", resize="letterbox_top_left")
STRETCHED = InputStatement(colour="RGB", scale="0..1", resize="stretch")
IMAGENET = InputStatement(
    colour="RGB", scale="0..1", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="stretch"
)
_BGR_MEAN, _BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
NANODET = InputStatement(colour="BGR", scale="0..255", mean=_BGR_MEAN, std=_BGR_STD, resize="stretch")
MMDETECTION = InputStatement(colour="BGR", scale="0..255", mean=_BGR_MEAN, std=_BGR_STD, resize="letterbox_top_left")
FASTESTDET = InputStatement(colour="BGR", scale="0..1", resize="stretch")
SSD = InputStatement(
    colour="RGB", scale="0..255", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), resize="stretch"
)


def first_of(output: Tensor) -> Tensor:
    """The numbers of the known picture in an output of any rank, as rows [K, columns]."""
    picture = output[0] if output.ndim > ROWS and len(output) else output
    return np.atleast_2d(picture)
