"""Which rows of a model's outputs are sure enough, of which class: the first and by far the largest cut."""

import math

import msgspec
import numpy as np

from engine.postprocess import Floats, Indices
from engine.runtime import Tensor
from engine.side_files import Activation, Background, ClassesPerBox


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with a class that is at least as sure as was asked; a row may be there once for each such class."""

    at: Indices
    scores: Floats
    """float32[K]."""
    classes: Indices


class Scoring(msgspec.Struct, frozen=True, kw_only=True):
    """How the best class and its score are read from a row of numbers."""

    has_objectness: bool = False
    """The first number is multiplied with every class."""
    activation: Activation = "none"
    """What makes scores 0..1 of the numbers."""
    background: Background = "none"
    """Which number is no class."""
    classes_per_box: ClassesPerBox = "best"

    @property
    def class_from(self) -> int:
        """Numbers of a row before its first class."""
        return 1 if self.has_objectness or self.background == "first" else 0

    @property
    def columns_min(self) -> int:
        """Numbers of a row with one class."""
        return 1 + self.class_from + (self.background == "last")

    def of(self, table: Tensor, score_min: float) -> Scored:
        """The rows of float[A, columns] whose score is at least that."""
        last = -1 if self.background == "last" else None
        promising = self._promising(table, score_min, last)
        rows = activated(table[promising], self.activation)
        objectness, rows = rows[:, :1], rows[:, self.class_from : last]
        if self.has_objectness:
            rows = rows * objectness
        if self.classes_per_box == "all":
            chosen, classes = np.nonzero(rows >= score_min)
            return Scored(at=promising[chosen], scores=rows[chosen, classes], classes=classes)
        classes = rows.argmax(axis=1)
        scores = rows[np.arange(len(rows)), classes]
        chosen = np.flatnonzero(scores >= score_min)
        return Scored(at=promising[chosen], scores=scores[chosen], classes=classes[chosen])

    def _promising(self, table: Tensor, score_min: float, last: int | None) -> Indices:
        """Rows that may have such a score, told with one look at each number."""
        if self.activation == "softmax":  # depends on the whole row
            return np.arange(len(table))
        number_min = _logit(score_min) if self.activation == "sigmoid" else score_min
        if self.has_objectness:  # a score is at most its objectness: most rows go here
            return np.flatnonzero(table[:, 0] >= number_min)
        # compared first: the highest of each row costs as much for columns and twice as much for rows
        return np.flatnonzero((table[:, self.class_from : last] >= number_min).any(axis=1))


def activated(numbers: Tensor, activation: Activation) -> Floats:
    """float32[..., C] of float[..., C]: scores 0..1."""
    numbers = numbers.astype(np.float32, copy=False)
    match activation:
        case "none":
            return numbers
        case "sigmoid":
            return 1 / (1 + np.exp(-numbers))
        case "softmax":
            powers = np.exp(numbers - numbers.max(axis=-1, keepdims=True, initial=-np.inf))
            return powers / powers.sum(axis=-1, keepdims=True)


def _logit(score: float) -> float:
    """The number whose sigmoid is that score, a little less so that rounding loses nothing."""
    if score <= 0:
        return -math.inf
    return math.inf if score > 1 else math.log(score / (1 - score)) - 1e-4 if score < 1 else 0.0
