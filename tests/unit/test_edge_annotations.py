"""The Annotations service as the edge calls it: what each answer means, and how long and large one may be."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from contracts.failures import Failure, FailureCode
from contracts.posts import Post
from contracts.settings import ConfigurationError
from edge.annotations import ANSWER_BYTES_MAX, MEDIA, Annotations, PutOffError
from edge.settings import EdgeSettings
from tests.tls_service import tls_service

SETTINGS = EdgeSettings(annotations_url="http://annotations.test", annotations_timeout_s=60.0)
POST = Post(method="POST", path="/annotations", body=msgspec.Raw(b'{"mediaId":"m"}'), key="t:1")


class Service(httpx.AsyncBaseTransport):
    """Answers as it is told and keeps what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)


def answering(status: int, content: Any = b"{}", **headers: str) -> Service:
    return Service(
        lambda _: httpx.Response(
            status, content=whole(content) if isinstance(content, bytes) else content, headers=headers
        )
    )


async def whole(content: bytes) -> AsyncIterator[bytes]:
    """As from a socket: bytes given at once count as read already."""
    yield content


async def failure_of(
    service: Service, call: Callable[[Annotations], Any], *, settings: EdgeSettings = SETTINGS
) -> Failure:
    annotations = Annotations(settings, transport=service)
    async with annotations.running():
        with pytest.raises(Failure) as caught:
            await call(annotations)
    return caught.value


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65_536


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, FailureCode.ANNOTATIONS_REFUSED),
        (401, FailureCode.UNAUTHENTICATED),
        (403, FailureCode.FORBIDDEN),
        (404, FailureCode.MEDIA_NOT_FOUND),
        (413, FailureCode.ANNOTATIONS_REFUSED),
        (302, FailureCode.ANNOTATIONS_UNAVAILABLE),
        (418, FailureCode.ANNOTATIONS_UNAVAILABLE),
        (429, FailureCode.ANNOTATIONS_UNAVAILABLE),
        (500, FailureCode.ANNOTATIONS_UNAVAILABLE),
        (599, FailureCode.ANNOTATIONS_UNAVAILABLE),
    ],
)
async def test_every_answer_has_its_code(status: int, code: FailureCode) -> None:
    service = answering(status, location="http://elsewhere.test/")
    failure = await failure_of(service, lambda annotations: annotations.media_path("m", "token"))

    assert failure.code is code
    assert len(service.requests) == 1  # no redirect is followed: the token stays here


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "asked_s"),
    [
        ("90", 90),
        ("9" * 400, math.inf),
        ("in two hours", 7200),
        ("soon", 0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        ("-5", 0),
        ("nan", 0),
        ("", 0),
    ],
)
async def test_a_service_says_how_long_it_wants_to_be_left_alone(status: int, said: str, asked_s: float) -> None:
    if said == "in two hours":
        said = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    service = answering(status, **{"retry-after": said})
    failure = await failure_of(service, lambda annotations: annotations.send(POST, "token"))

    assert isinstance(failure, PutOffError)
    assert failure.asked_s == pytest.approx(asked_s, abs=600)
    assert failure.code is FailureCode.ANNOTATIONS_UNAVAILABLE


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"\xff\xfe", b'{"path": 3}', b"{}", endless()],
    ids=["html", "noise", "3", "empty", "endless"],
)
async def test_an_answer_that_is_none_is_a_failure(content: Any) -> None:
    failure = await failure_of(answering(200, content), lambda annotations: annotations.media_path("m", "token"))

    assert failure.code is FailureCode.ANNOTATIONS_UNAVAILABLE


async def test_an_answer_that_never_comes_to_its_end_is_a_failure_in_time() -> None:
    impatient = msgspec.structs.replace(SETTINGS, annotations_timeout_s=0.05)
    failure = await failure_of(
        answering(200, drip()), lambda annotations: annotations.media_path("m", "token"), settings=impatient
    )

    assert failure.code is FailureCode.ANNOTATIONS_TIMEOUT


async def test_an_endless_answer_is_read_no_further_than_its_bound() -> None:
    failure = await failure_of(answering(200, endless()), lambda annotations: annotations.media_path("m", "token"))

    assert str(ANSWER_BYTES_MAX) in failure.detail


async def test_a_page_that_says_200_confirms_no_post() -> None:
    failure = await failure_of(answering(200, b"<html>"), lambda annotations: annotations.send(POST, "token"))

    assert failure.code is FailureCode.ANNOTATIONS_UNAVAILABLE


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_what_the_service_made_is_made_whatever_it_says_of_it(status: int) -> None:
    annotations = Annotations(SETTINGS, transport=answering(status, b"Created"))
    async with annotations.running():
        await annotations.send(POST, "token")


async def test_a_user_in_the_address_of_the_service_takes_nobody_s_place() -> None:
    service = answering(201, b"")
    settings = EdgeSettings(annotations_url="http://operator:secret@annotations.test/api")
    annotations = Annotations(settings, transport=service)
    async with annotations.running():
        await annotations.send(POST, "token")

    (request,) = service.requests
    assert request.headers["authorization"] == "Bearer token"
    assert request.url.path == "/api/annotations"


async def test_a_post_carries_its_key_and_the_token_of_its_user() -> None:
    service = answering(201, b"")
    annotations = Annotations(SETTINGS, transport=service)
    async with annotations.running():
        await annotations.send(POST, "token")

    (request,) = service.requests
    assert (request.method, request.url.path, request.content) == ("POST", "/annotations", b'{"mediaId":"m"}')
    assert request.headers["authorization"] == "Bearer token"
    assert request.headers["idempotency-key"] == "t:1"


async def test_a_record_that_is_there_already_counts_as_made() -> None:
    annotations = Annotations(SETTINGS, transport=answering(409))
    async with annotations.running():
        await annotations.send(msgspec.structs.replace(POST, path=MEDIA), "token")
        with pytest.raises(Failure):
            await annotations.send(POST, "token")


async def test_ids_are_one_part_of_a_path_whatever_they_are() -> None:
    service = answering(200, b'{"path": "a.mp4"}')
    annotations = Annotations(SETTINGS, transport=service)
    async with annotations.running():
        assert await annotations.media_path("../users/x?y#z", "token") == "a.mp4"

    assert service.requests[0].url.raw_path == b"/api/media/..%2Fusers%2Fx%3Fy%23z"


@pytest.mark.parametrize("user_id", [".", ".."])
async def test_a_user_whose_name_is_a_way_through_a_path_is_not_asked_about(user_id: str) -> None:
    service = answering(200, b'{"altitude": 1}')
    annotations = Annotations(SETTINGS, transport=service)
    async with annotations.running():
        assert await annotations.ai_settings(user_id, "token") == {}

    assert service.requests == []


async def test_no_cookie_of_one_user_is_sent_with_the_token_of_another() -> None:
    service = answering(200, b'{"path": "a"}', **{"set-cookie": "session=first; Path=/"})
    annotations = Annotations(SETTINGS, transport=service)
    async with annotations.running():
        await annotations.media_path("m", "first")
        await annotations.media_path("m", "second")

    assert [request.headers.get("cookie") for request in service.requests] == [None, None]


@pytest.mark.parametrize(("status", "said"), [(404, b"{}"), (204, b""), (200, b"null"), (200, b"{}")])
async def test_a_user_without_settings_has_the_defaults(status: int, said: bytes) -> None:
    annotations = Annotations(SETTINGS, transport=answering(status, said))
    async with annotations.running():
        assert await annotations.ai_settings("u", "token") == {}


async def test_a_refresh_token_that_is_refused_is_a_caller_nobody_knows() -> None:
    failure = await failure_of(answering(400), lambda annotations: annotations.refresh("r"))

    assert failure.code is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize("status", [404, 409])
async def test_what_a_refresh_is_answered_says_nothing_of_a_medium(status: int) -> None:
    failure = await failure_of(answering(status), lambda annotations: annotations.refresh("r"))

    assert failure.code is FailureCode.ANNOTATIONS_UNAVAILABLE


async def test_a_refresh_gives_another_token_and_perhaps_another_refresh_token() -> None:
    service = answering(200, b'{"accessToken": "a", "refreshToken": "s"}')
    annotations = Annotations(SETTINGS, transport=service)
    async with annotations.running():
        refreshed = await annotations.refresh("r")

    assert (refreshed.access_token, refreshed.refresh_token) == ("a", "s")
    assert service.requests[0].content == b'{"refreshToken":"r"}'
    assert "authorization" not in service.requests[0].headers


async def test_without_a_service_there_is_none_to_ask() -> None:
    annotations = Annotations(EdgeSettings())
    async with annotations.running():
        with pytest.raises(Failure) as caught:
            await annotations.media_path("m", "token")

    assert caught.value.code is FailureCode.ANNOTATIONS_UNAVAILABLE
    assert not annotations.is_configured


async def test_a_service_inside_a_company_is_believed_by_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_service(tmp_path, b'{"path": "a.mp4"}') as service:
        monkeypatch.setenv("SSL_CERT_FILE", str(service.certificate))
        annotations = Annotations(EdgeSettings(annotations_url=service.url))
        async with annotations.running():
            assert await annotations.media_path("m", "token") == "a.mp4"


async def test_certificates_that_are_none_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "no-such-file.pem")
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE='no-such-file.pem'"):
        Annotations(EdgeSettings(annotations_url="https://annotations.test"))
    Annotations(SETTINGS)  # it asks for none
