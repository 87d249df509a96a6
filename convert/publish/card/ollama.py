"""Ollama: a Modelfile for who has the file, `template` and `params` for who takes it from the Hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from convert.publish.card.label import label, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.publish.bundle import Candidate
    from convert.publish.card.guide import Setting

MODELFILE, TEMPLATE, PARAMS = "Modelfile", "template", "params"


def files(setting: Setting, candidates: Sequence[Candidate]) -> dict[str, bytes]:
    """What is laid into the repo for Ollama; nothing where no artifact is a file of its own."""
    whole = [candidate for candidate in candidates if is_whole(candidate)]
    if not whole:
        return {}
    chosen = setting.candidate if is_whole(setting.candidate) else whole[0]
    made = {MODELFILE: modelfile(setting, chosen, whole)}
    template = go_template(setting)
    if template is not None:
        made[TEMPLATE] = template
        made[PARAMS] = json.dumps(parameters(setting), ensure_ascii=False, indent=2) + "\n"
    return {name: content.encode() for name, content in made.items()}


def is_whole(candidate: Candidate) -> bool:
    """Whether it is one file: Ollama takes no GGUF in pieces."""
    return len(weights(candidate)) == 1


def go_template(setting: Setting) -> str | None:
    """The chat template as Ollama's; None where it could not be taken apart."""
    layout = setting.chat.layout if setting.chat else None
    written = layout.to_go() if layout else None
    # Three quotes would end it in a Modelfile, and nothing escapes them there.
    return written if written and '"""' not in written and _is_visible(written) else None


def parameters(setting: Setting) -> dict[str, object]:
    """Where to stop, how far to look back, and what the source's authors advise."""
    stops = [end for end in setting.facts.ends.values() if end.isprintable() and '"' not in end]
    return {
        **({"stop": stops} if stops and setting.is_chat else {}),
        "num_ctx": setting.context,
        **{key: value for key, value in setting.facts.sampling.items() if key != "min_p"},
    }


def modelfile(setting: Setting, chosen: Candidate, candidates: Sequence[Candidate]) -> str:
    """The file that `ollama create -f` reads."""
    return "\n".join(_lines(setting, chosen, candidates)) + "\n"


def _lines(setting: Setting, chosen: Candidate, candidates: Sequence[Candidate]) -> Iterator[str]:
    others = [each for each in candidates if each is not chosen]
    if others:
        yield "# One of these; the others are commented out."
    yield f"FROM ./{weights(chosen)[0].path}"
    yield from (f"# FROM ./{weights(each)[0].path}  ({label(each)})" for each in others)
    yield ""
    template = go_template(setting)
    if template is not None:
        yield f'TEMPLATE """{template}"""'
    elif setting.is_chat:
        yield "# No TEMPLATE: Ollama's words cannot say the model's own, so it looks for one like it."
    else:
        yield "# A model that continues text: nothing goes around what is asked."
        yield 'TEMPLATE """{{ .Prompt }}"""'
    yield ""
    for name, value in parameters(setting).items():
        for each in value if isinstance(value, list) else [value]:
            yield f'PARAMETER {name} "{each}"' if isinstance(each, str) else f"PARAMETER {name} {each}"


def _is_visible(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)
