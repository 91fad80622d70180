"""Views of several pictures in one inference, where that is what the runtime is best at: on a GPU, or behind a server.

Each view is written into its own row of a batch's tensor by whichever worker has time, so nothing is copied to put a batch
together. A batch leaves when it is full, when its first view has waited long enough, or when somebody waits for a picture in
it and nothing else could still join it; while the runtime is busy, due batches go on filling.
"""

from collections.abc import Callable

from engine.heads import InputSize
from engine.preprocess import View
from engine.runtime import Tensor
from engine.showing import Look, Showing
from engine.sight import Sight

BATCH_MAX = 32
"""Views of one inference, unless the model or the options of a picture want fewer."""
BATCH_WAIT_S = 0.005
"""What the first view of a batch waits at most for others."""
INFERENCES_MAX = 2
"""Batches in the runtime at once: one is copied and read while the other is computed."""
BATCHES_MAX = INFERENCES_MAX + 2
"""Batches, each with its tensor: two more are written meanwhile, and a third one only for images, so that they need not wait
behind two full ones. Views that find no place wait, not yet scaled."""


class Batch:
    """Views of one input size that go through one model together. Its tensor may be written by many, a row each."""

    def __init__(self, sight: Sight, size: InputSize, tensor: Tensor, *, rows_max: int, due_s: float) -> None:
        self.sight = sight
        self.size = size
        self.tensor = tensor
        self.looks: list[Look] = []
        self.due_s = due_s
        self.unwritten = 0
        self._rows_max = rows_max

    @property
    def is_full(self) -> bool:
        return len(self.looks) >= self._rows_max

    @property
    def is_hurried(self) -> bool:
        """Whether somebody waits for a picture in it."""
        return any(look.showing.is_hurried for look in self.looks)

    def admits(self, showing: Showing) -> bool:
        """Whether a view of that picture can join: no picture is in a larger batch than its options allow."""
        return len(self.looks) < min(self._rows_max, showing.options.model_batch_size)

    def add(self, look: Look) -> int:
        """The row into which the view is to be written."""
        self.looks.append(look)
        self.unwritten += 1
        self._rows_max = min(self._rows_max, look.showing.options.model_batch_size)
        return len(self.looks) - 1

    def write(self, row: int) -> None:
        """Scale and convert one view into its row."""
        self.sight.write(self.tensor, row, self.looks[row].view)


class Batches:
    """The batches of all models in use, from their first view to their end. Not thread-safe: its owner has a lock."""

    def __init__(self, *, rows_max: int, wait_s: float, now_s: Callable[[], float]) -> None:
        self.running = 0
        """Batches that a runtime is busy with, at most `INFERENCES_MAX`."""
        self._rows_max = rows_max
        self._wait_s = wait_s
        self._now_s = now_s
        self._open: list[Batch] = []
        self._spare: list[Batch] = []
        """Batches that are done, for their tensors: a fresh one costs milliseconds of page faults a row (ENGINE 4)."""

    def place(self, showing: Showing, sight: Sight, view: View) -> Batch | None:
        """The batch which that view can join, a new one if need be; None if it has to wait for one to end."""
        size = InputSize(width=view.placement.input_width, height=view.placement.input_height)
        for batch in self._open:
            if batch.sight is sight and batch.size == size and batch.admits(showing):
                return batch
        if len(self._open) + self.running >= BATCHES_MAX + showing.is_hurried:
            return None
        batch = self._new(sight, size)
        self._open.append(batch)
        return batch

    def start(self, *, nothing_waits: bool) -> Batch | None:
        """A batch that is to be looked at now, if there is one and the runtime has room; `end` gives it back."""
        if self.running >= INFERENCES_MAX:
            return None
        now_s = self._now_s()
        due = [
            batch
            for batch in self._open
            if not batch.unwritten
            and batch.looks
            and (batch.is_full or batch.due_s <= now_s or (nothing_waits and batch.is_hurried))
        ]
        if not due:
            return None
        batch = next((each for each in due if each.is_hurried), due[0])
        self._open.remove(batch)
        self.running += 1
        return batch

    def end(self, batch: Batch, *, is_kept: bool) -> None:
        """A started batch is over. is_kept: its model is still in use, and so will its tensor be."""
        self.running -= 1
        batch.looks = []
        if is_kept:
            self._spare = [*self._spare, batch][-BATCHES_MAX:]

    def forget_tensors(self) -> None:
        """Another model is in use."""
        self._spare.clear()

    def patience_s(self) -> float | None:
        """Seconds until a batch may start though nothing happens; None if something has to happen first."""
        if self.running >= INFERENCES_MAX:
            return None
        waits = [max(batch.due_s - self._now_s(), 0.0) for batch in self._open if batch.looks and not batch.unwritten]
        return min(waits, default=None)

    def clear(self) -> list[Look]:
        """The views in the batches that have not started; they never will."""
        looks = [look for batch in self._open for look in batch.looks]
        self._open.clear()
        self._spare.clear()
        return looks

    def _new(self, sight: Sight, size: InputSize) -> Batch:
        rows_max = min(sight.rows_max or self._rows_max, self._rows_max)
        spare = next((each for each in self._spare if each.sight is sight and each.size == size), None)
        if spare is not None:
            self._spare.remove(spare)
        tensor = sight.room(rows_max, size) if spare is None else spare.tensor
        return Batch(sight, size, tensor, rows_max=rows_max, due_s=self._now_s() + self._wait_s)
