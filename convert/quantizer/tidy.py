"""From what GPTQModel wrote to what is shipped: the same weights, and nothing of this machine or this run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from convert.checkpoint import open_checkpoint
from convert.errors import Failure

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "model.safetensors.index.json"
# Of what GPTQModel notes under `meta`, what says how the weights came about. The rest is how this run was
# set up, its temporary folder among it.
KEPT_META = frozenset(
    {
        *("quantizer", "uri", "damp_percent", "damp_auto_increment", "static_groups", "true_sequential"),
        *("mse", "act_group_aware"),
    }
)
CODE = ("auto_map", "custom_pipelines")
# Phi-3's one matrix, which GPTQModel takes apart, and reads so again; so do vLLM and SGLang.
FUSED, HALVES = "gate_up_proj", ("gate_proj", "up_proj")
LAYER = re.compile(r"\.\d+\.")


def tidy(result: Path, source: Path, out: Path) -> tuple[str, ...]:
    """Move the weights to `out`, write both configurations beside them, and name the matrices."""
    files = sorted(result.glob("*.safetensors"))
    written = {name for file in files for name in sort_header(file)}
    require_complete(source, written)
    told = json.loads((result / "quantize_config.json").read_text("utf-8"))
    told["meta"] = {name: value for name, value in told["meta"].items() if name in KEPT_META}
    config = read_config(source)
    write_json(out / "config.json", {**config, "quantization_config": told})
    write_json(out / "quantize_config.json", told)
    if (result / INDEX).is_file():
        write_json(out / INDEX, json.loads((result / INDEX).read_text("utf-8")))
    for file in files:
        file.replace(out / file.name)
    return tuple(sorted(name.removesuffix(".qweight") for name in written if name.endswith(".qweight")))


def sort_header(file: Path) -> list[str]:
    """Order the header's entries by name, in place: the data stay where they are."""
    with file.open("r+b") as stream:
        size_bytes = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(size_bytes))
        header["__metadata__"] = {"format": "pt"}
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size_bytes:
            raise Failure(f"{file.name}: its header does not fit in its place", "report this: it is a bug")
        stream.seek(8)
        stream.write(text.ljust(size_bytes))
    return [name for name in header if name != "__metadata__"]


def require_complete(source: Path, written: set[str]) -> None:
    """Every matrix of a layer must have become a quantised one, and every other tensor be there as it was."""
    lost = []
    with open_checkpoint(source) as checkpoint:
        tied = {"lm_head.weight"} if _is_tied(source) else set()
        for name, info in checkpoint.tensors.items():
            is_matrix = len(info.shape) == 2 and LAYER.search(name) is not None
            stems = [name.removesuffix(".weight")]
            stems = [stems[0].replace(FUSED, half) for half in HALVES] if FUSED in stems[0] else stems
            wanted = {f"{stem}.qweight" for stem in stems} if is_matrix else {name}
            if not wanted <= written and name not in tied:
                lost.append(name)
    if lost:
        listed = ", ".join(sorted(lost)[:3])
        raise Failure(
            f"GPTQModel left out {len(lost)} of the model's tensors: {listed}",
            "this architecture cannot be made by it; take another format",
        )


def _is_tied(source: Path) -> bool:
    config = read_config(source)
    return bool(config.get("tie_word_embeddings", True))


def read_config(source: Path) -> dict[str, Any]:
    """Read config.json without the names of code that an unwary loader would fetch and run."""
    config = json.loads((source / "config.json").read_text("utf-8"))
    return {name: value for name, value in config.items() if name not in CODE}


def write_json(path: Path, value: object) -> None:
    """Write for people too: sorted, so that the same content is the same bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
