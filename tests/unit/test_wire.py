"""Messages survive the way out and back; what cannot be read is named."""

import msgspec
import pytest

from contracts import wire
from contracts.commands import AnyCommand, CancelTask, DetectImage, DetectVideo, FindShots
from contracts.events import (
    ActiveModel,
    FrameDetected,
    ModelChanged,
    TaskEnded,
    TaskProgressed,
    as_seen_by_clients,
    event_id,
)
from contracts.failures import Failure, FailureCode, FailureRecord
from contracts.media import Medium, MediumKind
from contracts.posts import DeadPost

TASK_ID = "00000000-0000-0000-0000-000000000001"
MEDIUM = Medium(root="storage", path="a/b.mp4", kind=MediumKind.VIDEO)
EVENTS = (
    FrameDetected(task_id=TASK_ID, media_id="m", sequence=1, frame_index=4),
    TaskProgressed(task_id=TASK_ID, media_id="m", waiting_for="moov"),
    TaskEnded(task_id=TASK_ID, media_id="m", sequence=2, percent=100),
)


@pytest.mark.parametrize(
    "command",
    [
        DetectImage(task_id=TASK_ID, medium=MEDIUM),
        DetectVideo(task_id=TASK_ID, medium=MEDIUM),
        FindShots(task_id=TASK_ID, medium=MEDIUM, retry_of=TASK_ID),
    ],
)
def test_a_command_comes_back_as_it_was_sent(command: AnyCommand) -> None:
    assert wire.decode_command(wire.encode(command)) == command


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_back_as_it_was_sent(event: FrameDetected | TaskProgressed | TaskEnded) -> None:
    assert wire.decode_event(wire.encode(event)) == event


@pytest.mark.parametrize(
    "control",
    [
        CancelTask(task_id=TASK_ID),
        ModelChanged(active=ActiveModel(file="b/b.onnx", revision="r", previous=ActiveModel(file="a.onnx"))),
    ],
)
def test_a_control_message_comes_back_as_it_was_sent(control: wire.AnyControl) -> None:
    assert wire.decode_control(wire.encode(control)) == control


def test_a_time_without_its_offset_is_refused_by_name() -> None:
    body = wire.encode(DetectImage(task_id=TASK_ID, medium=MEDIUM))
    dated = body.replace(b'"createdAt":null', b'"createdAt":"2026-01-02T03:04:05"')
    with pytest.raises(Failure) as refused:
        wire.decode_command(dated)
    assert refused.value.code is FailureCode.MALFORMED_MESSAGE
    assert "$.createdAt" in refused.value.detail


def test_an_unknown_field_is_tolerated() -> None:
    command = wire.decode_command(
        b'{"type":"DetectVideo","taskId":"%s","medium":{"root":"storage","path":"x","kind":"video","colour":1},"news":[1]}'
        % TASK_ID.encode()
    )

    assert command.medium.path == "x"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", FailureCode.MALFORMED_MESSAGE),
        (b"\xff\xfe", FailureCode.MALFORMED_MESSAGE),
        (b"[]", FailureCode.MALFORMED_MESSAGE),
        (b'{"type":7}', FailureCode.MALFORMED_MESSAGE),
        (b'{"version":1}', FailureCode.MALFORMED_MESSAGE),
        (b'{"type":"DetectVideo","version":1}', FailureCode.MALFORMED_MESSAGE),
        (b'{"type":"DetectVideo","version":2}', FailureCode.UNKNOWN_VERSION),
        (b'{"type":"Teleport","version":1}', FailureCode.UNKNOWN_TYPE),
        (b'{"type":"FrameDetected","version":1}', FailureCode.UNKNOWN_TYPE),
        (b"[" * 5000, FailureCode.MALFORMED_MESSAGE),
    ],
)
def test_a_body_that_is_no_command_is_a_named_failure(body: bytes, code: FailureCode) -> None:
    with pytest.raises(Failure) as caught:
        wire.decode_command(body)

    assert caught.value.code is code


@pytest.mark.parametrize("task_id", ["", "../../etc", "a" * 36, TASK_ID + "\n", TASK_ID.upper().replace("0", "A")])
def test_a_task_id_that_is_no_uuid_is_refused_since_it_names_folders(task_id: str) -> None:
    body = wire.encode(DetectVideo(task_id=task_id, medium=MEDIUM))

    with pytest.raises(Failure, match="taskId"):
        wire.decode_command(body)


@pytest.mark.parametrize("path", ["/annotations", "/api/media", "/api/media/V01583bd9b6b11aba-01234567/status"])
def test_a_dead_post_names_what_is_told_to_the_annotations_service(path: str) -> None:
    post = wire.decode_outgoing(_dead_post(path))

    assert isinstance(post, DeadPost)
    assert post.post.path == path


@pytest.mark.parametrize(
    "path",
    [
        "http://elsewhere.test/annotations",
        "//elsewhere.test/annotations",
        "/auth/refresh",
        "/api/media/../../users/status",
        "/api/media/../status",
        "/annotations?to=elsewhere",
    ],
)
def test_a_dead_post_to_another_address_is_refused_since_a_token_goes_with_it(path: str) -> None:
    with pytest.raises(Failure) as caught:
        wire.decode_outgoing(_dead_post(path))

    assert caught.value.code is FailureCode.MALFORMED_MESSAGE


def _dead_post(path: str) -> bytes:
    return msgspec.json.encode(
        {
            "type": "DeadPost",
            "taskId": TASK_ID,
            "mediaId": "m",
            "post": {"method": "POST", "path": path, "body": {}, "key": "k"},
            "reason": {"code": "internal", "detail": ""},
            "at": "2026-01-01T00:00:00Z",
        }
    )


def test_only_reports_and_the_end_have_an_id() -> None:
    assert [event_id(event) for event in EVENTS] == [f"{TASK_ID}:1", None, f"{TASK_ID}:2"]


def test_a_failed_end_is_an_error_for_clients_and_a_good_one_is_processed() -> None:
    failure = FailureRecord(code=FailureCode.CANCELLED, detail="asked to")
    failed = as_seen_by_clients(TaskEnded(task_id=TASK_ID, media_id="m", sequence=2, failure=failure))
    good = as_seen_by_clients(EVENTS[2])

    assert (failed.media_status, failed.error) == ("Error", failure)
    assert (good.media_status, good.media_percent, good.error) == ("AIProcessed", 100, None)


def test_annotations_are_always_present_for_clients() -> None:
    assert all(as_seen_by_clients(event).annotations == [] for event in EVENTS)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("body", [DEEP, b'{"type":"DetectVideo","version":1,"new":' + DEEP + b"}"])
def test_what_is_nested_without_end_is_malformed(body: bytes) -> None:
    for decode in (wire.decode_command, wire.decode_event, wire.decode_control, wire.decode_presence):
        with pytest.raises(Failure) as raised:
            decode(body)
        assert raised.value.code is FailureCode.MALFORMED_MESSAGE


@pytest.mark.parametrize(
    ("begin", "end", "named"),
    [
        (b'{"type":"', b'"}', "known: DetectImage"),
        (b'{"type":"DetectImage","medium":{"kind":"', b'"}}', "$.medium.kind"),
    ],
)
def test_the_reason_of_a_refusal_is_short_however_long_the_message_is(begin: bytes, end: bytes, named: str) -> None:
    with pytest.raises(Failure) as raised:
        wire.decode_command(begin + b"y" * 1_000_000 + end)

    assert len(raised.value.detail) < 500
    assert named in raised.value.detail
