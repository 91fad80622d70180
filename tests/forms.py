"""Forms as bytes, as browsers and libraries send them."""

import msgspec

BOUNDARY = "3b7f1c5d"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MP4 = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 8


class Field(msgspec.Struct, frozen=True):
    name: str
    content: bytes
    file_name: str | None = None


def form(*fields: Field, is_whole: bool = True) -> bytes:
    """A `multipart/form-data` body with the given fields in order."""
    body = b"".join(map(_field, fields))
    return body + f"--{BOUNDARY}--\r\n".encode() if is_whole else body[:-2]


def picture(content: bytes = PNG, name: str = "a.png") -> Field:
    return Field("file", content, name)


def config(text: str) -> Field:
    return Field("config", text.encode())


def _field(field: Field) -> bytes:
    name = f'; filename="{field.file_name}"' if field.file_name is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field.name}"{name}\r\n'
    kind = "Content-Type: application/octet-stream\r\n" if field.file_name is not None else ""
    return f"{head}{kind}\r\n".encode() + field.content + b"\r\n"
