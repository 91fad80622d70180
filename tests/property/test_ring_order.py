"""Whatever the bounds and however slowly a listener takes: inside the ring it gets each event once, in order."""

from hypothesis import given
from hypothesis import strategies as st

from edge.ring import Ring, Wanted, encode_event
from tests.events import report


@given(
    count=st.integers(0, 60),
    hidden=st.sets(st.integers(0, 59)),
    events_max=st.integers(1, 40),
    bytes_max=st.integers(1, 20_000),
    send_bytes_max=st.integers(1, 4_000),
)
def test_taking_step_by_step_gives_what_the_ring_holds(
    count: int, hidden: set[int], events_max: int, bytes_max: int, send_bytes_max: int
) -> None:
    ring = Ring(events_max=events_max, bytes_max=bytes_max)
    for offset in range(count):
        ring.append(offset, None if offset in hidden else encode_event(offset, report("t", offset)))
    text, here = b"", ring.first
    while here < ring.next:
        taken = ring.take(here, Wanted(), bytes_max=send_bytes_max)
        assert taken.next_offset > here
        assert len(taken.text) <= send_bytes_max or taken.text.count(b"data:") == 1
        text, here = text + taken.text, taken.next_offset
    ids = [int(line.removeprefix(b"id: ")) for line in text.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [offset for offset in range(ring.first, count) if offset not in hidden]
    assert ring.next == count
    assert ring.next - ring.first <= events_max
    assert ring.bytes <= bytes_max
