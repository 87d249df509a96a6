"""An opened model as the scenarios ask it."""

from collections.abc import Mapping, Sequence

from convert.errors import Failure
from verify.runtimes import Request
from verify.scenarios.prompt import Answer, Prompt
from verify.worker import Worker

# A server counts no tokens for us. No vocabulary in use makes more than one token of every two bytes.
BYTES_PER_TOKEN = 2


class WorkerAnswerer:
    """A worker that answers greedily, so that the same files give the same answers.

    A model with a chat template is asked in chats, another gets texts to continue. A server lays out any
    chat, by another model's template if need be: it `may_chat` where the source does.
    """

    def __init__(self, worker: Worker, *, may_chat: bool = False) -> None:
        can = worker.info.can
        self._worker = worker
        self._seats: int | None = None
        self._counts = "tokenize" in can
        lays_out_any = worker.info.takes_text or not self._counts
        self.is_chat = may_chat if lays_out_any else "template" in can
        self.context_length = worker.info.context

    def count_tokens(self, text: str) -> int:
        """Count a text's tokens, or estimate them from above."""
        return len(self._worker.tokenize(text)) if self._counts else -(-len(text.encode()) // BYTES_PER_TOKEN)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        """Answer a chat by the model's own template."""
        return self._answer(Request(messages=tuple(messages), max_tokens=max_tokens, stops_loops=True))

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        """Continue a text."""
        return self._answer(Request(text=prompt, max_tokens=max_tokens, stop=stop, stops_loops=True))

    @property
    def seats(self) -> int:
        """Return how many dialogues may go on at once."""
        if self._seats is None:
            self._seats = self._worker.seats() if "advance" in self._worker.info.can else 1
        return self._seats

    def advance(self, asked: Mapping[int, Prompt]) -> Mapping[int, Answer | Failure]:
        """Go on with all seats until one has its answer."""
        done = self._worker.advance([(seat, _request(prompt)) for seat, prompt in asked.items()])
        return {
            one.seat: Failure(one.text) if one.end is None else Answer(one.text, one.end, one.tokens)
            for one in done
        }

    def _answer(self, request: Request) -> Answer:
        pieces = list(self._worker.generate(request))
        last = pieces[-1] if pieces else None
        count = last.tokens if last and last.tokens is not None else len(pieces)
        return Answer("".join(piece.text for piece in pieces), last.end if last else None, count)


def _request(prompt: Prompt) -> Request:
    if isinstance(prompt.sent, str):
        text, stop = prompt.sent, prompt.stop
        return Request(
            text=text, max_tokens=prompt.max_tokens, stop=stop, likely=prompt.likely, stops_loops=True
        )
    return Request(messages=prompt.sent, max_tokens=prompt.max_tokens, likely=prompt.likely, stops_loops=True)
