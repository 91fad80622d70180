"""Models in ONNX files, run by onnxruntime; the only module that knows it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state  # the exceptions live in the native module

from contracts.failures import Failure, FailureCode
from engine.runtime import Tensor, TensorSpec, one_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_QUIET = 4  # fatal only: what goes wrong is raised, and warnings about a model's graph help nobody who serves it
_ERRORS: tuple[type[BaseException], ...] = (
    *(
        kind
        for kind in vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    MemoryError,  # a std::bad_alloc
    RuntimeError,
    ValueError,
)
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class OnnxRuntime:
    """A session of onnxruntime. `infer` may be called by many threads; each call uses `threads` of its own."""

    engine_type = "onnx"

    def __init__(self, path: Path, *, threads: int = 1, device: Literal["auto", "cpu", "cuda"] = "cpu") -> None:
        """device: `auto` takes CUDA where this onnxruntime was built for it and finds it, `cuda` misses it otherwise.

        Raises `Failure`: `model_missing`, or `model_corrupt` with what onnxruntime says of the file.
        """
        if not path.is_file():
            raise Failure(FailureCode.MODEL_MISSING, f"no file {path.name}")
        options = onnxruntime.SessionOptions()
        # one thread per call and one caller per core: the default's spinning threads starve each other (ENGINE 0.5)
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _QUIET
        try:
            # without its own fallback, which prints to the standard output and tries the same again
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=_providers(device), enable_fallback=0
            )
            self._metadata = dict(self._session.get_modelmeta().custom_metadata_map)
            self._inputs = tuple(_spec(node) for node in self._session.get_inputs())
            self._outputs = tuple(_spec(node) for node in self._session.get_outputs())
        except _ERRORS as error:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: {one_line(error)}") from error
        self._is_on_gpu = CUDA in self._session.get_providers()
        self._is_missing_gpu = device == "cuda" and not self._is_on_gpu
        self._names = [spec.name for spec in self._outputs]

    @property
    def gathers(self) -> bool:
        """On a GPU; on a CPU a batch gains nothing (ENGINE 1)."""
        return self._is_on_gpu

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._metadata

    @property
    def missing_providers(self) -> tuple[str, ...]:
        """What was asked for and is not used: onnxruntime falls back to the CPU without a word."""
        return (CUDA,) if self._is_missing_gpu else ()

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        try:
            outputs = self._session.run(self._names, dict(tensors))
        except _ERRORS as error:
            raise Failure(FailureCode.INFERENCE_FAILED, one_line(error)) from error
        return tuple(np.asarray(output) for output in outputs)

    def close(self) -> None:
        del self._session


def _providers(device: str) -> list[str]:
    """What to ask onnxruntime for; that it lists CUDA says only how it was built."""
    if device == "cpu" or CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    onnxruntime.preload_dlls()  # those of the nvidia-* packages: they are on no search path
    onnxruntime.set_default_logger_severity(_QUIET)  # a GPU that is missing is told by `missing_providers`
    return [CUDA, CPU]


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in node.shape)
    return TensorSpec(name=node.name, shape=shape, dtype=_DTYPES.get(node.type, str(node.type)))
