"""Xinference: a model that it does not know is described to it in a file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from convert.publish.card.guide import Guide, shell
from convert.publish.card.label import label, weights
from convert.publish.card.tensor_guides import IN_SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.publish.bundle import Candidate
    from convert.publish.card.guide import Setting

NAME = "xinference.json"
# Its names for formats, the engine that reads each, and what it calls the quantisation.
FORMATS = {
    "gguf": ("ggufv2", "llama.cpp"),
    "gptq": ("gptq", "vLLM"),
    "awq": ("awq", "vLLM"),
    "hf": ("pytorch", "Transformers"),
}


def file(setting: Setting, candidates: Sequence[Candidate]) -> dict[str, bytes]:
    """The description; none where the size is not known, which Xinference asks for."""
    told = describe(setting, candidates)
    if told is None:
        return {}
    return {NAME: (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode()}


def describe(setting: Setting, candidates: Sequence[Candidate]) -> dict[str, Any] | None:
    """The model in Xinference's words, version 2 of them."""
    facts = setting.facts
    specs = [spec for candidate in candidates if (spec := _spec(setting, candidate))]
    if not specs:
        return None
    name = _name(setting)
    told: dict[str, Any] = {
        "version": 2,
        "model_name": name,
        "model_family": name,
        "model_description": f"{setting.bundle.title}, {setting.bundle.suffix}",
        "context_length": facts.context or 2048,
        "model_lang": list(setting.languages),
        "model_ability": ["chat"] if setting.is_chat else ["generate"],
        "model_specs": specs,
    }
    if setting.is_chat:
        told |= {
            "chat_template": facts.template,
            "stop_token_ids": list(facts.ends),
            "stop": list(facts.ends.values()),
        }
    return told


def guide(setting: Setting, candidates: Sequence[Candidate]) -> Guide | None:
    """Describe it to a running Xinference, and launch it."""
    spec = _spec(setting, setting.candidate)
    if spec is None or describe(setting, candidates) is None:
        return None
    _, engine = FORMATS[setting.candidate.manifest.format]
    launch = [
        *("xinference", "launch", "--model-name", _name(setting), "--model-engine", engine),
        *("--model-format", spec["model_format"], "--size-in-billions", str(spec["model_size_in_billions"])),
        *("--quantization", spec["quantization"]),
    ]
    path = f"{setting.folder}/{NAME}"
    register = ["xinference", "register", "--model-type", "LLM", "--file", path, "--persist"]
    words = f"With Xinference running; [`{NAME}`]({NAME}) tells it what this model is."
    return Guide("Xinference", (words, shell(setting.download(NAME), register, launch)))


def _spec(setting: Setting, candidate: Candidate) -> dict[str, Any] | None:
    size = _billions(setting.facts.parameters)
    known = FORMATS.get(candidate.manifest.format)
    if known is None or size is None:
        return None
    if known[1] == "vLLM" and setting.facts.architecture not in IN_SERVERS:
        return None
    spec: dict[str, Any] = {
        "model_format": known[0],
        "model_size_in_billions": size,
        "quantization": _quantisation(candidate),
        "model_hub": "huggingface",
        "model_id": setting.repo,
        "model_revision": setting.revision,
    }
    if candidate.manifest.format == "gguf":
        files = weights(candidate)
        if len(files) > 1:
            return None  # its template names one file
        spec["model_file_name_template"] = files[0].path.replace(label(candidate), "{quantization}")
    return spec


def _quantisation(candidate: Candidate) -> str:
    if candidate.manifest.format == "gguf":
        return label(candidate)
    if candidate.manifest.format == "hf":
        return "none"
    return f"Int{candidate.manifest.options.get('bits', 4)}"


def _billions(parameters: int | None) -> int | str | None:
    """Seven is 7, a half is "0_5"."""
    if parameters is None:
        return None
    billions = parameters / 1e9
    if billions >= 9.5:
        return round(billions)
    places = 1 if billions >= 0.095 else 3
    shown = f"{max(billions, 0.001):.{places}f}".rstrip("0").rstrip(".")
    return int(shown) if shown.isdigit() else shown.replace(".", "_")


def _name(setting: Setting) -> str:
    """Letters, digits, dashes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", setting.folder).strip("-_")
