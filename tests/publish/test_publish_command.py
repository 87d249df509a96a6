"""`publish` as a person runs it: HF_ENDPOINT leads to the loopback Hub, HF_TOKEN says who; no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.formats import load_recipe
from tests.hub.server import Fault, HubServer
from tests.publish.artifacts import result, write_report
from tests.publish.commanding import PUBLISH, RECIPE, REPO, SOURCE, report
from tests.publish.conftest import TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish.commanding import Run


def test_a_dry_run_shows_everything_and_changes_nothing(run: Run, server: HubServer) -> None:
    ran = run("publish", "recipe.yaml", "--dry-run", "--json")
    assert (ran.code, ran.said) == (0, [])
    (repo,) = ran.answer["repos"]
    assert (repo["repo"], repo["private"], repo["exists"]) == (REPO, True, False)
    assert all(file["is_missing"] for file in repo["files"])
    paths = {file["path"] for file in repo["files"]}
    assert {"README.md", "LICENSE", "Tiny-0.1B-Q8_0.gguf", "gguf-F16/manifest.json"} <= paths
    assert repo["missing_bytes"] == sum(file["size_bytes"] for file in repo["files"])
    assert repo["card"].startswith("---\n")
    assert f"base_model: {SOURCE}" in repo["card"]
    shown = run("publish", "recipe.yaml", "--dry-run")
    assert all(path in shown.out for path in paths)
    assert f"{server.endpoint}/{REPO} (private, to be created)" in shown.out
    assert f"base_model: {SOURCE}" in shown.out
    assert "\\x" not in shown.out
    assert set(server.repos) == {SOURCE}
    assert {exchange.method for exchange in server.log} == {"GET"}


def test_published_once_and_not_again(run: Run, server: HubServer) -> None:
    ran = run("publish", "recipe.yaml", "--json")
    assert (ran.code, ran.said) == (0, [])
    (told,) = ran.answer["repos"]
    repo = server.repos[REPO]
    assert told["revision"] == repo.refs["main"]
    assert len(repo.history()) == 2
    listed = {file["path"]: file["sha256"] for file in told["files"]}
    assert set(repo.commits[repo.refs["main"]]) == {*listed, ".gitattributes"}
    again = run("publish", "recipe.yaml")
    assert again.code == 0
    assert "already there" in again.out
    assert len(repo.history()) == 2
    assert not [each for each in server.log if each.path.endswith("/commit/main")][1:]


def test_without_a_login_nothing_goes_out_and_a_dry_run_is_still_seen(
    run: Run, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    ran = run("publish", "recipe.yaml")
    assert ran.code == 1
    assert "you are not logged in" in ran.err
    assert "hf auth login" in ran.err
    shown = run("publish", "recipe.yaml", "--dry-run")
    assert shown.code == 0
    assert "not logged in" in shown.err
    assert "local/Tiny-0.1B-GGUF (private)" in shown.out
    assert set(server.repos) == {SOURCE}


@pytest.mark.parametrize("token", ["hf_expired", "two words", pytest.param("hf_ü", id="not ASCII")])
def test_a_token_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    ran = run("publish", "recipe.yaml")
    assert ran.code == 1
    assert len(ran.said) == 2
    assert "token" in ran.err
    assert token not in ran.err


def test_a_token_that_may_only_read(run: Run, server: HubServer) -> None:
    server.roles["ann"] = "read"
    ran = run("publish", "recipe.yaml")
    assert (ran.code, "your token may only read" in ran.err) == (1, True)


def test_what_failed_a_gate_stays_here(run: Run, home: Path, server: HubServer) -> None:
    report(home, top1=0.5, kl_p99=3.0)
    ran = run("publish", "recipe.yaml")
    assert ran.code == 3
    assert len(ran.said) == 4
    assert "gguf-Q8_0: top1: its most likely token is the source's at 50.00%" in ran.err
    assert "gguf-Q8_0: kl_p99" in ran.err
    assert set(server.repos) == {SOURCE}


def test_what_passed_goes_out_without_what_did_not(run: Run, home: Path, server: HubServer) -> None:
    report(home, top1=0.5)
    assert run("publish", "recipe.yaml", "--only", "gguf-F16").code == 0
    stands = server.repos[REPO].commits[server.repos[REPO].refs["main"]]
    assert "Tiny-0.1B-F16.gguf" in stands
    assert not any("Q8_0" in path for path in stands)


def test_a_waiver_lets_out_and_is_printed_on_the_card(run: Run, home: Path, server: HubServer) -> None:
    why = "eight bits are for show"
    (home / "recipe.yaml").write_text(
        f'{RECIPE}publish: {{repo: "ann/{{model}}-{{target}}", waive: [{{gate: top1, reason: {why}}}]}}\n',
        encoding="utf-8",
    )
    report(home, top1=0.5)
    ran = run("publish", "recipe.yaml", "--json")
    assert ran.code == 0
    (told,) = ran.answer["repos"]
    assert told["waived"] == [{"target": "gguf-Q8_0", "gate": "top1", "reason": why}]
    card = server.repos[REPO].commits[server.repos[REPO].refs["main"]]["README.md"].decode()
    assert why in card


def test_a_recipe_that_does_not_say_where(run: Run, home: Path, tmp_path: Path) -> None:
    (home / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    ran = run("publish", "recipe.yaml")
    assert (ran.code, "does not say where to publish" in ran.err) == (2, True)
    placed = run("publish", "recipe.yaml", "--to", str(tmp_path / "shelf"))
    assert placed.code == 0, placed.err
    assert (tmp_path / "shelf" / "Tiny-0.1B-GGUF" / "README.md").is_file()


def test_a_bad_day_is_one_line_and_the_next_run_ends_it(run: Run, server: HubServer) -> None:
    server.faults.append(Fault("status", "/commit/", status=403))
    ran = run("publish", "recipe.yaml")
    assert ran.code == 1
    assert len(ran.said) == 2
    assert "your token may not write there" in ran.err
    uploaded = [each.path for each in server.log if each.method == "PUT"]
    assert run("publish", "recipe.yaml").code == 0
    assert [each.path for each in server.log if each.method == "PUT"] == uploaded
    assert len(server.repos[REPO].history()) == 2


def test_the_token_is_written_nowhere(
    run: Run, home: Path, server: HubServer, children: list[dict[str, str]]
) -> None:
    for fault in (
        Fault("status", "/commit/", status=401, headers={"X-Error-Message": f"no good: Bearer {TOKEN}"}),
        Fault("status", "/preupload/", status=400, headers={"X-Error-Message": f"bad token {TOKEN}"}),
    ):
        server.faults = [fault]
        ran = run("publish", "recipe.yaml")
        assert ran.code == 1
        assert TOKEN not in ran.out + ran.err
    server.faults.clear()
    ran = run("publish", "recipe.yaml")
    assert ran.code == 0
    assert TOKEN not in ran.out + ran.err
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    for repo in server.repos.values():
        for files in repo.commits.values():
            assert not any(TOKEN.encode() in content for content in files.values())
    assert all(each.authorization is None for each in server.log if each.method == "PUT")
    assert all(TOKEN not in each.path for each in server.log)
    assert children
    assert not any(TOKEN in value for environment in children for value in environment.values())


def test_what_must_be_signed_does_not_go_out_unsigned(run: Run, home: Path, server: HubServer) -> None:
    (home / "recipe.yaml").write_text(f"{RECIPE}publish: {{signed: true}}\n", encoding="utf-8")
    ran = run("publish", "recipe.yaml")
    assert ran.code == 1
    assert "there is no key to sign with" in ran.err
    assert "MODELWRIGHT_SIGNING_KEY" in ran.err
    assert set(server.repos) == {SOURCE}


def test_a_repo_that_stands_private_is_left_so_and_that_is_said(
    run: Run, home: Path, server: HubServer
) -> None:
    assert run("publish", "recipe.yaml").code == 0
    (home / "recipe.yaml").write_text(f"{RECIPE}publish: {{private: false}}\n", encoding="utf-8")
    dry = run("publish", "recipe.yaml", "--dry-run")
    assert (dry.code, f"{REPO} (private, exists)" in dry.out) == (0, True)
    ran = run("publish", "recipe.yaml")
    assert (ran.code, f"{REPO}: it is private there and stays so" in ran.err) == (0, True)
    assert server.repos[REPO].is_private


def test_a_waiver_for_what_is_not_built_is_refused(run: Run, home: Path, server: HubServer) -> None:
    waived = "waive: [{gate: top1, reason: for show, target: gguf-Q9}]"
    (home / "recipe.yaml").write_text(f"{RECIPE}publish: {{{waived}}}\n", encoding="utf-8")
    ran = run("publish", "recipe.yaml", "--only", "gguf-F16")
    assert (ran.code, "the recipe builds no gguf-Q9" in ran.err) == (2, True)
    assert "it builds gguf-Q8_0, gguf-F16" in ran.err
    assert set(server.repos) == {SOURCE}


def test_a_target_that_there_is_not(run: Run) -> None:
    ran = run("publish", "recipe.yaml", "--only", "gguf-Q2_K")
    assert (ran.code, "it has: gguf, gguf-F16, gguf-Q8_0" in ran.err) == (2, True)


def test_offline_nothing_is_published_and_the_dry_run_says_so(run: Run, server: HubServer) -> None:
    ran = run("publish", "recipe.yaml", "--offline")
    assert (ran.code, "publishing needs the network" in ran.err) == (2, True)
    shown = run("publish", "recipe.yaml", "--offline", "--dry-run", "--json")
    assert shown.code == 0
    assert shown.answer["repos"][0]["exists"] is None
    assert not server.log


@pytest.mark.slow
def test_every_format_in_its_own_repo(server: HubServer, home: Path, run: Run) -> None:
    targets = "targets: {gguf: {quants: [Q8_0]}, onnx: {precision: int4, block_size: 32}, hf: {}}"
    (home / "formats.yaml").write_text(f"model: {SOURCE}\n{targets}\n{PUBLISH}", encoding="utf-8")
    assert run("convert", "formats.yaml").code == 0
    recipe, root = load_recipe(str(home / "formats.yaml")), home / "artifacts"
    folders = sorted((root / "formats").iterdir())
    write_report(recipe, root, *(result(recipe, folder) for folder in folders))
    ran = run("publish", "formats.yaml", "--json")
    assert (ran.code, ran.said) == (0, [])
    told = {repo["repo"]: {file["path"] for file in repo["files"]} for repo in ran.answer["repos"]}
    base = "ann/Tiny-0.1B"
    assert set(told) == {f"{base}-GGUF", f"{base}-ONNX", f"{base}-HF"}
    assert {"cpu-int4/genai_config.json", "cpu-int4/manifest.json", "LICENSE"} <= told[f"{base}-ONNX"]
    assert {"config.json", "model.safetensors", "manifest.json"} <= told[f"{base}-HF"]
    for name, paths in told.items():
        repo = server.repos[name]
        stands = repo.commits[repo.refs["main"]]
        assert set(stands) == paths | {".gitattributes"}
        # What is downloaded is an artifact again: its manifest fits its files, and its origin can be checked.
        folder = home / "downloaded" / name
        for path, content in stands.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    for place in ("ONNX/cpu-int4", "HF"):
        assert run("inspect", str(home / "downloaded" / f"{base}-{place}"), "--verify").code == 0
