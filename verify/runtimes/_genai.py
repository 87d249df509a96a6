"""The parts of onnxruntime-genai that its runtime uses: the folder, the tokenizer, the engine."""

import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import Failure
from convert.strict_json import parse_object
from verify.decoding import AnswerStream
from verify.runtimes import Finished, Request, Tick
from verify.runtimes._local import check_ids, one_line
from verify.runtimes._tokenizer import find_chat_template, ids_of, named_tokens, read_object

CONFIG = "genai_config.json"
# What would be loaded as code: custom_ops_library, a provider's library_path or backend_path.
CODE_KEY = re.compile(r"library|backend_path", re.IGNORECASE)
CODE_FILE = re.compile(r"\.(so|dll|dylib|pyd)(\.|$)", re.IGNORECASE)
# Names of files: those of the model, and among onnxruntime's settings what it reads, or writes over:
# optimized graphs, statistics, caches.
PATH_KEY = re.compile(r"(file|path|dir|folder)(_?name)?$", re.IGNORECASE)
PATH = re.compile(r"[/\\]|^\.\.?$")
FREE_SETTINGS = frozenset({"session_options", "provider_options", "run_options"})
EVENTS = 64


def read_config(folder: Path) -> dict[str, Any]:
    """Read genai_config.json; refuse what would load a library or touch a file elsewhere."""
    path = folder / CONFIG
    hint = "it belongs in the folder of model.onnx"
    try:
        config = parse_object(path.read_bytes(), path.name, hint)
    except OSError as fault:
        raise Failure(f"{path.name}: {fault}", hint) from None
    if not isinstance(config.get("model"), dict):
        raise Failure(f"{path.name}: describes no model")
    for trail, value in _settings(config):
        key = trail[-1]
        if CODE_KEY.search(key) or (isinstance(value, str) and CODE_FILE.search(value)):
            raise Failure(f"{path.name}: {key} would load a library, and code from an artifact is never run")
        if key == "filename" and not isinstance(value, str):
            raise Failure(f"{path.name}: {key} is {value!r}, and has to be a name")
        is_path, is_setting = PATH_KEY.search(key), not FREE_SETTINGS.isdisjoint(trail)
        if is_path and is_setting:
            raise Failure(f"{path.name}: {key} would read or write a file that is no part of a model")
        if (is_path or is_setting) and isinstance(value, str) and PATH.search(value):
            raise Failure(f"{path.name}: {key}: {value!r} is outside the folder")
    _check_decoder(config["model"])
    return config


def number(config: Mapping[str, Any], *keys: str) -> int:
    """Return a size that has to be there."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Failure(f"{CONFIG}: {'.'.join(keys)} is {value!r}, and has to be a number")
    return value


class GenaiVocabulary:
    """The artifact's tokenizer as onnxruntime-genai reads it: that, and no other, is what its users get."""

    def __init__(self, lib: Any, model: Any, folder: Path, config: dict[str, Any]) -> None:
        self._tokenizer = lib.Tokenizer(model)
        self._folder = folder
        self._specials: re.Pattern[str] | None = None
        settings = read_object(folder / "tokenizer_config.json")
        self.size = number(config, "model", "vocab_size")
        self.bos_id = next(iter(ids_of(config["model"].get("bos_token_id"))), None)
        self.eos_id = next(iter(ids_of(config["model"].get("eos_token_id"))), None)
        self.chat_template = find_chat_template(folder, settings, file_first=False)
        self.markup = named_tokens(settings)
        self.ends = tuple(sorted({int(token) for token in self._tokenizer.eos_token_ids}))
        self._tokenizer.update_options(skip_special_tokens="false")
        bare, wrapped = (self.encode("a", special=False, add_bos=add) for add in (False, True))
        self.adds_bos = wrapped != bare

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids; this tokenizer always reads markup, so text is cut where it must not."""
        self._tokenizer.update_options(add_special_tokens="true" if add_bos else "false")
        parts = [text] if special else self._cut(text)
        return [int(token) for part in parts if part for token in self._tokenizer.encode(part)]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        check_ids(ids, self.size)
        return str(self._tokenizer.decode(np.array(ids, np.int32))) if ids else ""

    def stream(self) -> Callable[[int], bytes]:
        """Return a function that takes each id of an answer and gives the bytes that are complete with it."""
        decode = self._tokenizer.create_stream().decode
        return lambda token: str(decode(token)).encode()

    def lay_out(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by onnxruntime-genai's own template engine."""
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    json.dumps(list(messages), ensure_ascii=False),
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except RuntimeError as fault:
            said = one_line(str(fault))
            raise Failure(f"onnxruntime-genai can't render the chat template: {said}") from None

    def _cut(self, text: str) -> list[str]:
        """Cut text into parts in which no special token is whole."""
        if self._specials is None:
            added = read_object(self._folder / "tokenizer.json").get("added_tokens") or []
            words = [one["content"] for one in added if one.get("special") and len(one["content"]) > 1]
            longest_first = sorted(words, key=len, reverse=True)
            self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        places = [0, *(match.start() + 1 for match in self._specials.finditer(text)), len(text)]
        return [text[begin:end] for begin, end in pairwise(places)]


def together(lib: Any, model: Any, requests: Sequence[Request]) -> Generator[Tick, None, None]:
    """Answer several requests in onnxruntime-genai's engine, which batches as many as it likes."""
    start = time.perf_counter()
    engine = lib.Engine(model)
    events = engine.create_event_buffer(EVENTS)
    running = [_begin(lib, engine, request) for request in requests]
    flags = lib.EngineEventFlags
    try:
        while engine.has_pending_requests():
            seen = 0
            for event in engine.run(events):
                seen += 1
                if int(event.flags) & int(flags.FAILED):
                    raise Failure(f"onnxruntime-genai's engine fails: {event.error_code}")
                if int(event.flags) & int(flags.TOKEN):
                    index = next(at for at, one in enumerate(running) if one is event.request)
                    yield Tick(index, time.perf_counter() - start)
            if not seen:
                raise Failure("onnxruntime-genai's engine stopped with requests unanswered")
    finally:
        for one in running:
            one.close()


@dataclass
class _Session:
    """An answer under way in the engine."""

    seat: int
    request: Any
    answer: AnswerStream
    bytes_of: Callable[[int], bytes]
    texts: list[str] = field(default_factory=list)


class Engine:
    """Answers of several requests in one engine, each in its own session."""

    def __init__(self, lib: Any, model: Any, vocabulary: GenaiVocabulary) -> None:
        self._lib, self._vocabulary = lib, vocabulary
        self._engine = lib.Engine(model)
        self._events = self._engine.create_event_buffer(EVENTS)
        self._going: list[_Session] = []

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Begin with what is added, and run until at least one answer is finished."""
        for seat, request in added:
            # It would end at a stop string by itself, and not say which text came before.
            begun = _begin(self._lib, self._engine, replace(request, stop=()))
            answer = AnswerStream(request, self._vocabulary.ends)
            self._going.append(_Session(seat, begun, answer, self._vocabulary.stream()))
        finished: list[Finished] = []
        while self._going and not finished:
            seen = 0
            for event in self._engine.run(self._events):
                seen += 1
                finished += self._take(event)
            if not seen:
                raise Failure("onnxruntime-genai's engine stopped with requests unanswered")
        return finished

    def _take(self, event: Any) -> Iterator[Finished]:
        """Add a token to the answer that it belongs to; one that comes after the end belongs to none."""
        flags, kinds = int(event.flags), self._lib.EngineEventFlags
        if flags & int(kinds.FAILED):
            raise Failure(f"onnxruntime-genai's engine fails: {event.error_code}")
        for one in [each for each in self._going if each.request is event.request]:
            end = "end" if flags & int(kinds.TURN_FINISHED) else None
            if flags & int(kinds.TOKEN):
                token = int(event.token)
                piece = one.answer.add(token, one.bytes_of(token), 0.0)
                one.texts.append(piece.text)
                end = piece.end or end
            if end is not None:
                self._going.remove(one)
                one.request.close()
                yield Finished(one.seat, "".join(one.texts), end, len(one.texts))


def _begin(lib: Any, engine: Any, request: Request) -> Any:
    if request.stop or request.temperature > 0:
        raise Failure("onnxruntime-genai's engine takes neither stop strings nor seeds", "ask one at a time")
    ids = np.array(request.ids or (), np.int32)
    options = lib.RequestOptions()
    options.set_max_session_tokens(len(ids) + request.max_tokens)
    made = engine.create_request(options=options)
    turn = lib.TurnOptions(made)
    turn.set_do_sample(False)
    turn.set_max_generated_tokens(request.max_tokens)
    if request.ignores_end:
        turn.set_min_generated_tokens(request.max_tokens)
    made.begin_turn(ids, turn)
    return made


def _settings(value: Any, trail: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path of each key, from the outermost, with its value."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield (*trail, name), below
            yield from _settings(below, (*trail, name))
    elif isinstance(value, list):
        for below in value:
            if not isinstance(below, dict | list):
                yield trail, below
            yield from _settings(below, trail)


def _check_decoder(model: Mapping[str, Any]) -> None:
    """Check the types of what is looked up here; the rest is for onnxruntime-genai to refuse."""
    decoder = model.get("decoder")
    if not isinstance(decoder, dict):
        raise Failure(f"{CONFIG}: describes no decoder")
    session = decoder.get("session_options", {})
    providers = (session.get("provider_options") or []) if isinstance(session, dict) else None
    if not isinstance(providers, list) or not all(isinstance(one, dict) for one in providers):
        raise Failure(f"{CONFIG}: model.decoder.session_options is not as onnxruntime-genai has it")
