"""Settings come from four places, and each says from which."""

from pathlib import Path

import pytest

from events.errors import Validation
from interfaces import settings


def test_a_default_needs_nothing(tmp_path: Path) -> None:
    made = settings.load({"data": tmp_path}, {})
    assert (made.http.port, made.http.host, made.lease_seconds) == (8888, "127.0.0.1", 30)
    assert made.origins == {"data": "command line"}


def test_later_sources_win_and_every_value_knows_its_own(tmp_path: Path) -> None:
    (tmp_path / "hindbrain.toml").write_text("lease_seconds = 5\n[http]\nport = 1\nhost = '::1'\n")
    environ = {"HINDBRAIN_DATA": str(tmp_path), "HINDBRAIN_HTTP__PORT": "2", "HINDBRAIN_FAULT_SWITCH": "true"}
    made = settings.load({"http.port": 3}, environ)
    assert (made.lease_seconds, made.http.port, made.http.host, made.fault_switch) == (5, 3, "::1", True)
    origins = {row.key: row.origin for row in made.table()}
    assert origins["lease_seconds"] == str(tmp_path / "hindbrain.toml")
    assert origins["http.port"] == "command line"
    assert origins["fault_switch"] == "HINDBRAIN_FAULT_SWITCH"
    assert origins["webhook.url"] == "default"
    assert set(origins) == set(settings.keys())


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"HINDBRAIN_HTTP__PROT": "1"}, "'HINDBRAIN_HTTP__PROT', did you mean 'HINDBRAIN_HTTP__PORT'"),
        ({"HINDBRAIN_HTTP__PORT": "many"}, "HINDBRAIN_HTTP__PORT: Expected `int`"),
        ({"HINDBRAIN_HTTP__PORT": "70000"}, "between 0 and 65535"),
        ({"HINDBRAIN_ROLES": "gatway"}, "did you mean 'gateway'"),
        ({"HINDBRAIN_HTTP__HOST": "0.0.0.0"}, "needs a token"),
        ({"HINDBRAIN_LOG__LEVEL": "loud"}, "use debug"),
        ({"HINDBRAIN_OTLP__ENDPOINT": "127.0.0.1:4318"}, "must begin with http"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(Validation, match=sentence):
        settings.load({"data": tmp_path}, environ)


def test_a_mistake_in_the_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "hindbrain.toml").write_text("leese_seconds = 5\n")
    with pytest.raises(Validation, match=r"'leese_seconds' \(.*toml\), did you mean 'lease_seconds'"):
        settings.load({"data": tmp_path}, {})


def test_what_a_command_finds_in_its_environment_is_no_mistake(tmp_path: Path) -> None:
    environ = {"HINDBRAIN_DATA": str(tmp_path), "HINDBRAIN_EXECUTION_ID": "exec_1"}
    assert settings.load({}, environ).data == tmp_path


def test_secrets_are_masked(tmp_path: Path) -> None:
    made = settings.load({"data": tmp_path, "http.token": "hush", "nats": {"url": "nats://a:hush@b:1"}}, {})
    shown = {row.key: row.value for row in made.table()}
    assert shown["http.token"] == "***"
    assert shown["nats.url"] == "nats://a:***@b:1"
    assert made.http.token == "hush"


def test_roles_can_be_one_text(tmp_path: Path) -> None:
    assert settings.load({"data": tmp_path, "roles": "nats, web"}, {}).roles == ("nats", "web")


def test_the_usual_place_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert settings.usual({"HOME": "/h"}) == Path("/h/.local/share/hindbrain")
    assert settings.usual({"HOME": "/h", "XDG_DATA_HOME": "/x"}) == Path("/x/hindbrain")
    assert settings.usual({"HOME": "/h", "XDG_DATA_HOME": "x"}) == Path("/h/.local/share/hindbrain")
    monkeypatch.setattr("sys.platform", "darwin")
    assert settings.usual({"HOME": "/h"}) == Path("/h/Library/Application Support/hindbrain")
