"""A server is asked as a file is, and what ails it becomes a reason."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from convert.child import ChildFailure, FaultKind
from tests.verify.opening import CHAT, LIMITS, opened
from verify.measure import SpeedPlan, measure_in_turns
from verify.runtimes import Request, RuntimeSettings
from verify.runtimes.llama_cpp import find_file
from verify.sample import Measured
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.verify.conftest import Made


@pytest.fixture(scope="module")
def server(chat: Made) -> Iterator[str]:
    """llama-cpp-python's own, on loopback."""
    pytest.importorskip("fastapi", reason="the server extra is not installed")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as free:
        port = free.server_port
    file = str(find_file(chat.f32))
    command = [sys.executable, "-m", "llama_cpp.server", "--model", file, "--model_alias", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "256", "--n_threads", "1"]
    command += ["--interrupt_requests", "False"]  # else a second request ends the first
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/v1/models", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def test_a_server_answers_as_the_file_itself(server: str, gguf: Worker) -> None:
    # This server punishes repetition unless asked not to.
    with opened("openai_http", server, body={"repeat_penalty": 1.0}, seats=2) as worker:
        assert worker.info.notes["model"] == "tiny"
        for request in (Request(text="The largest", max_tokens=8), Request(messages=CHAT, max_tokens=8)):
            pieces = list(worker.generate(request))
            assert "".join(piece.text for piece in pieces) == gguf.answer(request)
            assert pieces[-1].end == "length"
        assert worker.seats() == 2
        asked = (Request(text="The largest", max_tokens=8), Request(messages=CHAT, max_tokens=6))
        finished = worker.advance(list(enumerate(asked)))
        while len(finished) < 2:
            finished += worker.advance([])
        assert {one.seat: one.text for one in finished} == {
            seat: gguf.answer(request) for seat, request in enumerate(asked)
        }
        ticks = list(worker.together([Request(text=f"{n}", max_tokens=5) for n in range(3)]))
        assert {tick.index for tick in ticks} == {0, 1, 2}
        with pytest.raises(ChildFailure, match="not in token ids"):
            worker.answer(Request(ids=(1, 2)))
        with pytest.raises(ChildFailure, match="no call 'logits'"):
            list(worker.logits([1]))


def _counting(count: str) -> bytes:
    return b'data: {"usage": {"completion_tokens": ' + count.encode() + b"}}\n\n"


# What no server can have counted: more than were asked for, fewer than came, and what is no number.
FALSE_COUNTS = {
    "too many": "1000000000",
    "negative": "-3",
    "none": "0",
    "a text": '"many"',
    "a list": "[1]",
    "true": "true",
    "beyond all": "1" + "0" * 400,
    "a fraction": "1.5",
}


class Planted(http.server.BaseHTTPRequestHandler):
    """A server with moods: the path says which."""

    seen: list[str | None] = []  # noqa: RUF012  (one for all requests, on purpose)

    def do_GET(self) -> None:
        self.answer(b'{"data": [{"id": "m"}]}', "application/json")

    def do_POST(self) -> None:
        Planted.seen.append(self.headers["Authorization"])
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mood = asked["prompt"]
        text = b'data: {"choices": [{"text": "hi"}]}\r\n\r\n'
        end = b'data: {"choices": [{"finish_reason": "stop"}]}\n\n'
        if mood == "refuse":
            self.send_error(429, "too many", "slow down")
        elif mood == "elsewhere":
            self.send_response(307)
            self.send_header("Location", "http://example.org/")
            self.end_headers()
        elif mood == "silent":
            time.sleep(60)
        else:
            rest = {
                "cut": b"",
                "error": b'data: {"error": {"message": "out of memory"}}\n\n',
                "garbage": b"data: {{{\n\n",
                "interrupted": b"data: [DONE]\n\n",
                "chatty": b": ping\n\nevent: x\ndata:" + text[5:] + end + b"data: [DONE]\n\n",
                **{
                    mood: _counting(count) + end + b"data: [DONE]\n\n" for mood, count in FALSE_COUNTS.items()
                },
                "no choices": b'data: {"choices": 3}\n\n',
                "no text": b'data: {"choices": [{"text": [1]}]}\n\n',
                "counting": end + b'data: {"usage": {"completion_tokens": 12}}\n\ndata: [DONE]\n\n',
            }
            self.answer(text + rest[mood], "text/event-stream")

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def planted() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Planted) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/v1/"
        made.shutdown()


def test_a_server_s_moods_become_reasons(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER_KEY", "s3cret")
    settings = RuntimeSettings(options={"api_key_env": "MY_SERVER_KEY", "timeout_s": 30.0})
    Planted.seen.clear()
    with Worker(Launch("openai_http", planted, settings, LIMITS, ("MY_SERVER_KEY",))) as worker:
        for mood, said in {
            "refuse": "answers 429: .*too many",
            "elsewhere": "answers 307",
            "interrupted": "without saying why",
            "cut": "broke off its answer before the end",
            "error": "out of memory",
            "garbage": "not JSON: {{{",
            **dict.fromkeys(FALSE_COUNTS, "tokens|not JSON"),
            "no choices": "are not what OpenAI's are",
            "no text": "text is no text",
        }.items():
            with pytest.raises(ChildFailure, match=said) as caught:
                worker.answer(Request(text=mood))
            assert caught.value.fault.kind is FaultKind.REFUSED
            assert "s3cret" not in repr(caught.value.fault) + str(worker.stderr_tail())
        assert worker.answer(Request(text="chatty")) == "hihi"
        counting = list(worker.generate(Request(text="counting")))
        assert (counting[-1].tokens, counting[-1].end) == (12, "end")
        assert sum(tick.count for tick in worker.together([Request(text="counting")] * 2)) == 24
    assert set(Planted.seen) == {"Bearer s3cret"}


def test_a_silent_server_is_not_waited_for(planted: str) -> None:
    with opened("openai_http", planted, timeout_s=2.0) as worker:
        with pytest.raises(ChildFailure, match="silent for 2 s") as caught:
            worker.answer(Request(text="silent"))
        assert caught.value.fault.kind is FaultKind.REFUSED


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ChildFailure, match="no server answers at http://127"):
        opened("openai_http", "http://127.0.0.1:9")
    with pytest.raises(ChildFailure, match="A_KEY is not set"):
        opened("openai_http", "http://127.0.0.1:9", api_key_env="A_KEY")


@pytest.mark.slow
def test_a_server_s_speed_is_measured_like_a_file_s(server: str) -> None:
    launch = Launch("openai_http", server, RuntimeSettings(context=256), LIMITS)
    plan = SpeedPlan(prompt_tokens=20, answer_tokens=6, rounds=1, concurrency=(1, 4), concurrent_tokens=8)
    found = measure_in_turns({"server": launch}, plan)["server"]
    assert isinstance(found, Measured), found
    assert (found.speed.ttft_s.count, found.memory, found.speed.prefill_tok_s) == (2, None, None)
    assert found.speed.decode_tok_s is not None
    assert set(found.speed.throughput_tok_s) == {1, 4}
