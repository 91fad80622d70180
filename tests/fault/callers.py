"""Clients of two edges who ask the other one, once, when one fails them; anything worse is written down."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import msgspec

from tests.fault.checker import Accepted
from tests.fault.flow import ANSWER_TIMEOUT_S, CONFIG, new_task
from tests.fault.work import FRAMES

PIECES = 5
PIECE_EVERY_S = 0.1
PAUSE_S = 0.2

PROMISES = {
    "/detect/video": Accepted(task_id="", reports=FRAMES),
    "/shots": Accepted(task_id="", shots=((0, FRAMES - 1),)),
}
"""What a client is promised of its clip, where it uploads it."""


class Caller:
    """One client: uploads a video, has shots found in it, shows a picture, asks how the video went, and again."""

    def __init__(self, urls: list[str], *, clip: bytes, picture: bytes, stop: threading.Event) -> None:
        self.accepted: list[Accepted] = []
        self.requests = 0
        self.retried: list[str] = []
        """Requests that went well at the second edge."""
        self.failed: list[str] = []
        """Those that did not."""
        self.answers_s: list[float] = []
        self._clip = clip
        self._picture = picture
        self._stop = stop
        self._edges = itertools.cycle([(url, other) for url, other in zip(urls, reversed(urls), strict=True)])
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as http:
            while not self._stop.is_set():
                for path, promise in PROMISES.items():
                    answer = self._ask(path, lambda url: self._upload(http, url + path))  # noqa: B023 - called at once
                    if answer is not None:
                        task = answer.json()["taskId"]
                        self.accepted.append(msgspec.structs.replace(promise, task_id=task))
                        self._ask("task", lambda url: http.get(f"{url}/tasks/{task}"))  # noqa: B023
                files = {"file": ("a.png", self._picture)}
                self._ask("picture", lambda url: http.post(f"{url}/detect", files=files))  # noqa: B023
                time.sleep(PAUSE_S)

    def _upload(self, http: httpx.Client, url: str) -> httpx.Response:
        def pieces() -> Iterator[bytes]:
            size = -(-len(self._clip) // PIECES)
            for begin in range(0, len(self._clip), size):
                yield self._clip[begin : begin + size]
                time.sleep(PIECE_EVERY_S)

        said = {"X-Filename": "clip.mp4", "X-Task-Id": new_task(), "Content-Length": str(len(self._clip)), **CONFIG}
        return http.post(url, content=pieces(), headers=said)

    def _ask(self, what: str, ask: Callable[[str], httpx.Response]) -> httpx.Response | None:
        """The answer; None if both edges failed."""
        self.requests += 1
        reasons: list[str] = []
        for url in next(self._edges):
            began_s = time.monotonic()
            try:
                answer = ask(url)
            except httpx.TransportError as error:
                reasons.append(repr(error))
                continue
            if answer.is_success:
                self.answers_s.append(time.monotonic() - began_s)
                if reasons:
                    self.retried.append(f"{what}: {reasons[0]}")
                return answer
            reasons.append(f"{answer.status_code} {answer.text}")
        self.failed.append(f"{what}: {' / '.join(reasons)}")
        return None
