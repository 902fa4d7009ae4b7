"""docs/scaling.md and the proxy's configuration beside it: what they point at and promise."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from config import OF_ENGINE, Settings
from flags import PREFIX

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HAPROXY = DOCS / "balancing" / "haproxy.cfg"
# Debian has it where only root looks.
PROGRAM = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
PAGES = (DOCS / "scaling.md", DOCS / "balancing" / "README.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"--((?:etcd|local)-[a-z-]+|engine|allowed-host)")
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z_]+\b")
SECONDS = {"ms": 0.001, "s": 1, "m": 60}

configuration = HAPROXY.read_text("utf-8")


def anchors(text: str) -> set[str]:
    """What the headings of a page are reached by."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
    }


def dead_links(page: Path, text: str) -> list[str]:
    """Links of a page that lead to no file of the project, or to no heading of one."""
    dead = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / name if name else page
        found = target.is_file() or (target.is_dir() and not anchor)
        if found and anchor:
            there = text if target == page else target.read_text("utf-8")
            found = anchor in anchors(there)
        if not found:
            dead.append(link)
    return dead


def words_after(directive: str) -> list[list[str]]:
    """The arguments of each line of the configuration that begins with a directive."""
    lines = (line.split() for line in configuration.splitlines())
    words = directive.split()
    return [line[len(words) :] for line in lines if line[: len(words)] == words]


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert found is not None, text
    return int(found[1]) * SECONDS[found[2]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page):
    assert dead_links(page, page.read_text("utf-8")) == []


def test_dead_links_are_found():
    text = "# A page\n[a](#a-page) [b](#b) [c](nowhere.md) [d](guarantees.md#nothing)"

    assert dead_links(PAGES[0], text) == [
        "#b",
        "nowhere.md",
        "guarantees.md#nothing",
    ]


def test_flags_and_variables_that_are_named_exist():
    text = PAGES[0].read_text("utf-8")
    ours = set(FLAG.findall(text))
    variables = set(VARIABLE.findall(text))

    assert {flag.replace("-", "_") for flag in ours} <= Settings.model_fields.keys()
    assert {"engine", "etcd-endpoints", "local-members"} <= ours
    assert {name.removeprefix(PREFIX).lower() for name in variables} <= (
        Settings.model_fields.keys()
    )
    assert set(OF_ENGINE["etcd"]) >= {"etcd_endpoints", "local_members", "etcd_prefix"}


@pytest.mark.skipif(PROGRAM is None, reason="haproxy is not installed")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "KV_BIND": "0.0.0.0:80",
            "KV_SERVICE_1": "10.0.0.1:5000",
            "KV_ADMIN": "/tmp/kv",
        },
    ],
    ids=["as it is", "with variables"],
)
def test_haproxy_takes_its_configuration(variables):
    kept = {n: text for n, text in os.environ.items() if not n.startswith(PREFIX)}
    done = subprocess.run(
        [str(PROGRAM), "-c", "-f", str(HAPROXY)],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    said = done.stdout + done.stderr
    assert (done.returncode, "[WARNING]" in said) == (0, False), said


def test_the_proxy_sends_no_request_twice():
    assert words_after("retry-on") == [["conn-failure"]]
    assert words_after("http-reuse") in ([], [["safe"]])  # others: first requests too


def test_the_proxy_is_more_patient_than_the_services():
    settings = Settings()
    slowest = max(settings.request_seconds, settings.etcd_seconds)

    for timeout in ("timeout server", "timeout client"):
        ((limit,),) = words_after(timeout)
        assert seconds(limit) > slowest
    ((bodies,),) = words_after("timeout http-request")
    assert seconds(bodies) > settings.body_seconds


def test_the_proxy_waits_before_the_services_refuse():
    (defaults,) = words_after("default-server")
    limit = int(defaults[defaults.index("maxconn") + 1])

    assert limit < Settings().max_concurrent_requests


def test_the_proxy_says_as_the_api_does_whether_anything_was_done():
    definite = {
        words[0]: 'definite":true' in " ".join(words)
        for words in words_after("http-error status")
    }

    assert definite == {"503": True, "502": False, "504": False}
