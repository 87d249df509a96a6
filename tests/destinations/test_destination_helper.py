"""Credential helpers: asked where a login is wanted and none is written down; none is told what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.publish.oci import helper, login
from convert.publish.oci.login import CONFIG_VARIABLE, Login, login_for
from tests.destinations.bundles import FILES, bundle_of, publish
from tests.destinations.pushing import REPO, place_of, refused
from tests.destinations.registry_server import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.destinations.registry_server import RegistryServer

HOST = "registry.example"
NAME = "fake"
# Keeps a diary, then answers as it is told to.
PROGRAM = """\
#!{python} -IS
import json, os, sys
server = sys.stdin.read()
with open({diary!r}, "a") as diary:
    diary.write(json.dumps([sys.argv[1:], server, sorted(os.environ)]) + "\\n")
{answer}
"""
KNOWN = f'print(json.dumps({{"ServerURL": server, "Username": {USER!r}, "Secret": {PASSWORD!r}}}))'
UNKNOWN = 'print("credentials not found in native keychain"); sys.exit(1)'


class Helper:
    """A program on the path, and the configuration that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        self.answers(KNOWN)

    def answers(self, answer: str, name: str = NAME) -> None:
        """Let it say that."""
        program = self.folder / f"docker-credential-{name}"
        text = PROGRAM.format(python=sys.executable, diary=str(self.diary), answer=answer)
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)

    def environment(self, **config: object) -> dict[str, str]:
        """A home with that configuration, and secrets that are no business of a helper's."""
        return {
            CONFIG_VARIABLE: json.dumps(config),
            "PATH": str(self.folder),
            "HOME": str(self.folder),
            "HF_TOKEN": "hf_secret",
            "AWS_PROFILE": "work",
        }

    @property
    def asked(self) -> list[tuple[list[str], str, list[str]]]:
        """Its words, what it read, and the names in its environment, of each time."""
        if not self.diary.exists():
            return []
        return [tuple(json.loads(line)) for line in self.diary.read_text().splitlines()]


@pytest.fixture
def fake(tmp_path: Path) -> Helper:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Helper(folder)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"credHelpers": {HOST: NAME}}, id="its own"),
        pytest.param({"credsStore": NAME}, id="for all"),
        pytest.param({"credsStore": NAME, "auths": {HOST: {}}}, id="as docker writes it"),
        pytest.param({"credHelpers": {f"https://{HOST}": NAME}, "credsStore": "no-such"}, id="its own first"),
    ],
)
def test_a_helper_is_asked_for_the_login(fake: Helper, config: Mapping[str, object]) -> None:
    assert login_for(HOST, fake.environment(**config)) == Login(USER, PASSWORD)
    ((words, server, names),) = fake.asked
    assert (words, server) == (["get"], HOST)
    assert "AWS_PROFILE" in names
    assert not {"HF_TOKEN", CONFIG_VARIABLE} & set(names)


def test_what_is_written_down_goes_first(fake: Helper) -> None:
    auths = {HOST: {"username": "a", "password": "b"}}
    assert login_for(HOST, fake.environment(auths=auths, credsStore=NAME)) == Login("a", "b")
    assert not fake.asked


def test_docker_hub_is_asked_for_by_its_third_name(fake: Helper) -> None:
    for host in ("docker.io", "registry-1.docker.io"):
        given = fake.environment(credHelpers={"https://index.docker.io/v1/": NAME})
        assert login_for(host, given) == Login(USER, PASSWORD)
    assert {server for _, server, _ in fake.asked} == {"https://index.docker.io/v1/"}


@pytest.mark.parametrize(
    "answer", [UNKNOWN, 'print("""{"ServerURL":"","Username":"","Secret":""}""")'], ids=["unknown", "empty"]
)
def test_a_helper_that_knows_no_login(fake: Helper, answer: str) -> None:
    fake.answers(answer)
    assert login_for(HOST, fake.environment(credsStore=NAME)) is None
    assert login_for(HOST, fake.environment(credHelpers={"other.example": NAME})) is None
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(f"print({PASSWORD!r}); sys.exit(2)", "gave no login", id="it failed"),
        pytest.param(f"print({PASSWORD!r})", "gave no login", id="no JSON"),
        pytest.param(f"print(json.dumps([{PASSWORD!r}]))", "gave no login", id="a list"),
        pytest.param(
            f'print(json.dumps({{"Username": 1, "Secret": {PASSWORD!r}}}))', "gave no login", id="no name"
        ),
        pytest.param('print("[" * 60_000)', "gave no login", id="nested"),
        pytest.param(f"while True: print({PASSWORD!r})", "gave no login", id="endless"),
        pytest.param(KNOWN.replace(USER, "<token>"), "a token instead of a password", id="a token"),
        pytest.param(
            f"sys.stderr.write({PASSWORD!r}); os.kill(os.getpid(), 9)", "gave no login", id="killed"
        ),
    ],
)
def test_a_helper_that_fails_is_one_line(
    fake: Helper, answer: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.answers(answer)
    with pytest.raises(Failure, match=said) as caught:
        login_for(HOST, fake.environment(credsStore=NAME))
    message = caught.value.message + caught.value.hint
    assert "\n" not in message
    assert caught.value.hint
    assert PASSWORD not in message + "".join(capfd.readouterr())
    assert caught.value.__cause__ is None


def test_a_helper_that_does_not_end_is_ended(fake: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    fake.answers("import time; time.sleep(600)")
    with pytest.raises(Failure, match="did not answer in 1 s"):
        helper.ask(NAME, HOST, fake.environment(), wait_s=1.0)
    assert [child.returncode for child in started] == [-signal.SIGKILL]


def test_what_a_helper_leaves_running_is_not_waited_for(fake: Helper) -> None:
    """It holds the pipe's end open still: an agent that keeps passwords, say."""
    agent, over = fake.folder / "agent", fake.folder / "over"
    wait = f"import time; time.sleep(30); open({str(over)!r}, 'w')"
    fake.answers(
        f"import subprocess\nchild = subprocess.Popen([sys.executable, '-c', {wait!r}])\n"
        f"open({str(agent)!r}, 'w').write(str(child.pid))\n{KNOWN}"
    )
    assert helper.ask(NAME, HOST, fake.environment()) == (USER, PASSWORD)
    assert not over.exists()
    os.kill(int(agent.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    "name",
    ["../fake", "-fake", "a b", "fake;true", "", ".fake", "x" * 65, 7, ["fake"], "fake\n"],
    ids=range(10),
)
def test_a_name_that_is_none_runs_nothing(fake: Helper, name: object) -> None:
    if name:
        with pytest.raises(Failure, match="that can have no such name"):
            login_for(HOST, fake.environment(credsStore=name))
    else:
        assert login_for(HOST, fake.environment(credsStore=name)) is None
    assert not fake.asked


def test_a_helper_that_is_not_there_or_no_program(fake: Helper) -> None:
    with pytest.raises(Failure, match="docker-credential-other, which keeps its login, is not installed"):
        login_for(HOST, fake.environment(credsStore="other"))
    (fake.folder / f"docker-credential-{NAME}").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(Failure, match="cannot be run"):
        login_for(HOST, fake.environment(credsStore=NAME))


def test_a_registry_that_wants_to_know_gets_it_by_one_question(
    server: RegistryServer, fake: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = fake.environment(credHelpers={server.host: NAME})
    for key in (CONFIG_VARIABLE, "PATH"):
        monkeypatch.setenv(key, given[key])
    # One that lets everybody in is told nothing, and no helper is run for it.
    publish(place_of(server), bundle_of(tmp_path, {"README.md": b"# Tiny\n"}))
    assert not fake.asked
    server.auth = "bearer"
    publish(place_of(server), bundle_of(tmp_path))
    assert server.pulled(REPO) == FILES
    assert len(fake.asked) == 1
    # What helpers give may be good for an hour, and an upload may take two.
    monkeypatch.setattr(login, "FRESH_S", -1.0)
    publish(place_of(server), bundle_of(tmp_path))
    assert len(fake.asked) == 1 + 3  # for each of describe, send and read_back
    fake.answers(f"print({PASSWORD!r})")
    server.token = "another"
    assert "gave no login" in refused(server, bundle_of(tmp_path)).message
