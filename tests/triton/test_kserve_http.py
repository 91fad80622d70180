"""What a server can answer over HTTP besides what Triton does: nonsense, silence, nothing of Triton's own, or not just now."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.failures import Failure, FailureCode
from engine.kserve import Away, Deadlines
from engine.kserve_http import HttpConnection
from engine.runtimes import triton
from engine.runtimes.triton import TritonRuntime
from engine.sources import RemoteModel, remote_model

TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
METADATA = {"name": "m", "inputs": [TENSOR], "outputs": [{**TENSOR, "name": "y"}]}
ROW = np.ones((1, 2), np.float32)
HANGS_UP, HANGS_UP_IN_MID_ANSWER = 0, -1
"""Instead of a status."""


class Answers(ThreadingHTTPServer):
    """Answers each path with what is set for it: a status and a body, or a series of them of which the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: list[str] = []
        self.takes_s = 0.0
        """To answer."""
        self.idle_s: float | None = None
        """A connection that is silent for longer is closed."""
        self.drips = False
        """An answer comes byte by byte, ten a second."""
        self.hangs_up_after = False
        """A connection is for one question."""
        self.set("", METADATA)
        self.set("/ready", {})
        self.set("/config", {"max_batch_size": 0})
        self.set("/infer", {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}]})

    def set(self, path: str, *bodies: object, status: int = 200) -> None:
        contents = (body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies)
        self.answers[f"/v2/models/m{path}"] = [(status, content) for content in contents]

    def fail(self, path: str, *statuses: int) -> None:
        """Answer with these statuses first."""
        key = f"/v2/models/m{path}"
        self.answers[key] = [(status, b'{"error": "not now"}') for status in statuses] + self.answers[key]

    @property
    def model(self) -> RemoteModel:
        return remote_model(f"triton+http://127.0.0.1:{self.server_port}/m", folders=[Path()])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def setup(self) -> None:
        self.timeout = self.server.idle_s
        super().setup()

    def do_GET(self) -> None:
        time.sleep(self.server.takes_s)
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        series = self.server.answers[self.path]
        status, content = series.pop(0) if len(series) > 1 else series[0]
        if status in {HANGS_UP, HANGS_UP_IN_MID_ANSWER} or self.server.hangs_up_after:
            self.close_connection = True
        if status == HANGS_UP:
            return
        self.send_response(200 if status == HANGS_UP_IN_MID_ANSWER else status)
        if self.server.hangs_up_after:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for at in range(len(content) if self.server.drips else 0):
            self.wfile.write(content[at : at + 1])
            time.sleep(0.1)
        if self.server.drips:
            return
        self.wfile.write(content[:5] if status == HANGS_UP_IN_MID_ANSWER else content)

    do_POST = do_GET  # noqa: N815 - its name for it

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    serving = threading.Thread(target=answers.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield answers
    answers.shutdown()
    serving.join()
    answers.server_close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "RETRY_DELAYS_S", (0.001, 0.001, 0.001))


def code_of(runtime: TritonRuntime) -> FailureCode:
    with pytest.raises(Failure) as caught:
        runtime.infer({"x": ROW})
    return caught.value.code


def test_a_server_that_knows_nothing_of_tritons_configuration_will_do(server: Answers) -> None:
    server.set("/config", {"error": "no such path"}, status=404)
    runtime = TritonRuntime(server.model)

    [outputs] = runtime.infer({"x": ROW})

    assert outputs.tolist() == [[3, 4]]
    assert (runtime.batch_max, runtime.metadata) == (None, {})
    runtime.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504, 404, HANGS_UP, HANGS_UP_IN_MID_ANSWER])
def test_what_may_pass_is_tried_again_three_times(server: Answers, status: int) -> None:
    runtime = TritonRuntime(server.model)
    server.fail("/infer", *[status] * 3)
    assert runtime.infer({"x": ROW})[0].tolist() == [[3, 4]]

    server.fail("/infer", *[status] * 4)
    assert code_of(runtime) is FailureCode.ENGINE_UNAVAILABLE
    assert server.asked.count("/v2/models/m/infer") == 8
    runtime.close()


@pytest.mark.parametrize("status", [400, 401, 500])
def test_what_will_not_pass_is_not_tried_again(server: Answers, status: int) -> None:
    runtime = TritonRuntime(server.model)
    server.fail("/infer", status)

    assert code_of(runtime) is FailureCode.INFERENCE_FAILED
    assert server.asked.count("/v2/models/m/infer") == 1
    runtime.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"outputs": []}', b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3]}]}'],
    ids=["nothing", "no JSON", "no outputs", "not ours", "too short"],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_a_failed_inference(server: Answers, body: bytes) -> None:
    runtime = TritonRuntime(server.model)
    server.set("/infer", body)

    assert code_of(runtime) is FailureCode.INFERENCE_FAILED
    runtime.close()


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"inputs": 1, "outputs": []}', b"[]"])
def test_a_server_that_describes_its_model_unreadably_is_no_engine(server: Answers, body: bytes) -> None:
    server.set("", body)

    with pytest.raises(Failure, match="cannot be read") as caught:
        TritonRuntime(server.model)

    assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE


def test_a_model_that_is_not_ready_is_not_opened(server: Answers) -> None:
    server.set("/ready", {"error": "Model version not ready"}, status=400)

    with pytest.raises(Away, match="Model version not ready"):
        TritonRuntime(server.model)


def test_an_answer_may_not_be_larger_than_a_message(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.kserve_http.MESSAGE_BYTES_MAX", 10)
    connection = HttpConnection(server.model, Deadlines())

    with pytest.raises(Failure, match="an answer of more than 10 bytes"):
        connection.describe()

    connection.close()


def test_a_server_that_drips_is_given_up_at_the_deadline(server: Answers) -> None:
    """A timeout between two bytes would never end it, and a worker waits for it."""
    runtime = TritonRuntime(server.model, deadlines=Deadlines(infer_s=0.5))
    server.drips = True
    started_s = time.monotonic()

    assert code_of(runtime) is FailureCode.ENGINE_UNAVAILABLE
    assert 0.4 < time.monotonic() - started_s < 2
    server.drips = False
    assert runtime.infer({"x": ROW})[0].tolist() == [[3, 4]]
    runtime.close()


def test_a_server_that_hangs_up_after_each_answer_will_do(server: Answers) -> None:
    server.hangs_up_after = True
    runtime = TritonRuntime(server.model)

    assert [runtime.infer({"x": ROW})[0].tolist() for _ in range(2)] == [[[3, 4]]] * 2
    runtime.close()


def test_when_one_connection_turns_out_to_be_dead_those_beside_it_are_not_tried(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "RETRY_DELAYS_S", (0.001,))
    server.takes_s, server.idle_s = 0.1, 0.1
    runtime = TritonRuntime(server.model)
    with ThreadPoolExecutor(4) as threads:  # each on a connection of its own
        list(threads.map(lambda _: runtime.infer({"x": ROW}), range(4)))
    time.sleep(0.3)  # by now the server has closed them all

    assert runtime.infer({"x": ROW})[0].tolist() == [[3, 4]]
    runtime.close()
