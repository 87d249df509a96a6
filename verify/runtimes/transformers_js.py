"""ONNX through transformers.js in Node: its tokenizer, its session, its cache.

`make node` installs the library in build/node of a clone; --option modules=FOLDER names another place.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.runtimes._graph import find_graph
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options
from verify.runtimes._tokenizer import FolderVocabulary, read_object
from verify.runtimes._weights import read_config, text_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verify.runtimes import RuntimeSettings

FORMATS = ("onnx",)
# After those that come with Python.
PREFERENCE = -2
SCRIPT = Path(__file__).with_name("_transformers.mjs")
MODULES = Path(__file__).parents[2] / "build" / "node"
PACKAGE = Path("node_modules") / "@huggingface" / "transformers" / "package.json"
OPTIONS: dict[str, Any] = {"modules": None, "device": ("cpu", "webgpu", "cuda", "dml")}
LENGTHS = ("max_position_embeddings", "n_positions", "seq_length")


def suits(folder: Path) -> bool:
    """Return whether this is a folder in that library's layout."""
    return find_graph(folder) is not None and "transformers.js_config" in read_object(folder / "config.json")


def preload() -> dict[str, str]:
    """Say which Node there is; the library's own version is said when a folder is opened."""
    node = shutil.which("node")
    if node is None:
        raise Failure("transformers_js: there is no node on PATH", "install Node 20 or newer")
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return {"node": found.stdout.strip()}


def open_runtime(path: str, settings: RuntimeSettings) -> TransformersJs:
    """Open a folder in Node."""
    return TransformersJs(Path(path), settings)


class Node:
    """The process that has the model; it ends with this one, whose end closes its stdin."""

    def __init__(self, modules: Path, folder: Path, device: str) -> None:
        self._folder = folder
        command: list[str | Path] = [shutil.which("node") or "node", SCRIPT, modules, folder, device]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603

    def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Ask for one thing, and wait for the answer."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        if pipe_in is None or pipe_out is None:
            raise TypeError("the process has no pipes")
        try:
            pipe_in.write(json.dumps({"call": call, **arguments}) + "\n")
            pipe_in.flush()
            line = pipe_out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failure(f"{self._folder.name}: Node ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failure(f"{self._folder.name}: transformers.js refuses it: {one_line(answer['error'])}")
        return answer


class JsVocabulary(FolderVocabulary):
    """The folder's tokenizer, as transformers.js reads text with it; text without markup is read here."""

    def __init__(self, folder: Path, config: dict[str, Any], node: Node) -> None:
        self._node: Node | None = None
        super().__init__(folder, config)
        self._node = node

    def encode(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""
        if self._node is None or not special:
            return super().encode(text, special=special, add_bos=add_bos)
        return [int(token) for token in self._node.ask("encode", text=text, add_bos=add_bos)["ids"]]


class TransformersJs(LocalRuntime[JsVocabulary]):
    """A model in Node; every request starts from an empty cache."""

    CALLS = ("tokenize", "detokenize", "logits", "generate")
    BATCH = 128
    LOGITS_BYTES = 16 << 20  # they come as text

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        options = read_options("transformers_js", settings, OPTIONS)
        modules = Path(options["modules"] or MODULES).absolute()
        if not (modules / PACKAGE).is_file():
            raise Failure(f"{modules}: no transformers.js there", "make node; or --option modules=FOLDER")
        config = text_part(read_config(folder))
        self._node = Node(modules, folder.absolute(), options["device"])
        version = self._node.ask("open")["version"]
        self.vocabulary = JsVocabulary(folder, config, self._node)
        self._node.ask("start")
        self.vocab_size = int(self._node.ask("run", ids=[0], rows=1)["size"])
        self.info = self.describe(
            "transformers_js",
            settings,
            trained=next((int(config[name]) for name in LENGTHS if config.get(name)), 0),
            kv_bytes_per_token=None,
            notes={"transformers.js": str(version), "device": options["device"]},
        )

    def _start(self, room: int) -> None:
        self._node.ask("start")

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        return self._run(part, len(part))

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._run(part, 1)[-1]
        return row

    def _run(self, part: Sequence[int], rows: int) -> NDArray[np.float32]:
        answer = self._node.ask("run", ids=list(part), rows=rows)
        return np.frombuffer(base64.b64decode(answer["logits"]), np.float32).reshape(rows, -1)
