"""What docs/dependencies.md says, against pyproject.toml, the lock file and the packages themselves."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest

from tests.bare import locked
from tests.conftest import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "dependencies.md").read_text()
PERMISSIVE = re.compile(r"\b(MIT|MIT-CMU|BSD|Apache|ISC|PSF|Zlib|0BSD)\b")


def words(table: str) -> set[str]:
    """Of the first column of a table, or of several."""
    return set(re.findall(r"[\w-]+", " ".join(re.findall(r"^\| ([^|]+) \|", table, flags=re.MULTILINE))))


def asked_for() -> Iterator[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for requirement in sum(project["optional-dependencies"].values(), project["dependencies"]):
        yield re.split(r"[\[<>=]", requirement)[0]


def licence(package: str) -> str:
    """In the package's own words, however it says them."""
    said = metadata.metadata(package)
    classifiers = [text for text in said.get_all("Classifier") or [] if text.startswith("License")]
    return " ".join(
        [said.get("License-Expression") or "", *classifiers, (said.get("License") or "").partition("\n")[0]]
    )


def test_every_package_that_is_asked_for_has_its_reason() -> None:
    assert set(asked_for()) - words(DOCUMENT) == set()


@pytest.mark.parametrize("package", locked(REPOSITORY / "requirements.lock"))
def test_what_runs_is_permissive_or_its_licence_is_named(package: str) -> None:
    said = licence(package)

    assert PERMISSIVE.search(said) or package in words(DOCUMENT.partition("## Licences")[2]), said
