"""No bytes make the questions about containers fail or run long."""

from hypothesis import given
from hypothesis import strategies as st

from engine.containers import family, is_cut, is_fragmented, is_index_last

SIGNATURES = [
    b"\0\0\0\x20ftyp",
    b"\0\0\0\x01mdat",
    b"\x1a\x45\xdf\xa3",
    b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67",
    b"RIFF\0\0\0\0AVI ",
    b"FLV\x01",
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6ca1dcab8c47a9cf118ee400c00c205365"),
    b"\0\0\x01\xba",
    (b"\x47" + bytes(187)) * 4,
]


@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_any_bytes_behind_a_signature_get_an_answer(signature: bytes, rest: bytes) -> None:
    content = signature + rest

    def read_at(offset: int, count: int) -> bytes:
        return content[offset : offset + count]

    assert isinstance(is_index_last(read_at), bool)
    assert isinstance(is_fragmented(read_at), bool)
    assert isinstance(is_cut(family(content[:1024]), read_at, size_bytes=len(content)), bool)
