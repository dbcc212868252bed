# %% [markdown]
# # 12 · Must diffusion work on pixels?
#
# A digit has 784 pixels. Many large diffusion models do not work on pixels. A second network writes each picture down in fewer numbers, diffusion learns to write such notes, and the second network draws them. This lesson builds both, and measures what is saved and what is lost.
#
# **At the end you can**
# - say in nats what a VAE pays for, and see in advance which loss will collapse;
# - scale latents, and say what goes wrong without;
# - diffuse in latents with the schedule, samplers and guidance that you know;
# - weigh cost against quality.
#
# **You need** lessons 04, 06, 09 and 10. **Time**: about 110 minutes.

# %%
from copy import deepcopy
from functools import cache, partial

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, nets, pretrained

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# The shipped **autoencoder** writes a digit down as 8 numbers (*channels*) at each of 4 × 4 places: 128 in all, the **latents** $z$. From these it draws the digit again.
#
# Mix two digits, half and half. In pixels that is a double exposure. And if you mix their latents, and draw the mixture?

# %%
vae, _ = pretrained.load("vae")
test = data.images("test")
real, real_labels = data.to_signed(test.x[:2000]), test.labels[:2000]
first, second = torch.tensor([(real_labels == k).nonzero()[:2, 0].tolist() for k in range(10)]).T
ends = real[first], real[second]  # ten digits, and ten others
notes = [dc.to_latents(vae, x, generator=rng) for x in ends]
fig, axes = lab.figure(4, width=9.5, height=2.6)
mixed = [lab.draw_images(ax, ends[0][:1], 1) for ax in axes]
for ax, name in zip(axes, ("one", "pixels mixed", "latents mixed", "the other"), strict=True):
    ax.set_title(name)
if test.note:
    fig.supxlabel(test.note, fontsize="small", wrap=True)


def mix(one, other, share):
    """Show two digits, and between them a share of the way in pixels and in latents."""
    a = share / 10
    pixels = torch.lerp(ends[0][one], ends[1][other], a)
    between = torch.lerp(notes[0][one], notes[1][other], a)[None]
    shown = (ends[0][one], pixels, dc.from_latents(vae, between)[0], ends[1][other])
    for panel, picture in zip(mixed, shown, strict=True):
        panel.set_data(lab.image_grid(picture[None], 1))
    return f"{share} of 10 parts of the way from a {one} to a {other}."


# %% [markdown]
# Move the share, then the digits:

# %%
digit = list(range(10))
controls = {
    "one": lab.choice("one", digit, 3),
    "other": lab.choice("the other", digit, 7),
    "share": lab.slider("share", 0, 10, 5),
}
lab.Explorer(fig, mixed, mix, controls, play="share")

# %% [markdown]
# Mixed latents make strokes, and no double exposure, but the middle is often no digit, either. So the autoencoder can write digits down and read them back. It does not know *which notes are digits*. That is a density, and densities are what diffusion learns.
#
# ## 2. What a VAE pays for
#
# A **variational autoencoder** (VAE) makes a density of such a pair. Draw $z \sim N(0, I)$; draw the picture from $p(x\mid z) = N(\text{decode}(z), \sigma^2 I)$. The **encoder** guesses which $z$ was behind a picture: $q(z\mid x) = N(\mu, \mathrm{diag}\,\sigma_q^2)$, where $\mu$ and $\ln \sigma_q^2$ are what it answers for $x$. Lesson 04 had $T$ hidden states; here is one:
#
# $$\log p(x) \;\ge\; \underbrace{\mathbb E_q \log p(x\mid z)}_{\text{reconstruction}} - \underbrace{\mathrm{KL}\big(q(z\mid x)\,\|\,N(0, I)\big)}_{\text{what the latents say}} = \text{ELBO}. \tag{59}$$
#
# What is missing is $\mathrm{KL}(q(z\mid x)\,\|\,p(z\mid x))$: the bound is met where the encoder guesses right. The second term is the price of the notes in **nats per image**. A latent with $q = N(0, 1)$ for every picture costs 0, and says nothing.
#
# For Gaussians the price is known, by (15). For each of the $k$ latents it is $\tfrac12(\mu_i^2 + \sigma_{q,i}^2 - 1 - \ln \sigma_{q,i}^2)$.
#
# **Exercise 1. Write it.** `my_kl(mean, log_var)` returns the KL in nats per image, shape (B,). Both arguments are (B, k) or (B, C, H, W); `log_var` is $\ln\sigma_q^2$.


# %%
# STARTER
def my_kl(mean, log_var):
    return None  # your lines here


# SOLUTION
def my_kl(mean, log_var):
    each = (mean**2 + log_var.exp() - 1 - log_var) / 2
    return each.flatten(1).sum(1)


# %%
# lab.hint("12.1")
lab.check("12.1", my_kl)

# %% [markdown]
# The package has both terms. `vae.log_decoder_var` is $\ln\sigma^2$, a learned number:

# %%
lab.show_source(dc.vae_terms)
mean, log_var = vae.encode(real[:5])
q = torch.distributions.Normal(mean, (log_var / 2).exp())
prior = torch.distributions.Normal(0.0, 1.0)
by_torch = torch.distributions.kl_divergence(q, prior).flatten(1).sum(1)
terms = dc.vae_terms(vae, real[:5], generator=rng)
torch.testing.assert_close(terms.kl, by_torch, rtol=1e-4, atol=1e-3)
print("the package's KL = that of torch.distributions, for five digits")

# %% [markdown]
# And $\sigma^2$? Each pixel pays $\tfrac12\ln(2\pi\sigma^2) + (x-\hat x)^2/2\sigma^2$, where $\hat x = \text{decode}(z)$. Set the derivative with respect to $\sigma^2$ to 0: over all $d$ pixels,
#
# $$\text{the best } \sigma^2 = \tfrac1d\,\mathbb E|x-\hat x|^2 = \mathrm{MSE}, \qquad\text{and then}\quad -\mathbb E\log p(x\mid z) = \tfrac d2\big[\ln(2\pi\,\mathrm{MSE}) + 1\big]. \tag{60}$$
#
# ## 3. Five ways to add it up
#
# Much code adds a squared error and a KL, each as a sum or a mean, with a factor in front. Written with sums, divided by $b$, and compared with $|x-\hat x|^2/2\sigma^2 + \mathrm{KL}$:
#
# $$a\,|x-\hat x|^2 + b\,\mathrm{KL} \quad\text{is } b \text{ times } -\text{ELBO, up to a constant, for the decoder with}\quad \sigma^2 = \frac{b}{2a}. \tag{61}$$
#
# So every such loss *is* an ELBO. Of which decoder?
#
# | $d = 196$ pixels, $k = 8$ latents | $a$ | $b$ | $\sigma^2$ |
# |---|---|---|---|
# | mean over pixels, sum over latents | $1/d$ | 1 | 98 |
# | mean over pixels, mean over latents | $1/d$ | $1/k$ | 12.25 |
# | half the sum, sum ("$\sigma = 1$") | $\tfrac12$ | 1 | 1 |
# | mean over pixels, sum times $10^{-6}$ | $1/d$ | $10^{-6}$ | 0.000098 |
# | the ELBO itself | | | learned |
#
# **Predict**: the same network is trained with each of the five. For which will the latents say nothing, at a KL of 0?
#
# ## 4. A VAE whose answer is known
#
# Let both halves be linear: $\text{decode}(z) = Wz + m$. Then $x = Wz + m + \sigma\epsilon$ is a sum of Gaussians, so $p(x) = N(m,\, WW^\top + \sigma^2I)$, and nothing is unknown. Let the covariance of the data have the eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$ in the directions $u_1, u_2, \dots$ The best decoder (**probabilistic PCA**) has as its columns, for $i \le k$,
#
# $$w_i = \sqrt{\max(\lambda_i - \sigma^2,\,0)}\;u_i, \qquad q(z\mid x) = N\big(M^{-1}W^\top(x-m),\ \sigma^2M^{-1}\big), \quad M = W^\top W + \sigma^2I. \tag{62}$$
#
# Of the first $k$ directions, those get a latent in which the data vary more than the decoder's noise. This $q$ *is* $p(z\mid x)$. So the ELBO must meet $\log p(x)$ at every $x$. Digits of 14 × 14 pixels (means of 2 × 2), eight latents; the best $\sigma^2$ is the mean of the other $\lambda_i$:


# %%
def halved(x):
    """Return images (N, 28, 28) as rows of 196 numbers in [-1, 1]."""
    return nn.functional.avg_pool2d(data.to_signed(x), 2).flatten(1)


train = data.images("train")
small, small_test = halved(train.x[:20_000]), halved(test.x[:2000])
pca = dc.probabilistic_pca(small.double(), 8)
exact_vae = dc.optimal_linear_vae(pca)
log_p = pca.log_prob(small_test.double())
gap = log_p - dc.exact_vae_terms(exact_vae, small_test.double()).elbo
assert gap.abs().max() < 1e-10
print("ELBO = log p(x) to 1e-10 nats, for every test digit")

# %% [markdown]
# Now the same VAE, trained: `dc.vae_loss` draws one $z$ for each picture and returns $-$ELBO. How near does it come?

# %%
learner, curve = nets.LinearVAE(196, 8), []
loss = partial(dc.vae_loss, generator=rng)
batches = data.minibatches(small, 256, generator=rng)
for _ in range(lab.up_to(10)):
    curve.append(dc.exact_vae_terms(learner, small_test).elbo.mean().item())
    history = dc.train(learner, loss, batches, steps=100, lr=1e-2)
curve.append(dc.exact_vae_terms(learner, small_test).elbo.mean().item())
fig, (ax,) = lab.figure(width=6.5, height=3)
ax.plot(torch.arange(len(curve)) * 100, curve, "o-", color=lab.BLUE, label="trained")
ax.axhline(log_p.mean(), color=lab.BLACK, ls=":", label="exact log p, the best")
ax.set(xlabel="steps of training", ylabel="nats per test image", ylim=(-350, 0))
ax.legend(loc="lower right")
lab.show(fig, "The ELBO of a linear VAE rises in training towards the exact log-likelihood.")
lab.claim("nats short of the best", log_p.mean() - curve[-1], at_most=10, history=history)

# %% [markdown]
# What does a latent cost at the best? Put (62) into the price: the mean over the data is
#
# $$\overline{\mathrm{KL}}_i = \max\big(0,\ \tfrac12\ln(\lambda_i/\sigma^2)\big) \text{ nats}. \tag{63}$$
#
# On the left the eigenvalues of the digits: directions above $\sigma^2$ get a latent. On the right ten digits, and below them what the best linear VAE of this $\sigma^2$ draws again.

# %%
spectrum = torch.linalg.eigvalsh(small.double().T.cov()).flip(0)
variances = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
redrawn, prices = {}, {}
for noise_var in variances:
    best = dc.probabilistic_pca(small.double(), 32, decoder_var=noise_var)
    redrawn[noise_var] = dc.optimal_linear_vae(best)(small_test[:10].double()).float()
    prices[noise_var] = dc.pca_kl(small, 32, noise_var)
fig, axes = lab.figure(2, width=9.5, height=3, width_ratios=[3, 4])
axes[0].semilogy(range(1, 33), spectrum[:32], "o", ms=4, color=lab.BLACK)
(level,) = axes[0].plot([1, 32], [1, 1], color=lab.RED, ls="--", label=r"$\sigma^2$")
axes[0].set(xlabel="direction", ylabel="eigenvalue", ylim=(0.005, 200))
axes[0].legend(loc="upper right")
view = lab.draw_images(axes[1], small_test[:20].view(-1, 1, 14, 14), 10)
said = axes[1].text(0, -3, " ", va="bottom")

# %% [markdown]
# Move $\sigma^2$, and **find the smallest at which it has nothing to say**:


# %%
def decode_with(noise_var):
    """Show reconstructions of the best linear VAE with 32 latents for a decoder's variance."""
    pair = torch.cat([small_test[:10], redrawn[noise_var]])
    view.set_data(lab.image_grid(pair.view(-1, 1, 14, 14), 10))
    level.set_ydata([noise_var, noise_var])
    used, kl = (prices[noise_var] > 0).sum(), prices[noise_var].sum()
    said.set_text(f"{used} of 32 latents used, {kl:.1f} nats")
    return f"decoder variance {noise_var:g}: a latent is used where the eigenvalue is larger."


control = {"noise_var": lab.choice("decoder variance", variances, 1.0)}
lab.Explorer(fig, [level, view, said], decode_with, control)

# %% [markdown]
# Above the largest eigenvalue (about 4.9 here) every digit becomes the same grey blur, at a price of exactly 0. This is **collapse**. It is no failure of the optimiser: it *is* the optimum.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: why half a logarithm
#
# The columns $w_i$ are orthogonal, of squared length $\lambda_i - \sigma^2$, so $M$ is diagonal with entries $\lambda_i$. By (62) the variance of latent $i$ is $\sigma^2/\lambda_i$, for every picture. Its mean is $w_i^\top(x-m)/\lambda_i$; over the data that has the mean square $(\lambda_i-\sigma^2)\lambda_i/\lambda_i^2 = 1 - \sigma^2/\lambda_i$. The two add up to 1, so of $\tfrac12(\mu_i^2+\sigma_{q,i}^2-1-\ln \sigma_{q,i}^2)$ the logarithm alone is left. And by the way: **over the data $\mathbb Ez_i^2 = 1$**, as the prior wants it. Section 6 comes back to that.

# %%
price_of_all = dc.exact_vae_terms(exact_vae, small.double()).kl.mean()
by_formula = dc.pca_kl(small.double(), 8, pca.var.item())
torch.testing.assert_close(price_of_all, by_formula.sum(), rtol=1e-9, atol=0)
mean, log_var = exact_vae.encode(small.double())
size = dc.second_moments(mean) + log_var.exp().mean(0)
torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-9, atol=0)
print("mean KL by the sum over digits = by (63); E z^2 = 1 in each latent")

# %% [markdown]
# ## 5. The five, trained
#
# Now a network that is not linear, and the five losses of section 3. **Predict once more.**


# %%
class SmallVAE(nn.Module):
    """A VAE of rows of 196 pixels with k latents: two layers each way."""

    def __init__(self, k, width=256):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(196, width), nn.SiLU(), nn.Linear(width, 2 * k))
        last = nn.Linear(width, 196), nn.Tanh()
        self.decoder = nn.Sequential(nn.Linear(k, width), nn.SiLU(), *last)
        self.log_decoder_var = nn.Parameter(torch.tensor(-2.0))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def decode(self, z):
        return self.decoder(z)


# %% [markdown]
# Five short trainings from the same weights:

# %%
d, k = 196, 8
weights = {
    "mean, sum": (1 / d, 1.0),
    "mean, mean": (1 / d, 1 / k),
    "half sum, sum": (0.5, 1.0),
    "mean, sum / 1e6": (1 / d, 1e-6),
    "ELBO": None,
}
five, runs = {}, {}
for name, pair in weights.items():
    torch.manual_seed(0)
    five[name] = SmallVAE(k)
    loss = partial(dc.vae_loss, generator=rng)
    if pair is not None:
        a, b = pair
        loss = partial(dc.weighted_vae_loss, error_weight=a, kl_weight=b, generator=rng)
        print(f"{name:16} sigma^2 = {dc.decoder_var_of(a, b):g}")
    batches = data.minibatches(small, 128, generator=rng)
    runs[name] = dc.train(five[name], loss, batches, steps=600, lr=4e-3)

# %% [markdown]
# To compare them in nats, each gets the decoder variance that suits it best, by (60). Above: test digits; below them reconstructions. Right: what the decoder makes of $z \sim N(0, I)$.

# %%
fig, axes = lab.figure(2, 5, width=9.5, height=5.8)
price, best_elbo = {}, {}
drawn_z = torch.randn(20, k, generator=rng)
for pair, (name, net) in zip(axes.reshape(5, 2), five.items(), strict=True):
    with torch.no_grad():
        price[name] = dc.vae_terms(net, small_test, generator=rng).kl.mean().item()
        mean, log_var = net.encode(small_test)
        again = net.decode(dc.Gaussian(mean, log_var.exp()).sample(generator=rng))
        mse = (again - small_test).square().mean()
        best_elbo[name] = (-d / 2 * ((2 * torch.pi * mse).log() + 1)).item() - price[name]
        rows = torch.cat([small_test[:10], again[:10]])
        lab.draw_images(pair[0], rows.view(-1, 1, 14, 14), 10)
        lab.draw_images(pair[1], net.decode(drawn_z).view(-1, 1, 14, 14), 10)
    used = dc.active_units(net, small_test)
    pair[0].set_ylabel(name, rotation=0, ha="right", va="center")
    pair[0].set_title(f"KL {price[name]:.2f} nats, {used} of {k} latents used")
    pair[1].set_title(f"best ELBO {best_elbo[name]:.0f} nats")
lab.show(fig, "Five reductions: digits and their reconstructions; right, draws from the prior.")
for name in ("mean, sum", "mean, mean"):
    lab.claim(f"{name}: KL, nats", price[name], at_most=0.1, history=runs[name], digits=test)
for name in ("half sum, sum", "mean, sum / 1e6", "ELBO"):
    lab.claim(f"{name}: KL, nats", price[name], at_least=1, history=runs[name], digits=test)
gains = [best_elbo["ELBO"] - best_elbo[name] for name in weights if name != "ELBO"]
lab.claim("nats by which the ELBO's own network leads", min(gains), above=10, history=runs["ELBO"])

# %% [markdown]
# The first two collapse, as the linear theory suggests for $\sigma^2$ above 4.9. No error is raised, and the loss falls. With $\sigma^2 = 1$ four to five nats are left, and a blur. The fourth pays some 60 nats, and next to nothing keeps its latents near $N(0, I)$: many draws from there are strokes in grey noise. Large latent diffusion models use that on purpose, as diffusion shall learn where the latents are. But then their size can be anything.
#
# ## 6. The size of the latents
#
# From here on the shipped VAE, of 28 × 28 pixels. Its loss counts the KL to a quarter. By (61) that is the ELBO of a decoder with a quarter of the variance: longer notes, sharper pictures. Diffusion adds noise of variance 1, so its data should be of size 1, too. The factor is measured on training data, for each channel $c$:
#
# $$s_c = \frac{1}{\sqrt{\mathbb E z_c^2}}, \qquad \mathbb E z_c^2 = \mathbb E\mu_c^2 + \mathbb E\sigma_{q,c}^2, \tag{64}$$
#
# with the encoder's means and variances. Diffusion is trained on *samples* $z$, so their noise counts.
#
# **Exercise 2. Measure it.** `my_scale(mean, log_var)` returns the factors, shape (C,). The arguments are (B, C, H, W) or (B, C). The mean runs over pictures and places.


# %%
# STARTER
def my_scale(mean, log_var):
    return None  # your lines here


# SOLUTION
def my_scale(mean, log_var):
    squares = (mean**2 + log_var.exp()).transpose(0, 1).flatten(1)
    return squares.mean(1) ** -0.5


# %%
# lab.hint("12.2")
lab.check("12.2", my_scale)

# %% [markdown]
# `dc.measure_latent_scale` found it on training digits. It is stored with the weights. `to_latents` multiplies, `from_latents` divides. On test digits each channel should have $\mathbb Ez^2 = 1$:

# %%
every_test = data.to_signed(test.x[: lab.up_to(10_000)])
latents = dc.to_latents(vae, every_test, generator=rng)
moments = dc.second_moments(latents)
five_scales = {}
for name, net in five.items():
    with torch.no_grad():
        mean, log_var = net.encode(small_test)
    five_scales[name] = dc.second_moments(dc.Gaussian(mean, log_var.exp()).sample(generator=rng))
fig, axes = lab.figure(2, width=9.5, height=3)
axes[0].bar(range(1, 9), moments, color=lab.BLUE)
axes[0].axhline(1, color=lab.BLACK, ls=":")
axes[0].set(xlabel="channel", ylabel="$E z^2$", title="shipped VAE, scaled, on test digits")
for (name, values), mark in zip(five_scales.items(), "osD^x", strict=True):
    axes[1].semilogy(range(1, k + 1), values, mark, label=name)
axes[1].axhline(1, color=lab.BLACK, ls=":")
axes[1].set(xlabel="latent", ylabel="$E z^2$", title="the five of section 5, not scaled")
axes[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
lab.show(fig, "Second moments: of the scaled latents near 1, of the five networks from 1 to 14.")
worst = (moments - 1).abs().max()
lab.claim("largest distance of a second moment from 1", worst, at_most=0.05, digits=test)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a sample, or the mean?
#
# Many programs encode to the mean $\mu$, and leave the noise out. Reconstructions become a little better. But the decoder was trained on samples, and means are smaller, by (64): a diffusion that is trained on means must hit a thinner target. Left: the mean squared errors. Right: $\mathbb Ez^2$ over all channels, $z$ scaled by the shipped factors.

# %%
with torch.no_grad():
    mean, log_var = vae.encode(real)
kinds = {"mean": mean, "sample": dc.Gaussian(mean, log_var.exp()).sample(generator=rng)}
factor = vae.latent_scale[:, None, None]
fig, axes = lab.figure(2, width=6, height=2.4)
errors = {}
for i, (name, z) in enumerate(kinds.items()):
    errors[name] = (dc.from_latents(vae, factor * z) - real).square().mean()
    axes[0].bar(name, errors[name], color=(lab.BLUE, lab.ORANGE)[i])
    axes[1].bar(name, (factor * z).square().mean(), color=(lab.BLUE, lab.ORANGE)[i])
axes[0].set_ylabel("mean squared error")
axes[1].set_ylabel("$E z^2$")
lab.show(fig, "Error of reconstructions from means and from samples, and the size of both.")
lab.claim(
    "error from samples / from means", errors["sample"] / errors["mean"], above=1, digits=test
)

# %% [markdown]
# ### What breaks: another VAE's number
#
# With $s\,z$ for data, $x_t = \sqrt{\bar\alpha_t}\,s\,z + \sqrt{1-\bar\alpha_t}\,\epsilon$ has $s$ times the signal, so $s^2$ times the SNR, at every $t$:
#
# $$\log\mathrm{SNR}_t \;\to\; \log\mathrm{SNR}_t + 2\ln s. \tag{65}$$
#
# So, but for the size of $x_t$, a wrong scale *is* another schedule. Many projects multiply their latents by 0.18215, because a well-known model does. That number was measured on *that* model's VAE. **Predict**: our scaled latents are multiplied by it all the same, and diffused. At which $t$ of 1000 is a digit lost? And if they are five times too large?

# %%
schedule = dc.cosine_schedule(1000)
scales = [0.05, 0.18215, 0.5, 1.0, 2.0, 5.0]
opinion, _ = pretrained.load("judge")
crowd = lab.up_to(100, least=10)
sent, truth = latents[:crowd], real_labels[:crowd]
blur = torch.randn(sent.shape, generator=rng)


@cache
def noisy_pictures(s, t):
    """Return pictures of s times the latents, with noise of step t, at size 1 again."""
    x_t = dc.q_sample(schedule, s * sent, torch.full((crowd,), t), blur)
    size = (s**2 * schedule.alpha_bars[t] + schedule.marginal_vars[t]).sqrt().item()
    return dc.from_latents(vae, x_t / size)


hundreds = list(range(100, 1001, 100))
readable = {
    s: [judge.as_asked(opinion, noisy_pictures(s, t), truth) for t in hundreds] for s in scales
}

# %% [markdown]
# Left: log SNR. Middle: the share of noisy latents that the judge (lesson 06) still reads rightly when they are decoded. Right: ten of them.

# %%
fig, axes = lab.figure(3, width=11, height=2.8, width_ratios=[3, 3, 4])
ts = torch.arange(1, 1001)
log_snr = schedule.snr[ts].log()
axes[0].plot(ts, log_snr, color=lab.BLACK, ls=":", label="s = 1")
(moved,) = axes[0].plot(ts, log_snr, color=lab.RED, label="yours")
axes[0].set(xlabel="t", ylabel="log SNR", ylim=(-16, 14))
axes[1].plot(hundreds, readable[1.0], color=lab.BLACK, ls=":")
(share,) = axes[1].plot(hundreds, readable[1.0], color=lab.RED)
axes[1].set(xlabel="t", ylabel="read rightly", ylim=(0, 1.05))
spots = [ax.plot([500], [0], "o", color=lab.RED)[0] for ax in axes[:2]]
shown = lab.draw_images(axes[2], noisy_pictures(1.0, 500)[:10], 5)
legend = axes[0].legend(loc="upper right")

# %% [markdown]
# Move $s$ and $t$:


# %%
def shift(s, t):
    """Show what is left at step t of latents that are s times too large."""
    moved.set_ydata(log_snr + 2 * torch.tensor(s).log())
    share.set_ydata(readable[s])
    here = (log_snr[t - 1] + 2 * torch.tensor(s).log()).item()
    spots[0].set_data([t], [here])
    spots[1].set_data([t], [readable[s][hundreds.index(t)]])
    shown.set_data(lab.image_grid(noisy_pictures(s, t)[:10], 5))
    return f"s = {s:g}, t = {t}: log SNR {here:.4f}, moved by {here - log_snr[t - 1]:.4f}."


controls = {
    "s": lab.choice("latents times s", scales, 0.18215),
    "t": lab.slider("t", 100, 1000, 300, 100),
}
lab.Explorer(fig, [moved, share, *spots, shown], shift, controls, play="t")

# %% [markdown]
# At the right size a digit is lost at about $t = 800$. Times 0.18215 it is lost at 300: for most $t$ a network would be trained on little but noise. Times 5 it is still read at 800: all is decided in the last 200. Neither raises an error. `dc.scaled_schedule` is the schedule that $z$ really sees:

# %%
for s in (0.18215, 5.0):
    seen = dc.scaled_schedule(schedule, s)
    moves = (seen.snr[1:1000] / schedule.snr[1:1000]).log()
    torch.testing.assert_close(moves, torch.full_like(moves, s).log() * 2, rtol=1e-9, atol=1e-9)
    z, eps, t = sent[:5].double(), blur[:5].double(), torch.full((5,), 300)
    size = (s**2 * schedule.alpha_bars[300] + schedule.marginal_vars[300]).sqrt()
    same = dc.q_sample(seen, z, t, eps), dc.q_sample(schedule, s * z, t, eps) / size
    torch.testing.assert_close(*same, rtol=1e-9, atol=1e-9)
    print(f"s = {s:g}: log SNR moved by {moves[0]:.4f} at every t, the same x_t")

# %% [markdown]
# ## 7. Diffusion, as you know it
#
# What must change for latents? The data is (B, 8, 4, 4) in the place of (B, 1, 28, 28). **Predict**: which of these must be new: the schedule, the loss, the sampler, guidance, clipping?

# %%
networks = {
    "U-Net": pretrained.load("latent_unet")[0],
    "transformer": pretrained.load("latent_dit")[0],
}
calls = 10
steps_down = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, calls))
labels = torch.arange(20) % 10
noise = torch.randn(20, 8, 4, 4, generator=rng.manual_seed(1))


def latents_by(network, w):
    """Return the latents from noise to the end, and those expected at each of them."""
    v_model = dc.classifier_free(network, labels, guidance_scale=w)
    guess = dc.eps_model_from_v(schedule, v_model)
    chain = list(dc.sample_chain(dc.dpm_solver_2m(), schedule, guess, noise, steps_down))
    states = [noise, *(step.x_t for step in chain)]
    return states, [*(step.x0_hat for step in chain), chain[-1].x_t]


# %% [markdown]
# Only the clipping of $\hat x_0$ to $[-1, 1]$ is gone, as latents have no walls. The shipped U-Net is the class of lesson 06 with 8 channels in and out. It was trained by `dc.v_loss` on `to_latents` of the training digits, told the digit nine times in ten.
#
# The second network is a **transformer**. Its tokens are the 16 places: a linear layer makes 56 numbers of the 8, and adds 56 learned ones that say which place it is. A layer of attention mixes the tokens (lesson 06 has one), a small MLP works on each, and this is repeated. Each block gets six vectors from the embedding $c$ (here no channel) of $t$ and label, three for the attention and three for the MLP: $b$ and $a$ (not those of (61)) shift and scale what goes in, and $g$ **gates** what comes out:
#
# $$h \;\to\; h + g(c)\cdot F\big(\mathrm{norm}(h)\,(1 + a(c)) + b(c)\big), \qquad g = a = b = 0 \text{ at the start.} \tag{66}$$
#
# Here $h$ is what a token holds, $F$ is the attention or the MLP, and $\mathrm{norm}$ brings the numbers of each token to mean 0 and variance 1.
#
# So a new block hands $h$ through: *adaLN-zero*. The network is called as the U-Net is, `network(x_t, t, y)`, so it fits all losses and samplers.

# %%
lab.show_source(nets.dit._Block.forward)
fresh = pretrained.latent_dit()
x = torch.randn(4, 8, 4, 4, generator=rng)
assert not fresh(x, torch.tensor([1, 10, 100, 1000])).any()
tokens, told = torch.randn(4, 16, 56, generator=rng), torch.randn(4, 32, generator=rng)
assert all(torch.equal(block(tokens, told), tokens) for block in fresh.blocks)
print("a new transformer answers 0, and each of its blocks changes nothing")

# %% [markdown]
# Choose a network and a scale of guidance, then walk from noise to digits. Drawn is what the VAE makes of $x_t$, and of the $\hat x_0$ expected at the end. Why does noise look like *strokes* here?

# %%
walks = {
    (name, w): latents_by(network, w)
    for name, network in networks.items()
    for w in (0.0, 1.0, 2.0, 4.0)
}
fig, axes = lab.figure(1, 2, width=8, height=3)
panels = [lab.draw_images(ax, real[:20], 10) for ax in axes]
axes[0].set_title("on the way, decoded")
axes[1].set_title("expected at the end, decoded")


def denoise_latents(network, w, done):
    """Show twenty digits after a part of the way."""
    for panel, states in zip(panels, walks[network, w], strict=True):
        pictures = dc.from_latents(vae, states[done])
        panel.set_data(lab.image_grid(pictures, 10))
    return f"{network}, guidance scale {w:g}, {done} of 10 parts of the way done."


controls = {
    "network": lab.choice("network", list(networks)),
    "w": lab.choice("guidance scale w", [0.0, 1.0, 2.0, 4.0], 2.0),
    "done": lab.slider("parts of the way", 0, 10, 5),
}
lab.Explorer(fig, panels, denoise_latents, controls, play="done")

# %% [markdown]
# The decoder was trained to draw strokes, whatever it is given. Where pixels show noise as noise, latents show it as a wrong drawing.
#
# ## 8. What is saved, and what is lost
#
# The cost here: a step of training with 16 examples, in turn, the least of three. `pixels` is the network of lesson 06; its stem folds 2 × 2 pixels into channels. `pixels, no stem` is without that. Beside it the multiplications of one call, on any machine, those of the attention too.

# %%
patch_1 = nets.UNet(widths=(48, 128), patch=1, classes=10, scale_shift=True)
rivals = {"pixels": pretrained.load("mnist")[0], "pixels, no stem": patch_1, **networks}
inputs = {name: sent[:16] if name in networks else real[:16] for name in rivals}
work, seconds = {}, {name: [] for name in rivals}
plain_attention = partial(sdpa_kernel, SDPBackend.MATH)  # whose products the counter sees
for name, network in rivals.items():
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain_attention():
        network(inputs[name][:1], torch.ones(1).long())
    work[name] = counter.get_total_flops() / 2e6
    rivals[name] = deepcopy(network).requires_grad_(True)
v_loss = partial(dc.v_loss, schedule, generator=rng)
for _ in range(lab.up_to(3)):
    for name, network in rivals.items():
        run = dc.train(network, v_loss, [inputs[name]] * 2, steps=2)
        seconds[name].append(run.seconds / 2)

# %% [markdown]
# Shorter is cheaper:

# %%
fig, axes = lab.figure(2, width=9.5, height=2.6)
places = torch.arange(len(rivals))
axes[0].barh(places, [1000 * min(seconds[name]) for name in rivals], color=lab.BLUE)
axes[0].set(xlabel="ms a step, this machine", yticks=places, yticklabels=list(rivals))
axes[1].barh(places, list(work.values()), color=lab.SKY)
axes[1].set(xlabel="million multiplications a call", yticks=[])
for ax in axes:
    ax.invert_yaxis()
lab.show(fig, "Time of a training step, and multiplications of a call, of four networks.")

# %% [markdown]
# More is in the committed table of `benchmarks/latent.py`: costs measured in turn, drawing with the VAE's decoding; three sets of 2 000 digits (the bars: their deviation), each network at the best of the scales tried. *Reconstructions* are real digits, encoded and decoded: what the decoder can do, but no bound: drawn latents need not have their faults.

# %%
table = {row["network"]: row for row in lab.measured("latent")}
drawn = ["pixels", "latents, U-Net", "latents, transformer"]
marks = dict(zip(drawn, ((lab.BLACK, "s"), (lab.BLUE, "o"), (lab.ORANGE, "^")), strict=True))
fig, axes = lab.figure(3, width=12, height=3.3)
for ax, cost, name in zip(axes, ("step_ms", "sample_ms"), ("training", "drawing"), strict=False):
    for network, (colour, mark) in marks.items():
        row = table[network]
        place, bar = (row[cost], row["frechet"]), row["frechet_std"]
        ax.errorbar(*place, yerr=bar, fmt=mark, color=colour, label=network)
    ax.axhline(
        table["reconstructions"]["frechet"], color=lab.GREEN, ls="--", label="reconstructions"
    )
    ax.axhline(table["real"]["frechet"], color=lab.BLACK, ls=":", label="real digits")
    ax.set(xlabel=f"{name}: ms an image", ylabel="Fréchet / floor", xlim=(0, None), ylim=(0, None))
axes[0].legend(fontsize="small")
for network, (colour, mark) in marks.items():
    row = table[network]
    axes[2].plot(row["spread"], row["asked"], mark, color=colour, label=network)
for name, colour, mark in (("reconstructions", lab.GREEN, "P"), ("real", lab.BLACK, "*")):
    axes[2].plot(table[name]["spread"], table[name]["asked"], mark, color=colour, label=name)
axes[2].set(xlabel="spread / real", ylabel="as asked")
axes[2].locator_params(axis="x", nbins=5)
axes[2].legend(fontsize="small")
lab.show(fig, "Fréchet distance against cost of training and of drawing; as asked against spread.")

# %% [markdown]
# The aims were fixed beforehand: reconstructions within 1.5 times the floor, drawings in latents within 1.5 times the distance of those in pixels, at a quarter of the cost.

# %%
pixels = table["pixels"]
real_again = table["reconstructions"]["frechet"]
lab.claim("table: reconstructions, Fréchet / floor", real_again, at_most=1.5)
for name in drawn[1:]:
    ratio = table[name]["frechet"] / pixels["frechet"]
    lab.claim(f"table: {name}: Fréchet distance / that of pixels", ratio, at_most=1.5)
    lab.claim(
        f"table: {name}: training is cheaper, times",
        pixels["step_ms"] / table[name]["step_ms"],
        at_least=4,
    )

# %% [markdown]
# Far cheaper, with less than a sixth of the weights, and as near by Fréchet distance. (In 50 steps, not these 12, pixels reach 1.3: lesson 00.) What is lost shows on the right: the drawings in latents vary less than real digits. Reconstructions lose a little already. Guidance at scale 1.5, the best by Fréchet distance of 1, 1.5, 2, 2.5 and 3, takes a little more (lesson 10), and so do the small networks.
#
# ## 9. A walk through latent space
#
# In section 1 a mixture of two latents was no digit. Diffusion knows which latents are. So walk in its *noise*: along the arc between two noises (lesson 09), each place followed to the end. The ends may be asked for two different digits; a label is a whole number, so it changes after half of the way. Above: mixed pixels of the two ends; in the middle: mixed latents; below: the walk.

# %%
one, other = noise[:2]
angle = torch.acos((one * other).sum() / (one.norm() * other.norm()))
part = torch.linspace(0, 1, 11)[:, None, None, None]
arc = (torch.sin((1 - part) * angle) * one + torch.sin(part * angle) * other) / torch.sin(angle)


@cache
def walk_of(network, digit, to):
    """Return 3 x 11 pictures on the way between two drawings: by pixels, latents, noise."""
    asked = torch.where(torch.arange(11) <= 5, digit, to)
    guess = dc.classifier_free(networks[network], asked, guidance_scale=2.0)
    guess = dc.eps_model_from_v(schedule, guess)
    *_, last = dc.sample_chain(dc.dpm_solver_2m(), schedule, guess, arc, steps_down)
    straight = torch.lerp(last.x_t[:1], last.x_t[-1:], part)
    along, between = dc.from_latents(vae, last.x_t), dc.from_latents(vae, straight)
    return torch.stack([torch.lerp(along[:1], along[-1:], part), between, along])


# %% [markdown]
# Move along. Which of the three stays a digit all the way? Then give both ends one digit: what becomes of the middle row?

# %%
fig, axes = lab.figure(2, width=9, height=2.6, width_ratios=[1, 4])
large = lab.draw_images(axes[0], walk_of("U-Net", 3, 7)[2, :1], 1)
strip = lab.draw_images(axes[1], walk_of("U-Net", 3, 7).flatten(0, 1), 11)
(here,) = axes[1].plot([0, 29], [86, 86], color=lab.RED, lw=4)


def walk_to(network, digit, to, share):
    """Show a place of the walk between two drawings."""
    pictures = walk_of(network, digit, to)
    large.set_data(lab.image_grid(pictures[2, share : share + 1], 1))
    strip.set_data(lab.image_grid(pictures.flatten(0, 1), 11))
    here.set_xdata([29 * share, 29 * share + 28])
    return f"{network}, from a {digit} to a {to}: {share} of 10 parts of the way in noise."


controls = {
    "network": lab.choice("network", list(networks)),
    "digit": lab.choice("from", digit, 3),
    "to": lab.choice("to", digit, 7),
    "share": lab.slider("share", 0, 10, 3),
}
lab.Explorer(fig, [large, strip, here], walk_to, controls, play="share")

# %% [markdown]
# Mixed pixels are double exposures. Mixed latents do better if both ends are one digit; between two digits their middle is often none. On the walk through noise each place is a drawing of its own, and from one digit to another it jumps.
#
# ## 10. Exercises
#
# **Exercise 3. Predict the number.** Somebody trains a VAE of 28 × 28 pixels with 16 latents: `mse_loss` (a mean over pixels) plus the mean of the KL over latents. Which $\sigma^2$ is that the ELBO of?

# %%
# STARTER
hidden_variance = None  # your number here
# SOLUTION
hidden_variance = (1 / 16) / (2 / 784)  # b / (2a)

# %%
# lab.hint("12.3")
lab.check("12.3", hidden_variance)

# %% [markdown]
# **Exercise 4. A latent diffusion of your own** (15 minutes). First the loss: `my_vae_loss(x, x_hat, mean, log_var, log_decoder_var)` returns $-$ELBO in nats per image, the mean over the batch. `x` and `x_hat` are (B, D), `mean` and `log_var` (B, k), `log_decoder_var` is the number $\ln\sigma^2$.


# %%
# STARTER
def my_vae_loss(x, x_hat, mean, log_var, log_decoder_var):
    return None  # your lines here


# SOLUTION
def my_vae_loss(x, x_hat, mean, log_var, log_decoder_var):
    errors = (x - x_hat).square().sum(1)
    height = x.shape[1] * (log_decoder_var + torch.log(torch.tensor(2 * torch.pi)))
    kl = (mean**2 + log_var.exp() - 1 - log_var).sum(1) / 2
    return ((errors / log_decoder_var.exp() + height) / 2 + kl).mean()


# %%
# lab.hint("12.4")
lab.check("12.4", my_vae_loss)

# %% [markdown]
# Then train with it, on digits of 14 × 14; measure the size of your latents; diffuse. How many latents are worth their price: from which `my_k` on does the ELBO hardly rise? And what does the diffusion draw if `my_size` is wrong, say 5?

# %%
my_k, my_width, my_steps, my_size = 12, 256, 1500, 1.0


def own_loss(net, x):
    """Your loss, with fresh noise in z."""
    mean, log_var = net.encode(x)
    z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng)
    return my_vae_loss(x, net.decode(z), mean, log_var, net.log_decoder_var)


torch.manual_seed(0)
my_vae = SmallVAE(my_k, my_width)
written = own_loss(my_vae, small[:5]) is not None
if written:
    batches = data.minibatches(small, 128, generator=rng)
    my_run = dc.train(my_vae, own_loss, batches, steps=my_steps, lr=4e-3)
    with torch.no_grad():
        mean, log_var = my_vae.encode(small)
    my_z = dc.Gaussian(mean, log_var.exp()).sample(generator=rng)
    my_factor = my_size * dc.second_moments(my_z).rsqrt()

# %% [markdown]
# Diffusion in your latents, by the MLP of lesson 05:

# %%
if written:
    my_denoiser = nets.MLP(dim=my_k, width=128)
    batches = data.minibatches(my_factor * my_z, 256, generator=rng)
    dc.train(my_denoiser, v_loss, batches, steps=2000, lr=2e-3)
    guess = dc.eps_model_from_v(schedule, my_denoiser)
    start = torch.randn(40, my_k, generator=rng)
    *_, last = dc.sample_chain(dc.dpm_solver_2m(), schedule, guess, start, steps_down)
    with torch.no_grad():
        by_prior, by_diffusion = my_vae.decode(start), my_vae.decode(last.x_t / my_factor)
        my_elbo = dc.vae_terms(my_vae, small_test, generator=rng).elbo.mean()

# %%
pictures = {"real": small_test[:40]}
if written:
    pictures |= {"z from the prior": by_prior, "z by diffusion": by_diffusion}
fig, axes = lab.figure(len(pictures), width=3.6 * len(pictures), height=2.6)
for ax, (name, x) in zip(axes, pictures.items(), strict=True):
    lab.draw_images(ax, x.view(-1, 1, 14, 14), 10)
    ax.set_title(name)
if written:
    axes[2].set_xlabel(f"ELBO {my_elbo:.1f} nats per test digit")
lab.show(fig, "Real digits of 14 x 14 pixels, and yours: decoded from the prior and by diffusion.")

# %% [markdown]
# ## 11. Summary
#
# 1. A VAE's loss is a sum of nats: over pixels for the reconstruction, over latents for the price of the notes.
# 2. Any other sum is the ELBO of another decoder, $\sigma^2 = b/2a$; where that is more than the data vary, the latents say nothing.
# 3. With linear halves everything is known in closed form, and the ELBO meets $\log p(x)$.
# 4. Latents are scaled to $\mathbb Ez^2 = 1$ by a number measured on this VAE; another number is another schedule.
# 5. In latents the schedule, losses, samplers and guidance stay; a step costs less, and the decoder's faults stay in the picture.
#
# | equation | function |
# |---|---|
# | (59), (60) the ELBO of a VAE | `vae_terms`, `vae_loss` |
# | (61) any reduction | `weighted_vae_loss`, `decoder_var_of` |
# | (62) probabilistic PCA | `probabilistic_pca`, `optimal_linear_vae`, `exact_vae_terms` |
# | (63) collapse | `pca_kl`, `active_units` |
# | (64) scaled latents | `measure_latent_scale`, `to_latents`, `from_latents` |
# | (65) the schedule that is seen | `scaled_schedule` |
# | (66) adaLN-zero | `nets.DiT` |
#
# **References.** Kingma and Welling, *Auto-Encoding Variational Bayes* (2014). Tipping and Bishop, *Probabilistic Principal Component Analysis* (1999). Lucas et al., *Don't Blame the ELBO!* (2019). Rybkin, Daniilidis and Levine, *Simple and Effective VAE Training with Calibrated Decoders* (2021). Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models* (2022). Peebles and Xie, *Scalable Diffusion Models with Transformers* (2023).
#
# **Next**: [13 · Is there a straighter way to the data?](13_flow_matching.ipynb)
