"""ONNX through onnxruntime-genai, as its users run it: the artifact's own tokenizer, template and settings.

A generator's cache is made for the longest sequence that it may have, so each request has a generator of the
length that it needs. Prompts are read in parts: the logits of every position are kept until the next part.

Dialogues go on together in the same graph, opened in plain onnxruntime for as long: onnxruntime-genai's own
engine takes four at a time, and reads all earlier turns again. It answers where the graph takes more than
tokens and their keys and values, is not on a CPU, or gives a text other logits next to others than alone.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.runtimes._genai import CONFIG, Engine, GenaiVocabulary, number, read_config, together
from verify.runtimes._local import LocalRuntime, one_line
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._rows import Names, Trial, open_rows, prepare_trial

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Finished, Request, RuntimeSettings, Tick
    from verify.runtimes._seats import Entry

FORMATS = ("onnx",)
# As onnxruntime-genai spells them; the CPU is what remains where none is named.
PROVIDERS = {"cpu": None, "cuda": "cuda", "dml": "DML", "openvino": "OpenVINO"}
# What a graph takes, and how onnxruntime opens it, where nothing more is said.
INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "past_key_names", "past_value_names"})
SESSION = frozenset({"log_id", "provider_options"})
OPTIONS = {"provider": (None, *PROVIDERS), "provider_options": {}}


def suits(folder: Path) -> bool:
    """Return whether this is a folder of onnxruntime-genai's."""
    return (folder / CONFIG).is_file()


def preload() -> dict[str, str]:
    """Import the natives, with their telemetry off, and return their versions."""
    import onnxruntime
    import onnxruntime_genai

    onnxruntime_genai.disable_telemetry_events()
    return {
        "onnxruntime": str(onnxruntime.__version__),
        "onnxruntime-genai": str(onnxruntime_genai.__version__),
    }


def open_runtime(path: str, settings: RuntimeSettings) -> OnnxRuntimeGenai:
    """Open a folder with its genai_config.json."""
    return OnnxRuntimeGenai(Path(path), settings)


class OnnxRuntimeGenai(LocalRuntime[GenaiVocabulary]):
    """A model and its tokenizer; every request has its own generator and cache."""

    CALLS = ("tokenize", "detokenize", "logits", "generate", "together", "advance", "cache")
    BATCH = 512
    GUESSES = 8
    GUESSING_SEATS = 1
    LOGITS_BYTES = 64 << 20  # they are copied out once

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import onnxruntime_genai

        self._lib: Any = onnxruntime_genai
        options = read_options("onnxruntime_genai", settings, OPTIONS)
        self._threads = threads = thread_count(settings)
        self._folder, self._options = folder, options
        self._config = read_config(folder)
        self._provider = provider = _provider(self._config, options)
        self.vocab_size = number(self._config, "model", "vocab_size")
        self._generator: Any = None
        self._engine: Engine | None = None
        self._model: Any = None
        self._seat_rows: Any = None  # a Rows, while dialogues go on
        self._trial: Trial | None = None
        self._has_rows = self._may_have_rows()
        try:
            model = self._open()
            self.vocabulary = GenaiVocabulary(self._lib, model, folder, self._config)
            self._cache_kind = kind = self._cache_type()
            self.info = self.describe(
                "onnxruntime_genai",
                settings,
                trained=number(self._config, "model", "context_length"),
                kv_bytes_per_token=2 * self._layers() * math.prod(self._heads()) * kind.itemsize,
                notes={
                    "provider": provider,
                    "device": str(model.device_type).lower(),
                    "kv_cache": kind.name,
                    "model_type": str(model.type),
                    "threads": str(threads),
                },
            )
        except Failure:
            raise
        except Exception as fault:  # noqa: BLE001  (it raises several kinds, and pybind11's)
            # In the message itself: a worker's hint reaches no user.
            remedy = "" if provider == "cpu" else "; --option provider=cpu opens it without that provider"
            said = one_line(str(fault))
            raise Failure(f"{folder.name}: onnxruntime-genai refuses it: {said}{remedy}") from None

    def _open(self) -> Any:
        """Return the model, opened again if it made room for seats, which then make room for it."""
        if self._model is None:
            if self._seats is None or self._seats.is_idle():
                self._seats = self._seat_rows = None
            self._model = self._lib.Model(self._configured())
        return self._model

    def _configured(self) -> Any:
        """Return the artifact's settings, with the threads and the provider that were asked for."""
        options = self._options
        config = self._lib.Config(str(self._folder))
        session = {"intra_op_num_threads": self._threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        if options["provider"] is not None:
            config.clear_providers()
            if name := PROVIDERS[options["provider"]]:
                config.append_provider(name)
                for key, value in options["provider_options"].items():
                    config.set_provider_option(name, str(key), str(value))
        return config

    def _layers(self) -> int:
        return number(self._config, "model", "decoder", "num_hidden_layers")

    def _heads(self) -> tuple[int, int]:
        """Return how many heads keys and values have, and their size."""
        heads = number(self._config, "model", "decoder", "num_key_value_heads")
        return heads, number(self._config, "model", "decoder", "head_size")

    def _cache_type(self) -> np.dtype[Any]:
        """Return the type of the graph's cache, and refuse a cache of other sizes than the settings'.

        This release goes by the graph; others, and what is computed here, by the settings.
        """
        self._start(1)
        layers, heads = self._layers(), self._heads()
        name = self._named("inputs", "past_key_names", "past_key_values.%d.key")
        first, last, beyond = (self._input(name % layer) for layer in (0, layers - 1, layers))
        if first is None or last is None or beyond is not None or first.shape[1::2] != heads:
            raise Failure(
                f"{CONFIG}: {layers} layers with {heads[0]} key-value heads of {heads[1]}: "
                "the graph's cache is another",
                "it was changed, or is of another model",
            )
        return first.dtype

    def _input(self, name: str) -> NDArray[Any] | None:
        """Return what goes into the graph by this name; None where it has no such input."""
        try:
            found: NDArray[Any] = self._generator.get_input(name)
        except RuntimeError:
            return None
        return found

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out as onnxruntime-genai does, once the sandbox has let the template pass.

        Its own engine is native, and knows no limit of time. What it makes of a template is what users get:
        that is returned as it is, to be compared with the source's.
        """
        super().template(messages, add_generation_prompt=add_generation_prompt)
        return self.vocabulary.lay_out(messages, add_generation_prompt=add_generation_prompt)

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Answer several in one engine, a token of each in every step."""
        for request in requests:
            self._admit(request.ids or (), len(request.ids or ()) + request.max_tokens)
        self._generator = None
        return together(self._lib, self._open(), requests)

    def seats(self) -> int:
        """Return how many answers are made at once; what that takes is opened, and is no answer's time."""
        self._make_room()
        return super().seats()

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Go on with the answers on all seats until one is finished: in rows, or in the engine."""
        self._make_room()
        if self._seat_rows is not None:
            return super().advance(added)
        self._generator = None
        taken, refused = self._admit_all(added)
        if self._engine is None:
            self._engine = Engine(self._lib, self._open(), self.vocabulary)
        return [*refused, *self._engine.advance(taken)]

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text."""
        row: NDArray[np.float32] = self._seat_rows.read(seat, ids, at)
        return row

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read a token of each seat's text, or several of one."""
        rows: Sequence[Sequence[NDArray[np.float32]]] = self._seat_rows.step(entries)
        return rows

    def copy_seat(self, seat: int, other: int) -> bool:
        """Replace what a seat has read by what another has."""
        self._seat_rows.copy(seat, other)
        return True

    def keep_seat(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text."""
        return int(self._seat_rows.keep(seat, count))

    def _make_room(self) -> None:
        """Open the graph for the texts of all seats, if it can have them; the model makes room for it."""
        if self._seat_rows is not None or not self._has_rows:
            return
        if self._trial is None:
            eps = float(np.finfo(self._cache_kind).eps)
            self._trial = prepare_trial(self.vocab_size, eps, self._alone)
        self._generator = self._model = None
        graph = self._folder / self._config["model"]["decoder"]["filename"]
        size = super().seats(), self.info.context
        self._seat_rows = open_rows(graph, self._names(), self._threads, size, self._trial)
        self._has_rows = self._seat_rows is not None

    def _may_have_rows(self) -> bool:
        """Tell whether the settings say no more than how tokens, keys and values go in, on a CPU."""
        decoder = self._config["model"]["decoder"]
        plain = {"inputs": INPUTS, "session_options": SESSION}
        return (
            self._provider == "cpu"
            and not decoder.keys() & {"pipeline", "sliding_window"}
            and all(decoder.get(key, {}).keys() <= known for key, known in plain.items())
        )

    def _names(self) -> Names:
        caches = {
            self._named("inputs", f"past_{part}_names", f"past_key_values.%d.{part}") % layer: self._named(
                "outputs", f"present_{part}_names", f"present.%d.{part}"
            )
            % layer
            for part in ("key", "value")
            for layer in range(self._layers())
        }
        ids, mask, positions = (
            self._named("inputs", name, name) for name in ("input_ids", "attention_mask", "position_ids")
        )
        return Names(ids, mask, positions, self._named("outputs", "logits", "logits"), caches)

    def _alone(self, parts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the logits that onnxruntime-genai gives after a text, read in these parts."""
        self._start(sum(map(len, parts)))
        at = 0
        for part in parts:
            row = self._last_row(part, at)
            at += len(part)
        return row

    def cache_bytes(self) -> int:
        """Return the size of the last request's cache, made for as many tokens as it needed."""
        if self._generator is None:
            return 0
        names = (
            self._named("outputs", "present_key_names", "present.%d.key"),
            self._named("outputs", "present_value_names", "present.%d.value"),
        )
        layers = range(self._layers())
        return sum(int(self._generator.get_output(name % layer).nbytes) for name in names for layer in layers)

    def _prompt_part_size(self) -> int:
        return self._part_size()

    def _start(self, room: int) -> None:
        self._generator = None  # the cache before is given back first
        model = self._open()
        params = self._lib.GeneratorParams(model)
        params.set_search_options(max_length=room, do_sample=False, num_beams=1, batch_size=1)
        self._generator = self._lib.Generator(model, params)

    def _rows(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._generator.append_tokens(np.array(part, np.int32))
        output = self._generator.get_output(self._named("outputs", "logits", "logits"))
        rows = np.asarray(output[0], np.float32)
        if rows.shape != (len(part), self.vocab_size):
            raise Failure(f"{len(part)} tokens gave logits of the shape {rows.shape}")
        return rows

    def _last_row(self, part: Sequence[int], at: int) -> NDArray[np.float32]:
        self._generator.append_tokens(np.array(part, np.int32))
        return np.asarray(self._generator.get_logits()[0, -1], np.float32)

    def _named(self, side: str, key: str, usual: str) -> str:
        """Return the artifact's name for one of the graph's inputs or outputs."""
        return str(self._config["model"]["decoder"].get(side, {}).get(key, usual))


def _provider(config: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return the execution provider: the one that was asked for, else the artifact's own."""
    if options["provider"] is not None:
        return str(options["provider"])
    if options["provider_options"]:
        raise Failure("onnxruntime_genai: provider_options are a provider's", "name it with provider=…")
    session = config["model"].get("decoder", {}).get("session_options", {})
    own = [name for one in session.get("provider_options") or [] for name in one]
    return str(own[0]).lower() if own else "cpu"
