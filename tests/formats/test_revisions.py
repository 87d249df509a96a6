"""A format's bytes change only together with its revision, for its revision is part of every key."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from convert.formats import find_format, format_names
from tests import tiny
from tests.formats import golden
from tests.hf import describing

if TYPE_CHECKING:
    from pathlib import Path

RECORDED = golden.read()


def test_every_format_is_recorded() -> None:
    assert sorted(RECORDED) == sorted(format_names()), f"record the new format's bytes: {golden.COMMAND}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ARM fuses a * b + c, and rounds once")
@pytest.mark.parametrize("name", format_names())
def test_other_bytes_are_another_revision(name: str, tmp_path: Path) -> None:
    recorded = RECORDED[name]
    made = golden.build(name, recorded["options"], tmp_path)
    changed = sorted(
        path for path in {*made, *recorded["files"]} if made.get(path) != recorded["files"].get(path)
    )
    assert not changed, (
        f"bytes changed: bump REVISION of {name} and record the new digests with `{golden.COMMAND}`: "
        f"{changed}"
    )
    assert recorded["revision"] == find_format(name).REVISION, f"record the revision: {golden.COMMAND}"


def test_the_next_revision_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("qwen3", {"num_hidden_layers": 1}))
    folder = describing.convert_to(tmp_path, source, "hf: {}")
    first = (folder / "hf" / "manifest.json").read_bytes()
    describing.convert_to(tmp_path, source, "hf: {}")
    assert (folder / "hf" / "manifest.json").read_bytes() == first
    hf = find_format("hf")
    monkeypatch.setattr(type(hf), "REVISION", hf.REVISION + 1)
    describing.convert_to(tmp_path, source, "hf: {}")
    assert (folder / "hf" / "manifest.json").read_bytes() != first
