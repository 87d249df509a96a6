"""Ray Serve's LLM application, which has vLLM inside: the one that `serve run` starts from a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HINT = "pip install 'ray[serve,llm]' in an environment, and put its serve on PATH"


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Write the application's file, and run it in a cluster of this machine alone; YAML reads JSON."""
    engine = {"max_model_len": start.context, "max_num_seqs": start.slots, "max_logprobs": start.top}
    model = {
        "model_loading_config": {"model_id": start.model, "model_source": str(start.path)},
        "deployment_config": {"num_replicas": 1},
        "engine_kwargs": engine,
    }
    application = {
        "name": "llm",
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [model]},
    }
    config = {"http_options": {"host": HOST, "port": start.port}, "applications": [application]}
    file = start.home / "serve.yaml"
    file.write_text(json.dumps(config, indent=1), "utf-8")
    return [[start.program or "serve", "run", str(file)]]


def environment(_: Start) -> Mapping[str, str]:
    """Send no statistics, and join no cluster that runs already."""
    return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local", "VLLM_NO_USAGE_STATS": "1"}


SERVER = Server(
    formats=("hf", "gptq", "awq", "compressed-tensors"),
    commands=commands,
    hint=HINT,
    environment=environment,
    health="/v1/models",
    body={"repetition_penalty": 1.0},  # a checkpoint may ask for another by default
    fills_gpu=True,
)
