"""docs/operations.md and docs/monitoring agree with the settings and the metrics there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from app import create_app
from config import Settings
from models import RaftInfo
from tests.e2e.prometheus import set_up
from tests.monitoring.scrape import families

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "monitoring"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
(GROUP,) = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
TOOLS = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed; tests/install_tools.sh",
)
ETCD = "Members of etcd"  # the row that the engine which is built in leaves empty
# What Prometheus adds, or is a word of its language.
FROM_PROMETHEUS = {"up", "ALERTS"}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> dict[str, set[str]]:
    """The metrics as they are named on the page, each with the labels that it may have."""
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("store") / "data"))
    members(app.store)
    try:
        client = app.test_client()
        app.watch(lambda: {"waiting": 0})  # as the server does
        client.post("/write", json={"key": "k", "value": 1})
        text = client.get("/metrics").get_data(as_text=True)
    finally:
        app.close()
    found: dict[str, set[str]] = {}
    for family in families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def members(store: Any) -> None:
    """Let the nodes of a store say of themselves what members of etcd do."""
    raft = RaftInfo("00", "node-0", "leader", 2, 9, 2, 20_480, ())
    nodes = store.nodes
    store.nodes = lambda: tuple(replace(node, raft=raft) for node in nodes())


def section(title: str) -> str:
    """What stands under a heading."""
    return re.split(r"^## ", OPERATIONS.partition(f"\n## {title}\n")[2], flags=re.M)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = [line.strip("|\n ") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    ends = [n for n, line in enumerate(lines) if set(line) <= set("-| ")]
    return [row for n, row in enumerate(cells) if n not in ends and n + 1 not in ends]


def words_in_code(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


# --- Settings ----------------------------------------------------------------------------


def test_every_setting_is_explained():
    explained = words_in_code(section("Settings") + section("Limits"))

    assert {*Settings.model_fields} - explained == set()


def test_defaults_that_are_told_are_the_ones_in_force():
    checked = 0
    for names, told, *_ in rows(section("Settings")):
        if told == "see there":
            continue
        fields = [Settings.model_fields[n] for n in re.findall(r"`(\w+)`", names)]
        words = told.replace(",", "").replace("`", "").split()
        if told == "none":
            words *= len(fields)
        assert [shown(field.default) for field in fields] == words, names
        checked += len(fields)
    assert checked > 20


def shown(default: object) -> str:
    """A default as the document has it."""
    if default in (None, ()):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


# --- Metrics -----------------------------------------------------------------------------


def names_on(page: dict[str, set[str]]) -> dict[str, set[str]]:
    """Histograms under their one name, with the labels of their buckets."""
    found: dict[str, set[str]] = {}
    for name, labels in page.items():
        base = re.sub("_(bucket|count|sum)$", "", name)
        found.setdefault(base, set()).update(labels)
    return found


def test_table_of_metrics_has_each_that_there_is_and_no_other(page):
    told = {
        name: cells[1]
        for cells in rows(section("Metrics"))
        for name in words_in_code(cells[0])
    }

    there = names_on(page)
    assert told.keys() == there.keys()
    for name, labels in told.items():
        if name.startswith("kv_") and name != "kv_store_info":
            assert words_in_code(labels) == there[name], name


@pytest.mark.parametrize("where", ["dashboard", "alerts"])
def test_queries_name_only_metrics_and_labels_that_there_are(page, where):
    if where == "dashboard":
        texts = [t["expr"] for panel in PANELS for t in panel["targets"]]
    else:
        texts = [rule["expr"] for rule in ALERTS.values()]
    from_scrape = {"job", "instance"}

    for text in texts:
        names = re.findall(r"\b((?:kv|process|python)_\w+|up)\b", text)
        assert names, text
        assert {*names} <= {*page} | FROM_PROMETHEUS, text
        for name, inside in re.findall(r"\b(\w+)\{([^}]*)\}", text):
            labels = {*re.findall(r"(\w+)(?:=~|!~|!=|=)", inside)}
            assert labels <= page.get(name, set()) | from_scrape, text
        known = set().union(*(page.get(name, set()) for name in names)) | from_scrape
        for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", text):
            assert {*listed.replace(",", " ").split()} <= known, text


# --- The dashboard -----------------------------------------------------------------------


def test_every_panel_says_what_it_shows_in_what_unit_and_what_to_do():
    assert len(PANELS) > 25
    titles = [panel["title"] for panel in PANELS]
    rows = [p["title"] for p in DASHBOARD["panels"] if p["type"] == "row"]
    assert rows == [
        "Health",
        "Traffic",
        "Nodes",
        "Recovery and repair",
        "Process",
        ETCD,
    ]
    for panel in PANELS:
        name = panel["title"]
        assert len(panel["description"]) > 60, name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert panel["targets"], name
        sources = [panel["datasource"], *(t["datasource"] for t in panel["targets"])]
        assert {each["uid"] for each in sources} == {"${datasource}"}, name
        for target in panel["targets"]:
            variables = {*re.findall(r"\$(\w+)", target["expr"])}
            assert variables <= {"job", "instance", "node", "__rate_interval"}, name
            assert {"job", "instance"} <= variables, name
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len({*ids}) == len(ids)
    assert len(titles) == len({*titles}) + 1  # stale keys: of all, and of each node


def test_panels_lie_beside_each_other_and_not_on_one_another():
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24, panel["title"]
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{other} and {panel['title']}"


def test_source_of_the_data_and_what_is_looked_at_can_be_chosen():
    found = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

    assert found["datasource"]["type"] == "datasource"
    assert found["datasource"]["query"] == "prometheus"
    assert {"job", "instance", "node"} == found.keys() - {"datasource"}


# --- The alerts --------------------------------------------------------------------------


def test_every_alert_says_what_to_do_and_points_to_a_section_that_there_is():
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.*)$", OPERATIONS, re.M)
    }

    for name, rule in ALERTS.items():
        notes = rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert len(notes["description"]) > 80, name
        assert notes["summary"], name
        path, _, anchor = notes["runbook"].partition("#")
        assert (ROOT / path).samefile(ROOT / "docs" / "operations.md"), name
        assert anchor in anchors, name


def test_table_of_alerts_has_each_with_its_severity():
    told = {cells[0].strip("`"): cells[2] for cells in rows(section("Alerts"))}

    assert told == {name: r["labels"]["severity"] for name, r in ALERTS.items()}


def test_links_inside_the_document_lead_somewhere():
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", OPERATIONS, re.M)
    }

    for target in re.findall(r"\]\(([^)]+)\)", OPERATIONS):
        path, _, anchor = target.partition("#")
        if path:
            assert (ROOT / "docs" / path).exists(), target
        else:
            assert anchor in anchors, target


def test_each_alert_is_shown_to_fire_and_not_to():
    text = (FOLDER / "alerts_test.yml").read_text("utf-8")
    tests = yaml.safe_load(text)["tests"]
    shown = [each for test in tests for each in test.get("promql_expr_test", ())]

    for name in ALERTS:
        mine = [each for each in shown if f'alertname="{name}"' in each["expr"]]
        assert any(each["exp_samples"] for each in mine), name
        assert any(not each["exp_samples"] for each in mine), name


@pytest.mark.slow
@TOOLS
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
        ["check", "config", "prometheus.yml"],
    ],
)
def test_promtool_has_nothing_against_the_files(arguments, tmp_path):
    set_up(
        tmp_path, "127.0.0.1:5000", "a-token"
    )  # it wants the token's file to be there
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)

    done = subprocess.run(
        ["promtool", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
