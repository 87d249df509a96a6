"""What the Hub's answers other than a file mean, to a person or to the loop that tries again."""

from collections.abc import Mapping
from dataclasses import dataclass

from convert.errors import Failure
from convert.source.listing import Kind
from convert.source.retry import RETRIED_STATUS, Transient, retry_after_s

UNTRUSTED = "the server, or something on the way to it, is broken or hostile: try again or check HF_ENDPOINT"


@dataclass(frozen=True)
class Asked:
    """What was asked for, and whether a token said by whom."""

    endpoint: str
    model: str
    revision: str
    file: str = ""
    is_authorized: bool = False
    kind: Kind = "model"

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.model}/{self.file}" if self.file else self.model

    @property
    def page(self) -> str:
        """Where a person looks at the repo."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.model}"


def broken(error: Exception, endpoint: str) -> Transient | Failure:
    """A connection that failed, without the exception's text: that may quote a header, and so the token."""
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


def refusal(asked: Asked, status: int, headers: Mapping[str, str]) -> Failure | Transient:
    """The fault that an answer of this status is."""
    code = headers.get("x-error-code", "")
    if status in RETRIED_STATUS:
        return Transient(f"{asked.endpoint} answered {status}", retry_after_s(headers))
    if status == 401 and asked.is_authorized and not code:
        return Failure(
            f"{asked.where}: the Hub does not accept your token", "run `hf auth login` or renew HF_TOKEN"
        )
    if not code and not asked.file and status in {401, 404}:
        code = "RepoNotFound"  # the Hub hides what is private
    if code in _BY_CODE:
        message, hint = _BY_CODE[code]
        return Failure(message.format(asked=asked), hint.format(asked=asked))
    if status in {401, 403}:
        return Failure(
            f"{asked.where}: access refused ({status})",
            "set HF_TOKEN or run `hf auth login`, with a token that may read it",
        )
    return Failure(f"{asked.where}: {asked.endpoint} answered {status}", "check HF_ENDPOINT and the name")


_BY_CODE = {
    "GatedRepo": (
        "{asked.where}: the repo is gated, and you have no access",
        "accept its terms at {asked.page}, then set HF_TOKEN or run `hf auth login`",
    ),
    "RepoNotFound": (
        "{asked.model}: no such {asked.kind} on {asked.endpoint}, or it is private",
        "check the name; if it is private, set HF_TOKEN or run `hf auth login` with a token that may read it",
    ),
    "RevisionNotFound": (
        "{asked.model}: no revision {asked.revision!r}",
        "see its branches and tags at {asked.page}",
    ),
    "EntryNotFound": ("{asked.where}: listed, but not there", "run the same command again"),
}
