"""A chat template is a stranger's program: rendered in Jinja's immutable sandbox, and only in the child."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import nodes
    from jinja2.parser import Parser

# Templates that show the date would give another prompt every day, and figures that can't be compared.
TODAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MAX_CHARS = 1 << 20


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    markup: Mapping[str, str],
) -> str:
    """Lay a chat out as text; `markup` gives the template bos_token and its kin."""
    from jinja2 import TemplateError  # noqa: PLC0415  (models without a template need none of it)
    from jinja2.exceptions import SecurityError  # noqa: PLC0415

    if len(template) > MAX_CHARS:
        raise Failure(f"the chat template has {len(template)} characters, more than any needs")
    try:
        made = _environment().from_string(template)
        text = str(
            made.render(messages=list(messages), add_generation_prompt=add_generation_prompt, **markup)
        )
    except SecurityError as fault:
        raise Failure(f"the sandbox refuses the chat template: {fault}") from None
    except TemplateError as fault:
        raise Failure(f"the chat template can't be rendered: {fault}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as fault:
        raise Failure(f"the chat template fails: {type(fault).__name__}: {fault}") from None
    if len(text) > MAX_CHARS:
        raise Failure(f"the chat template makes {len(text)} characters of a short chat")
    return text


def _environment() -> Any:
    from jinja2 import nodes  # noqa: PLC0415
    from jinja2.exceptions import TemplateError  # noqa: PLC0415
    from jinja2.ext import Extension  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class Generation(Extension):
        """Transformers' own tag around what the assistant says; it shows its content."""

        tags = {"generation"}  # noqa: RUF012  (jinja2's interface)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: object, indent: int | None = None, **_: object) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment
