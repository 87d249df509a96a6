"""A checkpoint's config.json, asked for numbers by name: what is missing or wrong is said by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_CONFIG_BYTES = 16 * 1024 * 1024
# A size beyond this is damage or an attack: no tensor of ours could be planned with it.
MAX_SIZE = 1 << 31
# Far more than any model has, by what the key ends in; each layer is described, and each token listed.
MAX_BY_ENDING = {
    "layers": 1 << 12,
    "n_layer": 1 << 12,
    "experts": 1 << 14,
    "heads": 1 << 14,
    "n_head": 1 << 14,
    "vocab_size": 1 << 23,
    "head_dim": 1 << 14,
    "kv_channels": 1 << 14,
}
# What a number of 32 bits holds with room to spare; tables that are computed from others are not finite.
LEAST_REAL, MOST_REAL = 1e-30, 1e30


@dataclass(frozen=True)
class Config:
    """The keys of config.json, typed at the moment they are asked for."""

    values: Mapping[str, Any]
    where: str = "config.json"
    outer: Config | None = None  # that of the whole model, where this is its text decoder's

    @property
    def whole(self) -> Config:
        """Give what is said of the whole model."""
        return self.outer or self

    def has(self, key: str) -> bool:
        """Check whether the key has a value."""
        return self.values.get(key) is not None

    def size(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Read a positive whole number under the first of these keys that is set."""
        key, value = self._first(keys, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "a whole number")
        most = next((limit for end, limit in MAX_BY_ENDING.items() if key.endswith(end)), MAX_SIZE - 1)
        if not least <= value <= most:
            raise self._wrong(key, value, f"a number from {least} to {most}")
        return value

    def count(self, key: str, *, default: int) -> int:
        """Read a whole number that may be zero."""
        return self.size(key, default=default) if self.values.get(key, default) else 0

    def real(self, *keys: str, default: float | None = None) -> float:
        """Read a positive finite number under the first of these keys that is set."""
        key, value = self._first(keys, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        if not LEAST_REAL <= value <= MOST_REAL:
            raise self._wrong(key, value, "a positive number that 32 bits hold")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Read a string."""
        _, value = self._first((key,), default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def section(self, key: str) -> Config | None:
        """Read an object inside, or None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return Config(value, f"{self.where}: {key}")

    def reals(self, key: str) -> tuple[float, ...]:
        """Read a list of numbers, empty where there is none."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(item, int | float) and abs(item) <= MOST_REAL for item in value
        ):
            raise self._wrong(key, value, "a list of numbers")
        return tuple(float(item) for item in value)

    def span(self, key: str, default: tuple[float, float]) -> tuple[float, float]:
        """Read a lowest and a highest number; newer configs spell infinity as an object."""
        value = self.values.get(key)
        if value is None:
            return default
        items = [item.get("__float__") if isinstance(item, dict) else item for item in _listed(value)]
        try:
            low, high = (float(str(item)) for item in items)
        except ValueError:
            raise self._wrong(key, value, "a lowest and a highest number") from None
        if not low <= high:
            raise self._wrong(key, value, "a lowest and a highest number")
        return low, high

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of strings, empty where there is none."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of words")
        return tuple(value)

    def _first(self, keys: tuple[str, ...], default: float | str | None) -> tuple[str, Any]:
        for key in keys:
            if self.has(key):
                return key, self.values[key]
        if default is None:
            raise Failure(
                f"{self.where}: {' or '.join(keys)} is missing",
                "the file is incomplete; fetch it again from where the model came from",
            )
        return keys[0], default

    def _wrong(self, key: str, value: object, wanted: str) -> Failure:
        shown = json.dumps(value, default=str)[:60]
        return Failure(
            f"{self.where}: {key} is {shown}, and should be {wanted}",
            "the file is damaged; fetch it again from where the model came from",
        )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def untied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write in a config, alone or in that of a multimodal model, that the head is a separate tensor."""
    changed = {**values, "tie_word_embeddings": False}
    if isinstance(inner := values.get("text_config"), dict):
        changed["text_config"] = {**inner, "tie_word_embeddings": False}
    return changed


def read_config(folder: Path, name: str = "config.json") -> Config:
    """Read a JSON object from the checkpoint's folder."""
    path = folder / name
    if not path.is_file():
        raise Failure(
            f"{path}: there is no {name}",
            "a checkpoint is a folder with config.json, weights and tokenizer files",
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise Failure(f"{path}: larger than any {name} has reason to be", "fetch the file again")
    values = parse_object(path.read_bytes(), str(path), "fetch the file again", has_infinity=True)
    return Config(values, name)
