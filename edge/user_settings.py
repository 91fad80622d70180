"""What a user has set for all detections, and how it gives way to what a request says: request > user > defaults."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from contracts.failures import Failure, FailureCode
from contracts.options import CAMERA_ALIASES, CameraConfig, DetectionOptions, ReadOptions, read_options

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def merged(config: bytes | None, user: Mapping[str, Any]) -> ReadOptions:
    """The options of a request, with the user's settings where the request says nothing.

    config: the request's JSON object, None or empty for none. user: the settings, perhaps in nested groups; what of them is
    unknown or out of range is passed over. Of a camera the request's fields go over the user's.
    Raises `Failure` as `read_options`, about the request alone.
    """
    asked = read_options(config)
    try:
        stated = _stated(config) if config else {}
    except RecursionError as error:  # where this stack is just deeper than the one that checked it
        raise Failure(FailureCode.MALFORMED_OPTIONS, "config is nested too deeply") from error
    settings = {name: value for name, value in _flat(user) if _is_allowed(name, value)}
    fields = settings | stated
    camera = _camera(settings) | _camera(stated)
    if camera:
        fields = {name: value for name, value in fields.items() if name not in CAMERA_ALIASES}
        fields["camera_config"] = camera
    read = read_options(msgspec.json.encode(fields))
    return ReadOptions(options=read.options, unknown_fields=asked.unknown_fields)


def _stated(config: bytes) -> dict[str, Any]:
    """The fields that we know of a configuration that has been checked; the others may hold what nobody can decode."""
    fields = _known(config, DetectionOptions)
    stated = {name: msgspec.json.decode(value) for name, value in fields.items() if name != "camera_config"}
    camera = msgspec.json.decode(fields.get("camera_config", b"null"), type=msgspec.Raw)
    if bytes(camera) != b"null":
        stated["camera_config"] = {
            name: msgspec.json.decode(value) for name, value in _known(camera, CameraConfig).items()
        }
    return stated


def _known(text: bytes | msgspec.Raw, kind: type[msgspec.Struct]) -> dict[str, msgspec.Raw]:
    fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {name: value for name, value in fields.items() if name in kind.__struct_fields__}


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields by their names here, out of all groups."""
    for name, value in settings.items():
        field = _CAPITAL.sub(r"_\1", name).lower()
        if field == "camera_config" and isinstance(value, dict):
            yield field, {_CAPITAL.sub(r"_\1", part).lower(): said for part, said in value.items()}
        elif isinstance(value, dict):
            yield from _flat(value)
        elif field in DetectionOptions.__struct_fields__:
            yield field, value


def _is_allowed(name: str, value: Any) -> bool:
    try:
        read_options(msgspec.json.encode({name: value}))
    except Failure:
        return False
    return True


def _camera(fields: Mapping[str, Any]) -> dict[str, Any]:
    """All that is said of the camera, under the names of `camera_config`; that itself goes over the flat aliases."""
    flat = {CAMERA_ALIASES[name]: value for name, value in fields.items() if name in CAMERA_ALIASES}
    said = {name: value for name, value in flat.items() if value is not None}
    return said | (fields.get("camera_config") or {})
