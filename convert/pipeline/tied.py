"""Whether the head is the embedding: what config.json says of it, compared with what is stored."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from convert.checkpoint import Checkpoint, open_checkpoint
from convert.checkpoint.index import has_single, index_names
from convert.errors import Failure
from convert.model.binding import Binding, name_of
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import is_multimodal
from convert.model.family import Naming
from convert.model.tensor import Ref, Role

KEY = "tie_word_embeddings"
ROWS_AT_ONCE = 4096


def stored_names(folder: Path) -> tuple[str, ...] | None:
    """List a folder's tensors; None where its single file is not here yet."""
    names = index_names(folder)
    if names is None and has_single(folder):
        # A damaged file is refused where its weights are read, after what costs nothing to check.
        with suppress(Failure), open_checkpoint(folder) as checkpoint:
            names = tuple(checkpoint.tensors)
    return names


def tied_as_stored(folder: Path, config: Config, naming: Naming, decoder: Decoder) -> Decoder:
    """Let a multimodal model's tensors say whether its head is tied, where its config says both.

    Transformers asks the outer config, and does not tie a head that is stored with other values.
    """
    names = stored_names(folder) if _says_both(config) else None
    return decoder if names is None else replace(decoder, is_tied=not _heads(naming.of(decoder), names))


def require_tied(checkpoint: Checkpoint, config: Config, binding: Binding, decoder: Decoder) -> None:
    """Refuse a head that config.json says is the embedding, and that is stored with other values."""
    heads = _heads(binding.naming, checkpoint.tensors) if decoder.is_tied else frozenset()
    if heads and _says_both(config):
        raise Failure(
            f"{config.where}: {KEY} is both true and false, and a head is stored", "run the command again"
        )
    for head in sorted(heads):
        if not _is_same(checkpoint, head, binding.origins[Ref(Role.EMBED)].name):
            raise Failure(
                f"{config.where}: {KEY} is true, and {head} is not the embedding",
                f"if the model's head is separate, as current Transformers takes it, set {KEY} to false",
            )


def _says_both(config: Config) -> bool:
    """Check whether the outer and the inner part of a config contradict each other."""
    inner = config.values["text_config"] if is_multimodal(config) else {}
    return {config.values.get(KEY), inner.get(KEY)} == {True, False}


def _heads(naming: Naming, names: Collection[str]) -> frozenset[str]:
    return frozenset({name_of(naming, Ref(Role.HEAD), prefix) for prefix in naming.prefixes} & {*names})


def _is_same(checkpoint: Checkpoint, one: str, other: str) -> bool:
    shape = checkpoint.tensors[one].shape
    if shape != checkpoint.tensors[other].shape:
        return False
    for start in range(0, shape[0], ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, shape[0])
        first, second = (checkpoint.rows(name, start, stop) for name in (one, other))
        if not np.array_equal(first, second):
            return False
        for name in (one, other):
            checkpoint.release_rows(name, start, stop)
    return True
