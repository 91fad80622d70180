"""Which runtime runs a model, by where the model is and what is to run it."""

from pathlib import Path

from contracts.failures import Failure, FailureCode
from contracts.settings import Provider
from engine.runtime import Runtime


def open_runtime(path: Path, *, threads: int = 1, provider: Provider = "auto") -> Runtime:
    """The model in an `.onnx` file, or the script in a `.json` file, ready to infer.

    threads: of one inference on a CPU. Raises `Failure`: `model_missing`, `model_corrupt`, and `engine_unavailable` for a
    provider that is not installed.
    """
    if not path.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name}")
    if is_script(path):
        from engine.runtimes.scripted import ScriptedRuntime

        return ScriptedRuntime(path)
    if provider == "openvino":
        return _openvino(path, threads)
    from engine.runtimes.onnx import OnnxRuntime  # loaded when a model needs it: it takes 0.3 s

    return OnnxRuntime(path, threads=threads, device=provider)


def is_script(path: Path) -> bool:
    """True for a model that is a script of ours and has no side file."""
    return path.suffix == ".json"


def _openvino(path: Path, threads: int) -> Runtime:
    try:
        from engine.runtimes.openvino import OpenVinoRuntime
    except ImportError as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"the extra `openvino` is not installed: {error}") from error
    return OpenVinoRuntime(path, threads=threads)
