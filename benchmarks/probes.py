"""What every benchmark needs: the memory and CPU of a process, percentiles, and a head line with date and commit."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def print_head(title: str) -> None:
    """`## title`, and when, of which commit, on what the figures below were taken."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    taken = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.stdout.strip() or 'unknown'}"
    load = " ".join(f"{part:.1f}" for part in os.getloadavg())
    print(f"\n## {title}\n\n{taken}, {os.cpu_count()} cores, {platform.machine()}, load before {load}\n", flush=True)


def rss_bytes(pid: int) -> int:
    """Resident bytes of a process now."""
    return _status_kib(pid, "VmRSS") * 1024


def peak_rss_bytes(pid: int) -> int:
    """The most resident bytes of a process since `reset_peak`."""
    return _status_kib(pid, "VmHWM") * 1024


def reset_peak(pid: int) -> None:
    """Start a new peak at the present size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process, its children that have ended, and everything below it: a broker is a child of its script."""
    fields = _stat(pid)
    if fields is None:
        return 0.0
    own = sum(int(field) for field in fields[11:15]) / _TICKS_PER_S
    below = (int(child) for child in _read(Path(f"/proc/{pid}/task/{pid}/children")).split())
    return own + sum(tree_cpu_seconds(child) for child in below)


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary_ms(seconds: Iterable[float]) -> str:
    """`p50 1.0 ms, p95 2.0 ms, p99 ..., max ..., n`."""
    values = list(seconds)
    p50, p95, p99 = statistics.median(values), percentile(values, 0.95), percentile(values, 0.99)
    return f"p50 {p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {max(values) * 1e3:.1f} ms, n={len(values)}"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on; None if the process has gone."""
    text = _read(Path(f"/proc/{pid}/stat"))
    return text.rsplit(")", 1)[1].split() if text else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _status_kib(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise ValueError(f"no {key} of process {pid}")
