"""The container's files agree with the project; tests/e2e/test_container.py runs it."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from config import LOOPBACK, Settings
from flags import BadSetting, load_settings
from tests.container import ROOT, health_check, is_ignored, only, stages, variables

PACKAGES, IMAGE = stages()
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text("utf-8"))


def shipped() -> list[Path]:
    """The Python files that get into the image."""
    found = [path.relative_to(ROOT) for path in ROOT.glob("*.py")]
    for folder in ROOT.iterdir():
        if folder.is_dir() and not is_ignored(Path(folder.name)):
            found += [path.relative_to(ROOT) for path in folder.rglob("*.py")]
    return [path for path in found if not is_ignored(path)]


# --- The image ---------------------------------------------------------------------------


def test_each_source_of_a_copy_is_there():
    for step in [*PACKAGES, *IMAGE]:
        if step.word == "COPY" and not step.text.startswith("--from"):
            *sources, _ = step.text.split()
            for source in sources:
                assert (ROOT / source).exists(), step
                assert source == "." or not is_ignored(Path(source)), step


def test_what_is_shipped_is_what_serving_needs_and_no_more():
    names = {path.parts[0] for path in shipped()}

    assert {"run.py", "app.py", "web", "cluster", "storage", "protocols"} <= names
    for path in ("tests/x.py", ".git/config", ".venv/x", "data/node-0/x", "kv.toml",
                 "data5/node-0/x", "data-before/node-0/x", "monday.kv", "history.jsonl",
                 "web/__pycache__/x.pyc", "results/x", "a.log", "README.md"):  # fmt: skip
        assert is_ignored(Path(path)), path
    for path in ("web/parsing.py", "dashboard/docs.html", "requirements.txt"):
        assert not is_ignored(Path(path)), path


def test_copy_of_the_project_in_the_image_has_its_licence():
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert text.startswith("MIT License\n\nCopyright (c) 2026 the contributors of this")
    assert "(LICENSE)" in (ROOT / "README.md").read_text("utf-8")
    assert not is_ignored(Path("LICENSE"))


def test_what_is_shipped_imports_nothing_that_is_not():
    modules = {path.parts[0].removesuffix(".py") for path in shipped()}
    ours = {path.name.removesuffix(".py") for path in ROOT.iterdir()} | {"tests"}
    left_out = {"matplotlib", *(ours - modules)}

    for path in shipped():
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in left_out, f"{path}: {name}"


def test_it_runs_as_nobody_in_particular_and_keeps_data_in_a_volume():
    user, volume = only(IMAGE, "USER").text, only(IMAGE, "VOLUME").text

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert variables(IMAGE)["KV_DATA_DIR"].startswith(volume + "/")
    assert any(volume in step.text and "install -d" in step.text for step in IMAGE)
    # Signals reach the store itself: no shell stands between.
    assert only(IMAGE, "ENTRYPOINT").words == ["python", "/app/run.py"]
    assert only(IMAGE, "CMD").words == ["serve"]
    assert only(IMAGE, "STOPSIGNAL").text == "SIGTERM"


def test_its_settings_are_ones_and_without_a_token_they_are_refused(tmp_path):
    given = variables(IMAGE)

    settings = load_settings([], {**given, "KV_API_TOKEN": "12345678"}, tmp_path)

    assert settings.host not in LOOPBACK
    assert str(settings.port) == only(IMAGE, "EXPOSE").text
    with pytest.raises(BadSetting, match="api_token"):
        load_settings([], given, tmp_path)


def test_health_is_asked_for_by_what_the_image_has():
    program, flag, text = health_check(IMAGE)

    assert (program, flag) == ("python", "-c")
    imported = re.findall(r"import ([\w., ]+);", text)[0]
    names = {part.split()[0].partition(".")[0] for part in imported.split(", ")}
    assert names <= {*sys.stdlib_module_names}
    assert "/healthz" in text


# --- Compose -----------------------------------------------------------------------------


def test_compose_starts_what_there_is_with_settings_that_there_are():
    services = COMPOSE["services"]

    given = services["store"]["environment"]
    settings = {f"KV_{name.upper()}" for name in Settings.model_fields}
    assert given.keys() <= settings
    assert all(":?" in given[name] for name in ("KV_API_TOKEN", "KV_READ_TOKEN"))
    for name, service in services.items():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        assert name == "store" or service["profiles"] == ["monitoring"]


def test_compose_and_the_files_of_prometheus_and_grafana_name_the_same_things():
    folder = ROOT / "docs" / "monitoring"
    services = COMPOSE["services"]
    config = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    (secret,) = services["prometheus"]["secrets"]
    sources = yaml.safe_load((folder / "grafana/datasources.yml").read_text("utf-8"))
    boards = yaml.safe_load((folder / "grafana/dashboards.yml").read_text("utf-8"))

    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert host in services
    assert services["store"]["environment"]["KV_ALLOWED_HOST"] == host
    assert port == variables(IMAGE)["KV_PORT"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert COMPOSE["secrets"][secret] == {"environment": "KV_READ_TOKEN"}
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    (provider,) = boards["providers"]
    mounted = [m.split(":")[1] for m in services["grafana"]["volumes"]]
    path = provider["options"]["path"]
    assert [m for m in mounted if m.endswith(".json")] == [f"{path}/kv-store.json"]
    assert json.loads((folder / "grafana-dashboard.json").read_text("utf-8"))["uid"]
