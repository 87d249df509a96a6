"""GPTQ and AWQ through GPTQModel, or through Transformers where its own loader takes the folder.

On the CPU, GPTQModel's kernels round to 16 bits on the way, whatever the type around them: logits lie about a
hundredth of their range from exact arithmetic on the same weights, which costs a divergence of some 1e-5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.runtimes._canonical import Canonical
from verify.runtimes._causal import CausalModel
from verify.runtimes._events import shortened
from verify.runtimes._weights import quantised_by, read_config, weight_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verify.runtimes import Settings

OPTIONS = {
    "device": None,
    "backend": None,  # GPTQModel's name for a kernel
    "dtype": ("auto", "float32", "float16", "bfloat16"),
    "loader": ("gptqmodel", "transformers"),
}

# What takes a weight's place in a quantised layer.
PARTS = ("qweight", "qzeros", "scales")


def suits(folder: Path) -> bool:
    """Does its config say that its weights are GPTQ's or AWQ's?"""
    return any(folder.glob("*.safetensors")) and quantised_by(folder) is not None


def preload() -> dict[str, str]:
    """Import the natives."""
    # On 2 cores it would leave itself one, and then refuse to start with fewer than it wants.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    # It has kernels compiled on first use: seconds for each shape, and a C++ compiler would be needed.
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import gptqmodel  # noqa: PLC0415  (in the child only)
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    transformers.logging.disable_progress_bar()
    return {
        "gptqmodel": str(gptqmodel.__version__),
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
    }


def open_runtime(path: str, settings: Settings) -> GptqModel:
    """Open a folder of quantised weights."""
    return GptqModel(Path(path), settings)


class GptqModel(CausalModel):
    """A quantised model, and the kernels that were chosen for it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        chosen = _chosen(settings)
        import torch  # noqa: PLC0415  (in the child only)

        device = chosen["device"]
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise Failure("gptqmodel: this machine has no CUDA device", "leave out --option device")
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        config = _config(folder)
        _require_all(folder, config)
        tokenizer = Canonical(folder, config)
        try:
            model = _open_model(folder, chosen)
        except Exception as fault:  # noqa: BLE001  (its loaders raise whatever they meet)
            said = f"{type(fault).__name__}: {shortened(str(fault))}"
            raise Failure(f"{folder.name}: {chosen['loader']} refuses it: {said}") from None
        super().__init__(model.eval(), tokenizer, device)
        stored = config["quantization_config"]
        self.info = self.describe(
            "gptqmodel",
            settings,
            {
                "loader": chosen["loader"],
                "device": device,
                "floats": str(model.dtype).removeprefix("torch."),
                "kernels": ", ".join(_kernels(model)),
                "method": str(stored.get("quant_method")),
                "bits": str(stored.get("bits")),
                "group_size": str(stored.get("group_size")),
                "threads": str(torch.get_num_threads()),
            },
        )


def _config(folder: Path) -> dict[str, Any]:
    """The config, if Transformers knows the model by itself: no code of the folder's is ever run."""
    from transformers import CONFIG_MAPPING  # noqa: PLC0415

    config = read_config(folder)
    if config.get("model_type") not in CONFIG_MAPPING:
        raise Failure(
            f"{folder.name}: Transformers has no model_type {config.get('model_type')!r}, "
            "and code from a repo is never run"
        )
    return config


def _require_all(folder: Path, config: dict[str, Any]) -> None:
    """Every tensor that the model has: GPTQModel would go on without, with whatever the memory held."""
    import torch  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: PLC0415

    found: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            found |= set(opened.keys())
    plain = {name: value for name, value in config.items() if name != "quantization_config"}
    made = CONFIG_MAPPING[str(config["model_type"])].from_dict(plain)
    with torch.device("meta"):
        wanted = set(AutoModelForCausalLM.from_config(made).state_dict())
    if made.tie_word_embeddings:
        wanted.discard("lm_head.weight")
    if missing := sorted(set(_stored(wanted, found, config["quantization_config"])) - found):
        raise Failure(f"{folder.name}: {len(missing)} tensors are missing, {missing[0]} among them")


def _stored(wanted: set[str], found: set[str], stored: dict[str, Any]) -> Iterator[str]:
    """What the tensors of a plain model are called where a layer of it is quantised."""
    parts = [*PARTS, "g_idx"] if stored.get("desc_act") else PARTS
    for name in wanted:
        layer, _, kind = name.rpartition(".")
        layers = [layer]
        if layer.endswith("gate_up_proj") and f"{layer}.qweight" not in found:
            # GPTQModel itself keeps Phi-3's gated matrix in halves.
            layers = [layer.removesuffix("gate_up_proj") + half for half in ("gate_proj", "up_proj")]
        if kind == "weight" and any(f"{one}.qweight" in found for one in layers):
            yield from (f"{one}.{part}" for one in layers for part in parts)
        else:
            yield name


def _open_model(folder: Path, chosen: dict[str, str]) -> Any:
    import torch  # noqa: PLC0415

    dtype = chosen["dtype"]
    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    if chosen["loader"] == "transformers":
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=wanted, device_map=chosen["device"], trust_remote_code=False, use_safetensors=True
        )
    from gptqmodel import GPTQModel  # noqa: PLC0415

    return GPTQModel.load(
        str(folder),
        device=chosen["device"],
        backend=chosen["backend"],
        dtype=wanted,
        trust_remote_code=False,
    ).model


def _kernels(model: Any) -> list[str]:
    """What computes the quantised layers."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear  # noqa: PLC0415

    return sorted(
        {type(module).__name__ for module in model.modules() if isinstance(module, BaseQuantLinear)}
    )


def _chosen(settings: Settings) -> dict[str, str]:
    given = {name: str(value) for name, value in settings.options.items()}
    if unknown := set(given) - set(OPTIONS):
        raise Failure(
            f"gptqmodel: no such option: {', '.join(sorted(unknown))}", f"it has {', '.join(OPTIONS)}"
        )
    chosen = {"device": "cpu", "backend": "auto", "dtype": "auto", "loader": "gptqmodel"} | given
    for name, known in OPTIONS.items():
        if known and chosen[name] not in known:
            raise Failure(f"gptqmodel: {name} {chosen[name]!r} is none of {', '.join(known)}")
    return chosen
