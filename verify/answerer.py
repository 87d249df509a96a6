"""An opened artifact as the scenarios ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verify.runtimes import Request
from verify.scenarios.asking import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.worker import Worker

# A server counts no tokens for us. No vocabulary in use makes more of them than one for every two bytes.
BYTES_PER_TOKEN = 2


class WorkerAnswerer:
    """Answers through a worker; greedily, so that the same bytes give the same words."""

    def __init__(self, worker: Worker, *, is_chat: bool) -> None:
        self._worker = worker
        self.is_chat = is_chat
        self.context_length = worker.info.context

    def count_tokens(self, text: str) -> int:
        """How many tokens a text takes."""
        if "tokenize" not in self._worker.info.can:
            return -(-len(text.encode()) // BYTES_PER_TOKEN)
        return len(self._worker.tokenize(text))

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat by the artifact's own template."""
        return self._answer(Request(messages=tuple(messages), max_tokens=max_tokens))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        return self._answer(Request(text=prompt, max_tokens=max_tokens, stop=stop))

    def _answer(self, request: Request) -> Answer:
        pieces = list(self._worker.generate(request))
        last = pieces[-1] if pieces else None
        counted = last.tokens if last and last.tokens is not None else len(pieces)
        return Answer("".join(piece.text for piece in pieces), last.end if last else None, counted)
