"""Every exhibit of lesson 14 trips its instrument, and its mended version does not."""

import inspect
import math
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import torch

import diffusion_lab as lab
from diffusion_core.schedules import NoiseSchedule, prior_gap
from diffusion_lab import exercises, feedback, museum
from diffusion_lab.museum import exhibits, ledgers, panel, program, second, walks
from diffusion_lab.museum.hall import repeatable
from diffusion_lab.museum.readings import quiet

ROOT = Path(__file__).resolve().parent.parent
read = cache(repeatable)  # of an instrument and a function
ANSWERS = runpy.run_path(str(Path(__file__).parent / "answers" / "lesson_14.py"))
EVERY = pytest.mark.parametrize("number", museum.EXHIBITS)


def mended(number):
    """Return the mended versions: that of the package, and those written in other words."""
    return [museum.EXHIBITS[number].mended, *ANSWERS["RIGHT"][f"14.{number}"]]


def test_there_are_twelve_and_each_has_an_exercise_as_has_the_whole_program():
    assert list(museum.EXHIBITS) == list(range(1, 13))
    assert list(exercises.lesson("14")) == [f"14.{number}" for number in range(1, 14)]


@EVERY
def test_one_question_finds_the_exhibit_and_right_code_passes_all(number):
    exhibit = museum.EXHIBITS[number]
    seen = [i for i in exhibit.offered.values() if not read(i, exhibit.function).passes]
    assert seen == [exhibit.instrument] and len(exhibit.offered) >= 4
    for instrument in exhibit.offered.values():
        found = read(instrument, exhibit.mended)
        assert found.passes, found.sentence()
        for reading in (found, read(instrument, exhibit.function)):
            assert not 0.7 < abs(museum.place(reading)) < 1.1, reading.sentence()
    assert "github.com/" in exhibit.seen or "of a published kind" in exhibit.seen


@EVERY
def test_the_panel_moves_with_each_question_and_does_not_begin_with_the_answer(number):
    exhibit = museum.EXHIBITS[number]
    _, (wrong, right, said), choose, controls = museum.instruments_of(number)
    for question, instrument in exhibit.offered.items():
        sentence = choose(question)
        assert sentence.startswith(f"{said.get_text()}: ")
        assert (abs(wrong.get_xdata()[0]) > 1) == (instrument is exhibit.instrument)
        assert abs(right.get_xdata()[0]) <= 1
    assert exhibit.offered[controls["question"].value] is not exhibit.instrument


@pytest.mark.parametrize("hall", [museum, second])
def test_the_place_of_a_question_does_not_tell_whether_it_sees(hall):
    """The order of an exhibit is its own, and repeats."""
    orders = {number: panel.questions(e) for number, e in hall.EXHIBITS.items()}
    assert orders == {number: panel.questions(e) for number, e in hall.EXHIBITS.items()}
    seeing = {
        order.index(question)
        for number, order in orders.items()
        for question, instrument in hall.EXHIBITS[number].offered.items()
        if instrument is hall.EXHIBITS[number].instrument
    }
    assert {1, 2, 3} <= seeing


def test_the_lesson_names_each_exhibit_right_and_opens_the_code_last():
    text = (ROOT / "notebooks" / "src" / "14_bug_museum.py").read_text("utf-8")
    named = re.findall(r'^diagnosis = "(.)"$', text, re.M)
    assert named == [exhibit.letter for exhibit in museum.EXHIBITS.values()]
    visit = ["instruments_of", "diagnose", "open_code", "measure"]
    steps = re.findall(r"museum\.(instruments_of|diagnose|open_code|measure)\((\d+)", text)
    assert steps == [(step, str(number)) for number in museum.EXHIBITS for step in visit]


def test_the_program_of_the_lesson_has_exactly_the_two_mistakes_that_its_check_tells():
    """The three cells as they are given, and with the two lines mended, one and both."""
    text = (ROOT / "notebooks" / "src" / "14_bug_museum.py").read_text("utf-8")
    given = text[text.index("def make_tables(") : text.index("# Run it.")]
    early = "    z = torch.randn(n, 2, generator=rng, dtype=torch.float64)\n    for t in range"
    late = (
        "    for t in range(T, 0, -1):\n        z = torch.randn(n, 2, generator=rng, dtype=x.dtype)"
    )
    assert given.count("t // T") == given.count(early) == 1

    def said(train, sample):
        code = given.replace("t // T", "t / T") if train else given
        code = code.replace(f"{early}(T, 0, -1):", late) if sample else code
        lines = [line for line in code.splitlines() if not line.startswith("#")]
        names = {"torch": torch}
        exec("\n".join(lines), names)

        def whole(points, T, steps, seed):
            network, _ = names["train_denoiser"](points, T, steps, seed)
            return names["draw_points"](network, T, 8, seed)

        return feedback.verdict(exercises.find("14.13"), whole, torch.Generator())

    assert "Both mistakes are still in." in said(False, False)
    assert "What is left is in the cell that samples." in said(True, False)
    assert "What is left is in the cell that trains." in said(False, True)
    assert said(True, True) == "✓ Right, on every case tried."


@EVERY
def test_the_mistake_trips_its_instrument_and_the_mended_version_does_not(number):
    assert not museum.reading(number).passes
    for function in mended(number):
        found = museum.reading(number, function)
        assert found.passes, found.sentence()


@EVERY
def test_a_reading_repeats_exactly_whatever_was_drawn_before(number):
    before = museum.reading(number)
    torch.randn(3)
    assert museum.reading(number) == before


@EVERY
def test_readings_are_far_from_the_edge_of_what_is_allowed(number):
    """By 8 % of the allowed number at least, so that no rounding turns a verdict."""
    bad = museum.reading(number)
    edge = bad.high if bad.value > bad.high else bad.low
    assert abs(bad.value - edge) > 0.08 * abs(edge)


@EVERY
def test_the_exhibit_is_short_silent_and_found_out_by_its_exercise(number, recwarn):
    function = museum.EXHIBITS[number].function
    assert len(inspect.getsource(function).splitlines()) <= 15
    verdict = feedback.verdict(exercises.find(f"14.{number}"), function, torch.Generator())
    assert verdict.startswith("✗ Not yet. This is the exhibit itself: ")
    assert not recwarn.list


def test_instruments_of_the_course_are_all_in_use():
    names = {exhibit.instrument.__name__ for exhibit in museum.EXHIBITS.values()}
    assert {"gap_of_50", "above_exact", "composed", "walked_variance", "at_the_end"} <= names
    assert {"neighbours", "from_nearest_point"} <= names


# Oracles of the instruments.


def test_the_exact_model_of_the_ledger_is_the_data():
    """Each step of p is that of q for data N(0, 1), so p(x_0) is N(0, 1) again."""
    torch.testing.assert_close(ledgers.exact_model(ledgers.short_schedule()).var.item(), 1.0)


def test_the_gap_of_exhibit_1_is_small_from_the_step_on_that_the_lesson_tells():
    gaps = {
        T: prior_gap(quiet(lambda T=T: NoiseSchedule(exhibits.straight_betas(T))))
        for T in (420, 430, 440)
    }
    assert gaps[420] > 0.01 >= gaps[430] > gaps[440]


def test_the_right_program_draws_the_data_and_a_loss_that_falls_further():
    points = program.ring()
    x, losses = program.right_program(points, 50, 1500, 400)
    off = torch.cdist(x, torch.tensor(points, dtype=torch.float64)).min(1).values
    assert off.median() < 0.3 and sum(losses[-50:]) / 50 < 0.28


def test_the_bound_less_the_exact_is_the_divergence_of_whole_trajectories():
    schedule, terms = ledgers.short_schedule(), ledgers.ledger(ledgers.short_schedule(), 4000)
    keep = schedule.alpha_bars[-1].item()
    missing = 0.5 * (keep * (ledgers.bell_points(4000).square().mean() - 1) - math.log(1 - keep))
    torch.testing.assert_close(terms.prior.mean(), missing)
    excess = museum.reading(11).value - missing.item()
    assert abs(excess - museum.reading(11, mended(11)[0]).value) < 1e-9


def test_a_mended_walk_reaches_the_states_it_should():
    """Moments half way, against the exact mixture, in five standard errors."""
    x, wanted = walks.half_walk(mended(8)[0]), walks.half_real()(200_000)
    assert (x.var(0) - wanted.var(0)).abs().max() < 5 * wanted.var(0).max() * (2 / len(x)) ** 0.5
    clipped = walks.half_walk(exhibits.careful_step)
    assert clipped.abs().max() == 1 < x.abs().max()


# Names and sentences.


@EVERY
def test_each_exhibit_has_one_name_and_the_others_are_turned_down(number):
    right = museum.EXHIBITS[number].letter
    assert museum.named(number, right).startswith("✓ Right")
    assert museum.named(number, f" {right.lower()} ").startswith("✓ Right")
    for letter in set(museum.NAMES) - {right}:
        assert museum.named(number, letter).startswith(f"✗ Not yet. {letter} is: ")


def test_no_name_is_right_twice_and_some_are_never():
    letters = [exhibit.letter for exhibit in museum.EXHIBITS.values()]
    assert len(set(letters)) == len(letters) < len(museum.NAMES)


@pytest.mark.parametrize("diagnosis", [None, "Z", "", 3])
def test_what_is_no_name(diagnosis):
    said = museum.named(1, diagnosis)
    assert said.startswith("○ Not named yet" if diagnosis is None else "✗ Not yet. Names are")


def raises(T):
    raise RuntimeError("no betas")


MEASURED = {
    "mended": (1, mended(1)[1], "✓ The instrument is content. Prior gap"),
    "not mended": (1, exhibits.straight_betas, "✗ The instrument still objects. Prior gap"),
    "starter": (1, lambda T: None, "○ Nothing to measure yet."),
    "an error": (1, raises, "✗ The instrument could not measure your function. Your function"),
    "nan": (2, lambda T: torch.full((T,), math.nan), "✗ The instrument read NaN"),
    "a number": (
        3,
        lambda *case: 1.0,
        "✗ The instrument cannot use what your function returns: Attr",
    ),
    "a list": (4, lambda *case: [[1]], "✗ The instrument cannot use what your function returns"),
}


@pytest.mark.parametrize("kind", MEASURED)
def test_what_is_said_about_a_function_under_the_instrument(kind):
    number, function, start = MEASURED[kind]
    assert museum.measured(number, function).startswith(start)


def test_measure_and_diagnose_show_sentences(monkeypatch):
    shown = []
    monkeypatch.setattr(museum.hall, "say", shown.append)
    museum.measure(12, exhibits.level_probs)
    museum.diagnose(12, "L")
    museum.measure(12, mended(12)[0])
    assert [text[0] for text in shown] == ["✗", "✓", "✓"]


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="no betas"):
        museum.reading(1, raises)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-math.inf, 2, "at most 2"),
        (1, math.inf, "at least 1"),
        (0, 0, "0"),
        (0.98, 1.02, "0.98 to 1.02"),
    ],
)
def test_a_reading_in_words(low, high, words):
    assert museum.Reading("It", 1.5, low, high).sentence() == f"It: 1.5. Allowed: {words}."
    assert not museum.Reading("It", math.nan, low, high).passes


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (2.003, -math.inf, 2, "It: 2.003. Allowed: at most 2."),
        (1.0201, 0.98, 1.02, "It: 1.0201. Allowed: 0.98 to 1.02."),
        (1.000002, 1 - 1e-6, 1 + 1e-6, "It: 1.000002. Allowed: 1."),
        (0.9999999, 1 - 1e-6, 1 + 1e-6, "It: 1. Allowed: 1."),
        (1.9996, -math.inf, 2, "It: 2. Allowed: at most 2."),
        (-1e-17, 0, math.inf, "It: -1e-17. Allowed: at least 0."),
        (math.nan, 0, 1, "It: nan. Allowed: 0 to 1."),
    ],
)
def test_a_reading_has_as_many_digits_as_tell_whether_it_is_allowed(value, low, high, said):
    assert museum.Reading("It", value, low, high).sentence() == said


def test_a_source_can_be_shown():
    lab.show_source(*(exhibit.function for exhibit in museum.EXHIBITS.values()))
