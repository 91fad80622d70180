"""Metrics as tests read them: what a process shows, and which metrics an expression asks for."""

import re
from collections.abc import Iterator

import httpx
from prometheus_client.parser import text_string_to_metric_families

Values = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""By the name of a series, as an expression names it: each series by its labels."""

_NOT_NAMES = re.compile(
    r'"(?:\\.|[^"\\])*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)'
)
_NAME = re.compile(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*\b(?!\s*\()")
_WORDS = frozenset(("and", "or", "unless", "bool", "offset"))


def names_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression: every name that is no function, no label, no operator."""
    return set(_NAME.findall(_NOT_NAMES.sub(" ", expression))) - _WORDS


def values_at(url: str) -> Values:
    """Everything that is shown there now."""
    answer = httpx.get(url, timeout=30.0, trust_env=False).raise_for_status()
    values: Values = {}
    for name, labels, value in _samples(answer.text):
        values.setdefault(name, {})[labels] = value
    return values


def _samples(text: str) -> Iterator[tuple[str, tuple[tuple[str, str], ...], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, tuple(sorted(sample.labels.items())), sample.value
