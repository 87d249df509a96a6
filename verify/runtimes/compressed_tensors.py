"""compressed-tensors through Transformers, which widens the weights and rounds activations as a server does.

Models with experts, and what Transformers refuses, are read by the converter's own reader instead: what
activations are rounded to is not seen there, and the report says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.checkpoint.quantized import without_sections
from convert.errors import Failure
from verify.runtimes._causal import CausalModel, config_class, model_class, preload_torch, require_none
from verify.runtimes._checkpoint import is_checkpoint, quantized_by
from verify.runtimes._local import one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary
from verify.runtimes._weights import read_config, read_weights, weight_files

if TYPE_CHECKING:
    from verify.runtimes import RuntimeSettings

METHOD = "compressed-tensors"
FORMATS = (METHOD,)
SECTION = "quantization_config"
OPTIONS = {"device": "cpu", "loader": ("auto", "transformers", "widened")}
# One of a layer's experts, by the name of its tensor.
EXPERT = re.compile(r".*\.experts\.\d+\..*")


def suits(folder: Path) -> bool:
    """Return whether the config says that the weights are compressed-tensors'."""
    if not is_checkpoint(folder) or quantized_by(folder) != METHOD:
        return False
    return SECTION in read_config(folder)  # Transformers passes over the older name


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    from importlib.metadata import version

    import compressed_tensors.quantization  # noqa: F401

    return {METHOD: version(METHOD), **preload_torch()}


def open_runtime(path: str, settings: RuntimeSettings) -> CompressedTensors:
    """Open a folder of quantized weights."""
    return CompressedTensors(Path(path), settings)


class CompressedTensors(CausalModel):
    """A quantized model, computed in float32 of the numbers that its weights mean."""

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import torch

        options = read_options("compressed_tensors", settings, OPTIONS)
        torch.set_num_threads(thread_count(settings))
        config = read_config(folder)
        vocabulary = FolderVocabulary(folder, config)
        loader = options["loader"]
        refusals: list[str] = []
        model = None
        for name in _loaders(folder, loader):
            try:
                model, loader = LOADERS[name](folder, config), name
                break
            except Exception as fault:  # noqa: BLE001  (its loader raises whatever it meets)
                said = fault.message if isinstance(fault, Failure) else one_line(str(fault))
                refusals.append(f"{name} refuses it: {type(fault).__name__}: {said}")
        if model is None:
            raise Failure(f"{folder.name}: {'; '.join(refusals)}")
        groups = config[SECTION]["config_groups"]
        rounds = loader == "transformers" and any(each.get("input_activations") for each in groups.values())
        notes = {
            "loader": loader,
            "scheme": ", ".join(groups),
            "weights": "widened to float32",
            "activations": "rounded as the scheme says" if rounds else "float32",
            **({"instead": refusals[0]} if refusals else {}),
        }
        super().__init__(
            "compressed_tensors", model.to(options["device"]).eval(), vocabulary, settings, notes
        )


def _loaders(folder: Path, asked: str) -> tuple[str, ...]:
    """Name the loaders to try: what Transformers has no modules for is read by our own reader."""
    if asked != "auto":
        return (asked,)
    has_experts = any(map(EXPERT.fullmatch, _names(folder)))
    return ("widened",) if has_experts else ("transformers", "widened")


def _names(folder: Path) -> set[str]:
    from safetensors import safe_open

    found: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            found |= set(opened.keys())
    return found


def _loaded(folder: Path, config: dict[str, Any]) -> Any:
    """Load by Transformers; the library widens the weights the first time that the model runs.

    Zero points have other shapes in the files than the library gives them before that, so weights with these
    are widened while they are read, which Transformers does by one scheme for all.
    """
    import torch

    described = config_class(folder, config.get("model_type")).from_pretrained(folder)
    weights = [each.get("weights") or {} for each in config[SECTION]["config_groups"].values()]
    if len(weights) == 1 and not weights[0].get("symmetric", True):
        described.quantization_config = {**config[SECTION], "dequantize": True}
    model, found = model_class(folder, described).from_pretrained(
        folder, config=described, dtype="auto", output_loading_info=True, use_safetensors=True
    )
    require_none(folder, set(found["missing_keys"]) | set(found["unexpected_keys"]))
    with torch.no_grad():
        model(input_ids=torch.zeros((1, 1), dtype=torch.long))
    return torch.nn.Module.float(model)  # its own would refuse what was quantized


def _widened(folder: Path, config: dict[str, Any]) -> Any:
    """Widen the weights while they are read, and give them to Transformers' own class."""
    import torch

    weights = read_weights(folder, str(config.get("model_type")))
    described = config_class(folder, config.get("model_type")).from_pretrained(folder)
    for section in config.keys() - without_sections(config).keys():
        delattr(described, section)
    model, found = model_class(folder, described).from_pretrained(
        None, config=described, state_dict=weights, dtype=torch.float32, output_loading_info=True
    )
    require_none(folder, set(found["missing_keys"]))
    return model


LOADERS = {"transformers": _loaded, "widened": _widened}
