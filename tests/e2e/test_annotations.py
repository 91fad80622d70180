"""What the Annotations service is told, with real processes: two edges, a consumer, a broker, and a double that fails on demand."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from detections import cli
from tests.annotations import USER, AnnotationsProcess, medium_of
from tests.cut_finder import write_scenes
from tests.e2e.annotated import (
    ALL_FRAMES,
    CALL_S,
    END_TIMEOUT_S,
    Service,
    assert_told_once_in_order,
    clip,
    ended,
    start,
    upload,
)
from tests.media import Square, write_image
from tests.processes import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_host: Callable[[], dict[str, str]]) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("annotations"), new_host())
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def double(service: Service) -> Iterator[AnnotationsProcess]:
    """The double without faults."""
    yield service.annotations
    service.annotations.fault()


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    """A client of the edge that is never killed."""
    with httpx.Client(base_url=service.other_url, timeout=END_TIMEOUT_S, trust_env=False) as client:
        yield client


def test_an_upload_of_a_user_is_told_of_from_its_record_to_its_end(
    service: Service, double: AnnotationsProcess, http: httpx.Client, tmp_path: Path
) -> None:
    picture = write_image(tmp_path / "a.png", squares=[Square()])
    answer = http.post("/detect", files={"file": ("a.png", picture.read_bytes())}, headers=double.headers())
    started = upload(http, clip(service, "upload.mp4", frames=60), double.headers(), **ALL_FRAMES)
    task = ended(http, started["taskId"])
    double.wait_for_end(started["mediaId"])

    assert_told_once_in_order(double, task, is_upload=True)
    record = double.stored(started["mediaId"])[0]["body"]
    assert record | {"path": ""} == {
        "id": started["mediaId"],
        "name": "upload.mp4",
        "path": "",
        "mediaType": 20,
        "mediaStatus": 1,
        "userId": USER,
    }
    assert Path(record["path"]).read_bytes() == (service.media / "upload.mp4").read_bytes()
    assert double.statuses(started["mediaId"]) == [2, 3]
    told = double.annotations(started["mediaId"])
    assert [len(one["detections"]) for one in told] == [1] * 60
    assert all(one["source"] == 0 and len(one["videoTime"]) == len("00:00:01") for one in told)
    assert all(one["image"].startswith("/9j/") for one in told)  # a JPEG, base64

    picture_id = next(medium_of(one) for one in double.stored() if one["body"].get("name") == "a.png")
    double.wait_for_end(picture_id)
    assert double.annotations(picture_id)[0]["detections"] == answer.json()
    assert not list((service.folder / "storage" / "tasks").glob("*/frames/*"))
    assert not list((service.folder / "storage" / "tasks").glob("*/credentials"))


def test_a_request_goes_over_what_the_user_has_set(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    double.set_for(
        USER, {"recognition": {"framePeriodRecognition": 10, "frame_recognition_seconds": 0}, "theme": "dark"}
    )
    double.add_medium("settings", clip(service, "settings.mp4", frames=40))
    of_the_user = ended(http, start(http, "settings", double.headers())["taskId"])
    asked = ended(http, start(http, "settings", double.headers(), frame_period_recognition=4)["taskId"])
    double.set_for(USER, {})

    assert (of_the_user["counts"]["sampled"], asked["counts"]["sampled"]) == (4, 10)


def test_the_shots_of_a_users_video_are_found_where_it_lies_and_are_no_annotations(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    path = write_scenes(service.media / "film.mp4", 40, frames=90)
    double.set_for(USER, {"min_shot_frames": 200})
    double.add_medium("film", path)
    answer = http.post("/shots/film", headers=double.headers(), content=json.dumps({"min_shot_frames": 1}))
    assert answer.status_code == 202, answer.text
    task = ended(http, answer.json()["taskId"])
    double.wait_for_end("film")
    double.set_for(USER, {})
    without_token = http.post("/shots/film")
    picture = double.add_medium("still", write_image(service.media / "still.png"))
    of_a_picture = http.post(f"/shots/{picture}", headers=double.headers())

    assert (task["kind"], task["status"], task["counts"]["shots"]) == ("shots", "Succeeded", 2)
    assert double.statuses("film") == [2, 3]
    assert double.annotations("film") == []
    assert (without_token.status_code, without_token.json()["code"]) == (401, "unauthenticated")
    assert (of_a_picture.status_code, of_a_picture.json()["code"]) == (400, "unsupported_media")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("../../../../etc/passwd", 502, "forbidden_path"),
        ("/etc/passwd", 502, "forbidden_path"),
        ("link.mp4", 502, "forbidden_path"),
        ("absent.mp4", 404, "medium_missing"),
    ],
)
def test_a_medium_outside_the_roots_is_refused(
    service: Service, double: AnnotationsProcess, http: httpx.Client, *, path: str, status: int, code: str
) -> None:
    link = service.media / "link.mp4"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    media_id = double.add_medium(f"outside-{len(path)}", path)
    answer = http.post(f"/detect/{media_id}", headers=double.headers())

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fault", "status"), [("500", 502), ("401", 401), ("garbage", 502), ("drip", 504), ("redirect", 502)]
)
def test_a_service_that_fails_is_said_and_leaves_nothing_behind(
    service: Service, double: AnnotationsProcess, http: httpx.Client, fault: str, status: int
) -> None:
    double.add_medium("fails", clip(service, "fails.mp4", frames=10))
    double.fault(mode=fault)
    answer = http.post("/detect/fails", headers=double.headers())

    assert answer.status_code == status
    double.fault()
    assert ended(http, start(http, "fails", double.headers())["taskId"])["status"] == "Succeeded"


def test_detections_do_not_notice_a_service_that_fails_and_it_is_told_later(
    service: Service, double: AnnotationsProcess, http: httpx.Client, tmp_path: Path
) -> None:
    names, took_s = [], {}
    for fault in ("slow", "500", "401", "garbage", "drip", "hang"):
        double.fault(mode=fault, slow_s=1.0)
        names.append(f"{fault}.png")
        picture = write_image(tmp_path / names[-1], squares=[Square(x=5 * len(names))])
        answer = http.post("/detect", files={"file": (names[-1], picture.read_bytes())}, headers=double.headers())
        assert answer.status_code == 200, answer.text
        took_s[fault] = answer.elapsed.total_seconds()
        assert len(answer.json()) == 1
    assert min(took_s["drip"], took_s["hang"]) < CALL_S, "as long as one call of the service may take"
    double.fault()
    double.wait_until(lambda: set(names) <= {one["body"].get("name") for one in double.stored()})
    told = {one["body"]["name"]: one["body"]["id"] for one in double.stored() if one["body"].get("name") in names}
    for media_id in told.values():
        double.wait_for_end(media_id)
        assert double.statuses(media_id) == [2, 3]
        assert len(double.annotations(media_id)) == 1


def test_of_fifty_requests_for_one_medium_at_two_edges_one_starts(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    media_id = double.add_medium("wanted", clip(service, "wanted.mp4", frames=3000))
    headers = double.headers()
    config = json.dumps({"frame_period_recognition": 1})
    with (
        httpx.Client(base_url=service.stack.url, timeout=END_TIMEOUT_S, trust_env=False) as other,
        ThreadPoolExecutor(50) as pool,
    ):
        edges = [http, other] * 25
        asked = [pool.submit(edge.post, f"/detect/{media_id}", headers=headers, content=config) for edge in edges]
        answers = [answer.result() for answer in asked]
    (started,) = [answer.json() for answer in answers if answer.status_code == 202]
    busy = [answer for answer in answers if answer.status_code == 409]

    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 49}
    assert {answer.headers["location"] for answer in busy} == {f"/tasks/{started['taskId']}"}
    assert {answer.json()["code"] for answer in busy} == {"media_busy"}

    http.delete(f"/tasks/{started['taskId']}")
    assert ended(http, started["taskId"])["status"] == "Cancelled"
    again = start(http, media_id, headers, frame_period_recognition=1000)
    assert ended(http, again["taskId"])["status"] == "Succeeded"
    double.wait_for_end(media_id, times=2)
    assert double.statuses(media_id) == [2, 6, 2, 3]


def test_the_same_request_with_the_same_key_starts_one_task_whichever_edge_it_comes_to(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    """Also while the medium is busy, and when its task has long ended."""
    media_id = double.add_medium("kept", clip(service, "kept.mp4", frames=20))
    headers = double.headers() | {"Idempotency-Key": "once"}
    with httpx.Client(base_url=service.stack.url, timeout=30, trust_env=False) as other:
        first = http.post(f"/detect/{media_id}", headers=headers, json=ALL_FRAMES)
        again = other.post(f"/detect/{media_id}", headers=headers, json=ALL_FRAMES)
        ended(http, first.json()["taskId"])
        late = other.post(f"/detect/{media_id}", headers=headers, json=ALL_FRAMES)
        changed = other.post(f"/detect/{media_id}", headers=headers, json={})
        somebody_else = other.post(
            f"/detect/{media_id}", headers=double.headers("bob") | {"Idempotency-Key": "once"}, json=ALL_FRAMES
        )

    assert [answer.status_code for answer in (first, again, late)] == [202] * 3
    assert first.json() == again.json() == late.json()
    assert first.headers["location"] == late.headers["location"]
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")
    assert somebody_else.json()["taskId"] != first.json()["taskId"]


def test_nothing_is_lost_while_the_service_is_away_and_an_edge_is_killed_twice(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    """10 media by id and 10 uploads; the service dies in the middle of the first, comes back after all have ended."""
    by_id = [
        double.add_medium(f"outage-{number}", clip(service, f"o{number}.mp4", frames=40, dx=number / 4))
        for number in range(10)
    ]
    headers = double.headers()
    started = [start(http, media_id, headers, **ALL_FRAMES) for media_id in by_id]
    double.wait_until(lambda: double.annotations(by_id[0]))
    double.kill()
    service.kill_edge()
    for number in range(10):
        started.append(upload(http, service.media / f"o{number}.mp4", headers, **ALL_FRAMES))
        if number == 5:
            wait_until(lambda: service.stack.pids("edge"))
            service.kill_edge()
    tasks = [ended(http, one["taskId"]) for one in started]
    double.start()

    assert {task["status"] for task in tasks} == {"Succeeded"}
    for one, task in zip(started, tasks, strict=True):
        double.wait_for_end(one["mediaId"])
        assert_told_once_in_order(double, task | {"mediaId": one["mediaId"]}, is_upload=one["mediaId"] not in by_id)


def test_every_post_of_a_long_task_has_a_valid_token_and_refreshes_take_turns(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    """Tokens of 6 s, posts for 8 s or longer, three media of one user at once."""
    media = [double.add_medium(f"tokens-{n}", clip(service, f"t{n}.mp4", frames=25, dx=n / 5)) for n in range(3)]
    before = double.seen()
    double.fault(mode="slow", slow_s=0.3, only="/annotations", token_life_s=6, refresh_s=0.2)
    started = [start(http, media_id, double.headers(), **ALL_FRAMES) for media_id in media]
    tasks = [ended(http, one["taskId"]) for one in started]
    for media_id, task in zip(media, tasks, strict=True):
        double.wait_for_end(media_id)
        assert_told_once_in_order(double, task, is_upload=False)
    after = double.seen()

    assert after["unauthorised"] == before["unauthorised"]
    assert after["refreshes_at_once_max"] == 1
    assert after["refreshes"] - before["refreshes"] >= 2


def dead_letters(service: Service, *arguments: str) -> str:
    """What the command line prints."""
    done = CliRunner().invoke(cli.app, ["dead-letters", *arguments, "--amqp-url", service.stack.amqp_url])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_the_service_refuses_for_good_waits_for_the_operator_and_can_be_replayed(
    service: Service, double: AnnotationsProcess, http: httpx.Client
) -> None:
    media_id = double.add_medium("refused", clip(service, "refused.mp4", frames=10))
    double.fault(mode="400", only="/annotations")
    task = ended(http, start(http, media_id, double.headers(), frame_period_recognition=1000)["taskId"])
    double.wait_for_end(media_id)
    assert double.annotations(media_id) == []

    listed = dead_letters(service, "list")
    assert dead_letters(service, "list") == listed
    (line,) = [line for line in listed.splitlines() if task["taskId"] in line]
    letter_id = line.split()[0]
    assert "annotations_refused" in line
    shown = json.loads(dead_letters(service, "show", letter_id))["letter"]
    assert shown["post"]["body"]["mediaId"] == media_id
    assert "Bearer" not in json.dumps(shown)

    double.fault()
    dead_letters(service, "replay", letter_id)
    double.wait_until(lambda: double.annotations(media_id))
    assert letter_id not in dead_letters(service, "list")
