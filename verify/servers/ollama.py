"""Ollama: its server starts without a model, which is then made of the artifact's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.runtimes.llama_cpp import find_file
from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verify.runtimes._events import Server as Api

MODELFILE = """\
FROM {file}
PARAMETER num_ctx {context}
PARAMETER repeat_penalty 1.0
"""


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start the server; all else is said in its environment."""
    return [[start.program or "ollama", "serve"]]


def environment(start: Start) -> Mapping[str, str]:
    """Keep its models in the worker's folder, and this one loaded."""
    return {
        "OLLAMA_HOST": f"{HOST}:{start.port}",
        "OLLAMA_MODELS": str(start.home / "models"),
        "OLLAMA_NUM_PARALLEL": str(start.slots),
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_NOHISTORY": "1",
        "OLLAMA_NOPRUNE": "1",
    }


def load(start: Start) -> Sequence[Sequence[str]]:
    """Make a model of the file; its own Modelfile lies next to it where the artifact brings one."""
    file = find_file(start.path)
    own = file.with_name("Modelfile")
    modelfile = own if own.is_file() else start.home / "Modelfile"
    if modelfile != own:
        modelfile.write_text(MODELFILE.format(file=file, context=start.context), "utf-8")
    return [[start.program or "ollama", "create", start.model, "-f", str(modelfile)]]


def version(api: Api) -> str | None:
    """Return the version that the server says it is."""
    return str(api.get("/api/version").get("version"))


SERVER = Server(
    formats=("gguf",),
    commands=commands,
    hint="install Ollama, so that `ollama` is on PATH",
    environment=environment,
    health="/api/version",
    load=load,
    listed=lambda start: f"{start.model}:latest",
    endless={},  # its OpenAI routes have no such thing
    version=version,
)
