"""The calls by which a Hub is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.hub.repo import Refused, git_sha1, is_lfs, sha256

if TYPE_CHECKING:
    from tests.hub.server import Fault, Handler

DATE = "2026-01-02T03:04:05.000Z"

# Methods, path, and who answers.
Route = tuple[str, str, Callable[..., None]]


def _whoami(request: Handler) -> None:
    user = request.user()
    if user is None:
        raise Refused(401)
    token = {"accessToken": {"displayName": "test", "role": request.hub.roles.get(user, "write")}}
    orgs = [{"name": name} for name, members in request.hub.orgs.items() if user in members]
    request.send_json({"type": "user", "name": user, "orgs": orgs, "auth": token})


def _model_info(request: Handler, repo: str, rev: str = "") -> None:
    found, commit = request.open(repo, rev)
    siblings: list[dict[str, Any]] = []
    for name, content in found.commits[commit].items():
        sibling: dict[str, Any] = {"rfilename": name}
        if request.query.get("blobs"):
            sibling |= {"size": len(content), "blobId": git_sha1(content)}
            if is_lfs(name, content):
                sibling["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 135}
        siblings.append(sibling | found.lies.get(name, {}))
    request.send_json({"id": found.name, "sha": commit, "private": found.is_private, "siblings": siblings})


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
    if is_lfs(name, content):
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 135}
    return entry


def _tree(request: Handler, repo: str, rev: str, path: str) -> None:
    found, commit = request.open(repo, rev)
    is_deep = request.query.get("recursive", "").lower() in {"1", "true"}
    under = f"{path}/" if path else ""
    entries: dict[str, dict[str, Any]] = {}
    for name, content in sorted(found.commits[commit].items()):
        if name.startswith(under):
            head, _, rest = name.removeprefix(under).partition("/")
            if rest:
                folder = under + head
                entries.setdefault(
                    folder, {"type": "directory", "path": folder, "size": 0, "oid": git_sha1(b"")}
                )
            if is_deep or not rest:
                entries[name] = _entry(name, content)
    request.send_page(list(entries.values()))


def _paths_info(request: Handler, repo: str, rev: str) -> None:
    found, commit = request.open(repo, rev)
    files = found.commits[commit]
    wanted = parse_qs(request.body.decode()).get("paths", [])
    request.send_json([_entry(name, files[name]) for name in wanted if name in files])


def _refs(request: Handler, repo: str) -> None:
    found, _ = request.open(repo)
    answer = {
        "branches": _ref_entries("refs/heads/", found.refs),
        "converts": [],
        "tags": _ref_entries("refs/tags/", found.tags),
    }
    if request.query.get("include_prs"):
        answer["pullRequests"] = [
            {"name": ref.removeprefix("refs/"), "ref": ref, "targetCommit": commit}
            for ref, commit in found.pulls.items()
        ]
    request.send_json(answer)


def _ref_entries(place: str, refs: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"{place}{name}", "targetCommit": commit} for name, commit in refs.items()]


def _commits(request: Handler, repo: str, rev: str) -> None:
    found, commit = request.open(repo, rev)
    listed = [
        {"id": oid, "title": found.titles.get(oid, ""), "message": "", "date": DATE, "authors": []}
        for oid in found.history(commit)
    ]
    request.send_page(listed)


def _resolve(request: Handler, repo: str, rev: str, path: str) -> None:
    found, commit = request.open(repo, rev, is_content=True)
    content = found.commits[commit].get(path)
    if content is None:
        raise Refused(404, "EntryNotFound")
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if is_lfs(path, content):
        headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
    else:
        headers["ETag"] = f'"{git_sha1(content)}"'
    _spoil_headers(request.fault, headers)
    if request.hub.cdn and is_lfs(path, content):
        request.hub.cdn.blobs[sha256(content)] = content
        location = f"{request.hub.cdn.endpoint}/blob/{sha256(content)}?signature=s/{path}"
        request.send(b"", {**headers, "Location": location}, status=302)
    else:
        _send_range(request, content, headers)


def _spoil_headers(fault: Fault | None, headers: dict[str, str]) -> None:
    if fault and fault.kind == "etag":
        name = "X-Linked-Etag" if "X-Linked-Etag" in headers else "ETag"
        headers[name] = fault.headers["ETag"]
    if fault and fault.kind == "size":
        headers["X-Linked-Size"] = "12345"


def _blob(request: Handler, oid: str) -> None:
    # A CDN's ETag is its own affair.
    _send_range(request, request.hub.blobs[oid], {"ETag": '"cdn-part-7"', "Accept-Ranges": "bytes"})


def _send_range(request: Handler, content: bytes, headers: dict[str, str]) -> None:
    size = len(content)
    if request.fault and request.fault.kind == "flip":
        at = request.fault.after_bytes
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range") or "")
    if not asked or (request.fault and request.fault.kind == "no-range"):
        request.send(content, headers)
        return
    first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
    if first >= size:
        request.send(b"", headers, status=416)
        return
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    request.send(content[first : last + 1], headers, status=206)


REPO = r"(?P<repo>[^/]+/[^/]+|[^/]+)"
REV = r"(?P<rev>[^/]+)"
ROUTES: list[Route] = [
    ("GET", r"/api/whoami-v2", _whoami),
    ("GET", rf"/api/models/{REPO}/tree/{REV}(?:/(?P<path>.+))?", _tree),
    ("POST", rf"/api/models/{REPO}/paths-info/{REV}", _paths_info),
    ("GET", rf"/api/models/{REPO}/refs", _refs),
    ("GET", rf"/api/models/{REPO}/commits/{REV}", _commits),
    ("GET", rf"/api/models/{REPO}/revision/{REV}", _model_info),
    ("GET", rf"/api/models/{REPO}", _model_info),
    ("GET|HEAD", rf"/{REPO}/resolve/{REV}/(?P<path>.+)", _resolve),
    ("GET|HEAD", r"/blob/(?P<oid>[0-9a-f]+)", _blob),
]
