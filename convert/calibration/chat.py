"""Conversations by the model's own chat template, laid out in a child: a template is a stranger's program."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from convert.child.sandbox import ask_child, environment, limit
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.calibration.dialogue import Dialogue
    from convert.tokenizer import Tokenizer

START = "from convert.calibration.chat import answer; answer()"
# For hundreds of dialogues at once; a sound template needs a tenth of a second.
CPU_S = 30
WALL_S = 120
MAX_CHARS = 1 << 20  # of one conversation
MARKUP = ("bos_token", "eos_token", "unk_token", "pad_token")


def lay_out(dialogues: Sequence[Dialogue], template: str, tokenizer: Tokenizer) -> list[str]:
    """Each conversation as text, answers among it."""
    chats = [[each.messages(), _without_system(each)] for each in dialogues]
    asked = {"template": template, "markup": _markup(tokenizer.config), "chats": chats, "cpu_s": CPU_S}
    try:
        done = ask_child(START, asked, WALL_S)
    except subprocess.TimeoutExpired:
        raise _refusal(f"it takes more than {WALL_S} s") from None
    if done.returncode != 0:
        raise _refusal("it takes more time or memory than any needs")
    made = json.loads(done.stdout)
    if isinstance(made, str):
        raise _refusal(made)
    return [str(each) for each in made]


def _refusal(why: str) -> Failure:
    return Failure(
        f"calibration: the model's chat template cannot lay a conversation out: {why}",
        "calibrate with a text of your own: calibration: {text: FILE}",
    )


def _without_system(dialogue: Dialogue) -> list[dict[str, str]]:
    """For templates that know no system role: what it says begins the first turn."""
    first, *rest = dialogue.messages()
    if first["role"] != "system":
        return [first, *rest]
    user = {"role": "user", "content": f"{first['content']}\n\n{rest[0]['content']}"}
    return [user, *rest[1:]]


def _markup(config: Mapping[str, Any]) -> dict[str, str]:
    """What templates are given by name."""
    found = {}
    for name in MARKUP:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def answer() -> None:
    """In the child: read the question, render, write the texts or, as one text, what went wrong."""
    asked = json.load(sys.stdin)
    limit(asked["cpu_s"])
    try:
        template = environment().from_string(asked["template"])
        made: Any = [_render(template, chats, asked["markup"]) for chats in asked["chats"]]
    except Exception as fault:  # noqa: BLE001 - a template may raise anything
        made = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
    json.dump(made, sys.stdout)


def _render(template: Any, chats: Sequence[Sequence[Mapping[str, str]]], markup: Mapping[str, str]) -> str:
    """The first form that the template takes."""
    from jinja2 import TemplateError  # noqa: PLC0415 - in the child

    for last, messages in enumerate(chats, 1):
        try:
            text = str(template.render(messages=messages, add_generation_prompt=False, **markup))
        except TemplateError:
            if last == len(chats):
                raise
            continue
        if len(text) > MAX_CHARS:
            raise ValueError(f"it makes {len(text)} characters of a short chat")
        return text
    raise AssertionError
