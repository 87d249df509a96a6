"""Chat templates, which are strangers' programs: rendered in Jinja's sandbox, and only in a child."""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from convert.child.channel import Channel, Header
from convert.child.client import Child
from convert.child.fault import ChildFailure, FaultKind
from convert.child.limits import Limits
from convert.errors import Failure

Messages = Sequence[Mapping[str, str]]

# Templates that show the date would give another text every day, and figures that can't be compared.
TODAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MAX_CHARS = 1 << 20
MAX_BITS = 1 << 12
MAX_MESSAGE = 200
MEMORY_BYTES = 1 << 30
_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\*|\d{5})")


def template_limits(cpu_s: int, wall_s: float) -> Limits:
    """Limit a child that renders templates; beyond its memory it gets no more, and fails by itself."""
    return Limits(request_s=wall_s, total_s=wall_s, cpu_s=cpu_s, memory_bytes=MEMORY_BYTES, headroom_bytes=0)


def lay_out(
    template: str, markup: Mapping[str, str], chats: Sequence[tuple[Sequence[Messages], bool]], limits: Limits
) -> list[str | ChildFailure]:
    """Render chats in a child; each becomes a text, or why it was refused.

    A chat is given in forms, of which the template may take the first that it can, and whether it asks for an
    answer.
    """
    made: list[str | ChildFailure] = []
    with Child("convert.child.sandbox:serve", limits) as child:
        for forms, asks in chats:
            for number, messages in enumerate(forms, 1):
                args = {"messages": messages, "add_generation_prompt": asks, "markup": markup}
                try:
                    made.append(
                        child.call("render", {"template": template, **args}, lambda done: str(done["text"]))
                    )
                    break
                except ChildFailure as failure:
                    if failure.fault.kind is not FaultKind.REFUSED:
                        raise
                    if number == len(forms):
                        made.append(failure)
    return made


def serve(_: Channel) -> Callable[[str, Header], Header]:
    """Answer in the child."""
    return _render


def _render(_: str, args: Header) -> Header:
    try:
        return {"text": render(**args)}
    except MemoryError:
        raise Failure("the chat template takes more memory than any needs") from None


def render(
    template: str,
    messages: Messages,
    *,
    add_generation_prompt: bool,
    markup: Mapping[str, str],
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Lay a chat out as text; `markup` gives the template bos_token and the like. Only for a child."""
    from jinja2 import TemplateError  # noqa: PLC0415  (models without a template need none of it)
    from jinja2.exceptions import SecurityError  # noqa: PLC0415

    if len(template) > MAX_CHARS:
        raise Failure(f"the chat template has {len(template)} characters, more than any needs")
    try:
        chat = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        # None where there are none: templates test for that, and for whether they are defined.
        chat |= {"tools": tools, "documents": documents}
        text = str(_compiled(template).render(**chat, **markup))
    except SecurityError as fault:
        raise Failure(f"the sandbox refuses the chat template: {_cut(fault)}") from None
    except TemplateError as fault:
        raise Failure(f"the chat template can't be rendered: {_cut(fault)}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, SyntaxError) as fault:
        raise Failure(f"the chat template fails: {type(fault).__name__}: {_cut(fault)}") from None
    if len(text) > MAX_CHARS:
        raise Failure(f"the chat template makes {len(text)} characters of a short chat")
    return text


def _cut(fault: object) -> str:
    text = str(fault)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


@lru_cache(maxsize=1)
def _compiled(template: str) -> Any:
    return environment().from_string(template)


def environment() -> Any:
    """Return Jinja's immutable sandbox with what Transformers gives a template."""
    from jinja2 import nodes  # noqa: PLC0415
    from jinja2.exceptions import SecurityError, TemplateError  # noqa: PLC0415
    from jinja2.ext import Extension  # noqa: PLC0415
    from jinja2.parser import Parser  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
    from jinja2.utils import Namespace  # noqa: PLC0415

    class Generation(Extension):
        """Transformers' own tag around what the assistant says; it shows its content."""

        tags = {"generation"}  # noqa: RUF012  (jinja2's interface)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: object,
        ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (templates call it by place, too)
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,  # noqa: FBT001, FBT002
    ) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    class Variables(Namespace):
        """What `namespace()` gives; private names are refused, as in Transformers."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # so that a variable may be named self
            values = dict(*args[1:], **kwargs)
            for name in values:
                _check_name(name)
            Namespace.__init__(args[0], values)

        def __setitem__(self, name: str, value: object) -> None:
            _check_name(name)
            super().__setitem__(name, value)

    class Bounded(ImmutableSandboxedEnvironment):
        """Refuses what one operation could spend minutes or gigabytes on, where no signal interrupts it."""

        intercepted_binops = frozenset({"*", "**", "+", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if _is_large(operator, left, right):
                raise SecurityError(f"the result of {operator} is larger than any chat needs")
            return super().call_binop(context, operator, left, right)

    made = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = TODAY.strftime
    made.globals["namespace"] = Variables
    return made


def _is_large(operator: str, left: Any, right: Any) -> bool:
    """Say whether an operation makes a number or a text that no template has a use for."""
    numbers = [each for each in (left, right) if isinstance(each, int)]
    sized = [each for each in (left, right) if isinstance(each, str | bytes | list | tuple)]
    if operator == "**":
        return len(numbers) == 2 and abs(right) * max(1, left.bit_length()) > MAX_BITS
    if operator == "*" and len(numbers) == 2:
        return bool(left.bit_length() + right.bit_length() > MAX_BITS)
    if operator == "*":
        return bool(sized and numbers and len(sized[0]) * numbers[0] > MAX_CHARS)
    if operator == "+":
        return sum(map(len, sized)) > MAX_CHARS
    return isinstance(left, str) and _WIDE.search(left) is not None


def _check_name(name: object) -> None:
    from jinja2.exceptions import SecurityError  # noqa: PLC0415

    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"the name {name!r} begins with an underscore")
