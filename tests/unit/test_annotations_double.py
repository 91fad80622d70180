"""The double of the Annotations service keeps the contract of its calls (CONTRACT.md 4)."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from detections.annotations_double import Double, build


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({}, 400),
        ({"mediaId": "m"}, 201),
        ({"mediaId": "unheard of"}, 404),
        ({"image": "aGk="}, 201),
        ({"image": "aGk=", "mediaId": "unheard of"}, 404),
    ],
)
async def test_an_annotation_is_of_a_medium_that_is_known_or_of_a_picture_or_of_both(
    tmp_path: Path, said: dict[str, Any], status: int
) -> None:
    double = Double(tmp_path / "stored.jsonl")
    headers = {"Authorization": f"Bearer {double.issue('ada')}"}
    transport = httpx.ASGITransport(build(double))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://double.test", headers=headers) as client:
        assert (await client.post("/api/media", json={"id": "m", "path": "/m"})).status_code == 201
        assert (await client.post("/annotations", json=said)).status_code == status
