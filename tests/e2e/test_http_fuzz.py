"""Whatever is asked of the HTTP API, it answers as `docs/openapi.json` says: no 500, and no status, type or code besides.

Requests are made by schemathesis from the document, right ones and wrong ones; some of them are then given what they need
to get further: a task that exists, a real clip. A slice in every run; with `make soak` as many as `HTTP_FUZZ_EXAMPLES` says.
"""

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import strategies
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from detections.local import LocalStack
from edge.failures import PROBLEM_JSON, Problem
from edge.resumption import PARTIAL_UPLOAD
from tests.conftest import REPOSITORY
from tests.media import Container, write_image, write_video
from tests.processes import wait_until

DOCUMENT = msgspec.json.decode((REPOSITORY / "docs" / "openapi.json").read_bytes())
schemathesis.serializer.alias(PARTIAL_UPLOAD, "application/octet-stream")
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations]
EXAMPLES = 6
SOAK_EXAMPLES = int(os.environ.get("HTTP_FUZZ_EXAMPLES", "300"))
ENDLESS = ("GET", "/detect/stream")
ANSWER_S = 60.0
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


class Helped(msgspec.Struct, frozen=True):
    """What a request is given, so that it gets further than chance would take it."""

    task: str | None
    name: str | None
    has_medium: bool
    keeps_token: bool
    resumes: bool


HELP = strategies.builds(
    Helped,
    task=strategies.sampled_from([None, "seen", "failed", "growing", "unknown"]),
    name=strategies.sampled_from([None, "clip.mp4", "a.mkv", "%E2%82%AC.ts"]),
    has_medium=strategies.booleans(),
    keeps_token=strategies.sampled_from([False, False, False, True]),
    resumes=strategies.booleans(),
)


class Fuzzed:
    """The system with a few tasks in it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.clip = write_video(folder / "clip.mp4", frames=4, container=Container.MP4_FRAGMENTED).read_bytes()
        self.picture = write_image(folder / "picture.jpg").read_bytes()
        self._resumption = {
            "Upload-Complete": "?0",
            "Upload-Offset": str(len(self.clip) // 2),
        }
        self._http = httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False)
        self.tasks = {
            "seen": self._ended(self.clip),
            "failed": self._ended(b"no video at all, only words"),
            "growing": self._begun(),
            "unknown": str(uuid.uuid4()),
        }

    def close(self) -> None:
        self._http.close()

    def ask(self, case: Case, helped: Helped) -> int:
        """The status of an answer that is as it should be."""
        self._help(case, helped)
        if (case.method, case.path) == ENDLESS and (status := self._greeting(case)) == 200:
            return status
        answer = case.call(base_url=self.url, timeout=ANSWER_S)
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code != 500, answer.text
        if answer.status_code >= 400 and case.method != "HEAD":
            check_problem(case, answer)
        return answer.status_code

    def _greeting(self, case: Case) -> int:
        """The status with which a stream begins; it is not waited for its end, which never comes."""
        asked = case.as_transport_kwargs(base_url=self.url)
        with requests.request(**asked, stream=True, timeout=ANSWER_S) as answer:
            if answer.status_code == 200:
                assert answer.headers["content-type"].startswith("text/event-stream")
            return answer.status_code

    def _help(self, case: Case, helped: Helped) -> None:
        if not helped.keeps_token:
            case.headers.pop("Authorization", None)
        if helped.task is not None and "task_id" in case.path_parameters:
            case.path_parameters["task_id"] = self.tasks[helped.task]
        if helped.name is not None and "X-Filename" in case.headers:
            case.headers["X-Filename"] = helped.name
        if helped.resumes and case.method == "PATCH":
            case.headers.update(self._resumption)
        if helped.has_medium and case.media_type in ("application/octet-stream", PARTIAL_UPLOAD):
            case.body = self.clip

    def _ended(self, content: bytes) -> str:
        answer = self._http.post("/detect/video", content=content, headers={"X-Filename": "clip.mp4"})
        task = answer.raise_for_status().json()["taskId"]
        wait_until(lambda: self._http.get(f"/tasks/{task}").json()["status"] not in ("Queued", "Running"))
        return task

    def _begun(self) -> str:
        task = str(uuid.uuid4())
        said = {"X-Filename": "clip.mp4", "X-Task-Id": task, "Upload-Complete": "?0"}
        half = self.clip[: len(self.clip) // 2]
        self._http.post("/detect/video", content=half, headers=said).raise_for_status()
        return task


def check_problem(case: Case, answer: schemathesis.Response) -> None:
    """A refusal is one of those that the document names for its status."""
    problem = msgspec.json.decode(answer.content, type=Problem)
    content = case.operation.definition.raw["responses"][str(answer.status_code)]["content"][PROBLEM_JSON]
    codes = {example["value"]["code"] for example in content["examples"].values()}
    assert problem.status == answer.status_code
    assert problem.code in codes, f"{answer.status_code} {problem.code} ({problem.detail}) is not among {codes}"


@pytest.fixture(scope="module")
def fuzzed(stack_of_the_session: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    fuzzed = Fuzzed(stack_of_the_session.url, tmp_path_factory.mktemp("fuzzed"))
    yield fuzzed
    fuzzed.close()


def fuzz(fuzzed: Fuzzed, method: str, path: str, *, examples: int) -> None:
    operation = SCHEMA[path][method]
    told: Counter[int] = Counter()
    wanted = strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @hypothesis.seed(6)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        derandomize=False,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=wanted, helped=HELP)
    def each(case: Case, helped: Helped) -> None:
        told[fuzzed.ask(case, helped)] += 1

    each()
    print(method, path, dict(told))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_documented(fuzzed: Fuzzed, method: str, path: str) -> None:
    fuzz(fuzzed, method, path, examples=EXAMPLES)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_documented_however_often_it_is_asked(fuzzed: Fuzzed, method: str, path: str) -> None:
    fuzz(fuzzed, method, path, examples=SOAK_EXAMPLES)
