"""What an edge is not started with: open to a network, unable to let anybody in, or with keys that are none."""

import os
import subprocess
import sys
from typing import Any

import pytest

from contracts.settings import ConfigurationError
from edge.admission import auth_of, check_admission
from edge.settings import EdgeSettings, from_environment
from tests.conftest import REPOSITORY
from tests.signing import SHARED_KEY

JWKS = "https://idp.example/jwks"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_without_authentication_an_edge_listens_on_loopback(host: str) -> None:
    check_admission(EdgeSettings(host=host))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.1.2.3", "169.254.1.1", "2001:db8::1", "0", "no such host.invalid"]
)
def test_without_authentication_an_edge_listens_nowhere_else(host: str) -> None:
    with pytest.raises(ConfigurationError, match="EDGE_HOST"):
        check_admission(EdgeSettings(host=host))


@pytest.mark.parametrize("settings", [{"jwt_key": SHARED_KEY}, {"jwt_jwks_url": JWKS}])
def test_with_authentication_an_edge_listens_anywhere(settings: dict[str, str]) -> None:
    check_admission(EdgeSettings(auth="jwt", host="0.0.0.0", **settings))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth": "jwt"}, "one of them"),
        ({"auth": "jwt", "jwt_key": SHARED_KEY, "jwt_jwks_url": JWKS}, "one of them"),
        ({"auth": "jwt", "jwt_key": "short"}, "5 bytes, 32 at least"),
        ({"auth": "jwt", "jwt_jwks_url": "file:///etc/passwd"}, "EDGE_JWT_JWKS_URL"),
        ({"auth": "jwt", "jwt_jwks_url": "idp.example/jwks"}, "EDGE_JWT_JWKS_URL"),
        ({"auth": "jwt", "jwt_jwks_url": "https://operator:pa/ss@idp.example/jwks"}, r"EDGE_JWT_JWKS_URL(?!.*pa/ss)"),
        ({"auth": "jwt", "jwt_jwks_url": "https://[idp.example/jwks"}, "EDGE_JWT_JWKS_URL"),
        ({"seal_keys": "no key"}, "EDGE_SEAL_KEYS"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        check_admission(EdgeSettings(**settings))
    assert "short" not in str(caught.value)
    assert "no key" not in str(caught.value)


def test_only_two_modes_are_known() -> None:
    with pytest.raises(ConfigurationError, match="EDGE_AUTH='none'"):
        from_environment({"EDGE_AUTH": "none"})


def test_an_edge_without_authentication_has_no_verifier_and_one_with_it_has() -> None:
    assert auth_of(EdgeSettings())._verifier is None
    assert auth_of(EdgeSettings(auth="jwt", jwt_key=SHARED_KEY))._verifier is not None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "EDGE_HOST",
            "0.0.0.0",
            (
                "EDGE_HOST='0.0.0.0' would let everybody in at 0.0.0.0: EDGE_AUTH=off is for loopback addresses. "
                "Set EDGE_AUTH=jwt and EDGE_JWT_KEY or EDGE_JWT_JWKS_URL, or EDGE_HOST=127.0.0.1"
            ),
        ),
        ("STORAGE_DIR", "/dev/null/storage", "STORAGE_DIR='/dev/null/storage': Not a directory"),
    ],
)
def test_the_process_does_not_start_and_says_why_in_one_line(variable: str, value: str, said: str) -> None:
    environ = os.environ | {"EDGE_PORT": "0", variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "edge"],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [said]
