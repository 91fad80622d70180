"""Bad input through the whole system: a clear error each, and the next good one works as if nothing had been."""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import httpx
import pytest

from contracts import topology, wire
from contracts.commands import DetectVideo
from contracts.media import Medium, MediumKind
from detections.broker_users import PUBLISHER
from detections.local import LocalStack
from tests.media import (
    Container,
    write_audio_only,
    write_image,
    write_no_frames,
    write_video,
)
from tests.virtual_hosts import as_user

pytestmark = pytest.mark.e2e

END_TIMEOUT_S = 60.0
Json = dict[str, Any]


@pytest.fixture
def http(stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
        yield client
        assert client.get("/health").json()["status"] == "healthy"


def send(http: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post("/detect/video", content=content, headers={"X-Filename": "a.mp4"} | names)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The detail of a problem; asserts that it is one."""
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (status, "application/problem+json"), (
        answer.text
    )
    problem = answer.json()
    assert problem["code"] == code
    return problem["detail"]


def ended(http: httpx.Client, task_id: str) -> Json:
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        answer = http.get(f"/tasks/{task_id}")
        if answer.status_code == 200 and answer.json()["status"] not in ("Queued", "Running"):
            return answer.json()
        time.sleep(0.05)
    raise AssertionError(f"task {task_id} did not end")


def outcome(http: httpx.Client, content: bytes, *, name: str = "a.mp4") -> str:
    """The failure code of an upload that cannot be decoded, whether it comes as the answer or as the task's end."""
    answer = send(http, content, X_Filename=name)
    if answer.status_code == 202:
        return ended(http, answer.json()["taskId"])["error"]["code"]
    assert answer.status_code in (400, 422), answer.text
    return answer.json()["code"]


def test_an_empty_body_is_refused(http: httpx.Client) -> None:
    refused(send(http, b""), 400, "empty_media")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.jpg", "mp4"])
def test_a_name_that_is_no_videos_is_refused(http: httpx.Client, name: str) -> None:
    refused(send(http, b"x", X_Filename=name), 400, "unsupported_media")


def test_a_missing_name_is_refused(http: httpx.Client) -> None:
    answer = http.post("/detect/video", content=b"x")

    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (400, "application/problem+json")


@pytest.mark.parametrize(
    "name", ["..%2F..%2Fetc%2Fpasswd.mp4", "%2Fetc%2Fx.mp4", "C%3A%5Cx.mp4", "%C3%BCn%C3%AFcode.mp4"]
)
def test_a_name_that_would_be_a_path_is_only_data(
    http: httpx.Client, stack: LocalStack, tmp_path: Path, name: str
) -> None:
    clip = write_video(tmp_path / "a.mp4", frames=10)

    answer = send(http, clip.read_bytes(), X_Filename=name)

    assert answer.status_code in (202, 400)
    assert not list(stack.storage.rglob("passwd*"))
    assert not Path("/etc/x.mp4").exists()


@pytest.mark.parametrize("name", ["a%00b.mp4", "x" * 5000 + ".mp4"])
def test_a_name_with_nul_or_of_5000_characters_is_refused(http: httpx.Client, name: str) -> None:
    assert send(http, b"x", X_Filename=name).status_code == 400


@pytest.mark.parametrize(
    ("config", "status", "named"),
    [
        ("{", 400, "JSON"),
        ("[]", 400, "JSON"),
        ('{"frame_period_recognition": 0}', 422, "frame_period_recognition"),
        ('{"probability_threshold": 2}', 422, "0..1"),
        ('{"camera_config": {"current_angle": 91}}', 422, "camera_config.current_angle"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(
    http: httpx.Client, tmp_path: Path, config: str, status: int, named: str
) -> None:
    raw = send(http, b"x", X_Config=config)
    picture = write_image(tmp_path / "a.png").read_bytes()
    form = http.post("/detect", files={"file": ("a.png", picture)}, data={"config": config})

    for answer in (raw, form):
        assert named in refused(answer, status, "malformed_options" if status == 400 else "options_out_of_range")


def test_a_configuration_that_is_too_long_is_refused_naming_the_bound(http: httpx.Client) -> None:
    answer = http.post("/detect/any", content=b"{" + b" " * 65_535 + b"}")

    assert "65536" in refused(answer, 413, "too_large")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
def test_random_bytes_end_as_unreadable_whatever_they_are_called(http: httpx.Client, name: str) -> None:
    noise = bytes((index * 7919 + index // 251) % 256 for index in range(200_000))

    assert outcome(http, noise, name=name) in ("unsupported_media", "unreadable_media", "no_video_stream", "no_frames")


def test_a_video_without_a_picture_or_a_frame_says_so(http: httpx.Client, tmp_path: Path) -> None:
    assert outcome(http, write_audio_only(tmp_path / "a.mp4").read_bytes()) == "no_video_stream"
    assert outcome(http, write_no_frames(tmp_path / "b.mp4").read_bytes()) in ("no_frames", "unreadable_media")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_playlist_is_never_opened_under_any_name(http: httpx.Client, stack: LocalStack, name: str) -> None:
    other = write_video(stack.storage / "other.ts", frames=30, container=Container.TS)
    for text in (f"ffconcat version 1.0\nfile {other}\n", f"#EXTM3U\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"):
        code = outcome(http, text.encode().ljust(70_000, b"\n"), name=name)

        assert code in ("unsupported_media", "unreadable_media", "no_video_stream")


@pytest.mark.parametrize("container", [Container.MP4_FRONT, Container.MKV, Container.TS, Container.MP4_FRAGMENTED])
def test_a_cut_file_reports_what_can_be_decoded_and_says_partial(
    http: httpx.Client, tmp_path: Path, container: Container
) -> None:
    whole = write_video(tmp_path / f"a{container.suffix}", frames=200, container=container).read_bytes()

    task_id = str(uuid.uuid4())
    with http.stream("GET", "/detect/stream", params={"taskId": task_id}) as stream:
        lines = stream.iter_lines()
        wait_until_listening(lines)
        assert (
            send(http, whole[: len(whole) * 6 // 10], X_Filename=f"a{container.suffix}", X_Task_Id=task_id).status_code
            == 202
        )
        events = [json.loads(line[5:]) for line in _until_end(lines)]

    assert events[-1]["mediaStatus"] == "AIProcessed"
    assert events[-1].get("partial") is True
    assert 0 < events[-1]["counts"]["decoded"] < 200
    assert http.get(f"/tasks/{task_id}/results").text.strip()


def wait_until_listening(lines: Iterator[str]) -> None:
    """Until the id of the log's head, which every listener is sent at once."""
    while not next(lines).startswith("id:"):
        continue


def _until_end(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("data:"):
            yield line
            if "AIProcessed" in line or '"Error"' in line:
                return


def test_a_picture_that_declares_too_many_pixels_is_refused_before_it_is_decoded(http: httpx.Client) -> None:
    bomb = b"BM" + (34).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bomb += (100_000).to_bytes(4, "little") + (100_000).to_bytes(4, "little") + b"\x01\x00\x18\x00" + bytes(24)

    refused(http.post("/detect", files={"file": ("a.bmp", bomb)}), 413, "too_many_pixels")


def test_a_second_upload_with_the_same_task_id_is_refused(http: httpx.Client, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", frames=10).read_bytes()
    task_id = str(uuid.uuid4())

    assert send(http, clip, X_Task_Id=task_id).status_code == 202
    refused(send(http, clip, X_Task_Id=task_id), 409, "task_id_in_use")


@pytest.mark.parametrize("task_id", ["x", "../../etc", "0" * 36])
def test_a_task_id_that_is_no_uuid_is_refused(http: httpx.Client, task_id: str) -> None:
    assert send(http, b"x", X_Task_Id=task_id).status_code == 400
    assert http.get(f"/tasks/{task_id}").status_code in (400, 404)


def test_a_tail_without_a_length_or_too_long_is_refused(http: httpx.Client) -> None:
    refused(
        http.post("/detect/video", content=iter([b"x" * 100]), headers={"X-Filename": "a.mp4", "X-Tail-Bytes": "10"}),
        411,
        "length_required",
    )
    for tail in ("0", "-1", "100", "x", str(65 * 1024 * 1024)):
        assert send(http, b"x" * 100, X_Tail_Bytes=tail).status_code == 400


def _raw_upload(stack: LocalStack, content: bytes, *, declared: int, task_id: str) -> socket.socket:
    parts = urlsplit(stack.url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=END_TIMEOUT_S)
    head = f"POST /detect/video HTTP/1.1\r\nHost: a\r\nX-Filename: a.mkv\r\nX-Task-Id: {task_id}\r\nContent-Length: {declared}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_a_client_that_goes_away_in_the_middle_fails_its_task_and_keeps_what_was_reported(
    http: httpx.Client, stack: LocalStack, tmp_path: Path
) -> None:
    whole = write_video(tmp_path / "a.mkv", frames=300, container=Container.MKV, size=(320, 240), noise=30).read_bytes()
    task_id = str(uuid.uuid4())
    connection = _raw_upload(stack, whole[: len(whole) // 2], declared=len(whole), task_id=task_id)
    _wait_for_results(http, task_id)
    connection.close()

    task = ended(http, task_id)

    assert (task["status"], task["error"]["code"]) == ("Failed", "upload_aborted")
    assert http.get(f"/tasks/{task_id}/results").text.strip()


def _wait_for_results(http: httpx.Client, task_id: str) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        answer = http.get(f"/tasks/{task_id}/results")
        if answer.status_code == 200 and answer.text.strip():
            return
        time.sleep(0.05)
    raise AssertionError("nothing was reported")


# Over AMQP


async def _dead_letter(amqp_url: str, body: bytes) -> aio_pika.abc.AbstractIncomingMessage:
    """Publish a command as another service does, and return the dead letter it becomes, as the operator gets it."""
    publisher_url = as_user(amqp_url, PUBLISHER)
    async with await aio_pika.connect(amqp_url) as operator, await aio_pika.connect(publisher_url) as publisher:
        dead = await (await operator.channel()).get_queue(topology.DEAD_LETTERS)
        await dead.purge()
        exchange = await (await publisher.channel()).get_exchange(topology.COMMANDS)
        await exchange.publish(aio_pika.Message(body, delivery_mode=2), "video")
        async with asyncio.timeout(END_TIMEOUT_S):
            while (letter := await dead.get(fail=False)) is None:
                await asyncio.sleep(0.05)
        await letter.ack()
        return letter


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"garbage", "malformed_message"),
        (b'{"type":"Teleport","version":1}', "unknown_type"),
        (b'{"type":"DetectVideo","version":9}', "unknown_version"),
        (
            b'{"type":"DetectVideo","version":1,"taskId":"../../x","medium":{"root":"storage","path":"x","kind":"video"}}',
            "malformed_message",
        ),
    ],
)
async def test_a_command_that_cannot_be_read_becomes_a_dead_letter_with_the_reason(
    http: httpx.Client, stack: LocalStack, body: bytes, code: str
) -> None:
    letter = await _dead_letter(stack.amqp_url, body)

    assert (letter.body, letter.headers[topology.FAILURE_CODE_HEADER]) == (body, code)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "uploads/../../x", "outside"])
async def test_a_path_outside_the_storage_is_never_opened(http: httpx.Client, stack: LocalStack, path: str) -> None:
    (stack.storage / "outside").unlink(missing_ok=True)
    (stack.storage / "outside").symlink_to("/etc/passwd")
    medium = Medium(root="storage", path=path, kind=MediumKind.VIDEO)
    command = DetectVideo(task_id=str(uuid.uuid4()), medium=medium)

    letter = await _dead_letter(stack.amqp_url, wire.encode(command))

    assert letter.headers[topology.FAILURE_CODE_HEADER] in ("forbidden_path", "medium_missing")


async def test_after_bad_commands_the_next_good_one_works(
    http: httpx.Client, stack: LocalStack, tmp_path: Path
) -> None:
    for body in (b"", b"\xff", b"{}"):
        await _dead_letter(stack.amqp_url, body)

    answer = send(http, write_video(tmp_path / "a.mp4", frames=20).read_bytes())

    assert ended(http, answer.json()["taskId"])["status"] == "Succeeded"
