"""One repository of an OCI registry, by the distribution specification's own calls."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urljoin, urlsplit

from convert.errors import Failure
from convert.publish.oci.login import Login, answering_host
from convert.source.retry import RETRIED_STATUS, Backoff, RetryLimits, Transient, retry_after_s

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import httpx2

    Body = bytes | Callable[[], Iterable[bytes]] | None

_T = TypeVar("_T")
RERUN = "run the same command again: what has arrived is not sent twice"
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
    """What a registry said, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Registry:
    """A connection to one repository; to be used as a context."""

    host: str
    repository: str
    find_login: Callable[[], Login | None] = field(repr=False)
    retry: RetryLimits = field(default_factory=RetryLimits)
    _authorization: str | None = field(default=None, init=False, repr=False)
    _client: httpx2.Client = field(init=False, repr=False)

    @property
    def login(self) -> Login | None:
        """Who we are there; looked up when the registry wants to know, for that may take a helper."""
        return self.find_login()

    @property
    def name(self) -> str:
        """How a person writes it."""
        return f"{self.host}/{self.repository}"

    @property
    def endpoint(self) -> str:
        """Where it answers: in the clear on this machine alone."""
        host = answering_host(self.host)
        bare = host if host.endswith("]") else host.rpartition(":")[0] or host
        return f"{'http' if _LOOPBACK.fullmatch(bare) else 'https'}://{host}"

    def __enter__(self) -> Self:
        import httpx2  # noqa: PLC0415 - for who publishes there

        self._client = httpx2.Client(timeout=None, headers=_HEADERS, verify=_trusted())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def url(self, path: str) -> str:
        """An address within the repository."""
        return f"{self.endpoint}/v2/{self.repository}/{path}"

    def head_manifest(self, reference: str, accept: str) -> str | None:
        """The digest of what a tag names; None where there is no such tag."""
        url = self.url(f"manifests/{reference}")
        answer = self.ask("HEAD", url, {"accept": accept}, allowed=(200, 404))
        if answer.status == 404:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if _DIGEST.fullmatch(digest):
            return digest
        data = self.get_manifest(reference, accept)
        return f"sha256:{hashlib.sha256(data).hexdigest()}" if data is not None else None

    def get_manifest(self, reference: str, accept: str) -> bytes | None:
        """What a tag names; None where there is no such tag."""
        url = self.url(f"manifests/{reference}")
        answer = self.ask("GET", url, {"accept": accept}, allowed=(200, 404))
        return answer.content if answer.status == 200 else None

    def put_manifest(self, reference: str, media_type: str, data: bytes) -> None:
        """Push a manifest under its digest, or let a tag name it; the same once or twice."""
        self.ask(
            "PUT", self.url(f"manifests/{reference}"), {"content-type": media_type}, data, allowed=(201,)
        )

    def has_blob(self, sha256: str, size_bytes: int) -> bool:
        """Whether the registry has this content, as it says itself."""
        digest = f"sha256:{sha256}"
        answer = self.ask("HEAD", self.url(f"blobs/{digest}"), follow=True, allowed=(200, 404))
        if answer.status == 404:
            return False
        named = answer.headers.get("docker-content-digest", digest)
        size = answer.headers.get("content-length", str(size_bytes))
        return bool(named == digest and size == str(size_bytes))

    def blob_sha256(self, sha256: str, advance: Callable[[int], None]) -> str:
        """The digest of what comes back when the content is asked for."""
        return self.patiently(lambda: self._blob_sha256(sha256, advance))

    def patiently(self, call: Callable[[], _T]) -> _T:
        """Make a call again for as long as that may help."""
        backoff = self.backoff()
        while True:
            try:
                return call()
            except Transient as again:
                backoff.wait(again)

    def backoff(self) -> Backoff:
        """Counts failures, and waits between them."""
        return Backoff(self.name, RERUN, self.retry, Event())

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Body = None,
        *,
        allowed: tuple[int, ...],
        follow: bool = False,
    ) -> Answer:
        """Make a request that may be made twice, for as long as that may help."""
        return self.patiently(
            lambda: self.once(method, url, headers, content, allowed=allowed, follow=follow)
        )

    def once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Body = None,
        *,
        allowed: tuple[int, ...],
        follow: bool = False,
        work_bytes: int = 0,
    ) -> Answer:
        """Make a request; Transient where it failed in a way that may pass, a Failure where not.

        `work_bytes` is what the registry has to work through before it answers.
        """
        with self.open(method, url, headers, content, follow=follow, work_bytes=work_bytes) as streamed:
            answer = self._whole(streamed)
        if answer.status not in allowed:
            raise self._refusal(answer)
        return answer

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Body = None,
        *,
        follow: bool = False,
        work_bytes: int = 0,
    ) -> Iterator[httpx2.Response]:
        """The answer as it begins, after having said who asks, if the registry wants to know."""
        import httpx2  # noqa: PLC0415 - for who publishes there

        # Some registries hash or copy a layer while its sender waits.
        timeout = httpx2.Timeout(
            self.retry.read_timeout_s + work_bytes / _SLOWEST_BYTES_S,
            connect=self.retry.connect_timeout_s,
        )
        is_own = urlsplit(url)[:2] == urlsplit(self.endpoint)[:2]

        def send() -> httpx2.Response:
            said = {"authorization": self._authorization} if self._authorization and is_own else {}
            body = content() if callable(content) else content
            request = self._client.build_request(
                method, url, headers={**(headers or {}), **said}, content=body, timeout=timeout
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

    def _blob_sha256(self, sha256: str, advance: Callable[[int], None]) -> str:
        hasher, came_bytes = hashlib.sha256(), 0
        try:
            with self.open("GET", self.url(f"blobs/sha256:{sha256}"), follow=True) as answer:
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

    def _authorized(self, challenge: str) -> str:
        """What a registry wants to hear after it has asked who we are."""
        kind, _, rest = challenge.strip().partition(" ")
        if kind.lower() == "basic":
            login = self.login
            if login is None:
                raise self._stranger()
            return login.basic
        if kind.lower() != "bearer":
            raise Failure(
                f"{self.name}: wants to be asked as {kind[:20]!r}", "is this a registry? check publish.to"
            )
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.pop("realm", "")
        schemes = {"https"} if self.endpoint.startswith("https:") else {"http", "https"}
        if not _is_web_address(realm, schemes):
            raise Failure(
                f"{self.name}: sends us to {realm[:80]!r} for a token", "is this a registry? check publish.to"
            )
        # All that will be wanted in the end, so that one token does.
        scope = asked.get("scope") or f"repository:{self.repository}:pull"
        query = {"service": asked.get("service", ""), "scope": re.sub(r":[a-z,*]*$", ":pull,push", scope)}
        login = self.login
        headers = {"authorization": login.basic} if login else {}
        timeout = self.retry.read_timeout_s
        with self._client.stream("GET", realm, params=query, headers=headers, timeout=timeout) as streamed:
            answer = self._whole(streamed)
        if answer.status in (400, 401, 403):
            raise self._stranger()
        if answer.status != 200:
            raise self._refusal(answer)
        try:
            content = json.loads(answer.content)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Failure(f"{self.name}: gave no token", "is this a registry? check publish.to")
        return f"Bearer {token}"

    def _stranger(self) -> Failure:
        login = self.login
        said = f"does not accept the login of {login.user}" if login else "wants a login"
        hint = f"`oras login {self.host}`, or `docker login {self.host}`"
        return Failure(f"{self.name}: the registry {said}", hint)

    def _whole(self, streamed: httpx2.Response) -> Answer:
        content = bytearray()
        for block in streamed.iter_raw(_BLOCK_BYTES):
            content += block
            if len(content) > _LARGEST_DOCUMENT_BYTES:
                raise Failure(f"{self.name}: an answer without end", "is this a registry? check publish.to")
        return Answer(streamed.status_code, streamed.headers, bytes(content))

    def _refusal(self, answer: Answer) -> Transient | Failure:
        status = answer.status
        if status in RETRIED_STATUS:
            return Transient(f"{self.host} answered {status}", retry_after_s(answer.headers))
        if status == 401:
            return self._stranger()
        code = _error_code(answer.content)
        said = f"{status} {code}" if code else str(status)
        if status == 403:
            return Failure(f"{self.name}: access refused ({said})", "log in as somebody who may push there")
        if status == 413:
            return Failure(
                f"{self.name}: too large for the registry ({said})", "split it, or ask who runs it"
            )
        if code == "DIGEST_INVALID":
            return Transient("what arrived is not what was sent")
        return Failure(
            f"{self.name}: the registry answered {said}", "check the name in publish.to; is it a registry?"
        )

    def _broken(self, error: Exception) -> Transient | Failure:
        """A connection that failed, without the exception's text: that may quote a header."""
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


def resolved(url: str, location: str) -> str:
    """Where an answer sends us on to."""
    return urljoin(url, location)


@cache
def _trusted() -> ssl.SSLContext:
    """Whom to believe, read once: a tenth of a second of work."""
    import httpx2  # noqa: PLC0415 - for who publishes there

    return httpx2.create_ssl_context()


def _error_code(data: bytes) -> str:
    """The first code of an error's body, if it has the specification's form."""
    try:
        code = json.loads(data)["errors"][0]["code"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
