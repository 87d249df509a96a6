"""A run guide is a template and a line of data: none is lost, and none lets a stranger's words act."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jinja2 import UndefinedError

from convert import formats
from convert.formats.shipping import shipping
from convert.model.families import family, supported
from convert.publish.card import markdown
from convert.publish.card.template import environment
from tests.publish_card.cards import of_hub

if TYPE_CHECKING:
    from tests.publish_card.cards import Artifacts, Card

FORMATS = formats.format_names()
ROOT = Path(formats.__file__).parent
GUIDES = sorted(ROOT.glob("*/guides/*.md.j2"))
TEMPLATES = (*GUIDES, ROOT.parent / "publish" / "card" / "macros.j2")
# This project's own words and figures, and what filters have quoted already.
OURS = re.compile(
    r'(answer_tokens|context|modelfile|port|path|where|xinference\.file)|"[^"]*"( if .*)?'
    r"|(client|download|curl|generate|at_revision|model)\(.*\)"
)
QUOTED = re.compile(r"\| (sh|py|json)$")
NASTY = (
    "v1; touch /tmp/x",
    "$(touch x) `id`",
    'it\'s "quoted"',
    "x\n```\n\n## Evil\n",
    "````sh\nrm -rf ~",
    "{{ 7 * 7 }}{% raw %}",
    '\\" + evil() + "',
    "<script>alert(1)</script>",
)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_shipped(name: str) -> None:
    found = shipping(name)
    assert found.guides
    for guide in found.guides:
        format_name, _, template = guide.name.partition("/")
        assert (ROOT / format_name / "guides" / f"{template}.md.j2").is_file(), guide.name


def test_no_template_is_left_over() -> None:
    named = {guide.name for name in FORMATS for guide in shipping(name).guides}
    assert {f"{path.parts[-3]}/{path.name.removesuffix('.md.j2')}" for path in GUIDES} == named


def test_what_a_guide_needs_is_what_families_say() -> None:
    needed = {need for name in FORMATS for guide in shipping(name).guides for need in guide.needs}
    needed |= {need for name in FORMATS for need in getattr(shipping(name).xinference, "needs", ())}
    said = {name for each in supported() for name in family(each).runs_in}
    assert needed == said


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: "/".join(path.parts[-3:]))
def test_every_value_in_a_template_is_quoted_or_ours(path: Path) -> None:
    for value in re.findall(r"\{\{-?\s*(.*?)\s*-?\}\}", path.read_text("utf-8")):
        assert QUOTED.search(value) or OURS.fullmatch(value), value


def test_a_name_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()


def cards(artifacts: Artifacts, revision: str) -> list[Card]:
    hub = of_hub(artifacts.candidate().manifest, "tokenizer.json")
    return [
        artifacts.card(
            artifacts.candidate(target, manifest=hub if target.startswith("gguf") else None),
            revision=revision,
        )
        for target in ("gguf-Q8_0", "onnx-int4-cpu", "hf")
    ]


@pytest.mark.parametrize("nasty", NASTY)
def test_a_strangers_word_stays_one_word(artifacts: Artifacts, nasty: str) -> None:
    for plain, card in zip(cards(artifacts, "v1"), cards(artifacts, nasty), strict=True):
        # What is cut into words by a shell is the same, but for the one.
        shown = "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in nasty)
        for one, other in zip(plain.blocks("sh"), card.blocks("sh"), strict=True):
            assert [shown if word == "v1" else word for word in shlex.split(one)] == shlex.split(other)
        for one, other in zip(plain.blocks("python"), card.blocks("python"), strict=True):
            compile(other, "card", "exec")
            assert one.count("\n") == other.count("\n")
        assert card.titles == plain.titles
        assert "<script" not in re.sub(r"<pre>.*?</pre>", "", card.html, flags=re.DOTALL)


def test_a_fence_ends_its_line() -> None:
    made = environment().from_string('{% filter fence("sh") %}\nls\n{% endfilter %}').render()
    assert made == markdown.fence("ls", "sh") + "\n"
