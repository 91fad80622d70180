"""Auth: what asking who calls adds to a request (goal <= 1 ms at p50).

Edges that differ in nothing but their authentication are asked in turns for the same task over connections that stay open;
said is the median of each, the median of the differences within a turn, and the edge's CPU time per request.
"""

import argparse
import contextlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from benchmarks.probes import REPOSITORY, cpu_seconds, print_head, summary_ms
from contracts.commands import DetectVideo
from contracts.media import MediumKind
from contracts.storage import Layout, TaskRecord, create_record, upload_medium
from detections.rabbitmq import free_port

TASK = "11111111-1111-4111-8111-111111111111"
USER = "ada"
SHARED_KEY = "a key for measuring, 32 bytes or longer"
GOAL_MS = 1.0
WARM_UP = 50


class Measured(msgspec.Struct, kw_only=True):
    """One edge, and how it is asked."""

    name: str
    headers: dict[str, str]
    client: httpx.Client
    pid: int
    took_s: list[float] = []
    cpu_s: float = 0.0

    def ask(self) -> float:
        began_s = time.perf_counter()
        self.client.get(f"/tasks/{TASK}", headers=self.headers).raise_for_status()
        return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_500)
    arguments = parser.parse_args()
    print_head("Auth")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        _write_task(Path(folder))
        measured = [running.enter_context(edge) for edge in _edges(Path(folder), running)]
        for one in measured:
            for _ in range(WARM_UP):
                one.ask()
            one.cpu_s = cpu_seconds(one.pid)
        for _ in range(arguments.requests):
            for one in measured:
                one.took_s.append(one.ask())
        for one in measured:
            _report(one, measured[0])


def _report(one: Measured, off: Measured) -> None:
    cpu_ms = (cpu_seconds(one.pid) - one.cpu_s) / len(one.took_s) * 1e3
    added_ms = (statistics.median(one.took_s) - statistics.median(off.took_s)) * 1e3
    paired_ms = statistics.median(mine - its for mine, its in zip(one.took_s, off.took_s, strict=True)) * 1e3
    verdict = "" if one is off else f", adds {added_ms:+.2f} ms at p50 (in a turn {paired_ms:+.2f} ms)"
    goal = "" if one is off else ", goal reached" if added_ms <= GOAL_MS else ", goal NOT reached"
    print(f"{one.name}: {summary_ms(one.took_s)}, edge CPU {cpu_ms:.2f} ms a request{verdict}{goal}", flush=True)


def _edges(storage: Path, running: contextlib.ExitStack) -> Iterator[contextlib.AbstractContextManager[Measured]]:
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    jwks_url = running.enter_context(_key_set(rsa_key, ec_key))
    claims = {"sub": USER, "exp": time.time() + 3_600}
    by_key = {"EDGE_AUTH": "jwt", "EDGE_JWT_KEY": SHARED_KEY}
    by_jwks = {"EDGE_AUTH": "jwt", "EDGE_JWT_JWKS_URL": jwks_url}
    yield _edge("off", storage, {}, None)
    yield _edge("off, with a token", storage, {}, jwt.encode(claims, SHARED_KEY))
    yield _edge("HS256", storage, by_key, jwt.encode(claims, SHARED_KEY))
    yield _edge("RS256", storage, by_jwks, jwt.encode(claims, rsa_key, algorithm="RS256", headers={"kid": "rsa"}))
    yield _edge("ES256", storage, by_jwks, jwt.encode(claims, ec_key, algorithm="ES256", headers={"kid": "ec"}))


@contextlib.contextmanager
def _edge(name: str, storage: Path, settings: dict[str, str], token: str | None) -> Iterator[Measured]:
    """An edge without a broker: where a task stands is in the storage."""
    own = {"STORAGE_DIR": str(storage), "EDGE_PORT": "0", "EDGE_LOG_LEVEL": "info", "EDGE_BROKER_RECONNECT_S": "60"}
    environ = os.environ | own | {"AMQP_URL": f"amqp://127.0.0.1:{free_port()}/"} | settings
    process = subprocess.Popen(
        [sys.executable, "-m", "edge"], cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = next(json.loads(line)["url"] for line in process.stdout if "edge listens" in line)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            yield Measured(name=name, headers=headers, client=client, pid=process.pid)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _key_set(rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey) -> Iterator[str]:
    """Where the public keys are."""
    keys = [
        jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True) | {"kid": "rsa"},
        jwt.algorithms.ECAlgorithm.to_jwk(ec_key.public_key(), as_dict=True) | {"kid": "ec"},
    ]

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": keys}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/jwks"
    server.shutdown()


def _write_task(storage: Path) -> None:
    medium = upload_medium(TASK, kind=MediumKind.VIDEO, name="a.mp4", is_growing=True)
    now = datetime.now(UTC)
    command = DetectVideo(task_id=TASK, medium=medium, owner=USER, created_at=now)
    create_record(Layout(storage).task_record(TASK), TaskRecord(task_id=TASK, command=command, created_at=now))


if __name__ == "__main__":
    main()
