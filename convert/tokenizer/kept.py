"""Tokenizers that were read before, kept by the digest of all that they were made from."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from convert.machine import give_back_memory
from convert.source.digest import write_atomically
from convert.tokenizer.assembly import load
from convert.tokenizer.facts import Facts
from convert.tokenizer.model import AddedToken, Kind, Tokenizer, TokenType
from convert.version import code_digest

# A smaller vocabulary is read as quickly as it is looked up.
WORTH_KEEPING = 20_000
MAX_KEPT = 8
# All files of a checkpoint that `load` reads.
FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model", "tekken.json"),
    *("*.tiktoken", "tiktoken.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"),
    *("chat_template.jinja", "chat_template.json"),
)
_TYPES = {ord(str(int(kind))): kind for kind in TokenType}


def load_kept(
    notes: Path | None, folder: Path, model_type: str, config: Mapping[str, Any], vocab_size: int
) -> Tokenizer:
    """Read a tokenizer as `load` does; a large one from `notes`, where it is the same as before."""
    if notes is None or vocab_size < WORTH_KEEPING:
        return load(folder, model_type, config, vocab_size)
    shelf = notes / "tokenizers"
    key = _key(folder, model_type, config, vocab_size)
    path, facts = shelf / key, Facts(shelf / f"{key}.facts")
    known = _read(path)
    if known is None:
        known = load(folder, model_type, config, vocab_size)
        with suppress(OSError, ValueError):  # ValueError: half a character, which UTF-8 cannot hold
            write_atomically(path, _pack(known))
            _forget_old(shelf)
        give_back_memory()  # half of what the reading took
    else:
        with suppress(OSError):
            os.utime(path)  # the newest are kept
    return replace(known, facts=facts)


def _key(folder: Path, model_type: str, config: Mapping[str, Any], vocab_size: int) -> str:
    """Digest everything that decides the tokenizer: the files, what `load` is given, and the code."""
    files = [path for name in FILES for path in sorted(folder.glob(name))]
    content = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
    code = [code_digest(), version("tokenizers")]
    given = [model_type, vocab_size, {key: config[key] for key in sorted(config)}]
    return hashlib.sha256(json.dumps([content, code, given], default=repr).encode()).hexdigest()


def _pack(tokenizer: Tokenizer) -> bytes:
    """Write a line of JSON and the tokenizer.json, after a digest of both."""
    content = {each.name: getattr(tokenizer, each.name) for each in fields(tokenizer)}
    del content["facts"], content["json"]
    content |= {
        "types": "".join(str(int(kind)) for kind in tokenizer.types),
        "merges": [[left for left, _ in tokenizer.merges], [right for _, right in tokenizer.merges]],
        "added": [asdict(token) for token in tokenizer.added],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    rest = b"\n".join((text, tokenizer.json))
    return b"\n".join((hashlib.sha256(rest).hexdigest().encode(), rest))


def _read(path: Path) -> Tokenizer | None:
    """Read a kept tokenizer; None where there is none, or a damaged one."""
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        return None
    text, _, tokenizer_json = rest.partition(b"\n")
    content = json.loads(text)
    content |= {
        "json": tokenizer_json,
        "kind": Kind(content["kind"]),
        "types": tuple(map(_TYPES.__getitem__, content["types"].encode())),
        "merges": tuple(zip(*content["merges"], strict=True)),
        "added": tuple(AddedToken(**token) for token in content["added"]),
    }
    for name in ("tokens", "scores", "eog_ids", "opening"):
        content[name] = None if content[name] is None else tuple(content[name])
    return Tokenizer(**content)


def _forget_old(shelf: Path) -> None:
    kept = [path for path in shelf.iterdir() if not path.suffix]
    kept.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept[MAX_KEPT:]:
        path.unlink(missing_ok=True)
        path.with_suffix(".facts").unlink(missing_ok=True)
