"""Variables that Kubernetes and Docker set beside a store that is called as ours are."""

import logging

import pytest

import serving
from config import Settings
from flags import BadSetting, load_settings, passed_over

# As a Service makes them, with the name `kv` and a port that is called `http`.
SERVICE = {
    "KV_SERVICE_HOST": "10.0.0.1",
    "KV_SERVICE_PORT": "5000",
    "KV_SERVICE_PORT_HTTP": "5000",
    "KV_PORT": "tcp://10.0.0.1:5000",
    "KV_PORT_5000_TCP": "tcp://10.0.0.1:5000",
    "KV_PORT_5000_TCP_PROTO": "tcp",
    "KV_PORT_5000_TCP_PORT": "5000",
    "KV_PORT_5000_TCP_ADDR": "10.0.0.1",
}
OTHERS = {
    "KV_STORE_SERVICE_HOST": "fd00::1",
    "KV_STORE_PORT": "tcp://[fd00::1]:5000",
    "KV_STORE_PORT_5000_TCP": "tcp://fd00::1:5000",
    "KV_STORE_PORT_5000_TCP_ADDR": "fd00::1",
    "KV_STORE_SERVICE_PORT_WEB_UI": "80",
    "KV_2_PORT_53_UDP": "udp://10.0.0.1:53",
    "KV_2_PORT_53_UDP_PROTO": "udp",
    "KV_2_PORT_9_SCTP": "sctp://10.0.0.1:9",
}
LINK = {
    "KV_NAME": "/web/kv",
    "KV_PORT": "tcp://172.17.0.2:5000",
    "KV_PORT_5000_TCP_START": "tcp://172.17.0.2:5000",
    "KV_PORT_5000_TCP_END": "tcp://172.17.0.2:5009",
    "KV_PORT_5000_TCP_PORT_START": "5000",
    "KV_PORT_5000_TCP_PORT_END": "5009",
    "KV_ENV_PATH": "/usr/bin",
    "KV_ENV_KV_PORT": "",
}


@pytest.mark.parametrize("variables", [SERVICE, OTHERS, LINK, SERVICE | OTHERS | LINK])
def test_service_or_link_that_is_called_as_our_settings_does_not_stop_a_start(
    tmp_path, variables
):
    settings = load_settings([], {**variables, "KV_NODES": "5"}, tmp_path)

    assert settings == Settings(nodes=5)
    assert passed_over({**variables, "KV_NODES": "5", "PATH": "x"}) == sorted(variables)


def test_port_of_a_service_stands_in_the_way_of_no_other_source(tmp_path):
    (tmp_path / "kv.toml").write_text("port = 7\n", "utf-8")

    assert load_settings([], SERVICE, tmp_path).port == 7
    assert load_settings(["--port", "8"], SERVICE, tmp_path).port == 8
    assert load_settings([], {**SERVICE, "KV_PORT": "9"}, tmp_path).port == 9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KV_PORT", "abc"),
        ("KV_PORT", "tcp://10.0.0.1"),
        ("KV_PORT", "tcp://10.0.0.1:0"),
        ("KV_PORT", "tcp://10.0.0.1:99999"),
        ("KV_PORT", "tcp://kv.example:5000"),
        ("KV_PORT", "http://10.0.0.1:5000"),
        ("KV_PORT", ""),
        ("KV_FOO_PORT", "hello"),
        ("KV_FOO_PORT", "5000"),
        ("KV_SERVICE_HOST", "kv.example"),
        ("KV_SERVICE_HOST", ""),
        ("KV_SERVICE_PORT", "http"),
        ("KV_SERVICE_PORT", "70000"),
        ("KV_SERVICE_PORT", "5000\n"),
        ("KV_SERVICE_1", "10.0.0.1:5000"),
        ("KV_PORT_5000_TCP", "5000"),
        ("KV_PORT_5000_TCP_PROTO", "http"),
        ("KV_PORT_5000_TCP_ADDR", "here"),
        ("KV_PORT_X_TCP_ADDR", "10.0.0.1"),
        ("KV_PORT_5000_HTTP_ADDR", "10.0.0.1"),
        ("KV_NAME", "kv"),
        ("KV_ENV_PATH", "/usr/bin"),
        ("KV_FOO", "tcp://10.0.0.1:5000"),
    ],
)
def test_variable_with_the_name_or_the_value_alone_of_a_service_is_refused(
    tmp_path, name, text
):
    with pytest.raises(BadSetting, match=f"{name}|port={text}"):
        load_settings([], {name: text}, tmp_path)

    assert passed_over({name: text}) == []


def test_start_says_in_one_line_which_variables_it_passed_over(monkeypatch, caplog):
    for name, text in SERVICE.items():
        monkeypatch.setenv(name, text)

    with caplog.at_level(logging.INFO, "serving"):
        serving._tell_passed_over()

    (line,) = caplog.messages
    assert line.endswith(": " + ", ".join(sorted(SERVICE)))


def test_start_beside_no_service_says_nothing_of_it(caplog):
    with caplog.at_level(logging.INFO, "serving"):
        serving._tell_passed_over()

    assert caplog.messages == []
