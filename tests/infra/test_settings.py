"""Where settings come from, which source wins, and that every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.infra.settings import (
    RESERVED_ENV,
    AgentSettings,
    CommonSettings,
    ControllerSettings,
    InvokerSettings,
    SettingsError,
    load,
)


def controller(
    file: Path | None = None, env: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> ControllerSettings:
    return load(ControllerSettings, section="controller", file=file, env=env or {}, flags=flags or {})


def written(folder: Path, text: str) -> Path:
    file = folder / "fallow.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_sources_the_defaults_stand() -> None:
    assert controller() == ControllerSettings()


def test_flags_over_environment_over_section_over_common(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[common]\nlog_level = "error"\njoin_secret = "c"\nredis_url = "redis://common"\n'
        '[controller]\nport = 1\nlog_level = "debug"\npolicy = "file"\nseed = 1\n',
    )
    env = {"FALLOW_PORT": "2", "FALLOW_POLICY": "env", "PATH": "/bin"}
    settings = controller(file, env, {"port": 3, "policy": None})
    assert (settings.port, settings.policy, settings.seed) == (3, "env", 1)
    assert (settings.log_level, settings.join_secret, settings.redis_url) == ("debug", "c", "redis://common")


def test_keys_of_other_sections_are_no_errors(tmp_path: Path) -> None:
    file = written(tmp_path, "[invoker]\nqueue_calls = 5\n[agent]\ncores = 3\n[controller]\nseed = 4\n")
    env = {"FALLOW_KEEP_ALIVE_S": "5", "FALLOW_CORE_SCALE": "0.5", **dict.fromkeys(RESERVED_ENV, "x")}
    assert controller(file, env) == ControllerSettings(seed=4)
    invoker = load(InvokerSettings, section="invoker", file=file, env=env, flags={})
    assert (invoker.queue_calls, invoker.keep_alive_s) == (5, 5.0)
    agent = load(AgentSettings, section="agent", file=file, env=env, flags={})
    assert (agent.cores, agent.core_scale) == (3.0, 0.5)
    assert type(agent.cores) is float


def test_the_common_table_alone(tmp_path: Path) -> None:
    file = written(tmp_path, '[common]\njoin_secret = "x"\n')
    assert load(CommonSettings, section="common", file=file, env={}, flags={}).join_secret == "x"


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("OFF", False), ("no", False)])
def test_booleans_from_text(text: str, value: bool) -> None:
    assert load(AgentSettings, section="agent", file=None, env={"FALLOW_HOLD": text}, flags={}).hold is value


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"FALLOW_PROT": "1"}, "unknown setting FALLOW_PROT in the environment; the nearest known one is FALLOW_PORT"),
        ({"FALLOW_PORT": "http"}, "FALLOW_PORT is 'http' in the environment; it must be a whole number"),
        ({"FALLOW_PORT": "1.5"}, "FALLOW_PORT is '1.5' in the environment; it must be a whole number"),
        ({"FALLOW_PORT": ""}, "FALLOW_PORT is '' in the environment; it must be a whole number"),
        ({"FALLOW_PORT": "65536"}, "FALLOW_PORT is '65536' in the environment; a port is at most 65535"),
        ({"FALLOW_LINK_PORT": "-1"}, "FALLOW_LINK_PORT is '-1' in the environment; it must not be negative"),
        ({"FALLOW_GRACE_S": "soon"}, "FALLOW_GRACE_S is 'soon' in the environment; it must be a number"),
        ({"FALLOW_GRACE_S": "nan"}, "must not be negative or infinite"),
        ({"FALLOW_GRACE_S": "inf"}, "must not be negative or infinite"),
        ({"FALLOW_LOG_LEVEL": "loud"}, "must be one of debug, info, warning, error, critical"),
    ],
)
def test_mistakes_in_the_environment_are_named(env: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        controller(env=env)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[controller]\nprot = 1\n", "unknown setting prot in {file} [controller]; the nearest known one is port"),
        ("[contoller]\nport = 1\n", "unknown setting contoller in {file}; the nearest known one is controller"),
        ("[invoker]\nquue_calls = 1\n", "the nearest known one is queue_calls"),
        ("[common]\nport = 1\n", "unknown setting port in {file} [common]"),
        ("port = 1\n", "unknown setting port in {file}"),
        ("controller = 1\n", "it must be a table [controller]"),
        ('[controller]\nport = "80"\n', "port is '80' in {file} [controller]; it must be a whole number"),
        ("[controller]\nport = true\n", "port is True in {file} [controller]; it must be a whole number"),
        ("[controller]\npolicy = 1\n", "policy is 1 in {file} [controller]; it must be a text"),
        ("[controller\n", "{file} is no TOML file: "),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        controller(file)
    assert says.format(file=file) in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*none\.toml: No such file"):
        controller(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"[controller]\npolicy = '\xe9'\n")
    with pytest.raises(SettingsError, match="is no TOML file"):
        controller(latin)


def test_mistakes_in_flags_are_named() -> None:
    with pytest.raises(SettingsError, match="unknown setting polcy in the flags; the nearest known one is policy"):
        controller(flags={"polcy": "mws"})
    with pytest.raises(SettingsError, match="port is 'x' in the flags; it must be a whole number"):
        controller(flags={"port": "x"})
    with pytest.raises(SettingsError, match="kind is 'big' in the flags; it must be one of regular, harvest, spot"):
        load(AgentSettings, section="agent", file=None, env={}, flags={"kind": "big"})
    assert controller(flags={"port": "81"}).port == 81


def test_a_secret_may_be_given_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hidden\n")
    env = {"FALLOW_JOIN_SECRET_FILE": str(file), "FALLOW_GUEST_KEY_FILE": "/of/a/controller/only"}
    assert load(InvokerSettings, section="invoker", file=None, env=env, flags={}).join_secret == "hidden"


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"FALLOW_JOIN_SECRET_FILE": "/no/such"}, "FALLOW_JOIN_SECRET_FILE is '/no/such'.*cannot be read"),
        ({"FALLOW_JOIN_SECRET_FILE": "/x", "FALLOW_JOIN_SECRET": "y"}, "both set"),
        ({"FALLOW_PORT_FILE": "/x"}, "unknown setting FALLOW_PORT_FILE"),
    ],
)
def test_what_is_wrong_with_a_secrets_file_is_told(env: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        load(InvokerSettings, section="invoker", file=None, env=env, flags={})
