"""However bytes are cut on their way, what is stored and what is understood is the same."""

import itertools
import tempfile
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.failures import Failure
from edge.growing_body import GrowingBody, UploadPlan
from edge.hashing import content_hash
from edge.multipart import ConfigRead, FileBegan, FileEnded, FilePart, FormEvent, FormParser
from tests.forms import CONTENT_TYPE, Field, form

VECTORS = [
    (b"", "34c96acdcadb1bbb"),
    (b"abc", "f0545d02a5246fe5"),
    (bytes(3071), "246efc471ac38eef"),
    (bytes(3072), "6486347e8484b1f0"),
    *(
        (bytes(index % 251 for index in range(length)), expected)
        for length, expected in (
            (3071, "5bb8336c5fc6365d"),
            (3072, "f9062671e8bfb6e1"),
            (3073, "c81fbbe4b7ef7637"),
            (10000, "0b2b9bae52e05426"),
            (10001, "d6407cdaae9eb35a"),
            (1048576, "ee8cc684779efec3"),
        )
    ),
]


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """The content in pieces, cut at the given places (modulo its length); some may be empty."""
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(("content", "expected"), VECTORS)
def test_the_media_hash_is_that_of_the_contract(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert content_hash(file.fileno(), size_bytes=len(content)) == expected


@settings(max_examples=60)
@given(
    content=st.binary(min_size=1, max_size=8000),
    places=st.lists(st.integers(0, 8000), max_size=12),
    batch=st.integers(1, 5),
    tail=st.integers(0, 8000),
)
def test_any_cut_of_the_bytes_gives_the_same_file_hash_and_digest_also_tail_first(
    content: bytes, places: list[int], batch: int, tail: int
) -> None:
    tail_bytes = tail % len(content)
    sent = content[len(content) - tail_bytes :] + content[: len(content) - tail_bytes]
    parts = cut(sent, places)
    with tempfile.TemporaryDirectory() as folder:
        plan = UploadPlan(total_bytes=len(content), tail_bytes=tail_bytes)
        body = GrowingBody(Path(folder), plan)
        for start in range(0, len(parts), batch):
            body.append(parts[start : start + batch])
        seal = body.finish()
        whole = GrowingBody(Path(tempfile.mkdtemp(dir=folder)), UploadPlan())
        whole.append([content])

        assert (Path(folder) / "body").read_bytes() == content
        assert seal == whole.finish()
        assert seal.digest == xxhash.xxh3_128_hexdigest(content)


class Understood:
    """What a form said, put together again."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.file: bytes | None = None
        self.is_ended = False
        self.config: bytes | None = None

    def take(self, event: FormEvent) -> None:
        match event:
            case FileBegan(name=name):
                self.name, self.file = name, b""
            case FilePart(content=content):
                assert content
                assert self.file is not None
                self.file += content
            case FileEnded():
                self.is_ended = True
            case ConfigRead(text=text):
                self.config = text


def parse(parts: list[bytes]) -> Understood:
    parser, understood = FormParser(CONTENT_TYPE), Understood()
    for part in filter(None, parts):
        for event in parser.feed(part):
            understood.take(event)
    parser.close()
    return understood


# Contents that look like the boundary, in whole and in part, are the hard ones.
file_contents = st.lists(
    st.sampled_from([b"\r\n", b"--", b"--3b7f1c5d", b"\r\n--3b7f1c5", b"\r", b"\n", b"x", bytes(50)]), max_size=12
).map(b"".join)


@settings(max_examples=200)
@given(
    content=file_contents.filter(lambda content: b"\r\n--3b7f1c5d" not in b"\r\n" + content),
    config=st.binary(max_size=40).filter(lambda config: b"--" not in config),
    is_config_first=st.booleans(),
    places=st.lists(st.integers(0, 2000), max_size=20),
)
def test_a_form_cut_anywhere_says_the_same(
    content: bytes, config: bytes, is_config_first: bool, places: list[int]
) -> None:
    fields = [Field("file", content, "ü.png"), Field("config", config), Field("else", b"ignored")]
    body = form(*(reversed(fields) if is_config_first else fields))
    understood = parse(cut(body, places))

    assert (understood.name, understood.file, understood.is_ended) == ("ü.png", content, True)
    assert understood.config == config


@given(length=st.integers(0, 10_000), places=st.lists(st.integers(0, 2000), max_size=5))
def test_a_form_that_ends_early_is_never_taken_for_a_whole_one(length: int, places: list[int]) -> None:
    whole = form(Field("file", b"content", "a.png"), Field("config", b"{}"))
    body = whole[: length % (len(whole) - 2)]  # without the last line break it is still whole
    with pytest.raises(Failure) as refused:
        parse(cut(body, places))
    assert refused.value.code == "malformed_request"


@settings(max_examples=300)
@given(body=st.binary(max_size=600))
def test_bytes_that_are_no_form_fail_by_name_and_never_otherwise(body: bytes) -> None:
    with pytest.raises(Failure):
        parse([b"--3b7f1c5d\r\n", body])
