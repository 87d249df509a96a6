"""Xinference: its server starts without a model; the artifact is described to it in a file, and launched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.runtimes._tokenizer import find_chat_template, ids_of, read_object
from verify.runtimes.llama_cpp import find_file
from verify.servers import HOST, Server, Start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Of a config's quant_method: Xinference's word for the format, and for the quantization.
BY_METHOD = {"gptq": "gptq", "awq": "awq"}
NONE = {"model_format": "pytorch", "quantization": "none"}


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start a server for this machine alone."""
    program = start.program or "xinference-local"
    return [
        [program, "--host", HOST, "--port", str(start.port), "--metrics-exporter-port", str(start.ports[1])]
    ]


def environment(start: Start) -> Mapping[str, str]:
    """Keep all that it writes in the worker's folder."""
    return {"XINFERENCE_HOME": str(start.home / "xinference")}


def load(start: Start) -> Sequence[Sequence[str]]:
    """Describe the model, and launch it by the engine that opens such files."""
    is_gguf = start.path.suffix == ".gguf" or any(start.path.glob("*.gguf"))
    spec = _gguf(start) if is_gguf else _folder(start)
    described = _described(start, spec)
    file = start.home / "model.json"
    file.write_text(json.dumps(described, ensure_ascii=False), "utf-8")
    program = Path(start.program).with_name("xinference") if start.program else "xinference"
    endpoint = ["--endpoint", f"http://{HOST}:{start.port}"]
    engine = "llama.cpp" if is_gguf else "vLLM"
    return [
        [str(program), "register", "--model-type", "LLM", "--file", str(file), *endpoint],
        [
            *(str(program), "launch", "--model-name", start.model, "--model-uid", start.model),
            *("--model-engine", engine, "--model-format", spec["model_format"]),
            *("--size-in-billions", str(spec["model_size_in_billions"])),
            *("--quantization", spec["quantization"], "--model-path", spec["model_uri"], *endpoint),
        ],
    ]


def _described(start: Start, spec: Mapping[str, Any]) -> dict[str, Any]:
    folder = start.path if start.path.is_dir() else start.path.parent
    template = find_chat_template(folder, read_object(folder / "tokenizer_config.json"))
    described: dict[str, Any] = {
        "version": 2,
        "model_name": start.model,
        "model_family": start.model,
        "model_description": "an artifact that is verified",
        "context_length": start.context,
        "model_lang": ["en", "zh"],
        "model_ability": ["chat"] if template else ["generate"],
        "model_specs": [spec],
    }
    if template:
        ends = ids_of(read_object(folder / "generation_config.json").get("eos_token_id"))
        described |= {"chat_template": template, "stop_token_ids": ends, "stop": []}
    return described


def _folder(start: Start) -> dict[str, Any]:
    found = read_object(start.path / "config.json").get("quantization_config")
    method = found.get("quant_method") if isinstance(found, dict) else None
    if method is not None and method not in BY_METHOD:
        raise Failure(f"xinference has no word for the quantization {method!r}", "use --serve vllm")
    bits = found.get("bits", 4) if isinstance(found, dict) else None
    kind = {"model_format": BY_METHOD[method], "quantization": f"Int{bits}"} if method else NONE
    return {**kind, "model_size_in_billions": 1, "model_hub": "huggingface", "model_uri": str(start.path)}


def _gguf(start: Start) -> dict[str, Any]:
    file = find_file(start.path)
    return {
        "model_format": "ggufv2",
        "quantization": "default",
        "model_size_in_billions": 1,
        "model_hub": "huggingface",
        "model_file_name_template": file.name,
        "model_uri": str(file),
    }


SERVER = Server(
    formats=("gguf", "hf", "gptq", "awq"),
    is_parallel=False,
    commands=commands,
    hint="pip install xinference with an engine in an environment, and put its commands on PATH",
    environment=environment,
    port_count=2,
    health="/v1/cluster/auth",
    load=load,
    endless={},  # what its engines are asked differs
)
