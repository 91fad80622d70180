"""What a model that cannot be used is told: what was seen of it, and what would help."""

import json
from collections.abc import Mapping, Sequence

from contracts.failures import Failure, FailureCode
from engine.runtime import TensorSpec

EXAMPLE_INPUT = {"colour": "RGB", "scale": "0..1", "resize": "letterbox"}
SEPARATOR = "; "
"""Between the parts of a refusal: why, what was seen, what helps."""
TENSORS_MAX = 16
"""Inputs, and outputs, that a refusal names."""
NAME_CHARACTERS_MAX = 100
"""Of a name that a model's file gives; whoever made the file chose it."""


def not_a_detector(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], why: str, *, lines: Sequence[str] = ()
) -> Failure:
    """The refusal of a model, with the shapes that were seen and what to write into its side file.

    lines: side files that would make it a detector, each with when it is the right one.
    """
    example = {"head": "yolov8", "input": EXAMPLE_INPUT}
    advice = lines or (line(example, "with the head and the pixels it has (docs/models.md lists them)"),)
    parts = (
        why,
        f"inputs {described(inputs)}",
        f"outputs {described(outputs)}",
        "if it is a detector, write into `<model>.json` beside it",
        *advice,
    )
    return Failure(FailureCode.MODEL_NOT_A_DETECTOR, SEPARATOR.join(parts))


def line(side_file: Mapping[str, object], when: str) -> str:
    """A side file on one line, and when it is the right one."""
    return f"{json.dumps(side_file)} {when}"


def described(specs: Sequence[TensorSpec]) -> str:
    """`images float32[?, 3, 640, 640], ...`, the first ones of many."""
    sides = (
        (spec, ", ".join("?" if side is None else str(side) for side in spec.shape)) for spec in specs[:TENSORS_MAX]
    )
    shown = [f"{spec.name[:NAME_CHARACTERS_MAX]} {spec.dtype}[{shape}]" for spec, shape in sides]
    more = len(specs) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)
