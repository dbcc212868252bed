"""Flow matching against autograd, Monte Carlo, the continuity equation, DDIM and diffusers."""

import itertools
import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DATA = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]], dtype=torch.float64),
    torch.tensor([0.05, 0.1, 0.2]),
    torch.tensor([0.5, 0.3, 0.2]),
)
LINE = dc.mixture(torch.tensor([[-1.0], [1.5]], dtype=torch.float64), [0.1, 0.3], [0.4, 0.6])
FIELD = dc.mixture_velocity(DATA)
FLOW = dc.straight_flow(FIELD)
MEAN = DATA.weights @ DATA.means
TIMES = (0.05, 0.3, 0.6, 0.95)


def network(x, time):
    """A velocity that is no mixture's."""
    return torch.tanh(x.flip(1)) + time.reshape(-1, 1) * x


def log_density(data, x, time):
    """log q(x) on the straight path, by torch.distributions, which knows no path of ours."""
    var = (1 - time) ** 2 * data.vars + time**2
    eye = torch.eye(data.means.shape[1], dtype=torch.float64)
    parts = torch.distributions.MultivariateNormal(
        (1 - time) * data.means, var[:, None, None] * eye
    )
    weights = torch.distributions.Categorical(data.weights)
    return torch.distributions.MixtureSameFamily(weights, parts).log_prob(x)


def last(states):
    *_, end = states
    return end


def even(steps, start=1.0, end=0.0):
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


# The path and its velocity.


def test_row_51_the_velocity_is_the_derivative_of_the_path():
    x0, eps = normal(4, 3), normal(4, 3, seed=2)
    time = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64, requires_grad=True)
    path = dc.straight_path(x0, eps, time)
    found = [torch.autograd.grad(path[:, i].sum(), time, retain_graph=True)[0] for i in range(3)]
    assert_close(dc.velocity_target(x0, eps), torch.stack(found, 1), rtol=1e-14, atol=1e-14)
    assert_close(path[0], x0[0], rtol=0, atol=0)  # data at 0, noise at 1
    assert_close(path[3], eps[3], rtol=0, atol=0)


@pytest.mark.parametrize("schedule", [dc.vp_schedule(50), dc.cosine_schedule(50)], ids=str)
def test_row_51_from_the_velocity_follow_x0_eps_v_and_score_and_back(schedule):
    t = torch.tensor([1, 2, 25, 49, 50])
    x0, eps = normal(5, 3), normal(5, 3, seed=2)
    x_t = dc.q_sample(schedule, x0, t, eps)
    u = dc.velocity_target(x0, eps)
    near = {"rtol": 1e-12, "atol": 1e-12}
    assert_close(dc.x0_from_velocity(schedule, x_t, u, t), x0, **near)
    assert_close(dc.eps_from_velocity(schedule, x_t, u, t), eps, **near)
    score = dc.score_from_eps(schedule, dc.eps_from_velocity(schedule, x_t, u, t), t)
    again = dc.eps_from_score(schedule, score, t)
    assert_close(dc.velocity_target(dc.x0_from_velocity(schedule, x_t, u, t), again), u, **near)
    v = dc.v_target(schedule, x0, eps, t)
    of_v = dc.x0_from_v(schedule, x_t, v, t), dc.eps_from_v(schedule, x_t, v, t)
    assert_close(dc.velocity_target(*of_v), u, **near)


@pytest.mark.parametrize("t", [0, 1, 30, 50])
def test_row_51_x_t_is_on_the_straight_path_up_to_its_scale(t):
    schedule, x0, eps = dc.vp_schedule(50), normal(5, 3), normal(5, 3, seed=2)
    scale, std = schedule.marginal_factors.numbers[t]
    time = dc.straight_times(schedule)[t].item()
    x_t = dc.q_sample(schedule, x0, t, eps)
    assert_close(x_t / (scale + std), dc.straight_path(x0, eps, time), rtol=1e-12, atol=1e-12)


def test_row_51_a_schedule_of_the_straight_paths_snrs():
    times = torch.tensor([0.999, 0.9, 0.5, 0.1, 1e-3], dtype=torch.float64)
    schedule = dc.straight_schedule(times)
    assert_close(schedule.snr[1:].flip(0), ((1 - times) / times) ** 2, rtol=1e-11, atol=0)
    found = dc.straight_times(schedule)
    assert found[0] == 0
    assert_close(found[1:].flip(0), times, rtol=1e-12, atol=0)


# The regression.


@pytest.mark.parametrize("time", [*TIMES, 1.0])
def test_row_52_the_marginal_field_is_the_mean_velocity_given_x(time):
    """What is left over is orthogonal to every function of x: by draws of x_0 and eps."""
    x0, eps = DATA.sample(50_000, generator=seeded()), normal(50_000, 2, seed=2)
    x = (1 - time) * x0 + time * eps
    left = eps - x0 - FIELD(x, time)
    for g in (torch.ones_like(x), x, x.flip(1), torch.tanh(3 * x), (2 * x).sin()):
        assert_mean(left * g, 0.0)


@pytest.mark.parametrize("time", [0.0, *TIMES])
def test_row_52_the_marginal_field_follows_from_the_score_below_time_1(time):
    x = (2 * normal(20, 2)).requires_grad_()
    score = torch.autograd.grad(log_density(DATA, x, time).sum(), x)[0]
    wanted = -(x.detach() + time * score) / (1 - time)
    assert_close(FIELD(x.detach(), time), wanted, rtol=1e-11, atol=1e-11)


def test_row_52_many_times_at_once_and_images_are_as_one_by_one():
    time = torch.tensor([0.3, 1.0, 0.3, 0.05], dtype=torch.float64)
    x = normal(4, 2)
    wanted = torch.cat([FIELD(x[i : i + 1], time[i].item()) for i in range(4)])
    assert_close(FIELD(x, time), wanted, rtol=1e-13, atol=1e-13)
    assert_close(FIELD(x.reshape(4, 1, 2, 1), time).flatten(1), wanted, rtol=1e-13, atol=1e-13)


def test_row_52_the_loss_is_the_distance_from_the_marginal_field_and_a_constant():
    """E|u - v|^2 = E|u* - v|^2 + E|u - u*|^2: the mean of the difference over draws is 0."""
    x0, eps = DATA.sample(40_000, generator=seeded()), normal(40_000, 2, seed=2)
    time = torch.tensor(TIMES, dtype=torch.float64).repeat(10_000)
    x = dc.straight_path(x0, eps, time)
    u, best, guess = eps - x0, FIELD(x, time), network(x, time)
    loss, explicit, constant = (a.square().sum(1) for a in (u - guess, best - guess, u - best))
    assert explicit.mean() > 0.1 and constant.mean() > 0.1
    assert_mean(loss - explicit - constant, 0.0)
    found = dc.flow_loss(network, x0, eps=eps, draw_time=lambda like, generator: time)
    assert_close(found, loss.mean() / 2, rtol=1e-12, atol=0)


def test_row_52_trap_B67_the_noise_that_is_given_is_the_noise_of_the_path():
    """A source that is no N(0, I), and depends on the data: the joint law of (x_0, x)."""
    x0, seen = normal(50, 3), []
    eps = 5 + 2 * x0

    def model(x, time):
        seen.append((x, time))
        return x

    dc.flow_loss(model, x0, eps=eps, generator=seeded())
    ((x, time),) = seen
    assert time.shape == (50,) and time.std() > 0.2
    assert_close(x - x0, time[:, None] * (eps - x0), rtol=1e-12, atol=1e-12)


def test_row_52_without_a_given_noise_it_is_normal_and_apart_from_the_data():
    x0, seen = DATA.sample(20_000, generator=seeded()), []
    dc.flow_loss(lambda x, time: seen.append((x, time)) or x, x0, generator=seeded(3))
    ((x, time),) = seen
    far = time > 0.1
    eps = ((x - (1 - time[:, None]) * x0) / time[:, None])[far]
    assert_mean(eps, 0.0)
    assert_mean(eps.square(), 1.0)
    assert_mean(eps * x0[far], 0.0)


def test_times_are_even_or_those_of_a_logistic_of_a_normal():
    like = torch.zeros(50_000, 2, dtype=torch.float64)
    time = dc.uniform_time(like, seeded())
    assert time.shape == (50_000,) and 0 <= time.min() and time.max() < 1
    assert_mean(time, 0.5)
    assert_mean((time - 0.5) ** 2, 1 / 12)
    logits = dc.logit_normal_time(like, seeded(), mean=0.7, std=0.5).logit()
    assert_mean(logits, 0.7)
    assert_mean((logits - 0.7) ** 2, 0.25)
    assert_mean((logits - 0.7) ** 4, 3 * 0.25**2)


def test_row_52_trap_B66_one_step_from_noise_gives_the_mean_to_everyone():
    x = normal(50, 2)
    end = last(dc.euler_maruyama(FLOW, x, [1.0, 0.0]))
    assert_close(end, MEAN.expand(50, 2), rtol=1e-12, atol=1e-12)


# The flow.


@pytest.mark.parametrize("time", TIMES)
def test_row_53_the_field_and_the_densities_obey_the_continuity_equation(time):
    """d q / dtime + d (q u) / dx = 0 on a grid, by central differences."""
    field, h = dc.mixture_velocity(LINE), 1e-4
    grid = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]

    def density(x, time):
        return log_density(LINE, x, time).exp()

    def flux(x):
        return density(x, time) * field(x, time)[:, 0]

    in_time = (density(grid, time + h) - density(grid, time - h)) / (2 * h)
    in_space = (flux(grid + h) - flux(grid - h)) / (2 * h)
    assert in_time.abs().max() > 0.1
    assert_close(in_time, -in_space, rtol=0, atol=2e-6)


def test_row_53_the_flow_carries_noise_to_data_and_their_densities():
    """At time 1 there is N(0, I), exactly: no gap is left in the likelihood."""
    x0 = DATA.sample(6, generator=seeded())
    prior = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    found = dc.log_likelihood(FLOW, x0, prior.log_prob, tolerance=1e-8)
    assert_close(found.log_prob, log_density(DATA, x0, 0.0), rtol=0, atol=1e-5)
    back = dc.solve_ode(FLOW.drift, found.x_T, 1.0, 0.0, tolerance=1e-8).x
    assert_close(back, x0, rtol=0, atol=1e-6)


def test_row_53_trap_B63_euler_from_noise_reaches_data_and_the_wrong_sign_or_end_does_not():
    x = normal(3000, 2)
    end = last(dc.euler_maruyama(FLOW, x, even(50)))
    likely = log_density(DATA, end, 0.0).mean()
    own = log_density(DATA, DATA.sample(3000, generator=seeded()), 0.0).mean()
    assert abs(likely - own) < 0.15
    flipped = dc.straight_flow(lambda x, time: -FIELD(x, time))
    swapped = dc.straight_flow(lambda x, time: FIELD(x, 1 - time))
    for wrong in (flipped, swapped):
        end = last(dc.euler_maruyama(wrong, x, even(50)))
        assert log_density(DATA, end, 0.0).mean() < own - 0.5


def test_row_53_the_marginal_of_the_flow_serves_the_exact_mixture():
    q, x = dc.mixture_at(FLOW, DATA, 0.3), normal(9, 2)
    assert_close(q.log_prob(x), log_density(DATA, x, 0.3), rtol=1e-11, atol=0)


# Euler's steps are DDIM's.


def states_of_ddim(schedule, eps_model, x_T, taus):
    """Return the states of a chain, each divided by the scale that the straight path lacks."""
    scales, stds = schedule.marginal_factors.table.unbind(1)
    chain = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, taus)
    return [step.x_t / (scales + stds)[step.t] for step in chain]


SCHEDULES = {
    "vp": lambda: dc.vp_schedule(50),
    "cosine": lambda: dc.cosine_schedule(50),
    "straight": lambda: dc.straight_schedule(torch.linspace(0.999, 0.001, 50).double()),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("taus", [[50, 49, 20, 1, 0], [50, 25, 0], [50, 0]], ids=str)
def test_row_54_trap_B64_euler_on_the_straight_path_is_ddim_at_the_same_snrs(make, taus):
    """For a network of any kind; the exact field and the exact eps_model are another pair."""
    schedule = make()
    scale, std = schedule.marginal_factors.numbers[50]
    times, x_T = dc.straight_times(schedule)[taus], normal(6, 2)
    pairs = {
        "network": (network, dc.eps_model_from_velocity(schedule, network)),
        "exact": (FIELD, dc.mixture_eps_model(schedule, DATA)),
    }
    for name, (velocity_model, eps_model) in pairs.items():
        euler = list(
            dc.euler_maruyama(dc.straight_flow(velocity_model), x_T / (scale + std), times)
        )
        ddim = states_of_ddim(schedule, eps_model, x_T, taus)
        assert_close(euler, ddim, rtol=1e-12, atol=1e-12, msg=lambda text, name=name: name + text)


def test_row_54_a_velocity_model_as_an_eps_model_is_the_exact_one():
    schedule = dc.vp_schedule(50)
    exact, wrapped = (
        dc.mixture_eps_model(schedule, DATA),
        dc.eps_model_from_velocity(schedule, FIELD),
    )
    x_t, t = normal(5, 2), torch.tensor([1, 9, 9, 30, 50])
    assert_close(wrapped(x_t, t), exact(x_t, t), rtol=1e-11, atol=1e-11)
    assert_close(wrapped(x_t, 9), exact(x_t, 9), rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
def test_row_54_euler_agrees_with_diffusers_which_has_noise_at_sigma_1():
    theirs = FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=[1.0, 0.7, 0.65, 0.2])
    x0, eps = normal(6, 2, dtype=torch.float32), normal(6, 2, seed=2, dtype=torch.float32)
    noised = theirs.scale_noise(x0, theirs.timesteps[1:2].expand(6), eps)
    assert_close(noised, dc.straight_path(x0, eps, 0.7), rtol=1e-6, atol=1e-6)
    theirs.set_timesteps(sigmas=[1.0, 0.7, 0.65, 0.2])
    ours = dc.euler_maruyama(dc.straight_flow(network), eps, [1.0, 0.7, 0.65, 0.2, 0.0])
    x = eps
    for t, state in zip(theirs.timesteps, ours, strict=True):
        x = theirs.step(network(x, (t / 1000).expand(6)), t, x).prev_sample
        assert_close(state, x, rtol=1e-5, atol=1e-5)


# Heun's steps.


def test_row_55_heun_is_exact_for_a_velocity_that_is_linear_in_time():
    a, b, x = normal(5, 2, seed=2), normal(5, 2, seed=3), normal(5, 2)
    flow = dc.straight_flow(lambda x, time: a + b * time[:, None])
    times = [1.0, 0.6, 0.5, 0.0]
    end = last(dc.euler_maruyama(dc.heun_flow(flow, times), x, times))
    assert_close(end, x - a - b / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, order", [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("spacing", ["even", "uneven"])
def test_row_55_orders_down_to_time_0(name, order, spacing):
    x, errors = normal(20, 2), []
    truth = dc.solve_ode(FLOW.drift, x, 1.0, 0.0, tolerance=1e-9).x
    for steps in (40, 80, 160):
        times = even(steps)
        if spacing == "uneven":  # in turn long and short
            times[1::2] -= 0.4 / steps
        flow = FLOW if name == "euler" else dc.heun_flow(FLOW, times)
        end = last(dc.euler_maruyama(flow, x, times))
        errors.append((end - truth).square().mean().sqrt().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert abs(slopes[-1] - order) < 0.15, slopes


def test_row_55_heun_asks_twice_a_step_and_starts_steps_only_where_it_was_told():
    asked = []

    def model(x, time):
        asked.append(time[0].item())
        return 0.1 * x

    flow = dc.heun_flow(dc.straight_flow(model), [1.0, 0.5, 0.0])
    list(dc.euler_maruyama(flow, normal(3, 2), [1.0, 0.5, 0.0]))
    assert asked == [1.0, 0.5, 0.5, 0.0]
    with pytest.raises(ValueError, match="time must start a step"):
        list(dc.euler_maruyama(flow, normal(3, 2), [1.0, 0.4, 0.0]))


def test_row_55_in_y_and_the_noise_level_it_is_heun_step():
    """One method in two coordinates, so both are kept: only on the line does it reach 0."""
    schedule, x_T, taus = dc.vp_schedule(50), normal(6, 2), [50, 49, 20, 7, 1]
    scales = schedule.alpha_bars.sqrt()
    levels = schedule.snr.rsqrt()
    row = {levels[t].item(): t for t in taus}

    def eps_model(x_t, t):
        return torch.tanh(2 * x_t) + 0.01 * torch.as_tensor(t).reshape(-1, 1)

    def drift(y, level):
        return eps_model(scales[row[level]] * y, row[level])

    along_levels = dc.heun_flow(dc.SDE(drift, lambda y, level: 0.0), levels[taus])
    ours = list(dc.euler_maruyama(along_levels, x_T / scales[50], levels[taus]))
    chain = dc.sample_chain(dc.heun_step, schedule, eps_model, x_T, [*taus, 0])
    theirs = [step.x_t / scales[step.t] for step in chain][:-1]
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# Networks.


def test_a_network_of_steps_is_asked_at_the_nearest_one():
    asked = []
    model = dc.velocity_model_from_steps(lambda x, t: asked.append(t) or x)
    model(normal(3, 2), torch.tensor([0.0, 0.1234, 1.0]))
    model(normal(3, 2), 0.25)
    assert_close(asked, [torch.tensor([0, 123, 1000]), torch.tensor([250] * 3)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_states_keep_dtype_device_and_no_gradients(dtype, device):
    x = normal(4, 1, 2, 1, dtype=dtype).to(device)
    moved = dc.Mixture(*(part.to(dtype).to(device) for part in DATA))
    flow = dc.straight_flow(dc.mixture_velocity(moved))
    end = last(dc.euler_maruyama(flow, x, [1.0, 0.5, 0.0]))
    assert (end.dtype, end.device, end.shape) == (x.dtype, x.device, x.shape)
    for time in (dc.uniform_time(x, seeded()), dc.logit_normal_time(x, seeded())):
        assert (time.dtype, time.device, time.shape) == (x.dtype, x.device, (4,))
