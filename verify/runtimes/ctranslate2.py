"""CTranslate2's folders, on a CPU.

The library chooses the likeliest tokens by itself. It gives logits for a whole text alone, so that an answer
of a higher temperature, whose tokens are chosen here, reads the text once more for each.
"""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from convert.strict_json import parse
from verify.decoding import AnswerStream
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import FolderVocabulary, read_object

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Piece, Request, RuntimeSettings

FORMATS = ("ctranslate2",)
COMPUTE_TYPES = ("default", "auto", "int8", "int8_float32", "int8_bfloat16", "bfloat16", "float32")
OPTIONS: dict[str, Any] = {"compute_type": COMPUTE_TYPES}
POSITIONS = "decoder/position_encodings/encodings"


def suits(folder: Path) -> bool:
    """Return whether this is a folder of CTranslate2's with its tokenizer."""
    return all((folder / name).is_file() for name in ("model.bin", "vocabulary.json", "tokenizer.json"))


def preload() -> dict[str, str]:
    """Import the natives, and return their versions."""
    import ctranslate2

    return {"ctranslate2": str(ctranslate2.__version__)}


def open_runtime(path: str, settings: RuntimeSettings) -> CTranslate2:
    """Open a folder with model.bin in it."""
    return CTranslate2(Path(path), settings)


class CTranslate2(LocalRuntime[FolderVocabulary]):
    """A generator, the tokenizer, and the tokens of this request so far."""

    CALLS = ("tokenize", "detokenize", "logits", "generate")
    BATCH = 1 << 20  # a text is read whole

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import ctranslate2

        options = read_options("ctranslate2", settings, OPTIONS)
        self.vocabulary = FolderVocabulary(folder, read_object(folder / "generation_config.json"))
        try:
            self._generator: Any = ctranslate2.Generator(
                str(folder), compute_type=options["compute_type"], intra_threads=thread_count(settings)
            )
        except (RuntimeError, ValueError) as fault:
            raise Failure(f"{folder.name}: CTranslate2 refuses it: {one_line(str(fault))}") from None
        self._ids: list[int] = []
        words = folder / "vocabulary.json"
        self._texts: list[str] = parse(words.read_bytes(), str(words), "")
        first = self.vocabulary.eos_id or 0
        self.vocab_size = self._read([first]).shape[-1]
        self.info = self.describe(
            "ctranslate2",
            settings,
            # A table of positions ends; rotary ones go on, and the folder does not say how far.
            trained=dict(shapes(folder / "model.bin")).get(POSITIONS, (0,))[0],
            kv_bytes_per_token=None,
            notes={
                "compute_type": str(self._generator.compute_type),
                "threads": str(thread_count(settings)),
            },
        )

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Answer by the library's own loop, which keeps what it has read."""
        if request.temperature > 0:
            yield from super().generate(request)
            return
        start = time.perf_counter()
        ids = request.ids or ()
        self._admit(ids, len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self.info.context - len(ids)))
        answer, bytes_of = AnswerStream(request, self.info.eog_ids), self.vocabulary.stream()
        steps = self._generator.generate_tokens(
            [self._texts[each] for each in ids],
            max_length=request.max_tokens,
            min_length=request.max_tokens if request.ignores_end else 0,
            end_token=[*self.info.eog_ids, *request.stop_ids],
        )
        for step in steps:
            token = int(step.token_id)
            piece = answer.add(token, bytes_of(token), time.perf_counter() - start)
            yield piece
            if piece.end:
                return

    def _read(self, ids: Sequence[int]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.asarray(self._generator.forward_batch([list(ids)]), np.float32)[0]
        return found

    def _start(self, room: int) -> None:
        self._ids = []

    def _part_size(self) -> int:
        return self.BATCH

    def _skip(self, part: Sequence[int], at: int) -> None:
        self._ids += part  # read with those that follow

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._ids += part
        return self._read(self._ids)[at:]

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._rows(part, at)[-1]
        return row


def shapes(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Read the names and shapes of the variables in a model.bin."""
    with path.open("rb") as file:

        def number(kind: str) -> int:
            return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])

        def text() -> str:
            return file.read(number("H"))[:-1].decode()

        number("I")  # of the file's own version
        text()
        number("I")
        for _ in range(number("I")):
            name = text()
            yield name, tuple(number("I") for _ in range(number("B")))
            number("B")
            size_bytes = number("I")
            file.seek(size_bytes, 1)
