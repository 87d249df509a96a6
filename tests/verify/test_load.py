"""A server under load: every request has its own answer, and the figures are those of a known server."""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import UsageFailure
from tests.verify.opening import LIMITS
from verify import load
from verify.load import LoadPlan, check_profile, load_check, measure_load
from verify.runtimes import Request, RuntimeSettings
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S, TOKEN_S = 0.1, 0.01
TEXT = "the planets of the solar system and their moons " * 50


class Paced(http.server.BaseHTTPRequestHandler):
    """A server that takes exactly so long, and may mix up, lose or refuse."""

    mood = ""
    before: list[str] = []  # noqa: RUF012 - one list for all requests
    lock = threading.Lock()

    def do_GET(self) -> None:
        self.say(b'{"data": [{"id": "m"}]}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = asked["messages"][0]["content"] if "messages" in asked else asked["prompt"]
        if not asked.get("stream"):
            usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 1}
            self.say(json.dumps({"choices": [{"text": "a"}], "usage": usage}).encode())
            return
        with self.lock:
            self.before.append(prompt)
            number = len(self.before)
            mine = self.before[-3] if self.mood == "mixes" and number > 8 and number % 5 == 0 else prompt
        if self.mood == "refuses" and number % 7 == 0:
            self.send_error(503, "busy")
            return
        words = [f"{(hash(mine[:10]) >> n) % 1000:03d} " for n in range(asked["max_tokens"])]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        time.sleep(WAIT_S)
        for at, word in enumerate(words):
            name = f"{number}" if self.mood != "weaves" or at < 3 or number < 10 else "0"
            self.event({"id": name, "choices": [{"text": word}]})
            time.sleep(TOKEN_S)
        why = {"choices": [{"finish_reason": "length"}], "usage": {"completion_tokens": len(words)}}
        if self.mood != "loses" or number % 9:
            self.event(why)
            self.wfile.write(b"data: [DONE]\n\n")

    def event(self, content: Any) -> None:
        with suppress(BrokenPipeError):
            self.wfile.write(b"data: " + json.dumps(content).encode() + b"\n\n")

    def say(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setitem(load.PROFILES, "chat", replace(load.PROFILES["chat"], answer_tokens=12))
    Paced.mood, Paced.before = "", []
    monkeypatch.setattr(http.server.ThreadingHTTPServer, "request_queue_size", 128)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Paced) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{made.server_port}"
        with Worker(Launch("openai_http", url, RuntimeSettings(), LIMITS)) as opened:
            yield opened
        made.shutdown()


@pytest.mark.slow
def test_the_figures_are_those_of_the_server(worker: Worker) -> None:
    plan = LoadPlan("chat", (1, 4), rounds=2)
    one, four, opened = measure_load(worker, plan, TEXT, is_chat=False)
    assert (one.users, four.users, opened.users) == (1, 4, None)
    assert (one.requests, four.requests, opened.requests) == (2, 8, 8)
    whole_s = WAIT_S + 12 * TOKEN_S
    for each in (one, four, opened):
        assert (each.errors, each.mixed_up, each.first_error) == (0, 0, None)
        assert each.answer_tokens == 12 * each.requests
        assert each.ttft_p50_s is not None
        assert each.end_to_end_p50_s is not None
        assert each.user_tok_s is not None
        # Never better than the server is; how much worse depends on what else this machine does.
        assert WAIT_S <= each.ttft_p50_s < 5 * WAIT_S
        assert whole_s <= each.end_to_end_p50_s < 5 * whole_s
        assert 0.2 / TOKEN_S < each.user_tok_s <= 1 / TOKEN_S
    assert 0.2 * 12 / whole_s < one.throughput_tok_s <= 12 / whole_s
    assert one.throughput_tok_s < four.throughput_tok_s <= 48 / whole_s
    # Seven tenths of the requests a second that four users had answered.
    assert opened.arrivals_per_s == pytest.approx(0.7 * four.throughput_tok_s / 12)
    check = load_check((one, four, opened))
    assert check.passed
    assert "18 requests" in check.why


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mood", "said"),
    [("mixes", "that of another"), ("refuses", "503"), ("loses", "broke off"), ("weaves", "two answers")],
)
def test_an_answer_that_is_lost_or_mixed_up_is_seen(mood: str, said: str, worker: Worker) -> None:
    Paced.mood = mood
    check = load_check(measure_load(worker, LoadPlan("chat", (8,), rounds=2), TEXT, is_chat=True))
    assert not check.passed
    assert isinstance(check.measured, int)
    assert check.measured >= 1
    assert said in check.why


@pytest.mark.slow
def test_a_hundred_streams_at_once_lose_and_mix_up_nothing(worker: Worker) -> None:
    began_s, plan = time.monotonic(), LoadPlan("chat", (1, 10, 100), rounds=1)
    found = measure_load(worker, plan, TEXT, is_chat=True)
    asked = [1, 10, 100, 100]
    assert [(each.users, each.requests) for each in found] == [*zip((1, 10, 100, None), asked, strict=True)]
    assert [(each.errors, each.mixed_up, each.first_error) for each in found] == [(0, 0, None)] * 4
    assert [each.answer_tokens for each in found] == [12 * each for each in asked]
    assert time.monotonic() - began_s < 120  # one after the other they would take as long on an idle machine
    # What is refused is counted, every one of it.
    Paced.mood, before = "refuses", len(Paced.before)
    found = measure_load(worker, replace(plan, concurrency=(20,)), TEXT, is_chat=True)
    assert sum(each.errors for each in found) == len(Paced.before) // 7 - before // 7


def test_times_of_a_request_that_has_to_wait_count_from_when_it_was_due(worker: Worker) -> None:
    request = Request(text="now", max_tokens=3)
    outcomes = sorted(worker.load([request] * 3, None, [0.0, 0.3, 0.3]), key=lambda each: each.index)
    assert [each.due_s for each in outcomes] == [0.0, 0.3, 0.3]
    assert outcomes[0].end_s < 0.3 + WAIT_S
    assert all(each.first_s is not None and each.first_s >= 0.3 + WAIT_S for each in outcomes[1:])


def test_profiles_are_named() -> None:
    with pytest.raises(UsageFailure, match="no load profile called 'x'"):
        check_profile("x")
    assert {"chat", "retrieval", "lesson"} == set(load.PROFILES)
