"""What the page that travels with a repo chooses between: its own files, and where they are got from."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from convert.pick.candidate import Candidate, Shipped
from convert.pick.page import between
from convert.pick.runtime import shipped_runtime
from convert.publish import bundle
from convert.publish.card import advice
from convert.publish.card.group import FormatGroup
from convert.publish.card.label import weights
from convert.publish.card.template import environment
from convert.recipe.draft import name_for
from verify.report import Report
from verify.report.choice import Choice


def choice(report: Report, groups: Sequence[FormatGroup]) -> Choice | None:
    """Describe it; None where a format cannot tell what its files weigh, or nothing known opens any."""
    return between(_offers(report, groups), shipped_runtime)


def _offers(report: Report, groups: Sequence[FormatGroup]) -> Iterator[Candidate]:
    """Yield each by what the report that is shown says of it, and by the name that the page's rows have."""
    results = {each.name: each for each in report.artifacts}
    for group in groups:
        repo = replace(group.bundle, report=report)
        for member in group.members:
            offer = advice.offer(repo, replace(member, result=results[member.target]))
            if offer is not None:
                label, shipped = report.recipe or "", _shipped(group, member)
                yield replace(offer, label=label, folder=member.folder, shipped=shipped)


def _shipped(group: FormatGroup, member: bundle.Candidate) -> Shipped:
    """Say how to get one artifact: its weights where those are enough, its folder, or the whole repo."""
    files = [member.shipped_path(file.path) for file in weights(member)]
    if group.shipping.folder:  # else all artifacts of the format lie in one, each by itself
        files = [member.shipped_path(file.path) for file in member.manifest.files] if member.prefix else []
    get = environment().get_template("get.j2").render({**group.values(), "paths": files}).strip()
    return Shipped(
        None if group.bundle.origin.kind == "folder" else get,
        "/".join(filter(None, [group.folder, member.prefix.rstrip("/")])),
        f"{group.folder}/{member.shipped_path(weights(member)[0].path)}",
        name_for(group.bundle.title),
    )
