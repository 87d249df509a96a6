"""Conversations rendered by the model's chat template in a child process, since a template is a program."""

from collections.abc import Mapping, Sequence
from typing import Any

from convert.calibration.dialogue import Dialogue
from convert.child import ChildFailure, sandbox
from convert.errors import Failure
from convert.tokenizer import Tokenizer

# For hundreds of dialogues at once; a normal template needs a tenth of a second.
CPU_S = 30
WALL_S = 120
MARKUP = ("bos_token", "eos_token", "unk_token", "pad_token")


def lay_out(dialogues: Sequence[Dialogue], template: str, tokenizer: Tokenizer) -> list[str]:
    """Render each conversation as text, answers included, in the first form that the template takes."""
    chats = [((each.messages(), _without_system(each)), False) for each in dialogues]
    limits = sandbox.template_limits(CPU_S, WALL_S)
    try:
        made = sandbox.lay_out(template, _markup(tokenizer.config), chats, limits)
    except ChildFailure as failure:
        raise _refusal(failure.message) from None
    for text in made:
        if isinstance(text, ChildFailure):
            raise _refusal(text.message)
    return [str(text) for text in made]


def _refusal(why: str) -> Failure:
    what = f"calibration: the model's chat template cannot lay a conversation out: {why}"
    return Failure(what, "use another text: calibration: {text: FILE}")


def _without_system(dialogue: Dialogue) -> list[dict[str, str]]:
    """Move what the system role says to the first turn, for templates that know no such role."""
    first, *rest = dialogue.messages()
    if first["role"] != "system":
        return [first, *rest]
    user = {"role": "user", "content": f"{first['content']}\n\n{rest[0]['content']}"}
    return [user, *rest[1:]]


def _markup(config: Mapping[str, Any]) -> dict[str, str]:
    """Find the tokens that templates are given by name."""
    values = [(name, config.get(name)) for name in MARKUP]
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values}
    return {name: text for name, text in texts.items() if isinstance(text, str)}
