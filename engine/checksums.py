"""What a model file is known by."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Hexadecimal, of the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
