"""What the page shows of an earlier answer follows what has become of it since."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_journey import replicas_of, request, says
from tests.browser.test_looks import faults
from tests.browser.test_tour import act, at_step

MARKS = "#ring-overlay [data-sign]"


def signs(page):
    """The marks on the ring: node -> sign."""
    pairs = page.eval_on_selector_all(
        MARKS, "all => all.map((one) => [one.dataset.node, one.dataset.sign])"
    )
    return {int(node): sign for node, sign in pairs}


def wrote_while_down(served, page):
    """A write that one of its two replicas missed: that one, and the other."""
    request(page, "write", 200)
    down, up = replicas_of(served, "greeting")
    served.ask("POST", f"/fail/{down}")
    request(page, "write", 200)
    missed = page.locator('#answer-nodes [data-sign="missed"]')
    expect(missed).to_have_text(f"✕ node {down} missed it: it is down")
    assert signs(page) == {down: "missed", up: "ok"}
    return down, up


def test_mark_of_a_missed_write_goes_once_the_node_has_copied_it(serve, look):
    served = serve()
    page = look(served.url)
    down, up = wrote_while_down(served, page)
    expect(page.locator("#answer-text")).to_contain_text("is old now")

    served.ask("POST", f"/recover/{down}")

    verdict = page.locator("#answer-nodes li", has_text=f"node {down}")
    expect(verdict).to_have_text(f"✓ node {down} missed it, and has copied it since")
    expect(page.locator('#answer-nodes [data-sign="missed"]')).to_have_count(0)
    expect(page.locator("#answer-text")).to_contain_text("has copied it since")
    expect(page.locator("#answer-text")).not_to_contain_text("is old now")
    expect(page.locator(f'{MARKS}[data-sign="missed"]')).to_have_count(0)
    assert signs(page) == {down: "ok", up: "ok"}


def test_nothing_is_marked_as_missed_after_the_tour(serve, look):
    page = look(serve().url)
    page.locator("#tour-point").focus()
    for step in range(1, 6):
        at_step(page, step)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    expect(page.locator('#answer-nodes [data-sign="missed"]')).to_have_count(0)
    expect(page.locator("#answer-nodes")).to_contain_text("has copied it since")
    expect(page.locator(f'{MARKS}[data-sign="missed"]')).to_have_count(0)


def test_deleted_key_that_a_node_missed_is_told_until_the_node_has_copied_it(
    serve, look
):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    down, _ = replicas_of(served, "greeting")
    served.ask("POST", f"/fail/{down}")
    request(page, "delete", 200)
    expect(page.locator("#answer-text")).to_contain_text("missed the delete")

    served.ask("POST", f"/recover/{down}")

    expect(page.locator("#answer-text")).to_contain_text("has copied it since")
    expect(page.locator("#answer-text")).not_to_contain_text("missed the delete")


def test_missed_write_is_followed_while_another_key_is_shown(serve, look):
    served = serve()
    page = look(served.url)
    page.locator("#key").fill("other")
    request(page, "write", 200)
    page.locator("#key").fill("greeting")
    down, _ = wrote_while_down(served, page)
    page.locator("#keys-list").get_by_text("other", exact=True).click()
    expect(page.locator("#place-key")).to_have_text("other")
    assert signs(page) == {}  # the marks are of the other key

    served.ask("POST", f"/recover/{down}")

    expect(page.locator('#answer-nodes [data-sign="missed"]')).to_have_count(0)


def test_copy_that_was_there_is_not_shown_as_there_when_its_node_goes_down(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    first, second = replicas_of(served, "greeting")
    assert signs(page) == {first: "ok", second: "ok"}

    served.ask("POST", f"/fail/{first}")
    verdict = page.locator("#answer-nodes li", has_text=f"node {first}")
    expect(verdict).to_have_text(f"· node {first} had it, and is down now")
    expect(page.locator(f'{MARKS}[data-node="{first}"]')).to_have_count(0)
    wipe = b'{"mode":"wipe"}'
    served.ask("POST", f"/fail/{first}", wipe, Content_Type="application/json")
    expect(verdict).to_have_text(f"· node {first} had it, and lost its storage")
    served.ask("POST", f"/recover/{first}")

    expect(verdict).to_have_text(f"✓ node {first} has it")


def test_node_that_could_not_be_asked_is_not_called_down_when_it_is_back(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    down, _ = replicas_of(served, "greeting")
    served.ask("POST", f"/fail/{down}")
    request(page, "read", 200)
    verdict = page.locator("#answer-nodes li", has_text=f"node {down}")
    expect(verdict).to_have_text(f"✕ node {down} not asked: it is down")

    served.ask("POST", f"/recover/{down}")

    expect(verdict).to_have_text(
        f"· node {down} was not asked: it could not answer then"
    )


def test_503_is_told_as_over_when_the_key_is_served_again(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    for node in replicas_of(served, "greeting"):
        served.ask("POST", f"/fail/{node}")
    request(page, "read", 503)
    says(page, "It cannot be served now", "It is not a 404")
    expect(page.locator("#answer")).to_have_attribute("data-tone", "bad")

    for node in replicas_of(served, "greeting"):
        served.ask("POST", f"/recover/{node}")

    says(page, "It could not be served then", "ask once more")
    expect(page.locator("#answer")).to_have_attribute("data-tone", "info")
    expect(page.locator("#answer-chips")).not_to_contain_text("try again")
    expect(page.locator('#answer-nodes [data-sign="missed"]')).to_have_count(0)


def test_word_of_an_action_goes_when_somebody_else_has_undone_it(serve, look):
    served = serve()
    page = look(served.url)
    expect(page.locator("#link")).to_have_text("live")
    act(page, "stop", 1)
    expect(page.locator("#node-message")).to_have_text(
        "Node 1 is down. Its storage stays."
    )
    expect(page.locator("#node-status")).to_contain_text("down")

    served.ask("POST", "/recover/1")

    expect(page.locator("#node-status")).to_contain_text("up")
    expect(page.locator("#node-message")).to_be_hidden()


def test_question_before_a_loss_goes_with_the_time_to_answer_it(serve, look):
    page = look(serve("--storage", "memory", "--replication-factor", "1").url)
    request(page, "write", 200)
    act(page, "wipe", 0)
    expect(page.locator("#node-message")).to_contain_text("Wipe all the same")

    expect(page.locator("#node-message")).to_be_hidden()  # after twelve seconds
    expect(page.locator('#node-actions [data-action="wipe"]')).to_have_text("Wipe")


def test_keys_are_listed_again_once_they_can_be(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    for node in range(3):
        served.ask("POST", f"/fail/{node}")
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#keys-problem")).to_be_visible()

    for node in range(3):
        served.ask("POST", f"/recover/{node}")

    expect(page.locator("#keys-problem")).to_be_hidden()
    expect(page.locator("#keys-list")).to_contain_text("greeting")


# --- Colours and arrows -------------------------------------------------------------------


def looks_of(page, selector):
    """How each of these elements is drawn: colour and dashes."""
    return page.eval_on_selector_all(
        selector,
        "all => all.map((one) => { const { stroke, strokeDasharray } = "
        "getComputedStyle(one); return [stroke, strokeDasharray]; })",
    )


def colour_of(page, name):
    return page.evaluate(
        "async (name) => (await import('/dashboard/colours.js')).colour(name)", name
    )


def answer_with(page, status, code):
    problem = {"title": "x", "status": status, "detail": "of a test", "code": code}
    page.route(
        "**/write*",
        lambda route: route.fulfill(
            status=status,
            content_type="application/problem+json",
            body=json.dumps(problem | {"definite": status != 504}),
        ),
    )


def test_failed_write_is_drawn_in_the_colour_of_failure_and_with_words(serve, look):
    served = serve()
    page = look(served.url)
    for node in replicas_of(served, "greeting"):
        served.ask("POST", f"/fail/{node}")

    request(page, "write", 503)

    overlay = page.locator("#ring-overlay")
    expect(overlay).to_contain_text("✕ 503")
    expect(overlay).to_contain_text("failed")
    expect(page.locator("#ring-overlay .way-missed")).to_have_count(2)
    bad, good = colour_of(page, "--bad"), colour_of(page, "--ok")
    strokes = [look for look, _ in looks_of(page, "#ring-overlay path")]
    assert bad in strokes
    assert good not in strokes


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_timeout_has_a_look_of_its_own(serve, look, dark):
    page = look(serve().url, dark=dark)
    answer_with(page, 504, "uncertain")

    request(page, "write", 504)

    expect(page.locator("#answer")).to_have_attribute("data-tone", "unsure")
    expect(page.locator("#ring-overlay")).to_contain_text("? 504")
    expect(page.locator("#ring-overlay")).to_contain_text("not known")
    unsure = colour_of(page, "--unsure")
    ways = looks_of(page, "#ring-overlay .way")
    assert len(ways) == 2
    assert {stroke for stroke, _ in ways} == {unsure}
    assert unsure not in (colour_of(page, "--bad"), colour_of(page, "--warn"))
    border = "getComputedStyle(document.getElementById('answer')).borderLeftStyle"
    assert page.evaluate(border) == "dashed"
    assert faults(page) == []


def test_request_that_was_answered_shows_no_failed_way(serve, look):
    page = look(serve().url)

    request(page, "write", 200)

    expect(page.locator("#ring-overlay")).to_contain_text("✓ 200")
    expect(page.locator("#ring-overlay .way")).to_have_count(0)


def band(page):
    """How many pixels of the band's inner track are of the colours of down and of old."""
    return page.evaluate(
        """async () => {
            const { colour } = await import('/dashboard/colours.js');
            const { ringLayout } = await import('/dashboard/ring.js');
            const { x, y, inner, health } = ringLayout();
            const canvas = document.getElementById('ring-band');
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const pen = copy.getContext('2d', { willReadFrequently: true });
            pen.drawImage(canvas, 0, 0);
            const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
            const scale = devicePixelRatio;
            const wanted = ['--bad', '--warn'].map((name) => colour(name).match(/\\d+/g));
            const counts = [0, 0];
            for (let place = 0; place < data.length; place += 4) {
                const at = place / 4;
                const far = Math.hypot(at % canvas.width - x * scale,
                    Math.floor(at / canvas.width) - y * scale) / scale;
                if (far > inner - 1 || far < health - 1) continue;
                wanted.forEach((rgb, index) => {
                    const isSame = rgb.slice(0, 3).every((part, offset) => (
                        Math.abs(data[place + offset] - part) < 12));
                    if (isSame && data[place + 3] > 200) counts[index] += 1;
                });
            }
            return counts;
        }"""
    )


def band_once(page, is_so):
    """The same, once it is as it should be, or as it is after a while."""
    for _ in range(40):
        found = band(page)
        if is_so(*found):
            break
        page.wait_for_timeout(250)  # the map of the shards is asked for less often
    return found


def test_copy_out_of_reach_and_old_copy_have_marks_of_their_own(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    page.wait_for_timeout(300)
    assert band(page) == [0, 0]
    down, _ = replicas_of(served, "greeting")

    served.ask("POST", f"/fail/{down}")
    expect(page.locator("#health")).to_contain_text("is down")
    out_of_reach, old = band_once(page, lambda out, old: out > 0)
    assert out_of_reach > 0
    assert old == 0  # it has missed nothing so far
    request(page, "write", 200)
    expect(page.locator("#health")).to_contain_text("1 stale key")
    out_of_reach, old = band_once(page, lambda out, old: old > 0)
    assert out_of_reach > 0
    assert old > 0
    served.ask("POST", f"/recover/{down}")
    expect(page.locator("#health")).to_have_text("All up")

    assert band_once(page, lambda out, old: not out + old) == [0, 0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_legend_has_one_look_for_one_meaning_and_not_by_colour_alone(serve, look, dark):
    page = look(serve().url, dark=dark)
    expect(page.locator("#link")).to_have_text("live")

    looks = page.eval_on_selector_all(
        ".legend .swatch",
        """all => all.map((one) => {
            const { backgroundImage, backgroundColor, height } = getComputedStyle(one);
            const form = backgroundImage.replace(/rgba?\\([^)]*\\)/g, '');
            return [form, height, backgroundImage + backgroundColor];
        })""",
    )
    words = page.locator(".legend li:visible").all_inner_texts()

    forms = [(form, height) for form, height, _ in looks]
    assert len(looks) >= 5
    assert len(set(forms)) == len(forms)  # told apart without colours
    assert len({colours for *_, colours in looks}) == len(looks)
    assert len(set(words)) == len(words)
    assert any(re.search("out of reach", text) for text in words)
    assert any(re.search("old", text) for text in words)
