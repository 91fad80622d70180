"""Where in a folder a text lies: in clear, or in a form that anybody can read back."""

import base64
from pathlib import Path
from urllib.parse import quote

BLOCK_BYTES = 1 << 20


def forms_of(text: str) -> dict[str, bytes]:
    """The text as it might be written: by itself, in hexadecimal, quoted, in base64 at any place, in UTF-16."""
    raw = text.encode()
    forms = {"clear": raw, "hex": raw.hex().encode(), "quoted": quote(text, safe="").encode()}
    forms["utf-16"] = text.encode("utf-16-le")
    for skipped in range(3):  # base64 looks different at each of the three places in a longer text
        inner = raw[skipped:][: (len(raw) - skipped) // 3 * 3]
        forms[f"base64 at {skipped}"] = base64.b64encode(inner)
        forms[f"base64url at {skipped}"] = base64.urlsafe_b64encode(inner)
    return forms


def found_in(folder: Path, texts: dict[str, str]) -> list[str]:
    """`<name> (<form>) in <file>` for each text that some file below the folder has, file names included."""
    wanted = {f"{name} ({form})": raw for name, text in texts.items() for form, raw in forms_of(text).items()}
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        here = path.relative_to(folder).as_posix()
        found += [f"{name} in the name {here}" for name, raw in wanted.items() if raw in here.encode()]
        if path.is_file() and not path.is_symlink():
            found += [f"{name} in {here}" for name in _found(path, wanted)]
    return found


def _found(path: Path, wanted: dict[str, bytes]) -> list[str]:
    """What of it the file has, read in blocks that overlap by the longest of them."""
    overlap = max(len(raw) for raw in wanted.values())
    found: set[str] = set()
    try:
        with path.open("rb") as file:
            rest = b""
            while block := file.read(BLOCK_BYTES):
                text = rest + block
                found |= {name for name, raw in wanted.items() if raw in text}
                rest = text[-overlap:]
    except FileNotFoundError:  # removed meanwhile
        pass
    return sorted(found)
