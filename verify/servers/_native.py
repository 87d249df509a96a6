"""Reading what servers answer at addresses of their own, outside OpenAI's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from convert.errors import Failure
from verify.runtimes._events import Server as Api

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from verify.runtimes import Info


class Native:
    """What the clients of such servers do alike."""

    info: Info
    _server: Api

    def native(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask at an address that does not begin as OpenAI's do."""
        parts = urlsplit(self._server.base)
        root = Api(f"{parts.scheme}://{parts.netloc}", self._server.timeout_s, check=self._server.check)
        answer = root.post(path, body)
        if not isinstance(answer, dict):
            raise Failure(f"{path}: the answer is not an object")
        return answer

    def ids(self, answer: Mapping[str, Any], key: str) -> list[int]:
        """Read a list of token ids."""
        found = answer.get(key)
        if not isinstance(found, list) or not all(type(each) is int for each in found):
            raise Failure(f"the server's {key} are no list of ids")
        return found

    def text(self, answer: Mapping[str, Any], key: str) -> str:
        """Read a text."""
        found = answer.get(key)
        if not isinstance(found, str):
            raise Failure(f"the server's {key} is no text")
        return found

    def row(self, pairs: Mapping[int, float]) -> NDArray[np.float32]:
        """Make one row of logprobs, -inf where the server does not say."""
        size = self.info.vocab_size or 0
        made = np.full(size, -np.inf, np.float32)
        ids: Sequence[int] = list(pairs)
        if any(type(each) is not int or not 0 <= each < size for each in ids):
            raise Failure(f"the server gives logprobs of tokens outside the vocabulary of {size}")
        made[ids] = [float(each) for each in pairs.values()]
        return made
