"""Where a model is: in a file, or on a server."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from contracts.failures import Failure, FailureCode
from engine.plans import model_of
from engine.side_files import is_side_file

SCHEMES = ("triton+grpc", "triton+grpcs", "triton+http", "triton+https")
"""Of a model's address; the `s` is TLS."""
SUFFIXES = (".onnx", ".engine", ".json")
"""Of model files, in the order in which one without is looked for."""
INCOMING = ".incoming."
"""How the names of folders begin that lie beside models and hold what nobody may load yet."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_VERSION = re.compile(r"[0-9]{1,18}")
_FORM = "an address is triton+grpc://host:port/model or triton+http://host:port/model, with /version where it matters"
_HOST_BYTES_MAX = 253


class RemoteModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a server runs (KServe v2: Triton and others)."""

    protocol: Literal["grpc", "http"]
    is_encrypted: bool = False
    host: str
    port: int
    name: str
    version: str = ""
    """Empty: the server's choice."""
    folder: Path = Path()
    """Where its side file `<name>.json` and a `classes.json` may lie."""

    def __str__(self) -> str:
        secure = "s" if self.is_encrypted else ""
        version = f"/{self.version}" if self.version else ""
        return f"triton+{self.protocol}{secure}://{self.netloc}/{self.name}{version}"

    @property
    def netloc(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


ModelSource = Path | RemoteModel


def file_named(path: Path) -> Path | None:
    """The model file that is named there with or without its extension, None if there is none; a side file is no model."""
    if path.suffix in SUFFIXES or not path.name:
        return path if path.is_file() else None
    candidates = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
    return next((each for each in candidates if each.is_file() and not is_side_file(each)), None)


def is_address(text: str) -> bool:
    """True for what names a model of a server, be it well said or not."""
    return text.partition("://")[0] in SCHEMES


def remote_model(address: str, *, folders: Sequence[Path]) -> RemoteModel:
    """The model at an address such as `triton+grpc://127.0.0.1:8001/street/2`.

    folders: where its side file may lie; the first that has one counts, else the first of all.
    Raises `Failure(model_missing)` for anything that is no address.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise Failure(FailureCode.MODEL_MISSING, f"{address!r}: {error}; {_FORM}") from error
    name, _, version = parts.path.removeprefix("/").partition("/")
    is_sound = (
        parts.scheme in SCHEMES
        and 0 < len(parts.hostname or "") <= _HOST_BYTES_MAX
        and not (parts.username or parts.query or parts.fragment)
        and _NAME.fullmatch(name)
        and (not version or _VERSION.fullmatch(version))
    )
    if not is_sound or not port:
        raise Failure(FailureCode.MODEL_MISSING, f"{address!r}: {_FORM}")
    protocol = parts.scheme.removeprefix("triton+")
    return RemoteModel(
        protocol="grpc" if protocol.startswith("grpc") else "http",
        is_encrypted=protocol.endswith("s"),
        host=parts.hostname or "",
        port=port,
        name=name,
        version=version,
        folder=next((folder for folder in folders if (folder / f"{name}.json").is_file()), folders[0]),
    )


def name_of(source: ModelSource) -> str:
    """What the model is called: the file's name without its extension, or its name on the server."""
    return model_of(source).stem if isinstance(source, Path) else source.name


def beside(source: ModelSource) -> Path:
    """The path whose side file and class list are the model's; for a model on a server no file has it."""
    return model_of(source) if isinstance(source, Path) else source.folder / f"{source.name}.remote"
