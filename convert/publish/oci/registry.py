"""One repository of an OCI registry, by the distribution specification's own calls."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from convert.errors import Failure
from convert.publish.oci.login import Login, answering_host
from convert.source.retry import RETRIED_STATUS, Backoff, RetryLimits, Transient, answered
from convert.store.objects import RERUN

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import httpx2

    Body = bytes | Callable[[], Iterable[bytes]] | None

_T = TypeVar("_T")
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|\[::1\]")
_CHALLENGE = re.compile(r'([A-Za-z_]+)="((?:[^"\\]|\\.)*)"')
_CODE = re.compile(r"[A-Z_]{1,40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A manifest of a million files is no manifest; nor is an endless answer.
_LARGEST_DOCUMENT_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 20
_SLOWEST_BYTES_S = 10e6
# Identity, or what comes back would not be what digests are of.
_HEADERS = {"user-agent": "modelwright", "accept-encoding": "identity"}


@dataclass(frozen=True)
class Answer:
    """A registry's whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Registry:
    """A connection to one repository; to be used as a context."""

    host: str
    repository: str
    # Called once the registry asks: it may take long.
    find_login: Callable[[], Login | None] = field(repr=False)
    retry: RetryLimits = field(default_factory=RetryLimits)
    _authorization: str | None = field(default=None, init=False, repr=False)
    _client: httpx2.Client = field(init=False, repr=False)

    @property
    def name(self) -> str:
        """Return it as a person writes it."""
        return f"{self.host}/{self.repository}"

    @property
    def endpoint(self) -> str:
        """Return where it answers: without encryption on this machine alone."""
        host = answering_host(self.host)
        bare = host if host.endswith("]") else host.rpartition(":")[0] or host
        return f"{'http' if _LOOPBACK.fullmatch(bare) else 'https'}://{host}"

    def __enter__(self) -> Self:
        import httpx2  # noqa: PLC0415 - only for who publishes there

        self._client = httpx2.Client(timeout=None, headers=_HEADERS, verify=_trusted())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def url(self, path: str) -> str:
        """Return an address within the repository."""
        return f"{self.endpoint}/v2/{self.repository}/{path}"

    def head_manifest(self, reference: str) -> str | None:
        """Ask for the digest of what a tag names; None where there is no such tag."""
        answer = self._ask_for_manifest("HEAD", reference)
        if answer.status == 404:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if _DIGEST.fullmatch(digest):
            return digest
        data = self.get_manifest(reference)
        return f"sha256:{hashlib.sha256(data).hexdigest()}" if data is not None else None

    def get_manifest(self, reference: str, kind: str = MANIFEST_TYPE) -> bytes | None:
        """Fetch what a tag or a digest names; None where there is none."""
        answer = self._ask_for_manifest("GET", reference, kind)
        return answer.content if answer.status == 200 else None

    def put_manifest(self, reference: str, data: bytes, kind: str = MANIFEST_TYPE) -> bool:
        """Push a manifest under its digest, or let a tag name it; once or twice is the same.

        Return whether the registry lists it among what refers to its subject.
        """
        url, headers = self.url(f"manifests/{reference}"), {"content-type": kind}
        return "oci-subject" in self.ask("PUT", url, headers, data, allowed=(201,)).headers

    def has_blob(self, sha256: str, size_bytes: int) -> bool:
        """Ask whether the registry has this content."""
        digest = f"sha256:{sha256}"
        answer = self.ask("HEAD", self.url(f"blobs/{digest}"), follow=True, allowed=(200, 404))
        if answer.status == 404:
            return False
        named = answer.headers.get("docker-content-digest", digest)
        size = answer.headers.get("content-length", str(size_bytes))
        return bool(named == digest and size == str(size_bytes))

    def blob_sha256(self, sha256: str, advance: Callable[[int], None]) -> str:
        """Fetch a content, and digest what comes."""

        def fetch() -> str:
            hasher, came_bytes = hashlib.sha256(), 0
            try:
                with self._open("GET", self.url(f"blobs/sha256:{sha256}"), follow=True) as answer:
                    if answer.status_code != 200:
                        raise self._refusal(self._whole(answer))
                    for block in answer.iter_raw(_BLOCK_BYTES):
                        hasher.update(block)
                        came_bytes += len(block)
                        advance(len(block))
            except Transient:
                advance(-came_bytes)
                raise
            return hasher.hexdigest()

        return self._retried(fetch)

    def backoff(self) -> Backoff:
        """Count failures, and wait between them."""
        return Backoff(self.name, RERUN, self.retry, Event())

    def ask(self, *request: Any, allowed: tuple[int, ...], **how: Any) -> Answer:
        """Make a request that may be made twice, for as long as that may help."""
        return self._retried(lambda: self.once(*request, allowed=allowed, **how))

    def once(self, *request: Any, allowed: tuple[int, ...], **how: Any) -> Answer:
        """Make a request; a Transient where it failed in a way that may pass, a Failure where not."""
        with self._open(*request, **how) as streamed:
            answer = self._whole(streamed)
        if answer.status not in allowed:
            raise self._refusal(answer)
        return answer

    def strange(self, what: str) -> Failure:
        """Refuse an answer that no registry gives."""
        return Failure(f"{self.name}: {what}", "is this a registry? check publish.to")

    def _retried(self, call: Callable[[], _T]) -> _T:
        backoff = self.backoff()
        while True:
            try:
                return call()
            except Transient as fault:
                backoff.wait(fault)

    def _ask_for_manifest(self, method: str, reference: str, kind: str = MANIFEST_TYPE) -> Answer:
        return self.ask(method, self.url(f"manifests/{reference}"), {"accept": kind}, allowed=(200, 404))

    @contextmanager
    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Body = None,
        *,
        follow: bool = False,
        work_bytes: int = 0,
    ) -> Iterator[httpx2.Response]:
        """Make a request, with a login if the registry asks for one, and give the answer as it begins.

        Some registries hash or copy `work_bytes` of a layer while its sender waits.
        """
        import httpx2  # noqa: PLC0415 - only for who publishes there

        timeout = httpx2.Timeout(
            self.retry.read_timeout_s + work_bytes / _SLOWEST_BYTES_S, connect=self.retry.connect_timeout_s
        )
        is_own = urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

        def send() -> httpx2.Response:
            login = {"authorization": self._authorization} if self._authorization and is_own else {}
            body = content() if callable(content) else content
            request = self._client.build_request(
                method, url, headers={**(headers or {}), **login}, content=body, timeout=timeout
            )
            # A redirect leads to the registry's storage, and httpx2 drops the authorization on its way there.
            return self._client.send(request, stream=True, follow_redirects=follow)

        try:
            answer = send()
            if answer.status_code == 401 and is_own:
                challenge = answer.headers.get("www-authenticate", "")
                answer.close()
                self._authorization = self._authorized(challenge)
                answer = send()
            try:
                yield answer
            finally:
                answer.close()
        except (httpx2.RequestError, httpx2.StreamError, httpx2.InvalidURL) as error:
            raise self._broken(error) from None

    def _authorized(self, challenge: str) -> str:
        """Return the header that a registry asks for: a login, or a token that is given for one."""
        kind, _, rest = challenge.strip().partition(" ")
        if kind.lower() == "basic":
            login = self.find_login()
            if login is None:
                raise self._unauthorized()
            return login.basic
        if kind.lower() != "bearer":
            raise self.strange(f"asks for a login in a way that is not known, {kind[:20]!r}")
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.pop("realm", "")
        schemes = {"https"} if self.endpoint.startswith("https:") else {"http", "https"}
        if not _is_web_address(realm, schemes):
            raise self.strange(f"sends us to {realm[:80]!r} for a token")
        # All that will be wanted in the end, so that one token does.
        scope = asked.get("scope") or f"repository:{self.repository}:pull"
        query = {"service": asked.get("service", ""), "scope": re.sub(r":[a-z,*]*$", ":pull,push", scope)}
        login = self.find_login()
        headers = {"authorization": login.basic} if login else {}
        timeout = self.retry.read_timeout_s
        with self._client.stream("GET", realm, params=query, headers=headers, timeout=timeout) as streamed:
            answer = self._whole(streamed)
        if answer.status in (400, 401, 403):
            raise self._unauthorized()
        if answer.status != 200:
            raise self._refusal(answer)
        try:
            content = json.loads(answer.content)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise self.strange("gave no token")
        return f"Bearer {token}"

    def _unauthorized(self) -> Failure:
        login = self.find_login()
        said = f"does not accept the login of {login.user}" if login else "wants a login"
        hint = f"`oras login {self.host}`, or `docker login {self.host}`"
        return Failure(f"{self.name}: the registry {said}", hint)

    def _whole(self, streamed: httpx2.Response) -> Answer:
        content = bytearray()
        for block in streamed.iter_raw(_BLOCK_BYTES):
            content += block
            if len(content) > _LARGEST_DOCUMENT_BYTES:
                raise self.strange("its answer does not end")
        return Answer(streamed.status_code, streamed.headers, bytes(content))

    def _refusal(self, answer: Answer) -> Transient | Failure:
        status = answer.status
        if status in RETRIED_STATUS:
            more = f"a registry may allow more to who logs in (`docker login {self.host}`)"
            return answered(self.host, status, answer.headers, more)
        if status == 401:
            return self._unauthorized()
        code = _error_code(answer.content)
        if code == "DIGEST_INVALID":
            return Transient("what arrived is not what was sent")
        said = f"{status} {code}".strip()
        what, hint = {
            403: (f"access refused ({said})", "log in as somebody who may push there"),
            413: (f"too large for the registry ({said})", "split it, or ask who runs it"),
        }.get(status, (f"the registry answered {said}", "check publish.to; is it a registry?"))
        return Failure(f"{self.name}: {what}", hint)

    def _broken(self, error: Exception) -> Transient | Failure:
        """Describe a connection that failed without the exception's text: that may quote a header."""
        kind = type(error).__name__
        if kind in {"TooManyRedirects", "UnsupportedProtocol", "LocalProtocolError", "InvalidURL"}:
            return Failure(f"{self.name}: no request can be made ({kind})", "check publish.to")
        if "Timeout" in kind:
            return Transient(f"{self.host} did not answer in time")
        return Transient(f"the connection to {self.host} broke ({kind})")


def _is_web_address(text: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        return False


@cache
def _trusted() -> ssl.SSLContext:
    """Read whom to believe, once: a tenth of a second of work."""
    import httpx2  # noqa: PLC0415 - only for who publishes there

    return httpx2.create_ssl_context()


def _error_code(data: bytes) -> str:
    """Return the first code of an error's body, if it has the specification's form."""
    try:
        code = json.loads(data)["errors"][0]["code"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
