"""Hugging Face's Text Generation Inference: its launcher, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verify.runtimes._events import Server as Api


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start the launcher, which starts router and shards."""
    arguments = {
        "--model-id": str(start.path),
        "--hostname": HOST,
        "--port": start.ports[0],
        "--master-port": start.ports[1],
        "--prometheus-port": start.ports[2],
        "--shard-uds-path": str(start.home / "shard"),
        "--max-total-tokens": start.context,
        "--max-input-tokens": start.context - 1,
        "--max-concurrent-requests": 4 * start.slots,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [[start.program or "text-generation-launcher", *words]]


def environment(_: Start) -> Mapping[str, str]:
    """Send no statistics."""
    return {"USAGE_STATS": "off"}


def version(api: Api) -> str | None:
    """Return the version that the server says it is."""
    return str(api.get("/info").get("version"))


SERVER = Server(
    formats=("hf", "gptq", "awq"),
    commands=commands,
    hint="its launcher text-generation-launcher is in its container image, or built from its source",
    environment=environment,
    port_count=3,
    listed=lambda start: str(start.path),  # it takes no other name
    endless={},  # its OpenAI routes have no such thing
    version=version,
    fills_gpu=True,
)
