"""Which frames of a video are looked at."""


def is_sampled(index: int, *, period: int) -> bool:
    """True for every `period`th frame, the first one included."""
    return index % period == 0
