"""vLLM's OpenAI server, in the Python that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from convert.strict_json import parse_object
from verify.runtimes.openai_http import OpenAiHttp
from verify.servers import HOST, Server, Start
from verify.servers._native import Native

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Info
    from verify.runtimes._events import Server as Api

HINT = "pip install vllm in an environment, and put its vllm on PATH"


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start the module that `vllm serve` starts; that command asks for the metadata of one distribution."""
    arguments = {
        "--model": str(start.path),
        "--served-model-name": start.model,
        "--host": HOST,
        "--port": start.port,
        "--max-model-len": start.context,
        "--max-num-seqs": start.slots,
        "--max-logprobs": start.top,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [[start.python("vllm", HINT), "-m", "vllm.entrypoints.openai.api_server", *words]]


def environment(start: Start) -> Mapping[str, str]:
    """Send no statistics; on a CPU, keep a small cache and use the threads that are allowed."""
    return {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "OMP_NUM_THREADS": str(start.threads),
    }


def version(api: Api) -> str | None:
    """Return the version that the server says it is."""
    return str(api.get("/version").get("version"))


def describe(info: Info, start: Start, api: Api) -> Info:
    """Add the longest request, and from the artifact's config the sizes that the server does not say."""
    config = _config(start)
    (model,) = api.get("/v1/models")["data"]
    return replace(
        info,
        context=min(info.context, model.get("max_model_len") or info.context),
        context_length=config.get("max_position_embeddings") or config.get("n_positions"),
        vocab_size=config.get("vocab_size"),
        top_logprobs=start.top,
    )


def _config(start: Start) -> dict[str, Any]:
    path = start.path / "config.json"
    try:
        config = parse_object(path.read_bytes(), str(path), "", has_infinity=True)
    except OSError as fault:
        raise Failure(f"{path}: {fault}") from None
    inner = config.get("text_config", config)
    return inner if isinstance(inner, dict) else {}


class Client(Native, OpenAiHttp):
    """Its own endpoints besides OpenAI's."""

    CALLS = (*OpenAiHttp.CALLS, "tokenize", "detokenize", "template", "top_logprobs")
    takes_ids = True

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:  # noqa: ARG002
        """Turn text into ids; markup is always read."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": add_bos}
        return self.ids(self.native("/tokenize", body), "tokens")

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        return self.text(self.native("/detokenize", {"model": self.model, "tokens": list(ids)}), "prompt")

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out: the server gives its tokens, and their text."""
        body = {
            "model": self.model,
            "messages": list(messages),
            "add_generation_prompt": add_generation_prompt,
        }
        return self.detokenize(self.ids(self.native("/tokenize", body), "tokens"))

    def top_logprobs(self, ids: Sequence[int], first: int) -> Generator[NDArray[np.float32], None, None]:
        """Ask for the prompt's own logprobs, all in one answer."""
        body = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": self.info.top_logprobs,
        }
        try:
            found = self.native("/v1/completions", body)["choices"][0]["prompt_logprobs"]
            if len(found) != len(ids):
                raise Failure(f"vLLM gives logprobs of {len(found)} tokens, and the prompt has {len(ids)}")
            # Those at a place are what the tokens before it foretold.
            rows = [self.row(_pairs(each)) for each in found[first + 1 :]]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise Failure("vLLM: /v1/completions gives no prompt_logprobs") from None
        yield np.stack(rows)


def _pairs(given: Mapping[str, Mapping[str, Any]]) -> dict[int, float]:
    return {int(token): float(each["logprob"]) for token, each in given.items()}


SERVER = Server(
    formats=("hf", "gptq", "awq", "compressed-tensors"),
    commands=commands,
    hint=HINT,
    environment=environment,
    client=Client,
    body={"repetition_penalty": 1.0},  # a checkpoint may ask for another by default
    version=version,
    describe=describe,
    fills_gpu=True,
)
