"""Ollama's files: a Modelfile for a download, `template` and `params` for `ollama run hf.co/…`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from convert.publish.card.label import label, weights
from convert.publish.card.template import environment

if TYPE_CHECKING:
    from convert.publish.card.guide import Setting

MODELFILE, TEMPLATE, PARAMS = "Modelfile", "template", "params"


def files(setting: Setting) -> dict[str, str]:
    """Render them for the artifacts of one file each: Ollama takes no GGUF in pieces."""
    whole = [candidate for candidate in setting.members if len(weights(candidate)) == 1]
    if not whole:
        return {}
    chosen = setting.candidate if setting.candidate in whole else whole[0]
    named = {each.target: {"file": weights(each)[0].path, "label": label(each)} for each in whole}
    template, parameters = go_template(setting), _parameters(setting)
    modelfile = environment().get_template("gguf/guides/Modelfile.j2")
    made = {
        MODELFILE: modelfile.render(
            file=named.pop(chosen.target)["file"],
            others=named.values(),
            template=template,
            is_chat=setting.facts.is_chat,
            parameters=parameters,
        )
    }
    if template is not None:
        made[TEMPLATE] = template
        made[PARAMS] = json.dumps(parameters, ensure_ascii=False, indent=2) + "\n"
    return made


def go_template(setting: Setting) -> str | None:
    """Write the chat template as Ollama's; None where it could not be taken apart."""
    layout = setting.chat.layout if setting.chat else None
    written = layout.to_go() if layout else None
    # Three quotes would end it in a Modelfile, and nothing escapes them there.
    return written if written and '"""' not in written and _is_visible(written) else None


def _parameters(setting: Setting) -> dict[str, object]:
    """Return where to stop, the window, and the sampling that the source's authors advise."""
    stops = [end for end in setting.facts.ends.values() if end.isprintable() and '"' not in end]
    return {
        **({"stop": stops} if stops and setting.facts.is_chat else {}),
        "num_ctx": setting.context,
        **{key: value for key, value in setting.facts.sampling.items() if key != "min_p"},
    }


def _is_visible(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)
