"""The renderer of these tests says what Helm would. The expected texts are those of Go's text/template with Sprig 3.2.3."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose_file import COMPOSE
from tests.helm_templates import Chart, TemplateError, render

CHART = COMPOSE / "helm"
SAID: list[tuple[str, dict[str, Any], str]] = [
    ("{{ .a }}", {"a": 1}, "1"),
    ("x {{- .a -}} y", {"a": "b"}, "xby"),
    ("a\n{{- if .a }}\nb\n{{- end }}\nc", {"a": True}, "a\nb\nc"),
    ("{{ if .a }}1{{ else if .b }}2{{ else }}3{{ end }}", {"a": 0, "b": [1]}, "2"),
    ("{{ if .a }}1{{ else if .b }}2{{ else }}3{{ end }}", {"a": "", "b": {}}, "3"),
    ("{{ range $k, $v := .m }}{{ $k }}={{ $v }};{{ end }}", {"m": {"b": 2, "a": 1}}, "a=1;b=2;"),
    ("{{ range .l }}{{ . }}{{ $.x }}{{ else }}none{{ end }}", {"l": ["p", "q"], "x": "!"}, "p!q!"),
    ("{{ range .l }}{{ . }}{{ else }}none{{ end }}", {"l": []}, "none"),
    ("{{ range $c := list 1 2 }}{{ $c }}{{ end }}", {}, "12"),
    ("{{ with .a }}{{ .b }}{{ end }}", {"a": {"b": "c"}}, "c"),
    ('{{ define "n" }}<{{ . }}>{{ end }}{{ include "n" .a | quote }}', {"a": "z"}, '"<z>"'),
    ('{{ .a | default "d" | printf "%s-%s" "p" }}', {"a": ""}, "p-d"),
    ('{{ printf "%s-%v" (.a | trunc 3 | trimSuffix "-") true }}', {"a": "ab-cd"}, "ab-true"),
    ("{{ $x := add 1 .a 2 }}{{ $x }}", {"a": 4}, "7"),
    (
        "{{ toJson .a | sha256sum }}",
        {"a": {"b": "c", "a": "d"}},
        "dd63be24a04f74721665fce12983d5eafa9d77dd1c9c8d468e1227886cabbc3f",
    ),
    ('{{/* said to nobody */}}{{ `raw "x"` | quote }}', {}, '"raw \\"x\\""'),
    ("{{ not .a }}", {"a": []}, "true"),
]


@pytest.mark.parametrize(("template", "given", "text"), SAID)
def test_a_template_is_rendered_as_by_go(template: str, given: dict[str, Any], text: str) -> None:
    assert Chart({"t": template}).render("t", given) == text


def test_a_value_is_laid_out_as_yaml_at_its_place() -> None:
    text = Chart({"t": "x:\n  {{- toYaml .a | nindent 2 }}\ny: 1"}).render("t", {"a": {"b": ["c"], "a": "4"}})

    assert yaml.safe_load(text) == {"x": {"b": ["c"], "a": "4"}, "y": 1}


@pytest.mark.parametrize(
    "template",
    [
        "{{ lookup 1 }}",
        "{{ .a.b }}",
        "{{ .missing }}",
        "{{ $x }}",
        "{{ if .a }}",
        "{{ end }}",
        '{{ include "x" . }}',
        "{{ .a (b }}",
        '{{ printf "%5d" 1 }}',
        "{{ }}",
        "{{ .map }}",
        "{{ .a 1 }}",
    ],
)
def test_what_is_not_known_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        Chart({"t": template}).render("t", {"a": "text", "map": {"k": 1}})


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
def test_helm_itself_makes_the_same_objects() -> None:
    command = ["helm", "template", "test", str(CHART), "--namespace", "spaces"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    ours = [text for name, text in render(CHART, values).items() if Path(name).suffix == ".yaml"]
    assert by_name(theirs) == by_name("\n---\n".join(ours))


def by_name(text: str) -> dict[tuple[str, str], Any]:
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}
