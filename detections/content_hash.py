"""The media id of a file on this machine (CONTRACT section 5)."""

from pathlib import Path

import xxhash

_WHOLE_BYTES_MAX = 3072
_SAMPLE_BYTES = 1024


def content_hash(path: Path) -> str:
    """XXH64 over the size and three samples (all of a small file), 16 hex digits."""
    size = path.stat().st_size
    digest = xxhash.xxh64(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        if size < _WHOLE_BYTES_MAX:
            digest.update(file.read())
        else:
            for offset in (0, (size - _SAMPLE_BYTES) // 2, size - _SAMPLE_BYTES):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
