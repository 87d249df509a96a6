"""Xinference: a model that it does not know is described to it in a file."""

import re
from typing import Any

from convert.publish.bundle import Candidate
from convert.publish.card.group import FormatGroup
from convert.publish.card.label import label, shipping_of, weights

NAME = "xinference.json"


def describe(group: FormatGroup) -> dict[str, Any] | None:
    """Describe the model in version 2 of Xinference's schema; None where it cannot open any of the files."""
    facts, name = group.facts, _name(group)
    specs = [spec for candidate in group.members if (spec := _spec(group, candidate))]
    if not specs:
        return None
    described: dict[str, Any] = {
        "version": 2,
        "model_name": name,
        "model_family": name,
        "model_description": f"{group.bundle.title}, {group.bundle.suffix}",
        "context_length": facts.context or 2048,
        "model_lang": list(group.languages),
        "model_ability": ["chat"] if facts.is_chat else ["generate"],
        "model_specs": specs,
    }
    if facts.is_chat:
        described |= {
            "chat_template": facts.template,
            "stop_token_ids": list(facts.ends),
            "stop": list(facts.ends.values()),
        }
    return described


def launch(group: FormatGroup) -> dict[str, Any] | None:
    """Return what the guide's commands name; None where Xinference cannot open the artifact."""
    spec, known = _spec(group, group.candidate), group.shipping.xinference
    if spec is None or known is None:
        return None
    return {"file": NAME, "name": _name(group), "engine": known.engine, **spec}


def _spec(group: FormatGroup, candidate: Candidate) -> dict[str, Any] | None:
    size, known = _billions(group.facts.parameters), shipping_of(candidate).xinference
    if known is None or size is None or not group.facts.runs_in.issuperset(known.needs):
        return None
    spec = {
        "model_format": known.format,
        "model_size_in_billions": size,
        "quantization": known.quantization.format(label=label(candidate), **candidate.manifest.options),
        "model_hub": "huggingface",
        "model_id": group.bundle.repo,
        "model_revision": group.revision,
    }
    if known.names_file:
        files = weights(candidate)
        if len(files) > 1:
            return None
        spec["model_file_name_template"] = files[0].path.replace(label(candidate), "{quantization}")
    return spec


def _billions(parameters: int | None) -> int | str | None:
    """Write a number of parameters as Xinference does: seven billion is 7, half a billion is "0_5"."""
    if parameters is None:
        return None
    billions = parameters / 1e9
    if billions >= 9.5:
        return round(billions)
    places = 1 if billions >= 0.095 else 3
    shown = f"{max(billions, 0.001):.{places}f}".rstrip("0").rstrip(".")
    return int(shown) if shown.isdigit() else shown.replace(".", "_")


def _name(group: FormatGroup) -> str:
    """Return the repo's name in letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", group.folder).strip("-_")
