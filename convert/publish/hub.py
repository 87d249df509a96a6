"""The Hub: one commit upon the state that was looked at, or none; then everything is read back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.publish.bundle import README
from convert.publish.destination import Sent, Standing, Survey
from convert.publish.refusal import Damaged, Moved
from convert.publish.upload import additions, upload
from convert.source.hub import client
from convert.source.retry import Backoff, Transient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.hf_api import GitRefs, RepoFile

    from convert.progress import Progress
    from convert.publish.bundle import Bundle, ShippedFile
    from convert.publish.session import Session

# What the Hub makes by itself in a new repo.
_NOT_FOREIGN = frozenset({".gitattributes"})
# Files of up to this size are fetched when they are read back; of larger ones the Hub's digests are compared.
_FETCHED_BYTES = 1 << 20
_MOST_PROPOSALS = 20
_TITLE = 100  # what a commit's first line may be long
_RERUN = "run the same command again: what has arrived is not sent twice"


@dataclass(frozen=True)
class HubPlace:
    """A destination: the repos of the Hub that this session may write to."""

    session: Session

    def look(self, repo: str, revision: str) -> Standing:
        """See what the branch holds, or main, which a new branch begins as."""
        refs = self._refs(repo)
        if refs is None:
            return Standing(None, frozenset(), lambda _: False)
        head = _head(refs, repo, revision)
        listed = self._listed(repo, head)
        return Standing(head, frozenset(listed), lambda file: not list(lacking([file], listed)))

    def describe(self, bundle: Bundle) -> Survey:
        """Look whether the repo is there, whether it shows to whom it should, and what the branch lacks."""
        refs = self._refs(bundle.repo)
        place = f"{self.session.hub.endpoint}/{bundle.repo}"
        if refs is None:
            return Survey(place, exists=False, head=None, missing=bundle.files)
        is_private = self._require_fitting(bundle)
        head = _head(refs, bundle.repo, bundle.revision)
        survey = replace(self._survey(bundle, place, head), is_private=is_private)
        tagged = {tag.name: tag.target_commit for tag in refs.tags}.get(bundle.tag or "")
        if tagged and (survey if tagged == head else self._survey(bundle, place, tagged)).missing:
            raise Failure(
                f"{bundle.repo}: the tag {bundle.tag} stands at something else ({tagged[:12]})",
                "choose another publish.tag, or remove that one on the Hub",
            )
        return survey

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Upload what is missing, then show it with one commit, or propose it with one pull request."""
        if not survey.exists:
            survey = self._create(bundle)
        if survey.head is None:
            raise ValueError(f"{bundle.repo}: a repo without a head")
        self._require_branch(bundle, survey.head)
        standing = self._standing(bundle, survey)
        if standing is not None:
            revision, sent_bytes = standing, 0
        else:
            self._require_valid_card(survey.missing, bundle.repo)
            with progress.stage("upload", survey.missing_bytes) as advance:
                operations = additions(survey.missing, advance)
                upload(
                    self.session, bundle.repo, bundle.revision, operations, is_proposal=bundle.is_pull_request
                )
            revision, sent_bytes = self._commit(bundle, survey, operations), survey.missing_bytes
        self._compare(bundle, revision)
        self._name(bundle, revision)
        return Sent(survey.place, revision, sent_bytes, is_new=standing is None)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Compare the digests of all files with the bundle's, and fetch the small ones."""
        revision = str(sent.revision)
        self._compare(bundle, revision)
        small = [file for file in bundle.files if file.size_bytes <= _FETCHED_BYTES]
        with progress.stage("read back", sum(file.size_bytes for file in small)) as advance:
            for file in small:
                self._fetch(bundle.repo, revision, file)
                advance(file.size_bytes)

    def _refs(self, repo: str, *, has_proposals: bool = False) -> GitRefs | None:
        """Branches, tags and, wanted, pull requests; None where no repo of that name shows itself."""
        api, errors = self.session.api, client().errors

        def look() -> GitRefs | None:
            try:
                return api.list_repo_refs(repo, include_pull_requests=has_proposals)
            except errors.RepositoryNotFoundError:
                return None

        return self.session.ask(repo, look)

    def _require_fitting(self, bundle: Bundle) -> bool:
        """Whether the repo is private; what is to be so goes into no other."""
        info = self.session.ask(bundle.repo, lambda: self.session.api.model_info(bundle.repo))
        if bundle.is_private and not info.private:
            raise Failure(
                f"{bundle.repo}: the repo is public, and the recipe publishes privately",
                "say `private: false` under publish:, or make the repo private on the Hub",
            )
        return bool(info.private)

    def _survey(self, bundle: Bundle, place: str, commit: str) -> Survey:
        listed = self._listed(bundle.repo, commit)
        ours = {file.path for file in bundle.files}
        return Survey(
            place,
            exists=True,
            head=commit,
            missing=tuple(lacking(bundle.files, listed)),
            foreign=tuple(sorted(set(listed) - ours - _NOT_FOREIGN)),
        )

    def _listed(self, repo: str, commit: str) -> dict[str, RepoFile]:
        """The files of a commit, by path."""
        from huggingface_hub.hf_api import RepoFolder as folder  # noqa: N813, PLC0415 - imported late

        def look() -> dict[str, RepoFile]:
            entries = self.session.api.list_repo_tree(repo, recursive=True, revision=commit)
            return {entry.path: entry for entry in entries if not isinstance(entry, folder)}

        return self.session.ask(repo, look, is_patient=True)

    def _create(self, bundle: Bundle) -> Survey:
        """Make the repo, and look at what the Hub puts into it; anybody else may have made it just before."""

        def create() -> object:
            return self.session.api.create_repo(
                bundle.repo, repo_type="model", private=bundle.is_private, exist_ok=True
            )

        self.session.ask(bundle.repo, create)
        made = self.describe(bundle)
        if not made.exists:
            raise Failure(
                f"{bundle.repo}: it was made, and does not show itself", "check that your token may read it"
            )
        if made.missing and made.head and set(self._listed(bundle.repo, made.head)) - _NOT_FOREIGN:
            raise _moved(bundle, made.place)
        return made

    def _require_valid_card(self, missing: Iterable[ShippedFile], repo: str) -> None:
        """Let the Hub read the card before gigabytes follow; the commit would fail by it."""
        library, session = client(), self.session
        url = f"{session.hub.endpoint}/api/validate-yaml"
        for content in [file.read().decode() for file in missing if file.path == README]:
            asked = {"content": content, "repoType": "model"}

            def validate(asked: dict[str, str] = asked) -> None:
                headers = library.utils.build_hf_headers(token=session.token, library_name="modelwright")
                library.utils.hf_raise_for_status(
                    library.get_session().post(url, headers=headers, json=asked)
                )

            session.ask(repo, validate, file=README)

    def _require_branch(self, bundle: Bundle, head: str) -> None:
        refs = None if bundle.revision == "main" else self._refs(bundle.repo)
        if refs is None or any(branch.name == bundle.revision for branch in refs.branches):
            return

        def create() -> None:
            self.session.api.create_branch(bundle.repo, branch=bundle.revision, revision=head, exist_ok=True)

        self.session.ask(bundle.repo, create)

    def _standing(self, bundle: Bundle, survey: Survey) -> str | None:
        """The commit that holds the bundle already: the branch's own, or that of a pull request."""
        if not survey.missing:
            return survey.head
        refs = self._refs(bundle.repo, has_proposals=True) if bundle.is_pull_request else None
        proposals = [pull.target_commit for pull in (refs.pull_requests or ())] if refs else []
        for commit in proposals[::-1][:_MOST_PROPOSALS]:
            if not self._survey(bundle, survey.place, commit).missing:
                return commit
        return None

    def _commit(self, bundle: Bundle, survey: Survey, operations: Sequence[CommitOperationAdd]) -> str:
        """Make the one commit. Where the answer is lost, the digests tell whether it was made."""
        backoff = Backoff(bundle.repo, _RERUN, self.session.hub.retry, Event())

        def commit() -> str:
            made = self.session.api.create_commit(
                bundle.repo,
                operations,
                commit_message=_message(bundle),
                revision=bundle.revision,
                parent_commit=survey.head,
                create_pr=bundle.is_pull_request,
            )
            return str(made.oid)

        while True:
            try:
                return self.session.once(bundle.repo, commit)
            except (Transient, Moved) as problem:
                now = self.describe(bundle)
                made = self._standing(bundle, now)
                if made is not None:
                    return made
                if now.head != survey.head or isinstance(problem, Moved):
                    raise (problem if isinstance(problem, Moved) else _moved(bundle, survey.place)) from None
                backoff.wait(problem)

    def _compare(self, bundle: Bundle, revision: str) -> None:
        wrong = [file.path for file in lacking(bundle.files, self._listed(bundle.repo, revision))]
        if wrong:
            raise Failure(
                f"{bundle.repo}/{wrong[0]}: what stands there at {revision[:12]} is not what was sent",
                _RERUN,
            )

    def _fetch(self, repo: str, revision: str, file: ShippedFile) -> None:
        """Fetch a file and compare; a body that was damaged on its way is fetched again."""
        library, session = client(), self.session
        url = library.hf_hub_url(repo, file.path, revision=revision, endpoint=session.hub.endpoint)

        def fetch() -> None:
            headers = library.utils.build_hf_headers(token=session.token, library_name="modelwright")
            answer = library.get_session().get(url, headers=headers)
            library.utils.hf_raise_for_status(answer)
            if hashlib.sha256(answer.content).hexdigest() != file.sha256:
                raise Damaged("what came back is not what was sent")

        session.ask(repo, fetch, file=file.path)

    def _name(self, bundle: Bundle, revision: str) -> None:
        """Tag what was compared, and put it among its kind."""
        if bundle.tag is not None:
            self._tag(bundle, bundle.tag, revision)
        if bundle.collection is not None:
            self._collect(bundle, bundle.collection)

    def _tag(self, bundle: Bundle, tag: str, revision: str) -> None:
        def stands_at() -> str | None:
            refs = self._refs(bundle.repo)
            return (
                next((each.target_commit for each in refs.tags if each.name == tag), None) if refs else None
            )

        def create() -> None:
            self.session.api.create_tag(bundle.repo, tag=tag, revision=revision, exist_ok=True)

        if stands_at() is None:
            self.session.ask(bundle.repo, create)
        found = stands_at()
        if found != revision and (found is None or self._survey(bundle, "", found).missing):
            raise Failure(
                f"{bundle.repo}: published as {revision[:12]}, and the tag {tag} stands elsewhere",
                "choose another publish.tag, or remove that one on the Hub",
            )

    def _collect(self, bundle: Bundle, title: str) -> None:
        api, owner = self.session.api, bundle.repo.partition("/")[0]

        def collect() -> list[str]:
            found = api.create_collection(title, namespace=owner, private=bundle.is_private, exists_ok=True)
            whole = api.add_collection_item(found.slug, bundle.repo, "model", exists_ok=True)
            return [item.item_id for item in whole.items]

        if bundle.repo not in self.session.ask(bundle.repo, collect):
            raise Failure(f"{bundle.repo}: published, but not in the collection {title!r}", _RERUN)


def _head(refs: GitRefs, repo: str, revision: str) -> str:
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    head = heads.get(revision) or heads.get("main")
    if head is None:
        raise Failure(f"{repo}: it has neither {revision} nor main", "look at it on the Hub")
    return head


def lacking(files: Iterable[ShippedFile], listed: Mapping[str, RepoFile]) -> Iterable[ShippedFile]:
    """The files that are not listed with the same content."""
    for file in files:
        entry = listed.get(file.path)
        if entry is None or entry.size != file.size_bytes:
            yield file
        elif entry.lfs is not None:
            if entry.lfs.sha256 != file.sha256:
                yield file
        elif entry.blob_id != _git_sha1(file):
            yield file


def _git_sha1(file: ShippedFile) -> str:
    """What git calls the content; the Hub keeps only small files in git."""
    hasher = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    if isinstance(file.content, bytes):
        hasher.update(file.content)
    else:
        with file.content.open("rb") as stream:
            while chunk := stream.read(_FETCHED_BYTES):
                hasher.update(chunk)
    return hasher.hexdigest()


def _message(bundle: Bundle) -> str:
    targets = ", ".join(candidate.target for candidate in bundle.candidates)
    text = f"Publish {bundle.title}: {targets}"
    return text if len(text) <= _TITLE else f"{text[: _TITLE - 1]}…"


def _moved(bundle: Bundle, place: str) -> Moved:
    return Moved(
        f"{bundle.repo}: somebody changed it meanwhile, and nothing was published",
        f"look at {place}/commits/{bundle.revision}, then run the same command again",
    )
