"""What a process that reads untrusted bytes may still do: compute, read what it already has open, and speak to its parent.

Called once, after every import and before the first untrusted byte. Limits of memory and CPU time hold on any Linux. With
Landlock no file can be opened and no port bound or connected to; with seccomp every system call that is not in the list
below fails with EPERM, so there is no new file, socket, process or thread and no new executable page. Where a kernel lacks
one of them the rest is in force, and `Confinement` says so.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct

import msgspec

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
"""The same numbers on every architecture."""
LANDLOCK_VERSION_FLAG = 1
LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many kinds of access to files a version of Landlock can deny, from the version that brought the last of them."""
LANDLOCK_PORTS_SINCE, LANDLOCK_SCOPES_SINCE = 4, 6
LANDLOCK_PORTS = LANDLOCK_SCOPES = 0b11
"""Bind and connect (TCP); abstract sockets of others, and signals to others."""
OPEN_FILES_MAX = 64
"""None can be opened anyway where Landlock or seccomp is in force."""

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_CALLS_FROM = 0x40000000
_PROT_EXEC = 4
_ALLOWED_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "nanosleep": 35, "getpid": 39, "recvmsg": 47, "exit": 60, "gettimeofday": 96, "sysinfo": 99, "times": 100,
    "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219,
    "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "ppoll": 271,
    "getcpu": 309, "getrandom": 318,
}  # fmt: skip
_MMAP, _MPROTECT, _TGKILL = 9, 10, 234

_libc = ctypes.CDLL(None, use_errno=True)


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a process may use."""

    memory_bytes: int
    """Of address space."""
    cpu_s: int
    """Until somebody grants more."""


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force in this process, beside the limits."""

    landlock: int
    """Version; 0: the kernel has none."""
    seccomp: bool


def confine(limits: ProcessLimits) -> Confinement:
    """Give up everything but what is open; for this process there is no way back."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, resource.RLIM_INFINITY))  # whoever grants more raises it
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MAX, OPEN_FILES_MAX))
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return Confinement(landlock=_deny_files_and_ports(), seccomp=_deny_calls())


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends; exit if it has ended already."""
    parent = os.getppid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


def _deny_files_and_ports() -> int:
    """A Landlock ruleset without a rule denies all that it handles. Returns its version, 0 without Landlock."""
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION_FLAG)
    if version < 1:
        return 0
    kinds = max(count for since, count in LANDLOCK_FILES.items() if since <= version)
    attributes = struct.pack(
        "<QQQ",
        (1 << kinds) - 1,
        LANDLOCK_PORTS if version >= LANDLOCK_PORTS_SINCE else 0,
        LANDLOCK_SCOPES if version >= LANDLOCK_SCOPES_SINCE else 0,
    )
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return 0
    is_denied = _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return version if is_denied else 0


def _deny_calls() -> bool:
    """Install the filter. Numbers of system calls differ between machines: elsewhere than on x86-64 there is none."""
    if platform.machine() != "x86_64":
        return False
    program = _program(os.getpid())
    filters = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(filters))
    return _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0


def _program(pid: int) -> bytes:
    """Classic BPF over `struct seccomp_data` (number at 0, architecture at 4, arguments of 8 bytes from 16)."""
    load, equal, at_least, any_of, end = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM

    def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("<HBBI", code, then, otherwise, value)

    def argument(index: int) -> bytes:
        return step(load, 16 + 8 * index)  # its lower half

    program = step(load, 4) + step(equal, _AUDIT_ARCH_X86_64, 1, 0) + step(end, refuse)
    program += step(load, 0) + step(at_least, _X32_CALLS_FROM, 0, 1) + step(end, refuse)
    for call in (_MMAP, _MPROTECT):
        program += step(equal, call, 0, 4) + argument(2) + step(any_of, _PROT_EXEC, 1, 0)
        program += step(end, allow) + step(end, refuse)
    program += step(equal, _TGKILL, 0, 4) + argument(0) + step(equal, pid, 0, 1)  # `abort` signals itself
    program += step(end, allow) + step(end, refuse)
    for call in _ALLOWED_X86_64.values():
        program += step(equal, call, 0, 1) + step(end, allow)
    return program + step(end, refuse)
