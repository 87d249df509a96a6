"""LMDeploy's api_server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Sequence


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start its command."""
    arguments = {
        "--server-name": HOST,
        "--server-port": start.port,
        "--model-name": start.model,
        "--session-len": start.context,
        "--max-batch-size": start.slots,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [[start.program or "lmdeploy", "serve", "api_server", str(start.path), *words]]


SERVER = Server(
    formats=("hf", "gptq", "awq"),
    commands=commands,
    hint="pip install lmdeploy in an environment, and put its lmdeploy on PATH",
    fills_gpu=True,
)
