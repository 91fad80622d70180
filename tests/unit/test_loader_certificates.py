"""A Loader inside a company, whose certificate nobody else vouches for."""

from pathlib import Path

import pytest

from consumers.loader import Loader
from contracts.failures import Failure, FailureCode
from tests.tls_service import tls_service


async def test_a_loader_is_believed_by_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_service(tmp_path, b"a model") as service:
        monkeypatch.setenv("SSL_CERT_FILE", str(service.certificate))
        path = await Loader(service.url, folder=tmp_path / "models").fetch("a.onnx")

    assert path.read_bytes() == b"a model"


@pytest.mark.parametrize("named", ["", "no-such-file.pem"])
async def test_a_loader_that_nobody_vouches_for_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    async with tls_service(tmp_path, b"a model") as service:
        monkeypatch.setenv("SSL_CERT_FILE", named)
        with pytest.raises(Failure) as caught:
            await Loader(service.url, folder=tmp_path / "models").fetch("a.onnx")

    assert caught.value.code is FailureCode.ENGINE_UNAVAILABLE
