"""The Hub: its address, the token, and the files of a repo at a commit."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from convert.errors import Failure, UsageFailure
from convert.source.listing import FileDigest, Kind, Listing, refuse_escaping
from convert.source.refusal import UNTRUSTED, Request, broken, refusal
from convert.source.retry import Backoff, RetryLimits, Transient

if TYPE_CHECKING:
    from types import ModuleType

    from huggingface_hub.hf_api import DatasetInfo, ModelInfo, RepoSibling

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
REPO = re.compile(r"(\w([\w.-]{0,94}\w)?/)?\w([\w.-]{0,94}\w)?", re.ASCII)
_REVISION = re.compile(r"[\w+=@#-][\w.+=@#/-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Hub:
    """A Hub and the local cache for it; `from_environment` reads the usual variables."""

    endpoint: str
    cache: Path  # in the layout of the Hub's own client, so that no tool downloads a model twice
    notes: Path  # digests that were computed, listings of commits
    token: str | None = field(default=None, repr=False)
    is_offline: bool = False
    retry: RetryLimits = field(default_factory=RetryLimits)

    @classmethod
    def from_environment(cls, *, is_offline: bool | None = None) -> "Hub":
        """Read the variables that the Hub's client reads, when called rather than when imported."""
        env = os.environ
        home = Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        hf_home = Path(os.path.expandvars(env.get("HF_HOME") or str(home / "huggingface"))).expanduser()
        cache = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
        endpoint = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        if not _is_url(endpoint):
            raise UsageFailure(
                f"HF_ENDPOINT: {endpoint!r} is not a URL", "set it to e.g. https://huggingface.co"
            )
        offline = (env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE
        return cls(
            endpoint=endpoint,
            cache=Path(os.path.expandvars(cache)).expanduser() if cache else hf_home / "hub",
            notes=home / "modelwright",
            is_offline=offline if is_offline is None else is_offline,
        )

    def headers(self) -> dict[str, str]:
        """Return the headers with the given token, or with that of HF_TOKEN or `hf auth login`."""
        build = client().utils.build_hf_headers
        headers: dict[str, str] = build(token=self.token, library_name="modelwright")
        if not re.fullmatch(r"(Bearer [!-~]+)?", headers.get("authorization", "")):
            raise Failure("HF_TOKEN: it holds a character that no token has", "copy the token again")
        return headers


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        return False


def client() -> "ModuleType":
    """Import the Hub's client when first needed, with its Xet transport off: bodies come by plain HTTP."""
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    import huggingface_hub  # noqa: PLC0415  0.3 s that `--help` does not pay
    import huggingface_hub.errors  # noqa: PLC0415
    import huggingface_hub.utils  # noqa: PLC0415

    return huggingface_hub


def check_names(model: str, revision: str) -> None:
    """Refuse an impossible repo or revision before it becomes part of a path or a URL."""
    if not REPO.fullmatch(model) or ".." in model or "--" in model:
        what = f"model: {model!r} is neither a folder nor the name of a Hub repo"
        raise UsageFailure(what, "write OWNER/NAME as on the Hub, or a folder's path starting with ./ or /")
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        raise UsageFailure(f"revision: {revision!r} is not a branch, tag or commit", "use e.g. main")


def list_repo(hub: Hub, model: str, revision: str, kind: Kind = "model") -> Listing:
    """Ask the Hub what the repo holds at the revision, and which commit that is."""
    hint = "check the connection, or use --offline (HF_HUB_OFFLINE=1) to work from the cache"
    # Fewer tries than for a body: the user waits, and nothing is lost.
    retry = replace(hub.retry, tries=min(4, hub.retry.tries))
    backoff = Backoff(model, hint, retry, Event())
    while True:
        try:
            return replace(_listing(hub, model, _ask(hub, model, revision, kind)), kind=kind)
        except Transient as fault:
            backoff.wait(fault)


def _ask(hub: Hub, model: str, revision: str, kind: Kind) -> "ModelInfo | DatasetInfo":
    """Call the client once, and turn its exceptions into ours."""
    library = client()
    import httpx2  # noqa: PLC0415  the client's own HTTP library

    is_authorized = "authorization" in hub.headers()
    api = library.HfApi(endpoint=hub.endpoint, token=hub.token, library_name="modelwright")
    try:
        ask = api.dataset_info if kind == "dataset" else api.model_info
        info: ModelInfo | DatasetInfo = ask(
            model, revision=revision, files_metadata=True, timeout=hub.retry.read_timeout_s
        )
    except library.errors.HfHubHTTPError as error:
        request = Request(hub.endpoint, model, revision, is_authorized=is_authorized, kind=kind)
        raise refusal(request, error.response.status_code, error.response.headers) from None
    except (httpx2.RequestError, library.errors.OfflineModeIsEnabled) as error:
        raise broken(error, hub.endpoint) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _nonsense(model, hub) from error
    except OSError as error:  # unreadable certificates of SSL_CERT_FILE or SSL_CERT_DIR
        raise Failure(f"{hub.endpoint}: {error}", "check SSL_CERT_FILE and SSL_CERT_DIR") from None
    return info


def _nonsense(model: str, hub: Hub) -> Failure:
    what = f"{model}: {hub.endpoint} gave an answer that is not a Hub's"
    return Failure(what, "check HF_ENDPOINT and HTTPS_PROXY")


def _listing(hub: Hub, model: str, info: "ModelInfo | DatasetInfo") -> Listing:
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha) or not isinstance(info.siblings, list):
        raise _nonsense(model, hub)
    if not all(isinstance(sibling.rfilename, str) for sibling in info.siblings):
        raise _nonsense(model, hub)
    refuse_escaping((sibling.rfilename for sibling in info.siblings), model)
    files = {sibling.rfilename: _digest(model, sibling) for sibling in info.siblings}
    # A renamed repo answers under its new name (name → owner/name), which is recorded.
    repo = info.id if isinstance(info.id, str) and REPO.fullmatch(info.id) else model
    return Listing(model, repo, info.sha, None, files)


def _digest(model: str, sibling: "RepoSibling") -> FileDigest:
    where = f"{model}/{sibling.rfilename}: the Hub lists it"
    size, digest = sibling.size, FileDigest(sibling.size or 0, git_sha1=sibling.blob_id)
    if sibling.lfs is not None:
        # The git blob of an LFS file is its pointer, so blob_id is not about the content.
        digest = FileDigest(sibling.lfs.size, sha256=sibling.lfs.sha256)
        size = sibling.lfs.size if size is None else size
    if not isinstance(size, int) or size < 0 or size != digest.size_bytes:
        raise Failure(f"{where} with sizes that contradict each other", UNTRUSTED)
    if not is_digest(digest.blob):
        raise Failure(f"{where} with a digest that is not hexadecimal", UNTRUSTED)
    return digest


def is_digest(text: object) -> bool:
    """Return whether this is a SHA-1 or SHA-256 in hexadecimal, safe as a file name."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None
