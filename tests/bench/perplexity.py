"""Compare what `verify` says of a GGUF's odds with what llama-perplexity says, on the same text and settings.

python -m tests.bench.perplexity [--llama-perplexity build/bin/llama-perplexity] [MODEL.gguf] [--text FILE]

Without a model the embedded one is converted. The divergence is taken between two GGUFs, the model's F32
and the one that is judged, since llama-perplexity knows no other source; it keeps 16 bits of each odds.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path

from convert import convert_recipe, recipe
from convert.formats import option_models
from tests.bench import peers
from verify.logprobs import Windows, cut, save_reference
from verify.quality import Quality, quality
from verify.runtimes import RuntimeSettings
from verify.text import read_text
from verify.worker import Launch, Worker

ROOT = Path(__file__).resolve().parents[2]
QUANTS = ("F32", "F16", "Q8_0", "Q4_K_M")
ALLOWED = 0.001  # of the value, for perplexity
ALLOWED_KL = 0.01
NUMBER = r"\s*(-?[\d.]+)"
THEIRS = {
    "kl_mean": r"Mean\s+KLD:",
    "kl_median": r"Median\s+KLD:",
    "kl_p90": r"90\.0%\s+KLD:",
    "kl_p95": r"95\.0%\s+KLD:",
    "kl_p99": r"99\.0%\s+KLD:",
    "kl_p999": r"99\.9%\s+KLD:",
    "kl_max": r"Maximum KLD:",
    "dp_mean": r"Mean\s+Δp:",
    "dp_rms": r"RMS Δp\s*:",
    "top1": r"Same top p:",
}
# Those that must agree: a maximum, and what lies around zero, move with the 16 bits that it keeps.
HELD = ("kl_mean", "kl_median", "kl_p90", "kl_p95", "kl_p99", "dp_rms", "top1")


def main() -> None:
    """Compare, print, and fail where they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", type=Path, nargs="*", help="the first is the one that others are held against"
    )
    parser.add_argument(
        "--llama-perplexity", type=Path, default=peers.tool("llama-perplexity"), help="llama.cpp's own tool"
    )
    parser.add_argument("--text", type=Path, default=ROOT / "README.md")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--windows", type=int, default=16)
    asked = parser.parse_args()
    if asked.llama_perplexity is None:
        parser.error("name or build llama-perplexity: see tests/bench/peers.py")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(read_text(asked.text, 1 << 20), "utf-8")
        models = asked.models or embedded(Path(folder))
        tool = Tool(asked.llama_perplexity, text, asked.window, asked.windows)
        is_right = [compare(model, models[0], tool, Path(folder)) for model in models]
    if not all(is_right):
        raise SystemExit("perplexity differs from llama-perplexity's")


def embedded(folder: Path) -> list[Path]:
    """The embedded model, in several encodings."""
    path = folder / "tiny.yaml"
    source = ROOT / "recipes" / "models" / "tiny-qwen"
    path.write_text(f"model: {source}\ntargets: {{gguf: {{quants: [{', '.join(QUANTS)}]}}}}\n", "utf-8")
    convert_recipe(recipe.load(path, option_models()), out=folder / "out", offline=True)
    return [next((folder / "out" / "tiny" / f"gguf-{quant}").glob("*.gguf")) for quant in QUANTS]


def compare(model: Path, base: Path, tool: Tool, folder: Path) -> bool:
    """One line each for perplexity and for divergence."""
    ours, windows = measured(model, tool)
    theirs = tool.perplexity(model)
    apart = abs(ours / theirs - 1)
    print(f"{model.name}: perplexity {ours:.4f}, llama-perplexity {theirs:.4f}, {100 * apart:.4f} % apart")
    if model == base:
        return apart < ALLOWED
    found = against(model, base, windows, folder)
    theirs_by_name = tool.divergence(model, base, folder / "base.kld")
    is_near = True
    for name, value in theirs_by_name.items():
        mine = getattr(found, name) * (1 if name.startswith("kl_") else 100)
        share = abs(mine / value - 1) if value else abs(mine)
        print(f"{model.name}: {name} {mine:.6f}, llama-perplexity {value:.6f}, {100 * share:.3f} % apart")
        is_near &= name not in HELD or share < ALLOWED_KL
    return apart < ALLOWED and is_near


def measured(model: Path, tool: Tool) -> tuple[float, Windows]:
    """Ours, of a GGUF alone, by its own tokenizer."""
    with Worker(Launch("llama_cpp", model.absolute(), RuntimeSettings(context=tool.window))) as worker:
        ids = worker.tokenize(tool.text.read_text("utf-8"), special=True, add_bos=True)
        bos = worker.info.bos_id if worker.info.adds_bos else None
        windows = cut(ids, tool.window, bos_id=bos, most=tool.windows)
        with tempfile.TemporaryDirectory() as home:
            reference = save_reference(worker, windows, Path(home) / "own.logits")
            return quality(worker, reference).ppl, windows


def against(model: Path, base: Path, windows: Windows, folder: Path) -> Quality:
    """Ours, of a GGUF against another."""
    settings = RuntimeSettings(context=windows.length)
    with Worker(Launch("llama_cpp", base.absolute(), settings)) as worker:
        reference = save_reference(worker, windows, folder / "base.logits")
    with Worker(Launch("llama_cpp", model.absolute(), settings)) as worker:
        return quality(worker, reference)


class Tool:
    """llama-perplexity on one text."""

    def __init__(self, path: Path, text: Path, window: int, windows: int) -> None:
        self.text, self.window, self.windows = text, window, windows
        self._path = path.absolute()

    def perplexity(self, model: Path) -> float:
        """Its final estimate."""
        return _number(r"Final estimate: PPL = ([\d.]+)", self._run(model))

    def divergence(self, model: Path, base: Path, kept: Path) -> dict[str, float]:
        """Its figures by our names: divergences in nats, shares and changes in percent."""
        if not kept.exists():
            self._run(base, "--kl-divergence-base", str(kept))
        said = self._run(model, "--kl-divergence-base", str(kept), "--kl-divergence")
        return {name: _number(pattern + NUMBER, said) for name, pattern in THEIRS.items()}

    def _run(self, model: Path, *more: str) -> str:
        line = [str(self._path), "-m", str(model), "-f", str(self.text), "-c", str(self.window)]
        line += ["--chunks", str(self.windows), *more]
        libraries = {"LD_LIBRARY_PATH": str(self._path.parent)}
        ran = subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | libraries)
        return ran.stdout + ran.stderr


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"llama-perplexity says no {pattern}: {text[-500:]}")
    return float(found[1])


if __name__ == "__main__":
    main()
