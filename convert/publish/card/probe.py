"""A child that lays chats out by a stranger's template.

Templates are programs: this one gets a sandbox, a few seconds, little memory, and an empty environment.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS = 10
CPU_SECONDS = 5
MEMORY_BYTES = 2 << 30


def lay_out(template: str, markup: Mapping[str, str], chats: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Each chat as text; None where the template refuses it, or is not done in time."""
    asked = json.dumps({"template": template, "markup": dict(markup), "chats": list(chats)})
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-I", "-X", "utf8", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {_START}"],
            input=asked,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            env={},
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return [None] * len(chats)
    return [each if isinstance(each, str) else None for each in answer]


_START = "from convert.publish.card.probe import answer; answer()"


def answer() -> None:
    """In the child: read the question, render, write."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    from convert.errors import Failure  # noqa: PLC0415 - under the limits
    from verify.template import render  # noqa: PLC0415

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
