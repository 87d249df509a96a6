"""An ONNX graph with several texts in its rows answers each as onnxruntime-genai does alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests import tiny
from tests.onnx import genai
from tests.onnx.test_onnx_logits import VARIANTS
from verify.runtimes import Request, RuntimeSettings, onnxruntime_genai
from verify.runtimes._seats import MOST_SEATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from verify.runtimes._seats import Entry

# A text that passes 64 tokens turns the heads of all others as well: onnxruntime-genai's engine answers.
REFUSED = {"phi3-long"}
SLOW = ("gpt2", "mistral-window", "gemma3_text", "gpt_oss", "deepseek_v2", "mixtral", "gemma2")
LENGTHS = (3, 40, 9, 1, 25, 17)


class Numbers:
    """A vocabulary of numbers."""

    def __init__(self, *_: Any) -> None:
        self.bos_id = self.eos_id = self.chat_template = None
        self.ends: tuple[int, ...] = ()
        self.adds_bos = False

    def encode(self, text: str, **_: bool) -> list[int]:
        return [*map(int, text.split())]

    def stream(self) -> Any:
        return lambda token: f" {token}".encode()


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, context: int = 120) -> Any:
    monkeypatch.setattr(onnxruntime_genai, "GenaiVocabulary", Numbers)
    return onnxruntime_genai.open_runtime(str(folder), RuntimeSettings(context, threads=1))


def asked(number: int) -> Request:
    ids = tuple((7 * number + 3 * at * at) % 97 for at in range(LENGTHS[number]))
    return Request(ids=ids, max_tokens=4 + 5 * number, ignores_end=True)


def alone(runtime: Any, request: Request) -> str:
    return "".join(piece.text for piece in runtime.generate(request))


def together(runtime: Any, added: Sequence[tuple[int, Request]]) -> dict[int, str]:
    found: dict[int, str] = {}
    done = runtime.advance(added)
    while len(found) < len(added):
        found |= {one.seat: one.text for one in done}
        done = runtime.advance([]) if len(found) < len(added) else []
    return found


@pytest.mark.parametrize(
    "name", ["qwen2", "phi3-long", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_rows_answer_as_each_text_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.make(tmp_path / "model", VARIANTS[name])
    runtime = opened(genai.convert_folder(folder, tmp_path / "out", precision="fp32"), monkeypatch)
    requests = {14 - 2 * number: asked(number) for number in range(len(LENGTHS))}
    wanted = {seat: alone(runtime, each) for seat, each in requests.items()}
    # The last answer is foreseen, but for a word.
    words = wanted[4].split()
    requests[4] = replace(requests[4], likely=" ".join([*words[:20], "1", *words[21:]]))
    assert runtime.seats() == MOST_SEATS
    assert (runtime._seat_rows is None) == (name in REFUSED)
    steps: list[int] = []
    step = runtime.step_seats

    def counted(entries: Sequence[Entry]) -> Any:
        steps.append(len(entries[0].tokens))
        return step(entries)

    monkeypatch.setattr(runtime, "step_seats", counted)
    # The answers end one after the other, and those that are left move into the first rows.
    found = together(runtime, list(requests.items()))
    assert found == wanted
    assert name in REFUSED or max(steps) > 1
    assert len(steps) < len(words)
    # Another turn, of a seat whose row was taken meanwhile and of one that goes on.
    later = {
        seat: replace(
            requests[seat], ids=(*(requests[seat].ids or ()), *map(int, found[seat].split()), 5), likely=""
        )
        for seat in (14, 4)
    }
    again = together(runtime, list(later.items()))
    assert again == {seat: alone(runtime, each) for seat, each in later.items()}
