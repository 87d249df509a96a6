"""A program that stands in for every server that this machine does not have: it speaks OpenAI's protocol.

It is called as the real one would be, and finds port and name by the option or variable that the real one
has for them. Its model has a token for each byte, and foretells the next from the last by a fixed table.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOCAB = 256
END = 0
# The options of the real programs that hold the port and the model's name.
PORT = ("--port", "--server-port")
NAME = ("--served-model-name", "--alias", "--model-name", "--model_alias", "--model-uid", "--model-names")


def table() -> NDArray[np.float64]:
    """Return the logprobs of the next token after each."""
    logits = np.random.default_rng(7).normal(0, 2, (VOCAB, VOCAB))
    made: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return made


def option(names: tuple[str, ...], default: str = "") -> str:
    """Return the value after one of the names."""
    words = sys.argv
    return next((words[at + 1] for at, word in enumerate(words[:-1]) if word in names), default)


def chat(messages: list[dict[str, str]]) -> str:
    """Lay a chat out."""
    return "".join(f"<{each['role']}>{each['content']}\n" for each in messages) + "<assistant>"


class Handler(BaseHTTPRequestHandler):
    """All that the servers' clients ask."""

    protocol_version = "HTTP/1.1"
    models: list[str] = []  # noqa: RUF012 - one list for all requests
    table = table()

    def do_GET(self) -> None:
        path = self.path
        if path == "/v1/models":
            listed = Path(os.environ.get("STAND_IN_LISTED", "/nonexistent"))
            more = listed.read_text().split() if listed.exists() else []
            self.say({"data": [{"id": name, "max_model_len": 512} for name in (*self.models, *more)]})
        elif path == "/get_model_info":
            self.say({"vocab_size": VOCAB})
        else:  # health, versions
            self.say({"version": "stand-in 1", "status": "ok"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            text = chat(asked["messages"]) if "messages" in asked else asked["prompt"]
            self.say({"tokens": list(text.encode())})
        elif self.path == "/detokenize":
            self.say({"prompt": bytes(asked["tokens"]).decode()})
        elif self.path == "/generate":
            self.say(self.generate(asked))
        else:
            self.complete(asked)

    def generate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer as SGLang does."""
        ids, first, top = asked["input_ids"], asked["logprob_start_len"], asked["top_logprobs_num"]
        rows = [self.table[each] for each in ids[first:-1]]
        own = [[float(row[token]), token, None] for row, token in zip(rows, ids[first + 1 :], strict=True)]
        best = [[[float(row[each]), int(each), None] for each in np.argsort(-row)[:top]] for row in rows]
        lead: list[Any] = [[None, ids[first], None]]
        return {"meta_info": {"input_token_logprobs": lead + own, "input_top_logprobs": [None, *best]}}

    def complete(self, asked: dict[str, Any]) -> None:
        """Continue a text or a chat."""
        is_chat = "messages" in asked
        given = chat(asked["messages"]) if is_chat else asked["prompt"]
        prompt: list[int] = list(given.encode() if isinstance(given, str) else given)
        if prompt[-1:] == [ord("!")] and "STAND_IN_DIES" in os.environ:
            # To this very thread: a signal to the process may go to another, and this one answers meanwhile.
            signal.raise_signal(signal.SIGSEGV)
        bias = {int(token): value for token, value in (asked.get("logit_bias") or {}).items()}
        ids, last, why = [], prompt[-1], "length"
        for _ in range(asked["max_tokens"]):
            row = self.table[last].copy()
            row[128:] = -99  # no letters in parts
            row[END] = -99
            for token, value in bias.items():
                row[token] += value
            last = int(row.argmax())
            if last == END:
                why = "stop"
                break
            ids.append(last)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": max(1, len(ids))}
        key = "delta" if is_chat else "text"

        def event(text: str, why: str | None) -> dict[str, Any]:
            return {"choices": [{key: {"content": text} if is_chat else text, "finish_reason": why}]}

        if not asked.get("stream"):
            answer = event(bytes(ids).decode(), why)
            if "prompt_logprobs" in asked:
                answer["choices"][0]["prompt_logprobs"] = self.foretold(prompt, asked["prompt_logprobs"])
            self.say({**answer, "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for each in ids:
            self.wfile.write(b"data: %s\n\n" % json.dumps(event(chr(each), None)).encode())
        for rest in (event("", why), {"choices": [], "usage": usage}):
            self.wfile.write(b"data: %s\n\n" % json.dumps(rest).encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def foretold(self, ids: list[int], top: int) -> list[dict[str, Any] | None]:
        """Answer as vLLM does."""
        found: list[dict[str, Any] | None] = [None]
        for before, token in pairwise(ids):
            row = self.table[before]
            best = {*map(int, np.argsort(-row)[:top]), token}
            found.append({str(each): {"logprob": float(row[each]), "rank": 1} for each in best})
        return found

    def say(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main() -> None:
    """Do as the program that this is called as."""
    program, words = Path(sys.argv[0]).name, sys.argv[1:]
    with Path(os.environ["STAND_IN_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps([program, *words]) + "\n")
    listed = Path(os.environ["STAND_IN_LISTED"])
    if words[:1] == ["create"]:
        listed.write_text(f"{words[1]}:latest", "utf-8")
        return
    if words[:1] in (["register"], ["launch"]):
        listed.write_text(option(NAME), "utf-8")
        return
    if "fastchat.serve.model_worker" in words:
        listed.write_text(option(NAME), "utf-8")
    port = option(PORT)
    if words[:1] == ["run"]:  # Ray Serve's file
        config = json.loads(Path(words[1]).read_text("utf-8"))
        port = config["http_options"]["port"]
        (model,) = config["applications"][0]["args"]["llm_configs"]
        Handler.models = [model["model_loading_config"]["model_id"]]
    elif program == "ollama":
        port = os.environ["OLLAMA_HOST"].partition(":")[2]
    elif program == "text-generation-launcher":
        Handler.models = [option(("--model-id",))]
    elif option(NAME):
        Handler.models = [option(NAME)]
    if "STAND_IN_STRAYS" in os.environ:  # as servers that leave their group do
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    if "STAND_IN_EXITS" in os.environ:
        print("no such architecture", file=sys.stderr, flush=True)
        sys.exit(3)
    time.sleep(0.05)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
