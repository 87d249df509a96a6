"""What the Hub's refusals mean to somebody who writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.publish.destination import Moved
from convert.source.retry import RETRIED_STATUS, Transient, retry_after_s

if TYPE_CHECKING:
    import httpx2


class Damaged(Transient):
    """What arrived is not what was sent: send it again."""


# status → (what it means, what to try); what the server said is added to the first.
_WORDS: dict[int, tuple[str, str]] = {
    400: ("the Hub rejects the request", "check the card and the recipe's publish:"),
    401: ("the Hub does not accept your token", "run `hf auth login`, or renew HF_TOKEN"),
    402: ("the Hub asks for payment", "look at the account's plan and storage"),
    403: ("your token may not write there", "give it the right to write, or name a repo of your own"),
    404: ("not there, or hidden from you", "check publish.repo, and that your token may write to it"),
    409: ("something of that name already exists", "look at it on the Hub, or choose another name"),
    413: ("too large for the Hub", "split it: `split_max_size` of the target"),
    507: ("no storage is left there", "free some, or look at the account's plan"),
}


def refusal(endpoint: str, repo: str, file: str, answer: httpx2.Response, said: str) -> Failure | Transient:
    """Turn an answer's status into the fault that it is."""
    status, headers = answer.status_code, answer.headers
    where = f"{repo}/{file}" if file else repo
    if status in RETRIED_STATUS:
        return Transient(f"{endpoint} answered {status}", retry_after_s(headers))
    if status == 422:
        return Damaged("what arrived is not what was sent")
    if status == 412:
        return Moved(where, f"{endpoint}/{repo}/commits/main")
    if headers.get("x-error-code") == "RevisionNotFound":
        return Failure(f"{where}: no such branch or commit", "check publish.branch")
    what, hint = _WORDS.get(status, (f"the Hub answered {status}", "check HF_ENDPOINT and publish.repo"))
    return Failure(f"{where}: {what} ({status}{': ' + said if said else ''})", hint)
