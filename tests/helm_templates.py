"""Helm's templates, as much of them as the chart uses: a small part of Go's text/template with a few functions of Sprig.

What is not known here raises `TemplateError`, so a chart that these tests render says nothing that they pass over. Stricter than
Helm in one thing: a value that is missing can be tested, and not be printed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

_ACTION = re.compile(r"\{\{(-)?\s*(.*?)\s*(-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|:=|[()|,]|[^\s()|,"`]+')
_SPACE = " \t\r\n"


class TemplateError(Exception):
    """A template that is wrong, or says something that is not known here."""


class _Piece(msgspec.Struct, frozen=True):
    """Text, or the tokens of an action."""

    text: str = ""
    tokens: tuple[str, ...] = ()


class _Block(msgspec.Struct):
    """`if`, `range` or `with`, and what is between it and its end."""

    word: str
    names: tuple[str, ...]
    """Variables that it sets, without their `$`."""
    pipeline: tuple[str, ...]
    body: "list[_Node]"
    otherwise: "list[_Node]"


_Node = _Piece | _Block
_Function = Callable[..., Any]


class Scope(msgspec.Struct, frozen=True):
    """The dot and the variables; `$` is what the template was given."""

    dot: Any
    variables: dict[str, Any]


class Chart:
    """The templates of a folder."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        """templates: their texts by name. Raises `TemplateError`."""
        self._named: dict[str, list[_Node]] = {}
        self._files: dict[str, list[_Node]] = {}
        for name, text in templates.items():
            self._files[name] = self._parsed(_pieces(text))

    def render(self, name: str, given: Mapping[str, Any]) -> str:
        """The text of one file. Raises `TemplateError`."""
        return self._text(self._files[name], Scope(given, {"": given}))

    def _parsed(self, pieces: Iterator[_Piece]) -> list[_Node]:
        body, end = self._body(pieces)
        if end is not None:
            raise TemplateError(f"{' '.join(end)}: nothing to end")
        return body

    def _body(self, pieces: Iterator[_Piece]) -> tuple[list[_Node], tuple[str, ...] | None]:
        """Everything up to the `end` or `else` of this block, and that; None at the end of the file."""
        body: list[_Node] = []
        for piece in pieces:
            match piece.tokens:
                case ("end",) | ("else", *_):
                    return body, piece.tokens
                case ("define", name):
                    self._named[json.loads(name)], _ = self._body(pieces)
                case ("if" | "range" | "with" as word, *rest):
                    body.append(self._block(word, tuple(rest), pieces))
                case _:
                    body.append(piece)
        return body, None

    def _block(self, word: str, rest: tuple[str, ...], pieces: Iterator[_Piece]) -> _Block:
        names, pipeline = _assigned(rest)
        body, end = self._body(pieces)
        otherwise: list[_Node] = []
        if end is not None and end[0] == "else":
            if end[1:]:
                return _Block(word, names, pipeline, body, [self._block(end[1], end[2:], pieces)])
            otherwise, end = self._body(pieces)
        if end != ("end",):
            raise TemplateError(f"{word} {' '.join(rest)}: has no end")
        return _Block(word, names, pipeline, body, otherwise)

    def _text(self, nodes: list[_Node], scope: Scope) -> str:
        scope = Scope(scope.dot, dict(scope.variables))
        return "".join(self._node(node, scope) for node in nodes)

    def _node(self, node: _Node, scope: Scope) -> str:
        match node:
            case _Piece(tokens=()):
                return node.text
            case _Piece(tokens=tokens):
                names, pipeline = _assigned(tokens)
                value = self._value(pipeline, scope)
                if not names:
                    return _printed(value, " ".join(tokens))
                scope.variables[names[0]] = value
                return ""
            case _Block():
                return "".join(self._text(body, inner) for body, inner in self._turns(node, scope))

    def _turns(self, block: _Block, scope: Scope) -> Iterator[tuple[list[_Node], Scope]]:
        """What of a block is rendered, and with what."""
        value = self._value(block.pipeline, scope)
        if not value:
            yield block.otherwise, scope
        elif block.word == "if":
            yield block.body, scope
        elif block.word == "with":
            yield block.body, Scope(value, scope.variables)
        else:
            pairs = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
            for key, item in pairs:
                said = dict(zip(block.names, (key, item) if len(block.names) > 1 else (item,), strict=False))
                yield block.body, Scope(item, scope.variables | said)

    def _value(self, pipeline: tuple[str, ...], scope: Scope) -> Any:
        passed: list[Any] = []
        for command in _split(pipeline):
            operands = list(_operands(command))
            if not operands:
                raise TemplateError(f"{' '.join(pipeline)}: a part is empty")
            first, *rest = operands
            arguments = [self._operand(operand, scope) for operand in rest] + passed
            if isinstance(first, str) and first.isidentifier() and first not in ("true", "false"):
                passed = [self._function(first)(*arguments)]
            elif arguments:
                raise TemplateError(f"{' '.join(pipeline)}: {first} takes nothing")
            else:
                passed = [self._operand(first, scope)]
        return passed[0]

    def _operand(self, operand: "str | tuple[str, ...]", scope: Scope) -> Any:
        if isinstance(operand, tuple):
            return self._value(operand, scope)
        if operand[0] in '"`':
            return json.loads(operand) if operand[0] == '"' else operand[1:-1]
        if re.fullmatch(r"-?\d+", operand):
            return int(operand)
        if operand in ("true", "false"):
            return operand == "true"
        match = re.fullmatch(r"(\$(\w*))?((?:\.\w+)*|\.)", operand)
        if match is None:
            raise TemplateError(f"{operand}: unknown here")
        if match[1] and match[2] not in scope.variables:
            raise TemplateError(f"{operand}: no such variable")
        value = scope.variables[match[2]] if match[1] else scope.dot
        for name in filter(None, match[3].split(".")):
            value = value.get(name) if isinstance(value, dict) else _no_field(operand)
        return value

    def _function(self, name: str) -> _Function:
        if name == "include":
            return lambda named, dot: self._text(self._template(named), Scope(dot, {"": dot}))
        if name not in FUNCTIONS:
            raise TemplateError(f"{name}: no function that is known here")
        return FUNCTIONS[name]

    def _template(self, name: str) -> list[_Node]:
        if name not in self._named:
            raise TemplateError(f"{name}: not defined")
        return self._named[name]


def to_yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=False, sort_keys=True, width=1_000)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def _indented(width: int, text: str) -> str:
    return "\n".join(" " * width + line for line in text.split("\n"))


def _printf(form: str, *values: Any) -> str:
    parts = re.split(r"%[sdv]", form)
    if len(parts) != len(values) + 1 or any("%" in part for part in parts):
        raise TemplateError(f"printf {form}: unknown here")
    return "".join(part + _printed(value, form) for part, value in zip(parts, (*values, ""), strict=True))


FUNCTIONS: dict[str, _Function] = {
    "add": lambda *values: sum(map(int, values)),
    "default": lambda otherwise, value=None: value or otherwise,
    "list": lambda *values: list(values),
    "nindent": lambda width, text: "\n" + _indented(width, text),
    "not": lambda value: not value,
    "printf": _printf,
    "quote": lambda value: json.dumps(_printed(value, "quote"), ensure_ascii=False),
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toJson": lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
    "toYaml": to_yaml,
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "trunc": lambda length, text: text[:length],
}


def render(
    chart: Path, values: Mapping[str, Any], *, release: str = "test", namespace: str = "spaces"
) -> dict[str, str]:
    """What `helm template` would make of a chart's files, by their names; a partial (`_*`) makes nothing."""
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    given = {
        "Values": values,
        "Chart": {name[0].upper() + name[1:]: value for name, value in about.items()},
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
    }
    texts = {path.name: path.read_text() for path in sorted((chart / "templates").iterdir())}
    templates = Chart(texts)
    return {name: templates.render(name, given) for name in texts if not name.startswith("_")}


def _pieces(text: str) -> Iterator[_Piece]:
    """Text and actions in turn; a `-` at an action's border eats the spaces beyond it."""
    place, eats = 0, False
    for match in _ACTION.finditer(text):
        before = text[place : match.start()]
        before = before.lstrip(_SPACE) if eats else before
        yield _Piece(before.rstrip(_SPACE) if match[1] else before)
        place, eats = match.end(), match[3] is not None
        if not match[2].startswith("/*"):
            tokens = tuple(_TOKEN.findall(match[2]))
            if not tokens:
                raise TemplateError("an action that says nothing")
            yield _Piece(tokens=tokens)
    yield _Piece(text[place:].lstrip(_SPACE) if eats else text[place:])


def _assigned(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables that are set, and what they are set to."""
    if ":=" not in tokens:
        return (), tokens
    place = tokens.index(":=")
    return tuple(name.removeprefix("$") for name in tokens[:place] if name != ","), tokens[place + 1 :]


def _split(pipeline: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The commands between the pipes, those in brackets apart."""
    command: list[str] = []
    depth = 0
    for token in pipeline:
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "|" and depth == 0:
            yield tuple(command)
            command = []
        else:
            command.append(token)
    if depth:
        raise TemplateError(f"{' '.join(pipeline)}: brackets")
    yield tuple(command)


def _operands(command: tuple[str, ...]) -> "Iterator[str | tuple[str, ...]]":
    """Words, and what is in brackets as a whole."""
    inner: list[str] = []
    depth = 0
    for token in command:
        depth -= token == ")"
        if depth:
            inner.append(token)
        elif token == ")":
            yield tuple(inner)
            inner = []
        elif token != "(":
            yield token
        depth += token == "("


def _printed(value: Any, where: str) -> str:
    match value:
        case None:
            raise TemplateError(f"{where}: no value")
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case _:
            raise TemplateError(f"{where}: {type(value).__name__} is not printed")


def _no_field(operand: str) -> Any:
    raise TemplateError(f"{operand}: there is nothing that could have it")
