"""`docs/models.md` knows every head and every field of the side file, and its example is one."""

import re
from typing import get_args

import msgspec
import pytest

from engine.recognition import MEANINGS, RECOGNISERS
from engine.side_files import HeadName, InputStatement, OutputStatement, SideFile, Thresholds
from tests.conftest import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "models.md").read_text()


@pytest.mark.parametrize("head", get_args(HeadName))
def test_every_head_is_in_the_table_and_can_be_recognised(head: HeadName) -> None:
    assert re.search(rf"^\| `{head}` \|", DOCUMENT, re.MULTILINE)
    assert head in RECOGNISERS
    assert MEANINGS[head]


@pytest.mark.parametrize(
    ("prefix", "struct"),
    [("", SideFile), ("input.", InputStatement), ("output.", OutputStatement), ("thresholds.", Thresholds)],
)
def test_every_field_of_a_side_file_is_explained(prefix: str, struct: type[msgspec.Struct]) -> None:
    parts = {"input", "output", "thresholds"}
    for field in msgspec.structs.fields(struct):
        if not (prefix == "" and field.name in parts):
            assert f"`{prefix}{field.name}`" in DOCUMENT or f"`.{field.name}`" in DOCUMENT, field.name


def test_the_example_is_a_side_file() -> None:
    [example] = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)

    assert msgspec.json.decode(example, type=SideFile).classes == ["boat", "buoy"]
