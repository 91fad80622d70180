"""Makers of media that mean harm: lists of other files, bombs, files of two kinds, and files with flipped bytes."""

import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.media import Container, write_image, write_video

FLIPPED_PICTURES = ("jpg", "png", "bmp", "webp", "tif")
FLIPPED_VIDEOS = (
    Container.MP4_FRONT,
    Container.MP4_FRAGMENTED,
    Container.MKV,
    Container.WEBM_VP9,
    Container.TS,
    Container.AVI_MPEG4,
    Container.FLV,
    Container.WMV,
)
FLIPS_MAX = 8
HEAD_BYTES = 400
"""Where half of all flips fall: headers decide most."""

_LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "ffconcat-options": "ffconcat version 1.0\nfile '{target}'\noption protocol_whitelist file,http,tcp\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "hls-key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n',
    "hls-map": '#EXTM3U\n#EXT-X-MAP:URI="{target}"\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n',
    "hls-master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'><Period><AdaptationSet "
    "mimeType='video/mp4'><Representation id='1' bandwidth='1'><BaseURL>{target}</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>",
    "asx": "<asx version='3.0'><entry><ref href='{target}'/></entry></asx>",
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={target}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "path": "{target}",
}
_TARGETS = {
    "absolute": "{neighbour}",
    "file": "file://{neighbour}",
    "relative": "neighbour.ts",
    "upwards": "../../neighbour.ts",
    "http": "http://127.0.0.1:{port}/a.ts",
    "tcp": "tcp://127.0.0.1:{port}",
    "concat": "concat:{neighbour}|{neighbour}",
    "subfile": "subfile,,start,0,end,0,,:{neighbour}",
}


class Hostile(msgspec.Struct, frozen=True):
    """A file, and what it is called."""

    name: str
    content: bytes


def lists_of_other_files(neighbour: Path, *, port: int) -> Iterator[Hostile]:
    """Playlists and the like in 88 forms, each of which would make a player open the neighbour or call the port."""
    for kind, text in _LISTS.items():
        for way, target in _TARGETS.items():
            where = target.format(neighbour=neighbour, port=port)
            yield Hostile(f"{kind}-{way}", text.format(target=where, port=port).encode())


def picture_bombs() -> Iterator[Hostile]:
    """Pictures of a few kilobytes that claim more than 10^8 pixels."""
    side = 20_000
    yield Hostile("bits.png", _png(side, side, zlib.compress(bytes((side // 8 + 1) * side), 1)))
    yield Hostile("empty.png", _png(65_000, 65_000, b""))
    head = b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield Hostile("a.bmp", head)
    yield Hostile("a.jpg", bytes.fromhex("ffd8ffc0001108ffdcffdc03012200021101031101ffd9"))
    lossless = struct.pack("<BI", 0x2F, (16_383 - 1) | (16_383 - 1) << 14)
    yield Hostile("a.webp", b"RIFF" + struct.pack("<I", 18) + b"WEBPVP8L" + struct.pack("<I", 5) + lossless + b"\0")
    entries = ((256, 60_000), (257, 60_000), (258, 1), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60_000), (279, 4))
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    yield Hostile("a.tif", b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4))


def video_bombs(folder: Path) -> Iterator[Hostile]:
    """A video of more than 36 million pixels a frame, in a few kilobytes."""
    clip = write_video(folder / "bomb", frames=1, size=(6144, 6144), squares=(), container=Container.AVI_MJPEG)
    yield Hostile("a.avi", clip.read_bytes())


def files_of_two_kinds(folder: Path) -> Iterator[Hostile]:
    """Files that are one thing for one reader and another one for another, under names of either."""
    picture = write_image(folder / "two.jpg", size=(64, 48)).read_bytes()
    clip = write_video(folder / "two", frames=5).read_bytes()
    stream = write_video(folder / "two.ts", frames=5, container=Container.TS).read_bytes()
    script = b"<html><script>alert(1)</script></html>"
    text = b"ffconcat version 1.0\nfile neighbour.ts\n"
    for name, content in {
        "picture-clip": picture + clip,
        "clip-picture": clip + picture,
        "picture-zip": picture + b"PK\x03\x04" + bytes(60),
        "clip-script": clip + script,
        "script-clip": script + clip,
        "list-stream": text.ljust(188 * 4, b"\n") + stream,
        "pdf-picture": b"%PDF-1.4\n" + picture,
        "program": b"\x7fELF\x02\x01\x01" + bytes(200) + picture,
        "free-list": struct.pack(">I4s", 8 + len(text), b"free") + text + clip,
    }.items():
        yield Hostile(f"{name}.jpg", content)
        yield Hostile(f"{name}.mp4", content)


def flipped(folder: Path, *, seed: int, count: int, pictures: tuple[str, ...] = FLIPPED_PICTURES) -> Iterator[Hostile]:
    """Pictures and clips in turn, each with some bytes changed; the same for the same seed."""
    chance = random.Random(seed)
    whole = [Hostile(f"a.{suffix}", _picture(folder, suffix)) for suffix in pictures]
    for container in FLIPPED_VIDEOS:
        clip = write_video(folder / "flipped", frames=12, container=container, b_frames=0, gop=6)
        whole.append(Hostile(f"a{container.suffix}", clip.read_bytes()))
    for number in range(count):
        chosen = whole[number % len(whole)]
        content = bytearray(chosen.content)
        for _ in range(chance.randint(1, FLIPS_MAX)):
            end = min(HEAD_BYTES, len(content)) if chance.random() < 1 / 2 else len(content)
            content[chance.randrange(end)] = chance.randrange(256)
        yield Hostile(chosen.name, bytes(content))


def _picture(folder: Path, suffix: str) -> bytes:
    return write_image(folder / f"flipped.{suffix}", size=(96, 64)).read_bytes()


def _png(width: int, height: int, data: bytes) -> bytes:
    """Of one bit a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
