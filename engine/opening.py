"""Which runtime runs a model, by where the model is."""

from pathlib import Path

from contracts.failures import Failure, FailureCode
from engine.plans import is_plan, read_plan
from engine.runtime import Runtime


def open_runtime(path: Path, *, threads: int = 1) -> Runtime:
    """The model in an `.onnx` file, the plan in an `.engine` file, or the script in a `.json` file, ready to infer.

    threads: of one inference on a CPU. Raises `Failure`: `model_missing`, `model_corrupt`,
    `engine_unavailable` (a plan without its GPU).
    """
    if not path.is_file():
        raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name}")
    if is_script(path):
        from engine.runtimes.scripted import ScriptedRuntime

        return ScriptedRuntime(path)
    if is_plan(path):
        from engine.runtimes.tensorrt import TensorRtRuntime

        return TensorRtRuntime(read_plan(path))
    from engine.runtimes.onnx import OnnxRuntime  # loaded when a model needs it: it takes 0.3 s

    return OnnxRuntime(path, threads=threads)


def is_script(path: Path) -> bool:
    """True for a model that is a script of ours and has no side file."""
    return path.suffix == ".json"
