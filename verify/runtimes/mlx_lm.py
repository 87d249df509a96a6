"""MLX's checkpoints through mlx-lm, on a Mac's GPU or, where there is none, on the CPU.

On a CPU, MLX multiplies packed weights slowly, and sums in the type of the scales. There, weights that fit
are widened to float32, once a few tokens have shown that both give the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.child import available_memory
from convert.errors import Failure
from verify.runtimes._checkpoint import foreign_format, is_checkpoint, quantized_by
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options
from verify.runtimes._tokenizer import FolderVocabulary
from verify.runtimes._weights import read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import RuntimeSettings

FORMATS = ("mlx",)
OPTIONS: dict[str, Any] = {"device": ("auto", "cpu", "gpu"), "weights": ("auto", "packed")}
# The share of spare memory that widened weights may take.
SHARE = 0.6
# What is asked of the packed and of the widened weights, and how far the answers may be apart, as a share.
PROBE, CLOSE = (1, 2, 3), 1e-3
# What model files call the length of the texts that a model was trained on.
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


def suits(folder: Path) -> bool:
    """Return whether the files say that they are MLX's."""
    return is_checkpoint(folder) and (foreign_format(folder) == "mlx" or quantized_by(folder) == "MLX")


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    from importlib.metadata import version

    import mlx_lm.models.cache
    import mlx_lm.utils  # noqa: F401

    return {name: version(name) for name in ("mlx", "mlx-lm")}


def open_runtime(path: str, settings: RuntimeSettings) -> MlxLm:
    """Open a folder of mlx-lm's."""
    return MlxLm(Path(path), settings)


class MlxLm(LocalRuntime[FolderVocabulary]):
    """A model with its tokenizer, and a new cache for every request."""

    CALLS = ("tokenize", "detokenize", "logits", "generate", "cache")
    BATCH = 256

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import mlx.core
        from mlx_lm.utils import load_model

        self._mx: Any = mlx.core
        options = read_options("mlx_lm", settings, OPTIONS)
        if options["device"] != "auto":
            self._mx.set_default_device(getattr(self._mx, options["device"]))
        config = read_config(folder)
        self.vocabulary = FolderVocabulary(folder, config)
        self._cache: list[Any] = []
        try:
            self._model, _ = load_model(folder)
            rows = self._probe()
        except Exception as fault:  # noqa: BLE001  (its model files raise whatever they meet)
            said = f"{type(fault).__name__}: {one_line(str(fault))}"
            raise Failure(f"{folder.name}: mlx-lm refuses it: {said}") from None
        quantized = config.get("quantization") or {}
        is_wide = options["weights"] == "auto" and self._widen(folder)
        self.vocab_size = rows.shape[-1]  # as the head has it
        self.info = self.describe(
            "mlx_lm",
            settings,
            trained=next((int(config[name]) for name in LENGTHS if config.get(name)), 0),
            kv_bytes_per_token=sum(
                int(each.shape[1] * each.shape[3] * each.dtype.size) for each in self._kept()
            ),
            notes={
                "device": self._device,
                "weights": "widened to float32" if is_wide else "as stored",
                "mode": str(quantized.get("mode", "plain")),
                "bits": str(quantized.get("bits", "")),
                "group_size": str(quantized.get("group_size", "")),
            },
        )

    @property
    def _device(self) -> str:
        return str(self._mx.default_device().type).removeprefix("DeviceType.")

    def _widen(self, folder: Path) -> bool:
        """Widen the weights if they fit and this is a CPU; refuse them if they give something else."""
        from mlx.utils import tree_map
        from mlx_lm.utils import dequantize_model, get_total_parameters

        if self._device != "cpu" or 4 * get_total_parameters(self._model) > SHARE * available_memory():
            return False
        floats, wide = self._mx.floating, self._mx.float32
        self._model.update(
            tree_map(
                lambda each: each.astype(wide) if self._mx.issubdtype(each.dtype, floats) else each,
                self._model.parameters(),
            )
        )
        packed = self._probe()
        dequantize_model(self._model)
        apart = np.abs(self._probe() - packed).max()
        if not apart <= CLOSE * np.abs(packed).max():
            raise Failure(f"{folder.name}: packed and widened weights give logits that are {apart:.3g} apart")
        return True

    def _probe(self) -> NDArray[np.float32]:
        self._start(len(PROBE))
        return self._array(self._run(PROBE))

    def cache_bytes(self) -> int:
        """Return the size of the cache's arrays, which grow by blocks of tokens."""
        return sum(int(each.nbytes) for each in self._cache)

    def _kept(self) -> Iterator[Any]:
        """Yield the keys and the values of each layer that keeps them."""
        for layer in self._cache:
            found = (getattr(layer, name, None) for name in ("keys", "values"))
            yield from (each for each in found if each is not None)

    def _start(self, room: int) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        self._cache = make_prompt_cache(self._model)

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        return self._array(self._run(part))

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        return self._array(self._run(part)[-1])

    def _run(self, part: Sequence[int]) -> Any:
        return self._model(self._mx.array([list(part)]), cache=self._cache)[0]

    def _array(self, rows: Any) -> NDArray[np.float32]:
        return np.array(rows.astype(self._mx.float32), np.float32)
