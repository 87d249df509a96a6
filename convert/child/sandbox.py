"""The sandbox for chat templates, which are strangers' programs: they run only in a child with limits."""

from __future__ import annotations

import datetime as dt
import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.parser import Parser

# Templates that show the date would give another text every day, and figures that can't be compared.
TODAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MEMORY_BYTES = 2 << 30  # of the child


def ask_child(start: str, asked: object, wall_s: float) -> subprocess.CompletedProcess[str]:
    """Put a question to a process with an empty environment; `start` reads it from stdin and answers."""
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-I", "-X", "utf8", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {start}"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=wall_s,
        check=False,
        env={},
    )


def limit(cpu_s: int) -> None:
    """In the child, before it reads what a stranger wrote."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def environment() -> Any:
    """Jinja's immutable sandbox with what Transformers gives a template."""
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

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = TODAY.strftime
    return made
