"""An opened model as the scenarios ask it."""

from collections.abc import Sequence

from verify.runtimes import Request
from verify.scenarios.prompt import Answer
from verify.worker import Worker

# A server counts no tokens for us. No vocabulary in use makes more than one token of every two bytes.
BYTES_PER_TOKEN = 2


class WorkerAnswerer:
    """A worker that answers greedily, so that the same files give the same answers.

    A model with a chat template is asked in chats, another gets texts to continue. A server does not show its
    template: it `may_chat` where the source does.
    """

    def __init__(self, worker: Worker, *, may_chat: bool = False) -> None:
        can = worker.info.can
        self._worker = worker
        self._counts = "tokenize" in can
        self.is_chat = "template" in can or (may_chat and not self._counts)
        self.context_length = worker.info.context

    def count_tokens(self, text: str) -> int:
        """Count a text's tokens, or estimate them from above."""
        return len(self._worker.tokenize(text)) if self._counts else -(-len(text.encode()) // BYTES_PER_TOKEN)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat by the model's own template."""
        return self._answer(Request(messages=tuple(messages), max_tokens=max_tokens))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        return self._answer(Request(text=prompt, max_tokens=max_tokens, stop=stop))

    def _answer(self, request: Request) -> Answer:
        pieces = list(self._worker.generate(request))
        last = pieces[-1] if pieces else None
        count = last.tokens if last and last.tokens is not None else len(pieces)
        return Answer("".join(piece.text for piece in pieces), last.end if last else None, count)
