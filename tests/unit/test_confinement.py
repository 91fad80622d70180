"""What a confined process can still do, tried from inside one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PREPARE = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time
from engine.confinement import ProcessLimits, confine
with open(sys.argv[1], 'rb') as there:
    kept = os.dup(there.fileno())
inet, unix = (socket.socket(family) for family in (socket.AF_INET, socket.AF_UNIX))
listening = socket.socket()
listening.bind(('127.0.0.1', 0))
listening.listen()
confinement = confine(ProcessLimits(memory_bytes=1 << 30, cpu_s=int(sys.argv[2])))
"""


def confined(tmp_path: Path, code: str, *, cpu_s: int = 30) -> subprocess.CompletedProcess[str]:
    (tmp_path / "there").write_text("content")
    command = (sys.executable, "-c", PREPARE + code, str(tmp_path / "there"), str(cpu_s))
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )


ATTEMPTS = [
    "open('/etc/passwd').read()",
    "open(sys.argv[1]).read()",
    "open('/dev/null', 'wb')",
    "os.listdir('/')",
    "os.mkdir(sys.argv[1] + 'x')",
    "os.unlink(sys.argv[1])",
    "os.memfd_create('x')",
    "socket.socket(socket.AF_INET)",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "socket.socketpair()",
    "inet.connect(listening.getsockname())",
    "inet.bind(('127.0.0.1', 0))",
    "unix.connect(chr(0) + 'abstract')",
    "inet.sendto(b'x', ('127.0.0.1', 9))",
    "os.fork()",
    "os.execv('/bin/true', ['true'])",
    "subprocess.run(['/bin/true'])",
    "os.kill(os.getppid(), 0)",
    "resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "threading.Thread(target=print).start()",
    "os.pidfd_open(os.getppid())",
    "os.chdir('/')",
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each attempt, all made by one confined process."""
    tries = "".join(
        f"try:\n    {attempt}\nexcept (OSError, RuntimeError, ValueError):\n    told.append('refused')\n"
        "else:\n    told.append('done')\n"
        for attempt in ATTEMPTS
    )
    end = "os.write(1, (' '.join(told) + ' ' + os.pread(kept, 100, 0).decode()).encode())\nos._exit(0)"
    done = confined(tmp_path_factory.mktemp("confined"), f"told = []\n{tries}{end}")
    told = done.stdout.split()
    assert len(told) == len(ATTEMPTS) + 1, done
    return dict(zip([*ATTEMPTS, "read what is open"], told, strict=True))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_it_cannot(outcomes: dict[str, str], attempt: str) -> None:
    assert outcomes[attempt] == "refused"


def test_it_can_read_what_is_open_compute_and_write(outcomes: dict[str, str]) -> None:
    assert outcomes["read what is open"] == "content"


def test_what_is_in_force_is_what_the_kernel_has(tmp_path: Path) -> None:
    done = confined(tmp_path, "os.write(1, repr(confinement).encode())\nos._exit(0)")

    assert "seccomp=True" in done.stdout
    assert "landlock=0" not in done.stdout


def test_memory_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    code = "try:\n    bytearray(1 << 30)\nexcept MemoryError:\n    os.write(1, b'refused')\nos._exit(0)"

    assert confined(tmp_path, code).stdout == "refused"


def test_cpu_time_beyond_its_limit_kills(tmp_path: Path) -> None:
    assert confined(tmp_path, "while True: pass", cpu_s=1).returncode == -24  # SIGXCPU


def test_an_abort_is_seen_as_one(tmp_path: Path) -> None:
    assert confined(tmp_path, "os.abort()").returncode == -6
