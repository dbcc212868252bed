"""The second hall: only the right instrument sees an exhibit, and none objects to right code."""

import inspect
import math
import re
import runpy
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from diffusion_core.flow import mixture_velocity, straight_flow
from diffusion_core.grids import geometric_levels, schedule_from_noise_levels
from diffusion_core.likelihood import solve_ode
from diffusion_core.samplers import ddpm_step, sample_chain
from diffusion_core.sde import euler_maruyama
from diffusion_core.solvers import dpm_solver_2m
from diffusion_core.step_wrappers import pasted, resampled
from diffusion_lab import exercises, feedback, museum, plotting
from diffusion_lab.exercises import Exercise
from diffusion_lab.museum import panel, second
from diffusion_lab.museum.hall import repeatable
from diffusion_lab.museum.readings import quiet
from diffusion_lab.museum.second import (
    controls,
    endings,
    exhibits,
    fillings,
    flows,
    mended,
    races,
    ranks,
    scales,
    tilts,
    walks,
)

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
        second.HALL.named(1, "Z")
        == f"✗ Not yet. Names are letters, A to {max(second.NAMES)}; yours is Z."
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


def test_the_guess_and_the_answer_for_pairs_are_those_of_the_joint_gaussian():
    """Tweedie: E[x_0 | x] = x + level^2 grad log N(x; 0, C + level^2 I); C is conditioned."""
    x = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64).requires_grad_()
    noisy = fillings.COV + 0.7**2 * torch.eye(2, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(torch.zeros_like(x), noisy)
    (slope,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    assert_close(fillings.denoise(x, 0.7), x + 0.7**2 * slope)
    precision = torch.linalg.inv(fillings.COV)
    assert_close(fillings.STD, precision[1, 1].item() ** -0.5)
    assert_close(fillings.LINK, (-precision[0, 1] / precision[1, 1]).item())


def test_inpainting_is_as_loose_or_as_tight_as_that_of_the_package():
    schedule = quiet(lambda: schedule_from_noise_levels(geometric_levels(8.0, 0.05, 40)))
    known = torch.tensor([True, False])
    x0 = torch.full((2000, 2), fillings.KNOWN, dtype=torch.float64)
    rng = torch.Generator().manual_seed(9)

    def eps_model(x_t, t):
        level = schedule.snr[int(torch.as_tensor(t).flatten()[0])].item() ** -0.5
        y = x_t * (1 + level**2) ** 0.5
        return (y - fillings.denoise(y, level)) / level

    pasting = pasted(partial(ddpm_step, generator=rng), x0, known, generator=rng)
    again = resampled(pasting, fillings.ROUNDS, generator=rng)
    for ours, step in ((exhibits.filled, pasting), (mended.filled, again)):
        x_T = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        *_, last = sample_chain(step, schedule, eps_model, x_T)
        found, x = fillings.drawn(ours)[:, 1], last.x_t[:, 1]
        assert abs(found.mean() - x.mean()) < 5 * (x.var() / 750) ** 0.5
        assert_close(found.std(), x.std(), rtol=0.1, atol=0)


def test_pairs_with_the_known_numbers_of_the_data_are_the_data_for_right_code_alone():
    def link(x):
        return torch.corrcoef(x.T)[0, 1].item()

    y = fillings.data()[:, 0]
    assert_close(link(fillings.data()), fillings.LINK, rtol=0.02, atol=0)
    assert_close(link(fillings.drawn(mended.filled, y)), fillings.LINK, rtol=0.03, atol=0)
    assert link(fillings.drawn(exhibits.filled, y)) < 0.8


def test_rejection_meets_the_moments_of_the_tilted_law_and_the_flow_does_not():
    for w in (1.0, 3.0, 8.0):
        density, grid = tilts.exact(w), tilts.GRID
        mean = torch.trapezoid(grid * density, grid)
        std = torch.trapezoid((grid - mean) ** 2 * density, grid) ** 0.5
        kept = tilts.drawn(mended.tilted, w)
        assert abs(kept.mean() - mean) < 4 * std / len(kept) ** 0.5
        assert_close(kept.std(), std, rtol=0.06, atol=0)
        off = (tilts.drawn(exhibits.tilted, w).mean() - mean).item()
        assert abs(off) < 0.03 if w == 1 else off > 0.4
    middle = tilts.drawn(exhibits.tilted, 8.0).median()  # N(1, 1/4) has 3 % beyond it
    assert_close(middle.item(), 1.95, rtol=0, atol=0.02)
    assert_close(1 - torch.special.ndtr(2 * (middle - 1)).item(), 0.03, rtol=0.1, atol=0)


def test_the_steps_of_exhibit_5_are_not_its_mistake():
    """A solver of the same flow, to a small tolerance, leaves the data as it does."""

    def drift(x, level):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logs = tilts.log_prob(x[:, 0], level) + 3 * tilts.log_p(x[:, 0], level)
            return -level * torch.autograd.grad(logs.sum(), x)[0]

    u = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    x = torch.linspace(0, 2, 25, dtype=torch.float64)
    start = (x + 10 * torch.special.ndtri(u))[:, None]
    solved = solve_ode(drift, start, 10.0, 0.02, tolerance=1e-6).x[:, 0]
    found = exhibits.tilted(tilts.log_prob, tilts.log_p, 3.0, x, u)
    assert_close(found, solved, rtol=0, atol=0.06)


def test_a_distance_of_laws_is_that_of_kolmogorov():
    """Of one number it is the larger of the shares on its two sides."""
    below = torch.cumulative_trapezoid(tilts.exact(3.0), tilts.GRID)
    middle = tilts.GRID[1:][(below - 0.7).abs().argmin()]
    assert_close(tilts.distance(middle[None], 3.0), 0.7, rtol=0, atol=0.005)


def test_a_base_in_train_moves_its_averages_by_a_tenth_with_each_batch():
    found = controls.after(exhibits.train_control)
    first, second = found.model.base[:2], found.model.base[2]
    mean = found.before["2.running_mean"].clone()
    for x, _, _ in controls.batches():
        mean += 0.1 * (first(x).mean(0) - mean)
    assert_close(second.running_mean, mean.detach())
    assert second.num_batches_tracked == found.before["2.num_batches_tracked"] + controls.BATCHES


def test_a_base_answers_as_before_after_right_code_alone():
    x = torch.linspace(-2, 2, 101, dtype=torch.float64)[:, None]
    before = controls.untrained().base(x)
    assert (before - controls.wave(x)).abs().max() < 0.1
    assert torch.equal(controls.after(mended.train_control).model.base(x), before)
    moved = controls.after(exhibits.train_control).model.base(x) - before
    assert moved.square().mean().sqrt() > 0.2


def test_one_scale_is_right_on_average_and_each_channel_sees_another_schedule():
    """With the variance v_c s^2 the share of z in z_t is bar v s^2 / (bar v s^2 + 1 - bar)."""
    powers = scales.STDS.square()
    for alpha_bar in (0.9, 0.5, 0.1):
        for scaled, seen in (
            (exhibits.noisy_latents, powers / powers.mean()),
            (mended.noisy_latents, 1 + 0 * powers),
        ):
            wanted = alpha_bar * seen / (alpha_bar * seen + 1 - alpha_bar)
            assert_close(scales.kept(scaled, alpha_bar), wanted, rtol=0, atol=0.03)


def test_at_the_same_levels_a_flow_and_ddim_are_one_and_the_package_agrees():
    flow, ddim = races.drawn(mended.race, 7)
    assert_close(flow, ddim, rtol=0, atol=1e-12)
    by_package = straight_flow(mixture_velocity(races.DATA))
    times = torch.linspace(1, 0, 8).tolist()
    rng = torch.Generator().manual_seed(0)
    eps = torch.randn(races.POINTS, 2, generator=rng, dtype=torch.float64)
    *_, last = euler_maruyama(by_package, eps, times)
    assert_close(flow, last, rtol=0, atol=1e-6)
    assert not torch.allclose(*races.drawn(exhibits.race, 7), atol=0.1)


def test_own_noise_divides_a_variance_by_the_ranks_and_shared_noise_does_not():
    """Var = V/W + (1 - 1/W) C: with x ~ N(0, 1) and shared noise C is that of eps^2 / √2, and eps.

    A gradient is -2 times a mean over 8 numbers: V = 4 (3/2) / 8 and 4 / 8, C = 4 (2/2) / 8 and
    4 / 8, averaged over the two weights: 0.625 and 0.5.
    """
    for world in (1, 2, 8):
        own, same = (ranks.spread(f, world) for f in (mended.mean_gradient, exhibits.mean_gradient))
        assert_close(own, 0.625 / world, rtol=0.15, atol=0)
        assert_close(same, 0.625 / world + (1 - 1 / world) * 0.5, rtol=0.15, atol=0)


# The panel, and what is shown.


@EVERY
def test_the_panel_tells_which_instrument_sees_the_mistake_and_moves_its_marks(number):
    exhibit = second.EXHIBITS[number]
    _, (wrong, right_mark, said), choose, controls = second.instruments(number)
    assert sorted(controls["question"].options) == sorted(exhibit.offered)
    for question, instrument in exhibit.offered.items():
        sentence = choose(question)
        sees = instrument is exhibit.instrument
        assert sentence.endswith("sees the mistake." if sees else "cannot see the mistake.")
        assert (abs(wrong.get_xdata()[0]) > 1) == sees
        assert abs(right_mark.get_xdata()[0]) <= 1
        assert sentence.startswith(f"{said.get_text()}: ")
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
    monkeypatch.setattr(museum.hall, "say", shown.append)
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
