"""The linear VAE whose answer is known: exact log p, closed-form optimum, KL of every unit."""

import pytest
import torch
from oracles import normal
from torch import Tensor
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

D, K = 8, 3
SCALES = torch.tensor([3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.4, 0.3], dtype=torch.float64)


def rows(n: int = 400) -> Tensor:
    """Return data with another spread in each of D rotated directions."""
    turned = torch.linalg.qr(normal(D, D, seed=7)).Q
    return 1.0 + (normal(n, D) * SCALES) @ turned


def covariance(x: Tensor) -> Tensor:
    return torch.cov(x.T, correction=0)


def log_p(model: dc.PPCA, x: Tensor) -> Tensor:
    """By a full covariance: another way than the package's."""
    cov = model.weight @ model.weight.T + model.var * torch.eye(len(model.mean)).double()
    return torch.distributions.MultivariateNormal(model.mean, cov).log_prob(x)


def trained(vae: nets.LinearVAE, x: Tensor) -> None:
    """Follow the slope of the exact ELBO to its end."""
    weights = [weight for weight in vae.parameters() if weight.requires_grad]
    optimizer = torch.optim.LBFGS(weights, max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -dc.exact_vae_terms(vae, x).elbo.mean()
        value.backward()
        return value

    optimizer.step(loss)


# Row 62: the optimum of a linear VAE, whose ELBO is log p(x).


@pytest.mark.parametrize("decoder_var", [None, 0.1, 1.0, 3.0])
def test_row_62_the_elbo_of_the_optimum_is_log_p_for_every_x(decoder_var):
    x = rows()
    model = dc.probabilistic_pca(x, K, decoder_var=decoder_var)
    vae = dc.optimal_linear_vae(model)
    fresh = torch.cat([x, 5 * normal(20, D, seed=3)])
    gap = log_p(model, fresh) - dc.exact_vae_terms(vae, fresh).elbo.detach()
    assert gap.abs().max() <= 1e-10
    assert_close(model.log_prob(fresh), log_p(model, fresh), rtol=1e-10, atol=1e-10)


def test_row_62_no_other_law_of_this_kind_is_likelier():
    """The slope of the mean log p is 0 in mean, weight and var, and steps away make it less."""
    x = rows()
    model = dc.PPCA(*(part.clone().requires_grad_() for part in dc.probabilistic_pca(x, K)))
    best = log_p(model, x).mean()
    for slope in torch.autograd.grad(best, list(model)):
        assert slope.abs().max() < 1e-10
    for i in range(10):
        steps = [0.1 * normal(1, *part.shape, seed=10 * i + j)[0] for j, part in enumerate(model)]
        moved = [part.detach() + step for part, step in zip(model, steps, strict=True)]
        moved[2] = model.var.detach() * steps[2].exp()
        assert log_p(dc.PPCA(*moved), x).mean() < best


def test_row_62_the_elbo_has_no_slope_there_in_any_weight_of_the_vae():
    x = rows()
    vae = dc.optimal_linear_vae(dc.probabilistic_pca(x, K))
    slopes = torch.autograd.grad(dc.exact_vae_terms(vae, x).elbo.mean(), list(vae.parameters()))
    assert max(slope.abs().max() for slope in slopes) < 1e-10


def test_row_62_a_trained_linear_vae_comes_to_the_same_bound():
    x = rows(200)
    best = log_p(dc.probabilistic_pca(x, K), x).mean()
    vae = nets.LinearVAE(D, K).double()
    trained(vae, x)
    found = dc.exact_vae_terms(vae, x).elbo.mean().detach()
    assert found <= best + 1e-9
    assert_close(found, best, rtol=0, atol=1e-2)


def test_a_weight_whose_columns_are_not_orthogonal_is_refused():
    """Its posterior is no product of single Gaussians."""
    model = dc.PPCA(normal(D), normal(D, K, seed=2), torch.tensor(0.5).double())
    with pytest.raises(ValueError, match=r"model\.weight must have orthogonal columns"):
        dc.optimal_linear_vae(model)


# Row 63: the mean KL of a unit is max(0, ln(lambda / sigma^2) / 2).


@pytest.mark.parametrize("decoder_var", [0.05, 1.0, 3.0, 20.0])
def test_row_63_the_kl_of_the_best_linear_vae_is_half_the_log_of_a_ratio(decoder_var):
    x = rows()
    vae = dc.optimal_linear_vae(dc.probabilistic_pca(x, K, decoder_var=decoder_var))
    found = dc.pca_kl(x, K, decoder_var)
    q = dc.Gaussian(*(part.detach() for part in (vae.encode(x)[0], vae.encode(x)[1].exp())))
    of_units = dc.kl_divergence(q, dc.Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.mean)))
    assert_close(of_units.mean(0), found, rtol=1e-9, atol=1e-12)
    values = torch.linalg.eigvalsh(covariance(x)).flip(0)[:K]
    assert (found > 0).tolist() == (values > decoder_var).tolist()


def test_row_63_a_decoder_noisier_than_the_data_collapses_in_training_too():
    """The variance that mean over pixels and sum over latents stand for: d / 2."""
    x = rows(200) / 5
    weights, counted = {"collapsed": (1 / D, 1.0), "used": (0.5 / 0.05, 1.0)}, {}
    for name, (a, b) in weights.items():
        vae = nets.LinearVAE(D, K).double()
        vae.log_decoder_var.data.fill_(dc.decoder_var_of(a, b)).log_()
        vae.log_decoder_var.requires_grad_(False)
        trained(vae, x)
        kl = dc.exact_vae_terms(vae, x).kl.mean().detach()
        assert_close(kl, dc.pca_kl(x, K, dc.decoder_var_of(a, b)).sum(), rtol=0.01, atol=1e-3)
        counted[name] = dc.active_units(vae, x)
    assert counted == {"collapsed": 0, "used": K}


def test_data_that_varies_in_few_directions_has_no_best_variance():
    flat = normal(50, 2) @ normal(2, D, seed=2)
    with pytest.raises(ValueError, match="x must vary in more than 2 directions"):
        dc.probabilistic_pca(flat, 2)
    assert dc.probabilistic_pca(flat, 2, decoder_var=0.1).var == 0.1
