"""What becomes of a program that is run once, and of templates that are more than a text needs."""

from __future__ import annotations

import math
import os
import sys

import pytest

from convert.child import ChildFailure, FaultKind, Limits, run, sandbox

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + GOOD
CHAT = (
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    [{"role": "user", "content": "be brief; hi"}],
)


@pytest.mark.parametrize(
    ("code", "printed", "kind", "status"),
    [
        ("print(input())", b"asked\n", None, None),
        ("print('some'); sys.exit(3)", b"some\n", FaultKind.EXITED, 3),
        ("os.kill(os.getpid(), 9)", b"", FaultKind.CRASHED, -9),
        ("time.sleep(60)", b"", FaultKind.HUNG, None),
        ("[print('x' * 1000) for _ in iter(int, 1)]", None, FaultKind.FLOODED, None),
        ("sys.stderr.write('not for us')", b"", None, None),
    ],
    ids=["done", "exit code", "signal", "time", "flood", "stderr"],
)
def test_a_program_ends_with_its_output_and_a_reason(
    code: str, printed: bytes | None, kind: FaultKind | None, status: int | None
) -> None:
    limits = Limits(total_s=3.0, memory_bytes=math.inf, output_bytes=1 << 16)
    command = [sys.executable, "-IS", "-c", f"import os, sys, time; {code}"]
    output, fault = run(command, limits, os.environ, stdin=b"asked")
    assert printed is None or output == printed
    assert (fault and fault.kind, fault and fault.code) == (kind, status)


def test_a_chat_is_rendered_in_the_first_form_that_the_template_takes() -> None:
    limits = sandbox.template_limits(30, 120.0)
    made = sandbox.lay_out(GOOD, {}, [(CHAT, False)], limits)
    assert made == ["system: be brief;user: hi;"]
    first, second = sandbox.lay_out(NO_SYSTEM, {}, [(CHAT, False), (CHAT[:1], False)], limits)
    assert first == "user: be brief; hi;"
    assert isinstance(second, ChildFailure)
    assert "no system" in second.message


def test_a_template_without_an_end_runs_into_its_limit() -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ChildFailure, match="more CPU time") as caught:
        sandbox.lay_out(endless, {}, [(CHAT, False)], sandbox.template_limits(1, 120.0))
    assert caught.value.fault.code is not None
    assert caught.value.fault.code < 0
