"""compose/make-secrets.sh, run for real in a copy of its folder."""

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from contracts.settings import ConfigurationError
from edge.admission import check_admission
from edge.settings import from_environment
from tests.compose_file import COMPOSE, read_compose

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`compose`, after the script ran."""
    copy = tmp_path_factory.mktemp("compose")
    for name in ("make-secrets.sh", "definitions.json"):
        shutil.copyfile(COMPOSE / name, copy / name)
    make(copy)
    return copy


def make(folder: Path) -> None:
    subprocess.run(["sh", folder / "make-secrets.sh"], check=True, capture_output=True, timeout=60)


def secret(folder: Path, name: str) -> str:
    return (folder / "secrets" / name).read_text().removesuffix("\n")


def broker_users(path: Path) -> dict[str, str]:
    return {user["name"]: user["password_hash"] for user in msgspec.json.decode(path.read_bytes())["users"]}


def test_every_secret_of_compose_is_made_readable_by_the_containers_in_a_folder_for_nobody_else(folder: Path) -> None:
    for named in read_compose()["secrets"].values():
        path = folder / named["file"]
        assert path.stat().st_mode & 0o777 == 0o444
        assert path.read_text().strip()
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.glob("secrets/definitions.*")] == ["definitions.json"]


def test_the_broker_knows_the_passwords_that_the_services_are_given_and_no_other(folder: Path) -> None:
    made = broker_users(folder / "secrets" / "definitions.json")

    assert set(made) == set(broker_users(COMPOSE / "definitions.json"))
    for user, hashed in made.items():
        raw = base64.b64decode(hashed, validate=True)
        assert raw[4:] == hashlib.sha256(raw[:4] + secret(folder, f"{user}_password").encode()).digest()
    for service in ("edge", "consumer"):
        url = urlsplit(secret(folder, f"{service}_amqp_url"))
        assert (url.username, url.password) == (service, secret(folder, f"{service}_password"))
        assert (url.hostname, url.port) == (read_compose()["services"]["rabbitmq"]["hostname"], 5672)
    assert without_hashes(folder / "secrets" / "definitions.json") == without_hashes(COMPOSE / "definitions.json")


def without_hashes(path: Path) -> object:
    described = msgspec.json.decode(path.read_bytes())
    for user in described["users"]:
        user["password_hash"] = ""
    return described


def test_the_keys_are_some_that_an_edge_takes(folder: Path) -> None:
    environ = {"EDGE_AUTH": "jwt", "EDGE_JWT_KEY_FILE": f"{folder}/secrets/edge_jwt_key"}

    check_admission(from_environment(environ | {"EDGE_SEAL_KEYS_FILE": f"{folder}/secrets/edge_seal_keys"}))
    with pytest.raises(ConfigurationError):
        check_admission(from_environment(environ | {"EDGE_SEAL_KEYS_FILE": f"{folder}/secrets/edge_password"}))


def test_what_is_there_stays_and_new_definitions_get_the_same_passwords(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "secrets").iterdir()}

    make(folder)
    assert {path.name: path.read_bytes() for path in (folder / "secrets").iterdir()} == before

    later = (folder / "secrets" / "definitions.json").stat().st_mtime + 60
    os.utime(folder / "definitions.json", (later, later))
    make(folder)
    after = {path.name: path.read_bytes() for path in (folder / "secrets").iterdir()}
    assert after.pop("definitions.json") != before.pop("definitions.json"), "new salts"
    assert after == before
    test_the_broker_knows_the_passwords_that_the_services_are_given_and_no_other(folder)
