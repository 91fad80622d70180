"""Which runtime runs a model, by where the model is."""

from contracts.failures import Failure, FailureCode
from engine.runtime import Runtime
from engine.sources import ModelSource, RemoteModel


def open_runtime(source: ModelSource, *, threads: int = 1) -> Runtime:
    """The model in an `.onnx` file, the script in a `.json` file, or the model of a server, ready to infer.

    threads: of one inference on a CPU. Raises `Failure`: `model_missing`, `model_corrupt`, `engine_unavailable`.
    """
    if isinstance(source, RemoteModel):
        return _open_remote(source)
    if not source.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {source.name}")
    if is_script(source):
        from engine.runtimes.scripted import ScriptedRuntime

        return ScriptedRuntime(source)
    from engine.runtimes.onnx import OnnxRuntime  # loaded when a model needs it: it takes 0.3 s

    return OnnxRuntime(source, threads=threads)


def is_script(source: ModelSource) -> bool:
    """True for a model that is a script of ours and has no side file."""
    return not isinstance(source, RemoteModel) and source.suffix == ".json"


def _open_remote(model: RemoteModel) -> Runtime:
    try:
        from engine.runtimes.triton import TritonRuntime
    except ImportError as error:
        raise Failure(
            FailureCode.ENGINE_UNAVAILABLE, f"{model}: install the extra `triton` ({error.name} is missing)"
        ) from error
    return TritonRuntime(model)
