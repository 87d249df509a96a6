"""llama-cpp-python's server; the extra `server` of that package brings it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.runtimes.llama_cpp import find_file
from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Sequence

HINT = "pip install 'llama-cpp-python[server]'"


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start its module; requests wait for each other, where by default a second one ends the first."""
    arguments = {
        "--model": str(find_file(start.path)),
        "--model_alias": start.model,
        "--host": HOST,
        "--port": start.port,
        "--n_ctx": start.context,
        "--n_threads": start.threads,
        "--n_threads_batch": start.threads,
        "--interrupt_requests": "False",
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [[start.python("llama_cpp", HINT), "-m", "llama_cpp.server", *words]]


SERVER = Server(
    formats=("gguf",),
    commands=commands,
    hint=HINT,
    health="/v1/models",
    is_parallel=False,
    body={"repeat_penalty": 1.0},  # it punishes repetition unless asked not to
    endless={},  # it has no such thing
)
