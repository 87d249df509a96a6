"""Chats laid out by a model's own template, in a child with a few seconds and little memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from convert.child import ChildFailure, FaultKind, sandbox
from convert.errors import Failure

CPU_S = 5
# So long that no busy machine is taken for an endless template: a card must not depend on the hour.
WALL_S = 180


def lay_out(template: str, markup: Mapping[str, str], chats: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return each chat as text; None where the template refuses it, and for all where it meets a limit."""
    asked = [((chat["messages"],), chat["asks"]) for chat in chats]
    try:
        made = sandbox.lay_out(template, markup, asked, sandbox.template_limits(CPU_S, WALL_S))
    except ChildFailure as failure:
        fault = failure.fault
        if fault.kind is FaultKind.OUT_OF_MEMORY or (fault.code is not None and fault.code < 0):
            return [None] * len(chats)
        raise Failure(f"the chat template could not be tried: {fault.reason}", failure.hint) from None
    except OSError as fault:
        raise Failure(f"the chat template could not be tried: {fault.strerror}", "try again") from None
    return [text if isinstance(text, str) else None for text in made]
