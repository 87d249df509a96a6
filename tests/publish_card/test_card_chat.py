"""What a chat template does is found out by trying it, where it can do no harm; Ollama is told the same."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from convert.child.sandbox import render
from convert.model.families import family
from convert.publish.card.chat import Chat, Layout, look_at
from convert.publish.card.facts import Facts, gather
from convert.publish.card.ollama import MODELFILE, PARAMS, TEMPLATE
from tests.publish_card import go_template

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.publish_card.cards import Artifacts, Card

    Tried = Callable[[Facts], Chat | None]

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set told = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.first and told %}{{ '<<SYS>>\\n' + told + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\\n' + m['content'] + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
CHATML = family("qwen").tokenizer.chat_template or ""
SILENT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'Q: ' + m['content'] + '\\nA:' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '\\n' }}{% endif %}{% endfor %}"
)
BRACES = (
    "{% for m in messages %}{{ '{{' + m['role'] + '}} ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '{{assistant}} ' }}{% endif %}"
)
STRAIGHT = {
    "chatml": CHATML,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "zephyr": ZEPHYR,
    "gemma": GEMMA,
    "silent": SILENT,
    "braces": BRACES,
}
# What a straight line cannot say.
CROOKED = {
    "shouts": "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
    "counts": "{% for m in messages %}{{ loop.index ~ ': ' + m['content'] + '\\n' }}{% endfor %}",
    "forgets": "{{ messages[-1]['content'] + '!' }}",
    "repeats": "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}",
    "looks": "{% for m in messages %}{{ ('?' if '?' in m['content'] else '.') + m['content'] }}{% endfor %}",
    "refuses": "{{ raise_exception('no') }}",
    "breaks": "{{ 1 / 0 }}",
    "is no template": "{% if",
}
MARKUP = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = {"role": "system", "content": "Be brief."}
CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "What is 1 < 2?"}],
    [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "Hi.\nHow are you?"},
        {"role": "user", "content": "{{ .System }}"},
    ],
)


def facts(template: str) -> Facts:
    """A model of this template, whose tokenizer begins a text by itself."""
    return Facts(family="llama", context=8192, template=template, markup=MARKUP, ends={2: "</s>"})


def laid_out(template: str, chat: list[dict[str, str]]) -> str:
    """As the template says, without the token that the runtime puts first."""
    text = render(template, chat, add_generation_prompt=True, markup=MARKUP)
    return text.removeprefix(MARKUP["bos_token"])


@pytest.mark.parametrize("name", STRAIGHT)
def test_a_straight_template_is_taken_apart(name: str, tried: Tried) -> None:
    chat = tried(facts(STRAIGHT[name]))
    assert chat is not None
    assert chat.layout is not None
    takes_system = name not in ("gemma", "silent")
    assert (chat.layout.head_system is not None) == takes_system
    for turns in CHATS:
        told = [[SYSTEM, *turns]] if takes_system else []
        for messages in (turns, *told):
            wanted = laid_out(STRAIGHT[name], messages)
            assert chat.layout.render(messages) == wanted
            assert go_template.render(chat.layout.to_go(), messages) == wanted
    assert "{prompt}" in chat.shown
    assert ("{system prompt}" in chat.shown) == takes_system


@pytest.mark.parametrize("name", CROOKED)
def test_what_is_no_straight_line_is_not_said_to_be_one(name: str, tried: Tried) -> None:
    chat = tried(facts(CROOKED[name]))
    assert chat is not None
    assert chat.layout is None


def test_no_template_is_no_chat() -> None:
    assert look_at(Facts(family="gpt2")) is None


def test_chatml_is_known_by_its_look(tried: Tried) -> None:
    found = {name: tried(facts(template)) for name, template in STRAIGHT.items()}
    assert [name for name, chat in found.items() if chat and chat.layout and chat.layout.is_chatml] == [
        "chatml"
    ]


def test_a_template_sees_neither_environment_nor_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    reaching = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[-1]['content'] }}"
    chat = look_at(facts(reaching))
    assert chat == Chat(shown="", layout=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 9999999999 }}",
        "{% set ns = namespace(x='x') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    ],
)
def test_a_template_without_end_is_given_up(template: str) -> None:
    began = time.monotonic()
    assert look_at(facts(template)) == Chat(shown="", layout=None)
    assert time.monotonic() - began < 60


def parsed(card: Card) -> dict[str, Any]:
    """A Modelfile, as Ollama's parser reads it: a command, then a word, or a text in quotes."""
    text = card.made[MODELFILE].decode()
    template = re.search(r'^TEMPLATE """(.*?)"""$', text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r'^TEMPLATE """.*?"""$', "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in rest.splitlines() if line and not line.startswith("#")]
    told: dict[str, Any] = {"template": template[1] if template else None, "stop": []}
    for line in lines:
        word, _, value = line.partition(" ")
        if word == "FROM":
            told["from"] = value
            continue
        assert word == "PARAMETER", line
        name, _, value = value.partition(" ")
        if name == "stop":
            told["stop"].append(json.loads(value))
        else:
            told[name] = float(value)
    return told


def test_ollama_is_told_all_that_it_needs(artifacts: Artifacts) -> None:
    card = artifacts.card()
    told = parsed(card)
    assert told["from"] == "./tiny-qwen-Q6_K.gguf"
    assert told["stop"] == ["<|im_end|>", "<|endoftext|>"]
    context = gather(artifacts.candidate()).context
    assert context is not None
    assert told["num_ctx"] == min(context, 4096)
    assert told["template"] == card.made[TEMPLATE].decode()
    assert json.loads(card.made[PARAMS]) == {"stop": told["stop"], "num_ctx": told["num_ctx"]}
    template = gather(artifacts.candidate()).template
    assert template is not None
    for chat in CHATS:
        wanted = render(template, chat, add_generation_prompt=True, markup={})
        assert go_template.render(told["template"], chat) == wanted
    others = [line for line in card.made[MODELFILE].decode().splitlines() if line.startswith("# FROM")]
    assert others == ["# FROM ./tiny-qwen-Q8_0.gguf  (Q8_0)", "# FROM ./tiny-qwen-F16.gguf  (F16)"]


def test_a_completion_models_words_go_in_alone(artifacts: Artifacts) -> None:
    card = artifacts.card(artifacts.candidate("gguf-Q8_0", "gpt2"))
    told = parsed(card)
    assert told["template"] == "{{ .Prompt }}"
    assert told["stop"] == []
    assert not {TEMPLATE, PARAMS} & set(card.made)


@pytest.mark.parametrize(
    "template", [*CROOKED.values(), "{% for m in messages %}{{ '\"\"\"' + m['content'] }}{% endfor %}"]
)
def test_what_ollama_cannot_be_told_is_left_to_it(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr("convert.publish.card.gather", lambda _: facts(template))
    card = artifacts.card()
    assert parsed(card)["template"] is None
    assert not {TEMPLATE, PARAMS} & set(card.made)
    assert "looks for one like it" in card.made[MODELFILE].decode()


@pytest.mark.parametrize("end", ['a"b', "a\nFROM ./evil", pytest.param("\x1b[0m", id="escape"), '"""'])
def test_a_token_that_would_end_a_line_is_no_stop(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    told = Facts(context=99, template=CHATML, ends={1: "<fine>", 2: end})
    monkeypatch.setattr("convert.publish.card.gather", lambda _: told)
    assert parsed(artifacts.card())["stop"] == ["<fine>"]


def test_what_the_authors_advise_is_passed_on(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Facts(context=99, template=CHATML, sampling={"temperature": 0.7, "top_k": 20, "min_p": 0.1})
    monkeypatch.setattr("convert.publish.card.gather", lambda _: told)
    found = parsed(artifacts.card())
    assert (found["temperature"], found["top_k"], found["num_ctx"]) == (0.7, 20, 99)
    assert "min_p" not in found


def test_every_formats_files_say_the_same(artifacts: Artifacts) -> None:
    for model in ("qwen", "gpt2"):
        found = {
            name: gather(artifacts.candidate(name, model)) for name in ("gguf-Q8_0", "onnx-int4-cpu", "hf")
        }
        assert len({each.context for each in found.values()}) == 1
        assert len({each.template for each in found.values()}) == 1
        assert found["gguf-Q8_0"].parameters == found["hf"].parameters
        assert found["gguf-Q8_0"].family == found["hf"].family
        ends = [set(each.ends.items()) for each in found.values()]
        assert ends[0] & ends[1] & ends[2]


def test_a_layout_says_what_it_is() -> None:
    layout = Layout("<h>", ("<s>", "</s>"), "<u>", "<a>", "<b>", "<e>")
    messages = [SYSTEM, *CHATS[1]]
    wanted = "<s>Be brief.</s>你好<a><b>Hi.\nHow are you?<e><u>{{ .System }}<a>"
    assert layout.render(messages) == wanted
    assert go_template.render(layout.to_go(), messages) == wanted
