"""The acceptance scenarios of the original system, each named by its id, on real processes and a real RabbitMQ.

Those of the Loader (FT-N-03, 06, NFT-RES-01, 03) are in `test_model_lifecycle.py`.
"""

import itertools
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.probes import peak_rss_bytes, reset_peak, rss_bytes
from detections.local import LocalStack
from tests.annotations import AnnotationsProcess
from tests.media import BLUE, GREEN, RED, Square, write_image, write_video
from tests.processes import wait_until

pytestmark = pytest.mark.e2e

EVENTS_TIMEOUT_S = 60.0
DENSE_FRAMES = 800
SMALL_BUFFER = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 65536),)
Json = dict[str, Any]


# The system under test: a model that really looks for squares of three colours, and classes with a greatest size.

SCRIPTED = {
    "runtime": "scripted",
    "input": [128, 160],
    "objects": [
        {"class": 0, "name": "red", "rgb": list(RED), "confidence": 0.9},
        {"class": 1, "name": "green", "rgb": list(GREEN), "confidence": 0.6},
        {"class": 2, "name": "blue", "rgb": list(BLUE), "confidence": 0.35},
    ],
}
CLASSES = [
    {"Id": 0, "Name": "Red", "Color": "#ff0000", "MaxSizeM": 5},
    {"Id": 1, "Name": "Green", "Color": "#00ff00", "MaxSizeM": 100},
    {"Id": 2, "Name": "Blue", "Color": "#0000ff", "MaxSizeM": 100},
]


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, annotations: AnnotationsProcess, new_host: Callable[[], dict[str, str]]
) -> Iterator[LocalStack]:
    folder = tmp_path_factory.mktemp("acceptance")
    environ = {
        **new_host(),
        "ANNOTATIONS_URL": annotations.url,
        "VIDEOS_DIR": str(folder),
        "IMAGES_DIR": str(folder),
        "EDGE_POST_DELAYS_S": "0.3 1",
    }
    stack = LocalStack(folder / "storage", model=write_model(folder / "models"), environ=environ)
    stack.start()
    yield stack
    stack.kill()


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnnotationsProcess]:
    """A double of the Annotations service; requests without a token do not touch it."""
    double = AnnotationsProcess(tmp_path_factory.mktemp("double"))
    double.start()
    yield double
    double.kill()


def add_medium(annotations: AnnotationsProcess, system: LocalStack, name: str, frames: int) -> str:
    """The id of a clip in the media root that the service knows."""
    write_video(system.storage.parent / f"{name}.mp4", frames=frames)
    return annotations.add_medium(name, f"{name}.mp4")


@pytest.fixture
def http(system: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.url, timeout=60) as client:
        yield client


def write_model(folder: Path, *, classes: str | None = None, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(CLASSES) if classes is None else classes)
    model = folder / "squares.json"
    model.write_text(json.dumps(SCRIPTED | changes))
    return model


def detect(http: httpx.Client, path: Path, **config: object) -> list[Json]:
    answer = http.post("/detect", files={"file": (path.name, path.read_bytes())}, data={"config": json.dumps(config)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def upload(http: httpx.Client, path: Path, *, task_id: str | None = None, **config: object) -> Json:
    headers = {"X-Filename": path.name, "X-Config": json.dumps(config), "X-Task-Id": task_id or str(uuid.uuid4())}
    answer = http.post("/detect/video", content=path.read_bytes(), headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def heard_while_uploading(http: httpx.Client, path: Path, **config: object) -> list[Json]:
    """Every event of one upload, from a listener that was there before it began."""
    task_id = str(uuid.uuid4())
    with http.stream("GET", "/detect/stream", params={"taskId": task_id}) as stream, ThreadPoolExecutor(1) as pool:
        lines = stream.iter_lines()
        wait_until_listening(lines)
        uploaded = pool.submit(upload, http, path, task_id=task_id, **config)
        events = list(until_the_end(lines))
        uploaded.result()
    return events


def wait_until_listening(lines: Iterator[str]) -> None:
    """Until the id of the log's head, which every listener is sent at once."""
    while not next(lines).startswith("id:"):
        continue


def until_the_end(lines: Iterator[str]) -> Iterator[Json]:
    deadline = time.monotonic() + EVENTS_TIMEOUT_S
    for line in lines:
        assert time.monotonic() < deadline
        if line.startswith("data:"):
            event = json.loads(line[5:])
            yield event
            if event["mediaStatus"] != "AIProcessing":
                return


def reports(events: list[Json]) -> list[Json]:
    return [event for event in events if "frameIndex" in event]


def seconds(event: Json) -> float:
    hours, minutes, rest = event["videoTime"].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def clip_of_a_slow_square(folder: Path, frames: int) -> Path:
    """One that stays in the picture to the end."""
    return write_video(folder / "slow.mp4", frames=frames, squares=[Square(x=4, y=40, dx=0.4)])


def squares(*corners: tuple[int, int], rgb: tuple[int, int, int] = RED, side: int = 24) -> list[Square]:
    return [Square(rgb=rgb, x=x, y=y, side=side) for x, y in corners]


def is_in_the_picture(box: Json) -> bool:
    edges = (
        box["centerX"] - box["width"] / 2,
        box["centerX"] + box["width"] / 2,
        box["centerY"] - box["height"] / 2,
        box["centerY"] + box["height"] / 2,
    )
    return all(-1e-6 <= edge <= 1 + 1e-6 for edge in edges)


def share_of_the_smaller(one: Json, other: Json) -> float:
    def overlap(axis: str, size: str) -> float:
        low = max(one[axis] - one[size] / 2, other[axis] - other[size] / 2)
        return max(0.0, min(one[axis] + one[size] / 2, other[axis] + other[size] / 2) - low)

    areas = [box["width"] * box["height"] for box in (one, other)]
    return overlap("centerX", "width") * overlap("centerY", "height") / min(areas)


# Health and the engine's life


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, new_host: Callable[[], dict[str, str]]) -> Iterator[httpx.Client]:
    """A system with the shipped model that nobody has asked anything."""
    with asked(LocalStack(tmp_path_factory.mktemp("fresh") / "storage", environ=new_host())) as client:
        yield client


@contextmanager
def asked(stack: LocalStack) -> Iterator[httpx.Client]:
    """A client of a system that runs meanwhile."""
    stack.start()
    try:
        with httpx.Client(base_url=stack.url, timeout=120) as client:
            yield client
    finally:
        stack.kill()


@pytest.fixture(scope="module")
def first_minute(fresh: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """Health of a fresh system: at its start, after another heartbeat of its consumer, and after its first detection."""
    picture = write_image(tmp_path_factory.mktemp("first") / "a.png", size=(320, 320))
    health = {"start": fresh.get("/health").json(), "later": after_a_heartbeat(fresh)}
    detect(fresh, picture)
    return health | {"detected": after_a_heartbeat(fresh)}


def after_a_heartbeat(http: httpx.Client) -> Json:
    """Health after two heartbeats: one may have been on its way."""
    for _ in range(2):
        before = seen_at(http)
        wait_until(lambda before=before: before.isdisjoint(seen_at(http)))
    return http.get("/health").json()


def seen_at(http: httpx.Client) -> set[str]:
    return {consumer["lastSeen"] for consumer in http.get("/health").json()["consumers"]}


@pytest.fixture
def shipped(fresh: httpx.Client, first_minute: dict[str, Json]) -> httpx.Client:
    """The same system after its first minute, for real pictures."""
    return fresh


def test_ft_p_01_health_on_a_fresh_start(first_minute: dict[str, Json]) -> None:
    health = first_minute["start"]

    assert (health["status"], health["aiAvailability"], health["errorMessage"]) == ("healthy", "None", None)


def test_ft_p_02_health_after_a_detection(first_minute: dict[str, Json]) -> None:
    assert first_minute["detected"]["aiAvailability"] == "Enabled"


def test_ft_p_14_the_engine_loads_only_when_it_is_asked(first_minute: dict[str, Json]) -> None:
    assert [first_minute[when]["aiAvailability"] for when in ("start", "later", "detected")] == [
        "None",
        "None",
        "Enabled",
    ]


def test_ft_p_15_without_a_gpu_onnx_serves(first_minute: dict[str, Json]) -> None:
    assert first_minute["detected"]["engineType"] == "onnx"


# Images


def test_ft_p_03_a_small_image(http: httpx.Client, tmp_path: Path) -> None:
    found = detect(
        http, write_image(tmp_path / "a.png", squares=squares((16, 16), (100, 60))), probability_threshold=0.5
    )

    assert len(found) == 2
    assert all(is_in_the_picture(box) and box["confidence"] >= 0.5 for box in found)
    assert {(box["classNum"], box["label"]) for box in found} == {(0, "Red")}


def test_ft_p_04_a_large_image_with_a_camera(http: httpx.Client, tmp_path: Path) -> None:
    drawn = squares((100, 100), (6100, 4000), (3126, 2084), side=30)
    camera = {"focal_length": 24, "sensor_width": 23.5, "current_height": 400, "current_zoom": 1, "current_angle": 90}
    found = detect(http, write_image(tmp_path / "a.png", size=(6252, 4168), squares=drawn), camera_config=camera)

    centres = sorted((box["centerX"] * 6252, box["centerY"] * 4168) for box in found)
    assert centres == [pytest.approx(centre, abs=3) for centre in [(115, 115), (3141, 2099), (6115, 4015)]]
    assert all(is_in_the_picture(box) for box in found)


def test_ft_p_05_thresholds(http: httpx.Client, tmp_path: Path) -> None:
    drawn = [*squares((8, 8)), *squares((60, 8), rgb=GREEN), *squares((110, 80), rgb=BLUE)]
    picture = write_image(tmp_path / "a.png", squares=drawn)

    counts = []
    for threshold in (0.0, 0.25, 0.5, 0.7, 1.0):
        found = detect(http, picture, probability_threshold=threshold)
        assert all(box["confidence"] >= threshold for box in found)
        counts.append(len(found))
    assert counts == [3, 3, 2, 1, 0]


@pytest.mark.real_media
def test_ft_p_06_no_pair_overlaps_more_than_asked(shipped: httpx.Client, shared_data: Path) -> None:
    """And what overlaps less stays: a higher threshold leaves more."""
    picture, counts = shared_data / "images/aerial/MOS155.png", []
    for threshold in (0.0, 0.1, 0.5):
        found = detect(shipped, picture, probability_threshold=0.05, tracking_intersection_threshold=threshold)
        worst = max(share_of_the_smaller(one, other) for one, other in itertools.combinations(found, 2))
        assert threshold * 0.8 <= worst <= threshold + 1e-3, "less than 300 boxes, some just below the threshold"
        counts.append(len(found))
    assert 100 < counts[0] < counts[1] < counts[2] < 300


def test_ft_p_07_nothing_larger_than_its_class_allows(http: httpx.Client, tmp_path: Path) -> None:
    """0.1 m a pixel: the small red square is 2.4 m, the large one 6 m of at most 5; green may be 100 m."""
    drawn = [*squares((8, 8)), *squares((40, 8), side=60), *squares((104, 8), rgb=GREEN, side=50)]
    picture = write_image(tmp_path / "a.png", squares=drawn)
    camera = {"focal_length": 10, "sensor_width": 16, "current_height": 10}

    found = detect(http, picture, camera_config=camera)

    assert sorted((box["label"], round(box["width"] * 160)) for box in found) == [("Green", 50), ("Red", 24)]


def test_ft_p_13_class_variants_have_names_of_their_own(tmp_path: Path, new_host: Callable[[], dict[str, str]]) -> None:
    model = write_model(
        tmp_path / "models",
        objects=[
            {"class": 20, "name": "x", "rgb": list(RED), "confidence": 0.9},
            {"class": 41, "name": "y", "rgb": list(GREEN), "confidence": 0.9},
        ],
        class_variants=True,
    )
    drawn = [*squares((16, 16)), *squares((80, 60), rgb=GREEN)]
    with asked(LocalStack(tmp_path / "storage", model=model, environ=new_host())) as http:
        found = detect(http, write_image(tmp_path / "a.png", squares=drawn))

    assert sorted(box["label"] for box in found) == ["Green(Night)", "Red(Wint)"]


def test_ft_p_16_a_square_in_two_tiles_is_one(http: httpx.Client, tmp_path: Path) -> None:
    drawn = squares(*((x, y) for x in range(20, 600, 60) for y in range(20, 400, 60)), side=20)
    found = detect(
        http, write_image(tmp_path / "a.png", size=(640, 480), squares=drawn), big_image_tile_overlap_percent=30
    )

    keys = ("centerX", "centerY", "width", "height")
    twins = [
        (one, other)
        for one, other in itertools.combinations(found, 2)
        if one["classNum"] == other["classNum"] and all(abs(one[key] - other[key]) < 0.01 for key in keys)
    ]
    assert twins == []
    assert len(found) == len(drawn)


# Videos


def test_ft_p_09_a_listener_hears_the_work_and_its_end(http: httpx.Client, tmp_path: Path) -> None:
    events = heard_while_uploading(http, clip_of_a_slow_square(tmp_path, 100), frame_recognition_seconds=0)
    task_id = events[0]["taskId"]

    assert all(event["annotations"] for event in reports(events))
    assert [event["frameIndex"] for event in reports(events)] == list(range(0, 100, 4))
    assert all(event["mediaStatus"] == "AIProcessing" for event in events[:-1])
    assert (events[-1]["mediaStatus"], events[-1]["mediaPercent"]) == ("AIProcessed", 100)
    assert {event["taskId"] for event in events} == {task_id}
    assert [event["sequence"] for event in events if "sequence" in event] == list(range(1, 27))
    percents = [event["mediaPercent"] for event in events]
    assert percents == sorted(percents)
    assert percents[-2] <= 99
    assert events[-1]["counts"] == {
        "decoded": 100,
        "sampled": 25,
        "inferred": 25,
        "reported": 25,
        "failed": 0,
        "shots": 0,
    }


def test_ft_p_10_every_fourth_of_300_frames_is_inferred(http: httpx.Client, tmp_path: Path) -> None:
    started = upload(http, write_video(tmp_path / "a.mp4", frames=300), frame_period_recognition=4)
    counts = ended(http, started["taskId"])["counts"]

    assert (counts["decoded"], counts["sampled"], counts["inferred"], counts["failed"]) == (300, 75, 75, 0)


def ended(http: httpx.Client, task_id: str) -> Json:
    deadline = time.monotonic() + EVENTS_TIMEOUT_S
    while time.monotonic() < deadline:
        task = http.get(f"/tasks/{task_id}").json()
        if task["status"] not in ("Queued", "Running"):
            return task
        time.sleep(0.05)
    raise AssertionError(f"task {task_id} did not end")


def test_ft_p_11_reports_are_two_seconds_apart(http: httpx.Client, tmp_path: Path) -> None:
    events = heard_while_uploading(http, clip_of_a_slow_square(tmp_path, 250), frame_recognition_seconds=2)

    assert [seconds(event) for event in reports(events)] == pytest.approx([0, 2.08, 4.16, 6.24, 8.32])


def test_ft_p_12_only_what_moved_is_news(http: httpx.Client, tmp_path: Path) -> None:
    """Of 160 pixels 0.05 are 8: the slow one needs 2 s for them, the fast one a third of one."""
    rule = {"frame_recognition_seconds": 1, "tracking_distance_confidence": 0.05, "tracking_probability_increase": 0.5}

    def report_times(name: str, px_a_frame: float) -> list[float]:
        clip = write_video(tmp_path / f"{name}.mp4", frames=125, squares=[Square(x=4, y=40, dx=px_a_frame)])
        return [seconds(event) for event in reports(heard_while_uploading(http, clip, **rule))]

    assert report_times("static", 0) == [0]
    assert report_times("slow", 0.16) == pytest.approx([0, 2.08, 4.16], abs=0.32)
    assert report_times("fast", 1) == pytest.approx([0, 1.12, 2.24, 3.36, 4.48])


# Media by id


def test_ft_p_08_media_by_id_starts_within_a_second(
    http: httpx.Client, system: LocalStack, annotations: AnnotationsProcess
) -> None:
    headers, took = annotations.headers(), []
    for number in range(3):
        media_id = add_medium(annotations, system, f"ft-p-08-{number}", frames=50)
        began = time.monotonic()
        answer = http.post(f"/detect/{media_id}", headers=headers)
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.json()["status"], answer.json()["mediaId"]) == (202, "started", media_id)

    assert min(took) < 1, "the others may have met a busy machine"


def test_ft_p_09_a_listener_hears_the_work_on_media_by_id(
    http: httpx.Client, system: LocalStack, annotations: AnnotationsProcess
) -> None:
    media_id = add_medium(annotations, system, "ft-p-09", frames=100)
    with http.stream("GET", "/detect/stream", params={"mediaId": media_id}) as stream:
        lines = stream.iter_lines()
        wait_until_listening(lines)
        http.post(f"/detect/{media_id}", headers=annotations.headers(), json={"frame_recognition_seconds": 0})
        events = list(until_the_end(lines))

    assert reports(events)
    assert {event["mediaId"] for event in events} == {media_id}
    assert (events[-1]["mediaStatus"], events[-1]["mediaPercent"]) == ("AIProcessed", 100)


def test_ft_n_04_the_same_media_twice(http: httpx.Client, system: LocalStack, annotations: AnnotationsProcess) -> None:
    media_id = add_medium(annotations, system, "ft-n-04", frames=2000)
    headers = annotations.headers()
    first = http.post(f"/detect/{media_id}", headers=headers, json={"frame_period_recognition": 1})
    second = http.post(f"/detect/{media_id}", headers=headers)
    http.delete(first.headers["location"])

    assert (first.status_code, second.status_code) == (202, 409)
    assert second.headers["location"] == first.headers["location"]


def test_nft_sec_03_annotations_sees_the_authorization_as_it_was_sent(
    http: httpx.Client, annotations: AnnotationsProcess, tmp_path: Path
) -> None:
    headers = annotations.headers("nft-sec-03")
    clip = write_video(tmp_path / "sec.mp4", frames=20)
    http.post("/detect/video", content=clip.read_bytes(), headers={**headers, "X-Filename": "sec.mp4"})
    annotations.wait_until(lambda: [one for one in annotations.stored() if one["user_id"] == "nft-sec-03"])

    assert headers["Authorization"] in annotations.seen()["authorizations"]


def test_ft_n_07_and_nft_res_02_without_annotations_detection_and_listeners_go_on(
    http: httpx.Client, system: LocalStack, annotations: AnnotationsProcess, tmp_path: Path
) -> None:
    """It dies in the middle of a task (NFT-RES-02), and is away when an upload of a user comes in (FT-N-07)."""
    media_id = add_medium(annotations, system, "nft-res-02", frames=400)
    headers = annotations.headers()
    with http.stream("GET", "/detect/stream", params={"mediaId": media_id}) as stream:
        lines = stream.iter_lines()
        wait_until_listening(lines)
        http.post(f"/detect/{media_id}", headers=headers, json={"frame_recognition_seconds": 0})
        annotations.kill()
        events = list(until_the_end(lines))
    picture = write_image(tmp_path / "a.png", squares=squares((16, 16)))
    answer = http.post("/detect", files={"file": ("ft-n-07.png", picture.read_bytes())}, headers=headers)
    annotations.start()

    assert (events[-1]["mediaStatus"], events[-1]["mediaPercent"]) == ("AIProcessed", 100)
    assert (answer.status_code, len(answer.json())) == (200, 1)
    annotations.wait_for_end(media_id)
    assert len(annotations.annotations(media_id)) == len(reports(events))


# Bad input


@pytest.mark.parametrize(("name", "content"), [("a.jpg", b""), ("a.jpg", os.urandom(5000)), ("a.mp4", b"")])
def test_ft_n_01_and_02_nothing_and_noise_are_refused(http: httpx.Client, name: str, content: bytes) -> None:
    answer = http.post("/detect", files={"file": (name, content)})

    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["detail"]


def test_ft_n_05_without_classes_the_model_names_its_own(
    tmp_path: Path, new_host: Callable[[], dict[str, str]]
) -> None:
    model = write_model(tmp_path / "models")
    model.with_name("classes.json").unlink()
    with asked(LocalStack(tmp_path / "storage", model=model, environ=new_host())) as http:
        (found,) = detect(http, write_image(tmp_path / "a.png", squares=squares((16, 16))))
        health = after_a_heartbeat(http)

    assert (found["classNum"], found["label"]) == (0, "red")
    assert (health["aiAvailability"], health["errorMessage"]) == ("Enabled", None)


@pytest.mark.parametrize("classes", ["{ this is no json", '[{"Id": "x"}]'])
def test_ft_n_05_broken_classes_are_said_and_do_not_crash(
    tmp_path: Path, new_host: Callable[[], dict[str, str]], classes: str
) -> None:
    model = write_model(tmp_path / "models", classes=classes)
    with asked(LocalStack(tmp_path / "storage", model=model, environ=new_host())) as http:
        (found,) = detect(http, write_image(tmp_path / "a.png", squares=squares((16, 16))))
        health = after_a_heartbeat(http)

    assert (found["classNum"], found["label"]) == (0, "red")
    assert health["aiAvailability"] == "Warning"
    assert "classes.json" in health["errorMessage"]


def test_nft_sec_01_a_broken_form_is_refused(http: httpx.Client) -> None:
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    truncated = http.post(
        "/detect",
        content=b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nabc',
        headers=head,
    )
    without_file = http.post("/detect", files={"other": ("a.jpg", b"x")})

    assert {truncated.status_code, without_file.status_code} <= {400, 422}
    assert http.get("/health").json()["status"] == "healthy"


def test_nft_sec_02_much_noise_costs_no_memory(http: httpx.Client, system: LocalStack) -> None:
    """As a form it begins like a JPEG: then all of it is stored before anybody looks at it."""
    block = os.urandom(1024 * 1024)
    opening = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8\xff\xe0'
    form = itertools.chain([opening], itertools.repeat(block, 500), [b"\r\n--b--\r\n"])
    pids = [*system.pids("edge"), *system.pids("consumer-1")]
    before = {pid: rss_bytes(pid) for pid in pids}
    for pid in pids:
        reset_peak(pid)
    stored = http.post("/detect", content=form, headers={"Content-Type": "multipart/form-data; boundary=b"})
    streamed = http.post("/detect/video", content=itertools.repeat(block, 500), headers={"X-Filename": "a.mp4"})

    assert (stored.status_code, stored.json()["code"]) == (400, "unsupported_media")
    assert (streamed.status_code, streamed.json()["code"]) == (422, "unsupported_media")
    assert max(peak_rss_bytes(pid) - before[pid] for pid in pids) < 60_000_000, "a first picture costs 40 MB"
    assert http.get("/health").json()["status"] == "healthy"


# Listeners


def test_ft_n_08_and_nft_res_lim_02_a_listener_that_stops_reading_disturbs_nobody_and_catches_up(
    http: httpx.Client, system: LocalStack, tmp_path: Path
) -> None:
    """300 boxes a frame are 30 MB of events: more than sockets hold, and more than the 8 MB that the edge keeps at hand."""
    dense = [Square(x=x, y=y, side=4) for x in range(2, 158, 8) for y in range(2, 126, 8)]
    clip = write_video(tmp_path / "dense.mp4", frames=DENSE_FRAMES, squares=dense)
    every_frame = {"frame_period_recognition": 1, "frame_recognition_seconds": 0}
    task_id = str(uuid.uuid4())
    (edge,) = system.pids("edge")
    with (
        httpx.Client(
            base_url=system.url, timeout=60, transport=httpx.HTTPTransport(socket_options=SMALL_BUFFER)
        ) as slow,
        slow.stream("GET", "/detect/stream", params={"taskId": task_id}) as stalled,
    ):
        lines = stalled.iter_lines()
        wait_until_listening(lines)
        before = rss_bytes(edge)
        reset_peak(edge)
        upload(http, clip, task_id=task_id, **every_frame)
        assert ended(http, task_id)["status"] == "Succeeded"
        other = heard_while_uploading(http, write_video(tmp_path / "b.mp4", frames=20))
        grown = peak_rss_bytes(edge) - before
        events = list(until_the_end(lines))

    assert other[-1]["mediaStatus"] == "AIProcessed"
    assert len(events[0]["annotations"]) == 300
    assert [event["sequence"] for event in events if "sequence" in event] == list(range(1, DENSE_FRAMES + 2))
    assert grown < 20_000_000


# Load


def test_nft_perf_01_ten_warm_images(http: httpx.Client, tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.png", squares=squares((16, 16)))
    detect(http, picture)
    took = []
    for _ in range(10):
        began = time.monotonic()
        detect(http, picture)
        took.append(time.monotonic() - began)

    assert sorted(took)[9] < 5


@pytest.mark.parametrize("clients", [2, 3, 4])
def test_nft_perf_02_and_res_lim_01_concurrent_images(http: httpx.Client, tmp_path: Path, clients: int) -> None:
    picture = write_image(tmp_path / "a.png", squares=squares((16, 16)))
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda _: detect(http, picture), range(clients * 3)))

    assert {len(boxes) for boxes in found} == {1}


@pytest.mark.real_media
def test_nft_perf_03_a_large_tiled_image(shipped: httpx.Client, tmp_path: Path) -> None:
    began = time.monotonic()
    detect(shipped, write_image(tmp_path / "a.jpg", size=(6252, 4168)))

    assert time.monotonic() - began <= 120


def test_nft_perf_04_a_video_of_ten_seconds(http: httpx.Client, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", frames=250)
    began = time.monotonic()
    task = ended(http, upload(http, clip, frame_period_recognition=4)["taskId"])

    assert time.monotonic() - began < 50
    assert (task["status"], task["counts"]["inferred"]) == ("Succeeded", 63)


def test_nft_res_lim_03_at_most_300_detections(http: httpx.Client, tmp_path: Path) -> None:
    drawn = squares(*((x, y) for x in range(4, 640, 16) for y in range(4, 480, 16)), side=8)
    found = detect(http, write_image(tmp_path / "a.png", size=(640, 480), squares=drawn))

    assert len(found) == 300


def test_nft_res_lim_04_logs_are_json_lines(system: LocalStack) -> None:
    for name in ("edge", "consumer-1"):
        lines = (system.logs / f"{name}.log").read_text().splitlines()
        assert lines
        assert all({"event", "level", "timestamp"} <= set(json.loads(line)) for line in lines)


def test_nft_res_04_a_restart_leaves_a_clean_state(
    tmp_path: Path, new_host: Callable[[], dict[str, str]], annotations: AnnotationsProcess
) -> None:
    """Also if the first run ends in the middle of the work: that goes on to its end, and then the id is accepted again."""
    write_video(tmp_path / "a.mp4", frames=1000)
    media_id = annotations.add_medium("nft-res-04", "a.mp4")
    model = write_model(tmp_path / "models", delay_s=0.01)
    every_frame = {"frame_period_recognition": 1}
    environ = {**new_host(), "ANNOTATIONS_URL": annotations.url, "VIDEOS_DIR": str(tmp_path)}
    with asked(LocalStack(tmp_path / "storage", model=model, environ=environ)) as http:
        assert http.get("/health").json()["aiAvailability"] == "None"
        first = http.post(f"/detect/{media_id}", headers=annotations.headers(), json=every_frame).json()
        wait_until(lambda: http.get(f"/tasks/{first['taskId']}").json()["counts"]["inferred"] > 0)
    with asked(LocalStack(tmp_path / "storage", model=model, environ=environ)) as http:
        task = ended(http, first["taskId"])
        again = http.post(f"/detect/{media_id}", headers=annotations.headers())
        assert ended(http, again.json()["taskId"])["status"] == "Succeeded"
    with asked(LocalStack(tmp_path / "storage", model=model, environ=environ)) as http:
        assert http.get("/health").json()["aiAvailability"] == "None"

    assert (task["status"], task["counts"]["inferred"]) == ("Succeeded", 1000)
    assert (again.status_code, again.json()["mediaId"]) == (202, media_id)
