"""A model with all that belongs to it: shown a picture, it says what is in it."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.heads import InputSize
from engine.models import ModelCard, OpenModel
from engine.picture import Crop, Picture
from engine.postprocess import DETECTIONS_MAX, Boxes, clipped, most_confident, without_contained
from engine.preprocess import View, place
from engine.runtime import Runtime
from engine.sight import Sight
from engine.tiling import TileBoxes, ground_m_per_px, merged, plan

BATCH_BYTES_MAX = 200_000_000
"""Of the pictures of one inference where the model leaves their number free: 40 of 640 x 640 as float32. A server refuses a
message not much larger (`engine/kserve.py`), and a few of them wait for each other in memory."""
_DIGITS = 6


class Detector:
    """A loaded model. Every method but `close` may be called by any number of threads at once."""

    def __init__(self, opened: OpenModel) -> None:
        self.model: ModelCard = opened.card
        self._runtime: Runtime | None = opened.runtime
        self._sight = Sight(opened.runtime, opened.head, opened.card.input, rows_max=_rows_max(opened.card))
        is_batch_fixed = (opened.card.input.batch or 1) > 1  # with one view a call the other rows would be wasted
        self.gathering: Sight | None = self._sight if opened.runtime.gathers or is_batch_fixed else None
        """How views of several pictures are seen in one inference; None: a view a call is best."""

    @cached_property
    def size(self) -> InputSize:
        """Pixels of the model's frames and tiles."""
        return InputSize(width=self.model.input.width, height=self.model.input.height)

    def detect(
        self, picture: Picture, options: DetectionOptions, *, stop: threading.Event | None = None
    ) -> list[Detection]:
        """What is in the picture, the most confident first, after every filter that the options ask for.

        A large picture is looked at in tiles; between two of them `stop` is honoured.
        Raises `Failure`: `inference_failed`, `cancelled`.
        """
        seen: list[TileBoxes] = []
        for tile in self.tiles(picture, options):
            if stop is not None and stop.is_set():
                raise Failure(FailureCode.CANCELLED, "stopped between two tiles")
            view = self.view(picture, tile)
            [boxes] = self.look([view], score_min=options.probability_threshold)
            seen.append(TileBoxes(tile=tile, boxes=boxes))
        return self.conclude(picture, seen, options)

    def tiles(self, picture: Picture, options: DetectionOptions) -> tuple[Crop, ...]:
        """The parts in which the picture is looked at."""
        return plan(picture.width, picture.height, size=self.size, options=options)

    def view(self, picture: Picture, tile: Crop) -> View:
        """That part of the picture, as the model is shown it."""
        return View(picture=picture, placement=place(self.model.input, tile))

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        """What the model sees in each view: see `Sight.look`."""
        return self._sight.look(views, score_min=score_min)

    def conclude(self, picture: Picture, seen: list[TileBoxes], options: DetectionOptions) -> list[Detection]:
        """The detections of a picture, of what was seen in all its parts."""
        boxes = merged(seen, width=picture.width, height=picture.height)
        boxes = clipped(boxes, width=picture.width, height=picture.height)
        boxes = without_contained(boxes, containment_max=options.tracking_intersection_threshold)
        boxes = self._of_possible_size(boxes, picture, options)
        boxes = most_confident(boxes, at_most=DETECTIONS_MAX)
        return self._detections(boxes, picture)

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once, from a thread, why what infers is lost: a server's model, or a GPU to this process; no other is."""
        watch = getattr(self._runtime, "watch", None)
        if watch is not None:
            watch(on_lost)

    def close(self) -> None:
        """Free the model; nothing else is called afterwards, except this."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()

    def _of_possible_size(self, boxes: Boxes, picture: Picture, options: DetectionOptions) -> Boxes:
        """The boxes no larger on the ground than their class can be; all where metres per pixel are unknown."""
        metres = ground_m_per_px(options.camera(), image_width_px=picture.width)
        if metres is None:
            return boxes
        sides_px = (boxes.corners[:, 2:] - boxes.corners[:, :2]).max(axis=1, initial=0).astype(np.float64)
        sizes_max = (self.model.max_size_m(int(number)) for number in boxes.classes)
        limits = np.array([np.inf if size is None else size for size in sizes_max], np.float64)
        return boxes.take(sides_px * metres <= limits)  # in float64: an odd camera's metres are beyond float32

    def _detections(self, boxes: Boxes, picture: Picture) -> list[Detection]:
        """In fractions of the picture, rounded to a hundredth of a pixel of the largest; what is empty then is no box."""
        whole = np.array([picture.width, picture.height] * 2, np.float64)
        corners = (boxes.corners / whole).clip(0, 1).round(_DIGITS)
        rows = zip(corners.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True)
        return [
            Detection(
                center_x=round((x1 + x2) / 2, _DIGITS + 1),
                center_y=round((y1 + y2) / 2, _DIGITS + 1),
                width=round(x2 - x1, _DIGITS),
                height=round(y2 - y1, _DIGITS),
                class_num=number,
                label=self.model.label(number),
                confidence=round(score, _DIGITS),
            )
            for (x1, y1, x2, y2), score, number in rows
            if x1 < x2 and y1 < y2
        ]


def _rows_max(card: ModelCard) -> int | None:
    """Pictures of one inference."""
    rule = card.input
    if rule.batch is not None:
        return card.batch_max
    most = max(1, BATCH_BYTES_MAX // (3 * rule.width * rule.height * np.dtype(rule.dtype).itemsize))
    return min(card.batch_max or most, most)
