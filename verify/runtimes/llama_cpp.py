"""GGUF through llama.cpp, as its own tools run it: f16 cache, mapped weights, the vocabulary's own ends."""

from __future__ import annotations

import ctypes
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.decoding import Sampler
from verify.runtimes import Request, RuntimeSettings, Tick
from verify.runtimes._llama import GgufVocabulary, log_to_stderr
from verify.runtimes._local import LocalRuntime, Vocabulary
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from verify.runtimes._seats import Entry

FORMATS = ("gguf",)
OPTIONS = {"gpu_layers": 0, "tokenizer": None}  # a folder's, in place of the file's own
CACHE_BYTES_PER_VALUE = 2  # f16, llama.cpp's default
# A seat's tokens at first: llama.cpp writes a cache from end to end as it makes it, needed or not.
SEAT_TOKENS = 512


def suits(folder: Path) -> bool:
    """Return whether this is a GGUF, or a folder with one."""
    return folder.suffix == ".gguf" if folder.is_file() else any(folder.glob("*.gguf"))


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    import llama_cpp

    return {"llama-cpp-python": str(llama_cpp.__version__)}


def open_runtime(path: str, settings: RuntimeSettings) -> LlamaCpp:
    """Open a GGUF, or the one in a folder; of a split GGUF, the first shard."""
    return LlamaCpp(find_file(Path(path)), settings)


def find_file(path: Path) -> Path:
    """Return the file to give to llama.cpp."""
    if path.is_file():
        return path
    found = [one for one in sorted(path.glob("*.gguf")) if not one.name.startswith("mmproj-")]
    heads = [one for one in found if "-of-" not in one.stem or "-00001-of-" in one.stem]
    if len(heads) != 1:
        names = ", ".join(one.name for one in heads) or "none"
        raise Failure(f"{path}: one GGUF, or the first of its shards, was expected: {names}")
    return heads[0]


class LlamaCpp(LocalRuntime[Vocabulary]):
    """A model with one context."""

    CALLS = ("tokenize", "detokenize", "logits", "generate", "together", "advance", "cache")
    BATCH = 512  # n_ubatch of llama.cpp's own tools
    GUESSES = 8

    def __init__(self, file: Path, settings: RuntimeSettings) -> None:
        import llama_cpp

        options = read_options("llama_cpp", settings, OPTIONS)
        self._lib: Any = llama_cpp
        self._log = log_to_stderr(llama_cpp)
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = self._gpu_layers = options["gpu_layers"]
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
        if not self._model:
            raise Failure(f"{file.name}: llama.cpp refuses this file", "its reason is on stderr")
        own = GgufVocabulary(llama_cpp, self._model)
        self.vocab_size = own.size
        given = options["tokenizer"]
        self.vocabulary = FolderVocabulary(Path(given), {}) if given else own
        self._threads = thread_count(settings)
        self.info = self.describe(
            "llama_cpp",
            settings,
            trained=max(0, int(llama_cpp.llama_model_n_ctx_train(self._model))),
            kv_bytes_per_token=self._cache_per_token(),
            notes={
                "file_type": self._meta("general.file_type"),
                "kv_cache": "f16",
                "threads": str(self._threads),
            },
        )
        self._context = self._new_context(self.info.context, sequences=1)
        self._seated: Any = None
        self._seat_tokens = 0  # that there is room for
        self._places: list[int] = []  # the sequence of each seat
        self._batch = llama_cpp.llama_batch_init(self.BATCH, 0, 1)

    def _cache_per_token(self) -> int | None:
        """Compute what a token takes by the file's own sizes: keys and values, of every layer."""
        family = self._meta("general.architecture")

        def size(key: str) -> int:
            text = self._meta(f"{family}.{key}")
            return int(text) if text.isdigit() else 0

        heads = size("attention.head_count")
        kv_heads = size("attention.head_count_kv") or heads
        head = size("embedding_length") // heads if heads else 0
        widths = (size("attention.key_length") or head) + (size("attention.value_length") or head)
        return size("block_count") * kv_heads * widths * CACHE_BYTES_PER_VALUE or None

    def _meta(self, key: str) -> str:
        room = ctypes.create_string_buffer(1024)
        length = self._lib.llama_model_meta_val_str(self._model, key.encode(), room, len(room))
        return room.value.decode("utf-8", "replace") if length >= 0 else ""

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Answer several at once in one new context, a token of each in every batch."""
        if len(requests) > self.BATCH:
            raise Failure(f"llama_cpp: {len(requests)} requests at once, and a batch holds {self.BATCH}")
        for request in requests:
            self._admit(request.ids or (), 0)  # room: the context is made as large as is needed
        need = sum(len(request.ids or ()) + request.max_tokens for request in requests)
        context = self._new_context(need, sequences=len(requests))
        start = time.perf_counter()
        try:
            samplers = [Sampler(request) for request in requests]
            chosen: dict[int, int] = {}
            for index, request in enumerate(requests):
                ids = request.ids or ()
                for at in range(0, len(ids), self.BATCH):
                    self._read(context, ids[at : at + self.BATCH], at, index)
                chosen[index] = samplers[index].choose(self._row(context, -1))
                yield Tick(index, time.perf_counter() - start)
            made = dict.fromkeys(chosen, 1)
            while chosen := {
                i: token for i, token in chosen.items() if self._goes_on(requests[i], token, made[i])
            }:
                places = {i: len(requests[i].ids or ()) + made[i] - 1 for i in chosen}
                self._decode(context, [(token, places[i], i, True) for i, token in chosen.items()])
                for row, index in enumerate(chosen):
                    chosen[index] = samplers[index].choose(self._row(context, row))
                    made[index] += 1
                    yield Tick(index, time.perf_counter() - start)
        finally:
            self._lib.llama_free(context)

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text, in parts."""
        context = self._seat_context(at + len(ids))
        for start in range(0, len(ids), self.BATCH):
            self._read(context, ids[start : start + self.BATCH], at + start, self._places[seat])
        return self._row(context, -1)

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read some tokens of each seat's text."""
        context = self._seat_context(max(entry.at + len(entry.tokens) for entry in entries))
        self._move_together([entry.seat for entry in entries])
        placed = [
            (self._places[entry.seat], token, entry.at + n, entry.seat)
            for entry in sorted(entries, key=lambda entry: self._places[entry.seat])
            for n, token in enumerate(entry.tokens)
        ]
        self._decode(context, [(token, at, place, True) for place, token, at, _ in placed])
        rows: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
        for index, (_, _, _, seat) in enumerate(placed):
            rows[seat].append(self._row(context, index))
        return [rows[entry.seat] for entry in entries]

    def _move_together(self, seats: Sequence[int]) -> None:
        """Move texts into each other's neighborhood: llama.cpp reads the weights again after each gap."""
        taken = {self._places[seat] for seat in seats}
        starts = (range(first, first + len(taken)) for first in range(len(self._places) - len(taken) + 1))
        room = set(max(starts, key=lambda places: len(taken.intersection(places))))
        memory = self._lib.llama_get_memory(self._seat_context())
        for here, there in zip(sorted(taken - room), sorted(room - taken), strict=True):
            self._lib.llama_memory_seq_rm(memory, there, -1, -1)
            self._lib.llama_memory_seq_cp(memory, here, there, -1, -1)
            self._lib.llama_memory_seq_rm(memory, here, -1, -1)
            one, other = self._places.index(here), self._places.index(there)
            self._places[one], self._places[other] = there, here

    def keep_seat(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text; none where its state can't be rolled back."""
        memory = self._lib.llama_get_memory(self._seat_context())
        place = self._places[seat]
        is_cut = self._lib.llama_memory_seq_rm(memory, place, count, -1)
        if is_cut and count and self._lib.llama_memory_seq_pos_min(memory, place) == 0:
            return count
        self._lib.llama_memory_seq_rm(memory, place, -1, -1)
        return 0

    def _seat_context(self, tokens: int = 0) -> Any:
        """Return the context of all seats, with room for a text of so many tokens; it grows as texts do."""
        if self._seated is not None and tokens <= self._seat_tokens:
            return self._seated
        count, before = self.seats(), self._seated
        room = min(self.info.context, max(SEAT_TOKENS, tokens, 2 * self._seat_tokens))
        context = self._new_context(room * count, sequences=count, is_shared=False)
        if before is None:
            self._places = [*range(count)]
        else:
            for place in self._places:
                self._copy_text(place, before, context)
            self._lib.llama_free(before)
        self._seated, self._seat_tokens = context, room
        return context

    def _copy_text(self, place: int, before: Any, after: Any) -> None:
        """Copy what one sequence has read to another context."""
        if self._lib.llama_memory_seq_pos_max(self._lib.llama_get_memory(before), place) < 0:
            return
        size = self._lib.llama_state_seq_get_size(before, place)
        state = (ctypes.c_uint8 * size)()
        self._lib.llama_state_seq_get_data(before, state, size, place)
        if not self._lib.llama_state_seq_set_data(after, state, size, place):
            raise Failure("llama.cpp could not move a text to a larger context", "its reason is on stderr")

    def cache_bytes(self) -> int:
        """Return the size of the cache's contents, as llama.cpp would save them."""
        return int(self._lib.llama_state_seq_get_size(self._context, 0))

    def _goes_on(self, request: Request, token: int, made: int) -> bool:
        is_end = not request.ignores_end and token in self.info.eog_ids
        return made < request.max_tokens and not is_end

    def _start(self, room: int) -> None:
        is_wiped = False  # the cells are forgotten; what they held need not be overwritten
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), is_wiped)

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._decode(self._context, [(token, at + n, 0, True) for n, token in enumerate(part)])
        pointer = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(len(part), self.vocab_size))

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._read(self._context, part, at, 0)
        return self._row(self._context, -1)

    def _read(self, context: Any, part: Sequence[int], at: int, sequence: int) -> None:
        """Read the tokens of one sequence; only the last one's logits are computed."""
        last = len(part) - 1
        self._decode(context, [(token, at + n, sequence, n == last) for n, token in enumerate(part)])

    def _decode(self, context: Any, entries: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        for at, (token, position, sequence, wants_logits) in enumerate(entries):
            batch.token[at], batch.pos[at], batch.logits[at] = token, position, wants_logits
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
        batch.n_tokens = len(entries)
        code = self._lib.llama_decode(context, batch)
        if code:
            raise Failure(f"llama.cpp could not evaluate a batch (code {code})", "its reason is on stderr")

    def _row(self, context: Any, index: int) -> NDArray[np.float32]:
        pointer = self._lib.llama_get_logits_ith(context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))

    def _new_context(self, tokens: int, *, sequences: int, is_shared: bool = True) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = self.BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self._threads
        # One pool of cells for all sequences, or an equal share for each, which reads no other's cells.
        params.kv_unified = is_shared
        if not is_shared and not self._gpu_layers:
            # On a CPU it reads the whole text again for each token; a product of matrices, once for several.
            params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise Failure(f"llama.cpp could not make a context of {tokens} tokens", "its reason is on stderr")
        return context
