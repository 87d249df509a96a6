"""What an int4 ONNX of Qwen-1.8B's shape costs, beside onnxruntime-genai's own builder, and how it runs.

python -m tests.bench.onnx [--layers 24] [--parts convert together decode]

The builder holds the whole model several times over: with 24 layers it takes some 14 GB. Decoding is compared
in turns, a process for each artifact, with the same block size, symmetry and accuracy level.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from tests.bench.conversion import GIB, ROOT, Cost, Shape, make_checkpoint, measure
from verify.measure import prompt
from verify.runtimes import RuntimeSettings
from verify.worker import Launch, Worker

PARTS = ("convert", "together", "decode")
QUANT, TARGET = "Q4_K_M", "onnx-int4-cpu"
GGUF, ONNX = f"gguf: {{quants: [{QUANT}]}}", "onnx: {precision: int4, block_size: 32, accuracy_level: 4}"
SAME = ("int4_block_size=32", "int4_accuracy_level=4", "int4_is_symmetric=true")
PROMPT, ANSWER = 32, 48


def ours(model: Path, work: Path, name: str, targets: list[str]) -> Cost:
    """Convert with modelwright, as a person would."""
    recipe = work / f"onnx-{name}.yaml"
    recipe.write_text(f"model: {model}\ntargets:\n" + "".join(f"  {target}\n" for target in targets))
    program = str(Path(sys.executable).parent / "modelwright")
    out = work / "ours" / name
    return measure([program, "--quiet", "convert", str(recipe), "--out", str(out)], [out])


def theirs(model: Path, work: Path) -> Cost:
    """Convert with the builder that onnxruntime-genai brings."""
    out = work / "builder"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "int4", "-e", "cpu"]
    command += ["-i", str(model), "-o", str(out), "-c", str(work / "builder-cache")]
    return measure([*command, "--extra_options", *SAME], [out])


def compare_conversions(model: Path, work: Path) -> None:
    """Ours and the builder's, one after the other on the same machine."""
    mine, peer = ours(model, work, "onnx", [ONNX]), theirs(model, work)
    print(f"modelwright, int4:  {mine}\nthe builder, int4:  {peer}", flush=True)
    print(
        f"the builder's over ours: {peer.wall_s / mine.wall_s:.2f} wall, {peer.cpu_s / mine.cpu_s:.2f} CPU, "
        f"{peer.peak_rss_bytes / mine.peak_rss_bytes:.1f} peak resident; "
        f"ours stays {'below' if mine.peak_rss_bytes < GIB else 'ABOVE'} 1 GiB",
        flush=True,
    )


def compare_passes(model: Path, work: Path) -> None:
    """GGUF and ONNX from one read, against each alone."""
    alone = {
        name: ours(model, work, f"alone-{name}", [target])
        for name, target in {"gguf": GGUF, "onnx": ONNX}.items()
    }
    both = ours(model, work, "both", [GGUF, ONNX])
    for name, cost in {**alone, "both": both}.items():
        print(f"modelwright, {name}:  {cost}", flush=True)
    slower = max(alone.values(), key=lambda cost: cost.cpu_s)
    print(
        f"both over the slower alone: {both.wall_s / slower.wall_s:.2f} wall, "
        f"{both.cpu_s / slower.cpu_s:.2f} CPU",
        flush=True,
    )


def compare_decoding(work: Path, threads: int, rounds: int) -> None:
    """Our artifact and the builder's in turns, a different one first each time."""
    folders = {"modelwright": next((work / "ours" / "onnx").rglob(TARGET)), "the builder": work / "builder"}
    found: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in folders}
    peaks = dict.fromkeys(folders, 0)
    for number in range(rounds):
        for name in sorted(folders, reverse=number % 2 == 0):
            launch = Launch("onnxruntime_genai", folders[name], RuntimeSettings(threads=threads))
            with Worker(launch) as worker:
                list(worker.generate(prompt(worker.info, PROMPT, 2, "warm-up")))
                pieces = list(worker.generate(prompt(worker.info, PROMPT, ANSWER, str(number))))
                found[name]["prefill"].append(PROMPT / pieces[0].t_s)
                found[name]["decode"].append((len(pieces) - 1) / (pieces[-1].t_s - pieces[0].t_s))
                peaks[name] = max(peaks[name], worker.peaks().rss_bytes)
    for name, figures in found.items():
        middle = {kind: statistics.median(values) for kind, values in figures.items()}
        print(
            f"{name}: prefill {middle['prefill']:.1f} tok/s, decode {middle['decode']:.1f} tok/s "
            f"(best {max(figures['decode']):.1f}), {peaks[name] / GIB:.2f} GiB resident",
            flush=True,
        )
    mine, peer = (found[name]["decode"] for name in folders)
    print(
        f"ours over the builder's, decoding: {statistics.median(mine) / statistics.median(peer):.3f} "
        f"(best runs {max(mine) / max(peer):.3f})",
        flush=True,
    )


def main() -> None:
    """Make the model, then compare what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--layers", type=int, default=24, help="how deep the model is; Qwen-1.8B has 24")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="decode needs convert before"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the decoding")
    parser.add_argument("--rounds", type=int, default=7, help="of the decoding")
    asked = parser.parse_args()
    work = asked.work.resolve()
    model = work / f"model-{asked.layers}"
    if {"convert", "together"} & set(asked.parts):
        print(f"making a model of Qwen-1.8B's shape with {asked.layers} layers", flush=True)
        make_checkpoint(model, Shape(layers=asked.layers))
    if "convert" in asked.parts:
        compare_conversions(model, work)
    if "together" in asked.parts:
        compare_passes(model, work)
    if "decode" in asked.parts:
        compare_decoding(work, asked.threads, asked.rounds)


if __name__ == "__main__":
    main()
