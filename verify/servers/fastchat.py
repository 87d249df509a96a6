"""FastChat: a controller, a worker with the model, and the server that speaks OpenAI's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HINT = "pip install 'fschat[model_worker]' in an environment, and name its Python"


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start all three; the server lists the model once the worker has registered it."""
    python = start.python("fastchat", HINT)
    port, controller, worker = start.ports
    addresses = ["--controller-address", f"http://{HOST}:{controller}"]
    return [
        [python, "-m", "fastchat.serve.openai_api_server", "--host", HOST, "--port", str(port), *addresses],
        [python, "-m", "fastchat.serve.controller", "--host", HOST, "--port", str(controller)],
        [
            *(python, "-m", "fastchat.serve.model_worker", "--host", HOST, "--port", str(worker)),
            *("--worker-address", f"http://{HOST}:{worker}", *addresses),
            *("--model-path", str(start.path), "--model-names", start.model),
            *("--limit-worker-concurrency", str(start.slots)),
        ],
    ]


def environment(start: Start) -> Mapping[str, str]:
    """Write its logs to the worker's folder."""
    return {"LOGDIR": str(start.home)}


SERVER = Server(
    formats=("hf", "gptq", "awq"),
    commands=commands,
    hint=HINT,
    environment=environment,
    port_count=3,
    health="/v1/models",
    endless={},  # it has no such thing
)
