"""What is asked of the edge, one value per question, and how its answer is read: both clients only carry them."""

import contextlib
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Generic, TypeVar

import httpx
import msgspec

from contracts.detections import Detection
from contracts.events import DetectionEvent
from contracts.settings import without_user
from detections.answers import (
    DEFAULT_URL,
    ClientError,
    Health,
    ServiceError,
    Started,
    Task,
    UnreachableError,
    UnusableError,
)
from detections.resuming import CONFLICTS, PASSING, Interrupted
from detections.sse import MalformedStreamError
from detections.uploading import Config, Upload, check_regular, config_text, sendable_name
from detections.web_addresses import is_web_address

STREAM = "/detect/stream"
EVENT_STREAM = "text/event-stream"
UPLOADS = "/uploads"
_TOKEN = re.compile(r"[!-~]+")  # visible ASCII: httpx would quote anything else in its error
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 30.0
"""Of one chunk: an edge that does not take it is gone."""
READ_TIMEOUT_S = 30.0
DETECT_TIMEOUT_S = 310.0
"""A synchronous answer: the edge gives up after 300 s and says so."""
SEALED_TIMEOUT_S = 120.0
"""From the last byte of an upload to its answer: fsync and the broker's confirm lie between."""
HEARTBEAT_TIMEOUT_S = 45.0
"""Without a heartbeat (every 15 s) for this long, an event stream is dead."""
TRIES_MAX = 3
"""Of a question that changes nothing, when its connection breaks."""
RETRY_DELAY_S = 0.2

_Answer = TypeVar("_Answer")


class Call(msgspec.Struct, Generic[_Answer], frozen=True, kw_only=True):
    """One request and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], _Answer]
    headers: dict[str, str] = {}
    tries_max: int = TRIES_MAX
    """1 for a question that changes something."""
    read_timeout_s: float = READ_TIMEOUT_S

    def answer(self, response: httpx.Response) -> _Answer:
        """The answer in a read response. Raises `ServiceError`, `ClientError` for an answer that is not understood."""
        raise_for_refusal(response)
        try:
            return self.read(response)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ClientError(f"{self.method} {self.path} was answered with something else: {error}") from error


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where an upload stands at the edge."""

    offset_bytes: int
    is_complete: bool


def address(url: str) -> str:
    """The edge's, without the slash at its end. Raises `UnusableError` for what can be none."""
    if not is_web_address(url):
        raise UnusableError(f"{without_user(url)!r} is no address such as {DEFAULT_URL}")
    return url.rstrip("/")


def authorization(token: str | None, refresh_token: str | None = None) -> dict[str, str]:
    """The headers that tokens travel in, and nowhere else.

    Raises `UnusableError` for one that fits into no header, and for a refresh token without a token that it could refresh.
    """
    if token is None:
        if refresh_token is not None:
            raise UnusableError("there is a refresh token without a token")
        return {}
    if not _TOKEN.fullmatch(token):
        raise UnusableError("the token is empty or has characters that no token has")
    if refresh_token is None:
        return {"Authorization": f"Bearer {token}"}
    if not _TOKEN.fullmatch(refresh_token):
        raise UnusableError("the refresh token is empty or has characters that no token has")
    return {"Authorization": f"Bearer {token}", "X-Refresh-Token": refresh_token}


def raise_for_refusal(response: httpx.Response) -> None:
    """Raises `ServiceError` unless the status is 2xx."""
    if not response.is_success:
        raise _refusal(response)


def check_stream(response: httpx.Response) -> None:
    """Raises `ServiceError` for a refusal, `ClientError` for a web server that answers everything and knows no events."""
    raise_for_refusal(response)
    kind = response.headers.get("content-type", "")
    if not kind.startswith(EVENT_STREAM):
        raise ClientError(f"GET {STREAM} was answered with something else: {kind or 'no content type'}")


@contextlib.contextmanager
def mapped(url: str) -> Generator[None, None, None]:
    """httpx's failures enter here."""
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__  # some of its texts are empty
        raise UnreachableError(without_user(url), reason) from error
    except (httpx.HTTPError, MalformedStreamError, msgspec.DecodeError) as error:
        raise ClientError(f"{without_user(url)} answered with something else: {error}") from error


def timeout(read_timeout_s: float) -> httpx.Timeout:
    """Every wait on the network has an end."""
    return httpx.Timeout(connect=CONNECT_TIMEOUT_S, write=WRITE_TIMEOUT_S, pool=CONNECT_TIMEOUT_S, read=read_timeout_s)


def health() -> Call[Health]:
    return Call(method="GET", path="/health", read=_json(Health))


def readiness() -> Call[None]:
    return Call(method="GET", path="/health/ready", read=_nothing, tries_max=1)  # whoever asks, asks again


def liveness() -> Call[None]:
    return Call(method="GET", path="/health/live", read=_nothing, tries_max=1)


def task(task_id: str) -> Call[Task]:
    return Call(method="GET", path=f"/tasks/{task_id}", read=_json(Task))


def results(task_id: str) -> Call[list[DetectionEvent]]:
    headers = {"Accept": "application/x-ndjson"}
    return Call(method="GET", path=f"/tasks/{task_id}/results", read=_json_lines, headers=headers)


def cancel(task_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/tasks/{task_id}", read=_nothing, tries_max=1)


def retry(task_id: str) -> Call[Started]:
    """However often it is asked for, there is one: it may be asked again."""
    return Call(method="POST", path=f"/tasks/{task_id}/retry", read=_json(Started))


def detect() -> Call[list[Detection]]:
    read = _json(list[Detection])
    return Call(method="POST", path="/detect", read=read, tries_max=1, read_timeout_s=DETECT_TIMEOUT_S)


def submit(upload: Upload) -> Call[Started]:
    return Call(
        method="POST",
        path="/shots" if upload.is_for_shots else "/detect/video",
        read=_json(Started),
        headers=upload.headers(),
        tries_max=1,
        read_timeout_s=SEALED_TIMEOUT_S,
    )


def standing(task_id: str) -> Call["Standing"]:
    """How much of a resumable upload the edge has."""
    return Call(method="HEAD", path=f"{UPLOADS}/{task_id}", read=_standing, tries_max=1)


def append(upload: Upload) -> Call[Started]:
    """The rest of an upload, from where it stands."""
    return Call(
        method="PATCH",
        path=f"{UPLOADS}/{upload.task_id}",
        read=_json(Started),
        headers=upload.append_headers(),
        tries_max=1,
        read_timeout_s=SEALED_TIMEOUT_S,
    )


def reason(error: ClientError, task: Task | None) -> ClientError:
    """Why an upload broke off: what its task says, since an answer that comes before the body has ended may be lost."""
    if task is None or task.error is None:
        return error
    return ServiceError(status=422, code=task.error.code, detail=task.error.detail)


def raise_if_passing(response: httpx.Response) -> None:
    """Raises `Interrupted` for the refusal of an upload that may pass; one that came whole is not sent again."""
    if response.is_success or response.headers.get("upload-complete") == "?1":
        return
    refusal = _refusal(response)
    if refusal.status in PASSING or refusal.code in CONFLICTS:
        asked = response.headers.get("retry-after", "")
        raise Interrupted(refusal, asked_s=float(asked) if asked.isdigit() else 0.0)


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What a synchronous question carries."""

    name: str
    content: bytes
    config: Config | None = None

    @property
    def fields(self) -> dict[str, str]:
        return {} if self.config is None else {"config": config_text(self.config)}


def read_picture(image: Path | str | bytes, *, name: str | None, config: Config | None) -> Picture:
    """The bytes of an image. Raises `OSError`."""
    if isinstance(image, bytes):
        return Picture(name=sendable_name(name or "image.jpg"), content=image, config=config)
    path = Path(image)
    check_regular(path)
    return Picture(name=sendable_name(name or path.name), content=path.read_bytes(), config=config)


def _json(type_: type[_Answer]) -> Callable[[httpx.Response], _Answer]:
    decoder = msgspec.json.Decoder(type_)
    return lambda response: decoder.decode(response.content)


def _json_lines(response: httpx.Response) -> list[DetectionEvent]:
    decoder = msgspec.json.Decoder(DetectionEvent)
    return [decoder.decode(line) for line in response.content.splitlines() if line]


def _standing(response: httpx.Response) -> Standing:
    offset, complete = (response.headers.get(name, "") for name in ("upload-offset", "upload-complete"))
    if not offset.isdigit() or complete not in ("?0", "?1"):
        raise msgspec.DecodeError(f"Upload-Offset {offset!r}, Upload-Complete {complete!r}")
    return Standing(offset_bytes=int(offset), is_complete=complete == "?1")


def _nothing(_: httpx.Response) -> None:
    return None


class _Problem(msgspec.Struct, frozen=True):
    """RFC 9457, as far as it is used; everything may be missing."""

    code: str = ""
    detail: str = ""
    title: str = ""


def _refusal(response: httpx.Response) -> ServiceError:
    """The error that a read response of status 400 or more says, also one of a proxy that knows no problem+json."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    return ServiceError(
        status=response.status_code,
        code=problem.code or f"http_{response.status_code}",
        detail=problem.detail or problem.title or response.reason_phrase or "no reason given",
    )
