"""Models in ONNX files, run by onnxruntime; the only module that knows it."""

import contextlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.device_loss import DeviceLoss
from engine.runtime import Tensor, TensorSpec, one_line
from engine.telemetry import silence

silence()
import onnxruntime  # noqa: E402 - see above
import onnxruntime.capi.onnxruntime_pybind11_state  # noqa: E402 - the exceptions live in the native module

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
"""The default searches longest at each new shape, and a batch is of any number of pictures; others measured this one faster at
first and no slower afterwards (PaddleX #5057, VOICEVOX core #1391 with onnxruntime 1.23)."""
_LOST = frozenset((214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911))
"""Of CUDA's errors (cudaError_t) those that NVIDIA says leave the process unable to go on, and memory that is defect."""
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
        """device: `auto` takes CUDA where this onnxruntime was built for it, and then misses it; `cuda` misses it anywhere.

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
            self._session, refusal = _opened(path, options, device)
            self._metadata = dict(self._session.get_modelmeta().custom_metadata_map)
            self._inputs = tuple(_spec(node) for node in self._session.get_inputs())
            self._outputs = tuple(_spec(node) for node in self._session.get_outputs())
        except _ERRORS as error:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: {one_line(error)}") from error
        self._is_on_gpu = CUDA in self._session.get_providers()
        is_missing_gpu = not self._is_on_gpu and (device == "cuda" or (device == "auto" and _knows_cuda()))
        self._missing = (CUDA if refusal is None else f"{CUDA} ({refusal})",) if is_missing_gpu else ()
        self._names = [spec.name for spec in self._outputs]
        self._loss = DeviceLoss()

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
        """What was asked for, or is there and refuses, and is not used: then the CPU is."""
        return self._missing

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        try:
            outputs = self._session.run(self._names, dict(tensors))
        except _ERRORS as error:
            raise self._failure(error) from error
        for name, output in zip(self._names, outputs, strict=True):
            if not isinstance(output, np.ndarray):  # a sequence, a map, or an optional one that is not there
                raise Failure(FailureCode.INFERENCE_FAILED, f"output {name} is a {type(output).__name__} and no tensor")
        return tuple(outputs)

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Be told once if the GPU is lost to this process: see `DeviceLoss`."""
        self._loss.watch(on_lost)

    def close(self) -> None:
        del self._session

    def _failure(self, error: BaseException) -> Failure:
        number, said = _cuda_failure(error)
        return self._loss.failure(said) if number in _LOST else Failure(FailureCode.INFERENCE_FAILED, one_line(error))


def _opened(path: Path, options: Any, device: str) -> tuple[Any, str | None]:
    """A session, and what CUDA says if it is installed and refuses: the driver is too old, no GPU is left, its memory is full.

    Where libraries of CUDA are missing, it is silently a session without it.
    """
    if device == "cpu" or not _knows_cuda():
        return _session(path, options, [CPU]), None
    with contextlib.redirect_stdout(sys.stderr):  # it prints which libraries it does not find
        onnxruntime.preload_dlls()  # those of the nvidia-* packages: they are on no search path
    onnxruntime.set_default_logger_severity(_QUIET)  # a GPU that is missing is told by `missing_providers`
    try:
        return _session(path, options, [(CUDA, _CUDA_OPTIONS), CPU]), None
    except _ERRORS as error:
        session = _session(path, options, [CPU])  # raises again what is wrong with the model
        _, said = _cuda_failure(error)
        return session, said


def _knows_cuda() -> bool:
    """How this onnxruntime was built, not whether it finds CUDA."""
    return CUDA in onnxruntime.get_available_providers()


def _cuda_failure(error: BaseException) -> tuple[int | None, str]:
    """700 and `CUDA failure 700: an illegal memory access was encountered`, which stand behind 600 characters of C++.

    None and the whole line if it is no error of CUDA's.
    """
    said = re.search(r"CU\w* failure (\d+)[^;]*", str(error))
    return (None, one_line(error)) if said is None else (int(said[1]), " ".join(said[0].split()))


def _session(path: Path, options: Any, providers: list[Any]) -> Any:
    """Without onnxruntime's own fallback, which prints to the standard output."""
    name = str(path)
    name.encode()  # a name that is no UTF-8 it takes for a mistake in our code
    return onnxruntime.InferenceSession(name, options, providers=providers, enable_fallback=0)


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) and side > 0 else None for side in node.shape)
    return TensorSpec(name=node.name, shape=shape, dtype=_DTYPES.get(node.type, str(node.type)))
