"""GGUF through OpenVINO GenAI, on a CPU: it builds its own graph from the file, for a few families.

The library gives tokens, and no logits. Text is read by the file's vocabulary as llama.cpp knows it, so that
both answer the same tokens.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.decoding import AnswerStream
from verify.runtimes._llama import GgufVocabulary, log_to_stderr
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes.llama_cpp import find_file, suits

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Piece, Request, RuntimeSettings

__all__ = ["FORMATS", "PREFERENCE", "open_runtime", "preload", "suits"]

FORMATS = ("gguf",)
PREFERENCE = -1  # after llama.cpp, which reads all of them
# It rounds activations to 8 bits while it runs, as OpenVINO does where nothing is said.
OPTIONS: dict[str, Any] = {"activations": ("auto", "float32")}
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    import llama_cpp
    import openvino_genai

    return {"openvino-genai": str(openvino_genai.__version__), "llama-cpp-python": str(llama_cpp.__version__)}


def open_runtime(path: str, settings: RuntimeSettings) -> OpenVinoGenai:
    """Open a GGUF, or the one in a folder."""
    return OpenVinoGenai(find_file(Path(path)), settings)


class OpenVinoGenai(LocalRuntime[GgufVocabulary]):
    """A pipeline that reads every prompt from its start."""

    CALLS = ("tokenize", "detokenize", "generate")
    BATCH = 1

    def __init__(self, file: Path, settings: RuntimeSettings) -> None:
        import llama_cpp
        import openvino
        import openvino_genai

        options = read_options("openvino_genai", settings, OPTIONS)
        self._genai: Any = openvino_genai
        self._tensor: Any = openvino.Tensor
        self._log = log_to_stderr(llama_cpp)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
        if not self._model:
            raise Failure(f"{file.name}: llama.cpp refuses its vocabulary", "its reason is on stderr")
        self.vocabulary = GgufVocabulary(llama_cpp, self._model)
        self.vocab_size = self.vocabulary.size
        exact = EXACT if options["activations"] == "float32" else {}
        threads = thread_count(settings)
        try:
            self._pipeline: Any = openvino_genai.LLMPipeline(
                str(file), "CPU", INFERENCE_NUM_THREADS=threads, **exact
            )
        except RuntimeError as fault:
            raise Failure(f"{file.name}: OpenVINO GenAI refuses it: {_reason(str(fault))}") from None
        self.info = self.describe(
            "openvino_genai",
            settings,
            trained=max(0, int(llama_cpp.llama_model_n_ctx_train(self._model))),
            kv_bytes_per_token=None,
            notes={"activations": options["activations"], "threads": str(threads)},
        )

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Answer by the library's own loop, in a thread that hands over each token."""
        if request.temperature > 0:
            raise Failure("openvino_genai answers by the likeliest tokens only", "leave the temperature at 0")
        start = time.perf_counter()
        ids = request.ids or ()
        self._admit(ids, len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self.info.context - len(ids)))
        answer, bytes_of = AnswerStream(request, self.info.eog_ids), self.vocabulary.stream()
        for token in self._tokens(ids, request.max_tokens):
            piece = answer.add(token, bytes_of(token), time.perf_counter() - start)
            yield piece
            if piece.end:
                return

    def _tokens(self, ids: Sequence[int], most: int) -> Generator[int, None, None]:
        """Yield the likeliest tokens, ends among them; closing this stops the library."""
        made: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        is_over = threading.Event()
        status = self._genai.StreamingStatus

        class Hand(self._genai.StreamerBase):  # type: ignore[misc,name-defined]
            """Take tokens from the library."""

            def write(self, token: Any) -> Any:
                for each in [token] if isinstance(token, int) else token:
                    made.put(int(each))
                return status.CANCEL if is_over.is_set() else status.RUNNING

            def end(self) -> None:
                """Leave it to the thread to say that it is over."""

        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = most, True, False
        row = np.array([ids], np.int64)
        inputs = self._genai.TokenizedInputs(self._tensor(row), self._tensor(np.ones_like(row)))

        def run() -> None:
            try:
                self._pipeline.generate(inputs, config, Hand())
                made.put(None)
            except BaseException as fault:  # noqa: BLE001 - it is raised again where it is awaited
                made.put(fault)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while (found := made.get()) is not None:
                if isinstance(found, BaseException):
                    raise Failure(f"OpenVINO GenAI fails: {_reason(str(found))}") from None
                yield found
        finally:
            is_over.set()
            thread.join()

    def _start(self, room: int) -> None:
        raise NotImplementedError

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        raise NotImplementedError

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        raise NotImplementedError


def _reason(text: str) -> str:
    """Leave out where in its source the library noticed."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Exception from")]
    return one_line(" ".join(lines) or text)
