"""YAML as it comes: what cannot be read is one line, whatever it is."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import Failure, UsageFailures
from convert.recipe import TargetOptions, load
from convert.recipe.document import DocumentError, parse


class Options(TargetOptions):
    """A small format."""

    level: int = 1


def problem(folder: Path, raw: bytes) -> str:
    file = folder / "r.yaml"
    file.write_bytes(raw)
    with pytest.raises(UsageFailures) as raised:
        load(file, {"x": Options})
    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].hint
    return raised.value.problems[0].message.removeprefix(f"{file}:")


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 12)
)

UNREADABLE = {
    "empty": (b"", "1: the file is empty"),
    "only a comment": (b"# later\n", "1: the file is empty"),
    "a list": (b"# c\n- model: a/b\n", "2: a recipe is a mapping"),
    "a word": (b"model\n", "1: a recipe is a mapping"),
    "not UTF-8": (b"model: a/b\n# caf\xe9\n", "2: byte 0xe9 is not UTF-8"),
    "UTF-16": ("model: a/b\n".encode("utf-16"), "1: byte 0xff is not UTF-8"),
    "a NUL": (b"model: a/b\nrevision: \x00\n", "2: character U+0000 is not allowed"),
    "a tab": (b"model: a/b\ntargets:\n\tx: {}\n", "3: this is not YAML: found character '\\t'"),
    "an open bracket": (b"model: a/b\ntargets: {x: {}\n", "3: this is not YAML"),
    "an open quote": (b'model: "a/b\n', "2: this is not YAML"),
    "two documents": (b"model: a/b\n---\nmodel: a/b\n", "2: this is not YAML"),
    "an unknown alias": (b"model: *who\n", "1: this is not YAML: found undefined alias"),
    "a file of weights": (b"\x00" * (1 << 20), "1: larger than 256 KiB"),
    "deep flow": (b"model: " + b"[" * 90, "1: this is not YAML"),
    "deep": (b"model: " + b"[" * 90 + b"]" * 90, "1: model[0][0][0]: nested too deeply"),
    "very deep": (b"model: " + b"[" * 9000, "1: nested too deeply"),
    "a list in itself": (b"model: &a [*a]\n", "1: model[0][0][0]: nested too deeply"),
    "a bomb": (BOMB, "10000"),
}


@pytest.mark.timeout(120)  # a bomb that goes off takes hours
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    raw, expected = UNREADABLE[name]
    assert expected in problem(tmp_path, raw)


ODD = {
    "a tag": (b"model: !!python/object/apply:os.system [ls]\n", "1: model: the tag !!python/object"),
    "a private tag": (b"model: !secret x\n", "1: model: the tag !secret has no meaning"),
    "binary": (b"model: !!binary aGk=\n", "1: model: the tag !!binary has no meaning"),
    "half a surrogate pair": (b'model: "\\ud800"\n', "1: model: '\\ud800' cannot be read as str"),
    "a tag that lies": (b"model: !!int x\n", "1: model: 'x' cannot be read as int"),
    "a bool that lies": (b"model: !!bool maybe\n", "1: model: 'maybe' cannot be read as bool"),
    "a number for a key": (b"model: a/b\n1: x\n", "2: a key must be a plain word"),
    "a list for a key": (b"model: a/b\n? [a]\n: x\n", "2: a key must be a plain word"),
    "merge keys": (b"model: a/b\n<<: {revision: x}\n", "2: <<: unknown key"),
    "an endless number": (b"model: a/b\nrevision: " + b"9" * 5000 + b"\n", "2: revision: '999"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_refused_by_name(tmp_path: Path, name: str) -> None:
    raw, expected = ODD[name]
    assert problem(tmp_path, raw + b"targets: {x: {level: 2}}\n").startswith(expected)


def test_anchors_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    raw = (
        "\ufeffmodel: &m a/b\r\nrevision: 2024-01-01\r\npublish: {repo: *m}\r\ntargets: {x: {}}\r\n".encode()
    )
    file.write_bytes(raw)
    recipe = load(file, {"x": Options})
    assert (recipe.model, recipe.revision) == ("a/b", "2024-01-01")
    assert recipe.publish is not None
    assert recipe.publish.repo == "a/b"
    assert recipe.text.encode() == raw


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1e-3", 0.001),
        ("~", None),
        ("", None),
        ("True", True),
        ("-.inf", float("-inf")),
        ("!!str 12", "12"),
    ],
)
def test_plain_words_are_those_of_yaml_1_2(text: str, value: object) -> None:
    document = parse(f"key: {text}\n".encode())
    assert document.value == {"key": value}
    assert not document.faults


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_make_a_document_or_a_fault(raw: bytes) -> None:
    try:
        faults = tuple(parse(raw).faults)
    except DocumentError as error:
        faults = (error.fault,)
    assert all(fault.line >= 1 and fault.hint for fault in faults)


WORDS = st.sampled_from(
    [
        "model",
        "targets",
        "x",
        "level",
        "verify",
        "gates",
        "top1",
        "calibration",
        "packs",
        "publish",
        "repo",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "\n",
        "\n  ",
        "- ",
        "a/b",
        "1",
        "1e9",
        "null",
        "&a ",
        "*a",
        "searchqa",
        "'",
        '"',
        "#",
        "? ",
    ]
)


@given(st.lists(WORDS, max_size=40).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_recipe_is_read_or_explained(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text("model: a/b\ntargets: {x: {}}\n" + text, encoding="utf-8")
    problems: tuple[Failure, ...] = ()
    try:
        load(file, {"x": Options})
    except UsageFailures as failures:
        problems = failures.problems
    assert all(problem.hint and "\n" not in problem.message for problem in problems)
