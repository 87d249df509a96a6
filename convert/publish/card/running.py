"""How to run what is in a repo: a guide for each runtime that can load it, and for no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card import gguf_guides, onnx_guides, tensor_guides, xinference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.publish.bundle import Candidate
    from convert.publish.card.guide import Guide, Setting


def guides(setting: Setting, candidates: Sequence[Candidate], *, is_alone: bool) -> list[Guide]:
    """Every guide for a setting's format; `is_alone` where the repo has no other."""
    match setting.candidate.manifest.format:
        case "gguf":
            found = gguf_guides.guides(setting)
        case "onnx":
            found = onnx_guides.guides(setting)
        case _:
            found = tensor_guides.guides(setting)
    further = xinference.guide(setting, candidates) if is_alone else None
    return [*found, *([further] if further else [])]
