"""Container files, read without a container engine: what each image would hold, and a folder that holds just that."""

import fnmatch
import json
import re
import shlex
import shutil
import string
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

_HEREDOC = "<<"


class Copy(msgspec.Struct, frozen=True):
    """Files that an image gets; from another stage, or from the context where `stage` is None."""

    sources: tuple[str, ...]
    target: str
    stage: str | None = None


class Image(msgspec.Struct, kw_only=True):
    """What the instructions of one stage, and of those that it goes on from, amount to."""

    base: str
    """The image that all of it begins with."""
    environ: dict[str, str] = {}
    user: str = "root"
    folder: str = "/"
    entrypoint: tuple[str, ...] = ()
    health_check: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    runs: tuple[str, ...] = ()


class _Instruction(msgspec.Struct, frozen=True):
    word: str
    rest: str


def read_images(path: Path) -> dict[str, Image]:
    """Every stage of a container file, by its name. Raises `ValueError` for an instruction that is not known here."""
    arguments: dict[str, str] = {}
    images: dict[str, Image] = {}
    current = None
    for instruction in _instructions(path.read_text()):
        match instruction.word:
            case "ARG" if current is None:
                name, _, value = instruction.rest.partition("=")
                arguments[name] = value
            case "FROM":
                base, _, name = string.Template(instruction.rest).substitute(arguments).partition(" AS ")
                current = images[name] = _begun(images.get(base), base)
            case _ if current is None:
                raise ValueError(f"{path.name}: {instruction.word} before FROM")
            case _:
                _apply(current, instruction)
    return images


def _begun(image: Image | None, base: str) -> Image:
    if image is None:
        return Image(base=base)
    return msgspec.structs.replace(image, environ=dict(image.environ))


def _apply(image: Image, instruction: _Instruction) -> None:
    rest = instruction.rest
    match instruction.word:
        case "ENV":
            image.environ |= dict(pair.partition("=")[::2] for pair in shlex.split(rest))
        case "USER":
            image.user = rest
        case "WORKDIR":
            image.folder = rest
        case "ENTRYPOINT":
            image.entrypoint = tuple(json.loads(rest))
        case "HEALTHCHECK":
            image.health_check = tuple(json.loads(rest[rest.index("CMD ") + 4 :]))
        case "EXPOSE":
            image.ports = (*image.ports, *map(int, rest.split()))
        case "VOLUME":
            image.volumes = (*image.volumes, *rest.split())
        case "RUN":
            image.runs = (*image.runs, rest)
        case "COPY":
            image.copies = (*image.copies, _copy(rest))
        case word:
            raise ValueError(f"{word} {rest}: unknown here")


def _copy(rest: str) -> Copy:
    *words, target = rest.split()
    stage = None
    if words[0].startswith("--from="):
        stage = words.pop(0).removeprefix("--from=")
    if any(word.startswith(("--", _HEREDOC)) for word in words):
        raise ValueError(f"COPY {rest}: unknown here")
    return Copy(tuple(words), target, stage)


def _instructions(text: str) -> Iterator[_Instruction]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\s*\\\n\s*", " ", lines).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield _Instruction(word.upper(), rest.strip())


def is_let_in(ignore_file: Path, path: str) -> bool:
    """Whether a path of the context gets past the ignore file; the last pattern that fits it, or a folder above it, counts."""
    let_in = True
    candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
    for line in filter(None, map(str.strip, ignore_file.read_text().splitlines())):
        pattern = line.removeprefix("!").removeprefix("**/")
        names = [PurePosixPath(name).name for name in candidates] if "**/" in line else candidates
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            let_in = line.startswith("!")
    return let_in


def lay_out(image: Image, *, context: Path, root: Path) -> None:
    """Put what an image copies from the context where the image would have it, below `root`."""
    for copy in image.copies:
        if copy.stage is None:
            for source in copy.sources:
                _put(context / source, root / copy.target.lstrip("/"), is_folder=copy.target.endswith("/"))


def _put(source: Path, target: Path, *, is_folder: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        return
    target = target / source.name if is_folder else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def below(root: Path, environ: Mapping[str, str], folders: tuple[str, ...]) -> dict[str, str]:
    """An environment whose paths below these folders lie below `root`."""

    def moved(value: str) -> str:
        return f"{root}{value}" if any(value == name or value.startswith(f"{name}/") for name in folders) else value

    return {
        name: ":".join(map(moved, value.split(":"))) if value.startswith("/") else value
        for name, value in environ.items()
    }
