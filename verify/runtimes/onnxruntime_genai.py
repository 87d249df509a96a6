"""ONNX through onnxruntime-genai, as its users run it: the artifact's own tokenizer, template and settings.

A generator's cache is made for the longest sequence it is told of, so each request has one of the length that
it needs; prompts are read in parts, since the logits of every position are kept until the next part.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.answering import Answer, Chooser
from verify.runtimes import Info, Piece, Request, Settings, Tick
from verify.runtimes._events import shortened
from verify.runtimes._genai import CONFIG, Vocabulary, number, read_config, together

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

LOGITS_BYTES = 64 << 20  # of a part; they are copied out once
BATCH = 512
CALLS = ("tokenize", "detokenize", "logits", "generate", "together", "cache")
# As onnxruntime-genai spells them; the CPU is what remains where none is named.
PROVIDERS = {"cpu": None, "cuda": "cuda", "dml": "DML", "openvino": "OpenVINO"}
OPTIONS = ("provider", "provider_options")


def suits(folder: Path) -> bool:
    """Is this a folder of onnxruntime-genai's?"""
    return (folder / CONFIG).is_file()


def preload() -> dict[str, str]:
    """Import the natives, and have them report to nobody."""
    import onnxruntime  # noqa: PLC0415  (in the child only)
    import onnxruntime_genai  # noqa: PLC0415

    onnxruntime_genai.disable_telemetry_events()
    return {
        "onnxruntime": str(onnxruntime.__version__),
        "onnxruntime-genai": str(onnxruntime_genai.__version__),
    }


def open_runtime(path: str, settings: Settings) -> OnnxRuntimeGenai:
    """Open a folder with its genai_config.json."""
    return OnnxRuntimeGenai(Path(path), settings)


class OnnxRuntimeGenai:
    """A model and its tokenizer; every request has a generator of its own."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        import onnxruntime_genai  # noqa: PLC0415  (in the child only)

        self._lib: Any = onnxruntime_genai
        self._threads = settings.threads or len(os.sched_getaffinity(0))
        self._config = read_config(folder)
        self._provider = _provider(self._config, settings)
        self._size = number(self._config, "model", "vocab_size")
        self._generator: Any = None
        try:
            self._model = self._lib.Model(self._chosen(folder, settings))
            self._vocab = Vocabulary(self._lib, self._model, folder, self._size)
            self.info = self._describe(settings)
        except Failure:
            raise
        except Exception as fault:  # noqa: BLE001  (it raises several kinds, of its own and of pybind11)
            said = shortened(str(fault))
            raise Failure(
                f"{folder.name}: onnxruntime-genai refuses it: {said}{_remedy(self._provider)}"
            ) from None

    def _chosen(self, folder: Path, settings: Settings) -> Any:
        """The artifact's settings, with the threads and the provider that were asked for."""
        config = self._lib.Config(str(folder))
        threads = {"intra_op_num_threads": self._threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        if "provider" in settings.options:
            config.clear_providers()
            if name := PROVIDERS[self._provider]:
                config.append_provider(name)
                for key, value in settings.options.get("provider_options", {}).items():
                    config.set_provider_option(name, str(key), str(value))
        return config

    def _describe(self, settings: Settings) -> Info:
        trained = number(self._config, "model", "context_length")
        kind = self._cache_type()
        return Info(
            runtime="onnxruntime_genai",
            can=(*CALLS, "template") if self._vocab.chat_template else CALLS,
            context=min(settings.context, trained),
            context_length=trained,
            vocab_size=self._size,
            bos_id=_token(self._config["model"].get("bos_token_id")),
            eos_id=_token(self._config["model"].get("eos_token_id")),
            eog_ids=self._vocab.ends,
            adds_bos=self._adds_bos(),
            chat_template=self._vocab.chat_template,
            kv_bytes_per_token=2 * self._layers() * math.prod(self._heads()) * kind.itemsize,
            notes={
                "provider": self._provider,
                "device": str(self._model.device_type).lower(),
                "kv_cache": kind.name,
                "model_type": str(self._model.type),
                "threads": str(self._threads),
            },
        )

    def _adds_bos(self) -> bool:
        bare, wrapped = (self._vocab.encode("a", special=False, add_bos=add) for add in (False, True))
        return wrapped != bare

    def _layers(self) -> int:
        return number(self._config, "model", "decoder", "num_hidden_layers")

    def _heads(self) -> tuple[int, int]:
        """How many heads keys and values have, and their size."""
        heads = number(self._config, "model", "decoder", "num_key_value_heads")
        return heads, number(self._config, "model", "decoder", "head_size")

    def _cache_type(self) -> np.dtype[Any]:
        """Of what numbers the cache is made, as the graph has it, whose sizes are to be the settings' own.

        This release goes by the graph; others, and what is computed here, by the settings.
        """
        layers, heads, generator = self._layers(), self._heads(), self._begin(1)
        name = self._named("inputs", "past_key_names", "past_key_values.%d.key")
        first, last, beyond = (_input(generator, name % layer) for layer in (0, layers - 1, layers))
        if first is None or last is None or beyond is not None or first.shape[1::2] != heads:
            raise Failure(
                f"{CONFIG}: {layers} layers with {heads[0]} key-value heads of {heads[1]}: "
                "the graph's cache is another",
                "it was changed, or is of another model",
            )
        return first.dtype

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Text to ids."""
        return self._vocab.encode(text, special=special, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return self._vocab.decode(ids)

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by the artifact's template."""
        return self._vocab.template(messages, add_generation_prompt=add_generation_prompt)

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """Append in parts, and give each part's rows."""
        self._require_room(len(ids))
        generator = self._begin(len(ids))
        for part in self._parts(ids):
            generator.append_tokens(part)
            rows = np.asarray(generator.get_output(self._logits_name())[0], np.float32)
            if rows.shape != (len(part), self._size):
                raise Failure(f"{len(part)} tokens gave logits of the shape {rows.shape}")
            yield rows

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Read the prompt in parts, then one token after the other, to the end of the context at most."""
        start = time.perf_counter()
        ids = request.ids or ()
        self._require_room(len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self.info.context - len(ids)))
        chooser, answer = Chooser(request), Answer(request, self.info.eog_ids)
        text_of = self._vocab.pieces()
        parts = self._parts(ids)
        generator = self._begin(len(ids) + request.max_tokens)
        for part in parts:
            generator.append_tokens(part)
        while True:
            token = chooser.choose(np.asarray(generator.get_logits()[0, -1], np.float32))
            piece = answer.add(token, str(text_of(token)).encode(), time.perf_counter() - start)
            yield piece
            if piece.end:
                return
            generator.append_tokens(np.array([token], np.int32))

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several in one engine, a token of each in every step."""
        for request in requests:
            self._require_room(len(request.ids or ()) + request.max_tokens)
            self._parts(request.ids or ())
        self._generator = None
        return together(self._lib, self._model, requests)

    def cache_bytes(self) -> int:
        """What the last request's cache takes, made for as many tokens as it needed."""
        if self._generator is None:
            return 0
        names = (
            self._named("outputs", "present_key_names", "present.%d.key"),
            self._named("outputs", "present_value_names", "present.%d.value"),
        )
        layers = range(self._layers())
        return sum(int(self._generator.get_output(name % layer).nbytes) for name in names for layer in layers)

    def close(self) -> None:
        """Let go of the model."""
        self._generator = None
        self._model = None

    def _begin(self, tokens: int) -> Any:
        """A generator with a cache for so many tokens; the one before is given back first."""
        self._generator = None
        params = self._lib.GeneratorParams(self._model)
        params.set_search_options(max_length=tokens, do_sample=False, num_beams=1, batch_size=1)
        self._generator = self._lib.Generator(self._model, params)
        return self._generator

    def _require_room(self, tokens: int) -> None:
        if tokens > self.info.context:
            raise Failure(
                f"{tokens} tokens do not fit the context of {self.info.context}", "open it with a longer one"
            )

    def _parts(self, ids: Sequence[int]) -> list[NDArray[np.int32]]:
        if not ids:
            raise Failure("an empty prompt: there is nothing to continue", "give at least one token")
        rows = max(1, min(BATCH, LOGITS_BYTES // (4 * self._size)))
        whole = self._vocab.checked(ids)
        return [whole[start : start + rows] for start in range(0, len(ids), rows)]

    def _logits_name(self) -> str:
        return self._named("outputs", "logits", "logits")

    def _named(self, side: str, key: str, usual: str) -> str:
        """What the artifact calls one of the graph's inputs or outputs."""
        return str(self._config["model"]["decoder"].get(side, {}).get(key, usual))


def _provider(config: Mapping[str, Any], settings: Settings) -> str:
    """The execution provider: the one that was asked for, else the artifact's own."""
    given = dict(settings.options)
    if unknown := set(given) - set(OPTIONS):
        raise Failure(
            f"onnxruntime_genai: no such option: {', '.join(sorted(unknown))}", f"it has {', '.join(OPTIONS)}"
        )
    if "provider" in given:
        name = str(given["provider"])
        if name not in PROVIDERS:
            raise Failure(f"onnxruntime_genai: provider {name!r} is none of {', '.join(PROVIDERS)}")
        if not isinstance(given.get("provider_options", {}), dict):
            raise Failure("onnxruntime_genai: provider_options is an object, as in JSON")
        return name
    if "provider_options" in given:
        raise Failure("onnxruntime_genai: provider_options are a provider's", "name it with provider=…")
    session = config["model"].get("decoder", {}).get("session_options", {})
    own = [name for one in session.get("provider_options") or [] for name in one]
    return str(own[0]).lower() if own else "cpu"


def _input(generator: Any, name: str) -> NDArray[Any] | None:
    """What is put into the graph under this name; none where it has no such input."""
    try:
        found: NDArray[Any] = generator.get_input(name)
    except RuntimeError:
        return None
    return found


def _remedy(provider: str) -> str:
    """In the message itself: of what a worker says, no hint reaches a person."""
    return "" if provider == "cpu" else "; --option provider=cpu opens it without that provider"


def _token(value: object) -> int | None:
    """The first where there are several."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) else None
