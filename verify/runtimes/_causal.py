"""A causal model of torch's, however it was opened: its tokenizer, its logits, its answers."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.answering import Answer, Chooser
from verify.runtimes import Info, Piece, Request, Settings
from verify.template import render

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes._canonical import Canonical

LOGITS_BYTES = 128 << 20
BATCH = 256
CALLS = ("tokenize", "detokenize", "logits", "generate", "cache")


class CausalModel:
    """A model, its tokenizer, and a cache made anew for every request."""

    def __init__(self, model: Any, tokenizer: Canonical, device: str) -> None:
        import torch  # noqa: PLC0415  (in the child only)

        self._torch: Any = torch
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._cache: Any = None
        self.info: Info

    def describe(self, runtime: str, settings: Settings, notes: Mapping[str, str]) -> Info:
        """What the model's config says of it."""
        config, tokenizer = self._model.config, self._tokenizer
        trained = int(config.max_position_embeddings)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = self._torch.empty(0, dtype=self._model.dtype).element_size()
        return Info(
            runtime=runtime,
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
            notes=notes,
        )

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Text to ids."""
        return self._tokenizer.encode(text, special=special, add_bos=add_bos)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text."""
        return self._tokenizer.decode(ids)

    def template(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool) -> str:
        """Lay a chat out by the model's template."""
        template, markup = self.info.chat_template or "", self._tokenizer.markup
        return render(template, messages, add_generation_prompt=add_generation_prompt, markup=markup)

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """Run in batches over one cache, and give each batch's rows."""
        self._start(len(ids))
        rows = max(1, min(BATCH, LOGITS_BYTES // (4 * (self.info.vocab_size or 1))))
        for start in range(0, len(ids), rows):
            with self._working():
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

    def _working(self) -> AbstractContextManager[None]:
        """What surrounds the computing of logits that are compared."""
        return nullcontext()
