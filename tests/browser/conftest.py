"""A real headless Chromium, and a page whose every complaint fails the test."""

import os
import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.served import Served

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
WAIT_MS = 15_000  # for what should happen at once, on a machine that is busy


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.e2e)
            if CHROMIUM is None:
                reason = "not run: no chromium (Debian: apt-get install chromium)"
                item.add_marker(pytest.mark.skip(reason=reason))


def launch(playwright):
    """A headless Chromium; root has no sandbox to run it in."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=CHROMIUM, args=flags)


@pytest.fixture(scope="module")  # its event loop stays in this thread until it ends
def browser():
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path):
    """Starts servers; each ends with the test."""
    started: list[Served] = []

    def start(*flags):
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        served = Served(folder, *(flags or ("--storage", "memory")))
        started.append(served)
        return served

    yield start
    for served in started:
        served.__exit__()


@pytest.fixture
def look(browser):
    """Opens pages: `look(url, width=..., height=..., dark=...)`, and hears what they say."""
    opened = []

    def open_page(url, *, width=1280, height=900, dark=False, tour=False, motion=False):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="no-preference" if motion else "reduce",
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        complaints = listen(page, url)
        opened.append((context, complaints))
        page.goto(url)
        # Keys pressed before it knows what may be done are for nothing.
        page.wait_for_selector("body[data-link]:not([data-link=connecting])")
        return page

    yield open_page
    for context, _ in opened:
        context.close()
    complaints = [each for _, some in opened for each in some]
    assert not complaints, "\n".join(complaints)


def listen(page, url):
    """What the page complains of, from now on: errors, other hosts, its own policy."""
    complaints = []
    host = urlsplit(url).netloc

    def asked(request):
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            complaints.append(f"asked another host: {request.url}")

    def said(message):
        # The browser itself notes every answer of 4xx and 5xx and every refused
        # connection; what matters here is what the page's own code says.
        network = "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not network:
            complaints.append(f"console {message.type}: {message.text}")

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error("
        "'policy violated: ' + event.violatedDirective + ' ' + event.blockedURI))"
    )
    return complaints
