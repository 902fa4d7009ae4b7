"""One view: ring, button and answer at once, nothing on top of them, and what comes next."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_tour import act, at_step, holders

SIZES = [(1440, 900), (390, 844), (1280, 720), (768, 1024), (360, 780)]
NAMES = ["desk", "phone", "laptop", "tablet", "small-phone"]
BUTTONS = [
    "#write",
    '#node-actions [data-action="stop"]',
    "#read",
    "#write",
    '#node-actions [data-action="recover"]',
]
#: What is wrong with where an element is: out of the window, or something lies over it.
HIDDEN = """([selector, all]) => {
    const element = document.querySelector(selector);
    const box = element.getBoundingClientRect();
    const height = all ? box.height : Math.min(box.height, 80);
    const [top, bottom] = [box.top, box.top + height];
    if (!box.width) return `${selector} is not shown`;
    if (top < 0 || box.left < 0 || bottom > innerHeight + 1 || box.right > innerWidth + 1) {
        return `${selector} is out of the window: ${top} to ${bottom} of ${innerHeight}`;
    }
    const inset = Math.min(12, box.width / 4, height / 4);
    const spots = [
        [box.left + inset, top + inset], [box.right - inset, top + inset],
        [box.left + inset, bottom - inset], [box.right - inset, bottom - inset],
        [(box.left + box.right) / 2, (top + bottom) / 2],
    ];
    for (const [x, y] of spots) {
        const found = document.elementFromPoint(x, y);
        if (!found || !(element.contains(found) || found.contains(element))) {
            return `${selector} lies under ${found?.id || found?.className} at ${x}, ${y}`;
        }
    }
    return "";
}"""


def hidden(page, *selectors, entire=True):
    """What of these cannot be seen; of a part only its beginning counts."""
    found = [page.evaluate(HIDDEN, [selector, entire]) for selector in selectors]
    return [fault for fault in found if fault]


def marked(page):
    """What the tour says is to be pressed next: the ids or actions of what is marked."""
    return page.evaluate(
        "[...document.querySelectorAll('[data-next]')]"
        ".map((one) => one.dataset.action ?? one.id)"
    )


@pytest.mark.parametrize("size", SIZES, ids=NAMES)
def test_ring_button_and_answer_of_each_step_are_seen_at_once(serve, look, size):
    page = look(
        serve("--storage", "memory", "--nodes", 5, "--replication-factor", 3).url,
        width=size[0],
        height=size[1],
    )
    entire = size[1] > 800 or size[0] > 760  # a small phone shows how the answer begins
    for step, button in enumerate(BUTTONS, start=1):
        at_step(page, step)
        in_form = step in (1, 3, 4)
        answer = "#answer" if in_form else "#node-message"

        page.locator("#tour-point").click()
        faults = hidden(page, "#ring-stage", button, "#tour-point", "#tour-task")
        if in_form:
            faults += hidden(page, "#answer", entire=False)
        page.keyboard.press("Enter")
        if step < 5:
            at_step(page, step + 1)
        else:
            expect(page.locator("#tour-title")).to_have_text("Tour: done")
        expect(page.locator(answer)).to_be_visible()
        page.wait_for_timeout(200)  # a frame or two for what grows to be measured

        faults += hidden(page, "#ring-stage", button, "#tour-title", "#tour-said")
        faults += hidden(page, answer, entire=entire)
        assert faults == [], f"step {step}"


@pytest.mark.parametrize("size", SIZES[:2], ids=NAMES[:2])
def test_what_has_the_focus_is_never_under_the_tour_or_the_ring(serve, look, size):
    page = look(serve().url, width=size[0], height=size[1])
    page.locator("#write").click()
    at_step(page, 2)
    page.locator("#key").focus()
    faults = []

    for _ in range(22):
        page.keyboard.press("Tab")
        faults += page.evaluate(
            """() => {
                const focused = document.activeElement;
                const { left, top, width, height } = focused.getBoundingClientRect();
                const [x, y] = [left + width / 2, top + Math.min(height / 2, 10)];
                const found = document.elementFromPoint(x, y);
                const isSeen = found && (focused.contains(found) || found.contains(focused));
                return isSeen ? [] : [`${focused.id || focused.textContent} at ${x}, ${y}`];
            }"""
        )

    assert faults == []


def test_mark_is_on_what_is_to_be_done_next_and_on_nothing_that_was_done(serve, look):
    page = look(serve().url)
    at_step(page, 1)
    assert marked(page) == ["write"]

    page.locator("#write").click()
    at_step(page, 2)
    failed, other = holders(page)
    bystander = ({0, 1, 2} - {failed, other}).pop()
    page.locator(f"#ring-node-{bystander}").click()
    assert marked(page) == [f"ring-node-{failed}"]  # first it has to be chosen
    page.locator(f"#ring-node-{failed}").click()
    assert marked(page) == ["stop"]
    act(page, "stop", failed)
    at_step(page, 3)
    assert marked(page) == ["read"]
    page.locator("#key").fill("another")
    assert marked(page) == ["key"]  # it is about the key that was written
    page.locator("#tour-point").click()
    assert marked(page) == ["read"]
    page.locator("#read").click()
    at_step(page, 4)
    assert marked(page) == ["write"]
    page.locator("#write").click()
    at_step(page, 5)
    assert marked(page) == ["recover"]
    act(page, "recover", failed)

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    assert marked(page) == []


def test_nothing_is_marked_once_the_tour_is_closed(serve, look):
    page = look(serve().url)
    at_step(page, 1)

    page.locator("#tour-close").click()

    assert marked(page) == []


def test_escape_closes_the_tour_and_the_focus_returns_to_what_opens_it(serve, look):
    page = look(serve().url)
    at_step(page, 1)
    page.locator("#tour-title").focus()

    page.keyboard.press("Escape")
    expect(page.locator("#tour")).to_be_hidden()
    expect(page.locator("#tour-open")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#tour-title")).to_be_focused()
    page.locator("#value").focus()  # somebody who works in the form stays there
    page.keyboard.press("Escape")

    expect(page.locator("#tour")).to_be_hidden()
    expect(page.locator("#value")).to_be_focused()


def test_keyboard_goes_through_the_tour_with_one_key(serve, look):
    page = look(serve().url)
    at_step(page, 1)
    page.locator("#tour-point").focus()

    for step in range(1, 6):
        at_step(page, step)
        expect(page.locator("#tour-point")).to_be_focused()
        page.keyboard.press("Enter")  # goes to where it is done
        page.keyboard.press("Enter")  # does it

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    expect(page.locator("#tour-title")).to_be_focused()


def test_nothing_moves_by_itself_for_who_asked_for_stillness(serve, look):
    page = look(serve().url)
    at_step(page, 1)

    page.locator("#write").click()
    at_step(page, 2)

    assert marked(page)
    assert page.evaluate("document.getAnimations().length") == 0


def test_node_chosen_on_a_phone_shows_its_panel_with_the_ring(serve, look):
    page = look(serve().url, width=390, height=844)
    expect(page.locator("#link")).to_have_text("live")

    page.locator("#ring-node-2").click()

    assert hidden(page, "#ring-stage", "#node-name", "#node-actions") == []


@pytest.mark.parametrize("size", SIZES[:2], ids=NAMES[:2])
def test_answer_and_ring_are_seen_at_once_without_the_tour_too(serve, look, size):
    page = look(serve().url, width=size[0], height=size[1])
    page.locator("#tour-close").click()

    page.locator("#read").click()
    expect(page.locator("#answer-status")).to_have_text("404")

    assert hidden(page, "#ring-stage", "#read", "#answer") == []


@pytest.mark.parametrize("size", SIZES[:2], ids=NAMES[:2])
def test_banner_lies_over_neither_the_head_nor_the_ring(serve, look, size):
    served = serve()
    page = look(served.url, width=size[0], height=size[1])
    page.locator("#write").click()
    at_step(page, 2)

    served.__exit__()
    expect(page.locator("#banner")).to_be_visible()

    page.evaluate("scrollTo(0, 300)")
    shown = (
        ["#banner-text", "#ring-stage"]
        if size[0] < 760
        else ["#banner-text", "#health"]
    )
    assert hidden(page, *shown) == []
