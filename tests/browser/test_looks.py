"""How it looks and reads: every size, light and dark, many nodes, a screen reader's names."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

SIZES = {"phone": (360, 780), "laptop": (1280, 800), "wall": (3840, 2160)}
GRAVE = ("serious", "critical")


def faults(page):
    """What axe finds that keeps somebody out."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['impact']} {fault['id']}: {fault['help']} ({node['target']})"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


def break_something(served, page):
    """Keys, a node down, stale keys, a 412 on the screen."""
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    down = json.loads(served.ask("GET", "/replicas/greeting")[2])["replica_set"][0]
    served.ask("POST", f"/fail/{down}")
    page.locator("#write").click()
    expect(page.locator("#answer-nodes")).to_contain_text("missed it")
    page.locator("#conditions summary").click()
    page.locator("#if-new").check()
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("412")
    page.locator(f"#ring-node-{down}").click()
    page.locator("#node-list summary").click()
    expect(page.locator("#health")).to_contain_text("stale key")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_overflows_and_nobody_is_kept_out(serve, look, size, dark):
    served = serve()
    width, height = SIZES[size]
    page = look(served.url, width=width, height=height, dark=dark)
    expect(page.locator("#link")).to_have_text("live")
    assert faults(page) == []

    break_something(served, page)

    assert faults(page) == []
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"{overflow} pixels too wide"
    targets = page.evaluate(
        "[...document.querySelectorAll('main button, main select, main summary')]"
        ".filter((e) => e.offsetParent && !e.closest('[role=radiogroup], table, ul'))"
        ".map((e) => [e.id || e.textContent.trim(), e.getBoundingClientRect().height])"
    )
    assert not [
        name for name, tall in targets if tall < (40 if size == "phone" else 24)
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_dialog_and_banner_keep_nobody_out(serve, look, dark):
    served = serve("--storage", "memory", "--api-token", "some-token")
    page = look(served.url, dark=dark)
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []
    page.locator("#token").fill("some-token")
    page.keyboard.press("Enter")
    expect(page.locator("#link")).to_have_text("live")

    served.__exit__()

    expect(page.locator("#banner")).to_be_visible()
    assert faults(page) == []


def test_hundred_nodes_are_told_apart_and_can_be_broken(serve, look):
    served = serve("--storage", "memory", "--nodes", "100", "--replication-factor", "3")
    operations = [{"op": "write", "key": f"k{i}", "value": i} for i in range(1000)]
    body = json.dumps({"operations": operations}).encode()
    assert served.ask("POST", "/batch", body, Content_Type="application/json")[0] == 200
    page = look(served.url)
    expect(page.locator("#ring-nodes [role=radio]")).to_have_count(100)
    expect(page.locator("#summary")).to_contain_text("100 nodes, each key on 3")
    page.locator("#ring-node-99").click()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#ring-node-0")).to_be_focused()

    page.locator("#ring-node-42").click()
    page.get_by_role("button", name="Fail node 42", exact=True).first.click()

    expect(page.get_by_role("radio", name=re.compile("Node 42, down"))).to_be_visible()
    expect(page.locator("#health")).to_contain_text("Node 42 is down")
    page.locator("#node-list summary").click()
    expect(page.locator("#node-table tr")).to_have_count(100)
    page.get_by_role("button", name="Recover node 42").last.click()
    expect(page.locator("#health")).to_have_text("All up")
    assert faults(page) == []


def test_hundred_nodes_are_not_drawn_anew_each_second(serve, look):
    page = look(serve("--storage", "memory", "--nodes", "100").url)
    expect(page.locator("#link")).to_have_text("live")
    page.wait_for_timeout(2_500)
    page.evaluate(
        "window.changes = 0; new MutationObserver((all) => { changes += all.length; })"
        ".observe(document.body, {subtree: true, childList: true, attributes: true})"
    )

    page.wait_for_timeout(3_000)

    assert page.evaluate("changes") < 90  # the charts' own, and a few words


def test_colours_follow_the_system_and_a_choice_is_kept(serve, look):
    page = look(serve().url, dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)

    page.locator("#theme").select_option("light")
    light = page.evaluate(background)
    page.reload()

    assert dark != light
    assert page.evaluate(background) == light
