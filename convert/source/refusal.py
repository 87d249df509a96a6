"""The Hub's error responses as a Failure for the user, or as a Transient fault to retry."""

from collections.abc import Mapping
from dataclasses import dataclass

from convert.errors import Failure
from convert.source.listing import Kind
from convert.source.retry import RETRIED_STATUS, Transient, answered

MORE = "with a token (HF_TOKEN, or `hf auth login`) the Hub allows more"
UNTRUSTED = "the server or a proxy is broken or hostile: try again or check HF_ENDPOINT"


@dataclass(frozen=True)
class Request:
    """What was requested, and whether with a token."""

    endpoint: str
    model: str
    revision: str
    file: str = ""
    is_authorized: bool = False
    kind: Kind = "model"

    @property
    def where(self) -> str:
        """Return its name in messages."""
        return f"{self.model}/{self.file}" if self.file else self.model

    @property
    def page(self) -> str:
        """Return the address of the repo's page."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.model}"


def broken(error: Exception, endpoint: str) -> Transient | Failure:
    """Describe a failed connection without the exception's text, which may quote a header with the token."""
    kind = type(error).__name__
    if kind == "OfflineModeIsEnabled":
        return Failure(f"{endpoint}: the Hub's client is in offline mode", "unset HF_HUB_OFFLINE")
    if kind in {"TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError"}:
        return Failure(f"{endpoint}: no request can be made ({kind})", "check HF_ENDPOINT and HF_TOKEN")
    if "Timeout" in kind:
        return Transient(f"{endpoint} did not answer in time")
    if kind == "ConnectError":
        return Transient(f"no connection to {endpoint} ({error})")
    return Transient(f"the connection to {endpoint} broke ({kind})")


def refusal(request: Request, status: int, headers: Mapping[str, str]) -> Failure | Transient:
    """Describe a response with this status."""
    code = headers.get("x-error-code", "")
    if status in RETRIED_STATUS:
        return answered(request.endpoint, status, headers, MORE)
    if status == 401 and request.is_authorized and not code:
        return Failure(
            f"{request.where}: the Hub does not accept your token", "run `hf auth login` or renew HF_TOKEN"
        )
    if not code and not request.file and status in {401, 404}:
        code = "RepoNotFound"  # the Hub hides private repos
    if code in _BY_CODE:
        message, hint = _BY_CODE[code]
        return Failure(message.format(request=request), hint.format(request=request))
    if status in {401, 403}:
        what = f"{request.where}: access refused ({status})"
        return Failure(what, "set HF_TOKEN or run `hf auth login` with a token that may read it")
    return Failure(f"{request.where}: {request.endpoint} answered {status}", "check HF_ENDPOINT and the name")


_BY_CODE = {
    "GatedRepo": (
        "{request.where}: the repo is gated, and you have no access",
        "accept its terms at {request.page}, then set HF_TOKEN or run `hf auth login`",
    ),
    "RepoNotFound": (
        "{request.model}: no such {request.kind} on {request.endpoint}, or it is private",
        "check the name; if it is private, set HF_TOKEN or run `hf auth login` with a token that may read it",
    ),
    "RevisionNotFound": (
        "{request.model}: no revision {request.revision!r}",
        "see its branches and tags at {request.page}",
    ),
    "EntryNotFound": ("{request.where}: listed, but not there", "run the same command again"),
}
