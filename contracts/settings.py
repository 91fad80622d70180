"""How a process is configured: a struct of settings, read from the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

Provider = Literal["auto", "cpu", "cuda", "openvino"]
"""What runs a model. `auto`: NVIDIA's GPU if there is one, else the CPU. `openvino`: a CPU in bfloat16, faster, less exact."""
TensorRtLibrary = Literal["tensorrt", "tensorrt_rtx"]
"""What builds and runs engines on a GPU: TensorRT, or TensorRT for RTX, which has the same classes."""

DecodeIn = Literal["sandbox", "thread"]
"""Where videos are decoded. `sandbox`: in a process for each, which can do nothing else. `thread`: in the process itself."""

HTTP_PATTERN = r"^(https?://[^\s/?#]\S*)?$"
"""The address of an HTTP service; empty: none."""

FROM_FILE = "_FILE"
"""`<VARIABLE>_FILE` names a file that holds the value: a secret that is mounted, and is in nobody's environment."""

_Settings = TypeVar("_Settings", bound=msgspec.Struct)


class ConfigurationError(Exception):
    """An environment variable has a value that its setting does not allow; the message names both."""


def read_settings(
    settings: type[_Settings], environ: Mapping[str, str], *, prefix: str, shared: frozenset[str]
) -> _Settings:
    """The settings, each from `<PREFIX><FIELD>` or, for the names in `shared`, from `<FIELD>` alone; or from a file.

    Raises `ConfigurationError` naming the variable and its allowed range.
    """
    fields = {field.name: field for field in msgspec.structs.fields(settings)}
    values = {name: _value(environ, variable_name(name, prefix=prefix, shared=shared)) for name in fields}
    stated = {name: value for name, value in values.items() if value is not None}
    for name, text in stated.items():
        try:
            msgspec.convert(text, fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{variable_name(name, prefix=prefix, shared=shared)}={without_user(text)!r}: {error}"
            ) from error
    return msgspec.convert(stated, settings, strict=False)


def unread_variables(
    settings: type[msgspec.Struct], environ: Mapping[str, str], *, prefix: str, shared: frozenset[str]
) -> list[str]:
    """The variables that are named like settings of this process and are none: a misspelt one has no other effect."""
    read = {variable_name(name, prefix=prefix, shared=shared) for name in settings.__struct_fields__}
    return sorted(name for name in environ if name.startswith(prefix) and name.removesuffix(FROM_FILE) not in read)


def variable_name(field: str, *, prefix: str, shared: frozenset[str]) -> str:
    """The environment variable of a setting."""
    return field.upper() if field in shared else prefix + field.upper()


def is_address(url: str, *schemes: str) -> bool:
    """True for an address of one of the schemes with a host, and a port if any that there can be."""
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        return False


def without_user(address: str) -> str:
    """An address as it may be shown, without user and password, also one that is written wrongly; other texts as they are."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else address.rpartition("@")[2]


def _value(environ: Mapping[str, str], variable: str) -> str | None:
    """What a variable says, or the file that `<variable>_FILE` names, without its last line's end; None: neither is there."""
    file = environ.get(variable + FROM_FILE)
    if file is None:
        return environ.get(variable)
    if variable in environ:
        raise ConfigurationError(f"{variable} and {variable}{FROM_FILE}: one of them")
    try:
        return Path(file).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}{FROM_FILE}={file!r}: {error}") from error
