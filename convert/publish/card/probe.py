"""A child that lays chats out by a stranger's template.

Templates are programs: this one gets a sandbox, a few seconds, little memory, and an empty environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from convert.child.sandbox import ask_child, limit
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CPU_SECONDS = 5
# So long that no busy machine is taken for an endless template: a card must not depend on the hour.
SECONDS = 180


def lay_out(template: str, markup: Mapping[str, str], chats: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Each chat as text; None where the template refuses it, and of all where it runs into a limit."""
    asked = {"template": template, "markup": dict(markup), "chats": list(chats)}
    try:
        done = ask_child(_START, asked, SECONDS)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Failure(f"the chat template could not be tried ({type(fault).__name__})", "try again") from None
    if done.returncode < 0:  # killed, at a limit
        return [None] * len(chats)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Failure(f"the chat template could not be tried: {last}", "is modelwright whole?")
    made: list[str | None] = json.loads(done.stdout)
    return made


_START = "from convert.publish.card.probe import answer; answer()"


def answer() -> None:
    """In the child: read the question, render, write."""
    limit(CPU_SECONDS)
    from verify.template import render  # noqa: PLC0415 - under the limits

    asked = json.load(sys.stdin)
    made: list[str | None] = []
    for chat in asked["chats"]:
        try:
            made.append(
                render(
                    asked["template"],
                    chat["messages"],
                    add_generation_prompt=chat["asks"],
                    markup=asked["markup"],
                )
            )
        except (Failure, MemoryError):
            made.append(None)
    json.dump(made, sys.stdout)
