"""llama.cpp's own server: the program `llama-server`, or the same in the package xllamacpp."""

from __future__ import annotations

import heapq
import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.runtimes.llama_cpp import find_file
from verify.runtimes.openai_http import OpenAiHttp
from verify.servers import HOST, Server, Start
from verify.servers._native import Native

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Info
    from verify.runtimes._events import Server as Api

HINT = "put llama.cpp's llama-server on PATH, or: pip install 'modelwright[serve]'"
# What the command line's options do, for the package that has none.
PACKAGED = """\
import json, sys, threading, xllamacpp
given = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = given["file"], [given["model"]]
params.hostnames, params.port = [given["host"]], given["port"]
params.n_ctx, params.n_parallel, params.kv_unified = given["context"], given["slots"], False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
params.use_jinja, params.cache_ram_mib, params.fit_params, params.ui = True, 0, False, False
server = xllamacpp.Server(params)
threading.Event().wait()
"""
ROWS = 32  # of logprobs, handed on together


def commands(start: Start) -> Sequence[Sequence[str]]:
    """Start the program if there is one, else the package's server in this Python."""
    file = str(find_file(start.path))
    program = start.program or shutil.which("llama-server")
    if program:
        arguments = {
            "--model": file,
            "--alias": start.model,
            "--host": HOST,
            "--port": start.port,
            "--ctx-size": start.context * start.slots,
            "--parallel": start.slots,
            "--threads": start.threads,
        }
        return [[program, *(str(word) for pair in arguments.items() for word in pair), "--jinja"]]
    if importlib.util.find_spec("xllamacpp") is None:
        raise Failure("there is no llama-server on PATH, and no package xllamacpp", HINT)
    given = {
        "file": file,
        "model": start.model,
        "host": HOST,
        "port": start.port,
        "context": start.context * start.slots,
        "slots": start.slots,
        "threads": start.threads,
    }
    return [[sys.executable, "-I", "-c", PACKAGED, json.dumps(given)]]


def environment(_: Start) -> Mapping[str, str]:
    """Keep no prompts of other requests in memory, and take the context as it is asked for."""
    return {"LLAMA_ARG_CACHE_RAM": "0", "LLAMA_ARG_FIT": "off", "LLAMA_ARG_KV_UNIFIED": "0"}


def version(api: Api) -> str | None:
    """Return the build that the server says it is."""
    return str(api.get("/props").get("build_info"))


def describe(info: Info, start: Start, api: Api) -> Info:
    """Add the sizes that the server lists, and the template that it lays chats out by."""
    (model,) = api.get("/v1/models")["data"]
    meta, props = model.get("meta") or {}, api.get("/props")
    slot = props.get("default_generation_settings") or {}
    return replace(
        info,
        context=min(info.context, slot.get("n_ctx") or info.context),
        context_length=meta.get("n_ctx_train"),
        vocab_size=meta.get("n_vocab"),
        chat_template=props.get("chat_template") or None,
        top_logprobs=min(start.top, meta.get("n_vocab") or start.top),
    )


class Client(Native, OpenAiHttp):
    """Its own endpoints besides OpenAI's."""

    CALLS = (*OpenAiHttp.CALLS, "tokenize", "detokenize", "template", "top_logprobs")
    takes_ids = True

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""
        body = {"content": text, "add_special": add_bos, "parse_special": special}
        return self.ids(self.native("/tokenize", body), "tokens")

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        return self.text(self.native("/detokenize", {"tokens": list(ids)}), "content")

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out, as the server does for a chat's completion."""
        body = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        return self.text(self.native("/apply-template", body), "prompt")

    def top_logprobs(self, ids: Sequence[int], first: int) -> Generator[NDArray[np.float32], None, None]:
        """Ask for one token after each prefix, the true one by a bias; logprobs are those before any bias."""
        places = range(first, len(ids) - 1)
        for at in range(0, len(places), ROWS):
            yield np.stack([self._row(ids, place) for place in places[at : at + ROWS]])

    def _row(self, ids: Sequence[int], place: int) -> NDArray[np.float32]:
        before, wanted, top = ids[: place + 1], ids[place + 1], self.info.top_logprobs or 0
        pairs = self._listed(before, wanted, top)
        if not pairs:  # of a token that is a part of a character it says nothing: it gives another, and all
            found = self._listed(before, self._letter, self.info.vocab_size or top)
            likeliest = heapq.nlargest(top, found, key=found.__getitem__)
            pairs = {each: found[each] for each in (*likeliest, wanted) if each in found}
        if wanted not in pairs:
            raise Failure("llama-server: /completion gives no logprobs")
        return self.row(pairs)

    @cached_property
    def _letter(self) -> int:
        return self.tokenize("a", special=False, add_bos=False)[-1]

    def _listed(self, before: Sequence[int], chosen: int, count: int) -> dict[int, float]:
        """Let a token be chosen, and return the logprobs of so many and of it; none where there are none."""
        body: dict[str, Any] = {
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": count,
            "temperature": 0.0,
            "logit_bias": [[chosen, BIAS]],
            "cache_prompt": True,
            "id_slot": 0,
        }
        answer = self.native("/completion", body)
        try:
            if not (listed := answer.get("completion_probabilities")):
                return {}
            (seen,) = listed
            if seen["id"] != chosen:
                raise Failure("llama-server does not choose the token that a logit bias asks for")
            return {each["id"]: each["logprob"] for each in (*seen["top_logprobs"], seen)}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise Failure("llama-server: /completion gives no logprobs") from None


BIAS = 1e6  # beyond any logit

SERVER = Server(
    formats=("gguf",),
    commands=commands,
    hint=HINT,
    environment=environment,
    client=Client,
    version=version,
    describe=describe,
)
