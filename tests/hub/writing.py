"""The calls by which a Hub is written: repos made, files taken in, commits, branches, tags, collections."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.hub.reading import DATE, REPO, REV, Route
from tests.hub.repo import Refused, Repo, git_sha1, is_lfs, sha256

if TYPE_CHECKING:
    from tests.hub.server import Handler

# What the Hub puts into a repo that it makes.
FIRST = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


def _signed_in(request: Handler) -> str:
    user = request.user()
    if user is None:
        raise Refused(401)
    if request.hub.roles.get(user) == "read":
        raise Refused(403)
    return user


def _writable(request: Handler, name: str, revision: str = "main") -> tuple[Repo, str]:
    user = _signed_in(request)
    repo, commit = request.open(name, revision)
    members = request.hub.orgs.get(name.partition("/")[0], set())
    if not repo.may_write(user) and user not in members:
        raise Refused(403)
    return repo, commit


def _create_repo(request: Handler) -> None:
    user, asked = _signed_in(request), json.loads(request.body)
    owner = asked.get("organization") or user
    if owner != user and user not in request.hub.orgs.get(owner, set()):
        raise Refused(403)
    name = f"{owner}/{asked['name']}"
    url = f"{request.hub.endpoint}/{name}"
    if name in request.hub.repos:
        request.send_json({"error": "You already created this model repo", "url": url}, status=409)
        return
    repo = Repo(name, is_private=asked.get("visibility") == "private")
    repo.refs["main"] = repo.push(FIRST, None, "initial commit")
    request.hub.repos[name] = repo
    request.send_json({"url": url})


def _validate_yaml(request: Handler) -> None:
    content = json.loads(request.body)["content"]
    block = content.removeprefix("---\n").partition("\n---")[0] if content.startswith("---\n") else ""
    try:
        metadata = yaml.safe_load(block)
        fault = "" if isinstance(metadata, dict | None) else "the metadata is no mapping"
    except yaml.YAMLError as error:
        fault = str(error)
    errors = [{"message": fault}] if fault else []
    warnings = [] if block else [{"message": "empty or missing yaml metadata in repo card"}]
    request.send_json({"errors": errors, "warnings": warnings}, status=400 if errors else 200)


def _preupload(request: Handler, repo: str, rev: str) -> None:
    found, commit = _writable(request, repo, rev)
    answers: list[dict[str, Any]] = []
    for file in json.loads(request.body)["files"]:
        mode = "lfs" if is_lfs(file["path"], b"") or file["size"] > 10_000_000 else "regular"
        answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
        current = found.commits[commit].get(file["path"])
        if current is not None:
            answer["oid"] = sha256(current) if is_lfs(file["path"], current) else git_sha1(current)
        answers.append(answer)
    request.send_json({"files": answers})


def _lfs_batch(request: Handler, repo: str) -> None:
    found, _ = _writable(request, repo)
    objects = [_action(request, found, each) for each in json.loads(request.body)["objects"]]
    request.send_json({"transfer": "basic", "objects": objects})


def _action(request: Handler, repo: Repo, asked: dict[str, Any]) -> dict[str, Any]:
    oid, size, hub = asked["oid"], asked["size"], request.hub
    if oid in repo.objects:
        return {"oid": oid, "size": size}
    upload: dict[str, Any] = {"href": f"{hub.endpoint}/lfs/{repo.name}/{oid}?signature=s3cret"}
    if hub.part_bytes and size > hub.part_bytes:
        count = -(-size // hub.part_bytes)
        parts = {f"{n:05}": f"{hub.endpoint}/lfs-part/{oid}/{n}" for n in range(1, count + 1)}
        upload = {
            "href": f"{hub.endpoint}/lfs-complete/{repo.name}",
            "header": {"chunk_size": str(hub.part_bytes), **parts},
        }
    verify = {"href": f"{hub.endpoint}/lfs-verify/{repo.name}"}
    return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}


def _take(request: Handler, repo: str, oid: str) -> None:
    # A bucket knows no tokens, and keeps what it is given.
    request.hub.repos[repo].objects[oid] = request.body
    request.send(b"", {})


def _take_part(request: Handler, oid: str, number: str) -> None:
    request.hub.parts[oid, int(number)] = request.body
    request.send(b"", {"ETag": f'"{sha256(request.body)[:8]}"'})


def _complete(request: Handler, repo: str) -> None:
    asked, parts = json.loads(request.body), request.hub.parts
    pieces = [parts[asked["oid"], part["partNumber"]] for part in asked["parts"]]
    for part, piece in zip(asked["parts"], pieces, strict=True):
        if part["etag"] != f'"{sha256(piece)[:8]}"':
            raise Refused(400)
    request.hub.repos[repo].objects[asked["oid"]] = b"".join(pieces)
    request.send_json({})


def _verify(request: Handler, repo: str) -> None:
    found, _ = _writable(request, repo)
    asked = json.loads(request.body)
    stored = found.objects.get(asked["oid"])
    if stored is None or len(stored) != asked["size"] or sha256(stored) != asked["oid"]:
        found.objects.pop(asked["oid"], None)
        raise Refused(422)
    request.send_json({})


def _commit(request: Handler, repo: str, rev: str) -> None:
    is_proposal = request.query.get("create_pr") == "1"
    found, head = request.open(repo, rev) if is_proposal else _writable(request, repo, rev)
    header, *changes = (json.loads(line) for line in request.body.splitlines())
    parent = header["value"].get("parentCommit")
    if parent is not None and parent != head:
        raise Refused(412)
    files = dict(found.commits[head])
    for change in changes:
        _apply(found, files, change["key"], change["value"])
    with request.hub.lock:
        if not is_proposal and found.refs[rev] != head:
            raise Refused(412)
        oid = found.push(files, head, header["value"]["summary"])
        answer = {"commitUrl": f"{request.hub.endpoint}/{repo}/commit/{oid}", "commitOid": oid}
        if is_proposal:
            number = len(found.pulls) + 1
            found.pulls[f"refs/pr/{number}"] = oid
            answer["pullRequestUrl"] = f"{request.hub.endpoint}/{repo}/discussions/{number}"
        else:
            found.refs[rev] = oid
    request.send_json({"success": True, **answer})


def _apply(repo: Repo, files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
    match key:
        case "file":
            files[value["path"]] = base64.b64decode(value["content"])
        case "lfsFile":
            if value["oid"] not in repo.objects:
                raise Refused(400)
            files[value["path"]] = repo.objects[value["oid"]]
        case "deletedFile":
            del files[value["path"]]
        case _:
            raise Refused(400)


def _branch(request: Handler, repo: str, rev: str) -> None:
    found, _ = _writable(request, repo)
    commit = found.find(json.loads(request.body or b"{}").get("startingPoint", "main"))
    if commit is None:
        raise Refused(404, "RevisionNotFound")
    if rev in found.refs:
        raise Refused(409)
    found.refs[rev] = commit
    request.send_json({})


def _tag(request: Handler, repo: str, rev: str) -> None:
    found, commit = _writable(request, repo, rev)
    name = json.loads(request.body)["tag"]
    if name in found.tags:
        raise Refused(409)
    found.tags[name] = commit
    request.send_json({})


def _create_collection(request: Handler) -> None:
    user, asked = _signed_in(request), json.loads(request.body)
    slug = f"{asked['namespace']}/{asked['title'].lower().replace(' ', '-')}-0123456789abcdef"
    if asked["namespace"] != user and user not in request.hub.orgs.get(asked["namespace"], set()):
        raise Refused(403)
    if slug in request.hub.collections:
        request.send_json({"error": "This collection already exists", "slug": slug}, status=409)
        return
    request.hub.collections[slug] = {
        "slug": slug,
        "title": asked["title"],
        "owner": {"name": asked["namespace"]},
        "items": [],
        "lastUpdated": DATE,
        "position": 0,
        "private": asked.get("private", False),
        "theme": "green",
        "upvotes": 0,
    }
    request.send_json(request.hub.collections[slug])


def _collection(request: Handler, slug: str) -> None:
    if slug not in request.hub.collections:
        raise Refused(404)
    request.send_json(request.hub.collections[slug])


def _add_item(request: Handler, slug: str) -> None:
    _signed_in(request)
    collection, item = request.hub.collections[slug], json.loads(request.body)["item"]
    if any(each["id"] == item["id"] for each in collection["items"]):
        raise Refused(409)
    number = len(collection["items"])
    collection["items"].append({"_id": f"{number:024}", "position": number, **item})
    request.send_json(collection)


_SLUG = r"(?P<slug>[^/]+/[^/]+)"
ROUTES: list[Route] = [
    ("POST", r"/api/repos/create", _create_repo),
    ("POST", r"/api/validate-yaml", _validate_yaml),
    ("POST", rf"/api/models/{REPO}/preupload/{REV}", _preupload),
    ("POST", rf"/api/models/{REPO}/commit/{REV}", _commit),
    ("POST", rf"/api/models/{REPO}/branch/{REV}", _branch),
    ("POST", rf"/api/models/{REPO}/tag/{REV}", _tag),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", _lfs_batch),
    ("PUT", rf"/lfs/{REPO}/(?P<oid>[0-9a-f]+)", _take),
    ("PUT", r"/lfs-part/(?P<oid>[0-9a-f]+)/(?P<number>\d+)", _take_part),
    ("POST", rf"/lfs-complete/{REPO}", _complete),
    ("POST", rf"/lfs-verify/{REPO}", _verify),
    ("POST", r"/api/collections", _create_collection),
    ("GET", rf"/api/collections/{_SLUG}", _collection),
    ("POST", rf"/api/collections/{_SLUG}/items", _add_item),
]
