"""A model's tokenizer, as a folder with tokenizer.json and tokenizer_config.json holds it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.strict_json import parse


class FolderVocabulary:
    """A vocabulary read by `tokenizers`; special tokens that the folder does not name are the config's."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        from tokenizers import Tokenizer, decoders

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise Failure(f"{folder}: no tokenizer.json", "name the folder that has one in options.tokenizer")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as fault:  # noqa: BLE001  (tokenizers raises Exception itself)
            raise Failure(f"{path}: {fault}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decode_stream = decoders.DecodeStream
        settings = read_object(folder / "tokenizer_config.json")
        generation = read_object(folder / "generation_config.json")
        self.markup = named_tokens(settings)
        self.chat_template = find_chat_template(folder, settings)
        self.bos_id = self._id("bos_token", config, "bos_token_id")
        self.eos_id = self._id("eos_token", config, "eos_token_id")
        ends = [self.eos_id, *ids_of(config.get("eos_token_id")), *ids_of(generation.get("eos_token_id"))]
        self.ends = tuple(sorted({end for end in ends if end is not None}))
        first = self.encode("a", special=False, add_bos=True)[:1]
        self.adds_bos = self.bos_id is not None and first == [self.bos_id]

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""
        self._tokenizer.encode_special_tokens = not special
        return list(self._tokenizer.encode(text, add_special_tokens=add_bos).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, markup shown."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def stream(self) -> Callable[[int], bytes]:
        """Return a function that takes each id of an answer and gives the bytes that are complete with it."""
        stream = self._decode_stream(skip_special_tokens=False)
        return lambda token: (stream.step(self._tokenizer, token) or "").encode()

    def _id(self, name: str, config: dict[str, Any], key: str) -> int | None:
        if name in self.markup:
            found = self._tokenizer.token_to_id(self.markup[name])
            return None if found is None else int(found)
        return next(iter(ids_of(config.get(key))), None)


def read_object(path: Path) -> dict[str, Any]:
    """Return a file's JSON object, empty where there is no such file."""
    if not path.is_file():
        return {}
    found = parse(path.read_bytes(), str(path), "", has_infinity=True)
    return found if isinstance(found, dict) else {}


def find_chat_template(folder: Path, settings: dict[str, Any], *, file_first: bool = True) -> str | None:
    """Return the chat template; that of chat_template.jinja comes first, as in Transformers, or last.

    Older multimodal models have one in chat_template.json, for what reads pictures and text.
    """
    value = settings.get("chat_template") or read_object(folder / "chat_template.json").get("chat_template")
    if isinstance(value, list):
        value = next((one.get("template") for one in value if one.get("name") == "default"), None)
    path = folder / "chat_template.jinja"
    if path.is_file() and (file_first or value is None):
        return path.read_text("utf-8")
    return value if isinstance(value, str) else None


def named_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """Return the special tokens that tokenizer_config.json names, as text; some files write objects."""
    found = {name: settings.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    texts = {name: each.get("content") if isinstance(each, dict) else each for name, each in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def ids_of(value: object) -> list[int]:
    """Return the ids in a setting that is one id, several, or none."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
