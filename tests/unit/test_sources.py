"""Where a model is: what counts as an address, and what is no model at all."""

import sys
from pathlib import Path

import pytest

from contracts.failures import Failure, FailureCode
from engine.opening import open_runtime
from engine.sources import RemoteModel, beside, is_address, name_of, remote_model


def at(address: str) -> RemoteModel:
    return remote_model(address, folders=[Path("/models")])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("triton+grpc://127.0.0.1:8001/street", ("grpc", False, "127.0.0.1", 8001, "street", "")),
        ("triton+http://gpu-1.example:8000/v8n-1.2/3", ("http", False, "gpu-1.example", 8000, "v8n-1.2", "3")),
        ("triton+grpcs://[::1]:443/a", ("grpc", True, "::1", 443, "a", "")),
        ("triton+https://host:443/a", ("http", True, "host", 443, "a", "")),
    ],
)
def test_an_address_names_a_server_a_model_and_perhaps_a_version(address: str, said: tuple[object, ...]) -> None:
    model = at(address)

    assert (model.protocol, model.is_encrypted, model.host, model.port, model.name, model.version) == said
    assert str(model) == address


@pytest.mark.parametrize(
    "address",
    [
        "triton+grpc://127.0.0.1:8001",
        "triton+grpc://127.0.0.1:8001/",
        "triton+grpc://127.0.0.1/street",
        "triton+grpc://:8001/street",
        "triton+grpc://127.0.0.1:99999/street",
        "triton+grpc://127.0.0.1:port/street",
        "triton+grpc://[::1:8001/street",
        "triton+grpc://user:secret@127.0.0.1:8001/street",
        "triton+grpc://127.0.0.1:8001/street?version=1",
        "triton+grpc://127.0.0.1:8001/../street",
        "triton+grpc://127.0.0.1:8001/..",
        "triton+grpc://127.0.0.1:8001/street/latest",
        "triton+grpc://127.0.0.1:8001/street/1/2",
        "grpc://127.0.0.1:8001/street",
    ],
)
def test_what_is_no_address_is_refused_with_what_one_looks_like(address: str) -> None:
    with pytest.raises(Failure, match=r"triton\+grpc://host:port/model") as caught:
        at(address)

    assert caught.value.code is FailureCode.MODEL_MISSING


def test_files_are_no_addresses() -> None:
    assert [is_address(text) for text in ("a.onnx", "/m/a.onnx", "triton", "http://host/a", "triton+grpc:a")] == [
        False
    ] * 5
    assert is_address("triton+http://nonsense")


def test_a_remote_models_side_file_is_looked_for_in_every_folder(tmp_path: Path) -> None:
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    for folder in (own, shipped):
        folder.mkdir()
    address = "triton+grpc://host:1/yolo.v8"

    nowhere = remote_model(address, folders=[own, shipped])
    (shipped / "yolo.v8.json").write_text("{}")
    among_the_shipped = remote_model(address, folders=[own, shipped])
    (own / "yolo.v8.json").write_text("{}")
    among_our_own = remote_model(address, folders=[own, shipped])

    assert [model.folder for model in (nowhere, among_the_shipped, among_our_own)] == [own, shipped, own]
    assert beside(among_our_own).with_suffix(".json") == own / "yolo.v8.json"
    assert (name_of(among_our_own), name_of(Path("/m/a.onnx"))) == ("yolo.v8", "a")


def test_without_the_extra_a_remote_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "engine.runtimes.triton", None)  # as if an import in it failed

    with pytest.raises(Failure, match="install the extra `triton`") as caught:
        open_runtime(at("triton+grpc://127.0.0.1:8001/street"))

    assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE


def test_without_onnxruntime_a_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "engine.runtimes.onnx", None)
    (tmp_path / "street.onnx").touch()

    with pytest.raises(Failure, match="install the extra `cpu` or `gpu`") as caught:
        open_runtime(tmp_path / "street.onnx")

    assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE
