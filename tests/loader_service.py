"""A Loader for tests: a small server in a process of its own, keeping files in a folder, with faults that are switched.

`python -m tests.loader_service PORT FOLDER`; `POST /fault` with a name of `FAULTS` switches one on, `none` off.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import uvicorn
from litestar import Litestar, Request, get, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Response, Stream

from detections.rabbitmq import free_port
from tests.conftest import REPOSITORY
from tests.processes import wait_until

FAULTS = (
    "none",
    "500",
    "slow",
    "drip",
    "garbage",
    "truncated",
    "too_large",
    "other_content",
    "redirect",
    "busy",
    "busy_beside",
)


class Asked(msgspec.Struct):
    filename: str
    folder: str


def failed(detail: str) -> Response[Any]:
    return Response({"detail": detail}, status_code=500)


def app(folder: Path) -> Litestar:
    state = {"fault": "none"}
    asked: list[str] = []

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/asked")
    async def what_was_asked() -> list[str]:
        return asked

    @post("/fault", status_code=200)
    async def switch(request: Request[Any, Any, Any]) -> None:
        state["fault"] = (await request.body()).decode()
        assert state["fault"] in FAULTS

    @post("/load/{filename:str}", status_code=200)
    async def load(filename: str, data: Asked) -> Response[Any] | Stream:
        asked.append(f"load {data.folder}/{filename}")
        path = folder / filename
        if data.filename != filename or state["fault"] == "500":
            return failed("the disk is on fire")
        if state["fault"] == "busy" or (state["fault"] == "busy_beside" and path.suffix == ".json"):
            return Response("<h1>503</h1>", status_code=503)
        if not path.exists():
            return failed(f"no file {filename}")
        return await answer(state["fault"], path.read_bytes())

    @post("/upload/{filename:str}", status_code=200)
    async def upload(
        filename: str,
        data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)],
    ) -> Response[Any]:
        asked.append(f"upload {data['folder']}/{filename}")
        if state["fault"] == "500":
            return failed("the disk is on fire")
        file: UploadFile = data["data"]
        (folder / filename).write_bytes(await file.read())
        return Response({"status": "ok"})

    return Litestar([health, what_was_asked, switch, load, upload], request_max_body_size=None)


async def answer(fault: str, content: bytes) -> Response[Any] | Stream:
    octets = "application/octet-stream"
    match fault:
        case "slow":
            await asyncio.sleep(3600)
        case "drip":
            return Stream(drops(content), media_type=octets)
        case "garbage":
            return Response(bytes(reversed(content)), media_type=octets)
        case "truncated":
            return Response(content[:-1], media_type=octets, headers={"content-length": str(len(content))})
        case "too_large":
            return Stream(far_too_much(), media_type=octets)
        case "other_content":
            return Response(content + b"\n", media_type=octets)
        case "redirect":
            return Response(b"", status_code=307, headers={"location": "http://127.0.0.1:9/"})
    return Response(content, media_type=octets)


async def drops(content: bytes) -> AsyncIterator[bytes]:
    for byte in content:
        yield bytes((byte,))
        await asyncio.sleep(0.2)


async def far_too_much() -> AsyncIterator[bytes]:
    for _ in range(1000):
        yield bytes(1 << 16)


class LoaderService:
    """The process, as a test sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.loader_service", str(self.port), str(self.folder)]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._is_up)

    def fault(self, name: str) -> None:
        httpx.post(f"{self.url}/fault", content=name).raise_for_status()

    def asked(self) -> list[str]:
        return httpx.get(f"{self.url}/asked").json()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False


if __name__ == "__main__":
    uvicorn.run(app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="critical")
