"""ONNX through plain onnxruntime: the graph alone, with keys and values handed from call to call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.runtimes._graph import LOGITS, feed, find_graph, states
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary
from verify.runtimes._weights import read_config, text_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verify.runtimes import RuntimeSettings

FORMATS = ("onnx",)
# After onnxruntime-genai, which has more of what its users run.
PREFERENCE = -1
OPTIONS: dict[str, Any] = {"provider": ("CPUExecutionProvider", "CUDAExecutionProvider")}
LENGTHS = ("max_position_embeddings", "n_positions", "seq_length")


def suits(folder: Path) -> bool:
    """Return whether this is a folder with one graph, a tokenizer and a config."""
    return find_graph(folder) is not None and (folder / "config.json").is_file()


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    import onnxruntime

    return {"onnxruntime": str(onnxruntime.__version__)}


def open_runtime(path: str, settings: RuntimeSettings) -> OnnxRuntime:
    """Open a folder with a graph in it."""
    return OnnxRuntime(Path(path), settings)


class OnnxRuntime(LocalRuntime[FolderVocabulary]):
    """A session, the tokenizer, and the states of the last call."""

    CALLS = ("tokenize", "detokenize", "logits", "generate", "cache")
    BATCH = 256

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import onnxruntime

        options = read_options("onnxruntime", settings, OPTIONS)
        config = text_part(read_config(folder))
        self.vocabulary = FolderVocabulary(folder, config)
        graph = find_graph(folder)
        if graph is None:
            raise Failure(f"{folder.name}: not one graph in it", "name a folder with one model.onnx")
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = thread_count(settings)
        session.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(graph, session, [options["provider"]])
        except Exception as fault:  # noqa: BLE001  (it raises several kinds, and pybind11's)
            raise Failure(f"{folder.name}: onnxruntime refuses it: {one_line(str(fault))}") from None
        self._empty = states(self._session)
        self._past: dict[str, NDArray[Any]] = {}
        logits = next(each for each in self._session.get_outputs() if each.name == LOGITS)
        self.vocab_size = int(logits.shape[-1])
        kept = [each for _, each in self._empty.values() if not each.size]
        self.info = self.describe(
            "onnxruntime",
            settings,
            trained=next((int(config[name]) for name in LENGTHS if config.get(name)), 0),
            kv_bytes_per_token=sum(each.shape[1] * each.shape[3] * each.itemsize for each in kept),
            notes={
                "graph": str(graph.relative_to(folder)),
                "provider": self._session.get_providers()[0],
                "threads": str(session.intra_op_num_threads),
            },
        )

    def cache_bytes(self) -> int:
        """Return the size of keys, values and states after the last call."""
        return sum(each.nbytes for each in self._past.values())

    def _start(self, room: int) -> None:
        self._past = {name: empty for name, (_, empty) in self._empty.items()}

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        names = [out for out, _ in self._empty.values()]
        found = self._session.run([LOGITS, *names], feed(self._session, part, at, self._past))
        self._past = dict(zip(self._empty, found[1:], strict=True))
        return np.asarray(found[0][0], np.float32)

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._rows(part, at)[-1]
        return row
