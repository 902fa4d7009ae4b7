"""Pictures of the page, made from a real server and a real browser.

python -m tests.browser.pictures              the two that the README shows
python -m tests.browser.pictures --all FOLDER every size, light and dark, to look at
"""

import argparse
import json
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM, launch
from tests.e2e.served import ROOT, Served

SIZES = {"phone": (360, 780), "laptop": (1280, 800), "wall": (3840, 2160)}
README = (1440, 1430)
TRAFFIC_SECONDS = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER")
    folder = parser.parse_args().all
    if CHROMIUM is None:
        parser.error("there is no chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as data:
        browser = launch(playwright)
        flags = ("--storage", "memory", "--nodes", 5, "--replication-factor", 3)
        with Served(Path(data), *flags) as served:
            fill(served)
            if folder is None:
                for_readme(browser, served)
            else:
                every(browser, served, folder)
        browser.close()
    return 0


def fill(served):
    names = ("cart", "user", "session", "order", "price")
    pairs = [(f"{name}:{n}", {"n": n}) for name in names for n in range(101, 161)]
    batch = [{"op": "write", "key": key, "value": value} for key, value in pairs]
    post(served, "/batch", {"operations": batch})


def post(served, path, body):
    text = json.dumps(body).encode()
    answer = served.ask("POST", path, text, Content_Type="application/json")
    assert answer[0] == 200, answer


def for_readme(browser, served):
    """One page with traffic and a failure in its charts, photographed in both colours."""
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    page = open_page(browser, served, README, dark=False)
    page.get_by_role("button", name="Close the tour").click()
    down = break_a_key(served, page)
    page.get_by_role("switch", name="Make traffic").click()
    page.wait_for_timeout(TRAFFIC_SECONDS * 1000)
    post(served, f"/recover/{down}", {})
    page.wait_for_timeout(8_000)
    break_a_key(served, page)
    page.wait_for_timeout(12_000)
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
    for theme in ("light", "dark"):
        page.locator("#theme").select_option(theme)
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"page-{theme}.png")


def break_a_key(served, page):
    """A write, a node down, a write that it misses: all of it on the screen."""
    page.locator("#key").fill("cart:117")
    page.locator("#write").click()
    found = json.loads(served.ask("GET", "/replicas/cart:117")[2])
    down = found["replica_set"][1]
    page.locator(f"#ring-node-{down}").click()
    post(served, f"/fail/{down}", {})
    page.wait_for_timeout(1_500)
    page.locator("#value").fill('{"items": ["tea", "cups"], "total": 21.50}')
    page.locator("#write").click()
    page.wait_for_timeout(1_500)
    return down


def every(browser, served, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        for dark in (False, True):
            page = open_page(browser, served, size, dark=dark)
            page.screenshot(path=folder / f"{name}-{'dark' if dark else 'light'}.png")
            down = break_a_key(served, page)
            kind = f"{name}-{'dark' if dark else 'light'}-broken.png"
            page.screenshot(path=folder / kind, full_page=name != "wall")
            post(served, f"/recover/{down}", {})
            page.context.close()


def open_page(browser, served, size, *, dark):
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    page.goto(served.url)
    page.locator("#ring-node-0").wait_for()
    page.wait_for_timeout(1_500)
    return page


if __name__ == "__main__":
    raise SystemExit(main())
