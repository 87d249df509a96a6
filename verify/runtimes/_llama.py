"""The parts of llama.cpp that its runtime uses: the vocabulary and the log."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

from verify.runtimes._local import check_ids

WARN = 3  # ggml_log_level
CONTINUED = 5


class GgufVocabulary:
    """A model's tokens, as llama.cpp reads them from its file."""

    def __init__(self, lib: Any, model: Any) -> None:
        self._lib = lib
        self._vocab = lib.llama_model_get_vocab(model)
        self._pieces: dict[int, bytes] = {}
        self.size = int(lib.llama_vocab_n_tokens(self._vocab))
        self.bos_id = _known(lib.llama_vocab_bos(self._vocab))
        self.eos_id = _known(lib.llama_vocab_eos(self._vocab))
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.ends = tuple(token for token in range(self.size) if lib.llama_vocab_is_eog(self._vocab, token))
        template = lib.llama_model_chat_template(model, None)
        self.chat_template = template.decode("utf-8", "replace") if template else None
        named = {"bos_token": self.bos_id, "eos_token": self.eos_id}
        self.markup = {
            name: "" if token is None else self._piece(token).decode("utf-8", "replace")
            for name, token in named.items()
        }

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids; `add_bos` adds whatever the vocabulary says is to be added."""
        raw = text.encode()
        room = len(raw) + 16
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_bos, special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown; llama_detokenize would drop spaces before a full stop."""
        check_ids(ids, self.size)
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def stream(self) -> Callable[[int], bytes]:
        """Return a function that gives the bytes of each id of an answer."""
        return self._piece

    def _piece(self, token: int) -> bytes:
        """Return the bytes of one token, which may be a part of a character."""
        if token not in self._pieces:
            room, is_shown = 64, True
            text = ctypes.create_string_buffer(room)
            count = self._lib.llama_token_to_piece(self._vocab, token, text, room, 0, is_shown)
            if count < 0:
                text = ctypes.create_string_buffer(-count)
                count = self._lib.llama_token_to_piece(self._vocab, token, text, -count, 0, is_shown)
            self._pieces[token] = text.raw[:count]
        return self._pieces[token]


def log_to_stderr(lib: Any) -> Any:
    """Write warnings and errors to stderr, for failed checks to quote; the caller keeps what this returns."""
    level = 0

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def log(at: int, text: bytes, _: Any) -> None:
        nonlocal level
        level = level if at == CONTINUED else at
        if level >= WARN:
            sys.stderr.write(text.decode("utf-8", "replace"))
            sys.stderr.flush()

    lib.llama_log_set(log, ctypes.c_void_p(0))
    return log


def _known(token: int) -> int | None:
    return token if token >= 0 else None
