"""Models that a server runs, such as Triton: reached through KServe v2 and watched, since a server can go away."""

import random
import threading
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from contracts.failures import Failure, FailureCode
from engine.kserve import Away, Connection, Deadlines
from engine.kserve_grpc import GrpcConnection
from engine.kserve_http import HttpConnection
from engine.runtime import Tensor, TensorSpec
from engine.sources import RemoteModel

RETRY_DELAYS_S = (0.05, 0.2, 0.8)
"""Before each new try of an inference whose server was away, each times 0.5 to 1.5; after the last it has failed."""
PROBE_PERIOD_S = 2.0
"""Between two looks at an idle server; a failing inference is a reason to look at once."""
COLOURS = 3
_WITHOUT_BATCH = 3
"""Dimensions of a picture alone."""


class TritonRuntime:
    """A model of a server. `infer` may be called by many threads; the server does with its calls what it is told to."""

    engine_type = "triton"
    gathers = True

    def __init__(self, model: RemoteModel, *, deadlines: Deadlines | None = None) -> None:
        """Ask the server what the model is.

        Raises `Failure`: `model_missing` if it has none of that name, `engine_unavailable` if it does not answer.
        """
        over = GrpcConnection if model.protocol == "grpc" else HttpConnection
        self._connection: Connection = over(model, deadlines or Deadlines())
        try:
            self._described = self._connection.describe()
            self._connection.check_ready()
        except Failure:
            self._connection.close()
            raise
        inputs = self._described.inputs
        self._takes_single = self._described.batch_max == 0 and any(map(_is_picture_alone, inputs))
        self._suspect = threading.Event()
        self._closing = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._with_batch(self._described.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._with_batch(self._described.outputs)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The parameters of the model's configuration on the server."""
        return self._described.parameters

    @property
    def batch_max(self) -> int | None:
        """Pictures that the server takes at once; None: it sets no limit, the shapes may."""
        return self._described.batch_max or None

    def infer(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs, in as many calls as the server's largest batch asks for.

        Raises `Failure`: `inference_failed` with the server's words; `engine_unavailable` if it is away or too slow.
        """
        rows = len(next(iter(tensors.values()), ()))
        most = self.batch_max or rows
        if rows <= most:
            return self._infer_once(tensors)
        cuts = [*range(0, rows, most), rows]
        parts = [
            self._infer_once({name: tensor[start:end] for name, tensor in tensors.items()})
            for start, end in pairwise(cuts)
        ]
        return tuple(np.concatenate(same) for same in zip(*parts, strict=True))

    def watch(self, on_lost: Callable[[str], object]) -> None:
        """Have the server looked after: `on_lost` is told once, from a thread, why the model cannot be reached any more.

        What then brings it back is a new runtime: the server may have come back with another model.
        """
        self._watch = threading.Thread(target=self._look_after, args=(on_lost,), name="triton-watch", daemon=True)
        self._watch.start()

    def close(self) -> None:
        self._closing.set()
        self._suspect.set()
        if self._watch is not None and self._watch is not threading.current_thread():
            self._watch.join()
        self._connection.close()

    def _infer_once(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        for delay_s in RETRY_DELAYS_S:
            try:
                return self._ask(tensors)
            except Away:
                self._closing.wait(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - so that not all come back at once
        try:
            return self._ask(tensors)
        except Failure as failure:
            if failure.code is FailureCode.ENGINE_UNAVAILABLE:
                self._suspect.set()
            raise

    def _ask(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        names = [spec.name for spec in self._described.outputs]
        if not self._takes_single:
            return self._connection.infer(tensors, names)
        outputs = self._connection.infer({name: tensor[0] for name, tensor in tensors.items()}, names)
        return tuple(output[np.newaxis] for output in outputs)

    def _with_batch(self, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        if not self._takes_single:
            return specs
        return tuple(TensorSpec(name=spec.name, shape=(1, *spec.shape), dtype=spec.dtype) for spec in specs)

    def _look_after(self, on_lost: Callable[[str], object]) -> None:
        while True:
            self._suspect.wait(PROBE_PERIOD_S)
            if self._closing.is_set():
                return
            self._suspect.clear()
            try:
                self._connection.check_ready()
            except Failure as failure:
                on_lost(failure.detail)
                return


def _is_picture_alone(spec: TensorSpec) -> bool:
    return len(spec.shape) == _WITHOUT_BATCH and COLOURS in (spec.shape[0], spec.shape[-1])
