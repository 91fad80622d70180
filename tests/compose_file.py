"""compose.yaml as Docker would read it: with the variables of an environment filled in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.images import PIXELS_MAX
from tests.conftest import REPOSITORY

COMPOSE = REPOSITORY / "compose"
PICTURE_BYTES = 6 * PIXELS_MAX
"""What the largest picture takes while it is read, as `docs/deployment.md` says."""
VIDEOS_BYTES = 900_000_000
"""What a consumer takes with its decoders while it looks at eight videos: `benchmarks/RESULTS.md`."""
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<sign>:-|:\?)?(?P<rest>[^}]*)\}")


def read_compose(environ: Mapping[str, str] | None = None, *, path: Path = COMPOSE / "compose.yaml") -> Any:
    """The file's content. Raises `KeyError` for a variable that must be set and is not."""
    said = environ or {}

    def filled(match: re.Match[str]) -> str:
        value = said.get(match["name"]) or None
        if value is None and match["sign"] != ":-":
            raise KeyError(f"{match['name']}: {match['rest']}")
        return match["rest"] if value is None else value

    return yaml.safe_load(_VARIABLE.sub(filled, path.read_text()))


def environ_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What a service finds in its environment. Raises `TypeError` for a value that YAML would read as no text."""
    environ = service.get("environment", {})
    for name, value in environ.items():
        if not isinstance(value, str | int):
            raise TypeError(f"{name}: {value!r} needs quotes")
    return {name: str(value) for name, value in environ.items()}


def seconds(text: str) -> float:
    """Of a duration such as `1m30s`."""
    parts = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or parts is None:
        raise ValueError(f"{text!r} is no duration")
    return 60 * int(parts[1] or 0) + int(parts[2] or 0)
