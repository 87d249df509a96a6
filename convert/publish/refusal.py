"""What the Hub's refusals mean to somebody who writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.source.retry import RETRIED_STATUS, Transient, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Mapping


class Moved(Failure):
    """Somebody else changed the branch meanwhile; nothing was published."""


class Damaged(Transient):
    """What arrived is not what was sent: to be sent again."""


@dataclass(frozen=True)
class Asked:
    """What was asked for."""

    endpoint: str
    repo: str
    file: str = ""

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.repo}/{self.file}" if self.file else self.repo


# status → (what it means, what to try); `said` is added to the first.
_WORDS: dict[int, tuple[str, str]] = {
    400: ("the Hub calls the request wrong", "check the card and the recipe's publish:"),
    401: ("the Hub does not accept your token", "run `hf auth login`, or renew HF_TOKEN"),
    402: ("the Hub wants to be paid", "look at the account's plan and storage"),
    403: ("your token may not write there", "give it the right to write, or name a repo of your own"),
    404: ("not there, or hidden from you", "check publish.repo, and that your token may write to it"),
    409: ("something of that name stands there already", "look at it on the Hub, or choose another name"),
    413: ("the Hub finds it too large", "split it: `split_max_size` of the target"),
    507: ("no storage is left there", "free some, or look at the account's plan"),
}


def refusal(asked: Asked, status: int, headers: Mapping[str, str], said: str = "") -> Failure | Transient:
    """The fault that an answer of this status is."""
    if status in RETRIED_STATUS:
        return Transient(f"{asked.endpoint} answered {status}", retry_after_s(headers))
    if status == 422:
        return Damaged("what arrived is not what was sent")
    if status == 412:
        return Moved(
            f"{asked.where}: somebody changed it meanwhile, and nothing was published",
            f"look at {asked.endpoint}/{asked.repo}/commits/main, then run the same command again",
        )
    if headers.get("x-error-code") == "RevisionNotFound":
        return Failure(f"{asked.where}: no such branch or commit", "check publish.branch")
    what, hint = _WORDS.get(status, (f"the Hub answered {status}", "check HF_ENDPOINT and publish.repo"))
    return Failure(f"{asked.where}: {what} ({status}{': ' + said if said else ''})", hint)
