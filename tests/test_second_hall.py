"""The second hall: only the right instrument sees an exhibit, and none objects to right code."""

import inspect
import math
import re
import runpy
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from diffusion_core.solvers import dpm_solver_2m
from diffusion_lab import exercises, feedback, museum, plotting
from diffusion_lab.exercises import Exercise
from diffusion_lab.museum import second
from diffusion_lab.museum.hall import repeatable
from diffusion_lab.museum.second import endings, exhibits, flows, mended, panel, walks

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = runpy.run_path(str(Path(__file__).parent / "answers" / "lesson_14b.py"))
read = cache(repeatable)  # of an instrument and a function
EVERY = pytest.mark.parametrize("number", second.EXHIBITS)


def right(number):
    return [second.EXHIBITS[number].mended, *ANSWERS["RIGHT"][f"14b.{number}"]]


def test_each_exhibit_has_an_exercise():
    assert list(second.EXHIBITS) == list(range(1, len(second.EXHIBITS) + 1))
    assert list(exercises.lesson("14b")) == [f"14b.{number}" for number in second.EXHIBITS]


@EVERY
def test_one_instrument_sees_the_exhibit_and_the_others_agree_with_right_code(number):
    exhibit = second.EXHIBITS[number]
    seen = [
        instrument
        for instrument in exhibit.offered.values()
        if not read(instrument, exhibit.function).passes
    ]
    assert seen == [exhibit.instrument] and len(exhibit.offered) >= 4
    for instrument in exhibit.offered.values():
        found = read(instrument, exhibit.mended)
        assert found.passes, found.sentence()


@EVERY
def test_right_answers_in_other_words_content_the_instrument(number):
    for function in right(number):
        assert second.HALL.measured(number, function).startswith("✓ The instrument is content.")
    exhibit = second.EXHIBITS[number].function
    assert second.HALL.measured(number, exhibit).startswith("✗ The instrument still objects.")
    assert second.HALL.measured(number, lambda *case: None) == "○ Nothing to measure yet."


@EVERY
def test_a_reading_repeats_exactly_whatever_was_drawn_before(number):
    exhibit = second.EXHIBITS[number]
    torch.randn(3)
    assert second.HALL.reading(number) == read(exhibit.instrument, exhibit.function)


@EVERY
def test_readings_are_far_from_the_edge_of_what_is_allowed(number):
    for instrument in second.EXHIBITS[number].offered.values():
        for function in (second.EXHIBITS[number].function, second.EXHIBITS[number].mended):
            found = read(instrument, function)
            assert not 0.5 < abs(panel.place(found)) < 1.1, found.sentence()


@EVERY
def test_the_exhibit_is_short_silent_and_found_out_by_its_exercise(number, recwarn):
    exhibit = second.EXHIBITS[number]
    assert len(inspect.getsource(exhibit.function).splitlines()) <= 16
    verdict = feedback.verdict(exercises.find(f"14b.{number}"), exhibit.function, torch.Generator())
    assert verdict.startswith("✗ Not yet. This is the exhibit itself: ")
    assert not recwarn.list


@EVERY
def test_each_exhibit_has_one_name_the_others_are_turned_down_and_its_source_is_told(number):
    exhibit = second.EXHIBITS[number]
    assert second.HALL.named(number, exhibit.letter).startswith("✓ Right")
    for letter in set(second.NAMES) - {exhibit.letter}:
        assert second.HALL.named(number, letter).startswith(f"✗ Not yet. {letter} is: ")
    assert "github.com/" in exhibit.seen or "published" in exhibit.seen


def test_no_name_is_right_twice_some_are_never_and_the_first_hall_has_its_own():
    letters = [exhibit.letter for exhibit in second.EXHIBITS.values()]
    assert len(set(letters)) == len(letters) < len(second.NAMES)
    assert list(second.NAMES) == sorted(second.NAMES)
    assert museum.named(1, "P") != second.HALL.named(1, "P")
    assert (
        second.HALL.named(1, "P")
        == f"✗ Not yet. Names are letters, A to {max(second.NAMES)}; yours is P."
    )


def test_the_lesson_names_each_exhibit_right_and_shows_it_in_order():
    text = (ROOT / "notebooks" / "src" / "14b_second_hall.py").read_text("utf-8")
    named = re.findall(r'^diagnosis = "(.)"$', text, re.M)
    assert named == [exhibit.letter for exhibit in second.EXHIBITS.values()]
    visit = ["instruments", "diagnose", "open_code", "measure"]
    steps = re.findall(r"hall\.(instruments|diagnose|open_code|measure)\((\d+)", text)
    assert steps == [(step, str(number)) for number in second.EXHIBITS for step in visit]


# Oracles: what each exhibit does, from its formula.


def test_a_product_of_two_draws_has_the_fourth_power_9_and_doubles_the_scatter():
    """E[(z z')^4] = 3 * 3; the mean of n squares has the variance (E[.^4] - 1) / n."""
    for walk, fourth in ((mended.noisy_walk, 3.0), (exhibits.noisy_walk, 9.0)):
        read, moments = walks.fourth_power(walk).value, {3.0: 105, 9.0: 105**2}[fourth]
        draws = walks.STEPS * walks.PATHS
        assert abs(read - fourth) < 5 * ((moments - fourth**2) / draws) ** 0.5
        scatter = walks.estimates(walk).std().item()
        assert_close(scatter, ((fourth - 1) / walks.STEPS) ** 0.5, rtol=0.1, atol=0)


def test_a_small_weight_of_the_second_draw_shows_as_the_lesson_says():
    """E[(z (a + w z'))^4] with a^2 = 1 - w^2, by quadrature over z', is 3 + 12 w^2 - 6 w^4."""
    nodes = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.exp(-(nodes**2) / 2) / math.sqrt(2 * math.pi)
    for w in (0.0, 0.3, 0.7, 1.0):
        fourth = 3 * torch.trapezoid((math.sqrt(1 - w**2) + w * nodes) ** 4 * density, nodes)
        assert_close(fourth.item(), 3 + 12 * w**2 - 6 * w**4)


def test_fresh_directions_cost_a_solver_many_calls_and_change_no_point():
    wrong, kept = (flows.solved(f, 1e-3) for f in (exhibits.right_side, mended.right_side))
    assert wrong.calls > 5 * kept.calls
    assert (wrong.x[:, :2] - kept.x[:, :2]).abs().max() < 0.01


def held(v):
    """Return a maker of right sides whose direction is v."""
    return lambda velocity, fresh: mended.right_side(velocity, lambda: v)


def test_a_divergence_summed_with_one_direction_is_that_of_the_package():
    """log_likelihood holds its probe, too: with the same one the sums are the same."""
    from diffusion_core.likelihood import log_likelihood

    x = flows.points()
    found = log_likelihood(
        flows.FLOW,
        x,
        lambda x_T: torch.zeros(len(x_T), dtype=x_T.dtype),
        probes=2,
        tolerance=1e-4,
        generator=torch.Generator().manual_seed(0),
    )
    fresh = flows.draws(0)
    signs = [fresh(), fresh()]
    sums = [flows.solved(held(v), 1e-4).x[:, 2] for v in signs]
    assert_close(found.log_prob, torch.stack(sums).mean(0))


def test_the_grain_is_the_lowest_level_or_nothing():
    """At the level l a sample is its picture and noise of std l."""
    assert_close(endings.grain(endings.drawn(exhibits.fast_sampler)), 0.25, rtol=0.05, atol=0)
    assert endings.grain(endings.drawn(mended.fast_sampler)) < 1e-12
    steps = dpm_solver_2m()
    assert callable(steps) and endings.grid(1) == [20.0] and len(endings.grid(7)) == 7


def test_a_sampler_without_the_step_to_0_is_measured_even_with_one_level():
    def forgetful(denoise, x, levels):
        for level, lower in pairwise(levels):
            x = denoise(x, level) + lower / level * (x - denoise(x, level))
        return x

    assert second.HALL.measured(3, forgetful).startswith("✗ The instrument still objects.")


def test_a_result_that_is_no_number_is_outside():
    def spoiled(denoise, x, levels):
        return mended.fast_sampler(denoise, x, levels) * math.nan

    assert not endings.from_last_guess(spoiled).passes and not endings.not_numbers(spoiled).passes
    assert second.HALL.measured(3, spoiled).startswith("✗ The instrument read NaN")


# The panel, and what is shown.


@EVERY
def test_the_panel_tells_which_instrument_sees_the_mistake_and_moves_its_marks(number):
    exhibit = second.EXHIBITS[number]
    _, (wrong, right_mark), choose, controls = second.instruments(number)
    assert controls["question"].options == tuple(exhibit.offered)
    for question, instrument in exhibit.offered.items():
        sentence = choose(question)
        sees = instrument is exhibit.instrument
        assert sentence.endswith("sees the mistake." if sees else "cannot see the mistake.")
        assert (abs(wrong.get_xdata()[0]) > 1) == sees
        assert abs(right_mark.get_xdata()[0]) <= 1
    assert exhibit.offered[controls["question"].value] is not exhibit.instrument, "gives it away"


@pytest.mark.parametrize(
    ("value", "low", "high", "wanted"),
    [
        (3.0, 2.0, 4.0, 0.0),
        (4.0, 2.0, 4.0, 1.0),
        (0.5, 2.0, 4.0, -2.5),
        (1e9, 0.0, 1.0, 1000.0),
        (0.5, -math.inf, 2.0, 0.25),
        (0, 0, 0, 0.0),
        (2, 0, 0, 1000.0),
        (-2, 0, 0, -1000.0),
        (math.nan, 0.0, 1.0, 1000.0),
    ],
)
def test_where_a_reading_stands_on_the_scale(value, low, high, wanted):
    assert panel.place(museum.Reading("It", value, low, high)) == wanted


def test_what_the_hall_shows(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(second, "say", shown.append)
    monkeypatch.setattr(plotting, "display", lambda data, raw: shown.append(data["text/plain"]))
    second.diagnose(1, "B")
    second.measure(1, mended.noisy_walk)
    second.open_code(1)
    assert shown[0].startswith("✓ Right, it is B") and shown[1].startswith("✓ The instrument")
    assert "def noisy_walk" in shown[2]
    assert " ".join(capsys.readouterr().out.split()) == f"Seen in {second.EXHIBITS[1].seen}."


# An exercise whose answer is a function that makes a function.


def test_an_answer_may_be_a_maker_and_is_used():
    maker = Exercise(
        lambda a: lambda b: a * b,
        lambda generator: [(torch.randn(2, generator=generator), 3.0)],
        {"A plus for a times.": lambda a: lambda b: a + b},
        ("h.",),
        use=lambda make, a, b: None if make(a) is None else make(a)(b),
    )
    said = {
        "✓ Right, on every case tried.": lambda a: lambda b: b * a,
        "✗ Not yet. A plus for a times.": lambda a: lambda b: b + a,
        feedback.NOT_ATTEMPTED: lambda a: None,
    }
    for sentence, answer in said.items():
        assert feedback.verdict(maker, answer, torch.Generator()) == sentence
    assert feedback.verdict(maker, lambda a: a, torch.Generator()).startswith(
        "✗ Not yet. Your function stopped with TypeError"
    )
