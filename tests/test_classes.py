"""Classes of a mixture, and what guidance draws: not the tilted density, but at scales 0 and 1."""

import functools
import math

import pytest
import torch
from oracles import normal, seeded
from scipy import integrate
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

MEANS = torch.tensor([[-1.0], [1.0], [2.0]], dtype=torch.float64)
DATA = dc.mixture(MEANS, torch.tensor([0.25, 0.2, 0.1]), torch.tensor([0.5, 0.2, 0.3]))
LABELS = torch.tensor([0, 1, 1])
GRID = torch.linspace(-7, 7, 4001, dtype=torch.float64)
TWO = dc.mixture(MEANS[:2], 0.25)  # one component a class


def test_a_class_is_the_part_of_the_mixture_with_its_label():
    part = dc.of_class(DATA, LABELS, 1)
    x = normal(9, 1)
    expected = dc.mixture(MEANS[1:], DATA.vars[1:], DATA.weights[1:]).log_prob(x)
    assert_close(part.log_prob(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [0, 1, 10, 30])
def test_the_classifier_is_bayes_rule(t):
    schedule = dc.vp_schedule(30)
    x = 2 * normal(9, 1)
    found = dc.mixture_classifier(schedule, DATA, LABELS)(x, t)
    q = dc.diffuse(schedule, DATA, t)
    parts = torch.distributions.Normal(q.means[:, 0], q.vars.sqrt()).log_prob(x).exp() * q.weights
    expected = torch.stack([parts[:, 0], parts[:, 1:].sum(1)], 1) / parts.sum(1, keepdim=True)
    assert_close(found.exp(), expected, rtol=1e-11, atol=1e-13)


def test_the_gradients_of_all_log_probabilities_average_to_0():
    """sum_y p(y | x) grad log p(y | x) = grad sum_y p(y | x), and t may differ by example."""
    classifier = dc.mixture_classifier(dc.vp_schedule(30), DATA, LABELS)
    x, t = normal(5, 1).requires_grad_(), torch.tensor([3, 30, 1, 3, 7])
    logs = classifier(x, t)
    slopes = [torch.autograd.grad(logs[:, k].sum(), x, retain_graph=True)[0] for k in range(2)]
    total = sum(logs[:, [k]].exp() * slopes[k] for k in range(2))
    assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)
    each = torch.cat([classifier(x[[i]], int(t[i])) for i in range(5)])
    assert_close(logs, each, rtol=1e-12, atol=1e-12)


# The tilted density.


def log_p(x):
    return dc.mixture_classifier(dc.vp_schedule(2), TWO, LABELS[:2])(x, 0)[:, 1]


@functools.cache
def tilted(scale: float) -> torch.Tensor:
    return dc.tilted_density(TWO.log_prob, log_p, scale, GRID)


@pytest.mark.parametrize("scale", [0, 0.5, 1, 2, 3])
def test_row_48_the_tilted_density_by_adaptive_quadrature(scale):
    def value(x):
        joint = [0.5 * math.exp(-2 * (x - m) ** 2) for m in (-1, 1)]
        return sum(joint) * (joint[1] / sum(joint)) ** scale

    whole, _ = integrate.quad(value, -7, 7, epsabs=1e-13, limit=200)
    expected = torch.tensor([value(x) / whole for x in GRID[::200].tolist()], dtype=GRID.dtype)
    assert_close(tilted(scale)[::200], expected, rtol=1e-8, atol=1e-12)


def test_row_48_it_is_the_data_at_0_and_the_class_at_1():
    for scale, of in ((0, TWO), (1, dc.of_class(TWO, LABELS[:2], 1))):
        assert_close(tilted(scale), of.log_prob(GRID[:, None]).exp(), rtol=1e-10, atol=1e-12)


def kolmogorov(x: torch.Tensor, density: torch.Tensor) -> float:
    """The largest distance of the empirical distribution function of x (n, 1) to the density's."""
    below = torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density, GRID)])
    x = x[:, 0].sort().values
    i = torch.searchsorted(GRID, x).clamp(1, len(GRID) - 1)
    share = (x - GRID[i - 1]) / (GRID[i] - GRID[i - 1])
    found = below[i - 1] + share * (below[i] - below[i - 1])
    return (found - (torch.arange(len(x)) + 0.5) / len(x)).abs().max().item()


@functools.cache
def drawn(scale: float, ode: bool) -> torch.Tensor:
    """2 000 guided samples of class 1: by the flow from even quantiles, or by ancestral steps."""
    n, schedule = 2000, dc.vp_schedule(60)
    whole, told = (dc.mixture_eps_model(schedule, d) for d in (TWO, dc.mixture(MEANS[1:2], 0.25)))

    def network(x_t, t, y=None):
        return whole(x_t, t) if y is None else told(x_t, t)

    guided = dc.classifier_free(network, torch.ones(n).long(), guidance_scale=scale)
    quantiles = torch.special.ndtri((torch.arange(n).double() + 0.5) / n)[:, None]
    rng = seeded(1)
    options = {} if ode else {"variances": schedule.betas, "generator": rng}
    x_T = quantiles if ode else torch.randn(n, 1, generator=rng, dtype=torch.float64)
    step = dc.ddim_step if ode else dc.ddpm_step
    *_, last = dc.sample_chain(step, schedule, guided, x_T, **options)
    return last.x_t


@pytest.mark.parametrize("ode", [True, False], ids=["ode", "ancestral"])
@pytest.mark.parametrize("scale", [0, 0.5, 1, 2, 3])
def test_row_48_trap_B46_guidance_draws_the_tilted_density_at_0_and_1_only(scale, ode):
    """Measured: ode 0.01, 0.17, 0.01, 0.31, 0.51; ancestral 0.02, 0.13, 0.02, 0.14, 0.20."""
    distance = kolmogorov(drawn(scale, ode), tilted(scale))
    assert distance < 0.04 if scale in (0, 1) else distance > 0.1, distance


def test_trap_B46_so_it_is_no_law_of_the_model_alone():
    """At 3: mean and std 1.51, 0.3 by the flow, 1.27, 0.44 by ancestral ones, tilted 1.05, 0.46."""
    ode, ancestral = drawn(3, True), drawn(3, False)
    mean = torch.trapezoid(tilted(3) * GRID, GRID).item()
    assert ode.mean() > ancestral.mean() + 0.2 and ancestral.mean() > mean + 0.15
    assert ode.std() < 0.75 * ancestral.std()


# Bad input.


@pytest.mark.parametrize("grid", [GRID[:2500], GRID.flip(0), GRID[:1], GRID[:, None]])
def test_a_grid_that_cuts_off_or_does_not_rise_is_refused(grid):
    with pytest.raises(ValueError, match="grid must"):
        dc.tilted_density(TWO.log_prob, log_p, 1.0, grid)


def test_labels_that_fit_no_component_are_refused():
    for bad in (LABELS[:2], LABELS - 1, LABELS[None]):
        with pytest.raises((ValueError, TypeError), match="labels must"):
            dc.of_class(DATA, bad, 0)
    with pytest.raises(ValueError, match="label must have a component"):
        dc.of_class(DATA, LABELS, 2)
    with pytest.raises(ValueError, match="label must have a component"):
        dc.mixture_classifier(dc.vp_schedule(3), DATA, torch.tensor([0, 2, 2]))
