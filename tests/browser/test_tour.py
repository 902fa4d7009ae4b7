"""The guided tour, and failing and recovering nodes, as a person does them."""

import re

import pytest
from playwright.sync_api import expect

STEPS = ["Replicate", "Fail a node", "Read on", "Write while it is down", "Recover"]


def at_step(page, number):
    title = f"Tour, step {number} of 5: {STEPS[number - 1]}"
    expect(page.locator("#tour-title")).to_have_text(title)


def act(page, action, node):
    """Choose a node on the ring and press one of the panel's buttons."""
    page.locator(f"#ring-node-{node}").click()
    button = page.locator(f'#node-actions [data-action="{action}"]')
    expect(button).to_have_attribute("aria-label", re.compile(rf"\b{node}\b"))
    button.click()


def holders(page):
    """The nodes that have the key of the last write."""
    expect(page.locator("#answer-status")).to_have_text("200")
    verdicts = page.locator('#answer-nodes [data-sign="ok"]').all_inner_texts()
    return [int(re.findall(r"node (\d+)", text)[0]) for text in verdicts]


def test_tour_goes_on_only_when_the_server_says_that_each_step_was_done(serve, look):
    served = serve()
    page = look(served.url)
    at_step(page, 1)

    page.locator("#read").click()  # not what it asks for
    expect(page.locator("#answer-status")).to_have_text("404")
    at_step(page, 1)
    page.locator("#write").click()
    at_step(page, 2)
    expect(page.locator("#tour-said")).to_contain_text("tour-01 to tour-20")
    expect(page.locator("#keys-list")).to_contain_text("tour-20")
    failed, other = holders(page)
    bystander = ({0, 1, 2} - {failed, other}).pop()
    act(page, "stop", bystander)
    expect(page.locator(f"#ring-node-{bystander}")).to_have_attribute(
        "data-status", "down"
    )
    at_step(page, 2)
    act(page, "recover", bystander)
    expect(page.locator(f"#ring-node-{bystander}")).to_have_attribute(
        "data-status", "up"
    )
    act(page, "stop", failed)
    at_step(page, 3)
    page.locator("#read").click()
    at_step(page, 4)
    expect(page.locator("#tour-said")).to_contain_text(f"Node {other} answered")
    page.locator("#value").fill('{"text": "hello again"}')
    page.locator("#write").click()
    at_step(page, 5)
    expect(page.locator("#tour-said")).to_contain_text("1 stale key")
    expect(page.locator('#answer-nodes [data-sign="missed"]')).to_contain_text(
        f"node {failed} missed it: it is down"
    )
    act(page, "recover", failed)

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    expect(page.locator("#tour-said")).to_contain_text("copied 1: only what it missed")
    expect(page.locator("#tour-said")).to_contain_text("digests (checksums)")
    held = int(
        re.findall(r"holds (\d+) keys", page.locator("#tour-said").inner_text())[0]
    )
    assert held > 1
    expect(page.locator("#node-facts")).to_contain_text("copied 1 record")
    expect(page.locator("#tour-next li")).to_have_count(3)


def test_tour_goes_on_without_more_keys_where_they_cannot_be_written(serve, look):
    page = look(serve("--storage", "memory", "--max-batch", "5").url)

    page.locator("#write").click()

    at_step(page, 2)
    expect(page.locator("#tour-said")).to_contain_text("nothing acknowledged is gone")
    expect(page.locator("#tour-said")).not_to_contain_text("tour-01")


@pytest.mark.parametrize("size", [(1280, 900), (360, 780)], ids=["laptop", "phone"])
def test_tour_is_in_view_after_each_step(serve, look, size):
    page = look(serve().url, width=size[0], height=size[1])
    for step in range(1, 6):
        at_step(page, step)
        if step > 1:
            expect(page.locator("#tour-title")).to_be_in_viewport()
        page.locator("#tour-point").click()
        if size[0] > 760:  # beside what it points at
            expect(page.locator("#tour-title")).to_be_in_viewport()
        page.keyboard.press("Enter")

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    expect(page.locator("#tour-title")).to_be_in_viewport()
    expect(page.locator("#tour-said")).to_be_in_viewport()


def test_wiped_node_is_rebuilt_and_not_only_brought_up_to_date(serve, look):
    page = look(serve("--storage", "memory", "--nodes", "2").url)
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    act(page, "wipe", 1)
    expect(page.locator("#node-words")).to_have_text(
        re.compile(r"its storage is gone: \d+ keys? to rebuild")
    )

    act(page, "recover", 1)

    expect(page.locator("#node-facts")).to_contain_text("everything it should hold")


def test_tour_goes_back_when_somebody_else_recovers_the_node(serve, look):
    served = serve()
    page = look(served.url)
    page.locator("#write").click()
    at_step(page, 2)
    (failed, _) = holders(page)
    served.ask("POST", f"/fail/{failed}")
    at_step(page, 3)

    served.ask("POST", f"/recover/{failed}")

    at_step(page, 2)
    expect(page.locator("#tour-said")).to_contain_text("is back already")


def test_tour_says_why_it_cannot_be_done_with_one_copy_of_each_key(serve, look):
    served = serve("--storage", "memory", "--nodes", "2", "--replication-factor", "1")

    page = look(served.url)

    expect(page.locator("#tour-task")).to_contain_text("replication factor of 2")


def test_tour_by_keyboard_alone(serve, look):
    page = look(serve().url)
    expect(page.locator("#link")).to_have_text("live")
    keyboard = page.keyboard

    page.locator("#tour-point").focus()
    keyboard.press("Enter")  # shows where: the button that writes
    expect(page.locator("#write")).to_be_focused()
    keyboard.press("Enter")
    at_step(page, 2)
    (failed, _) = holders(page)
    for button, step in (("stop", 3), ("read", 4), ("write", 5), ("recover", 6)):
        page.locator("#tour-point").focus()
        keyboard.press("Enter")
        target = page.locator(":focus")
        expect(target).to_have_attribute(
            "data-action" if button in ("stop", "recover") else "id", button
        )
        keyboard.press("Enter")
        if step <= 5:
            at_step(page, step)

    expect(page.locator("#tour-title")).to_have_text("Tour: done")
    expect(page.locator(f"#ring-node-{failed}")).to_have_attribute("data-status", "up")


def test_nodes_are_chosen_failed_and_recovered_by_arrow_keys_and_enter(serve, look):
    page = look(serve().url)
    expect(page.locator("#link")).to_have_text("live")
    first = page.locator("#ring-node-0")
    expect(first).to_have_attribute("aria-checked", "true")
    first.focus()

    page.keyboard.press("ArrowRight")
    expect(page.locator("#ring-node-1")).to_be_focused()
    expect(page.locator("#ring-node-1")).to_have_attribute("aria-checked", "true")
    expect(page.locator("#node-name")).to_have_text("Node 1")
    page.get_by_role("button", name="Fail node 1").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#node-status")).to_contain_text("down")
    expect(page.get_by_role("radio", name="Node 1, down")).to_be_visible()
    page.get_by_role("button", name="Recover node 1").first.focus()
    page.keyboard.press("Space")

    expect(page.locator("#node-status")).to_contain_text("up")
    expect(page.locator("#node-message")).to_have_text(
        "Node 1 is up: it lacks nothing."
    )


def test_wiping_the_last_copy_needs_a_second_press_and_the_loss_can_be_accepted(
    serve, look
):
    served = serve("--storage", "memory", "--nodes", "2")
    page = look(served.url)
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    act(page, "stop", 0)
    expect(page.locator("#ring-node-0")).to_have_attribute("data-status", "down")
    page.locator("#write").click()  # node 1 alone has it now
    expect(page.locator("#answer-nodes")).to_contain_text("node 0 missed it")

    act(page, "wipe", 1)
    expect(page.locator("#node-message")).to_contain_text(
        "alone holds the newest state"
    )
    expect(page.locator("#ring-node-1")).to_have_attribute("data-status", "up")
    page.wait_for_timeout(700)  # a double click is no second thought
    page.get_by_role("button", name="Wipe all the same: node 1").first.click()
    expect(page.locator("#ring-node-1")).to_have_attribute("data-status", "down")
    expect(page.locator("#health")).to_contain_text("cannot be served")
    act(page, "recover", 0)
    expect(page.locator("#node-words")).to_contain_text("lost its storage")
    page.get_by_role("button", name="Recover node 0, accepting the loss").click()
    expect(page.locator("#node-message")).to_contain_text(
        "becomes the truth for 100 % of the key space"
    )
    expect(page.locator("#ring-node-0")).to_have_attribute("data-status", "recovering")
    page.wait_for_timeout(700)
    page.get_by_role("button", name="accepting the loss all the same: node 0").click()

    expect(page.locator("#ring-node-0")).to_have_attribute("data-status", "up")
    page.locator("#read").click()
    expect(page.locator("#answer-status")).to_have_text("200")
