"""What is said of a checkpoint that is quantized in a way that is not read."""

from pathlib import Path

from convert.errors import Failure, shown
from convert.model.card import base_models, front_matter

# By `quant_method`, as people write them.
NAMES = {
    "aqlm": "AQLM",
    "auto-round": "AutoRound",
    "bitnet": "BitNet",
    "bitsandbytes": "bitsandbytes",
    "eetq": "EETQ",
    "exl2": "EXL2",
    "exl3": "EXL3",
    "fouroversix": "Four Over Six",
    "fp_quant": "FP-Quant",
    "gguf": "GGUF",
    "higgs": "HIGGS",
    "hqq": "HQQ",
    "metal": "Metal",
    "quanto": "Quanto",
    "quark": "Quark",
    "quip": "QuIP#",
    "sinq": "SINQ",
    "spqr": "SpQR",
    "torchao": "torchao",
    "vptq": "VPTQ",
}
_LOST = "what a first quantization lost cannot be brought back"


def refuse(method: str, where: str, folder: Path) -> Failure:
    """Describe what cannot be widened, and name the model that it was made from where its card does."""
    name = NAMES.get(method, method)
    return Failure(f"{where}: the weights are quantized by {shown(name)}, which is not read", hint(folder))


def hint(folder: Path) -> str:
    """Name the original model where the folder's README.md does."""
    card, _ = front_matter(folder)
    if original := base_models(card):
        return f"convert from the original model: {original}"
    return f"convert from the original weights: {_LOST}"
