"""What a model that cannot be used is told: what was seen of it, and what would help."""

from collections.abc import Sequence

from contracts.failures import Failure, FailureCode
from engine.runtime import TensorSpec

_ANY_HEAD = '{"head": "yolov8", "input": {"colour": "RGB", "scale": "0..1", "resize": "letterbox"}}'
SEPARATOR = "; "
"""Between the parts of a refusal: why, what was seen, what helps."""


def not_a_detector(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], why: str, *, lines: Sequence[str] = ()
) -> Failure:
    """The refusal of a model, with the shapes that were seen and what to write into its side file.

    lines: side files that would make it a detector, each with when it is the right one.
    """
    advice = lines or (f"{_ANY_HEAD} with the head and the pixels it has (docs/models.md lists them)",)
    parts = (
        why,
        f"inputs {described(inputs)}",
        f"outputs {described(outputs)}",
        "if it is a detector, write into `<model>.json` beside it",
        *advice,
    )
    return Failure(FailureCode.MODEL_NOT_A_DETECTOR, SEPARATOR.join(parts))


def described(specs: Sequence[TensorSpec]) -> str:
    """`images float32[?, 3, 640, 640], ...`."""
    sides = ((spec, ", ".join("?" if side is None else str(side) for side in spec.shape)) for spec in specs)
    return ", ".join(f"{spec.name} {spec.dtype}[{shape}]" for spec, shape in sides)
