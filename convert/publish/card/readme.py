"""The values that README.md.j2 is rendered with: figures, notes, and where the files come from."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from convert.deviation import Deviation, count_matrices, grouped, summed
from convert.publish.bundle import Bundle, Candidate
from convert.publish.card import advice, figures, markdown, ollama, xinference
from convert.publish.card.group import FormatGroup
from convert.publish.card.label import label, shipping_of, weights
from convert.publish.card.license import HUB, license_values
from convert.publish.card.template import environment
from convert.publish.provenance.envelope import signed_by
from convert.publish.provenance.statement import BOM_NAME, PROVENANCE_NAME, RELEASE_NAME
from convert.recipe.redact import redact
from convert.store import MANIFEST_NAME, Manifest, SourceRecord
from verify.report import NAME as REPORT_NAME
from verify.report import words

DOCUMENTS = (
    (MANIFEST_NAME, "manifest"),
    (REPORT_NAME, "report"),
    (PROVENANCE_NAME, "provenance"),
    (BOM_NAME, "bill of materials"),
)
PAGE = "report.html"
# Runtimes whose commands are shown; those of the others are folded.
MOST_GUIDES = 3
DOWNLOAD = "Download"
# Where no tool of the runtimes' looks for files by itself.
FETCHED = ("store", "registry")
# Options that a target is named by.
NAMED = ("quant", "precision", "provider")


def render(bundle: Bundle, groups: Sequence[FormatGroup], *, is_alone: bool) -> str:
    """Render the body; `is_alone` in a repo of one format."""
    first = groups[0]
    values = {
        **first.values(),
        "bundle": bundle,
        "candidates": bundle.candidates,
        "report": bundle.report,
        "page_file": PAGE,
        "facts": first.facts,
        "languages": first.languages,
        "shown_prompt": first.chat.shown if first.chat else "",
        "formats": list(dict.fromkeys(shipping_of(each).label for each in bundle.candidates)),
        "running": [
            {
                "format": group.shipping.label,
                "named": label(group.candidate),
                "others": [label(each) for each in group.members if each is not group.candidate],
                **_shown_guides(group, is_alone=is_alone),
            }
            for group in groups
        ],
        **figures.values(bundle, first.facts.context),
        "advice": advice.sentence(bundle),
        "has_ollama": any(group.shipping.runs_in_ollama for group in groups),
        "sampling": [f"{name} {value:g}" for name, value in first.facts.sampling.items()],
        **_notes(bundle),
        **_origin(bundle, first),
        **license_values(bundle),
    }
    return environment().get_template("README.md.j2").render(values)


def _shown_guides(group: FormatGroup, *, is_alone: bool) -> dict[str, Any]:
    """Show how to get the files and the first runtimes; fold the others, by their names."""
    guides = list(_guides(group, is_alone=is_alone))
    if group.bundle.origin.kind in FETCHED and not guides[0].startswith(f"### {DOWNLOAD}"):
        files = group.candidate.manifest.files if group.candidate.prefix else ()
        paths = [group.candidate.shipped_path(file.path) for file in files]
        section = environment().get_template("download.md.j2").render({**group.values(), "paths": paths})
        guides.insert(0, section.strip())
    titles = [guide.removeprefix("### ").partition("\n")[0] for guide in guides]
    most = MOST_GUIDES + (DOWNLOAD in titles)
    return {"guides": guides[:most], "folded": guides[most:], "folded_titles": titles[most:]}


def _guides(group: FormatGroup, *, is_alone: bool) -> Iterator[str]:
    """Render a section for each runtime that opens the artifact; `is_alone` in a repo of one format."""
    described = xinference.launch(group) if is_alone and group.is_on_hub else None
    values = {**group.values(), "modelfile": ollama.MODELFILE, "xinference": described}
    for guide in group.shipping.guides:
        known = group.facts.runs_in
        if known.issuperset(guide.needs) and guide.unless not in known:
            format_name, _, name = guide.name.partition("/")
            section = environment().get_template(f"{format_name}/guides/{name}.md.j2").render(values)
            yield from filter(None, [section.strip()])


def _notes(bundle: Bundle) -> dict[str, Any]:
    opened = [each.result.opened for each in bundle.candidates if each.result.opened]
    unmeasured = [(label(each), list(_missing(each))) for each in bundle.candidates]
    return {
        "waived": list(_waived(bundle)),
        **_differing(bundle.candidates),
        "window": max((each.context for each in opened), default=None),
        "unmeasured": [each for each in unmeasured if each[1]],
    }


def _waived(bundle: Bundle) -> Iterator[str]:
    """Say of each gate that was waived by how much it failed, and why it was."""
    for candidate in bundle.candidates:
        checks = {check.name: check for check in candidate.result.checks}
        for waiver in candidate.waived:
            check, found = checks.get(waiver.gate), "it was not measured"
            if check is not None:
                measured, limit = (markdown.text(words.value(each)) for each in (check.measured, check.limit))
                found = f"{markdown.text(check.why)} (measured {measured}, limit {limit})"
            where = f"{markdown.code(label(candidate))}: {markdown.code(waiver.gate)}"
            yield f"{where}: {found}. Waived: {markdown.text(waiver.reason)}"


def _differing(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Say what differs from the source or from the name, and in one sentence what many tensors share."""
    found = [(label(candidate), each) for candidate in candidates for each in candidate.manifest.deviations]
    sums, rest = summed(found)
    manifests = {label(candidate): candidate.manifest for candidate in candidates}
    said = []
    for each in sums:
        manifest = manifests[each.artifact]
        where = "" if len(candidates) == 1 else f"{markdown.code(each.artifact)}: "
        sentence = each.sentence(count_matrices(manifest.tensors), figures.bits(manifest))
        said.append(f"{where}{markdown.text(sentence)}.")
    alone = [pair for pair in found if pair not in rest]
    return {
        "deviations": [*said, *_deviations(rest, candidates)],
        "folded_deviations": list(_deviations(alone, candidates)),
    }


def _deviations(listed: Sequence[tuple[str, Deviation]], candidates: Sequence[Candidate]) -> Iterator[str]:
    """Write a line for the tensors that differ alike."""
    for found in grouped(listed):
        subject = markdown.code(found.pattern)
        if len(found.subjects) > 1:
            subject = f"{subject} ({len(found.subjects)} tensors)"
        elif "." not in found.pattern:  # no tensor
            subject = f"The {markdown.text(found.pattern)}"
        is_everywhere = len(found.artifacts) == len(candidates)
        where = "" if is_everywhere else f" in {', '.join(map(markdown.code, found.artifacts))}"
        yield f"{subject}{where}: {markdown.text(found.what)}."


def _missing(candidate: Candidate) -> Iterator[str]:
    result = candidate.result
    figures_of = {
        "quality": result.quality,
        "speed": result.speed,
        "memory": result.memory,
        "dialogues": result.scenarios,
    }
    yield from (name for name, figure in figures_of.items() if figure is None)
    yield from map(markdown.code, result.unmeasured)


def _origin(bundle: Bundle, group: FormatGroup) -> dict[str, Any]:
    manifests = [each.manifest for each in bundle.candidates]
    deviations = [each for manifest in manifests for each in manifest.deviations]
    paths = {file.path for file in bundle.files}
    tools = sorted({name: version for each in manifests for name, version in each.tools.items()}.items())
    documents = [
        f"{markdown.code(label(each))}: {links}"
        for each in bundle.candidates
        if (links := _links(each.documents, paths))
    ]
    options = [(label(each), list(_options(each.manifest.options))) for each in bundle.candidates]
    return {
        "source": _source(bundle),
        "kept": [
            f"{markdown.code(each.folder)}: {_links(each.documents, each.paths)}" for each in bundle.kept
        ],
        "documents": documents,
        "signer": _signer(bundle),
        "signed_paths": _signed_paths(group, paths),
        "sums": [
            f"{file.sha256}  {candidate.shipped_path(file.path)}"
            for candidate in bundle.candidates
            for file in weights(candidate)
        ],
        "tools": [f"{name} {version}" for name, version in tools],
        "recipe": redact(manifests[0].recipe),
        "option_lists": [each for each in options if each[1]],
        "pins": list(_pins(manifests[0])),
        # What was learned here rounds as the machine's own kernels do, and its manifest says so.
        "is_learned": any(each.wanted.startswith("the same bits") for each in deviations),
    }


def _pins(manifest: Manifest) -> Iterator[str]:
    """Say what in the recipe makes it read the same commits."""
    if manifest.source.commit:
        yield f"revision: {manifest.source.commit}"
    if manifest.adapter and manifest.adapter.commit:
        yield f"adapter: {{repo: {manifest.adapter.repo}, revision: {manifest.adapter.commit}}}"


def _source(bundle: Bundle) -> str:
    """Name the model that these files are made from, and the adapter that was merged into it."""
    source = _linked(bundle.candidates[0].manifest.source, f"the local model {markdown.code(bundle.title)}")
    if bundle.adapter is None:
        return source
    return f"{source} with the LoRA adapter {_linked(bundle.adapter, 'of a local folder')}"


def _linked(record: SourceRecord, local: str) -> str:
    """Name a repo and its commit, by links."""
    if record.repo is None:
        return local
    address = f"{HUB}/{record.repo}"
    shown = markdown.link(markdown.text(record.repo), address)
    if record.commit is None:
        return shown
    commit = markdown.link(markdown.code(record.commit[:12]), f"{address}/tree/{record.commit}")
    return f"{shown} at commit {commit}"


def _links(folder: str, paths: Container[str]) -> str:
    found = [(f"{folder}{name}", shown) for name, shown in DOCUMENTS]
    return ", ".join(markdown.link(shown, path) for path, shown in found if path in paths)


def _signer(bundle: Bundle) -> str | None:
    """Return the key that signed every artifact's provenance; None where any is unsigned."""
    contents = {file.path: file for file in bundle.files}
    found = [contents.get(f"{each.documents}{PROVENANCE_NAME}") for each in bundle.candidates]
    signers = {signed_by(file.read()) if file else None for file in found}
    return signers.pop() if len(signers) == 1 else None


def _signed_paths(group: FormatGroup, paths: Container[str]) -> list[str]:
    """Return the files of one artifact and of its signature; none, which downloads all, where it is alone."""
    chosen = group.candidate
    if not chosen.documents:
        return []
    documents = [f"{chosen.documents}{name}" for name, _ in DOCUMENTS]
    own = [chosen.shipped_path(file.path) for file in chosen.manifest.files]
    return [*own, *(path for path in documents if path in paths), RELEASE_NAME]


def _options(options: Mapping[str, JsonValue], prefix: str = "") -> Iterator[str]:
    """Write the options that the target's name does not say; digests are for programs."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _options(value, f"{name} ")
        elif value is not None and name not in NAMED and not name.endswith("sha256"):
            said = str(value).lower() if isinstance(value, bool) else value
            yield f"{prefix}{name.replace('_', ' ')} {said}"
