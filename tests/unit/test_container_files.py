"""What the container files say, against the tree, the lock files and the code."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from consumers.model_store import SHIPPED_MODEL
from consumers.settings import from_environment as consumer_settings
from contracts.allocator import HUGE_PAGES
from contracts.operator_port import address_of
from edge.app import ROUTES
from edge.settings import from_environment as edge_settings
from tests.bare import locked
from tests.compose_file import COMPOSE
from tests.conftest import REPOSITORY
from tests.container_files import Copy, Image, is_let_in, lay_out, read_images

OURS = ("contracts", "edge", "consumers", "engine", "detections", "models")
EDGE, CONSUMER = COMPOSE / "edge.Dockerfile", COMPOSE / "consumer.Dockerfile"
IMAGES = {"edge": (EDGE, "edge"), "consumer-cpu": (CONSUMER, "cpu"), "consumer-gpu": (CONSUMER, "gpu")}
COMMANDS = {"edge": "edge", "consumer-cpu": "consumers", "consumer-gpu": "consumers"}
NOT_IN = {
    "edge": set[str](),
    "consumer-cpu": {"onnx", "tensorrt", "tensorrt_rtx", "pycuda", "cuda"},
    "consumer-gpu": {"tensorrt", "pycuda", "openvino"},
}
"""What the code imports where it is there, and an image does not hold: other providers, and what has no wheels."""
OTHERWISE_NAMED = {
    "cuda-bindings",
    "cuda-core",
    "httptools",
    "onnxruntime-gpu",
    "prometheus-client",
    "tensorrt-rtx",
    "uvloop",
}
"""Packages of an image whose imports are not found by their names: loaded by a setting, or in a shared namespace."""


def image_of(name: str) -> Image:
    path, stage = IMAGES[name]
    return read_images(path)[stage]


def lock_of(name: str) -> Path:
    return COMPOSE / f"requirements-{name}.lock"


@cache
def imports_of(path: Path) -> set[str]:
    """The packages that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                names.add(module)
            case _:
                pass
    return {name.partition(".")[0] for name in names}


def imported(image: Image) -> set[str]:
    folders = [REPOSITORY / source for copy in image.copies if copy.stage is None for source in copy.sources]
    return {name for folder in folders for path in folder.rglob("*.py") for name in imports_of(path)}


@pytest.fixture(params=IMAGES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_image_is_nobody_of_the_machine_and_its_bases_are_of_one_exact_version(name: str) -> None:
    stages = read_images(IMAGES[name][0])

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image_of(name).user)
    assert {stage.base for stage in stages.values()} == {image_of("edge").base}
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w-]+(@sha256:[0-9a-f]{64})?", image_of(name).base)


def test_an_image_holds_the_packages_that_its_command_imports_and_no_other_of_ours(name: str) -> None:
    image = image_of(name)
    held = {source for copy in image.copies if copy.stage is None for source in copy.sources}

    assert image.entrypoint == ("python", "-P", "-m", COMMANDS[name])
    assert imported(image) & set(OURS) == held - {"models"}
    assert ("models" in held) == (name != "edge")


def test_a_consumer_begins_with_huge_pages_and_an_edge_without() -> None:
    assert {name: HUGE_PAGES.items() <= image_of(name).environ.items() for name in IMAGES} == {
        "edge": False,
        "consumer-cpu": True,
        "consumer-gpu": True,
    }


def test_what_an_image_copies_is_in_the_repository_and_gets_past_the_ignore_file(name: str) -> None:
    path = IMAGES[name][0]
    ignore_file = path.with_name(f"{path.name}.dockerignore")
    copied = {
        source
        for stage in read_images(path).values()
        for copy in stage.copies
        if copy.stage is None
        for source in copy.sources
    }

    for source in copied:
        tracked = subprocess.run(
            ["git", "ls-files", source], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert tracked.stdout, source
        assert all(is_let_in(ignore_file, file) for file in tracked.stdout.splitlines())
    assert {line[1:] for line in ignore_file.read_text().splitlines() if line.startswith("!")} == copied
    assert not is_let_in(ignore_file, "compose/secrets/edge_jwt_key")
    assert not is_let_in(ignore_file, "edge/__pycache__/app.cpython-311.pyc")


def test_every_library_that_is_imported_is_locked_and_every_locked_one_was_asked_for(name: str) -> None:
    distributions = installed()
    libraries = {library for library in imported(image_of(name)) if library in distributions} - set(OURS) - NOT_IN[name]
    asked_for = groups()[f"{name}-image"]
    held = set(locked(lock_of(name)))
    if name == "consumer-gpu":
        held |= {"onnxruntime"}

    assert {library for library in libraries if not {normal(each) for each in distributions[library]} & held} == set()
    of_imports = {normal(each) for library in imported(image_of(name)) for each in distributions.get(library, ())}
    assert {each for each in asked_for if not each.startswith("opentelemetry-")} - of_imports <= OTHERWISE_NAMED


@cache
def installed() -> Mapping[str, list[str]]:
    """The packages that brought what can be imported."""
    return metadata.packages_distributions()


def groups() -> dict[str, set[str]]:
    """The names in each dependency group of pyproject.toml, those of included groups too."""
    written = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]

    def names(group: str) -> set[str]:
        found: set[str] = set()
        for entry in written[group]:
            found |= (
                names(entry["include-group"]) if isinstance(entry, dict) else {normal(re.split(r"[\[<>=~]", entry)[0])}
            )
        return found

    return {group: names(group) for group in written}


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_packages_are_installed_by_hash_from_no_index_that_is_named_here(name: str) -> None:
    path = IMAGES[name][0]
    runs = [run for stage in read_images(path).values() for run in stage.runs]
    lock = lock_of(name).read_text()

    installs = re.findall(r"pip .*? install .*?--requirement \S+", " ".join(runs))
    assert installs
    assert all("--require-hashes" in install and "--only-binary :all:" in install for install in installs)
    assert not [text for text in (*runs, lock) if re.search(r"--(extra-)?index-url|--find-links|://", text)]
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_what_is_locked_for_an_image_is_what_the_tests_run_with(name: str) -> None:
    tested = locked(REPOSITORY / "requirements-dev.lock")
    held = locked(lock_of(name))

    assert {package for package, version in held.items() if tested.get(package, version) != version} == set()


def test_the_environment_of_an_image_is_allowed_by_the_settings_and_names_folders_that_are_volumes(name: str) -> None:
    image = image_of(name)
    said = {
        key: value
        for key, value in image.environ.items()
        if key.startswith(("EDGE_", "CONSUMER_")) or key.endswith("_DIR")
    }
    settings = edge_settings(said) if name == "edge" else consumer_settings(said)

    known = {field.upper() for field in settings.__struct_fields__}
    assert {key.removeprefix("EDGE_").removeprefix("CONSUMER_") for key in said} <= known
    assert {value for key, value in said.items() if key.endswith("_DIR")} == set(image.volumes)
    made = next(run for run in image.runs if run.startswith("install "))
    assert made.split()[-len(image.volumes) :] == list(image.volumes)
    assert "--owner=10001 --group=10001" in made


def test_the_health_check_asks_a_route_that_is_there_on_the_port_that_is_shown() -> None:
    image = image_of("edge")
    asked = re.search(r"127\.0\.0\.1:\{os\.environ\[\"(\w+)\"\]\}(/[\w/]+)", image.health_check[-1])

    assert asked
    assert (int(image.environ[asked[1]]), metrics_port(image, "EDGE")) == image.ports
    assert asked[2] in {path for route in ROUTES for path in getattr(route, "paths", ())}


def test_a_consumer_is_asked_on_the_port_of_its_operator() -> None:
    image = image_of("consumer-gpu")

    assert image.ports == (metrics_port(image, "CONSUMER"),)
    assert re.search(r"CONSUMER_METRICS_ADDRESS.*/health/live", image.health_check[-1])


def test_what_the_driver_keeps_of_its_own_leaves_room_in_the_small_folder_for_such_files() -> None:
    image = image_of("consumer-gpu")
    room_mib = re.search(r"emptyDir: \{sizeLimit: (\d+)Mi\}", (COMPOSE / "helm/templates/consumer.yaml").read_text())

    assert image.environ["HOME"] == "/tmp"
    assert room_mib
    assert int(image.environ["CUDA_CACHE_MAXSIZE"]) <= int(room_mib[1]) << 19  # half of it


def metrics_port(image: Image, service: str) -> int:
    return address_of(image.environ[f"{service}_METRICS_ADDRESS"]).port


def test_what_pip_installs_brings_the_shipped_models_to_where_the_code_looks_for_them() -> None:
    packaged = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]

    assert SHIPPED_MODEL.parent == REPOSITORY / "models"
    assert {"consumers", SHIPPED_MODEL.parent.name} <= set(packaged["packages"])
    assert packaged["package-data"][SHIPPED_MODEL.parent.name] == ["*"]


def test_a_stage_has_what_the_one_before_it_had(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "ARG BASE=debian:12.1\n# a note\nFROM ${BASE} AS first\nENV A=1 \\\n    B='x y'\nUSER 1:2\nCOPY one two /at/\n"
        "FROM first AS second\nENV A=2\nEXPOSE 80\nCOPY --from=other /x /y\n"
    )

    images = read_images(path)

    assert images["first"].environ == {"A": "1", "B": "x y"}
    assert images["second"].environ == {"A": "2", "B": "x y"}
    assert (images["second"].base, images["second"].user, images["second"].ports) == ("debian:12.1", "1:2", (80,))
    assert images["second"].copies == (Copy(("one", "two"), "/at/"), Copy(("/x",), "/y", stage="other"))
    path.write_text("FROM x AS y\nSHELL bash\n")
    with pytest.raises(ValueError, match="SHELL"):
        read_images(path)


def test_a_folder_holds_what_was_copied_and_nothing_else(tmp_path: Path) -> None:
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "code" / "__pycache__").mkdir(parents=True)
    for file in ("code/a.py", "code/__pycache__/a.pyc", "other.py", "lock"):
        (context / file).write_text(file)
    image = Image(base="x", copies=(Copy(("code",), "/app/code"), Copy(("lock",), "/"), Copy(("/v",), "/v", stage="s")))

    lay_out(image, context=context, root=root)

    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "app/code/a.py",
        "lock",
    ]


def test_the_last_fitting_line_of_an_ignore_file_counts(tmp_path: Path) -> None:
    ignore_file = tmp_path / ".dockerignore"
    ignore_file.write_text("*\n!code\n**/__pycache__\n")

    assert is_let_in(ignore_file, "code/a/b.py")
    assert not is_let_in(ignore_file, "secrets/key")
    assert not is_let_in(ignore_file, "code/a/__pycache__/b.pyc")
