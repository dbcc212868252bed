# %% [markdown]
# # 02 · How does a picture turn into noise?
#
# A diffusion model learns to undo a process that destroys data. This lesson is about that process alone: nothing is learned here.
#
# **At the end you can**
# - add noise step by step or all at once, and say why both give the same distribution;
# - read a schedule: what is left at each step, and how far its end is from pure noise;
# - say what a sampler draws when it starts from noise that its schedule never reached;
# - make a schedule from a curve that you wish.
#
# **You need** PyTorch tensors, the normal distribution N(mean, variance), logarithms, and from lesson 01 that a sum of independent normal numbers is normal, its variance the sum of theirs. **Time**: about 65 minutes.

# %%
import math
import warnings
from functools import cache
from itertools import pairwise

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, toys

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# Four digits lose themselves in noise, each row in one walk. We call the clean data $x_0$. The process takes $T$ steps, here 1000, and $x_t$ is the picture after step $t$. Grey levels lie between −1 (black) and 1 (white); noise goes beyond, shown as black and white.

# %%
warnings.simplefilter("ignore", dc.PriorGapWarning)  # section 8 says what is silenced
digits = data.images("test")
x0_digits = data.to_signed(digits.x[:200])
times = [0, 50, 100, 200, 300, 400, 600, 1000]
walks = dc.q_trajectory(dc.vp_schedule(1000), x0_digits[:4], generator=rng)  # (1001, 4, 1, 28, 28)

fig, (ax,) = lab.figure(width=8, height=4.4)
rows = walks[times].transpose(0, 1).flatten(0, 1)  # a row of pictures for each digit
lab.draw_images(ax, rows, len(times), labels=[f"t = {t}" for t in times], note=digits.note)
lab.show(
    fig, "Four digits at t = 0, 50, 100, 200, 300, 400, 600, 1000: from clean to nearly noise."
)

# %% [markdown]
# ## 2. Time against value
#
# A digit has 784 numbers. With one number, the whole process fits into one picture: time to the right, value upwards. The data are two points, −1 and 1, equally likely.
#
# Twenty walks (papers say *trajectories*) are drawn in black. The blue is $q(x_t)$, the density of all walks at step $t$, divided by its largest value in each column. It is a **mixture** of two Gaussians: pick a point by its share, then draw from its Gaussian. `dc.mixture` makes the data, `dc.diffuse` takes them to step $t$ (section 4 says how). The right panel has the density at $t = T$, beside **pure noise**, $N(0,1)$.

# %%
values = torch.linspace(-4, 4, 161, dtype=torch.float64)
pure_noise = dc.mixture(torch.zeros(1, 1).double(), 1.0)  # N(0, 1)
bell = pure_noise.log_prob(values[:, None]).exp()
builders = {"vp": dc.vp_schedule, "linear": dc.linear_schedule, "cosine": dc.cosine_schedule}


@cache
def noise_paths(name, T):
    """Return a schedule, and twenty walks that start at 0, (T+1, 20)."""
    made, chance = builders[name](T), torch.Generator().manual_seed(3)
    return made, dc.q_trajectory(made, torch.zeros(20).double(), generator=chance)


# %% [markdown]
# The three names set the amount of noise of each step (section 5):

# %%
fig, (ax, side) = lab.figure(2, width=9, height=3.5, width_ratios=[4, 1], sharey=True)
heat = lab.draw_heat(ax, torch.zeros(161, 101), -4, 4)
paths = [ax.plot([], [], color=lab.BLACK, lw=0.6, ls="-")[0] for _ in range(20)]
(at_end,) = side.plot([], [], label="x_T")
side.plot(bell, values, color=lab.ORANGE, lw=4, alpha=0.5, ls="-", label="N(0, 1)")
side.set(xlim=(0, 1), xlabel="density")
legend = side.legend(loc="upper right", fontsize="small")

# %% [markdown]
# Pull the upper point up. Then take *linear*, with few steps and with many: what happens on the right? And with *vp*?


# %%
def explore_line(schedule, T, upper):
    """Draw the walks and all densities q(x_t) for points at -1 and upper."""
    made, noise = noise_paths(schedule, T)
    points = torch.tensor([[-1.0], [upper]], dtype=torch.float64)
    two = dc.mixture(points)
    heat.set_data(lab.density_map(made, two, values))
    starts = points.flatten().repeat(10)  # a walk from x0 is one from 0, moved by what x0 leaves
    states = made.alpha_bars.sqrt()[:, None] * starts + noise
    shown = torch.linspace(0, T, min(T, 200) + 1).long()  # not more than a screen can tell apart
    for path, states_of_one in zip(paths, states[shown].unbind(1), strict=True):
        path.set_data(shown / T, states_of_one)
    at_end.set_data(dc.diffuse(made, two, T).log_prob(values[:, None]).exp(), values)
    left = made.alpha_bars[T].sqrt()
    return f"{schedule}, T = {T}, points at -1 and {upper:g}: x_T = {left:.3f} x_0 + noise."


controls = {
    "schedule": lab.choice("schedule", list(builders)),
    "T": lab.choice("T", [20, 50, 100, 200, 500, 1000], 50),
    "upper": lab.slider("upper point", 0.0, 3.0, 1.0, 0.25),
}
lab.Explorer(fig, [heat, *paths, at_end], explore_line, controls)

# %% [markdown]
# Two lines become one bell; at its end nobody can tell where a walk came from. But *linear* with 50 steps leaves two humps. Section 7 says why, section 8 what harm it does.
#
# ## 3. One step
#
# One step shrinks what is there a little, and adds a little fresh noise. A number $\beta_t$ between 0 and 1 says how much:
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\; z_t, \qquad z_t \sim N(0, I).$$
#
# $z_t$ is the fresh noise of step $t$, independent of all before; $I$ is the identity matrix: each coordinate has its own noise. As a distribution, the step is $q(x_t \mid x_{t-1}) = N\big(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big)$. We write $q$ for all that is fixed, and keep $p$ for what is learned later.
#
# **Why shrink, and why the roots?** Noise alone would make the numbers larger and larger. We want one scale at every $t$: it suits a network, and the end is a known distribution from which we can draw, $N(0, I)$. Say the coordinates of $x_{t-1}$ have variance 1. A factor counts squared, so $\sqrt{1-\beta_t}$ makes it $1-\beta_t$; the noise adds $\beta_t$; the sum is 1 again. Without the roots it is not:

# %%
beta = 0.3
right = math.sqrt(1 - beta) ** 2 * 1.0 + math.sqrt(beta) ** 2
without_roots = (1 - beta) ** 2 * 1.0 + beta**2
print(f"variance after one step: {right:.4f} with the roots, {without_roots:.4f} without them")
assert math.isclose(right, 1.0)
assert without_roots < 1

# %% [markdown]
# Each step looks only at the step before: a **Markov chain**. Any density of many variables is a product of densities, each given all before it. So the path $x_{1:T}$, short for $x_1, \dots, x_T$, has the density
#
# $$q(x_{1:T} \mid x_0) = \prod_{t=1}^{T} q(x_t \mid x_{t-1}). \tag{3}$$

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: (3) for two steps
#
# Given $x_0$, $x_1$ has the variance $\beta_1$. $x_2$ is $\sqrt{1-\beta_2}\,x_1$ plus noise, so it has the variance $(1-\beta_2)\beta_1 + \beta_2$, and its covariance with $x_1$ is $\sqrt{1-\beta_2}\,\beta_1$. Both are built from $z_1$ and $z_2$ by factors and sums, so the pair is normal in two dimensions, and its means, variances and covariance fix its density. It must be the product of the two steps.

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
# ## 4. Many steps, one by one and at once
#
# The chain as a loop. `betas[t]` is $\beta_t$; there is no step 0, so row 0 holds 0. The whole course keeps to this.


# %%
def walk(x0, betas, t, rng):
    """Take t steps of the chain, one after the other."""
    x = x0
    for s in range(1, t + 1):
        z = torch.randn(x.shape, generator=rng, dtype=x.dtype)
        x = torch.sqrt(1 - betas[s]) * x + torch.sqrt(betas[s]) * z
    return x


evenly_spaced = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # "linear"
betas = torch.cat([torch.zeros(1), evenly_spaced])
start = torch.full((20_000,), 1.5, dtype=torch.float64)
after = walk(start, betas, 250, rng)
print(f"20 000 walks of 250 steps from 1.5: mean {after.mean():.4f}, variance {after.var():.4f}")

# %% [markdown]
# Must we walk? Write $\alpha_t = 1 - \beta_t$, and put one step into the next:
#
# $$x_2 = \sqrt{\alpha_2}\,\big(\sqrt{\alpha_1}\,x_0 + \sqrt{\beta_1}\,z_1\big) + \sqrt{\beta_2}\,z_2 = \sqrt{\alpha_2\alpha_1}\,x_0 + \underbrace{\sqrt{\alpha_2\beta_1}\,z_1 + \sqrt{\beta_2}\,z_2}_{\text{noise}}.$$
#
# The noise is a sum of two independent normal variables. By (2) of lesson 01 it is normal, and the variances add up to $\alpha_2\beta_1 + \beta_2 = \alpha_2(1-\alpha_1) + 1 - \alpha_2 = 1 - \alpha_1\alpha_2$.
#
# Write $\bar\alpha_t = \alpha_1\alpha_2\cdots\alpha_t$, said "alpha bar", with $\bar\alpha_0 = 1$. Each further step does the same: from a factor $\sqrt{\bar\alpha_{t-1}}$ and noise of variance $1-\bar\alpha_{t-1}$ it makes $\sqrt{\alpha_t\bar\alpha_{t-1}} = \sqrt{\bar\alpha_t}$ and $\alpha_t(1-\bar\alpha_{t-1}) + \beta_t = 1-\bar\alpha_t$. So for every $t$:
#
# $$q(x_t \mid x_0) = N\big(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)\,I\big). \tag{4}$$
#
# The check composes a thousand steps and compares with (4) for every $t$, then (4) with the 20 000 walks; five standard errors (the spread that an average has by chance) are almost never exceeded.

# %%
factor, variance = torch.ones(1001).double(), torch.zeros(1001).double()
for t in range(1, 1001):
    factor[t] = torch.sqrt(1 - betas[t]) * factor[t - 1]
    variance[t] = (1 - betas[t]) * variance[t - 1] + betas[t]
alpha_bars = torch.cumprod(1 - betas, dim=0)
torch.testing.assert_close(factor, alpha_bars.sqrt(), rtol=1e-12, atol=0)
torch.testing.assert_close(variance, 1 - alpha_bars, rtol=1e-12, atol=1e-15)

mean, var = alpha_bars[250].sqrt() * 1.5, 1 - alpha_bars[250]
error_of_mean, error_of_var = (var / 20_000).sqrt(), var * math.sqrt(2 / 20_000)
assert abs(after.mean() - mean) < 5 * error_of_mean
assert abs(after.var() - var) < 5 * error_of_var
print(f"t = 250: mean {mean:.4f} by (4), {after.mean():.4f} by walking", end=" ")
print(f"(standard error {error_of_mean:.4f})")
print(f"     variance {var:.4f} by (4), {after.var():.4f} by walking", end=" ")
print(f"(standard error {error_of_var:.4f})")

# %% [markdown]
# So $x_t$ costs one draw of noise, not $t$. The whole course uses this:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon, \qquad \epsilon \sim N(0, I).$$
#
# Here $\epsilon$ ("epsilon", `eps` in code) stands for all the noise in $x_t$ together. A network will learn to guess it.
#
# **Exercise 1. Predict the number.** $x_0$ is −2 or 2, equally likely. Three steps follow, each with $\beta = 0.5$. What is the variance of $x_3$, over the draws of $x_0$ and of the noise? Work it out on paper.

# %%
# STARTER
variance_of_x_3 = None  # your number here
# SOLUTION
alpha_bar_3 = 0.5**3
variance_of_x_3 = alpha_bar_3 * 4 + (1 - alpha_bar_3)  # x_0 has variance 4

# %%
# lab.hint("02.1")
lab.check("02.1", variance_of_x_3)

# %% [markdown]
# **In the package**, `q_step` is one step, `q_marginal` is (4), and `q_sample` draws from it:

# %%
lab.show_source(dc.q_sample)

# %% [markdown]
# `factors` takes row `t` of $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$, shaped to multiply `x0` (`at` takes it from one table); `t` may be a tensor with a number for each example. `combine(a, x, b, y)` is $a x + b y$. `q_trajectory` walks with `q_step`; given the same noise, it and our loop agree:

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
# A mixture moves part by part (`dc.diffuse`): each keeps its share, and $N(c, v)$ becomes $N(\sqrt{\bar\alpha_t}\,c,\ \bar\alpha_t v + 1-\bar\alpha_t)$.

# %% [markdown]
# ## 5. Schedules
#
# The list $\beta_1, \dots, \beta_T$ is the **schedule**. By (4), all that matters for $x_t$ is $\bar\alpha_t$. Call $\sqrt{\bar\alpha_t}\,x_0$ the **signal**. For data of mean 0 and variance 1, $x_t$ has variance 1 as well, and $\bar\alpha_t$ is the share of it that is still signal. (Digits have a mean far below 0; but their mean *square* is near 1, as is that of $x_t$.) Three curves show a schedule, and each fixes the other two:
#
# - $\bar\alpha_t$ falls from 1 to nearly 0;
# - the **signal-to-noise ratio** $\text{SNR}_t = \bar\alpha_t / (1-\bar\alpha_t)$, of the two variances: 1 where they are equal, infinite at $t = 0$;
# - $\beta_t$ is the share of the variance that step $t$ replaces by noise.
#
# Four schedules:
#
# - *linear*: $\beta_t$ evenly spaced from 0.0001 to 0.02 (of DDPM, denoising diffusion probabilistic models);
# - *vp* ("variance preserving"): $\ln\bar\alpha_t = -0.1\,(t/T) - 9.95\,(t/T)^2$, nearly linear's curve for $T = 1000$ (by $\ln(1-\beta)\approx-\beta$), but for any $T$;
# - *cosine*: $\bar\alpha_t \approx \cos^2(\tfrac{\pi}{2}\,t/T)$, a little shifted, so that $\beta_1$ is not tiny; $\beta_t$ is at most 0.999;
# - *constant*: $\beta_t = 0.01$ throughout.

# %%
assert x0_digits.mean() < -0.5 and 0.75 < x0_digits.square().mean() < 1
schedules = {
    "linear": linear,
    "vp": dc.vp_schedule(1000),
    "cosine": dc.cosine_schedule(1000),
    "constant": dc.constant_schedule(1000, 0.01),
}
fig, axes = lab.figure(3, width=10, height=3.2)
for name, made in schedules.items():
    axes[0].plot(made.alpha_bars, label=name)
    axes[1].semilogy(range(1, 1001), made.snr[1:], label=name)
    axes[2].semilogy(range(1, 1001), made.betas[1:], label=name)
for ax, label in zip(axes, ("alpha_bar_t", "SNR_t", "beta_t"), strict=True):
    ax.set(xlabel="t", ylabel=label)
axes[0].legend()
lab.show(
    fig,
    "alpha_bar, SNR and beta over t: cosine keeps the signal longest, and drops it in the last "
    "steps; constant loses it first.",
)

# %% [markdown]
# Does a digit drown differently in each? Here is one, with the same noise in all four, at the $t$ with the SNR nearest to your choice.

# %%
first_of = [int((digits.labels[:200] == k).nonzero()[0]) for k in range(10)]
digit_noise = torch.randn(1, 1, 28, 28, generator=rng)
fig, axes = lab.figure(4, width=10, height=3)
panels = [lab.draw_pixels(ax, torch.zeros(28, 28), vmin=-2, vmax=2) for ax in axes]
for ax in axes:
    ax.set(xticks=[], yticks=[])
names_of = [ax.text(13.5, -1.5, "", ha="center") for ax in axes]

# %% [markdown]
# At which SNR can you no longer tell the digit?


# %%
def same_snr(snr, digit):
    """Show a digit in each schedule at the step whose SNR is nearest."""
    found, x0 = [], x0_digits[first_of[digit]][None]
    for panel, title, (name, made) in zip(panels, names_of, schedules.items(), strict=True):
        t = int((made.snr[1:].log() - math.log(snr)).abs().argmin()) + 1
        panel.set_data(dc.q_sample(made, x0, t, digit_noise)[0, 0])
        title.set_text(f"{name}, t = {t}")
        found.append(f"{t} in {name}")
    return f"Digit {digit} at SNR {snr:g}: t = {', '.join(found)}."


controls = {
    "snr": lab.choice("SNR", [10, 3, 1, 0.5, 0.2, 0.1, 0.05, 0.02], 0.5),
    "digit": lab.slider("digit", 0, 9, 3),
}
lab.Explorer(fig, [*panels, *names_of], same_snr, controls)

# %% [markdown]
# Most eyes lose it between 0.5 and 0.1, in all four alike: equal SNR means equal $\bar\alpha_t$, so with the same noise the same picture. A schedule only decides at which $t$ you meet it, and so how many steps are spent where. *cosine* was made to spend more where a picture can still be seen:

# %%
for name, made in schedules.items():
    print(f"{name:9s} steps with SNR above 1: {int((made.snr[1:] > 1).sum()):4d} of 1000")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: two numbers instead of one
#
# The same for points in the plane, and a $t$ that you can drag. In grey, the clean points. The right-hand panel shows where you are on the curve of $\bar\alpha$. The mean and the standard deviation are those of $q(x_t \mid x_0)$, for one point, not those of the cloud.

# %%
clouds = {name: toys.toy_2d(name, 2000, generator=rng.manual_seed(1)) for name in toys.TOYS}
cloud_noise = torch.randn(2000, 2, generator=rng)
fig, (left, right) = lab.figure(2, width=9, height=4)
clean = lab.draw_points(left, clouds["moons"], color="0.75")
points = lab.draw_points(left, clouds["moons"])
(curve,) = right.plot([0, 1], [1, 0], label="alpha_bar", color=lab.BLUE)
(here,) = right.plot([0], [1], "o", color=lab.RED, label="you are here")
right.set(xlabel="t / T", ylabel="alpha_bar_t", xlim=(0, 1), ylim=(0, 1.03))
legend = right.legend(loc="upper right")

# %% [markdown]
# The noise of each point is drawn once, and kept while you drag.


# %%
def explore_points(percent, schedule, points_of):
    """Move the points to step t; return the sentence under the picture."""
    made, t = schedules[schedule], 10 * percent
    clean.set_data(*clouds[points_of].T)
    points.set_data(*dc.q_sample(made, clouds[points_of], t, cloud_noise).T)
    curve.set_data(torch.linspace(0, 1, 1001), made.alpha_bars)
    here.set_data([t / 1000], [made.alpha_bars[t]])
    scale, std = made.alpha_bars[t].sqrt(), made.marginal_vars[t].sqrt()
    return f"{points_of}, {schedule}, t = {t}: mean {scale:.3f} x_0, std {std:.3f}."


controls = {
    "percent": lab.slider("t in % of T", 0, 100, 8),
    "schedule": lab.choice("schedule", ["vp", "cosine", "constant"]),
    "points_of": lab.choice("points", list(toys.TOYS)),
}
lab.Explorer(fig, [clean, points, curve, here], explore_points, controls)

# %% [markdown]
# ## 6. Where does it all end?
#
# **Pure noise stays pure noise**, whatever $\beta_t$ is: the variance stays 1, and a sum of independent normal numbers is normal. We say that $N(0, I)$ is *stationary*. In one dimension, with $\varphi$ the density of $N(0,1)$ and $q(x\mid x')$ one step from $x'$ to $x$:
#
# $$\varphi(x) = \int q(x \mid x')\; \varphi(x')\; dx'. \tag{5}$$
#
# The check sums over a fine grid of $x'$, for a large $\beta$.

# %%
grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)
phi, spacing = pure_noise.log_prob(grid[:, None]).exp(), grid[1] - grid[0]
one_step = dc.constant_schedule(1, 0.3)
q = dc.q_step(one_step, grid[:, None], 1)  # one row for each x'
kernel = q.log_prob(grid.expand(2001, 2001)).exp()  # q(x | x'): row x', column x
torch.testing.assert_close((kernel * phi[:, None]).sum(0) * spacing, phi, rtol=0, atol=1e-12)
print("N(0, 1) is stationary: the integral agrees with the density to 1e-12 on the whole grid")

# %% [markdown]
# **All else becomes pure noise, if the schedule takes enough away.** By (4) the start is forgotten exactly when $\bar\alpha_t \to 0$. The logarithm of the product $\bar\alpha_t$ is a sum, so for a schedule without end
#
# $$\bar\alpha_t \to 0 \iff \sum_{s=1}^{t} -\ln(1-\beta_s) \to \infty. \tag{6}$$
#
# With $T$ steps $\bar\alpha_T$ is never 0.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how fast, and a schedule that never arrives
#
# Three starts in one dimension, and a constant $\beta$: how far is $q(x_t)$ from $N(0,1)$? (The KL is that of section 7; `prior_kl` integrates it on a fine grid, at the last step of a schedule, so for each $t$ we build one of $t$ steps.)

# %%
three_starts = {
    "one point at 2": dc.mixture(torch.tensor([[2.0]]).double()),
    "points at -3 and 1": dc.mixture(torch.tensor([[-3.0], [1.0]]).double()),
    "N(0, 9)": dc.mixture(torch.tensor([[0.0]]).double(), 9.0),
}
steps = torch.arange(1, 16) * 40
fig, (ax,) = lab.figure(width=7, height=3)
for name, mixture in three_starts.items():
    kls = [dc.prior_kl(dc.constant_schedule(int(t), 0.02), mixture) for t in steps]
    ax.semilogy(steps, kls, marker="o", label=name)
    assert all(a > b for a, b in pairwise(kls)) and kls[-1] < 1e-4  # each smaller than the last
ax.set(xlabel="steps with beta = 0.02", ylabel="KL to N(0, 1), bits")
ax.legend()
lab.show(fig, "Three starts: after 600 steps of beta = 0.02 each is within 0.0001 bits of N(0, 1).")

# %% [markdown]
# $N(0, 9)$ falls twice as steeply. Near the end, the KL is about $[\text{mean}^2/2 + (\text{variance}-1)^2/4]/\ln 2$. (For a Gaussian, put $\ln\sigma^2 \approx (\sigma^2-1) - (\sigma^2-1)^2/2$ into the formula of section 7. For the two points we take it as given.) The first term falls like $\bar\alpha_t$, the second like $\bar\alpha_t^2$, and $N(0, 9)$ has only the second.
#
# Now $\beta_t = 1/(t+1)^2$: noise is added for ever, yet $\bar\alpha_t$ falls only towards one half, because in each product neighbours cancel,
#
# $$\prod_{s=1}^{t}\Big(1 - \frac{1}{(s+1)^2}\Big) = \prod_{s=1}^{t}\frac{s}{s+1}\;\prod_{s=1}^{t}\frac{s+2}{s+1} = \frac{1}{t+1}\cdot\frac{t+2}{2} \to \frac12.$$

# %%
steps = torch.arange(1, 100_001, dtype=torch.float64)
timid = dc.NoiseSchedule(1 / (steps + 1) ** 2)  # a schedule from its betas
expected = (steps + 2) / (2 * (steps + 1))
torch.testing.assert_close(timid.alpha_bars[1:], expected, rtol=1e-10, atol=0)
total = -torch.log1p(-timid.betas[1:]).sum()
assert abs(total - math.log(2)) < 2e-5
print(f"after 100 000 steps: alpha_bar {timid.alpha_bars[-1]:.4f}, sum of (6) {total:.4f}")
print(
    f"so it stays far from pure noise: the prior gap of section 7 is {dc.prior_gap(timid):.4f} bits"
)

# %% [markdown]
# ## 7. How far from pure noise?
#
# The program that walks back, the sampler, starts from pure noise, the **prior**. The true $x_T$ is only nearly that. The **Kullback–Leibler divergence** is the mean logarithm of the ratio of two densities, over draws from the first:
#
# $$\text{KL}(q\,\|\,\varphi) = \mathbb E_{x\sim q}\Big[\ln \frac{q(x)}{\varphi(x)}\Big].$$
#
# It is 0 when they are equal, else positive. Divided by $\ln 2$, its unit is **bits**. From $N(\mu,\sigma^2)$ to $N(0,1)$ it is $\tfrac12[\mu^2 + \sigma^2 - 1 - \ln\sigma^2]$; lesson 04 derives this. For one $x_0$, put in $\mu$ and $\sigma^2$ from (4), and take the mean over the data. With $m$ the mean of $x_0^2$, the **prior gap** is
#
# $$\text{gap} = \tfrac{1}{2}\big[\bar\alpha_T\,(m-1) - \ln(1-\bar\alpha_T)\big] / \ln 2 \quad\text{bits per coordinate, or dimension.}$$
#
# `dc.prior_gap` takes $m = 1$ unless told otherwise. It is an upper bound for the KL of $q(x_T)$: a mixture is never farther from $\varphi$ than its parts are on average. (Taken as given; checked for the two points.) We call 0.01 bits small enough for one coordinate.

# %%
two_points = dc.mixture(torch.tensor([[-1.0], [1.0]]).double())
print("         prior gap (KL of the two points), bits")
print("   T     linear              vp")
for T in (1000, 500, 250, 100, 50):
    row = []
    for build in (dc.linear_schedule, dc.vp_schedule):
        made = build(T)
        gap, exact = dc.prior_gap(made), abs(dc.prior_kl(made, two_points))  # 0 may be -1e-17
        assert exact <= gap
        row.append(f"{gap:.4f} ({exact:.4f})")
    print(f"{T:4d}     {row[0]}     {row[1]}")

# %% [markdown]
# *linear* keeps its range of $\beta_t$ when $T$ falls: half the steps, about half the sum in (6). *vp* is a curve over $t/T$: half the steps, each about twice as large, so its gap stays. The gap is far above the KL of the two points: it must hold for all data with this $m$, even one point.
#
# **Exercise 2.** How many steps of a constant $\beta$ does it take until the prior gap (for $m = 1$) is at most 0.01 bits? Write `steps_needed(beta)`, for a number `beta` between 0 and 1; it returns a whole number.


# %%
# STARTER
def steps_needed(beta):
    return None  # your lines here


# SOLUTION
def steps_needed(beta):
    largest_alpha_bar = 1 - math.exp(-0.01 * 2 * math.log(2))
    return math.ceil(math.log(largest_alpha_bar) / math.log(1 - beta))


# %%
# lab.hint("02.2")
lab.check("02.2", steps_needed)

# %% [markdown]
# ## 8. What breaks: a sampler that starts elsewhere
#
# A thousand steps are slow, so somebody writes `linear_schedule(50)`. (Fast samplers instead keep 50 of the thousand $\bar\alpha_t$, with the last: lesson 06.) The data: −1 with share 0.9, 1 with share 0.1. A sampler starts from $N(0,1)$, and takes *exact* steps back: no network, no error. **Predict**: which share ends at 1?
#
# The exact step: draw the point from which $x_t$ may have come, by Bayes' rule, and go one step towards it. `dc.q_posterior` is that step; lesson 03 derives it. With the point drawn (our networks will not do that), a step of any size is exact; only the start is wrong.


# %%
def shared_points(upper):
    """Return the data: the point 1 with this share, the point -1 with the rest."""
    return two_points._replace(weights=torch.tensor([1 - upper, upper], dtype=torch.float64))


# %% [markdown]
# All steps:


# %%
def back_to_points(made, points, x, rng):
    """Walk back from x (B, 1) by exact steps; return all states, x_T first."""
    states = [x]
    for t in range(made.T, 0, -1):
        parts = dc.diffuse(made, points, t)
        # log share + log density; the squares in it are the same for -1 and 1, and cancel
        pull = parts.weights.log() + x * parts.means[:, 0] / parts.vars
        picks = torch.multinomial(pull.softmax(1), 1, generator=rng)[:, 0]
        x = dc.q_posterior(made, x, points.means[picks], t).sample(generator=rng)
        states.append(x)
    return torch.stack(states)


# %% [markdown]
# And the share that ends at 1, without a walk (explained below the picture):


# %%
def share_reached(made, upper):
    """Return the share of walks back from N(0, 1) that end at the upper point."""
    points = shared_points(upper)
    from_there = dc.diffuse(made, dc.mixture(points.means[1:]), made.T).log_prob(grid[:, None])
    all_walks = dc.diffuse(made, points, made.T).log_prob(grid[:, None])
    # Bayes' rule: q(x_0 = 1 | x_T) is upper times the density from there, divided by that of all
    return (phi * upper * (from_there - all_walks).exp()).sum().item() * spacing.item()


# %% [markdown]
# The picture of section 2, now from right to left. The bars on the left are the shares.

# %%
fig, (bars, ax, side) = lab.figure(3, width=10, height=3.7, width_ratios=[1, 4, 1], sharey=True)
heat_back = lab.draw_heat(ax, torch.zeros(161, 101), -4, 4)
paths_back = [ax.plot([], [], color=lab.BLACK, lw=0.6, ls="-")[0] for _ in range(20)]
(end_back,) = side.plot([], [], label="x_T")
side.plot(bell, values, color=lab.ORANGE, lw=4, alpha=0.5, ls="-", label="start: N(0, 1)")
side.set(xlim=(0, 1), xlabel="density")
side.legend(loc="upper right", fontsize="small")
wide = {"lw": 7, "ls": "-", "solid_capstyle": "butt"}
of_data = [bars.plot([], [], color=lab.SKY, label=s, **wide)[0] for s in ("data", None)]
of_walks = [bars.plot([], [], color=lab.RED, label=s, **wide)[0] for s in ("reached", None)]
bars.set(xlim=(0, 1), xlabel="share", ylabel="value of x_t")
bars.legend(loc="upper right", fontsize="small")
ax.set_ylabel("")


@cache
def twenty_back(name, T, upper):
    """Return a schedule, and twenty exact walks back from the same starts (T+1, 20)."""
    made, chance = builders[name](T), torch.Generator().manual_seed(2)
    starts = torch.linspace(0.025, 0.975, 20, dtype=torch.float64)  # even shares of N(0, 1)
    starts = math.sqrt(2) * torch.erfinv(2 * starts - 1)[:, None]
    return made, back_to_points(made, shared_points(upper), starts, chance)[..., 0]


# %% [markdown]
# Look for settings that keep the shares of the data.


# %%
def explore_back(schedule, T, upper):
    """Draw the walks back, and the shares of the data and of the walks."""
    made, states = twenty_back(schedule, T, upper)
    points, reached = shared_points(upper), share_reached(made, upper)
    heat_back.set_data(lab.density_map(made, points, values))
    end_back.set_data(dc.diffuse(made, points, T).log_prob(values[:, None]).exp(), values)
    for path, states_of_one in zip(paths_back, states.unbind(1), strict=True):
        path.set_data(torch.linspace(1, 0, T + 1), states_of_one)
    for where, lines, share in ((0.15, of_data, upper), (-0.15, of_walks, reached)):
        for line, point, part in zip(lines, (-1, 1), (1 - share, share), strict=True):
            line.set_data([0, part], [point + where, point + where])
    return f"{schedule}, T = {T}: data {1 - upper:.1f} and {upper:.1f}, reached {1 - reached:.2f} and {reached:.2f}."


controls = {
    "schedule": lab.choice("schedule", list(builders), "linear"),
    "T": lab.choice("T", [20, 50, 100, 200], 50),
    "upper": lab.slider("upper share", 0.1, 0.9, 0.1, 0.1),
}
lab.Explorer(fig, [heat_back, *paths_back, end_back, *of_data, *of_walks], explore_back, controls)

# %%
print("reached at 1, data 0.1:   T = 20      50     100     200    1000")
for name, build in builders.items():
    row = [share_reached(build(T), 0.1) for T in (20, 50, 100, 200, 1000)]
    print(f"{name:6s}                  ", *(f"{share:7.4f}" for share in row))

many = torch.randn(20_000, 1, generator=rng, dtype=torch.float64)
ends = back_to_points(dc.linear_schedule(50), shared_points(0.1), many, rng)[-1]
assert set(ends.unique().tolist()) == {-1.0, 1.0}
share = (ends > 0).double().mean().item()
wanted = share_reached(dc.linear_schedule(50), 0.1)
assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / 20_000)
print(f"20 000 walks back with linear and T = 50: {1 - share:.4f} at -1, {share:.4f} at 1")

# %% [markdown]
# Every walk ends on a point, so each sample looks perfect. Only the shares are wrong: 0.70 and 0.30. With equal shares, by symmetry, you would notice nothing. *vp* keeps them with 50 steps. With pictures the mean brightness comes out wrong, always medium (Lin et al.).
#
# From $x_T = x$, exact steps reach 1 with probability $q(x_0 = 1 \mid x_T = x)$. The starts follow $\varphi$ where $q(x_T)$ would be right, so the share reached is
#
# $$\int \varphi(x)\; q(x_0 = 1 \mid x_T = x)\; dx.$$
#
# The package warns of a gap above 0.01 bits. For what all pixels share, such as brightness, even less can be too much (last lines). This lesson silenced the warning, by name, in section 1:

# %%
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    dc.linear_schedule(50)
print(f"{seen[0].category.__name__}: {seen[0].message}")
assert len(seen) == 1 and seen[0].category is dc.PriorGapWarning

half = dc.linear_schedule(500)
mean_pixel, spread = -half.alpha_bars[500].sqrt(), math.sqrt(half.marginal_vars[500] / 28**2)
assert dc.prior_gap(half) < 0.01 and abs(mean_pixel) > 2 / 28
print(f"linear, T = 500, gap {dc.prior_gap(half):.4f}: at t = T the mean pixel of a black picture")
print(f"is {mean_pixel:.3f}, standard deviation {spread:.3f}; of pure noise 0, with {1 / 28:.3f}")

# %% [markdown]
# ## 9. A note on precision
#
# $1-\bar\alpha_1 = \beta_1 = 0.0001$ is a small difference of numbers near 1, and the last step back (lesson 03) divides by it: it multiplies $x_0$ by $\beta_1/(1-\bar\alpha_1)$, which must be 1, and adds noise of variance $\beta_1(1-\bar\alpha_0)/(1-\bar\alpha_1)$, which must be 0.

# %%
for dtype in (torch.float16, torch.float32, torch.float64):
    low = linear.betas.to(dtype)
    missing = 1 - torch.cumprod(1 - low, 0)  # a difference
    last_factor, its_var = low[1] / missing[1], low[1] * missing[0] / missing[1]
    print(
        f"{dtype!s:13s}  factor of x_0 at t = 1: {last_factor:.5f}, variance of its noise: {its_var:.0f}"
    )
print(
    f"the package's table:   factor of x_0 at t = 1: {linear.betas[1] / linear.marginal_vars[1]:.5f}"
)

# %% [markdown]
# In float16, $1 - 0.0001$ is rounded to 1: the factor is infinite (`inf`), the variance of the noise 0/0, "not a number" (`nan`), and every pixel is lost. In float32 half of the seven digits are gone. Nobody would see that: a pixel moves by less than a fortieth of a grey level. But it costs nothing to avoid. So tables are float64, $1-\bar\alpha_t$ (`marginal_vars`) is summed as in section 4, and `at` casts only after the row is taken.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: which digits are lost where
#
# The same difference for every $t$, compared with the sum.

# %%
exact = linear.marginal_vars
fig, (ax,) = lab.figure(width=7, height=3)
for dtype in (torch.float16, torch.float32, torch.float64):
    low = torch.cumprod(1 - linear.betas.to(dtype), 0)
    error = ((1 - low).double() - exact).abs() / exact
    ax.loglog(range(1, 1001), error[1:].clamp(min=1e-17), label=str(dtype).removeprefix("torch."))
    print(f"{dtype!s:13s}  1 - alpha_bar_1 is off by {error[1]:.1e}, relatively")
ax.set(xlabel="t", ylabel="relative error of 1 - alpha_bar_t")
ax.legend()
lab.show(
    fig,
    "Rounding of 1 - alpha_bar over t: float16 loses everything at t = 1, float32 half of its digits.",
)

# %% [markdown]
# Just below 1, the numbers of float16 are 0.0005 apart, those of float32 0.00000006. Float64 alone, or the sum alone, mends $t = 1$. In float64 even the difference is good to 12 digits there, so code that forms $1-\bar\alpha_t$ from `alpha_bars` itself is safe, too. The sum makes the factor at $t = 1$ exactly 1. How large is a factor of 0.99983? Grey levels of pictures are $2/255$ apart:

# %%
small = torch.ones(1, dtype=torch.float32)
assert linear.betas.dtype == torch.float64
assert dc.at(linear.marginal_vars, 1, small).dtype == torch.float32
assert linear.betas[1] == linear.marginal_vars[1]
in_float32 = (1 - torch.cumprod(1 - linear.betas.float(), 0))[1].double()
moved = abs(1 - linear.betas[1] / in_float32) / (2 / 255)
assert moved < 1 / 40
print(f"a white pixel moves by {moved:.4f} grey levels")

# %% [markdown]
# ## 10. Your own schedule
#
# A schedule is a curve, and you may wish for one: of $\ln\text{SNR}$, say. Two short functions take it to $\beta_t$.
#
# **Exercise 3. Derive.** Solve $\text{SNR} = \bar\alpha/(1-\bar\alpha)$ for $\bar\alpha$ on paper, and enter it as `alpha_bar_of(snr)`; `snr` is a tensor of any shape. It must be as good for 1e-9 as for 1e9.


# %%
# STARTER
def alpha_bar_of(snr):
    return None  # your line here


# SOLUTION
def alpha_bar_of(snr):
    return snr / (1 + snr)


# %%
# lab.hint("02.3")
lab.check("02.3", alpha_bar_of)

# %% [markdown]
# **Exercise 4. A schedule from a wish** (15 minutes). Write `betas_for(alpha_bars)`. It gets the wished $\bar\alpha_1, \dots, \bar\alpha_T$ (T,), which fall, from below 1 to nearly 0. It returns $\beta_1, \dots, \beta_T$ (T,), none above 0.999, so that no step erases all.


# %%
# STARTER
def betas_for(alpha_bars):
    return None  # your lines here


# SOLUTION
def betas_for(alpha_bars):
    before = torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])  # alpha_bar_0 = 1
    return (1 - alpha_bars / before).clamp(max=0.999)


# %%
# lab.hint("02.4")
lab.check("02.4", betas_for)

# %% [markdown]
# Now wish. The line falls evenly from 8 to −8: change it.


# %%
def my_log_snr(time):
    """Your wish: ln SNR at time = t/T, a tensor of numbers from 0 to 1."""
    return 8 - 16 * time


time = torch.arange(1, 101, dtype=torch.float64) / 100
wish, made, whose = my_log_snr(time), dc.vp_schedule(100), "vp, for comparison"
alpha_bars_wished = alpha_bar_of(wish.exp())
if alpha_bars_wished is not None and betas_for(alpha_bars_wished) is not None:
    made, whose = dc.NoiseSchedule(betas_for(alpha_bars_wished)), "your schedule"

# %% [markdown]
# Did the wish come true? What does the schedule do to two points and a digit? (Until both functions are written, *vp* stands in.)

# %%
fig, axes = lab.figure(3, width=10, height=3.1, width_ratios=[1.1, 1.3, 1])
axes[0].plot(time, wish, color=lab.ORANGE, ls="-", lw=4, alpha=0.5, label="your wish")
axes[0].plot(time, made.snr[1:].log(), color=lab.BLUE, ls="-", label=whose)
axes[0].set(xlabel="t / T", ylabel="ln SNR", title=f"largest beta {made.betas.max():.2g}")
axes[0].legend()
lab.draw_heat(axes[1], lab.density_map(made, two_points, values), -4, 4)
chance = torch.Generator().manual_seed(3)
states = dc.q_trajectory(made, two_points.means.repeat(5, 1), generator=chance)
axes[1].plot(torch.linspace(0, 1, 101), states[..., 0], color=lab.BLACK, lw=0.6, ls="-")
axes[1].set_title(f"{whose}: prior gap {dc.prior_gap(made):.2g} bits")
seen_at = [0, 10, 20, 30, 40, 50, 60, 80, 100]
x_t = [dc.q_sample(made, x0_digits[:1], t, digit_noise)[0] for t in seen_at]
lab.draw_images(axes[2], torch.stack(x_t), 3, note="t = 0, 10, 20; 30, 40, 50; 60, 80, 100")
lab.show(
    fig, "ln SNR over t/T, your wish and the schedule; the schedule with two points and a digit."
)

# %% [markdown]
# Try a wish that falls, slows down near 0 and falls again; cosine's, which is `torch.logit(torch.cos(1.57 * time) ** 2)`; one that falls a little, then drops in the last step: `torch.where(time < 1, 8 - time, -8.0)`. Which one comes true only in part, and why? (A wish must fall at every step, for each step adds noise.) **The challenge**: keep the digit readable at $t = 60$, with a gap of at most 0.01 bits. How small can your largest $\beta_t$ be?

# %% [markdown]
# <details><summary>Answer</summary>
#
# The drop. From 0.9991 to 0.0003 in one step takes $\beta_{100} = 0.9997$. Cut at 0.999, $\ln\text{SNR}$ ends at −6.9 and not at −8. The largest $\beta_t$ of the cosine wish is 0.998: 1.57 is a little less than $\pi/2$, which keeps it just below the limit.
#
# The challenge. For the gap, $\bar\alpha_{100}$ may be 0.0138, as in exercise 2. From $\bar\alpha_{60}$ the 40 steps left must fall that far. Their product is fixed, so the largest $\beta_t$ is smallest when all are equal: $\beta = 1 - (0.0138/\bar\alpha_{60})^{1/40}$. An SNR of 0.3 at $t = 60$ ($\bar\alpha_{60} = 0.23$) makes it 0.068, an SNR of 0.5 makes it 0.077; nothing smaller can do it. *vp* has 0.18, and at $t = 60$ its digit is lost. As a wish:
#
# ```python
# first = 0.23 ** (time / 0.6)
# last = 0.23 * (0.0137 / 0.23) ** ((time - 0.6) / 0.4)
# return torch.logit(torch.where(time < 0.6, first, last))
# ```
#
# </details>

# %% [markdown]
# ## 11. Summary
#
# 1. One step shrinks by $\sqrt{1-\beta_t}$ and adds noise of variance $\beta_t$, so variance 1 stays 1.
# 2. Given $x_0$, all $t$ steps together are one Gaussian, so any $x_t$ costs one draw.
# 3. A schedule is its curve of $\bar\alpha_t$; it decides how many steps are spent at which SNR.
# 4. $N(0, I)$ is stationary, and every start ends there if and only if $\bar\alpha_t \to 0$; the prior gap bounds in bits how far off $x_T$ is.
# 5. If it is far, a sampler without any error draws the right points in wrong shares.
#
# | equation | function |
# |---|---|
# | (3) the whole path; one step of it | `q_trajectory`; `q_step` |
# | (4) all steps at once; as a draw; for a mixture | `q_marginal`; `q_sample`; `diffuse` |
# | how far $x_T$ is from $N(0, I)$: a bound, and exactly | `prior_gap`, `prior_kl` |
# | schedules | `linear_schedule`, `vp_schedule`, `cosine_schedule`, `constant_schedule` |
#
# **References.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), for the cosine schedule. Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021), for the vp curve. Kingma et al., *Variational Diffusion Models* (2021), for schedules by their SNR. Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed* (2024), for the prior gap.
#
# **Next**: [03 · Why is the way back out of reach, and what is within reach?](03_posterior.ipynb). In a hurry: [05](05_toy_2d.ipynb).
