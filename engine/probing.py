"""A model is tried before it serves: what it makes of the known picture, and whether pictures of a batch mix."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from contracts.failures import Failure, FailureCode
from engine.heads import ROWS, Head
from engine.known_picture import KnownPicture
from engine.picture_input import ImageInput, input_rule
from engine.preprocess import InputRule, Preprocessor, View, inputs_of, whole_view
from engine.row_heads import RowsHead, TensorsHead
from engine.runtime import Runtime, Tensor, TensorSpec
from engine.side_files import InputStatement

MIXED_SHARE_MAX = 0.3
"""Of the difference between two pictures, how much may appear in one because of the other: rounding stays far below."""

_ROUNDING = 1e-3
"""Of the size of the numbers themselves: that of half precision."""


class DoesNotRunError(Exception):
    """The model was there and did not answer; the message is the runtime's."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What one run gave."""

    outputs: tuple[Tensor, ...]
    scale: str
    """Of the pixels that were shown."""

    def specs(self, names: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The outputs with the shapes they had."""
        return tuple(
            TensorSpec(name=spec.name, shape=tuple(output.shape), dtype=str(output.dtype))
            for spec, output in zip(names, self.outputs, strict=True)
        )


def probe(runtime: Runtime, image: ImageInput, stated: InputStatement) -> Probe:
    """What the model makes of the known picture. Raises `Failure`: `model_corrupt` if it does not run, `engine_unavailable`.

    A model that finds nothing in pixels of 0..1 is shown those of 0..255: its outputs may be without a row.
    """
    rule = input_rule(image, InputStatement(), stated)
    outputs = _tried(runtime, rule)
    if any(not output.size for output in outputs) and stated.scale is None and rule.scale == "0..1":
        bright = msgspec.structs.replace(rule, scale="0..255")
        again = _tried(runtime, bright)
        if all(output.size for output in again):
            return Probe(outputs=again, scale=bright.scale)
    return Probe(outputs=outputs, scale=rule.scale)


def mixes_pictures(runtime: Runtime, rule: InputRule, head: Head) -> str | None:
    """Why several pictures can't be shown to the model at once; None if they can.

    Two pictures are shown apart and together: what each gives must not depend on the other.
    Raises `Failure(engine_unavailable)` if the runtime is away.
    """
    pictures = [_view(rule, is_other=is_other) for is_other in (False, True)]
    try:
        alone = [_run(runtime, rule, [view]) for view in pictures]
    except DoesNotRunError as error:
        return f"it does not run: {error}"
    try:
        together = _run(runtime, rule, pictures)
    except DoesNotRunError:
        return "it takes any number of pictures but does not run with two"
    for at, both in enumerate(together):
        apart = [_numbers(head, outputs[at], 0) for outputs in alone]
        beside = [_numbers(head, both, place) for place in range(len(pictures))]
        told = [numbers for numbers in (*apart, *beside) if numbers is not None]
        if len(told) < len(apart) + len(beside):
            return "it takes any number of pictures but answers for one"
        if _is_mixed(*told):
            return "what it sees in a picture depends on the other pictures of its batch"
    return None


def _is_mixed(first: Tensor, second: Tensor, first_beside: Tensor, second_beside: Tensor) -> bool:
    """Whether two pictures beside each other give other numbers than each gave alone."""
    allowed = MIXED_SHARE_MAX * _distance(first, second) + _ROUNDING * _distance(first, np.zeros_like(first))
    return max(_distance(first, first_beside), _distance(second, second_beside)) > allowed


def _tried(runtime: Runtime, rule: InputRule) -> tuple[Tensor, ...]:
    try:
        return _run(runtime, rule, [_view(rule)])
    except DoesNotRunError as error:
        raise Failure(FailureCode.MODEL_CORRUPT, f"it does not run: {error}") from error


def _view(rule: InputRule, *, is_other: bool = False) -> View:
    return whole_view(rule, KnownPicture(width=rule.width, height=rule.height, is_other=is_other))


def _run(runtime: Runtime, rule: InputRule, views: Sequence[View]) -> tuple[Tensor, ...]:
    """Raises `DoesNotRunError`, `Failure(engine_unavailable)`."""
    try:
        return runtime.infer(inputs_of(rule, Preprocessor(rule).batch(views), views[0].placement))
    except Failure as failure:
        if failure.code is FailureCode.ENGINE_UNAVAILABLE:
            raise
        raise DoesNotRunError(failure.detail) from failure


def _numbers(head: Head, output: Tensor, at: int) -> Tensor | None:
    """float64[K, M]: what an output says of that picture; None if it does not say it of each.

    Each column is sorted: equal boxes may change places, and that mixes nothing.
    """
    match head:
        case RowsHead(is_flat=True) if output.ndim == ROWS:
            mine = head.rows_of(output, at)
        case TensorsHead(is_batched=False):
            return None
        case _:
            if output.ndim == 0 or at >= len(output) or output.dtype.kind not in "fiub":
                return None
            mine = np.atleast_2d(output[at])
    mine = np.nan_to_num(mine.astype(np.float64), posinf=0, neginf=0)
    mine = mine.reshape(len(mine), math.prod(mine.shape[1:]))
    return -np.sort(-(mine if len(mine) > mine.shape[1] else mine.T), axis=0)


def _distance(one: Tensor, other: Tensor) -> float:
    """The mean difference of float64[K, M] and float64[L, M]; rows that only one of them has count as a whole."""
    rows = max(len(one), len(other), 1)
    room = np.zeros((2, rows, max(one.shape[1], other.shape[1])))
    room[0, : len(one), : one.shape[1]], room[1, : len(other), : other.shape[1]] = one, other
    return float(np.abs(room[0] - room[1]).mean()) if room.size else 0.0
