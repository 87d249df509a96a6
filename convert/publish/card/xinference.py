"""Xinference: a model that it does not know is described to it in a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convert.publish.card.label import label, shipping_of, weights

if TYPE_CHECKING:
    from convert.publish.bundle import Candidate
    from convert.publish.card.guide import Setting

NAME = "xinference.json"


def describe(setting: Setting) -> dict[str, Any] | None:
    """Describe the model in version 2 of Xinference's schema; None where it cannot open any of the files."""
    facts, name = setting.facts, _name(setting)
    specs = [spec for candidate in setting.members if (spec := _spec(setting, candidate))]
    if not specs:
        return None
    described: dict[str, Any] = {
        "version": 2,
        "model_name": name,
        "model_family": name,
        "model_description": f"{setting.bundle.title}, {setting.bundle.suffix}",
        "context_length": facts.context or 2048,
        "model_lang": list(setting.languages),
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


def launch(setting: Setting) -> dict[str, Any] | None:
    """Return what the guide's commands name; None where Xinference cannot open the artifact."""
    spec, known = _spec(setting, setting.candidate), setting.shipping.xinference
    if spec is None or known is None:
        return None
    return {"file": NAME, "name": _name(setting), "engine": known.engine, **spec}


def _spec(setting: Setting, candidate: Candidate) -> dict[str, Any] | None:
    size, known = _billions(setting.facts.parameters), shipping_of(candidate).xinference
    if known is None or size is None or not setting.facts.runs_in.issuperset(known.needs):
        return None
    spec = {
        "model_format": known.format,
        "model_size_in_billions": size,
        "quantization": known.quantization.format(label=label(candidate), **candidate.manifest.options),
        "model_hub": "huggingface",
        "model_id": setting.bundle.repo,
        "model_revision": setting.revision,
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


def _name(setting: Setting) -> str:
    """Return the repo's name in letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", setting.folder).strip("-_")
