"""Any server with OpenAI's completions and chats: vLLM, TGI, SGLang, llama-server, Ollama and others.

Text goes to /completions, a chat to /chat/completions, where the server's own template lays it out. Nothing
is tried twice: this measures. Options: ``model`` (else the server's first), ``api_key_env`` (the environment
variable that holds the key), ``timeout_s`` (of silence), ``body`` (sent with every request: some servers
punish repetition unless asked not to, llama_cpp.server by ``{"repeat_penalty": 1.0}``), ``endless`` (sent
those that are to run to their last token, such as ``{"ignore_eos": true}``), ``seats`` (dialogues that are
asked at once; llama_cpp.server, for one, drops a request when the next one comes).
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from convert.errors import Failure
from verify.runtimes import Finished, Info, Outcome, Piece, Request, RuntimeSettings, Tick
from verify.runtimes._events import Server
from verify.runtimes._load import run_load
from verify.runtimes._options import read_options

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

FORMATS = ()  # a server shows no files
SCHEMES = ("http", "https")
OPTIONS: dict[str, Any] = {
    "model": None,
    "api_key_env": None,
    "timeout_s": 300.0,
    "body": {},
    "endless": {},
    "seats": 1,
}
ENDS = {"stop": "end", "length": "length"}
FORCING_BIAS = 100  # the most that OpenAI's API allows


# Some servers send the bytes of a letter one by one.
MOST_PIECES_PER_TOKEN = 8


def _choices(event: dict[str, Any], where: str) -> Iterator[tuple[str, str | None]]:
    """Read an event's pieces of text, and why the answer ended; anything else is no such event."""
    choices = event.get("choices") or ()
    for choice in choices if isinstance(choices, list | tuple) else (None,):
        delta = choice.get("delta") or {} if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            raise Failure(f"{where}: an event's choices are not what OpenAI's are")
        text, why = choice.get("text") or delta.get("content") or "", choice.get("finish_reason")
        if not isinstance(text, str) or not isinstance(why, str | None):
            raise Failure(f"{where}: an event's text is no text")
        yield text, why


def _believed(tokens: object, seen: int, most: int, where: str) -> int | None:
    """Return a server's count of tokens if it can be true: a piece is a token or more."""
    if tokens is None:
        return None
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise Failure(f"{where}: completion_tokens is no whole number")
    if not seen <= tokens <= most:
        raise Failure(
            f"{where}: it counts {str(tokens)[:40]} tokens; {seen} pieces came, and {most} were asked for"
        )
    return tokens


def suits(_: Path) -> bool:
    """Return False: a server is named by its address, and no folder is one."""
    return False


def preload() -> dict[str, str]:
    """Return no versions: there are no natives."""
    return {}


def open_runtime(path: str, settings: RuntimeSettings) -> OpenAiHttp:
    """Find the server and its model."""
    return OpenAiHttp(path, settings)


class OpenAiHttp:
    """One of a server's models, asked over a new connection for each request."""

    CALLS: ClassVar[tuple[str, ...]] = ("generate", "together", "advance", "count", "force", "load")
    takes_ids: ClassVar[bool] = False  # as a prompt

    def __init__(self, url: str, settings: RuntimeSettings, check: Callable[[], None] = lambda: None) -> None:
        options = read_options("openai_http", settings, OPTIONS)
        base = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
        key_name = options["api_key_env"]
        key = os.environ.get(key_name) if key_name else None
        if key_name and not key:
            raise Failure(f"{key_name} is not set", "it should hold the server's key")
        self._server = Server(base, options["timeout_s"], key, check)
        self._body: dict[str, Any] = options["body"]
        self._endless: dict[str, Any] = options["endless"]
        self._seats: int = options["seats"]
        self._came: queue.Queue[Finished] = queue.Queue()
        self._asked: set[int] = set()  # seats without an answer so far
        self.model = options["model"] or self._first_model()
        notes = {"model": self.model}
        self.info = Info("openai_http", self.CALLS, settings.context, notes=notes, takes_text=True)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Ask, and yield each event's text as it comes."""
        connection = self._server.connect()
        try:
            yield from self._pieces(connection, request, time.perf_counter())
        finally:
            connection.close()

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Ask several at once, each over its own connection; the clock starts when all are connected."""
        connections = [self._server.connect() for _ in requests]
        sockets = [connection.sock for connection in connections]
        came: queue.Queue[Tick | Failure | None] = queue.Queue()
        start = time.perf_counter()

        def follow(index: int, request: Request) -> None:
            seen = 0
            try:
                for piece in self._pieces(connections[index], request, start):
                    count = (piece.tokens or seen) - seen if piece.end else 1
                    seen += count
                    if count:
                        came.put(Tick(index, piece.t_s, count))
                came.put(None)
            except Failure as failure:
                came.put(failure)
            except Exception as error:  # noqa: BLE001  (a thread's error must reach the one who waits for it)
                came.put(Failure(f"{type(error).__name__}: {error}"))

        threads = [threading.Thread(target=follow, args=pair, daemon=True) for pair in enumerate(requests)]
        for thread in threads:
            thread.start()
        try:
            open_count = len(threads)
            while open_count:
                event = came.get()
                if isinstance(event, Failure):
                    raise event
                if event is None:
                    open_count -= 1
                else:
                    yield event
        finally:
            for one in sockets:  # also those that a thread still reads from
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def seats(self) -> int:
        """Return how many dialogues are asked at once."""
        return self._seats

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Ask what is added, each over its own connection, and wait until a seat has its answer."""
        for seat, request in added:
            self._asked.add(seat)
            threading.Thread(target=self._answer, args=(seat, request), daemon=True).start()
        if not self._asked:
            return []
        finished = [self._came.get()]
        with suppress(queue.Empty):
            while True:
                finished.append(self._came.get_nowait())
        self._asked -= {each.seat for each in finished}
        return finished

    def _answer(self, seat: int, request: Request) -> None:
        """Ask for one answer; why there is none is handed on in its place."""
        try:
            pieces = list(self.generate(request))
        except Failure as failure:
            self._came.put(Finished(seat, failure.message, None))
        except Exception as error:  # noqa: BLE001  (a thread's error must reach the one who waits for it)
            self._came.put(Finished(seat, f"{type(error).__name__}: {error}", None))
        else:
            tokens = pieces[-1].tokens or len(pieces) - 1
            text = "".join(piece.text for piece in pieces)
            self._came.put(Finished(seat, text, pieces[-1].end, tokens))

    def load(
        self, requests: Sequence[Request], users: int | None, due_s: Sequence[float]
    ) -> Generator[Outcome, None, None]:
        """Ask many requests, each over its own connection."""

        def ask(request: Request, start: float) -> Generator[Piece, None, None]:
            with closing(self._server.connect()) as connection:
                yield from self._pieces(connection, request, start)

        yield from run_load(ask, requests, users, due_s)

    def count(self, request: Request) -> int | None:
        """Ask for one token, and read how many tokens the prompt had."""
        usage = self._whole(replace(request, max_tokens=1)).get("usage")
        found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def force(self, token: int) -> tuple[str, str]:
        """Ask for three tokens, of which this one is by far the likeliest."""
        request = Request(text="a", max_tokens=3)
        answer = self._whole(request, {"logit_bias": {str(token): FORCING_BIAS}})
        ((text, why),) = _choices(answer, f"{self._server.base}/completions")
        return text, ENDS.get(why or "", why or "")

    def _whole(self, request: Request, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask for an answer in one piece."""
        path, body = self._addressed(request)
        del body["stream"], body["stream_options"]
        answer = self._server.post(path, {**body, **(more or {})})
        if not isinstance(answer, dict):
            raise Failure(f"{self._server.base}{path}: the answer is not an object")
        return answer

    def _pieces(
        self, connection: http.client.HTTPConnection, request: Request, start: float
    ) -> Generator[Piece, None, None]:
        path, body = self._addressed(request)
        end, tokens, seen, own = None, None, 0, None
        for event in self._server.stream(connection, path, body):
            own = own or event.get("id")
            if own and event.get("id", own) != own:
                raise Failure(f"{self._server.base}{path}: events of two answers came in one")
            if isinstance(usage := event.get("usage"), dict):
                tokens = usage.get("completion_tokens", tokens)
            for text, why in _choices(event, f"{self._server.base}{path}"):
                end = why or end
                if text:
                    seen += 1
                    if seen > MOST_PIECES_PER_TOKEN * request.max_tokens:
                        raise Failure(f"{self._server.base}{path}: the answer does not end where it should")
                    yield Piece(None, text, time.perf_counter() - start)
        if end is None:  # llama_cpp.server does this to a request when the next one comes
            raise Failure(f"{self._server.base}{path}: the server ended an answer without saying why")
        tokens = _believed(tokens, seen, request.max_tokens, f"{self._server.base}{path}")
        yield Piece(None, "", time.perf_counter() - start, ENDS.get(end, end), tokens)

    def _addressed(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the path that a request goes to, and its body."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.ignores_end:
            body |= self._endless
        body |= self._body
        if request.messages is not None:
            return "/chat/completions", body | {"messages": [dict(one) for one in request.messages]}
        if request.text is None and not self.takes_ids:
            raise Failure("a server is asked in text, not in token ids")
        given = list(request.ids or ()) if request.text is None else request.text
        return "/completions", body | {"prompt": given}

    def _first_model(self) -> str:
        listing = self._server.get("/models")
        try:
            return str(listing["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise Failure(
                f"{self._server.base}/models: names no model", "name one in options.model"
            ) from None
