"""KServe v2 over gRPC."""

from collections.abc import Mapping, Sequence
from typing import Any

import tritonclient.grpc

from engine.kserve import MESSAGE_BYTES_MAX, Away, Deadlines, Described, arrays, described, filled, optional, understood
from engine.runtime import Tensor
from engine.sources import RemoteModel

RECONNECT_MS = 200
RECONNECT_MS_MAX = 1000
"""Between two tries of gRPC to connect; its own limit of 120 s would keep a server away that is back."""


class GrpcConnection:
    """One channel for all threads."""

    def __init__(self, model: RemoteModel, deadlines: Deadlines) -> None:
        self._model = model
        self._deadlines = deadlines
        self._client = tritonclient.grpc.InferenceServerClient(
            model.netloc,
            ssl=model.is_encrypted,
            channel_args=[
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.min_reconnect_backoff_ms", round(deadlines.connect_s * 1000)),  # a try to connect ends after it
                ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
                ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
                ("grpc.use_local_subchannel_pool", 1),  # a new connection does not wait for an old one's next try
                ("grpc.enable_http_proxy", 0),
            ],
        )

    def describe(self) -> Described:
        name, version, within_s = self._model.name, self._model.version, self._deadlines.ask_s
        with understood(self._model):
            metadata = self._client.get_model_metadata(name, version, as_json=True, client_timeout=within_s)
            with optional():
                config: Any = self._client.get_model_config(name, version, as_json=True, client_timeout=within_s)
                return described(metadata, config["config"])
            return described(metadata, {})

    def check_ready(self) -> None:
        with understood(self._model):
            is_ready = self._client.is_model_ready(
                self._model.name, self._model.version, client_timeout=self._deadlines.ask_s
            )
        if not is_ready:
            raise Away(f"{self._model}: the model is not ready")

    def infer(self, tensors: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        with understood(self._model, is_inference=True):
            result = self._client.infer(
                self._model.name,
                [filled(tritonclient.grpc.InferInput, name, tensor) for name, tensor in tensors.items()],
                self._model.version,
                outputs=[tritonclient.grpc.InferRequestedOutput(name) for name in outputs],
                client_timeout=self._deadlines.infer_s,
            )
            return arrays(result, outputs)

    def close(self) -> None:
        self._client.close()
