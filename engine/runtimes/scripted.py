"""A model that is a text: it finds the colours it was told of by looking at the pixels it is shown.

With it the whole system is tried and tested without a model: every step before and after the inference is the real one.
The file: `{"runtime": "scripted", "input": [H, W], "objects": [{"class": 0, "name": "red", "rgb": [255, 0, 0],
"confidence": 0.9}], "tolerance": 40, "delay_s": 0.0, "fail_every": 0, "away": [5, 8], "lost_from": 0}`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from contracts.failures import Failure, FailureCode
from engine.device_loss import DeviceLoss
from engine.runtime import Tensor, TensorSpec

ROWS = 300
"""Boxes of one picture; further blobs are not reported."""
_SCRIPT_BYTES_MAX = 1_000_000

Byte = Annotated[int, Meta(ge=0, le=255)]
Side = Annotated[int, Meta(ge=32, le=4096)]


class ScriptedObject(msgspec.Struct, frozen=True, kw_only=True):
    """A colour that is an object."""

    class_num: Annotated[int, Meta(ge=0, le=10_000)] = msgspec.field(name="class")
    rgb: tuple[Byte, Byte, Byte]
    name: str | None = None
    confidence: Annotated[float, Meta(gt=0, le=1)] = 0.9


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says."""

    runtime: Literal["scripted"]
    input: tuple[Side, Side]
    """Height and width, pixels."""
    objects: list[ScriptedObject]
    class_variants: bool = False
    """As in a side file, which a script has none of."""
    tolerance: Byte = 40
    """How far each of R, G and B may be off."""
    area_min_px: Annotated[int, Meta(ge=1)] = 16
    """Smaller blobs, in pixels of the input, are noise."""
    delay_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """Slept in every inference, however many pictures it is shown."""
    fail_every: Annotated[int, Meta(ge=0)] = 0
    """Every such inference fails, counted from 1 after the one at loading; 0: none."""
    away: tuple[int, int] | None = None
    """From the first to the last of these inferences, counted likewise, it is as a server that is away."""
    lost_from: Annotated[int, Meta(ge=0)] = 0
    """From this inference on, counted likewise, it is as a GPU that is lost to its process; 0: never."""


class ScriptedRuntime:
    """Finds blobs of the script's colours. `infer` is thread-safe."""

    engine_type = "scripted"
    gathers = False

    def __init__(self, path: Path) -> None:
        """Raises `Failure`: `model_missing`, or `model_corrupt` naming the field."""
        try:
            with path.open("rb") as file:
                self._script = msgspec.json.decode(file.read(_SCRIPT_BYTES_MAX), type=Script)
        except FileNotFoundError as error:
            raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name}") from error
        except (OSError, ValueError) as error:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name} is no script: {error}") from error
        self._counting = threading.Lock()
        self._inferences = -1  # the first one tries the model when it is loaded
        self._loss = DeviceLoss()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="images", shape=(None, *self._script.input, 3), dtype="uint8"),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name="detections", shape=(None, ROWS, 6), dtype="float32"),)

    @property
    def metadata(self) -> Mapping[str, str]:
        names = {entry.class_num: entry.name for entry in self._script.objects if entry.name}
        return {"end2end": "True", "names": repr(names), "class_variants": str(self._script.class_variants)}

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        with self._counting:
            self._inferences += 1
            number = self._inferences
        if self._script.delay_s and number > 0:
            time.sleep(self._script.delay_s)
        if self._script.fail_every and number > 0 and number % self._script.fail_every == 0:
            raise Failure(FailureCode.INFERENCE_FAILED, f"inference {number} fails as scripted")
        if self._script.away and self._script.away[0] <= number <= self._script.away[1]:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"away in inference {number} as scripted")
        if self._script.lost_from and number >= self._script.lost_from:
            raise self._loss.failure(f"inference {number} as scripted")
        images = tensors["images"]
        rows = np.zeros((len(images), ROWS, 6), np.float32)
        for at, image in enumerate(images):
            found = self._seen(image)[:ROWS]
            rows[at, : len(found)] = np.array(found, np.float32).reshape(-1, 6)
        return (rows,)

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once when it is lost."""
        self._loss.watch(on_lost)

    def close(self) -> None:
        """Nothing is held."""

    def _seen(self, image: NDArray[np.uint8]) -> list[list[float]]:
        """Rows x1, y1, x2, y2, score, class, the most confident first. image: uint8[H, W, 3], RGB."""
        rows: list[list[float]] = []
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.int16)
        for entry in self._script.objects:
            is_alike = np.ones(image.shape[:2], np.bool_)
            for plane, level in zip(planes, entry.rgb, strict=True):
                is_alike &= np.abs(plane - level) <= self._script.tolerance
            rows += [
                [*blob.corners, entry.confidence, float(entry.class_num)]
                for blob in blobs(is_alike)
                if blob.area_px >= self._script.area_min_px
            ]
        return sorted(rows, key=lambda row: -row[4])


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels that touch each other."""

    corners: tuple[float, float, float, float]
    area_px: int


def blobs(mask: NDArray[np.bool_]) -> list[Blob]:
    """The connected (4-neighbours) areas of a mask bool[H, W], from top to bottom."""
    if not mask.any():
        return []
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    runs = [(int(y), int(x1), int(x2)) for (y, x1), (_, x2) in zip(starts, ends, strict=True)]
    parents = list(range(len(runs)))

    def root(at: int) -> int:
        while parents[at] != at:
            parents[at] = parents[parents[at]]
            at = parents[at]
        return at

    above = 0
    for at, (y, x1, x2) in enumerate(runs):
        while runs[above][0] < y - 1 or (runs[above][0] == y - 1 and runs[above][2] <= x1):
            above += 1
        touching = above
        while runs[touching][0] == y - 1 and runs[touching][1] < x2:
            parents[root(at)] = root(touching)
            touching += 1
    return _measured(runs, [root(at) for at in range(len(runs))])


def _measured(runs: list[tuple[int, int, int]], roots: list[int]) -> list[Blob]:
    of_each: dict[int, list[tuple[int, int, int]]] = {}
    for run, belongs in zip(runs, roots, strict=True):
        of_each.setdefault(belongs, []).append(run)
    return [
        Blob(
            corners=(
                float(min(x1 for _, x1, _ in mine)),
                float(mine[0][0]),
                float(max(x2 for _, _, x2 in mine)),
                float(mine[-1][0] + 1),
            ),
            area_px=sum(x2 - x1 for _, x1, x2 in mine),
        )
        for mine in of_each.values()
    ]
