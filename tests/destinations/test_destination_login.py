"""Who is logged in at a registry may push; and nothing is said to who need not know."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from convert.progress import Silent
from convert.publish.oci.login import CONFIG_VARIABLE, Login, login_for
from tests.destinations.bundles import FILES, QUICK, bundle_of, publish
from tests.destinations.pushing import REPO, log_in, place_of, refused
from tests.destinations.registry_server import PASSWORD, TOKEN, USER, RegistryServer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_who_is_logged_in_may_push(
    server: RegistryServer, tmp_path: Path, auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = auth
    log_in(monkeypatch, server.host)
    publish(place_of(server), bundle_of(tmp_path))
    assert server.pulled(REPO) == FILES
    if auth == "bearer":
        assert server.tokens_given <= 3  # one for each of describe, send and read_back
        assert set(server.asked_scopes) == {f"repository:{REPO}:pull,push"}


def test_a_token_that_runs_out_is_renewed(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.auth = "bearer"
    log_in(monkeypatch, server.host)
    place, bundle = place_of(server), bundle_of(tmp_path)
    survey = place.survey(bundle)

    class Expiring(Silent):
        """The registry forgets its tokens while chunks are on their way."""

        def stage(self, label: str, total_bytes: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            server.token = f"{TOKEN}-{label.replace(' ', '-')}"
            return super().stage(label, total_bytes)

    sent = place.send(bundle, survey, Expiring())
    place.read_back(bundle, sent, Expiring())
    assert server.pulled(REPO) == FILES


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("password", [None, "wrong"])
def test_who_is_not_is_told(
    server: RegistryServer,
    tmp_path: Path,
    auth: str,
    password: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.auth = auth
    if password:
        log_in(monkeypatch, server.host, password)
    failure = refused(server, bundle_of(tmp_path))
    assert ("does not accept" if password else "wants a login") in failure.message
    assert f"oras login {server.host}" in failure.hint


def test_a_token_is_asked_for_in_the_clear_nowhere_else(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.publish.oci.registry import Registry  # noqa: PLC0415

    with Registry("registry.example", "a/b", lambda: Login(USER, PASSWORD), QUICK) as registry:
        for realm in (f"{server.endpoint}/token", "ftp://x/y", "", "/token"):
            with pytest.raises(Failure, match="for a token"):
                registry._authorized(f'Bearer realm="{realm}"')
    assert not server.log
    # An upload that a registry sends elsewhere goes there without the login.
    server.auth = "basic"
    log_in(monkeypatch, server.host)
    with RegistryServer() as other:
        there = f"{other.endpoint}/v2/{REPO}/blobs/uploads/0"
        other.sessions["0"] = b""
        monkeypatch.setattr(server, "_where", lambda *_: {"Location": there})
        with pytest.raises(Failure):
            publish(place_of(server), bundle_of(tmp_path, {"README.md": b"# Tiny\n"}))
        assert other.log
        assert {exchange.authorization for exchange in other.log} == {None}


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": base64.b64encode(b"a:b:c").decode()}, Login("a", "b:c")),
        ({"username": "a", "password": "b"}, Login("a", "b")),
        ({"auth": ""}, None),
        ({"auth": "*"}, None),
        ({}, None),
        ("x", None),
    ],
)
def test_a_login_is_read_as_docker_writes_it(tmp_path: Path, entry: object, login: Login | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example": entry}}))
    given = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path / "home")}
    assert login_for("registry.example", given) == login
    assert login_for("other.example", given) is None
    assert "b:c" not in repr(login)


def test_docker_hub_has_three_names(tmp_path: Path) -> None:
    auths = {"https://index.docker.io/v1/": {"username": "a", "password": "b"}}
    given = {CONFIG_VARIABLE: json.dumps({"auths": auths}), "HOME": str(tmp_path)}
    assert login_for("docker.io", given) == login_for("registry-1.docker.io", given) == Login("a", "b")


def test_what_is_written_nearer_is_enough(tmp_path: Path) -> None:
    """On a build server, whoever's home it is, and whatever lies there."""
    (tmp_path / "config.json").write_text("{")
    auths = {"registry.example": {"username": "a", "password": "b"}}
    given = {CONFIG_VARIABLE: json.dumps({"auths": auths}), "DOCKER_CONFIG": str(tmp_path)}
    assert login_for("registry.example", given) == Login("a", "b")


@pytest.mark.parametrize("text", ["", "{", "[]", pytest.param("\x00", id="null byte")])
def test_a_damaged_login_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Failure, match="not the configuration"):
        login_for("registry.example", {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
