"""Models in ONNX files, run by OpenVINO on a CPU in bfloat16; the only module that knows it.

Worth it where the CPU multiplies bfloat16 in hardware (AMX, AVX512-BF16): on one with AMX 3.0 times the speed of onnxruntime
for yolov8n, 2.5 for the shipped model, 1.0 for yolox_nano, whose depthwise convolutions gain nothing. In float32 it is no
faster (0.7 to 1.1), so that is not offered.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from contracts.failures import Failure, FailureCode
from engine.runtime import Tensor, TensorSpec, one_line

DEVICE = "CPU"
_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)


class OpenVinoRuntime:
    """A compiled model. `infer` may be called by many threads; each has its own request."""

    engine_type = "openvino"
    gathers = False  # as for onnxruntime on a CPU

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Raises `Failure`: `model_corrupt` with what OpenVINO says of the file."""
        core = openvino.Core()
        self._has_bfloat16 = "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        cores = len(os.sched_getaffinity(0))
        properties: dict[str, Any] = {
            # said, as its own choice depends on the CPU
            "INFERENCE_PRECISION_HINT": "bf16" if self._has_bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": max(1, cores // threads),
            "ENABLE_CPU_PINNING": False,  # the cores are shared with decoders
        }
        try:
            model = core.read_model(str(path))
            self._metadata = _metadata(model)
            self._compiled = core.compile_model(model, DEVICE, properties)
            self._inputs = tuple(_spec(port) for port in self._compiled.inputs)
            self._outputs = tuple(_spec(port) for port in self._compiled.outputs)
        except _ERRORS as error:
            raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: {one_line(error)}") from error
        self._requests = threading.local()

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
        """What was asked for and this CPU has not."""
        return () if self._has_bfloat16 else ("bfloat16",)

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        try:
            request = self._request()
            request.infer(dict(tensors), share_inputs=True)
            return tuple(np.array(request.get_output_tensor(at).data) for at in range(len(self._outputs)))
        except _ERRORS as error:
            raise Failure(FailureCode.INFERENCE_FAILED, one_line(error)) from error

    def close(self) -> None:
        del self._requests, self._compiled

    def _request(self) -> Any:
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        return self._requests.own


def _metadata(model: Any) -> dict[str, str]:
    """What the model file says of itself: OpenVINO keeps it as strings below `framework`."""
    if not model.has_rt_info(["framework"]):
        return {}
    return {name: str(value) for name, value in model.get_rt_info(["framework"]).value.items()}


def _spec(port: Any) -> TensorSpec:
    shape = tuple(None if side.is_dynamic else int(side.get_length()) for side in port.partial_shape)
    dtype = np.dtype(port.element_type.to_dtype()).name
    return TensorSpec(name=port.any_name, shape=shape, dtype=dtype)
