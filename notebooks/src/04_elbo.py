# %% [markdown]
# # 04 · How does a bound become a loss?
#
# Lesson 03 found the step back when the clean data is known. A network does not know it. What should it learn, and how good is it then? One number answers both: a lower bound on the log-likelihood of the data.
#
# **At the end you can**
# - derive the bound (ELBO), and say what each of its terms means;
# - go from it to the loss that everyone uses, and say what is dropped;
# - compute the terms of a denoiser of your own, and say where it loses.
#
# **You need** lessons 02 and 03. **Time**: about 80 minutes, without the folded sections ("Deeper").

# %%
import math
import warnings

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import nets, toys

warnings.simplefilter("ignore", dc.PriorGapWarning)  # cut-off schedules are used here on purpose
rng = torch.Generator().manual_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1. The picture first
#
# Our data are a mixture of three Gaussians on a line, equally likely. As in lesson 02, $x_t = \sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\;\epsilon$ with $\epsilon\sim N(0,I)$, here with the vp schedule and $T=20$. Stand at $x_t$ and go one step back. Two bells say where $x_{t-1}$ may lie:
# - the **teacher** $q(x_{t-1}\mid x_t,x_0)$ knows $x_0$: it is the posterior of lesson 03;
# - the **pupil** $p_\theta(x_{t-1}\mid x_t)$ is the model. It knows only $x_t$, and uses a guess of $x_0$: here the best there is, $\mathbb E[x_0\mid x_t]$. Its variance is $\beta_t$.
#
# A **denoiser** guesses the noise in $x_t$, and so $x_0$. The exact one answers $\mathbb E[\epsilon\mid x_t]$.
#
# How far apart are they? The KL divergence of lesson 02 says it in one number, here in **nats**: $\log$ is the natural logarithm.


# %%
def two_bells(x0, x_t, t):
    """Return teacher and pupil, both N(mean, var) of x_{t-1}."""
    x0_hat = dc.x0_from_eps(schedule, x_t, exact(x_t, t), t)
    pupil = dc.p_step(schedule, x_t, x0_hat, t, variances=schedule.betas)
    return dc.q_posterior(schedule, x_t, x0, t), pupil


data = dc.mixture(torch.tensor([[-1.2], [0.1], [1.1]]), torch.tensor([0.04, 0.02, 0.09]))
schedule = dc.vp_schedule(20)
exact = dc.mixture_eps_model(schedule, data)

x0 = data.sample(20_000, generator=rng)
mean_kl = torch.zeros(21)
for t in range(2, 21):
    x_t = dc.q_sample(schedule, x0, t, generator=rng)
    mean_kl[t] = dc.kl_divergence(*two_bells(x0, x_t, t)).mean()

# %% [markdown]
# On the right: the mean KL of each step, over 20 000 pairs of $x_0$ and $x_t$; the diamond is your pair (1.5 nats at most). **Predict, then drag**: when $x_0$ moves away, which bell follows? At which $t$ does it matter most?

# %%
line = torch.linspace(-8, 8, 4001)[:, None]
along = torch.linspace(-3.5, 3.5, 701)[:, None]
fig, axes = lab.figure(2, width=11, height=3.6)
density = 0.5 * data.log_prob(line).exp()
axes[0].fill_between(line[:, 0], density, color="0.88", label="the data (half the height)")
(teacher_line,) = axes[0].plot([], [], color=lab.RED, label="teacher, knows x_0")
(pupil_line,) = axes[0].plot([], [], color=lab.SKY, ls="--", lw=2, label="pupil, knows x_t only")
(at_x0,) = axes[0].plot([], [], "^", color=lab.RED, ms=9, label="x_0")
(at_x_t,) = axes[0].plot([], [], "v", color=lab.BLACK, ms=9, label="x_t")
axes[0].set(xlim=(-3.5, 3.5), ylim=(-0.15, 4.2), xlabel="x_{t-1}", ylabel="density")
axes[0].legend(loc="upper left", fontsize="small")
axes[1].bar(range(2, 21), mean_kl[2:], color=lab.BLUE, alpha=0.45, label="mean of each step")
here = axes[1].vlines([4.0], 0, 1, color=lab.BLUE, lw=9)
(of_pair,) = axes[1].plot([], [], "D", color=lab.BLACK, ms=7, label="your pair")
axes[1].set(xlabel="t", ylabel="KL, nats", ylim=(0, 1.5), xticks=range(2, 21, 2))
axes[1].legend()
controls = {
    "at": lab.slider("x_0", -2.0, 2.0, 1.1, 0.1),
    "noisy": lab.slider("x_t", -2.5, 2.5, 0.0, 0.1),
    "t": lab.slider("t", 2, 20, 4),
}


# %%
def explore_bells(at, noisy, t):
    """Draw both bells and their KL; return the sentence under the picture."""
    pair = torch.tensor([[at]]), torch.tensor([[noisy]])
    teacher, pupil = two_bells(*pair, t)
    for drawn, bell in ((teacher_line, teacher), (pupil_line, pupil)):
        drawn.set_data(along[:, 0], bell.log_prob(along)[:, 0].exp())
    at_x0.set_data([at], [-0.07])
    at_x_t.set_data([noisy], [-0.07])
    kl = dc.kl_divergence(teacher, pupil).item()
    of_pair.set_data([t], [min(kl, 1.47)])
    here.set_segments([[(t, 0), (t, mean_kl[t].item())]])
    return (
        f"t = {t}, x_0 = {at:.1f}, x_t = {noisy:.1f}: KL of teacher and pupil {kl:.4f} nats, "
        f"mean over all pairs {mean_kl[t]:.4f}."
    )


artists = [teacher_line, pupil_line, at_x0, at_x_t, here, of_pair]
lab.Explorer(fig, artists, explore_bells, controls)

# %% [markdown]
# At small $t$ the teacher follows $x_0$, and the pupil cannot. Near noise (large $t$) both bells lie in the same place, whatever $x_0$ is. The blue bars are nearly the whole lesson: with one more for the start and one for the last step, their sum bounds how unlikely the model finds the data.

# %% [markdown]
# ## 2. A likelihood out of reach, and a bound within reach
#
# **The model** starts with noise, $p(x_T) = N(0, I)$, and takes Gaussian steps back:
#
# $$p_\theta(x_{t-1}\mid x_t) = N\big(\mu_\theta(x_t,t),\ \sigma_t^2 I\big),\qquad \mu_\theta(x_t, t) = \frac1{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\epsilon_\theta(x_t,t)\Big).$$
#
# The mean is (11) of lesson 03 with a guess $\epsilon_\theta$ in the place of $\epsilon$; $\theta$ are the network's weights. The variances $\sigma_t^2$ are ours to choose: $\beta_t$, or the teacher's $\tilde\beta_t$. At $t = 1$ we take $\beta_1$: a likelihood needs a density, and $\tilde\beta_1 = 0$ would leave none.
#
# A whole walk back (a *trajectory*), written $x_{0:T}$, has the density $p_\theta(x_{0:T}) = p(x_T)\prod_{t=1}^T p_\theta(x_{t-1}\mid x_t)$. How likely is one data point? Add up all walks that end there:
#
# $$p_\theta(x_0) = \int p_\theta(x_{0:T})\;dx_{1:T}.$$
#
# A good model makes this large. But a grid of 100 places a state has $100^T$ points.
#
# **The bound.** Multiply and divide by the forward process, (3) of lesson 02. An integral of $q$ times something is its mean over draws from $q$, written $\mathbb E_q$:
#
# $$\log p_\theta(x_0) = \log\ \mathbb E_q\bigg[\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\bigg].$$
#
# Forward walks can be drawn, and on a line 20 000 are enough (table below). With many coordinates, or a bad guess, a few huge ratios rule the mean. The logarithm, taken first, tames them, and lets us train each step by itself (section 4). What does that cost? Drag two ratios with the mean 1 apart:

# %%
fig, (ax,) = lab.figure(width=6.5, height=3.2)
ratio = torch.linspace(0.04, 2.1, 300)
ax.plot(ratio, ratio.log(), color=lab.BLACK, label="logarithm")
(chord,) = ax.plot([], [], "o-", color=lab.SKY, label="two ratios")
(lost_line,) = ax.plot([], [], color=lab.RED, lw=3, ls="-", label="lost")
ax.set(xlabel="ratio", ylabel="its logarithm", ylim=(-3.2, 1))
ax.legend(loc="lower right")


def explore_jensen(spread):
    """Draw the ratios 1 - spread and 1 + spread, and what the mean of their logarithms loses."""
    low, high = 1 - spread, 1 + spread
    mean_log = (math.log(low) + math.log(high)) / 2
    chord.set_data([low, high], [math.log(low), math.log(high)])
    lost_line.set_data([1, 1], [mean_log, 0])
    return f"ratios {low:.2f} and {high:.2f}: log of the mean 0, mean of the logs {mean_log:.4f}."


lab.Explorer(
    fig,
    [chord, lost_line],
    explore_jensen,
    {"spread": lab.slider("spread of the ratios", 0.05, 0.95, 0.8, 0.05)},
)

# %% [markdown]
# The logarithm bends downwards, so the chord lies below it: the mean of logarithms is never above the logarithm of the mean (**Jensen's inequality**). So
#
# $$\log p_\theta(x_0)\ \ge\ \text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\bigg]. \tag{12}$$
#
# ELBO means *evidence lower bound*. Put in $p_\theta(x_{0:T}) = p_\theta(x_0)\,p_\theta(x_{1:T}\mid x_0)$; the first factor is the same for every walk:
#
# $$\log p_\theta(x_0) - \text{ELBO}(x_0) = \text{KL}\big(q(x_{1:T}\mid x_0)\,\|\,p_\theta(x_{1:T}\mid x_0)\big).$$
#
# So the bound is tight when forward walks from $x_0$ look like the model's own walks that end there.
#
# A **variational autoencoder** (VAE) has the same bound, with a hidden code in the place of $x_{1:T}$. A diffusion model is a VAE whose encoder only adds noise.
#
# **Both sides as numbers.** For Gaussian data the exact denoiser is a straight line in $x_t$, so each step back turns one Gaussian into another. After $T$ steps that is $p_\theta(x_0)$, exactly.


# %%
def model_density(schedule, eps_model, variances):
    """p(x_0) of a model on the line whose steps are straight lines, as a Gaussian."""
    mean, var = torch.zeros(1, 1), torch.ones(1, 1)
    two = torch.tensor([[0.0], [1.0]])  # a straight line is known by its values at 0 and at 1
    for t in range(schedule.T, 0, -1):
        x0_hat = dc.x0_from_eps(schedule, two, eps_model(two, t), t)
        at_0, at_1 = dc.p_step(schedule, two, x0_hat, t).mean
        noise = variances[t] if t > 1 else schedule.betas[1]
        mean, var = at_0 + (at_1 - at_0) * mean, (at_1 - at_0) ** 2 * var + noise
    return dc.Gaussian(mean, var)


# %% [markdown]
# The ELBO is the mean logarithm of the ratio (`log_ratio`) over many forward walks from one $x_0$; `log-mean` is the logarithm of their mean. (`gaussian_decoder`: the last step is the Gaussian above.)

# %%
options = {"decoder": dc.gaussian_decoder, "variances": schedule.betas}
gauss_data = dc.mixture(torch.tensor([[0.5]]), 0.09)
gauss_eps = dc.mixture_eps_model(schedule, gauss_data)
of_model = model_density(schedule, gauss_eps, schedule.betas)
print("   x_0     ELBO   std. error   log-mean   log p(x_0)   log q(x_0)")
for value in (-0.1, 0.2, 0.5, 0.8, 1.1):
    start = torch.full((20_000, 1), value)
    walks = dc.q_trajectory(schedule, start, generator=rng)
    ratios = dc.log_ratio(schedule, gauss_eps, walks, **options)
    elbo, std_error = ratios.mean(), ratios.std() / math.sqrt(20_000)
    log_mean = ratios.logsumexp(0) - math.log(20_000)
    log_p = of_model.log_prob(start[:1])[0, 0]
    log_q = gauss_data.log_prob(start[:1])[0]
    print(
        f"{value:6.1f} {elbo:8.4f} {std_error:12.4f} {log_mean:10.4f} {log_p:12.4f} {log_q:12.4f}"
    )
    assert elbo <= log_p + 5 * std_error
    relative = (ratios - log_mean).exp()  # ratios divided by their mean: the error of log-mean
    assert abs(log_mean - log_p) < 5 * relative.std() / math.sqrt(20_000)

# %% [markdown]
# The ELBO stays below $\log p_\theta(x_0)$, by 0.13 to 0.14 nats; the log-mean meets it within 0.03. At $-0.1$ and 1.1 the ELBO is above the data's own $\log q(x_0)$, for our model is too wide. The first half of $\mathbb E\,\text{ELBO}\le\mathbb E\log p_\theta\le\mathbb E\log q$ holds for each $x_0$; the second only averaged over the data: there the difference is a KL.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the average over the data, and the error of a log-mean
#
# Why is our model too wide? The guess is exact, but $\beta_t$ is larger than the variance of the true step back (section 10). Away from the centre the model gives more than $q$ does. So do not test an ELBO against $\log q(x_0)$ of a single $x_0$.
#
# On average over the data it cannot be above. For any two densities, $\mathbb E_q[\log q - \log p] = \text{KL}(q\,\|\,p)\ge 0$ (lesson 02). With $x_0$ drawn from the data this gives the second half of the chain above; (12) gives the first. We check the two ends for the mixture of section 1; section 12 computes the middle one, too. Both averages use the same $x_0$, so we look at the difference of each pair, and at its standard error.

# %%
terms = dc.elbo_terms(schedule, exact, x0, **options, generator=rng)  # section 4
difference = data.log_prob(x0) + terms.prior + terms.steps.sum(1) + terms.recon
std_error = difference.std() / math.sqrt(len(x0))
print(f"mean of log q(x_0) minus ELBO: {difference.mean():.4f}, standard error {std_error:.4f}")
assert difference.mean() > -3 * std_error

# %% [markdown]
# `relative` in the table's cell was new. If a mean is off by a small amount, its logarithm is off by about that amount divided by the mean. So divide each ratio by the mean of all: the standard error of the mean of these numbers is that of the log-mean. (The column in the table is the ELBO's.)

# %% [markdown]
# ## 3. Turning the ratio around
#
# The ratio in (12) compares steps *back* ($p_\theta$) with steps *forward* ($q$). So turn $q$ around. Bayes' rule with known $x_0$, (7) of lesson 03, says for $t\ge2$
#
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t, x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}.$$
#
# Multiply these for $t = 2,\dots,T$. In the fractions every $q(x_t\mid x_0)$ between the ends stands once above and once below the line, and cancels: the product **telescopes** to $q(x_T\mid x_0)/q(x_1\mid x_0)$. The missing step, $q(x_1\mid x_0)$, cancels what is below the line:
#
# $$q(x_{1:T}\mid x_0) = \prod_{t=1}^T q(x_t\mid x_{t-1}) = q(x_T\mid x_0)\prod_{t=2}^T q(x_{t-1}\mid x_t,x_0). \tag{13}$$
#
# It holds for each single walk, and so we check it:


# %%
def log_bell(x, mean, var):
    """The logarithm of the density of N(mean, var), one number for each walk."""
    return (-0.5 * (x - mean) ** 2 / var - 0.5 * torch.log(2 * math.pi * var))[:, 0]


alphas, betas, keep = schedule.alphas, schedule.betas, schedule.alpha_bars
walks = dc.q_trajectory(schedule, x0[:1000], generator=rng)
forward = sum(log_bell(walks[t], alphas[t].sqrt() * walks[t - 1], betas[t]) for t in range(1, 21))
backward = log_bell(walks[20], keep[20].sqrt() * x0[:1000], 1 - keep[20])
for t in range(2, 21):
    of_x0 = keep[t - 1].sqrt() * betas[t] / (1 - keep[t])
    of_x_t = alphas[t].sqrt() * (1 - keep[t - 1]) / (1 - keep[t])
    mean = of_x0 * x0[:1000] + of_x_t * walks[t]  # (8) of lesson 03
    var = (1 - keep[t - 1]) / (1 - keep[t]) * betas[t]
    backward = backward + log_bell(walks[t - 1], mean, var)
torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-10)
print("(13): both sides agree, walk by walk, for 1 000 walks of 20 steps")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the whole ratio, by the package
#
# The package computes the logarithm of the ratio in (12) in two ways. `log_ratio` takes the left side of (13) for $q$, and `log_ratio_telescoped` the right side. They must agree for each walk. From scratch the ratio needs $\log p_\theta(x_{0:T})$ as well. The cell adds it up, step by step, and subtracts our `forward`.

# %%
ratios = dc.log_ratio(schedule, exact, walks, **options)
turned = dc.log_ratio_telescoped(schedule, exact, walks, **options)
torch.testing.assert_close(ratios, turned, rtol=1e-12, atol=1e-12)

log_walk = log_bell(walks[20], torch.zeros(1), torch.ones(1))
for t in range(20, 0, -1):
    eps_hat = exact(walks[t], t)
    mean = (walks[t] - betas[t] / (1 - keep[t]).sqrt() * eps_hat) / alphas[t].sqrt()  # (11)
    log_walk = log_walk + log_bell(walks[t - 1], mean, betas[t])
torch.testing.assert_close(ratios, log_walk - forward, rtol=1e-10, atol=1e-10)
print("log_ratio, log_ratio_telescoped and the version from scratch agree for every walk")

# %% [markdown]
# ## 4. One term for each step
#
# Put (13) into (12), turn the fraction upside down for $-\text{ELBO}$, and sort by $t$. Each step of $q$ now stands above the same step of $p_\theta$:
#
# $$-\text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{q(x_T\mid x_0)}{p(x_T)} + \sum_{t=2}^T\log\frac{q(x_{t-1}\mid x_t,x_0)}{p_\theta(x_{t-1}\mid x_t)} - \log p_\theta(x_0\mid x_1)\bigg].$$
#
# Draw $x_t$ from $q(x_t\mid x_0)$ first, then $x_{t-1}$ from the teacher. With $x_t$ fixed, the mean of the logarithm over $x_{t-1}$ is the KL of the two bells of section 1. Then average over $x_t$:
#
# $$-\text{ELBO} = \underbrace{\text{KL}\big(q(x_T|x_0)\,\|\,p(x_T)\big)}_{L_T} + \sum_{t=2}^T\underbrace{\mathbb E_{x_t}\,\text{KL}\big(q(x_{t-1}|x_t,x_0)\,\|\,p_\theta(x_{t-1}|x_t)\big)}_{L_{t-1}}\ \underbrace{-\ \mathbb E_{x_1}\log p_\theta(x_0|x_1)}_{L_0}. \tag{14}$$
#
# - $L_T$, the **prior term**: what is left of $x_0$ in $x_T$. The model starts from noise and does not know it.
# - $L_{t-1}$, the **step terms**: the bars of section 1. The step *from* $t$ *to* $t-1$ has $L_{t-1}$; the package keeps it in column $t$.
# - $L_0$, the **reconstruction term**: how unlikely the last step finds the data. It may be below 0, for a density can be above 1.
#
# The list of these *terms of the variational bound* is the **ledger**. (12) needs whole walks and gives one number. In (14) one draw of $x_t$ gives one term. So training can work on one $t$ at a time, and we see which step costs how much.
#
# **The KL of two Gaussians**, $N_1 = N(m_1, v_1)$ and $N_2 = N(m_2, v_2)$. With $x$ drawn from the first,
#
# $$\log\frac{N_1(x)}{N_2(x)} = \frac12\log\frac{v_2}{v_1} - \frac{(x-m_1)^2}{2v_1} + \frac{(x-m_2)^2}{2v_2}.$$
#
# The mean of $(x-m_1)^2$ is $v_1$; that of $(x-m_2)^2$ is $v_1+(m_1-m_2)^2$. Together:
#
# $$\text{KL}(N_1\,\|\,N_2) = \frac12\bigg[\frac{v_1}{v_2} - 1 - \log\frac{v_1}{v_2} + \frac{(m_1-m_2)^2}{v_2}\bigg]. \tag{15}$$
#
# For **equal variances** only the last part remains: a squared error. For independent coordinates, add up.


# %%
def kl_from_scratch(m_1, v_1, m_2, v_2):
    """Equation (15)."""
    return 0.5 * (v_1 / v_2 - 1 - torch.log(v_1 / v_2) + (m_1 - m_2) ** 2 / v_2)


m_1, m_2 = torch.randn(2, 200, generator=rng)
v_1, v_2 = 0.2 + torch.rand(2, 200, generator=rng)
ours = kl_from_scratch(m_1, v_1, m_2, v_2)
normal = torch.distributions.Normal
theirs = torch.distributions.kl_divergence(normal(m_1, v_1.sqrt()), normal(m_2, v_2.sqrt()))
torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
x = m_1 + v_1.sqrt() * torch.randn(20_000, 200, generator=rng)
logs = dc.Gaussian(m_1, v_1).log_prob(x) - dc.Gaussian(m_2, v_2).log_prob(x)
assert ((logs.mean(0) - ours).abs() < 5 * logs.std(0) / math.sqrt(20_000)).all()
print("(15) = torch.distributions = the mean over 20 000 draws, for 200 pairs of Gaussians")

# %% [markdown]
# All terms of (14) from scratch, with one draw of $x_t$ for each example and term. (Here `teacher` and `pupil` are the *means* of the bells; $t=1$ comes last, as $L_0$ needs its `pupil`.)


# %%
def ledger_by_draws(schedule, eps_model, x0, variances, rng):
    """Return L_T, the L_{t-1} in column t, and L_0, for each example x0 (B, 1)."""
    alphas, betas, keep = schedule.alphas, schedule.betas, schedule.alpha_bars
    prior = kl_from_scratch(keep[-1].sqrt() * x0, 1 - keep[-1], 0.0, torch.ones(1))
    steps = torch.zeros(len(x0), schedule.T + 1)
    for t in [*range(2, schedule.T + 1), 1]:
        eps = torch.randn(x0.shape, generator=rng)
        x_t = keep[t].sqrt() * x0 + (1 - keep[t]).sqrt() * eps
        shrink = betas[t] / (1 - keep[t]).sqrt()
        pupil = (x_t - shrink * eps_model(x_t, t)) / alphas[t].sqrt()
        teacher = (x_t - shrink * eps) / alphas[t].sqrt()  # (11) with the true noise
        if t > 1:
            var = (1 - keep[t - 1]) / (1 - keep[t]) * betas[t]
            steps[:, t] = kl_from_scratch(teacher, var, pupil, variances[t])[:, 0]
    return prior[:, 0], steps, -log_bell(x0, pupil, betas[1])


# %% [markdown]
# With the same random numbers, the package's `elbo_terms` must give the same terms. Their sum must be minus the mean logarithm of the ratio over whole walks:

# %%
ours = ledger_by_draws(schedule, exact, x0, schedule.betas, rng.manual_seed(5))
theirs = dc.elbo_terms(schedule, exact, x0, **options, generator=rng.manual_seed(5))
for mine, package in zip(ours, theirs, strict=True):
    torch.testing.assert_close(mine, package, rtol=1e-8, atol=1e-9)
print("the terms from scratch and by the package: the same numbers")

total = theirs.prior + theirs.steps.sum(1) + theirs.recon
walks = dc.q_trajectory(schedule, x0, generator=rng)
from_walks = -dc.log_ratio(schedule, exact, walks, **options)
std_errors = [z.std() / math.sqrt(len(x0)) for z in (total, from_walks)]
assert abs(total.mean() - from_walks.mean()) < 3 * math.hypot(*std_errors)
print(f"-ELBO by its terms:    {total.mean():.4f} nats, standard error {std_errors[0]:.4f}")
print(f"-ELBO by whole walks:  {from_walks.mean():.4f} nats, standard error {std_errors[1]:.4f}")
sums = theirs.prior.mean(), theirs.steps.sum(1).mean(), theirs.recon.mean()
print("L_T {:.4f}, all L_(t-1) {:.4f}, L_0 {:.4f}".format(*sums))

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the package's version
#
# `_prior`, `_step_kl` and `_recon` return one kind of term each, as in (14); `_reverse` makes the pupil. All stand in `diffusion_core/elbo.py`, and any number of axes is allowed.

# %%
lab.show_source(dc.elbo_terms)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: why whole walks are less noisy
#
# Both agree, and the walks have the *smaller* standard error. Why? If the model's walks were exactly the forward walks, the ratio in (12) would be $p_\theta(x_0)$ for each of them, and no noise would be left. In a walk the steps share their states, so much of their noise cancels; the terms of (14) are drawn one by one. So (14) is not there to measure the total more quickly. It is there to split it.

# %% [markdown]
# ## 5. A step term is a squared error of the noise
#
# The teacher has the mean $\tilde\mu_t$ and the variance $\tilde\beta_t$, the pupil $\mu_\theta$ and $\sigma_t^2$. From here on $\mathbb E$ also averages over $x_0$ from the data. Write $r_t = \tilde\beta_t/\sigma_t^2$. By (15), in $d$ dimensions,
#
# $$L_{t-1} = \frac{\mathbb E\,|\tilde\mu_t-\mu_\theta|^2}{2\sigma_t^2} + d\,C_t,\qquad C_t = \tfrac12\big[r_t - 1 - \log r_t\big].$$
#
# By (11), both means have the same form, with $\epsilon$ in the teacher's and $\epsilon_\theta$ in the pupil's. In the difference, $x_t$ drops out:
#
# $$\tilde\mu_t - \mu_\theta = \frac{\beta_t}{\sqrt{\alpha_t}\,\sqrt{1-\bar\alpha_t}}\;(\epsilon_\theta - \epsilon).$$
#
# Squared and put in:
#
# $$L_{t-1} = w_t\;\mathbb E\,\big|\epsilon - \epsilon_\theta(x_t,t)\big|^2 + d\,C_t,\qquad w_t = \frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}. \tag{16}$$
#
# **So the network learns to guess noise because the bound asks for it.** $C_t$ does not depend on the network. It is 0 when $\sigma_t^2 = \tilde\beta_t$, and positive otherwise: $\log r$ bends downwards, and the line $r - 1$ touches it at $r = 1$ from above.
#
# Without the $\mathbb E$, (16) holds for each draw and any guess. So we check it with nonsense. (`eps_weights` is the package's table of $w_t$ and $C_t$.)

# %%
some_x0, eps, nonsense = torch.randn(3, 500, 2, generator=rng)
left = 1 - schedule.alpha_bars[2:]
for name, variances in {"beta": schedule.betas, "posterior": schedule.posterior_vars}.items():
    weights, constants = dc.eps_weights(schedule, variances)
    r = schedule.posterior_vars[2:] / variances[2:]
    by_hand = betas[2:] ** 2 / (2 * variances[2:] * alphas[2:] * left), 0.5 * (r - 1 - r.log())
    torch.testing.assert_close((weights[2:], constants[2:]), by_hand, rtol=1e-10, atol=1e-14)
    for t in range(2, 21):
        x_t = dc.q_sample(schedule, some_x0, t, eps)
        x0_hat = dc.x0_from_eps(schedule, x_t, nonsense, t)
        pupil = dc.p_step(schedule, x_t, x0_hat, t, variances=variances)
        teacher = dc.q_posterior(schedule, x_t, some_x0, t)
        kl = dc.kl_divergence(teacher, pupil).sum(1)
        by_16 = weights[t] * (eps - nonsense).square().sum(1) + 2 * constants[t]  # d = 2
        torch.testing.assert_close(kl, by_16, rtol=1e-8, atol=1e-10)
    largest = constants.abs().max().item()
    print(f"sigma^2 = {name}: (16) holds for every draw and every t; largest C_t: {largest:.4f}")

# %% [markdown]
# ## 6. The prior term
#
# $L_T$ contains no network. With $q(x_T\mid x_0) = N(\sqrt{\bar\alpha_T}\,x_0,\ 1-\bar\alpha_T)$, (15) gives for each coordinate
#
# $$L_T = \frac12\Big[\bar\alpha_T\,x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\Big]. \tag{17}$$
#
# Only $\bar\alpha_T$ counts, and the mean of $x_0^2$ (1 in the table). In bits this is the *prior gap* of lesson 02.

# %%
sized = torch.where(torch.rand(2000, 1, generator=rng) < 0.5, 1.0, -1.0)  # x_0^2 = 1
print("schedule               alpha_bar_T   L_T, nats   in bits")
for name, s in {
    "linear, T = 1000": dc.linear_schedule(1000),
    "vp, any T": dc.vp_schedule(100),
    "cosine, T = 1000": dc.cosine_schedule(1000),
    "linear, T = 200": dc.linear_schedule(200),
    "linear, T = 50": dc.linear_schedule(50),
}.items():
    end = dc.q_marginal(s, sized, s.T)
    nats = kl_from_scratch(end.mean, end.var, 0.0, torch.ones(1)).mean()
    by_17 = -0.5 * s.marginal_vars[-1].log()  # (17) with x_0^2 = 1: the other two parts cancel
    torch.testing.assert_close(nats, by_17, rtol=1e-7, atol=1e-15)
    assert abs(dc.prior_gap(s) - nats / math.log(2)) < 1e-12
    print(f"{name:24s} {s.alpha_bars[-1]:9.1e} {nats:11.1e} {dc.prior_gap(s):9.1e}")

# %% [markdown]
# For a schedule that reaches noise, $L_T$ is next to nothing. For a short one, no training makes it smaller.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the last step on data with levels
#
# Our $L_0$ so far is minus the logarithm of a *density*. That is right for data that are real numbers. Pictures are not: a pixel has one of 256 **levels**. Data on levels have probabilities, not densities, and with a density one can cheat: a narrow peak on each level drives $-\log$ of the density to minus infinity. So give each level the probability that the last Gaussian $N(\mu, \sigma^2)$ puts into its **bin**.
#
# Scale the levels to $[-1, 1]$: they are $-1, -1+\tfrac2{255}, \dots, 1$. Each bin reaches half a spacing, $\tfrac1{255}$, to both sides. The first bin is open to $-\infty$ and the last to $+\infty$, so that nothing is lost:
#
# $$p_\theta(x_0\mid x_1) = \int_{x_0-1/255}^{x_0+1/255}N(x;\mu,\sigma^2)\,dx\quad\big(\text{from} -\infty\text{ at } x_0=-1,\text{ to} +\infty\text{ at } x_0=1\big). \tag{18}$$
#
# An image's pixels and colours are independent here, so their logarithms are added. In the code, `cdf` is the **distribution function**: the probability of a number below a given place. A bin has the difference of its two ends.


# %%
def level_prob(x0, mean, std):
    """Equation (18), by the distribution function of the Gaussian."""
    below = torch.distributions.Normal(mean, std).cdf
    upper = torch.where(x0 > 1 - 1e-9, 1.0, below(x0 + 1 / 255))
    lower = torch.where(x0 < -1 + 1e-9, 0.0, below(x0 - 1 / 255))
    return upper - lower


levels = torch.linspace(-1, 1, 256)[:, None]
for mean in (-3.0, -1.0, 0.1234, 0.999, 50.0):
    for std in (1e-3, 0.01, 0.3, 4.0, 1e3):
        last = dc.Gaussian(torch.full((256, 1), mean), torch.tensor(std**2))
        log_probs = dc.discretized_decoder(levels, last)
        ours = level_prob(levels, torch.tensor(mean), torch.tensor(std))[:, 0]
        torch.testing.assert_close(log_probs.exp(), ours, rtol=0, atol=1e-12)
        torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0), rtol=1e-10, atol=0)
        assert log_probs.isfinite().all()
print("25 means and variances: the 256 bins have sum 1, and every logarithm is finite")

# %% [markdown]
# The naive version is right, but not good enough for a loss. Far from the mean both values of the distribution function round to 1 (or to 0), and the logarithm of their difference is $-\infty$. The package stays in log space. The cell goes forty standard deviations away and compares both with a sum over a fine grid inside the bin. (In that sum the largest logarithm, `peak`, is taken out first, so that nothing rounds to 0.)

# %%
far = torch.tensor([[1 - 2 / 255]])
std = 0.02
mean = far - 40 * std
naive = level_prob(far, mean, torch.tensor(std)).log()
kept = dc.discretized_decoder(far, dc.Gaussian(mean, torch.tensor(std**2)))
places = far - 1 / 255 + torch.linspace(0, 2 / 255, 20_001)[:, None, None]
log_density = dc.Gaussian(mean, torch.tensor(std**2)).log_prob(places)[:, 0, 0]
peak = log_density.max()
area = peak + torch.trapezoid((log_density - peak).exp(), dx=2 / 255 / 20_000).log()
torch.testing.assert_close(kept[0], area, rtol=1e-7, atol=0)
print(f"40 sigma away: naive {naive.item()}, package {kept.item():.4f}, integral {area:.4f}")
wide = dc.Gaussian(torch.zeros(2, 1), torch.tensor(1e16))
bits = -dc.discretized_decoder(levels[[0, -1]], wide) / math.log(2)
print(f"sigma = 1e8: black and white cost {bits[0]:.4f} and {bits[1]:.4f} bits")
torch.testing.assert_close(bits, torch.ones(2), rtol=1e-6, atol=0)

# %% [markdown]
# With $\sigma\to\infty$ half of the Gaussian lies below all levels and half above: black and white get probability ½ each, which is one bit, and the grey levels get nothing.
#
# **Bits per dimension.** A probability $P$ is a code length of $-\log_2 P$ bits (Shannon). So for data on levels, $-\log_2 p_\theta(x_0)$ is a length in which the model could store the picture without loss. Nobody can compute it. Why is $-$ELBO, which is larger and speaks of $T$ noisy states, a length as well? Who sends the picture must tell which walk $x_{1:T}$ was used, and that alone costs $-\log_2 p_\theta(x_{1:T})$ bits. But the choice of the walk is free. So let other bits, waiting to be sent anyway, make the choice, as if they were the dice of $q(x_{1:T}\mid x_0)$. The receiver, who has the picture in the end, repeats the choice and reads those bits back: $-\log_2 q(x_{1:T}\mid x_0)$ of them. The price that remains is the mean of $\log_2 q(x_{1:T}\mid x_0)-\log_2 p_\theta(x_{0:T})$, and that is $-$ELBO. This is **bits-back coding**, and it has been built (Townsend et al. 2019).
#
# Divided by the number of pixels the length can be compared between models: `bits_per_dim(nats, dim) = nats / (dim · ln 2)`. Let the data be one pixel, with all 256 levels equally likely. Then no code can do with fewer than 8 bits on average:

# %%
pixel = dc.mixture(levels)  # 256 points
cut = dc.linear_schedule(100)
pixels = levels.repeat(40, 1)
of_pixel = dc.elbo_terms(
    cut,
    dc.mixture_eps_model(cut, pixel),
    pixels,
    decoder=dc.discretized_decoder,
    variances=cut.betas,
    generator=rng,
)
nats = of_pixel.prior + of_pixel.steps.sum(1) + of_pixel.recon
bits = dc.bits_per_dim(nats.mean().item(), 1)
print(f"-ELBO: {bits:.4f} bits, standard error {nats.std() / math.log(2) / len(nats) ** 0.5:.4f}")
assert 8 < bits < 8.4

# %% [markdown]
# **The decoder on other data.** The bins of (18) assume levels from $-1$ to 1. Images are often loaded with values in $[0, 1]$. Then the levels are $1/255$ apart, but each bin is $2/255$ wide: neighbours overlap, and everything is counted twice. For continuous data the decoder has no meaning at all. The package refuses both:

# %%
unit_levels = torch.linspace(0, 1, 256)[:, None]
for wrong in (unit_levels, x0[:5]):
    try:
        dc.discretized_decoder(wrong, dc.Gaussian(torch.zeros_like(wrong), torch.tensor(0.01)))
    except ValueError as error:
        print("ValueError:", error)
total = level_prob(unit_levels, torch.tensor(0.5), torch.tensor(0.1)).sum()
print(f"without the check, the probabilities of the 256 levels have sum {total:.4f}")
assert total > 1.9

# %% [markdown]
# A sum of 2 in the place of 1: each pixel is reported one bit too cheap.

# %% [markdown]
# ## 7. The simple loss
#
# The last step has the form of (16), too. At $t = 1$ the mean is the guess of $x_0$ alone, $\hat x_0 = (x_1-\sqrt{1-\bar\alpha_1}\,\epsilon_\theta)/\sqrt{\bar\alpha_1}$ (lesson 03), and the variance is $\beta_1 = 1-\bar\alpha_1$. The true $x_0$ has $\epsilon$ in the place of $\epsilon_\theta$, so $|x_0-\hat x_0|^2 = \frac{\beta_1}{\alpha_1}|\epsilon-\epsilon_\theta|^2$, and
#
# $$L_0 = \frac{\mathbb E|x_0-\hat x_0|^2}{2\beta_1} + \frac d2\log(2\pi\beta_1) = \frac{1}{2\alpha_1}\;\mathbb E|\epsilon-\epsilon_\theta(x_1,1)|^2 + \frac d2\log(2\pi\beta_1).$$
#
# So $w_1 = 1/(2\alpha_1)$. Add up all terms and forget what cannot be learned: $\sum_t w_t\,\mathbb E|\epsilon-\epsilon_\theta|^2$ is left. Ho et al. (2020) found that images look better without the weights:
#
# $$L_\text{simple} = \mathbb E_{t,\,x_0,\,\epsilon}\;\big|\epsilon-\epsilon_\theta(x_t,t)\big|^2/d,\qquad t \text{ uniform on } 1,\dots,T. \tag{19}$$
#
# (The paper does not divide by $d$; (18) is folded above.) The best answer of all is the same: at each $t$ it is $\mathbb E[\epsilon\mid x_t]$, whatever positive weight stands before it. So a perfect network stays perfect; a real one spends its effort where the weights are large. Without them its bound may get worse. The weights, divided by their mean:

# %%
long, level = dc.vp_schedule(1000), dc.constant_schedule(1000, 0.01)
numbers = torch.arange(2, 1001)
fig, (ax,) = lab.figure(width=8, height=3.4)
for name, s, variances in (
    ("vp, sigma^2 = beta", long, long.betas),
    ("vp, sigma^2 = posterior", long, long.posterior_vars),
    ("constant, sigma^2 = beta", level, level.betas),
):
    weights, _ = dc.eps_weights(s, variances)
    ax.semilogy(numbers, weights[2:] / weights[2:].mean(), label=name)
    early = weights[2:101].sum() / weights.sum()
    print(f"{name:25s} t = 2 .. 100 have {100 * early:.0f} % of the weight; simple: 10 %")
ax.axhline(1, color=lab.BLACK, lw=1, ls=":", label="simple loss")
ax.set(xlabel="t", ylabel="w_t / mean of w_t")
ax.legend()
lab.show(
    fig, "The weights of the bound are largest at small t; the simple loss has weight 1 at all t."
)

# %% [markdown]
# With $T=1000$ the bound cares most about the smallest noise: the last digits of the data. The simple loss, no longer the bound itself, moves effort to the larger $t$, where the coarse shape is decided. Eyes do not see the last digits.
#
# From scratch, with a $t$ for each example:


# %%
def loss_by_hand(schedule, eps_model, x0, rng):
    """Equation (19) on one batch (B, d)."""
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=rng)
    eps = torch.randn(x0.shape, generator=rng)
    keep = schedule.alpha_bars[t][:, None]
    x_t = keep.sqrt() * x0 + (1 - keep).sqrt() * eps
    return (eps - eps_model(x_t, t)).square().mean()


ours = loss_by_hand(schedule, exact, x0, rng.manual_seed(6))
simple = dc.eps_loss(schedule, exact, x0, generator=rng.manual_seed(6))
torch.testing.assert_close(ours, simple, rtol=1e-9, atol=0)
print(f"simple loss from scratch = the package's eps_loss: {simple:.4f}")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the terms without draws
#
# With $t$ uniform, the simple loss is the mean over $t$ of the errors $\mathbb E|\epsilon-\epsilon_\theta(x_t,t)|^2/d$ that stand in (16). `eps_errors` measures them, one $t$ after the other. (So the simple loss is still a bound, but a loose one: times $Td$ and the largest $w_t$, and with the constants added.)
#
# Draws are noisy, and the sections on the gap and on the best variance look at differences of a thousandth. For our data there is a way without any draws. Write $\hat\epsilon = \mathbb E[\epsilon\mid x_t]$ for the best guess. Then
#
# $$\mathbb E(\epsilon-\hat\epsilon)^2 = \mathbb E\epsilon^2 - 2\,\mathbb E[\epsilon\hat\epsilon] + \mathbb E\hat\epsilon^2 = 1 - \mathbb E\hat\epsilon^2.$$
#
# Here is the key. Take the mean of $\epsilon\hat\epsilon$ in two steps: first over all $\epsilon$ that belong to one $x_t$. In this step $\hat\epsilon$ is a fixed number, since it depends on $x_t$ alone, and the mean of $\epsilon$ is $\hat\epsilon$ itself. So the first step gives $\hat\epsilon^2$, and the second $\mathbb E\hat\epsilon^2$. What is left, $1-\mathbb E\hat\epsilon^2$, is an integral over $x_t$ alone. All three ways must agree.


# %%
def exact_errors(schedule, data):
    """E(eps - eps_hat)^2 of the best guess in every row t, by integrals over x_t on the line."""
    eps_model, errors = dc.mixture_eps_model(schedule, data), torch.zeros(schedule.T + 1)
    for t in range(1, schedule.T + 1):
        density = dc.diffuse(schedule, data, t).log_prob(line).exp()
        eps_hat = eps_model(line, t)[:, 0]
        errors[t] = 1 - torch.trapezoid(density * eps_hat**2, line[:, 0])
    return errors


errors = exact_errors(schedule, data)
measured = dc.eps_errors(schedule, exact, x0, generator=rng)
print(
    f"mean error over t: {errors[1:].mean():.4f} by integrals, {measured[1:].mean():.4f} by draws"
)
assert (errors - measured).abs().max() < 5 * math.sqrt(3 / 20_000)
assert abs(simple - errors[1:].mean()) < 5 * math.sqrt(3 / 20_000)

# %% [markdown]
# (The tolerance: an error $(\epsilon-\hat\epsilon)^2$ has a mean square of about 3 at most, like $\epsilon^4$.)
#
# With such a table of errors, the averages of all terms are a few lines of arithmetic. No random number is left. `ledger` returns them per dimension, averaged over the data. The cell compares them with the draws of `elbo_terms`, so it also checks the formula for $L_0$ above.


# %%
def ledger(schedule, errors, variances, mean_square):
    """Average L_T, L_{t-1} in row t, and L_0, per dimension: (17), (16) and section 7."""
    weights, constants = dc.eps_weights(schedule, variances)
    keep = schedule.alpha_bars[-1]
    prior = 0.5 * (keep * (mean_square - 1) - schedule.marginal_vars[-1].log())
    beta_1 = schedule.betas[1]
    recon = 0.5 * (2 * math.pi * beta_1).log() + errors[1] / (2 * schedule.alphas[1])
    return prior, weights * errors + constants, recon


mean_square = data.weights @ (data.means[:, 0] ** 2 + data.vars)
by_integrals = ledger(schedule, errors, schedule.betas, mean_square)
by_draws = dc.elbo_terms(schedule, exact, x0, **options, generator=rng)
for name, number, draws in zip(("L_T", "steps", "L_0"), by_integrals, by_draws, strict=True):
    standard_error = draws.std(0) / math.sqrt(len(x0))
    assert ((draws.mean(0) - number).abs() < 5 * standard_error + 1e-12).all(), name
    print(f"{name:5s} {number.sum():8.4f} nats by integrals, {draws.mean(0).sum():8.4f} by draws")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: is the prior term lost?
#
# A schedule that stops early has a large $L_T$. Is that much lost? Take the linear schedule of 1 000 steps and stop it earlier and earlier; $\beta_t$ of the steps before stays the same. The last column is the divergence of $q(x_T)$, all data together, from $N(0, 1)$.

# %%
line_density = data.log_prob(line).exp()
entropy = -torch.trapezoid(line_density * data.log_prob(line), line[:, 0])  # -E log q(x_0)
print("   T      L_T   all L_(t-1)      L_0    -ELBO   less -E log q   KL of q(x_T)")
for T in (25, 50, 100, 200, 400):
    s = dc.NoiseSchedule(dc.linear_schedule(1000).betas[1 : T + 1])
    parts = ledger(s, exact_errors(s, data), s.betas, mean_square)
    prior, all_steps, recon = (part.sum().item() for part in parts)
    total, end = prior + all_steps + recon, dc.prior_kl(s, data) * math.log(2)
    print(
        f"{T:4d} {prior:8.4f} {all_steps:13.4f} {recon:8.4f} {total:8.4f} {total - entropy:15.4f} {end:14.4f}"
    )
    assert 0 < total - entropy - end < 0.02 and end < prior

# %% [markdown]
# From $T = 400$ down to 25 the prior term grows by more than two nats, and the steps that are no longer taken save most of that. $L_T$ knows $x_0$, so it counts all that $x_T$ still tells about $x_0$. A longer schedule erases that as well, and pays for it in its further steps. What is truly lost is the last column only: how wrong it is to start from $N(0, 1)$ and not from $q(x_T)$. Up to $T=100$ it is nearly all of the gap to the data's own $-\mathbb E\log q(x_0)$. At every $T$ a rest of up to 0.006 nats is left, and section 10 shows what it is.

# %% [markdown]
# ## 8. Where does a denoiser lose?
#
# Now the plane: eight Gaussians on a circle, again with $T = 20$ and $\sigma_t^2=\beta_t$. A small network learns the noise with the simple loss (lesson 05 says how). Two denoisers are bad on purpose: one always answers 0, and one is exact but looks up row $t-1$ in the place of $t$ (at $t=1$ row 1).

# %%
centres, std = toys.toy_centres("eight_gaussians")
plane = dc.mixture(centres, std**2)
perfect = dc.mixture_eps_model(schedule, plane)
training_rng = torch.Generator().manual_seed(1)  # its own: what follows must not depend on it
network = nets.MLP(width=64).float()


def endless_points():
    """Fresh batches without end."""
    while True:
        yield plane.sample(512, generator=training_rng).float()


history = dc.train(
    network,
    lambda model, x: dc.eps_loss(schedule, model, x, generator=training_rng),
    endless_points(),
    steps=1500,
    lr=1e-2,
)

# %% [markdown]
# **Predict, then run.** Which of the two bad denoisers has the worse bound: by a little, or by far? Where does the network lose most: at small or at large $t$?

# %%
denoisers = {
    "exact": perfect,
    "learned": lambda x_t, t: network(x_t.float(), t).double(),
    "off by one": lambda x_t, t: perfect(x_t, (t - 1).clamp(min=1)),
    "always 0": lambda x_t, t: torch.zeros_like(x_t),
}
points = plane.sample(3000, generator=rng.manual_seed(8))
ledgers, excess = {}, {}
for name, denoiser in denoisers.items():
    draws = rng.manual_seed(7)  # the same noise for each
    ledgers[name] = dc.elbo_terms(schedule, denoiser, points, **options, generator=draws)
    squares = torch.zeros(21)  # of what its guess differs from the exact one
    for t in range(1, 21):
        x_t = dc.q_sample(schedule, points, t, generator=draws)
        times = torch.full((3000,), t)
        with torch.no_grad():
            off = denoiser(x_t, times) - perfect(x_t, times)
        squares[t] = off.square().sum(1).mean()
    excess[name] = squares
totals = {name: (a.prior + a.steps.sum(1) + a.recon) for name, a in ledgers.items()}
surprise = -plane.log_prob(points)  # -log q(x_0): no model can be below its mean

# %% [markdown]
# Middle: how far each guess is from the exact one, $\hat\epsilon$, squared. Times $w_t$, this is what its term is worse by: as in the proof of lesson 03 the mixed term is 0, so $\mathbb E|\epsilon-\epsilon_\theta|^2=\mathbb E|\epsilon-\hat\epsilon|^2+\mathbb E|\hat\epsilon-\epsilon_\theta|^2$. Right: no total can be below the dotted line, the mean of $-\log q(x_0)$.

# %%
fig, axes = lab.figure(3, width=13, height=3.8)
colours = (lab.BLACK, lab.RED, lab.SKY, lab.PINK)
for name, marker, colour in zip(ledgers, "osv^", colours, strict=True):
    style = {"marker": marker, "color": colour, "ms": 4, "label": name}
    axes[0].semilogy(range(2, 21), ledgers[name].steps.mean(0)[2:], **style)
    shown = torch.where(excess[name] > 0, excess[name], torch.nan)[1:]
    axes[1].semilogy(range(1, 21), shown, **style)
axes[0].set(xlabel="t", ylabel="L_{t-1}, nats", title="step terms", xticks=range(2, 21, 2))
axes[1].set(xlabel="t", title="squared distance from the exact guess", xticks=range(2, 21, 2))
axes[0].legend(fontsize="small")
place = torch.arange(4)
parts = {
    "all L_{t-1}": [a.steps.sum(1).mean().item() for a in ledgers.values()],
    "L_0": [a.recon.mean().item() for a in ledgers.values()],
    "-ELBO, the sum": [total.mean().item() for total in totals.values()],
}
looks = ((lab.BLUE, ""), (lab.ORANGE, "//"), ("0.6", ".."))
for i, ((name, heights), (color, hatch)) in enumerate(zip(parts.items(), looks, strict=True)):
    style = {"color": color, "hatch": hatch, "ec": "white", "label": name}
    bars = axes[2].bar(place + 0.28 * (i - 1), heights, 0.28, **style)
    axes[2].bar_label(bars, fmt="%.2f", fontsize="x-small", padding=2)

# %%
axes[2].axhline(surprise.mean(), color=lab.BLACK, ls=":", label="-log q(x_0)")
axes[2].axhline(0, color=lab.BLACK, lw=0.8)
axes[2].set(ylabel="nats", xticks=place, xticklabels=ledgers, title="sums")
axes[2].margins(y=0.15)
axes[2].legend(fontsize="small")
lab.show(fig, "Step terms, distance from the exact guess, and sums, for four denoisers.")
lost = {name: (total - totals["exact"]).mean() for name, total in totals.items()}
for name in ("off by one", "always 0"):
    paired = totals[name] - totals["exact"]  # example by example, with the same noise
    assert paired.mean() > 5 * paired.std() / math.sqrt(3000)
    print(f"{name}: {lost[name]:.4f} nats worse than the exact denoiser")
weights, _ = dc.eps_weights(schedule, schedule.betas)
w_1 = 1 / (2 * schedule.alphas[1])  # section 7
print(f"weights: w_1 {w_1:.4f}, w_2 {weights[2]:.4f}, w_6 {weights[6]:.4f}, w_20 {weights[20]:.4f}")
nats = "nats by which the learned denoiser is worse than the exact one"
lab.claim(nats, lost["learned"], below=1, history=history)
early = w_1 * excess["learned"][1] + (weights * excess["learned"])[2:4].sum()
whole = w_1 * excess["learned"][1] + (weights * excess["learned"])[2:].sum()
lab.claim("share of it that lies at t = 1, 2, 3", early / whole, above=0.8, history=history)

# %% [markdown]
# `always 0` pays wherever something could be known. `off by one` costs little, 0.27 nats: in most rows the neighbour's guess is nearly right. What the network loses, it loses at the smallest $t$. The cause is not the weight (with $T=20$ the largest is $w_{20}$), but its guess: at $t=1$ it is farthest from the exact one.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: with real data there is no exact denoiser
#
# Nobody knows the exact terms of real pictures, and a denoiser that looks up the wrong row may look hardly worse than an honest network. What then? Compare the network with itself: ask it on purpose for the row below and for the row above. If your rows are right, both are worse.

# %%
shifted = {}
for shift in (-1, 0, 1):
    terms = dc.elbo_terms(
        schedule,
        lambda x_t, t, shift=shift: denoisers["learned"](x_t, (t + shift).clamp(1, 20)),
        points,
        **options,
        generator=rng.manual_seed(7),
    )
    shifted[shift] = (terms.prior + terms.steps.sum(1) + terms.recon).mean()
for shift, name in ((-1, "below"), (1, "above")):
    worse = shifted[shift] - shifted[0]
    lab.claim(f"asked for the row {name}: nats worse", worse, above=0.005, history=history)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: every term as a number
#
# The whole ledger as text, for the three denoisers whose numbers do not depend on training. Nats are for both coordinates together, and bits are per dimension: nats, divided by 2 and by $\ln 2$. Since the points are real numbers, these bits are relative to a bin of width 1; `bin_width` changes that.


# %%
def means_by_t(terms):
    """The ledger in one row: L_0 in column 1, L_{t-1} in column t, L_T in column T + 1."""
    return torch.stack([0 * terms.recon, terms.recon, *terms.steps.T[2:], terms.prior]).mean(1)


names = ("exact", "off by one", "always 0")
print("              " + "".join(f"{name:>22s}" for name in names))
print("   t  term    " + "          nats  bits/dim" * 3)
rows = {f"{t:4d}  L_{t - 1}": [means_by_t(ledgers[n])[t] for n in names] for t in range(20, 0, -1)}
rows = {"      L_T": [ledgers[n].prior.mean() for n in names], **rows}
rows["      -ELBO"] = [totals[n].mean() for n in names]
rows["      -log q"] = [surprise.mean()] * 3
for name, numbers in rows.items():
    cells = [f"{nats:14.4f}{dc.bits_per_dim(nats, 2):8.4f}" for nats in numbers]
    print(f"{name:14s}" + "".join(cells))

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a cheaper estimate
#
# `elbo_terms` asks the denoiser $T$ times for each example. For $T = 1000$ and images that is slow. `elbo_estimate` draws a few $t$, each with a probability $p_t$, and divides the drawn term by $p_t$. The mean stays right: $\sum_t p_t\cdot(L_{t-1}/p_t) = \sum_t L_{t-1}$. It is least noisy when $p_t$ is proportional to the size of the term; `importance` computes such $p_t$.

# %%
cheap = dc.elbo_estimate(
    schedule,
    perfect,
    points,
    **options,
    probs=dc.importance(ledgers["exact"]),
    draws=4,
    generator=rng,
)
full = totals["exact"]
full_error = full.std().item() / math.sqrt(3000)
print(f"-ELBO: {full.mean():.4f} with 20 calls, {cheap.mean:.4f} with 5")
print(f"standard errors: {full_error:.4f} and {cheap.std_error:.4f}")
assert abs(full.mean() - cheap.mean) < 3 * math.hypot(full_error, cheap.std_error)

# %% [markdown]
# ## 9. What breaks
#
# **A forgotten term.** Averaged over the data, $-\text{ELBO}$ cannot be below $-\mathbb E\log q(x_0)$, which is known for the data of section 1. The cell leaves out each term in turn, and takes $L_0$ with the wrong sign. (The schedule is short, so that $L_T$ counts.)

# %%
cut = dc.linear_schedule(200)
broken = dc.elbo_terms(
    cut,
    dc.mixture_eps_model(cut, data),
    x0,
    decoder=dc.gaussian_decoder,
    variances=cut.betas,
    generator=rng.manual_seed(9),
)
limit = -data.log_prob(x0)
L_T, L_steps, L_0 = broken.prior, broken.steps.sum(1), broken.recon
print(f"{'-E log q(x_0), the limit':24s} {limit.mean():8.4f} nats")
for name, sums in {
    "-ELBO": L_T + L_steps + L_0,
    "without L_T": L_steps + L_0,
    "without the steps": L_T + L_0,
    "without L_0": L_T + L_steps,
    "L_0 with the wrong sign": L_T + L_steps - L_0,
}.items():
    above = sums - limit
    possible = (above.mean() > -3 * above.std() / math.sqrt(len(x0))).item()
    print(f"{name:24s} {sums.mean():8.4f} nats: {'possible' if possible else 'IMPOSSIBLE'}")
    assert possible == (name not in ("without L_T", "without the steps"))

# %% [markdown]
# Without $L_T$ or the steps, the model looks *better* than the truth. On real data nobody knows the limit. So test a likelihood where the truth is known. Mistakes in $L_0$ pass as possible here; whole walks (section 4) show them.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ## Deeper: 10. How tight is the bound?
#
# Even the exact guess leaves a gap between the ELBO and the data's own $\log q(x_0)$. Where does it come from? Compare the whole walks: $q(x_{0:T}) = q(x_0)\,q(x_{1:T}\mid x_0)$ forward, $p_\theta(x_{0:T})$ back. By (12),
#
# $$\mathbb E\log q(x_0) - \mathbb E\,\text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{q(x_{0:T})}{p_\theta(x_{0:T})}\bigg].$$
#
# The forward chain can be read backwards as well, $q(x_{0:T}) = q(x_T)\prod_t q(x_{t-1}\mid x_t)$, with the true step back of lesson 03. Why does $q(x_{t-1}\mid x_t)$ stand here, and not $q(x_{t-1}\mid x_t,\dots,x_T)$? By Bayes' rule the second is proportional to $q(x_{t-1})\,q(x_t\mid x_{t-1})\,q(x_{t+1}\mid x_t)\cdots q(x_T\mid x_{T-1})$, and only the first two factors contain $x_{t-1}$: given $x_t$, the later states say nothing new about it. So the logarithm falls into parts, and each part is a divergence:
#
# $$\mathbb E\log q - \mathbb E\,\text{ELBO} = \text{KL}\big(q(x_T)\,\|\,N(0,I)\big) + \sum_{t=1}^T\mathbb E_{x_t}\text{KL}\big(q(x_{t-1}\mid x_t)\,\|\,p_\theta(x_{t-1}\mid x_t)\big).$$
#
# We call this the **gap formula**. (In the last part, $t=1$, the model's step has the variance $\beta_1$.) In words: **the gap is the wrong start, plus what each step loses by being a Gaussian whose variance is the same for every $x_t$** (and whose mean is wrong, where the guess is not exact). The first part, the wrong start, is the column "KL of q(x_T)" of the table in section 7.
#
# For Gaussian data $N(0, v)$ on the line everything is known. With $V_t = \bar\alpha_t v + 1-\bar\alpha_t$, the variance of $x_t$, the true step back is a Gaussian. Its variance comes from Bayes' rule as that of (8) in lesson 03, with $N(0, V_{t-1})$ for what is known about $x_{t-1}$ beforehand. Precisions add:
#
# $$\frac1{V_{t-1}}+\frac{\alpha_t}{\beta_t} = \frac{\beta_t+\alpha_tV_{t-1}}{\beta_tV_{t-1}} = \frac{V_t}{\beta_tV_{t-1}},\qquad\text{so the variance is}\quad \beta_t\,\frac{V_{t-1}}{V_t}.$$
#
# The means agree, because the exact guess gives the mean of the true step back (lesson 03). So only the variances differ. By (15) each step loses $\tfrac12(\rho_t-1-\log\rho_t)$ with $\rho_t = \beta_tV_{t-1}/(V_t\,\sigma_t^2)$. This is the function of section 5, now with the true variance in the place of the teacher's.


# %%
def gaussian_gap(schedule, v, variances):
    """The gap formula for data N(0, v), in nats: the start, then each step."""
    V = schedule.alpha_bars * v + schedule.marginal_vars
    sigma_squared = torch.cat([schedule.betas[1:2], variances[2:]])
    rho = schedule.betas[1:] * V[:-1] / V[1:] / sigma_squared
    return 0.5 * (V[-1] - 1 - V[-1].log()) + 0.5 * (rho - 1 - rho.log()).sum()


# %% [markdown]
# The check takes another way, through the terms of (14), by `ledger`. It needs two numbers. First, $\mathbb E\log q(x_0) = -\tfrac12\log(2\pi v)-\tfrac12 = -\tfrac12\log(2\pi e\,v)$, for the mean of $x_0^2/v$ is 1. Second, the smallest error of $\epsilon$ is $\text{Var}(\epsilon\mid x_t) = 1-\text{Cov}(\epsilon,x_t)^2/V_t = 1-(1-\bar\alpha_t)/V_t = \bar\alpha_tv/V_t$, by the rule of lesson 03 for jointly Gaussian variables. (For $T = 25$ the integrals of section 7 confirm it.) Then both gaps, for $T$ from 25 to 1600, with $v = 0.3$:

# %%
v = 0.3
sizes = [25 * 2**k for k in range(7)]
gaps = {"beta": [], "posterior": []}
for T in sizes:
    s = dc.vp_schedule(T)
    least = s.alpha_bars * v / (s.alpha_bars * v + s.marginal_vars)
    if T == 25:
        by_integrals = exact_errors(s, dc.mixture(torch.zeros(1, 1), v))
        torch.testing.assert_close(by_integrals[1:], least[1:], rtol=1e-9, atol=1e-12)
    for name, variances in (("beta", s.betas), ("posterior", s.posterior_vars)):
        prior, steps, recon = ledger(s, least, variances, v)
        gap = -0.5 * math.log(2 * math.pi * math.e * v) + prior + steps.sum() + recon
        torch.testing.assert_close(gap, gaussian_gap(s, v, variances), rtol=1e-7, atol=1e-10)
        gaps[name].append(gap.item())
print("   T   gap with beta_t   T times gap   gap with posterior")
for T, with_beta, with_posterior in zip(sizes, *gaps.values(), strict=True):
    print(f"{T:5d} {with_beta:16.5f} {T * with_beta:13.4f} {with_posterior:18.4f}")
assert gaps["beta"][-2] / gaps["beta"][-1] > 1.9

# %% [markdown]
# With $\sigma_t^2=\beta_t$ **the gap falls like $1/T$**: in the table, twice as many steps halve it. Why? There $\rho_t = V_{t-1}/V_t$. The curve of $V$ is cut into $T$ pieces, so $\rho_t$ differs from 1 by something of the size $1/T$. Near 1, $\rho-1-\log\rho$ is about $\tfrac12(\rho-1)^2$, which is of the size $1/T^2$. There are $T$ steps, and $T\cdot 1/T^2 = 1/T$.
#
# With $\sigma_t^2=\tilde\beta_t$ **the gap does not go to 0.** Here $\rho_t = \frac{V_{t-1}}{V_t}\cdot\frac{1-\bar\alpha_t}{1-\bar\alpha_{t-1}}$. Close to the data the noise has only begun, and grows in equal pieces: $1-\bar\alpha_t$ is about $t\,\beta_1$. So the second fraction is about $t/(t-1)$, however many steps there are: 2 at $t=2$, 1.5 at $t=3$. The first fraction tends to 1. (The step $t=1$ is no part of this: its variance is $\beta_1$.) So step $t$ loses half of $\frac t{t-1}-1-\log\frac t{t-1}$. The first part is $\frac1{t-1}$. In the sum of the logarithms all but the last cancel, as in section 3. In the limit $T\to\infty$,
#
# $$\frac12\sum_{t=2}^\infty\bigg[\frac1{t-1}-\log\frac t{t-1}\bigg] = \frac12\lim_{n\to\infty}\bigg[\sum_{k=1}^{n}\frac1k-\log (n+1)\bigg] = \frac\gamma2 = 0.2886\ \text{nats},$$
#
# with Euler's constant $\gamma = 0.5772$. Both results together, for each dimension, with a number $c$ that depends on data and schedule:
#
# $$\mathbb E\log q(x_0)-\mathbb E\,\text{ELBO}(x_0)\ \approx\ \frac cT\ \text{ for }\sigma_t^2=\beta_t,\qquad \to\ \frac\gamma2 = 0.29\ \text{nats for }\sigma_t^2=\tilde\beta_t. \tag{21}$$
#
# The limit $\gamma/2$ does not contain $v$. Very close to the data, any smooth density looks flat, so each coordinate of any such data loses as much. (We check three values of $v$ here. In section 11 the mixture of section 1 is on its way there.)
#
# The table is still far from 0.29, and even rises at first. The reason is the schedule. For vp, $1-\bar\alpha_t$ is about $0.1\,u+9.95\,u^2$ with $u = t/T$ (lesson 02), and only for $u$ far below 0.01 does it grow in equal pieces. So the first few $t$ lie in that range only when $T$ is in the thousands. With many more steps the gap gets there:

# %%
gamma = sum(1 / k for k in range(1, 1_000_001)) - math.log(1_000_001)
rows = [dc.vp_schedule(T) for T in (1600, 25_600, 409_600)]
for v in (0.1, 0.3, 2.0):
    found = [gaussian_gap(s, v, s.posterior_vars).item() for s in rows]
    print(f"v = {v}: T = 1600, 25 600, 409 600: " + ", ".join(f"{gap:.4f}" for gap in found))
    assert abs(found[-1] - gamma / 2) < abs(found[-2] - gamma / 2) < abs(found[0] - gamma / 2)
    assert abs(found[-1] - gamma / 2) < 0.002
print(f"half of Euler's constant: {gamma / 2:.4f}")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ## Deeper: 11. The best variance
#
# Can we do better than both? Look at (16) as a function of $\sigma^2 = \sigma_t^2$, and write $e_t$ for the error per dimension, $\mathbb E|\epsilon-\epsilon_\theta|^2/d$. The two parts of (16), each divided by $d$, are $w_t\,e_t$ and $C_t$. In both, $\sigma^2$ stands below the line or in the logarithm. Sorted by this, and up to what does not contain $\sigma^2$, $L_{t-1}/d$ is
#
# $$\tfrac12\big[A/\sigma^2+\log\sigma^2\big],\qquad A = \tilde\beta_t+\frac{\beta_t^2}{\alpha_t(1-\bar\alpha_t)}\;e_t.$$
#
# The derivative with respect to $\sigma^2$ is $\tfrac12\big[1/\sigma^2-A/\sigma^4\big]$. It is negative for $\sigma^2 < A$, 0 at $A$ and positive above. So $A$ is the best variance, for any guess, exact or not:
#
# $$\sigma_t^{2\,*} = \tilde\beta_t+\frac{\beta_t^2}{\alpha_t(1-\bar\alpha_t)}\ \frac{\mathbb E|\epsilon-\epsilon_\theta|^2}d. \tag{23}$$
#
# In words: what the teacher is unsure of, plus what the pupil does not know.
#
# **For the exact guess** the second part is a variance. With the guess $\hat x_0=\mathbb E[x_0\mid x_t]$, the error is $\mathbb E|x_0-\hat x_0|^2 = \mathbb E\,\text{Var}(x_0\mid x_t)$, summed over coordinates. And by (8) the means of teacher and pupil differ by $\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}(x_0-\hat x_0)$, while by (11) they differ by the noise's error, as in section 5. So
#
# $$\sigma_t^{2\,*} = \tilde\beta_t+\bigg(\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\bigg)^2\ \frac{\mathbb E\,\text{Var}(x_0\mid x_t)}d.$$
#
# Two cases are at the ends. If the data are one point, nothing is unknown, and $\sigma_t^{2\,*} = \tilde\beta_t$. If the data are $N(0, I)$, then $\text{Var}(x_0\mid x_t) = 1-\bar\alpha_t$, and
#
# $$\sigma_t^{2\,*} = \beta_t\,\frac{(1-\bar\alpha_{t-1})+\bar\alpha_{t-1}\,\beta_t}{1-\bar\alpha_t} = \beta_t\,\frac{1-\bar\alpha_{t-1}\,\alpha_t}{1-\bar\alpha_t} = \beta_t.$$
#
# This is where the two usual choices come from.
#
# **The check.** The true step back is the average of teachers over $x_0$, (9) of lesson 03. The variance of such a mixture has two parts: the variance of each, here $\tilde\beta_t$, and the spread of their means. Averaged over $x_t$, these are the two parts of the formula above. So the best variance must be the average variance of the true step back. `mixture_reverse` has that step exactly, and uses no errors of any guess. (For $N(0,1)$ data every $x_t$ has variance 1, so by section 10 the error of $\epsilon$ is $\bar\alpha_t$.)


# %%
def spread_of_step_back(schedule, data, t):
    """The variance of q(x_{t-1} | x_t), averaged over x_t, by an integral over x_t."""
    places = torch.linspace(-5, 5, 401)[:, None]
    density = dc.diffuse(schedule, data, t).log_prob(places).exp()
    variances = []
    for x_t in places:
        back = dc.mixture_reverse(schedule, data, x_t, t)
        mean = back.weights @ back.means[:, 0]
        variances.append(back.weights @ (back.vars + (back.means[:, 0] - mean) ** 2))
    return torch.trapezoid(density * torch.stack(variances), places[:, 0])


b_squared = schedule.betas**2 / (schedule.alphas * (1 - schedule.alpha_bars))
by_23 = schedule.posterior_vars + b_squared * errors  # errors: section 7, without draws
best = dc.best_variances(schedule, errors)
close = {"rtol": 1e-10, "atol": 0}
torch.testing.assert_close(best[2:], by_23[2:], **close)
for t in range(2, 2 + lab.up_to(19, least=3)):  # to 20; in the tests of the course, to 4
    torch.testing.assert_close(best[t], spread_of_step_back(schedule, data, t), rtol=1e-6, atol=0)
one_point = dc.best_variances(schedule, torch.zeros(21))  # no error at all
torch.testing.assert_close(one_point[2:], schedule.posterior_vars[2:], **close)
pure_noise = dc.best_variances(schedule, schedule.alpha_bars)
torch.testing.assert_close(pure_noise[2:], schedule.betas[2:], **close)
print("(23) = the average variance of the true step back, for every t from 2 to 20")

# %% [markdown]
# **Gaussian data** are the one case in which nothing is lost: the true step back *is* a Gaussian, with a variance that does not depend on $x_t$. The best variance meets it, $\sigma_t^{2\,*} = \beta_tV_{t-1}/V_t$, and every step with $t\ge2$ is exact. What remains of the gap is the start, and the last step with its $\beta_1$:

# %%
v, s = 0.3, dc.vp_schedule(25)
V = s.alpha_bars * v + s.marginal_vars  # the variance of x_t
best_of_gauss = dc.best_variances(s, s.alpha_bars * v / V)
torch.testing.assert_close(best_of_gauss[2:], s.betas[2:] * V[1:-1] / V[2:], **close)
rho_1 = V[0] / V[1]
remains = 0.5 * (V[-1] - 1 - V[-1].log()) + 0.5 * (rho_1 - 1 - rho_1.log())
gap = gaussian_gap(s, v, best_of_gauss)
torch.testing.assert_close(gap, remains, rtol=0, atol=1e-12)
print(
    f"gap with the best variances: {gap:.6f} nats; with beta_t: {gaussian_gap(s, v, s.betas):.6f}"
)

# %% [markdown]
# Is the bound really best there? We try two things on the mixture of section 1: multiply all $\sigma_t^{2\,*}$ by one factor, and take more and more steps with each of the three choices. The gap is now $-\text{ELBO}$ by `ledger`, minus $-\mathbb E\log q(x_0)$ by an integral (`entropy`, section 7).


# %%
def bells_gap(T, choice, factor=1.0):
    """The gap in nats for the mixture of section 1; choice(schedule, errors) gives the variances."""
    s = dc.vp_schedule(T)
    if T not in error_tables:
        error_tables[T] = exact_errors(s, data)
    variances = factor * choice(s, error_tables[T])
    prior, steps, recon = ledger(s, error_tables[T], variances, mean_square)
    return (prior + steps.sum() + recon - entropy).item()


error_tables = {}
choices = {
    "beta": lambda s, e: s.betas,
    "posterior": lambda s, e: s.posterior_vars,
    "best": dc.best_variances,
}
curves = {name: [bells_gap(T, choice) for T in sizes] for name, choice in choices.items()}
factors = torch.linspace(0.7, 1.4, 29)
by_factor = [bells_gap(25, dc.best_variances, factor) for factor in factors]

# %%
fig, axes = lab.figure(2, width=11, height=3.4)
for (name, curve), marker in zip(curves.items(), "os^", strict=True):
    axes[0].loglog(sizes, curve, marker=marker, label=name)
axes[0].axhline(gamma / 2, color=lab.BLACK, ls=":", label="gamma / 2")
axes[0].set(xlabel="T", ylabel="gap, nats", title="gap of the bound")
axes[0].legend()
axes[1].plot(factors, by_factor, label="best variances times a factor")
axes[1].axhline(curves["beta"][0], color=lab.ORANGE, ls="--", label="beta, no factor")
axes[1].axvline(1, color=lab.BLACK, ls=":")
axes[1].set(xlabel="factor of all variances", ylabel="gap, nats", title="T = 25")
axes[1].legend()
lab.show(
    fig,
    "The gap falls like 1/T for beta and for the best variances, not for the posterior variance.",
)
print("   T      beta   posterior      best")
for T, *row in zip(sizes, *curves.values(), strict=True):
    print(f"{T:5d}" + "".join(f"{gap:10.5f}" for gap in row))
assert by_factor.index(min(by_factor)) == (factors - 1).abs().argmin()
assert all(best < min(pair) for *pair, best in zip(*curves.values(), strict=True))
assert 1.8 < curves["beta"][-2] / curves["beta"][-1] < 2.2

# %% [markdown]
# For $T = 1600$ the gap is a few thousandths of a nat with $\beta_t$ or with the best variances. The best variances always win, but they too only fall like $1/T$. The variance of the true step back depends on $x_t$, and one number for each $t$ cannot follow it: its ratio $\rho$ to the chosen variance still differs from 1 by something of the size $1/T$, as in section 10. The curve of the posterior variance is on its way to $\gamma/2$.
#

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ## Deeper: 12. All of it, with sliders
#
# The mixture of section 1 again. The guess is now $\kappa$ times the exact one: $\kappa = 1$ is exact and $\kappa = 0$ always answers 0. Its error needs no new integral. With $e$ the error of the exact guess, $\mathbb E\hat\epsilon^2 = \mathbb E[\epsilon\hat\epsilon] = 1-e$ (section 7), so
#
# $$\mathbb E(\epsilon-\kappa\,\hat\epsilon)^2 = 1-2\kappa\,(1-e)+\kappa^2(1-e) = e+(1-\kappa)^2(1-e).$$
#
# **The model's own likelihood.** On a line $p_\theta(x_0)$ is within reach even when it is no Gaussian. Keep the density of $x_t$ as numbers on a grid, and take the model's steps one by one: $p_\theta(x_{t-1}) = \int p_\theta(x_{t-1}\mid x_t)\,p_\theta(x_t)\,dx_t$, a sum over the grid. The cell checks it for Gaussian data against `model_density` of section 2, and checks the formula above against draws.


# %%
def model_on_grid(schedule, guesses, variances):
    """p(x_0) of a model on the grid; guesses[t] is its guess of the noise at every place."""
    density = torch.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    for t in range(schedule.T, 0, -1):
        shrink = schedule.betas[t] / schedule.marginal_vars[t].sqrt()
        mean = (grid - shrink * guesses[t]) / schedule.alphas[t].sqrt()
        var = variances[t] if t > 1 else schedule.betas[1]
        bells = torch.exp(-((grid[:, None] - mean) ** 2) / (2 * var))
        density = bells @ density * 0.03 / torch.sqrt(2 * math.pi * var)
    return density


grid = torch.linspace(-4.5, 4.5, 301)  # in steps of 0.03
guesses = torch.stack([0 * grid, *(gauss_eps(grid[:, None], t)[:, 0] for t in range(1, 21))])
on_grid = model_on_grid(schedule, guesses, schedule.betas)
torch.testing.assert_close(on_grid, of_model.log_prob(grid[:, None])[:, 0].exp(), rtol=0, atol=1e-4)
for kappa in (0.8, 0.0):
    weak = dc.eps_errors(
        schedule, lambda x_t, t, kappa=kappa: kappa * exact(x_t, t), x0, generator=rng
    )
    difference = weak[1:] - (errors + (1 - kappa) ** 2 * (1 - errors))[1:]
    assert difference.abs().max() < 5 * math.sqrt(3 / 20_000)
print("the density on the grid and the error of a weakened guess: both as expected")

# %% [markdown]
# One table of errors and of guesses for each schedule, computed now; the sliders only combine. With `constant`, $\beta_t = 0.02$: with so few steps it stops far from noise. For each schedule we check the whole chain of section 2: $-\text{ELBO}$ is at least $-\mathbb E\log p_\theta(x_0)$, and that is at least $-\mathbb E\log q(x_0)$.

# %%
builders = {
    "vp": dc.vp_schedule,
    "cosine": dc.cosine_schedule,
    "constant": lambda T: dc.constant_schedule(T, 0.02),
}
tables = {}
for name, T in ((name, T) for name in builders for T in (5, 10, 20, 50)):
    s = builders[name](T)
    eps_model = dc.mixture_eps_model(s, data)
    guesses = torch.stack([0 * grid, *(eps_model(grid[:, None], t)[:, 0] for t in range(1, T + 1))])
    tables[name, T] = s, exact_errors(s, data), guesses
q_on_grid = data.log_prob(grid[:, None]).exp()
for s, least, guesses in tables.values():
    prior, steps, recon = ledger(s, least, s.betas, mean_square)
    log_p = model_on_grid(s, guesses, s.betas).log()
    assert prior + steps.sum() + recon > -torch.trapezoid(q_on_grid * log_p, grid) > entropy
print("-ELBO > -E log p(x_0) > -E log q(x_0) for 3 schedules with 4 numbers of steps each")

# %% [markdown]
# The picture: on the left the step terms $L_{t-1}$ over $t/T$, on a logarithmic scale (a bar below $10^{-6}$ is not drawn). On the right $L_T$, the sum of all $L_{t-1}$, $L_0$, and $-\text{ELBO}$, which is the sum of the three bars before it. The bars end at 8; the numbers tell where they really are.

# %%
fig, axes = lab.figure(2, width=11, height=4)
bars = axes[0].vlines([0.0], 1e-6, 1e-3, color=lab.BLUE, lw=3)
axes[0].set(xlim=(0, 1.03), ylim=(1e-6, 30), yscale="log", xlabel="t / T", ylabel="L_{t-1}, nats")
axes[0].set_title("step terms")
sum_colours = [lab.GREEN, lab.BLUE, lab.ORANGE, "0.6"]
sum_bars = axes[1].vlines(range(4), 0.0, 1.0, color=sum_colours, lw=30)
axes[1].axhline(entropy, color=lab.BLACK, ls=":", label="-E log q(x_0), the data's own")
(level,) = axes[1].plot(
    [-0.6, 3.6], [1, 1], color=lab.RED, ls="--", label="-E log p(x_0), the model"
)
axes[1].axhline(0, color=lab.BLACK, lw=0.8)
names = ("L_T", "all L_{t-1}", "L_0", "-ELBO")
axes[1].set(ylim=(-2, 8), xlim=(-0.6, 3.6), xticks=range(4), xticklabels=names, ylabel="nats")
axes[1].legend(loc="upper left", fontsize="small", frameon=True, framealpha=1)
axes[1].set_title("sums")
place = {"transform": axes[1].transAxes, "va": "top", "fontsize": "small"}
place["bbox"] = {"facecolor": "w", "edgecolor": "none", "pad": 1}  # a bar may stand behind
numbers = axes[1].text(0.02, 0.8, "", family="monospace", **place)


# %% [markdown]
# The numbers beside the bars. On a line there is one dimension, so bits per dimension are nats divided by $\ln 2$.


# %%
def numbers_of(parts, surprise_of_p):
    """The text in the picture: each part in nats and bits, and both gaps in nats."""
    lines = []
    for part, nats in zip(names, parts, strict=True):
        lines.append(f"{part:11s} {nats:7.3f} nats {dc.bits_per_dim(nats, 1):7.3f} bits")
    lines.append(f"gap to log p {parts[-1] - surprise_of_p:6.3f} nats")
    lines.append(f"gap to log q {parts[-1] - entropy.item():6.3f} nats")
    return "\n".join(lines)


# %% [markdown]
# The function gets one value from each control, and returns the sentence under the picture.


# %%
def explore_elbo(name, T, quality, variances):
    """Draw the terms; return the sentence under the picture."""
    s, least, guesses = tables[name, T]
    error = least + (1 - quality) ** 2 * (1 - least)
    sigma_squared = choices[variances](s, error)
    prior, steps, recon = (x.tolist() for x in ledger(s, error, sigma_squared, mean_square))
    bars.set_segments([[(t / T, 1e-6), (t / T, max(steps[t], 1e-6))] for t in range(2, T + 1)])
    parts = [prior, sum(steps), recon]
    parts.append(sum(parts))
    sum_bars.set_segments([[(i, 0), (i, min(part, 8.0))] for i, part in enumerate(parts)])
    log_p = model_on_grid(s, quality * guesses, sigma_squared).log()
    surprise_of_p = -torch.trapezoid(q_on_grid * log_p, grid).item()
    level.set_ydata([surprise_of_p] * 2)
    numbers.set_text(numbers_of(parts, surprise_of_p))
    where = f"{name}, T = {T}, {quality:.2f} times the exact guess, variances: {variances}"
    return f"{where}: -ELBO {parts[-1]:.3f} nats, gap to log p {parts[-1] - surprise_of_p:.3f}."


controls = {
    "name": lab.choice("schedule", list(builders)),
    "T": lab.choice("T", [5, 10, 20, 50], 20),
    "quality": lab.slider("denoiser quality", 0.0, 1.0, 0.8, 0.05),
    "variances": lab.choice("variances", list(choices)),
}
lab.Explorer(fig, [bars, sum_bars, level, numbers], explore_elbo, controls)

# %% [markdown]
# `gap to log p` is the divergence of section 2: what the bound loses against the model's own likelihood. `gap to log q` is the gap of section 10: that, plus what the model loses against the data. The control `denoiser quality` is $\kappa$.
#
# Try these:
# - Drag the quality from 1 to 0. The bars at small $t$ hardly move on this scale; the gap comes from the middle and from large $t$, where a walk back begins. (With vp and $T=20$, less than a third of the noise's variance can be known at $t=1,2,3$; near noise it is nearly all, so there is more to lose.)
# - Choose the posterior variance with a bad guess, then `best`. The best variance is larger when the guess is worse: doubt is cheaper than false confidence.
# - Choose `constant` with $T = 5$. Now $L_T$ is there, and no guess makes it smaller. More steps do.

# %% [markdown]
# ## 13. Exercises
#
# **Exercise 1. Predict.** A schedule ends at $\bar\alpha_T = 0.25$. How many nats is the prior term $L_T$ of the single number $x_0 = 2$? Work it out on paper ($\ln 0.75 = -0.28768$), to four digits.

# %%
# STARTER
prior_term = None  # your number here

# SOLUTION
prior_term = 0.5 * (0.25 * 2**2 - 0.25 - math.log(0.75))  # 0.5188

# %%
# lab.hint("04.1")
lab.check("04.1", prior_term)

# %% [markdown]
# **Exercise 2. Derive.** A network may guess $x_0$ in the place of $\epsilon$. With $\sigma_t^2 = \tilde\beta_t$, $L_{t-1}$ is then $\mathbb E|x_0-\hat x_0|^2$ times some weight. Write it with $\text{SNR}_{t-1}$ and $\text{SNR}_t$ alone, where $\text{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$. Enter it as `x0_weight(snr_before, snr)`, for two tensors of the same shape.


# %%
# STARTER
def x0_weight(snr_before, snr):
    return None  # your line here


# SOLUTION
def x0_weight(snr_before, snr):
    return (snr_before - snr) / 2


# %%
# lab.hint("04.2")
lab.check("04.2", x0_weight)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: what the short weight says (after exercise 2)
#
# The step term is $\tfrac12(\text{SNR}_{t-1}-\text{SNR}_t)\,\mathbb E|x_0-\hat x_0|^2$. The schedule has left all formulas but for its SNR: a step costs the error of the guess, times half of what the step adds to the SNR. With more and more steps the sum becomes an integral of the error over the SNR, from that of $x_T$ to that of $x_1$. Such an integral depends on its two ends, not on how fast a schedule runs through what lies between. So with many steps all schedules with the same ends have the same bound, and differ only in how noisy the estimate from a few drawn $t$ is. Kingma et al. (2021) built their variational diffusion models on this. Three schedules with the same ends, with the exact denoiser and the posterior variances:

# %%
some = x0[:2000]
times = {T: torch.linspace(0, 1, T) for T in (10, 100, 1000)}
shapes = {"even": lambda u: u, "early": lambda u: u**2, "late": lambda u: 2 * u - u**2}
for T, u in times.items():
    sums = []
    for bend in shapes.values():
        log_snr = 6 - 14 * bend(u)  # from 6 down to -8
        s = dc.schedule_from_alpha_bars(torch.sigmoid(log_snr))
        guess = dc.mixture_eps_model(s, data)
        parts = dc.elbo_terms(s, guess, some, decoder=dc.gaussian_decoder, generator=rng)
        sums.append(parts.steps.sum(1).mean().item())
    listed = ", ".join(f"{name} {total:.4f}" for name, total in zip(shapes, sums, strict=True))
    print(f"T = {T:4d}, sum of the step terms: {listed}")
assert max(sums) - min(sums) < 0.05  # of the last row

# %% [markdown]
# ### Exercise 3. The terms of a denoiser of your own
#
# (15 to 25 minutes.) Write `my_terms(schedule, denoiser, x0, eps)` for $\sigma_t^2 = \beta_t$, from (16), (17) and the $L_0$ of section 7. `x0` has shape (B, d); row $t$ of `eps` (T+1, B, d) is the noise in $x_t$; `denoiser(x_t, t)` guesses it, for a whole number $t$. Return a tensor of $T+2$ numbers, in nats, averaged over the B examples: 0, then $L_0, L_1, \dots, L_T$. (So $L_{t-1}$ is at place $t$.)


# %%
# STARTER
def my_terms(schedule, denoiser, x0, eps):
    return None  # your lines here


# SOLUTION
def my_terms(schedule, denoiser, x0, eps):
    T, d, terms = schedule.T, x0.shape[1], x0.new_zeros(schedule.T + 2)
    for t in range(1, T + 1):
        beta, keep = schedule.betas[t], schedule.alpha_bars[t]
        x_t = keep.sqrt() * x0 + (1 - keep).sqrt() * eps[t]
        error = (eps[t] - denoiser(x_t, t)).square().sum(1).mean()
        terms[t] = beta / (2 * schedule.alphas[t] * (1 - keep)) * error
        if t == 1:
            terms[t] += d / 2 * (2 * math.pi * beta).log()
        else:
            r = schedule.posterior_vars[t] / beta
            terms[t] += d / 2 * (r - 1 - r.log())
    square = x0.square().sum(1).mean()
    terms[T + 1] = 0.5 * (keep * square - d * keep - d * (1 - keep).log())
    return terms


# %%
# lab.hint("04.3")
lab.check("04.3", my_terms)

# %% [markdown]
# Now change the denoiser of section 1. It may ask the exact one at three $t$; elsewhere it follows a rule of yours, made of `x_t`, `t` and the schedule. **Which rule, and which three $t$, lose least?** Aim: less than 0.05 nats.


# %%
asked = (5, 10, 15)


def my_denoiser(x_t, t):
    """The exact guess at three t, your own rule at all others."""
    if t in asked:
        return exact(x_t, t)
    return torch.zeros_like(x_t)  # your rule


# %% [markdown]
# Your picture: its terms (orange $L_0$, green $L_T$ at place 21), and 4 000 walks back with it.

# %%
noise = torch.randn(21, len(x0), 1, generator=rng.manual_seed(10))
mine = my_terms(schedule, my_denoiser, x0, noise)
written = mine is not None
x = torch.randn(4000, 1, generator=rng.manual_seed(11))
for t in range(20, 0, -1):
    guess = dc.x0_from_eps(schedule, x, my_denoiser(x, t), t)
    fresh = torch.randn(4000, 1, generator=rng) * (t > 1)
    x = dc.p_step(schedule, x, guess, t).mean + schedule.betas[t].sqrt() * fresh
reference = dc.elbo_terms(schedule, exact, x0, **options, generator=rng.manual_seed(12))
best_terms = [reference.recon.mean(), *reference.steps.mean(0)[2:], reference.prior.mean()]
fig, axes = lab.figure(2, width=11, height=3.6)
axes[0].plot(range(1, 22), best_terms, "_", ms=13, mew=2, color=lab.BLACK, label="exact")
title = "your terms, once exercise 3 is written"
if written:
    colours = [lab.ORANGE, *[lab.BLUE] * 19, lab.GREEN]
    axes[0].bar(range(1, 22), mine[1:], color=colours, label="yours")
    lost_here = (mine - my_terms(schedule, exact, x0, noise)).sum()
    title = f"-ELBO {mine.sum():.3f}: {lost_here:.3f} nats lost"

# %% [markdown]
# Do your terms foresee what the walks draw?

# %%
axes[0].axhline(0, color=lab.BLACK, lw=0.8)
axes[0].set(xlabel="t", ylabel="nats", title=title, xticks=range(1, 22, 2))
axes[0].margins(y=0.2)
axes[0].legend(loc="upper right", ncols=2, fontsize="small")
places = torch.linspace(-3.5, 3.5, 701)[:, None]
axes[1].hist(x[:, 0], bins=torch.linspace(-3.5, 3.5, 71), density=True, color=lab.SKY)
axes[1].plot(places, data.log_prob(places).exp(), color=lab.BLACK, label="the data")
axes[1].set(
    xlabel="x_0", ylabel="density", title=f"4 000 walks back, {(x.abs() < 3.5).sum()} in view"
)
axes[1].legend()
lab.show(fig, "The terms of your denoiser beside those of the exact one, and what it draws.")

# %% [markdown]
# <details><summary>Which rule, which three, and what the walks draw</summary>
#
# At large $t$, $x_t$ is nearly $N(0,1)$, and $\sqrt{1-\bar\alpha_t}\,x_t$ is nearly the best guess: $\text{Cov}(\epsilon,x_t)/\text{Var}(x_t)$ times $x_t$, by the rule of lesson 03. Only at small $t$ do the three peaks show. So spend the three on $t = 1, 2, 3$:
#
# ```python
# asked = (1, 2, 3)
# return (1 - schedule.alpha_bars[t]).sqrt() * x_t  # your rule
# ```
#
# This loses 0.018 nats. With the same rule, but asked at 5, 10 and 15, it is 0.251; with 0 as the rule, 6.538.
#
# The terms foresee the walks. The zeros lose most at large $t$: 311 of the 4 000 walks end in view. With the rule asked at 5, 10 and 15, all end in view; what is lost at the last steps is the peaks, which run into each other. With $t=1,2,3$ all three are there.
#
# </details>

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: Exercise 4, a learned variance (after section 11)
#
# Nichol and Dhariwal (2021) let a network choose the variance between the two usual ones, on a logarithmic scale: $\log\sigma_t^2 = \nu\log\beta_t+(1-\nu)\log\tilde\beta_t$. The network learns $\nu$ by making $L_{t-1}$ small. Where does it end? Given the measured error per dimension $e_t = \mathbb E|\epsilon-\epsilon_\theta|^2/d$, find the $\nu$ for which $\sigma_t^2$ is the best variance (23). Write `best_nu(schedule, errors, t)` for one integer $t\ge2$ and a tensor `errors` of shape (B,). It returns a tensor of shape (B,): one $\nu$ for each error. (It may lie above 1 where the guess is bad.)


# %%
# STARTER
def best_nu(schedule, errors, t):
    return None  # your lines here


# SOLUTION
def best_nu(schedule, errors, t):
    beta, low = schedule.betas[t], schedule.posterior_vars[t]
    best = low + beta**2 / (schedule.alphas[t] * schedule.marginal_vars[t]) * errors
    return (best / low).log() / (beta / low).log()


# %%
# lab.hint("04.4")
lab.check("04.4", best_nu)

# %% [markdown]
# ## 14. Summary
#
# 1. A diffusion model is a VAE whose encoder is fixed; Jensen's inequality bounds its log-likelihood from below.
# 2. Bayes' rule with known $x_0$ splits the bound: a prior term, a KL of teacher and pupil for each step, a reconstruction term.
# 3. Each step term is a weighted squared error of the guessed noise.
# 4. Leave out the weights, and the simple loss remains.
# 5. The terms say at which $t$ a denoiser loses; a total without one of them may look better than the truth.
#
# | equation | function |
# |---|---|
# | (12), (13) | `q_trajectory`, `log_ratio`, `log_ratio_telescoped` |
# | (14), (15) | `elbo_terms`, `elbo_estimate`, `importance`, `kl_divergence` |
# | (16), (19) | `eps_weights`, `eps_errors`, `eps_loss` |
# | (17), (18) | `prior_gap`, `prior_kl`, `discretized_decoder`, `gaussian_decoder`, `bits_per_dim` |
# | (21), (23) | `mixture_reverse`, `best_variances` |
#
# (20) is in lesson 05, (22) in 06.
#
# **References.** Kingma and Welling, *Auto-Encoding Variational Bayes* (2014). Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Townsend, Bird and Barber, *Practical Lossless Compression with Latent Variables using Bits Back Coding* (2019). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021). Kingma et al., *Variational Diffusion Models* (2021). Bao et al., *Analytic-DPM* (2022).
#
# **Next**: [05 · Can a network learn to walk back?](05_toy_2d.ipynb)
