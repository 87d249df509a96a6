"""How far vLLM's own kernels are from the source, and from what was written, for each checkpoint.

VLLM_PYTHON=vllm/bin/python python -m tests.bench.vllm_odds artifacts/tiny hf compressed-tensors-fp8 gptq

Each folder is opened by vLLM in a process of its own, on a GPU where there is one, and gives the 64 likeliest
tokens at each place of eight texts that nobody learned from. They are compared with Transformers' odds of the
first folder, which is the source's, and of the same folder, whose weights Transformers widens. Of the rest of
the vocabulary nothing is known: it is left out of both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from tests.gptq.text import held_out
from tests.verify.opening import logits, opened
from verify import logprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Odds = Sequence[NDArray[np.float64]]

TEXTS, LENGTH, KNOWN = 8, 256, 64
ASK = """
import json, os, sys
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
from vllm import LLM, SamplingParams
folder, texts, out, known = sys.argv[1:5]
more = {"max_model_len": 512, "max_logprobs": int(known), "gpu_memory_utilization": 0.3}
model = LLM(model=folder, enforce_eager=True, **more)
asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=int(known))
found = model.generate([{"prompt_token_ids": each} for each in json.load(open(texts))], asked)
rows = [[{str(t): p.logprob for t, p in at.items()} for at in each.prompt_logprobs[1:]] for each in found]
json.dump(rows, open(out, "w"))
os._exit(0)
"""
RUNTIMES = {"hf": "transformers", "gptq": "gptqmodel", "awq": "gptqmodel"}


def ask_vllm(python: str, folder: Path, texts: Sequence[Sequence[int]], home: Path) -> Any:
    """Let vLLM read the texts; None where it does not load the folder."""
    (home / "texts.json").write_text(json.dumps(texts), "utf-8")
    out = home / "rows.json"
    out.unlink(missing_ok=True)
    command = [python, "-c", ASK, str(folder), str(home / "texts.json"), str(out), str(KNOWN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not out.is_file():
        print("\n".join(line for line in done.stderr.splitlines() if "Error" in line)[-600:])
        return None
    return json.loads(out.read_text("utf-8"))


def ask_here(folder: Path, texts: Sequence[Sequence[int]]) -> Odds:
    """Let Transformers read them."""
    runtime = RUNTIMES.get(folder.name.partition("-")[0], "compressed_tensors")
    with opened(runtime, folder) as worker:
        return [logprobs.log_probabilities(logits(worker, list(each))[:-1]) for each in texts]


def compare(rows: Any, wanted: Odds) -> str:
    """Give the part of the divergence that is known, and how often the likeliest token is the same."""
    parts, same = [], []
    for row, odds in zip(rows, wanted, strict=True):
        for at, each in zip(row, odds, strict=True):
            tokens, found = np.array([int(token) for token in at]), np.array(list(at.values()))
            parts.append(float((np.exp(each[tokens]) * (each[tokens] - found)).sum()))
            same.append(tokens[found.argmax()] == each.argmax())
    return f"KL {np.mean(parts):.5f}, same top {np.mean(same):.3f}"


def main() -> None:
    """Print a line for each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home", type=Path, help="where the folders are")
    parser.add_argument("folders", nargs="+", help="the source's first, in Transformers' layout")
    asked = parser.parse_args()
    python = os.environ["VLLM_PYTHON"]
    first: Path = asked.home / asked.folders[0]
    ids = held_out(tokenizers.Tokenizer.from_file(str(first / "tokenizer.json")), TEXTS * LENGTH)
    texts = [ids[at : at + LENGTH] for at in range(0, TEXTS * LENGTH, LENGTH)]
    source = ask_here(first, texts)
    with TemporaryDirectory(prefix="vllm-odds-") as home:
        for name in asked.folders:
            rows = ask_vllm(python, asked.home / name, texts, Path(home))
            if rows is None:
                print(f"{name}: vLLM does not load it", flush=True)
                continue
            widened = source if name == asked.folders[0] else ask_here(asked.home / name, texts)
            print(
                f"{name}: to the source {compare(rows, source)}; to what was written {compare(rows, widened)}"
            )


if __name__ == "__main__":
    main()
