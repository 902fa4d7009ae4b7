"""What is compared to tell what metrics and logs cost; the numbers are never tested."""

from app import create_app
from benchmarks.load import Tally
from benchmarks.observed import AS_IT_IS, COMPARISONS, JSON, TEXT, UNCOUNTED, figures_of
from benchmarks.turns import CASES
from benchmarks.uncounted import create_uncounted
from config import Settings

MEMORY = Settings(storage="memory")


def counted(app):
    """The requests that a page of metrics knows of, after two of them."""
    client = app.test_client()
    assert client.post("/write", json={"key": "k", "value": 1}).status_code == 200
    assert client.get("/read/k").get_json()["value"] == 1
    page = client.get("/metrics").get_data(as_text=True)
    return [
        line
        for line in page.splitlines()
        if "kv_http_request" in line and "_count{" in line
    ]


def test_store_that_does_not_count_answers_the_same_and_is_the_only_one():
    uncounted = create_uncounted(MEMORY)
    usual = create_app(MEMORY)
    try:
        assert counted(uncounted) == []
        assert len(counted(usual)) == 2  # the first is not spoilt by the second
    finally:
        uncounted.close()
        usual.close()


def test_each_is_a_share_of_the_one_that_does_less_in_every_case():
    rates = {AS_IT_IS: 90.0, UNCOUNTED: 100.0, TEXT: 45.0, JSON: 30.0}
    tallies = {
        (name, *case): [Tally(answers=1, rate=rate)] * 2
        for name, rate in rates.items()
        for case in CASES
    }

    figures = figures_of(tallies)

    assert len(figures) == len(COMPARISONS) * len(CASES)
    shares = {figure.name.split(", ")[-1]: figure.value for figure in figures}
    assert shares == {
        "counted": 0.9,
        "every request logged as text": 0.5,
        "every request logged as JSON": 30 / 90,
    }
    assert {figure.standing for figure in figures} == {""}  # there is no bar


def test_wrong_answer_fails_the_figure():
    tallies = {
        (name, *case): [Tally(answers=1, rate=9.0, failures=int(name == TEXT))]
        for name in (AS_IT_IS, UNCOUNTED, TEXT, JSON)
        for case in CASES
    }

    failed = {f.name.split(", ")[-1] for f in figures_of(tallies) if f.failures}

    assert failed == {"every request logged as text"}
