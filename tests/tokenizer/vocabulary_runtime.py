"""llama.cpp on a GGUF that holds a vocabulary and no tensor."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import gguf
import llama_cpp

from convert.formats.gguf.vocabulary import vocabulary_fields

if TYPE_CHECKING:
    from pathlib import Path

    from convert.tokenizer import Tokenizer

_SIZES = {"context_length": 64, "embedding_length": 8, "block_count": 1, "feed_forward_length": 16}


def write_vocabulary(tokenizer: Tokenizer, path: Path, name: str = "test") -> Path:
    """The least GGUF that llama.cpp opens for its vocabulary."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    for key, size in _SIZES.items():
        writer.add_uint32(f"llama.{key}", size)
    writer.add_uint32("llama.attention.head_count", 1)
    for key, kind, value, element in vocabulary_fields(tokenizer):
        writer.add_key_value(key, value, kind, sub_type=element)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# llama.cpp says a dozen lines for every vocabulary; the callback must outlive the call that sets it.
_SILENCE = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


class Runtime:
    """llama.cpp's own view of a vocabulary."""

    def __init__(self, tokenizer: Tokenizer, path: Path, name: str = "test") -> None:
        llama_cpp.llama_log_set(_SILENCE, ctypes.c_void_p())
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        written = write_vocabulary(tokenizer, path, name)
        self._model = llama_cpp.llama_model_load_from_file(str(written).encode(), parameters)
        assert self._model, "llama.cpp refused the vocabulary"
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def __del__(self) -> None:
        llama_cpp.llama_model_free(self._model)

    def encode(self, text: str, *, special: bool, wrapped: bool = False) -> list[int]:
        """The ids of a text; with `special`, special tokens written in it are taken as such."""
        raw = text.encode("utf-8")
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), room, len(room), wrapped, special)
        return list(room[:count])

    def piece(self, identity: int) -> bytes:
        """What a token adds to the text, special ones spelt out."""
        room = ctypes.create_string_buffer(256)
        count = llama_cpp.llama_token_to_piece(self._vocab, identity, room, len(room), 0, True)  # noqa: FBT003
        return room.raw[:count]

    def stops(self) -> list[int]:
        """Every id that ends generation."""
        count = llama_cpp.llama_vocab_n_tokens(self._vocab)
        return [identity for identity in range(count) if llama_cpp.llama_vocab_is_eog(self._vocab, identity)]
