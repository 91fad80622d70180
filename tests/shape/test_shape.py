"""The shape of the code: what STYLE promises and no linter says."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("contracts", "edge", "consumers", "engine", "detections")
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 40
PARAMETERS_MAX = 6
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
HOMES = {
    "av": {"engine/decode.py", "engine/video_frame.py", "engine/handed_frame.py", "engine/encode.py"},
    "cv2": {"engine/images.py", "engine/drawing.py", "detections/street.py"},
    "onnxruntime": {"engine/runtimes/onnx.py", "engine/quantising.py", "engine/precision.py"},
    "openvino": {"engine/runtimes/openvino.py"},
    "PIL": {"engine/images.py"},
    "cuda": {"engine/devices/cuda_core.py"},
    "pycuda": {"engine/devices/pycuda.py"},
    "tensorrt": {"engine/tensorrt_library.py"},
    "tensorrt_rtx": {"engine/tensorrt_library.py"},
    "tritonclient": {"engine/kserve.py", "engine/kserve_grpc.py", "engine/kserve_http.py"},
    "jwt": {"edge/jwts.py", "edge/jwks.py", "detections/annotations_double.py"},
    "cryptography": {"edge/vault.py", "edge/jwks.py"},
    "opentelemetry": {"contracts/span_export.py"},
    "xxhash": {"edge/hashing.py", "edge/storage.py"},
}
"""The modules that know each native library, and others that have one home."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: Function) -> int:
    """Lines of the function without its docstring."""
    first = function.body[0]
    has_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for_and_stays_small(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_short_and_take_few_parameters(path: Path) -> None:
    long = [function.name for function in functions(path) if code_lines(function) > FUNCTION_LINES_MAX]
    wide = [function.name for function in functions(path) if parameters(function) > PARAMETERS_MAX]

    assert long == []
    assert wide == [] or is_command_line(path)


def parameters(function: Function) -> int:
    names = [argument.arg for argument in function.args.args + function.args.kwonlyargs]
    return len([name for name in names if name not in {"self", "cls"}])


def is_command_line(path: Path) -> bool:
    """A command's parameters are its options; typer reads them from the signature."""
    return "import typer" in path.read_text()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "engine").rglob("*.py")), ids=name_of)
def test_the_engine_is_synchronous(path: Path) -> None:
    assert not [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_nothing_by_itself(package: str) -> None:
    body = ast.parse((REPOSITORY / package / "__init__.py").read_text()).body

    imported = {
        getattr(node, "module", None) or "import" for node in body if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"typing", "importlib"}


@pytest.mark.parametrize("library", HOMES)
def test_each_native_library_has_one_home(library: str) -> None:
    pattern = re.compile(rf"^\s*(import|from) {library}\b", re.MULTILINE)
    users = {name_of(path) for path in MODULES if pattern.search(path.read_text())}

    assert users <= HOMES[library]


@pytest.mark.parametrize("module", ["detections.client", "detections.cli"])
def test_what_a_person_calls_loads_nothing_of_the_engine_at_import(module: str) -> None:
    heavy = "numpy cv2 av onnxruntime engine litestar faststream aio_pika"
    code = f"import sys, {module}; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_import_rules_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_nothing_of_one_machine_is_in_the_repository() -> None:
    hosts = "|".join(
        ("files" + r"\.pythonhosted", "pypi" + r"\.org", "deb" + r"\.debian\.org", "registry" + r"\.npmjs")
    )
    found = subprocess.run(
        ["git", "grep", "-nIE", f"({hosts}|/work/|/root/|/tmp/bash)"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert [line for line in found.stdout.splitlines() if not line.startswith("tests/shape/")] == []


def test_no_two_test_modules_have_the_same_name() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == [], "pytest takes one for the other"
