"""The head of black, white and a bell between, against an integral and against the known law."""

import pytest
import torch
import torch.nn.functional as F
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.cosine_schedule(1000)
SCALES = torch.tensor([0.999, 0.9, 0.3, 0.01], dtype=torch.float64).view(4, 1, 1, 1)
STDS = (1 - SCALES**2).sqrt()
ANSWER = 1.5 * normal(4, 4, 3, 5)
X_T = SCALES * normal(4, 1, 3, 5, seed=1) + STDS * normal(4, 1, 3, 5, seed=2)


def named(answer: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return p_black, p_white, p_bell, m and s as the docstring words them."""
    a, b, m, c = answer.split(1, 1)
    q = 1 + a.exp() + b.exp()
    return a.exp() / q, b.exp() / q, 1 / q, m, 0.02 + (1 + (c - 1).exp()).log()


def integrated(answer, x_t, scale, std) -> torch.Tensor:
    """Return E[x_0 | x_t], the bell's share by a sum over places 0.001 apart, no formula for it."""
    black, white, bell, m, s = named(answer)
    places = torch.linspace(-40, 40, 80_001, dtype=torch.float64).view(-1, 1, 1, 1, 1)
    over, under = torch.zeros_like(x_t), torch.zeros_like(x_t)
    for x0 in places.split(10_000):
        mass = bell * torch.distributions.Normal(m, s).log_prob(x0).exp() * 0.001
        seen = mass * torch.exp(-(((x_t - scale * x0) / std) ** 2) / 2)
        over, under = over + (x0 * seen).sum(0), under + seen.sum(0)
    for mass, level in ((black, -1), (white, 1)):
        seen = mass * torch.exp(-(((x_t - scale * level) / std) ** 2) / 2)
        over, under = over + level * seen, under + seen
    return over / under


def test_row_76_the_mean_is_that_of_an_integral_over_the_law():
    got = nets.spike_slab_mean(ANSWER, X_T, SCALES, STDS)
    assert_close(got, integrated(ANSWER, X_T, SCALES, STDS), rtol=0, atol=1e-9)


def test_row_76_what_is_left_over_knows_nothing_of_x_t():
    n, rng = 400_000, seeded(3)
    answer = torch.tensor([0.3, -0.4, 0.2, 0.5], dtype=torch.float64).view(1, 4, 1, 1)
    black, white, _, m, s = (z.item() for z in named(answer))
    u = torch.rand(n, generator=rng, dtype=torch.float64)
    x0 = m + s * torch.randn(n, generator=rng, dtype=torch.float64)
    x0 = torch.where(u < black, -1.0, torch.where(u < black + white, 1.0, x0)).double()
    for scale in (0.95, 0.5):
        scale_t = torch.full((1, 1, 1, 1), scale, dtype=torch.float64)
        std = (1 - scale_t**2).sqrt()
        x_t = scale_t.item() * x0 + std.item() * torch.randn(n, generator=rng, dtype=torch.float64)
        rows = answer.expand(1, 4, 1, n)
        left = x0 - nets.spike_slab_mean(rows, x_t.view(1, 1, 1, n), scale_t, std).flatten()
        for of_x_t in (torch.ones_like(x_t), x_t, x_t.sign(), (3 * x_t).sin()):
            assert_mean(left * of_x_t, 0.0)


def test_a_bell_alone_is_shrunk_as_a_gaussian_is():
    answer = ANSWER.clone()
    answer[:, :2] = -1e4
    *_, m, s = named(answer)
    got = nets.spike_slab_mean(answer, X_T, SCALES, STDS)
    precision = 1 / s**2 + SCALES**2 / STDS**2
    assert_close(got, (m / s**2 + SCALES * X_T / STDS**2) / precision)


def test_certain_black_and_certain_white_stay_what_they_are():
    answer = ANSWER.clone()
    answer[:, 0], answer[:, 1] = 1e4, -1e4
    white = answer[:, [1, 0, 2, 3]]
    for certain, level in ((answer, -1.0), (white, 1.0)):
        got = nets.spike_slab_mean(certain, X_T, SCALES, STDS)
        assert_close(got, torch.full_like(X_T, level))


def test_black_and_white_are_treated_alike():
    a, b, m, c = ANSWER.split(1, 1)
    got = nets.spike_slab_mean(torch.cat([b, a, -m, c], 1), -X_T, SCALES, STDS)
    assert_close(got, -nets.spike_slab_mean(ANSWER, X_T, SCALES, STDS))


def test_a_brighter_pixel_is_never_guessed_darker():
    row = torch.linspace(-3, 3, 301, dtype=torch.float64).expand(4, 1, 1, 301)
    guess = nets.spike_slab_mean(ANSWER[:, :, :1, :1].expand(4, 4, 1, 301), row, SCALES, STDS)
    assert (guess.diff() >= -1e-12).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, torch.inf, torch.nan])
@pytest.mark.parametrize("name", ["scale", "std"])
def test_factors_that_no_step_has_are_refused(name, bad):
    given = {"scale": SCALES, "std": STDS} | {name: SCALES.index_fill(0, torch.tensor([1]), bad)}
    with pytest.raises(ValueError, match=f"{name} must hold finite numbers above 0, got"):
        nets.spike_slab_mean(ANSWER, X_T, **given)


@pytest.mark.parametrize("network", [nets.PixelUNet, nets.SpikeSlabUNet, nets.LevelUNet])
def test_a_law_of_pixels_has_no_gain(network):
    with pytest.raises(ValueError, match="gain must be False: Bayes' rule adds x_t, got True"):
        network(dc.cosine_schedule(10), widths=(8,), gain=True)


def test_gradients_are_those_of_finite_differences():
    answer, x_t = ANSWER[:, :, :2, :2].clone(), X_T[:, :, :2, :2].clone()
    given = answer.requires_grad_(), x_t.requires_grad_(), SCALES, STDS
    assert torch.autograd.gradcheck(nets.spike_slab_mean, given)


@pytest.mark.parametrize(
    "dtype, allowed", [(torch.float32, 1e-4), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
def test_other_dtypes_give_their_own_dtype_and_about_the_same_numbers(dtype, allowed):
    given = [z.to(dtype) for z in (ANSWER, X_T, SCALES, STDS)]
    exact = nets.spike_slab_mean(*(z.double() for z in given))
    got = nets.spike_slab_mean(*given)
    assert got.dtype is dtype
    assert_close(got.double(), exact, rtol=0, atol=allowed)


def test_at_the_first_and_the_last_step_float32_holds():
    for schedule in (S, dc.log_snr_schedule(1000), dc.linear_schedule(1000)):
        net = nets.SpikeSlabUNet(schedule, (8,), heads=2, emb_dim=8)
        for t in (1, schedule.T):
            x_t = normal(2, 1, 8, 8, dtype=torch.float32).requires_grad_()
            net(x_t, torch.tensor([t, t])).square().sum().backward()
            assert x_t.grad.isfinite().all()


def test_the_network_reads_what_its_u_net_answers():
    net = nets.SpikeSlabUNet(S, (8,), classes=2, heads=2, emb_dim=8)
    x_t = normal(2, 1, 8, 8, dtype=torch.float32)
    t, y = torch.tensor([1, 800]), torch.tensor([0, 1])
    answer, scale, std = net.pixels(x_t, t, y)
    assert_close(net(x_t, t, y), nets.spike_slab_mean(answer, x_t, scale, std))
    assert_close(scale.double(), S.alpha_bars[t].sqrt().view(2, 1, 1, 1), rtol=1e-6, atol=0)
    assert_close(std.double(), (1 - S.alpha_bars[t]).sqrt().view(2, 1, 1, 1), rtol=1e-6, atol=0)


def test_it_learns_which_pixels_are_black_which_white_and_what_lies_between():
    rows = torch.tensor([-1.0, 1.0, 0.25, -1.0]).view(1, 1, 4, 1)
    x0 = rows.expand(64, 1, 4, 4).contiguous()
    net = nets.SpikeSlabUNet(S, (8,), heads=2, emb_dim=8, seed=1)
    optimizer, rng = torch.optim.Adam(net.parameters(), lr=1e-2), seeded(5)
    for _ in range(150):
        t = dc.draw_t(S, x0, rng)
        x_t = dc.q_sample(S, x0, t, generator=rng)
        loss = F.mse_loss(net(x_t, t), x0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x_T = torch.randn(64, 1, 4, 4, generator=rng)
    eps_model = dc.eps_model_from_x0(S, net)
    *_, last = dc.sample_chain(dc.ddim_step, S, eps_model, x_T, dc.even_taus(1000, 20))
    assert (last.x_t - x0).abs().mean() < 0.1
