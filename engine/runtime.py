"""Tensors in, tensors out: what every runtime offers."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

Tensor = NDArray[Any]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a model; a dimension of None is free."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    """numpy's name: `float32`, `uint8`, `int64`."""


class Runtime(Protocol):
    """A loaded model. `infer` is thread-safe; everything else is used by its owner."""

    @property
    def engine_type(self) -> str:
        """`onnx`, `scripted`, ... as `/health` shows it."""
        ...

    @property
    def gathers(self) -> bool:
        """True: pictures of all streams are best gathered into one `infer` (a GPU, a server); False: a picture a call."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model file says of itself (class names, stride), empty if nothing."""
        ...

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs in the order of `outputs`. Raises `Failure(inference_failed)`."""
        ...

    def close(self) -> None:
        """Free what it holds; `infer` is not called afterwards."""
        ...


def lent(runtime: Runtime, tensors: Mapping[str, Tensor]) -> AbstractContextManager[tuple[Tensor, ...]]:
    """The outputs, to be read within the block and not kept beyond it: a runtime that has a `lend` need not copy them.

    Raises as `infer`, which is what the others do.
    """
    lend = getattr(runtime, "lend", None)
    return nullcontext(runtime.infer(tensors)) if lend is None else lend(tensors)


def one_line(error: BaseException) -> str:
    """What a native library said, fit for a `Failure`: one line of at most 500 characters."""
    return " ".join(str(error).split())[:500] or type(error).__name__
