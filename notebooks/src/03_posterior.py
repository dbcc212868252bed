# %% [markdown]
# # 03 · Why is the way back out of reach, and what is within reach?
#
# Lesson 02 turned data into noise, step by step. A diffusion model walks these steps in reverse. This lesson asks what one step back looks like. Nothing is learned here.
#
# **At the end you can**
# - say why the step back needs the whole data set, and why it does not once the clean data is known;
# - derive the step back for known clean data, check it in three ways, and write it in code;
# - say why small steps back are nearly Gaussian, and where they never are;
# - write the mean of the step back by the noise, which is the form that a network learns.
#
# **You need** lesson 02. **Time**: about 105 minutes.

# %%
import math
import warnings

import torch

import diffusion_core as dc
import diffusion_lab as lab

warnings.simplefilter("ignore", dc.PriorGapWarning)  # some schedules here stop early, on purpose
rng = torch.Generator().manual_seed(0)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## 1. The picture first
#
# What we need from lesson 02: one step is $q(x_t \mid x_{t-1}) = N(\sqrt{\alpha_t}\,x_{t-1},\ \beta_t)$ with $\alpha_t = 1-\beta_t$. All $t$ steps at once are $q(x_t \mid x_0) = N(\sqrt{\bar\alpha_t}\,x_0,\ 1-\bar\alpha_t)$ with $\bar\alpha_t = \alpha_1\cdots\alpha_t$. Here all data are points on a line, so $x_t$ is one number. Our schedule has only 20 steps. Each step is large, so that there is something to see.
#
# We are at $x_3 = 0.1$. **Where were we at $t = 2$?** Ask by experiment. Draw very many $x_0$ from the data, walk each to $x_2$ and one step on to $x_3$, and keep the walks that arrive near 0.1. The $x_2$ of these walks are the answer.
#
# We do so for two data sets, A and B. Each is a short list of points, all equally likely. One point, 1, is in both.

# %%
schedule = dc.vp_schedule(20)
data_sets = {"A": torch.tensor([-1.0, 1.0]), "B": torch.tensor([-1.2, -0.2, 0.4, 1.0])}
walks = {}
for name, points in data_sets.items():
    x0 = points[torch.randint(len(points), (1_000_000,), generator=rng)]
    x_2 = dc.q_sample(schedule, x0, 2, generator=rng)
    x_3 = dc.q_step(schedule, x_2, 3).sample(generator=rng)
    walks[name] = (x0, x_2, x_3)

# %% [markdown]
# On the left are some walks of data set B. The other two pictures show the $x_2$ of the walks whose $x_3$ lies within 0.02 of 0.1: first of all of them, then only of those that started at $x_0 = 1$.

# %%
fig, axes = lab.figure(3, width=12, height=3.4)
axes[0].plot(x_3[:4000], x_2[:4000], "o", ms=2, mew=0, color=lab.SKY)
axes[0].axvline(0.1, color=lab.BLACK, ls=":")
axes[0].set(xlabel="x_3", ylabel="x_2", title="4 000 walks, data set B; dotted: x_3 = 0.1")
kept = {}
for (name, (x0, x_2, x_3)), line in zip(walks.items(), ("-", "--"), strict=True):
    near = (x_3 - 0.1).abs() < 0.02
    kept[name] = x_2[near]
    for ax, part in zip(axes[1:], (near, near & (x0 == 1)), strict=True):
        ax.hist(
            x_2[part], 40, range=(-1.5, 1.5), density=True, histtype="step", ls=line, label=name
        )
for ax, title in zip(axes[1:], ("x_2, of any x_0", "x_2, only of x_0 = 1"), strict=True):
    ax.set(xlabel="x_2", ylabel="density", title=title, xlim=(-1.5, 1.5))
    ax.legend(title="data set")
lab.show(
    fig, "Where walks near x_3 = 0.1 were at t = 2: it depends on the data, unless x_0 is known."
)

# %% [markdown]
# Three things to see, and the rest of the lesson explains them:
# - In the middle, the answer for data set A has two humps: it is no Gaussian. And it differs between the data sets.
# - On the right only the walks that started at $x_0 = 1$ are kept. Now the answer has one hump, and it is **the same for both data sets**. Once $x_0$ is known, the other points do not matter.
# - Each curve in the middle is a sum of such single humps, one for each data point, some large and some small. The four of B lie so close that they run into one.
#
# ## 2. Bayes' rule: the step back needs all the data
#
# What we are looking for is $q(x_{t-1}\mid x_t)$: the density of $x_{t-1}$ among all walks that arrive at this $x_t$. Write the density of the pair $(x_{t-1}, x_t)$ in two ways, once going forward and once going back:
#
# $$q(x_t\mid x_{t-1})\;q(x_{t-1}) = q(x_{t-1}, x_t) = q(x_{t-1}\mid x_t)\;q(x_t).$$
#
# Divide by $q(x_t)$. This is **Bayes' rule**:
#
# $$q(x_{t-1}\mid x_t) = \frac{q(x_t\mid x_{t-1})\;q(x_{t-1})}{q(x_t)}.$$
#
# - $q(x_t\mid x_{t-1})$ is one step of the chain. It is known. Here $x_t$ is fixed and $x_{t-1}$ varies; read that way it is called the **likelihood**.
# - $q(x_{t-1})$, the **prior**, says where walks are at $t-1$, from all data, before we look at $x_t$.
# - $q(x_t)$ does not contain $x_{t-1}$. It is the one number that makes the area under the curve 1.
# - The result, $q(x_{t-1}\mid x_t)$, is called a **posterior**: what we know after looking.
#
# The prior is the problem. A walk is at $x_{t-1}$ because it started at *some* data point. For a data set of $N$ equally likely points $x^{(1)}, \dots, x^{(N)}$, the prior is the average over all of them:
#
# $$q(x_{t-1}) = \frac1N\sum_{i=1}^{N} q\big(x_{t-1}\mid x_0 = x^{(i)}\big).$$
#
# For each step back we would have to touch every picture of the data set. Worse, we do not want the pictures in the list, but all pictures of that kind, and nobody has a list of those. **This is why the way back is out of reach.**
#
# For four points we can do it. First the density of a Gaussian, from scratch:


# %%
def bell(x, mean, var):
    """The density of N(mean, var) at x; var is a variance."""
    return torch.exp(-((x - mean) ** 2) / (2 * var)) / torch.sqrt(2 * math.pi * var)


# %% [markdown]
# And Bayes' rule on a fine grid of places for $x_{t-1}$. The area under a curve on a grid is the sum of its values times the step of the grid; `torch.trapezoid` computes it. We take $t \ge 2$: at $t = 1$ the prior is the points themselves and has no density.

# %%
grid = torch.linspace(-8, 8, 6401)


def bayes_on_grid(points, x_t, t):
    """Return prior, likelihood and their product on the grid of x_{t-1}; all points are needed."""
    keep = schedule.alpha_bars[t - 1]
    prior = bell(grid[:, None], keep.sqrt() * points, 1 - keep).mean(1)
    likelihood = bell(x_t, schedule.alphas[t].sqrt() * grid, schedule.betas[t])
    return prior, likelihood, likelihood * prior


# %% [markdown]
# Bayes' rule makes a claim that we can check: the area under the product must be $q(x_t)$, the density of arriving at $x_t$ from all data in $t$ steps. The package knows $q(x_t)$ without going through $t-1$: the data are a mixture of points (lesson 02), and `dc.diffuse` takes it to step $t$ at once.

# %%
for t in range(2, 21):
    for points in data_sets.values():
        for x_t in torch.tensor([-1.3, 0.1, 2.0]):
            *_, product = bayes_on_grid(points, x_t, t)
            arriving = dc.diffuse(schedule, dc.mixture(points[:, None]), t)
            expected = arriving.log_prob(x_t.view(1, 1)).exp()[0]
            area = torch.trapezoid(product, grid)
            torch.testing.assert_close(area, expected, rtol=1e-10, atol=0)
print("the area under likelihood times prior is q(x_t), for every t from 2 to 20")

# %% [markdown]
# Now the picture for $x_3 = 0.1$. The bars are the walks of section 1; no walk was used for the curves.

# %%
fig, axes = lab.figure(2, width=11, height=3.4, sharey=True)
reverse = {}
for ax, (name, points) in zip(axes, data_sets.items(), strict=True):
    prior, likelihood, product = bayes_on_grid(points, 0.1, 3)
    reverse[name] = product / torch.trapezoid(product, grid)
    ax.hist(
        kept[name], 40, range=(-1.5, 1.5), density=True, color=lab.SKY, alpha=0.5, label="walks"
    )
    ax.plot(grid, prior, label="prior q(x_2)", ls="--")
    ax.plot(grid, likelihood, label="likelihood q(x_3 | x_2)", ls=":")
    ax.plot(grid, reverse[name], label="q(x_2 | x_3)", color=lab.BLACK, ls="-")
    ax.set(xlabel="x_2", ylabel="density", title=f"data set {name}, x_3 = 0.1", xlim=(-2, 2))
axes[1].legend(fontsize="small", loc="upper right")
lab.show(
    fig, "Prior, likelihood and q(x_2 | x_3) for two data sets: the walks follow the exact curve."
)

apart = torch.trapezoid((reverse["A"] - reverse["B"]).abs(), grid) / 2
print(f"share of the two answers that differs: {apart:.4f}")
assert apart > 0.1

# %% [markdown]
# The printed share is half the area between the two black curves: 0 for equal curves, 1 for curves that do not overlap. The data sets differ, so the answers differ.
#
# ## 3. Bayes' rule again, with the clean data known
#
# Now let $x_0$ be known. Write the density of the pair in two ways again, this time everything given $x_0$:
#
# $$q(x_t\mid x_{t-1}, x_0)\;q(x_{t-1}\mid x_0) = q(x_{t-1}\mid x_t, x_0)\;q(x_t\mid x_0).$$
#
# One simplification. A step looks only at the state before (the chain is a Markov chain), so once $x_{t-1}$ is given, $x_0$ adds nothing: $q(x_t\mid x_{t-1}, x_0) = q(x_t\mid x_{t-1})$. Divide:
#
# $$q(x_{t-1}\mid x_t, x_0) = \frac{q(x_t\mid x_{t-1})\;q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}, \qquad t \ge 2. \tag{7}$$
#
# The prior is now $q(x_{t-1}\mid x_0)$. All three densities on the right are Gaussians of lesson 02. The data set is gone. **This is what is within reach.**
#
# Why $t \ge 2$? At $t = 1$ the state $x_{t-1}$ is $x_0$ itself. When $x_0$ is known there is nothing left to ask: $x_{t-1}$ is $x_0$ with certainty, a **point mass**. It has variance 0 and no density, so (7) cannot be written down for it.
#
# The next cell computes the right side of (7) as it stands. If (7) holds, it is a density in $x_{t-1}$, so its area is 1. Nothing is rescaled.


# %%
def ratio_on_grid(x_t, x0, t):
    """The right side of (7) on the grid of x_{t-1}."""
    before, now = schedule.alpha_bars[t - 1], schedule.alpha_bars[t]
    step = bell(x_t, schedule.alphas[t].sqrt() * grid, schedule.betas[t])
    prior = bell(grid, before.sqrt() * x0, 1 - before)
    return step * prior / bell(x_t, now.sqrt() * x0, 1 - now)


for t in range(2, 21):
    for x_t, x0 in ((0.1, 1.0), (-1.0, 1.0), (1.5, -1.2)):
        area = torch.trapezoid(ratio_on_grid(x_t, x0, t), grid)
        torch.testing.assert_close(area, torch.tensor(1.0), rtol=1e-10, atol=0)
print("the right side of (7) has area 1, for every t from 2 to 20")

# %% [markdown]
# ## 4. The formula: completing the square
#
# What kind of curve is (7)? We look at the exponents. A Gaussian in $x$ with mean $m$ and variance $v$ has the exponent $-\tfrac12\,(x-m)^2/v$. Write $x$ for $x_{t-1}$. The denominator of (7) does not contain $x$, so it only sets the height. The numerator has the exponent
#
# $$-\frac12\bigg[\frac{(x_t-\sqrt{\alpha_t}\,x)^2}{\beta_t} + \frac{(x-\sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\bigg].$$
#
# **Expand**, and sort by powers of $x$. What has no $x$ goes into a constant $C$:
#
# $$-\frac12\bigg[P\,x^2 - 2H\,x + C\bigg],\qquad P = \frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}},\qquad H = \frac{\sqrt{\alpha_t}}{\beta_t}\,x_t+\frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}\,x_0.$$
#
# **Complete the square**: $P\,x^2 - 2H\,x = P\,(x - H/P)^2 - H^2/P$. The last term has no $x$. What is left is the exponent of a Gaussian with mean $H/P$ and variance $1/P$. So the step back is a Gaussian once $x_0$ is known; the area 1 fixes its height.
#
# **The variance** is $1/P$. Bring the two fractions of $P$ to one denominator:
#
# $$P = \frac{\alpha_t\,(1-\bar\alpha_{t-1})+\beta_t}{\beta_t\,(1-\bar\alpha_{t-1})} = \frac{1-\bar\alpha_t}{\beta_t\,(1-\bar\alpha_{t-1})},$$
#
# for $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$, and $\alpha_t + \beta_t = 1$.
#
# **The mean** is $H/P$: multiply each term of $H$ by $1/P$. In the first, $\beta_t$ cancels; in the second, $1-\bar\alpha_{t-1}$ does. The mean is written $\tilde\mu_t$ ("mu tilde"), the variance $\tilde\beta_t$ ("beta tilde"):
#
# $$q(x_{t-1}\mid x_t, x_0) = N\big(\tilde\mu_t,\ \tilde\beta_t\big),\quad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,\quad
# \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t. \tag{8}$$
#
# For pictures, (8) holds for each coordinate by itself: once $x_0$ is known, each has only its own noise.
#
# In words: the inverse of a variance is called a **precision**. The prior has the precision $1/(1-\bar\alpha_{t-1})$ and the mean $\sqrt{\bar\alpha_{t-1}}\,x_0$. The likelihood, as a curve in $x$, is a bell too: $(x_t-\sqrt{\alpha_t}\,x)^2/\beta_t = (x - x_t/\sqrt{\alpha_t})^2\,\alpha_t/\beta_t$, so its precision is $\alpha_t/\beta_t$ and its centre $x_t/\sqrt{\alpha_t}$. Now look at $P$ and $H$ again. The precision of the posterior is $P$, the sum of the two. Its mean $H/P$ is the average of the two centres, each weighted by its precision.
#
# ### The same by computer algebra
#
# `sympy` calculates with letters. It gets the exponent and nothing else, expands it, and reads $P$ and $H$ off the factors of $x^2$ and $x$, which are $-P/2$ and $H$.

# %%
import sympy

x, x_t, x0 = sympy.symbols("x x_t x_0", real=True)
alpha, bar_before = sympy.symbols("alpha alpha_bar_before", positive=True)
beta, bar = 1 - alpha, alpha * bar_before
exponent = -sympy.Rational(1, 2) * (
    (x_t - sympy.sqrt(alpha) * x) ** 2 / beta
    + (x - sympy.sqrt(bar_before) * x0) ** 2 / (1 - bar_before)
)
square, linear, _ = sympy.Poly(sympy.expand(exponent), x).all_coeffs()
P, H = -2 * square, linear
mean_10 = (sympy.sqrt(bar_before) * beta * x0 + sympy.sqrt(alpha) * (1 - bar_before) * x_t) / (
    1 - bar
)
var_10 = (1 - bar_before) / (1 - bar) * beta
assert sympy.simplify(1 / P - var_10) == 0
assert sympy.simplify(H / P - mean_10) == 0
print("computer algebra: 1/P and H/P are the variance and the mean of (8)")

# %% [markdown]
# ### From scratch
#
# Now (8) in numbers. `betas[t]` is $\beta_t$, row 0 belongs to clean data, and $\bar\alpha_0 = 1$.


# %%
def posterior_by_hand(x_t, x0, betas, t):
    """Return mean and variance of q(x_{t-1} | x_t, x_0), equation (8)."""
    bar = torch.cumprod(1 - betas, 0)  # bar[t] is alpha_bar_t
    of_x0 = bar[t - 1].sqrt() * betas[t] / (1 - bar[t])
    of_x_t = (1 - betas[t]).sqrt() * (1 - bar[t - 1]) / (1 - bar[t])
    var = (1 - bar[t - 1]) / (1 - bar[t]) * betas[t]
    return of_x0 * x0 + of_x_t * x_t, var


# %% [markdown]
# ### On the grid
#
# The right side of (7) was computed in section 3, and does not know formula (8). The two curves must agree at each of the 6 401 places, for every $t \ge 2$.

# %%
for t in range(2, 21):
    for x_t, x0 in ((0.1, 1.0), (-1.0, 1.0), (1.5, -1.2)):
        mean, var = posterior_by_hand(x_t, x0, schedule.betas, t)
        torch.testing.assert_close(
            bell(grid, mean, var), ratio_on_grid(x_t, x0, t), rtol=1e-9, atol=1e-12
        )
print("formula (8) = the right side of (7) on the whole grid, for every t from 2 to 20")

# %% [markdown]
# ### By linear algebra, t = 1 included
#
# One more way, which does not use Bayes' rule at all. Two variables $a$ and $b$ are **jointly Gaussian** if both are made of the same independent Gaussian draws, each draw times a fixed factor, plus a fixed number. Their covariance is $\text{Cov}(a,b) = \mathbb E\big[(a-\mathbb E[a])(b-\mathbb E[b])\big]$. Take from $a$ the multiple $w\,b$ of $b$ with $w = \text{Cov}(a,b)/\text{Var}(b)$. What remains, $r = a - w\,b$, has $\text{Cov}(r, b) = \text{Cov}(a,b) - w\,\text{Var}(b) = 0$. And $r$ is made of the same draws, so $r$ and $b$ are jointly Gaussian, too. Jointly Gaussian variables with covariance 0 are independent: the exponent of their density has no mixed term then, so the density is a product. So knowing $b$ says nothing about $r$. Given $b$, the variable $a = w\,b + r$ is the fixed number $w\,b$ plus $r$. With $\mathbb E[r] = \mathbb E[a] - w\,\mathbb E[b]$ and $\text{Var}(r) = \text{Cov}(r, a) - w\,\text{Cov}(r, b) = \text{Cov}(r, a)$, it has the
#
# $$\text{mean}\quad \mathbb E[a] + w\,(b - \mathbb E[b]),\qquad \text{variance}\quad \text{Var}(r) = \text{Var}(a) - w\,\text{Cov}(a,b).$$
#
# For us $a$ is $x_{t-1}$ and $b$ is $x_t$, with $x_0$ a fixed number. The chain is a list of instructions: $x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,z_t$ with fresh noise $z_t \sim N(0, 1)$. So each $x_t$ is a multiple of $x_0$ plus a combination of $z_1, \dots, z_t$, and row $t$ of the matrix `L` holds the factors of these draws (`of_start[t]` is the factor of $x_0$). The noises are independent with variance 1, so the covariances of all states are $L L^\top$.

# %%
L, of_start = torch.zeros(21, 21), torch.ones(21)
for t in range(1, 21):
    L[t] = schedule.alphas[t].sqrt() * L[t - 1]
    L[t, t] = schedule.betas[t].sqrt()
    of_start[t] = schedule.alphas[t].sqrt() * of_start[t - 1]
cov = L @ L.T

x_t, x0 = -0.4, 0.7
for t in range(1, 21):
    w = cov[t - 1, t] / cov[t, t]
    mean = of_start[t - 1] * x0 + w * (x_t - of_start[t] * x0)
    var = cov[t - 1, t - 1] - w * cov[t - 1, t]
    by_hand = posterior_by_hand(x_t, x0, schedule.betas, t)
    torch.testing.assert_close(by_hand, (mean, var), rtol=1e-10, atol=1e-12)
print("formula (8) = conditioning the joint Gaussian, for every t from 1 to 20")
print(
    "at t = 1: mean {:.4f}, variance {:.4f}".format(*posterior_by_hand(x_t, x0, schedule.betas, 1))
)

# %% [markdown]
# At $t = 1$ the formula gives the point mass by itself: with $\bar\alpha_0 = 1$ and $1-\bar\alpha_1 = \beta_1$ the weight of $x_0$ is 1, that of $x_t$ is 0, and the variance is 0.
#
# ## 5. The package's version
#
# `q_posterior` returns a `Gaussian`, a pair of mean and variance. Its tables hold $1-\bar\alpha_t$ in `marginal_vars`, summed step by step instead of taken as a difference (lesson 02), and $\tilde\beta_t$ in `posterior_vars`. The weights that (8) gives to $x_0$ and to $x_t$ stand in `posterior_factors`, two numbers for each $t$. They are made once for a schedule; `factors` takes those of $t$, and `combine(a, x, b, y)` is $a x + b y$.

# %%
lab.show_source(dc.q_posterior)

# %% [markdown]
# The version from scratch takes differences of numbers near 1, so it loses a few digits on a long schedule. To nine digits both agree, for every $t$ of 1 000.

# %%
long = dc.vp_schedule(1000)
x_t, x0 = torch.randn(2, 5, generator=rng)
for t in range(1, 1001):
    mean, var = posterior_by_hand(x_t, x0, long.betas, t)
    package = dc.q_posterior(long, x_t, x0, t)
    torch.testing.assert_close(mean, package.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(var.view(1), package.var, rtol=1e-9, atol=1e-12)
print("from scratch and by the package: the same numbers")

# %% [markdown]
# ## 6. Predict, then run
#
# The mean (8) is a weighted sum of $x_0$ and $x_t$. Before you run the cell, write down for the schedule of 1 000 steps:
# - Which of the two has the larger weight at $t = 1\,000$: the clean data that we want, or the noisy state that we have?
# - Going back from 1 000, at which $t$ does $x_0$ first have the larger weight: about 500, about 50, or 2?

# %%
# the mean at x_0 = 1 and x_t = 0 is the weight of x_0; at x_0 = 0 and x_t = 1, that of x_t
of_x0 = [dc.q_posterior(long, torch.zeros(1), torch.ones(1), t).mean for t in range(1, 1001)]
of_x_t = [dc.q_posterior(long, torch.ones(1), torch.zeros(1), t).mean for t in range(1, 1001)]
larger = sum(a > b for a, b in zip(of_x0, of_x_t, strict=True)).item()
print(f"weights at t = 1000: x_0 {of_x0[-1].item():.6f}, x_t {of_x_t[-1].item():.6f}")
print(f"weights at t = 1:    x_0 {of_x0[0].item():.6f}, x_t {of_x_t[0].item():.6f}")
print(f"x_0 has the larger weight for t = 1 to {larger}")
assert all(a > b for a, b in zip(of_x0[:larger], of_x_t[:larger], strict=True))

fig, (left, right) = lab.figure(2, width=10, height=3)
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
# Nearly everywhere the step back stays close to where we are: it leans towards $x_0$ only a little. A step is small, so it cannot change much. Only in the last two steps $x_0$ takes over. The variance takes longer: from about $t = 100$ down, $\tilde\beta_t$ falls away from $\beta_t$, and at $t = 1$ it is 0.
#
# ## 7. Move it yourself
#
# The prior is $q(x_{t-1}\mid x_0)$: it says where $x_{t-1}$ was, by $x_0$. The likelihood $q(x_t\mid x_{t-1})$ says the same by $x_t$. The posterior is their product. Each curve is drawn with its peak at 1, so compare places and widths, not heights. The triangles mark the three centres. That of the likelihood is $x_t/\sqrt{\alpha_t}$, and its variance as a curve in $x_{t-1}$ is $\beta_t/\alpha_t$ (section 4).
#
# Two sliders set the noise. The first $t-1$ steps are those of our schedule of 20 steps. The last one, from $t-1$ to $t$, has the $\beta$ that you choose. `last_step` makes this schedule.


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
# A point mass has no width. It is drawn as a hump as narrow as the grid, so that it shows as a line.


# %%
def explore_posterior(t, percent, x0_tenths, xt_tenths):
    """Draw prior, likelihood and posterior; return the sentence under the picture."""
    s = last_step(t, percent / 100)
    x0, x_t = torch.tensor([x0_tenths / 10]), torch.tensor([xt_tenths / 10])
    posterior = dc.q_posterior(s, x_t, x0, t)
    likelihood = dc.Gaussian(x_t / s.alphas[t].sqrt(), s.betas[t] / s.alphas[t])
    for curve, mark, (mean, var) in zip(
        curves, marks, (dc.q_marginal(s, x0, t - 1), likelihood, posterior), strict=True
    ):
        curve.set_ydata(torch.exp(-((axis - mean) ** 2) / (2 * var.clamp(min=1e-5))))
        mark.set_xdata(mean)
    mean, std = posterior.mean.item(), posterior.var.sqrt().item()
    words.set_text(f"posterior\nmean {mean:.3f}\nstd {std:.3f}")
    place = f"t = {t}, beta = {percent / 100:.2f}, x_0 = {x0.item():.1f}, x_t = {x_t.item():.1f}"
    return f"{place}: the posterior has mean {mean:.3f} and standard deviation {std:.3f}."


controls = {
    "t": lab.slider("t", 1, 20, 5),
    "percent": lab.slider("beta in %", 1, 90, 30),
    "x0_tenths": lab.slider("x_0, in tenths", -20, 20, 12),
    "xt_tenths": lab.slider("x_t, in tenths", -20, 20, -6),
}
lab.Explorer(fig, [*curves, *marks, words], explore_posterior, controls)

# %% [markdown]
# Try these:
# - Make $\beta$ small. The likelihood becomes narrow and wins: the posterior sits at $x_t$. Make it large, and the likelihood is flat: a large step tells little about where it came from, and the prior wins.
# - Set $t$ to 1. Prior and posterior are the line at $x_0$, whatever $x_t$ says.
# - Drag $x_t$. The posterior moves, but its width stays the same: $\tilde\beta_t$ contains neither $x_t$ nor $x_0$. And it is never wider than either of the other two curves, for precisions add.
#
# ## 8. Both together: an average over the clean data
#
# How do the two step-backs hang together, the one without $x_0$ (several humps) and the one with $x_0$ (one Gaussian)? Sort the walks that arrive at $x_t$ by where they started. Among them, the share of those that started at $x_0$ is $q(x_0\mid x_t)$, and the $x_{t-1}$ of these have the density $q(x_{t-1}\mid x_t, x_0)$. All walks together:
#
# $$q(x_{t-1}\mid x_t) = \sum_{i=1}^{N} q\big(x_0 = x^{(i)}\mid x_t\big)\; q\big(x_{t-1}\mid x_t,\ x_0 = x^{(i)}\big). \tag{9}$$
#
# (For data that is not a list of points, the sum becomes an integral over $x_0$.) The shares follow from Bayes' rule once more. All points are equally likely, so the share of a point is proportional to how well it explains $x_t$:
#
# $$q\big(x_0 = x^{(i)}\mid x_t\big) = \frac{q\big(x_t\mid x_0 = x^{(i)}\big)}{\sum_j q\big(x_t\mid x_0 = x^{(j)}\big)}.$$
#
# The shares are where the whole data set comes in: each point must be compared with all the others. Everything else in (9) is formula (8). The next cell adds up (9), and compares it with section 2, where $q(x_{t-1}\mid x_t)$ was made from likelihood and prior, without (8).

# %%
for t in range(2, 21):
    for points in data_sets.values():
        for x_t in torch.tensor([-1.3, 0.1, 2.0]):
            explains = dc.q_marginal(schedule, points, t).log_prob(x_t.expand_as(points))
            shares = explains.softmax(0)  # exp, divided by the sum
            each = dc.q_posterior(schedule, x_t.expand_as(points), points, t)
            summed = (shares * bell(grid[:, None], each.mean, each.var)).sum(1)
            *_, product = bayes_on_grid(points, x_t, t)
            bayes = product / torch.trapezoid(product, grid)
            torch.testing.assert_close(summed, bayes, rtol=1e-9, atol=1e-12)
print("(9) = Bayes' rule with the whole data set, on the grid, for every t from 2 to 20")

# %% [markdown]
# The package has this as `mixture_reverse(schedule, data, x_t, t)`. `data` is a mixture of Gaussians; points are a mixture of variance 0. `x_t` is a single state, of shape (D,), here (1,). The result is a mixture again: each data point's posterior, weighted by its share.

# %%
mixtures = {name: dc.mixture(points[:, None]) for name, points in data_sets.items()}
back = dc.mixture_reverse(schedule, mixtures["B"], torch.tensor([0.1]), 3)
torch.testing.assert_close(back.log_prob(grid[:, None]).exp(), reverse["B"], rtol=1e-9, atol=1e-12)
print("data point   share   mean of its hump")
for point, share, mean in zip(data_sets["B"], back.weights, back.means[:, 0], strict=True):
    print(f"{point:10.1f}   {share:.4f}   {mean:.4f}")

# %% [markdown]
# Now with sliders. The black curve is $q(x_{t-1}\mid x_t)$, the pale ones are the terms of the sum (9). The dashed curve is the Gaussian with the same mean and the same variance as the black one. All are divided by the peak of the black curve. The sentence below the picture says which share of the two differs, as in section 2. At $t = 1$ the terms are points, drawn as narrow humps.
#
# The mean of a mixture is the weighted mean of its means. Its variance has two parts: the weighted mean of the variances, and the spread of the means.


# %%
def nearest_gaussian(parts):
    """The Gaussian with the mean and the variance of a mixture in 1-D."""
    mean = parts.weights @ parts.means[:, 0]
    var = parts.weights @ (parts.vars + (parts.means[:, 0] - mean) ** 2)
    return dc.Gaussian(mean, var)


fig, (ax,) = lab.figure(width=10, height=3.8)
terms = [ax.plot(axis, 0 * axis, color=lab.SKY, ls="-", lw=3)[0] for _ in range(4)]
terms[0].set_label("terms of (9)")
(whole,) = ax.plot(axis, 0 * axis, color=lab.BLACK, ls="-", label="q(x_prev | x_t)")
(smooth,) = ax.plot(axis, 0 * axis, color=lab.RED, ls="--", label="Gaussian, same mean and var")
(place,) = ax.plot([0], [0.02], "^", color=lab.GREEN, ls="none", label="x_t")
ax.legend(fontsize="small", loc="upper right")
labels = ax.set(xlabel="x_{t-1}", ylabel="density / peak", xlim=(-3, 3), ylim=(0, 1.3))

# %% [markdown]
# With data set A, start at a large $\beta$, and make it smaller. Then take data set B: at a large $\beta$ its four terms can be told apart, and at a small one they merge.


# %%
def explore_reverse(t, percent, xt_tenths, data):
    """Draw q(x_{t-1} | x_t), its terms and a Gaussian; return the sentence under the picture."""
    x_t = torch.tensor([xt_tenths / 10])
    parts = dc.mixture_reverse(last_step(t, percent / 100), mixtures[data], x_t, t)
    drawn = parts.weights * bell(axis[:, None], parts.means[:, 0], parts.vars.clamp(min=1e-5))
    total, peak = drawn.sum(1), drawn.sum(1).max()
    for i, term in enumerate(terms):
        term.set_ydata(drawn[:, i] / peak if i < drawn.shape[1] else 0 * axis)
    gaussian = nearest_gaussian(parts)
    whole.set_ydata(total / peak)
    near = bell(axis, gaussian.mean, gaussian.var.clamp(min=1e-5))
    smooth.set_ydata(near / peak)
    place.set_xdata(x_t)
    apart = torch.trapezoid((total - near).abs(), axis) / 2
    where = f"data {data}, t = {t}, beta = {percent / 100:.2f}, x_t = {x_t.item():.1f}"
    return f"{where}: {100 * apart:.0f} % of the curve differs from the Gaussian."


controls = {
    "t": lab.slider("t", 1, 20, 3),
    "percent": lab.slider("beta in %", 1, 90, 30),
    "xt_tenths": lab.slider("x_t, in tenths", -20, 20, 1),
    "data": lab.choice("data set", list(data_sets)),
}
lab.Explorer(fig, [*terms, whole, smooth, place], explore_reverse, controls)

# %% [markdown]
# ## 9. Small steps back are nearly Gaussian
#
# You saw it: as $\beta$ becomes small, one hump is left, and the Gaussian lies on it. This holds for any data set, as long as $t \ge 2$. It goes back to Feller (1949). It is the reason why diffusion models take many small steps: a network only has to give the mean and the variance of a Gaussian.
#
# **Why?** Take the logarithm of Bayes' rule, for fixed $x_t$:
#
# $$\log q(x_{t-1}\mid x_t) = -\frac{(x_t-\sqrt{\alpha_t}\,x_{t-1})^2}{2\beta_t} + \log q(x_{t-1}) + \text{const}.$$
#
# The first term is a parabola that opens downwards, and $e$ to the power of it is a Gaussian of width about $\sqrt{\beta_t}$. So only places within a few $\sqrt{\beta_t}$ matter. The second term does not depend on $\beta_t$. It is the logarithm of a mixture of Gaussians, a smooth curve. A smooth curve, looked at through a narrow window, is nearly a straight line, and still more nearly a parabola. The sum of two parabolas is a parabola: again a Gaussian. What is left over is the third-order term of the second curve, and it is of the size (width)³ $= \beta_t^{3/2}$.
#
# **How near?** We measure with the Kullback–Leibler divergence of lesson 02, here with the natural logarithm, so its unit is the **nat**: $\text{KL}(q\,\|\,g) = \mathbb E_q[\log q(x) - \log g(x)]$. Which Gaussian $g = N(m, v)$ is nearest? Only $-\mathbb E_q[\log g]$ depends on $m$ and $v$. It is $\tfrac12\big[\log(2\pi v) + \mathbb E_q[(x-m)^2]/v\big]$, and setting its derivatives to 0 gives $m$ and $v$ equal to the mean and the variance of $q$: the Gaussian that we drew.

# %%
spread = torch.linspace(-12, 12, 601)  # in standard deviations


def kl_to_gaussian(parts):
    """KL of a mixture in 1-D to the nearest Gaussian, in nats, as a sum over a grid."""
    gaussian = nearest_gaussian(parts)
    x = gaussian.mean + gaussian.var.sqrt() * spread
    log_q = parts.log_prob(x[:, None])
    return torch.trapezoid(log_q.exp() * (log_q - gaussian.log_prob(x)), x)


# %% [markdown]
# We keep $t-1$ steps as they are, so $\bar\alpha_{t-1}$ is fixed, and let the $\beta$ of the last step become small. For each $\beta$ the divergence depends on $x_t$; we average it over $x_t \sim q(x_t)$, again as a sum over a grid:
#
# $$\int q(x_t)\;\text{KL}\big(q(x_{t-1}\mid x_t)\ \big\|\ \text{nearest Gaussian}\big)\,dx_t \;\to\; 0 \quad\text{as}\quad \beta_t\to 0,\qquad t \ge 2. \tag{10}$$
#
# How fast? The logarithms of the two densities differ by something of the size $\beta^{3/2}$. KL is 0 at its smallest value, where they agree, so it grows with the *square* of the difference: like $\beta^3$. We expect that halving $\beta$ divides the divergence by about 8.

# %%
places = torch.linspace(-4, 4, 401)


def average_kl(points, t, beta):
    """KL to the nearest Gaussian, averaged over x_t."""
    s, data = last_step(t, beta), dc.mixture(points[:, None])
    q_t = dc.diffuse(s, data, t).log_prob(places[:, None]).exp()
    kls = [kl_to_gaussian(dc.mixture_reverse(s, data, x_t, t)) for x_t in places[:, None]]
    return torch.trapezoid(q_t * torch.stack(kls), places).item()


# %%
betas = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.0025)
fig, (ax,) = lab.figure(width=7, height=3.4)
for t, marker in ((3, "o"), (5, "s"), (8, "^")):
    kls = [average_kl(data_sets["B"], t, beta) for beta in betas]
    ax.loglog(betas, kls, marker=marker, label=f"t = {t}")
    assert kls == sorted(kls, reverse=True)
    assert 7 < kls[-2] / kls[-1] < 8.5
    print(f"t = {t}: the last halving of beta divides the divergence by {kls[-2] / kls[-1]:.2f}")
ax.loglog(betas, [2e-4 * beta**3 for beta in betas], color=lab.BLACK, ls=":", label="like beta^3")
ax.set(xlabel="beta of the last step", ylabel="average KL, nats")
ax.legend()
lab.show(fig, "The divergence from a Gaussian falls with beta, in the end like its third power.")

# %% [markdown]
# For larger $t$ the prior $q(x_{t-1})$ is smoother, so the window is narrow enough sooner.
#
# **At t = 1 never.** The argument needs a smooth $q(x_{t-1})$. At $t = 1$ the prior is $q(x_0)$, the data itself. For a list of points, $q(x_0\mid x_1)$ can only be that list again, with weights. It has no density at all, so its divergence from any Gaussian of positive variance is infinite, however small $\beta_1$ is. The cell takes $x_1 = 0.1$, halfway between two points of B.

# %%
for beta in (0.5, 0.1, 0.001):
    back = dc.mixture_reverse(last_step(1, beta), mixtures["B"], torch.tensor([0.1]), 1)
    assert (back.vars == 0).all()
    torch.testing.assert_close(back.means, data_sets["B"][:, None], rtol=1e-12, atol=0)
    weights = ", ".join(f"{w:.4f}" for w in back.weights)
    print(f"beta_1 = {beta}: the points of B, each with variance 0, with weights {weights}")

# %% [markdown]
# Halfway between two points the answer stays undecided, with any $\beta_1$. But with a small $\beta_1$ hardly any walk is ever there: nearly all have an $x_1$ close to where they started. For those, one weight is almost 1, and the answer is almost one single point. So the last step back is best made without noise: samplers return a point there (lesson 05), and the loss treats that step separately (lesson 04).
#
# ## 10. The mean by the noise
#
# The mean (8) contains $x_0$, which a sampler does not have. But it has $x_t$, and $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon$, where $\epsilon$ is the noise of all $t$ steps together. When $x_t$ is given, knowing $x_0$ and knowing $\epsilon$ are the same:
#
# $$x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\epsilon}{\sqrt{\bar\alpha_t}}.$$
#
# Put this into (8) and collect.
#
# **The factor of $x_t$.** It gets a new part from $x_0$. Since $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$, we have $\sqrt{\bar\alpha_{t-1}}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$, so
#
# $$\frac{\beta_t}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)} + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t} = \frac{\beta_t + \alpha_t - \bar\alpha_t}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)} = \frac1{\sqrt{\alpha_t}},$$
#
# for $\beta_t + \alpha_t = 1$.
#
# **The factor of $\epsilon$.** With the same quotient of roots,
#
# $$-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\cdot\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}} = -\frac{\beta_t}{\sqrt{\alpha_t}\,\sqrt{1-\bar\alpha_t}}.$$
#
# Together:
#
# $$\tilde\mu_t = \frac1{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\epsilon\Big). \tag{11}$$
#
# We check that (8) and (11) agree when $x_0$ and $\epsilon$ belong together.

# %%
x0, eps = torch.randn(2, 1000, generator=rng)
for t in range(1, 21):
    x_t = dc.q_sample(schedule, x0, t, eps)
    noise_part = schedule.betas[t] / schedule.marginal_vars[t].sqrt() * eps
    by_eps = (x_t - noise_part) / schedule.alphas[t].sqrt()
    by_x0 = dc.q_posterior(schedule, x_t, x0, t).mean
    torch.testing.assert_close(by_eps, by_x0, rtol=1e-10, atol=1e-12)
print("(11) = (8) for a thousand pairs of x_0 and eps, for every t from 1 to 20")

# %% [markdown]
# **What a network can give.** The mean (8) is a fixed multiple of $x_0$ plus something known. So when it is averaged over the unknown $x_0$ as in (9), the average just takes the place of $x_0$:
#
# $$\mathbb E[x_{t-1}\mid x_t] = \tilde\mu_t\ \text{ with }\ \mathbb E[x_0\mid x_t]\ \text{ in the place of } x_0.$$
#
# In (11) it is $\mathbb E[\epsilon\mid x_t]$ in the place of $\epsilon$. So a sampler that wants the mean of the true step back need not carry the data set along. One function of $x_t$ and $t$ is enough: the mean of $\epsilon$. A network can learn it, for the mean is the guess with the least mean squared error (section 9, the best $m$). For our small data sets `mixture_eps_model` gives it exactly, and `p_step` is the step back with a guess of $x_0$. The cell compares its mean with that of `mixture_reverse`, which uses no $\epsilon$.

# %%
seen = torch.linspace(-2, 2, 9)[:, None]
for data in mixtures.values():
    eps_model = dc.mixture_eps_model(schedule, data)
    for t in range(1, 21):
        x0_hat = dc.x0_from_eps(schedule, seen, eps_model(seen, t), t)
        guessed = dc.p_step(schedule, seen, x0_hat, t).mean
        backs = [dc.mixture_reverse(schedule, data, x_t, t) for x_t in seen]
        true = torch.stack([nearest_gaussian(back).mean for back in backs])
        torch.testing.assert_close(guessed[:, 0], true, rtol=1e-9, atol=1e-9)
print("the mean of the true step back, from one guess of eps: the same, for every t from 1 to 20")

# %% [markdown]
# The mean is right; the shape is a Gaussian only nearly, by section 9. Which variance to take is the subject of lesson 04.
#
# ## 11. What breaks
#
# At $t = 1$ the variance $\tilde\beta_1$ is 0. That is right, and it breaks code that takes the logarithm of the variance or divides by it. Here is such code: the log density of the posterior, typed from the formula of the Gaussian, for a batch of 128 examples with random $t$ from 1 to 1 000, averaged as in a training loss.

# %%
broken, with_t_1 = 0, 0
for _ in range(400):
    t = torch.randint(1, 1001, (128,), generator=rng)
    x0, eps = torch.randn(2, 128, generator=rng)
    mean, var = dc.q_posterior(long, dc.q_sample(long, x0, t, eps), x0, t)
    x_prev = mean + var.sqrt() * torch.randn(128, generator=rng)
    log_prob = -0.5 * ((x_prev - mean) ** 2 / var + torch.log(2 * math.pi * var))
    broken += int(log_prob.mean().isnan())
    with_t_1 += int((t == 1).any())
expected = 1 - (1 - 1 / 1000) ** 128
print(f"log of the variance at t = 1: {long.posterior_vars[1].log():.4f}")
print(f"batches whose mean is NaN: {broken} of 400; chance of a t = 1 in a batch: {expected:.4f}")
assert broken == with_t_1 > 0
assert abs(broken / 400 - expected) < 5 * math.sqrt(expected * (1 - expected) / 400)

# %% [markdown]
# One example with $t = 1$ is enough: it computes $0/0$, "not a number" (NaN), and the mean over the batch is NaN, too. In training, the optimizer then makes every weight NaN, and nothing brings them back. On average it happens in one batch of eight, so the first tries may look fine.
#
# A small number added to the variance would hide it: the density of a point mass would become a huge number of your choosing. The cure is to know that $t = 1$ is different. The package refuses by name:

# %%
try:
    dc.q_posterior(long, x0, x0, 1).log_prob(x0)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# ## 12. Exercises
#
# `lab.check` compares your answer with the package's. If you are stuck, take the `#` away from `lab.hint`; each run shows one more hint.
#
# **Exercise 1. Predict.** Three steps with $\beta_1 = 0.1$, $\beta_2 = 0.2$, $\beta_3 = 0.5$. What is the posterior variance $\tilde\beta_3$? Work it out on paper, to four digits or more.

# %%
# STARTER
third_variance = None  # your number here

# SOLUTION
third_variance = (1 - 0.9 * 0.8) / (1 - 0.9 * 0.8 * 0.5) * 0.5  # 0.28 / 0.64 * 0.5 = 0.21875

# %%
lab.check("03.1", third_variance)
# lab.hint("03.1")

# %% [markdown]
# **Exercise 2. Derive.** A schedule may be given by its signal-to-noise ratio $\text{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$. Write the posterior variance $\tilde\beta_t$ by $\text{SNR}_{t-1}$ and $\text{SNR}_t$ alone, and enter it as `var_from_snr(snr_before, snr)`. Both are tensors of the same shape, and so is the answer. At $t = 1$, $\text{SNR}_0$ is infinite; your function must return 0 there, not NaN.


# %%
# STARTER
def var_from_snr(snr_before, snr):
    return None  # your line here


# SOLUTION
def var_from_snr(snr_before, snr):
    return (1 - snr / snr_before) / (1 + snr_before)


# %%
lab.check("03.2", var_from_snr)
# lab.hint("03.2")

# %% [markdown]
# **Exercise 3. Find the mistakes.** A colleague has written the mean of the posterior. At $t = 1$ it should return `x0`, and it does not. That is one of two mistakes; the other shows only at $t \ge 2$:
#
# ```python
# def mended_mean(schedule, x_t, x0, t):
#     keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
#     of_x0 = keep.sqrt() * schedule.betas[t] / (1 - keep)
#     of_x_t = schedule.alphas[t] * (1 - keep_before) / (1 - keep)
#     return of_x0 * x0 + of_x_t * x_t
# ```
#
# Copy it into the cell and repair both. `t` is one whole number from 1 to T; `x_t`, `x0` and the answer have shape (B, D).


# %%
# STARTER
def mended_mean(schedule, x_t, x0, t):
    return None  # your lines here


# SOLUTION
def mended_mean(schedule, x_t, x0, t):
    keep, keep_before = schedule.alpha_bars[t], schedule.alpha_bars[t - 1]
    of_x0 = keep_before.sqrt() * schedule.betas[t] / (1 - keep)
    of_x_t = schedule.alphas[t].sqrt() * (1 - keep_before) / (1 - keep)
    return of_x0 * x0 + of_x_t * x_t


# %%
lab.check("03.3", mended_mean)
# lab.hint("03.3")

# %% [markdown]
# **Exercise 4. Derive.** A fast sampler jumps back over many steps at once: from $t$ to some $s < t$. Given $x_0$, the state $x_s$ has the prior $N(\sqrt{\bar\alpha_s}\,x_0,\ 1-\bar\alpha_s)$. The jump forward from $s$ to $t$ is all its steps at once: by lesson 02 it keeps $\alpha_{s+1}\cdots\alpha_t = \bar\alpha_t/\bar\alpha_s$ of the variance, so $q(x_t\mid x_s) = N\big(\sqrt{\bar\alpha_t/\bar\alpha_s}\;x_s,\ 1-\bar\alpha_t/\bar\alpha_s\big)$. What is the factor of $x_0$ in the mean of $q(x_s\mid x_t, x_0)$? Enter it as `jump_weight(alpha_bar_s, alpha_bar_t)`; both are tensors of the same shape, and so is the answer.


# %%
# STARTER
def jump_weight(alpha_bar_s, alpha_bar_t):
    return None  # your line here


# SOLUTION
def jump_weight(alpha_bar_s, alpha_bar_t):
    return alpha_bar_s.sqrt() * (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t)


# %%
lab.check("03.4", jump_weight)
# lab.hint("03.4")

# %% [markdown]
# ## 13. Summary
#
# 1. By Bayes' rule the step back $q(x_{t-1}\mid x_t)$ needs the density of all data at $t-1$, so it is out of reach.
# 2. Once $x_0$ is known the data set drops out, and the step back is a Gaussian with a mean and a variance that we can write down.
# 3. The true step back is the average of these Gaussians over all $x_0$ that could have led to $x_t$.
# 4. For small $\beta_t$ that average is nearly Gaussian itself, except at $t = 1$, where only data points are possible.
# 5. Its mean needs only the mean of the noise $\epsilon$ in $x_t$, and this is what a network can learn.
#
# | equation | function |
# |---|---|
# | (7), (8) the step back when $x_0$ is known | `q_posterior`, `NoiseSchedule.posterior_vars` |
# | (9) the average over $x_0$, (10) small steps back are nearly Gaussian | `mixture_reverse` |
# | (11) its mean by the noise | `x0_from_eps`, `p_step` |
# | the mean of the noise, for a mixture | `mixture_eps_model` |
#
# **References.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020), equations 6, 7 and 11. Feller, *On the Theory of Stochastic Processes, with Particular Reference to Applications* (1949), for the reversal of small steps.
#
# **Next**: [04 · How does a bound become a loss?](04_elbo.ipynb)
