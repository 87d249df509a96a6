"""Lines on what differs from the recipe or the source: each once, however many artifacts share it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from convert.cli.text import count, one_line, paragraph
from convert.deviation import Deviation, Group, grouped, summed


@dataclass(frozen=True)
class Differing:
    """One artifact, and what differs in it."""

    deviations: Sequence[Deviation]
    matrices: int
    bits: float | None  # of a weight, on average


def deviations(artifacts: Mapping[str, Differing], *, is_verbose: bool = False) -> Iterator[str]:
    """Write a heading and each deviation, with the names of the artifacts that have it if not all do.

    What many tensors share is one sentence, unless it is asked for in full.
    """
    found = [(name, each) for name, artifact in artifacts.items() for each in artifact.deviations]
    if not found:
        return
    sums, rest = ([], found) if is_verbose else summed(found)
    yield "not as the recipe or the source has it:"
    for each in sums:
        artifact = artifacts[each.artifact]
        whose = _whose([each.artifact], list(artifacts))
        said = [*whose, each.sentence(artifact.matrices, artifact.bits)]
        yield from paragraph(one_line(": ".join(said)), indent="  ")
    for group in grouped(rest):
        whose = _whose(group.artifacts, list(artifacts))
        yield from paragraph(one_line(": ".join([*whose, _subject(group), group.what])), indent="  ")
    if sums:
        yield "  (--verbose names them)"


def _subject(group: Group) -> str:
    tensors = f" ({count(len(group.subjects), 'tensor')})" if len(group.subjects) > 1 else ""
    return f"{group.pattern}{tensors}"


def _whose(having: Sequence[str], artifacts: Sequence[str]) -> list[str]:
    """Name them, several of a format by the format where all of it have it; nothing where all of all have."""
    if len(having) == len(artifacts):
        return []
    names: list[str] = []
    from convert.formats import format_names  # noqa: PLC0415 - pydantic, which `plan --help` does without
    from convert.recipe.shorthand import parted  # noqa: PLC0415

    formats = format_names()
    for name in having:
        format_, _ = parted(name, formats)
        kin = {each for each in artifacts if parted(each, formats)[0] == format_}
        names.append(format_ if len(kin) > 1 and kin <= set(having) else name)
    return [", ".join(dict.fromkeys(names))]
