# %% [markdown]
# # 04 · How does a bound become a loss?
#
# Lesson 03 found the step back when the clean data is known. A network does not know it. What should it learn, and how good is it then? One number answers both questions: a lower bound on the likelihood of the data. This lesson computes the bound term by term, as numbers.
#
# **At the end you can**
# - derive the bound (ELBO) for a diffusion model, and say what each of its terms means;
# - compute every term in nats and in bits per dimension, for an exact, a learned and a bad model;
# - go from the bound to the loss that everyone uses, and say what is dropped on the way;
# - say how many steps and which variances bring the bound close to the truth.
#
# **You need** lessons 02 and 03. **Time**: about 160 minutes, in two sittings: sections 1 to 7, and the rest.

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
# Some notation from before: the schedule gives $\beta_t$, $\alpha_t = 1-\beta_t$ and $\bar\alpha_t = \alpha_1\cdots\alpha_t$. A noisy state is $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon$ with $\epsilon\sim N(0, I)$.
#
# Our data are numbers: a mixture of three Gaussians on a line, all equally likely. We call them the three bells. For such data the best guess of the noise, $\mathbb E[\epsilon\mid x_t]$, is known exactly (`mixture_eps_model`). It gives a model that walks back from noise to data in $T = 20$ steps.
#
# How well does this model describe the data? A data point $x_0$ that the model finds likely has a small $-\log p(x_0)$: its **surprise**. We cannot compute the surprise, but we can compute a number that it never exceeds. That number is a sum of 21 entries, and we call the list of them the **ledger**:
# - one entry for the start from noise;
# - one entry for each of the 19 steps from $t$ to $t-1$, for $t = 20, \dots, 2$: how far what the model does is from what it would do if it knew $x_0$;
# - one entry for the last step, from $x_1$ to the data.
#
# The unit is the **nat**: like a bit, but with the natural logarithm, so 1 nat is $1/\ln 2 = 1.4427$ bits. The numbers come from `elbo_terms`, which section 4 builds from scratch. It returns `prior` (the start), `steps` (a column for each $t$) and `recon` (the last step), each for every example. The figure shows the means over 20 000 examples. The start is drawn at $t = 21$.

# %%
data = dc.mixture(torch.tensor([[-1.2], [0.1], [1.1]]), torch.tensor([0.04, 0.02, 0.09]))
schedule = dc.vp_schedule(20)
exact = dc.mixture_eps_model(schedule, data)

options = {"decoder": dc.gaussian_decoder, "variances": schedule.betas}  # see section 2

x0 = data.sample(20_000, generator=rng)
terms = dc.elbo_terms(schedule, exact, x0, **options, generator=rng)

line = torch.linspace(-8, 8, 4001)[:, None]
fig, axes = lab.figure(2, width=11, height=3.2)
axes[0].plot(line, data.log_prob(line).exp(), color=lab.BLACK)
axes[0].set(xlabel="x_0", ylabel="density", title="the data", xlim=(-2.5, 2.5))
axes[1].bar(range(2, 21), terms.steps.mean(0)[2:], color=lab.BLUE, label="steps t = 2 .. 20")
axes[1].bar([1], [terms.recon.mean()], color=lab.ORANGE, hatch="//", label="last step, t = 1")
axes[1].bar([21], [terms.prior.mean()], color=lab.GREEN, hatch="xx", label="start, from noise")
axes[1].axhline(0, color=lab.BLACK, lw=0.8)
axes[1].set(xlabel="t", ylabel="nats", title="the ledger: what each step costs")
axes[1].legend()
lab.show(fig, "Data with three bells, and the ledger of an exact model: what each step costs.")

# %% [markdown]
# The steps near the data (small $t$) are the expensive ones. The start from noise costs so little that its bar cannot be seen. The last step has a cost below 0. Sections 4 to 6 explain all three.
#
# ## 2. A likelihood out of reach, and a bound within reach
#
# **The model.** It starts with noise, $p(x_T) = N(0, I)$, and takes Gaussian steps back:
#
# $$p_\theta(x_{t-1}\mid x_t) = N\big(\mu_\theta(x_t,t),\ \sigma_t^2 I\big),\qquad \mu_\theta(x_t, t) = \frac1{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\epsilon_\theta(x_t,t)\Big).$$
#
# The mean is (11) of lesson 03 with the network's guess $\epsilon_\theta$ in the place of $\epsilon$; $\theta$ stands for the network's weights. The variances $\sigma_t^2$ are ours to choose: $\beta_t$ and the posterior variance $\tilde\beta_t$ are the usual two. At $t = 1$ we take $\sigma_1^2 = \beta_1$, for $\tilde\beta_1 = 0$ would leave no density. (Lesson 03 said that a sampler makes the last step without noise. A sampler may: it only has to return a picture. Here we ask how *likely* the data are, and for that the last step needs a density.)
#
# A whole walk back, written $x_{0:T}$ for $x_0, x_1, \dots, x_T$, has the density $p_\theta(x_{0:T}) = p(x_T)\prod_{t=1}^T p_\theta(x_{t-1}\mid x_t)$. How likely does the model find one data point $x_0$? Add up all walks that end there:
#
# $$p_\theta(x_0) = \int p_\theta(x_{0:T})\;dx_{1:T}.$$
#
# This integral runs over $T$ states at once. A grid of 100 places for each state would have $100^T$ points, so it is out of reach. And it is what we would like to make large: a good model finds the data likely.
#
# **The bound.** Multiply and divide by the forward process $q(x_{1:T}\mid x_0) = \prod_{t=1}^T q(x_t\mid x_{t-1})$, which is (3) of lesson 02:
#
# $$p_\theta(x_0) = \int q(x_{1:T}\mid x_0)\;\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\;dx_{1:T}.$$
#
# An integral of $q$ times something is the mean of that something over draws from $q$. We write it $\mathbb E_q$. So the integral is an average over forward walks from $x_0$, and those can be drawn:
#
# $$\log p_\theta(x_0) = \log\ \mathbb E_q\bigg[\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\bigg].$$
#
# The logarithm bends downwards (it is concave). So the mean of the logarithms of some numbers is never above the logarithm of their mean: for 1 and 100, $\tfrac12(\ln 1+\ln 100) = 2.3$, but $\ln 50.5 = 3.9$. This is **Jensen's inequality**. It lets us pull the logarithm inside:
#
# $$\log p_\theta(x_0)\ \ge\ \mathbb E_q\bigg[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\bigg] =: \text{ELBO}(x_0). \tag{12}$$
#
# (The sign $=:$ gives a name to what stands on its left.) ELBO means *evidence lower bound*.
#
# **How far below?** By the definition of a conditional density, $p_\theta(x_{0:T}) = p_\theta(x_0)\;p_\theta(x_{1:T}\mid x_0)$. Put this into (12). The factor $p_\theta(x_0)$ is the same for every walk, so it comes out of the average:
#
# $$\log p_\theta(x_0) - \text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{q(x_{1:T}\mid x_0)}{p_\theta(x_{1:T}\mid x_0)}\bigg] = \text{KL}\big(q(x_{1:T}\mid x_0)\,\|\,p_\theta(x_{1:T}\mid x_0)\big).$$
#
# So the bound is tight when the forward walks from $x_0$ look like the model's own walks that end at $x_0$.
#
# **The same bound elsewhere.** A **variational autoencoder** (VAE) is trained with $\log p(x_0)\ge\mathbb E_q\big[\log\frac{p(x_0\mid z)\,p(z)}{q(z\mid x_0)}\big]$. There $z$ is a hidden code, $q(z\mid x_0)$ an encoder network, and $p(x_0\mid z)$ a decoder network. A diffusion model is a VAE with the code $z = x_{1:T}$. Its encoder has nothing to learn, it adds noise. All learning is in the way back.
#
# ### Both sides as numbers
#
# For Gaussian data $N(m, v)$ we know both sides. The best guess $\mathbb E[\epsilon\mid x_t]$ is a straight line in $x_t$, so each step back is $x_{t-1} = a\,x_t + b + \sigma_t z$ with fresh noise $z$, and a Gaussian stays a Gaussian. Its mean $M$ becomes $aM+b$, its variance $V$ becomes $a^2V+\sigma_t^2$. Start from $M = 0$, $V = 1$; after $T$ steps this is $p_\theta(x_0)$, exactly.


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
# For the right side, draw many forward walks from one $x_0$ (`q_trajectory`) and compute the logarithm of the ratio for each (`log_ratio`). Its mean is the ELBO. And the logarithm of the mean of the ratios, the column `log-mean`, estimates $\log p_\theta(x_0)$ itself: both sides of Jensen's inequality come from the same walks. `gaussian_decoder` says that the last step is the Gaussian written above; section 8 has another choice.
#
# One standard error is new. If a mean $m$ is off by a small $\delta$, its logarithm is off by about $\delta/m$. So the error of the log-mean is the error of the ratios, each divided by their mean. These are the numbers in `share`.

# %%
m, v = 0.5, 0.09
bell_data = dc.mixture(torch.tensor([[m]]), v)
bell_eps = dc.mixture_eps_model(schedule, bell_data)
p = model_density(schedule, bell_eps, schedule.betas)
print("   x_0     ELBO   std. error   log-mean   log p(x_0)   log q(x_0)")
for value in (-0.1, 0.2, 0.5, 0.8, 1.1):
    start = torch.full((20_000, 1), value)
    walks = dc.q_trajectory(schedule, start, generator=rng)
    ratios = dc.log_ratio(schedule, bell_eps, walks, **options)
    elbo, error = ratios.mean(), ratios.std() / math.sqrt(20_000)
    log_mean = ratios.logsumexp(0) - math.log(20_000)
    log_p = p.log_prob(start[:1])[0, 0]
    log_q = bell_data.log_prob(start[:1])[0]
    print(f"{value:6.1f} {elbo:8.4f} {error:12.4f} {log_mean:10.4f} {log_p:12.4f} {log_q:12.4f}")
    assert elbo <= log_p + 5 * error
    share = (ratios - log_mean).exp()
    assert abs(log_mean - log_p) < 5 * share.std() / math.sqrt(20_000)

# %% [markdown]
# Read the columns from left to right:
# - ELBO is below $\log p_\theta(x_0)$ for every $x_0$, by about 0.14 nats.
# - The logarithm of the mean agrees with the exact $\log p_\theta(x_0)$, up to its own standard error.
# - The last column is the data's own density. Our model is a little too wide: the guess is exact, but $\beta_t$ is larger than the variance of the true step back (section 10). Away from the centre it gives **more** than $q$ does. So for a single $x_0$ the ELBO may well be above $\log q(x_0)$. It is, at $-0.1$ and at 1.1. Do not test against it.
#
# On average over the data this cannot happen. For any two densities, $\mathbb E_q[\log q - \log p] = \text{KL}(q\,\|\,p)\ge 0$ (lesson 02). With $x_0$ drawn from the data, this gives $\mathbb E[\text{ELBO}(x_0)]\le\mathbb E[\log p_\theta(x_0)]\le\mathbb E[\log q(x_0)]$. We check the two ends for the three bells; section 12 computes the middle one, too. Both averages use the same $x_0$, so we look at the difference of each pair, and at its standard error.

# %%
elbo = -(terms.prior + terms.steps.sum(1) + terms.recon)
log_q = data.log_prob(x0)
difference = log_q - elbo
error = difference.std() / math.sqrt(len(x0))
print(f"mean of log q(x_0) minus ELBO: {difference.mean():.4f}, standard error {error:.4f}")
assert difference.mean() > -3 * error

# %% [markdown]
# ## 3. Turning the ratio around: telescoping
#
# The ratio in (12) compares steps *back* (in $p_\theta$) with steps *forward* (in $q$). To compare like with like, write $q$ backwards too. Bayes' rule with known $x_0$, (7) of lesson 03, solved for the step forward, says for $t\ge2$
#
# $$q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t, x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}.$$
#
# Multiply these for $t = 2,\dots,T$. In the product of the fractions every $q(x_t\mid x_0)$ stands once above and once below the line, except the last one above and the first one below:
#
# $$\frac{q(x_2\mid x_0)}{q(x_1\mid x_0)}\cdot\frac{q(x_3\mid x_0)}{q(x_2\mid x_0)}\cdots\frac{q(x_T\mid x_0)}{q(x_{T-1}\mid x_0)} = \frac{q(x_T\mid x_0)}{q(x_1\mid x_0)}.$$
#
# Such a product is said to **telescope**. The missing step $t=1$ is $q(x_1\mid x_0)$, and it cancels against the one below the line. What is left:
#
# $$q(x_{1:T}\mid x_0) = \prod_{t=1}^T q(x_t\mid x_{t-1}) = q(x_T\mid x_0)\prod_{t=2}^T q(x_{t-1}\mid x_t,x_0). \tag{13}$$
#
# This is no approximation. It holds for each single walk, and this is how we check it. From scratch first: the left side as a sum of logarithms of bells, and the right side.


# %%
def log_bell(x, mean, var):
    """The logarithm of the density of N(mean, var), one number for each walk."""
    return (-0.5 * (x - mean) ** 2 / var - 0.5 * torch.log(2 * math.pi * var))[:, 0]


a, b, keep = schedule.alphas, schedule.betas, schedule.alpha_bars
walks = dc.q_trajectory(schedule, x0[:1000], generator=rng)
forward = sum(log_bell(walks[t], a[t].sqrt() * walks[t - 1], b[t]) for t in range(1, 21))
backward = log_bell(walks[20], keep[20].sqrt() * x0[:1000], 1 - keep[20])
for t in range(2, 21):
    of_x0 = keep[t - 1].sqrt() * b[t] / (1 - keep[t])
    of_x_t = a[t].sqrt() * (1 - keep[t - 1]) / (1 - keep[t])
    mean = of_x0 * x0[:1000] + of_x_t * walks[t]  # (8) of lesson 03
    backward = backward + log_bell(walks[t - 1], mean, (1 - keep[t - 1]) / (1 - keep[t]) * b[t])
torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-10)
print("(13): both sides agree, walk by walk, for 1 000 walks of 20 steps")

# %% [markdown]
# The package computes the logarithm of the whole ratio in (12) in two ways. `log_ratio` takes the left side of (13) for $q$, and `log_ratio_telescoped` the right side. They must agree for each walk. From scratch the ratio needs $\log p_\theta(x_{0:T})$ as well. The cell adds it up, step by step, and subtracts our `forward`.

# %%
ratios = dc.log_ratio(schedule, exact, walks, **options)
turned = dc.log_ratio_telescoped(schedule, exact, walks, **options)
torch.testing.assert_close(ratios, turned, rtol=1e-12, atol=1e-12)

log_p = log_bell(walks[20], torch.zeros(1), torch.ones(1))
for t in range(20, 0, -1):
    eps_hat = exact(walks[t], t)
    mean = (walks[t] - b[t] / (1 - keep[t]).sqrt() * eps_hat) / a[t].sqrt()  # (11)
    log_p = log_p + log_bell(walks[t - 1], mean, b[t])
torch.testing.assert_close(ratios, log_p - forward, rtol=1e-10, atol=1e-10)
print("log_ratio, log_ratio_telescoped and the version from scratch agree for every walk")

# %% [markdown]
# ## 4. The ledger: one term for each step
#
# Put (13) into (12), turn the fraction upside down for $-\text{ELBO}$, and sort by $t$. Each step of $q$ now stands above the same step of $p_\theta$:
#
# $$-\text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{q(x_T\mid x_0)}{p(x_T)} + \sum_{t=2}^T\log\frac{q(x_{t-1}\mid x_t,x_0)}{p_\theta(x_{t-1}\mid x_t)} - \log p_\theta(x_0\mid x_1)\bigg].$$
#
# An average of $\log(q/p)$ over $q$ is a Kullback–Leibler divergence. In the middle terms a walk counts only through the pair $x_t, x_{t-1}$. We may draw this pair in any order: first $x_t$ from $q(x_t\mid x_0)$, then $x_{t-1}$ from $q(x_{t-1}\mid x_t, x_0)$. The average over $x_{t-1}$, with $x_t$ fixed, is the divergence between two *known Gaussians*. Then average over $x_t$:
#
# $$-\text{ELBO} = \underbrace{\text{KL}\big(q(x_T|x_0)\,\|\,p(x_T)\big)}_{L_T} + \sum_{t=2}^T\underbrace{\mathbb E_{x_t}\,\text{KL}\big(q(x_{t-1}|x_t,x_0)\,\|\,p_\theta(x_{t-1}|x_t)\big)}_{L_{t-1}}\ \underbrace{-\ \mathbb E_{x_1}\log p_\theta(x_0|x_1)}_{L_0}. \tag{14}$$
#
# In words:
# - $L_T$, the **prior term**: what is left of $x_0$ after $T$ steps. The model starts from pure noise and knows nothing of it. (The prior is the model's start $p(x_T)$ here. Lesson 03 used the word for $q(x_{t-1})$.)
# - $L_{t-1}$, the **step terms**: the teacher $q(x_{t-1}\mid x_t,x_0)$ knows the clean data; the pupil $p_\theta$ does not. This is how far apart they are.
# - $L_0$, the **reconstruction term**: how surprised the last step is by the data itself. It may be below 0, for a density can be above 1.
#
# Mind the index: $L_{t-1}$ belongs to the step *from* $t$ *to* $t-1$. In the package it stands in column $t$.
#
# What is (14) good for? Its sum has the same mean as $-1$ times the logarithm in (12). But (12) needs whole walks, and gives one number. In (14) each term can be had alone: one draw $x_t$, taken from $x_0$ at once, and a formula does the rest of the average. So training can work on one $t$ at a time, and we can see which step costs how much.
#
# ### The divergence of two Gaussians
#
# Take $p = N(m_1, v_1)$ and $q = N(m_2, v_2)$ on the line. (These are any two Gaussians, not our process.) With $x$ drawn from $p$,
#
# $$\log\frac{p(x)}{q(x)} = \frac12\log\frac{v_2}{v_1} - \frac{(x-m_1)^2}{2v_1} + \frac{(x-m_2)^2}{2v_2}.$$
#
# The mean of $(x-m_1)^2$ is $v_1$. For the other square, write $x - m_2 = (x-m_1) + (m_1-m_2)$; the mixed term averages to 0, so its mean is $v_1 + (m_1-m_2)^2$. Together:
#
# $$\text{KL}(p\,\|\,q) = \frac12\bigg[\frac{v_1}{v_2} - 1 - \log\frac{v_1}{v_2} + \frac{(m_1-m_2)^2}{v_2}\bigg]. \tag{15}$$
#
# For **equal variances** only the last part remains, $(m_1-m_2)^2/(2v)$: a squared error. For several coordinates with independent noise, add up over the coordinates.


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
package = dc.kl_divergence(dc.Gaussian(m_1, v_1), dc.Gaussian(m_2, v_2))
torch.testing.assert_close(ours, package, rtol=1e-12, atol=1e-14)
x = m_1 + v_1.sqrt() * torch.randn(20_000, 200, generator=rng)
logs = dc.Gaussian(m_1, v_1).log_prob(x) - dc.Gaussian(m_2, v_2).log_prob(x)
assert ((logs.mean(0) - ours).abs() < 5 * logs.std(0) / math.sqrt(20_000)).all()
equal = kl_from_scratch(m_1, v_1, m_2, v_1)
torch.testing.assert_close(equal, (m_1 - m_2) ** 2 / (2 * v_1), rtol=1e-12, atol=1e-15)
print("(15) = torch.distributions = the mean over 20 000 draws, for 200 pairs of Gaussians")

# %% [markdown]
# ### From scratch
#
# Now the whole ledger (14), for data on the line. One draw of $x_t$ for each example and each term.


# %%
def ledger_by_draws(schedule, eps_model, x0, variances, rng):
    """Return L_T, the L_{t-1} in column t, and L_0, for each example x0 (B, 1)."""
    a, b, keep = schedule.alphas, schedule.betas, schedule.alpha_bars
    prior = kl_from_scratch(keep[-1].sqrt() * x0, 1 - keep[-1], 0.0, torch.ones(1))
    steps = torch.zeros(len(x0), schedule.T + 1)
    for t in [*range(2, schedule.T + 1), 1]:
        eps = torch.randn(x0.shape, generator=rng)
        x_t = keep[t].sqrt() * x0 + (1 - keep[t]).sqrt() * eps
        shrink = b[t] / (1 - keep[t]).sqrt()
        pupil = (x_t - shrink * eps_model(x_t, t)) / a[t].sqrt()
        teacher = (x_t - shrink * eps) / a[t].sqrt()  # (11) with the true noise
        if t > 1:
            v_1 = (1 - keep[t - 1]) / (1 - keep[t]) * b[t]
            steps[:, t] = kl_from_scratch(teacher, v_1, pupil, variances[t])[:, 0]
    return prior[:, 0], steps, -log_bell(x0, pupil, b[1])


# %% [markdown]
# The loop takes $t = 1$ last, so that `pupil` is the mean of the last step when $L_0$ is computed. This is the package's version:

# %%
lab.show_source(dc.elbo_terms)

# %% [markdown]
# The same random numbers, the same terms. And the sum of the means must be minus the mean of the logarithm of the ratio over whole walks, which knows nothing of divergences:

# %%
ours = ledger_by_draws(schedule, exact, x0, schedule.betas, rng.manual_seed(5))
theirs = dc.elbo_terms(schedule, exact, x0, **options, generator=rng.manual_seed(5))
for mine, package in zip(ours, theirs, strict=True):
    torch.testing.assert_close(mine, package, rtol=1e-8, atol=1e-9)
print("the ledger from scratch and by the package: the same numbers")

total = theirs.prior + theirs.steps.sum(1) + theirs.recon
walks = dc.q_trajectory(schedule, x0, generator=rng)
from_walks = -dc.log_ratio(schedule, exact, walks, **options)
errors = [z.std() / math.sqrt(len(x0)) for z in (total, from_walks)]
assert abs(total.mean() - from_walks.mean()) < 3 * math.hypot(*errors)
print(f"-ELBO by its terms:    {total.mean():.4f} nats, standard error {errors[0]:.4f}")
print(f"-ELBO by whole walks:  {from_walks.mean():.4f} nats, standard error {errors[1]:.4f}")

# %% [markdown]
# Both agree. The walks have the *smaller* standard error. Why? If the model's walks were exactly the forward walks, the ratio in (12) would be $p_\theta(x_0)$ for each of them, and no noise would be left. In a walk the steps share their states, so much of their noise cancels; the terms of (14) are drawn one by one. So (14) is not there to measure the total more quickly. It is there to split it.
#
# ## 5. A step term is a squared error of the noise
#
# Look at $L_{t-1}$ more closely. The teacher has the variance $\tilde\beta_t$ and the pupil $\sigma_t^2$. Write $r_t = \tilde\beta_t/\sigma_t^2$ for their ratio. By (15), in $d$ dimensions,
#
# $$L_{t-1} = \frac{\mathbb E\,|\tilde\mu_t-\mu_\theta|^2}{2\sigma_t^2} + d\,C_t,\qquad C_t = \tfrac12\big[r_t - 1 - \ln r_t\big].$$
#
# By (11), teacher and pupil have the same mean but for the noise: $\epsilon$ there, $\epsilon_\theta$ here. In the difference, $x_t$ drops out:
#
# $$\tilde\mu_t - \mu_\theta = \frac{\beta_t}{\sqrt{\alpha_t}\,\sqrt{1-\bar\alpha_t}}\;(\epsilon_\theta - \epsilon).$$
#
# Square it and put it in:
#
# $$L_{t-1} = w_t\;\mathbb E\,\big|\epsilon - \epsilon_\theta(x_t,t)\big|^2 + d\,C_t,\qquad w_t = \frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}. \tag{16}$$
#
# **So the network learns to guess noise because the bound asks for it.** $C_t$ does not depend on the network. It is 0 exactly when $\sigma_t^2 = \tilde\beta_t$, that is at $r_t = 1$. Everywhere else it is positive: $\ln r$ bends downwards, and the straight line $r - 1$ touches it at $r = 1$ from above.
#
# Without the $\mathbb E$, (16) holds for each single draw of $x_t$, whatever the guess is. So we check it with guesses that are plain nonsense, against the divergence of the two Gaussians. `eps_weights` is the package's table of $w_t$ and $C_t$; the cell computes both from scratch and compares.

# %%
some_x0, eps, nonsense = torch.randn(3, 500, 2, generator=rng)
a, b, left = schedule.alphas[2:], schedule.betas[2:], 1 - schedule.alpha_bars[2:]
for name, variances in {"beta": schedule.betas, "posterior": schedule.posterior_vars}.items():
    weights, constants = dc.eps_weights(schedule, variances)
    r = schedule.posterior_vars[2:] / variances[2:]
    ours = b**2 / (2 * variances[2:] * a * left), 0.5 * (r - 1 - r.log())
    torch.testing.assert_close((weights[2:], constants[2:]), ours, rtol=1e-10, atol=1e-14)
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
# $L_T$ contains no network and nothing to learn. With $q(x_T\mid x_0) = N(\sqrt{\bar\alpha_T}\,x_0,\ 1-\bar\alpha_T)$, (15) gives for each coordinate
#
# $$L_T = \frac12\Big[\bar\alpha_T\,x_0^2 - \bar\alpha_T - \log(1-\bar\alpha_T)\Big]. \tag{17}$$
#
# So only $\bar\alpha_T$ counts, and the mean of $x_0^2$. Averaged over data and divided by $\ln 2$ this is the *prior gap* of lesson 02, in bits. The table has it for data with mean square 1. The last column is the divergence of $q(x_T)$, all data together, from $N(0, I)$, by an integral. It is never larger, because $L_T$ knows $x_0$ and may count what $x_T$ still tells about it.

# %%
sized = torch.where(torch.rand(2000, 1, generator=rng) < 0.5, 1.0, -1.0)  # x_0^2 = 1
two_points = dc.mixture(torch.tensor([[-1.0], [1.0]]))
print("schedule               alpha_bar_T   L_T, nats   in bits   all data, bits")
for name, s in {
    "linear, T = 1000": dc.linear_schedule(1000),
    "vp, any T": dc.vp_schedule(100),
    "cosine, T = 1000": dc.cosine_schedule(1000),
    "constant 0.01, T = 1000": dc.constant_schedule(1000, 0.01),
    "linear, cut to T = 200": dc.linear_schedule(200),
    "linear, cut to T = 50": dc.linear_schedule(50),
}.items():
    end = dc.q_marginal(s, sized, s.T)
    nats = kl_from_scratch(end.mean, end.var, 0.0, torch.ones(1)).mean()
    by_17 = -0.5 * s.marginal_vars[-1].log()  # (17) with x_0^2 = 1: the other two parts cancel
    torch.testing.assert_close(nats, by_17, rtol=1e-7, atol=1e-15)
    bits, together = dc.prior_gap(s), abs(dc.prior_kl(s, two_points))  # abs: no -0.0000
    assert abs(bits - nats / math.log(2)) < 1e-12
    assert together < bits + 1e-9
    print(f"{name:24s} {s.alpha_bars[-1]:9.1e} {nats:11.1e} {bits:9.1e} {together:16.4f}")

# %% [markdown]
# For a schedule that reaches noise, $L_T$ is next to nothing. For one that was cut short it is an entry that no training makes smaller.
#
# Is it lost? Only the last column is. It says how wrong it is to start from $N(0, I)$, and it comes back in section 10 as a part of the gap. The rest of $L_T$ is what $x_T$ still tells about $x_0$. A longer schedule would erase that, too, and pay for it in its further steps.
#
# ## 7. The simple loss
#
# Add up (16) and forget what cannot be learned. What is left to minimise is $\sum_t w_t\,\mathbb E|\epsilon-\epsilon_\theta|^2$. The last step fits in. Its mean is $\hat x_0 = (x_1-\sqrt{1-\bar\alpha_1}\,\epsilon_\theta)/\sqrt{\bar\alpha_1}$, for at $t = 1$ the mean (8) is the guess of $x_0$ alone (lesson 03). Its variance is $\beta_1 = 1-\bar\alpha_1$. The true $x_0$ has the same form with $\epsilon$ in the place of $\epsilon_\theta$, so $|x_0-\hat x_0|^2 = \frac{\beta_1}{\alpha_1}|\epsilon-\epsilon_\theta|^2$. Therefore
#
# $$L_0 = \frac{\mathbb E|x_0-\hat x_0|^2}{2\beta_1} + \frac d2\log(2\pi\beta_1) = \frac{1}{2\alpha_1}\;\mathbb E|\epsilon-\epsilon_\theta(x_1,1)|^2 + \frac d2\log(2\pi\beta_1).$$
#
# So $w_1 = 1/(2\alpha_1)$, which is also what (16) gives for $t = 1$ and $\sigma_1^2=\beta_1$.
#
# Ho et al. (2020) found that images look better when the weights are left out:
#
# $$L_\text{simple} = \mathbb E_{t,\,x_0,\,\epsilon}\;\big|\epsilon-\epsilon_\theta(x_t,t)\big|^2/d,\qquad t \text{ uniform on } 1,\dots,T. \tag{19}$$
#
# (The paper does not divide by $d$. A constant factor does not move the minimum.) For a network that can be any function, the best answer is the same: each $t$ has its own smallest error, reached at $\epsilon_\theta = \mathbb E[\epsilon\mid x_t]$, whatever positive weight stands before it. The weights decide where a network that cannot be perfect everywhere spends its effort. The figure shows $w_t$ divided by its mean over $t$, so that the simple loss is the line at 1.

# %%
long, level = dc.vp_schedule(1000), dc.constant_schedule(1000, 0.01)
steps = torch.arange(2, 1001)
fig, (ax,) = lab.figure(width=8, height=3.4)
for name, s, variances in (
    ("vp, sigma^2 = beta", long, long.betas),
    ("vp, sigma^2 = posterior", long, long.posterior_vars),
    ("constant, sigma^2 = beta", level, level.betas),
):
    weights, _ = dc.eps_weights(s, variances)
    ax.semilogy(steps, weights[2:] / weights[2:].mean(), label=name)
    early = weights[2:101].sum() / weights.sum()
    print(f"{name:25s} t = 2 .. 100 have {100 * early:.0f} % of the weight; simple: 10 %")
ax.axhline(1, color=lab.BLACK, lw=1, ls=":", label="simple loss")
ax.set(xlabel="t", ylabel="w_t / mean of w_t")
ax.legend()
lab.show(
    fig, "The weights of the bound are largest at small t; the simple loss has weight 1 at all."
)

# %% [markdown]
# The bound cares most about the smallest noise: it pays for the last digits of the data. The simple loss moves effort to the larger $t$, where the coarse shape is decided. It is no longer the bound itself. (Times $T d$ and the largest $w_t$, and with the constants added, it still bounds, but loosely.) Eyes do not see the last digits, so for pictures the trade is worth it. Lesson 06 goes further: its loss, written for $\epsilon$, has the weight $1/\bar\alpha_t$, which grows with $t$.
#
# Now the simple loss from scratch: draw a $t$ and a noise for each example, and ask for the noise.


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

# %% [markdown]
# With $t$ uniform, the simple loss is the mean over $t$ of the errors $\mathbb E|\epsilon-\epsilon_\theta(x_t,t)|^2/d$ that stand in (16). `eps_errors` measures them, one $t$ after the other.
#
# For our data there is also a way without any draws. Write $\hat\epsilon = \mathbb E[\epsilon\mid x_t]$ for the best guess. On the line, its error is
#
# $$\mathbb E(\epsilon-\hat\epsilon)^2 = \mathbb E\epsilon^2 - 2\,\mathbb E[\epsilon\hat\epsilon] + \mathbb E\hat\epsilon^2 = 1 - \mathbb E\hat\epsilon^2,$$
#
# because $\mathbb E[\epsilon\hat\epsilon] = \mathbb E\hat\epsilon^2$: average over $\epsilon$ first, with $x_t$ fixed. The right side is an integral over $x_t$ alone. All three must agree.


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
# With such a table of errors, the averages of all entries of the ledger are a few lines of arithmetic. No random number is left. `ledger` returns them per dimension, averaged over the data. The cell compares them with the draws of `elbo_terms`, so it also checks the formula for $L_0$ above.


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

# %% [markdown]
# ## 8. The last step on data with levels
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
# **Bits per dimension.** A probability $P$ is a code length of $-\log_2 P$ bits (Shannon). So for data on levels, $-$ELBO in bits is a length in which the model can store the picture without loss. Divided by the number of pixels it can be compared between models: `bits_per_dim(nats, dim) = nats / (dim · ln 2)`.
#
# ## 9. The ledger of an exact, a learned and two bad models
#
# Now points in the plane: eight Gaussians on a circle, the same $T = 20$ steps, $\sigma_t^2=\beta_t$. A small network learns the noise in 1500 steps with the simple loss (lesson 05 is about that). It works in float32, which is faster. Two other guesses are bad on purpose: one always answers 0, and one is exact but looks up the wrong row, $t-1$ in place of $t$.

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
# **Predict, then run.** Which of the two bad models has the worse bound: by a little, or by far? In which steps does the network lose most against the exact guess: at small $t$ or at large $t$? Write your answers down. The table and the figures below have the true ones.

# %%
models = {
    "exact": perfect,
    "learned": lambda x_t, t: network(x_t.float(), t).double(),
    "off by one": lambda x_t, t: perfect(x_t, (t - 1).clamp(min=1)),
    "always 0": lambda x_t, t: torch.zeros_like(x_t),
}
points = plane.sample(3000, generator=rng)
ledgers = {}
for name, model in models.items():
    draws = rng.manual_seed(7)  # the same noise for each model
    ledgers[name] = dc.elbo_terms(schedule, model, points, **options, generator=draws)
totals = {name: (a.prior + a.steps.sum(1) + a.recon) for name, a in ledgers.items()}
surprise = -plane.log_prob(points)  # -log q(x_0): no model can be below its mean

# %% [markdown]
# First the whole ledger as text, for the three models whose numbers do not depend on training. Nats are for both coordinates together, and bits are per dimension: nats, divided by 2 and by $\ln 2$. Since the points are real numbers, these bits are relative to a bin of width 1; `bin_width` changes that.


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

# %% [markdown]
# Now the ledger as bars over $t$, for all four models. Each bar has its number in nats; $L_T$, at $t = 21$, is too small to see. The scale on the right is in bits per dimension.


# %%
def draw_ledger(ax, terms, title):
    """Bars over t: L_0 at t = 1, L_{t-1} at t = 2 .. T, L_T at T + 1, each with its number."""
    heights, end = means_by_t(terms), len(terms.steps[0])
    for places, color, hatch, label in (
        (range(1, 2), lab.ORANGE, "//", "L_0, at t = 1"),
        (range(2, end), lab.BLUE, "", "L_{t-1}, at t"),
        (range(end, end + 1), lab.GREEN, "xx", f"_L_T, at t = {end}"),
    ):
        bars = ax.bar(places, heights[places], color=color, hatch=hatch, label=label)
        ax.bar_label(bars, fmt="%.3f", rotation=90, fontsize=7, padding=3)
    ax.axhline(0, color=lab.BLACK, lw=0.8)
    ax.set(title=title, xlabel="t", ylabel="nats", xticks=range(1, end + 1, 2))
    per_bit = 2 * math.log(2)  # nats in one bit for each of two coordinates
    both_ways = (lambda nats: nats / per_bit, lambda bits: bits * per_bit)
    ax.secondary_yaxis("right", functions=both_ways).set_ylabel("bits per dimension")


fig, axes = lab.figure(2, 2, width=12, height=7, sharey=True)
for ax, (name, terms) in zip(axes, ledgers.items(), strict=True):
    draw_ledger(ax, terms, name)
axes[0].margins(y=0.2)
axes[0].legend(loc="upper right")
lab.show(fig, "The ledger over t for four models: exact, learned, off by one row, and always 0.")

# %% [markdown]
# At large $t$ most bars are too small to see. So here are the step terms once more, on a logarithmic scale, and beside them the totals. The dotted line is $-\log q(x_0)$ of the data, averaged. By section 2 no total can be below it.

# %%
fig, axes = lab.figure(2, width=12, height=3.8)
for (name, a), marker in zip(ledgers.items(), "osv^", strict=True):
    axes[0].semilogy(range(2, 21), a.steps.mean(0)[2:], marker=marker, ms=4, label=name)
axes[0].set(xlabel="t", ylabel="L_{t-1}, nats", title="step terms", xticks=range(2, 21, 2))
axes[0].legend()
place = torch.arange(4)
parts = {
    "all L_{t-1}": [a.steps.sum(1).mean().item() for a in ledgers.values()],
    "L_0": [a.recon.mean().item() for a in ledgers.values()],
    "-ELBO, the sum": [total.mean().item() for total in totals.values()],
}
looks = ((lab.BLUE, ""), (lab.ORANGE, "//"), (lab.SKY, ".."))  # those of the figure above
for i, ((name, heights), (color, hatch)) in enumerate(zip(parts.items(), looks, strict=True)):
    style = {"color": color, "hatch": hatch, "ec": "white", "label": name}
    bars = axes[1].bar(place + 0.28 * (i - 1), heights, 0.28, **style)
    axes[1].bar_label(bars, fmt="%.2f", fontsize="small", padding=2)
axes[1].axhline(surprise.mean(), color=lab.BLACK, ls=":", label="-log q(x_0)")
axes[1].axhline(0, color=lab.BLACK, lw=0.8)
axes[1].set(ylabel="nats", xticks=place, xticklabels=ledgers, title="sums", xlabel="model")
axes[1].margins(y=0.15)
axes[1].legend(fontsize="small", ncols=2)
lab.show(fig, "Step terms over t, and all steps, L_0 and the whole sum for four models.")

# %% [markdown]
# The differences to the exact model, example by example. Both have the same noise, so their difference is known well.

# %%
lost = {name: (total - totals["exact"]).mean() for name, total in totals.items()}
for name in ("off by one", "always 0"):
    paired = totals[name] - totals["exact"]
    assert paired.mean() > 5 * paired.std() / math.sqrt(3000)
    print(f"{name}: {lost[name]:.4f} nats worse than the exact model")
for name in ("exact", "off by one", "always 0"):
    above = totals[name] - surprise
    assert above.mean() > -3 * above.std() / math.sqrt(3000)
early = [means_by_t(ledgers[name])[1:4].sum() for name in ("learned", "exact")]
share = (early[0] - early[1]) / lost["learned"]
lab.claim("share of its loss that lies at t = 1, 2, 3", share, above=0.8, history=history)
weights, _ = dc.eps_weights(schedule, schedule.betas)
w_1 = 1 / (2 * schedule.alphas[1])  # section 7
print(f"weights: w_1 {w_1:.4f}, w_2 {weights[2]:.4f}, w_6 {weights[6]:.4f}, w_20 {weights[20]:.4f}")
lab.claim(
    "nats by which the learned model is worse than the exact one",
    lost["learned"],
    below=1,
    history=history,
)

# %% [markdown]
# A loss says little by itself; a ledger says where a model loses. `always 0` pays in every step where something could be known. `off by one` costs surprisingly little: in most rows the neighbour's guess is nearly right. A mistake like that hides in a loss curve; beside the exact ledger it shows. The network is good nearly everywhere. What it loses, it loses at the smallest $t$. The weights are not the cause: with $T = 20$ the largest is $w_{20}$. The network's own guess is farthest from the exact one there.
#
# **A cheaper estimate.** `elbo_terms` asks the network $T$ times for each example. For $T = 1000$ and images that is slow. `elbo_estimate` draws a few $t$, each with a probability $p_t$, and divides the drawn term by $p_t$. The mean stays right: $\sum_t p_t\cdot(L_{t-1}/p_t) = \sum_t L_{t-1}$. It is least noisy when $p_t$ is proportional to the size of the term; `importance` computes such $p_t$.

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
# ## 10. How tight is the bound?
#
# Even the exact guess leaves a gap between the ELBO and the data's own $\log q(x_0)$. Where does it come from? In this section $\mathbb E$ averages over $x_0$ from the data, too. Compare the whole walks: $q(x_{0:T}) = q(x_0)\,q(x_{1:T}\mid x_0)$ forward, $p_\theta(x_{0:T})$ back. By (12),
#
# $$\mathbb E\log q(x_0) - \mathbb E\,\text{ELBO}(x_0) = \mathbb E_q\bigg[\log\frac{q(x_{0:T})}{p_\theta(x_{0:T})}\bigg].$$
#
# The forward chain can be read backwards as well, $q(x_{0:T}) = q(x_T)\prod_t q(x_{t-1}\mid x_t)$, with the true step back of lesson 03. (Given $x_t$, the later states say nothing new about $x_{t-1}$.) So the logarithm falls into parts, and each part is a divergence:
#
# $$\mathbb E\log q - \mathbb E\,\text{ELBO} = \text{KL}\big(q(x_T)\,\|\,N(0,I)\big) + \sum_{t=1}^T\mathbb E_{x_t}\text{KL}\big(q(x_{t-1}\mid x_t)\,\|\,p_\theta(x_{t-1}\mid x_t)\big).$$
#
# We call this the **gap formula**. In words: **the gap is what each step loses by being a Gaussian with the wrong variance** (and with the wrong mean, where the guess is not exact). The first part is the last column of the table in section 6.
#
# For Gaussian data $N(0, v)$ on the line everything is known. With $V_t = \bar\alpha_t v + 1-\bar\alpha_t$, the variance of $x_t$, the true step back is a Gaussian. Its variance comes from Bayes' rule as in section 4 of lesson 03, with $N(0, V_{t-1})$ for what is known about $x_{t-1}$ beforehand. Precisions add:
#
# $$\frac1{V_{t-1}}+\frac{\alpha_t}{\beta_t} = \frac{\beta_t+\alpha_tV_{t-1}}{\beta_tV_{t-1}} = \frac{V_t}{\beta_tV_{t-1}},\qquad\text{so the variance is}\quad \beta_t\,\frac{V_{t-1}}{V_t}.$$
#
# The means agree, because the exact guess gives the mean of the true step back (lesson 03, section 10). So only the variances differ. By (15) each step loses $\tfrac12(r_t-1-\ln r_t)$ with $r_t = \beta_tV_{t-1}/(V_t\,\sigma_t^2)$.


# %%
def gaussian_gap(schedule, v, variances):
    """The gap formula for data N(0, v), in nats: the start, then each step."""
    V = schedule.alpha_bars * v + schedule.marginal_vars
    sigma_squared = torch.cat([schedule.betas[1:2], variances[2:]])
    r = schedule.betas[1:] * V[:-1] / V[1:] / sigma_squared
    return 0.5 * (V[-1] - 1 - V[-1].log()) + 0.5 * (r - 1 - r.log()).sum()


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
# With $\sigma_t^2=\beta_t$ **the gap falls like $1/T$**: in the table, twice as many steps halve it. Why? There $r_t = V_{t-1}/V_t$. The curve of $V$ is cut into $T$ pieces, so $r_t$ differs from 1 by something of the size $1/T$. Near 1, $r-1-\ln r$ is about $\tfrac12(r-1)^2$, which is of the size $1/T^2$. There are $T$ steps, and $T\cdot 1/T^2 = 1/T$.
#
# With $\sigma_t^2=\tilde\beta_t$ **the gap does not go to 0.** Here $r_t = \frac{V_{t-1}}{V_t}\cdot\frac{1-\bar\alpha_t}{1-\bar\alpha_{t-1}}$. Close to the data the noise has only begun, and grows in equal pieces: $1-\bar\alpha_t$ is about $t\,\beta_1$. So the second fraction is about $t/(t-1)$, however many steps there are: 2 at $t=2$, 1.5 at $t=3$. The first fraction tends to 1. (The step $t=1$ is no part of this: its variance is $\beta_1$.) So step $t$ loses half of $\frac t{t-1}-1-\ln\frac t{t-1}$. The first part is $\frac1{t-1}$. In the sum of the logarithms all but the last cancel, as in section 3. In the limit $T\to\infty$,
#
# $$\frac12\sum_{t=2}^\infty\bigg[\frac1{t-1}-\ln\frac t{t-1}\bigg] = \frac12\lim_{n\to\infty}\bigg[\sum_{k=1}^{n}\frac1k-\ln (n+1)\bigg] = \frac\gamma2 = 0.2886\ \text{nats},$$
#
# with Euler's constant $\gamma = 0.5772$. Both results together, for each dimension, with a number $c$ that depends on data and schedule:
#
# $$\mathbb E\log q(x_0)-\mathbb E\,\text{ELBO}(x_0)\ \approx\ \frac cT\ \text{ for }\sigma_t^2=\beta_t,\qquad \to\ \frac\gamma2 = 0.29\ \text{nats for }\sigma_t^2=\tilde\beta_t. \tag{21}$$
#
# The limit $\gamma/2$ does not contain $v$. Very close to the data, any smooth density looks flat, so each coordinate of any such data loses as much. (We check three values of $v$ here, and the three bells in section 11.)
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

# %% [markdown]
# ## 11. The best variance
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
by_23 = schedule.posterior_vars + b_squared * errors  # errors: section 7, the three bells
best = dc.best_variances(schedule, errors)
close = {"rtol": 1e-10, "atol": 0}
torch.testing.assert_close(best[2:], by_23[2:], **close)
for t in range(2, 21):
    torch.testing.assert_close(best[t], spread_of_step_back(schedule, data, t), rtol=1e-6, atol=0)
one_point = dc.best_variances(schedule, torch.zeros(21))  # no error at all
torch.testing.assert_close(one_point[2:], schedule.posterior_vars[2:], **close)
pure_noise = dc.best_variances(schedule, schedule.alpha_bars)
torch.testing.assert_close(pure_noise[2:], schedule.betas[2:], **close)
print("(23) = the average variance of the true step back, for every t from 2 to 20")

# %% [markdown]
# Is the bound really best there? We try two things on the three bells: multiply all $\sigma_t^{2\,*}$ by one factor, and take more and more steps with each of the three choices. The gap is now $-\text{ELBO}$ by `ledger`, minus $-\mathbb E\log q(x_0)$ by an integral (`entropy`).


# %%
def bells_gap(T, choice, factor=1.0):
    """The gap in nats for the three bells; choice(schedule, errors) gives the variances."""
    s = dc.vp_schedule(T)
    if T not in error_tables:
        error_tables[T] = exact_errors(s, data)
    variances = factor * choice(s, error_tables[T])
    prior, steps, recon = ledger(s, error_tables[T], variances, mean_square)
    return (prior + steps.sum() + recon - entropy).item()


error_tables = {}
log_density = data.log_prob(line)
entropy = -torch.trapezoid(log_density.exp() * log_density, line[:, 0])  # -E log q(x_0)
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
axes[0].set(xlabel="T", ylabel="gap, nats", title="gap of the bound, three bells")
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
assert all(b < min(a, p) for a, p, b in zip(*curves.values(), strict=True))
assert 1.8 < curves["beta"][-2] / curves["beta"][-1] < 2.2

# %% [markdown]
# For $T = 1600$ the gap is a few thousandths of a nat with $\beta_t$ or with the best variances. The best variances always win, but they too only fall like $1/T$. The variance of the true step back depends on $x_t$, and one number for each $t$ cannot follow it: its ratio $r$ to the chosen variance still differs from 1 by something of the size $1/T$, as in section 10. The curve of the posterior variance is on its way to $\gamma/2$.
#
# ## 12. All of it, with sliders
#
# The three bells again. The guess is now $c$ times the exact one: $c = 1$ is exact and $c = 0$ always answers 0. Its error needs no new integral. With $e$ the error of the exact guess, $\mathbb E\hat\epsilon^2 = \mathbb E[\epsilon\hat\epsilon] = 1-e$ (section 7), so
#
# $$\mathbb E(\epsilon-c\,\hat\epsilon)^2 = 1-2c\,(1-e)+c^2(1-e) = e+(1-c)^2(1-e).$$
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
guesses = torch.stack([0 * grid, *(bell_eps(grid[:, None], t)[:, 0] for t in range(1, 21))])
on_grid = model_on_grid(schedule, guesses, schedule.betas)
torch.testing.assert_close(on_grid, p.log_prob(grid[:, None])[:, 0].exp(), rtol=0, atol=1e-4)
for c in (0.8, 0.0):
    weak = dc.eps_errors(schedule, lambda x_t, t, c=c: c * exact(x_t, t), x0, generator=rng)
    difference = weak[1:] - (errors + (1 - c) ** 2 * (1 - errors))[1:]
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
sums = axes[1].vlines(range(4), 0.0, 1.0, color=lab.ORANGE, lw=30)
axes[1].axhline(entropy, color=lab.BLACK, ls=":", label="-E log q(x_0), the data's own")
(level,) = axes[1].plot(
    [-0.6, 3.6], [1, 1], color=lab.BLUE, ls="--", label="-E log p(x_0), the model"
)
axes[1].axhline(0, color=lab.BLACK, lw=0.8)
names = ("L_T", "all L_{t-1}", "L_0", "-ELBO")
axes[1].set(ylim=(-2, 8), xlim=(-0.6, 3.6), xticks=range(4), xticklabels=names, ylabel="nats")
axes[1].legend(loc="upper left", fontsize="small")
axes[1].set_title("sums")
place = {"transform": axes[1].transAxes, "va": "top", "fontsize": "small"}
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
def explore_elbo(name, T, percent, variances):
    """Draw the ledger; return the sentence under the picture."""
    (s, least, guesses), share = tables[name, T], percent / 100
    error = least + (1 - share) ** 2 * (1 - least)
    sigma_squared = choices[variances](s, error)
    prior, steps, recon = (x.tolist() for x in ledger(s, error, sigma_squared, mean_square))
    bars.set_segments([[(t / T, 1e-6), (t / T, max(steps[t], 1e-6))] for t in range(2, T + 1)])
    parts = [prior, sum(steps), recon]
    parts.append(sum(parts))
    sums.set_segments([[(i, 0), (i, min(part, 8.0))] for i, part in enumerate(parts)])
    log_p = model_on_grid(s, share * guesses, sigma_squared).log()
    surprise_of_p = -torch.trapezoid(q_on_grid * log_p, grid).item()
    level.set_ydata([surprise_of_p] * 2)
    numbers.set_text(numbers_of(parts, surprise_of_p))
    where = f"{name}, T = {T}, {percent} % of the exact guess, variances: {variances}"
    return f"{where}: -ELBO {parts[-1]:.3f} nats, gap to log p {parts[-1] - surprise_of_p:.3f}."


controls = {
    "name": lab.choice("schedule", list(builders)),
    "T": lab.choice("T", [5, 10, 20, 50], 20),
    "percent": lab.slider("denoiser quality, %", 0, 100, 80),
    "variances": lab.choice("variances", list(choices)),
}
lab.Explorer(fig, [bars, sums, level, numbers], explore_elbo, controls)

# %% [markdown]
# `gap to log p` is the divergence of section 2: what the bound loses against the model's own likelihood. `gap to log q` is the gap of section 10: that, plus what the model loses against the data. The control `denoiser quality` is $c$ in percent.
#
# Try these:
# - Drag the quality from 100 % to 0. The bars at small $t$ hardly move; the gap comes from the middle and the end. (At small $t$ almost nothing can be known about the noise, so little can be lost.)
# - Choose the posterior variance with a bad guess, then `best`. The best variance is larger when the guess is worse: doubt is cheaper than false confidence.
# - Choose `constant` with $T = 5$. Now $L_T$ is there, and no guess makes it smaller. More steps do.
#
# ## 13. What breaks
#
# **A forgotten term.** Let the data be one pixel, with all 256 levels equally likely. Then $-\log_2 q(x_0) = 8$ for each level, and by section 2 the mean of $-\text{ELBO}$ in bits must come out at 8 or above. The cell leaves out each term in turn, and also takes $L_0$ with the wrong sign. The guess is exact and the variances are the best ones, so that the bound is close to 8. The schedule stops at $T = 100$, so that $L_T$ counts.

# %%
cut = dc.linear_schedule(100)
pixel = dc.mixture(levels)  # 256 points
pixel_errors = exact_errors(cut, pixel)
prior, steps, _ = ledger(
    cut, pixel_errors, dc.best_variances(cut, pixel_errors), levels.square().mean()
)
x0 = levels.repeat(40, 1)
x_1 = dc.q_sample(cut, x0, 1, generator=rng)
x0_hat = dc.x0_from_eps(cut, x_1, dc.mixture_eps_model(cut, pixel)(x_1, 1), 1)
recon = -dc.discretized_decoder(x0, dc.Gaussian(x0_hat, cut.betas[1])).mean()
L_T, L_steps, L_0 = (dc.bits_per_dim(part.item(), 1) for part in (prior, steps.sum(), recon))
for name, bits in {
    "-ELBO": L_T + L_steps + L_0,
    "without L_T": L_steps + L_0,
    "without the steps": L_T + L_0,
    "without L_0": L_T + L_steps,
    "L_0 with the wrong sign": L_T + L_steps - L_0,
}.items():
    print(f"{name:24s} {bits:7.4f} bits: {'possible' if bits >= 8 else 'IMPOSSIBLE, below 8'}")
    assert (bits >= 8) == (name == "-ELBO")

# %% [markdown]
# Each wrong number looks like a better model. On real data nobody knows the limit, and such results have been believed. So test a likelihood where the truth is known.
#
# **The decoder on other data.** The bins of (18) assume levels from $-1$ to 1. Images are often loaded with values in $[0, 1]$. Then the levels are $1/255$ apart, but each bin is $2/255$ wide: neighbours overlap, and everything is counted twice. For continuous data the decoder has no meaning at all. The package refuses both:

# %%
unit_levels = torch.linspace(0, 1, 256)[:, None]
for wrong in (unit_levels, points[:5]):
    try:
        dc.discretized_decoder(wrong, dc.Gaussian(torch.zeros_like(wrong), torch.tensor(0.01)))
    except ValueError as error:
        print("ValueError:", error)
total = level_prob(unit_levels, torch.tensor(0.5), torch.tensor(0.1)).sum()
print(f"without the check, the probabilities of the 256 levels have sum {total:.4f}")
assert total > 1.9

# %% [markdown]
# A sum of 2 in the place of 1: each pixel is reported one bit too cheap.
#
# ## 14. Exercises
#
# `lab.check` compares your answer with the package's. If you are stuck, take the `#` away from `lab.hint`; each run shows one more hint.
#
# **Exercise 1. Predict.** A schedule ends at $\bar\alpha_T = 0.25$. How many nats is the prior term $L_T$ of the single number $x_0 = 2$? Work it out on paper ($\ln 0.75 = -0.28768$), to four digits.

# %%
# STARTER
prior_term = None  # your number here

# SOLUTION
prior_term = 0.5 * (0.25 * 2**2 - 0.25 - math.log(0.75))  # 0.5188

# %%
lab.check("04.1", prior_term)
# lab.hint("04.1")

# %% [markdown]
# **Exercise 2. Find the mistakes.** A colleague's divergence of two Gaussians comes out negative for some pairs:
#
# ```python
# def mended_kl(mean_p, var_p, mean_q, var_q):
#     ratio = var_p / var_q
#     return 0.5 * (ratio - 1 + ratio.log() + (mean_p - mean_q) ** 2 / var_q.sqrt())
# ```
#
# There are two mistakes. Copy it into the cell and repair both. All four arguments are tensors of the same shape; the result is KL(p‖q) for each entry.


# %%
# STARTER
def mended_kl(mean_p, var_p, mean_q, var_q):
    return None  # your lines here


# SOLUTION
def mended_kl(mean_p, var_p, mean_q, var_q):
    ratio = var_p / var_q
    return 0.5 * (ratio - 1 - ratio.log() + (mean_p - mean_q) ** 2 / var_q)


# %%
lab.check("04.2", mended_kl)
# lab.hint("04.2")

# %% [markdown]
# **Exercise 3. Derive.** A network may guess $x_0$ in the place of $\epsilon$. Take $\sigma_t^2 = \tilde\beta_t$, so that $C_t = 0$. Then $L_{t-1} = k_t\,\mathbb E|x_0-\hat x_0|^2$ with some weight $k_t$. Write $k_t$ as a formula that contains only $\text{SNR}_{t-1}$ and $\text{SNR}_t$, where $\text{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$. The result is short. Enter it as `x0_weight(snr_before, snr)`. Both are tensors of the same shape, and so is the answer.


# %%
# STARTER
def x0_weight(snr_before, snr):
    return None  # your line here


# SOLUTION
def x0_weight(snr_before, snr):
    return (snr_before - snr) / 2


# %%
lab.check("04.3", x0_weight)
# lab.hint("04.3")

# %% [markdown]
# **Exercise 4. Learned variance.** Nichol and Dhariwal (2021) let a network choose the variance between the two usual ones, on a logarithmic scale: $\log\sigma_t^2 = \nu\log\beta_t+(1-\nu)\log\tilde\beta_t$. The network learns $\nu$ by making $L_{t-1}$ small. Where does it end? Given the measured error per dimension $e_t = \mathbb E|\epsilon-\epsilon_\theta|^2/d$, find the $\nu$ for which $\sigma_t^2$ is the best variance (23). Write `best_nu(schedule, errors, t)` for one integer $t\ge2$ and a tensor `errors` of shape (B,). It returns a tensor of shape (B,): one $\nu$ for each error. (It may lie above 1 where the guess is bad.)


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
lab.check("04.4", best_nu)
# lab.hint("04.4")

# %% [markdown]
# ## 15. Summary
#
# 1. A diffusion model is a VAE whose code is the whole noisy walk and whose encoder is fixed; Jensen's inequality gives a lower bound on the log-likelihood.
# 2. Bayes' rule with known $x_0$ turns the bound into a ledger: a prior term, one divergence of two Gaussians for each step, and a reconstruction term.
# 3. Each step term is a weighted squared error of the guessed noise; leave out the weights, and the simple loss remains.
# 4. The gap of the bound is what each step back loses by being a Gaussian with one fixed variance; with $\beta_t$ or the best variances it falls like $1/T$, with the posterior variance half of Euler's constant remains.
# 5. The best variance lies at $\tilde\beta_t$ for a single point and at $\beta_t$ for pure noise, and follows from the measured error.
#
# | equation | function |
# |---|---|
# | (12) the bound, (13) telescoping | `q_trajectory`, `log_ratio`, `log_ratio_telescoped` |
# | (14) the ledger | `elbo_terms`; with few calls: `elbo_estimate`, `importance` |
# | (15) KL of two Gaussians | `kl_divergence` |
# | (16) weights and constants, (19) the simple loss | `eps_weights`, `eps_errors`, `eps_loss` |
# | (17) the prior term | `prior_gap`, `prior_kl` |
# | (18) data with levels, continuous data | `discretized_decoder`, `gaussian_decoder`, `bits_per_dim` |
# | (21) the gap of the bound, (23) the best variance | `eps_weights`, `log_ratio`; `mixture_reverse`, `best_variances` |
#
# **References.** Kingma and Welling, *Auto-Encoding Variational Bayes* (2014). Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020), equations 3 to 14 and appendix A. Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021). Kingma et al., *Variational Diffusion Models* (2021). Bao et al., *Analytic-DPM* (2022), for the best variance.
#
# **Next**: [05 · Can a network learn to walk back?](05_toy_2d.ipynb)
