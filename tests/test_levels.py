"""The head of grey levels, against a sum over all 256, and its bound, against the known law."""

import math

import numpy as np
import pytest
import torch
import train_bits
from oracles import assert_mean, initialised, normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import data, decoders, nets
from diffusion_core.nets import levels

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

L = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
S = dc.log_snr_schedule(1000)
SCALES = torch.tensor([0.999999, 0.9, 0.3, 0.01], dtype=torch.float64).view(4, 1, 1, 1)
STDS = (1 - SCALES**2).sqrt()
ANSWER = 2 * normal(4, 4, 3, 5)


def images(seed: int = 0) -> torch.Tensor:
    """Return grey levels (4, 1, 3, 5), black and white among them."""
    k = torch.randint(0, 256, (4, 1, 3, 5), generator=seeded(seed))
    k[:, :, 0], k[:, :, 1] = 0, 255
    return L[k]


X0 = images()
X_T = SCALES * X0 + STDS * normal(4, 1, 3, 5)


def law(answer: torch.Tensor) -> torch.Tensor:
    """Return p_k (B, 256, H, W) as the docstring words it, with no logarithm."""
    black, white, m, s = answer.split(1, 1)
    curve = torch.cosh((L.view(1, 256, 1, 1) - m) * (1 + s.exp().log1p()) / 2) ** -2 + 1e-5
    share = torch.cat([black, white, torch.zeros_like(black)], 1).exp()
    share = share / share.sum(1, keepdim=True)
    p = share[:, 2:] * curve / curve.sum(1, keepdim=True)
    p[:, :1] += share[:, :1]
    p[:, 255:] += share[:, 1:2]
    return p


def brute_force(answer, x_t, scale, std) -> torch.Tensor:
    """Return P(x_0 = l_k | x_t) (B, 256, H, W) by Bayes' rule over all levels."""
    seen = torch.distributions.Normal(scale * L.view(1, 256, 1, 1), std).log_prob(x_t)
    return (law(answer).log() + seen).softmax(1)


def test_the_law_sums_to_1_and_leaves_no_level_out():
    p = law(ANSWER)
    assert_close(p.sum(1), torch.ones_like(p[:, 0]))
    assert (p > 1e-9).all()


def test_row_44_the_mean_and_the_probability_are_those_of_a_sum_over_all_levels():
    w, known = (
        brute_force(ANSWER, X_T, SCALES, STDS),
        nets.LevelPosterior(ANSWER, X_T, SCALES, STDS),
    )
    expected = (w * L.view(1, 256, 1, 1)).sum(1, keepdim=True)
    assert_close(known.mean, expected, rtol=0, atol=1e-12)
    k = ((X0 + 1) * 255 / 2).round().long()
    expected = w.gather(1, k).log().flatten(1).sum(1)
    assert_close(known.log_prob(X0), expected, rtol=1e-10, atol=1e-10)


def test_the_probabilities_of_all_levels_sum_to_1():
    known = nets.LevelPosterior(ANSWER[:, :, :1, :1], X_T[:, :, :1, :1], SCALES, STDS)
    total = sum(known.log_prob(torch.full_like(X_T[:, :, :1, :1], level)).exp() for level in L)
    assert_close(total, torch.ones_like(total))


def test_gradients_are_those_of_finite_differences_and_of_the_sum_over_all_levels():
    answer, x_t = ANSWER.clone().requires_grad_(), X_T.clone().requires_grad_()

    def both(answer, x_t):
        known = nets.LevelPosterior(answer, x_t, SCALES, STDS)
        return known.mean, known.log_prob(X0)

    some = answer[:2, :, :2, :2], x_t[:2, :, :2, :2]

    def few(answer, x_t):
        known = nets.LevelPosterior(answer, x_t, SCALES[:2], STDS[:2])
        return known.mean, known.log_prob(X0[:2, :, :2, :2])

    assert torch.autograd.gradcheck(few, some)
    weights = normal(*X_T.shape, seed=7)
    mean, _ = both(answer, x_t)
    got = torch.autograd.grad((weights * mean).sum(), (answer, x_t))
    w = brute_force(answer, x_t, SCALES, STDS)
    expected_mean = (w * L.view(1, 256, 1, 1)).sum(1, keepdim=True)
    expected = torch.autograd.grad((weights * expected_mean).sum(), (answer, x_t))
    assert_close(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("rows", [1, 7, 60, 100])
def test_the_rows_taken_at_once_change_nothing(monkeypatch, rows):
    known = nets.LevelPosterior(ANSWER, X_T, SCALES, STDS)
    monkeypatch.setattr(levels, "ROWS", rows)
    assert_close(nets.LevelPosterior(ANSWER, X_T, SCALES, STDS).mean, known.mean)


@pytest.mark.parametrize(
    "dtype, allowed", [(torch.float32, 5e-4), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
)
def test_other_dtypes_give_their_own_dtype_and_about_the_same_numbers(dtype, allowed):
    given = [z.to(dtype) for z in (ANSWER, X_T, SCALES, STDS)]
    given[3].clamp_(min=1e-3)
    exact = nets.LevelPosterior(*(z.double() for z in given))
    known = nets.LevelPosterior(*given)
    assert known.mean.dtype is dtype
    assert_close(known.mean.double(), exact.mean, rtol=0, atol=allowed)


def test_autocast_changes_nothing_in_the_head():
    given = [z.float() for z in (ANSWER, X_T, SCALES, STDS)]
    known = nets.LevelPosterior(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = nets.LevelPosterior(*given)
        assert_close(lowered.mean, known.mean, rtol=0, atol=0)
        assert_close(lowered.log_prob(X0.float()), known.log_prob(X0.float()), rtol=0, atol=0)


class Known(nn.Module):
    """A network that knows the law of each pixel; only the pixel is left to tell more."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, inputs, t, y=None):
        return self.answer.expand(len(inputs), 4, *inputs.shape[2:])


def known_pixel(T: int) -> tuple[nets.LevelUNet, torch.Tensor]:
    """Return a model that is right of one pixel, and the logarithms of that pixel's law."""
    model = nets.LevelUNet(dc.log_snr_schedule(T), widths=(8,), heads=1).double()
    answer = torch.tensor([0.5, -0.5, 0.2, 2.0], dtype=torch.float64).view(1, 4, 1, 1)
    four = model.pixels
    four.unet, four.start = Known(answer), nn.Parameter(torch.zeros(4, 1, 1).double())
    return model, law(answer).log().flatten()


def nats_of_steps(model: nets.LevelUNet, p: torch.Tensor, t: int) -> float:
    """Return E L_{t-1} of one pixel of law p (256,), by Gauss-Hermite quadrature over the noise."""
    z, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(24))
    weights = torch.outer(p, weights / weights.sum())
    s = model.schedule
    x0 = L[:, None].expand(256, 24)
    x_t = s.alpha_bars[t].sqrt() * x0 + s.marginal_vars[t].sqrt() * z
    flat = x_t.reshape(-1, 1, 1, 1)
    known = model.posterior(flat, torch.full((len(flat),), t))
    if t == 1:
        return -(known.log_prob(x0.reshape(-1, 1, 1, 1)).view(256, 24) * weights).sum().item()
    errors = (x0 - known.mean.view(256, 24)).square()
    return ((s.snr[t - 1] - s.snr[t]) / 2 * (errors * weights).sum()).item()


def test_row_44_the_bound_of_a_pixel_of_known_law_is_above_its_entropy_by_little():
    """0 <= bound - entropy <= 0.05 bits: the law told is right, and T = 1 000 is finite."""
    model, log_p = known_pixel(1000)
    p, s = log_p.exp(), model.schedule
    entropy = -(p * log_p).sum().item()
    standard = dc.Gaussian(torch.zeros_like(L[:, None]), torch.ones_like(L[:, None]))
    prior = dc.kl_divergence(dc.q_marginal(s, L[:, None], 1000), standard)
    nats = nats_of_steps(model, p, 1) + (p * prior.flatten()).sum().item()
    for t in range(15, 1001, 27):  # the middle of 27 steps, 2..1000 in all
        nats += 27 * nats_of_steps(model, p, t)
    gap = (nats - entropy) / math.log(2)
    assert 0 < gap < 0.05, gap


@pytest.mark.parametrize("t", [300, 600, 900])
def test_row_44_the_mean_and_the_probabilities_are_those_of_draws_with_such_an_x_t(t):
    """Of pixels drawn by the law and noised, all with about the same x_t, no Bayes is asked."""
    model, log_p = known_pixel(1000)
    k = torch.multinomial(log_p.exp(), 50_000, replacement=True, generator=seeded())
    x0 = L[k].view(-1, 1, 1, 1)
    x_t = dc.q_sample(model.schedule, x0, t, generator=seeded(1))
    bins = nn.functional.one_hot((x_t.flatten().argsort().argsort() * 10 / len(x_t)).long(), 10)
    bins = bins.double()  # by the size of x_t, ten of the same number
    rare = 1e-4  # what happens too seldom to be among so many draws
    with torch.no_grad():
        known = model.posterior(x_t, torch.full((len(x_t),), t))
    assert_mean(bins * (x0 - known.mean).view(-1, 1), torch.zeros(10), bias=rare)
    for level in (-1.0, 1.0):
        expected = known.log_prob(torch.full_like(x0, level)).exp()
        found = (x0.flatten() == level).double()
        assert_mean(bins * (found - expected).view(-1, 1), torch.zeros(10), bias=rare)


def test_row_43_the_loss_is_the_bound_without_its_prior():
    model, _ = known_pixel(50)
    x0 = images().repeat(3000, 1, 1, 1)[:, :, :1, :1]
    eps_model = dc.eps_model_from_x0(model.schedule, model)
    options = {"decoder": model.decoder, "generator": seeded()}
    terms = dc.elbo_terms(model.schedule, eps_model, x0[:400], **options)
    expected = terms.steps.sum(1) + terms.recon
    rng = seeded(1)
    values = [
        dc.bound_loss(model.schedule, model.posterior, x0[:40], generator=rng) for _ in range(400)
    ]
    values = torch.stack(values).detach()
    error = math.sqrt(expected.var().item() / len(expected))
    assert_mean(values, expected.mean().item(), bias=4 * error)


def test_every_example_sees_every_t_in_proportion_to_alpha_bar():
    """Evenly spaced places in a fixed order would give each example its own part of the steps."""
    model, _ = known_pixel(6)
    schedule, x0, rng = model.schedule, images()[:, :, 2:, :1], seeded()
    seen, given = [], model.posterior

    def posterior(x_t, t):
        seen.append(t)
        return given(x_t, t)

    for _ in range(1500):
        dc.bound_loss(schedule, posterior, x0, generator=rng)
    t = torch.stack(seen)  # (1500, 4)
    expected = schedule.alpha_bars[1:] / schedule.alpha_bars[1:].sum()
    for n in range(len(x0)):
        assert_mean(nn.functional.one_hot(t[:, n] - 1, 6)[:, :4], expected[:4])  # the frequent t
    spread = (t <= 2).double().mean(1).var(correction=0)  # evenly spaced: within one of the mean
    assert spread < 1 / 16


def test_row_43_each_step_of_the_loss_is_the_kl_of_the_step():
    """Row by row, with the t that was drawn: no average hides a wrong row."""
    model, _ = known_pixel(12)
    schedule, x0 = model.schedule, images()[:1, :, 2:, :1]
    seen, given = [], model.posterior

    def posterior(x_t, t):
        seen.append((x_t, t))
        return given(x_t, t)

    probs = schedule.alpha_bars[1:] / schedule.alpha_bars[1:].sum()
    for seed in range(60):
        loss = dc.bound_loss(schedule, posterior, x0, generator=seeded(seed)).item()
        x_t, t = seen[-1]
        x0_hat = model(x_t, t)
        if t.item() == 1:
            nats = -model.decoder(x0, None, x_t)
        else:
            q = dc.q_posterior(schedule, x_t, x0, t)
            nats = dc.kl_divergence(q, dc.p_step(schedule, x_t, x0_hat, t)).flatten(1).sum(1)
        assert loss == pytest.approx((nats / probs[t - 1]).item(), rel=1e-8, abs=1e-12)
    assert {t.item() for _, t in seen} >= {1, 2, 5}


def test_a_network_answers_in_range_and_learns_from_the_loss():
    model = initialised(lambda: nets.LevelUNet(S, widths=(8, 16), heads=2))
    x0 = images().float().repeat(2, 1, 2, 2)[:, :, :4, :8]
    before = dc.bound_loss(S, model.posterior, x0, generator=seeded())
    before.backward()
    missing = [name for name, w in model.named_parameters() if w.grad is None]
    assert not missing
    t = torch.full((len(x0),), 500)
    assert model(x0, t).abs().max() <= 1
    options = {"steps": 20, "lr": 1e-2}
    rng = seeded(2)
    batches = (x0 for _ in range(60))
    dc.train(
        model, lambda m, x: dc.bound_loss(S, m.posterior, x, generator=rng), batches, **options
    )
    assert dc.bound_loss(S, model.posterior, x0, generator=seeded()) < before


def test_the_bits_of_images_are_those_of_the_estimate_whatever_is_taken_at_once(monkeypatch):
    model = initialised(lambda: nets.LevelUNet(dc.log_snr_schedule(12), widths=(8,), heads=1))
    x0 = images().float().repeat(2, 1, 1, 1)[:, :, :2, :4].repeat(1, 1, 2, 1)
    whole = train_bits.bits(model, x0, draws=2, few=4)
    monkeypatch.setattr(train_bits, "AT_ONCE", 3)
    assert train_bits.bits(model, x0, draws=2, few=4) == whole
    options = {"decoder": model.decoder, "generator": seeded()}
    eps_model = dc.eps_model_from_x0(model.schedule, model)
    probs = dc.importance(dc.elbo_terms(model.schedule, eps_model, x0[:4], **options))
    estimate = dc.elbo_estimate(model.schedule, eps_model, x0, probs=probs, draws=2, **options)
    got = whole["bits_per_pixel"], whole["std_error"]
    expected = estimate.mean / 16 / math.log(2), estimate.std_error / 16 / math.log(2)
    assert got == pytest.approx(expected, abs=6e-5)
    assert (whole["test_images"], whole["draws"]) == (8, 2)


def test_labels_reach_the_network():
    model = initialised(lambda: nets.LevelUNet(S, widths=(8,), heads=1, classes=3))
    with torch.no_grad():
        for w in model.parameters():
            w.normal_(std=0.3, generator=seeded(w.numel()))
    x_t, t = normal(2, 1, 4, 4, dtype=torch.float32), torch.tensor([300, 300])
    assert model.null_label == 3
    answers = [model(x_t, t, y) for y in (None, torch.tensor([3, 3]), torch.tensor([0, 1]))]
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


def test_the_levels_are_those_of_the_data():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert_close(data.to_signed(grey).flatten().double(), L, rtol=0, atol=1e-7)
    assert decoders.LEVELS == levels.LEVELS == 256


@pytest.mark.parametrize(
    "name, bad",
    [
        ("answer", ANSWER[:, :3]),
        ("answer", ANSWER.long()),
        ("x_t", X_T[:, 0]),
        ("x_t", ANSWER),
        ("scale", SCALES[:2]),
        ("std", STDS.flatten()),
        ("x_t", X_T * math.nan),
        ("answer", ANSWER * math.nan),
    ],
)
def test_bad_input_is_named(name, bad):
    good = {"answer": ANSWER, "x_t": X_T, "scale": SCALES, "std": STDS}
    nets.LevelPosterior(**good)
    with pytest.raises((TypeError, ValueError), match=name):
        nets.LevelPosterior(**good | {name: bad})


@pytest.mark.parametrize("bad", [X0 + 0.001, X0[:2], X0.float(), 2 * X0])
def test_only_images_on_levels_have_a_probability(bad):
    known = nets.LevelPosterior(ANSWER, X_T, SCALES, STDS)
    with pytest.raises((TypeError, ValueError), match="x0"):
        known.log_prob(bad)


def test_log_snr_falls_evenly():
    log_snr = S.snr[1:].log()
    assert_close(log_snr, torch.linspace(13, -9, 1000, dtype=torch.float64), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="T"):
        dc.log_snr_schedule(1)
    with pytest.raises(ValueError, match="highest"):
        dc.log_snr_schedule(10, -9.0, 13.0)
