"""One ring for all listeners: bounded, without holes, joined into few sends."""

import msgspec
import pytest

from contracts.events import as_seen_by_clients
from edge.ring import Ring, Wanted, encode_event
from tests.events import report

EVERYTHING = Wanted()


def ring_of(*sequences: int, first_offset: int = 0, events_max: int = 100, bytes_max: int = 1_000_000) -> Ring:
    ring = Ring(events_max=events_max, bytes_max=bytes_max)
    ring.restart(first_offset)
    for offset, sequence in enumerate(sequences, start=first_offset):
        ring.append(offset, encode_event(offset, report("t", sequence)))
    return ring


def sequences_in(text: bytes) -> list[int]:
    return [int(part.split(b",")[0]) for part in text.split(b'"sequence":')[1:]]


def test_an_event_is_an_unnamed_one_whose_id_is_its_offset() -> None:
    event = report("t", 3)
    data = msgspec.json.encode(as_seen_by_clients(event))
    assert encode_event(17, event).text == b"id: 17\ndata: " + data + b"\n\n"


def test_waiting_events_are_joined() -> None:
    taken = ring_of(1, 2, 3).take(1, EVERYTHING, bytes_max=10_000)
    assert (sequences_in(taken.text), taken.next_offset) == ([2, 3], 3)


def test_a_join_is_bounded_and_goes_on_where_it_stopped() -> None:
    ring = ring_of(1, 2, 3)
    first = ring.take(0, EVERYTHING, bytes_max=1)
    assert (sequences_in(first.text), first.next_offset) == ([1], 1)
    assert sequences_in(ring.take(first.next_offset, EVERYTHING, bytes_max=1).text) == [2]


def test_nothing_waiting_is_nothing() -> None:
    taken = ring_of(1).take(1, EVERYTHING, bytes_max=100)
    assert (taken.text, taken.next_offset) == (b"", 1)


def test_a_join_made_for_one_listener_is_not_served_when_more_has_come() -> None:
    ring = ring_of(1)
    ring.take(0, EVERYTHING, bytes_max=10_000)
    ring.append(1, encode_event(1, report("t", 2)))
    assert sequences_in(ring.take(0, EVERYTHING, bytes_max=10_000).text) == [1, 2]


def test_the_oldest_go_when_there_are_too_many() -> None:
    ring = ring_of(1, 2, 3, 4, 5, events_max=2)
    assert (ring.first, ring.next) == (3, 5)


def test_the_oldest_go_when_they_are_too_large() -> None:
    ring = ring_of(*range(1, 101), bytes_max=2_000)
    assert ring.next == 100
    assert 90 < ring.first < 100
    assert ring.bytes <= 2_000


def test_hidden_events_take_their_place_and_are_not_shown() -> None:
    ring = ring_of(1)
    ring.append(1, None)
    ring.append(2, encode_event(2, report("t", 2)))
    assert sequences_in(ring.take(0, EVERYTHING, bytes_max=10_000).text) == [1, 2]


def test_a_hole_starts_the_ring_anew() -> None:
    ring = ring_of(1, 2)
    ring.append(9, None)
    assert (ring.first, ring.next) == (9, 10)


def test_one_event_larger_than_the_ring_leaves_it_empty() -> None:
    ring = ring_of(1, bytes_max=10)
    assert (ring.first, ring.next, ring.bytes) == (1, 1, 0)


@pytest.mark.parametrize(
    ("wanted", "is_quiet", "matches"),
    [
        (Wanted(), False, True),
        (Wanted(), True, False),
        (Wanted(task_id="t"), False, True),
        (Wanted(task_id="t"), True, True),
        (Wanted(task_id="u"), False, False),
        (Wanted(media_id="m"), False, True),
        (Wanted(media_id="m"), True, False),
        (Wanted(media_id="n"), False, False),
        (Wanted(task_id="t", media_id="m"), True, True),
        (Wanted(task_id="t", media_id="n"), False, False),
    ],
)
def test_a_filter_shows_what_was_asked_for(wanted: Wanted, *, is_quiet: bool, matches: bool) -> None:
    assert wanted.matches(encode_event(0, report("t", 1, media_id="m", is_quiet=is_quiet))) is matches


@pytest.mark.parametrize("owner", ["ada", "bob", None])
@pytest.mark.parametrize("asked", [{}, {"task_id": "t"}, {"media_id": "m"}])
def test_a_listener_sees_its_own_and_with_authentication_off_everybody_s(
    asked: dict[str, str], owner: str | None
) -> None:
    event = report("t", 1, media_id="m", owner=owner)

    assert Wanted(**asked, owner="ada").matches(event) is (owner == "ada")
    assert Wanted(**asked, owner="ada").matches(encode_event(0, event)) is (owner == "ada")
    assert Wanted(**asked).matches(encode_event(0, event))


def test_listeners_at_the_same_place_do_not_get_each_other_s_events() -> None:
    ring = Ring(events_max=100, bytes_max=100_000)
    for offset, owner in enumerate(["ada", "bob", None]):
        ring.append(offset, encode_event(offset, report("t", offset + 1, owner=owner)))
    texts = {owner: ring.take(0, Wanted(owner=owner), bytes_max=10_000).text for owner in (None, "ada", "bob")}

    assert [texts[owner].count(b"data:") for owner in (None, "ada", "bob")] == [3, 1, 1]
    assert b'"sequence":1,' in texts["ada"]
    assert b'"sequence":2,' in texts["bob"]
    assert b"ada" not in texts[None], "an owner is never shown"


@pytest.mark.parametrize("wanted", [Wanted(task_id="u"), Wanted(media_id="n"), Wanted(owner="bob")])
def test_what_was_joined_for_everybody_is_not_served_to_one_who_asked_for_less(wanted: Wanted) -> None:
    ring = Ring(events_max=100, bytes_max=100_000)
    ring.append(0, encode_event(0, report("t", 1, media_id="m", owner="ada")))
    ring.append(1, encode_event(1, report("u", 2, media_id="n", owner="bob")))

    assert sequences_in(ring.take(0, EVERYTHING, bytes_max=10_000).text) == [1, 2]
    assert sequences_in(ring.take(0, wanted, bytes_max=10_000).text) == [2]


def test_a_filter_that_matches_nothing_moves_on() -> None:
    taken = ring_of(1, 2, 3).take(0, Wanted(task_id="u"), bytes_max=100)
    assert (taken.text, taken.next_offset) == (b"", 3)


def test_an_offset_that_the_broker_took_for_itself_is_no_loss() -> None:
    ring = ring_of(1, 2)
    ring.append(3, encode_event(3, report("t", 3)))
    assert (ring.first, ring.next) == (0, 4)
    assert sequences_in(ring.take(0, EVERYTHING, bytes_max=10_000).text) == [1, 2, 3]
    assert sequences_in(ring.take(2, EVERYTHING, bytes_max=10_000).text) == [3]


def test_after_a_loss_the_ring_starts_anew() -> None:
    ring = ring_of(1, 2)
    ring.append(4, encode_event(4, report("t", 5)))
    assert (ring.first, ring.next) == (4, 5)
