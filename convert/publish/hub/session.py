"""Talk to the Hub as somebody: whose token, when to try again, and what its refusals mean to a person."""

from __future__ import annotations

import json
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from convert.errors import Failure, UsageFailure
from convert.publish.destination import Moved
from convert.size import duration
from convert.source.hub import client
from convert.source.refusal import broken
from convert.source.retry import RETRIED_STATUS, Backoff, Transient, answered, retry_after_s
from convert.store.fault import failure_from
from convert.store.objects import RERUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2
    from huggingface_hub import HfApi

    from convert.source import Hub

_T = TypeVar("_T")
_TOKEN = re.compile(r"[!-~]+")
_LOGIN = "run `hf auth login`, or set HF_TOKEN, with a token that may write"
# A commit of many files takes the Hub a while.
ANSWER_S = 120.0


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


@dataclass(frozen=True)
class Session:
    """Somebody at a Hub."""

    hub: Hub
    api: HfApi
    user: str
    token: str = field(repr=False)

    def backoff(self, repo: str) -> Backoff:
        """Count failures, and wait between them."""
        return Backoff(repo, RERUN, self.hub.retry, Event())

    def ask(self, repo: str, call: Callable[[], _T], *, retries_itself: bool = False, file: str = "") -> _T:
        """Make a call that may be made twice, again where that may help and the client does not do so."""
        backoff = self.backoff(repo)
        while True:
            try:
                return self.once(repo, call, file=file)
            except Transient as fault:
                if retries_itself and not isinstance(fault, Damaged):
                    raise Failure(f"{repo}: {fault.reason}; gave up", RERUN) from None
                backoff.wait(fault)

    def once(self, repo: str, call: Callable[[], _T], *, file: str = "") -> _T:
        """Make a call of the client; what goes wrong is a Failure, or a Transient where it may pass."""
        try:
            with warnings.catch_warnings():
                # The client's remarks on its own calls; our own check has said what is wrong with the card.
                warnings.simplefilter("ignore")
                return call()
        except Exception as error:  # noqa: BLE001 - what is not understood is raised as it is
            raise self._understood(error, repo, file) from None

    def request(self, method: str, url: str, content: object = None) -> httpx2.Response:
        """Make a request that the client has no call for, as one of its calls does."""
        library = client()
        headers = library.utils.build_hf_headers(token=self.token, library_name="modelwright")
        answer: httpx2.Response = library.get_session().request(method, url, headers=headers, json=content)
        library.utils.hf_raise_for_status(answer)
        return answer

    def _understood(self, error: Exception, repo: str, file: str) -> Exception:
        library, endpoint = client(), self.hub.endpoint
        import httpx2  # noqa: PLC0415 - the client's own HTTP library

        found = error
        match error:
            case RuntimeError() if isinstance(error.__cause__, Exception):  # the client's word for an upload
                found = self._understood(error.__cause__, repo, file)
            case library.errors.HfHubHTTPError():
                said = self._scrubbed(error.server_message or "")
                found = _refusal(endpoint, repo, file, error.response, said)
            case httpx2.RequestError() | library.errors.OfflineModeIsEnabled():
                found = broken(error, endpoint)
            case json.JSONDecodeError() | KeyError() | TypeError() | AttributeError():
                found = Transient(f"{endpoint} gave an answer that is not a Hub's")
            case OSError():
                found = failure_from(error, self.hub.cache)
            case ValueError():
                where = f"{repo}/{file}" if file else repo
                found = Failure(f"{where}: {self._scrubbed(str(error))}", "check the recipe and HF_ENDPOINT")
        return found

    def _scrubbed(self, text: str) -> str:
        """Give what a server said, on one line, and without our token should it have said that."""
        line = " ".join(text.replace(self.token, "[token]").split())
        return line if len(line) <= 300 else f"{line[:299]}…"


def token_at_hand(hub: Hub) -> str | None:
    """Read the token of HF_TOKEN or of `hf auth login`, if there is one."""
    token: str | None = hub.token or client().get_token()
    if token is not None and not _TOKEN.fullmatch(token):
        raise Failure("HF_TOKEN: not a token: it holds a space or a letter that none has", "copy it again")
    return token


@contextmanager
def signed_in(hub: Hub, answer_s: float = ANSWER_S) -> Iterator[Session]:
    """Sign in to the Hub, with a token that may write."""
    if hub.is_offline:
        raise UsageFailure("publishing needs the network", "leave out --offline, and unset HF_HUB_OFFLINE")
    token = token_at_hand(hub)
    if token is None:
        raise Failure(f"{hub.endpoint}: you are not logged in", _LOGIN)
    library = client()
    library.utils.disable_progress_bars()  # the command line has its own
    library.utils.logging.set_verbosity_error()  # its warnings name addresses that are as good as keys
    library.set_client_factory(lambda: _http_client(hub, answer_s))
    try:
        api = library.HfApi(endpoint=hub.endpoint, token=token, library_name="modelwright")
        session = Session(hub, api, "", token)
        about = session.ask(hub.endpoint, api.whoami)
        role = ((about.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise Failure(f"{hub.endpoint}: your token may only read", _LOGIN)
        yield replace(session, user=str(about["name"]))
    finally:
        from huggingface_hub.utils._http import default_client_factory  # noqa: PLC0415

        library.set_client_factory(default_client_factory)


def _http_client(hub: Hub, answer_s: float) -> httpx2.Client:
    """Make a client that does not wait endlessly, and sends the token to the Hub only."""
    import httpx2  # noqa: PLC0415

    endpoint, connect_s = httpx2.URL(hub.endpoint), hub.retry.connect_timeout_s
    timeout = {"connect": connect_s, "pool": connect_s, "read": answer_s, "write": answer_s}

    def before(request: httpx2.Request) -> None:
        request.extensions["timeout"] = timeout
        url = request.url
        if (url.scheme, url.host, url.port) != (endpoint.scheme, endpoint.host, endpoint.port):
            request.headers.pop("authorization", None)

    def after(response: httpx2.Response) -> None:
        wait_s = retry_after_s(response.headers) if response.status_code in (429, 503) else None
        if wait_s is not None and wait_s > hub.retry.total_wait_s:
            said = f"answered {response.status_code}, and asks to wait {duration(round(wait_s))}"
            raise Failure(f"{hub.endpoint} {said}", f"after that, {RERUN}")

    return httpx2.Client(
        follow_redirects=True, timeout=None, event_hooks={"request": [before], "response": [after]}
    )


def _refusal(endpoint: str, repo: str, file: str, answer: httpx2.Response, said: str) -> Failure | Transient:
    """Turn an answer's status into the fault that it is."""
    status, headers = answer.status_code, answer.headers
    where = f"{repo}/{file}" if file else repo
    if status in RETRIED_STATUS:
        return answered(endpoint, status, headers, "the Hub allows more to paying accounts")
    if status == 422:
        return Damaged("what arrived is not what was sent")
    if status == 412:
        return Moved(where, f"{endpoint}/{repo}/commits/main")
    if headers.get("x-error-code") == "RevisionNotFound":
        return Failure(f"{where}: no such branch or commit", "check publish.branch")
    what, hint = _WORDS.get(status, (f"the Hub answered {status}", "check HF_ENDPOINT and publish.repo"))
    return Failure(f"{where}: {what} ({status}{': ' + said if said else ''})", hint)
