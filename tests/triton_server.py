"""A real Triton server for the tests, from the wheel in `.venv-triton` (see the Makefile), on a CPU with the python backend.

What was seen of it: without libpython on its library path its models never finish loading; it ignores SIGTERM until
they have; killed, it leaves the processes of its models for a moment, and those, killed, their shared memory. So everything here has a
deadline and ends a group.
"""

import contextlib
import http.client
import os
import shutil
import subprocess
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import tritonclient.grpc

from detections import processes
from detections.processes import Guard, Program
from detections.rabbitmq import free_port
from engine.sources import RemoteModel, remote_model
from tests.conftest import REPOSITORY

VENV = REPOSITORY / ".venv-triton"
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 40.0
SHIPPED = {"aerial-vehicle": "aerial-vehicle.onnx", "transnetv2": "shots-small.onnx"}
"""The folders of compose/triton, each with the file that it serves here."""
_POLL_S = 0.05
_ABOUT = """
import json, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    "packages": paths["purelib"],
    "version": "%d.%d" % sys.version_info[:2],
    "library": "%s/%s" % (sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")),
}))
"""


class TritonMissingError(Exception):
    """There is no Triton server for the tests here; the message says why."""


class _About(msgspec.Struct):
    packages: str
    version: str
    library: str


class TritonServer:
    """A server process in a group of its own, with the models of a repository folder."""

    def __init__(self, folder: Path) -> None:
        """folder: for the repository, the log and what the server needs beside it. Raises `TritonMissingError`."""
        self._about = _about()
        self._root = Path(self._about.packages) / "pytriton" / "tritonserver"
        self._backends = folder / "backends"
        self._log = folder / "triton.log"
        self.repository = folder / "repository"
        self.grpc_port, self.http_port = free_port(), free_port()
        self._shared_memory = f"detections-tests-{self.grpc_port}-"
        self._guard = Guard()
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()
        self._lay_out_backend()

    def add_shipped(self) -> None:
        """The models of compose/triton, run by onnxruntime in the python backend."""
        for name, model in SHIPPED.items():
            config = (REPOSITORY / "compose" / "triton" / name / "config.pbtxt").read_text()
            version = self._add(name, config.replace('"onnxruntime"', '"python"'), "served_onnx.py")
            shutil.copy(REPOSITORY / "models" / model, version / "model.onnx")

    def add_colours(self, name: str, config: str) -> None:
        """A model that sees mean colours."""
        self._add(name, config, "colours.py")

    def start(self, *names: str) -> None:
        """Return when these models can be asked. Raises `TimeoutError` with the end of the log."""
        self._loaded = set(names)
        program = Program(name="triton", command=self._command(), environ=self._environ(), log=self._log)
        self._process = self._guard.start(program)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                self.kill()
                raise TimeoutError(f"no Triton server: {self._log.read_text()[-2000:]}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it as a crash would, its models' processes too."""
        if self._process is not None:
            processes.kill([self._process])
            self._guard.forget(self._process)
            self._process = None
            for left in Path("/dev/shm").glob(f"{self._shared_memory}*"):
                left.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()
        self._guard.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def batch_sizes(self, name: str) -> set[int]:
        """Of all inferences of a model since it was loaded."""
        said: Any = self._client().get_inference_statistics(name, as_json=True, client_timeout=CALL_TIMEOUT_S)
        return {int(batch["batch_size"]) for batch in said["model_stats"][0]["batch_stats"]}

    def unload(self, name: str) -> None:
        self._client().unload_model(name, client_timeout=CALL_TIMEOUT_S)

    def load(self, name: str) -> None:
        self._client().load_model(name, client_timeout=CALL_TIMEOUT_S)

    def port(self, protocol: str) -> int:
        return self.grpc_port if protocol == "grpc" else self.http_port

    def address(self, name: str, protocol: str = "grpc", *, port: int | None = None) -> str:
        """port: of a proxy in front of it."""
        return f"triton+{protocol}://127.0.0.1:{port or self.port(protocol)}/{name}"

    def model(
        self, name: str, protocol: str = "grpc", *, folder: Path = REPOSITORY / "models", port: int | None = None
    ) -> RemoteModel:
        """Loaded now, if there is one of that name and nobody has asked for it before."""
        if self.is_running and name not in self._loaded and (self.repository / name).is_dir():
            self.load(name)
            self._loaded.add(name)
        return remote_model(self.address(name, protocol, port=port), folders=[folder])

    def _client(self) -> tritonclient.grpc.InferenceServerClient:
        return tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")

    def _is_ready(self) -> bool:
        """Over HTTP, which it serves last."""
        asking = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=CALL_TIMEOUT_S)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asking):
            asking.request("GET", "/v2/health/ready")
            return asking.getresponse().status == HTTPStatus.OK
        return False

    def _add(self, name: str, config: str, code: str) -> Path:
        version = self.repository / name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(config)
        shutil.copy(REPOSITORY / "tests" / "triton" / code, version / "model.py")
        return version

    def _lay_out_backend(self) -> None:
        """The python backend finds its stub for our version of Python beside itself only."""
        target = self._backends / "python"
        shutil.copytree(self._root / "backends" / "python", target)
        shutil.copy(self._root / "python_backend_stubs" / self._about.version / "triton_python_backend_stub", target)
        self.repository.mkdir(parents=True, exist_ok=True)

    def _command(self) -> list[str]:
        return [
            str(self._root / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in sorted(self._loaded)),
            "--exit-on-error=false",
            "--allow-metrics=false",
            "--http-address=127.0.0.1",
            f"--http-port={self.http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
        ]

    def _environ(self) -> dict[str, str]:
        libraries = (Path(self._about.library).parent, Path(self._about.packages) / "nvidia_pytriton.libs")
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": self._about.packages,
            "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        }


def _about() -> _About:
    if not (VENV / ".built").exists():
        raise TritonMissingError(f"no Triton server: `make test` builds {VENV.name} where it can be had")
    told = subprocess.run([VENV / "bin" / "python", "-c", _ABOUT], capture_output=True, check=True)
    about = msgspec.json.decode(told.stdout, type=_About)
    if not Path(about.library).exists():
        raise TritonMissingError(f"no Triton server: it needs {about.library} (Debian: libpython{about.version})")
    return about
