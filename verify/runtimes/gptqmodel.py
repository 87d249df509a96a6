"""GPTQ and AWQ through GPTQModel, or through Transformers where its own loader takes the folder.

On the CPU, GPTQModel's kernels round to 16 bits on the way, whatever the type around them: logits differ by
about a hundredth of their range from exact arithmetic on the same weights, a divergence of some 1e-5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.runtimes._causal import CausalModel, config_class, preload_torch, require_none
from verify.runtimes._checkpoint import is_checkpoint, quantized_by
from verify.runtimes._local import one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary
from verify.runtimes._weights import read_config, weight_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.runtimes import RuntimeSettings

METHODS = FORMATS = ("gptq", "awq")
OPTIONS = {
    "device": "cpu",
    "backend": "auto",  # GPTQModel's name for a kernel
    "dtype": ("auto", "float32", "float16", "bfloat16"),
    "loader": ("gptqmodel", "transformers"),
}
# The tensors that take a weight's place in a quantized layer.
PARTS = ("qweight", "qzeros", "scales")


def suits(folder: Path) -> bool:
    """Return whether the config says that the weights are GPTQ's or AWQ's."""
    return is_checkpoint(folder) and quantized_by(folder) in METHODS


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    # On 2 cores it would leave itself one, and then refuse to start with fewer than it wants.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    # It has kernels compiled on first use: seconds for each shape, and a C++ compiler would be needed.
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import gptqmodel

    return {"gptqmodel": str(gptqmodel.__version__), **preload_torch()}


def open_runtime(path: str, settings: RuntimeSettings) -> GptqModel:
    """Open a folder of quantized weights."""
    return GptqModel(Path(path), settings)


class GptqModel(CausalModel):
    """A quantized model, and the kernels that were options for it."""

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import torch

        options = read_options("gptqmodel", settings, OPTIONS)
        if options["device"].startswith("cuda") and not torch.cuda.is_available():
            raise Failure("gptqmodel: this machine has no CUDA device", "leave out --option device")
        torch.set_num_threads(thread_count(settings))
        config = read_config(folder)
        _require_all(folder, config)
        vocabulary = FolderVocabulary(folder, config)
        try:
            model = _open_model(folder, options)
        except Exception as fault:  # noqa: BLE001  (its loaders raise whatever they meet)
            said = f"{type(fault).__name__}: {one_line(str(fault))}"
            raise Failure(f"{folder.name}: {options['loader']} refuses it: {said}") from None
        stored = config["quantization_config"]
        notes = {
            "loader": options["loader"],
            "device": options["device"],
            "floats": str(model.dtype).removeprefix("torch."),
            "kernels": ", ".join(_kernels(model)),
            "method": str(stored.get("quant_method")),
            "bits": str(stored.get("bits")),
            "group_size": str(stored.get("group_size")),
        }
        super().__init__("gptqmodel", model.eval(), vocabulary, settings, notes)


def _require_all(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder without all tensors: GPTQModel would go on with whatever the memory held."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    described = config_class(folder, config.get("model_type"))
    found: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            found |= set(opened.keys())
    plain = described.from_dict(
        {name: each for name, each in config.items() if name != "quantization_config"}
    )
    with torch.device("meta"):
        wanted = set(AutoModelForCausalLM.from_config(plain).state_dict())
    if plain.tie_word_embeddings:
        wanted.discard("lm_head.weight")
    require_none(folder, set(_stored(wanted, found, config["quantization_config"])) - found)


def _stored(wanted: set[str], found: set[str], stored: dict[str, Any]) -> Iterator[str]:
    """Yield the stored names of a plain model's tensors: a quantized layer has several for its weight."""
    parts = [*PARTS, "g_idx"] if stored.get("desc_act") else PARTS
    for name in wanted:
        layer, _, kind = name.rpartition(".")
        layers = [layer]
        if layer.endswith("gate_up_proj") and f"{layer}.qweight" not in found:
            # GPTQModel itself keeps a gated matrix in halves.
            layers = [layer.removesuffix("gate_up_proj") + half for half in ("gate_proj", "up_proj")]
        if kind == "weight" and any(f"{one}.qweight" in found for one in layers):
            yield from (f"{one}.{part}" for one in layers for part in parts)
        else:
            yield name


def _open_model(folder: Path, options: dict[str, Any]) -> Any:
    import torch

    dtype = options["dtype"]
    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    if options["loader"] == "transformers":
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=wanted, device_map=options["device"], trust_remote_code=False, use_safetensors=True
        )
    from gptqmodel import GPTQModel

    return GPTQModel.load(
        str(folder),
        device=options["device"],
        backend=options["backend"],
        dtype=wanted,
        trust_remote_code=False,
    ).model


def _kernels(model: Any) -> list[str]:
    """Name the kernels that compute the quantized layers."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    return sorted(
        {type(module).__name__ for module in model.modules() if isinstance(module, BaseQuantLinear)}
    )
