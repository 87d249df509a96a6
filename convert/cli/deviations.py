"""Lines on what differs from the recipe or the source: each once, however many artifacts share it."""

from collections.abc import Iterable, Iterator, Sequence

from convert.cli.text import count, one_line, paragraph
from convert.deviation import Deviation, Group, grouped


def deviations(found: Iterable[tuple[str, Deviation]], artifacts: Sequence[str]) -> Iterator[str]:
    """Write a heading and each deviation, with the names of those `artifacts` that have it if not all do."""
    yield "not as the recipe or the source has it:"
    for group in grouped(found):
        whose = _whose(group.artifacts, artifacts)
        yield from paragraph(one_line(": ".join([*whose, _subject(group), group.what])), indent="  ")


def _subject(group: Group) -> str:
    tensors = f" ({count(len(group.subjects), 'tensor')})" if len(group.subjects) > 1 else ""
    return f"{group.pattern}{tensors}"


def _whose(having: Sequence[str], artifacts: Sequence[str]) -> list[str]:
    """Name them, several of a format by the format where all of it have it; nothing where all of all have."""
    if len(having) == len(artifacts):
        return []
    names: list[str] = []
    for name in having:
        format_ = name.partition("-")[0]
        kin = {each for each in artifacts if each.partition("-")[0] == format_}
        names.append(format_ if len(kin) > 1 and kin <= set(having) else name)
    return [", ".join(dict.fromkeys(names))]
