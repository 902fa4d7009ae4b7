"""The page on members of etcd: who leads, what fails, who comes and goes. Really etcd."""

import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from tests.browser.test_looks import faults
from tests.browser.test_since import colour_of, looks_of
from tests.browser.test_tour import act, at_step

pytestmark = pytest.mark.skipif(
    shutil.which("etcd") is None,
    reason="etcd is not installed (Debian: apt-get install etcd-server)",
)
HERE = ("--engine", "etcd", "--local-members", 3, "--data-dir", "data")
ELECTION_MS = 30_000  # a second or two; on a machine that is busy more
LEADS = re.compile(r"node \d leads in term \d+")


@pytest.fixture
def here(serve):
    """A service that starts three members."""
    return serve(*HERE)


@pytest.fixture
def elsewhere(here, serve):
    """A service of the same members, which it did not start."""
    urls = [url for node in nodes_of(here) for url in node["raft"]["urls"]]
    return serve("--engine", "etcd", "--etcd-endpoints", ",".join(urls))


def nodes_of(served):
    return json.loads(served.ask("GET", "/nodes")[2])["nodes"]


def settled(page):
    """The page once it shows a leader; its number."""
    summary = page.locator("#summary")
    expect(summary).to_contain_text(LEADS, timeout=ELECTION_MS)
    return int(re.findall(r"node (\d) leads", summary.inner_text())[0])


def status(page, node, wanted):
    disc = page.locator(f"#ring-node-{node}")
    expect(disc).to_have_attribute("data-status", wanted, timeout=ELECTION_MS)


def test_page_shows_who_leads_and_what_each_member_says_of_itself(here, look):
    page = look(here.url)
    leader = settled(page)
    follower = (leader + 1) % 3

    page.locator(f"#ring-node-{leader}").click()
    expect(page.locator("#node-role")).to_have_text(re.compile(r"★ leader, term \d+"))
    expect(page.locator("#node-words")).to_contain_text("It leads")
    expect(page.locator("#ring-shown")).to_contain_text(f"colour of node {leader}")
    expect(page.get_by_role("radio", name=f"Node {leader}, up, leader")).to_be_visible()
    page.locator(f"#ring-node-{follower}").click()
    expect(page.locator("#node-role")).to_have_text(re.compile(r"follower, term \d+"))
    facts = page.locator("#node-facts")
    (url,) = nodes_of(here)[follower]["raft"]["urls"]
    for words in ("Changes behind", "Revision", "Its file", url):
        expect(facts).to_contain_text(words)
    page.locator("#node-list summary").click()
    expect(page.locator("#node-table")).to_contain_text("★ leader")
    expect(page.locator("#event-list [data-kind=leader_elected]")).to_be_visible()

    page.locator(".explain summary").click()
    expect(page.locator(".explain")).to_contain_text("elect a leader")
    expect(page.locator(".explain")).to_contain_text("Behind")
    shown = page.locator(".explain").inner_text()
    assert "Primary-backup" not in shown
    assert faults(page) == []


def test_killed_leader_is_followed_by_another_and_comes_back_by_mouse(here, look):
    page = look(here.url)
    leader = settled(page)
    page.locator("#write").click()
    expect(page.locator("#answer-text")).to_contain_text("once a majority, 2 of 3")
    expect(page.locator('#answer-nodes [data-sign="ok"]')).not_to_have_count(0)

    act(page, "stop", leader)

    status(page, leader, "down")
    expect(page.locator("#summary")).to_contain_text(
        re.compile(rf"node [^{leader}] leads"), timeout=ELECTION_MS
    )
    expect(page.locator("#health")).to_contain_text(f"Node {leader} is down")
    page.locator("#write").click()
    missed = page.locator('#answer-nodes [data-sign="missed"]')
    expect(missed).to_have_text(f"✕ node {leader} missed it: it is down")
    expect(page.locator("#node-words")).to_contain_text(
        re.compile(r"missed \d+ changes? so far")
    )
    expect(page.locator("#place-replicas")).to_contain_text("not known")
    act(page, "recover", leader)
    status(page, leader, "up")
    expect(page.locator("#node-facts")).to_contain_text("only what it missed")
    expect(page.locator("#health")).to_have_text("All up")


def test_paused_member_stands_still_and_goes_on_by_mouse(here, look):
    page = look(here.url, dark=True)
    follower = (settled(page) + 1) % 3

    act(page, "pause", follower)

    status(page, follower, "down")
    expect(page.locator("#node-message")).to_contain_text("stands still")
    expect(page.locator("#node-words")).to_contain_text("Its process stands still")
    pause = page.locator("#node-actions [data-action=pause]")
    expect(pause).to_have_attribute("aria-disabled", "true")
    assert faults(page) == []
    act(page, "recover", follower)
    status(page, follower, "up")
    expect(page.locator("#node-message")).to_have_text(
        f"Node {follower} is up: it lacks nothing."
    )


def test_without_a_majority_the_page_says_on_whom_one_waits(here, look):
    page = look(here.url)
    leader = settled(page)
    gone, left = sorted({0, 1, 2} - {leader})[0], sorted({0, 1, 2} - {leader})[1]
    act(page, "stop", leader)
    act(page, "stop", gone)

    status(page, left, "recovering")
    page.locator(f"#ring-node-{left}").click()

    expect(page.locator("#node-words")).to_contain_text("2 of the 3 members have to be")
    expect(page.locator("#node-words")).to_contain_text("It waits for one of nodes")
    expect(page.locator("#health")).to_contain_text("Nothing can be served without a")
    expect(page.locator("#summary")).to_contain_text("nobody leads")
    page.locator("#read").click()
    expect(page.locator("#answer-status")).to_have_text("503", timeout=ELECTION_MS)
    expect(page.locator("#answer-text")).to_contain_text("without a majority")
    assert faults(page) == []
    act(page, "recover", gone)
    status(page, left, "up")


def test_without_a_majority_nothing_is_drawn_as_if_it_had_worked(here, look):
    page = look(here.url)
    leader = settled(page)
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    expect(page.locator("#ring-overlay")).to_contain_text("✓ 200")
    gone, left = sorted({0, 1, 2} - {leader})
    act(page, "stop", leader)
    act(page, "stop", gone)
    status(page, left, "recovering")

    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("503", timeout=ELECTION_MS)
    overlay = page.locator("#ring-overlay")
    expect(overlay).to_contain_text("✕ 503")
    expect(overlay).to_contain_text("failed")
    expect(overlay.locator(".way-missed")).to_have_count(3)
    expect(overlay.locator(".link-waits")).to_have_count(1)
    good = colour_of(page, "--ok")
    strokes = [look for look, _ in looks_of(page, "#ring-overlay path")]
    assert len(strokes) >= 6
    assert good not in strokes
    assert overlay.locator('[data-sign="ok"]').count() == 0
    act(page, "recover", gone)
    status(page, left, "up")

    expect(page.locator("#answer-title")).to_have_text("It could not be served then")
    expect(overlay.locator(".way-missed")).to_have_count(0)


def test_majority_that_is_wiped_is_told_before_and_a_loss_is_accepted(here, look):
    page = look(here.url)
    settled(page)
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")
    act(page, "wipe", 0)
    status(page, 0, "down")

    act(page, "wipe", 1)
    expect(page.locator("#node-message")).to_contain_text("that is no majority")
    page.wait_for_timeout(700)  # a double click is no second thought
    act(page, "wipe", 1)
    status(page, 2, "recovering")
    act(page, "recover", 0)
    expect(page.locator("#node-message")).to_contain_text("503, a majority")
    act(page, "accept-loss", 2)
    expect(page.locator("#node-message")).to_contain_text("becomes the truth")
    page.wait_for_timeout(700)
    act(page, "accept-loss", 2)
    status(page, 2, "up")
    act(page, "recover", 0)
    status(page, 0, "up")

    expect(page.locator("#node-facts")).to_contain_text("joined anew")
    page.locator("#read").click()
    expect(page.locator("#answer-status")).to_have_text("200", timeout=ELECTION_MS)


def test_node_is_added_and_taken_out_by_mouse(here, look):
    page = look(here.url)
    settled(page)
    expect(page.locator("#add-node-url")).to_be_hidden()  # it is started here

    page.get_by_role("button", name="Add a node").click()

    expect(page.locator("#add-node-message")).to_contain_text(
        "Node 3 is up", timeout=ELECTION_MS
    )
    expect(page.locator("#node-name")).to_have_text("Node 3")
    expect(page.locator("#summary")).to_contain_text("4 nodes, each key on 4")
    act(page, "remove", 3)
    expect(page.locator("#node-message")).to_contain_text("leaves for good")
    page.wait_for_timeout(700)
    act(page, "remove", 3)
    expect(page.locator("#node-message")).to_have_text("Node 3 was removed.")
    expect(page.locator("#ring-nodes [role=radio]")).to_have_count(3)
    expect(page.locator("#event-list [data-kind=node_removed]")).to_be_visible()
    expect(page.locator("#health")).to_have_text("All up")


def test_members_that_run_elsewhere_have_no_buttons_but_a_reason(elsewhere, look):
    page = look(elsewhere.url)
    settled(page)

    expect(page.locator("#node-elsewhere")).to_contain_text("whoever runs them")
    for action in ("stop", "wipe", "pause", "recover", "accept-loss"):
        button = page.locator(f"[data-action={action}]:visible")
        expect(button).to_have_count(0)
    expect(page.locator("#tour-task")).to_contain_text("run elsewhere")
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200")

    page.locator("#add-node-url").fill("http://127.0.0.1:9")
    page.get_by_role("button", name="Add a node").click()
    expect(page.locator("#add-node-message")).to_contain_text("Node 3 may join")
    expect(page.locator("#node-problem")).to_contain_text(
        "Not started yet: etcd --name"
    )
    expect(page.locator("#node-facts")).to_contain_text("–")  # nothing is known of it
    assert faults(page) == []
    act(page, "remove", 3)
    page.wait_for_timeout(700)
    act(page, "remove", 3)
    expect(page.locator("#ring-nodes [role=radio]")).to_have_count(3)


def test_tour_goes_from_start_to_end_and_fails_the_leader(here, look):
    page = look(here.url)
    leader = settled(page)
    for step in range(1, 6):
        at_step(page, step)
        page.locator("#tour-point").click()
        if step == 2:
            expect(page.locator("#node-name")).to_have_text(f"Node {leader}")
        page.keyboard.press("Enter")

    title = page.locator("#tour-title")
    expect(title).to_have_text("Tour: done", timeout=ELECTION_MS)
    said = page.locator("#tour-said")
    expect(said).to_contain_text(
        re.compile(r"caught up with \d+ changes?: only what it missed")
    )
    expect(said).to_contain_text("in one log")
    expect(page.locator("#tour-next")).to_contain_text("Pause the leader")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(360, 780), (1280, 800)], ids=["phone", "laptop"])
def test_nothing_overflows_and_nobody_is_kept_out(here, look, size, dark):
    page = look(here.url, width=size[0], height=size[1], dark=dark)
    leader = settled(page)
    page.locator("#node-list summary").click()
    act(page, "stop", leader)
    status(page, leader, "down")
    settled(page)
    page.locator("#write").click()
    expect(page.locator("#answer-status")).to_have_text("200", timeout=ELECTION_MS)

    assert faults(page) == []
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"{overflow} pixels too wide"


def test_engine_that_cannot_change_its_nodes_offers_no_such_button(serve, look):
    page = look(serve().url)
    expect(page.locator("#link")).to_have_text("live")

    expect(page.locator("#add-node")).to_be_hidden()
    expect(page.locator("#node-actions [data-action=remove]")).to_be_hidden()
    expect(page.locator("#node-actions [data-action=pause]")).to_have_count(0)
    expect(page.locator("#node-role")).to_be_hidden()
    expect(page.locator("#legend-leader")).to_be_hidden()


def test_words_of_each_protocol_are_of_the_same_things(serve, look):
    page = look(serve().url)
    names = """async ([file, name]) => {
        const own = (await import(`/dashboard/${file}`))[name];
        return [Object.keys(own).sort(), Object.keys(own.tour).sort()];
    }"""

    ours = page.evaluate(names, ["primary-backup.js", "primaryBackup"])

    assert ours == page.evaluate(names, ["raft.js", "raft"])
    assert len(ours[0]) > 20
