"""A registry on loopback: the distribution specification's calls, and bad days by the Hub server's faults."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.hub.server import HubServer

if TYPE_CHECKING:
    from tests.hub.server import Handler

USER, PASSWORD = "somebody", "reg1stry-s3cret"
TOKEN = "t0ken-of-the-registry"
_DIGEST = r"(?P<digest>sha256:[0-9a-f]{64})"
_REPO = r"/v2/(?P<repo>.+)"


class RegistryServer(HubServer):
    """Blobs, uploads, manifests and tags; its settings may change while it runs."""

    def __init__(self, auth: str = "none") -> None:
        super().__init__(
            routes=(
                ("HEAD|GET", f"{_REPO}/blobs/{_DIGEST}", self._blob),
                ("POST", f"{_REPO}/blobs/uploads/", self._begin),
                ("PATCH", f"{_REPO}/blobs/uploads/(?P<session>\\d+)", self._patch),
                ("PUT", f"{_REPO}/blobs/uploads/(?P<session>\\d+)", self._finish),
                ("GET", f"{_REPO}/blobs/uploads/(?P<session>\\d+)", self._status),
                ("HEAD|GET", f"{_REPO}/manifests/(?P<reference>[^/]+)", self._manifest),
                ("PUT", f"{_REPO}/manifests/(?P<reference>[^/]+)", self._put_manifest),
                ("GET", f"{_REPO}/referrers/{_DIGEST}", self._referrers),
                ("GET", "/token", self._token),
            )
        )
        self.auth = auth  # none | basic | bearer
        self.takes_chunks = True
        self.tells_digests = True
        self.lists_referrers = True
        self.least_chunk_bytes = 0
        self.token = TOKEN
        self.tokens_given = 0
        self.asked_scopes: list[str] = []
        self.stored: dict[str, dict[str, bytes]] = defaultdict(dict)  # repo → digest → content
        self.manifests: dict[str, dict[str, bytes]] = defaultdict(dict)  # repo → digest → manifest
        self.tags: dict[str, dict[str, str]] = defaultdict(dict)  # repo → tag → digest
        self.sessions: dict[str, bytes] = {}
        self.lies: dict[str, bytes] = {}  # digest → what is answered instead

    @property
    def host(self) -> str:
        """As an address has it."""
        return urlsplit(self.endpoint).netloc

    def pulled(self, repo: str, tag: str = "latest") -> dict[str, bytes] | None:
        """What ORAS would write to disk; None where there is no such tag."""
        digest = self.tags[repo].get(tag)
        if digest is None:
            return None
        manifest = json.loads(self.manifests[repo][digest])
        stored = self.stored[repo]
        return {
            layer["annotations"]["org.opencontainers.image.title"]: stored[layer["digest"]]
            for layer in manifest["layers"]
        }

    def copy(self, repo: str, to: str) -> None:
        """Let another repository begin as this one stands."""
        self.stored[to] = dict(self.stored[repo])
        self.manifests[to] = dict(self.manifests[repo])
        self.tags[to] = dict(self.tags[repo])

    def _is_let_in(self, request: Handler) -> bool:
        said = request.headers.get("authorization")
        if self.auth == "none":
            return True
        if self.auth == "basic":
            if said == f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}":
                return True
            challenge = 'Basic realm="registry"'
        else:
            if said == f"Bearer {self.token}":
                return True
            scope = f"repository:{request.path.split('/blobs/')[0].split('/manifests/')[0][4:]}:pull"
            challenge = f'Bearer realm="{self.endpoint}/token",service="registry",scope="{scope}"'
        request.send_json(_error("UNAUTHORIZED"), status=401, headers={"WWW-Authenticate": challenge})
        return False

    def _token(self, request: Handler) -> None:
        said = request.headers.get("authorization")
        if said != f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}":
            request.send_json(_error("UNAUTHORIZED"), status=401)
            return
        self.tokens_given += 1
        self.asked_scopes.append(request.query.get("scope", ""))
        request.send_json({"token": self.token, "expires_in": 300})

    def _blob(self, request: Handler, repo: str, digest: str) -> None:
        if not self._is_let_in(request):
            return
        data = self.stored[repo].get(digest)
        if data is None:
            request.send_json(_error("BLOB_UNKNOWN"), status=404)
            return
        told = {"Docker-Content-Digest": digest} if self.tells_digests else {}
        if request.command == "HEAD":
            told["Content-Length"] = str(len(data))
        body = bytearray(self.lies.get(digest, data))
        if request.fault and request.fault.kind == "flip" and body:
            body[0] ^= 1
        request.send(bytes(body), told)

    def _begin(self, request: Handler, repo: str) -> None:
        if not self._is_let_in(request):
            return
        with self.lock:
            session = str(len(self.sessions))
            self.sessions[session] = b""
        told = self._where(repo, session)
        if self.least_chunk_bytes:
            told["OCI-Chunk-Min-Length"] = str(self.least_chunk_bytes)
        request.send(b"", told, status=202)

    def _where(self, repo: str, session: str) -> dict[str, str]:
        """Where the upload goes on: a relative address with a query of its own."""
        end = max(0, len(self.sessions[session]) - 1)
        return {"Location": f"/v2/{repo}/blobs/uploads/{session}?state={end}", "Range": f"0-{end}"}

    def _patch(self, request: Handler, repo: str, session: str) -> None:
        if not self._is_let_in(request):
            return
        if not self.takes_chunks:
            request.send_json(_error("UNSUPPORTED"), status=405)
            return
        start, stop = map(int, str(request.headers["content-range"]).split("-"))
        if start != len(self.sessions[session]) or stop - start + 1 != len(request.body):
            request.send(b"", self._where(repo, session), status=416)
            return
        self.sessions[session] += request.body
        request.send(b"", self._where(repo, session), status=202)

    def _status(self, request: Handler, repo: str, session: str) -> None:
        if session in self.sessions:
            request.send(b"", self._where(repo, session), status=204)
        else:
            request.send_json(_error("BLOB_UPLOAD_UNKNOWN"), status=404)

    def _finish(self, request: Handler, repo: str, session: str) -> None:
        if not self._is_let_in(request):
            return
        if session not in self.sessions:
            request.send_json(_error("BLOB_UPLOAD_UNKNOWN"), status=404)
            return
        data = self.sessions.pop(session) + request.body
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != request.query.get("digest"):
            request.send_json(_error("DIGEST_INVALID"), status=400)
            return
        self.stored[repo][digest] = data
        request.send(b"", {"Location": f"/v2/{repo}/blobs/{digest}"}, status=201)

    def _manifest(self, request: Handler, repo: str, reference: str) -> None:
        if not self._is_let_in(request):
            return
        digest = self.tags[repo].get(reference, reference)
        data = self.manifests[repo].get(digest)
        if data is None:
            request.send_json(_error("MANIFEST_UNKNOWN"), status=404)
            return
        manifest = json.loads(data)
        assert manifest["mediaType"] in request.headers["accept"]
        told = {"Docker-Content-Digest": digest} if self.tells_digests else {}
        request.send(self.lies.get(digest, data), {**told, "Content-Type": manifest["mediaType"]})

    def _put_manifest(self, request: Handler, repo: str, reference: str) -> None:
        if not self._is_let_in(request):
            return
        digest = f"sha256:{hashlib.sha256(request.body).hexdigest()}"
        if re.fullmatch(r"sha256:.*", reference) and reference != digest:
            request.send_json(_error("DIGEST_INVALID"), status=400)
            return
        manifest = json.loads(request.body)
        if request.headers["content-type"] != manifest["mediaType"]:
            request.send_json(_error("MANIFEST_INVALID"), status=400)
            return
        blobs = (manifest["config"], *manifest["layers"]) if "config" in manifest else ()
        if any(each["digest"] not in self.stored[repo] for each in blobs):
            request.send_json(_error("MANIFEST_BLOB_UNKNOWN"), status=404)
            return
        self.manifests[repo][digest] = request.body
        if reference != digest:
            self.tags[repo][reference] = digest
        headers = {"Location": f"/v2/{repo}/manifests/{digest}"}
        if self.lists_referrers and "subject" in manifest:
            headers["OCI-Subject"] = manifest["subject"]["digest"]
        request.send(b"", headers, status=201)

    def _referrers(self, request: Handler, repo: str, digest: str) -> None:
        if not self._is_let_in(request):
            return
        if self.lists_referrers:
            request.send_json({"manifests": self.referring(repo, digest)})
        else:
            request.send_json(_error("NOT_FOUND"), status=404)

    def referring(self, repo: str, digest: str) -> list[dict[str, Any]]:
        """What refers to a manifest, as clients find it: asked for, or listed under a tag."""
        if not self.lists_referrers:
            tag = digest.replace(":", "-")
            index = self.manifests[repo].get(self.tags[repo].get(tag, ""), b'{"manifests": []}')
            return list(json.loads(index)["manifests"])
        return [
            {"digest": own, "size": len(data), "artifactType": json.loads(data)["artifactType"]}
            for own, data in self.manifests[repo].items()
            if json.loads(data).get("subject", {}).get("digest") == digest
        ]


def _error(code: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": "a sentence", "detail": None}]}
