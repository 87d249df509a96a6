"""How a folder of safetensors describes its weights, read without opening a model."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.strict_json import parse_object
from verify.runtimes._tokenizer import read_object

# Where tools record that they quantized a checkpoint, and who does when the entry itself names no method.
RECORDS = {
    "quantization_config": "an unnamed method",
    "compression_config": "compressed-tensors",
    "quantization": "MLX",
}
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


def is_checkpoint(folder: Path) -> bool:
    """Return whether the folder has a config.json and weights in safetensors."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def quantized_by(folder: Path) -> str | None:
    """Return the method that the config names, such as "gptq"; None for plain weights."""
    config: dict[str, Any] = {}
    with suppress(Failure, OSError):
        config = read_object(folder / "config.json")
    for key, usual in RECORDS.items():
        record = config.get(key)
        if record is not None:
            return str(record.get("quant_method") or usual) if isinstance(record, dict) else usual
    return None


def foreign_format(folder: Path) -> str | None:
    """Return the format in the files' metadata that is not PyTorch's "pt", such as "mlx"."""
    found = (_metadata(path).get("format", "pt") for path in sorted(folder.glob("*.safetensors")))
    return next((str(each) for each in found if each != "pt"), None)


def _metadata(path: Path) -> dict[str, Any]:
    """Return a header's metadata, empty where there is none or the file is damaged."""
    with suppress(OSError, Failure), path.open("rb") as file:
        size_bytes = int.from_bytes(file.read(8), "little")
        header = parse_object(file.read(size_bytes), "it", "") if size_bytes <= MAX_HEADER_BYTES else {}
        found = header.get("__metadata__")
        return found if isinstance(found, dict) else {}
    return {}
