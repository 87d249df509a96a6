"""Our client and vLLM's own benchmark against one server, in turns: both should find the same.

python -m tests.bench.clients ARTIFACT TOKENIZER --vllm PYTHON

ARTIFACT is a folder with a GGUF, which llama.cpp's server opens; TOKENIZER is the model's folder with a
tokenizer.json; PYTHON is an interpreter that has vLLM, whose `bench serve` is the peer.

Both send texts of one kind and length, none twice, so that no cache of prompts helps either; both answer
without an end, greedily, over the same protocol. They take turns, another one first each round, after a
round that is not counted. It exits 1 where throughput or the median of first tokens is over 5 % apart.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.runtimes import Request, RuntimeSettings
from verify.runtimes.served import Programs, free_ports
from verify.servers import HOST, Start, find_server
from verify.servers.llama_server import Client
from verify.texts import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROMPT, ANSWER = 120, 64
TEXT_TOKENS = 4000  # that prompts are cut from
HELD = ("tok_s", "ttft_p50_s")
ALLOWED = 0.05
THEIRS = """\
import argparse, json, sys
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
found = main(parser.parse_args())
print("\\nRESULT", json.dumps({key: value for key, value in found.items() if isinstance(value, float | int)}))
"""


def prompts(client: Client) -> Iterator[str]:
    """Cut stretches of one text, each from another place and so with another beginning."""
    ids = client.tokenize(text_of("long", TEXT_TOKENS), special=False, add_bos=False)
    starts = list(range(len(ids) - PROMPT))
    random.Random(0).shuffle(starts)
    for start in starts:
        yield client.detokenize(ids[start : start + PROMPT])


def ours(client: Client, users: int, texts: Sequence[str]) -> dict[str, float]:
    """Measure with our client."""
    asked = [Request(text=text, max_tokens=ANSWER, ignores_end=True) for text in texts]
    outcomes = list(client.load(asked, users, ()))
    assert all(each.fault is None for each in outcomes), outcomes
    waits = [(each.first_s or 0.0) - each.due_s for each in outcomes]
    tokens = sum(each.tokens for each in outcomes)
    return {
        "tok_s": tokens / max(each.end_s for each in outcomes),
        "ttft_p50_s": float(np.percentile(waits, 50)),
        "ttft_p95_s": float(np.percentile(waits, 95)),
    }


def theirs(python: str, start: Start, tokenizer: Path, users: int, texts: Sequence[str]) -> dict[str, float]:
    """Measure with vLLM's."""
    rows = start.home / "prompts.jsonl"
    rows.write_text("".join(f"{json.dumps({'prompt': text, 'output_tokens': ANSWER})}\n" for text in texts))
    arguments: dict[str, Any] = {
        "--backend": "openai",
        "--base-url": f"http://{HOST}:{start.port}",
        "--endpoint": "/v1/completions",
        "--model": start.model,
        "--tokenizer": tokenizer,
        "--dataset-name": "custom",
        "--dataset-path": rows,
        "--custom-output-len": ANSWER,
        "--num-prompts": len(texts),
        "--max-concurrency": users,
        "--percentile-metrics": "ttft",
        "--metric-percentiles": "50,95",
        "--temperature": 0,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    flags = ("--ignore-eos", "--disable-tqdm", "--skip-chat-template", "--disable-shuffle")
    command = [python, "-c", THEIRS, *words, *flags]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((each for each in said.stdout.splitlines() if each.startswith("RESULT ")), None)
    if line is None:
        sys.exit(said.stderr[-2000:])
    found = json.loads(line.removeprefix("RESULT "))
    return {
        "tok_s": found["output_throughput"],
        "ttft_p50_s": found["median_ttft_ms"] / 1000,
        "ttft_p95_s": found["p95_ttft_ms"] / 1000,
    }


def main() -> None:
    """Compare them at each number of users."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--requests", type=int, default=48)
    given = parser.parse_args()
    server = find_server("llama-server")
    with tempfile.TemporaryDirectory() as home:
        start = Start(
            given.artifact, free_ports(1), "bench", 512, 1, Path(home), None, max(given.users), top=1
        )
        programs = Programs("llama-server", server, start, [])
        try:
            programs.wait()
            url = f"http://{HOST}:{start.port}/v1"
            asked = {"model": "bench", "endless": dict(server.endless)}
            client = Client(url, RuntimeSettings(512, 1, asked), programs.check)
            client.info = server.describe(client.info, start, programs.api)
            texts = prompts(client)
            wrong = [each for each in given.users if compare(client, start, given, each, texts)]
        finally:
            programs.end()
    if wrong:
        sys.exit(f"over {ALLOWED:.0%} apart with {', '.join(map(str, wrong))} users")


def compare(
    client: Client, start: Start, given: argparse.Namespace, users: int, texts: Iterator[str]
) -> bool:
    """Compare them in turns with so many users; return whether they are too far apart."""
    found: list[tuple[dict[str, float], dict[str, float]]] = []

    def take() -> list[str]:
        return [next(texts) for _ in range(given.requests)]

    for number in range(given.rounds + 1):
        if number % 2:
            peer = theirs(given.vllm, start, given.tokenizer, users, take())
            mine = ours(client, users, take())
        else:
            mine = ours(client, users, take())
            peer = theirs(given.vllm, start, given.tokenizer, users, take())
        found.append((mine, peer))
    is_apart = False
    for name in found[0][0]:
        pairs = [(mine[name], peer[name]) for mine, peer in found[1:]]
        ratio = statistics.median(one / other for one, other in pairs)
        one, other = (statistics.median(each) for each in zip(*pairs, strict=True))
        is_apart |= name in HELD and abs(ratio - 1) > ALLOWED
        print(
            f"{users} users, {name}: ours {one:.3f}, vLLM's {other:.3f}, {ratio:.3f} round by round",
            flush=True,
        )
    return is_apart


if __name__ == "__main__":
    main()
