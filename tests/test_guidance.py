"""Guidance against the density that it stands for, by autograd."""

import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(50)
MEANS = torch.tensor([[-1.0, 0.5], [1.0, 0.0], [0.3, -1.2]], dtype=torch.float64)
ALL = dc.mixture(MEANS, 0.1, torch.tensor([0.5, 0.3, 0.2]))


def of_class(k: int) -> dc.Mixture:
    return dc.mixture(MEANS[k : k + 1], 0.1)


def model(x_t, t, y=None):
    """The exact eps_model of three classes, each a Gaussian; without y, of all data."""
    if y is None:
        return dc.mixture_eps_model(SCHEDULE, ALL)(x_t, t)
    each = [dc.mixture_eps_model(SCHEDULE, of_class(k))(x_t, t) for k in range(3)]
    return torch.stack(each)[y, torch.arange(len(y))]


def tilted_eps(x: torch.Tensor, t: int, y: torch.Tensor, scale: float) -> torch.Tensor:
    """-std grad log [q(x) (q(x | y) / q(x))^scale]: what guidance claims to follow."""
    x = x.clone().requires_grad_()
    whole = dc.diffuse(SCHEDULE, ALL, t).log_prob(x)
    each = [dc.diffuse(SCHEDULE, of_class(k), t).log_prob(x) for k in range(3)]
    told = torch.stack(each)[y, torch.arange(len(y))]
    ((1 - scale) * whole + scale * told).sum().backward()
    return -SCHEDULE.marginal_vars[t].sqrt() * x.grad


@pytest.mark.parametrize("scale", [0, 0.5, 1, 2, 7.5])
@pytest.mark.parametrize("t", [1, 20, 50])
def test_guided_eps_is_the_gradient_of_the_tilted_density(scale, t):
    x, y = normal(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    guided = dc.classifier_free(model, y, guidance_scale=scale)
    times = torch.full((6,), t)
    assert_close(guided(x, times), tilted_eps(x, t, y, scale), rtol=1e-9, atol=1e-9)


def test_trap_24_scale_0_ignores_the_label_and_1_is_the_conditional_model():
    x, t, y = normal(6, 2), torch.full((6,), 30), torch.tensor([0, 1, 2, 2, 1, 0])
    assert_close(dc.classifier_free(model, y, guidance_scale=0)(x, t), model(x, t))
    assert_close(dc.classifier_free(model, y)(x, t), model(x, t, y), rtol=0, atol=0)


def test_at_scale_0_and_1_the_network_is_called_once():
    calls = []

    def counted(x_t, t, y=None):
        calls.append(y)
        return x_t

    x, t, y = normal(3, 2), torch.full((3,), 5), torch.tensor([0, 1, 2])
    dc.classifier_free(counted, y)(x, t)
    assert len(calls) == 1 and calls[0] is y
    dc.classifier_free(counted, y, guidance_scale=0)(x, t)
    assert len(calls) == 2 and calls[1] is None
    dc.classifier_free(counted, y, guidance_scale=2)(x, t)
    assert len(calls) == 4


def test_guiding_v_and_converting_is_converting_and_guiding_eps():
    x, t, y = normal(4, 2), torch.tensor([1, 10, 30, 50]), torch.tensor([0, 1, 2, 1])
    scale, noise = (
        table[t, None].sqrt() for table in (SCHEDULE.alpha_bars, SCHEDULE.marginal_vars)
    )

    def v_model(x_t, t, y=None):  # eps = sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t, solved for v
        return (model(x_t, t, y) - noise * x_t) / scale

    guided_v = dc.classifier_free(v_model, y, guidance_scale=3)
    by_v = dc.eps_model_from_v(SCHEDULE, guided_v)(x, t)
    assert_close(by_v, dc.classifier_free(model, y, guidance_scale=3)(x, t), rtol=1e-9, atol=1e-9)


def test_sampling_with_a_label_draws_its_class():
    """The exact conditional model, 2 000 points: mean and variance within 5 standard errors."""
    n, schedule = 2000, dc.vp_schedule(1000)

    def exact(x_t, t, y):
        return dc.mixture_eps_model(schedule, of_class(int(y[0])))(x_t, t)

    eps_model = dc.classifier_free(exact, torch.full((n,), 2))
    options = {"eta": 1.0, "generator": seeded(3)}
    *_, last = dc.sample_chain(
        dc.ddim_step, schedule, eps_model, normal(n, 2, seed=2), dc.even_taus(1000, 500), **options
    )
    assert ((last.x_t.mean(0) - MEANS[2]).abs() < 5 * (0.1 / n) ** 0.5).all()
    assert ((last.x_t.var(0) - 0.1).abs() < 5 * 0.1 * (2 / n) ** 0.5 + 0.002).all()  # 500 steps


@pytest.mark.parametrize("scale", [-1, -1e-9, float("nan")])
def test_a_bad_scale_is_refused(scale):
    with pytest.raises(ValueError, match="guidance_scale must be at least 0"):
        dc.classifier_free(model, torch.tensor([0]), guidance_scale=scale)


def test_labels_are_dropped_as_often_as_asked_and_no_other_way(device):
    n = 20_000
    y = (torch.arange(n) % 10).to(device)
    kept = dc.drop_labels(y, 10, 0.3, generator=seeded())
    dropped = kept == 10
    assert kept.device == y.device and kept.dtype == y.dtype
    assert torch.equal(kept[~dropped], y[~dropped])
    assert abs(dropped.double().mean().item() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    assert torch.equal(y, (torch.arange(n) % 10).to(device)), "the labels given are left alone"
    assert torch.equal(dc.drop_labels(y, 10, 0.0, generator=seeded()), y)
    assert (dc.drop_labels(y, 10, 1.0, generator=seeded()) == 10).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_bad_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        dc.drop_labels(torch.tensor([0]), 10, share)


# A classifier's gradient.

LABELS = torch.arange(3)
WHOLE = dc.mixture_eps_model(SCHEDULE, ALL)
CLASSIFIER = dc.mixture_classifier(SCHEDULE, ALL, LABELS)
Y6 = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("t", [1, 20, 50])
def test_row_45_trap_B47_at_scale_1_the_classifier_makes_the_eps_model_of_the_class(t):
    x = normal(6, 2)
    guided = dc.classifier_guided(SCHEDULE, WHOLE, dc.label_log_prob(CLASSIFIER, Y6))
    assert_close(guided(x, t), model(x, torch.full((6,), t), Y6), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0, 0.5, 3.0])
def test_row_45_classifier_guidance_is_classifier_free_guidance_where_both_are_exact(scale):
    x, t = normal(6, 2), torch.tensor([1, 7, 20, 33, 49, 50])
    log_p = dc.label_log_prob(CLASSIFIER, Y6)
    by_gradient = dc.classifier_guided(SCHEDULE, WHOLE, log_p, guidance_scale=scale)(x, t)
    told = torch.cat([model(x[[i]], t[[i]], Y6[[i]]) for i in range(6)])
    untold = WHOLE(x, t)
    expected = untold + scale * (told - untold)
    assert_close(by_gradient, expected, rtol=1e-11, atol=1e-12)


def test_trap_B47_a_logit_alone_pulls_elsewhere():
    """Its gradient is that of log p(x | y), if the logits are those of the joint density."""
    x = normal(6, 2)

    def joint(x_t, t):
        parts = [dc.diffuse(SCHEDULE, of_class(k), 20).log_prob(x_t) for k in range(3)]
        return torch.stack(parts, 1) + ALL.weights.log()

    right = dc.classifier_guided(SCHEDULE, WHOLE, dc.label_log_prob(joint, Y6))(x, 20)
    expected = dc.classifier_guided(SCHEDULE, WHOLE, dc.label_log_prob(CLASSIFIER, Y6))(x, 20)
    assert_close(right, expected, rtol=1e-11, atol=1e-12)
    logit = dc.classifier_guided(SCHEDULE, WHOLE, lambda x, t: joint(x, t)[range(6), Y6])(x, 20)
    assert (logit - right).abs().max() > 0.3


def test_the_guided_model_keeps_gradients_where_they_are_asked_for():
    x = normal(6, 2).requires_grad_()
    guided = dc.classifier_guided(SCHEDULE, WHOLE, dc.label_log_prob(CLASSIFIER, Y6))
    (slope,) = torch.autograd.grad(guided(x, 20).sum(), x)
    (expected,) = torch.autograd.grad(model(x, torch.full((6,), 20), Y6).sum(), x)
    assert_close(slope, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert not guided(x.detach(), 20).requires_grad


# Both published scales.


@pytest.mark.parametrize("strength", [-1, -0.25, 0, 0.5, 4])
def test_row_47_trap_B45_the_form_with_1_plus_w_and_the_form_with_s_are_one(strength):
    x, t = normal(6, 2), torch.full((6,), 20)
    paper = (1 + strength) * model(x, t, Y6) - strength * model(x, t)
    scale = dc.scale_from_strength(strength)
    assert_close(
        dc.classifier_free(model, Y6, guidance_scale=scale)(x, t), paper, rtol=1e-12, atol=1e-12
    )
    assert dc.strength_from_scale(scale) == strength


@pytest.mark.parametrize("bad", [-1.5, float("nan"), float("inf"), "1", None])
def test_a_bad_strength_is_refused(bad):
    with pytest.raises(ValueError, match="strength must be a number"):
        dc.scale_from_strength(bad)
    with pytest.raises(ValueError, match="guidance_scale must be at least 0"):
        dc.strength_from_scale(bad)
