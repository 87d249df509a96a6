"""What a conversion of Qwen-1.8B's shape costs, beside llama.cpp's own where its tools are given.

python -m tests.bench.conversion
python -m tests.bench.conversion --convert-script convert_hf_to_gguf.py --quantize build/bin/llama-quantize
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from convert.tokenizer import load

ROOT = Path(__file__).resolve().parents[2]
RANKS = ROOT / "tests" / "fixtures" / "tokenizers" / "qwen" / "qwen.tiktoken.gz"
ROWS_AT_ONCE = 4096
GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """Qwen-1.8B's sizes, with as many layers as asked."""

    layers: int = 24
    hidden: int = 2048
    heads: int = 16
    mlp: int = 5504
    vocab: int = 151_936


@dataclass(frozen=True)
class Cost:
    """What a command took, seen from outside."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    peak_anon_bytes: int
    written_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.wall_s:7.1f} s wall {self.cpu_s:7.1f} s CPU "
            f"{self.peak_rss_bytes / GIB:6.2f} GiB RSS {self.peak_anon_bytes / GIB:6.2f} GiB anonymous "
            f"{self.written_bytes / 1e9:6.2f} GB written"
        )

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_rss_bytes, other.peak_rss_bytes),
            max(self.peak_anon_bytes, other.peak_anon_bytes),
            self.written_bytes + other.written_bytes,
        )


def make_checkpoint(folder: Path, shape: Shape) -> None:
    """Write seeded random weights in Qwen2's layout, which both routes read, and Qwen's own vocabulary."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "eos_token_id": 151_645,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_tokenizer(folder, shape.vocab)
    write_weights(folder / "model.safetensors", shapes(shape))
    (folder / "done").touch()


def shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name every tensor of Qwen2 with its shape."""
    hidden, named = shape.hidden, {"model.embed_tokens.weight": (shape.vocab, shape.hidden)}
    found: dict[str, tuple[int, ...]] = dict(named)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        for letter in "qkv":
            found[f"{at}self_attn.{letter}_proj.weight"] = (hidden, hidden)
            found[f"{at}self_attn.{letter}_proj.bias"] = (hidden,)
        found[f"{at}self_attn.o_proj.weight"] = (hidden, hidden)
        for part, size in (
            ("gate", (shape.mlp, hidden)),
            ("up", (shape.mlp, hidden)),
            ("down", (hidden, shape.mlp)),
        ):
            found[f"{at}mlp.{part}_proj.weight"] = size
        found[f"{at}input_layernorm.weight"] = found[f"{at}post_attention_layernorm.weight"] = (hidden,)
    return {**found, "model.norm.weight": (hidden,), "lm_head.weight": (shape.vocab, hidden)}


def write_weights(path: Path, named: dict[str, tuple[int, ...]]) -> None:
    """Write bfloat16 tensors one slice at a time, so that making the model takes no memory either."""
    header, start = {}, 0
    for name, size in named.items():
        length = 2 * int(np.prod(size))
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [start, start + length]}
        start += length
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    random = np.random.default_rng(0)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for size in named.values():
            for row in range(0, size[0], ROWS_AT_ONCE):
                rows = (min(ROWS_AT_ONCE, size[0] - row), *size[1:])
                values = random.standard_normal(rows, np.float32) * np.float32(0.02)
                stream.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write Qwen's vocabulary as both routes read it: tokenizer.json."""
    source = folder / "ranks"
    source.mkdir()
    (source / "qwen.tiktoken").write_bytes(gzip.decompress(RANKS.read_bytes()))
    (source / "generation_config.json").write_text(json.dumps({"chat_format": "chatml"}))
    tokenizer = load(source, "qwen", {"model_type": "qwen"}, vocab_size)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.config, ensure_ascii=False))
    shutil.rmtree(source)


def measure(command: list[str], written: list[Path]) -> Cost:
    """Run a command and watch its memory from outside."""
    for path in written:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    began, before = time.perf_counter(), os.times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peaks = {"VmHWM": 0, "RssAnon": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            for line in lines:
                key, _, value = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value.split()[0]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    wall_s, after = time.perf_counter() - began, os.times()
    if status:
        sys.exit(f"{' '.join(command)}: exit status {status}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    size_bytes = sum(
        file.stat().st_size
        for path in written
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file()
    )
    return Cost(wall_s, cpu_s, peaks["VmHWM"], peaks["RssAnon"], size_bytes)


def ours(model: Path, quants: list[str], work: Path) -> Cost:
    """Convert with modelwright, as a person would."""
    recipe = work / f"bench-{'-'.join(quants)}.yaml"
    recipe.write_text(f"model: {model}\ntargets:\n  gguf: {{quants: [{', '.join(quants)}]}}\n")
    out = work / "ours"
    command = [
        str(Path(sys.executable).parent / "modelwright"),
        "--quiet",
        "convert",
        str(recipe),
        "--out",
        str(out),
    ]
    return measure(command, [out])


def theirs(model: Path, quants: list[str], work: Path, script: list[str], quantize: str) -> Cost:
    """Convert with llama.cpp: a whole file in 16 bits, then a pass over it for each type."""
    middle = work / "theirs-bf16.gguf"
    total = measure([*script, str(model), "--outtype", "bf16", "--outfile", str(middle)], [middle])
    for quant in quants:
        out = work / f"theirs-{quant}.gguf"
        total += measure([quantize, str(middle), str(out), quant], [out])
    return total


def differing(work: Path, quants: list[str]) -> int:
    """Count the tensors whose type or bytes are not llama.cpp's."""
    count = 0
    for quant in quants:
        (mine,) = (work / "ours").rglob(f"*{quant}.gguf")
        a, b = (
            {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
            for path in (mine, work / f"theirs-{quant}.gguf")
        )
        count += len(a.keys() ^ b.keys())
        for name in a.keys() & b.keys():
            count += a[name].tensor_type != b[name].tensor_type or not np.array_equal(
                a[name].data, b[name].data
            )
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--layers", type=int, default=24, help="how deep the model is; Qwen-1.8B has 24")
    parser.add_argument("--convert-script", help="llama.cpp's convert_hf_to_gguf.py")
    parser.add_argument("--quantize", help="llama.cpp's llama-quantize")
    parser.add_argument("--python", default=sys.executable, help="a Python with what that script needs")
    asked = parser.parse_args()
    work = asked.work.resolve()
    model, shallow = work / f"model-{asked.layers}", work / "model-4"
    print(f"making a model of Qwen-1.8B's shape with {asked.layers} layers", flush=True)
    make_checkpoint(model, Shape(layers=asked.layers))
    make_checkpoint(shallow, Shape(layers=4))
    print(f"modelwright, Q4_K_M, 4 layers:  {ours(shallow, ['Q4_K_M'], work)}", flush=True)
    for quants in (["Q4_K_M"], ["Q4_K_M", "Q5_K_M", "Q8_0"]):
        label = " + ".join(quants)
        mine = ours(model, quants, work)
        print(f"modelwright, {label}:  {mine}", flush=True)
        if asked.convert_script and asked.quantize:
            peer = theirs(model, quants, work, [asked.python, asked.convert_script], asked.quantize)
            print(f"llama.cpp, {label}:    {peer}", flush=True)
            print(
                f"llama.cpp's time over ours: {peer.wall_s / mine.wall_s:.2f} wall, "
                f"{peer.cpu_s / mine.cpu_s:.2f} CPU; {differing(work, quants)} tensors differ",
                flush=True,
            )


if __name__ == "__main__":
    main()
