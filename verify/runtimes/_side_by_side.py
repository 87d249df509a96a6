"""Several texts in one model of torch's: each in its own row from position 0, the rest of a row masked.

Padding must not change an answer. Whether it does is tried on the model itself: the same few tokens, read
alone and next to a longer text. Where the logits differ by more than rounding, one text is read at a time.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Of the trial, in tokens.
SHORT, LONG = 5, 11
# Of the range of the logits; sums of another order differ by so much, and wrong positions by far more.
ROUNDINGS = 1024
LARGEST_SHARE = 0.05


class _Place:
    """Which rows a forward pass reads into, and from where."""

    seat: int | None = None  # one text is read; none: a token of each
    at = 0
    stop = 0
    rows: Any = None
    ends: Any = None


def _layer_class() -> type:
    from transformers.cache_utils import DynamicLayer

    class Rows(DynamicLayer):  # type: ignore[misc]
        """A layer's keys and values, with room for all texts."""

        def __init__(self, place: _Place, count: int, room: int) -> None:
            super().__init__()
            self._place, self._shape = place, (count, room)

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            count, room = self._shape
            self.keys, self.values = (
                one.new_empty((count, one.shape[1], room, one.shape[3])) for one in (key_states, value_states)
            )
            self.is_initialized = True

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            place, found = self._place, []
            for kept, new in ((self.keys, key_states), (self.values, value_states)):
                if place.seat is not None:
                    kept[place.seat, :, place.at : place.stop] = new[0]
                    found.append(kept[place.seat : place.seat + 1, :, : place.stop])
                else:
                    kept[place.rows, :, place.ends] = new[:, :, 0]
                    found.append(kept[: len(place.rows), :, : place.stop])
            return found[0], found[1]

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self._place.at + query_length, 0

        def get_seq_length(self) -> int:
            return self._place.at

    return Rows


class SideBySide:
    """A model's texts, read one by one and continued together."""

    def __init__(self, model: Any, count: int, room: int) -> None:
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        self._torch: Any = torch
        self._model = model
        self._place = _Place()
        self._read = [0] * count  # tokens in each row
        cache = DynamicCache(config=model.config)
        # A layer that keeps a window, or a state, can't have texts of several lengths in it.
        self._is_plain = bool(cache.layers) and all(type(each) is DynamicLayer for each in cache.layers)
        rows = _layer_class()
        cache.layers = [rows(self._place, count, room) for _ in cache.layers]
        self._cache = cache
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def is_exact(self) -> bool:
        """Try whether texts of several lengths get the logits that each gets alone."""
        if not self._is_plain:
            return False
        torch = self._torch
        size = int(self._model.config.get_text_config(decoder=True).vocab_size)
        ids = [int(number) for number in np.random.default_rng(0).integers(0, size, LONG + 1)]
        try:
            with torch.inference_mode():
                alone = self._model(input_ids=torch.tensor([ids[: SHORT + 1]], device=self._model.device))
            self.read(0, ids[:LONG], 0)
            self.read(1, ids[:SHORT], 0)
            _, together = self.step([(0, ids[LONG], LONG), (1, ids[SHORT], SHORT)])
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False  # this model can't be asked so
        wanted = alone.logits[0, -1].float().cpu().numpy()
        share = min(LARGEST_SHARE, ROUNDINGS * torch.finfo(self._model.dtype).eps)
        return bool(np.abs(together - wanted).max() <= share * np.ptp(wanted))

    def read(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one text, and return the logits after the last."""
        place = self._place
        place.seat, place.at, place.stop = seat, at, at + len(ids)
        self._read[seat] = place.stop
        rows = self._run([list(ids)], [list(range(at, place.stop))], None)
        row: NDArray[np.float32] = rows[0]
        return row

    def step(self, entries: Sequence[tuple[int, int, int]]) -> NDArray[np.float32]:
        """Read one token of several texts, and return the logits after each."""
        torch, place = self._torch, self._place
        for seat, _, at in entries:
            self._read[seat] = at
        count = 1 + max(seat for seat, _, _ in entries)
        # A row in between that nobody asks for has a token that is forgotten again.
        tokens = [0] * count
        for seat, token, _ in entries:
            tokens[seat] = token
        ends = self._read[:count]
        device = self._model.device
        place.seat, place.at, place.stop = None, max(ends), max(ends) + 1
        place.rows, place.ends = torch.arange(count, device=device), torch.tensor(ends, device=device)
        seen = torch.arange(place.stop, device=device)[None] <= place.ends[:, None]
        rows = self._run([[token] for token in tokens], [[end] for end in ends], seen)
        for seat, _, at in entries:
            self._read[seat] = at + 1
        found: NDArray[np.float32] = rows[[seat for seat, _, _ in entries]]
        return found

    def _run(self, ids: list[list[int]], positions: list[list[int]], mask: Any) -> NDArray[np.float32]:
        torch, device = self._torch, self._model.device
        more = {"position_ids": torch.tensor(positions, device=device)} if self._takes_positions else {}
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=mask,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                **more,
            )
        return np.asarray(out.logits[:, -1].float().cpu().numpy(), np.float32)
