"""Our client and vLLM's own benchmark against one server, in turns: both should find the same.

python -m tests.bench.clients ARTIFACT TOKENIZER --vllm PYTHON

ARTIFACT is a folder with a GGUF, which llama.cpp's server opens; TOKENIZER is the model's folder with a
tokenizer.json; PYTHON is an interpreter that has vLLM, whose `bench serve` is the peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.measure import prompt
from verify.runtimes import RuntimeSettings
from verify.runtimes.served import Programs, free_ports
from verify.servers import HOST, Start, find_server
from verify.servers.llama_server import Client

if TYPE_CHECKING:
    from verify.runtimes.openai_http import OpenAiHttp

PROMPT, ANSWER = 120, 64
THEIRS = """\
import argparse, json, sys
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
found = main(parser.parse_args())
print("\\nRESULT", json.dumps({key: value for key, value in found.items() if isinstance(value, float | int)}))
"""


def ours(client: OpenAiHttp, users: int, requests: int, seed: str) -> dict[str, float]:
    """Measure with our client."""
    asked = [prompt(client.info, PROMPT, ANSWER, f"{seed} {at}") for at in range(requests)]
    outcomes = list(client.load(asked, users, ()))
    assert all(each.fault is None for each in outcomes), outcomes
    waits = [(each.first_s or 0.0) - each.due_s for each in outcomes]
    tokens = sum(each.tokens for each in outcomes)
    return {
        "tok_s": tokens / max(each.end_s for each in outcomes),
        "ttft_p50_s": float(np.percentile(waits, 50)),
        "ttft_p95_s": float(np.percentile(waits, 95)),
    }


def theirs(
    python: str, start: Start, tokenizer: Path, *, users: int, requests: int, seed: int
) -> dict[str, float]:
    """Measure with vLLM's."""
    arguments: dict[str, Any] = {
        "--backend": "openai",
        "--base-url": f"http://{HOST}:{start.port}",
        "--endpoint": "/v1/completions",
        "--model": start.model,
        "--tokenizer": tokenizer,
        "--dataset-name": "random",
        "--random-input-len": PROMPT,
        "--random-output-len": ANSWER,
        "--num-prompts": requests,
        "--max-concurrency": users,
        "--percentile-metrics": "ttft",
        "--metric-percentiles": "50,95",
        "--seed": seed,
        "--temperature": 0,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    command = [python, "-c", THEIRS, *words, "--ignore-eos", "--disable-tqdm"]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--requests", type=int, default=24)
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
            for users in given.users:
                mine, peer = [], []
                for number in range(given.rounds):
                    mine.append(ours(client, users, given.requests, f"{users} {number}"))
                    peer.append(
                        theirs(
                            given.vllm,
                            start,
                            given.tokenizer,
                            users=users,
                            requests=given.requests,
                            seed=number,
                        )
                    )
                for name in mine[0]:
                    one, other = (statistics.median(each[name] for each in found) for found in (mine, peer))
                    print(f"{users} users, {name}: ours {one:.3f}, vLLM's {other:.3f}, {one / other:.3f}")
        finally:
            programs.end()


if __name__ == "__main__":
    main()
