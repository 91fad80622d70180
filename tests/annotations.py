"""The Annotations double as a test sees it: a process that can be killed and comes back, its faults, and what it was told."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from detections.rabbitmq import free_port
from tests.conftest import REPOSITORY

WAIT_S = 60.0
POLL_S = 0.05
USER = "user-1"
Json = dict[str, Any]


class AnnotationsProcess:
    """One double; the same port and memory whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._http = httpx.Client(base_url=self.url, timeout=WAIT_S, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        module = "detections.annotations_double"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--port", str(self.port), "--folder", str(self.folder)], cwd=REPOSITORY
        )
        self.wait_until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def headers(self, user_id: str = USER) -> dict[str, str]:
        """What a client of this user sends; the token is new."""
        tokens = self._http.post("/double/tokens", json={"userId": user_id}).json()
        return {"Authorization": f"Bearer {tokens['accessToken']}", "X-Refresh-Token": tokens["refreshToken"]}

    def fault(self, **faults: object) -> None:
        assert self._http.put("/double/faults", json=faults).status_code == 204

    def set_for(self, user_id: str, settings: Json) -> None:
        assert self._http.put(f"/double/settings/{user_id}", json=settings).status_code == 204

    def add_medium(self, media_id: str, path: Path | str) -> str:
        answer = self._http.post("/api/media", json={"id": media_id, "path": str(path)}, headers=self.headers())
        assert answer.status_code == 201, answer.text
        return media_id

    def seen(self) -> Json:
        return self._http.get("/double/seen").json()

    def stored(self, media_id: str | None = None) -> list[Json]:
        """What it was told, in order; of one medium its record, statuses and annotations."""
        everything = self._http.get("/double/stored").json()
        return [one for one in everything if media_id in (None, medium_of(one))]

    def annotations(self, media_id: str) -> list[Json]:
        return [one["body"] for one in self.stored(media_id) if one["path"] == "/annotations"]

    def statuses(self, media_id: str) -> list[int]:
        return [one["body"]["status"] for one in self.stored(media_id) if one["path"].endswith("/status")]

    def wait_for_end(self, media_id: str, *, times: int = 1) -> None:
        """Until it was told that the medium is processed, or has failed."""
        self.wait_until(lambda: len([status for status in self.statuses(media_id) if status in (3, 6)]) >= times)

    def wait_until(self, is_so: Any) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < deadline_s, "not so in time"
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        try:
            return self._http.get("/double/seen").status_code == 200
        except httpx.TransportError:
            return False


def medium_of(stored: Json) -> str:
    """The id of the medium that something stored is about."""
    body = stored["body"]
    if stored["path"].endswith("/status"):
        return stored["path"].split("/")[3]
    return body.get("mediaId") or body.get("id")
