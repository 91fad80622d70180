"""Which runtime runs a model, by where the model is and what is to run it."""

from pathlib import Path
from typing import Literal

from contracts.failures import Failure, FailureCode
from contracts.settings import Provider
from engine.plans import is_plan, read_plan
from engine.runtime import Runtime
from engine.sources import ModelSource, RemoteModel


def open_runtime(source: ModelSource, *, threads: int = 1, provider: Provider = "auto") -> Runtime:
    """The model in an `.onnx` file, the plan in an `.engine` file, a script in a `.json` file, or the model of a server.

    threads: of one inference on a CPU. Raises `Failure`: `model_missing`, `model_corrupt`, and `engine_unavailable` for a
    provider that is not installed, a plan without its GPU, and a server that is away.
    """
    if isinstance(source, RemoteModel):
        return _open_remote(source)
    if not source.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {source.name}")
    if is_script(source):
        from engine.runtimes.scripted import ScriptedRuntime

        return ScriptedRuntime(source)
    if is_plan(source):
        from engine.runtimes.tensorrt import TensorRtRuntime

        return TensorRtRuntime(read_plan(source))
    if provider == "openvino":
        return _openvino(source, threads)
    return _onnx(source, threads, provider)


def is_script(source: ModelSource) -> bool:
    """True for a model that is a script of ours and has no side file."""
    return not isinstance(source, RemoteModel) and source.suffix == ".json"


def _onnx(path: Path, threads: int, provider: Literal["auto", "cpu", "cuda"]) -> Runtime:
    try:
        from engine.runtimes.onnx import OnnxRuntime  # loaded when a model needs it: it takes 0.3 s
    except ImportError as error:
        raise Failure(
            FailureCode.ENGINE_UNAVAILABLE, f"{path.name}: install the extra `cpu` or `gpu` ({error})"
        ) from error
    return OnnxRuntime(path, threads=threads, device=provider)


def _openvino(path: Path, threads: int) -> Runtime:
    try:
        from engine.runtimes.openvino import OpenVinoRuntime
    except ImportError as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"the extra `openvino` is not installed: {error}") from error
    return OpenVinoRuntime(path, threads=threads)


def _open_remote(model: RemoteModel) -> Runtime:
    try:
        from engine.runtimes.triton import TritonRuntime
    except ImportError as error:
        raise Failure(
            FailureCode.ENGINE_UNAVAILABLE, f"{model}: install the extra `triton` ({error.name} is missing)"
        ) from error
    return TritonRuntime(model)
