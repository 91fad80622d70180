"""A client whose line breaks in the middle of an upload, and who goes on where the edge says that it stands."""

import contextlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import httpx

from tests.fault.fleet import WAIT_S
from tests.fault.flow import ANSWER_TIMEOUT_S, CONFIG

RETRY_S = 0.1
_ENDED = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class ResumingClient:
    """Sends one upload over as many connections as it takes."""

    def __init__(
        self,
        url: str,
        task_id: str,
        content: bytes,
        *,
        path: str = "/detect/video",
        sent_first: float = 0.5,
        **headers: str,
    ) -> None:
        """sent_first: the share of the content that goes over the first connection."""
        self._url = url
        self._task_id = task_id
        self._content = content
        self._first = content[: round(len(content) * sent_first)]
        self._path = path
        said = {"X-Filename": "clip.mp4", "X-Task-Id": task_id, "Upload-Length": str(len(content))}
        self._headers = {**said, **CONFIG, **headers}

    def break_off(self, halfway: Callable[[], None]) -> None:
        """Send the first part, and lose the connection once `halfway` returns."""

        def first() -> Iterator[bytes]:
            yield self._first
            halfway()
            raise httpx.WriteError("the line breaks")

        said = {"Upload-Complete": "?1", "Content-Length": str(len(self._content))}
        self._post(first(), said)

    def send_first(self) -> None:
        """The first part, in a request of its own."""
        self._post(self._first, {"Upload-Complete": "?0"})

    def ask(self) -> httpx.Response | None:
        """How far the edge has it; None if the edge is away."""
        try:
            return httpx.head(self._upload, timeout=ANSWER_TIMEOUT_S, trust_env=False)
        except httpx.TransportError:
            return None

    def go_on(self) -> int | None:
        """Until the edge has all of it: 202. None if it knows no such upload (any more)."""
        deadline_s = time.monotonic() + WAIT_S * 2
        while True:
            assert time.monotonic() < deadline_s, "the upload does not get anywhere"
            standing = self.ask()
            if standing is not None and standing.status_code in _ENDED:
                return None
            if standing is not None and standing.status_code == HTTPStatus.NO_CONTENT:
                if standing.headers["upload-complete"] == "?1":
                    return HTTPStatus.ACCEPTED
                if (status := self._append(int(standing.headers["upload-offset"]))) == HTTPStatus.ACCEPTED:
                    return status
            time.sleep(RETRY_S)

    @property
    def _upload(self) -> str:
        return f"{self._url}/uploads/{self._task_id}"

    def _post(self, content: Iterator[bytes] | bytes, headers: dict[str, str]) -> None:
        with contextlib.suppress(httpx.TransportError):
            httpx.post(
                f"{self._url}{self._path}",
                content=content,
                headers=self._headers | headers,
                timeout=ANSWER_TIMEOUT_S,
                trust_env=False,
            )

    def _append(self, offset: int) -> int | None:
        headers = {
            "Content-Type": "application/partial-upload",
            "Upload-Offset": str(offset),
            "Upload-Complete": "?1",
        }
        try:
            return httpx.patch(
                self._upload, content=self._content[offset:], headers=headers, timeout=ANSWER_TIMEOUT_S, trust_env=False
            ).status_code
        except httpx.TransportError:
            return None
