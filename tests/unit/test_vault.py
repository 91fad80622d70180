"""Tokens at rest are sealed: with keys that rotate, each for its place, in files of mode 0600."""

from pathlib import Path

import pytest
import structlog
from cryptography.fernet import Fernet

from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from edge.vault import Credentials, Sealer, Vault

CREDENTIALS = Credentials(bearer="canary-bearer", refresh_token="canary-refresh", obtained_at_s=5.0)
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def vault(root: Path, keys: str = "") -> Vault:
    return Vault(Sealer(keys, Layout(root)))


def test_what_is_sealed_opens_again_and_tells_nothing(tmp_path: Path) -> None:
    sealed = vault(tmp_path, NEW).seal(CREDENTIALS, place="a")

    assert b"canary" not in sealed
    assert vault(tmp_path, NEW).open(sealed, place="a") == CREDENTIALS


def test_keys_rotate(tmp_path: Path) -> None:
    before = vault(tmp_path, OLD).seal(CREDENTIALS, place="a")
    after = vault(tmp_path, f"{NEW}, {OLD}").seal(CREDENTIALS, place="a")

    assert vault(tmp_path, f"{NEW},{OLD}").open(before, place="a") == CREDENTIALS
    assert vault(tmp_path, NEW).open(after, place="a") == CREDENTIALS
    with pytest.raises(Failure) as caught:
        vault(tmp_path, NEW).open(before, place="a")
    assert caught.value.code is FailureCode.UNAUTHENTICATED


@pytest.mark.parametrize("change", [lambda sealed: sealed[:-9], lambda sealed: b"", lambda sealed: b"x" + sealed[1:]])
def test_what_was_tampered_with_does_not_open(tmp_path: Path, change) -> None:
    sealed = vault(tmp_path, NEW).seal(CREDENTIALS, place="a")

    with pytest.raises(Failure, match="cannot be opened"):
        vault(tmp_path, NEW).open(change(sealed), place="a")


def test_credentials_that_were_copied_to_another_task_do_not_open_there(tmp_path: Path) -> None:
    sealed = vault(tmp_path, NEW).seal(CREDENTIALS, place="tasks/a/credentials")

    with pytest.raises(Failure, match="belong to something else"):
        vault(tmp_path, NEW).open(sealed, place="tasks/b/credentials")


def test_without_a_configured_key_all_edges_of_a_storage_share_one_that_is_made_once(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        sealed = vault(tmp_path).seal(CREDENTIALS, place="a")

        assert vault(tmp_path).open(sealed, place="a") == CREDENTIALS
    assert [line["log_level"] for line in logged] == ["warning"]
    assert "EDGE_SEAL_KEYS" in logged[0]["event"]
    key = Layout(tmp_path).seal_key
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in str(logged)


def test_no_key_is_made_before_something_is_sealed(tmp_path: Path) -> None:
    vault(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_credentials_do_not_show_themselves() -> None:
    assert "canary" not in f"{CREDENTIALS} {CREDENTIALS!r}"
