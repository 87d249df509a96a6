"""As much of Go's text/template as our templates for Ollama use; anything else in one is an error."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def render(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Ollama makes of a chat: `.System` is the system's words, `.Messages` is all of it."""
    system = "\n\n".join(each["content"] for each in messages if each["role"] == "system")
    pieces = _ACTION.split(template)
    tokens = [
        (piece.strip() if number % 2 else piece, bool(number % 2)) for number, piece in enumerate(pieces)
    ]
    nodes = _parse(tokens, is_root=True)
    assert not tokens
    return _run(nodes, {"System": system, "Messages": messages}, {})


@dataclass
class _Block:
    kind: str
    condition: str
    body: list[Any]
    otherwise: list[Any] = field(default_factory=list)


def _parse(tokens: list[tuple[str, bool]], *, is_root: bool = False) -> list[Any]:
    """Up to the `else` or `end` that belongs to somebody further out, which stays."""
    nodes: list[Any] = []
    while tokens:
        piece, is_action = tokens[0]
        word, _, rest = piece.partition(" ")
        if is_action and word in ("else", "end"):
            assert not is_root
            return nodes
        tokens.pop(0)
        if is_action and word in ("if", "range"):
            nodes.append(_block(word, rest, tokens))
        else:
            nodes.append((piece,) if is_action else piece)
    assert is_root
    return nodes


def _block(kind: str, condition: str, tokens: list[tuple[str, bool]]) -> _Block:
    block = _Block(kind, condition.strip(), _parse(tokens))
    word, _, rest = tokens.pop(0)[0].partition(" ")
    if word == "else" and rest.startswith("if "):
        block.otherwise = [_block("if", rest.removeprefix("if "), tokens)]  # one `end` for both
        return block
    if word == "else":
        block.otherwise = _parse(tokens)
        word = tokens.pop(0)[0]
    assert word == "end"
    return block


def _run(nodes: Sequence[Any], dot: Any, scope: dict[str, Any]) -> str:
    made = ""
    for node in nodes:
        if isinstance(node, str):
            made += node
        elif isinstance(node, tuple):
            made += _act(node[0], dot, scope)
        elif node.kind == "range":
            made += "".join(_run(node.body, each, scope) for each in _value(node.condition, dot, scope))
        else:
            made += _run(node.body if _value(node.condition, dot, scope) else node.otherwise, dot, scope)
    return made


def _act(action: str, dot: Any, scope: dict[str, Any]) -> str:
    assigned = re.fullmatch(r"(\$\w+) (:?=) (.*)", action)
    if assigned is None:
        return str(_value(action, dot, scope))
    assert (assigned[2] == ":=") == (assigned[1] not in scope), action
    scope[assigned[1]] = _value(assigned[3], dot, scope)
    return ""


def _value(expression: str, dot: Any, scope: dict[str, Any]) -> Any:
    if expression in ("true", "false"):
        return expression == "true"
    if expression.startswith("$"):
        return scope[expression]
    if expression.startswith('"'):
        return json.loads(expression)
    compared = re.fullmatch(r'eq \.(\w+) ("[^"]*")', expression)
    if compared:
        return _field(dot, compared[1]) == json.loads(compared[2])
    assert re.fullmatch(r"\.\w+", expression), expression
    return _field(dot, expression[1:])


def _field(dot: Any, name: str) -> Any:
    return dot[name] if name in dot else dot[name.lower()]
