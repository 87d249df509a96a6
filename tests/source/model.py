"""The model that the tests fetch, and what they look at."""

import json
import random
from pathlib import Path

from convert.source import Hub, Pinned
from tests.hub.repo import git_sha1, is_lfs, sha256

MODEL = "acme/tiny"


def noise(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that no two seeds share."""
    return random.Random(seed).randbytes(size_bytes)


WEIGHTS = noise(400_000)
SHARDS = {
    "model-00001-of-00002.safetensors": noise(90_000, 1),
    "model-00002-of-00002.safetensors": noise(80_000, 2),
}
INDEX = json.dumps(
    {"weight_map": {f"tensor{at}": name for at, name in enumerate([*SHARDS, *SHARDS])}}
).encode()
CONFIG = b'{"model_type": "gpt2"}\n'
NEEDED = {
    "LICENSE": b"Apache-2.0\n",
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    "config.json": CONFIG,
    "merges.txt": b"#version: 0.2\na b\n",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"version": "1.0"}',
    "vocab.json": b'{"a": 0}',
}
# The same weights again, as the GPT-2 repo has them, and files of no use.
USELESS = {
    name: noise(1000, seed)
    for seed, name in enumerate([
        ".gitattributes", "64.tflite", "flax_model.msgpack", "pytorch_model.bin", "rust_model.ot",
        "tf_model.h5", "onnx/decoder_model.onnx", "onnx/config.json", "original/consolidated.00.pth",
        "consolidated.safetensors", "model.gguf", "training_args.bin", "coreml/text/config.json",
    ])
}  # fmt: skip
FILES = {**NEEDED, **USELESS}


def assert_right(pinned: Pinned, files: dict[str, bytes]) -> None:
    """Exactly these files, with these bytes, under their digests."""
    assert set(pinned.files) == set(files)
    for name, content in files.items():
        assert (pinned.folder / name).read_bytes() == content
        assert pinned.files[name].sha256 == sha256(content)
        assert pinned.files[name].size_bytes == len(content)


def blob(hub: Hub, name: str, content: bytes, suffix: str = "") -> Path:
    """Where the cache keeps this content."""
    digest = sha256(content) if is_lfs(name, content) else git_sha1(content)
    return hub.cache / "models--acme--tiny" / "blobs" / f"{digest}{suffix}"


def parts(hub: Hub) -> list[str]:
    """What is not complete."""
    return sorted(path.name for path in hub.cache.rglob("*.incomplete"))
