"""What an operator may tune of a consumer: `CONSUMER_*`, and the names that all services share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from contracts.broker_nodes import check_nodes
from contracts.operator_port import ADDRESS_PATTERN
from contracts.settings import HTTP_PATTERN, DecodeIn, Provider, TensorRtLibrary, read_settings, unread_variables

PREFIX = "CONSUMER_"
SHARED = frozenset(("amqp_url", "storage_dir", "models_dir", "videos_dir", "images_dir", "loader_url"))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class ConsumerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one consumer process; every bound with its unit."""

    amqp_url: Annotated[str, Meta(description="the broker; of a cluster every node, separated by commas")] = (
        "amqp://guest:guest@127.0.0.1:5672/"
    )
    storage_dir: Annotated[str, Meta(min_length=1, description="root of the shared storage")] = "storage"
    models_dir: Annotated[str | None, Meta(description="folder of model files; default: `models` in the storage")] = (
        None
    )
    videos_dir: Annotated[str | None, Meta(description="media root `videos`; unset: refused")] = None
    images_dir: Annotated[str | None, Meta(description="media root `images`; unset: refused")] = None
    loader_url: Annotated[
        str,
        Meta(
            pattern=HTTP_PATTERN,
            description="the Loader, asked for models that are named; unset: the models folder alone",
        ),
    ] = ""
    model: Annotated[
        str | None,
        Meta(
            description="model served while none was chosen with `models use`: a file, a name, or triton+grpc://host:port/model;"
            " default: the shipped one"
        ),
    ] = None
    provider: Annotated[
        Provider, Meta(description="what runs models; auto: a GPU if there is one; openvino: a CPU in bfloat16")
    ] = "auto"
    tensorrt_library: Annotated[
        TensorRtLibrary,
        Meta(description="what engines for a GPU are built with: tensorrt or tensorrt_rtx"),
    ] = "tensorrt"
    batch_max: Annotated[
        int,
        Meta(
            ge=1, le=256, description="pictures in one inference on a GPU or a server; a model or a task may want fewer"
        ),
    ] = 32
    batch_wait_s: Annotated[
        float,
        Meta(ge=0, le=1, description="s that the first picture of an inference waits for others, on a GPU or a server"),
    ] = 0.005
    workers: Annotated[int, Meta(ge=1, le=256, description="inference threads; default: one per core")] = msgspec.field(
        default_factory=_cores
    )
    decode: Annotated[
        DecodeIn,
        Meta(description="where videos are decoded; sandbox: in confined processes; thread: in this one"),
    ] = "sandbox"
    shot_model: Annotated[
        str | None,
        Meta(
            description="model that finds shots: a file, a name, or triton+grpc://host:port/model;"
            " default: `transnetv2.onnx` of the models folder, else the shipped one"
        ),
    ] = None
    videos_max: Annotated[int, Meta(ge=1, le=256, description="videos in flight; more stay queued")] = 8
    shots_max: Annotated[int, Meta(ge=1, le=256, description="shot tasks in flight; more stay queued")] = 2
    warm_up: Annotated[bool, Meta(description="load the model at start instead of at the first command")] = False
    loader_s: Annotated[float, Meta(gt=0, le=7200, description="seconds for one file from or to the Loader")] = 300.0
    model_bytes_max: Annotated[int, Meta(ge=1, description="largest model file that is fetched, bytes")] = 4 << 30
    trial_s: Annotated[
        int, Meta(ge=1, le=3600, description="CPU seconds in which an unknown model must prove itself")
    ] = 60
    trial_memory_bytes: Annotated[
        int, Meta(ge=1 << 28, description="address space in which an unknown model must prove itself, bytes")
    ] = 4 << 30
    image_pixels_max: Annotated[
        int, Meta(ge=1, le=100_000_000, description="largest image, pixels in all; beyond it 413")
    ] = 100_000_000
    image_side_px_max: Annotated[int, Meta(ge=1, le=65_535, description="longest side of an image, pixels")] = 32_768
    video_pixels_max: Annotated[
        int, Meta(ge=1, le=100_000_000, description="largest frame of a video, pixels in all; beyond it the task fails")
    ] = 36_000_000
    video_side_px_max: Annotated[int, Meta(ge=1, le=65_535, description="longest side of a frame, pixels")] = 16_384
    video_duration_max_s: Annotated[
        float, Meta(gt=0, le=86_400, description="longest video, s; there the task ends with what it has reported")
    ] = 43_200.0
    video_frames_max: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="most frames of a video; there the task ends as well")
    ] = 3_000_000
    ahead_max: Annotated[int, Meta(ge=1, le=32, description="reports of one video that wait for the broker")] = 16
    stop_s: Annotated[float, Meta(gt=0, le=600, description="seconds a stopping consumer waits for its tasks")] = 20.0
    metrics_address: Annotated[
        str,
        Meta(
            pattern=ADDRESS_PATTERN,
            description="`host:port` of `/metrics`, `/health/live`, `/health/ready`, for whoever asks; unset: nowhere",
        ),
    ] = ""
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="least level that is logged")
    ] = "info"

    @property
    def storage(self) -> Path:
        return Path(self.storage_dir).absolute()

    @property
    def models(self) -> Path:
        return Path(self.models_dir).absolute() if self.models_dir else self.storage / "models"


def from_environment(environ: Mapping[str, str]) -> ConsumerSettings:
    """The settings in an environment. Raises `ConfigurationError` naming the variable and its range."""
    settings = read_settings(ConsumerSettings, environ, prefix=PREFIX, shared=SHARED)
    check_nodes(settings.amqp_url)
    return settings


def unread(environ: Mapping[str, str]) -> list[str]:
    """What is named like a setting of a consumer in an environment, and is none."""
    return unread_variables(ConsumerSettings, environ, prefix=PREFIX, shared=SHARED)
