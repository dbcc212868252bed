# %% [markdown]
# # 01 · How does a gradient pass through a die?
#
# A network learns by gradients: how would the loss change if this number were a little larger? A random draw has no slope. This lesson writes a draw as a mean plus a multiple of noise, and the gradient gets through.
#
# Who needs that? A VAE (variational autoencoder, lesson 12), which learns the mean and the spread of what it draws. A diffusion model needs the *form* of it: a noisy picture is written as a mean plus noise, so the noise in it is known, and a network can be asked to guess it. The second half of the lesson makes such pictures cheap: many small noises are one noise.
#
# **At the end you can**
# - draw from a Gaussian so that gradients reach its mean and its variance;
# - say why this fails for a die with faces, and get a gradient there as well;
# - merge independent noises into one, and say why variances add and standard deviations do not;
# - recognise a wrong noise by its mean and its variance.
#
# **You need** PyTorch tensors and autograd (`torch.autograd.grad`), and the mean and the variance of a random number. **Time**: about 60 minutes, without the folded sections. In the code, `dc` is the package of this course, `lab` draws its figures and checks your answers, and `rng` is the source of chance; its seed is fixed, so the numbers repeat.

# %%
import math

import torch

import diffusion_core as dc
import diffusion_lab as lab

rng = torch.Generator().manual_seed(0)
torch.set_default_dtype(torch.float64)  # the checks below compare many digits

# %% [markdown]
# ## 1. The picture first
#
# Random numbers come up often where their **density** is high: a curve with area 1 below it. Ours is the bell of the **Gaussian**, or normal distribution. Its **mean** $\mu$ ("mu") says where the centre lies. Its **variance** $\sigma^2$ is the mean squared distance from there, and the root $\sigma$ ("sigma"), the **standard deviation**, is the width of the bell. We write $x \sim N(\mu, \sigma^2)$ for "x is drawn from this Gaussian".
#
# Below, 2 000 numbers $\epsilon$ ("epsilon", `eps`) were drawn from $N(0, 1)$ once, and stay fixed. Nine of them are joined to the draws that they become. Move $\mu$, then $\sigma$. Which draws follow, and how far? (The height of a point means nothing.)

# %%
dice = torch.randn(2000, generator=rng)
height = 0.15 * torch.rand(2000, generator=rng)
nine = dice.sort().values[100::225]  # from small to large
grid = torch.linspace(-6, 6, 1201)
fig, (left, right) = lab.figure(2, width=9, height=3.4)
left.plot(dice, 1 + height, "o", ms=2, mew=0, alpha=0.6, color=lab.ORANGE)
(moved,) = left.plot(dice, -height, "o", ms=2, mew=0, alpha=0.6, color=lab.BLUE)
(joined,) = left.plot([], [], "-", lw=1, color=lab.BLACK)
left.set(xlim=(-6, 6), ylim=(-0.3, 1.3), yticks=[0, 1], yticklabels=["x", "eps"], xlabel="value")
right.set(xlim=(-6, 6), ylim=(-0.2, 1.4), xlabel="x", ylabel="density")
(bell_curve,) = right.plot(grid, 0 * grid, color=lab.BLACK, ls="-")
(below,) = right.plot(dice, -height, "o", ms=2, mew=0, alpha=0.6, color=lab.BLUE)

# %% [markdown]
# `dc.Gaussian(mean, var)` takes the *variance*; in this course `var` is always a variance, and `std` a standard deviation. Its `log_prob` is the logarithm of the density.


# %%
def explore_normal(mu, sigma):
    """Move the draws and the density."""
    x = mu + sigma * dice
    bell = dc.Gaussian(torch.tensor(mu), torch.tensor(sigma**2))
    for artist in (moved, below):
        artist.set_data(x, -height)
    # a line has a gap at nan, so one line holds all nine
    ends = torch.stack([nine, mu + sigma * nine, torch.full_like(nine, math.nan)], dim=1)
    joined.set_data(ends.flatten(), torch.tensor([1.0, 0.0, 0.0]).repeat(9))
    bell_curve.set_data(grid, bell.log_prob(grid).exp())
    return f"mu = {mu:.1f}, sigma = {sigma:.1f}: the draws have mean {x.mean():.3f} and variance {x.var():.3f}."


controls = {
    "mu": lab.slider("mu", -2.0, 2.0, 1.5, 0.1),
    "sigma": lab.slider("sigma", 0.3, 2.0, 0.5, 0.1),
}
lab.Explorer(fig, [moved, below, joined, bell_curve], explore_normal, controls)

# %% [markdown]
# With $\mu$ every draw moves by the same amount. With $\sigma$ a draw moves the more, the farther its $\epsilon$ is from 0. These are the two derivatives of this lesson.
#
# ## 2. A draw has no slope
#
# A loss $f(x)$ depends on a draw $x \sim N(\mu, \sigma^2)$. To make its mean over all draws, the **expectation** $\mathbb E[f(x)]$, smaller, we need the derivatives with respect to $\mu$ and $\sigma$.
#
# Take $f(x) = x^2$. The variance is $\mathbb E[x^2] - \mu^2$, so $\mathbb E[x^2] = \mu^2 + \sigma^2$, and the derivatives are $2\mu$ and $2\sigma$. **Predict**: what does torch answer when it draws by itself? The truth, an error, something else?

# %%
mu, sigma = torch.tensor(1.5, requires_grad=True), torch.tensor(0.5, requires_grad=True)
x = torch.normal(mu.expand(1000), sigma.expand(1000), generator=rng)
to_mu, to_sigma = torch.autograd.grad((x**2).mean(), (mu, sigma))
print(f"true derivatives: {2 * mu:.4f} and {2 * sigma:.4f}")
print(f"torch.normal:     {to_mu:.4f} and {to_sigma:.4f}")
x = torch.distributions.Normal(mu, sigma).sample()
print("does Normal(mu, sigma).sample() know where it came from?", x.requires_grad)

# %% [markdown]
# `torch.normal` answers 0, without a warning, and `sample()` of torch's `Normal` has no gradient at all. Neither is a bug: both treat the number drawn as a constant, and the gradient of `torch.normal` is defined as zero. "What would have come up if $\mu$ had been a little larger?" has no answer: one would have to draw again. There is no formula from $\mu$ to $x$ that one could differentiate.
#
# ## 3. Move the chance out
#
# So we make one. Draw $\epsilon \sim N(0, 1)$, which knows nothing of $\mu$ and $\sigma$. Then shift and stretch:
#
# $$x = \mu + \sigma\,\epsilon, \qquad \frac{\partial x}{\partial\mu} = 1, \qquad \frac{\partial x}{\partial\sigma} = \epsilon. \tag{1}$$
#
# This is the **reparameterization trick**, and what the sliders did. For a given $\epsilon$, $x$ is an ordinary function of $\mu$ and $\sigma$. The density of $\epsilon$ contains neither of them. So the derivative of the mean may be taken inside, draw by draw, by the chain rule, with $f'$ for the slope of $f$. ($f$ must be smooth and must not grow too fast; ours are fine.)
#
# $$\frac{\partial}{\partial\mu}\,\mathbb E[f(x)] = \mathbb E\big[f'(\mu+\sigma\epsilon)\big], \qquad
# \frac{\partial}{\partial\sigma}\,\mathbb E[f(x)] = \mathbb E\big[f'(\mu+\sigma\epsilon)\;\epsilon\big].$$
#
# A mean over some draws of what stands in the brackets is the **pathwise** estimate: the gradient follows the path from $\mu$ through $x$ to $f$. How near must it come? A mean over $n$ draws misses the true mean by chance, typically by the **standard error**: the standard deviation of one of the $n$ values, divided by $\sqrt n$ (section 5 says why). Five of them are as good as never exceeded, so five is our bound in this lesson.


# %%
def check_mean(values, truth):
    """Stop if the mean of the values is more than 5 standard errors from the truth."""
    error = (values.mean() - truth).abs()
    assert error < 5 * values.std() / math.sqrt(len(values)), (values.mean(), truth)
    return values.mean()


# %% [markdown]
# By hand, for $f(x) = x^2$ with $f'(x) = 2x$:

# %%
mu, sigma, n = torch.tensor(1.5), torch.tensor(0.5), 100_000
eps = torch.randn(n, generator=rng.manual_seed(1))
slope = 2 * (mu + sigma * eps)
by_hand = check_mean(slope, 2 * mu), check_mean(slope * eps, 2 * sigma)
print(f"true derivatives: {2 * mu:.4f} and {2 * sigma:.4f}")
print(f"pathwise:         {by_hand[0]:.4f} and {by_hand[1]:.4f}")

# %% [markdown]
# In the package, `Gaussian.sample` is equation (1), with the standard deviation as the root of the variance. `standard_normal` draws $\epsilon$ in the shape of the mean; `check_normal` refuses bad numbers, and `_fits` compares shapes. ($N(0, I)$ means that every entry is an independent draw from $N(0, 1)$.)

# %%
lab.show_source(dc.Gaussian.sample, dc.standard_normal)

# %% [markdown]
# With the same $\epsilon$, autograd takes the derivatives through it, and they must be ours. (In torch's own `Normal` the trick is called `rsample`.)

# %%
leaves = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
gaussian = dc.Gaussian(leaves[0].expand(n), leaves[1] ** 2)
x = gaussian.sample(generator=rng.manual_seed(1))
by_autograd = torch.autograd.grad((x**2).mean(), leaves)
torch.testing.assert_close(by_autograd, by_hand, rtol=0, atol=1e-12)
print("by hand, and by autograd through the package's sample: the same")

# %% [markdown]
# **Exercise 1. Derive.** `Gaussian` holds the variance, so gradients go to `var`, not to $\sigma$. Write $v$ for the variance: $x = \mu + \sqrt v\;\epsilon$. Work out $\partial x/\partial v$ on paper, and enter it as `slope_of_var(var, eps)`. On paper first; the check uses autograd. Both arguments are tensors of the same shape, and so is the answer.


# %%
# STARTER
def slope_of_var(var, eps):
    return None  # your line here


# SOLUTION
def slope_of_var(var, eps):
    return eps / (2 * var.sqrt())


# %%
# lab.hint("01.1")
lab.check("01.1", slope_of_var)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: is it a draw from this Gaussian?
#
# The density of $N(\mu, \sigma^2)$ is
#
# $$p(x) = \frac{1}{\sqrt{2\pi\sigma^2}}\; e^{-(x-\mu)^2/(2\sigma^2)}.$$
#
# Has $\mu + \sigma\epsilon$ this density? Write $\Phi(c)$ for the probability that $\epsilon \le c$; its slope is the density of $\epsilon$, $\Phi'(c) = e^{-c^2/2}/\sqrt{2\pi}$. For $\sigma > 0$, $x \le c$ happens exactly when $\epsilon \le (c-\mu)/\sigma$. So the probability of $x \le c$ is $\Phi\big((c-\mu)/\sigma\big)$. That is the area under the density of $x$ to the left of $c$, so its slope in $c$ is the height of the density at $c$. By the chain rule it is $\Phi'\big((c-\mu)/\sigma\big)/\sigma$: the formula above, for every $\mu$ and $\sigma$.
#
# The cell takes this slope by autograd (torch has $\Phi$ as `torch.special.ndtr`), and holds `log_prob` against torch's own `Normal`, which wants the *standard deviation*. Last, sums over a fine grid, times its step, are nearly integrals: the area, the mean and the variance of the bell.

# %%
bell = dc.Gaussian(torch.tensor(1.0), torch.tensor(0.25))
c = grid.clone().requires_grad_()
(slope,) = torch.autograd.grad(torch.special.ndtr((c - 1.0) / 0.5).sum(), c)
density = bell.log_prob(grid).exp()
torch.testing.assert_close(slope, density, rtol=0, atol=1e-12)
by_torch = torch.distributions.Normal(bell.mean, bell.var.sqrt())
torch.testing.assert_close(by_torch.log_prob(grid), bell.log_prob(grid), rtol=0, atol=1e-12)
step = grid[1] - grid[0]
area, mean = (density * step).sum(), (grid * density * step).sum()
var = ((grid - mean) ** 2 * density * step).sum()
torch.testing.assert_close(torch.stack([area, mean, var]), torch.tensor([1, 1, 0.25]))
print("1 + 0.5 eps has the density of N(1, 0.25), on the whole grid")
print(f"its area {area:.4f}, mean {mean:.4f}, variance {var:.4f}")

# %% [markdown]
# ## 4. A die with faces
#
# Now a real die, and a loaded one. Let face 6 weigh more by a **load** $\ell$ ("ell"): its probability is $p_6 = e^\ell/(5 + e^\ell)$, and $p_k = 1/(5 + e^\ell)$ for the others. At $\ell = 0$ the die is fair. (In the code: the `softmax` of five zeros and the load.) The loss is the number of points, $f(k) = k$.
#
# The chance can be moved out of it, too. Lay the six probabilities side by side, and they fill the interval from 0 to 1. Draw a number $u$ evenly from there. The face is the one in whose part $u$ falls:


# %%
def throw(p, u):
    """Throw a loaded die: the face, counted from 0, in whose part of [0, 1] each u falls."""
    return (u[:, None] > p.cumsum(0)[:-1]).sum(1)


# %% [markdown]
# Twenty $u$ stay fixed below. Move the load slowly. On the left is the face for every $u$: a staircase, with the twenty throws on it. On the right is the mean number of points, of the twenty and over all throws. What is the slope of one throw in $\ell$? And of the mean over all?

# %%
points = torch.arange(1.0, 7)
twenty = torch.rand(20, generator=rng.manual_seed(2))
many_u = torch.linspace(0, 1, 1001)
loads = torch.linspace(-2, 3, 501)
ps = [torch.tensor([0, 0, 0, 0, 0, load]).softmax(0) for load in loads.tolist()]
fig, (left, right) = lab.figure(2, width=9, height=3.2)
(stairs,) = left.plot(many_u, many_u, "-", color=lab.BLACK)
(thrown,) = left.plot(twenty, twenty, "o", color=lab.ORANGE)
left.set(xlabel="u", ylabel="face", xlim=(0, 1), ylim=(0.5, 6.5), yticks=range(1, 7))
right.plot(loads, [points[throw(p, twenty)].mean() for p in ps], "-", color=lab.ORANGE)
right.plot(loads, [points @ p for p in ps], "--", color=lab.BLACK)
right.legend(["mean of the twenty", "mean over all throws"], loc="upper left")
right.set(xlabel="load", ylabel="points")
(at_load,) = right.plot([], [], "o", color=lab.BLUE)

# %% [markdown]
# The dots on the right stand at your load.


# %%
def explore_die(load):
    """Load face 6, and throw the die with the same twenty u."""
    p = torch.tensor([0, 0, 0, 0, 0, load]).softmax(0)
    faces = throw(p, twenty)
    stairs.set_data(many_u, throw(p, many_u) + 1)
    thrown.set_data(twenty, faces + 1)
    at_load.set_data([load, load], [points[faces].mean(), points @ p])
    changed = int((faces != throw(torch.ones(6) / 6, twenty)).sum())
    return (
        f"load {load:.2f}: face 6 has probability {p[5]:.3f}; mean of all throws {points @ p:.3f}, "
        f"of the twenty {points[faces].mean():.2f}; {changed} of them differ from the fair die's."
    )


lab.Explorer(
    fig,
    [stairs, thrown, at_load],
    explore_die,
    {"load": lab.slider("load", -2.0, 3.0, 1.0, 0.05)},
)

# %% [markdown]
# A throw stays where it is, and then jumps. Its slope is 0 wherever it has one, and so is the slope of the orange curve on the right: no gradient comes through. Yet the mean over *all* throws rises smoothly. So do not ask how the throws move; ask how their *probabilities* move. The slope of a logarithm is $\frac{\partial \log p_k}{\partial\ell} = \frac1{p_k}\frac{\partial p_k}{\partial\ell}$. Solve it for the last factor:
#
# $$\frac{\partial}{\partial\ell}\,\mathbb E[f(k)] = \sum_k f(k)\,\frac{\partial p_k}{\partial\ell} = \sum_k f(k)\,\frac{\partial\log p_k}{\partial\ell}\,p_k = \mathbb E\Big[f(k)\,\frac{\partial\log p_k}{\partial\ell}\Big].$$
#
# That is a mean over throws again: each slope of $\log p_k$ is multiplied by $f(k)$. Here the slope is $1 - p_6$ for face 6, and $-p_6$ for the others. This is the **score-function** estimate (also called REINFORCE).

# %%
load = torch.tensor(1.0, requires_grad=True)
p = torch.cat([torch.zeros(5), load[None]]).softmax(0)
(truth,) = torch.autograd.grad(points @ p, load)
faces = throw(p, torch.rand(n, generator=rng))
p_6 = p[5].detach()
weighed = points[faces] * torch.where(faces == 5, 1 - p_6, -p_6)
print("does a gradient pass through the throws?", points[faces].requires_grad)
print(f"true derivative {truth:.4f}, of the weighed throws {check_mean(weighed, truth):.4f}")

# %% [markdown]
# So the answer to the title: **shift and stretch the die where you can; where you cannot, weigh the throws.** Why not always weigh? Of $f$ it needs only values; of the probabilities, the slope of the logarithm. But in most uses it is the noisier of the two. No later lesson needs it; in reinforcement learning it is common. The folded section measures how much noisier, for a Gaussian, where both can be used.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: which of the two is less noisy?
#
# We need two functions whose mean is known: $\mathbb E[x^2] = \mu^2 + \sigma^2$, and $\mathbb E[\sin(20x)] = \sin(20\mu)\,e^{-200\sigma^2}$. (The last Deeper section derives the second.) A function from scratch for the pathwise estimate; each draw gets its own copy of $\mu$ and $\sigma$, so its gradient is that of the draw.


# %%
def pathwise(f, mu, sigma, eps):
    """The gradient of f(mu + sigma eps) with respect to mu and to sigma, for each eps."""
    mus = (mu + 0 * eps).requires_grad_()
    sigmas = (sigma + 0 * eps).requires_grad_()
    return torch.autograd.grad(f(mus + sigmas * eps).sum(), (mus, sigmas))


# %% [markdown]
# For the other, the sum over faces becomes an integral, $\mathbb E[f(x)] = \int f(x)\,p(x)\,dx$ with the density $p$ of the Gaussian. Only $p$ contains $\mu$, and the derivative may be taken inside, as $p$ is smooth in $\mu$ and its tails fall fast. With $x - \mu = \sigma\epsilon$,
#
# $$\frac{\partial\log p}{\partial\mu} = \frac{x-\mu}{\sigma^2} = \frac{\epsilon}{\sigma}, \qquad
# \frac{\partial\log p}{\partial\sigma} = \frac{(x-\mu)^2}{\sigma^3} - \frac1\sigma = \frac{\epsilon^2-1}{\sigma}.$$
#
# In statistics the slope of $\log p$ with respect to a *parameter* is called the score function. (Later lessons use the word "score" for its slope with respect to $x$; for the Gaussian that is $-\epsilon/\sigma$.)
#
# One thing is for free: $\mathbb E[\partial\log p/\partial\mu] = 0$, since the area under $p$ stays 1; the same holds for $\sigma$. So a number, a **baseline**, may be subtracted from $f$ without changing the mean. Most who use this estimate do that. We take $f(\mu)$.


# %%
def score_function(f, mu, sigma, eps, baseline=0.0):
    """The score-function estimate of both gradients, for each eps; f is only evaluated."""
    value = f(mu + sigma * eps) - baseline
    return value * eps / sigma, value * (eps**2 - 1) / sigma


functions = {"x^2": lambda x: x**2, "sin(20x)": lambda x: torch.sin(20 * x)}
means = {
    "x^2": lambda mu, sigma: mu**2 + sigma**2,
    "sin(20x)": lambda mu, sigma: torch.sin(20 * mu) * torch.exp(-200 * sigma**2),
}
mu, sigma = torch.tensor(0.3), torch.tensor(0.05)
for name, f in functions.items():
    leaves = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    true = torch.autograd.grad(means[name](*leaves), leaves)
    print(f"{name:8s}  true: {true[0]:8.4f} with respect to mu, {true[1]:8.4f} to sigma")
    for way in (pathwise, score_function):
        found = [check_mean(g, t) for g, t in zip(way(f, mu, sigma, eps), true, strict=True)]
        print(f"{way.__name__:>14s}: {found[0]:8.4f}                     {found[1]:8.4f}")

# %% [markdown]
# All are right on average. The less noisy one has the smaller variance: with a tenth of it, a tenth of the draws is enough. **Predict**: which wins for $x^2$, which for $\sin(20x)$, at $\mu = 0.3$ and for $\sigma$ from 0.01 to 1?

# %%
widths = torch.logspace(-2, 0, 25)
few = eps[:20_000]
fig, axes = lab.figure(2, width=9, height=3.2)
for ax, (name, f) in zip(axes, functions.items(), strict=True):
    path = torch.stack([pathwise(f, mu, w, few)[0].var() for w in widths])
    score = torch.stack([score_function(f, mu, w, few)[0].var() for w in widths])
    based = torch.stack([score_function(f, mu, w, few, f(mu))[0].var() for w in widths])
    ax.loglog(widths, path, label="pathwise")
    ax.loglog(widths, score, label="score function")
    ax.loglog(widths, based, label="the same with a baseline")
    ax.set(xlabel="sigma", ylabel="variance of one gradient", title=f"f(x) = {name}, mu = 0.3")
    ax.legend(fontsize="small")
    for other in (score, based):
        smaller = path < other
        assert smaller.all() if name == "x^2" else (smaller[0] and not smaller[-1])
lab.show(
    fig, "x^2: pathwise is less noisy at each sigma. sin(20x): pathwise wins for small sigma only."
)

# %% [markdown]
# - The **pathwise** estimate is the *slope* $f'(x)$. That of $\sin(20x)$, $20\cos(20x)$, swings between −20 and 20; as $\cos^2$ is one half on average over a wide bell, its mean square is about 200. The wiggles cancel in the mean, not in the variance.
# - The **score-function** estimate is the *value* $f(x)$ times $\epsilon/\sigma$. The values of the sine are small. But they are divided by $\sigma$: without a baseline a narrow bell makes it very noisy, as even a constant $f$ gives $f\,\epsilon/\sigma$. With the baseline the variance stays bounded as the bell narrows. ($f(\mu)$ is a simple baseline, not the best one: for the sine over a wide bell it even adds a little.)
#
# So what counts is how fast $f$ wiggles within the width of the bell. The losses of networks seldom wiggle that fast, and the pathwise way is the usual one. Try it: 500 estimates of each kind, without a baseline, and by how much they miss. What lies farther out than 15 is counted in the outermost bars.

# %%
centres = torch.linspace(-15, 15, 61)  # of bars half a unit wide
fig, (ax,) = lab.figure(width=8, height=3.2)
ax.set(xlabel="estimate minus true derivative", ylabel="share of estimates", ylim=(0, 1))
lines = {}
for way, color in ((pathwise, lab.BLUE), (score_function, lab.ORANGE)):
    label = way.__name__.replace("_", " ")
    (lines[way],) = ax.plot(centres, 0 * centres, color=color, label=label, drawstyle="steps-mid")
ax.legend()
rows = torch.randn(500, 200, generator=rng)  # a row for each estimate

# %% [markdown]
# A widget runs without gradients, so the function switches them on.


# %%
def explore_estimators(f, sigma, draws):
    """Show the errors of 500 estimates of each kind."""
    width, spreads = torch.tensor(sigma), []
    with torch.enable_grad():
        at_mu = mu.clone().requires_grad_()
        (truth,) = torch.autograd.grad(means[f](at_mu, width), at_mu)
        for way, line in lines.items():
            errors = way(functions[f], mu, width, rows[:, :draws])[0].mean(1) - truth
            counts = torch.histc(errors.clamp(-15, 15), bins=61, min=-15.25, max=15.25)
            line.set_ydata(counts / 500)
            spreads.append(errors.square().mean().sqrt())
    path, score = spreads
    return (
        f"f = {f}, sigma = {sigma:.2f}, draws for each estimate: {draws}; "
        f"typical error {path:.3f} pathwise, {score:.3f} score function."
    )


choices = {
    "f": lab.choice("f", list(functions), "sin(20x)"),
    "sigma": lab.slider("sigma", 0.02, 1.0, 1.0, 0.02),
    "draws": lab.slider("draws", 1, 200, 10),
}
lab.Explorer(fig, list(lines.values()), explore_estimators, choices)

# %% [markdown]
# ## 5. Predict, then run: a thousand noises
#
# Now the second fact. Start at 0, and add a thousand independent noises, draws that know nothing of each other, each with standard deviation 0.05. How far from 0 do you end, typically? Write down a number.

# %%
steps = 0.05 * torch.randn(1000, 5000, generator=rng.manual_seed(18))
ends = steps.sum(0)
check_mean(ends**2, 1000 * 0.05**2)
fig, (left, right) = lab.figure(2, width=9, height=3, width_ratios=[2, 1], sharey=True)
left.plot(steps[:, :30].cumsum(0), "-", lw=0.7, alpha=0.6, color=lab.BLUE)
count = torch.arange(1001.0)
for sign in (-1, 1):
    left.plot(sign * 0.05 * count.sqrt(), "--", color=lab.BLACK)
left.set(xlabel="noises added", ylabel="sum")
right.hist(ends, bins=60, orientation="horizontal", density=True, color=lab.SKY)
right.plot(dc.Gaussian(0 * grid, torch.tensor(2.5)).log_prob(grid).exp(), grid, "k-")
right.set(xlabel="density of the ends")
lab.show(fig, "Thirty sums of up to 1 000 noises: their spread grows with the root of the count.")
print(f"5 000 sums of 1 000 noises: standard deviation {ends.std():.4f}")

# %% [markdown]
# Not 50, for most noises undo one another. The *variances* add up, $1000\cdot 0.05^2 = 2.5$, and $\sqrt{2.5}\approx 1.58$; the dashed lines are 0.05 times the root of the count. Take two noises, $\sigma_1\epsilon_1$ and $\sigma_2\epsilon_2$. The mean of $\epsilon_1^2$ and of $\epsilon_2^2$ is 1. For independent numbers the mean of a product is the product of the means, so $\mathbb E[\epsilon_1\epsilon_2] = 0$, and
#
# $$\mathbb E\big[(\sigma_1\epsilon_1 + \sigma_2\epsilon_2)^2\big] = \sigma_1^2 + 2\,\sigma_1\sigma_2\,\mathbb E[\epsilon_1\epsilon_2] + \sigma_2^2 = \sigma_1^2 + \sigma_2^2.$$
#
# Standard deviations add like the short sides of a right triangle: 0.6 and 0.8 make 1. This holds for independent noise of every kind that has a variance. (If it has a mean, subtract that first.) For $n$ of them with the same $\sigma$ the sum has $\sqrt n\,\sigma$, so their mean has $\sqrt n\,\sigma/n = \sigma/\sqrt n$: the standard error. But look at the ends: they fill a *bell* again. Is that so for every kind, too?
#
# ## 6. The round cloud and its shadow
#
# Draw two noises for each point of the plane, $\epsilon_1$ to the right and $\epsilon_2$ upwards. Lay an axis through the middle, at an angle $\omega$ ("omega"), and let every point cast its shadow on it, at a right angle. The shadow of $(\epsilon_1, \epsilon_2)$ lies at $\cos\omega\;\epsilon_1 + \sin\omega\;\epsilon_2$: a sum of two noises. Turn the axis. On the right is the density of all shadows: of this cloud, and of even noise from a square, also with variance 1. What stays, and what changes?

# %%
clouds = {
    "normal": torch.randn(20_000, 2, generator=rng.manual_seed(10)),
    "even": (torch.rand(20_000, 2, generator=rng) - 0.5) * math.sqrt(12),
}
bins = torch.linspace(-4, 4, 41)
fig, (left, right) = lab.figure(2, width=9, height=3.8, width_ratios=[1, 1.2])
outlines = {}
for name, color, style in (("normal", lab.BLUE, "-"), ("even", lab.PINK, ":")):
    options = {"drawstyle": "steps-mid", "color": color, "ls": style, "label": name}
    (outlines[name],) = right.plot(bins[:-1] + 0.1, 0 * bins[1:], **options)
standard = dc.Gaussian(0 * grid, torch.tensor(1.0)).log_prob(grid).exp()
right.plot(grid, standard, "--", color=lab.BLACK, label="N(0, 1)")
right.set(xlabel="place on the axis", ylabel="density", xlim=(-4, 4), ylim=(0, 0.5))
right.legend(title="shadows", loc="upper left")
cloud = lab.draw_points(left, clouds["normal"][:1500], color=lab.SKY, limit=3.5)
left.set(xlabel="eps_1", ylabel="eps_2")
(turned_axis,) = left.plot([], [], "-", color=lab.BLACK)
(falls,) = left.plot([], [], "-", lw=1, color=lab.ORANGE)
(shadows,) = left.plot([], [], "s", ms=5, color=lab.ORANGE)

# %% [markdown]
# Ten of the points are shown with their shadows; the second control shows the square.


# %%
def explore_shadow(angle, noise):
    """Turn the axis, and show where the shadows of a cloud fall on it."""
    x, turn = clouds[noise], math.radians(angle)
    along = torch.tensor([math.cos(turn), math.sin(turn)])
    place = x @ along
    cloud.set_data(*x[:1500].T)
    turned_axis.set_data(*(torch.tensor([[-5.0], [5.0]]) * along).T)
    foot = place[:10, None] * along
    ends = torch.stack([x[:10], foot, torch.full_like(foot, math.nan)], dim=1)
    falls.set_data(*ends.flatten(0, 1).T)
    shadows.set_data(*foot.T)
    for name, outline in outlines.items():
        counts = torch.histc(clouds[name] @ along, bins=40, min=-4, max=4)
        outline.set_ydata(counts / (len(place) * 0.2))
    return (
        f"{angle} degrees, {noise} noise: {along[0]:.2f} eps_1 + {along[1]:.2f} eps_2 has "
        f"variance {place.var():.3f}; {(place.abs() < 1).double().mean():.3f} of it within 1 of 0."
    )


turning = {"angle": lab.slider("angle in degrees", 0, 90, 53)}
turning["noise"] = lab.choice("noise", list(clouds))
changing = [cloud, turned_axis, falls, shadows, *outlines.values()]
lab.Explorer(fig, changing, explore_shadow, turning)

# %% [markdown]
# The variance stays 1 in both. The *shape* of the shadow stays for the normal cloud only: the square's turns from a box into a roof. The normal cloud is **round**. In two lines, for independent $\epsilon_1, \epsilon_2 \sim N(0, 1)$:
#
# 1. The density of $(\epsilon_1, \epsilon_2)$ is the product of two bells, $\frac{1}{2\pi}\,e^{-(\epsilon_1^2+\epsilon_2^2)/2}$: it depends on the distance from the middle only. So it looks the same from every axis, and $\cos\omega\;\epsilon_1 + \sin\omega\;\epsilon_2$ has the density of $\epsilon_1$, $N(0, 1)$.
# 2. Choose $\omega$ such that $\cos\omega = \sigma_1/\sqrt{\sigma_1^2+\sigma_2^2}$ and $\sin\omega = \sigma_2/\sqrt{\sigma_1^2+\sigma_2^2}$, and multiply by the root:
#
# $$\sigma_1\epsilon_1 + \sigma_2\epsilon_2 \;\text{ has the same distribution as }\; \sqrt{\sigma_1^2+\sigma_2^2}\;\epsilon. \tag{2}$$
#
# If the noises have means, both shift the sum. So **independent Gaussians merge: means add, variances add**. A third noise is merged with the first two in the same way. And a noise that is shrunk? Times $c$ its variance is $c^2$ times as large; then (2) applies. Exercise 2 does that, and lesson 02. A check by force: which share of $0.6\,\epsilon_1 + 0.8\,\epsilon_2$ lies below a place, and which area under the bell of $N(0, 1)$?

# %%
weighted = {name: x @ torch.tensor([0.6, 0.8]) for name, x in clouds.items()}
print("below    N(0, 1)   normal     even")
for place in (-2.0, -1.0, 0.0, 1.0, 2.0):
    area = torch.special.ndtr(torch.tensor(place))
    check_mean((weighted["normal"] < place).double(), area)
    shares = [(x < place).double().mean() for x in weighted.values()]
    print(f"{place:5.1f}  {area:9.4f}{shares[0]:9.4f}{shares[1]:9.4f}")
print(f"variances: {weighted['normal'].var():.4f} and {weighted['even'].var():.4f}")

# %% [markdown]
# (But the sum of *many* even noises would look like a bell, too. That is the **central limit theorem**.)
#
# **Why diffusion needs this.** Lesson 02 adds a little noise to a picture, often a thousand times. By (2) all noises up to step 500 are one. So a picture after 500 steps costs one draw, not 500, and training becomes affordable.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the same by fingerprints, and by convolution
#
# A second proof of (2) uses a fingerprint of a distribution, its **characteristic function** $\chi(r) = \mathbb E\big[e^{irx}\big] = \mathbb E[\cos rx] + i\,\mathbb E[\sin rx]$, where $r$ is any number and $i^2 = -1$. Two distributions with the same $\chi$ for all $r$ are the same; we take this theorem as given.
#
# 1. **One noise.** The bell $b(\epsilon) = e^{-\epsilon^2/2}/\sqrt{2\pi}$ has the slope $-\epsilon\,b(\epsilon)$. Integration by parts gives $\mathbb E[\epsilon\,g(\epsilon)] = \mathbb E[g'(\epsilon)]$ for every smooth $g$ that grows more slowly than the bell falls. With $g(\epsilon) = e^{ir\epsilon}$ the slope of $\chi$ in $r$ is $\chi'(r) = i\,\mathbb E[\epsilon\,e^{ir\epsilon}] = i\,\mathbb E[ir\,e^{ir\epsilon}] = -r\,\chi(r)$. So $\chi(r)\,e^{r^2/2}$ has slope 0. At $r=0$ it is 1, hence everywhere: $\chi(r) = e^{-r^2/2}$.
# 2. **Shift and stretch.** $\mathbb E\big[e^{ir(\mu+\sigma\epsilon)}\big] = e^{ir\mu}\,e^{-\sigma^2r^2/2}$. (For $r = 20$, the part with $i$ is $\mathbb E[\sin 20x] = \sin(20\mu)\,e^{-200\sigma^2}$, which the Deeper section after the die uses.)
# 3. **Add.** For independent noises the mean of the product is the product of the means: $e^{-\sigma_1^2r^2/2}\,e^{-\sigma_2^2r^2/2} = e^{-(\sigma_1^2+\sigma_2^2)\,r^2/2}$. By step 2 that is the fingerprint of $\sqrt{\sigma_1^2+\sigma_2^2}\;\epsilon$.
#
# And without any chance: the density of a sum is the **convolution** of the two densities. If the first noise is $y$, the second must be $x - y$ for the sum to be $x$; so multiply the densities of both, and integrate over $y$. The cell does this on a grid, for every $x$ between −6 and 6.

# %%
check_mean(torch.sin(20 * (0.3 + 0.05 * eps)), means["sin(20x)"](mu, sigma))
first = dc.Gaussian(0 * grid, torch.tensor(0.6**2)).log_prob(grid).exp()
apart = grid[:, None] - grid[None, :]  # row x, column y
second = dc.Gaussian(0 * apart, torch.tensor(0.8**2)).log_prob(apart).exp()
convolved = (second * first).sum(1) * (grid[1] - grid[0])
torch.testing.assert_close(convolved, standard, rtol=0, atol=1e-12)
print("the convolution of the bells with std 0.6 and 0.8 is the bell with std 1")

# %% [markdown]
# ## 7. What breaks
#
# The task: add ten independent noises, each of variance 0.1. By (2) the sum is $N(0, 1)$. Three mistakes that people make:
#
# - **`rand` for `randn`**: `torch.rand` draws evenly between 0 and 1. Each draw has mean ½ and variance 1/12.
# - **The root is missing**: 0.1 stands where the standard deviation $\sqrt{0.1}$ belongs.
# - **Standard deviations added**: one draw stands for all ten, with $\sigma = 10\cdot\sqrt{0.1}$.
#
# **Predict** with a pencil: mean and variance of each. Means add, variances add.

# %%
z, u = torch.randn(10, 20_000, generator=rng), torch.rand(10, 20_000, generator=rng)
sums = {
    "right": (math.sqrt(0.1) * z).sum(0),
    "rand for randn": (math.sqrt(0.1) * u).sum(0),
    "root missing": (0.1 * z).sum(0),
    "std added": 10 * math.sqrt(0.1) * z[0],
}
fig, axes = lab.figure(4, width=12, height=2.8, sharey=True)
wide = torch.linspace(-10, 10, 401)
bell = dc.Gaussian(0 * wide, torch.tensor(1.0)).log_prob(wide).exp()
for ax, (name, x) in zip(axes, sums.items(), strict=True):
    ax.hist(x, bins=100, range=(-10, 10), density=True, color=lab.SKY)
    ax.plot(wide, bell, color=lab.BLACK, ls="-")
    ax.set(title=name, xlabel="x")
    # N(0, 1) has mean 0, and the mean of x^2 is 1
    misses = [abs(m.mean()) / (m.std() / math.sqrt(20_000)) for m in (x, x**2 - 1)]
    assert (max(misses) < 5) == (name == "right")
    print(f"{name:15s} mean {x.mean():7.4f}   variance {x.var():7.4f}")
axes[0].set_ylabel("density")
lab.show(
    fig,
    "Only the right sum fills N(0, 1): rand shifts it, no root narrows it, added stds widen it.",
)

# %% [markdown]
# By hand: `rand` gives the mean $10\sqrt{0.1}/2 \approx 1.58$ and the variance $10\cdot 0.1/12 \approx 0.083$; without the root the variance is $10\cdot 0.1^2 = 0.1$; added standard deviations give $(10\sqrt{0.1})^2 = 10$. The wrong sums have the shape of a bell, too. Without the black curve you would not notice, but the mean and the variance, held against their standard errors, find all three.
#
# ## 8. Exercises
#
# **Exercise 2. Predict the number.** Begin with a number $x$. Multiply it by 0.8, and add a noise with standard deviation 0.6. Do the same with the result, with a fresh noise. It is now $0.64\,x$ plus noise. What is the standard deviation of that noise, to three decimals?

# %%
# STARTER
std_of_noise = None  # your number here
# SOLUTION
std_of_noise = ((0.8 * 0.6) ** 2 + 0.6**2) ** 0.5

# %%
# lab.hint("01.2")
lab.check("01.2", std_of_noise)

# %% [markdown]
# **Exercise 3. A loaded die and turned clouds** (15 minutes). Make a picture of points: a die says to which heap a point belongs, and each heap is a cloud that is stretched, turned and shifted.
#
# Write `my_points(p, u, centres, stds, angles, eps)`. The die has $K$ faces with probabilities `p` (K,), and `u` (N,) is even between 0 and 1: `throw(p, u)` of section 4 gives the face $k$ of each point. A point is its `eps` (N, 2), each coordinate multiplied by its own entry of `stds[k]`, then turned by `angles[k]`, then shifted to `centres[k]`. `centres` and `stds` are (K, 2), `angles` (K,). A turn by $\omega$ goes against the clock and takes (1, 0) to $(\cos\omega, \sin\omega)$. The answer is (N, 2).


# %%
# STARTER
def my_points(p, u, centres, stds, angles, eps):
    return None  # your lines here


# SOLUTION
def my_points(p, u, centres, stds, angles, eps):
    k = throw(p, u)
    x, y = (stds[k] * eps).unbind(1)
    cos, sin = angles[k].cos(), angles[k].sin()
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=1)
    return centres[k] + turned


# %%
# lab.hint("01.3")
lab.check("01.3", my_points)

# %% [markdown]
# Now make it your picture. Below are the numbers of a flower with six petals, and face 6 is loaded. A stick shows where a heap lies, its angle, and the first of its two `stds`; beside it stands its probability. With `my_points` written, the points appear. Then change everything: more petals, a face, a letter, your initials. Where the figure says what a gradient reaches: why is one of the four missing?

# %%
turn = torch.arange(6) * math.pi / 3
mine = {
    "p": torch.tensor([0, 0, 0, 0, 0, 1.0]).softmax(0),
    "centres": 2.2 * torch.stack([turn.cos(), turn.sin()], 1),
    "stds": torch.tensor([[0.7, 0.2]]).repeat(6, 1),
    "angles": turn,
}

# %% [markdown]
# The figure:

# %%
p, centres, stds, angles = (x.clone().requires_grad_() for x in mine.values())
u, noise = torch.rand(4000, generator=rng.manual_seed(5)), torch.randn(4000, 2, generator=rng)
x = my_points(p, u, centres, stds, angles, noise)
fig, (ax,) = lab.figure(width=5.5, height=5)
if x is not None:
    lab.draw_points(ax, x, limit=4.5)
    gradients = torch.autograd.grad(
        x.square().mean(), (p, centres, stds, angles), allow_unused=True
    )
    reached = [name for name, g in zip(mine, gradients, strict=True) if g is not None]
    ax.set_title(f"a gradient reaches {', '.join(reached)}")
behind = {"facecolor": "w", "edgecolor": "none", "pad": 1}  # a label stays readable among points
for k, (place, std, angle) in enumerate(zip(*list(mine.values())[1:], strict=True)):
    tip = std[0] * torch.stack([angle.cos(), angle.sin()])
    ax.plot(*torch.stack([place - tip, place + tip]).T, "-", lw=2, color=lab.ORANGE)
    ax.text(*(place + 2.6 * tip), f"{mine['p'][k]:.2f}", ha="center", va="center", bbox=behind)
ax.set(xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal", xlabel="x", ylabel="y")
lab.show(
    fig, "Your heaps as sticks with their probabilities; and your points, once you wrote them."
)

# %% [markdown]
# With `my_points` written, `p` is missing: it only decides the faces, and they jump (section 4). To learn `p`, weigh the throws.
#
# ## 9. Summary
#
# 1. A draw by itself has no slope; torch then answers 0, or nothing.
# 2. Written as $x = \mu + \sigma\epsilon$, with all chance in $\epsilon$, it passes gradients to $\mu$ and $\sigma$, and their expectation is the gradient of $\mathbb E[f(x)]$.
# 3. The faces of a die jump, so nothing passes through them; there the loss of each throw is multiplied by the slope of its log probability.
# 4. Independent Gaussians merge into one Gaussian, since a round cloud has the same shadow from every side: means add, variances add, standard deviations do not.
# 5. The three wrong noises show in mean and variance, measured against their standard errors.
#
# | equation | function |
# |---|---|
# | density of $N(\mu, \sigma^2)$ | `Gaussian.log_prob` |
# | (1) $x = \mu + \sigma\epsilon$ | `Gaussian.sample`, `standard_normal` |
# | (2) independent Gaussians merge | `q_sample`, `q_marginal` (lesson 02) |
#
# **References.** Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning* (1992), for the score-function estimate. Kingma and Welling, *Auto-Encoding Variational Bayes* (2014), and Rezende, Mohamed and Wierstra, *Stochastic Backpropagation and Approximate Inference in Deep Generative Models* (2014), for the pathwise one. Mohamed, Rosca, Figurnov and Mnih, *Monte Carlo Gradient Estimation in Machine Learning* (2020), for both.
#
# **Next**: [02 · How does a picture turn into noise?](02_forward_process.ipynb)
