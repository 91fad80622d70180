"""A deserialised plan; where it computes is in `engine/tensorrt_lanes.py`."""

import re
from typing import Any

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.plans import Plan
from engine.runtime import TensorSpec
from engine.tensorrt_library import load_library, logger_of, made

_OF_THE_GPU = re.compile(r"cuda (runtime|driver)|cudaerror|out ?of ?memory", re.IGNORECASE)
"""In what TensorRT says, for instance `Error Code 1: Cuda Runtime (out of memory)`."""


class TensorRtEngine:
    """What a plan becomes on the GPU whose context is current in this thread."""

    def __init__(self, plan: Plan, library: Any = None) -> None:
        """Raises `Failure`: `engine_unavailable` for want of a library, CUDA or memory, else `model_corrupt` with its words."""
        self.library = library or load_library(plan.library)
        logger = logger_of(self.library)
        self.complaints = logger.complaints
        self._runtime: Any = made(self.library.Runtime, logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan.content)
        if self._engine is None:  # it raises nothing, also where there is no GPU at all
            raise _not_loaded(plan.name, self.complaints.taken("TensorRT does not say why"))
        try:
            specs = [self._spec(self._engine.get_tensor_name(at)) for at in range(self._engine.num_io_tensors)]
        except TypeError as error:
            self.free()  # here: the failure's traceback would hold it until another thread lets that go
            raise Failure(FailureCode.MODEL_CORRUPT, f"{plan.name}: {error}") from error
        self.inputs = tuple(spec for spec in specs if self._is_input(spec.name))
        self.outputs = tuple(spec for spec in specs if not self._is_input(spec.name))

    @property
    def batch_max(self) -> int | None:
        """Rows of the largest batch it was built for; None if it takes one fixed number."""
        rows = [self.shape_max(spec)[0] for spec in self.inputs if spec.shape[:1] == (None,)]
        return min(rows) if rows else None

    def shape_max(self, spec: TensorSpec) -> tuple[int, ...]:
        """The largest shape of an input that it was built for."""
        _least, _usual, largest = self._engine.get_tensor_profile_shape(spec.name, 0)
        return tuple(largest)

    def context(self) -> Any:
        """A new execution context. Raises `Failure(engine_unavailable)`, mostly for lack of memory."""
        context = self._engine.create_execution_context()
        if context is None:
            why = self.complaints.taken("no memory for an execution context")
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, why)
        return context

    def free(self) -> None:
        """Engine first, then the runtime it came from."""
        self._engine = None
        self._runtime = None

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(side if side >= 0 else None for side in self._engine.get_tensor_shape(name))
        dtype = np.dtype(self.library.nptype(self._engine.get_tensor_dtype(name)))
        return TensorSpec(name=name, shape=shape, dtype=dtype.name)

    def _is_input(self, name: str) -> bool:
        return self._engine.get_tensor_mode(name) == self.library.TensorIOMode.INPUT


def _not_loaded(name: str, why: str) -> Failure:
    """The plan's fault, which is dropped and built again, or the GPU's, which says nothing of the plan."""
    if _OF_THE_GPU.search(why):
        return Failure(FailureCode.ENGINE_UNAVAILABLE, f"{name} was not loaded: {why}")
    return Failure(FailureCode.MODEL_CORRUPT, f"{name} is no plan for this GPU: {why}")
