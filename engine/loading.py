"""From a model to a detector."""

import msgspec
import numpy as np

from contracts.options import DetectionOptions
from contracts.settings import Provider
from engine.detector import Detector
from engine.models import open_model
from engine.picture import Crop, Rgb
from engine.sources import ModelSource


def load_detector(source: ModelSource, *, threads: int = 1, provider: Provider = "auto") -> Detector:
    """The detector in an `.onnx` file, of a server, or scripted in a `.json` file, tried once on a known picture.

    threads: of one inference; with one caller per core 1 is best. Raises `Failure` as `engine.models.open_model`.
    """
    return Detector(open_model(source, threads=threads, provider=provider))


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of noise, the same each time."""

    width: int
    height: int

    def scaled(self, *, width: int, height: int, crop: Crop | None = None) -> Rgb:  # noqa: ARG002 - noise everywhere
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def look_at_noise(detector: Detector) -> None:
    """Show the detector one picture of its own size. Raises `Failure(inference_failed)`."""
    detector.detect(Noise(width=detector.size.width, height=detector.size.height), DetectionOptions())
