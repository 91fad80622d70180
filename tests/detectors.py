"""Detectors and a runtime for tests of the scheduling: they remember in which order and together with what they looked."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from contracts.detections import Detection
from contracts.failures import Failure, FailureCode
from contracts.options import DetectionOptions
from engine.detector import Detector
from engine.models import ModelCard, OpenModel
from engine.picture import Crop, Picture, Rgb
from engine.postprocess import Boxes, no_boxes
from engine.preprocess import InputRule, Placement, View
from engine.row_heads import RowsHead
from engine.runtime import Tensor, TensorSpec
from engine.tiling import TileBoxes

WAIT_S = 60
SIDE_PX = 16


class Named:
    """A picture that is only a name, looked at in so many views."""

    height = 1

    def __init__(self, name: str, *, views: int = 1) -> None:
        self.name = name
        self.width = views

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:
        raise AssertionError("nobody looks at the pixels of this picture")


class Gated:
    """Detects nothing, each view when it is let through; remembers the order of the views: `a`, `b`, `b`."""

    gathering = None

    def __init__(self) -> None:
        self.looked_at: list[str] = []
        self.started = threading.Semaphore(0)
        self.is_closed = False
        self.looking = 0
        self._gate = threading.Semaphore(0)
        self._lock = threading.Lock()

    def tiles(self, picture: Picture, options: DetectionOptions) -> tuple[Crop, ...]:
        return tuple(Crop(x=x, y=0, width=1, height=1) for x in range(picture.width))

    def view(self, picture: Picture, tile: Crop) -> View:
        placement = Placement(crop=tile, input_width=1, input_height=1, x=0, y=0, width=1, height=1)
        return View(picture=picture, placement=placement)

    def look(self, views: Sequence[View], *, score_min: float) -> list[Boxes]:
        (view,) = views
        assert isinstance(view.picture, Named)
        assert not self.is_closed
        with self._lock:
            self.looking += 1
            self.looked_at.append(view.picture.name)
        self.started.release()
        assert self._gate.acquire(timeout=WAIT_S)
        with self._lock:
            self.looking -= 1
        if view.picture.name.startswith("bad"):
            raise Failure(FailureCode.INFERENCE_FAILED, view.picture.name)
        if view.picture.name.startswith("bug"):
            raise ZeroDivisionError(view.picture.name)
        return [no_boxes()]

    def conclude(self, picture: Picture, seen: list[TileBoxes], options: DetectionOptions) -> list[Detection]:
        assert len(seen) == picture.width
        return []

    def close(self) -> None:
        assert self.looking == 0
        self.is_closed = True

    def let_through(self, count: int = 1) -> None:
        self._gate.release(count)


class GatheringRuntime:
    """Sees one box in each row, made of the mean of its colours; remembers the number of rows of each inference.

    It fails if a row's mean red is above `fails_above` (of 255), whichever rows are beside it.
    """

    engine_type = "fake"
    gathers = True
    metadata: Mapping[str, str] = {}

    def __init__(self, *, batch: int | None = None, fails_above: float = 256.0, is_gated: bool = False) -> None:
        self.batches: list[int] = []
        self.reds: list[list[int]] = []
        """Of each inference, the mean red of each row."""
        self.shapes: list[tuple[int, ...]] = []
        self.started = threading.Semaphore(0)
        self.inferring = self.inferring_max = 0
        self.is_closed = False
        self._batch = batch
        self._fails_above = fails_above
        self._gate = threading.Semaphore(0)
        self._is_gated = is_gated
        self._lock = threading.Lock()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="images", shape=(self._batch, None, None, 3), dtype="uint8"),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="rows", shape=(self._batch, 1, 6), dtype="float32"),)

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        images = tensors["images"]
        with self._lock:
            assert not self.is_closed
            self.batches.append(len(images))
            self.reds.append(images[..., 0].mean(axis=(1, 2)).round().astype(int).tolist())
            self.shapes.append(images.shape)
            self.inferring += 1
            self.inferring_max = max(self.inferring, self.inferring_max)
        try:
            self.started.release()
            assert not self._is_gated or self._gate.acquire(timeout=WAIT_S)
            assert self._batch in (None, len(images))
            return (self._rows(images),)
        finally:
            with self._lock:
                self.inferring -= 1

    def close(self) -> None:
        assert self.inferring == 0
        self.is_closed = True

    def let_through(self, count: int = 1) -> None:
        self._gate.release(count)

    def _rows(self, images: Tensor) -> Tensor:
        means = images.astype(np.float64).mean(axis=(1, 2))
        if (means[:, 0] > self._fails_above).any():
            raise Failure(FailureCode.INFERENCE_FAILED, "a row is too red")
        rows = np.zeros((len(images), 1, 6), np.float32)
        rows[:, 0, 2], rows[:, 0, 3], rows[:, 0, 4] = (1 + means / 256 * [SIDE_PX, SIDE_PX, 1]).T
        rows[:, 0, 4] -= 1
        return rows


def gathering_detector(runtime: GatheringRuntime, *, batch: int | None = None, is_native: bool = False) -> Detector:
    """A detector on that runtime; tiles of 16 x 16 pixels, or pictures in their own size."""
    rule = InputRule(
        tensor="images",
        dtype="uint8",
        layout="NHWC",
        batch=batch,
        width=SIDE_PX,
        height=SIDE_PX,
        scale="0..255",
        resize="native" if is_native else "letterbox",
    )
    card = ModelCard(
        name="fake",
        sha256="",
        engine_type="fake",
        head="end_to_end",
        inputs=runtime.inputs,
        outputs=runtime.outputs,
        input=rule,
        batch_max=batch,
        nms_iou=None,
        classes={},
        class_count=None,
    )
    return Detector(OpenModel(runtime=runtime, head=RowsHead(), card=card))


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when that is so; within seconds, or it fails."""
    pause = threading.Event()
    for _ in range(WAIT_S * 1000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it does not come")
