"""Strangers have a say all over a card: none of their words becomes markup, and none tells on a machine."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from convert.deviation import Deviation
from convert.publish.bundle import Waiver
from convert.publish.card import markdown
from convert.publish.card.facts import Facts
from convert.recipe.redact import redact
from tests.publish_card.cards import QUANTS
from verify.gates import Check

if TYPE_CHECKING:
    from tests.publish_card.cards import Artifacts, Card

ATTACKS = (
    "a | b | c",
    "`code` ``` fence",
    "~~~\nnot code",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- hidden",
    "</details></table>",
    "[text](javascript:alert(1))",
    "![image](https://evil.example/x.png)",
    "[ref]: https://evil.example",
    "one\n\n# two\n\n- three",
    "**bold** _em_ ~~strike~~",
    "$$x$$ and \\\\(y\\\\) and \\(z\\)",
    "&lt;b&gt; &#60;i&#62;",
    "\u202eright to left\u200b",
    pytest.param("\x1b[31mred\x07", id="escape"),
    "x" * 5000,
    "---\nlicense: mit\n---",
    "{{ braces }} {% raw %}",
    "end\\",
    "```\n</code></pre><script>alert(1)</script>",
)
OUR_TAGS = frozenset(
    "h1 h2 h3 p a code pre table thead tbody tr th td img ul li strong em details summary blockquote".split()  # noqa: SIM905
)


class Tags(HTMLParser):
    """Every tag, every address, and every word that is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.add(tag)
        names = {name for name, _ in attrs}
        assert names <= {"href", "src", "alt", "class", "style"}, (tag, attrs)
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.text += data

    def handle_comment(self, data: str) -> None:
        """There is none in a card."""
        raise AssertionError(data)


def said_by_strangers(artifacts: Artifacts, words: str, **changes: Any) -> Card:
    """A card with these words wherever somebody else than its maker has a say."""
    made = []
    for target in QUANTS:
        deviations = (
            Deviation(subject=words, wanted=words, got=words, why=words),
            Deviation(subject="blk.0.x", wanted="as the source", got="", why=words),
        )
        source = artifacts.candidate(target)
        opened, result = source.result.opened, source.result
        assert opened is not None
        check = Check("kl_mean", words, words, passed=False, why=words)
        result = result.model_copy(
            update={
                "checks": (check,),
                "unmeasured": (words,),
                "opened": opened.model_copy(update={"versions": {words: words}, "notes": {words: words}}),
            }
        )
        manifest = {
            "deviations": deviations,
            "license": words,
            "recipe": f"# {words}\n{source.manifest.recipe}",
            "tools": {words: words},
        }
        made.append(
            artifacts.candidate(target, manifest=manifest, result=result, waived=(Waiver("kl_mean", words),))
        )
    machine = replace(artifacts.bundle().report.machine, cpu=words)
    report = {"text": words, "tool": words, "machine": machine}
    card = dict.fromkeys(("license", "license_name", "license_link", "language", "tags", words), words)
    return artifacts.card(*made, report=report, card=card, **changes)


@pytest.mark.parametrize("words", ATTACKS)
def test_strangers_words_are_shown_and_do_nothing(artifacts: Artifacts, words: str) -> None:
    card = said_by_strangers(artifacts, words)
    found = Tags(card.html)
    assert found.tags <= OUR_TAGS
    assert not any("evil" in address or "javascript" in address for address in found.addresses)
    assert card.body.count("\n## ") == artifacts.card().body.count("\n## ")
    assert len(card.table("Files")) == len(QUANTS) + 2
    assert {len(row) for row in card.table("Files")} == {9}
    assert {len(row) for row in card.table("Speed and memory")} == {6}
    assert "\u202e" not in card.readme
    assert "\x1b" not in card.readme
    # Shown as they were said, as far as they can be seen and are not too long.
    shown = markdown.one_line(words)
    assert re.sub(r"\s+", "", shown) in re.sub(r"\s+", "", found.text)


@pytest.mark.parametrize("words", ATTACKS)
def test_mathematics_of_the_hubs_finds_nothing(words: str) -> None:
    assert "$" not in markdown.text(words)
    assert "\\" not in markdown.text(words)


@pytest.mark.parametrize("words", [*ATTACKS, "`", "``", "a`", "`a", " ", ""])
def test_a_fence_holds_what_is_in_it(words: str) -> None:
    from markdown_it import MarkdownIt  # noqa: PLC0415

    tokens = MarkdownIt("commonmark", {"html": True}).parse(markdown.fence(words, "yaml"))
    assert [token.type for token in tokens] == ["fence"]
    inline = MarkdownIt("commonmark", {"html": True}).parse(f"x {markdown.code(words)} y")
    children = inline[1].children
    assert children is not None
    assert [child.type for child in children] == ["text", "code_inline", "text"]
    wanted = markdown.one_line(words)
    assert children[1].content.strip() == wanted


def test_a_template_and_tokens_of_a_stranger_stay_in_their_fence(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "```\n</details><script>alert(1)</script>\n## License\n"
    facts = Facts(
        family="<b>",
        context=1024,
        template=hostile + "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        ends={1: "`</code><script>`", 2: 'a"\nFROM ./evil'},
    )
    monkeypatch.setattr("convert.publish.card.gather", lambda _: facts)
    card = artifacts.card()
    assert Tags(card.html).tags <= OUR_TAGS
    assert card.body.count("\n## License\n") == 2  # the section, and a line of the fence
    modelfile = card.made["Modelfile"].decode()
    assert [line for line in modelfile.splitlines() if line.startswith("FROM")] == [
        "FROM ./tiny-qwen-Q6_K.gguf"
    ]


def test_no_trace_of_the_machine(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_" + "abcDEF123456" * 3
    monkeypatch.setenv("HF_TOKEN", token)
    home = "/home/somebody/models/tiny"
    words = f"read {home}/model.gguf with {token}, file:///srv/data/x.txt or C:\\Users\\me\\x.txt by a:b@host"
    card = said_by_strangers(artifacts, words)
    made = b"\n".join(card.made.values()).decode()
    for secret in (
        token,
        home,
        "/home/somebody",
        "/srv/data",
        "Users\\me",
        str(artifacts.root),
        os.environ["HOME"],
    ):
        assert secret not in made, secret
    assert socket.gethostname() not in made
    assert "…/model.gguf" in made
    # The recipe of these artifacts names its model by an absolute path, which its manifest left out.
    assert "/recipes/models" not in artifacts.candidate().manifest.recipe
    assert "model: …/tiny-qwen" in artifacts.card().section("Make it again")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/me/x.txt", "…/x.txt"),
        ("~/models/x", "…/x"),
        ("see https://huggingface.co/a/b/c", "see https://huggingface.co/a/b/c"),
        ("https://me:secret@host/x", "https://…@host/x"),
        ("tokens/s and/or 1/2", "tokens/s and/or 1/2"),
        ("models/tiny-qwen", "models/tiny-qwen"),
        ("./a/b ../c/d", "./a/b ../c/d"),
        ("model: /data/llm/Qwen", "model: …/Qwen"),
        ("sk-0123456789abcdefghijklmn", "…"),
        ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "…"),
        ("<|im_start|>", "<|im_start|>"),
        ("</s>", "</s>"),
    ],
)
def test_discretion(said: str, shown: str) -> None:
    assert redact(said) == shown


def test_the_same_bundle_makes_the_same_card(artifacts: Artifacts) -> None:
    bundle = artifacts.bundle()
    from convert.publish.card import render  # noqa: PLC0415

    assert render(bundle) == render(bundle)
    shuffled = replace(bundle, candidates=bundle.candidates[::-1], files=bundle.files)
    assert render(shuffled) == render(bundle)
