"""From a model to a detector."""

from engine.detector import Detector
from engine.models import open_model
from engine.sources import ModelSource


def load_detector(source: ModelSource, *, threads: int = 1) -> Detector:
    """The detector in an `.onnx` file, of a server, or scripted in a `.json` file, tried once on a grey picture.

    threads: of one inference; with one caller per core 1 is best. Raises `Failure` as `engine.models.open_model`.
    """
    return Detector(open_model(source, threads=threads))
