"""Guidance by a worse model: what it cancels, against exact models with known errors."""

import math

import pytest
import torch
from oracles import normal
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(50)
MEANS = torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64)
STEPS = torch.tensor([1, 10, 30, 50])


def blurred(extra: float):
    """Return the exact eps_model of data that has `extra` more variance than the right data."""
    return dc.mixture_eps_model(SCHEDULE, dc.mixture(MEANS, 0.1 + extra))


def off(model, x: torch.Tensor, t: torch.Tensor) -> float:
    return (model(x, t) - blurred(0)(x, t)).abs().max().item()


@pytest.mark.parametrize("times", [1.5, 2, 5])
def test_row_75_errors_in_one_direction_cancel_at_the_scale_that_the_row_says(times):
    x, right, error = normal(4, 2), blurred(0), normal(4, 2, seed=2)

    def model(x_t, t):
        return right(x_t, t) + error

    def weak(x_t, t):
        return right(x_t, t) + times * error

    for scale in (0.5, 1, 2, 3):
        rest = (times - scale * (times - 1)) * error
        found = dc.autoguided(model, weak, guidance_scale=scale)(x, STEPS)
        assert_close(found - right(x, STEPS), rest, rtol=1e-9, atol=1e-12)
    best = dc.autoguided(model, weak, guidance_scale=times / (times - 1))
    assert_close(best(x, STEPS), right(x, STEPS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("times", [2, 4])
def test_row_75_of_a_blur_only_the_second_order_is_left(times):
    """Slopes on a log-log line: 1 for the model, 2 when guided by one blurred more."""
    x, steps = normal(4, 2), torch.full((4,), 20)
    slopes = []
    for guided in (False, True):
        errors = []
        for extra in (2e-3, 1e-3):
            model = blurred(extra)
            if guided:
                scale = times / (times - 1)
                model = dc.autoguided(model, blurred(times * extra), guidance_scale=scale)
            errors.append(off(model, x, steps))
        slopes.append(math.log2(errors[0] / errors[1]))
    assert slopes[0] == pytest.approx(1, abs=0.1)
    assert slopes[1] == pytest.approx(2, abs=0.1)


def test_scale_0_is_the_worse_model_and_1_the_model_and_each_is_called_once():
    called = []

    def named(name, value):
        def model(x_t, t):
            called.append(name)
            return torch.full_like(x_t, value)

        return model

    x, model, weak = normal(4, 2), named("model", 3.0), named("weak", 1.0)
    for scale, value, asked in [(0, 1, ["weak"]), (1, 3, ["model"]), (2.0, 5, ["weak", "model"])]:
        called.clear()
        found = dc.autoguided(model, weak, guidance_scale=scale)(x, STEPS)
        assert_close(found, torch.full_like(x, value), rtol=0, atol=0)
        assert called == asked


def test_guiding_v_and_converting_is_converting_and_guiding_eps():
    x, model, weak = normal(4, 2), blurred(0.05), blurred(0.3)
    scale, std = (
        table[STEPS, None].sqrt() for table in (SCHEDULE.alpha_bars, SCHEDULE.marginal_vars)
    )

    def answers_v(eps_model):  # eps = scale v + std x_t, solved for v
        return lambda x_t, t: (eps_model(x_t, t) - std * x_t) / scale

    by_v = dc.autoguided(answers_v(model), answers_v(weak), guidance_scale=3)
    assert_close(
        dc.eps_model_from_v(SCHEDULE, by_v)(x, STEPS),
        dc.autoguided(model, weak, guidance_scale=3)(x, STEPS),
        rtol=1e-9,
        atol=1e-9,
    )


def test_an_answer_of_another_shape_is_refused_by_the_name_of_who_gave_it():
    x = normal(4, 2)
    with pytest.raises(ValueError, match=r"weak\(x_t, t\) must be like x_t"):
        dc.autoguided(blurred(0), lambda x, t: x[:, :1])(x, STEPS)
    with pytest.raises(ValueError, match=r"model\(x_t, t\) must hold finite numbers"):
        dc.autoguided(lambda x, t: x / 0, blurred(0))(x, STEPS)
    with pytest.raises(ValueError, match=r"plain\(x_t, t\) must be like x_t"):
        dc.limited(blurred(0), lambda x, t: x[:, :1], 10, 30)(x, STEPS)


# In a part of the way.


def test_inside_it_is_guided_and_outside_plain_ends_included():
    x, guided, plain = normal(4, 2), blurred(0), blurred(1)
    found = dc.limited(guided, plain, 10, 30)(x, STEPS)
    assert_close(found[1:3], guided(x, STEPS)[1:3], rtol=0, atol=0)
    assert_close(found[[0, 3]], plain(x, STEPS)[[0, 3]], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("t", "name"), [(9, "plain"), (10, "guided"), (30, "guided"), (31, "plain")]
)
@pytest.mark.parametrize("each", [False, True])
def test_only_the_one_that_is_needed_is_called(t, name, each):
    called = []

    def asked(who):
        return lambda x_t, t: called.append(who) or x_t

    x = normal(4, 2)
    times = torch.full((4,), t) if each else t
    assert_close(dc.limited(asked("guided"), asked("plain"), 10, 30)(x, times), x)
    assert called == [name]


def test_a_chain_of_pictures_is_guided_in_the_interval_only(device):
    """Against the same chain with the choice written by hand."""
    x_T = normal(3, 1, 4, 4).to(device)

    def strong(x_t, t):
        return 0.5 * x_t

    def weak(x_t, t):
        return 0.3 * x_t

    both = dc.limited(dc.autoguided(strong, weak, guidance_scale=3.0), strong, 20, 40)

    def by_hand(x_t, t):
        return 0.9 * x_t if 20 <= t[0] <= 40 else 0.5 * x_t

    taus = dc.even_taus(50, 10)
    found, expected = (
        list(dc.sample_chain(dc.ddim_step, SCHEDULE, m, x_T, taus))[-1].x_t for m in (both, by_hand)
    )
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
