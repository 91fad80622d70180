"""A form as it arrives: its file in pieces, its configuration as text, everything else ignored; never held in memory."""

from collections.abc import Iterator

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from contracts.failures import Failure, FailureCode
from contracts.options import CONFIG_BYTES_MAX
from edge.headers import checked_name

FIELDS_MAX = 32
"""Fields of one form."""
FIELD_HEADER_BYTES_MAX = 4 * 1024
"""Bytes of one header line of a field, so of a file name too."""


class FileBegan(msgspec.Struct, frozen=True):
    name: str | None
    """The client's file name: data, never a path."""


class FilePart(msgspec.Struct, frozen=True):
    content: bytes


class FileEnded(msgspec.Struct, frozen=True):
    pass


class ConfigRead(msgspec.Struct, frozen=True):
    text: bytes


FormEvent = FileBegan | FilePart | FileEnded | ConfigRead


class FormParser:
    """Takes the bytes of a `multipart/form-data` body, split anywhere, and says what they mean.

    Every method raises `Failure`: `unsupported_content_type`, `malformed_request`, `malformed_options`.
    """

    def __init__(self, content_type: str | None) -> None:
        kind, options = parse_options_header(content_type or "")
        if kind != "multipart/form-data":
            raise Failure(FailureCode.UNSUPPORTED_CONTENT_TYPE, f"Content-Type is {kind!r}, not 'multipart/form-data'")
        try:
            self._parser = PushMultipartParser(
                options.get("boundary", ""),
                max_header_size=FIELD_HEADER_BYTES_MAX,
                max_segment_count=FIELDS_MAX,
            )
        except MultipartError as error:
            raise Failure(FailureCode.MALFORMED_REQUEST, f"Content-Type names no usable boundary: {error}") from error
        self._field: str | None = None
        self._seen: set[str] = set()
        self._config = bytearray()

    def feed(self, chunk: bytes) -> Iterator[FormEvent]:
        """What `chunk` adds; to be taken to its end before the next chunk."""
        try:
            for event in self._parser.parse(chunk):
                yield from self._meaning(event)
        except MultipartError as error:
            raise Failure(FailureCode.MALFORMED_REQUEST, f"the form cannot be read: {error.args[0]}") from error

    def close(self) -> None:
        """The body has ended: was the form whole, and was there a file?"""
        try:
            self._parser.close()
        except MultipartError as error:
            raise Failure(FailureCode.MALFORMED_REQUEST, "the form ends in the middle") from error
        if "file" not in self._seen:
            raise Failure(FailureCode.MALFORMED_REQUEST, "the form has no field 'file'")

    def _meaning(self, event: "MultipartSegment | bytes | bytearray | None") -> Iterator[FormEvent]:
        match event:
            case MultipartSegment():
                yield from self._begin(event)
            case None:
                yield from self._end()
            case _ if self._field == "file":
                yield FilePart(bytes(event))
            case _ if self._field == "config":
                self._add_to_config(event)
            case _:
                pass

    def _begin(self, segment: MultipartSegment) -> Iterator[FormEvent]:
        self._field = segment.name
        if self._field not in ("file", "config"):
            return
        if self._field in self._seen:
            raise Failure(FailureCode.MALFORMED_REQUEST, f"the form has two fields {self._field!r}")
        self._seen.add(self._field)
        if self._field == "file":
            yield FileBegan(checked_name(segment.filename, where="the file name") if segment.filename else None)

    def _end(self) -> Iterator[FormEvent]:
        if self._field == "file":
            yield FileEnded()
        if self._field == "config":
            yield ConfigRead(bytes(self._config))
        self._field = None

    def _add_to_config(self, part: bytes | bytearray) -> None:
        self._config += part
        if len(self._config) > CONFIG_BYTES_MAX:
            raise Failure(FailureCode.MALFORMED_OPTIONS, f"config has more than {CONFIG_BYTES_MAX} bytes")
