# %% [markdown]
# # 03 · Why is the way back out of reach, and what is within reach?
#
# A diffusion model walks the steps of lesson 02 in reverse. What is one step back? Here nothing is trained.
#
# **At the end you can**
# - say why a step back needs all the data, unless the clean data is known;
# - derive that step, and write it in code;
# - say what goes wrong in five Gaussian steps, and not in a hundred;
# - prove that least squares gives a mean, and say why a perfect student would only copy;
# - walk noise back to a picture of your own.
#
# **You need** lesson 02. **Time**: about 90 minutes.

# %%
import math
import warnings

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, pretrained
from diffusion_core.mixtures import component_log_probs

warnings.simplefilter("ignore", dc.PriorGapWarning)  # some schedules here stop early, on purpose
rng = torch.Generator().manual_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1. The picture first
#
# Lesson 02 drew this picture from left to right: data at $t = 0$, noise at $t = T$, darker where the density $q(x_t)$ is high. Now we go from **right to left**. The data, called B, are four points on a line. A walk starts at a number from $N(0, 1)$. Each step back is drawn from a Gaussian, with the mean and the variance of the true step back at this place; the last step is only its mean. Just run the next three functions: section 5 explains them.


# %%
def point_shares(schedule, points, x_t, t):
    """q(x_0 = each point | x_t), a row for each x_t: section 5."""
    arrived = dc.diffuse(schedule, dc.mixture(points[:, None]), t)
    return component_log_probs(arrived, x_t[:, None]).softmax(1)


# %% [markdown]
# Mean and variance of $x_{t-1}$, among all walks that arrive at $x_t$:


# %%
def moments_back(schedule, points, x_t, t):
    """Mean and variance of q(x_{t-1} | x_t), for many x_t: sections 4 and 5."""
    shares = point_shares(schedule, points, x_t, t)
    each = [dc.q_posterior(schedule, x_t, point.expand_as(x_t), t) for point in points]
    means = torch.stack([gaussian.mean for gaussian in each], 1)
    mean = (shares * means).sum(1)
    return mean, each[0].var + (shares * (means - mean[:, None]) ** 2).sum(1)


# %% [markdown]
# And the walk:


# %%
def back_to_data(schedule, points, x_T):
    """All states of Gaussian steps back, row t for x_t; the last step is its mean."""
    states = [x_T]
    for t in range(schedule.T, 0, -1):
        mean, var = moments_back(schedule, points, states[-1], t)
        z = torch.randn(x_T.shape, generator=rng) if t > 1 else torch.zeros_like(x_T)
        states.append(mean + var.sqrt() * z)
    return torch.stack(states[::-1])


data_sets = {"A": torch.tensor([-1.0, 1.0]), "B": torch.tensor([-1.2, -0.2, 0.4, 1.0])}
points = data_sets["B"]
walks_back = {
    T: back_to_data(dc.vp_schedule(T), points, torch.randn(4000, generator=rng))
    for T in range(5, 101, 5)
}


# %% [markdown]
# A walk **fails** when it ends farther than 0.1 from every point.


# %%
def failed(ends):
    """The share of ends that are farther than 0.1 from all points."""
    return ((ends[:, None] - points).abs().amin(1) > 0.1).double().mean().item()


heights, middles = torch.linspace(-3, 3, 181), torch.linspace(-3, 3, 121)
ends_of = {T: torch.histc(x[0], 121, -3.025, 3.025) / x.shape[1] for T, x in walks_back.items()}
fig, (side, ax) = lab.figure(
    2, width=9, height=3.6, sharey=True, gridspec_kw={"width_ratios": [1, 4]}
)
picture = lab.draw_heat(
    ax, lab.density_map(dc.vp_schedule(5), dc.mixture(points[:, None]), heights), -3, 3
)
trails = [ax.plot([], [], color=lab.RED, ls="-", lw=0.8, alpha=0.7)[0] for _ in range(25)]
(ends_line,) = side.plot([], [], color=lab.RED, ls="-")
side.plot(ends_of[100], middles, color="0.6", ls=":")
side.plot(0 * points, points, ">", color=lab.BLACK, ls="none", clip_on=False)
side.set(xlim=(0, 0.3), xlabel="share of the ends", ylabel="value", title="triangles: the data")
labels = ax.set(ylabel="", title="25 of 4 000 walks, from right to left")

# %% [markdown]
# Move $T$. On the left: the data (triangles), and where walks ended, dotted for $T = 100$.


# %%
def explore_walks_back(T):
    """Draw the walks of T steps over the densities; return the sentence."""
    states, time = walks_back[T], torch.linspace(0, 1, T + 1)
    picture.set_data(lab.density_map(dc.vp_schedule(T), dc.mixture(points[:, None]), heights))
    for trail, states_of_one in zip(trails, states.T, strict=False):
        trail.set_data(time, states_of_one)
    ends_line.set_data(ends_of[T], middles)
    return f"T = {T}: {100 * failed(states[0]):.1f} % of the walks fail."


lab.Explorer(
    fig, [picture, *trails, ends_line], explore_walks_back, {"T": lab.slider("T", 5, 100, 10, 5)}
)

# %%
for T in (5, 10, 20, 100):
    ends = back_to_data(dc.vp_schedule(T), points, torch.randn(20_000, generator=rng))[0]
    print(f"T = {T:3d}: share of failed walks {failed(ends):.2f}")

# %% [markdown]
# All these schedules end in pure noise, so the start is not to blame. With few steps, walks end *between* the points. What are the right mean and variance? Why do many small steps succeed? And who tells us the mean, when the data is more than four points?
#
# ## 2. Where were we? The step back needs all the data
#
# From lesson 02: $q(x_t\mid x_{t-1}) = N(\sqrt{\alpha_t}\,x_{t-1},\,\beta_t)$ with $\alpha_t = 1-\beta_t$, and $q(x_t\mid x_0) = N(\sqrt{\bar\alpha_t}\,x_0,\,1-\bar\alpha_t)$ with $\bar\alpha_t = \alpha_1\cdots\alpha_t$. Our schedule now has 20 large steps.
#
# We are at $x_3 = 0.1$. **Where were we at $t = 2$?** Ask by experiment: take a million walks from the data to $x_2$ and on to $x_3$, and keep those with $x_3$ within 0.02 of 0.1. We do it for B and another data set, A. The point 1 is in both.

# %%
schedule = dc.vp_schedule(20)
fig, axes = lab.figure(2, width=10, height=3.2)
kept = {}
for name, line in (("A", "-"), ("B", "--")):
    x0 = data_sets[name][torch.randint(len(data_sets[name]), (1_000_000,), generator=rng)]
    x_2 = dc.q_sample(schedule, x0, 2, generator=rng)
    near = (dc.q_step(schedule, x_2, 3).sample(generator=rng) - 0.1).abs() < 0.02
    kept[name] = x_2[near]
    for ax, part in zip(axes, (near, near & (x0 == 1)), strict=True):
        options = {"density": True, "histtype": "step", "ls": line, "label": f"data set {name}"}
        ax.hist(x_2[part], 40, range=(-1.5, 1.5), **options)
for ax, title in zip(axes, ("x_2, of any x_0", "x_2, only of x_0 = 1"), strict=True):
    ax.set(xlabel="x_2", ylabel="density", title=title, xlim=(-1.5, 1.5))
    ax.legend()
lab.show(
    fig, "Where walks near x_3 = 0.1 were at t = 2: it depends on the data, unless x_0 is known."
)

# %% [markdown]
# On the left, the answer depends on the data, and for A it has two humps. On the right only walks from $x_0 = 1$ are kept: one hump, **the same for both**.
#
# The left picture as a formula: write the density of the pair $(x_{t-1}, x_t)$ in two ways, forwards and backwards:
#
# $$q(x_t\mid x_{t-1})\,q(x_{t-1})=q(x_{t-1}\mid x_t)\,q(x_t)\quad\Rightarrow\quad q(x_{t-1}\mid x_t)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1})}{q(x_t)}.$$
#
# This is **Bayes' rule**. Its result, the **posterior**, is what we know of $x_{t-1}$ after seeing $x_t$. The first factor, one known step, is called the **likelihood** when read as a curve in $x_{t-1}$. The divisor has no $x_{t-1}$ in it: it makes the area 1. The **prior** $q(x_{t-1})$ is the problem. (Bayes' word for what is known before; in lesson 02 it was the sampler's start.) A walk started at *some* data point, so for $N$ points ($N$ alone is a number)
#
# $$q(x_{t-1})=\frac1N\sum_{i=1}^{N}q\big(x_{t-1}\mid x_0=x^{(i)}\big).$$
#
# Each step back would touch every picture of the data set. Worse, we want all pictures of that kind, and nobody has those. **So the way back is out of reach.**
#
# ## 3. The same rule, with the clean data known
#
# Now everything is given $x_0$. A step looks only at the state before it, so $q(x_t\mid x_{t-1}, x_0) = q(x_t\mid x_{t-1})$, and
#
# $$q(x_{t-1}\mid x_t, x_0)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}, \qquad t\ge2.\tag{7}$$
#
# All three on the right are Gaussians of lesson 02. The data set is gone. **This is within reach.**
#
# At $t = 1$ there is nothing to ask: $x_{t-1}$ *is* $x_0$, with variance 0 and no density.
#
# ## 4. Two bells make a third
#
# The numerator of (7) is a product of two bells in $x_{t-1}$: the prior, which knows $x_0$, and the likelihood, which knows $x_t$. (As a curve in $x_{t-1}$ it has the centre $x_t/\sqrt{\alpha_t}$ and the variance $\beta_t/\alpha_t$.) One over a variance is a **precision**. In the product **precisions add, and the mean is the average of the two centres, each weighted with its precision.** The last step has the $\beta$ that you choose.


# %%
def last_step(t, beta):
    """The schedule of t steps: t - 1 of ours, then one with this beta."""
    return dc.NoiseSchedule(torch.cat([schedule.betas[1:t], torch.tensor([beta])]))


axis = torch.linspace(-3, 3, 1201)
fig, (ax,) = lab.figure(width=10, height=3.8)
names = ("prior q(x_prev | x_0)", "likelihood q(x_t | x_prev)", "posterior q(x_prev | x_t, x_0)")
colors, styles = (lab.BLUE, lab.ORANGE, lab.BLACK), ("--", ":", "-")
curves, marks = [], []
for name, color, style in zip(names, colors, styles, strict=True):
    curves += ax.plot(axis, 0 * axis, color=color, ls=style, label=name)
    marks += ax.plot([0], [1.06], "v", color=color, ls="none")
ax.set(xlabel="x_prev, that is x_{t-1}", ylabel="density / its peak", xlim=(-3, 3), ylim=(0, 1.12))
ax.legend(fontsize="small", loc="upper right")
words = ax.text(0.01, 0.97, "", transform=ax.transAxes, va="top", fontsize="small")

# %% [markdown]
# Compare places (triangles) and widths; each peak is drawn at 1, and variance 0 as a narrow line.


# %%
def explore_posterior(t, beta, x0, x_t):
    """Draw prior, likelihood and posterior; return the sentence under the picture."""
    chosen = last_step(t, beta)
    start, now = torch.tensor([x0]), torch.tensor([x_t])
    posterior = dc.q_posterior(chosen, now, start, t)
    likelihood = dc.Gaussian(now / chosen.alphas[t].sqrt(), chosen.betas[t] / chosen.alphas[t])
    three = (dc.q_marginal(chosen, start, t - 1), likelihood, posterior)
    for curve, mark, (mean, var) in zip(curves, marks, three, strict=True):
        curve.set_ydata(torch.exp(-((axis - mean) ** 2) / (2 * var.clamp(min=1e-5))))
        mark.set_xdata(mean)
    mean, std = posterior.mean.item(), posterior.var.sqrt().item()
    words.set_text(f"posterior\nmean {mean:.3f}\nstd {std:.3f}")
    place = f"t = {t}, beta = {beta:.2f}, x_0 = {x0:.1f}, x_t = {x_t:.1f}"
    return f"{place}: the posterior has mean {mean:.3f} and standard deviation {std:.3f}."


controls = {
    "t": lab.slider("t", 1, 20, 5),
    "beta": lab.slider("beta", 0.01, 0.9, 0.3, 0.01),
    "x0": lab.slider("x_0", -2.0, 2.0, 1.2, 0.1),
    "x_t": lab.slider("x_t", -2.0, 2.0, -0.6, 0.1),
}
lab.Explorer(fig, [*curves, *marks, words], explore_posterior, controls)

# %% [markdown]
# Make $\beta$ small: the likelihood wins, and the posterior sits at $x_t$. Make it large: the prior wins. Set $t = 1$: the posterior is $x_0$. Drag $x_t$: the place moves, the width does not.
#
# **The proof.** A Gaussian has the exponent $-\frac12(x-\text{mean})^2/\text{variance}$. Write $x$ for $x_{t-1}$. The exponent of (7) is, up to terms without $x$,
#
# $$-\frac12\bigg[\frac{(x_t-\sqrt{\alpha_t}\,x)^2}{\beta_t}+\frac{(x-\sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\bigg]=-\frac12\big[P\,x^2-2H\,x\big]+\dots,$$
#
# $$P=\frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}},\qquad H=\frac{\sqrt{\alpha_t}}{\beta_t}\,x_t+\frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}\,x_0.$$
#
# Complete the square: $P\,x^2-2H\,x = P\,(x-H/P)^2-H^2/P$. So (7) is a Gaussian with mean $H/P$ and variance $1/P$; $P$ is the sum of the two precisions. Bring $P$ to one denominator, with $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$ and $\alpha_t+\beta_t = 1$: it is $(1-\bar\alpha_t)\,/\,[\beta_t(1-\bar\alpha_{t-1})]$. Therefore
#
# $$q(x_{t-1}\mid x_t, x_0)=N\big(\tilde\mu_t,\ \tilde\beta_t\big),\quad
# \tilde\mu_t=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0+\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,\quad
# \tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t.\tag{8}$$
#
# For pictures, (8) holds in each coordinate by itself. At $t = 1$ it gives $x_0$ with variance 0, as it must.


# %%
def bell(x, mean, var):
    """The density of N(mean, var) at x; var is a variance."""
    return torch.exp(-((x - mean) ** 2) / (2 * var)) / torch.sqrt(2 * math.pi * var)


# %% [markdown]
# Check: the right side of (7), at 6 401 places.


# %%
grid = torch.linspace(-8, 8, 6401)


def ratio_on_grid(x_t, x0, t):
    """The right side of (7) on the grid of x_{t-1}."""
    before, now = schedule.alpha_bars[t - 1], schedule.alpha_bars[t]
    step = bell(x_t, schedule.alphas[t].sqrt() * grid, schedule.betas[t])
    prior = bell(grid, before.sqrt() * x0, 1 - before)
    return step * prior / bell(x_t, now.sqrt() * x0, 1 - now)


for t in range(2, 21):
    for x_t, x0 in ((0.1, 1.0), (-1.0, 1.0), (1.5, -1.2)):
        mean, var = dc.q_posterior(schedule, torch.tensor([x_t]), torch.tensor([x0]), t)
        by_ratio = ratio_on_grid(x_t, x0, t)
        torch.testing.assert_close(bell(grid, mean, var), by_ratio, rtol=1e-9, atol=1e-12)
print("(8) = the right side of (7) at 6 401 places, for every t from 2 to 20")

# %% [markdown]
# **Exercise 1. Find the mistakes.** A colleague has written the mean of (8). At $t = 1$ it should return `x0`, and it does not. That is one mistake of two. Repair both. `t` is one whole number; `x_t`, `x0` and the answer have shape (n, D): n states of D coordinates.


# %%
# STARTER
def mended_mean(schedule, x_t, x0, t):
    keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    of_x0 = keep.sqrt() * schedule.betas[t] / (1 - keep)
    of_x_t = schedule.alphas[t] * (1 - keep_before) / (1 - keep)
    return of_x0 * x0 + of_x_t * x_t


# SOLUTION
def mended_mean(schedule, x_t, x0, t):
    keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    of_x0 = keep_before.sqrt() * schedule.betas[t] / (1 - keep)
    of_x_t = schedule.alphas[t].sqrt() * (1 - keep_before) / (1 - keep)
    return of_x0 * x0 + of_x_t * x_t


# %%
# lab.hint("03.1")
lab.check("03.1", mended_mean)

# %%
# In the package; the two factors come from a table, and combine(a, x, b, y) is a x + b y.
lab.show_source(dc.q_posterior)

# %% [markdown]
# **Predict, then run.** Take 1 000 steps. At $t = 1\,000$, which has the larger weight in the mean, $x_0$ or $x_t$? Going back, at which $t$ does $x_0$ first get the larger one: about 500, about 50, or 2?

# %%
long, one = dc.vp_schedule(1000), torch.ones(1)
of_x0 = torch.cat([dc.q_posterior(long, 0 * one, one, t).mean for t in range(1, 1001)])
of_x_t = torch.cat([dc.q_posterior(long, one, 0 * one, t).mean for t in range(1, 1001)])
for t in (1000, 100, 3, 2, 1):
    print(f"t = {t:4d}: weight of x_0 {of_x0[t - 1]:.6f}, of x_t {of_x_t[t - 1]:.6f}")

fig, (left, right) = lab.figure(2, width=10, height=2.8)
left.semilogx(range(1, 1001), of_x0, label="weight of x_0")
left.semilogx(range(1, 1001), of_x_t, label="weight of x_t")
left.set(xlabel="t", ylabel="weight in the mean")
left.legend()
right.semilogx(range(1, 1001), long.posterior_vars[1:] / long.betas[1:])
right.set(xlabel="t", ylabel="posterior_vars / betas", ylim=(0, 1.05))
lab.show(
    fig,
    "Over t: the weight of x_0 falls from 1 to nearly 0, and the variance rises from 0 to beta_t.",
)

# %% [markdown]
# A small step leans towards $x_0$ only a little; in the last two steps $x_0$ takes over.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: by linear algebra, without Bayes' rule, t = 1 included
#
# Let $a$ and $b$ be two numbers made of the same independent Gaussian draws: each draw times a fixed factor, plus a fixed number. Such a pair is called **jointly Gaussian**. What do we know of $a$ when $b$ is known?
#
# 1. Take from $a$ a multiple of $b$: $r = a-k\,b$ with $k = \text{Cov}(a,b)/\text{Var}(b)$. Then $\text{Cov}(r,b) = \text{Cov}(a,b)-k\,\text{Var}(b) = 0$.
# 2. If $\text{Var}(r) = 0$ (so at $t = 1$), $r$ is a fixed number, and there is nothing to show. Otherwise: $r$ and $b$ are made of the same draws, so their joint density is a Gaussian in two dimensions. Its exponent is $-\tfrac12$ times a quadratic form with the inverse of the covariance matrix. That matrix is diagonal, so its inverse is, and there is no term with $r\,b$. The density is a product: $r$ and $b$ are independent.
# 3. So knowing $b$ says nothing of $r$, and $a = k\,b+r$ is a fixed number plus $r$. Its mean is $k\,b+\mathbb E[r] = \mathbb E[a]+k\,(b-\mathbb E[b])$.
# 4. Its variance is $\text{Var}(r) = \text{Var}(a)-2k\,\text{Cov}(a,b)+k^2\,\text{Var}(b) = \text{Var}(a)-k\,\text{Cov}(a,b)$.
#
# For us $a$ is $x_{t-1}$ and $b$ is $x_t$, with $x_0$ a fixed number. The chain is $x_t = \sqrt{\alpha_t}\,x_{t-1}+\sqrt{\beta_t}\,z_t$ with fresh $z_t\sim N(0,1)$. So each state is a multiple of $x_0$ (`of_start`) plus a combination of $z_1,\dots,z_t$; row $t$ of the matrix `L` holds the factors of these draws, and the covariances of all states are $LL^\top$.

# %%
L, of_start = torch.zeros(21, 21), torch.ones(21)
for t in range(1, 21):
    L[t] = schedule.alphas[t].sqrt() * L[t - 1]
    L[t, t] = schedule.betas[t].sqrt()
    of_start[t] = schedule.alphas[t].sqrt() * of_start[t - 1]
cov = L @ L.T

x_t, x0 = torch.tensor([-0.4]), torch.tensor([0.7])
for t in range(1, 21):
    k = cov[t - 1, t] / cov[t, t]
    mean = of_start[t - 1] * x0 + k * (x_t - of_start[t] * x0)
    var = cov[t - 1, t - 1] - k * cov[t - 1, t]
    package = dc.q_posterior(schedule, x_t, x0, t)
    torch.testing.assert_close(mean, package.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(var.view(1), package.var, rtol=1e-10, atol=1e-12)
print("formula (8) = conditioning the joint Gaussian, for every t from 1 to 20")

# %% [markdown]
# ## 5. Both together: an average over the clean data
#
# Sort the walks that arrive at $x_t$ by where they started. Those from $x^{(i)}$ have the density (8). All together:
#
# $$q(x_{t-1}\mid x_t)=\sum_{i=1}^{N}q\big(x_0=x^{(i)}\mid x_t\big)\; q\big(x_{t-1}\mid x_t,\ x_0=x^{(i)}\big).\tag{9}$$
#
# The first factor is the share of walks from $x^{(i)}$. By Bayes' rule, as all points are equally likely beforehand, it is in proportion to how well the point explains $x_t$:
#
# $$q\big(x_0=x^{(i)}\mid x_t\big)=\frac{q\big(x_t\mid x_0=x^{(i)}\big)}{\sum_j q\big(x_t\mid x_0=x^{(j)}\big)}.$$
#
# Only here does the whole data set come in. The package has (9) as `mixture_reverse`. Do the walks of section 2 follow it?

# %%
mixtures = {name: dc.mixture(listed[:, None]) for name, listed in data_sets.items()}
fig, axes = lab.figure(2, width=10, height=3.2, sharey=True)
bins = torch.linspace(-1.47, 1.47, 50)  # of the bars
for ax, name in zip(axes, data_sets, strict=True):
    back = dc.mixture_reverse(schedule, mixtures[name], torch.tensor([0.1]), 3)
    exact = back.log_prob(bins[:, None]).exp()
    bars = torch.histc(kept[name], 50, -1.5, 1.5) / (len(kept[name]) * 0.06)
    ax.bar(bins, bars, 0.06, color=lab.SKY, alpha=0.5, label="walks")
    ax.plot(bins, exact, color=lab.BLACK, ls="-", label="(9)")
    ax.set(xlabel="x_2", ylabel="density", title=f"data set {name}, x_3 = 0.1", xlim=(-1.5, 1.5))
    error = (exact / (len(kept[name]) * 0.06)).sqrt()
    print(
        f"{name}: the bars differ from (9) by {((bars - exact) / error).square().mean().sqrt():.2f} standard errors (chance alone: about 1)"
    )
axes[1].legend()
lab.show(fig, "Walks near x_3 = 0.1 for two data sets, and the exact q(x_2 | x_3) by (9).")

# %% [markdown]
# In the next picture, dashed is the Gaussian with the same mean and variance. From it section 1 drew its steps, but the last, which was the mean alone: for $t\ge2$ **its only mistake is the shape.** (The mean of a mixture is the weighted mean of its means; its variance is that of one part plus the spread of the means: `moments_back`.)

# %%
fig, (ax,) = lab.figure(width=10, height=3.8)
terms = [ax.plot(axis, 0 * axis, color=lab.SKY, ls="-", lw=3)[0] for _ in range(4)]
terms[0].set_label("terms of (9)")
(whole,) = ax.plot(axis, 0 * axis, color=lab.BLACK, ls="-", label="q(x_prev | x_t)")
(smooth,) = ax.plot(axis, 0 * axis, color=lab.RED, ls="--", label="Gaussian, same mean and var")
(mark,) = ax.plot([0], [0.02], "^", color=lab.GREEN, ls="none", label="x_t")
ax.legend(fontsize="small", loc="upper right")
labels = ax.set(xlabel="x_{t-1}", ylabel="density / peak", xlim=(-3, 3), ylim=(0, 1.3))

# %% [markdown]
# Make $\beta$ smaller, with either data set.


# %%
def explore_reverse(t, beta, x_t, name):
    """Draw q(x_{t-1} | x_t), its terms and a Gaussian; return the sentence under the picture."""
    chosen, now = last_step(t, beta), torch.tensor([x_t])
    parts = dc.mixture_reverse(chosen, mixtures[name], now, t)
    drawn = parts.weights * bell(axis[:, None], parts.means[:, 0], parts.vars.clamp(min=1e-5))
    total, peak = drawn.sum(1), drawn.sum(1).max()
    for i, term in enumerate(terms):
        term.set_ydata(drawn[:, i] / peak if i < drawn.shape[1] else 0 * axis)
    mean, var = moments_back(chosen, data_sets[name], now, t)
    whole.set_ydata(total / peak)
    near = bell(axis, mean, var.clamp(min=1e-5))
    smooth.set_ydata(near / peak)
    mark.set_xdata(now)
    apart = torch.trapezoid((total - near).abs(), axis) / 2
    where = f"data {name}, t = {t}, beta = {beta:.2f}, x_t = {x_t:.1f}"
    return f"{where}: {100 * apart:.0f} % of the curve differs from the Gaussian."


controls = {
    "t": lab.slider("t", 1, 20, 3),
    "beta": lab.slider("beta", 0.01, 0.9, 0.4, 0.01),
    "x_t": lab.slider("x_t", -2.0, 2.0, 0.1, 0.1),
    "name": lab.choice("data set", list(data_sets)),
}
lab.Explorer(fig, [*terms, whole, smooth, mark], explore_reverse, controls)

# %% [markdown]
# ## 6. Why do small steps succeed?
#
# Two things must go well: the shape of each step with $t\ge2$, and the last step. With 5 or 10 steps the last is to blame (see the end of this section).
#
# **The shape.** From $t = 3$ on you saw it: with a small $\beta$ the dashed curve nearly lies on the black one. (At $t = 2$ set $x_t = 0$, data A: even the slider's smallest $\beta$ is not small beside the prior's humps.) It holds for any data set as long as $t\ge2$ (Feller, 1949). Take the logarithm of Bayes' rule, for fixed $x_t$:
#
# $$\log q(x_{t-1}\mid x_t)=-\frac{(x_t-\sqrt{\alpha_t}\,x_{t-1})^2}{2\beta_t}+\log q(x_{t-1})+\text{const}.$$
#
# The first term is a parabola; it leaves a window a few $\sqrt{\beta_t}$ wide. The second is smooth, and through a narrow window a smooth curve is nearly a parabola. Their sum is one again: a Gaussian.
#
# **How near?** Take the KL divergence (lesson 02) to the nearest Gaussian, the one with the same mean and variance. Averaged over $x_t$,
#
# $$\int q(x_t)\;\text{KL}\big(q(x_{t-1}\mid x_t)\ \big\|\ \text{nearest Gaussian}\big)\,dx_t\;\to\;0\quad\text{as}\quad\beta_t\to0,\qquad t\ge2.\tag{10}$$
#
# Many small errors add up; but their sum falls in the end (next fold).

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how near, in whole schedules
#
# (10) makes only the last step small. With more steps, all become smaller, and the humps of the prior become narrower. So we measure whole schedules, with natural logarithms, in **nats** (1 nat is 1.44 bits).


# %%
def kl_to_gaussian(chosen, x_t, t):
    """KL of q(x_{t-1} | x_t) of data B to the nearest Gaussian, for many x_t, by Bayes' rule."""
    mean, var = moments_back(chosen, points, x_t, t)
    x = mean + var.sqrt() * torch.linspace(-12, 12, 401)[:, None]
    log_gaussian = -((x - mean) ** 2) / (2 * var) - torch.log(2 * math.pi * var) / 2
    prior = dc.diffuse(chosen, mixtures["B"], t - 1).log_prob(x.view(-1, 1)).view_as(x)
    arriving = dc.diffuse(chosen, mixtures["B"], t).log_prob(x_t[:, None])
    log_q = dc.q_step(chosen, x, t).log_prob(x_t.expand_as(x)) + prior - arriving
    return torch.trapezoid(log_q.exp() * (log_q - log_gaussian), x, dim=0)


# %%
places = torch.linspace(-4, 4, 401)


def average_kl(chosen, t):
    """The left side of (10): KL to the nearest Gaussian, averaged over x_t, in nats."""
    density = dc.diffuse(chosen, mixtures["B"], t).log_prob(places[:, None]).exp()
    return torch.trapezoid(density * kl_to_gaussian(chosen, places, t), places).item()


fig, (ax,) = lab.figure(width=8, height=3.4)
some = torch.logspace(math.log10(2), 3, 25).round().int().tolist()[: lab.up_to(25, least=3)]
for T, marker in ((5, "v"), (10, "^"), (20, "o"), (35, "D"), (100, "."), (1000, "s")):
    times = some if T == 1000 else range(2, T + 1)
    kls = [average_kl(dc.vp_schedule(T), t) for t in times]
    ax.loglog(times, kls, marker=marker, ms=4, label=f"T = {T}")
    if T < 1000:
        where = f"the largest {max(kls):.4f} nats, at t = {times[kls.index(max(kls))]}"
        print(f"T = {T:3d}: {where}; the sum over all t from 2 on {sum(kls):.4f}")
ax.set(xlabel="t", ylabel="average KL, nats", ylim=(1e-11, 1))
ax.legend()
lab.show(
    fig,
    "Divergence of the true step back from a Gaussian: from some 35 steps on, more make it smaller.",
)

# %% [markdown]
# From some 35 steps on the largest divergence falls, and so does the sum over all steps, though there are more of them. With 5 or 10 steps both are small for another reason: $\beta_1$ is so large that even $x_1$ is blurred. There the last step fails (see below).
#
# At the smallest $t$ of a long schedule one point alone explains $x_t$, so the step back is (8), a Gaussian. At large $t$ the prior is smooth. What is left lies between, where walks choose their point.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the last step alone, and the power three
#
# **The nearest Gaussian.** Let $\varphi$ be the density of a Gaussian (here any, not only $N(0,1)$). $\text{KL}(q\,\|\,\varphi) = \mathbb E_q[\log q-\log\varphi]$, and only the second part depends on it: $-\mathbb E_q[\log\varphi] = \tfrac12\big[\log(2\pi\,\text{var})+\mathbb E_q[(x-\text{mean})^2]/\text{var}\big]$. Set its derivatives to 0: mean and variance are those of $q$.
#
# **How fast does (10) fall?** In the window of width $\sqrt{\beta_t}$, what the second curve has beyond a parabola is of third order: (width)³ $= \beta_t^{3/2}$. So the logarithms of the two densities differ by that much. KL is 0 at its smallest value, where they agree, so it grows with the *square* of the difference: like $\beta_t^3$. Halving $\beta$ should divide it by 8. We keep the first $t-1$ steps of our 20, and let the last become small.

# %%
betas = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.0025)
betas = betas[-lab.up_to(8, least=2) :]  # all 8; only the tests of the course take the last 2
fig, (ax,) = lab.figure(width=7, height=3.4)
for t, marker in ((3, "o"), (5, "s"), (8, "^")):
    kls = [average_kl(last_step(t, beta), t) for beta in betas]
    ax.loglog(betas, kls, marker=marker, label=f"t = {t}")
    assert kls == sorted(kls, reverse=True)
    assert 7 < kls[-2] / kls[-1] < 8.5
    print(f"t = {t}: the last halving of beta divides the divergence by {kls[-2] / kls[-1]:.2f}")
ax.loglog(betas, [2e-4 * beta**3 for beta in betas], color=lab.BLACK, ls=":", label="like beta^3")
ax.set(xlabel="beta of the last step", ylabel="average KL, nats")
ax.legend()
lab.show(fig, "The divergence from a Gaussian falls with beta, in the end like its third power.")

# %% [markdown]
# ### The last step
#
# **At $t = 1$ never.** For a list of points, $q(x_0\mid x_1)$ is that list again, with shares, and no Gaussian of positive variance is near it. So samplers make the last step without noise (lesson 05), and the loss treats it separately (lesson 04).
#
# Which failures of section 1 were the last step's? Now the others are drawn from (9) itself:


# %%
def ends_of_exact_steps(schedule, points, x):
    """Each step is drawn from (9): a point by its share, then (8). The last step is the mean."""
    for t in range(schedule.T, 1, -1):
        drawn = torch.multinomial(point_shares(schedule, points, x, t), 1, generator=rng)[:, 0]
        x = dc.q_posterior(schedule, x, points[drawn], t).sample(generator=rng)
    return moments_back(schedule, points, x, 1)[0]


# %%
print("share of failed walks. All steps but the last are:")
for T in (5, 10, 20, 100):
    chosen, x_T = dc.vp_schedule(T), torch.randn(20_000, generator=rng)
    gaussian = failed(back_to_data(chosen, points, x_T)[0])
    exact = failed(ends_of_exact_steps(chosen, points, x_T))
    beta_1 = chosen.betas[1].item()
    print(f"T = {T:3d}, beta_1 = {beta_1:.4f}: Gaussian {gaussian:.2f}, exact {exact:.2f}")

# %% [markdown]
# So at $T = 5$ and 10 nearly all failures come from the last step: after a large $\beta_1$ the list is undecided, and its mean lies between the points. With many steps $\beta_1$ is tiny and $x_1$ lies beside one point, so the mean is that point. The shape of the other steps adds a smaller error, seen at $T = 20$; by $T = 100$ it has fallen, too (first fold of this section).

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: t = 1 in numbers
#
# We stand at $x_1 = 0.1$, halfway between the points −0.2 and 0.4 of B.

# %%
for beta in (0.5, 0.1, 0.001):
    back = dc.mixture_reverse(last_step(1, beta), mixtures["B"], torch.tensor([0.1]), 1)
    assert (back.vars == 0).all()
    torch.testing.assert_close(back.means[:, 0], points, rtol=1e-12, atol=0)
    shares = ", ".join(f"{share:.4f}" for share in back.weights)
    print(f"beta_1 = {beta}: the points of B, each with variance 0, with shares {shares}")
print(f"limit for small beta_1: {1 / (1 + math.exp(0.03)):.4f} and {1 / (1 + math.exp(-0.03)):.4f}")

# %% [markdown]
# However small $\beta_1$ is, the answer stays undecided. Why not one half each? The step shrinks both points towards 0, by $\sqrt{\alpha_1}\approx1-\beta_1/2$, and the farther one moves more: 0.4 comes nearer to $x_1$ than −0.2 does. The exponents $-(0.1-\sqrt{\alpha_1}\,x_0)^2/(2\beta_1)$ differ by $\tfrac12\big(0.3\cdot0.4-0.3\cdot0.2\big) = 0.03$ in the limit, so the shares are as $e^{0.03}$ to 1. But with a small $\beta_1$ hardly any walk is ever there: nearly all have an $x_1$ close to where they started, and one share is almost 1.

# %% [markdown]
# ## 7. The mean by the noise
#
# The mean (8) contains $x_0$, which a sampler does not have. It has $x_t = \sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\;\epsilon$, where $\epsilon$ is the noise of all $t$ steps together. Given $x_t$, knowing $x_0$ and knowing $\epsilon$ are the same. Put $x_0 = (x_t-\sqrt{1-\bar\alpha_t}\;\epsilon)/\sqrt{\bar\alpha_t}$ into (8). Because $\sqrt{\bar\alpha_{t-1}}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$, the factor of $x_t$ becomes $[\beta_t+\alpha_t-\bar\alpha_t]\,/\,[\sqrt{\alpha_t}\,(1-\bar\alpha_t)] = 1/\sqrt{\alpha_t}$, and
#
# $$\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\Big(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\epsilon\Big).\tag{11}$$

# %%
x0, eps = torch.randn(2, 1000, generator=rng)
for t in range(1, 21):
    x_t = dc.q_sample(schedule, x0, t, eps)
    noise_part = schedule.betas[t] / schedule.marginal_vars[t].sqrt() * eps
    by_eps = (x_t - noise_part) / schedule.alphas[t].sqrt()
    by_x0 = dc.q_posterior(schedule, x_t, x0, t).mean
    torch.testing.assert_close(by_eps, by_x0, rtol=1e-10, atol=1e-12)
print("(11) = (8) for a thousand pairs of x_0 and eps, for every t from 1 to 20")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: does a step back stretch or shrink?
#
# In (11) stands $1/\sqrt{\alpha_t}$, in (8), at large $t$, about $\sqrt{\alpha_t}$. The step forward was $x_t = \sqrt{\alpha_t}\,x_{t-1}+\sqrt{\beta_t}\,z_t$. (11) undoes it: it takes off what step $t$ has added, on average the part $\beta_t/(1-\bar\alpha_t)$ of all the noise $\sqrt{1-\bar\alpha_t}\,\epsilon$, and stretches the rest. When $x_t$ is nearly all noise, $\epsilon\approx x_t$, and (11) is about $(1-\beta_t)\,x_t/\sqrt{\alpha_t} = \sqrt{\alpha_t}\,x_t$: more is taken off than the stretching brings back. So what is data is stretched, and what is noise shrinks, in both formulas. This is why the weights of section 4 sum to about $\sqrt{\alpha_t} = 0.99$ at $t = 1\,000$, not to 1: a step back from noise also pulls towards 0.

# %% [markdown]
# ## 8. Who tells us the mean? Least squares
#
# The mean (8) is a multiple of $x_0$ plus something known. So the mean of the true step back, averaged as in (9), is (8) with $\mathbb E[x_0\mid x_t]$ in the place of $x_0$, or (11) with $\mathbb E[\epsilon\mid x_t]$ in the place of $\epsilon$. **One function of $x_t$ and $t$ is enough.**
#
# <details><summary>And the variance?</summary>
#
# With small steps, but for the first few $t$, the spread of the means is small beside $\tilde\beta_t$, and $\tilde\beta_t$ or $\beta_t$ will nearly do: lessons 04, 05.
#
# </details>
#
# The function can be learned, by the theorem on which this course stands. Let $g(x_t)$ be any guess of $x_0$, and $m(x_t) = \mathbb E[x_0\mid x_t]$ (not the $m$ of lesson 02). Then
#
# $$\mathbb E\,|x_0-g|^2=\mathbb E\,|x_0-m|^2+\mathbb E\,|m-g|^2.$$
#
# *Proof.* Write $x_0-g = (x_0-m)+(m-g)$ and expand the square. The mixed term is $2\,\mathbb E\big[(x_0-m)\cdot(m-g)\big]$. Average first over $x_0$ at a fixed $x_t$: then $m-g$ is fixed, and $x_0-m$ has mean 0, as $m$ is the mean. So the mixed term is 0. ∎
#
# The first part does not depend on $g$; the second is 0 for $g = m$ only. So **whatever is fitted to pairs $(x_t, x_0)$ by least squares is driven towards $\mathbb E[x_0\mid x_t]$**, and with $\epsilon$ for $x_0$ the same. Try to beat the mean:


# %%
places = torch.linspace(-4, 4, 401)  # of x_t
GUESSES = {
    "the mean": lambda x_t, t: point_shares(schedule, points, x_t, t) @ points,
    "nearest point": lambda x_t, t: points[point_shares(schedule, points, x_t, t).argmax(1)],
    "x_t": lambda x_t, t: x_t,
    "0": lambda x_t, t: 0 * x_t,
}


def three_errors(name, t):
    """E|x_0 - g|^2, E|x_0 - m|^2 and E|m - g|^2 for data B: the sum over x_0, the integral over x_t."""
    guess, mean = GUESSES[name](places, t), GUESSES["the mean"](places, t)
    centres = schedule.alpha_bars[t].sqrt() * points[:, None]
    joint = bell(places, centres, schedule.marginal_vars[t]) / len(points)  # q(x_0, x_t)
    off = [(joint * (points[:, None] - g) ** 2).sum(0) for g in (guess, mean)]
    both = torch.stack([*off, joint.sum(0) * (mean - guess) ** 2])
    return torch.trapezoid(both, places).tolist()


# %%
starts = points[torch.randint(4, (1500,), generator=rng)]
noise, scatter = torch.randn(2, 1500, generator=rng)
fig, (ax,) = lab.figure(width=9, height=3.6)
(pairs,) = ax.plot([], [], "o", ms=2, mew=0, color=lab.SKY, alpha=0.7, ls="none", label="pairs")
(best,) = ax.plot([], [], color=lab.BLACK, ls="-", label="m(x_t), the mean")
(other,) = ax.plot([], [], color=lab.RED, ls="--", label="g(x_t), your guess")
ax.legend(fontsize="small", loc="lower right")
labels = ax.set(xlim=(-3, 3), ylim=(-1.9, 1.9), xlabel="x_t", ylabel="x_0, scattered a little")

# %% [markdown]
# Each dot is a pair $(x_t, x_0)$. The sentence has the theorem in numbers.


# %%
def explore_guess(t, name):
    """Draw the pairs, the mean and a guess; return the sentence with the three errors."""
    pairs.set_data(dc.q_sample(schedule, starts, t, noise), starts + 0.03 * scatter)
    best.set_data(places, GUESSES["the mean"](places, t))
    other.set_data(places, GUESSES[name](places, t))
    loss, least, excess = three_errors(name, t)
    return f"t = {t}, guess {name}: error {loss:.4f} = {least:.4f} that no guess avoids + {excess:.4f}."


controls = {
    "t": lab.slider("t", 1, 20, 7),
    "name": lab.choice("guess", list(GUESSES), "nearest point"),
}
lab.Explorer(fig, [pairs, best, other], explore_guess, controls)

# %%
for t in range(1, 21):
    for name in GUESSES:
        loss, least, excess = three_errors(name, t)
        assert math.isclose(loss, least + excess, rel_tol=1e-9, abs_tol=1e-12)
    x_t = torch.linspace(-2, 2, 9)
    eps_hat = dc.mixture_eps_model(schedule, mixtures["B"])(x_t[:, None], t)
    x0_hat = dc.x0_from_eps(schedule, x_t[:, None], eps_hat, t)
    guessed = dc.p_step(schedule, x_t[:, None], x0_hat, t).mean[:, 0]
    exact = moments_back(schedule, points, x_t, t)[0]
    torch.testing.assert_close(guessed, exact, rtol=1e-9, atol=1e-9)
print(
    "the theorem for four guesses; and the mean of the true step from one guess of eps: t from 1 to 20"
)

# %% [markdown]
# ## 9. A perfect student would copy
#
# The list is 6 000 training digits. Six *test* digits, which are not in it, get noise. For the list, $\mathbb E[x_0\mid x_t]$ is the average of its digits, weighted by their shares. Above stands how many digits count: $1/\sum_i\text{share}_i^2$, which is 7 for 7 equal shares. Last comes the guess of the shipped network, trained by least squares on all 60 000 (lesson 06).

# %%
train, test = data.images("train"), data.images("test")
listed = data.to_signed(train.x[:6000])
digit_list, cosine = dc.mixture(listed), dc.cosine_schedule(1000)
network, _ = pretrained.load("mnist")


@torch.no_grad()
def both_guesses(clean, eps, t):
    """x_t, E[x_0 | x_t] for the list, the network's guess, and how many digits count."""
    x_t = dc.q_sample(cosine, clean, t, eps)
    shares = component_log_probs(dc.diffuse(cosine, digit_list, t), x_t).softmax(1)
    v = network(x_t, torch.full((len(x_t),), t))  # lesson 06 says what v is
    mean = (shares @ digit_list.means).view_as(x_t)
    return x_t, mean, dc.x0_from_v(cosine, x_t, v, t), 1 / shares.square().sum(1)


six = data.to_signed(test.x[[3, 2, 1, 18, 4, 8]])
six_eps = torch.randn(six.shape, generator=rng).float()
seen = {t: both_guesses(six, six_eps, t) for t in range(50, 951, 50)}

# %% [markdown]
# Move $t$, and compare the third row with the first.

# %%
fig, (ax,) = lab.figure(width=8, height=5.2)
sheet = lab.draw_images(ax, torch.cat([six] * 4), 6, note=test.note)
ax.set(
    yticks=[14.5, 43.5, 72.5, 101.5],
    yticklabels=["test digit", "x_t", "mean of the list", "network"],
)
numbers = [ax.text(14.5 + 29 * i, -3, "", ha="center", fontsize="small") for i in range(6)]
ax.set_title("how many digits of the list count", fontsize="small", pad=18)


def explore_copies(t):
    """Show the digits, their noisy states and both guesses; return the sentence."""
    x_t, mean, guess, count = seen[t]
    sheet.set_data(lab.image_grid(torch.cat([six, x_t, mean, guess]), 6))
    for number, n in zip(numbers, count.tolist(), strict=True):
        number.set_text(f"{n:.1f}")
    return f"t = {t} of 1000: test digits, x_t, the exact mean for the list, the network's guess."


lab.Explorer(fig, [sheet, *numbers], explore_copies, {"t": lab.slider("t", 50, 950, 650, 50)})

# %% [markdown]
# As $t$ falls: a grey blur of many digits; then a few; then **one digit of the list, not the one that got the noise**. Whoever walks back in many steps with the exact answer for a list ends in the list, as with $T = 100$ in section 1: with copies. And by the theorem, training drives a network towards just that answer! Why do we get new digits?
#
# <details><summary>The mean is a blur. How can the walk end in a sharp digit?</summary>
#
# The mean answers "where from, on average?". A step goes only a little towards it, and adds noise. As $t$ falls, the shares settle on one digit, and the mean becomes that digit.
#
# </details>
#
# Because a network does not get there. It has far fewer numbers than its training digits have pixels, so what it learns from one digit it must use for all. Then its guess for a new digit is as good as for one that it was trained on. In numbers:

# %%
groups = {"in the list": listed[:40], "new": data.to_signed(test.x[:40])}
levels, errors = (100, 200, 400, 600, 700, 800, 900), {}
for group, clean in groups.items():
    clean = clean[: lab.up_to(40, least=6)]
    eps = torch.randn(clean.shape, generator=rng).float()
    for t in levels:
        _, *guesses, _ = both_guesses(clean, eps, t)
        errors[group, t] = [(guess - clean).square().mean().item() for guess in guesses]
fig, (ax,) = lab.figure(width=8, height=3.6)
for k, (who, color) in enumerate((("mean of the list", lab.BLUE), ("network", lab.ORANGE))):
    for group, line in zip(groups, ("-", "--"), strict=True):
        label = f"{who}, digits {group}"
        ax.plot(levels, [errors[group, t][k] for t in levels], color=color, ls=line, label=label)
ax.set(xlabel="t", ylabel="squared error per pixel")
ax.legend(fontsize="small")
lab.show(fig, "Error of two guesses of x_0 over t, for digits of the list and for new ones.")
old, new = errors["in the list", 200], errors["new", 200]
gain, gap, mnist = new[0] / new[1], new[1] / old[1], {"digits": test}
lab.claim("new digits, t = 200: error of the list over the network's", gain, at_least=8, **mnist)
lab.claim("network, t = 200: its error on new digits over that on old", gap, at_most=1.3, **mnist)

# %% [markdown]
# Unless $t$ is large, the list's mean is perfect on its own digits and far off on new ones; the network does about as well on both.
#
# <details><summary>Is that fair? The network has seen 60 000 digits, not 6 000.</summary>
#
# The mean of all 60 000 comes nearer to a new digit, but stays far off.
#
# </details>
#
# A network that is too large for its data, or trained for too long, does begin to copy: its loss falls on training digits, and no longer on new ones. Until then a lower loss is good. Lesson 06 compares drawings with the nearest training digits.
#
# ## 10. What breaks
#
# At $t = 1$ the variance $\tilde\beta_1$ is 0. That is right, but it breaks code that divides by it, or takes its logarithm: here the log density of the posterior, averaged over batches of 128 random $t$.

# %%
broken, with_t_1 = 0, 0
rng.manual_seed(1)
for _ in range(400):
    t = torch.randint(1, 1001, (128,), generator=rng)
    x0, eps = torch.randn(2, 128, generator=rng)
    mean, var = dc.q_posterior(long, dc.q_sample(long, x0, t, eps), x0, t)
    x_prev = mean + var.sqrt() * torch.randn(128, generator=rng)
    log_prob = -0.5 * ((x_prev - mean) ** 2 / var + torch.log(2 * math.pi * var))
    broken += int(log_prob.mean().isnan())
    with_t_1 += int((t == 1).any())
expected = 1 - (1 - 1 / 1000) ** 128
print(f"batches whose mean is NaN: {broken} of 400; chance of a t = 1 in a batch: {expected:.4f}")
assert broken == with_t_1 > 0
try:
    dc.q_posterior(long, x0, x0, 1).log_prob(x0)
except ValueError as error:
    print("the package refuses by name. ValueError:", error)

# %% [markdown]
# One example with $t = 1$ computes $0/0$, and the mean of its batch is NaN. In training every weight then becomes NaN. It happens in one batch of eight, so the first tries may look fine.
#
# ## 11. Exercises
#
# **Exercise 2. Jump.** A fast sampler (lesson 09) goes back from $t$ to some $s<t$ at once. Given $x_0$, the prior of $x_s$ is $N(\sqrt{\bar\alpha_s}\,x_0,\,1-\bar\alpha_s)$. The jump forward is $q(x_t\mid x_s) = N\big(\sqrt{\bar\alpha_t/\bar\alpha_s}\,x_s,\,1-\bar\alpha_t/\bar\alpha_s\big)$ (by (4) of lesson 02, started at $x_s$: the alphas after $s$ have the product $\bar\alpha_t/\bar\alpha_s$). What is the factor of $x_0$ in the mean of $q(x_s\mid x_t, x_0)$? Both arguments and the answer are tensors of one shape.


# %%
# STARTER
def jump_weight(alpha_bar_s, alpha_bar_t):
    return None  # your line here


# SOLUTION
def jump_weight(alpha_bar_s, alpha_bar_t):
    return alpha_bar_s.sqrt() * (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t)


# %%
# lab.hint("03.2")
lab.check("03.2", jump_weight)

# %% [markdown]
# **Exercise 3. Walk back to your own picture** (a quarter of an hour). Write $\mathbb E[x_0\mid x_t]$ for a list of points with any number of coordinates, from section 5 and tensors alone. `points` is (N, D), `x_t` is (n, D), `t` is one whole number, and the answer is (n, D). It must work at $t = 1$, where every density can be too small for a number.


# %%
# STARTER
def my_x0_mean(schedule, points, x_t, t):
    return None  # your lines here


# SOLUTION
def my_x0_mean(schedule, points, x_t, t):
    keep = schedule.alpha_bars[t]
    apart = x_t[:, None] - keep.sqrt() * points  # (n, N, D)
    shares = (-apart.square().sum(2) / (2 * (1 - keep))).softmax(1)
    return shares @ points


# %%
# lab.hint("03.3")
lab.check("03.3", my_x0_mean)

# %% [markdown]
# Now draw (Shift takes away). Each bright pixel becomes a point of your list.

# %%
down, across = torch.meshgrid(
    torch.linspace(1.4, -1.4, 28), torch.linspace(-1.4, 1.4, 28), indexing="ij"
)
heart = (across**2 + down**2 - 1) ** 3 < across**2 * down**3
own_pad = lab.DrawingPad(2 * heart.float() - 1)
own_pad

# %% [markdown]
# Here 1 500 noises walk back with your function. `p_step` is (8) with a guess for $x_0$.

# %%
ink = (own_pad.image[0, 0] > 0).nonzero().double()
my_points = torch.stack([ink[:, 1] - 13.5, 13.5 - ink[:, 0]], 1) / 7
my_T, x_t = 100, torch.randn(1500, 2, generator=rng)
own, states = dc.vp_schedule(my_T), {my_T: x_t}
written = len(my_points) > 0 and my_x0_mean(own, my_points, x_t, my_T) is not None
for t in range(my_T, 0, -1) if written else ():
    x_t = dc.p_step(own, x_t, my_x0_mean(own, my_points, x_t, t), t).sample(generator=rng)
    states[t - 1] = x_t
wanted = {my_T, 2 * my_T // 5, my_T // 5, max(1, my_T // 12), 0}
shown = sorted(wanted & states.keys(), reverse=True)
fig, axes = lab.figure(1 + len(shown), width=2.6 * (1 + len(shown)), height=2.9, sharey=True)
lab.draw_points(axes[0], my_points, color=lab.BLACK, limit=2.6, title="your list")
for ax, t in zip(axes[1:], shown, strict=True):
    lab.draw_points(ax, states[t], limit=2.6, title=f"t = {t}")
    ax.label_outer()
if written:
    apart = torch.cdist(x_t, my_points).amin(1)
    axes[-1].set_title(f"t = 0: {100 * (apart > 0.01).double().mean():.0f} % off the pixels")
lab.show(
    fig, "Your list of points, noise, and, if you wrote my_x0_mean, the walk back to the list."
)

# %% [markdown]
# When can you first tell what it will be? Do all end on a pixel? Change `my_T` to 10, and to 300.
#
# <details><summary>What you will have seen, with the heart</summary>
#
# With 100 steps, $t = 20$ has a hint of it, and at $t = 8$ you can tell. Not all end on a pixel: the title of the last picture counts those that end farther than 0.01 from every pixel. With 100 steps most stop between neighbouring pixels. These are so near to each other that it takes a smaller $\beta_1$ to decide for one; the last step's mean lies between them, as in section 6. With 300 steps nearly all arrive. With 10 steps the heart is too small as well: `p_step` takes $\tilde\beta_t$, without the spread of the means, and with few steps this is too little.
#
# </details>
#
# ## 12. Summary
#
# 1. The step back $q(x_{t-1}\mid x_t)$ needs the density of all data, so it is out of reach.
# 2. Once $x_0$ is known the data drop out, and the step back is a Gaussian.
# 3. The true step back is the average of these Gaussians; with small steps it is nearly one itself, except at $t = 1$.
# 4. Its mean needs only $\mathbb E[\epsilon\mid x_t]$, and that is what least squares learns.
# 5. The exact mean for a list of pictures leads back to the list; a network is not exact, and generalises.
#
# | equation | function |
# |---|---|
# | (7), (8) | `q_posterior` |
# | (9) | `mixture_reverse` |
# | (10) | `average_kl`, section 6 |
# | (11) | `x0_from_eps`, `p_step` |
# | $\mathbb E[\epsilon\mid x_t]$ | `mixture_eps_model` |
#
# **References.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Feller, *On the Theory of Stochastic Processes* (1949), on small steps. Kadkhodaie et al., *Generalization in Diffusion Models Arises from Geometry-Adaptive Harmonic Representations* (2024), on copying.
#
# **Next**: [04 · How does a bound become a loss?](04_elbo.ipynb)
