"""The page in a real browser, with a real system behind it whose model sees colours."""

import contextlib
import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext

from detections import Client
from detections.answers import ClientError
from detections.local import LocalStack
from detections.rabbitmq import free_port
from edge.jwts import LEEWAY_S
from tests.browser.pages import UNTHROTTLED, WAIT_S, PageUnderTest
from tests.cut_finder import write_scenes
from tests.media import GREEN, Container, Square, boxes, write_image, write_video
from tests.processes import wait_until
from tests.signing import SHARED_KEY, token

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.timeout(180)]

TWO = (Square(dx=0.25), Square(rgb=GREEN, x=100, y=60))
FRAMES = 200
SLOW_BYTES_PER_S = 1_000_000
PADDING_BYTES = 30_000_000
"""Half of it takes 15 s on the slow line, more than ten times what the first box needs."""
SUMMARY = "100 detections in 50 reports; 200 frames read, 50 looked at"
SHORT_S = 6.0
"""How long a token lasts that expires in the middle of an upload: longer than it takes to the first box."""
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
}


def clip(path: Path) -> Path:
    return write_video(path, frames=FRAMES, squares=TWO)


def long_clip(path: Path) -> Path:
    """The clip, many bytes long: behind it is a box that players skip."""
    with clip(path).open("ab") as file:
        file.write(struct.pack(">I4s", PADDING_BYTES, b"free"))
        file.write(bytes(PADDING_BYTES - 8))
    return path


def long_clip_with_its_index_last(path: Path) -> Path:
    """The clip, many bytes long: before its index are bytes of no frame."""
    content = write_video(path, frames=FRAMES, squares=TWO, container=Container.MP4_END).read_bytes()
    (index,) = (box for box in boxes(content) if box.type == "moov")
    padding = struct.pack(">I4s", PADDING_BYTES, b"mdat") + bytes(PADDING_BYTES - 8)
    path.write_bytes(content[: index.start] + padding + content[index.start :])
    return path


def check_accessible(page: PageUnderTest) -> None:
    """No rule of axe is broken: WCAG 2.2 A and AA, and its good practices."""
    found = Axe().run(page.page, options=RULES).response["violations"]
    assert [(rule["id"], node["html"], node["failureSummary"]) for rule in found for node in rule["nodes"]] == []


def test_the_first_box_is_shown_before_half_of_the_file_is_sent(page: PageUnderTest, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))

    page.wait_for_boxes(2)
    assert page.share_sent < 0.5
    page.throttle(UNTHROTTLED)

    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)


def test_a_file_with_its_index_last_is_sent_tail_first(page: PageUnderTest, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip_with_its_index_last(tmp_path / "last.mp4"))

    page.wait_for_boxes(2)
    assert page.share_sent < 0.5
    page.throttle(UNTHROTTLED)

    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)
    (upload,) = page.uploads()
    assert 0 < int(upload.headers["x-tail-bytes"]) < 20_000


def test_a_reload_in_mid_run_misses_nothing(page: PageUnderTest, system: LocalStack, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))
    page.wait_for_boxes()
    (consumer,) = system.pids("consumer-1")
    os.kill(consumer, signal.SIGSTOP)  # the run stays where it is, however fast the machine
    try:
        page.throttle(UNTHROTTLED)
        page.until(
            "document.querySelector('#sent').value === 1 && !document.querySelector('#open-state').textContent.startsWith('Sending')"
        )
        page.page.reload()
        page.until("/report/.test(document.querySelector('#summary').textContent)")
        assert page.text("#open-state") in ("Looking", "In the queue")
    finally:
        os.kill(consumer, signal.SIGCONT)

    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)
    assert "long.mp4" in page.text("#runs")

    page.page.set_input_files("#lend", tmp_path / "long.mp4")  # the person's own file, chosen once more
    page.until("document.querySelector('#frame video')?.readyState > 1")
    page.wait_for_boxes(2)


def test_a_bad_file_is_told_of_in_words(page: PageUnderTest, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video at all " * 1000)
    text = tmp_path / "notes.txt"
    text.write_text("hello")

    page.choose(bad)
    page.wait_for_state("Failed")
    assert "can't be looked at" in page.text("#problem")
    assert "Convert it" in page.text("#problem")
    check_accessible(page)

    page.choose(text)
    page.until("document.querySelector('#open-title').textContent === 'notes.txt'")
    assert "can't be looked at" in page.text("#problem")
    assert [request.headers["x-filename"] for request in page.uploads()] == ["bad.mp4"]


def test_several_files_are_looked_at_and_shown(page: PageUnderTest, tmp_path: Path) -> None:
    picture = write_image(tmp_path / "picture.png", squares=TWO)
    page.choose(picture, clip(tmp_path / "clip.mp4"))

    page.until("document.querySelectorAll('#runs [data-tone=good]').length === 2")

    page.page.click("#runs button:has-text('picture.png')")
    page.wait_for_boxes(2)
    page.wait_for_text("#now", "Seen: 1 red, 1 green")
    coco = json.loads(page.download("COCO"))
    assert [(image["width"], image["height"]) for image in coco["images"]] == [(160, 128)]
    assert {(box["category_id"], *box["bbox"]) for box in coco["annotations"]} == {
        (0, 16, 16, 32, 32),
        (1, 100, 60, 32, 32),
    }

    page.page.click("#runs button:has-text('clip.mp4')")
    page.wait_for_boxes(2)
    assert len(page.download("JSONL").splitlines()) == 50
    rows = list(csv.DictReader(io.StringIO(page.download("CSV").decode())))
    assert [row["label"] for row in rows[:2]] == ["red", "green"]
    assert len(rows) == 100
    check_accessible(page)
    page.page.click("#theme")
    assert page.page.evaluate("document.documentElement.dataset.theme") == "dark"
    check_accessible(page)


def test_what_is_shown_follows_the_sliders_and_the_timeline(page: PageUnderTest, tmp_path: Path) -> None:
    page.choose(clip(tmp_path / "clip.mp4"))
    page.wait_for_state("Done")
    page.wait_for_boxes(2)

    swatches = (
        "[...document.querySelectorAll('#names .swatch')].map((each) => getComputedStyle(each).backgroundColor).join()"
    )
    page.until(f"{swatches} === 'rgb(255, 0, 68),rgb(60, 220, 60)'")  # the first as the model's class list states it

    page.page.fill("#threshold", "0.7")
    page.until("document.querySelector('#frame canvas').dataset.boxes === '1'")
    page.page.fill("#threshold", "0")
    page.until("document.querySelector('#frame canvas').dataset.boxes === '2'")
    page.page.uncheck("#names label:has-text('red') input")
    page.until("document.querySelector('#frame canvas').dataset.boxes === '1'")
    page.page.check("#names label:has-text('red') input")

    page.page.focus("#timeline")
    page.page.keyboard.press("Home")
    page.until("document.querySelector('#frame video').currentTime === 0")
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowRight")
    page.until("document.querySelector('#frame video').currentTime === 2")
    place = page.page.locator("#timeline").bounding_box()
    assert place is not None
    page.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] - 5)
    page.until("Math.abs(document.querySelector('#frame video').currentTime - 4) < 0.1")
    page.wait_for_boxes(2)


def test_the_boxes_are_in_step_with_the_picture(page: PageUnderTest, tmp_path: Path) -> None:
    moving = (Square(x=0, y=40, dx=1),)
    page.choose(write_video(tmp_path / "moving.mp4", frames=120, squares=moving))
    page.wait_for_state("Done")

    for frame in (10, 33, 78):  # most frames were not looked at: their boxes lie between two reports
        page.page.evaluate(f"document.querySelector('#frame video').currentTime = {frame / 25 + 0.02}")
        page.until(f"Math.abs(parseFloat(document.querySelector('#timeline').ariaValueNow) - {frame / 25}) < 0.11")
        page.until("!document.querySelector('#frame video').seeking")
        page.wait_for_boxes()
        left = page.page.evaluate(LEFT_EDGE_OF_THE_BOX)
        assert left == pytest.approx(frame / 160, abs=3 / 160)


LEFT_EDGE_OF_THE_BOX = """() => {
    const canvas = document.querySelector('#frame canvas');
    const line = canvas.getContext('2d').getImageData(0, Math.round(canvas.height * 56 / 128), canvas.width, 1).data;
    for (let x = 0; x < canvas.width; x += 1) if (line[x * 4] > 200 && line[x * 4 + 3] > 200) return x / canvas.width;
    return -1;
}"""
"""The first pixel of the class's red on a line through the middle of the box, as a share of the width."""


def test_shots_are_found_too_and_the_timeline_goes_to_them(page: PageUnderTest, tmp_path: Path) -> None:
    page.page.click("summary:has-text('Settings')")
    page.page.check("#set-shots")
    page.choose(write_scenes(tmp_path / "scenes.mp4", 60, 130, frames=200))
    page.wait_for_state("Done")
    assert "3 shots" in page.text("#summary")

    page.page.focus("#timeline")
    for key, at_s in (("Home", 0), ("PageDown", 60 / 25), ("PageDown", 130 / 25), ("PageUp", 60 / 25)):
        page.page.keyboard.press(key)
        page.until(f"Math.abs(document.querySelector('#frame video').currentTime - {at_s}) < 0.2")


def test_a_run_is_cancelled_and_run_again(page: PageUnderTest, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))
    page.wait_for_boxes()

    page.page.click("#cancel")
    page.wait_for_state("Cancelled")
    assert "What was found until then is kept" in page.text("#problem")

    page.throttle(UNTHROTTLED)
    page.page.click("#retry")
    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)


def test_a_failed_run_whose_file_is_gone_is_done_again_by_the_service(page: PageUnderTest, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video at all " * 1000)
    page.choose(bad)
    page.wait_for_state("Failed")
    page.page.reload()  # the page has no file any more
    page.page.click("#runs button:has-text('bad.mp4')")
    page.wait_for_state("Failed")

    page.page.click("#retry")

    page.until("document.querySelectorAll('#runs [data-tone=bad]').length === 2")
    page.wait_for_state("Failed")
    assert "can't be looked at" in page.text("#problem")
    retried = [request for request in page.requests if request.url.endswith("/retry")]
    assert [request.method for request in retried] == ["POST"]
    assert len(page.uploads()) == 1


def test_two_pages_of_one_browser_know_the_same_runs(
    page: PageUnderTest, open_page: Callable[[str], PageUnderTest], tmp_path: Path
) -> None:
    other = open_page(page.url)
    page.choose(clip(tmp_path / "one.mp4"))
    other.until("/one.mp4/.test(document.querySelector('#runs').textContent)")
    other.choose(clip(tmp_path / "two.mp4"))
    for each in (page, other):
        each.until("document.querySelectorAll('#runs [data-tone=good]').length === 2")

    page.page.click("#runs button:has-text('one.mp4')")
    page.page.click("#forget")
    other.until("!/one.mp4/.test(document.querySelector('#runs').textContent)")


def test_the_timeline_stands_where_the_run_that_is_opened_stands(page: PageUnderTest, tmp_path: Path) -> None:
    page.choose(clip(tmp_path / "one.mp4"), clip(tmp_path / "two.mp4"))
    page.until("document.querySelectorAll('#runs [data-tone=good]').length === 2")
    page.page.reload()  # no video is there to say its time
    page.page.click("#runs button:has-text('one.mp4')")
    page.wait_for_text("#summary", SUMMARY)
    page.until("!document.querySelector('#lanes').hidden")
    page.page.focus("#timeline")
    page.page.keyboard.press("End")
    page.until("document.querySelector('#timeline').ariaValueNow === '7.8'")

    page.page.click("#runs button:has-text('two.mp4')")

    page.wait_for_text("#summary", SUMMARY)
    assert page.page.evaluate("document.querySelector('#timeline').ariaValueNow") == "0.0"


def test_a_service_that_begins_while_the_page_is_opened_is_asked_again(
    context: BrowserContext, system: LocalStack, open_page: Callable[[str], PageUnderTest]
) -> None:
    context.route("**/schema/openapi.json", lambda route: route.fulfill(status=503, body="<html>"), times=1)

    open_page(system.url)  # has its settings


def test_the_settings_act_on_the_next_run(page: PageUnderTest, tmp_path: Path) -> None:
    page.page.click("summary:has-text('Settings')")
    page.page.fill("#set-frame_period_recognition", "2000")
    page.choose(clip(tmp_path / "clip.mp4"))
    assert page.page.evaluate("document.querySelector('#set-frame_period_recognition').matches(':focus:invalid')")
    assert page.uploads() == []

    page.page.fill("#set-frame_period_recognition", "50")
    check_accessible(page)
    page.choose(tmp_path / "clip.mp4")
    page.wait_for_state("Done")
    page.wait_for_text("#summary", "8 detections in 4 reports; 200 frames read, 4 looked at")


def test_an_empty_page_is_accessible_and_says_how_the_engine_is(page: PageUnderTest) -> None:
    page.until("document.querySelector('#engine .word').textContent === 'Ready'")
    page.page.click("#engine summary")

    assert "Files are looked at as they come" in page.text("#engine")
    assert "Nothing is open" in page.text("main")
    check_accessible(page)


def test_everything_can_be_reached_with_the_keyboard(page: PageUnderTest, tmp_path: Path) -> None:
    page.choose(clip(tmp_path / "clip.mp4"))
    page.wait_for_state("Done")
    page.page.evaluate("document.activeElement.blur()")

    reached: list[str] = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        reached.append(
            page.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 8)")
        )
        if reached[-1] == "COCO":
            break
    wanted = [
        "theme",
        "files",
        "Settings",
        "clip.mp4",
        "retry",
        "forget",
        "threshold",
        "full",
        "timeline",
        "JSONL",
        "COCO",
    ]
    assert [name for name in reached if name in wanted] == wanted


def test_the_focus_stays_with_what_is_looked_at(
    page: PageUnderTest, open_page: Callable[[str], PageUnderTest], tmp_path: Path
) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))
    page.wait_for_boxes()
    page.page.focus("#cancel")
    page.page.keyboard.press("Enter")
    page.wait_for_state("Cancelled")
    page.until("document.querySelector('#cancel').hidden && document.activeElement.id === 'stage'")

    page.page.focus("#runs button")
    other = open_page(page.url)
    other.choose(clip(tmp_path / "clip.mp4"))
    page.until("/clip.mp4/.test(document.querySelector('#runs').textContent)")
    assert "long.mp4" in page.page.evaluate("document.activeElement.closest('#runs button')?.textContent ?? ''")


def test_a_run_that_is_opened_on_a_narrow_screen_comes_into_view(page: PageUnderTest, tmp_path: Path) -> None:
    page.page.set_viewport_size({"width": 360, "height": 640})
    page.choose(*(write_image(tmp_path / f"{number}.png", squares=TWO) for number in range(8)))
    page.until("document.querySelectorAll('#runs [data-tone=good]').length === 8")

    page.page.click("#runs button:has-text('7.png')")

    page.until("document.querySelector('#open-title').getBoundingClientRect().bottom < innerHeight")


def test_an_upload_goes_on_when_its_edge_dies(page: PageUnderTest, system: LocalStack, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip_with_its_index_last(tmp_path / "last.mp4"))
    page.wait_for_boxes()

    (edge,) = system.pids("edge")
    os.kill(edge, signal.SIGKILL)
    page.throttle(UNTHROTTLED)

    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)
    assert "PATCH" in [request.method for request in page.requests if "/uploads/" in request.url]


@pytest.fixture
def guarded(system: LocalStack) -> Iterator[str]:
    """The address of a second edge of the system, one that asks who calls."""
    port = free_port()
    settings = {"EDGE_AUTH": "jwt", "EDGE_JWT_KEY": SHARED_KEY, "EDGE_PORT": str(port), "EDGE_LOG_LEVEL": "warning"}
    assert system._amqp is not None
    places = {"AMQP_URL": system._amqp.edge, "STORAGE_DIR": str(system.storage)}
    edge = subprocess.Popen([sys.executable, "-m", "edge"], env={**os.environ, **settings, **places})
    with Client(f"http://127.0.0.1:{port}") as client:
        wait_until(lambda: is_ready(client), timeout_s=WAIT_S)
    yield f"http://127.0.0.1:{port}"
    edge.kill()
    edge.wait()


def is_ready(client: Client) -> bool:
    with contextlib.suppress(ClientError):
        client.check_ready()
        return True
    return False


def test_a_token_is_asked_for_and_stays_in_memory(
    guarded: str, open_page: Callable[[str], PageUnderTest], tmp_path: Path
) -> None:
    page = open_page(guarded)
    page.until("document.querySelector('#token').open")
    check_accessible(page)

    give_token(page, "no-token-at-all")
    page.until("/wrong or has expired/.test(document.querySelector('#token-problem').textContent)")
    secret = token("ada")
    give_token(page, secret)
    page.choose(clip(tmp_path / "clip.mp4"))
    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)

    asked = [request.url for request in page.requests]
    assert [url for url in asked if "/detect/stream?ticket=" in url]
    assert [url for url in asked if secret in url] == []
    assert (
        page.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])").count(secret)
        == 0
    )

    page.page.reload()
    page.until("document.querySelector('#token').open")
    give_token(page, token("ada"))
    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)


def test_what_is_chosen_before_a_token_is_given_is_sent_with_it(
    guarded: str, open_page: Callable[[str], PageUnderTest], tmp_path: Path
) -> None:
    page = open_page(guarded)
    page.until("document.querySelector('#token').open")
    page.page.click("#token-close")
    page.choose(clip(tmp_path / "one.mp4"), write_image(tmp_path / "two.png", squares=TWO))
    page.until("document.querySelector('#token').open")
    assert page.uploads() == []

    page.page.fill("#token-text", token("ada"))
    page.page.keyboard.press("Enter")

    page.until("document.querySelectorAll('#runs [data-tone=good]').length === 2")


def test_a_token_that_expires_in_mid_run_is_told_of_once_and_costs_nothing(
    guarded: str, open_page: Callable[[str], PageUnderTest], tmp_path: Path
) -> None:
    page = open_page(guarded)
    page.until("document.querySelector('#token').open")
    give_token(page, token("ada", exp=time.time() - LEEWAY_S + SHORT_S))
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))
    page.wait_for_boxes()

    page.until("document.querySelector('#token').open")
    page.page.click("#token-close")
    page.until("/not signed in/.test(document.querySelector('#connection:not([hidden])')?.textContent)")
    assert not page.page.evaluate("document.querySelector('#token').open")
    page.page.click("#token-button")
    give_token(page, token("ada"))

    page.throttle(UNTHROTTLED)
    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)
    page.until("document.querySelector('#connection').hidden")


def give_token(page: PageUnderTest, text: str) -> None:
    page.page.fill("#token-text", text)
    page.page.click("#token button[value=use]")


def test_a_broker_that_dies_in_mid_run_costs_nothing(page: PageUnderTest, system: LocalStack, tmp_path: Path) -> None:
    page.throttle(SLOW_BYTES_PER_S)
    page.choose(long_clip(tmp_path / "long.mp4"))
    page.wait_for_boxes()

    (broker,) = system.pids("broker")
    os.kill(broker, signal.SIGKILL)
    page.throttle(UNTHROTTLED)

    page.wait_for_state("Done")
    page.wait_for_text("#summary", SUMMARY)
    with Client(system.url) as client:
        task_id = page.page.evaluate("JSON.parse(localStorage.getItem('detections.runs'))[0].id")
        assert [event.sequence for event in client.results(task_id)] == list(range(1, 51))
