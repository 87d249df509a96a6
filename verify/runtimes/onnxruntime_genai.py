"""ONNX through onnxruntime-genai, as its users run it: the artifact's own tokenizer, template and settings.

A generator's cache is made for the longest sequence that it may have, so each request has a generator of the
length that it needs. Prompts are read in parts: the logits of every position are kept until the next part.
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

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Finished, Request, RuntimeSettings, Tick

FORMATS = ("onnx",)
# As onnxruntime-genai spells them; the CPU is what remains where none is named.
PROVIDERS = {"cpu": None, "cuda": "cuda", "dml": "DML", "openvino": "OpenVINO"}
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
    LOGITS_BYTES = 64 << 20  # they are copied out once

    def __init__(self, folder: Path, settings: RuntimeSettings) -> None:
        import onnxruntime_genai

        self._lib: Any = onnxruntime_genai
        options = read_options("onnxruntime_genai", settings, OPTIONS)
        threads = thread_count(settings)
        self._config = read_config(folder)
        provider = _provider(self._config, options)
        self.vocab_size = number(self._config, "model", "vocab_size")
        self._generator: Any = None
        self._engine: Engine | None = None
        try:
            self._model = self._lib.Model(self._configured(folder, options, threads))
            self.vocabulary = GenaiVocabulary(self._lib, self._model, folder, self._config)
            kind = self._cache_type()
            self.info = self.describe(
                "onnxruntime_genai",
                settings,
                trained=number(self._config, "model", "context_length"),
                kv_bytes_per_token=2 * self._layers() * math.prod(self._heads()) * kind.itemsize,
                notes={
                    "provider": provider,
                    "device": str(self._model.device_type).lower(),
                    "kv_cache": kind.name,
                    "model_type": str(self._model.type),
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

    def _configured(self, folder: Path, options: Mapping[str, Any], threads: int) -> Any:
        """Return the artifact's settings, with the threads and the provider that were asked for."""
        config = self._lib.Config(str(folder))
        session = {"intra_op_num_threads": threads}
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
        return together(self._lib, self._model, requests)

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Go on with the answers on all seats, in one engine, until one is finished."""
        self._generator = None
        taken, refused = self._admit_all(added)
        if self._engine is None:
            self._engine = Engine(self._lib, self._model, self.vocabulary)
        return [*refused, *self._engine.advance(taken)]

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
        params = self._lib.GeneratorParams(self._model)
        params.set_search_options(max_length=room, do_sample=False, num_beams=1, batch_size=1)
        self._generator = self._lib.Generator(self._model, params)

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
