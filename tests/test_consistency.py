"""The consistency model: its boundary to the bit, and its loss against a Gaussian's closed form."""

import itertools
import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULES = {
    "vp": dc.vp_schedule(50),
    "levels": dc.schedule_from_noise_levels(dc.geometric_levels(80.0, 0.3, 20)),
}
EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def wild(x_t, t):
    return 1e6 * torch.tanh(x_t) + t.reshape(-1, *[1] * (x_t.ndim - 1))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("data_std", [0.5, 1.0])
def test_row_58_traps_B72_and_B73_at_the_lowest_level_it_is_the_identity_to_the_bit(
    schedule, dtype, data_std
):
    """Whatever the network answers, and however high that level is."""
    x_1 = normal(5, 1, 2, 2, dtype=dtype)
    model = dc.consistency_model(schedule, wild, data_std=data_std)
    y = x_1 / schedule.alpha_bars[1].sqrt().to(dtype)
    assert torch.equal(model(x_1, torch.ones(5, dtype=torch.int64)), y)
    assert not torch.allclose(model(x_1, torch.full((5,), 2)), y)


def factors(schedule, t, data_std):
    """Return c_skip and c_out at t, by a network that answers 0, then 1."""
    ones = torch.ones(1, 1, dtype=torch.float64)
    scale = schedule.alpha_bars[t].sqrt()
    answers = [
        dc.consistency_model(schedule, lambda x, t, v=v: v * x, data_std=data_std)(scale * ones, t)
        for v in (0.0, 1.0)
    ]
    skip, both = (answer.item() for answer in answers)
    return skip, (both - skip) / scale.item()


@pytest.mark.parametrize("data_std", [0.5, 1.0])
def test_row_58_far_above_the_lowest_level_the_network_has_a_target_of_variance_1(data_std):
    """(x_0 - c_skip y) / c_out for data of this std: and no other c_skip asks so little of it."""
    schedule = dc.schedule_from_noise_levels(dc.geometric_levels(80.0, 1e-9, 12))
    for t in range(7, 13):
        level = schedule.snr[t].rsqrt().item()
        skip, out = factors(schedule, t, data_std)

        def left(c, level=level):
            return (1 - c) ** 2 * data_std**2 + c**2 * level**2

        assert abs(left(skip) / out**2 - 1) < 1e-4
        assert left(skip) < min(left(skip * 1.1), left(skip / 1.1))


@EVERY
def test_row_58_the_factors_go_on_from_the_boundary_without_a_jump(schedule):
    found = [factors(schedule, t, 1.0) for t in range(1, schedule.T + 1)]
    skips, outs = (torch.tensor(part, dtype=torch.float64) for part in zip(*found, strict=True))
    assert skips[0] == 1 and abs(outs[0]) < 1e-15
    assert (skips.diff() < 0).all() and (outs.diff() > 0).all() and outs[-1] < 1


def test_one_step_from_noise_is_the_estimate_at_the_highest_level():
    """As an x0_model it fits the seam: the step of a sampler to 0 returns it."""
    schedule = SCHEDULES["vp"]
    model = dc.consistency_model(schedule, lambda x_t, t: torch.tanh(x_t))
    x_T = normal(6, 2)
    step = dc.ddim_step(schedule, dc.eps_model_from_x0(schedule, model), x_T, 50, 0)
    assert_close(step.x_t, model(x_T, 50), rtol=1e-9, atol=1e-9)


# The loss, on a Gaussian, whose paths are known: y - M is proportional to sqrt(STD^2 + level^2).

M, STD = 0.7, 0.5
BELL = dc.mixture(torch.tensor([[M, M]], dtype=torch.float64), STD**2)
DATA = BELL.sample(4000, generator=seeded())


def levels_of(schedule):
    return schedule.snr.rsqrt()


def exact(schedule):
    """The end of a Gaussian's path at the level of row 1, in closed form."""
    widths = (STD**2 + levels_of(schedule) ** 2).sqrt()

    def x0_model(x_t, t):
        t = torch.as_tensor(t)
        y = x_t / schedule.alpha_bars[t].sqrt().reshape(-1, 1)
        return M + (widths[1] / widths[t]).reshape(-1, 1) * (y - M)

    return x0_model


def loss_of(schedule, x0_model, x0=DATA, **options):
    return dc.consistency_loss(schedule, x0_model, x0, generator=seeded(3), **options)


def geometric(T):
    return dc.schedule_from_noise_levels(dc.geometric_levels(10.0, 0.1, T))


def taught(T):
    schedule = geometric(T)
    return schedule, dc.mixture_eps_model(schedule, BELL)


def test_58_the_exact_function_has_no_loss_but_what_heun_leaves_in_a_step():
    """Heun errs by h^3 in a step, so the loss falls like h^6: no other error is in it."""
    losses = []
    for T in (21, 41, 81):
        schedule, eps_model = taught(T)
        model = exact(schedule)
        assert_close(model(DATA[:9], 1), DATA[:9] / schedule.alpha_bars[1].sqrt())
        losses.append(loss_of(schedule, model, eps_model=eps_model).item())
        nearby = loss_of(
            schedule, lambda x, t, m=model: m(x, t) + 0.01 * t[:, None], eps_model=eps_model
        )
        assert_close(nearby, torch.tensor(1e-4).double(), rtol=0.2, atol=0)
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(losses)]
    assert losses[-1] < 1e-10 and all(abs(slope - 6) < 0.5 for slope in slopes), slopes


def test_58_the_state_that_is_compared_is_heuns_and_one_step_earlier():
    schedule, eps_model = taught(12)
    seen = []
    loss_of(schedule, lambda x, t: seen.append((x, t)) or x, DATA[:60], eps_model=eps_model)
    (x_t, t), (x_s, s) = seen
    assert torch.equal(s, t - 1) and t.unique().tolist() == list(range(2, 13))
    for i in range(60):
        row = slice(i, i + 1)
        wanted = dc.heun_step(schedule, eps_model, x_t[row], t[i].item(), s[i].item()).x_t
        assert_close(x_s[row], wanted, rtol=1e-10, atol=1e-10)


def test_58_without_a_teacher_the_state_is_of_the_same_noise_and_eulers_on_average():
    """So no function of x_t can tell the two apart on average."""
    schedule, eps_model = taught(12)
    seen = []
    loss_of(schedule, lambda x, t: seen.append((x, t)) or x)
    (x_t, t), (x_s, s) = seen
    rng = seeded(3)
    torch.randint(2, 13, (len(DATA),), generator=rng)
    eps = dc.standard_normal(DATA, rng)
    assert_close(x_t, dc.q_sample(schedule, DATA, t, eps), rtol=0, atol=0)
    assert_close(x_s, dc.q_sample(schedule, DATA, s, eps), rtol=0, atol=0)
    keep, levels = schedule.alpha_bars.sqrt(), levels_of(schedule)
    step = (levels[s] - levels[t])[:, None] * eps_model(x_t, t)
    euler = keep[s][:, None] * (x_t / keep[t][:, None] + step)
    for g in (torch.ones_like(x_t), x_t, x_t.flip(1), torch.tanh(3 * x_t)):
        assert_mean((x_s - euler) * g, 0.0)


def test_58_trap_B73_every_constant_has_no_loss_and_the_boundary_rules_it_out():
    schedule, eps_model = taught(12)

    def constant(x, t):
        return torch.full_like(x, 7.0)

    assert loss_of(schedule, constant, eps_model=eps_model) == 0
    assert loss_of(schedule, constant) == 0
    bounded = dc.consistency_model(schedule, constant)
    assert loss_of(schedule, bounded, eps_model=eps_model) > 0.1


def test_58_no_gradient_reaches_the_target_and_an_average_may_be_it():
    schedule, eps_model = taught(12)
    a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def model(x, t):
        return a * x

    def frozen(x, t):
        return 0.5 * x

    grads = []
    for target_model in (None, frozen):
        loss = loss_of(schedule, model, eps_model=eps_model, target_model=target_model)
        grads.append(torch.autograd.grad(loss, a)[0])
    assert grads[0] != 0
    assert_close(grads[0], grads[1], rtol=0, atol=0)
    other = loss_of(schedule, model, target_model=lambda x, t: x + 100)
    assert other > 9e3


def test_the_loss_of_images_is_that_of_their_pixels():
    schedule, x0 = SCHEDULES["vp"], normal(30, 4)

    def shrink(x, t):
        return 0.1 * x

    flat = loss_of(schedule, shrink, x0, eps_model=shrink)
    assert_close(loss_of(schedule, shrink, x0.reshape(30, 1, 2, 2), eps_model=shrink), flat)


def test_a_schedule_of_one_step_has_nothing_to_compare():
    with pytest.raises(ValueError, match="schedule must have T of at least 2, got 1"):
        dc.consistency_loss(dc.constant_schedule(1, 0.999), wild, DATA)


BAD = ["none", "shape", "dtype", "NaN"]


@pytest.mark.parametrize("role", ["x0_model", "eps_model", "target_model"])
@pytest.mark.parametrize("answer", [None, DATA[:3], DATA.float(), DATA * math.nan], ids=BAD)
def test_what_a_model_answers_is_looked_at(role, answer):
    models = {"x0_model": wild, role: lambda x, t: answer}
    with pytest.raises((ValueError, TypeError), match=rf"{role}\(x_., .\)"):
        loss_of(SCHEDULES["vp"], models.pop("x0_model"), **models)
