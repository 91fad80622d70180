"""Views become rows of a tensor, the model runs, and its outputs become the boxes of each view."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.heads import Head, InputSize, Shown
from engine.postprocess import Boxes
from engine.preprocess import InputRule, Preprocessor, View, inputs_of
from engine.runtime import Runtime, Tensor, lent
from engine.stages import STOPWATCH, Stage

LOOKED_AT = 1000
"""Numbers of an output: of a picture without boxes all of them would cost 1 % of a small model."""


class Sight:
    """What a model sees. Thread-safe."""

    def __init__(self, runtime: Runtime, head: Head, rule: InputRule, *, rows_max: int | None) -> None:
        """rows_max: views of one inference; None: any number."""
        self.rows_max = rows_max
        self._runtime = runtime
        self._head = head
        self._rule = rule
        self._preprocessor = Preprocessor(rule)

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        """What is in each view, in displayed pixels of the whole picture, of at least that score, best first.

        All views are of one input size. They are one inference, or as many as the model needs.
        """
        most = self.rows_max or len(views)
        found: list[Boxes] = []
        for start in range(0, len(views), most):
            some = views[start : start + most]
            started_s = perf_counter()
            tensor = self._preprocessor.batch(some)
            STOPWATCH.took(Stage.PREPROCESS, perf_counter() - started_s)
            found += self.look_at(tensor, some, scores_min=[score_min] * len(some))
        return found

    def room(self, rows: int, size: InputSize) -> Tensor:
        """A tensor of its own for so many views of an input size; a model of a fixed batch gets its rows."""
        return self._preprocessor.room(rows, width=size.width, height=size.height)

    def write(self, tensor: Tensor, row: int, view: View) -> None:
        """Put a view into its row; other rows may be written meanwhile."""
        started_s = perf_counter()
        self._preprocessor.write(tensor, row, view)
        STOPWATCH.took(Stage.PREPROCESS, perf_counter() - started_s)

    def look_at(self, tensor: Tensor, views: Sequence[View], *, scores_min: Sequence[float]) -> list[Boxes]:
        """What is in each view that was written into the first rows of a tensor, of at least its own score.

        Raises `Failure(inference_failed)`, also where half precision has run over: that is not the same as nothing seen.
        """
        rule, placed = self._rule, views[0].placement
        size = InputSize(width=placed.input_width, height=placed.input_height)
        rows = tensor[: rule.batch or len(views)]
        started_s = perf_counter()
        with lent(self._runtime, inputs_of(rule, rows, placed)) as outputs:
            inferred_s = perf_counter()
            read = {
                score_min: self._head.boxes(outputs, Shown(count=len(views), size=size, score_min=score_min))
                for score_min in set(scores_min)  # nearly always one
            }
            for row in range(len(views)):
                if not any(len(found[row]) for found in read.values()) and _is_no_number(outputs, row, rows=len(rows)):
                    raise Failure(FailureCode.INFERENCE_FAILED, "nothing that the model gave is a finite number")
        boxes = [
            view.placement.to_picture(read[score_min][row])
            for row, (view, score_min) in enumerate(zip(views, scores_min, strict=True))
        ]
        STOPWATCH.took(Stage.INFER, inferred_s - started_s)
        STOPWATCH.took(Stage.POSTPROCESS, perf_counter() - inferred_s)
        return boxes


def _is_no_number(outputs: Sequence[Tensor], row: int, *, rows: int) -> bool:
    """Whether all that was given for that row of a batch, as far as `LOOKED_AT` numbers tell, is infinite or none."""
    given = [output[row].reshape(-1) for output in outputs if output.dtype.kind == "f" and output.shape[:1] == (rows,)]
    looked_at = [numbers[:: max(1, numbers.size // LOOKED_AT)] for numbers in given if numbers.size]
    return bool(looked_at) and not any(np.isfinite(numbers).any() for numbers in looked_at)
