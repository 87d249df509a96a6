"""Where a repo's files come from, how to check that, and how to make them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card import markdown
from convert.publish.card.guide import download, shell
from convert.publish.card.label import label, weights
from convert.publish.card.license import HUB
from convert.publish.provenance import BOM_NAME, PROVENANCE_NAME, RELEASE_NAME, signed_by
from convert.recipe.redact import redact
from convert.store import MANIFEST_NAME
from verify.report import NAME as REPORT_NAME

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from pydantic import JsonValue

    from convert.publish.bundle import Bundle, Candidate
    from convert.publish.card.guide import Setting

DOCUMENTS = (
    (MANIFEST_NAME, "manifest"),
    (REPORT_NAME, "report"),
    (PROVENANCE_NAME, "provenance"),
    (BOM_NAME, "bill of materials"),
)
PUBLIC_KEY = "public.pem"
# Options that a target is named by.
NAMED = ("quant", "precision", "provider")


def source(bundle: Bundle) -> str:
    """The model that these files are made from, as a link where there is one."""
    record = bundle.candidates[0].manifest.source
    if record.repo is None:
        return f"the local model {markdown.code(bundle.title)}"
    shown = markdown.link(markdown.text(record.repo), f"{HUB}/{record.repo}")
    if record.commit is None:
        return shown
    commit = markdown.link(markdown.code(record.commit[:12]), f"{HUB}/{record.repo}/tree/{record.commit}")
    return f"{shown} at commit {commit}"


def documents(bundle: Bundle, candidate: Candidate) -> str:
    """Links to what is told of an artifact beside it."""
    return _links(candidate.documents, {file.path for file in bundle.files})


def _links(folder: str, paths: Container[str]) -> str:
    found = [(f"{folder}{name}", shown) for name, shown in DOCUMENTS]
    return ", ".join(markdown.link(shown, path) for path, shown in found if path in paths)


def kept(bundle: Bundle) -> Iterator[str]:
    """What stands in the repo and is not described; its own documents tell of it."""
    for each in bundle.kept:
        yield f"- {markdown.code(each.folder)}: {_links(each.documents, each.paths)}"


def key_id(bundle: Bundle) -> str | None:
    """Whose key signed every artifact's provenance; None where any is unsigned."""
    contents = {file.path: file for file in bundle.files}
    signers = set()
    for candidate in bundle.candidates:
        file = contents.get(f"{candidate.documents}{PROVENANCE_NAME}")
        signers.add(signed_by(file.read()) if file else None)
    return signers.pop() if len(signers) == 1 else None


def checking(setting: Setting) -> Iterator[str]:
    """How to see that a download is what was measured."""
    bundle = setting.bundle
    rows = [(markdown.code(label(each)), documents(bundle, each)) for each in bundle.candidates]
    told = ". ".join(f"{shown}: {links}" for shown, links in rows if links)
    if told:
        yield f"{told}."
    signer = key_id(bundle)
    if signer is None:
        yield (
            "The provenance is not signed: the digests below tell a damaged download from a whole one, and "
            "do not say who made it."
        )
    else:
        yield (
            f"The provenance is signed with the Ed25519 key {markdown.code(signer)}. With its owner's "
            "public key, from a place that you trust, every file can be held against what was signed:"
        )
        command = ["modelwright", "inspect", "--verify-signature", "--key", PUBLIC_KEY, setting.folder]
        yield shell(download(setting, *_signed_with(setting)), command)
    sums = [
        f"{file.sha256}  {candidate.shipped_path(file.path)}"
        for candidate in bundle.candidates
        for file in weights(candidate)
    ]
    yield markdown.details(
        "SHA-256 of the weights, for <code>sha256sum -c</code>", markdown.fence("\n".join(sums))
    )


def _signed_with(setting: Setting) -> list[str]:
    """An artifact, whole, with what vouches for it; nothing, which is all, where the repo is one artifact."""
    chosen = setting.candidate
    if not chosen.documents:
        return []
    beside = {file.path for file in setting.bundle.files}
    documents = [f"{chosen.documents}{name}" for name, _ in DOCUMENTS]
    own = [chosen.shipped_path(file.path) for file in chosen.manifest.files]
    return [*own, *(path for path in documents if path in beside), RELEASE_NAME]


def _options(options: Mapping[str, JsonValue], prefix: str = "") -> Iterator[str]:
    """What the name does not say; a digest is for programs."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _options(value, f"{name} ")
        elif value is not None and name not in NAMED and not name.endswith("sha256"):
            said = str(value).lower() if isinstance(value, bool) else value
            yield f"{prefix}{name.replace('_', ' ')} {said}"


def making(bundle: Bundle) -> Iterator[str]:
    """The recipe, the pinned source and the tools: the same input gives the same bytes."""
    manifest = bundle.candidates[0].manifest
    tools = dict(sorted({k: v for each in bundle.candidates for k, v in each.manifest.tools.items()}.items()))
    listed = ", ".join(f"{name} {version}" for name, version in tools.items())
    yield f"Made with {markdown.text(listed)}, from {source(bundle)}, by this recipe:"
    yield markdown.fence(redact(manifest.recipe), "yaml")
    for each in bundle.candidates:
        told = ", ".join(_options(each.manifest.options))
        if told:
            yield f"Options of {markdown.code(label(each))}: {markdown.text(told)}."
    pinned = ""
    if manifest.source.commit:
        pinned = f" with {markdown.code(f'revision: {manifest.source.commit}')} in it"
    # What was learnt here rounds as the machine's own kernels do, and its manifest says so.
    has_learnt = any(
        deviation.wanted.startswith("the same bits")
        for each in bundle.candidates
        for deviation in each.manifest.deviations
    )
    again = "them again, to the bit on machines of one kind," if has_learnt else "the same bytes again"
    yield (
        f"Saved as {markdown.code('recipe.yaml')}{pinned}, it makes {again} from the same source with the "
        "same tools:"
    )
    yield shell(["modelwright", "convert", "recipe.yaml"])
