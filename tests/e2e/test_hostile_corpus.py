"""Media that mean harm, through the whole system: a status and a code for each, and the consumer does not notice."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from contracts.media import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from detections.local import LocalStack
from tests.hostile_media import (
    Hostile,
    files_of_two_kinds,
    flipped,
    lists_of_other_files,
    picture_bombs,
    video_bombs,
)
from tests.media import Container, write_video

pytestmark = pytest.mark.e2e

VIDEO_ROUTES = ("/detect/video", "/shots")
SIDE_BY_SIDE = 4
END_TIMEOUT_S = 120.0
CONSUMER_MEMORY_MAX_BYTES = 1 << 30
"""High water of the consumer, whatever it was sent; a picture of 100 million pixels is 0.3 GB."""
FLIPS_IN_CI = 52
FLIPS_IN_SOAK = 10_000
FLIPS_OF_SHOTS_IN_CI = 16
FLIPS_OF_SHOTS_IN_SOAK = 2_000

OF_THE_MEDIUM = {
    "unsupported_media": 400,
    "unreadable_media": 400,
    "no_video_stream": 400,
    "no_frames": 400,
    "empty_media": 400,
    "too_many_pixels": 413,
    "duration_limit": 422,
}
"""What may be said of a bad medium, and the status with which it is said. A decoder that crashed is not among it."""
SEEN = "seen"

PICTURES = {
    "gen_gif_2000x2000_120frames.gif": "unsupported_media",
    "gen_jpeg_sof_65500x65500.jpg": "too_many_pixels",
    "gen_jpeg_truncated_half.jpg": "unreadable_media",
    "gen_png_bomb_12000x12000_rgb.png": "too_many_pixels",
    "gen_png_bomb_20000x20000_1bit.png": "too_many_pixels",
    "gen_png_ztxt_64MB.png": "unreadable_media",
    "gen_tiff_g4_30000x20000.tif": "too_many_pixels",
    "gen_webp_16383x16383.webp": "too_many_pixels",
    "img_gofuzz_0027e9c17f97bc035782fee6": "unreadable_media",
    "img_gofuzz_00456de89b80d51dd4dd73dd": "unreadable_media",
    "img_gofuzz_2e73ade615380f6d0cdc400b": "unsupported_media",
    "img_gofuzz_37fdc6624200fc4b98a999d4": "unsupported_media",
    "img_gofuzz_542265869f5048c117120fd6": "unreadable_media",
    "img_gofuzz_714c6f0ab76032660d01bf2e": "unreadable_media",
    "img_gofuzz_8c656088558cd85d9d818913": "unreadable_media",
    "img_gofuzz_a2d15b48a0cb7b02e51ee2d3": "unreadable_media",
    "img_gofuzz_fa8fb3bc68dc11bc8ca81caf": "unsupported_media",
    "img_pillow_badbitcount.bmp": "unreadable_media",
    "img_pillow_badheadersize.bmp": "unreadable_media",
    "img_pillow_broken.png": "unsupported_media",
    "img_pillow_broken_data_stream.png": "unreadable_media",
    "img_pillow_crash-1152ec2d1a1a71395b6f2ce6721c38924d025bf3.tif": "unreadable_media",
    "img_pillow_crash-2020-10-test.tif": "unreadable_media",
    "img_pillow_decompression_bomb.gif": "unsupported_media",
    "img_pillow_decompression_bomb.ico": "unsupported_media",
    "img_pillow_hopper.avif": "unsupported_media",
    "img_pillow_hopper.gif": "unsupported_media",
    "img_pillow_no_palette.gif": "unsupported_media",
    "img_pillow_oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "unsupported_media",
    "img_pillow_truncated_end_chunk.png": "unreadable_media",
    "img_pillow_truncated_image.png": "unreadable_media",
    "img_pillow_truncated_jpeg.jpg": "unreadable_media",
    "img_pillow_zero_width.gif": "unsupported_media",
    "img_rabbit_nonsense.bin": "unsupported_media",
}
"""Files of `images/bad` that are refused; the others are pictures, if odd ones."""
VIDEOS = {
    "gen_audio_only.mp4": "no_video_stream",
    "gen_exe_header.mp4": "unsupported_media",
    "gen_ftyp_only.mp4": "unreadable_media",
    "gen_html_named.mp4": "unsupported_media",
    "gen_moov_end_truncated_90pct_no_moov.mp4": "unreadable_media",
    "gen_moov_front_truncated_5pct.mp4": "unreadable_media",
    "gen_one_byte.mp4": "unsupported_media",
    "vid_fuzz_BA_MW_D_IDR_LOST.264": "unsupported_media",
    "vid_fuzz_Error_I_P.264": "unsupported_media",
    "vid_fuzz_flvmeta_poc2": "no_video_stream",
    "vid_mopt_0.mp4": "no_video_stream",
    "vid_mopt_6.mp4": "no_video_stream",
    "vid_mozilla_0-timescale.mp4": "no_frames",
    "vid_mozilla_bug1079747.mp4": "unreadable_media",
    "vid_mozilla_gizmo-frag-cencinit.mp4": "no_frames",
    "vid_mozilla_short-cenc.mp4": "unreadable_media",
    "vid_mozilla_small-shot-mp3.mp4": "no_video_stream",
}
"""Files of `videos/bad` that end as failed; the others have frames that can be seen."""
LARGE = ("gen_bomb_8k_60frames_black.mp4", "img_thumbor_9643x10328_99Mpx.jpg")
"""At the limits: they are let in and take seconds."""


@pytest.fixture
def http(stack: LocalStack) -> Iterator[httpx.Client]:
    """Afterwards the same consumer is there, and has not taken more memory than it may."""
    before = stack.pids("consumer-1")
    with httpx.Client(base_url=stack.url, timeout=END_TIMEOUT_S) as client:
        yield client
        assert client.get("/health").json()["status"] == "healthy"
    assert stack.pids("consumer-1") == before
    assert high_water_bytes(before[0]) < CONSUMER_MEMORY_MAX_BYTES


def high_water_bytes(pid: int) -> int:
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def outcome(answer: httpx.Response) -> str:
    """`SEEN`, or the code of a refusal that is said as it should be."""
    if answer.status_code == 200:
        return SEEN
    code = answer.json()["code"]
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    assert answer.status_code == OF_THE_MEDIUM.get(code), answer.text
    return code


def detected(http: httpx.Client, file: Hostile) -> str:
    """What `/detect` says of it, a picture or a video by its name."""
    return outcome(http.post("/detect", files={"file": (file.name, file.content)}))


def uploaded(http: httpx.Client, file: Hostile, path: str = "/detect/video") -> str:
    """What becomes of it on a route for videos: refused during the upload, or with the end of its task."""
    answer = http.post(path, content=file.content, headers={"X-Filename": file.name})
    if answer.status_code in (400, 413, 422):
        return answer.json()["code"]
    assert answer.status_code == 202, answer.text
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while (task := http.get(f"/tasks/{answer.json()['taskId']}").json())["status"] in ("Queued", "Running"):
        assert time.monotonic() < deadline_s, task
        time.sleep(0.05)
    return SEEN if task["status"] == "Succeeded" else task["error"]["code"]


def named(path: Path, known: frozenset[str], otherwise: str) -> Hostile:
    """A file under a name that is let in: what it is, its content says."""
    suffix = path.suffix.removeprefix(".")
    return Hostile(path.name if suffix in known else f"{path.name}.{otherwise}", path.read_bytes())


@pytest.mark.real_media
def test_each_bad_picture_has_its_answer(http: httpx.Client, shared_data: Path) -> None:
    files = sorted(path for path in (shared_data / "images" / "bad").iterdir() if path.name not in LARGE)
    assert len(files) > 40

    told = {path.name: detected(http, named(path, IMAGE_EXTENSIONS, "jpg")) for path in files}

    assert told == {path.name: PICTURES.get(path.name, SEEN) for path in files}


@pytest.mark.real_media
@pytest.mark.parametrize("path", VIDEO_ROUTES)
def test_each_bad_video_has_its_answer(http: httpx.Client, shared_data: Path, path: str) -> None:
    files = sorted(path for path in (shared_data / "videos" / "bad").iterdir() if path.name not in LARGE)
    assert len(files) > 25

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        outcomes = pool.map(lambda file: uploaded(http, named(file, VIDEO_EXTENSIONS, "mp4"), path), files)
        told = dict(zip([file.name for file in files], outcomes, strict=True))

    assert told == {file.name: VIDEOS.get(file.name, SEEN) for file in files}


@pytest.mark.soak
@pytest.mark.real_media
def test_media_at_the_limits_are_seen(http: httpx.Client, shared_data: Path) -> None:
    video, picture = LARGE
    content = (shared_data / "videos" / "bad" / video).read_bytes()

    assert uploaded(http, Hostile(video, content)) == SEEN
    assert detected(http, Hostile(picture, (shared_data / "images" / "bad" / picture).read_bytes())) == SEEN


def test_bombs_are_refused(http: httpx.Client, tmp_path: Path) -> None:
    pictures = {bomb.name: detected(http, bomb) for bomb in picture_bombs()}
    videos = [uploaded(http, bomb, path) for bomb in video_bombs(tmp_path) for path in VIDEO_ROUTES]

    assert set(pictures.values()) == {"too_many_pixels"}, pictures
    assert set(videos) == {"too_many_pixels"}


def test_files_of_two_kinds_are_what_their_content_says_first(http: httpx.Client, tmp_path: Path) -> None:
    told = {file.name: detected(http, file) for file in files_of_two_kinds(tmp_path)}

    assert {name for name, code in told.items() if code == SEEN} >= {
        "picture-clip.jpg",
        "picture-zip.jpg",
        "clip-picture.mp4",
        "clip-script.mp4",
    }
    assert {told[name] for name in ("picture-clip.mp4", "pdf-picture.mp4", "program.mp4", "clip-picture.jpg")} == {
        "unsupported_media"
    }


@pytest.mark.parametrize("path", VIDEO_ROUTES)
def test_no_list_of_other_files_is_followed(http: httpx.Client, stack: LocalStack, path: str) -> None:
    neighbour = write_video(stack.storage / "neighbour.ts", frames=5, container=Container.TS)
    with closing(Listener()) as listener:
        chance, files = random.Random(6), list(lists_of_other_files(neighbour, port=listener.port))
        assert len(files) >= 40
        for file in files:
            name = f"{file.name}.{chance.choice(('mp4', 'mkv', 'ts', 'avi'))}"
            told = uploaded(http, Hostile(name, file.content.ljust(chance.choice((0, 70_000)), b"\n")), path)
            assert told in ("unsupported_media", "unreadable_media"), name

    assert listener.calls == 0


@pytest.mark.parametrize(
    "count", [FLIPS_IN_CI, pytest.param(FLIPS_IN_SOAK, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))]
)
def test_flipped_bytes_are_seen_or_refused(http: httpx.Client, tmp_path: Path, count: int) -> None:
    told = told_of_each(flipped(tmp_path, seed=20261122, count=count), lambda file: detected(http, file))

    assert len(told) == count
    assert told.count(SEEN) > 0
    assert set(told) - {SEEN}, "nothing was refused: nothing was flipped"


@pytest.mark.parametrize(
    "count",
    [FLIPS_OF_SHOTS_IN_CI, pytest.param(FLIPS_OF_SHOTS_IN_SOAK, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))],
)
def test_no_flipped_byte_stops_who_looks_for_shots(http: httpx.Client, tmp_path: Path, count: int) -> None:
    files = flipped(tmp_path, seed=20261123, count=count, pictures=())
    told = told_of_each(files, lambda file: uploaded(http, file, "/shots"))

    assert len(told) == count
    assert told.count(SEEN) > 0
    assert set(told) - {SEEN} <= set(OF_THE_MEDIUM)


def told_of_each(files: Iterator[Hostile], ask: Callable[[Hostile], str]) -> list[str]:
    """What is said of each, some side by side; they are made while others are asked about."""
    slots = threading.Semaphore(2 * SIDE_BY_SIDE)

    def asked(file: Hostile) -> str:
        try:
            return ask(file)
        finally:
            slots.release()

    def sent() -> Iterator[Hostile]:
        for file in files:
            slots.acquire()
            yield file

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [each.result() for each in [pool.submit(asked, file) for file in sent()]]


class Listener:
    """Counts who calls it, by TCP and by UDP."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        for each in (self._tcp, self._udp):
            each.setblocking(False)
        self.calls = 0

    def close(self) -> None:
        for each, hears in ((self._tcp, self._tcp.accept), (self._udp, lambda: self._udp.recv(1))):
            try:
                hears()
                self.calls += 1
            except BlockingIOError:
                pass
            each.close()
