"""Tiny models of every architecture with a vocabulary of bytes, and what the conversion makes of them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from convert import convert_recipe
from convert.formats import option_models
from convert.model.config import read_config
from convert.model.families import find_family
from convert.model.source import Model
from convert.recipe import load as load_recipe
from convert.tokenizer import load
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

BYTES_ONLY = "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"


def make(folder: Path, recipe: tiny.Recipe) -> Path:
    """Write a checkpoint with a tokenizer: bytes, and the ids 1 and 2 as beginning and end."""
    tiny.make(folder, recipe)
    if recipe.model_type == "qwen":
        (folder / "qwen.tiktoken").write_text(BYTES_ONLY)
        (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml", "top_p": 0.8}))
        return folder
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a vocabulary of bytes, with the ids 1 and 2 as beginning and end."""
    names = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({name: identity for identity, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names[:3]])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def described(folder: Path) -> Model:
    """Read a folder as a conversion does."""
    config = read_config(folder)
    decoder = find_family(config).describe(config)
    tokenizer = load(folder, config.text("model_type"), config.values, decoder.vocab_size)
    generation: dict[str, Any] = {}
    if (folder / "generation_config.json").is_file():
        generation = dict(read_config(folder, "generation_config.json").values)
    return Model("Tiny", None, decoder, tokenizer, folder, generation=generation)


def convert_to(place: Path, source: Path, targets: str, *, threads: int = 1) -> Path:
    """Convert by a recipe written beside the source; give the folder of artifacts."""
    path = place / "recipe.yaml"
    path.write_text(f"model: {source}\ntargets:\n  {targets}\n", "utf-8")
    out = place / "artifacts"
    convert_recipe(load_recipe(path, option_models()), out=out, threads=threads, offline=True)
    return out / "recipe"
