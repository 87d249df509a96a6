"""GGUF through llama.cpp, as its own tools run it: f16 cache, mapped weights, the vocabulary's own ends."""

from __future__ import annotations

import ctypes
import os
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.decoding import Sampler
from verify.runtimes import Request, RuntimeSettings, Tick
from verify.runtimes._llama import GgufVocabulary, log_to_stderr
from verify.runtimes._llama_context import BATCH, FEWEST_SEATS, LlamaContext, SeatGroup, SeatGroups
from verify.runtimes._local import LocalRuntime, Vocabulary
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verify.runtimes._seats import Entry

FORMATS = ("gguf",)
OPTIONS = {"gpu_layers": 0, "tokenizer": None}  # a folder's, in place of the file's own
CACHE_BYTES_PER_VALUE = 2  # f16, llama.cpp's default


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
    BATCH = BATCH
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
        self._context = self._new_context(self.info.context)

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
        context = self._new_context(need, len(requests))
        start = time.perf_counter()
        try:
            samplers = [Sampler(request) for request in requests]
            chosen: dict[int, int] = {}
            for index, request in enumerate(requests):
                ids = request.ids or ()
                for at in range(0, len(ids), self.BATCH):
                    context.read(ids[at : at + self.BATCH], at, index)
                chosen[index] = samplers[index].choose(context.row(-1))
                yield Tick(index, time.perf_counter() - start)
            made = dict.fromkeys(chosen, 1)
            while chosen := {
                i: token for i, token in chosen.items() if self._goes_on(requests[i], token, made[i])
            }:
                places = {i: len(requests[i].ids or ()) + made[i] - 1 for i in chosen}
                context.decode([(token, places[i], i, True) for i, token in chosen.items()])
                for row, index in enumerate(chosen):
                    chosen[index] = samplers[index].choose(context.row(row))
                    made[index] += 1
                    yield Tick(index, time.perf_counter() - start)
        finally:
            context.close()

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text, in parts."""
        return self._seated.read(seat, ids, at)

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read some tokens of each seat's text."""
        return self._seated.step(entries)

    def copy_seat(self, seat: int, other: int) -> bool:
        """Replace what a seat has read by what another has."""
        self._seated.copy(seat, other)
        return True

    def keep_seat(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text; none where its state can't be rolled back."""
        return self._seated.keep(seat, count)

    def seats(self) -> int:
        """Return how many answers are made at once: as many in each group."""
        count = super().seats()
        return count - count % self._group_count(count)

    def _group_count(self, seats: int) -> int:
        return 1 if self._gpu_layers else max(1, min(self._threads, seats // FEWEST_SEATS))

    @cached_property
    def _seated(self) -> SeatGroups:
        seats = self.seats()
        groups = self._group_count(seats)
        return SeatGroups(
            [
                SeatGroup(self._lib, self._new_seats, range(first, seats, groups), self.info.context)
                for first in range(groups)
            ],
            self._threads,
        )

    def _new_seats(self, tokens: int, sequences: int) -> LlamaContext:
        """Make a context with an equal share of cells for each sequence, which reads no other's."""
        params = self._params(tokens * sequences, sequences)
        params.kv_unified = False
        if not self._gpu_layers:
            # On a CPU it reads the whole text again for each token; a product of matrices, once for several.
            params.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return LlamaContext(self._lib, self._model, params)

    def cache_bytes(self) -> int:
        """Return the size of the cache's contents, as llama.cpp would save them."""
        return int(self._lib.llama_state_seq_get_size(self._context.native, 0))

    def _goes_on(self, request: Request, token: int, made: int) -> bool:
        is_end = not request.ignores_end and token in self.info.eog_ids
        return made < request.max_tokens and not is_end

    def _start(self, room: int) -> None:
        is_wiped = False  # the cells are forgotten; what they held need not be overwritten
        self._lib.llama_memory_clear(self._context.memory, is_wiped)

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._context.decode([(token, at + n, 0, True) for n, token in enumerate(part)])
        return self._context.rows(len(part))

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._context.read(part, at, 0)
        return self._context.row(-1)

    def _new_context(self, tokens: int, sequences: int = 1) -> LlamaContext:
        return LlamaContext(self._lib, self._model, self._params(tokens, sequences))

    def _params(self, tokens: int, sequences: int) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self._threads
        params.kv_unified = True  # one pool of cells for all sequences
        return params
