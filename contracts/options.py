"""How a medium is looked at: the client's configuration, with every range checked."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.failures import NOT_READ, Failure, FailureCode

CAMERA_ALIASES = {"altitude": "current_height", "focal_length": "focal_length", "sensor_width": "sensor_width"}
"""The older flat names, by what they are called in `camera_config`."""

CONFIG_BYTES_MAX = 64 * 1024
"""Of its JSON, as a client sends it."""

Ratio = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1_000_000)]


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The camera at the moment of recording; with a height it gives metres per pixel."""

    focal_length: Annotated[Positive, Meta(description="mm")] = 24.0
    sensor_width: Annotated[Positive, Meta(description="mm")] = 23.5
    current_zoom: Annotated[Positive, Meta(description="factor")] = 1.0
    current_angle: Annotated[float, Meta(gt=0, le=90, description="degrees, 90 looks straight down")] = 90.0
    current_height: Annotated[Positive, Meta(description="m")] | None = None


class DetectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one task, snake_case on the wire (CONTRACT section 2)."""

    frame_period_recognition: Annotated[int, Meta(ge=1, le=1000, description="every Nth frame is inferred")] = 4
    frame_recognition_seconds: Annotated[
        float,
        Meta(ge=0, le=3600, description="least seconds between reports; 0 reports every sampled frame with detections"),
    ] = 2.0
    probability_threshold: Annotated[Ratio, Meta(description="detections below are dropped")] = 0.25
    tracking_distance_confidence: Annotated[
        Ratio, Meta(description="movement that counts as news, fraction of the model's width")
    ] = 0.0
    tracking_probability_increase: Annotated[Ratio, Meta(description="gain of confidence that counts as news")] = 0.0
    tracking_intersection_threshold: Annotated[
        Ratio, Meta(description="containment ratio above which the weaker box goes")
    ] = 0.6
    model_batch_size: Annotated[int, Meta(ge=1, le=64, description="upper bound of a batch")] = 8
    big_image_tile_overlap_percent: Annotated[int, Meta(ge=0, le=90, description="overlap of tiles")] = 20
    tiling: Annotated[Literal["auto", "off"], Meta(description="off: the whole picture is one frame")] = "auto"
    shots: Annotated[
        bool,
        Meta(description="the shots of a video too, found in the same pass; each shot's first detections are reported"),
    ] = False
    shot_threshold: Annotated[
        Ratio, Meta(description="a frame of a higher probability is in a transition between shots")
    ] = 0.5
    min_shot_frames: Annotated[int, Meta(ge=1, le=100_000, description="a shorter shot belongs to the next one")] = 1
    camera_config: CameraConfig | None = None
    altitude: Annotated[Positive, Meta(description="m; older name of camera_config.current_height")] | None = None
    focal_length: Annotated[Positive, Meta(description="mm; older name of camera_config.focal_length")] | None = None
    sensor_width: Annotated[Positive, Meta(description="mm; older name of camera_config.sensor_width")] | None = None

    def camera(self) -> CameraConfig | None:
        """The camera, with the flat aliases in those fields of it that have their defaults; None if nothing was said."""
        flat = {name: getattr(self, alias) for alias, name in CAMERA_ALIASES.items()}
        said = {name: value for name, value in flat.items() if value is not None}
        if self.camera_config is None:
            return CameraConfig(**said) if said else None
        default = CameraConfig()
        left = {
            name: value for name, value in said.items() if getattr(self.camera_config, name) == getattr(default, name)
        }
        return msgspec.structs.replace(self.camera_config, **left)


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options as read from a client, and the unknown fields that were ignored, those of the camera with their path."""

    options: DetectionOptions
    unknown_fields: tuple[str, ...] = ()


def read_options(text: bytes | str | None) -> ReadOptions:
    """The options in a JSON text; None and the empty text give the defaults.

    Raises `Failure`: `malformed_options` if the text is no JSON object, `options_out_of_range` naming field and range.
    """
    if not text:
        return ReadOptions(options=DetectionOptions())
    try:
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except NOT_READ as error:
        raise Failure(FailureCode.MALFORMED_OPTIONS, f"config is not a JSON object: {error}") from error
    try:
        options = msgspec.json.decode(text, type=DetectionOptions)
    except msgspec.ValidationError as error:
        raise Failure(FailureCode.OPTIONS_OUT_OF_RANGE, _named(error)) from error
    camera = msgspec.json.decode(fields.get("camera_config", b"null"), type=dict[str, msgspec.Raw] | None) or {}
    unknown = [name for name in fields if name not in DetectionOptions.__struct_fields__]
    unknown += [f"camera_config.{name}" for name in camera if name not in CameraConfig.__struct_fields__]
    return ReadOptions(options=options, unknown_fields=tuple(unknown))


def _named(error: msgspec.ValidationError) -> str:
    """`model_batch_size: Expected `int` >= 1 (1..64)` from msgspec's `... - at `$.model_batch_size``."""
    match = re.fullmatch(r"(?s)(?P<problem>.*) - at `\$\.?(?P<field>.*)`", str(error))
    if not match:
        return str(error)
    allowed = _ranges(DetectionOptions).get(match["field"])
    return f"{match['field']}: {match['problem']}" + (f" ({allowed})" if allowed else "")


def _ranges(options: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """`{"model_batch_size": "1..64"}` for every number and choice of the struct and of the structs in it."""
    ranges: dict[str, str] = {}
    for field in msgspec.structs.fields(options):
        for kind in _alternatives(msgspec.inspect.type_info(field.type)):
            if isinstance(kind, msgspec.inspect.StructType):
                ranges |= _ranges(kind.cls, prefix=f"{prefix}{field.name}.")
            elif isinstance(kind, msgspec.inspect.LiteralType):
                ranges[prefix + field.name] = ", ".join(sorted(str(value) for value in kind.values))
            elif isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                low = f"{kind.ge:g}" if kind.ge is not None else f"above {kind.gt or 0:g}"
                ranges[prefix + field.name] = f"{low}..{kind.le or 0:.7g}"
    return ranges


def _alternatives(info: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    plain = info.type if isinstance(info, msgspec.inspect.Metadata) else info
    types = plain.types if isinstance(plain, msgspec.inspect.UnionType) else (plain,)
    return tuple(part.type if isinstance(part, msgspec.inspect.Metadata) else part for part in types)
