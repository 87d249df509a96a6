"""GGUF through llama.cpp, as its own tools run it: f16 cache, mapped weights, the vocabulary's own ends."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.answering import Answer, Chooser
from verify.runtimes import Info, Piece, Request, Settings, Tick
from verify.runtimes._llama import Batch, Vocabulary, log_to_stderr
from verify.template import render

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

# llama.cpp keeps the logits of a batch until the next one: a batch asks for no more of them than this.
LOGITS_BYTES = 128 << 20
BATCH = 512  # n_ubatch of llama.cpp's own tools
CACHE_BYTES_PER_VALUE = 2  # f16, llama.cpp's default
CALLS = ("tokenize", "detokenize", "logits", "generate", "together", "cache")


def suits(folder: Path) -> bool:
    """Is there a GGUF to open?"""
    return folder.suffix == ".gguf" if folder.is_file() else any(folder.glob("*.gguf"))


def preload() -> dict[str, str]:
    """Import the natives."""
    import llama_cpp  # noqa: PLC0415  (in the child only)

    return {"llama-cpp-python": str(llama_cpp.__version__)}


def open_runtime(path: str, settings: Settings) -> LlamaCpp:
    """Open a GGUF, or the one in a folder; of a split one, the first shard."""
    return LlamaCpp(find_file(Path(path)), settings)


def find_file(path: Path) -> Path:
    """The file that llama.cpp is to be given."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.gguf"))
    heads = [one for one in found if "-of-" not in one.stem or "-00001-of-" in one.stem]
    if len(heads) != 1:
        names = ", ".join(one.name for one in heads) or "none"
        raise Failure(f"{path}: one GGUF, or the first of its shards, was expected: {names}")
    return heads[0]


class LlamaCpp:
    """A model and one context; every request starts from an empty cache."""

    def __init__(self, file: Path, settings: Settings) -> None:
        import llama_cpp  # noqa: PLC0415  (in the child only)

        unknown = set(settings.options) - {"gpu_layers"}
        if unknown:
            raise Failure(f"llama_cpp: no such option: {', '.join(sorted(unknown))}", "it has gpu_layers")
        self._lib: Any = llama_cpp
        self._log = log_to_stderr(llama_cpp)
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = int(settings.options.get("gpu_layers", 0))
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
        if not self._model:
            raise Failure(f"{file.name}: llama.cpp refuses this file", "its reason is on stderr")
        self._vocab = Vocabulary(llama_cpp, self._model)
        self._threads = settings.threads or len(os.sched_getaffinity(0))
        trained = int(llama_cpp.llama_model_n_ctx_train(self._model))
        self._context_size = min(settings.context, trained) if trained > 0 else settings.context
        self._context = self._new_context(self._context_size, sequences=1)
        self._batch = Batch(llama_cpp, BATCH)
        self.info = self._describe(trained)

    def _describe(self, trained: int) -> Info:
        template = self._lib.llama_model_chat_template(self._model, None)
        return Info(
            runtime="llama_cpp",
            can=(*CALLS, "template") if template else CALLS,
            context=self._context_size,
            context_length=trained or None,
            vocab_size=self._vocab.size,
            bos_id=self._vocab.bos_id,
            eos_id=self._vocab.eos_id,
            eog_ids=self._vocab.ends,
            adds_bos=self._vocab.adds_bos,
            chat_template=template.decode("utf-8", "replace") if template else None,
            kv_bytes_per_token=self._cache_per_token(),
            notes={
                "file_type": self._meta("general.file_type"),
                "kv_cache": "f16",
                "threads": str(self._threads),
            },
        )

    def _cache_per_token(self) -> int | None:
        """What a token takes by the file's own sizes: keys and values, of every layer."""
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

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Text to ids."""
        return self._vocab.tokenize(text, special=special, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return self._vocab.detokenize(ids)

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by the file's template."""
        template, markup = self.info.chat_template or "", self._vocab.markup()
        return render(template, messages, add_generation_prompt=add_generation_prompt, markup=markup)

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """Decode in batches, and give each batch's rows."""
        self._start(len(ids))
        rows = max(1, min(BATCH, LOGITS_BYTES // (4 * self._vocab.size)))
        for start in range(0, len(ids), rows):
            part = ids[start : start + rows]
            self._decode(self._context, [(token, start + at, 0, True) for at, token in enumerate(part)])
            pointer = self._lib.llama_get_logits(self._context)
            yield np.ctypeslib.as_array(pointer, shape=(len(part), self._vocab.size))

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Read the prompt in batches, then one token after the other, to the end of the context at most."""
        start = time.perf_counter()
        ids = request.ids or ()
        self._start(len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self._context_size - len(ids)))
        chooser, answer = Chooser(request), Answer(request, self.info.eog_ids)
        self._read(self._context, ids, 0)
        position = len(ids)
        while True:
            token = chooser.choose(self._row(self._context, -1))
            piece = answer.add(token, self._vocab.piece(token), time.perf_counter() - start)
            yield piece
            if piece.end:
                return
            self._decode(self._context, [(token, position, 0, True)])
            position += 1

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several in one context of their own, a token of each in every batch."""
        if len(requests) > BATCH:
            raise Failure(f"llama_cpp: {len(requests)} requests at once, and a batch holds {BATCH}")
        need = sum(len(request.ids or ()) + request.max_tokens for request in requests)
        context = self._new_context(need, sequences=len(requests))
        start = time.perf_counter()
        try:
            choosers = [Chooser(request) for request in requests]
            chosen: dict[int, int] = {}
            for index, request in enumerate(requests):
                self._read(context, request.ids or (), index)
                chosen[index] = choosers[index].choose(self._row(context, -1))
                yield Tick(index, time.perf_counter() - start)
            made = dict.fromkeys(chosen, 1)
            while chosen := {
                i: token for i, token in chosen.items() if self._goes_on(requests[i], token, made[i])
            }:
                at = {i: len(requests[i].ids or ()) + made[i] - 1 for i in chosen}
                self._decode(context, [(token, at[i], i, True) for i, token in chosen.items()])
                for row, index in enumerate(chosen):
                    chosen[index] = choosers[index].choose(self._row(context, row))
                    made[index] += 1
                    yield Tick(index, time.perf_counter() - start)
        finally:
            self._lib.llama_free(context)

    def cache_bytes(self) -> int:
        """The cache's contents, as llama.cpp would save them."""
        return int(self._lib.llama_state_seq_get_size(self._context, 0))

    def close(self) -> None:
        """Free the context and the model."""
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def _goes_on(self, request: Request, token: int, made: int) -> bool:
        is_end = not request.ignores_end and token in self.info.eog_ids
        return made < request.max_tokens and not is_end

    def _start(self, tokens: int) -> None:
        """Empty the cache for a request that needs room for so many tokens."""
        if tokens > self._context_size:
            raise Failure(
                f"{tokens} tokens do not fit the context of {self._context_size}", "open it with a longer one"
            )
        is_wiped = False  # the cells are forgotten; what they held need not be overwritten
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), is_wiped)

    def _read(self, context: Any, ids: Sequence[int], sequence: int) -> None:
        """Decode a prompt in batches; only the last token's logits are kept."""
        if not ids:
            raise Failure("an empty prompt: there is nothing to continue", "give at least one token")
        last = len(ids) - 1
        for start in range(0, len(ids), BATCH):
            part = enumerate(ids[start : start + BATCH], start)
            self._decode(context, [(token, at, sequence, at == last) for at, token in part])

    def _decode(self, context: Any, entries: list[tuple[int, int, int, bool]]) -> None:
        for token, *_ in entries:
            self._vocab.checked(token)
        self._batch.fill(entries)
        code = self._lib.llama_decode(context, self._batch.raw)
        if code:
            raise Failure(f"llama.cpp could not evaluate a batch (code {code})", "its reason is on stderr")

    def _row(self, context: Any, index: int) -> NDArray[np.float32]:
        pointer = self._lib.llama_get_logits_ith(context, index)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab.size,))

    def _new_context(self, tokens: int, *, sequences: int) -> Any:
        params = self._lib.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self._threads
        # One pool of cells for all sequences: else each would get an equal share, however long it is.
        params.kv_unified = True
        context = self._lib.llama_init_from_model(self._model, params)
        if not context:
            raise Failure(f"llama.cpp could not make a context of {tokens} tokens", "its reason is on stderr")
        return context
