"""Which end of time is noise: each convention's own field leads to the same samples as ours."""

import pytest
import torch
from oracles import normal
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DATA = dc.mixture(torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64), 0.1, [0.3, 0.7])
FIELD = dc.mixture_velocity(DATA)
EVERY = pytest.mark.parametrize("theirs", dc.CONVENTIONS, ids=lambda c: c.source)


def slopes(theirs, time, h=1e-5):
    """Return the derivatives of their two factors, by central differences."""
    pairs = zip(theirs.factors(time + h), theirs.factors(time - h), strict=True)
    return [(above - below) / (2 * h) for above, below in pairs]


def their_field(theirs):
    """Return E[a' data + b' noise | x] at their time, from our velocity at the same SNR."""

    def drift(x, time):
        a, b = theirs.factors(time)
        ours, u = x / (a + b), FIELD(x / (a + b), b / (a + b))
        x0, eps = ours - b / (a + b) * u, ours + a / (a + b) * u
        of_data, of_noise = slopes(theirs, time)
        return of_data * x0 + of_noise * eps

    return drift


def test_row_51_ours_is_the_first_and_five_others_follow_with_noise_at_either_end():
    assert dc.CONVENTIONS[0].source == "this course"
    assert len(dc.CONVENTIONS) == 6
    assert {theirs.noise_at for theirs in dc.CONVENTIONS} == {0.0, 1.0}
    x0, eps = normal(3, 2), normal(3, 2, seed=2)
    for time in (0.0, 0.3, 1.0):
        a, b = dc.CONVENTIONS[0].factors(time)
        assert_close(dc.straight_path(x0, eps, time), a * x0 + b * eps)


@EVERY
def test_row_51_noise_is_where_the_table_says_and_data_at_the_other_end(theirs):
    noise, data = theirs.factors(theirs.noise_at), theirs.factors(1 - theirs.noise_at)
    assert_close(noise, (0.0, 1.0), rtol=0, atol=1e-15)
    assert_close(data, (1.0, 0.0), rtol=0, atol=1e-15)
    assert theirs.data != theirs.noise


@EVERY
def test_row_51_trap_B63_from_its_noise_to_its_data_each_ends_where_we_end(theirs):
    x = normal(5, 2)
    ours = dc.solve_ode(dc.straight_flow(FIELD).drift, x, 1.0, 0.0, tolerance=1e-8).x
    start, end = theirs.noise_at, 1 - theirs.noise_at
    found = dc.solve_ode(their_field(theirs), x, start, end, tolerance=1e-8).x
    assert_close(found, ours, rtol=0, atol=1e-6)
    assert (x - ours).square().sum(1).mean() > 0.3


def test_row_51_time_turned_is_the_sign_of_the_velocity_turned():
    """For a straight path with noise at 0 the velocity is ours with the other sign."""
    rectified = next(c for c in dc.CONVENTIONS if "rectified" in c.source)
    x, drift = normal(5, 2), their_field(rectified)
    for time in (0.2, 0.7):
        assert_close(drift(x, time), -FIELD(x, 1 - time), rtol=0, atol=1e-8)
