# %% [markdown]
# # 02 · How does a picture turn into noise?
#
# A diffusion model learns to undo a process that destroys data. This lesson is about that process alone. Nothing is learned here, and no network is needed.
#
# **At the end you can**
# - add noise step by step, and jump to any step at once, and say why both give the same distribution;
# - see with one number whether a schedule ends in pure noise (that is, in $N(0, I)$), and with another how many of its steps work on pictures that are mostly noise;
# - say what remains of the data after many steps;
# - say why the tables of this course are kept in float64.
#
# **You need** PyTorch tensors, the normal distribution N(mean, variance), logarithms, and from lesson 01 that a sum of independent normal numbers is normal, with the variances added. **Time**: about 80 minutes.

# %%
import math
import warnings
from itertools import pairwise

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, toys

warnings.simplefilter("ignore", dc.PriorGapWarning)  # section 10 says what is silenced
rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# Below, four digits lose themselves in noise. Each row is one walk, and each column a moment on the way: on the left the clean image, on the right a picture in which almost nothing is left of it.
#
# We call the clean data $x_0$. The process takes $T$ steps, here $T = 1000$, and $x_t$ is the picture after step $t$. Grey levels are scaled to lie between −1 (black) and 1 (white). Noise goes beyond; the picture shows that as black and white. (`vp_schedule` is one way to set the amount of noise; section 6 says which.)

# %%
digits = data.images("test")
x0_digits = data.to_signed(digits.x[:200])
schedule = dc.vp_schedule(1000)
times = [0, 50, 100, 200, 300, 400, 600, 1000]
walks = dc.q_trajectory(schedule, x0_digits[:4], generator=rng)  # (1001, 4, 1, 28, 28)

fig, (ax,) = lab.figure(width=8, height=4.4)
rows = walks[times].transpose(0, 1).flatten(0, 1)  # a row of pictures for each digit
lab.draw_images(ax, rows, len(times), labels=[f"t = {t}" for t in times], note=digits.note)
lab.show(
    fig, "Four digits at t = 0, 50, 100, 200, 300, 400, 600, 1000: from clean to nearly noise."
)

# %% [markdown]
# ## 2. One step
#
# One step shrinks what is there a little, and adds a little fresh noise. How much is set by a number $\beta_t$ between 0 and 1, one for each step:
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\; z_t, \qquad z_t \sim N(0, I).$$
#
# Here $z_t$ is the fresh noise of step $t$, independent of $x_{t-1}$ and of all noise before. $I$ is the identity matrix: each coordinate gets its own independent noise. The same step, written as a distribution, is $q(x_t \mid x_{t-1}) = N\big(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big)$. We write $q$ for everything that is fixed, and keep $p$ for what is learned later.
#
# A density of many variables is always a product of densities, each given all variables before it. Here each step looks only at the step before. So the whole path has the density
#
# $$q(x_{1:T} \mid x_0) = \prod_{t=1}^{T} q(x_t \mid x_{t-1}), \tag{3}$$
#
# where $x_{1:T}$ is short for $x_1, \dots, x_T$. A process in which each step looks only at the step before is a **Markov chain**. The number in brackets is the equation's number in the whole course.
#
# The next cell checks (3) for two steps of one number. Given $x_0$, $x_1$ has variance $\beta_1$. $x_2$ is $\sqrt{1-\beta_2}\,x_1$ plus noise, so it has variance $(1-\beta_2)\beta_1 + \beta_2$, and its covariance with $x_1$ (the mean of the product of their deviations from their means) is $\sqrt{1-\beta_2}\,\beta_1$. Both are made from the independent normal $z_1$ and $z_2$ by sums and factors only, so the pair is normal in two dimensions, and its means, variances and covariance fix its density. That density must be the product of the two steps.

# %%
x0, x1, x2, beta_1, beta_2 = torch.tensor([1.5, 0.7, -0.2, 0.3, 0.2]).double()
keep_1, keep_2 = (1 - beta_1).sqrt(), (1 - beta_2).sqrt()
step_1 = torch.distributions.Normal(keep_1 * x0, beta_1.sqrt())
step_2 = torch.distributions.Normal(keep_2 * x1, beta_2.sqrt())
mean = torch.stack([keep_1 * x0, keep_2 * keep_1 * x0])
shared, var_2 = keep_2 * beta_1, (1 - beta_2) * beta_1 + beta_2
cov = torch.stack([beta_1, shared, shared, var_2]).view(2, 2)
pair = torch.distributions.MultivariateNormal(mean, cov).log_prob(torch.stack([x1, x2]))
torch.testing.assert_close(step_1.log_prob(x1) + step_2.log_prob(x2), pair)
print("(3): the density of the pair is the product of the two steps")

# %% [markdown]
# **Why the square roots?** Say $x_0$ is drawn from data whose coordinates have variance 1, and $x_{t-1}$ has it still. Multiplying by $c$ multiplies a variance by $c^2$, so $\sqrt{1-\beta_t}$ makes it $1-\beta_t$. The noise is independent, so its variance $\beta_t$ is added, and the sum is 1 again. So variance 1 stays 1. Forget the roots and it does not, as the next cell computes.

# %%
beta = 0.3
right = math.sqrt(1 - beta) ** 2 * 1.0 + math.sqrt(beta) ** 2
without_roots = (1 - beta) ** 2 * 1.0 + beta**2
print(f"variance after one step: {right:.4f} with the roots, {without_roots:.4f} without them")
assert math.isclose(right, 1.0)
assert without_roots < 1

# %% [markdown]
# ## 3. Many steps, from scratch
#
# Here is the chain as a loop. We run it on many copies of one number, to see the spread of $x_t$ for one fixed $x_0$. It is slow, but follows the definition word for word.
#
# `betas[t]` is $\beta_t$. There is no step 0, so row 0 holds 0, and row $t$ is the $t$ of the formulas. The whole course keeps to this.


# %%
def walk(x0, betas, t, rng):
    """Take t steps of the chain, one after the other."""
    x = x0
    for s in range(1, t + 1):
        z = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        x = torch.sqrt(1 - betas[s]) * x + torch.sqrt(betas[s]) * z
    return x


evenly_spaced = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # a choice of section 6
betas = torch.cat([torch.zeros(1), evenly_spaced])
start = torch.full((20_000,), 1.5, dtype=torch.float64)
after = walk(start, betas, 250, rng)
print(f"20 000 walks of 250 steps from 1.5: mean {after.mean():.4f}, variance {after.var():.4f}")

# %% [markdown]
# ## 4. Many steps at once
#
# Do we have to walk? No. Write $\alpha_t = 1 - \beta_t$, and put one step into the next:
#
# $$x_2 = \sqrt{\alpha_2}\,x_1 + \sqrt{\beta_2}\,z_2 = \sqrt{\alpha_2}\,\big(\sqrt{\alpha_1}\,x_0 + \sqrt{\beta_1}\,z_1\big) + \sqrt{\beta_2}\,z_2 = \sqrt{\alpha_2\alpha_1}\,x_0 + \underbrace{\sqrt{\alpha_2\beta_1}\,z_1 + \sqrt{\beta_2}\,z_2}_{\text{noise}}.$$
#
# The noise is a sum of two independent normal variables. By (2) of lesson 01 such a sum is normal, and its variance is the sum of the variances:
#
# $$\alpha_2\beta_1 + \beta_2 = \alpha_2(1-\alpha_1) + 1 - \alpha_2 = 1 - \alpha_1\alpha_2.$$
#
# Write $\bar\alpha_t = \alpha_1\alpha_2\cdots\alpha_t$, said "alpha bar", with $\bar\alpha_0 = 1$. So $x_2$ has the factor $\sqrt{\bar\alpha_2}$, and noise of variance $1-\bar\alpha_2$. Each further step does the same. If $x_{t-1}$ has the factor $\sqrt{\bar\alpha_{t-1}}$ and noise of variance $1-\bar\alpha_{t-1}$, then $x_t$ has the factor $\sqrt{\alpha_t\bar\alpha_{t-1}} = \sqrt{\bar\alpha_t}$ and noise of variance $\alpha_t(1-\bar\alpha_{t-1}) + \beta_t = 1-\bar\alpha_t$. So for every $t$:
#
# $$q(x_t \mid x_0) = N\big(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)\,I\big). \tag{4}$$
#
# The next cell composes a thousand steps exactly: it carries only the factor of $x_0$ and the variance of the noise from one step to the next. Then it compares both with formula (4), to twelve digits, for every $t$.

# %%
factor, variance = torch.ones(1001).double(), torch.zeros(1001).double()
for t in range(1, 1001):
    factor[t] = torch.sqrt(1 - betas[t]) * factor[t - 1]
    variance[t] = (1 - betas[t]) * variance[t - 1] + betas[t]

alpha_bars = torch.cumprod(1 - betas, dim=0)
torch.testing.assert_close(factor, alpha_bars.sqrt(), rtol=1e-12, atol=0)
torch.testing.assert_close(variance, 1 - alpha_bars, rtol=1e-12, atol=1e-15)

mean, std = alpha_bars[250].sqrt() * 1.5, (1 - alpha_bars[250]).sqrt()
error_of_mean, error_of_var = std / math.sqrt(20_000), std**2 * math.sqrt(2 / 20_000)
assert abs(after.mean() - mean) < 5 * error_of_mean
assert abs(after.var() - std**2) < 5 * error_of_var
fourth = (((after - mean) / std) ** 4).mean()  # 3 for a normal number, with variance 96
assert abs(fourth - 3) < 5 * math.sqrt(96 / 20_000)
print(f"t = 250, by (4) and by walking: mean {mean:.4f}, {after.mean():.4f};", end=" ")
print(f"variance {std**2:.4f}, {after.var():.4f}")
print(f"standard errors of the walks: {error_of_mean:.4f} and {error_of_var:.4f}")

# %% [markdown]
# The walks agree, too: their mean and their variance lie within five standard errors of the formula's. A **standard error** is the spread that an average of finitely many draws has by chance; five of them are as good as never exceeded. For $n$ normal draws it is $\sqrt{\text{variance}/n}$ for their mean, and the variance times $\sqrt{2/n}$ for their variance. The walks also have the shape of a normal distribution, as far as its fourth power shows: for a normal number of mean 0 and variance 1, its mean is 3.
#
# One consequence is used all through the course. To draw $x_t$ we need one draw of noise, not $t$:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon, \qquad \epsilon \sim N(0, I).$$
#
# The symbol $\epsilon$ ("epsilon", `eps` in code) is this one draw: $z_t$ is the noise of one step, and $\epsilon$ stands for all the noise in $x_t$ together. It is what the network will learn to guess.

# %% [markdown]
# ## 5. The package's version
#
# `diffusion_core` names functions after distributions. `q_step` is one step, `q_marginal` is formula (4), and `q_sample` draws from it. This is their source, as it runs:

# %%
lab.show_source(dc.q_step, dc.q_marginal, dc.q_sample)

# %% [markdown]
# A schedule holds tables with a row for each step: `betas`, `alphas`, `alpha_bars`, `marginal_vars` (that is $1-\bar\alpha_t$), and `snr` (section 6). `at(table, t, x)` takes row `t` of one; `t` is a number, or a tensor with one for each example. It shapes the result so that it multiplies `x`. `factors` takes two numbers at once: the table `marginal_factors` holds $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$. `combine(a, x, b, y)` is $a x + b y$. `Gaussian` is a pair of a mean and a variance. `check_alike`, `check_t` and `check_finite` refuse wrong inputs.
#
# `q_trajectory` walks with `q_step`, and returns every $x_t$ on the way. Given the same noise, it and the walk from scratch must agree, and so must `q_marginal` and our factor and variance:

# %%
linear = dc.linear_schedule(1000)
x = start[:5]
ours = walk(x, betas, 250, rng.manual_seed(1))
theirs = dc.q_trajectory(linear, x, generator=rng.manual_seed(1))[250]
torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
jump = dc.q_marginal(linear, x, 250)
torch.testing.assert_close(jump.mean, factor[250] * x, rtol=1e-12, atol=0)
torch.testing.assert_close(jump.var, variance[250:251], rtol=1e-12, atol=0)
print("250 steps from scratch and by the package: the same numbers")

# %% [markdown]
# ## 6. Schedules
#
# The list $\beta_1, \dots, \beta_T$ is the **schedule**. By formula (4), all that matters for $x_t$ is $\bar\alpha_t$. Call $\sqrt{\bar\alpha_t}\,x_0$ the **signal**. If $x_0$ is drawn from data of variance $V$, signal and noise are independent, and $x_t$ has the variance $\bar\alpha_t V + 1-\bar\alpha_t$. For $V = 1$ this is 1, and $\bar\alpha_t$ is the share of it that is still signal. Unless we say otherwise, data have mean 0 and variance 1. Three curves show a schedule; each of them fixes the other two:
#
# - $\bar\alpha_t$ falls from 1 to nearly 0;
# - the **signal-to-noise ratio** $\text{SNR}_t = \bar\alpha_t / (1-\bar\alpha_t)$ is the variance of the signal divided by that of the noise: 1 where they are equal, infinite at $t = 0$;
# - $\beta_t$ is the share of the variance that step $t$ replaces by noise.
#
# The four schedules here:
#
# - *linear* has evenly spaced $\beta_t$ from 0.0001 to 0.02 (Ho et al. 2020, the paper that named DDPM, denoising diffusion probabilistic models);
# - *vp* ("variance preserving") is nearly the same curve for any $T$. For $T = 1000$, linear has $\beta_t \approx (0.1 + 19.9\,t/T)/T$. Summed up, this gives $\ln\bar\alpha_t \approx -\sum_{s \le t}\beta_s \approx -0.1\,(t/T) - 9.95\,(t/T)^2$, and *vp* takes the last expression for $\ln\bar\alpha_t$. In the figure the two cover each other;
# - *cosine* has $\bar\alpha_t \approx \cos^2(\tfrac{\pi}{2}\,t/T)$, with a small offset at the start, and $\beta_t$ at most 0.999;
# - *constant* has $\beta_t = 0.01$ throughout.
#
# The middle and the right panel have logarithmic scales.

# %%
schedules = {
    "linear": linear,
    "vp": dc.vp_schedule(1000),
    "cosine": dc.cosine_schedule(1000),
    "constant": dc.constant_schedule(1000, 0.01),
}
fig, axes = lab.figure(3, width=10, height=3.2)
for name, s in schedules.items():
    axes[0].plot(s.alpha_bars, label=name)
    axes[1].semilogy(range(1, 1001), s.snr[1:], label=name)
    axes[2].semilogy(range(1, 1001), s.betas[1:], label=name)
for ax, label in zip(axes, ("alpha_bar_t", "SNR_t", "beta_t"), strict=True):
    ax.set(xlabel="t", ylabel=label)
axes[0].legend()
lab.show(
    fig,
    "alpha_bar, SNR and beta over t: cosine keeps the signal longest, and drops it in the last "
    "steps; constant loses it first.",
)

# %% [markdown]
# Which schedule destroys faster? The table gives the step at which half of the variance is noise, how many steps work on pictures with less than one hundredth of signal, and what is left at the end.
#
# The last column is the **prior gap**. The program that will walk back, the sampler, starts from pure noise $N(0, I)$, called the **prior**. The true $x_T$ is only nearly that. Write $q(x_T)$ for its distribution when $x_0$ is drawn from the data. How far is it from $N(0, I)$?
#
# The **Kullback–Leibler divergence** $\text{KL}(q\,\|\,p) = \mathbb E_q[\log_2 q(x)/p(x)]$ is 0 when two distributions are the same, and positive when they differ. ($\mathbb E_q$ is the mean over draws from $q$; with $\log_2$ the unit is bits.) From $N(\mu,\sigma^2)$ to $N(0,1)$ it is $\tfrac12[\mu^2 + \sigma^2 - 1 - \ln\sigma^2]/\ln 2$; lesson 04 derives this. For one fixed $x_0$, put in $\mu = \sqrt{\bar\alpha_T}\,x_0$ and $\sigma^2 = 1-\bar\alpha_T$ from (4), and take the mean over the data. With $m$ the mean of $x_0^2$ per coordinate,
#
# $$\text{gap} = \tfrac{1}{2}\big[\bar\alpha_T\,(m-1) - \ln(1-\bar\alpha_T)\big] / \ln 2 \quad\text{bits per dimension (that is, per coordinate).}$$
#
# For data of mean 0 and variance 1, $m = 1$. `dc.prior_gap` takes that unless told otherwise.
#
# $q(x_T)$ is a *mixture* of the $q(x_T \mid x_0)$: draw an $x_0$ from the data, then draw from its Gaussian. A mixture is never farther from $N(0,I)$ than its parts are on average (the divergence is convex; we take this as given, and section 10 checks one case). So the gap is an upper bound for the divergence of $q(x_T)$. By convention, this course calls a gap of at most 0.01 bits small enough.

# %%
print("schedule   half noise at t   steps with alpha_bar < 0.01   alpha_bar_T   gap, bits/dim")
halves, idle = {}, {}
for name, s in schedules.items():
    halves[name] = int((s.alpha_bars < 0.5).nonzero()[0])
    idle[name] = int((s.alpha_bars < 0.01).sum())
    last, gap = s.alpha_bars[-1].item(), dc.prior_gap(s)
    assert math.isclose(gap, -math.log1p(-last) / (2 * math.log(2)), rel_tol=1e-6)
    print(f"{name:9s}  {halves[name]:15d}   {idle[name]:27d}   {last:11.2e}   {gap:.2e}")
assert halves["cosine"] > halves["linear"] > halves["constant"]
assert idle["cosine"] < idle["linear"] < idle["constant"]

# %% [markdown]
# So the cosine schedule is *slower*: half of its steps still have more signal than noise. That is its point. Images stay readable for longer, and fewer steps are spent on pictures that are almost pure noise.
#
# ## 7. Move it yourself
#
# Drag $t$, and watch 2 000 points of a 2-D data set dissolve. The right-hand panel follows: the dot shows where you are on the curve of $\bar\alpha$, and the words beside it give the mean, the spread, the SNR and the prior gap. Change the schedule. Then change $T$ for the linear one, and watch the prior gap. The noise of each point is drawn once and kept while you drag. Mean and spread are those of $q(x_t \mid x_0)$.

# %%
clouds = {name: toys.toy_2d(name, 2000, generator=rng.manual_seed(1)) for name in toys.TOYS}
noise = torch.randn(2000, 2, generator=rng)
builders = {
    "vp": dc.vp_schedule,
    "linear": dc.linear_schedule,
    "cosine": dc.cosine_schedule,
    "constant 0.01": lambda T: dc.constant_schedule(T, 0.01),
}
tables = {(name, T): build(T) for name, build in builders.items() for T in range(20, 1001, 10)}

# %% [markdown]
# The widget has three parts: a figure drawn once, a function that moves what changes, and the controls.

# %%
fig, (left, right) = lab.figure(2, width=9, height=4)
points = lab.draw_points(left, clouds["moons"])
(curve,) = right.plot([0, 1], [1, 0], label="alpha_bar", color=lab.BLUE)
(here,) = right.plot([0], [1], "o", color=lab.RED, label="you are here")
right.set(xlabel="t / T", ylabel="alpha_bar_t", xlim=(0, 1), ylim=(0, 1.03))
right.legend(loc="upper right")
behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8}
words = right.text(0.98, 0.72, "", transform=right.transAxes, ha="right", va="top", bbox=behind)

# %% [markdown]
# The function gets one value from each control. It returns a sentence, which a screen reader reads aloud.


# %%
def explore_points(percent, schedule, T, points_of):
    """Move the points to step t; return the sentence under the picture."""
    s = tables[schedule, T]
    t = round(percent / 100 * T)
    points.set_data(*dc.q_sample(s, clouds[points_of], t, noise).T.numpy())
    curve.set_data(torch.linspace(0, 1, T + 1), s.alpha_bars)
    here.set_data([t / T], [s.alpha_bars[t]])
    scale, std = s.alpha_bars[t].sqrt(), s.marginal_vars[t].sqrt()
    words.set_text(
        f"mean = {scale:.3f} x0\nstd = {std:.3f}\nSNR = {s.snr[t]:.3g}\n"
        f"prior gap = {dc.prior_gap(s):.2g} bits/dim"
    )
    return f"{points_of}, {schedule}, t = {t} of {T}: mean {scale:.3f} x0, std {std:.3f}."


controls = {
    "percent": lab.slider("t in % of T", 0, 100, 30),
    "schedule": lab.choice("schedule", list(builders)),
    "T": lab.slider("T", 20, 1000, 1000, step=10),
    "points_of": lab.choice("points", list(toys.TOYS)),
}
lab.Explorer(fig, [points, curve, here, words], explore_points, controls)

# %% [markdown]
# The same for digits. The widget shows three pictures:

# %%
first_of = [int((digits.labels[:200] == k).nonzero()[0]) for k in range(10)]
digit_noise = torch.randn(1, 1, 28, 28, generator=rng)
fig, axes = lab.figure(3, width=9, height=3.3)
panels = [lab.draw_pixels(ax, torch.zeros(28, 28), vmin=-2, vmax=2) for ax in axes]
for ax, title in zip(axes, ("signal: mean of x_t", "x_t", "noise in x_t"), strict=True):
    ax.set(xticks=[], yticks=[], title=title)

# %% [markdown]
# Left is what is left of the digit, right the noise that was added, and in the middle their sum. Grey levels run from −2 to 2 here, so that little of the noise is cut off. At which $t$ can you no longer tell which digit it is? Is it the same for every digit, and for every schedule?


# %%
def explore_digits(t, schedule, digit):
    """Show signal, noise and their sum at step t."""
    s, x0 = tables[schedule, 1000], x0_digits[first_of[digit]][None]
    signal = dc.q_marginal(s, x0, t).mean
    x_t = dc.q_sample(s, x0, t, digit_noise)
    for panel, image in zip(panels, (signal, x_t, x_t - signal), strict=True):
        panel.set_data(image[0, 0])
    return f"digit {digit}, {schedule}, t = {t}: SNR {s.snr[t]:.3g}."


lab.Explorer(
    fig,
    panels,
    explore_digits,
    {
        "t": lab.slider("t", 0, 1000, 150),
        "schedule": lab.choice("schedule", list(builders)),
        "digit": lab.slider("digit", 0, 9, 3),
    },
)

# %% [markdown]
# It differs from digit to digit. Now change the schedule: the $t$ at which a digit gets lost changes, its SNR hardly does. With the same noise, equal SNR means equal $\bar\alpha_t$, so the same picture. (With vp, as in section 1, digits are hard to read at $t = 400$, where the SNR is 0.24, and gone at $t = 600$, where it is 0.03. The variance of digits is below 1, so their own ratio is smaller still.)
#
# ## 8. Where does it all end?
#
# **Pure noise stays pure noise.** If $x_{t-1} \sim N(0, I)$, then $x_t \sim N(0, I)$ whatever $\beta_t$ is. We say that $N(0, I)$ is *stationary*. The reason is in sections 2 and 4: the sum of two independent normal variables is normal, its mean stays 0, and its variance stays 1. As an equation, with $p_\infty$ (not learned, in spite of its letter) the density of $N(0,1)$ in one dimension, and $q(x\mid x')$ one step with any $\beta$:
#
# $$p_\infty(x) = \int q(x \mid x')\; p_\infty(x')\; dx'. \tag{5}$$
#
# The cell computes this integral as a sum over a fine grid of $x'$, for a $\beta$ that is not small, and compares it with $p_\infty$.

# %%
grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)
standard = dc.Gaussian(torch.zeros(1).double(), torch.ones(1).double())
one_step = dc.constant_schedule(1, 0.3)
q = dc.q_step(one_step, grid[:, None], 1)  # one row for each x'
kernel = q.log_prob(grid.expand(2001, 2001)).exp()  # q(x | x'): row x', column x
integral = (kernel * standard.log_prob(grid).exp()[:, None]).sum(0) * (grid[1] - grid[0])
torch.testing.assert_close(integral, standard.log_prob(grid).exp(), rtol=0, atol=1e-12)
print("N(0, 1) is stationary: the integral agrees with the density to 1e-12 on the whole grid")

# %% [markdown]
# **Everything becomes pure noise, if the schedule takes enough away.** By (4), the start is forgotten exactly when $\bar\alpha_t \to 0$. Every factor $1-\beta_t$ is below 1, so $\bar\alpha_t$ always falls. But does it fall to 0? The logarithm of the product is a sum, $-\ln\bar\alpha_t = \sum_{s=1}^{t} -\ln(1-\beta_s)$. So, as $t$ grows without end,
#
# $$\bar\alpha_t \to 0 \iff \sum_{s=1}^{t} -\ln(1-\beta_s) \to \infty. \tag{6}$$
#
# With finitely many steps $\bar\alpha_T$ is never 0; the prior gap says whether what is left matters.
#
# With a constant $\beta$ the sum grows by the same amount in each step, so every start ends in $N(0, I)$. The figure shows three very different starts in one dimension: one point, two points, and a wide Gaussian. Each is a **mixture** of Gaussians: pick one of several Gaussians at random, then draw from it. (`dc.mixture(centres, variance)` makes one; variance 0 gives points.) By (4), and because variances add, a part $N(c, v)$ becomes $N(\sqrt{\bar\alpha_t}\,c,\ \bar\alpha_t v + 1-\bar\alpha_t)$; `dc.diffuse` does this. So each $q(x_t)$ is known exactly. `prior_kl` integrates its divergence from $N(0,1)$ on a fine grid, at the last step of a schedule; so for each $t$ we build a schedule of $t$ steps.

# %%
starts = {
    "one point at 2": dc.mixture(torch.tensor([[2.0]]).double()),
    "points at -3 and 1": dc.mixture(torch.tensor([[-3.0], [1.0]]).double()),
    "N(0, 9)": dc.mixture(torch.tensor([[0.0]]).double(), 9.0),
}
steps = torch.arange(1, 16) * 40
fig, (ax,) = lab.figure(width=7, height=3)
for name, mixture in starts.items():
    kls = [dc.prior_kl(dc.constant_schedule(int(t), 0.02), mixture) for t in steps]
    ax.semilogy(steps, kls, marker="o", label=name)
    assert all(a > b for a, b in pairwise(kls)) and kls[-1] < 1e-4  # each smaller than the last
ax.set(xlabel="steps with beta = 0.02", ylabel="KL to N(0, 1), bits")
ax.legend()
lab.show(fig, "Three starts: after 600 steps of beta = 0.02 each is within 0.0001 bits of N(0, 1).")

# %% [markdown]
# Why does $N(0, 9)$ fall twice as steeply? Near the end, the divergence is about $[\text{mean}^2/2 + (\text{variance}-1)^2/4]/\ln 2$. (For a Gaussian, put $\ln\sigma^2 \approx (\sigma^2-1) - (\sigma^2-1)^2/2$ into the formula of section 6. For the two points we take it as given.) The first term falls like $\bar\alpha_t$, the second like $\bar\alpha_t^2$. $N(0, 9)$ has mean 0, so only the second is there.
#
# Now a schedule for which the sum does *not* grow for ever: $\beta_t = 1/(t+1)^2$. Every $\beta_t$ is positive, and noise is added for ever. Yet $\bar\alpha_t$ falls only towards one half:
#
# $$\prod_{s=1}^{t}\Big(1 - \frac{1}{(s+1)^2}\Big) = \prod_{s=1}^{t}\frac{s\,(s+2)}{(s+1)^2} = \prod_{s=1}^{t}\frac{s}{s+1}\;\prod_{s=1}^{t}\frac{s+2}{s+1} = \frac{1}{t+1}\cdot\frac{t+2}{2} \to \frac12,$$
#
# because in each product neighbours cancel. So the sum of (6) stops at $\ln 2 \approx 0.6931$.

# %%
steps = torch.arange(1, 100_001, dtype=torch.float64)
timid = dc.NoiseSchedule(1 / (steps + 1) ** 2)  # a schedule from its betas
expected = (steps + 2) / (2 * (steps + 1))
torch.testing.assert_close(timid.alpha_bars[1:], expected, rtol=1e-10, atol=0)
total = -torch.log1p(-timid.betas[1:]).sum()
assert abs(total - math.log(2)) < 2e-5
print(f"after 100 000 steps: alpha_bar {timid.alpha_bars[-1]:.4f}, sum of (6) {total:.4f}")
print(f"prior gap {dc.prior_gap(timid):.4f} bits/dim")

# %% [markdown]
# The gap stays at half a bit, fifty times what we allow.
#
# ## 9. Predict, then run
#
# A constant schedule has $\beta = 0.02$. After how many steps is half of the variance noise? Write down a number before you run the cell. (Hint: $\ln 2 \approx 0.69$ and $\ln 0.98 \approx -0.02$.)

# %%
constant = dc.constant_schedule(1000, 0.02)
print("first t with alpha_bar_t below one half:", int((constant.alpha_bars < 0.5).nonzero()[0]))
least = dc.constant_schedule(1000, 0.0043)
for name, s in {"beta 0.02": constant, "beta 0.0043": least, "linear": linear}.items():
    late = int((s.alpha_bars < 0.5).sum())
    print(f"{name:11s}: prior gap {dc.prior_gap(s):.4f} bits/dim, {late} steps below one half")

# %% [markdown]
# The product $0.98^t$ is one half when $t = \ln 2 / -\ln 0.98 \approx 34.3$. So 966 of a thousand steps work on pictures with more noise than signal. But 0.02 is far more than is needed. With $\beta = 0.0043$ the prior gap is just below 0.01 bits, and it is 840 steps; linear has 741. That is the weakness of a constant $\beta$: to reach pure noise it must be large from the start.
#
# ## 10. What breaks
#
# A thousand steps are slow, so somebody writes `linear_schedule(50)`. The $\beta$s still run from 0.0001 to 0.02, but there are only 50 of them. Take data of two values, −1 and 1, in equal parts. The figure shows the exact density of $x_{50}$, beside the $N(0,1)$ from which sampling starts.

# %%
two_values = dc.mixture(torch.tensor([[-1.0], [1.0]]).double())
axis = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
fig, (ax,) = lab.figure(width=7, height=3)
for name, s in {"linear": dc.linear_schedule(50), "vp": dc.vp_schedule(50)}.items():
    density = dc.diffuse(s, two_values, 50).log_prob(axis).exp()
    gap, exact = dc.prior_gap(s), dc.prior_kl(s, two_values)
    ax.plot(axis, density, label=f"x_50, {name}_schedule(50)")
    print(
        f"{name:6s}: alpha_bar_T {s.alpha_bars[-1]:.1e}, gap {gap:.1e} bits/dim;"
        f" exact divergence {abs(exact):.4f}"  # abs: 0 may come out as -1e-17
    )
    assert exact <= gap and (gap > 0.01) == (name == "linear")
ax.plot(axis, standard.log_prob(axis).exp(), label="N(0, 1), where sampling starts")
ax.set(xlabel="x", ylabel="density")
ax.legend(loc="upper right", fontsize="small")
lab.show(
    fig, "x_50 has two humps with linear_schedule(50); with vp_schedule(50) it lies on N(0, 1)."
)

# %% [markdown]
# Sampling would start from the one hump of $N(0,1)$, but the noised data lie on the two humps. Even a perfect network then starts from the wrong distribution. (Here the two values have equal shares, and by symmetry the samples still have equal shares. With unequal shares they would come out wrong.) The exact divergence is 0.04 bits, four times what we allow. The prior gap is larger, 0.67: it must hold for every data set with this $m$, also for a single point at 1.
#
# The package warns whenever a schedule leaves more than 0.01 bits. This lesson silenced that warning, by name, in its first cell. Here it is:

# %%
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    dc.linear_schedule(50)
print(f"{seen[0].category.__name__}: {seen[0].message}")
assert len(seen) == 1 and seen[0].category is dc.PriorGapWarning

# %% [markdown]
# ## 11. Why float64
#
# Computers round. At $t = 1$ the interesting number is $1-\bar\alpha_1 = \beta_1 = 0.0001$, a small difference of two numbers near 1, and that is where rounding hurts.
#
# The way back (lesson 03) uses two ratios with $1-\bar\alpha_1$ in the denominator. The first, $\beta_1/(1-\bar\alpha_1)$, is the factor of $x_0$ in the last step back, and must be exactly 1. The second is a variance, $\beta_1(1-\bar\alpha_0)/(1-\bar\alpha_1)$. As $\bar\alpha_0 = 1$, it must be 0.
#
# The cell builds the tables in three precisions, and compares them with the package's, which is summed, with no small difference of large numbers.

# %%
exact = linear.marginal_vars
fig, (ax,) = lab.figure(width=7, height=3)
for dtype in (torch.float16, torch.float32, torch.float64):
    low = torch.cumprod(1 - linear.betas.to(dtype), 0)
    error = ((1 - low).double() - exact).abs() / exact
    ax.loglog(range(1, 1001), error[1:].clamp(min=1e-17), label=str(dtype).removeprefix("torch."))
    missing, beta_1 = 1 - low[1], linear.betas[1].to(dtype)
    variance_1 = beta_1 * (1 - low[0]) / missing
    print(f"{dtype!s:13s}  1 - alpha_bar_1 is off by {error[1]:.1e}, relatively;", end=" ")
    print(f"factor of x0 at t = 1: {beta_1 / missing:.5f}; variance at t = 1: {variance_1:.0f}")
ax.set(xlabel="t", ylabel="relative error of 1 - alpha_bar_t")
ax.legend()
lab.show(
    fig,
    "Rounding of 1 - alpha_bar over t: float16 loses everything at t = 1, float32 half of its digits.",
)

# %% [markdown]
# In float16, $1 - 0.0001$ is rounded to 1: just below 1 its numbers are 0.0005 apart. (Those of float32 are 0.00000006 apart.) Nothing is left of the difference: one ratio is infinite (`inf`), the other is 0/0, which is "not a number" (`nan`). In float32 about half of the seven digits are gone, and the factor is 0.99983. Code that computes $1-\bar\alpha_t$ as a difference in float32 has this error.
#
# So the tables of `diffusion_core` are float64, and $1-\bar\alpha_t$ is not computed as a difference at all, but summed step by step, as we did in section 4. (Either cure alone mends $t = 1$. In float64 even the difference is good to 12 digits there, so code that forms $1-\bar\alpha_t$ from `alpha_bars` itself is safe, too. The sum costs nothing, and makes the factor at $t = 1$ exactly 1.) `at` casts to the precision of the data only after the row is taken.

# %%
small = torch.ones(1, dtype=torch.float32)
assert linear.betas.dtype == torch.float64
assert dc.at(linear.marginal_vars, 1, small).dtype == torch.float32
assert linear.betas[1] == linear.marginal_vars[1]
print(f"factor of x0 at t = 1: {(linear.betas[1] / linear.marginal_vars[1]).item():.5f}, exactly 1")

# %% [markdown]
# ## 12. Exercises
#
# Write your answer in the first of the two cells, then run both. The second compares it with the package on fresh random numbers, and says what it finds. Take the `#` away from `lab.hint` for a hint; run the cell again for the next one. Where a number is asked, give at least four digits.
#
# **Exercise 1.** Write `noisy(x0, alpha_bar_t, eps)`: formula (4) as a draw (the last formula of section 4). It returns $x_t$, of shape (B, D). `x0` and `eps` have shape (B, D): B examples of D numbers. `alpha_bar_t` has shape (B,): one number for each example. Make the shapes fit.


# %%
# STARTER
def noisy(x0, alpha_bar_t, eps):
    return None  # your line here


# SOLUTION
def noisy(x0, alpha_bar_t, eps):
    alpha_bar_t = alpha_bar_t[:, None]  # (B, 1), so that it multiplies all coordinates
    return alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps


# %%
# lab.hint("02.1")
lab.check("02.1", noisy)

# %% [markdown]
# **Exercise 2. Derive.** A schedule is often given by its SNR. Solve $\text{SNR} = \bar\alpha/(1-\bar\alpha)$ for $\bar\alpha$ on paper, and enter it as `alpha_bar_of(snr)`. `snr` is a tensor; return one of the same shape. It should keep its digits for an SNR of 1e-9 as well as 1e9, so avoid differences of nearly equal numbers.


# %%
# STARTER
def alpha_bar_of(snr):
    return None  # your line here


# SOLUTION
def alpha_bar_of(snr):
    return snr / (1 + snr)


# %%
# lab.hint("02.2")
lab.check("02.2", alpha_bar_of)

# %% [markdown]
# **Exercise 3.** How many steps of a constant $\beta$ does it take until the prior gap (for $m = 1$) is at most 0.01 bits per dimension? Write `steps_needed(beta)`, for a number `beta` between 0 and 1; it returns a whole number. (For $m = 1$ the gap is $-\ln(1-\bar\alpha_T) / (2\ln 2)$, and $\bar\alpha_T = (1-\beta)^T$.)


# %%
# STARTER
def steps_needed(beta):
    return None  # your lines here


# SOLUTION
def steps_needed(beta):
    largest_alpha_bar = 1 - math.exp(-0.01 * 2 * math.log(2))
    return math.ceil(math.log(largest_alpha_bar) / math.log(1 - beta))


# %%
# lab.hint("02.3")
lab.check("02.3", steps_needed)

# %% [markdown]
# **Exercise 4. Predict the number.** $x_0$ is −2 or 2, with equal chance. Three steps follow, each with $\beta = 0.5$. What is the variance of $x_3$, over the draws of $x_0$ and of the noise? Work it out on paper. (To see it, walk many such $x_0$ with `walk(x0, torch.tensor([0, 0.5, 0.5, 0.5]), 3, rng)`.)

# %%
# STARTER
variance_of_x_3 = None  # your number here
# SOLUTION
alpha_bar_3 = 0.5**3
variance_of_x_3 = alpha_bar_3 * 4 + (1 - alpha_bar_3)  # x_0 has variance 4

# %%
# lab.hint("02.4")
lab.check("02.4", variance_of_x_3)

# %% [markdown]
# ## 13. Summary
#
# 1. One step shrinks the data by $\sqrt{1-\beta_t}$ and adds noise of variance $\beta_t$, so data of variance 1 keep variance 1.
# 2. Given $x_0$, all $t$ steps together are one Gaussian with mean $\sqrt{\bar\alpha_t}\,x_0$ and variance $1-\bar\alpha_t$, so any $x_t$ costs one draw.
# 3. A schedule is its curve of $\bar\alpha_t$; the prior gap says in bits whether it reaches pure noise.
# 4. $N(0, I)$ is stationary, and every start ends there if and only if $\bar\alpha_t \to 0$.
# 5. Small differences of numbers near 1 lose digits, so tables are float64.
#
# | equation | function |
# |---|---|
# | (3) the whole path; one step of it | `q_trajectory`; `q_step` |
# | (4) all steps at once; as a draw | `q_marginal`; `q_sample` |
# | how far $x_T$ is from $N(0, I)$: a bound, and exactly | `prior_gap`, `prior_kl` |
# | schedules | `linear_schedule`, `vp_schedule`, `cosine_schedule`, `constant_schedule` |
#
# **References.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), for the cosine schedule. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021), for the vp curve.
#
# **Next**: [03 · Why is the way back out of reach, and what is within reach?](03_posterior.ipynb). In a hurry, go on with [05](05_toy_2d.ipynb).
