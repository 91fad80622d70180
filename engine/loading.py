"""From a file to a detector."""

from pathlib import Path

from contracts.settings import Provider
from engine.detector import Detector
from engine.models import open_model


def load_detector(path: Path, *, threads: int = 1, provider: Provider = "auto") -> Detector:
    """The detector in an `.onnx` file, or scripted in a `.json` file, tried once on a grey picture.

    threads: of one inference; with one caller per core 1 is best. Raises `Failure` as `engine.models.open_model`.
    """
    return Detector(open_model(path, threads=threads, provider=provider))
