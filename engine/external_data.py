"""Weights that lie beside an ONNX file: their files are named in it, and are found without the onnx package.

The file is read as protocol buffers (the wire format, and the field numbers of onnx.proto), no more of it than the way to
each tensor's `external_data`. What cannot be read so is no ONNX file, which onnxruntime says in better words.
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from contracts.failures import Failure, FailureCode
from engine.checksums import sha256_of

FIELDS_MAX = 5_000_000
"""Fields looked at in one file; a detector has tens of thousands. Beyond it a file is refused: it could hide anything."""
DEPTH_MAX = 32
"""Of graphs in graphs."""
_VARINT_BYTES_MAX = 10
_CONTINUES = 0x80

_WAY: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "key", 2: "value"},
}
"""Which fields of a message lead on, and to what."""


class _NotOnnxError(Exception):
    """It does not follow the wire format, or nests deeper than anybody reads."""


def external_names(model: Path) -> tuple[str, ...]:
    """The files that hold weights of the model, as it names them, each once; none for what is no ONNX file.

    Raises `Failure`: `forbidden_path` for one that does not lie beside the model, `model_corrupt` for a file of more than
    `FIELDS_MAX` fields; `OSError` if the model cannot be read.
    """
    if model.suffix != ".onnx" or model.stat().st_size == 0:
        return ()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = tuple(dict.fromkeys(_Reading(content).locations()))
        except _NotOnnxError:
            return ()
    for name in found:
        if name in {"", ".", ".."} or "/" in name or "\\" in name or not name.isprintable():
            raise Failure(FailureCode.FORBIDDEN_PATH, f"{model.name}: its weights {name!r} do not lie beside it")
    return found


def external_files(model: Path) -> list[Path]:
    """The same, where they lie. Raises `Failure`: `forbidden_path`, `model_corrupt`, `model_missing`."""
    try:
        files = [model.with_name(name) for name in external_names(model)]
    except OSError as error:
        raise Failure(FailureCode.MODEL_MISSING, f"{model.name}: {error.strerror}") from error
    for file in files:
        if not file.is_file():
            raise Failure(FailureCode.MODEL_MISSING, f"{model.name}: its weights {file.name} do not lie beside it")
    return files


def digest_of_model(model: Path, *, sha256: str | None = None) -> str:
    """What a model with all of its weights is known by: the sha256 of its file if that holds everything.

    sha256: of its file, where it is known already. Raises `Failure` as `external_files`, `OSError`.
    """
    digests = [sha256 or sha256_of(model), *(sha256_of(file) for file in external_files(model))]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


class _Reading:
    """One look through a file."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._fields = 0

    def locations(self) -> Iterator[str]:
        """Raises `_NotOnnxError`, `Failure(model_corrupt)`."""
        yield from self._locations("model", 0, len(self._content), depth=0)

    def _locations(self, message: str, start: int, end: int, *, depth: int) -> Iterator[str]:
        if depth > DEPTH_MAX * len(_WAY):
            raise _NotOnnxError
        way = _WAY[message]
        said: dict[str, bytes] = {}
        for number, begin, stop in self._fields_of(start, end):
            match way.get(number):
                case None:
                    pass
                case "key" | "value" as part:  # in any order, and the last of each counts
                    said[part] = self._content[begin:stop]
                case inner:
                    yield from self._locations(inner, begin, stop, depth=depth + 1)
        if said.get("key") == b"location":
            yield said.get("value", b"").decode(errors="backslashreplace")

    def _fields_of(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, begin and end of each field that has bytes, but for those in groups, of which ONNX has none."""
        at, groups = start, 0
        while at < end:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise Failure(FailureCode.MODEL_CORRUPT, f"more than {FIELDS_MAX} fields are in the file")
            tag, at = self._varint(at, end)
            match tag & 7:
                case 0:  # a number
                    _, at = self._varint(at, end)
                case 1 | 5 as kind:  # one of 8 bytes, one of 4
                    at += 8 if kind == 1 else 4
                case 2:  # bytes, a text or a message
                    length, at = self._varint(at, end)
                    if length > end - at:
                        raise _NotOnnxError
                    if not groups:
                        yield tag >> 3, at, at + length
                    at += length
                case 3:  # a group begins
                    groups += 1
                case 4:  # and ends
                    groups -= 1
                case _:
                    raise _NotOnnxError

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at`, and where it ends."""
        value = 0
        for place in range(_VARINT_BYTES_MAX):
            if at + place >= end:
                break
            byte = self._content[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < _CONTINUES:
                return value, at + place + 1
        raise _NotOnnxError
