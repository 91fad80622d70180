"""A scripted model: it finds red squares, sure of them, and green ones, less so."""

from pathlib import Path

import msgspec

from tests.media import GREEN, RED


def write_model(path: Path, *, delay_s: float = 0.0, fail_every: int = 0) -> Path:
    """Write the model and return its path, which ends in `.json`."""
    script = {
        "runtime": "scripted",
        "input": [128, 160],
        "objects": [
            {"class": 0, "name": "red", "rgb": RED, "confidence": 0.9},
            {"class": 1, "name": "green", "rgb": GREEN, "confidence": 0.6},
        ],
        "delay_s": delay_s,
        "fail_every": fail_every,
    }
    path.write_bytes(msgspec.json.encode(script))
    return path
