"""The TensorRT in use: `tensorrt` (10.16 and 11) or `tensorrt_rtx`, which has the same classes. Loaded when it is needed."""

import ctypes
import importlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from contracts.failures import Failure, FailureCode

NEEDS_NO_GPU = "tensorrt_rtx"
"""For building: it is told for which GPU."""
LIBRARIES = ("tensorrt", NEEDS_NO_GPU)
MAJORS = (10, 11)


def load_library(name: str = "tensorrt") -> Any:
    """The module. Raises `Failure(engine_unavailable)` where it is not installed or cannot be used."""
    if name not in LIBRARIES:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{name} is no TensorRT")
    try:
        library = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"{name}: {error}") from error
    if name == "tensorrt" and major_version(library) not in MAJORS:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, f"TensorRT {library.__version__}: 10 and 11 can be used")
    return library


def major_version(library: Any) -> int:
    """10, 11, ...; of `tensorrt_rtx` its own number."""
    return int(str(library.__version__).split(".", 1)[0])


class Complaints(threading.local):
    """What the library logged in this thread at error level or above, the last few lines: it raises nothing by itself."""

    LINES_MAX = 20

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines = [*self.lines, line][-self.LINES_MAX :]

    def taken(self, otherwise: str) -> str:
        """The lines as one, and forget them; `otherwise` where there are none."""
        lines, self.lines = self.lines, []
        return "; ".join(lines) or otherwise


def made(kind: Callable[[Any], Any], logger: Any) -> Any:
    """A new `Runtime` or `Builder`. Raises `Failure(engine_unavailable)` with what TensorRT says where it finds no CUDA.

    Some then give nothing, which pybind makes a `TypeError`. The lean runtime of 11.4.0, where it finds no driver that is new
    enough, gives an object that ends the process with SIGSEGV when it is used, and also when it is freed.
    """
    complaints: Complaints = logger.complaints
    complaints.taken("")  # of what was done before
    try:
        new = kind(logger)
    except TypeError as error:
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, complaints.taken(str(error))) from error
    said = complaints.taken("")
    if "cuda" in said.lower():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))  # never freed
        raise Failure(FailureCode.ENGINE_UNAVAILABLE, said)
    return new


@cache
def logger_of(library: Any) -> Any:
    """The logger of that library, which keeps errors in its `complaints` and prints nothing; one, for as long as the process.

    TensorRT keeps the address of the first logger that it is given, also when that is gone and what came later still runs.
    NVIDIA's plugins are registered with it: a plan that holds one (EfficientNMS_TRT, which suppresses repeats) loads only then.
    """

    class Logger(library.ILogger):
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.complaints = Complaints()

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.complaints.add(" ".join(msg.split()))

    logger = Logger()
    library.init_libnvinfer_plugins(logger, "")
    return logger
