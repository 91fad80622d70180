"""How a process is configured: a struct of settings, read from the environment."""

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

Provider = Literal["auto", "cpu", "cuda", "openvino"]
"""What runs a model. `auto`: NVIDIA's GPU if there is one, else the CPU. `openvino`: a CPU in bfloat16, faster, less exact."""
TensorRtLibrary = Literal["tensorrt", "tensorrt_rtx"]
"""What builds and runs engines on a GPU: TensorRT, or TensorRT for RTX, which has the same classes."""

DecodeIn = Literal["sandbox", "thread"]
"""Where videos are decoded. `sandbox`: in a process for each, which can do nothing else. `thread`: in the process itself."""

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


class ConfigurationError(Exception):
    """An environment variable has a value that its setting does not allow; the message names both."""


def read_settings(
    settings: type[_Settings], environ: Mapping[str, str], *, prefix: str, shared: frozenset[str]
) -> _Settings:
    """The settings, each from `<PREFIX><FIELD>` or, for the names in `shared`, from `<FIELD>` alone.

    Raises `ConfigurationError` naming the variable and its allowed range.
    """
    fields = {field.name: field for field in msgspec.structs.fields(settings)}
    stated = {
        name: environ[variable]
        for name in fields
        if (variable := variable_name(name, prefix=prefix, shared=shared)) in environ
    }
    for name, text in stated.items():
        try:
            msgspec.convert(text, fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{variable_name(name, prefix=prefix, shared=shared)}={text!r}: {error}"
            ) from error
    return msgspec.convert(stated, settings, strict=False)


def variable_name(field: str, *, prefix: str, shared: frozenset[str]) -> str:
    """The environment variable of a setting."""
    return field.upper() if field in shared else prefix + field.upper()
