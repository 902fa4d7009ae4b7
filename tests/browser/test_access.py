"""Tokens, a server that goes away, and how little an open page asks of it."""

import os
import re
import signal

from playwright.sync_api import expect

from tests.e2e.served import Served

TOKENS = ("--api-token", "all-may-change", "--read-token", "only-may-read")


def give(page, token):
    page.locator("#token").fill(token)
    page.get_by_role("button", name="Go on").click()


def test_token_is_asked_for_kept_for_the_tab_only_and_can_be_forgotten(serve, look):
    served = serve("--storage", "memory", *TOKENS)
    page = look(served.url)
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#token")).to_be_focused()

    give(page, "not-the-token")
    expect(page.locator("#token-message")).to_contain_text("That is not the token")
    give(page, "schlüssel")  # which no header can carry
    expect(page.locator("#token-message")).to_contain_text("ASCII")
    give(page, "all-may-change")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    assert page.evaluate("JSON.stringify(localStorage)").find("all-may-change") < 0
    assert "all-may-change" not in page.url + str(page.context.cookies())
    other = page.context.new_page()
    other.goto(served.url)
    expect(other.get_by_role("dialog")).to_be_visible()
    other.close()
    page.locator("#token-forget").click()

    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('kv-token')") is None


def test_reading_token_shows_everything_and_what_it_may_not_change(serve, look):
    served = serve("--storage", "memory", *TOKENS)
    page = look(served.url)
    give(page, "only-may-read")

    expect(page.locator("#access")).to_have_text("may only read")
    for button in (
        "#write",
        "#delete",
        '#node-actions [data-action="stop"]',
        "#traffic",
    ):
        expect(page.locator(button)).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#key-why-not")).to_contain_text("may only read")
    expect(page.locator("#tour-task")).to_contain_text("may only read")
    page.locator("#write").click(force=True)
    page.locator("#read").click()

    expect(page.locator("#answer-status")).to_have_text("404")
    assert (
        b'"keys":[]'
        in served.ask("GET", "/keys", Authorization="Bearer all-may-change")[2]
    )


def test_page_goes_on_by_itself_after_the_server_was_killed_and_started_anew(
    tmp_path, look
):
    with Served(tmp_path) as served:
        port = served.port
        page = look(served.url)
        page.locator("#write").click()
        expect(page.locator("#answer-status")).to_have_text("200")
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        expect(page.get_by_role("alert").first).to_contain_text("does not answer")
        expect(page.locator("#banner-age")).to_contain_text(
            re.compile(r"Last answer \d+ s ago")
        )
        expect(page.locator("#ring-node-2")).to_be_visible()  # what was seen stays
        page.locator("#read").click()
        expect(page.locator("#answer-title")).to_have_text("No answer")

    with Served(tmp_path, "--port", port) as again:
        expect(page.locator("#banner")).to_contain_text(
            "The server is back. It was started anew"
        )
        expect(page.locator("#link")).to_have_text("live")
        page.locator("#read").click()
        expect(page.locator("#answer-status")).to_have_text("200")
        assert again.port == port


def test_open_page_asks_little_and_one_thing_at_a_time(serve, look):
    page = look(serve().url)
    expect(page.locator("#link")).to_have_text("live")
    under_way, most, asked = set(), [0], []

    def begins(request):
        under_way.add(request)
        asked.append(request.url)
        most[0] = max(most[0], len(under_way))

    page.on("request", begins)
    page.on("requestfinished", lambda request: under_way.discard(request))
    page.on("requestfailed", lambda request: under_way.discard(request))
    page.wait_for_timeout(6_000)

    assert 6 <= len(asked) <= 30, "five requests a second at most, and it does go on"
    assert most[0] == 1


def test_page_that_nobody_sees_asks_nothing(serve, look):
    page = look(serve().url)
    expect(page.locator("#link")).to_have_text("live")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(2_000)
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.wait_for_timeout(2_500)

    assert not asked
