"""The source itself, as Transformers runs it: float32 where it fits, else mapped; none of its code is run.

Where the weights do not fit as float32 they stay mapped as they are stored. Logits are still computed in
float32, a module's weights being widened for as long as it works; answers are given in the stored type, since
widening all of them for each token would take most of the time.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.answering import Answer, Chooser
from verify.limits import available_memory
from verify.runtimes import Info, Piece, Request, Settings
from verify.runtimes._canonical import Canonical
from verify.runtimes._weights import as_qwen2, read_config, read_weights
from verify.template import render

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

LOGITS_BYTES = 128 << 20
BATCH = 256
CALLS = ("tokenize", "detokenize", "logits", "generate", "cache")
OPTIONS = {"dtype": ("auto", "float32", "streamed", "stored"), "device": None, "tokenizer": None}
# The share of spare memory that float32 weights may take; the rest is for activations and the cache.
SHARE = 0.6


def suits(folder: Path) -> bool:
    """Is this a checkpoint?"""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def preload() -> dict[str, str]:
    """Import the natives."""
    import torch  # noqa: PLC0415  (in the child only)
    import transformers  # noqa: PLC0415
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache, PreTrainedModel  # noqa: F401, PLC0415

    transformers.logging.disable_progress_bar()
    return {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}


def open_runtime(path: str, settings: Settings) -> Transformers:
    """Open a checkpoint folder; options.tokenizer names the one with its tokenizer.json, if another."""
    return Transformers(Path(path), settings)


class Transformers:
    """A model, its tokenizer, and a cache made anew for every request."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        import torch  # noqa: PLC0415  (in the child only)

        self._torch: Any = torch
        dtype, self._device = _options(settings)
        torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
        config = read_config(folder)
        self._tokenizer = Canonical(Path(settings.options.get("tokenizer", folder)), config)
        self._model, self._is_streamed = _open_model(folder, config, dtype)
        self._model.to(self._device)
        self._is_wide = False
        if self._is_streamed:
            self._widen_while_working()
        self._cache: Any = None
        self.info = self._describe(settings)

    def _describe(self, settings: Settings) -> Info:
        config, tokenizer = self._model.config, self._tokenizer
        trained = int(config.max_position_embeddings)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = self._torch.empty(0, dtype=self._model.dtype).element_size()
        return Info(
            runtime="transformers",
            can=(*CALLS, "template") if tokenizer.chat_template else CALLS,
            context=min(settings.context, trained),
            context_length=trained,
            vocab_size=int(config.vocab_size),
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            eog_ids=tokenizer.eog_ids,
            adds_bos=tokenizer.adds_bos,
            chat_template=tokenizer.chat_template,
            kv_bytes_per_token=2 * int(config.num_hidden_layers) * heads * head * width,
            notes={
                "weights": str(self._model.dtype).removeprefix("torch."),
                "logits": "float32" if self._is_streamed else str(self._model.dtype).removeprefix("torch."),
                "offload": "mapped from disk" if self._is_streamed else "none",
                "threads": str(self._torch.get_num_threads()),
            },
        )

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Text to ids."""
        return self._tokenizer.encode(text, special=special, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return self._tokenizer.decode(ids)

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by the source's template."""
        template, markup = self.info.chat_template or "", self._tokenizer.markup
        return render(template, messages, add_generation_prompt=add_generation_prompt, markup=markup)

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """Run in batches over one cache, and give each batch's rows."""
        self._start(len(ids))
        rows = max(1, min(BATCH, LOGITS_BYTES // (4 * (self.info.vocab_size or 1))))
        for start in range(0, len(ids), rows):
            with self._wide():
                block = self._run(ids[start : start + rows], keep=0)
            yield block

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Read the prompt in batches, then one token after the other, to the end of the context at most."""
        start = time.perf_counter()
        ids = request.ids or ()
        if not ids:
            raise Failure("an empty prompt: there is nothing to continue", "give at least one token")
        self._start(len(ids) + 1)
        request = replace(request, max_tokens=min(request.max_tokens, self.info.context - len(ids)))
        chooser, answer = Chooser(request), Answer(request, self.info.eog_ids)
        text_of = self._tokenizer.pieces()
        for at in range(0, len(ids), BATCH):
            block = self._run(ids[at : at + BATCH], keep=1)
        while True:
            token = chooser.choose(block[-1])
            piece = answer.add(token, (text_of(token) or "").encode(), time.perf_counter() - start)
            yield piece
            if piece.end:
                return
            block = self._run((token,), keep=1)

    def cache_bytes(self) -> int:
        """The cache's tensors."""
        layers = [] if self._cache is None else self._cache.layers
        return sum(
            int(one.nbytes) for layer in layers for one in (layer.keys, layer.values) if one is not None
        )

    def close(self) -> None:
        """Let go of the model."""
        self._model = self._cache = None

    def _start(self, tokens: int) -> None:
        from transformers import DynamicCache  # noqa: PLC0415

        if tokens > self.info.context:
            raise Failure(
                f"{tokens} tokens do not fit the context of {self.info.context}", "open it with a longer one"
            )
        self._cache = DynamicCache(config=self._model.config)

    def _run(self, ids: Sequence[int], *, keep: int) -> NDArray[np.float32]:
        size = self.info.vocab_size or 0
        if outside := [token for token in ids if not 0 <= token < size]:
            raise Failure(f"token {outside[0]} is outside the vocabulary of {size}")
        torch = self._torch
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(ids)], device=self._device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        return np.asarray(out.logits[0].float().cpu().numpy(), np.float32)

    @contextmanager
    def _wide(self) -> Iterator[None]:
        self._is_wide = self._is_streamed
        try:
            yield
        finally:
            self._is_wide = False

    def _widen_while_working(self) -> None:
        """Give a module float32 weights while it works; an embedding's rows are few, and widened after."""
        torch = self._torch
        stored: dict[Any, Any] = {}

        def before(module: Any, _: Any) -> None:
            if self._is_wide:
                for parameter in module.parameters(recurse=False):
                    stored[parameter] = parameter.data
                    parameter.data = parameter.data.float()

        def after(module: Any, _: Any, __: Any) -> None:
            for parameter in module.parameters(recurse=False):
                if parameter in stored:
                    parameter.data = stored.pop(parameter)

        def widened(_: Any, __: Any, out: Any) -> Any:
            return out.float() if self._is_wide else out

        for module in self._model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.register_forward_hook(widened)
            elif next(module.parameters(recurse=False), None) is not None:
                module.register_forward_pre_hook(before)
                module.register_forward_hook(after)


def _open_model(folder: Path, config: dict[str, Any], dtype: str) -> tuple[Any, bool]:
    """The model with its weights, and whether they stay mapped while float32 is wanted."""
    import torch  # noqa: PLC0415
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING  # noqa: PLC0415

    model_type = str(config.get("model_type"))
    weights = read_weights(folder, model_type)
    if model_type == "qwen":
        config = as_qwen2(config)
    if config["model_type"] not in CONFIG_MAPPING:
        raise Failure(
            f"{folder}: Transformers has no model_type {model_type!r}, and code from a repo is never run"
        )
    if dtype == "auto":
        needed = 4 * sum(tensor.numel() for tensor in weights.values())
        dtype = "float32" if needed < SHARE * available_memory() else "streamed"
    stored = next(iter(weights.values())).dtype
    made = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    model, found = MODEL_FOR_CAUSAL_LM_MAPPING[type(made)].from_pretrained(
        None,
        config=made,
        state_dict=weights,
        dtype=torch.float32 if dtype == "float32" else stored,
        output_loading_info=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise Failure(f"{folder}: {len(missing)} weights are missing, {missing[0]} among them")
    return model.eval(), dtype == "streamed" and stored != torch.float32


def _options(settings: Settings) -> tuple[str, str]:
    given = dict(settings.options)
    if unknown := set(given) - set(OPTIONS):
        raise Failure(
            f"transformers: no such option: {', '.join(sorted(unknown))}", f"it has {', '.join(OPTIONS)}"
        )
    dtype = str(given.get("dtype", "auto"))
    if dtype not in (known := OPTIONS["dtype"] or ()):
        raise Failure(f"transformers: dtype {dtype!r} is none of {', '.join(known)}")
    return dtype, str(given.get("device", "cpu"))
