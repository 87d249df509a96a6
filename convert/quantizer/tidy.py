"""From GPTQModel's files to those that are shipped: the same weights, without traces of machine or run."""

import json
import re
from pathlib import Path
from typing import Any

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.quantizer.job import Job

INDEX = "model.safetensors.index.json"
# Of what GPTQModel notes under `meta`, how the weights were made. The rest is how this run was set up, its
# temporary folder included.
KEPT_META = frozenset(
    {
        *("quantizer", "uri", "damp_percent", "damp_auto_increment", "static_groups", "true_sequential"),
        *("mse", "act_group_aware"),
    }
)
CODE = ("auto_map", "custom_pipelines")


def tidy(result: Path, job: Job) -> tuple[str, ...]:
    """Move the weights to `job.out`, write both configurations, and list the matrices."""
    source, out = job.source, job.out
    files = sorted(result.glob("*.safetensors"))
    written = {name for file in files for name in sort_header(file)}
    require_complete(job, written)
    settings = json.loads((result / "quantize_config.json").read_text("utf-8"))
    settings["meta"] = {name: value for name, value in settings["meta"].items() if name in KEPT_META}
    settings |= left_out(job)
    config = read_config(source)
    write_json(out / "config.json", {**config, "quantization_config": settings})
    write_json(out / "quantize_config.json", settings)
    if (result / INDEX).is_file():
        write_json(out / INDEX, json.loads((result / INDEX).read_text("utf-8")))
    for file in files:
        file.replace(out / file.name)
    return tuple(sorted(name.removesuffix(".qweight") for name in written if name.endswith(".qweight")))


def left_out(job: Job) -> dict[str, Any]:
    """Say which matrices are packed, where some are not: Transformers takes every linear layer for packed."""
    if not job.left:
        return {}
    if job.method == "awq":
        return {"modules_to_not_convert": list(job.left)}
    names = [name for matrix in job.matrices for name in matrix.results()]
    # How names end, within a layer; of experts, which are many, the last part.
    ends = dict.fromkeys(re.sub(r"^.*\.\d+\.(?!.*\.\d+\.)", "", name) for name in names)
    return {"modules_in_block_to_quantize": [list(ends)]}


def sort_header(file: Path) -> list[str]:
    """Sort the header's entries by name, in place; the data do not move."""
    with file.open("r+b") as stream:
        size_bytes = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(size_bytes))
        header["__metadata__"] = {"format": "pt"}
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size_bytes:
            raise Failure(f"{file.name}: its header does not fit", "report this: it is a bug")
        stream.seek(8)
        stream.write(text.ljust(size_bytes))
    return [name for name in header if name != "__metadata__"]


def require_complete(job: Job, written: set[str]) -> None:
    """Refuse a result where a matrix was not quantized, or another tensor is missing."""
    results = {f"{matrix.name}.weight": matrix.results() for matrix in job.matrices}
    with open_checkpoint(job.source) as checkpoint:
        wanted = {
            name: {f"{each}.qweight" for each in results[name]} if name in results else {name}
            for name in checkpoint.tensors
        }
    if lost := sorted(name for name, each in wanted.items() if not each <= written):
        raise Failure(
            f"GPTQModel left out {len(lost)} of the model's tensors: {', '.join(lost[:3])}",
            "this architecture cannot be made by it; take another format",
        )


def read_config(source: Path) -> dict[str, Any]:
    """Read config.json without the names of code that a careless loader would fetch and run."""
    config = json.loads((source / "config.json").read_text("utf-8"))
    return {name: value for name, value in config.items() if name not in CODE}


def write_json(path: Path, value: object) -> None:
    """Write indented JSON, sorted, so that the same content gives the same bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
