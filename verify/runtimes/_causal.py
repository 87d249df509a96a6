"""A causal model of torch's, however it was opened: its logits and its answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.errors import Failure
from verify.runtimes import RuntimeSettings
from verify.runtimes._local import LocalRuntime
from verify.runtimes._seats import Entry
from verify.runtimes._side_by_side import SideBySide
from verify.runtimes._tokenizer import FolderVocabulary

UNLIMITED = 1 << 20  # positions: more than any text that is asked


class CausalModel(LocalRuntime["FolderVocabulary"]):
    """A model with its tokenizer, and a new cache for every request."""

    CALLS = ("tokenize", "detokenize", "logits", "generate", "advance", "cache")
    BATCH = 256

    def __init__(
        self,
        name: str,
        model: Any,
        vocabulary: FolderVocabulary,
        settings: RuntimeSettings,
        notes: Mapping[str, str],
    ) -> None:
        import torch

        self.vocabulary = vocabulary
        self._torch: Any = torch
        self._model, self._device = model, model.device
        self._cache: Any = None
        self._texts: tuple[int, SideBySide] | None = None
        config = model.config.get_text_config(decoder=True)
        self.vocab_size = int(config.vocab_size)
        width = torch.empty(0, dtype=model.dtype).element_size()
        self.info = self.describe(
            name,
            settings,
            trained=_trained(config),
            kv_bytes_per_token=sum(map(_kv_values, _layers(config))) * width,
            notes={**notes, "threads": str(torch.get_num_threads())},
        )

    def cache_bytes(self) -> int:
        """Return the size of the cache's tensors."""
        layers = [] if self._cache is None else self._cache.layers
        tensors = (one for layer in layers for one in (layer.keys, layer.values))
        return sum(int(one.nbytes) for one in tensors if one is not None)

    def seats(self) -> int:
        """Return how many answers are made at once: one, where padding would change them."""
        return self._seated()[0]

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text, in parts."""
        _, texts = self._seated()
        for start in range(0, len(ids), self.BATCH):
            row = texts.read(seat, ids[start : start + self.BATCH], at + start)
        return row

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read one token of each seat's text."""
        rows = self._seated()[1].step([(entry.seat, entry.tokens[0], entry.at) for entry in entries])
        return [[row] for row in rows]

    def keep_seat(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text."""
        return count

    def _seated(self) -> tuple[int, SideBySide]:
        """Return the number of seats and their texts; nobody asks for more than one text where it is 1."""
        if self._texts is None:
            count, texts = super().seats(), SideBySide(self._model, super().seats(), self.info.context)
            self._texts = (count if count > 1 and texts.is_exact() else 1), texts
        return self._texts

    def _start(self, room: int) -> None:
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        return self._run(part, rows=0)

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._run(part, rows=1)[-1]
        return row

    def _run(self, part: Sequence[int], *, rows: int) -> NDArray[np.float32]:
        """Compute the logits of the last `rows` tokens, or of all where it is 0."""
        with self._torch.inference_mode():
            out = self._model(
                input_ids=self._torch.tensor([list(part)], device=self._device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=rows,
            )
        return np.asarray(out.logits[0].float().cpu().numpy(), np.float32)


def preload_torch() -> dict[str, str]:
    """Import torch and Transformers, and return their versions."""
    import torch
    import transformers
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache, PreTrainedModel  # noqa: F401

    transformers.logging.disable_progress_bar()
    return {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}


def config_class(folder: Path, model_type: object) -> Any:
    """Return Transformers' own class for a config, so that no code from the folder is needed."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise Failure(
            f"{folder.name}: Transformers has no model_type {model_type!r}, and code from a repo is never run"
        )
    return CONFIG_MAPPING[model_type]


def model_class(folder: Path, described: Any) -> Any:
    """Return Transformers' own class for a model that writes text: the whole of a multimodal one.

    It reads the names that its checkpoints have, and is asked about text alone.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

    kind, is_whole = type(described), described.get_text_config(decoder=True) is described
    mappings = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING)
    for mapping in mappings if is_whole else reversed(mappings):
        if kind in mapping:
            return mapping[kind]
    raise Failure(f"{folder.name}: Transformers has no class that writes text for {described.model_type!r}")


def require_none(folder: Path, missing: set[str]) -> None:
    """Refuse a folder where tensors are missing."""
    if missing:
        raise Failure(f"{folder.name}: {len(missing)} weights are missing, {min(missing)} among them")


def _trained(config: Any) -> int:
    """Return the length of the texts that a model was trained on; some name none, and have no limit."""
    names = ("max_position_embeddings", "seq_length")
    return int(next((found for name in names if (found := getattr(config, name, None))), UNLIMITED))


def _layers(config: Any) -> list[Any]:
    """Return the config of each layer that keeps keys and values, and shares no other layer's."""
    count = int(config.num_hidden_layers) - (getattr(config, "num_kv_shared_layers", None) or 0)
    if not getattr(config, "is_heterogeneous", False):
        return [config] * count
    return [config.per_layer_config[number] for number in range(count)]


def _kv_values(config: Any) -> int:
    """Return how many keys and values a layer keeps of each token."""
    if not (heads := getattr(config, "num_attention_heads", 0)):
        return 0
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 2 * int(getattr(config, "num_key_value_heads", None) or heads) * int(head)
