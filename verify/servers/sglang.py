"""SGLang's server, in the Python that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from convert.errors import Failure
from verify.runtimes.openai_http import OpenAiHttp
from verify.servers import HOST, Server, Start
from verify.servers._native import Native

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Info
    from verify.runtimes._events import Server as Api

HINT = "pip install sglang in an environment, and name its Python"


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start its module."""
    arguments = {
        "--model-path": str(start.path),
        "--served-model-name": start.model,
        "--host": HOST,
        "--port": start.port,
        "--context-length": start.context,
        "--max-running-requests": start.slots,
    }
    words = [str(word) for pair in arguments.items() for word in pair]
    return [[start.python("sglang", HINT), "-m", "sglang.launch_server", *words]]


def version(api: Api) -> str | None:
    """Return the version that the server says it is."""
    return str(api.get("/get_server_info").get("version"))


def describe(info: Info, start: Start, api: Api) -> Info:
    """Add the sizes that the server says of the model."""
    said = api.get("/get_model_info")
    size = said.get("vocab_size") if isinstance(said, dict) else None
    if not isinstance(size, int):  # older versions do not say it, and a row has that size
        return replace(info, can=tuple(call for call in info.can if call != "top_logprobs"))
    return replace(info, vocab_size=size, top_logprobs=min(start.top, size))


class Client(Native, OpenAiHttp):
    """Its /generate besides OpenAI's."""

    CALLS = (*OpenAiHttp.CALLS, "top_logprobs")
    takes_ids = True

    def top_logprobs(self, ids: Sequence[int], first: int) -> Generator[NDArray[np.float32], None, None]:
        """Ask for the prompt's own logprobs from a place on: [logprob, id, text] each."""
        body = {
            "input_ids": list(ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
            "return_logprob": True,
            "logprob_start_len": first,
            "top_logprobs_num": self.info.top_logprobs,
        }
        count = len(ids) - 1 - first
        try:
            about = self.native("/generate", body)["meta_info"]
            # The first of the places asked for has none before it.
            tops, own = about["input_top_logprobs"][-count:], about["input_token_logprobs"][-count:]
            if [each[1] for each in own] != list(ids[first + 1 :]):
                raise Failure("SGLang gives logprobs of other tokens than the prompt's")
            rows = [
                self.row({token: logprob for logprob, token, *_ in (*top, true)})
                for top, true in zip(tops, own, strict=True)
            ]
        except (KeyError, IndexError, TypeError, ValueError):
            raise Failure("SGLang: /generate gives no logprobs of the prompt") from None
        yield np.stack(rows)


SERVER = Server(
    formats=("hf", "gptq", "awq", "compressed-tensors"),
    commands=commands,
    hint=HINT,
    health="/health_generate",  # /health answers before the first request can
    client=Client,
    body={"repetition_penalty": 1.0},  # a checkpoint may ask for another by default
    version=version,
    describe=describe,
    fills_gpu=True,
)
