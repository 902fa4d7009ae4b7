"""Settings: where they come from, which are refused, and what is said about it."""

import pytest
from pydantic import ValidationError

from config import OF_ENGINE, SECRET, Settings
from flags import GROUPS, BadSetting, load_settings


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


OF_ANY = {
    "host": "::1", "port": "1", "consistency": "one", "data_dir": "elsewhere",
    "tombstone_grace_seconds": "1.5", "threads": "7",
    "max_key_bytes": "20", "max_value_bytes": "10", "max_body_bytes": "9999",
    "max_header_bytes": "2000", "max_depth": "5", "max_batch": "9",
    "max_stored_bytes": "5000", "max_concurrent_requests": "8",
    "max_connections": "99", "body_seconds": "1.5", "request_seconds": "2.5",
    "idle_seconds": "3.5",
    "api_token": "secret-token", "read_token": "weaker-token",
    "allowed_host": "a.example", "log_level": "debug", "log_format": "json",
    "log_requests": "all",
}  # fmt: skip
OF_ONE = [
    {
        "engine": "embedded", "nodes": "5", "replication_factor": "3",
        "protocol": "primary-backup", "placement": "full", "min_in_sync": "2",
        "storage": "memory", "durability": "os", "maintenance_seconds": "2",
        "scrub_rows": "3", "max_clock_jump_seconds": "7",
    },
    {
        "engine": "etcd", "etcd_endpoints": "https://a.example:2379",
        "etcd_prefix": "elsewhere/", "etcd_ca": "ca.pem", "etcd_cert": "own.pem",
        "etcd_key": "own.key", "etcd_user": "us", "etcd_password": "hunter2",
        "etcd_seconds": "1.5",
    },
    {"engine": "etcd", "local_members": "3"},
]  # fmt: skip
LISTS = {"allowed_host", "etcd_endpoints"}


def test_no_setting_is_without_an_example():
    assert {*OF_ANY}.union(*OF_ONE) == set(Settings.model_fields)


@pytest.mark.parametrize("of_one", OF_ONE)
def test_every_setting_can_be_given_in_every_way(load, of_one):
    values = OF_ANY | of_one
    flags = [w for n, v in values.items() for w in (f"--{n.replace('_', '-')}", v)]
    environ = {f"KV_{name.upper()}": value for name, value in values.items()}
    lines = [f'{n} = ["{v}"]' if n in LISTS else f'{n} = "{v}"'
             for n, v in values.items()]  # fmt: skip

    by_flag, by_environ = load(*flags), load(**environ)
    by_file = load(toml="\n".join(lines))

    assert by_flag == by_environ == by_file
    assert by_flag.model_fields_set == values.keys()
    left = {n for n in values if getattr(by_flag, n) == getattr(Settings(), n)}
    assert left <= {"engine", "protocol"}  # which have no other value yet


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


ETCD = ["--engine", "etcd", "--etcd-endpoints", "http://10.0.0.1:2379"]
LOCAL = ["--engine", "etcd", "--local-members", "3"]
USER = ["--etcd-user", "us", "--etcd-password", "hunter2"]
CERT = ["--etcd-cert", "own.pem", "--etcd-key", "own.key"]


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
        (["--maintenance-seconds", "inf"], "maintenance_seconds=inf at most 31536000"),
        (["--tombstone-grace-seconds", "inf"], "=inf 0 to 3153600000"),
        (["--max-stored-bytes", "1e30"], "max_stored_bytes=1e30 1024 to"),
        (["--allowed-host", "http://a:1"], "allowed_host=http://a:1 without scheme"),
        (["--allowed-host", "."], "allowed_host=. .example.com"),
        (["--allowed-host", "*.a.example"], "allowed_host=*.a.example .example.com"),
        (["--port"], "--port expected"),
        (["--prot", "1"], "--prot --protocol"),
        (["--portt", "1"], "--portt --port"),
        (["stray"], "stray"),
        (["--replication-factor", "5"], "replication_factor=5 nodes=3"),
        (["--min-in-sync", "3"], "min_in_sync=3 2 replicas"),
        (["--host", "0.0.0.0"], "host=0.0.0.0 api_token"),
        (["--read-token", "weaker-token"], "read_token api_token"),
        (["--engine", "redis"], "engine=redis embedded etcd"),
        (["--engine", "etcd"], "engine=etcd etcd_endpoints local_members not both"),
        ([*ETCD, "--local-members", "3"], "etcd_endpoints local_members not both"),
        ([*LOCAL, "--nodes", "5"], "nodes engine=etcd leave --engine embedded"),
        (["--local-members", "3"], "local_members engine=embedded --engine etcd"),
        (["--local-members", "8"], "local_members=8 0 to 7"),
        ([*ETCD, "--etcd-prefix", ""], "etcd_prefix= kv/"),
        ([*ETCD, "--etcd-prefix", "a b"], "etcd_prefix=a kv/"),
        ([*ETCD, "--etcd-prefix", "p" * 65], "etcd_prefix=ppp kv/"),
        ([*ETCD, "--etcd-seconds", "0.4"], "etcd_seconds=0.4 0.5 to 60"),
        ([*ETCD, "--etcd-seconds", "61"], "etcd_seconds=61 0.5 to 60"),
        ([*ETCD, "--etcd-user", "us"], "etcd_user etcd_password together"),
        ([*ETCD, "--etcd-user", ""], "etcd_user= not empty"),
        ([*ETCD, "--etcd-password", "hunter2"], "etcd_user etcd_password together"),
        ([*ETCD, "--etcd-cert", "own.pem"], "etcd_cert etcd_key together"),
        ([*ETCD, "--etcd-key", "own.key"], "etcd_cert etcd_key together"),
        ([*LOCAL, "--etcd-ca", "ca.pem"], "loopback etcd_ca etcd_endpoints"),
        ([*LOCAL, *USER], "loopback etcd_user etcd_endpoints"),
        ([*LOCAL, *CERT], "loopback etcd_cert etcd_endpoints"),
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


def test_unknown_name_is_told_another_only_where_that_is_near(refusal):
    near = {
        "KV_HOSTS": "KV_HOST", "KV_HSOT": "KV_HOST", "KV_DATADIR": "KV_DATA_DIR",
        "KV_NODE": "KV_NODES", "KV_READTOKEN": "KV_READ_TOKEN", "KV_REPL": (
            "KV_REPLICATION_FACTOR"
        ),
    }  # fmt: skip
    far = "KV_ KV_N KV_M KV_MAX_C KV_LOG KV_FOO KV_FOO_PORT KV_SERVICE_HOST KV_NAME"

    for given, meant in near.items():
        assert refusal(**{given: "x"}).endswith(f"{given}: did you mean {meant}?")
    for given in far.split():
        assert refusal(**{given: "x"}) == f"unknown variable {given}"
    assert refusal("--service-port", "1").startswith("unknown flag --service-port;")
    assert refusal(toml="service_port = 1").endswith("kv.toml")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("prot = 1", "prot kv.toml did you mean"),
        ("port = 99999", "port=99999 kv.toml"),
        ("port = true", "port kv.toml whole number"),
        ("[port]\nx = 1", "port kv.toml whole number"),
        ("port = x", "kv.toml line 1"),
        ("etcd_ca = 3", "etcd_ca=3 kv.toml a path"),
        ("etcd_endpoints = [3]", "etcd_endpoints=3 kv.toml http://10.0.0.1:2379"),
        ("etcd_endpoints = 3", "etcd_endpoints=3 kv.toml http://10.0.0.1:2379"),
        ("\udcff", "kv.toml UTF-8 byte 1"),
        ("p\0o\0r\0t\0", "kv.toml UTF-16LE iconv"),
        ("\udcff\udcfep\0o\0", "kv.toml UTF-16 iconv"),
        ("x = " + "[" * 100_000, "kv.toml"),
    ],
)
def test_bad_file_is_refused_in_words_that_help(tmp_path, refusal, toml, words):
    (tmp_path / "kv.toml").write_bytes(toml.encode("utf-8", "surrogateescape"))

    line = refusal()

    for word in words.split():
        assert word in line


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_file_that_an_editor_saved_with_a_mark_is_read(load, end):
    assert load(toml=f"\ufeffport = 8080{end}nodes = 4{end}").port == 8080


@pytest.mark.parametrize("name", ["api_token", "read_token"])
def test_value_of_a_token_is_never_shown(refusal, name):
    line = refusal(f"--{name.replace('_', '-')}", "hunter2")

    assert name in line
    assert "8 characters" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["api_token", "read_token"])
@pytest.mark.parametrize(
    "token",
    [
        *("schlüssel-wort", "пароль-слово", "token-😀-word", "wordword\x80"),
        *("secretword\n", "\nsecretword", "secret\nword", "secretword\r\n"),
        *(" secretword", "secretword ", "\tsecretword", "secret\tword"),
        *("secret\0word", "secret\x7fword", "secretword\udce9", "", " " * 8),
    ],
)
def test_token_that_no_header_can_carry_is_refused_unseen(refusal, name, token):
    others = {"KV_API_TOKEN": "another-token"} if name == "read_token" else {}
    by_variable = refusal(**{**others, f"KV_{name.upper()}": token})
    by_flag = refusal(f"--{name.replace('_', '-')}", token, **others)

    for line, where in ((by_variable, "environment"), (by_flag, "command line")):
        assert line.startswith(
            f"bad setting {name} (from the {where}): give at least 8"
        )
        assert "ASCII" in line
        assert "blank at either end" in line
        assert len(token.strip()) < 8 or token.strip() not in line


@pytest.mark.parametrize(
    "token", ["-._~+/aZ09==", "!\"#$%&'()*,:;<>?@[]^`{|}", "correct horse battery"]
)
def test_token_that_a_header_can_carry_may_be_of_any_characters(load, token):
    assert load(KV_API_TOKEN=token).api_token == token


@pytest.mark.parametrize("argv", [[], ETCD, [*LOCAL, "--etcd-user", "us"]])
def test_password_is_not_shown_where_it_is_out_of_place(refusal, argv):
    line = refusal(*argv, "--etcd-password", "hunter2")

    assert "hunter2" not in line
    assert "etcd_password=" not in line


def test_empty_password_is_refused(refusal):
    line = refusal(*ETCD, "--etcd-user", "us", "--etcd-password", "")

    assert "etcd_password" in line
    assert "not empty" in line


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


# --- Which engine ------------------------------------------------------------------------


def settings_with_etcd(**changes):
    """Settings of a store in etcd, with all that is secret."""
    return Settings(
        **{
            "engine": "etcd",
            "etcd_endpoints": ("http://10.0.0.1:2379",),
            "etcd_user": "us",
            "etcd_password": "hunter2",
            "api_token": "secret-token",
            "read_token": "weaker-token",
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["http://a:1,http://b:2"], None),
        (["http://a:1", "http://b:2"], None),
        ([" http://a:1/ , ", "http://b:2,http://a:1"], None),
        ([], "http://a:1, http://b:2,"),
    ],
)
def test_members_are_listed_with_commas_or_one_by_one(load, argv, environ):
    flags = [word for urls in argv for word in ("--etcd-endpoints", urls)]
    variables = {} if environ is None else {"KV_ETCD_ENDPOINTS": environ}

    settings = load("--engine", "etcd", *flags, **variables)

    assert settings.etcd_endpoints == ("http://a:1", "http://b:2")


@pytest.mark.parametrize(
    "url",
    ["http://localhost:2379", "https://etcd-0.a_b.example:1", "http://[fe80::1]:65535"],
)
def test_url_of_a_member_may_have_any_kind_of_host(url):
    assert settings_with_etcd(etcd_endpoints=(url,)).etcd_endpoints == (url,)


@pytest.mark.parametrize(
    "url",
    [
        *("a", "a:2379", "http://a", "http://a:", "http://:2379", "ftp://a:2379"),
        *("http://a:0", "http://a:65536", "http://a:x", "http://a:2379/kv"),
        *("http://us:hunter2@a:2379", "http://a b:2379", "http://a:1\nhttp://b:1"),
    ],
)
def test_what_is_no_url_of_a_member_is_refused(refusal, url):
    line = refusal("--engine", "etcd", "--etcd-endpoints", f"{url},http://b:1")

    assert "etcd_endpoints=" in line
    assert "http://10.0.0.1:2379" in line


def test_a_setting_is_of_one_engine_or_of_all():
    embedded, etcd = OF_ENGINE["embedded"], OF_ENGINE["etcd"]

    assert Settings().foreign == {*etcd}
    assert settings_with_etcd().foreign == {*embedded}
    assert not {*etcd} & {*embedded}
    assert {*etcd, *embedded} < Settings.model_fields.keys()


# There is one protocol so far, so no other can be given.
@pytest.mark.parametrize("name", sorted({*OF_ENGINE["embedded"]} - {"protocol"}))
def test_setting_of_the_other_engine_is_refused_by_name(refusal, name):
    other = OF_ONE[0][name]

    line = refusal(*LOCAL, f"--{name.replace('_', '-')}", other)

    assert line.startswith(f"bad settings: {name} means nothing with engine=etcd")
    assert line.endswith("--engine embedded")


@pytest.mark.parametrize("name", OF_ENGINE["etcd"])
def test_setting_of_etcd_is_refused_without_it(refusal, name):
    other = next(values[name] for values in OF_ONE if name in values)

    line = refusal(f"--{name.replace('_', '-')}", other)

    assert line.startswith(f"bad settings: {name} means nothing with engine=embedded")
    assert line.endswith("--engine etcd")


def test_of_several_settings_of_the_other_engine_the_first_is_named_each_time(refusal):
    line = refusal(*LOCAL, "--scrub-rows", "0", "--durability", "os", "--nodes", "5")

    assert line.startswith("bad settings: durability means nothing")


def test_setting_of_the_other_engine_may_say_what_it_is_anyway(load):
    assert load(*LOCAL, "--nodes", "3").local_members == 3


@pytest.mark.parametrize("settings", [Settings(), settings_with_etcd()])
def test_what_is_shown_has_no_secret_and_nothing_of_another_engine(settings):
    shown = settings.public()

    assert shown.keys() == Settings.model_fields.keys() - SECRET - settings.foreign
    assert shown["port"] == 5000
    assert "hunter2" not in str(shown)
    assert settings.shown_schema()["properties"].keys() == shown.keys()


def test_schema_of_all_settings_has_those_of_every_engine_but_no_secret():
    named = Settings.public_schema()["properties"].keys()

    assert named == Settings.model_fields.keys() - SECRET
