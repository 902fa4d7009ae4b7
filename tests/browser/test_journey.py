"""A key's journey: what was sent, who took part, and what the answer means."""

import json

from playwright.sync_api import expect


def request(page, button, status):
    page.locator(f"#{button}").click()
    expect(page.locator("#answer")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#answer-status")).to_have_text(str(status))


def says(page, title, text):
    expect(page.locator("#answer-title")).to_have_text(title)
    expect(page.locator("#answer-text")).to_contain_text(text)


def replicas_of(served, key):
    return json.loads(served.ask("GET", f"/replicas/{key}")[2])["replica_set"]


def test_write_read_and_delete_say_who_has_it_and_what_it_means(serve, look):
    served = serve()
    page = look(served.url)
    first, second = replicas_of(served, "greeting")

    request(page, "write", 200)
    says(page, "Written", "acknowledged")
    nodes = page.locator("#answer-nodes")
    expect(nodes).to_contain_text(f"node {first} has it")
    expect(nodes).to_contain_text(f"node {second} has it")
    request(page, "read", 200)
    says(page, "Read", "newest acknowledged value")
    expect(page.locator("#answer-value")).to_contain_text('"hello"')
    expect(nodes).to_contain_text(f"node {first} answered")
    expect(nodes).to_contain_text("not asked: one in-sync copy is enough")
    request(page, "delete", 200)
    says(page, "Deleted", "tombstone")
    request(page, "read", 404)

    says(page, "There is no such key", "It was there and is gone")
    expect(page.locator("#place-replicas tr")).to_have_count(2)
    expect(page.locator("#place-why")).to_contain_text(str(first))


def test_key_that_never_was_is_told_from_one_that_was_deleted(serve, look):
    page = look(serve().url)

    request(page, "read", 404)

    says(page, "There is no such key", "it was never written")


def test_lost_race_is_412_and_says_which_version_won(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    page.locator("#conditions summary").click()
    page.locator("#use-version").click()
    mine = page.locator("#if-version").input_value()
    assert len(mine) == 20
    body = b'{"key":"greeting","value":"other"}'
    answer = served.ask("POST", "/write", body, Content_Type="application/json")
    won = json.loads(answer[2])["version"]

    request(page, "write", 412)

    says(page, "The condition did not hold", f"another version by now, {won}.")
    expect(page.locator("#answer-chips")).to_contain_text("Definite: nothing was done")
    page.locator("#if-version").fill("")
    page.locator("#if-new").check()
    request(page, "write", 412)
    says(page, "The condition did not hold", "The key exists")
    page.locator("#if-new").uncheck()
    page.locator("#if-version").fill(won)
    request(page, "read", 304)
    says(page, "Not changed", "still the current one")


def test_every_replica_down_is_503_and_the_page_says_why_it_is_no_404(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    for node in replicas_of(served, "greeting"):
        served.ask("POST", f"/fail/{node}")

    request(page, "read", 503)
    says(page, "It cannot be served now", "It is not a 404")
    expect(page.locator("#answer-nodes")).to_contain_text("not asked: it is down")
    expect(page.locator("#answer-detail")).to_be_hidden()
    expect(page.locator("#answer-raw")).to_contain_text("is down; recover one")
    expect(page.locator("#answer-chips")).to_contain_text("try again after")
    request(page, "write", 503)

    says(page, "It cannot be served now", "Nothing was done and nothing will be")
    expect(page.locator("#health")).to_contain_text("cannot be served")


def test_lost_copy_is_503_that_says_what_helps_and_not_to_try_again(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    first, second = replicas_of(served, "greeting")
    served.ask("POST", f"/fail/{first}")
    request(page, "write", 200)
    expect(page.locator("#place-replicas")).to_contain_text("Newest")
    wipe = b'{"mode":"wipe"}'
    served.ask("POST", f"/fail/{second}", wipe, Content_Type="application/json")
    served.ask("POST", f"/recover/{first}")

    request(page, "read", 503)

    says(page, "Its newest copy is lost", "trying again will not help")
    expect(page.locator("#answer-chips")).not_to_contain_text("try again")
    expect(page.locator("#place-replicas")).to_contain_text("Newest that is left")
    expect(page.locator("#health")).to_contain_text("of the key space are lost")
    expect(page.locator("#health")).to_contain_text("of the key space cannot be served")


def test_replica_that_went_down_is_in_sync_until_the_next_write(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    first, _ = replicas_of(served, "greeting")

    served.ask("POST", f"/fail/{first}")

    places = page.locator("#place-replicas")
    expect(places).to_contain_text("it leaves the set at the next write")
    request(page, "write", 200)
    expect(places).not_to_contain_text("it leaves the set")


def test_server_says_what_is_wrong_where_the_page_cannot_know(serve, look):
    page = look(serve().url)
    page.locator("#key").fill("x" * 300)

    request(page, "write", 413)

    expect(page.locator("#answer-detail")).to_contain_text("It said: a key has at most")


def test_writer_learns_who_missed_it_and_the_place_shows_the_older_version(serve, look):
    served = serve()
    page = look(served.url)
    request(page, "write", 200)
    down, up = replicas_of(served, "greeting")
    served.ask("POST", f"/fail/{down}")
    expect(page.locator(f"#ring-node-{down}")).to_have_attribute("data-status", "down")

    request(page, "write", 200)

    expect(page.locator("#answer-nodes")).to_contain_text(f"node {down} missed it")
    rows = page.locator("#place-replicas tr")
    expect(rows.filter(has_text=f"{up}").first).to_be_visible()
    expect(page.locator("#place-stale")).to_be_visible()
    expect(page.locator("#health")).to_contain_text("1 stale key")


def test_hostile_key_and_value_are_shown_and_never_run(serve, look):
    page = look(serve().url)
    key = "<img src=x onerror=alert(1)>/../a//b?&#%41\u202e\U0001f600"
    page.locator("#key").fill(key)
    page.locator("#value").fill('</pre><script>alert(2)</script>{"__proto__":1}')
    expect(page.locator("#value-kind")).to_contain_text("a string")

    request(page, "write", 200)
    request(page, "read", 200)

    expect(page.locator("#answer-value")).to_contain_text("</pre><script>")
    expect(page.locator("#place-key")).to_contain_text("<img src=x")
    expect(page.locator("#keys-list")).to_contain_text("<img src=x")
    assert page.locator("img, #answer script").count() == 0


def test_number_that_javascript_cannot_hold_is_written_and_shown_as_it_was_typed(
    serve, look
):
    served = serve()
    page = look(served.url)
    page.locator("#value").fill("[12345678901234567890, 1.50]")

    request(page, "write", 200)
    assert b"[12345678901234567890, 1.50]" in served.ask("GET", "/read/greeting")[2]
    request(page, "read", 200)

    expect(page.locator("#answer-value")).to_contain_text("12345678901234567890")
    expect(page.locator("#answer-value")).to_contain_text("1.50")


def test_traffic_counts_what_failures_cost(serve, look):
    served = serve()
    page = look(served.url)
    page.get_by_role("switch", name="Make traffic").click()
    expect(page.locator("#traffic-counts")).to_contain_text("200 done")
    expect(page.locator("#keys-list")).to_contain_text("demo-9")  # listed by itself

    for node in range(3):
        served.ask("POST", f"/fail/{node}")

    expect(page.locator("#traffic-counts")).to_contain_text("503 nothing was done")
    page.get_by_role("switch", name="Make traffic").click()
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    expect(page.locator("#chart-rate canvas")).to_be_visible()
    expect(page.locator("#event-list")).to_contain_text("Node 2 failed")
