# %% [markdown]
# # 08 · Can a slope and some noise draw new points?
#
# In lesson 07 you learned the score, the slope of the log density. Points that follow it all run uphill and crowd on the ridges. New data should not crowd: they should be spread as the data are. Noise is missing. How much of it? And why is that not enough when the data lie in separate places?
#
# **At the end you can**
# - say what a Wiener process is, and why noise grows with the root of time;
# - follow a stochastic differential equation step by step;
# - draw points with a score alone, and say how far the chain is from the right density;
# - say what a score cannot see, and mend it with falling noise levels.
#
# **You need** lesson 07, and from lesson 05 how a network is told the step. **Time**: about 115 minutes.

# %%
import math
import warnings
from functools import cache, partial

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, pretrained, toys
from diffusion_core.nets import MLP

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# The grey arrows are the score of two moons, blurred by noise. The blue points start anywhere in the square. In each step a point goes a little along its arrow *and* gets a random push. Play the steps from 0. Then change two things: the noise level $\sigma$ of the blur, which changes the field, and the size $\delta$ of a step.

# %%
hills, std = toys.toy_centres("moons", 60)
side = torch.linspace(-3, 3, 15, dtype=torch.float64)
places = torch.cartesian_prod(side, side)
start = 6 * torch.rand(300, 2, generator=rng, dtype=torch.float64) - 3


@cache
def wander(noise_level, step_size):
    """Return the blurred moons, and where 300 points are after 0, 1, ..., 60 steps."""
    blurred = dc.mixture(hills, std**2 + noise_level**2)
    steps = dc.langevin_chain(blurred.score, start, step_size, 60, generator=rng.manual_seed(1))
    return blurred, torch.stack([start, *steps])


# %% [markdown]
# Orange points are fresh data with the same blur: what the blue ones should look like in the end. (Arrows are drawn as $\sigma^2/4$ times the score, so that all fit.) Try a large step with little blur.

# %%
fig, (ax,) = lab.figure(width=5.2, height=4.8)
fresh = lab.draw_points(ax, start, color=lab.ORANGE, limit=3)
fresh.set(markersize=3.5)
arrows = ax.quiver(*places.T, *places.T, width=0.004, scale=4, scale_units="xy", alpha=0.45)
walkers = lab.draw_points(ax, start, color=lab.BLUE, limit=3)
walkers.set(markersize=2.5, alpha=0.9)
controls = {
    "steps": lab.slider("steps", 0, 60, 60),
    "noise_level": lab.slider("noise level", 0.1, 1.0, 0.2, 0.1),
    "step_size": lab.slider("step size", 0.01, 0.3, 0.04, 0.01),
}

# %% [markdown]
# Play the steps:


# %%


def explore(steps, noise_level, step_size):
    """Show the field, fresh data and the walking points."""
    blurred, way = wander(noise_level, step_size)
    fresh.set_data(*blurred.sample(300, generator=rng.manual_seed(2)).T)
    arrows.set_UVC(*(noise_level**2 * blurred.score(places)).T.numpy())
    walkers.set_data(*way[steps].T)
    inside = (way[steps].abs() <= 3).all(1).sum()
    return (
        f"noise level {noise_level:g}, step size {step_size:g}, {steps} steps: "
        f"{inside} of 300 points are in the picture."
    )


lab.Explorer(fig, [fresh, arrows, walkers], explore, controls, play="steps")

# %% [markdown]
# The blue points do not stop. They keep moving, and as a crowd they look like the orange ones, if the steps are small and there are enough of them. (These moons are 60 small round hills. Steps well above four times a hill's variance throw points out: section 4.)
#
# ## 2. Noise that adds up
#
# Divide one unit of time into $n$ steps, and add an independent normal number in each. How large must each one be, so that the spread of the sum does not depend on $n$? Variances add. So each must have the variance $1/n$, and the standard deviation $\sqrt{1/n}$: **the root of the time step**.
#
# Let $n$ grow, and the path tends to a **Wiener process** $W$. It starts at 0; what it adds between the times $s$ and $t$ is $N(0, |t-s|)$; and what it adds in one span does not depend on what it adds in another. (Here $t$ is a time, any number. In the lessons before it was the number of a step.) Choose $n$. Then take the wrong standard deviation.

# %%
finest = dc.wiener_increments(
    torch.linspace(0, 1, 1025), start[:200, 0], generator=rng
)  # (1024, 200)
fig, axes = lab.figure(2, width=8, height=3)
curve = torch.linspace(0, 1, 101)
for sign in (-2, 2):
    axes[0].plot(curve, sign * curve.sqrt(), color=lab.BLACK, ls=":")
(paths,) = axes[0].plot([], [], color=lab.BLUE, lw=0.7, alpha=0.7)
axes[0].set(xlabel="time", ylabel="12 paths", ylim=(-3, 3))
axes[1].plot([0, 1], [0, 1], color=lab.BLACK, ls=":", label="the time itself")
(squares,) = axes[1].plot([], [], color=lab.BLUE, lw=0.7, alpha=0.7)
axes[1].set(xlabel="time", ylabel="sum of squared increments", ylim=(0, 2.5))
legend = axes[1].legend(loc="upper left")


def joined(values):
    """Return values (n, k) as one line each of k, from 0 on, with gaps between them."""
    zero = torch.zeros_like(values[:1])
    return torch.cat([zero, values, zero * torch.nan]).T.flatten()


# %% [markdown]
# The dotted curves on the left are $\pm 2\sqrt t$. On the right each increment is squared, and the squares are added up.

# %%
deviations = {"root of the time step": lambda n: 1.0, "the time step": lambda n: n**-0.5}


def refine(n, deviation):
    """Show 12 paths with n steps, and the sums of their squared increments."""
    dw = finest.view(n, 1024 // n, -1).sum(1) * deviations[deviation](n)
    times = torch.cat([torch.linspace(0, 1, n + 1), torch.tensor([torch.nan])]).repeat(12)
    paths.set_data(times, joined(dw[:, :12].cumsum(0)))
    squares.set_data(times, joined(dw[:, :12].square().cumsum(0)))
    total = dw.square().sum(0)
    return (
        f"{n} steps, standard deviation {deviation}: the 200 sums of squares are "
        f"{total.mean():.4f} on average and scatter by {total.std():.4f}."
    )


controls = {
    "n": lab.choice("steps", [4, 16, 64, 256, 1024], 64),
    "deviation": lab.choice("standard deviation", list(deviations)),
}
lab.Explorer(fig, [paths, squares], refine, controls)

# %% [markdown]
# The paths grow rougher and do not shrink, and the sums on the right become certain. A smooth curve would have the sum 0 there, in the limit. With the time step itself as standard deviation, the noise dies out as the steps shrink.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the same in formulas
#
# With increments $\Delta W$ of $n$ equal steps from 0 to $t$,
#
# $$\mathbb E[W(s)\,W(t)] = \min(s, t), \qquad \sum (\Delta W)^2 \to t, \text{ with the standard deviation } t\sqrt{2/n}. \tag{30}$$
#
# The first holds because for $s < t$ the path at $t$ is the path at $s$ plus something independent of it. The second: each square has the mean $t/n$ and the variance $2(t/n)^2$.

# %%
times = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
many = torch.zeros(40_000, dtype=torch.float64)
walks = dc.wiener_increments(times, many, generator=rng.manual_seed(3)).cumsum(0)  # (3, 40000)
print("mean of W(s) W(t) at s, t = 0.25, 0.5, 1, from 40 000 paths, and min(s, t):")
for row, wanted in zip(
    walks @ walks.T / 40_000, torch.minimum(times[1:, None], times[1:]), strict=True
):
    assert (row - wanted).abs().max() < 5 * (2 / 40_000) ** 0.5
    print("  ".join(f"{a:.4f} ({b:.4f})" for a, b in zip(row, wanted, strict=True)))

# %% [markdown]
# ## 3. A slope and noise: an SDE
#
# A **stochastic differential equation** (SDE) says how a state changes in a short time. The **drift** $f$ pulls, the **diffusion** $g$ scales the noise:
#
# $$dx = f(x, t)\,dt + g(x, t)\,dW \qquad\text{is followed by}\qquad x + f\,\Delta t + g\,\Delta W. \tag{31}$$
#
# The step on the right, over a time $\Delta t$, is **Euler–Maruyama**. It takes $f$ and $g$ at the start of the step.


# %%
def follow_by_hand(f, g, x, times, dw):
    """Follow dx = f dt + g dW through times (n + 1,), with increments dw (n, ...)."""
    for i in range(len(times) - 1):
        x = x + f(x, times[i]) * (times[i + 1] - times[i]) + g(x, times[i]) * dw[i]
    return x


equations = {
    "additive": dc.SDE(lambda x, time: -x / 2, lambda x, time: 1.0),
    "multiplicative": dc.SDE(lambda x, time: -x / 2, lambda x, time: x),
}
x, times = torch.ones(200, dtype=torch.float64), torch.linspace(0, 1, 65, dtype=torch.float64)
dw = finest.view(64, 16, 200).sum(1)
for equation in equations.values():
    *_, end = dc.euler_maruyama(equation, x, times, increments=dw)
    torch.testing.assert_close(end, follow_by_hand(*equation[:2], x, times, dw))
print("from scratch and by the package: the same states")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how far off are the steps?
#
# The two equations differ in one thing: the noise of the first has the same size everywhere (**additive**), that of the second grows with $x$ (**multiplicative**). **Predict, then run**: with four times as many steps, by what factor does the mean error at time 1 fall? The truth is the same path in 2 048 steps; for the second equation it is a formula, $x_0\,e^{W(t) - t}$.

# %%
x, times = torch.ones(2000, dtype=torch.float64), torch.linspace(0, 1, 2049, dtype=torch.float64)
dw = dc.wiener_increments(times, x, generator=rng.manual_seed(4))  # (2048, 2000)
counts = [16, 32, 64, 128]
walk = torch.cat([0 * x[None], dw.cumsum(0)])  # W at these times, (2049, 2000)
finely = torch.stack([x, *dc.euler_maruyama(equations["additive"], x, times, increments=dw)])
truth = {"additive": finely, "multiplicative": torch.exp(walk - times[:, None])}
ways, errors = {}, {}
for name, equation in equations.items():
    for n in counts:
        summed, grid = dw.view(n, 2048 // n, -1).sum(1), times[:: 2048 // n]
        states = torch.stack([x, *dc.euler_maruyama(equation, x, grid, increments=summed)])
        ways[name, n] = states[:, 0]
        errors[name, n] = (states[-1] - truth[name][-1]).abs()

# %% [markdown]
# The bars on the right are intervals that hold the mean error in 95 of 100 cases.

# %%
fig, axes = lab.figure(3, width=11, height=3)
steps_of = {}
for ax, name, known in zip(axes, equations, ("2 048 steps", "formula"), strict=False):
    ax.plot(times, truth[name][:, 0], color=lab.BLACK, lw=0.5, label=known)
    (steps_of[name],) = ax.plot([], [], color=lab.BLUE, marker="o", ms=3, label="fewer steps")
    ax.set(xlabel="time", ylabel="x", title=name, xlim=(0, 1), ylim=(0.1, 1.8))
    ax.legend()
for name, colour, mark in (("additive", lab.BLUE, "o"), ("multiplicative", lab.ORANGE, "s")):
    means = [errors[name, n].mean() for n in counts]
    bars = [1.96 * errors[name, n].std() / 2000**0.5 for n in counts]
    axes[2].errorbar(counts, means, bars, color=colour, marker=mark, ms=4, capsize=3, label=name)
axes[2].set(xscale="log", yscale="log", xlabel="steps", ylabel="mean error at time 1")
axes[2].set_xticks(counts, counts)
axes[2].minorticks_off()
legend = axes[2].legend()

# %% [markdown]
# Choose how many steps the blue path takes:


# %%


def coarsen(n):
    """Show both paths with n steps."""
    for name, line in steps_of.items():
        line.set_data(times[:: 2048 // n], ways[name, n])
    said = ", ".join(f"{name} {errors[name, n].mean():.4f}" for name in equations)
    return f"{n} steps: mean error {said}."


lab.Explorer(fig, list(steps_of.values()), coarsen, {"n": lab.choice("steps", counts, 16)})

# %% [markdown]
# Four times as many steps make the error four times smaller for additive noise, and only twice for multiplicative noise. One says: the **strong order** is 1, or ½. (Everywhere else in this course the size of the noise does not depend on $x$.) The order is the slope of a line in the right panel, turned round. Here it is with intervals from twenty groups of 100 paths. The path in 2 048 steps has an error of its own, so for additive noise we should measure not 1 but the order of $1/n - 1/2048$. (The orders hold as the steps shrink; 16 steps are few for the second equation.)

# %%
halvings = torch.arange(4, dtype=torch.float64) - 1.5
inverse = 1 / torch.tensor(counts, dtype=torch.float64)
for name, size in (("additive", inverse - 1 / 2048), ("multiplicative", inverse.sqrt())):
    groups = torch.stack([errors[name, n].view(20, 100).mean(1).log2() for n in counts])
    slopes = -(halvings @ groups) / halvings.square().sum()  # one for each group
    order = -(halvings @ size.log2()) / halvings.square().sum()
    half = 1.96 * slopes.std() / 20**0.5
    assert abs(slopes.mean() - order) < 2 * half + 0.02
    print(
        f"{name}: order {slopes.mean():.4f}, between {slopes.mean() - half:.4f} and "
        f"{slopes.mean() + half:.4f}; expected {order:.4f}"
    )

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the loop of the package
#
# It is yours with checks around it: of the times, of what drift and diffusion answer, of the increments.

# %%
lab.show_source(dc.euler_maruyama)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the order of an average
#
# Often one path does not matter, only averages do. The **weak order** measures the error of averages, such as $\mathbb E[x]$, and it is 1 for both kinds of noise. For $dx = -\tfrac12 x\,dt + x\,dW$ the average of Euler–Maruyama is known by hand: each step multiplies it by $1 - 1/(2n)$, for the noise has mean 0. The truth is $e^{-1/2}$. Simulation agrees, within an interval of 95 in 100:

# %%
equation, x = equations["multiplicative"], torch.ones(100_000, dtype=torch.float64)
for n in (4, 8, 16):
    grid = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    *_, end = dc.euler_maruyama(equation, x, grid, generator=rng.manual_seed(n))
    off, half = math.exp(-0.5) - end.mean(), 1.96 * end.std() / 100_000**0.5
    by_hand = math.exp(-0.5) - (1 - 0.5 / n) ** n
    assert abs(off - by_hand) < 2 * half
    print(
        f"{n:2} steps: error {off - half:.4f} to {off + half:.4f}; by hand {by_hand:.4f}, times n {n * by_hand:.4f}"
    )

# %% [markdown]
# The last column settles: the error is proportional to $1/n$. Why is the strong order of multiplicative noise only ½? Within a step the noise changes $x$, and with it the size of the noise; the step ignores that. What is left out is $\tfrac12 g\,g'\,((\Delta W)^2 - \Delta t)$, of size $\Delta t$ with mean 0. There are $1/\Delta t$ such errors, and as they are random they add up like $\sqrt{1/\Delta t} \cdot \Delta t = \sqrt{\Delta t}$. For additive noise $g' = 0$.

# %% [markdown]
# ## 4. Langevin dynamics
#
# Take the score as drift: $dx = \tfrac12 \nabla\log p(x)\,dt + dW$. This SDE **keeps** $p$: points that are spread as $p$ stay so, though each one moves. (The **Fokker–Planck equation** says why: folded below.)
#
# Few SDEs can be followed exactly. One step of Euler–Maruyama with $\Delta t = \delta$ is
#
# $$x + \frac{\delta}{2}\,\nabla\log p(x) + \sqrt{\delta}\;\epsilon, \qquad \epsilon \sim N(0, I). \tag{32}$$
#
# A chain of such steps is called **Langevin dynamics**. Does the *chain* keep $p$, too? Take $p = N(0, 1)$, with the score $-x$. **Predict, then drag** $\delta$: is the cloud of 40 000 chains too wide, too narrow, or right?

# %%
pushes = torch.randn(100, 40_000, generator=rng.manual_seed(6), dtype=torch.float64)
bins = torch.linspace(-6, 6, 49, dtype=torch.float64)
middle = (bins[1:] + bins[:-1]) / 2


def normal_density(x, var):
    """The density of N(0, var) at x."""
    return torch.exp(-x.square() / (2 * var)) / math.sqrt(2 * math.pi * var)


# %% [markdown]
# All chains start at 0 and take 100 steps. Green squares count where they end; the blue curve is explained below the picture.

# %%
fig, (ax,) = lab.figure(width=6.5, height=3.4)
ax.plot(middle, normal_density(middle, 1), color=lab.BLACK, ls=":", label="N(0, 1)")
(counted,) = ax.plot([], [], "s", ms=4, color=lab.GREEN, label="40 000 chains")
(kept,) = ax.plot([], [], color=lab.BLUE, label="see below")
ax.set(xlabel="x", ylabel="density", ylim=(0, 0.5))
legend = ax.legend(loc="upper right")


def settle(step_size):
    """Show where 40 000 chains are after 100 steps of this size."""
    x = torch.zeros(40_000, dtype=torch.float64)
    for eps in pushes:
        x = x + step_size / 2 * -x + step_size**0.5 * eps  # (32)
    counted.set_data(middle, torch.histogram(x, bins).hist / (len(x) * (bins[1] - bins[0])))
    var = 1 / (1 - step_size / 4) if step_size < 3.99 else math.nan
    kept.set_data(middle, normal_density(middle, torch.tensor(var)))
    curve = "there is no blue curve" if math.isnan(var) else f"the blue curve has {var:.5g}"
    return f"step size {step_size:g}: the chains have variance {x.var():.5g}, {curve}."


controls = {"step_size": lab.slider("step size", 0.1, 4.4, 1.0, 0.1)}
lab.Explorer(fig, [counted, kept], settle, controls)

# %% [markdown]
# The step of the package is the same line:

# %%
lab.show_source(dc.langevin_step)
x = pushes[0]
eps = torch.randn(40_000, generator=rng.manual_seed(7), dtype=torch.float64)
by_package = dc.langevin_step(lambda x: -x, x, 0.5, generator=rng.manual_seed(7))
torch.testing.assert_close(x + 0.5 / 2 * -x + 0.5**0.5 * eps, by_package)
print("from scratch and by the package: the same states")

# %% [markdown]
# Too wide. Here is why. On $N(0, 1)$ a step is $x - \tfrac{\delta}{2}x + \sqrt\delta\,\epsilon$: the old state is shrunk, and noise that does not depend on it is added. So a step turns the variance $v$ into $(1 - \delta/2)^2\,v + \delta$. It stays the same for $v = 1/(1 - \delta/4)$: 14 % too much at $\delta = 0.5$, 33 % at $\delta = 1$. From $\delta = 4$ on it flies apart. **The SDE keeps $p$; the chain keeps $p$ only as $\delta \to 0$.** On a hill of variance $v$, put $\delta/v$ for $\delta$: there a chain is stable for $\delta < 4v$, and each step leaves the factor $1 - \delta/(2v)$ of the state.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the letters of papers
#
# Papers write the same step in other forms. With 0.1 for *their* letter, here $a$, on $N(0, 1)$:

# %%
forms = {
    "x + a/2 score + root(a) eps": (0.05, 0.1**0.5),
    "x + a score + root(2 a) eps": (0.1, 0.2**0.5),
    "x + a score + root(a) eps": (0.1, 0.1**0.5),
    "x + a/2 score + a eps": (0.05, 0.1),
}
for name, (pull, push) in forms.items():
    x, rng = torch.zeros(20_000, dtype=torch.float64), rng.manual_seed(7)
    for _ in range(200):
        x = x - pull * x + push * torch.randn(20_000, generator=rng, dtype=torch.float64)
    print(f"{name:28} variance {x.var():.4f}")

# %% [markdown]
# The second form is ours with $a = \delta/2$: right, and its step is twice as long. The last two sample another density. In this course (32) is the only form.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: one long chain
#
# How long does a chain remember its start? $n$ steps leave $(1 - \delta/2)^n$ of it: with $\delta = 0.1$ it takes 90 steps to come down to 1 %.
#
# We used many short chains. One long chain is cheaper to write, and its error is easily taken too small: neighbouring states are alike. On $N(0, 1)$ each state is $\rho = 1 - \delta/2$ times the one before, plus noise. The mean of a long chain scatters as if it had $(1+\rho)/(1-\rho)$ times fewer states.

# %%
zero, total = torch.zeros(1000, 1, dtype=torch.float64), 0
chain = dc.langevin_chain(lambda x: -x, zero, 0.1, 1200, generator=rng.manual_seed(17))
for i, x in enumerate(chain):
    total = total + x * (i >= 200)  # the first 200 states still remember the start
factor = (total / 1000).var() / (1 / (1 - 0.1 / 4) / 1000)
rho = 1 - 0.1 / 2
assert abs(factor / ((1 + rho) / (1 - rho)) - 1) < 0.2
print(f"variance of the mean of 1 000 states, times that of 1 000 independent ones: {factor:.4f}")
print(f"(1 + rho) / (1 - rho): {(1 + rho) / (1 - rho):.4f}")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: why the SDE keeps its density, and both statements on a grid
#
# In one dimension, the density $q$ of moving points changes because the drift carries it along, and because noise spreads it. The Fokker–Planck equation says so: $\partial_t\,q = -(fq)' + \tfrac12 (g^2q)''$. Put in $f = \tfrac12(\log p)'$, $g = 1$ and $q = p$. As $p\,(\log p)' = p'$, the right side is $-\tfrac12 p'' + \tfrac12 p'' = 0$.
#
# Now a density with two hills. Cut the line into cells. The Fokker–Planck equation becomes a matrix that says how probability flows between neighbours, and the density that does not change is its null vector. The chain (32) becomes another matrix, of the probabilities to go from cell to cell in one step; the density it keeps is an eigenvector. The distance of two densities below is the largest difference in the probability of any set.

# %%
two_hills = dc.mixture(torch.tensor([[-1.0], [1.2]]).double(), 0.3)


def kept_by_the_sde(cells):
    """Return centres of cells, and the null vector of the Fokker-Planck operator on them."""
    edges = torch.linspace(-6, 6, cells + 1, dtype=torch.float64)
    width, centres = 12 / cells, (edges[1:] + edges[:-1]) / 2
    drift = two_hills.score(edges[1:-1, None])[:, 0] / 2
    flux = torch.zeros(cells + 1, cells, dtype=torch.float64)  # through each edge; 0 at the ends
    inner = torch.arange(1, cells)
    flux[inner, inner - 1] = drift / 2 + 0.5 / width
    flux[inner, inner] = drift / 2 - 0.5 / width
    values, vectors = torch.linalg.eig((flux[:-1] - flux[1:]) / width)
    null = vectors[:, values.abs().argmin()].real
    return centres, null / null.sum()


# %% [markdown]
# The same for the chain:


# %%
def kept_by_the_chain(centres, step_size):
    """Return the probabilities that the chain keeps on cells with these centres."""
    means = centres + step_size / 2 * two_hills.score(centres[:, None])[:, 0]
    move = torch.exp(-((centres - means[:, None]) ** 2) / (2 * step_size))
    move = move / move.sum(1, keepdim=True)  # rows: from, columns: to
    return torch.linalg.matrix_power(move, 4096)[len(centres) // 2]


# %% [markdown]
# And the distance from the right density:


# %%
def apart(centres, kept):
    """Return the distance of probabilities on cells from those of the two hills."""
    p = two_hills.log_prob(centres[:, None]).exp()
    return ((kept - p / p.sum()).abs().sum() / 2).item()


# %% [markdown]
# First the SDE on finer and finer grids, then the chain with smaller and smaller steps:

# %%
for cells in (100, 200, 400):
    print(f"SDE, {cells} cells: {apart(*kept_by_the_sde(cells)):.6f}")
fig, (ax,) = lab.figure(width=5.5, height=2.6)
centres, null = kept_by_the_sde(400)
ax.plot(centres, null / (12 / 400), color=lab.BLACK, ls=":", label="the SDE")
for step_size, style in ((0.64, "-."), (0.16, "--"), (0.08, ""), (0.04, "")):
    kept_here = kept_by_the_chain(centres, step_size)
    print(f"chain, step size {step_size}: {apart(centres, kept_here):.4f}")
    if style:
        ax.plot(centres, kept_here / (12 / 400), ls=style, label=f"the chain, {step_size}")
ax.set(xlabel="x", ylabel="density", xlim=(-4, 4))
ax.legend(fontsize="small")
lab.show(fig, "What is kept: by the SDE the two hills, by the chain wider hills.")

# %% [markdown]
# Half the cells' width, a quarter of the SDE's error: that is the error of the grid alone. The chain's error is real, and halves with the step.

# %% [markdown]
# ## 5. What a score cannot see
#
# Two hills, far apart: 80 % of the data on one, 20 % on the other. And a second density with the shares exchanged. Drag the hills apart and compare their scores. The sentence below the picture says how far apart the two scores are where the data lie, and how far the two densities (the KL divergence of lesson 02).

# %%
line = torch.linspace(-16, 16, 1601, dtype=torch.float64)[:, None]
fig, axes = lab.figure(2, width=9.5, height=3.2)
pairs = []
for name, colour, style in (
    ("0.8 on the right", lab.BLUE, "-"),
    ("0.2 on the right", lab.ORANGE, "--"),
):
    pairs.append([ax.plot([], [], color=colour, ls=style, label=name)[0] for ax in axes])
axes[0].set(xlabel="x", ylabel="density", xlim=(-12, 12), ylim=(0, 0.45))
axes[1].set(xlabel="x", ylabel="score", xlim=(-12, 12), ylim=(-9, 15))
legends = [ax.legend(loc="upper center") for ax in axes]

# %% [markdown]
# `part` draws both densities and both scores, and takes the two distances as integrals on a grid.


# %%


def part(distance):
    """Show both densities and both scores, with the hills at plus and minus half the distance."""
    at = torch.tensor([[-distance / 2], [distance / 2]], dtype=torch.float64)
    both = [dc.mixture(at, 1.0, torch.tensor(w).double()) for w in ([0.2, 0.8], [0.8, 0.2])]
    for lines, p in zip(pairs, both, strict=True):
        for drawn, values in zip(lines, (p.log_prob(line).exp(), p.score(line)), strict=True):
            drawn.set_data(line[:, 0], values.view(-1))
    weight = both[0].log_prob(line).exp()
    off = torch.trapezoid(
        weight * (both[0].score(line) - both[1].score(line))[:, 0] ** 2, line[:, 0]
    )
    kl = torch.trapezoid(weight * (both[0].log_prob(line) - both[1].log_prob(line)), line[:, 0])
    return (
        f"distance {distance:g}: mean squared difference of the scores {off:.1e}, KL {kl:.4f} nats."
    )


controls = {"distance": lab.slider("distance", 1.0, 14.0, 10.0, 1.0)}
lab.Explorer(fig, [line for pair in pairs for line in pair], part, controls)

# %% [markdown]
# From a distance of 8 on, the scores differ only in the gap, and hardly any data lie there. On each hill the *slope* of the log density is the same, whatever the share of the hill. So the losses of lesson 07 hardly notice the shares. And a chain that follows the score in small steps must cross the gap to find them, which it hardly ever does.
#
# For the rest of the lesson the data are points in the plane: 80 % around (5, 5), 20 % around (−5, −5).

# %%
modes = dc.mixture(torch.tensor([[5.0, 5.0], [-5.0, -5.0]]).double(), 1.0, torch.tensor([0.8, 0.2]))


def share(x):
    """The share of points on the side of (5, 5)."""
    return (x.sum(1) > 0).double().mean().item()


wide = 5 * torch.randn(1000, 2, generator=rng.manual_seed(8), dtype=torch.float64)
*_, x = dc.langevin_chain(modes.score, wide, 0.1, 1000, generator=rng)
print(f"share at (5, 5): at the start {share(wide):.4f}, after 1 000 steps {share(x):.4f}")
crossed = (wide.sum(1) > 0) != (x.sum(1) > 0)
print(f"{crossed.sum()} of 1 000 points have changed sides")

# %% [markdown]
# Nearly every point went to the nearer hill and stayed there. Only points from near the middle changed sides.

# %% [markdown]
# ## 6. Noise opens the way
#
# Add noise to the data, as in lesson 07. At a noise level $\sigma$ the hills have variance $1 + \sigma^2$. Two hills of this width are one when their distance is at most twice the standard deviation, whatever their shares. Then there is no gap, the score sees the shares, and the points go where the shares send them. So start there, and lower the noise slowly: as the hill splits in two, each part keeps its share.
#
# Take **noise levels** $\sigma_1 > \sigma_2 > \dots > \sigma_L$, each the same fraction of the one before (a *geometric* sequence). At each level take $K$ Langevin steps, with the score of the data *at that level*, and start where the level before ended. A smaller level has finer hills, so its steps must be smaller: the same share $r$ of $\sigma_l^2$ everywhere. At the end there is noise $\sigma_L$ left. One last step takes it away: the best guess of $x_0$, with $\hat\epsilon = -\sigma_L s$, where $s(x, \sigma)$ is the score at level $\sigma$. This is **annealed Langevin dynamics**:
#
# $$\delta_l = r\,\sigma_l^2, \qquad \text{noise left at level } l\!:\ \frac{\sigma_l^2}{1 - r/4}, \qquad \text{at last}\quad \hat x_0 = x + \sigma_L^2\, s(x, \sigma_L). \tag{34}$$
#
# The middle formula is (32) again, for one point of data and a chain that has settled at its level.


# %%
def annealed_by_hand(score, x, noise_levels, steps, ratio, generator):
    """Annealed Langevin: score(x, noise_level) of the noisy data, x (B, D) at the first level."""
    for level in noise_levels:
        step_size = ratio * level**2
        for _ in range(steps):
            eps = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + step_size / 2 * score(x, level) + step_size**0.5 * eps
    return x + level**2 * score(x, level)


# %% [markdown]
# The exact score at every level: noise adds to the variance of each hill, as lesson 07 showed.


# %%
def noisy_score(x, level):
    """The exact score of the noisy modes."""
    return dc.mixture(modes.means, 1 + level**2, modes.weights).score(x)


# %% [markdown]
# The package reads the levels as a schedule, and from here on $t$ is a row again: $x_0 + \sigma\epsilon$ is $x_t/\sqrt{\bar\alpha_t}$ with $\bar\alpha_t = 1/(1+\sigma^2)$. Row $t$ of the schedule holds $\sigma_{L+1-t}$: row 1 the *smallest* level, as row 1 has always been the least noise.

# %%
noise_levels = dc.geometric_levels(15, 0.1, 10)
schedule = dc.schedule_from_noise_levels(noise_levels)
exact = dc.mixture_eps_model(schedule, modes)
z = torch.randn(500, 2, generator=rng.manual_seed(9), dtype=torch.float64)
options = {"steps": 5, "ratio": 0.2}
*_, last = dc.sample_chain(
    dc.annealed_langevin_step, schedule, exact, z, generator=rng.manual_seed(10), **options
)
x = z / schedule.alpha_bars[-1].sqrt()
by_hand = annealed_by_hand(noisy_score, x, noise_levels, generator=rng.manual_seed(10), **options)
torch.testing.assert_close(last.x_t, by_hand, rtol=1e-9, atol=1e-9)
print("from scratch and by the package: the same 500 points")

# %% [markdown]
# Now with 100 steps a level, for several first levels $\sigma_1$. The start is $N(0, (1 + \sigma_1^2) I)$: it knows nothing of the hills. Their distance is 14, so they are one from $\sigma = 7$ on. **Predict**: down to which $\sigma_1$ will the share be right?

# %%
firsts = [1.0, 2.0, 4.0, 15.0, 20.0]
runs = {}
for first in firsts:
    levels = dc.geometric_levels(first, 0.1, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dc.PriorGapWarning)  # low first levels: on purpose
        ladder = dc.schedule_from_noise_levels(levels)
    n = 6000 if first == 15 else lab.up_to(6000)  # the list below begins with 15
    z = torch.randn(n, 2, generator=rng.manual_seed(11), dtype=torch.float64)
    guess = dc.mixture_eps_model(ladder, modes)
    chain = dc.sample_chain(dc.annealed_langevin_step, ladder, guess, z, ratio=0.5, generator=rng)
    shrink = [scale for scale, _ in ladder.marginal_factors.numbers]
    states = [z / shrink[-1], *(step.x_t / shrink[step.t] for step in chain)]
    runs[first] = levels, torch.stack(states)


def exact_shares(levels):
    """The share of the noisy data on the side of (5, 5), at each level."""
    near = torch.special.ndtr((50 / (1 + levels**2)).sqrt())  # of the noisy hill at (5, 5)
    return 0.8 * near + 0.2 * (1 - near)


# %% [markdown]
# Left: a thousand of the points; right: the share of all on the side of (5, 5), level by level. Noise carries some of the data over the middle, so the *noisy* data have their own share at each level: the orange marks.

# %%
fig, axes = lab.figure(2, width=10, height=4.2)
cloud = lab.draw_points(axes[0], wide, limit=30)
cloud.set(alpha=0.4, label="points")
centres = lab.draw_points(axes[0], modes.means, color=lab.ORANGE, limit=30)
centres.set(marker="D", markersize=6, alpha=1, label="centres of the hills")
axes[0].legend(loc="upper left")
axes[1].axhline(0.8, color=lab.BLACK, ls=":", label="data")
(by_level,) = axes[1].plot([], [], color=lab.BLUE, marker="o", label="points")
(noisy,) = axes[1].plot([], [], color=lab.ORANGE, marker="_", ms=14, ls=":", label="noisy data")
axes[1].set(xlabel="levels done", ylabel="share at (5, 5)", ylim=(0.4, 1), xlim=(-0.5, 10.5))
legend = axes[1].legend(ncols=3, loc="upper center")

# %% [markdown]
# Play the levels, then choose a smaller first level:


# %%


def anneal(first, done):
    """Show the points after some levels, and the share at (5, 5) so far."""
    levels, states = runs[first]
    cloud.set_data(*states[done][:1000].T)
    shares = [share(x) for x in states[: done + 1]]
    by_level.set_data(range(done + 1), shares)
    noisy.set_data(range(1, 11), exact_shares(levels))
    level = f"level {levels[done - 1]:.3g}" if done else "start"
    return f"first level {first:g}, {done} levels done ({level}): share at (5, 5) {shares[-1]:.4f}."


controls = {
    "first": lab.choice("first level", firsts, 15.0),
    "done": lab.slider("levels done", 0, 10, 10),
}
lab.Explorer(fig, [cloud, centres, noisy, by_level], anneal, controls, play="done")

# %% [markdown]
# How far is the share from 0.8 in the end?

# %%
off = {first: abs(share(states[-1]) - 0.8) for first, (_, states) in runs.items()}
for first in (15.0, 20.0):
    lab.claim(f"first level {first:g}: distance of the share from 0.8", off[first], at_most=0.03)
lab.claim("first level 2: distance of the share from 0.8", off[2.0], above=0.1)
lab.claim("first level 1: distance of the share from 0.8", off[1.0], above=0.15)

# %% [markdown]
# A later rule of NCSN's authors (2020) is: $\sigma_1$ as large as the largest distance in the data. The chain gets it right from $\sigma_1 = 4$ on, where the gap is still shallow enough to cross. At 2 it fails.
#
# Look at the curve on the right: it follows the share of the noisy data during the first levels, and then it is flat. **The shares freeze at the level where the hills part.** After that nobody crosses, as in section 5; what is wrong then stays wrong. So the first levels must not be hurried: here the curve is flat a little before it has caught up.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the step of the package, and what it leaves
#
# One point of data has the noisy density $N(x_0, \sigma_l^2)$. The noise left, by (34), is a little more than the $\sigma_L^2$ that the last step assumes. That does no harm: on one point of data the last step lands on $x_0$ from anywhere. On a wide hill it gives a mean, and means are narrower than data, by about $\sigma_L^2$ in the variance: choose $\sigma_L$ small against the hills.
#
# Could one walk down the levels without Langevin steps? Lesson 05 did, with a schedule of its own; lesson 09 shows what both have in common.
#
# For each row the corrector takes the Langevin steps; the step hands the state on to the next row, and to clean data at the end.

# %%
lab.show_source(dc.langevin_corrector, dc.annealed_langevin_step)

# %% [markdown]
# ## 7. One network for all levels: NCSN
#
# So far the score was exact. Now a network learns it, from points alone. It is told the row $t$ of the level, as in lesson 05 it was told the step. Such a network is called a *noise-conditional score network* (NCSN). At each level it gets denoising score matching (lesson 07), and each level the weight $\sigma_l^2$:
#
# $$\sigma_l^2 \cdot \tfrac12\,\mathbb E\Big|s(x_0 + \sigma_l\epsilon,\, \sigma_l) + \frac{\epsilon}{\sigma_l}\Big|^2 = \tfrac12\,\mathbb E\big|\epsilon - \hat\epsilon\big|^2, \qquad \hat\epsilon = -\sigma_l\,s. \tag{33}$$
#
# Why this weight? A network that answers 0 has the loss $\tfrac12\mathbb E|\epsilon|^2 = d/2$ for $d$ coordinates, at every level, and no level drowns the others. Three weights:

# %%
x0 = modes.sample(4000, generator=rng.manual_seed(12))
zero_loss = torch.tensor(
    [dc.ncsn_loss(schedule, lambda x, t: 0 * x, x0, t=t, generator=rng) for t in range(10, 0, -1)]
)
assert (zero_loss - 1).abs().max() < 5 * (1 / 4000) ** 0.5  # d/2 = 1
fig, axes = lab.figure(3, width=10, height=2.8)
for ax, power in zip(axes, (0, 2, 4), strict=True):
    loss = zero_loss * noise_levels ** (power - 2)
    ax.bar(range(1, 11), loss / loss.sum(), color=lab.BLUE)
    ax.set(title=f"weight: power {power} of the level", xlabel="l (1: the largest level)")
    ax.set(ylim=(0, 1))
axes[0].set_ylabel("share of the loss")
lab.show(
    fig, "A network that answers 0: only the weight sigma squared gives each level the same loss."
)

# %% [markdown]
# The network below guesses noise, of size near 1 at every level, and is divided by $-\sigma_l$. Its input is brought to size near 1, too: the mean square of a coordinate of the data is 26.

# %%
net = MLP(width=64)
row_levels = schedule.snr.rsqrt().float()  # of rows 0 to 10; row 0 is clean data


def ncsn(network, x, t):
    """Return the score at the levels of the rows t (B,)."""
    level = row_levels[t][:, None]
    return -network(x / (26 + level**2).sqrt(), t) / level


# %% [markdown]
# The training loop is that of lesson 07.


# %%
def level_loss(network, x0):
    """One batch of (33), at random levels."""
    return dc.ncsn_loss(schedule, partial(ncsn, network), x0, generator=rng)


ema = dc.EMA(net, decay=0.998)
batches = (modes.sample(256, generator=rng).float() for _ in iter(int, 1))  # without end
history = dc.train(net, level_loss, batches, steps=1500, lr=5e-3, ema=ema)

# %% [markdown]
# Both draw from the same start: the exact score, and the network.

# %%
z = torch.randn(1000, 2, generator=rng.manual_seed(11), dtype=torch.float64).float()
learned = dc.eps_model_from_ncsn(schedule, partial(ncsn, ema.model))
options = {"steps": lab.up_to(100), "ratio": 0.5, "generator": rng}
*_, last = dc.sample_chain(dc.annealed_langevin_step, schedule, learned, z, **options)
sets = {"data": modes.sample(1000, generator=rng), "exact score": runs[15.0][1][-1]}
sets["network"] = last.x_t
fig, axes = lab.figure(3, width=9.5, height=3.4, sharey=True)
for ax, (name, x) in zip(axes, sets.items(), strict=True):
    colour = lab.ORANGE if name == "data" else lab.BLUE
    lab.draw_points(ax, x[:1000], color=colour, limit=10, title=f"{name}: {share(x):.3f} at (5, 5)")
    ax.label_outer()
lab.show(fig, "Points from the data, from the exact score and from the network, with their shares.")
lab.claim(
    "the network's points: distance of their share from 0.8",
    abs(share(sets["network"]) - 0.8),
    at_most=0.1,
    history=history,
)

# %% [markdown]
# ## 8. Digits
#
# Lesson 07 showed that a network which guesses noise *is* a score network. So the shipped digit network can be read as an NCSN, though nobody trained it as one: $s(x, \sigma_t) = -\hat\epsilon(\sqrt{\bar\alpha_t}\,x, t)/\sigma_t$. `nearest_taus` finds the rows whose levels are nearest to ours. The network is not told which digit to draw.
#
# We run it twice. First with 20 levels, 10 steps each and $r = 0.5$. Then in haste: 10 levels, 5 steps, $r = 0.2$. Beside them stands the sampler of lesson 06, and pure noise as a control. All are cut off at −1 and 1, as pictures are.

# %%
shipped, _ = pretrained.load("mnist")
opinion, _ = pretrained.load("judge")
cosine = dc.cosine_schedule(1000)
guess = dc.eps_model_from_v(cosine, shipped)
n, long, hasty = (lab.up_to(count, least=2) for count in (40, 20, 10))
z = torch.randn(n, 1, 28, 28, generator=rng.manual_seed(15))


def draw_digits(step, taus, **options):
    """Return digits drawn from z along the rows taus."""
    *_, last = dc.sample_chain(step, cosine, guess, z, taus, generator=rng, **options)
    return last.x_t.clamp(-1, 1)


rows = {
    count: dc.nearest_taus(cosine, dc.geometric_levels(20, 0.02, count)) for count in (long, hasty)
}

# %% [markdown]
# All sets have the same size. The judge compares each with other real digits, none of which is in the set "real".

# %%
test = data.images("test")
real = data.to_signed(test.x)
order = torch.randperm(len(real), generator=rng)[: lab.up_to(1000)]
annealed = dc.annealed_langevin_step
sets = {
    "annealed": draw_digits(annealed, rows[long], steps=lab.up_to(10), ratio=0.5),
    "in haste": draw_digits(annealed, rows[hasty], steps=lab.up_to(5), ratio=0.2),
    "lesson 06": draw_digits(dc.ddim_step, dc.even_taus(1000, lab.up_to(50)), eta=1.0),
    "noise": z.clamp(-1, 1),
    "real": real[order[:n]],
}
verdicts = {name: judge.judge_images(opinion, x, real[order[n:]]) for name, x in sets.items()}
spread = {name: x.var(0).mean().sqrt().item() for name, x in sets.items()}

# %%
fig, axes = lab.figure(5, width=11, height=2.6)
for ax, (name, x) in zip(axes, sets.items(), strict=True):
    lab.draw_images(ax, x[:16], 4, note=test.note if name == "real" else "")
    ax.set_title(name)
lab.show(fig, "Annealed Langevin, the same in haste, the sampler of lesson 06, noise, real digits.")

# %% [markdown]
# **Predict first.** The judge of lesson 06 reads a digit with confidence, or not. In which set is it most confident?

# %%
fig, axes = lab.figure(4, width=13, height=3)
for ax, (title, values) in zip(
    axes,
    {
        "share read with confidence": [v.confident for v in verdicts.values()],
        "share of the most frequent digit": [v.shares.max() for v in verdicts.values()],
        "spread of the pixels": spread.values(),
        "Fréchet distance": [v.frechet for v in verdicts.values()],
    }.items(),
    strict=True,
):
    ax.barh(list(sets), list(values), color=lab.BLUE)
    ax.set(title=title, xlabel=f"from {n} pictures a set")
    ax.invert_yaxis()
    ax.label_outer()
lab.show(fig, "Four readings of each set; only the first takes noise for digits.")

# %% [markdown]
# Read the first panel alone, and noise and haste win, even over real digits. The judge learned from digits only, and has no word for what is none. The other panels expose both: all are read as one digit, the pixels spread more than those of real digits, and the Fréchet distance is many times that of real digits (of as many). **No single number is a judge.**
#
# Annealed Langevin did draw digits, with a network that was never trained for it. It asks the network several times as often as the sampler of lesson 06, for a lead that may be chance here. The claims use all four panels:

# %%
good, control, mnist = verdicts["annealed"], verdicts["noise"], {"digits": test}
frechet = {name: v.frechet / verdicts["real"].frechet for name, v in verdicts.items()}
off = abs(spread["annealed"] / spread["real"] - 1)
lead = control.confident - good.confident
lab.claim("noise: share read with confidence", control.confident, at_least=0.9, **mnist)
lab.claim("noise: its lead over annealed in this share", lead, above=0, **mnist)
lab.claim("noise: Fréchet distance, times that of real", frechet["noise"], at_least=3, **mnist)
lab.claim("annealed: digits that appear", int((good.shares > 0).sum()), at_least=7, **mnist)
lab.claim("annealed: spread of the pixels off that of real by", off, at_most=0.15, **mnist)
lab.claim("annealed: Fréchet distance, times that of real", frechet["annealed"], at_most=2, **mnist)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: why does haste fail?
#
# A step at level $l$ leaves the factor $1 - r/2$ of the noise that came from the level before (section 4, for $v = \sigma_l^2$). So $K$ steps leave the share $(1 - r/2)^{2K}$ of its variance. Meanwhile $\sigma^2$ falls by the factor $(\sigma_l/\sigma_{l+1})^2$. Their product is what the old noise does *relative to the level*: above 1 it piles up. This is how to choose $K$.

# %%
for name, count, steps, ratio in (("annealed", 20, 10, 0.5), ("in haste", 10, 5, 0.2)):
    first, second, *_ = dc.geometric_levels(20, 0.02, count)
    left, fall = (1 - ratio / 2) ** (2 * steps), (first / second) ** 2
    print(f"{name}: {left:.4f} of the old noise left, times {fall:.4f}: {left * fall:.4f} a level")

# %% [markdown]
# In haste, noise grows from level to level, measured by the level. Formula (34) speaks of settled levels, and here none is; soon the network is asked about states that it has never seen, and that makes it worse.

# %% [markdown]
# ## 9. What breaks
#
# **Steps that do not shrink with the level.** Formula (34) asks for $\delta_l = r\sigma_l^2$. What if one step size is used at all levels? Take that of the smallest level, or that of the largest.


# %%
def constant_step(score, x, noise_levels, step_size):
    """Annealed Langevin with one step size, 100 steps a level; None where it leaves all bounds."""
    for level in noise_levels:
        for _ in range(100):
            eps = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            x = x + step_size / 2 * score(x, level) + step_size**0.5 * eps
            if not x.abs().max() < 1e6:
                return None, level
    return x + level**2 * score(x, level), level


# %% [markdown]
# The start, in grey, is the same:

# %%
z = torch.randn(300, 2, generator=rng.manual_seed(16), dtype=torch.float64)
x = z / schedule.alpha_bars[-1].sqrt()
kinds = {"as (34) asks": annealed_by_hand(noisy_score, x, noise_levels, 100, 0.2, rng)}
for name, level in (
    ("always the smallest", noise_levels[-1]),
    ("always the largest", noise_levels[0]),
):
    kinds[name], lost_at = constant_step(noisy_score, x, noise_levels, 0.2 * level**2)
fig, axes = lab.figure(3, width=9.5, height=3.4, sharey=True)
for ax, (name, points) in zip(axes, kinds.items(), strict=True):
    lab.draw_points(ax, x, color="0.65", limit=40)
    lab.draw_points(ax, x[:0] if points is None else points, limit=40, title=name)
    if points is None:
        ax.text(0, 33, f"lost at level {lost_at:.3g}", ha="center")
    ax.label_outer()
lab.show(
    fig,
    "The start in grey, the end in blue: the smallest step does not get far, the largest is lost.",
)

# %% [markdown]
# The right panel has no blue points on purpose. With small steps the cloud shrinks a little and does not reach the hills. Large ones do well at the first levels. But a chain on a hill of variance $v$ is stable only for $\delta < 4v$ (section 4), and further down the hills are too narrow for that: the chain flies apart.
#
# ## 10. Exercises
#
# **Exercise 1. Predict the number.** A path of $W$ is cut unevenly: the time from 0 to ½ into 100 equal steps, the time from ½ to 1 into 400. The squares of all 500 increments are added. What is the standard deviation of the sum? Give at least four digits.

# %%
# STARTER
deviation = None  # your number here
# SOLUTION
deviation = (100 * 2 * (0.5 / 100) ** 2 + 400 * 2 * (0.5 / 400) ** 2) ** 0.5

# %%
# lab.hint("08.1")
lab.check("08.1", deviation)

# %% [markdown]
# **Exercise 2. Any form.** A chain on $N(0, v)$ takes steps $x + a\,\nabla\log p(x) + b\,\epsilon$. Which variance does it keep? Write `kept_variance(a, b, v)`; all have shape (B,), one number for each of B chains, and every chain is stable.


# %%
# STARTER
def kept_variance(a, b, v):
    return None  # your lines here


# SOLUTION
def kept_variance(a, b, v):
    return b**2 / (1 - (1 - a / v) ** 2)  # the score is -x / v


# %%
# lab.hint("08.2")
lab.check("08.2", kept_variance)

# %% [markdown]
# **Exercise 3. Annealed Langevin of your own** (a quarter of an hour). Close section 6, and write `my_annealed(score, x, noise_levels, eps, ratio)` from memory. `score(x, noise_level)` is the score of the noisy data; `x` (B, D) is the start; `noise_levels` (L,) fall. All noise is given: `eps` (L, K, B, D) for K steps at each of L levels. The result (B, D) has no noise left.


# %%
# STARTER
def my_annealed(score, x, noise_levels, eps, ratio):
    return None  # your lines here


# SOLUTION
def my_annealed(score, x, noise_levels, eps, ratio):
    for level, noises in zip(noise_levels, eps, strict=True):
        step_size = ratio * level**2
        for noise in noises:
            x = x + step_size / 2 * score(x, level) + step_size.sqrt() * noise
    return x + level**2 * score(x, level)


# %%
# lab.hint("08.3")
lab.check("08.3", my_annealed)

# %% [markdown]
# Now put the points where you like, and say which share of the data each gets. Then find the smallest first level, and the fewest steps, whose shares are still right (no share off by more than 0.08).

# %%
my_points = torch.tensor([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0], [0.0, -3.0]]).double()
my_shares = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
my_levels = dc.geometric_levels(12, 0.1, 10)
my_steps, my_ratio = 50, 0.2


def my_score(x, noise_level):
    """The exact score of your data at a noise level."""
    return dc.mixture(my_points, 0.5**2 + noise_level**2, my_shares).score(x)


z = my_levels[0] * torch.randn(1000, 2, generator=rng, dtype=torch.float64)
my_noise = torch.randn(len(my_levels), my_steps, 1000, 2, generator=rng, dtype=torch.float64)
mine = my_annealed(my_score, z, my_levels, my_noise, my_ratio)
written = mine is not None


# %%
def at_points(x):
    """The share of points x nearest to each of your points."""
    return torch.cdist(x, my_points).argmin(1).bincount(minlength=len(my_points)) / len(x)


fig, axes = lab.figure(3, width=11, height=3.6)
sample = dc.mixture(my_points, 0.5**2, my_shares).sample(1000, generator=rng)
lab.draw_points(axes[0], sample, color=lab.ORANGE, limit=9, title="your data")
if written:
    lab.draw_points(axes[1], mine, limit=9, title="your chain")
    axes[2].plot(at_points(mine), "o", color=lab.BLUE, label="chain")
else:
    axes[1].axis("off")
    axes[1].text(0.5, 0.5, "your chain, once exercise 3 is written", ha="center", wrap=True)
axes[2].plot(my_shares, "_", ms=20, color=lab.BLACK, label="data")
axes[2].set(xlabel="number of the point", ylabel="share", ylim=(0, max(my_shares) + 0.2))
axes[2].set(xticks=range(len(my_points)), xlim=(-0.5, len(my_points) - 0.5))
axes[2].legend()
lab.show(fig, "Your data, the points of your chain, and the share of each place.")
if written:
    worst = (at_points(mine) - my_shares).abs().max()
    lab.claim("largest error of a share", worst, at_most=0.08)

# %% [markdown]
# ## 11. Summary
#
# 1. Noise adds up by variance, so its size in a step is the root of the time step.
# 2. An SDE is a drift and a diffusion; Euler–Maruyama follows it.
# 3. Langevin's SDE keeps the density of its score; the chain keeps it only as the step goes to 0.
# 4. A score does not see the shares of far hills. Noise that makes them one hill, or nearly, brings the shares back.
# 5. NCSN learns the scores of all levels; annealed Langevin walks down them and denoises at the end.
#
# | equation | function |
# |---|---|
# | (30) Wiener process | `wiener_increments` |
# | (31) Euler–Maruyama | `SDE`, `euler_maruyama` |
# | (32) Langevin | `langevin_step`, `langevin_chain` |
# | (33) NCSN's loss | `ncsn_loss`, `eps_model_from_ncsn` |
# | (34) annealed Langevin | `geometric_levels`, `annealed_langevin_step` |
#
# **References.** Kloeden and Platen, *Numerical Solution of SDEs* (1992). Roberts and Tweedie, *Exponential Convergence of Langevin Distributions and Their Discrete Approximations* (1996). Song and Ermon, *Generative Modeling by Estimating Gradients of the Data Distribution* (2019), and *Improved Techniques for Training Score-Based Generative Models* (2020). Jolicoeur-Martineau et al., *Adversarial Score Matching and Improved Sampling for Image Generation* (2021).
#
# **Next**: [09 · How few calls of the network are enough?](09_sde_ode_samplers.ipynb)
