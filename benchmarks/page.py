"""2,000 events while a video plays: does the page keep its frames? And when does the first box show at 1 MB/s?

The first part has a service of its own, which sends the page, a task, and its events at a steady pace, 31 boxes in each; the
same page with the same video and no events is measured in turns with it; then both without a video, whose pictures a machine
without a GPU draws in software. The second part is the demo clip, sent to a real system.
"""

import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.probes import print_head
from detections.local import LocalStack
from detections.model_files import DEFAULT_MODEL, find_model
from detections.street import SECONDS, Street, write_clip
from detections.traffic import FRAMES_PER_S, HEIGHT, WIDTH, Drawn
from edge.page import CONTENT_TYPES, FOLDER

EVENTS = 2_000
EVENTS_PER_S = 200
TURNS = 3
LATE_MS = 25.0
"""A frame that comes later after the one before it was dropped: one and a half of a display's 60 Hz."""
FRAME_MS = 1000 / 60
"""What the main thread has for each frame; a task that needs more CPU drops one on however idle a machine."""
MAIN_THREAD = "CrRendererMain"
TASK = "ThreadControllerImpl::RunTask"
TRACED = ("toplevel", "__metadata")
TASK_ID = "00000000-0000-4000-8000-000000000001"
BYTES_PER_S = 1_000_000
OPENAPI = Path(__file__).parent.parent / "docs" / "openapi.json"

WATCH_FRAMES = """() => {
    window.frames_ms = []; window.long_ms = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => long_ms.push(entry.duration))).observe({type: 'longtask'});
    let last = performance.now();
    const next = (now) => { frames_ms.push(now - last); last = now; window.watching = requestAnimationFrame(next); };
    requestAnimationFrame(next);
}"""


class Smoothness(msgspec.Struct, frozen=True):
    """How a page ran for a while."""

    seconds: float
    frames: int
    late: int
    worst_ms: float
    long_tasks: int
    cpu_s: float
    """Of the main thread, which has 16.7 ms for each frame at 60 Hz."""
    longest_ms: float
    """The task of the main thread that took most CPU: what else runs on the machine does not count."""
    too_long: int
    """Tasks that took more than `FRAME_MS` of CPU."""


def events() -> list[bytes]:
    """Server-sent events: what is drawn on the street, as if every frame had been looked at, round and round."""
    street = Street()
    frames = round(SECONDS * FRAMES_PER_S)
    made: list[bytes] = []
    for index in range(EVENTS):
        seconds = index * SECONDS / EVENTS
        drawn = street.drawn(round(seconds * FRAMES_PER_S) % frames)
        boxes = [box(car, place % 5) for place, car in enumerate(drawn)]
        event = {
            "annotations": boxes,
            "mediaId": TASK_ID,
            "mediaStatus": "AIProcessing",
            "mediaPercent": index * 99 // EVENTS,
            "taskId": TASK_ID,
        }
        event |= {"sequence": index + 1, "videoTime": f"00:00:{seconds:06.3f}", "frameIndex": index}
        made.append(f"id: {index}\ndata: {json.dumps(event)}\n\n".encode())
    return made


def box(car: Drawn, class_num: int) -> dict[str, Any]:
    middle = {"centerX": (car.x1 + car.x2) / 2 / WIDTH, "centerY": (car.y1 + car.y2) / 2 / HEIGHT}
    sides = {"width": (car.x2 - car.x1) / WIDTH, "height": (car.y2 - car.y1) / HEIGHT}
    return {**middle, **sides, "classNum": class_num, "label": f"class {class_num}", "confidence": 0.9}


def handler(stream: list[bytes], go: threading.Event) -> type[BaseHTTPRequestHandler]:
    """The few answers that the page asks for."""
    task = {"taskId": TASK_ID, "status": "Running", "percent": 0, "counts": {}, "error": None, "isPartial": False}
    health = {"status": "healthy", "aiAvailability": "Enabled", "errorMessage": None, "consumers": []}
    answers: dict[str, bytes] = {
        "/health": msgspec.json.encode(health),
        "/schema/openapi.json": OPENAPI.read_bytes(),
        "/detect/stream/ticket": b'{"ticket": "t"}',
        f"/tasks/{TASK_ID}": msgspec.json.encode(task),
        f"/tasks/{TASK_ID}/results": b"",
    }

    class Service(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/detect/stream":
                return self.send_events()
            file = FOLDER / ("index.html" if path == "/" else path.rpartition("/")[2])
            if path in answers:
                return self.send(answers[path], "application/json")
            return self.send(file.read_bytes(), CONTENT_TYPES[file.suffix]) if file.is_file() else self.send_error(404)

        do_POST = do_GET  # noqa: N815 - the library's name

        def send(self, content: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send_events(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b": open\n\n")
            go.wait()
            started_s = time.monotonic()
            for number, event in enumerate(stream):
                time.sleep(max(0.0, started_s + number / EVENTS_PER_S - time.monotonic()))
                self.wfile.write(event)
            threading.Event().wait(60)  # an open stream, as the page expects it

        def log_message(self, *_: Any) -> None:
            pass

    return Service


@contextmanager
def service(stream: list[bytes], go: threading.Event) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(stream, go))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def until(page: Page, condition: str, timeout_s: float = 120.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        if time.monotonic() > deadline_s:
            raise TimeoutError(condition)
        page.wait_for_timeout(20)


def smoothness(browser: Browser, clip: Path, stream: list[bytes], *, is_played: bool) -> Smoothness:
    """Play the clip while the events come, or draw their boxes on an empty frame; without events for as long as they take."""
    go = threading.Event()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    run = {
        "id": TASK_ID,
        "name": clip.name,
        "kind": "video",
        "size": clip.stat().st_size,
        "addedAt": 0,
        "width": 0,
        "height": 0,
    }
    page.add_init_script(f"localStorage.setItem('detections.runs', {json.dumps(json.dumps([run]))})")
    with service(stream, go) as url:
        page.goto(url)
        if is_played:
            page.set_input_files("#lend", clip)
            until(page, "document.querySelector('#frame video')?.readyState > 3")
            page.evaluate("const video = document.querySelector('#frame video'); video.loop = true; video.play()")
        page.wait_for_timeout(1_000)
        session = context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = metrics(session)
        page.evaluate(WATCH_FRAMES)
        browser.start_tracing(page=page, categories=list(TRACED))
        go.set()
        if stream:
            until(page, f"document.querySelector('#summary').textContent.includes('in {EVENTS} reports')")
        else:
            page.wait_for_timeout(EVENTS / EVENTS_PER_S * 1_000)
        tasks_ms = cpu_of_tasks(browser.stop_tracing())
        frames, long_tasks = page.evaluate("[frames_ms, long_ms.length]")
        after = metrics(session)
    context.close()
    busy_s = after["TaskDuration"] - before["TaskDuration"]
    late = sum(each > LATE_MS for each in frames)
    too_long = sum(each > FRAME_MS for each in tasks_ms)
    return Smoothness(sum(frames) / 1e3, len(frames), late, max(frames), long_tasks, busy_s, max(tasks_ms), too_long)


def cpu_of_tasks(trace: bytes) -> list[float]:
    """CPU milliseconds of each task of the page's main thread: Chromium's trace events, `tdur` in us."""
    told = json.loads(trace)["traceEvents"]
    names = {(each["pid"], each["tid"]): each["args"]["name"] for each in told if each["name"] == "thread_name"}
    mains = {thread for thread, name in names.items() if name == MAIN_THREAD}
    return [
        each["tdur"] / 1e3
        for each in told
        if each["name"] == TASK and "tdur" in each and (each["pid"], each["tid"]) in mains
    ]


def metrics(session: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}


def first_box(browser: Browser, clip: Path, storage: Path) -> tuple[float, float]:
    """Seconds from the choice of the file to the first box, and the share of the file that was sent by then."""
    with LocalStack(storage, model=find_model(DEFAULT_MODEL), environ={"CONSUMER_WARM_UP": "true"}) as stack:
        page = browser.new_context().new_page()
        page.goto(stack.url)
        until(page, "document.querySelector('#engine .word').textContent === 'Ready'")
        session = page.context.new_cdp_session(page)
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": BYTES_PER_S}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", limits)
        started_s = time.monotonic()
        page.set_input_files("#files", clip)
        until(page, "Number(document.querySelector('#frame canvas').dataset.boxes) > 0")
        took_s = time.monotonic() - started_s
        share = page.evaluate("document.querySelector('#sent').value")
        page.context.close()
    return took_s, share


def told(ran: Smoothness) -> str:
    return (
        f"{ran.frames:4} frames in {ran.seconds:4.1f} s, {ran.late:3} late, worst {ran.worst_ms:6.1f} ms, "
        f"{ran.long_tasks:2} tasks over 50 ms, main thread {ran.cpu_s:.2f} s of CPU, "
        f"{ran.too_long} tasks over {FRAME_MS:.1f} ms of CPU, the longest {ran.longest_ms:.1f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clip = Path(folder) / "street.mp4"
        write_clip(clip)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with_events = events()
        print_head("Page")
        print(f"{EVENTS} events at {EVENTS_PER_S}/s; late: a frame after more than {LATE_MS:g} ms")
        for is_played, shown in ((True, "the demo clip playing"), (False, "on an empty frame")):
            costs_ms: list[float] = []
            for turn in range(TURNS):
                quiet, busy = (smoothness(browser, clip, stream, is_played=is_played) for stream in ([], with_events))
                print(f"  {shown}, {turn + 1}  no events: {told(quiet)}\n        events: {told(busy)}", flush=True)
                costs_ms.append((busy.cpu_s - quiet.cpu_s) * 1e3 / EVENTS)
            print(f"  an event costs the main thread {statistics.median(costs_ms):.2f} ms of CPU (median)")
        took_s, share = first_box(browser, clip, Path(folder) / "storage")
        print(
            f"demo clip at {BYTES_PER_S / 1e6:g} MB/s: first box after {took_s:.2f} s, with {share:.0%} of the file sent"
        )
        browser.close()


if __name__ == "__main__":
    main()
