# %% [markdown]
# # 07 · Can you learn a slope that nobody can tell you?
#
# You have points, drawn from a density $p(x)$ that you do not know. You want a function that says, at every place, which way the density grows fastest. No point carries that answer as a label. Three losses learn it all the same; the third is that of lesson 05.
#
# **At the end you can**
# - say what a score is, and why it needs no normalising constant;
# - train a score from points alone, with three losses, and say what each one costs;
# - say why noise prediction is one of them;
# - recognise data on which the first two fail without an error.
#
# **You need** lesson 05, and gradients by autograd. **Time**: about 95 minutes.

# %%
import math
from functools import cache, partial

import torch
from torch import nn

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import toys
from diffusion_core.nets import MLP

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# Drag the slider. Blue points start anywhere. In each small step they follow the grey arrows, which lead to the data (orange crosses). An arrow shows the **score** $\nabla \log p(x)$, the slope of the log density at the place $x$. Its length says how steep. Here $p$ is that of data with noise (0.3), so that arrows reach far. (You met scores in lesson 05. In lesson 01 the word meant a slope by a *parameter*.)


# %%
def climb(score, x, steps, rate=0.01):
    """Return where points are after 0, 1, ..., steps small steps along a score."""
    states = [x]
    for _ in range(steps):
        states.append(states[-1] + rate * score(states[-1]))
    return states


side = torch.linspace(-2.6, 2.6, 15)
places = torch.cartesian_prod(side, side)
start = 5.2 * torch.rand(300, 2, generator=rng) - 2.6
walks, clouds, arrows_of = {}, {}, {}
for toy in ("moons", "circles", "eight_gaussians"):
    centres, std = toys.toy_centres(toy, 200)
    blurred = dc.mixture(centres, std**2 + 0.3**2)  # so that the arrows reach far
    walks[toy] = torch.stack(climb(blurred.score, start, 80))  # (81, 300, 2)
    clouds[toy] = toys.toy_2d(toy, 600, generator=rng)
    arrows_of[toy] = blurred.score(places)

# %% [markdown]
# The arrows of one toy never change: the score is a field. Where do points go that start in the middle of the circles? (Onto the inner circle, and no further.) Without noise all climb to a ridge or a peak: this is not yet sampling.

# %%
fig, (ax,) = lab.figure(width=5.2, height=4.8)
data_points = lab.draw_points(ax, clouds["moons"], color=lab.ORANGE)
data_points.set(marker="x", markersize=3, markeredgewidth=0.8)
arrows = ax.quiver(*places.T, *places.T, width=0.004, scale=160, scale_units="width", alpha=0.45)
(trails,) = ax.plot([], [], color=lab.BLUE, lw=0.7, alpha=0.6)
climbers = lab.draw_points(ax, start, color=lab.BLUE)
climbers.set(markersize=3.5, alpha=0.9)


def follow(steps, toy):
    """Show the points, and their ways so far, after some steps along the score of a toy."""
    way = walks[toy][: steps + 1]
    gap = torch.full_like(way[:1], torch.nan)  # so that one line holds all ways
    trails.set_data(*torch.cat([way, gap]).transpose(0, 1).flatten(0, 1).T)
    data_points.set_data(*clouds[toy].T)
    climbers.set_data(*way[-1].T)
    arrows.set_UVC(*arrows_of[toy].T.numpy())
    away = torch.cdist(way[-1], clouds[toy]).min(1).values.mean()
    return f"{toy}, {steps} steps along the score: a point is {away:.2f} from the data on average."


controls = {"steps": lab.slider("steps", 0, 80, 5), "toy": lab.choice("data", list(walks))}
lab.Explorer(fig, [data_points, arrows, trails, climbers], follow, controls, play="steps")

# %% [markdown]
# For a mixture of Gaussians the score is known. With the means $m_k$, the variances $v_k$, and $p(k \mid x)$ for how likely component $k$ is once $x$ is seen,
#
# $$\nabla \log p(x) = \sum_k p(k \mid x)\, \frac{m_k - x}{v_k}. \tag{24}$$
#
# Each component pulls towards its mean, weighted by how likely it is. It follows from $\nabla \log p = \nabla p / p$. With weights $\pi_k$ and Gaussian densities $N_k$, $p = \sum_k \pi_k N_k$. Each $\pi_k N_k$ has the slope $\pi_k N_k\,(m_k - x)/v_k$, and $\pi_k N_k / p = p(k \mid x)$. Autograd agrees:

# %%
three = dc.mixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]]).double(), 0.3)
x = (2 * torch.randn(500, 2, generator=rng)).double().requires_grad_()
(slope,) = torch.autograd.grad(three.log_prob(x).sum(), x)
torch.testing.assert_close(three.score(x), slope, rtol=1e-9, atol=1e-12)
print("formula (24) = the slope of the log density by autograd, at 500 places")

# %% [markdown]
# Why a slope, and not the density itself? A density must integrate to 1. A positive function $f$ with a finite integral becomes one as $f / Z$, but $Z = \int f\,dx$ is out of reach in many dimensions. In $\nabla \log (f/Z) = \nabla \log f - \nabla \log Z$ the last term is 0, since $Z$ does not depend on $x$. A network may answer any field, even one that is no slope.
#
# ## 2. The loss we want, and the loss we can have
#
# Let $s(x)$ be a model's answer at $x$. What we want small is its mean squared distance from the true score. We call it the **explicit** loss:
#
# $$L(s) = \tfrac12\,\mathbb E_{x \sim p}\,\big|s(x) - \nabla \log p(x)\big|^2.$$
#
# It asks for $\nabla \log p$, which we do not have. Here is the trick, in one dimension. Multiply out: $L = \mathbb E[\tfrac12 s^2] - \mathbb E[s\,(\log p)'] + \tfrac12\mathbb E[((\log p)')^2]$. The last term does not depend on $s$. In the middle one $p\,(\log p)' = p'$, so it is $-\int s\,p'\,dx$, and integration by parts moves the derivative from $p$ to $s$:
#
# $$-\int s\,p'\,dx = -\big[s\,p\big]_{-\infty}^{\infty} + \int s'\,p\,dx = \mathbb E[s'],$$
#
# **if $s\,p$ vanishes at the edge**. In more dimensions this is done for each coordinate, and the sum of the $\partial s_i / \partial x_i$ is the trace of the matrix of all slopes $\partial s_i/\partial x_j$, the **Jacobian** $\nabla s$. This is **implicit score matching**:
#
# $$\tfrac12\,\mathbb E\big|s - \nabla \log p\big|^2 = \mathbb E\big[\tfrac12 |s|^2 + \text{tr}\,\nabla s\big] + \tfrac12\,\mathbb E\big|\nabla \log p\big|^2. \tag{25}$$
#
# The bracket needs points and the model's own slopes. In words: be short where the data are, and let the arrows converge there: arrows that meet have a negative trace.
#
# Try it. The data are 0.5 N(−2, 1) + 0.5 N(2, 1), and the model is $s_a(x) = a \tanh(2x) - x$ with one unknown number $a$.

# %%
two = dc.mixture(torch.tensor([[-2.0], [2.0]]).double(), 1.0)
grid = torch.linspace(-14, 14, 1401, dtype=torch.float64)[:, None]  # (1401, 1): a batch of places
density, true_score = two.log_prob(grid).exp(), two.score(grid)[:, 0]


def mean(values):
    """Return the mean of values over the data's density: an integral, not a draw."""
    return torch.trapezoid(density * values, grid[:, 0])


# %% [markdown]
# `mean` is an integral on a fine grid. The model:


# %%
def family(a, x):
    """The model s_a."""
    return a * torch.tanh(2 * x) - x


# %% [markdown]
# Both losses for 81 values of $a$ (`exact_trace` returns $s$ and its trace):

# %%
rates = torch.linspace(0, 4, 81, dtype=torch.float64)
curves = {"explicit": [], "implicit": []}
for a in rates:
    s, trace = dc.exact_trace(partial(family, a), grid)
    curves["explicit"].append(mean((s[:, 0] - true_score).square() / 2).item())
    curves["implicit"].append(mean(s[:, 0].square() / 2 + trace).item())
half_score = mean(true_score.square() / 2).item()
gaps = [e - i for e, i in zip(*curves.values(), strict=True)]
assert max(abs(gap - half_score) for gap in gaps) < 1e-10
print(f"explicit - implicit: {min(gaps):.4f} to {max(gaps):.4f} over 81 values of a")
print(f"half the mean square of the true score: {half_score:.4f}")

# %%
fig, axes = lab.figure(2, width=9.5, height=3.4)
shown = grid[:, 0].abs() < 5
axes[0].fill_between(grid[shown, 0], 8 * density[shown], color=lab.ORANGE, alpha=0.3)
axes[0].plot(grid[shown, 0], true_score[shown], color=lab.BLACK, ls=":", label="true score")
(guess,) = axes[0].plot(grid[shown, 0], true_score[shown], color=lab.BLUE, label="model")
axes[0].set(xlabel="x (orange: the density, not to scale)", ylabel="score", ylim=(-5, 5))
axes[1].plot(rates, curves["explicit"], color=lab.BLACK, ls=":", label="explicit")
axes[1].plot(rates, curves["implicit"], color=lab.BLUE, label="implicit")
marks = [axes[1].plot([2], [0], m, color=c)[0] for m, c in (("s", lab.BLACK), ("o", lab.BLUE))]
axes[1].set(xlabel="a", ylabel="loss")
axes[0].legend(loc="upper right")
legend = axes[1].legend(loc="upper center")

# %% [markdown]
# Where the density (orange) is high, a wrong model costs most. Find the best $a$ with the blue curve alone; then look at the black one.


# %%
def choose(a):
    """Show the model with this a, and both of its losses."""
    index = round(20 * a)
    guess.set_ydata(family(a, grid[shown, 0]))
    for mark, values in zip(marks, curves.values(), strict=True):
        mark.set_data([a], [values[index]])
    explicit, implicit = (values[index] for values in curves.values())
    return (
        f"a = {a:g}: explicit {explicit:.4f}, implicit {implicit:.4f}, difference {half_score:.4f}."
    )


lab.Explorer(fig, [guess, *marks], choose, {"a": lab.slider("a", 0.0, 4.0, 1.0, 0.05)})

# %% [markdown]
# One curve is the other, moved down. So both are lowest at the same $a$, which is 2: by (24) the true score is $2\tanh(2x) - x$. The size of an implicit loss alone says nothing, as its lowest value differs for each data set. Compare models on the same data.
#
# From scratch it is a few lines, with one backward pass for each coordinate:


# %%
def implicit_by_hand(model, x):
    """E [|s|^2 / 2 + tr ds/dx] on a batch x (B, D)."""
    x = x.clone().requires_grad_()
    s = model(x)
    trace = 0
    for i in range(x.shape[1]):
        (slope,) = torch.autograd.grad(s[:, i].sum(), x, create_graph=True)
        trace = trace + slope[:, i]
    return (0.5 * s.square().sum(1) + trace).mean()


lab.show_source(dc.implicit_loss)
torch.testing.assert_close(
    implicit_by_hand(three.score, x.detach()), dc.implicit_loss(three.score, x.detach())
)
print("from scratch and by the package: the same number")

# %% [markdown]
# ## 3. A cheaper trace
#
# One backward pass for each coordinate is little in the plane. For a digit it is 784. **Sliced score matching** asks in one random direction $v$ only, drawn independently of $x$. With $J = \nabla s$, the Jacobian,
#
# $$\text{tr}\,J = \mathbb E\big[v^{\mathsf T} J\, v\big] \quad\text{for every } v \text{ with } \mathbb E[v v^{\mathsf T}] = I, \tag{26}$$
#
# because $\mathbb E[v^{\mathsf T} J v] = \sum_{ij} J_{ij}\,\mathbb E[v_i v_j]$, and only $i = j$ is left. The cost is one backward pass: take the slope of the single number $v \cdot s(x)$, then its product with $v$. (This is Hutchinson's estimator; $v$ is called a **probe**.)
#
# Two probes are common: normal numbers, and random signs (`rademacher`). **Predict, then run**: with which of them would an estimate scatter less? And if $J$ were diagonal?


# %%
def jacobian(d, coupling):
    """A d x d matrix: -3 on the diagonal, entries of size coupling / sqrt(d) off it."""
    noise = torch.randn(d, d, generator=torch.Generator().manual_seed(d)).double()
    noise = (noise + noise.T) / 2**0.5
    return coupling / d**0.5 * (noise - noise.diag().diag()) - 3 * torch.eye(d).double()


J = jacobian(10, 1.0)
points = torch.zeros(20_000, 10).double()
variances = dc.probe_variances(J[None])
for name, probe in {"gaussian": dc.standard_normal, "rademacher": dc.rademacher}.items():
    found = dc.hutchinson_trace(lambda x: x @ J.T, points, probe(points, rng)).trace
    std = getattr(variances, name).sqrt().item()
    print(f"{name:10}  mean {found.mean():8.4f}  std {found.std():.4f}, by formula {std:.4f}")
print(f"the trace: {J.trace():.4f}")

# %% [markdown]
# Write $S = \tfrac12(J + J^{\mathsf T})$, and $|S|^2$ for the sum of its squared entries. Then the variances are $2|S|^2$ for normal numbers and $2\,(|S|^2 - \sum_i S_{ii}^2)$ for signs: those do not feel the diagonal, and are exact for a diagonal $J$. Cheap is not yet good.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: what an equally good trace costs
#
# Averaging $n$ probes divides the variance by $n$. The curves count backward passes until the standard error is what the second control says. The entries off the diagonal have the size `coupling` divided by $\sqrt d$.

# %%
dims = [2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 784]
fig, (ax,) = lab.figure(width=6.5, height=3.6)
ax.loglog(dims, dims, color=lab.BLACK, ls=":", label="exact: one pass a coordinate")
lines = [
    ax.loglog(dims, dims, color=colour, ls=style, marker=mark, ms=4, label=name)[0]
    for name, colour, style, mark in (
        ("normal probes", lab.ORANGE, "--", "s"),
        ("random signs", lab.BLUE, "-", "o"),
    )
]
ax.set(xlabel="number of coordinates d", ylabel="backward passes", ylim=(0.7, 5e4))
legend = ax.legend(loc="upper left")


@cache
def both(d, coupling):
    """Return the variances of both probes, normal numbers first."""
    return [v.item() for v in dc.probe_variances(jacobian(d, coupling)[None])]


# %% [markdown]
# How good must it be? Either of two answers makes sense, and they lead to different curves:

# %%
wanted = {"a tenth of the trace": lambda d: 0.3 * d, "1, whatever d is": lambda d: 1.0}


def cost(coupling, error):
    """Show how many passes each probe needs."""
    for i, line in enumerate(lines):
        needed = [both(d, coupling)[i] / wanted[error](d) ** 2 for d in dims]
        line.set_ydata([max(1, math.ceil(n - 1e-9)) for n in needed])
    normal, signs = (int(line.get_ydata()[-1]) for line in lines)
    return (
        f"coupling {coupling:g}, standard error {error}: at d = 784 exact 784 passes, "
        f"normal probes {normal}, random signs {signs}."
    )


controls = {
    "coupling": lab.slider("coupling", 0.0, 3.0, 1.0, 0.25),
    "error": lab.choice("standard error", list(wanted), "1, whatever d is"),
}
lab.Explorer(fig, lines, cost, controls)

# %% [markdown]
# Signs are never worse, and with coupling 0 one pass with signs is exact. If the trace may be off by a tenth of itself, the number of passes falls, for large $d$, to one. If the error must stay at 1, it grows about as $d$ does (for signs: if the coupling is not 0), and at $d = 784$ with coupling 1 even signs need more passes than the exact trace.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: where the two variances come from
#
# $v^{\mathsf T} J v = v^{\mathsf T} S v$, because the part of $J$ that changes sign when it is transposed adds nothing. For signs $v_i^2 = 1$, so $v^{\mathsf T} S v = \text{tr}\,S + 2\sum_{i<j} S_{ij} v_i v_j$. The products $v_i v_j$ with $i<j$ have mean 0, variance 1, and are uncorrelated, so the variance is $4\sum_{i<j} S_{ij}^2$, which is $2\,(|S|^2 - \sum_i S_{ii}^2)$. For normal numbers the terms $S_{ii} v_i^2$ scatter too, each with the variance $2 S_{ii}^2$; together $2|S|^2$.
#
# A probe scaled to length 1 breaks (26): then $\mathbb E[v v^{\mathsf T}] = I/d$, and the trace comes out $d$ times too small.

# %%
unit = dc.standard_normal(points, rng)
unit = unit / unit.norm(dim=1, keepdim=True)
shrunk = dc.hutchinson_trace(lambda x: x @ J.T, points, unit).trace
assert (shrunk.mean() - J.trace() / 10).abs() < 5 * shrunk.std() / 20_000**0.5
print(f"probes of length 1: mean {shrunk.mean():.4f}, a tenth of the trace {J.trace() / 10:.4f}")

# %% [markdown]
# ## 4. No trace at all
#
# The third way adds noise. Draw $x_0$ from the data and $\epsilon \sim N(0, 1)$ for each coordinate, and let $x = x_0 + \sigma\epsilon$. We call $\sigma$ the **noise level**. Given $x_0$, the density of $x$ is a Gaussian, $q(x \mid x_0) = N(x_0, \sigma^2 I)$, and *its* score is at hand:
#
# $$\nabla_x \log q(x \mid x_0) = -\frac{x - x_0}{\sigma^2} = -\frac{\epsilon}{\sigma}.$$
#
# Each grey dot below is one such pair: a place $x$, and the target $-\epsilon/\sigma$. A single target is nearly worthless. Their mean at each place (green squares) is not: up to chance it lies on the score of the noisy data, $p_\sigma$ (blue). Drag $\sigma$, and watch how far blue is from black, the score of the clean data, and how far the dots scatter.

# %%
clean = two.sample(40_000, generator=rng)[:, 0]
added = torch.randn(40_000, generator=rng).double()
edges = torch.linspace(-4, 4, 21, dtype=torch.float64)
middle = (edges[1:] + edges[:-1]) / 2
fig, (ax,) = lab.figure(width=7, height=4)
(targets,) = ax.plot([], [], "o", ms=2, mew=0, color="0.6", label="one target")
ax.plot(grid[shown, 0], true_score[shown], color=lab.BLACK, ls=":", label="score of the data")
(smooth,) = ax.plot(grid[shown, 0], true_score[shown], color=lab.BLUE, label="score of noisy data")
(means,) = ax.plot([], [], "s", ms=5, color=lab.GREEN, label="mean of the targets there")
ax.set(xlabel="x", ylabel="target, score", ylim=(-9, 9), xlim=(-5, 5))
legend = ax.legend(loc="upper right")

# %% [markdown]
# 1 500 of 40 000 pairs are drawn; squares are means over all.


# %%
def blur(noise_level):
    """Show the targets of one noise level, their means, and the score of the noisy data."""
    x, target = clean + noise_level * added, -added / noise_level
    noisy = dc.mixture(two.means, 1 + noise_level**2)
    targets.set_data(x[:1500], target[:1500])
    bins = torch.bucketize(x, edges)
    means.set_data(middle, [target[bins == i].mean() for i in range(1, len(edges))])
    smooth.set_ydata(noisy.score(grid[shown]))
    off = mean((noisy.score(grid)[:, 0] - true_score).square()).sqrt().item()
    return (
        f"noise level {noise_level:g}: the targets scatter by about {1 / noise_level:.2f}, and "
        f"the score of the noisy data is off by {off:.4f}."
    )


lab.Explorer(
    fig,
    [targets, smooth, means],
    blur,
    {"noise_level": lab.slider("noise level", 0.1, 2.0, 0.6, 0.1)},
)

# %% [markdown]
# That the mean is the score takes one line: $\nabla p_\sigma(x) = \int \nabla q(x \mid x_0)\,p(x_0)\,dx_0 = \int q(x \mid x_0)\,p(x_0)\,\nabla \log q(x \mid x_0)\,dx_0$; divide by $p_\sigma(x)$, and the right side is $\mathbb E[-\epsilon/\sigma \mid x]$. And by lesson 05 the least mean squared error finds the mean. Multiply out: the cross term $\mathbb E[s \cdot \epsilon/\sigma]$ is $-\mathbb E[s \cdot \nabla\log p_\sigma]$ by that line, and what else differs does not contain $s$: $\mathbb E|\epsilon/\sigma|^2 = d/\sigma^2$ and $\mathbb E|\nabla\log p_\sigma|^2$. This is **denoising score matching**, for $d$ coordinates:
#
# $$\tfrac12\,\mathbb E\Big|s(x) + \frac{\epsilon}{\sigma}\Big|^2 = \tfrac12\,\mathbb E\big|s - \nabla \log p_\sigma\big|^2 + \frac{d}{2\sigma^2} - \tfrac12\,\mathbb E\big|\nabla\log p_\sigma\big|^2. \tag{27}$$
#
# Both sides as integrals, over all $x_0$ and all $\epsilon$, for a wrong model, $a = 1.5$:

# %%
z = torch.linspace(-8, 8, 401, dtype=torch.float64)  # the noise
bell = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)


def over_pairs(values):
    """Return the mean of values (places, noises) over data and noise: a double integral."""
    return mean(torch.trapezoid(values * bell, z, dim=1))


for level in (0.1, 0.3, 1.0):
    x = grid + level * z  # (1401, 401)
    denoising = over_pairs((family(1.5, x) + z / level).square() / 2)
    noisy_score = dc.mixture(two.means, 1 + level**2).score(x.reshape(-1, 1)).view_as(x)
    explicit = over_pairs((family(1.5, x) - noisy_score).square() / 2)
    constant = 1 / (2 * level**2) - over_pairs(noisy_score.square() / 2)
    torch.testing.assert_close(denoising, explicit + constant, rtol=0, atol=1e-10)
    print(f"sigma {level}: denoising {denoising:10.6f} = {explicit:.6f} + {constant:10.6f}")

# %% [markdown]
# For a small $\sigma$ the loss is nearly all constant, which no network can lower. A flat loss curve is no sign that nothing is learned.
#
# What is the best $\sigma$? Take the simplest data, N(0, 1), with the score $-x$, and the model $s(x) = -\theta x$. The right answer is $\theta = 1$. Each of 200 green dots is a fit of $\theta$ by denoising with 500 pairs $(x_0, \epsilon)$. Drag $\sigma$ to 0.05, then to 1.

# %%
x0, eps = torch.randn(2, 200, 500, generator=rng, dtype=torch.float64)
levels = torch.linspace(0.05, 1, 20, dtype=torch.float64)
x = x0 + levels[:, None, None] * eps  # (20, 200, 500)
fits = (x * eps / levels[:, None, None]).sum(2) / x.square().sum(2)  # least squares: (20, 200)

bell_2d = bell[:, None] * bell  # of a place x0 = z and a noise z
bias, noise = [], []
for level in levels:
    x = z[:, None] + level * z
    best = 1 / (1 + level**2)  # -x / (1 + sigma^2) is the score of N(0, 1 + sigma^2)
    gradient = x * (best * x - z / level)  # of one pair's loss, with respect to theta
    variance = torch.trapezoid(torch.trapezoid(gradient.square() * bell_2d, z), z)
    bias.append((1 - best).item())
    noise.append(variance.sqrt().item())

# %%
fig, axes = lab.figure(2, width=9.5, height=3.4)
axes[0].axhline(1, color=lab.BLACK, ls=":", label="right answer")
axes[0].plot(levels, 1 / (1 + levels**2), color=lab.BLUE, label="best for the noisy data")
(fit_dots,) = axes[0].plot([], [], "o", ms=3, mew=0, color=lab.GREEN, alpha=0.5, label="200 fits")
axes[0].set(xlabel="noise level", ylabel="theta", ylim=(-1, 3), xlim=(0, 1.05))
axes[1].loglog(levels, bias, color=lab.BLUE, label="bias")
axes[1].loglog(levels, noise, color=lab.GREEN, ls="--", label="noise of the gradient")
(now,) = axes[1].plot([], [], "o", color=lab.BLACK)
axes[1].set(xlabel="noise level", ylabel="bias, or noise (log)", ylim=(1e-3, 200))
for ax in axes:
    ax.legend(loc="upper right")
jitter = torch.linspace(-0.02, 0.02, 200)


def trade(noise_level):
    """Show the fits of one noise level, and its bias and noise."""
    i = round(20 * noise_level) - 1
    fit_dots.set_data(noise_level + jitter, fits[i])
    now.set_data([noise_level] * 2, [bias[i], noise[i]])
    middle, spread = fits[i].mean(), fits[i].std()
    return f"noise level {noise_level:g}: theta {middle:.4f} on average, spread {spread:.4f}."


slider = lab.slider("noise level", 0.05, 1.0, 0.2, 0.05)
lab.Explorer(fig, [fit_dots, now], trade, {"noise_level": slider})

# %% [markdown]
# A small $\sigma$ gives fits that are right only on average. A large $\sigma$ gives fits that agree, on the wrong answer. In the right picture, the *bias* is how far the best $\theta$ is from 1, the *noise* is the standard deviation of one pair's gradient, here $1/\sigma$. For smooth densities (no walls) the two slopes are the same, with other constants:
#
# $$\sqrt{\mathbb E\,|\nabla\log p_\sigma - \nabla \log p|^2} \propto \sigma^2, \qquad \text{std of the gradient} \propto \frac1\sigma \qquad (\sigma \to 0). \tag{29}$$
#
# Then ten times less $\sigma$ makes the bias a hundred times smaller, and needs a hundred times the examples for equal scatter. The next cell fits both slopes up to $\sigma = 0.3$. The implicit loss has no $\sigma$, but its gradient scatters, too, by the last number printed: less than denoising's where $1/\sigma$ is larger.

# %%
few = levels[levels < 0.31]
across = few.log() - few.log().mean()
for name, values in {"bias": bias, "noise": noise}.items():
    height = torch.tensor(values, dtype=torch.float64)[: len(few)].log()
    print(f"slope of the {name}: {(across * height).sum() / across.square().sum():.4f}")
slope = z.square() - 1  # of the implicit loss theta^2 x^2 / 2 - theta, at theta = 1
flat = torch.trapezoid(slope.square() * bell, z).sqrt()
print(f"standard deviation of the implicit loss's gradient: {flat:.4f}")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the gradients agree, too
#
# The constant in (27) does not depend on the model, so the gradients of both sides with respect to $a$ are equal. Here they are as integrals, and by finite differences.

# %%
level = 0.3
x = grid + level * z
noisy_score = dc.mixture(two.means, 1 + level**2).score(x.reshape(-1, 1)).view_as(x)
for a in (0.5, 1.5, 3.0):
    by_targets = over_pairs(torch.tanh(2 * x) * (family(a, x) + z / level))
    by_score = over_pairs(torch.tanh(2 * x) * (family(a, x) - noisy_score))
    up, down = ((family(a + h, x) - noisy_score).square() / 2 for h in (1e-4, -1e-4))
    by_difference = over_pairs(up - down) / 2e-4
    torch.testing.assert_close(by_targets, by_score, rtol=0, atol=1e-10)
    torch.testing.assert_close(by_score, by_difference, rtol=0, atol=1e-8)
    print(f"a = {a}: {by_targets:.4f} from the targets, {by_score:.4f} from the score")

# %% [markdown]
# ## 5. You have done this before
#
# In lesson 05 a network guessed the noise in $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$. Divide by $\sqrt{\bar\alpha_t}$: that is $x_0 + \sigma_t\epsilon$ with the noise level $\sigma_t = \sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$. And $q(x_t \mid x_0)$ is a Gaussian with variance $1-\bar\alpha_t$, so its score is $-\epsilon/\sqrt{1-\bar\alpha_t}$. The network's least squares over $\epsilon$ *is* denoising score matching: with its guess $\hat\epsilon$,
#
# $$\nabla \log q(x_t) \approx -\frac{\hat\epsilon(x_t, t)}{\sqrt{1-\bar\alpha_t}}, \qquad L_{\text{simple}} = \frac2d\; \mathbb E_t\Big[\sigma_t^2 \cdot \tfrac12\,\mathbb E\big|s + \epsilon/\sigma_t\big|^2\Big], \tag{28}$$
#
# where $s(x) = -\hat\epsilon(\sqrt{\bar\alpha_t}\,x, t)/\sigma_t$ guesses the noisy data's score at $x = x_t/\sqrt{\bar\alpha_t}$, with noise level $\sigma_t$. The **weight** $\sigma_t^2$ gives each level the same say (Deeper), and $t$ is uniform over $1, \dots, T$. A network that guesses noise is not a score: the sign and the size differ. `score_from_eps` and `score_model_from_eps` turn one into the other. First, the perfect guess of the noise against autograd:

# %%
schedule = dc.vp_schedule(200)
perfect = dc.mixture_eps_model(schedule, three)
for t in (1, 30, 200):
    x_t = (2 * torch.randn(500, 2, generator=rng)).double().requires_grad_()
    (slope,) = torch.autograd.grad(dc.diffuse(schedule, three, t).log_prob(x_t).sum(), x_t)
    score = dc.score_from_eps(schedule, perfect(x_t, t), t)
    torch.testing.assert_close(score, slope, rtol=1e-9, atol=1e-12)
print("minus the perfect guess, divided by sqrt(1 - alpha_bar_t): the score, at t = 1, 30, 200")

# %% [markdown]
# Then both losses, for a model that is far from perfect, with the same draws of $t$ and $\epsilon$:

# %%
eps_model = dc.mixture_eps_model(schedule, dc.mixture(torch.zeros(1, 2).double(), 0.5))
batch = three.sample(1000, generator=rng)
simple = dc.eps_loss(schedule, eps_model, batch, generator=rng.manual_seed(7))

t = dc.draw_t(schedule, batch, rng.manual_seed(7))  # the same t, then the same noise
level = schedule.snr[t] ** -0.5  # sigma_t
score_model = dc.score_model_from_eps(schedule, eps_model, t)
weighted = dc.denoising_loss(score_model, batch, level, weights=level**2, generator=rng)
torch.testing.assert_close(simple, 2 / 2 * weighted, rtol=1e-10, atol=0)
print(f"L_simple {simple:.4f} = 2/d times the weighted denoising loss {weighted:.4f}, d = 2")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: which levels, and which weights
#
# Two choices are left, and papers differ in both: how often each level is drawn, and its weight. A later lesson meets a method with the same weight $\sigma^2$ that draws its levels evenly in $\log\sigma$. The best answer at each level is the same. What differs is where the training time goes:

# %%
log_levels = (schedule.snr[1:] ** -0.5).log10()
bins = torch.linspace(-2, 2.25, 18, dtype=torch.float64)
even_t = torch.histogram(log_levels, bins).hist / 200
even_log = torch.histogram(torch.linspace(-2, 1, 3001, dtype=torch.float64), bins).hist / 3001
fig, (ax,) = lab.figure(width=7, height=3)
centre = (bins[1:] + bins[:-1]) / 2
ax.bar(centre, even_t, width=0.24, color=lab.BLUE, label="t even over 1..200 (lesson 05)")
ax.stairs(even_log, bins, color=lab.BLACK, label="even in log, from 0.01 to 10")
ax.set(xlabel="log10 of the noise level", ylabel="share of the examples", ylim=(0, 0.16))
ax.legend(loc="upper left")
lab.show(
    fig, "Drawing t evenly favours noise levels of 1 and more; drawing log levels evenly does not."
)
print(
    f"share of t = 1..200 at noise levels above 0.3: {(schedule.snr[1:] ** -0.5 > 0.3).double().mean():.4f}"
)

# %% [markdown]
# Why the weight $\sigma^2$? A network that answers 0 has the denoising loss $d/(2\sigma^2)$ at noise level $\sigma$. With the weight $\sigma^2$ that is $d/2$ at every level: each has the same say. With other weights one end takes the largest share. The next cell prints what share of the loss of such a network lies in the smallest and in the largest of ten levels from 1 to 0.01.

# %%
ten = torch.logspace(0, -2, 10, dtype=torch.float64)
for power in (0, 1, 2, 4):
    losses = ten**power * 2 / (2 * ten**2)  # d = 2
    share = losses / losses.sum()
    print(f"weight sigma^{power}: largest level {share[0]:.4f}, smallest level {share[-1]:.4f}")

# %% [markdown]
# ## 6. Three losses, one network
#
# Now the same small network learns the moons with each loss. It is told $k$, the number of the noise level, 1 to 4. Its answer is a guess of the noise; divided by $-\sigma$ it is a score. The input is divided to variance near 1, as $x_t$ was in lesson 05. All losses see points with fresh noise, so all have the same best answer, $\nabla\log p_\sigma$, and all get the weight $\sigma^2$.


# %%
four = torch.tensor([0.01, 0.1, 0.3, 1.0])  # noise levels


def score_of(net, k):
    """Return the score model of a network at the levels k (B,), numbered from 1."""
    level = four[k - 1][:, None]
    return lambda x: -net(x / (1 + level**2).sqrt(), k) / level


# %% [markdown]
# Implicit and sliced matching differ in one argument only, how the trace is found:


# %%
def by_trace(trace_of, net, x0):
    """One batch of implicit or of sliced score matching, at random levels."""
    k = torch.randint(1, 5, (len(x0),), generator=rng)
    level = four[k - 1]
    x = x0 + level[:, None] * torch.randn(x0.shape, generator=rng)
    score, trace = trace_of(score_of(net, k), x)
    return (level**2 * (score.square().sum(1) / 2 + trace)).mean()


# %% [markdown]
# Denoising needs no trace:


# %%
def by_denoising(net, x0):
    """One batch of denoising score matching, at random levels."""
    k = torch.randint(1, 5, (len(x0),), generator=rng)
    level = four[k - 1]
    return dc.denoising_loss(score_of(net, k), x0, level, weights=level**2, generator=rng)


# %% [markdown]
# Fresh points in each step, 1 500 steps, the same start. **Predict, then run**: which of the three will be best at the smallest noise level, and why?

# %%
methods = {
    "implicit": partial(by_trace, dc.exact_trace),
    "sliced": partial(by_trace, lambda s, x: dc.hutchinson_trace(s, x, dc.rademacher(x, rng))),
    "denoising": by_denoising,
}
nets, histories = {}, {}
for name, loss in methods.items():
    network = MLP(width=64)  # each starts from the same weights: they follow from its seed
    ema = dc.EMA(network, decay=0.998)
    batches = (toys.toy_2d("moons", 256, generator=rng) for _ in range(1500))
    histories[name] = dc.train(network, loss, batches, steps=1500, lr=1e-2, ema=ema)
    nets[name] = ema.model

# %% [markdown]
# The moons are a mixture, so their exact score is known at every level. The error is the mean squared distance from it, as a share of that score's mean square: the answer 0 would get 1.

# %%
centres, std = toys.toy_centres("moons")
errors = {name: [] for name in nets}
for k, level in enumerate(four.tolist(), start=1):
    noisy = dc.mixture(centres, std**2 + level**2)
    x = noisy.sample(4000, generator=rng).float()
    exact = noisy.score(x)
    for name, network in nets.items():
        with torch.no_grad():
            off = score_of(network, torch.full((4000,), k))(x) - exact
        errors[name].append((off.square().sum() / exact.square().sum()).item())

# %% [markdown]
# One curve for each loss:

# %%
fig, (ax,) = lab.figure(width=6.5, height=3.4)
for (name, values), colour, mark in zip(
    errors.items(), (lab.BLUE, lab.ORANGE, lab.GREEN), "osD", strict=True
):
    ax.loglog(four, values, marker=mark, color=colour, label=name)
ax.axhline(0.05, color=lab.BLACK, ls=":", label="a twentieth")
ax.set(xlabel="noise level", ylabel="error, share of the score")
ax.legend()
lab.show(fig, "The error of three learned scores against the exact one, at four noise levels.")
for name, values in errors.items():
    lab.claim(
        f"{name}: largest error at the levels 0.3 and 1",
        max(values[2:]),
        at_most=0.05,
        history=histories[name],
    )

# %% [markdown]
# At the smallest level implicit matching is best, and none is good. Denoising is worse, for its targets are nearly pure noise. At the largest level they scatter least, and it wins.

# %%
for where, i, bound in (("smallest", 0, {"above": 1}), ("largest", 3, {"below": 1})):
    lab.claim(
        f"denoising's error at the {where} level, as a multiple of the implicit one's",
        errors["denoising"][i] / errors["implicit"][i],
        history=histories["denoising"],
        **bound,
    )

# %% [markdown]
# Why is denoising the one in use, then? It needs no trace: one backward pass is enough in any number of dimensions, and any network will do. And at nine of ten steps of lesson 05 the noise level is above 0.3, where it does well.
#
# ## 7. What breaks
#
# **Data that end at a wall.** Let the data be uniform on $[-1, 1]$: the density is ½ inside, and 0 outside. Inside it is flat, so the true score is 0. Take the models $s(x) = -m\,x^m$ with odd $m$, all of them wrong, and more wrong with each $m$. What will the implicit loss say?

# %%
line = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
powers = [1, 3, 9, 27]
wall = {"explicit": [], "implicit": [], "at the walls": []}
for m in powers:
    s, trace = dc.exact_trace(lambda x, m=m: -m * x**m, line)
    half = s[:, 0].square() / 2  # the true score is 0
    wall["explicit"].append(torch.trapezoid(half / 2, line[:, 0]).item())
    wall["implicit"].append(torch.trapezoid((half + trace) / 2, line[:, 0]).item())
    wall["at the walls"].append((s[-1, 0] - s[0, 0]).item() / 2)  # [s p]
    print(f"m = {m:2}: " + ", ".join(f"{name} {v[-1]:.4f}" for name, v in wall.items()))

# %%
fig, axes = lab.figure(2, width=9.5, height=3.2)
for m in powers:
    axes[0].plot(line[:, 0], -m * line[:, 0] ** m, label=f"m = {m}")
axes[0].set(xlabel="x", ylabel="model (cut at 10)", ylim=(-10, 10), xticks=[-1, -0.5, 0, 0.5, 1])
axes[1].plot(powers, wall["explicit"], color=lab.BLACK, ls=":", marker="s", label="explicit")
axes[1].plot(powers, wall["implicit"], color=lab.BLUE, marker="o", label="implicit")
axes[1].set(xlabel="m", ylabel="loss")
for ax in axes:
    ax.legend()
lab.show(
    fig, "The steeper a model falls at the walls, the worse it is, and the lower its implicit loss."
)

# %% [markdown]
# It rewards the mistake. At the walls $s\,p$ is not 0, so the bracket $[s\,p]$ of section 2 stays: implicit = explicit + what stands in the last column (the constant is 0 here). The loss has no lowest value; a network would build cliffs at the walls. No error is raised. Sliced matching has the same mean, and fails, too. Denoising does not: a mean of squares is never below 0, and noisy data have no walls. But it learns the noisy data's score, large near $\pm1$.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a kink in the network
#
# A network with ReLU has slopes that jump. Its trace is right nearly everywhere, but autograd does not see that a weight *moves* the jump. Take $s_b(x) = \max(0, x + b)$ and data N(0, 1). Then $\mathbb E[s_b'] = P(x > -b)$ grows with $b$; its slope is the density at $-b$. Autograd says 0. So training goes astray, and the loss itself is right. Where a network gives one number, $\log f$, and the score is its slope, ReLU is worse still: the trace is 0 nearly everywhere. Implicit and sliced matching need smooth activations, such as SiLU. For denoising ReLU is fine.

# %%
b = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
x = torch.randn(20_000, 1, generator=rng.manual_seed(8), dtype=torch.float64)
trace = dc.exact_trace(lambda x: torch.relu(x + b), x).trace.mean()
(by_autograd,) = torch.autograd.grad(trace, b, allow_unused=True, materialize_grads=True)
shares = [(x > -(0.5 + h)).double().mean() for h in (0.1, -0.1)]
density_there = math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi)
print(f"mean trace {trace:.4f}; its slope with respect to b: by autograd {by_autograd:.4f},")
print(f"by a difference {(shares[0] - shares[1]) / 0.2:.4f}, true {density_there:.4f}")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the same twenty points for ever
#
# All our losses saw fresh points in each step. With twenty points, used again and again, the implicit loss has no lowest value either. The models below are scores of twenty narrow bells, one on each point.

# %%
twenty = two.sample(20, generator=rng.manual_seed(9))
fresh = two.sample(2000, generator=rng)
for width in (0.5, 0.1, 0.02):
    model = dc.mixture(twenty, width**2).score
    seen, new = dc.implicit_loss(model, twenty), dc.implicit_loss(model, fresh)
    print(f"width {width}: on the same points {seen:10.4f}, on fresh ones {new:12.4f}")

# %% [markdown]
# The narrower the bells, the lower the loss on the points that it has seen, without end. On fresh points it explodes. So look at the implicit loss on data that training never sees.

# %% [markdown]
# ## 8. Exercises
#
# **Exercise 1. At the walls.** Data are uniform on $[l, h]$. A model takes the values `s_low` at $l$ and `s_high` at $h$. By how much is its implicit loss larger than its explicit one? Write `wall_term(s_low, s_high, low, high)`; all have shape (B,), one number for each of B cases.


# %%
# STARTER
def wall_term(s_low, s_high, low, high):
    return None  # your lines here


# SOLUTION
def wall_term(s_low, s_high, low, high):
    return (s_high - s_low) / (high - low)  # s p at the upper wall, less s p at the lower


# %%
# lab.hint("07.1")
lab.check("07.1", wall_term)

# %% [markdown]
# **Exercise 2. One pass.** Write `trace_estimate(model, x, v)`: $v^{\mathsf T} J v$ for each example, with one call of `torch.autograd.grad`. `x`, `v` and `model(x)` have shape (B, D), the answer (B,). The weights of the model must get gradients through it, so pass `create_graph=True`.


# %%
# STARTER
def trace_estimate(model, x, v):
    x = x.clone().requires_grad_()
    return None  # your lines here


# SOLUTION
def trace_estimate(model, x, v):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((model(x) * v).sum(), x, create_graph=True)
    return (slope * v).sum(1)


# %%
# lab.hint("07.2")
lab.check("07.2", trace_estimate)

# %% [markdown]
# **Exercise 3. Predict the number.** The data are N(0, 1), and $\sigma = \tfrac12$. What is the lowest value that the denoising loss $\tfrac12\mathbb E|s + \epsilon/\sigma|^2$ can have? Four digits are enough.

# %%
# STARTER
lowest = None  # your number here
# SOLUTION
lowest = (1 / 0.5**2 - 1 / (1 + 0.5**2)) / 2  # (27), with s the score of N(0, 1 + sigma^2)

# %%
# lab.hint("07.3")
lab.check("07.3", lowest)

# %% [markdown]
# **Exercise 4. A score of your own** (a quarter of an hour). First the loss: `my_loss(net, x0, eps, noise_level)` returns $\tfrac12|s + \epsilon/\sigma|^2$, summed over coordinates, a mean over the batch, with the given noise `eps` (B, D), one number `noise_level`, and `net(x)` as the score.


# %%
# STARTER
def my_loss(net, x0, eps, noise_level):
    return None  # your lines here


# SOLUTION
def my_loss(net, x0, eps, noise_level):
    off = net(x0 + noise_level * eps) + eps / noise_level
    return off.square().sum(1).mean() / 2


# %%
# lab.hint("07.4")
lab.check("07.4", my_loss)

# %% [markdown]
# Then your data and network. Put the points where you like: your initials, a face. Try other layers, ReLU, another noise level. The cells below train, and draw your score beside the exact one.

# %%
my_points = [(-2.0, 1.0), (-1.5, -0.2), (-1.0, -1.2), (-0.5, -0.2), (0.0, 0.6)]
my_points += [(0.5, -0.2), (1.0, -1.2), (1.5, -0.2), (2.0, 1.0)]
my_level = 0.3
layers = [nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)]
my_net = nn.Sequential(*layers)
mine = dc.mixture(torch.tensor(my_points, dtype=torch.float64), 0.1**2)
exact = dc.mixture(mine.means, 0.1**2 + my_level**2).score


def noisy_loss(net, x0):
    """Your loss, with fresh noise."""
    return my_loss(net, x0, torch.randn(x0.shape, generator=rng), my_level)


written = noisy_loss(my_net, start) is not None
if written:
    batches = (mine.sample(256, generator=rng).float() for _ in range(2000))
    my_history = dc.train(my_net, noisy_loss, batches, steps=2000, lr=1e-2)

# %%
fig, axes = lab.figure(2, width=10, height=4.6, sharey=True)
fields = {"exact": exact, "yours": my_net} if written else {"exact": exact}
for ax, (name, field) in zip(axes, fields.items(), strict=False):
    with torch.no_grad():
        way = torch.stack(climb(field, start, 80))
    lab.draw_points(ax, mine.sample(500, generator=rng), color=lab.ORANGE)
    ax.quiver(*places.T, *field(places).detach().T, width=0.004, scale=160, alpha=0.45)
    ax.plot(*way.permute(2, 0, 1), color=lab.BLUE, lw=0.5, ls="-", alpha=0.6)
    lab.draw_points(ax, way[-1], title=name).set_markersize(3.5)
if not written:
    axes[1].axis("off")
    axes[1].text(0, 0, "yours, once exercise 4 is written", ha="center")
    axes[1].set_xlim(-3, 3)
lab.show(fig, "Points follow the exact score of your data, and beside it the one that you learned.")

# %% [markdown]
# How far is it from the exact one, where the noisy points are?

# %%
if written:
    x = mine.sample(4000, generator=rng).float() + my_level * torch.randn(4000, 2, generator=rng)
    with torch.no_grad():
        off = (my_net(x) - exact(x)).square().sum() / exact(x).square().sum()
    if my_level >= 0.3:
        what = "error of your score, share of the exact one"
        lab.claim(what, off, at_most=0.15, history=my_history)
    else:
        print("Below 0.3 the targets scatter so much that 2000 steps may be too few: no claim.")

# %% [markdown]
# Far from all data nothing taught your network. So one noise level is not enough to draw new points with a score.
#
# ## 9. Summary
#
# 1. The score is the slope of the log density; it needs no normalising constant.
# 2. Implicit matching trades the unknown score for a trace, where $s\,p$ vanishes at the edge.
# 3. Sliced matching estimates the trace with one random probe; equal quality may need many.
# 4. Denoising needs no trace: the mean of $-\epsilon/\sigma$ is the score of the noisy data. Less noise means less bias and a noisier gradient.
# 5. Noise prediction is denoising matching with the weight $\sigma^2$: $s = -\hat\epsilon/\sigma$ at $x_0 + \sigma\epsilon$.
#
# | equation | function |
# |---|---|
# | (24) score of a mixture | `Mixture.score` |
# | (25) implicit matching | `explicit_loss`, `implicit_loss`, `exact_trace` |
# | (26) one probe | `hutchinson_trace`, `probe_variances`, `sliced_loss` |
# | (27), (29) denoising matching | `denoising_loss` |
# | (28) noise prediction | `score_model_from_eps`, `score_from_eps` |
#
# **References.** Hyvärinen, *Estimation of Non-Normalized Statistical Models by Score Matching* (2005). Vincent, *A Connection Between Score Matching and Denoising Autoencoders* (2011). Song, Garg, Shi and Ermon, *Sliced Score Matching* (2019). Hutchinson, *A Stochastic Estimator of the Trace* (1990). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020).
#
# **Next**: [08 · Can a slope and some noise draw new points?](08_langevin_ncsn.ipynb)
