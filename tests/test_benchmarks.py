"""What the benchmarks make of their numbers; the numbers themselves are never tested."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks import cli, report
from benchmarks.catalogue import CATALOGUE, Measurement
from benchmarks.child import KINDS, key_of, open_store, value_of
from benchmarks.figures import Bar, Figure, figure_of, not_measured, ratios, shown
from benchmarks.options import Options
from processes.server import ProcessFailed

# --- Figures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "value", "standing"),
    [
        (Bar(8), 8, "holds"),
        (Bar(8), 8.01, "missed"),
        (Bar(0.8, at_most=False), 0.8, "holds"),
        (Bar(0.8, at_most=False), 0.79, "missed"),
        (Bar(1, at_most=False, is_stretch=True), 1, "reached"),
        (Bar(1, at_most=False, is_stretch=True), 0.99, "not reached"),
        (Bar(8), None, "not measured"),
        (None, 1, ""),
        (None, None, "not measured"),
    ],
)
def test_figure_stands_on_the_right_side_of_its_bar(bar, value, standing):
    assert Figure("f", value, "µs", bar).standing == standing
    assert Figure("f", value, "µs", bar, failures=1).standing == "failed"


def test_figure_is_the_median_of_its_rounds():
    figure = figure_of("f", [5.0, 1.0, 9.0], "ms", Bar(10))

    assert (figure.value, figure.rounds) == (5.0, (5.0, 1.0, 9.0))
    assert figure.share_of_bar == 0.5


def test_figure_without_a_round_is_an_error():
    with pytest.raises(ValueError, match="never measured"):
        figure_of("f", [], "ms")


def test_ratios_are_of_the_same_round():
    assert ratios([1, 4, 9], [1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123, "0.12 s"),
        (12.34, "12.3 s"),
        (1234.5, "1,234 s"),
        (99.99, "100.0 s"),
        (None, "–"),
    ],
)
def test_number_is_shown_as_a_person_reads_it(value, text):
    assert shown(value, "s") == text


# --- The verdict and the files -----------------------------------------------------------


def figure(standing):
    value = {"holds": 9, "missed": 11, "not measured": None}.get(standing, 5)
    return Figure(
        f"a {standing} one",
        value,
        "ms",
        Bar(10, is_stretch="reached" in standing) if standing else None,
        failures=3 if standing == "failed" else 0,
        detail="it is not here" if value is None else "",
    )


@pytest.mark.parametrize(
    ("standings", "judged", "status"),
    [
        (["holds", ""], True, 0),
        (["holds", "missed"], True, 1),
        (["holds", "failed"], True, 1),
        (["holds", "missed"], False, 0),
        (["holds", "failed"], False, 1),
        ([""], True, 0),
        (["holds", "not measured"], True, 0),
        (["holds", "not measured"], False, 0),
        (["missed", "not measured"], True, 1),
        (["not measured", "not measured"], True, 2),
        (["not measured"], False, 2),
    ],
)
def test_verdict_counts_what_is_judged(standings, judged, status):
    code, words = report.verdict_of(
        {"all": list(map(figure, standings))}, is_try=not judged
    )

    assert code == status
    for standing in {"missed", "failed"} & set(standings):
        if code:
            assert f"a {standing} one" in words
    assert words.count("Not measured: all (it is not here).") == (
        "not measured" in standings
    )


def test_stretch_that_is_not_reached_is_shown_and_no_failure():
    far = Figure("far", 0.4, "×", Bar(1, at_most=False, is_stretch=True))

    code, words = report.verdict_of({"some": [far, figure("holds")]})

    assert (far.standing, code) == ("not reached", 0)
    assert "(1 of 1)" in words


def test_file_tells_every_round_and_the_machine(tmp_path):
    figures = [figure_of("f", [1.0, 2.0, 3.0], "ms", Bar(4), extra={"more": 1})]

    path = report.save(tmp_path, {"some": figures}, {"full": False})

    kept = json.loads(path.read_text("utf-8"))
    assert {"at", "commit", "machine", "options"} <= kept.keys()
    (line,) = kept["results"]["some"]
    assert line["rounds"] == [1.0, 2.0, 3.0]
    assert (line["value"], line["standing"], line["extra"]) == (
        2.0,
        "holds",
        {"more": 1},
    )


# --- What is measured in a process of its own --------------------------------------------


def test_keys_and_values_have_the_sizes_that_the_bars_are_for():
    assert {len(key_of(number)) for number in (0, 999_999)} == {20}
    assert {len(json.dumps(value_of(number))) for number in (0, 999_999)} == {100}
    assert value_of(1) != value_of(2)


SMALL = {
    "operations": {"count": 50},
    "recovery": {"keys": 500, "missed": 40},
    "memory": {"keys": 200},
}


@pytest.mark.parametrize("name", SMALL)
def test_kind_can_be_measured_again_and_again(name):
    kind = KINDS[name](**SMALL[name])
    try:
        kind.prepare()
        rounds = [kind.measure() for _ in range(3)]
    finally:
        kind.close()

    assert all(rounds)
    assert {each.get("copied", 40) for each in rounds} == {40}


def test_files_that_were_filled_can_be_opened(tmp_path):
    options = {"keys": 300, "directory": str(tmp_path)}

    KINDS["fill"](**options).prepare()

    with open_store(str(tmp_path)) as store:
        held = sum(node.keys or 0 for node in store.nodes())
    assert held == 600  # two replicas of each


def test_recovery_of_too_small_a_store_is_an_error():
    kind = KINDS["recovery"](keys=20, missed=40)
    try:
        with pytest.raises(ValueError, match="too few keys"):
            kind.prepare()
    finally:
        kind.close()


# --- The command line --------------------------------------------------------------------


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """Run `bench` on measurements that are made up; the status."""

    def run(*arguments, **measurements):
        catalogue = tuple(
            Measurement(name, f"about {name}", act)
            for name, act in measurements.items()
        )
        monkeypatch.setattr(cli, "CATALOGUE", catalogue)
        return cli.main(["--out", str(tmp_path), *arguments])

    return run


def test_command_shows_figures_beside_bars_and_keeps_them(bench, tmp_path, capsys):
    status = bench(good=lambda _: [figure("holds")], other=lambda _: [figure("")])

    shown_text = capsys.readouterr().out
    assert status == 0
    assert "at most 10 ms" in shown_text
    assert "Every bar that was measured holds (1 of 1)." in shown_text
    assert (tmp_path / "result.json").exists()


def test_command_tells_what_was_not_measured_and_keeps_its_line(
    bench, tmp_path, capsys
):
    missing = not_measured("beside", "×", Bar(1), "it is not installed; get it")

    status = bench(good=lambda _: [figure("holds")], other=lambda _: [missing])

    shown_text = capsys.readouterr().out
    kept = json.loads((tmp_path / "result.json").read_text("utf-8"))
    (line,) = kept["results"]["other"]
    assert status == 0
    assert "Not measured: other (it is not installed; get it)." in shown_text
    assert (line["value"], line["standing"]) == (None, "not measured")


def test_command_exits_with_1_for_a_missed_bar_and_still_keeps_it(bench, tmp_path):
    assert bench(bad=lambda _: [figure("missed")]) == 1
    assert (tmp_path / "result.json").exists()


def test_quick_run_shows_neither_bars_nor_numbers_that_look_like_results(
    bench, tmp_path, capsys
):
    kinds = ("holds", "missed", "reached", "not reached", "")
    figures = [replace(figure(kind), name="a line") for kind in kinds]

    status = bench("--quick", some=lambda _: figures)

    table, _, words = capsys.readouterr().out.partition("It runs")
    assert status == 0
    assert words.startswith(" (5 of 5 lines), and that is all this says")
    assert table.count("runs") == 5
    assert not re.search(
        "at most|at least|stretch|holds|missed|reached|ms|[0-9]", table
    )
    kept = json.loads((tmp_path / "result.json").read_text("utf-8"))
    for line in kept["results"]["some"]:
        assert (line["bar"], line["share_of_bar"], line["standing"]) == (None, None, "")


def test_quick_run_says_what_could_not_run_and_why(bench, capsys):
    missing = not_measured("beside", "×", Bar(1), "it is not installed")

    assert bench("--quick", some=lambda _: [figure("holds"), missing]) == 0
    assert "It runs (1 of 2 lines)" in capsys.readouterr().out
    assert bench("--quick", some=lambda _: [missing]) == 2
    assert "Not measured: some (it is not installed)." in capsys.readouterr().out


def test_quick_run_judges_no_bar_but_wrong_answers(bench):
    assert bench("--quick", bad=lambda _: [figure("missed")]) == 0
    assert bench("--quick", bad=lambda _: [figure("failed")]) == 1


def test_only_what_was_named_is_measured(bench, capsys):
    def never(_):
        raise AssertionError("not asked for")

    assert bench("--only", "good", good=lambda _: [figure("holds")], never=never) == 0


def test_options_reach_the_measurement(bench):
    seen: list[Options] = []

    def measure(options):
        seen.append(options)
        return [figure("")]

    bench("--seconds", "0.5", "--full", some=measure)

    (options,) = seen
    assert (options.seconds, options.full, options.scale) == (0.5, True, 1.0)


@pytest.mark.parametrize(
    "error", [ProcessFailed("it did not start"), OSError("disk"), KeyboardInterrupt()]
)
def test_what_cannot_be_measured_is_unknown(bench, error):
    def broken(_):
        raise error

    assert bench(broken=broken) == 2


@pytest.mark.parametrize(
    "arguments",
    [["--only", "nonsense"], ["--seconds", "0"], ["--seconds", "x"], ["--unknown"]],
)
def test_wrong_call_exits_with_2_and_makes_nothing(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert cli.main(arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_help_lists_what_can_be_measured(capsys):
    assert cli.main(["--help"]) == 0

    shown_text = capsys.readouterr().out
    assert all(measurement.title in shown_text for measurement in CATALOGUE)
