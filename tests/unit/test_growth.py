"""What the soak calls growth."""

import itertools

from tests.growth import floor_rise, rise, slope_per_h

TIMES_S = [5.0 * turn for turn in range(120)]


def test_a_leak_is_seen_through_peaks() -> None:
    leaking = [100 + at_s / 3600 * 7 + (9 if turn % 4 == 0 else 0) for turn, at_s in enumerate(TIMES_S)]

    assert 6.9 < slope_per_h(TIMES_S, leaking) < 7.1
    assert rise(leaking) > 0.5


def test_what_comes_and_goes_is_no_growth() -> None:
    busy = list(itertools.islice(itertools.cycle([19, 19, 21, 24]), len(TIMES_S)))

    assert slope_per_h(TIMES_S, busy) == 0
    assert floor_rise(busy) == 0
    assert floor_rise([18, *busy[1:]]) == 0, "a connection that was opened again at that moment"
    assert floor_rise([count + turn // 60 for turn, count in enumerate(busy)]) == 1
