"""An open worker as a model of lm-evaluation-harness: its odds of texts, and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from convert.errors import Failure
from verify.logprobs import foretold
from verify.runtimes import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.worker import Worker

ANSWER = 256  # tokens, where a task does not say; the harness's own


class WorkerModel(TemplateLM):  # type: ignore[misc]  # the package has no types, and may be absent
    """A worker that is asked one question at a time."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    @property
    def eot_token_id(self) -> int:
        """Return the token that ends a text."""
        info = self._worker.info
        found = info.eos_id if info.eos_id is not None else next(iter(info.eog_ids), info.bos_id)
        if found is None:
            raise Failure("it has no token that ends a text")
        return found

    @property
    def prefix_token_id(self) -> int:
        """Return the token that a text begins with where nothing comes before it."""
        bos_id = self._worker.info.bos_id
        return self.eot_token_id if bos_id is None else bos_id

    def tok_encode(self, string: str, *, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Turn text into ids, as the model's own tokenizer begins it where nobody says otherwise."""
        info, adds_bos = self._worker.info, add_special_tokens
        if adds_bos is None:
            adds_bos = info.adds_bos
        ids = self._worker.tokenize(string, special=True, add_bos=bool(adds_bos))
        if add_special_tokens is None and ids[:2] == [info.bos_id] * 2:  # the text has it already
            del ids[0]
        return ids

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Return the log probability of whole texts, in windows of the context's length."""
        found = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._worker.info.context,
                context_len=1,
            )
            pairs = map(make_disjoint_window, windows)
            found.append(sum(self._score(before, after)[0] for before, after in pairs))
        return found

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Answer, up to any of the texts that a task ends an answer with."""
        return [self._answer(*request.args) for request in requests]

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        return [self._score(before, after) for _, before, after in requests]

    def _score(self, before: Sequence[int], after: Sequence[int]) -> tuple[float, bool]:
        """Return the log probability of a continuation, and whether it is the likeliest all along."""
        if not {"logits", "top_logprobs"} & {*self._worker.info.can} or not self._worker.info.vocab_size:
            raise Failure(
                f"{self._worker.info.runtime} gives no log probabilities, and the task asks for them"
            )
        ids = [*before, *after][-self._worker.info.context :]
        found = foretold(self._worker, ids, max(0, len(ids) - len(after) - 1))
        return float(-found.surprisal.sum()), bool((found.top == ids[-len(after) :]).all())

    def _answer(self, context: str, asked: dict[str, Any]) -> str:
        info = self._worker.info
        most = min(int(asked.get("max_gen_toks") or ANSWER), info.context // 2)
        until = asked.get("until") or ()
        given: dict[str, Any] = {"text": context}
        if "tokenize" in info.can and not info.takes_text:
            given = {"ids": tuple(self.tok_encode(context)[most - info.context :])}
        request = Request(
            **given,
            max_tokens=most,
            stop=(until,) if isinstance(until, str) else tuple(filter(None, until)),
            temperature=float(asked.get("temperature") or 0.0) if asked.get("do_sample") else 0.0,
        )
        return self._worker.answer(request)
