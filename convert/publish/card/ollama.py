"""Ollama's files: a Modelfile for a download, `template` and `params` for `ollama run hf.co/…`."""

import json

from convert.publish.card.group import FormatGroup
from convert.publish.card.label import label, weights
from convert.publish.card.template import environment

MODELFILE, TEMPLATE, PARAMS = "Modelfile", "template", "params"


def files(group: FormatGroup) -> dict[str, str]:
    """Render them for the artifacts of one file each: Ollama takes no GGUF in pieces."""
    whole = [candidate for candidate in group.members if len(weights(candidate)) == 1]
    if not whole:
        return {}
    chosen = group.candidate if group.candidate in whole else whole[0]
    named = {each.target: {"file": weights(each)[0].path, "label": label(each)} for each in whole}
    template, parameters = go_template(group), _parameters(group)
    modelfile = environment().get_template("gguf/guides/Modelfile.j2")
    made = {
        MODELFILE: modelfile.render(
            file=named.pop(chosen.target)["file"],
            others=named.values(),
            template=template,
            is_chat=group.facts.is_chat,
            parameters=parameters,
        )
    }
    if template is not None:
        made[TEMPLATE] = template
        made[PARAMS] = json.dumps(parameters, ensure_ascii=False, indent=2) + "\n"
    return made


def go_template(group: FormatGroup) -> str | None:
    """Write the chat template as Ollama's; None where it could not be taken apart."""
    layout = group.chat.layout if group.chat else None
    written = layout.to_go() if layout else None
    # Three quotes would end it in a Modelfile, and nothing escapes them there.
    return written if written and '"""' not in written and _is_visible(written) else None


def _parameters(group: FormatGroup) -> dict[str, object]:
    """Return where to stop, the window, and the sampling that the source's authors advise."""
    stops = [end for end in group.facts.ends.values() if end.isprintable() and '"' not in end]
    return {
        **({"stop": stops} if stops and group.facts.is_chat else {}),
        "num_ctx": group.context,
        **{key: value for key, value in group.facts.sampling.items() if key != "min_p"},
    }


def _is_visible(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)
