"""KServe v2, which Triton and others speak: what is the same over gRPC and over HTTP."""

import contextlib
import http.client
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from contracts.failures import Failure, FailureCode
from engine.runtime import Tensor, TensorSpec
from engine.sources import RemoteModel

MESSAGE_BYTES_MAX = 256 << 20
"""Of a question or an answer; gRPC's own limit of 4 MB is less than a batch of pictures."""
_WORDS_MAX = 500
_AWAY = ("StatusCode.UNAVAILABLE", "429", "502", "503", "504")
_MISSING = ("StatusCode.NOT_FOUND", "404")
_LATE = ("StatusCode.DEADLINE_EXCEEDED",)
_NO_SUCH_QUESTION = ("StatusCode.UNIMPLEMENTED", "404")


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """How long a server may take, seconds."""

    connect_s: float = 2.0
    ask_s: float = 5.0
    """For what it says of a model."""
    infer_s: float = 10.0
    """For an inference, its wait in the server's queue included."""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_max: int
    """0: the server makes no batches of it."""
    parameters: Mapping[str, str]


class Away(Failure):
    """The server cannot be reached, or the model is not there now: the same may succeed in a moment."""

    def __init__(self, detail: str) -> None:
        super().__init__(FailureCode.ENGINE_UNAVAILABLE, detail)


class Connection(Protocol):
    """The way to one model of one server; all threads may use it at once.

    Everything raises `Away`, and `Failure(engine_unavailable)` once a deadline has passed.
    """

    def describe(self) -> Described:
        """What the model takes and gives. Raises `Failure(model_missing)` if the server has no such model."""
        ...

    def check_ready(self) -> None:
        """Raises what keeps the model from inferring now."""
        ...

    def infer(self, tensors: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """The named outputs, read-only. Raises `Failure(inference_failed)` with the server's words."""
        ...

    def close(self) -> None:
        """Nobody asks anything afterwards."""
        ...


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class _Metadata(msgspec.Struct, frozen=True):
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


class _Parameter(msgspec.Struct, frozen=True):
    string_value: str = ""


class _Config(msgspec.Struct, frozen=True):
    max_batch_size: int = 0
    parameters: dict[str, _Parameter] = {}


def described(metadata: object, config: object) -> Described:
    """Raises `ValidationError`."""
    said = msgspec.convert(metadata, _Metadata, strict=False)  # gRPC's JSON has numbers as text
    configured = msgspec.convert(config, _Config, strict=False)
    return Described(
        inputs=tuple(_spec(tensor) for tensor in said.inputs),
        outputs=tuple(_spec(tensor) for tensor in said.outputs),
        batch_max=configured.max_batch_size,
        parameters={name: parameter.string_value for name, parameter in configured.parameters.items()},
    )


def _spec(tensor: _Tensor) -> TensorSpec:
    kind = triton_to_np_dtype(tensor.datatype)
    return TensorSpec(
        name=tensor.name,
        shape=tuple(side if side > 0 else None for side in tensor.shape),
        dtype=tensor.datatype if kind is None else np.dtype(kind).name,
    )


def filled(kind: Any, name: str, tensor: Tensor) -> Any:
    return kind(name, list(tensor.shape), np_to_triton_dtype(tensor.dtype)).set_data_from_numpy(tensor)


def arrays(result: Any, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Raises `KeyError` for an output that is not in the answer."""
    arrays = [result.as_numpy(name) for name in names]
    if missing := [name for name, array in zip(names, arrays, strict=True) if array is None]:
        raise KeyError(", ".join(missing))
    return tuple(arrays)


@contextlib.contextmanager
def understood(model: RemoteModel, *, is_inference: bool = False) -> Generator[None]:
    """Whatever goes wrong inside is raised as a `Failure`."""
    otherwise = FailureCode.INFERENCE_FAILED if is_inference else FailureCode.ENGINE_UNAVAILABLE
    try:
        yield
    except InferenceServerException as error:
        status, said = str(error.status()), f"{model}: {one_line(error.message())}"
        if status in _AWAY or (is_inference and status in _MISSING):  # it was there once
            raise Away(said) from error
        if status in _LATE:
            raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{model}: no answer in time") from error
        raise Failure(FailureCode.MODEL_MISSING if status in _MISSING else otherwise, said) from error
    except TimeoutError as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{model}: no answer in time") from error
    except (OSError, http.client.HTTPException) as error:
        raise Away(f"{model}: {one_line(error)}") from error
    except (ValueError, LookupError, TypeError) as error:  # msgspec's errors are ValueErrors
        raise Failure(otherwise, f"{model}: an answer that cannot be read: {one_line(error)}") from error


@contextlib.contextmanager
def optional() -> Generator[None]:
    """A question of Triton's own: other servers need not know it."""
    try:
        yield
    except InferenceServerException as error:
        if str(error.status()) not in _NO_SUCH_QUESTION:
            raise


def one_line(said: object) -> str:
    printable = "".join(character if character.isprintable() else " " for character in str(said))
    return " ".join(printable.split())[:_WORDS_MAX] or type(said).__name__
