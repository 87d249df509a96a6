"""A chat template is a stranger's program: rendered in Jinja's immutable sandbox, and only in the child."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.child.sandbox import environment
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        made = environment().from_string(template)
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
