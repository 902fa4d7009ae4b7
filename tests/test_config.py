"""Settings: where they come from, which are refused, and what is said about it."""

import pytest
from pydantic import ValidationError

from config import GROUPS, SECRET, BadSetting, Settings, load_settings


@pytest.fixture
def load(tmp_path):
    """load_settings in a folder of its own; `toml` is what kv.toml there says."""

    def run(*argv, toml=None, **environ):
        if toml is not None:
            (tmp_path / "kv.toml").write_text(toml, "utf-8")
        return load_settings(argv, environ, tmp_path)

    return run


@pytest.fixture
def refusal(load):
    """The one line with which settings are refused."""

    def run(*argv, **sources):
        with pytest.raises(BadSetting) as caught:
            load(*argv, **sources)
        line = str(caught.value)
        assert line
        assert "\n" not in line
        return line

    return run


def test_without_anything_said_the_defaults_hold(load):
    settings = load(PATH="/bin")

    assert settings == Settings()
    assert (settings.host, settings.port, settings.nodes) == ("127.0.0.1", 5000, 3)
    assert (settings.replication_factor, settings.storage) == (2, "sqlite")


def test_flag_beats_environment_beats_file_beats_default(load):
    toml = "nodes = 4\nport = 1\nthreads = 8\n"

    settings = load("--port", "3", toml=toml, KV_PORT="2", KV_THREADS="9")

    assert (settings.port, settings.threads, settings.nodes) == (3, 9, 4)


def test_every_setting_can_be_given_in_every_way(load):
    values = {
        "host": "::1", "port": "1", "nodes": "5", "replication_factor": "3",
        "protocol": "primary-backup", "placement": "full", "consistency": "one",
        "min_in_sync": "2", "storage": "memory", "data_dir": "elsewhere",
        "durability": "os", "tombstone_grace_seconds": "1.5", "maintenance_seconds": "2",
        "max_key_bytes": "20", "max_value_bytes": "10", "max_body_bytes": "9999",
        "max_header_bytes": "2000", "max_depth": "5", "max_batch": "9", "threads": "7",
        "max_stored_bytes": "5000", "max_concurrent_requests": "8", "scrub_rows": "3",
        "max_connections": "99", "body_seconds": "1.5", "request_seconds": "2.5",
        "idle_seconds": "3.5",
        "api_token": "secret-token", "read_token": "weaker-token",
        "allowed_host": "a.example", "engine": "embedded", "log_level": "debug",
        "log_format": "json", "log_requests": "all",
        "max_clock_jump_seconds": "7",
    }  # fmt: skip
    assert set(values) == set(Settings.model_fields)
    flags = [w for n, v in values.items() for w in (f"--{n.replace('_', '-')}", v)]
    environ = {f"KV_{name.upper()}": value for name, value in values.items()}
    lines = [f'{n} = ["{v}"]' if n == "allowed_host" else f'{n} = "{v}"'
             for n, v in values.items()]  # fmt: skip

    by_flag, by_environ = load(*flags), load(**environ)
    by_file = load(toml="\n".join(lines))

    assert by_flag == by_environ == by_file
    assert by_flag != Settings()


def test_no_setting_is_missing_from_the_help(capsys):
    named = [name for names in GROUPS.values() for name in names.split()]
    assert sorted(named) == sorted(Settings.model_fields)

    with pytest.raises(SystemExit) as caught:
        load_settings(["--help"], {})

    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert str(field.description).split()[0] in text


def test_repeated_flag_and_listed_variable_name_several_hosts(load):
    by_flag = load("--allowed-host", "a.example", "--allowed-host", "b.example")
    by_environ = load(KV_ALLOWED_HOST="a.example,b.example")

    assert by_flag.allowed_host == by_environ.allowed_host == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--port", "99999"], "port=99999 command line 0 65535"),
        (["--port", "x"], "port=x number"),
        (["--port", "-1"], "port=-1 number"),
        (["--port", ""], "port= number"),
        (["--placement", "rung"], "placement=rung ring full"),
        (["--storage", "disk"], "storage=disk memory sqlite"),
        (["--threads", "0"], "threads=0 256"),
        (["--maintenance-seconds", "0"], "maintenance_seconds=0 above 0"),
        (["--maintenance-seconds", "nan"], "maintenance_seconds=nan above 0"),
        (["--allowed-host", "http://a:1"], "allowed_host=http://a:1 without scheme"),
        (["--port"], "--port expected"),
        (["--prot", "1"], "--prot --protocol"),
        (["--portt", "1"], "--portt --port"),
        (["stray"], "stray"),
        (["--replication-factor", "5"], "replication_factor=5 nodes=3"),
        (["--min-in-sync", "3"], "min_in_sync=3 2 replicas"),
        (["--host", "0.0.0.0"], "host=0.0.0.0 api_token"),
        (["--read-token", "weaker-token"], "read_token api_token"),
    ],
)
def test_bad_flag_is_refused_in_words_that_help(refusal, argv, words):
    line = refusal(*argv)

    for word in words.split():
        assert word in line


def test_misspelt_variable_is_not_ignored(refusal):
    assert "KV_PROTOCOL" in refusal(KV_PROTOCL="x")
    assert "environment" in refusal(KV_PORT="x")
    assert "allowed_host" in refusal(KV_ALLOWED_HOST="")


def test_variables_of_the_client_commands_are_no_settings_but_misspelt_ones_are_told(
    load, refusal
):
    assert load(KV_URL="http://127.0.0.1:1", KV_TOKEN="x") == Settings()
    assert "KV_TOKEN" in refusal(KV_TOKN="x")
    assert "KV_URL" in refusal(KV_URLL="x")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("prot = 1", "prot kv.toml did you mean"),
        ("port = 99999", "port=99999 kv.toml"),
        ("port = true", "port kv.toml whole number"),
        ("[port]\nx = 1", "port kv.toml whole number"),
        ("port = x", "kv.toml line 1"),
        ("\udcff", "kv.toml"),
    ],
)
def test_bad_file_is_refused_in_words_that_help(tmp_path, refusal, toml, words):
    (tmp_path / "kv.toml").write_bytes(toml.encode("utf-8", "surrogateescape"))

    line = refusal()

    for word in words.split():
        assert word in line


@pytest.mark.parametrize("name", sorted(SECRET))
def test_value_of_a_token_is_never_shown(refusal, name):
    line = refusal(f"--{name.replace('_', '-')}", "hunter2")

    assert name in line
    assert "8 characters" in line
    assert "hunter2" not in line


def test_same_token_for_reading_and_writing_is_refused_unseen(refusal):
    line = refusal("--api-token", "secret-token", "--read-token", "secret-token")

    assert "secret-token" not in line


def test_address_that_others_reach_is_fine_with_a_token(load):
    assert load("--host", "0.0.0.0", "--api-token", "secret-token").host == "0.0.0.0"


def test_settings_are_frozen_and_know_no_other_names():
    settings = Settings()

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_public_settings_leave_out_the_tokens():
    shown = Settings(api_token="secret-token", read_token="weaker-token").public()

    assert shown["port"] == 5000
    assert not SECRET & shown.keys()
    assert set(Settings.public_schema()["properties"]) == shown.keys()
