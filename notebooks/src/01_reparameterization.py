# %% [markdown]
# # 01 · How does a gradient pass through a die?
#
# A network learns by gradients: how would the loss change if this number were a little larger? But a random draw has no slope. This lesson shows how to write a draw as a mean plus a multiple of noise, so that gradients get through. A diffusion model needs that form for another reason: the noise in it is what the network learns to guess. A second fact makes diffusion cheap: many small noises are one noise.
#
# **At the end you can**
# - draw from a Gaussian so that gradients reach its mean and its variance;
# - estimate the gradient of a mean in two ways, and say which of them is less noisy, and when;
# - merge independent noises into one, and say why variances add and standard deviations do not;
# - recognise a wrong noise by its mean and its variance.
#
# **You need** PyTorch tensors and autograd (`backward`, `torch.autograd.grad`), and the mean and the variance of a random number. **Time**: about 75 minutes. In the code, `dc` is the package of this course, `lab` draws its figures and checks your answers, and `rng` is the source of chance; its seed is fixed, so the numbers repeat.

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
# A **sample**, or a draw, is one number that came up at random. Where it is likely to come up is told by a **density**: a curve that is high where draws are frequent, with area 1 under it. Below are 2 000 draws, and the density they come from.
#
# The density has the shape of a bell. This one is the **Gaussian**, or normal distribution. Two numbers fix it:
# - the **mean** $\mu$ ("mu"), where its centre lies;
# - the **variance** $\sigma^2$, the mean squared distance from the centre.
#
# The root of the variance, $\sigma$ ("sigma"), is the **standard deviation**: the width of the bell. We write $x \sim N(\mu, \sigma^2)$, "x is drawn from the Gaussian with mean $\mu$ and variance $\sigma^2$".
#
# `dc.Gaussian(mean, var)` is the pair of the *mean* and the *variance*. Its `sample` makes one draw for each entry of the mean, so 2 000 entries give 2 000 draws. In this course `var` is always a variance and `std` always a standard deviation.

# %%
bell = dc.Gaussian(torch.tensor(1.0), torch.tensor(0.25))  # so sigma is 0.5
draws = dc.Gaussian(torch.full((2000,), 1.0), bell.var).sample(generator=rng)
axis = torch.linspace(-1.5, 3.5, 5001)
density = bell.log_prob(axis).exp()

fig, (ax,) = lab.figure(width=7, height=3)
ax.hist(draws, bins=40, density=True, color=lab.SKY, label="2 000 draws")
ax.plot(axis, density, color=lab.BLACK, label="density")
ax.axvspan(0.5, 1.5, color=lab.ORANGE, alpha=0.3, label="mean ± one standard deviation")
ax.set(xlabel="x", ylabel="density")
ax.legend(fontsize="small")
lab.show(fig, "2 000 draws of N(1, 0.25) as a histogram: it follows the bell of the density.")

# %% [markdown]
# As a formula, the density is
#
# $$p(x) = \frac{1}{\sqrt{2\pi\sigma^2}}\; e^{-(x-\mu)^2/(2\sigma^2)}.$$
#
# `log_prob` returns its natural logarithm, $\log p(x) = -\tfrac12\big[(x-\mu)^2/\sigma^2 + \log(2\pi\sigma^2)\big]$.
#
# Two checks. An integral is nearly a sum over a fine grid, times the step of the grid. So we can compute the area under the curve, its mean $\int x\,p(x)\,dx$, and its variance. They should be 1, $\mu$ and $\sigma^2$. And torch has a normal distribution too, which must have the same $\log p$; that one wants the *standard deviation*.

# %%
step = axis[1] - axis[0]
area = (density * step).sum()
mean = (axis * density * step).sum()
var = ((axis - mean) ** 2 * density * step).sum()
print(f"area {area:.4f}, mean {mean:.4f}, variance {var:.4f}")
torch.testing.assert_close(
    torch.stack([area, mean, var]), torch.tensor([1, 1, 0.25]), rtol=0, atol=1e-4
)
by_torch = torch.distributions.Normal(bell.mean, bell.var.sqrt())
torch.testing.assert_close(by_torch.log_prob(axis), bell.log_prob(axis), rtol=0, atol=1e-12)

# %% [markdown]
# ## 2. A die has no slope
#
# Here is the task of the lesson. A loss $f(x)$ depends on a draw $x \sim N(\mu, \sigma^2)$, and we may choose $\mu$ and $\sigma$. One draw says little, so we look at the mean of $f(x)$ over all draws. It is written $\mathbb E[f(x)]$ and called the **expectation**. To make it smaller by gradient steps we need
#
# $$\frac{\partial}{\partial\mu}\,\mathbb E[f(x)] \qquad\text{and}\qquad \frac{\partial}{\partial\sigma}\,\mathbb E[f(x)].$$
#
# Take $f(x) = x^2$. The variance is $\mathbb E[x^2] - \mu^2$, so $\mathbb E[x^2] = \mu^2 + \sigma^2$. The gradients are $2\mu$ and $2\sigma$. What does torch say when it draws by itself?

# %%
mu, sigma = torch.tensor(1.5, requires_grad=True), torch.tensor(0.5, requires_grad=True)
x = torch.normal(mu.expand(1000), sigma.expand(1000), generator=rng)
by_mu, by_sigma = torch.autograd.grad((x**2).mean(), (mu, sigma))
print(f"true gradients: {2 * mu:.4f} and {2 * sigma:.4f}")
print(f"torch.normal:   {by_mu:.4f} and {by_sigma:.4f}")
x = torch.distributions.Normal(mu, sigma).sample()
print("does Normal(mu, sigma).sample() know where it came from?", x.requires_grad)

# %% [markdown]
# `torch.normal` answers 0, without a warning, and `sample()` of torch's `Normal` has no gradient at all.
#
# Neither is a bug. A draw is like a die: a number comes up. "What would have come up if $\mu$ had been a little larger?" has no answer: with a larger $\mu$ one would throw again. There is no formula from $\mu$ to $x$ that one could differentiate.
#
# ## 3. Move the die out
#
# So we make such a formula. Throw a die that knows nothing of $\mu$ and $\sigma$: $\epsilon \sim N(0, 1)$ ("epsilon", `eps` in code). Then shift and stretch what came up:
#
# $$x = \mu + \sigma\,\epsilon, \qquad \frac{\partial x}{\partial\mu} = 1, \qquad \frac{\partial x}{\partial\sigma} = \epsilon. \tag{1}$$
#
# This is the **reparameterization trick**. All chance is in $\epsilon$, and for a given $\epsilon$, $x$ is an ordinary function of $\mu$ and $\sigma$.
#
# Is this $x$ still a draw from $N(\mu, \sigma^2)$? For any number $a$, with $\sigma > 0$, $x \le a$ happens exactly when $\epsilon \le (a-\mu)/\sigma$. Write $\Phi(u)$ for the probability that $\epsilon \le u$. Then the probability of $x \le a$ is $\Phi\big((a-\mu)/\sigma\big)$. This probability is the area under the density of $x$ to the left of $a$, so its slope in $a$ is the height of the density at $a$. Torch has $\Phi$ as `torch.special.ndtr`. Autograd takes the slope, for $\mu = 1$ and $\sigma = 0.5$, and we compare it with the density of `bell`.

# %%
a = torch.linspace(-1, 3, 401, requires_grad=True)
below_a = torch.special.ndtr((a - 1.0) / 0.5)
(slope,) = torch.autograd.grad(below_a.sum(), a)
torch.testing.assert_close(slope, bell.log_prob(a.detach()).exp(), rtol=0, atol=1e-12)
print("1 + 0.5 eps has the density of N(1, 0.25), on the whole grid")

# %% [markdown]
# Now the gradient of the mean. The mean of $f(x)$ is a mean over $\epsilon$, and the density of $\epsilon$ does not contain $\mu$ or $\sigma$. So the derivative may be taken inside, draw by draw, by the chain rule, with $f'$ for the slope of $f$. ($f$ must be smooth and must not grow too fast; ours are fine.)
#
# $$\frac{\partial}{\partial\mu}\,\mathbb E[f(x)] = \mathbb E\big[f'(\mu+\sigma\epsilon)\big], \qquad
# \frac{\partial}{\partial\sigma}\,\mathbb E[f(x)] = \mathbb E\big[f'(\mu+\sigma\epsilon)\;\epsilon\big].$$
#
# The mean over some draws of what stands in the brackets is the **pathwise** estimate: the gradient follows the path from $\mu$ through $x$ to $f$. Here it is from scratch. Each draw gets its own copy of $\mu$ and $\sigma$. A copy stands in one term of the sum only, so its gradient is the gradient of that draw.


# %%
def pathwise(f, mu, sigma, eps):
    """The gradient of f(mu + sigma eps) by mu and by sigma, for each eps."""
    mus = (mu + 0 * eps).requires_grad_()
    sigmas = (sigma + 0 * eps).requires_grad_()
    x = mus + sigmas * eps
    return torch.autograd.grad(f(x).sum(), (mus, sigmas))


# %% [markdown]
# We test it on two functions whose mean is known:
#
# | $f(x)$ | $\mathbb E[f(x)]$ |
# |---|---|
# | $x^2$ | $\mu^2 + \sigma^2$ |
# | $\sin(20x)$ | $\sin(20\mu)\; e^{-200\sigma^2}$ |
#
# Section 8 derives the second one. Here both are checked by an integral on a grid. The bell is narrow, $\sigma = 0.05$: over a wide one the waves of the sine cancel, and its mean is nearly 0 for every $\mu$.

# %%
functions = {"x^2": lambda x: x**2, "sin(20x)": lambda x: torch.sin(20 * x)}
means = {
    "x^2": lambda mu, sigma: mu**2 + sigma**2,
    "sin(20x)": lambda mu, sigma: torch.sin(20 * mu) * torch.exp(-200 * sigma**2),
}
mu, sigma = torch.tensor(0.3, requires_grad=True), torch.tensor(0.05, requires_grad=True)
density = dc.Gaussian(mu, sigma**2).log_prob(axis).exp().detach()
true = {}
for name, f in functions.items():
    torch.testing.assert_close(
        means[name](mu, sigma), (f(axis) * density * step).sum(), rtol=0, atol=1e-9
    )
    true[name] = torch.autograd.grad(means[name](mu, sigma), (mu, sigma))
    print(f"{name:8s}  true gradients: {true[name][0]:8.4f} by mu, {true[name][1]:8.4f} by sigma")

# %% [markdown]
# How near must an estimate come? A mean over $n$ draws misses the true mean by chance. The typical size of that miss is the **standard error**: the standard deviation of one of the $n$ values, divided by $\sqrt n$. (Variances add, see section 8. So the sum has $n$ times the variance of one value, and the mean, a sum divided by $n$, has $1/n$ of it.) A Gaussian miss exceeds five standard errors less than once in a million times, so five is our bound, here and in the whole course.


# %%
def check_mean(values, truth):
    """Stop if the mean of the values is more than 5 standard errors from the truth."""
    error = (values.mean() - truth).abs()
    assert error < 5 * values.std() / math.sqrt(len(values)), (values.mean(), truth)
    return values.mean()


eps = torch.randn(100_000, generator=rng)
mu, sigma = mu.detach(), sigma.detach()
for name, f in functions.items():
    estimates = [
        check_mean(g, t) for g, t in zip(pathwise(f, mu, sigma, eps), true[name], strict=True)
    ]
    print(f"{name:8s}  pathwise:       {estimates[0]:8.4f} by mu, {estimates[1]:8.4f} by sigma")

# %% [markdown]
# The gradients arrive.
#
# ## 4. Move it yourself
#
# Below, 2 000 values of $\epsilon$ were drawn once and stay fixed. Drag $\mu$ and $\sigma$; the sliders have whole numbers, so both come in tenths. On the left, nine of the dice are joined to the draws they become. Moving $\mu$ moves every draw by the same amount: $\partial x/\partial\mu = 1$. Moving $\sigma$ moves a draw the more, the farther its $\epsilon$ is from 0: $\partial x/\partial\sigma = \epsilon$. On the right is the density, with the same draws below it. (How high a point lies means nothing; the points are spread so that one sees them.)

# %%
dice = torch.randn(2000, generator=rng)
height = 0.15 * torch.rand(2000, generator=rng)
nine = dice.sort().values[100::225]  # from small to large
fig, (left, right) = lab.figure(2, width=9, height=3.4)
left.plot(dice, 1 + height, "o", ms=2, mew=0, alpha=0.6, color=lab.ORANGE)
(moved,) = left.plot(dice, -height, "o", ms=2, mew=0, alpha=0.6, color=lab.BLUE)
(joined,) = left.plot([], [], "-", lw=1, color=lab.BLACK)
left.set(xlim=(-6, 6), ylim=(-0.3, 1.3), yticks=[0, 1], yticklabels=["x", "eps"], xlabel="value")
right.set(xlim=(-6, 6), ylim=(-0.2, 1.4), xlabel="x", ylabel="density")
(bell_curve,) = right.plot(axis, 0 * axis, color=lab.BLACK, ls="-")
(points,) = right.plot(dice, -height, "o", ms=2, mew=0, alpha=0.6, color=lab.BLUE)

# %% [markdown]
# The function below moves the picture. `nan` is "not a number", and a line has a gap there, so one `plot` holds all nine lines.


# %%
def explore_normal(mu, sigma):
    """Move the draws and the density; mu and sigma come in tenths."""
    mu, sigma = mu / 10, sigma / 10
    x = mu + sigma * dice
    wide = torch.linspace(-6, 6, 601)
    bell = dc.Gaussian(torch.tensor(mu), torch.tensor(sigma**2))
    for artist in (moved, points):
        artist.set_data(x, -height)
    gap = torch.full_like(nine, math.nan)
    ends = torch.stack([nine, mu + sigma * nine, gap], dim=1)
    joined.set_data(ends.flatten(), torch.tensor([1.0, 0.0, 0.0]).repeat(9))
    bell_curve.set_data(wide, bell.log_prob(wide).exp())
    return f"mu = {mu:.1f}, sigma = {sigma:.1f}: the points have mean {x.mean():.3f} and variance {x.var():.3f}."


controls = {
    "mu": lab.slider("mu in tenths", -20, 20, 15),
    "sigma": lab.slider("sigma in tenths", 3, 20, 5),
}
lab.Explorer(fig, [moved, points, joined, bell_curve], explore_normal, controls)

# %% [markdown]
# ## 5. The package's version
#
# `Gaussian.sample` is equation (1), with the standard deviation as the root of the variance. `standard_normal` draws $\epsilon$ in the shape of the mean. $N(0, I)$ means that every entry is an independent draw from $N(0, 1)$.

# %%
lab.show_source(dc.Gaussian.sample, dc.standard_normal)

# %% [markdown]
# The same die, from scratch and by the package: the same draws, and the same gradients. A Gaussian holds its variance, so our draw starts from the variance too. `manual_seed(1)` restarts the generator, so both get the same $\epsilon$. In torch's own `Normal` the trick is called `rsample`.

# %%
mean = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
var = torch.tensor([0.01, 1.0, 9.0], requires_grad=True)
ours = mean + var.sqrt() * torch.randn(3, generator=rng.manual_seed(1))
theirs = dc.Gaussian(mean, var).sample(generator=rng.manual_seed(1))
torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
torch.testing.assert_close(
    torch.autograd.grad((ours**2).sum(), (mean, var)),
    torch.autograd.grad((theirs**2).sum(), (mean, var)),
    rtol=0,
    atol=1e-12,
)
assert torch.distributions.Normal(mean, var.sqrt()).rsample().requires_grad
print("from scratch and by the package: the same draws, the same gradients")

# %% [markdown]
# ## 6. A second way: weigh the draws
#
# Sometimes $f$ has no slope, or we cannot look inside it: $f$ may be the points won in a game. Then there is another way. It does not move the draws, but asks how their *probability* moves. In four steps:
#
# 1. A mean is an integral, $\mathbb E[f(x)] = \int f(x)\,p(x)\,dx$, and $\mu$ stands only in $p$. So $\displaystyle\frac{\partial}{\partial\mu}\mathbb E[f(x)] = \int f(x)\,\frac{\partial p(x)}{\partial\mu}\,dx$.
# 2. The slope of a logarithm is $\displaystyle\frac{\partial \log p}{\partial\mu} = \frac1p\,\frac{\partial p}{\partial\mu}$. Solved for the last factor: $\displaystyle\frac{\partial p}{\partial\mu} = p\,\frac{\partial\log p}{\partial\mu}$.
# 3. Put that in: $\displaystyle\int f(x)\,\frac{\partial\log p(x)}{\partial\mu}\,p(x)\,dx$. There is $p$ again, so this is a mean over draws. The slope of $\log p$ at each draw is multiplied by $f(x)$, its weight:
#
# $$\frac{\partial}{\partial\mu}\,\mathbb E[f(x)] = \mathbb E\Big[f(x)\;\frac{\partial\log p(x)}{\partial\mu}\Big], \qquad\text{and the same with } \sigma.$$
#
# 4. For the Gaussian, differentiate $\log p$ from section 1, and use $x-\mu = \sigma\epsilon$:
#
# $$\frac{\partial\log p}{\partial\mu} = \frac{x-\mu}{\sigma^2} = \frac{\epsilon}{\sigma}, \qquad
# \frac{\partial\log p}{\partial\sigma} = \frac{(x-\mu)^2}{\sigma^3} - \frac1\sigma = \frac{\epsilon^2-1}{\sigma}.$$
#
# The slope of $\log p$ by a parameter is called the **score function** in statistics. It gives this estimate its name. (Later lessons use the word "score" for the slope of $\log p$ by $x$; for the Gaussian that is $-\epsilon/\sigma$.)


# %%
def score_function(f, mu, sigma, eps):
    """The score-function estimate of both gradients, for each eps; f is only evaluated."""
    value = f(mu + sigma * eps)
    return value * eps / sigma, value * (eps**2 - 1) / sigma


mus, sigmas = (mu + 0 * eps).requires_grad_(), (sigma + 0 * eps).requires_grad_()
log_p = dc.Gaussian(mus, sigmas**2).log_prob(mu + sigma * eps)
slopes = torch.autograd.grad(log_p.sum(), (mus, sigmas))
torch.testing.assert_close(
    slopes, score_function(torch.ones_like, mu, sigma, eps), rtol=0, atol=1e-8
)
for name, f in functions.items():
    both = zip(score_function(f, mu, sigma, eps), true[name], strict=True)
    estimates = [check_mean(values, truth) for values, truth in both]
    print(f"{name:8s}  score function: {estimates[0]:8.4f} by mu, {estimates[1]:8.4f} by sigma")

# %% [markdown]
# The first check holds the slopes of $\log p$ against autograd, with $f = 1$. The second holds the estimates against the true gradients. Both ways are right. They are not equally good.
#
# ## 7. Which is less noisy?
#
# Both ways have the right mean, so the one with the smaller variance is better: with a tenth of the variance, a tenth of the draws gives the same standard error.
#
# **Predict, then run.** The next cell measures the variance of one draw's gradient by $\mu$, for $\mu = 0.3$ and $\sigma = 1$. Which way wins for $x^2$? Which for $\sin(20x)$? Decide before you run it.

# %%
spread = {}
for name, f in functions.items():
    for way in (pathwise, score_function):
        spread[name, way] = way(f, mu, torch.tensor(1.0), eps)[0].var()
    path, score = spread[name, pathwise], spread[name, score_function]
    print(f"{name:8s}  variance: pathwise {path:8.4f}, score function {score:8.4f}")
assert spread["x^2", pathwise] < spread["x^2", score_function]
assert spread["sin(20x)", pathwise] > spread["sin(20x)", score_function]

# %% [markdown]
# For $x^2$ the pathwise estimate wins, for $\sin(20x)$ it loses by far. Why?
#
# - The **pathwise** estimate is the *slope* $f'(x)$. For $\sin(20x)$ the slope is $20\cos(20x)$. It jumps between −20 and 20 from draw to draw, and as $\cos^2$ is one half on average, its mean square is about $400/2 = 200$. The wiggles cancel in the mean, but not in the variance.
# - The **score-function** estimate is the *value* $f(x)$, times $\epsilon/\sigma$. The values of $\sin(20x)$ lie between −1 and 1, so nothing large comes in. The values of $x^2$ can be large, and they are multiplied by a random sign. And it is divided by $\sigma$: with a narrow bell this estimate gets noisy.
#
# So the second way should lose for $\sin(20x)$ too, once $\sigma$ is small. The figure shows the measured variance for many $\sigma$.

# %%
widths = torch.logspace(-2, 0, 25)
few = eps[:20_000]
fig, axes = lab.figure(2, width=9, height=3.2)
for ax, (name, f) in zip(axes, functions.items(), strict=True):
    path = torch.stack([pathwise(f, mu, width, few)[0].var() for width in widths])
    score = torch.stack([score_function(f, mu, width, few)[0].var() for width in widths])
    ax.loglog(widths, path, label="pathwise")
    ax.loglog(widths, score, label="score function")
    ax.set(xlabel="sigma", ylabel="variance of one gradient", title=f"f(x) = {name}, mu = 0.3")
    ax.legend()
    smaller = path < score
    assert smaller.all() if name == "x^2" else (smaller[0] and not smaller[-1])
lab.show(
    fig, "x^2: pathwise is less noisy at each sigma. sin(20x): pathwise wins for small sigma only."
)

# %% [markdown]
# So what counts is how fast $f$ wiggles within the width of the bell. The losses of networks seldom wiggle that fast, so the pathwise way is the usual one.
#
# The second way has one more use. A real die has six faces, and no formula $\mu + \sigma\epsilon$ moves a face a little. But a loaded die can be loaded a little more: its probabilities have a slope. So the answer to the title is: shift and stretch the die where you can; where you cannot, weigh the draws.
#
# Try it. Each estimate below is a mean of some draws, and there are 500 estimates of each kind. The histograms show by how much they miss the true gradient. What lies farther out than 15 is counted in the outermost bars. The typical error is the root of the mean squared miss.

# %%
centres = torch.linspace(-15, 15, 61)  # of bars half a unit wide
fig, (ax,) = lab.figure(width=8, height=3.2)
ax.set(xlabel="estimate minus true gradient by mu", ylabel="share of estimates", ylim=(0, 1))
lines = {}
for way, color in ((pathwise, lab.BLUE), (score_function, lab.ORANGE)):
    label = way.__name__.replace("_", " ")
    (lines[way],) = ax.plot(centres, 0 * centres, color=color, label=label, drawstyle="steps-mid")
ax.legend()
many = torch.randn(500, 200, generator=rng)  # a row for each estimate

# %% [markdown]
# The true gradient comes from the known means in section 3, by autograd. A widget runs without gradients, so the function switches them on.


# %%
def explore_estimators(f, sigma, draws):
    """Show the errors of 500 estimates of each kind; sigma comes in hundredths."""
    width, spreads = torch.tensor(sigma / 100), []
    with torch.enable_grad():
        at_mu = mu.clone().requires_grad_()
        (truth,) = torch.autograd.grad(means[f](at_mu, width), at_mu)
        for way, line in lines.items():
            errors = way(functions[f], mu, width, many[:, :draws])[0].mean(1) - truth
            counts = torch.histc(errors.clamp(-15, 15), bins=61, min=-15.25, max=15.25)
            line.set_ydata(counts / 500)
            spreads.append(errors.square().mean().sqrt())
    path, score = spreads
    return (
        f"f = {f}, sigma = {sigma / 100:.2f}, draws for each estimate: {draws}; "
        f"typical error {path:.3f} pathwise, {score:.3f} score function."
    )


choices = {
    "f": lab.choice("f", list(functions), "sin(20x)"),
    "sigma": lab.slider("sigma in hundredths", 2, 100, 100),
    "draws": lab.slider("draws", 1, 200, 10),
}
lab.Explorer(fig, list(lines.values()), explore_estimators, choices)

# %% [markdown]
# ## 8. Two dice become one
#
# Now the second fact. Add two **independent** noises, two draws that know nothing of each other: one with $\sigma_1 = 0.6$ and one with $\sigma_2 = 0.8$. On the left are their bells, the histogram of the sums, and one more bell: that of $N(0, 1)$. The histogram follows it. So the standard deviations 0.6 and 0.8 make 1.0, not 1.4. They add like the two short sides of a triangle with a right angle, which is drawn on the right: $0.6^2 + 0.8^2 = 1^2$.

# %%
eps_1, eps_2 = torch.randn(2, 100_000, generator=rng)
total = 0.6 * eps_1 + 0.8 * eps_2
line = torch.linspace(-6, 6, 1201)
zero = torch.tensor(0.0)
bells = {
    std: dc.Gaussian(zero, torch.tensor(std**2)).log_prob(line).exp() for std in (0.6, 0.8, 1.0)
}

fig, (left, right) = lab.figure(2, width=9, height=3.2)
left.hist(total, bins=80, density=True, color=lab.SKY, label="0.6 eps_1 + 0.8 eps_2")
for std, style in ((0.6, "--"), (0.8, "-."), (1.0, "-")):
    left.plot(line, bells[std], ls=style, color=lab.BLACK, label=f"density, std {std}")
left.set(xlim=(-4, 4), xlabel="value", ylabel="density")
left.legend(fontsize="small", loc="upper left")
right.plot([0, 0.8, 0.8, 0], [0, 0, 0.6, 0], ls="-", color=lab.BLACK)
for x, y, text in ((0.4, -0.06, "0.8"), (0.86, 0.3, "0.6"), (0.33, 0.33, "1.0")):
    right.text(x, y, text, ha="center", va="center")
right.set(aspect="equal", xlim=(-0.1, 1), ylim=(-0.15, 0.7))
right.axis("off")
lab.show(
    fig,
    "The sum of noises with std 0.6 and 0.8 fills the bell with std 1.0, as in a right triangle.",
)

# %% [markdown]
# In symbols, for independent $\epsilon_1, \epsilon_2, \epsilon$, each drawn from $N(0, 1)$:
#
# $$\sigma_1\epsilon_1 + \sigma_2\epsilon_2 \;\text{ has the same distribution as }\; \sqrt{\sigma_1^2+\sigma_2^2}\;\epsilon. \tag{2}$$
#
# Why do *variances* add? For independent numbers the mean of a product is the product of the means. If $a$ and $b$ have mean 0, then $\mathbb E[ab] = 0$, and $\mathbb E[(a+b)^2] = \mathbb E[a^2] + 2\,\mathbb E[ab] + \mathbb E[b^2]$ loses its middle term. Standard deviations are the roots, so they do not add.
#
# All this holds for any independent noises. That the sum is *Gaussian* again is special. To see it we need a fingerprint of a distribution, its **characteristic function**
#
# $$\varphi_x(k) = \mathbb E\big[e^{ikx}\big] = \mathbb E[\cos kx] + i\,\mathbb E[\sin kx],$$
#
# where $k$ is any number and $i^2 = -1$. Two distributions with the same $\varphi$ for all $k$ are the same; we take this theorem as given. The fingerprint of the sum now follows in four steps.
#
# 1. **One die.** The bell of $N(0,1)$ is $p(\epsilon) = e^{-\epsilon^2/2}/\sqrt{2\pi}$, and its slope is $p'(\epsilon) = -\epsilon\,p(\epsilon)$. Take any smooth $g$ that grows more slowly than the bell falls, so that $g\,p$ is 0 at both far ends. Integration by parts then gives $\mathbb E[\epsilon\,g(\epsilon)] = -\int g\,p'\,d\epsilon = \int g'\,p\,d\epsilon = \mathbb E[g'(\epsilon)]$. Take $g(\epsilon) = e^{ik\epsilon}$, with slope $g' = ik\,e^{ik\epsilon}$. The slope of $\varphi_\epsilon$ in $k$ is then
# $$\varphi_\epsilon'(k) = \mathbb E\big[i\,\epsilon\,e^{ik\epsilon}\big] = i\;\mathbb E\big[ik\,e^{ik\epsilon}\big] = -k\,\varphi_\epsilon(k).$$
# So the product $\varphi_\epsilon(k)\,e^{k^2/2}$ has slope $-k\,\varphi_\epsilon\,e^{k^2/2} + \varphi_\epsilon\,k\,e^{k^2/2} = 0$. At $k=0$ it is 1, hence everywhere: $\varphi_\epsilon(k) = e^{-k^2/2}$.
# 2. **Shift and stretch.** $\mathbb E\big[e^{ik(\mu+\sigma\epsilon)}\big] = e^{ik\mu}\,\varphi_\epsilon(\sigma k) = e^{ik\mu}\,e^{-\sigma^2k^2/2}$. (For $k = 20$, the part with $i$ is $\mathbb E[\sin 20x] = \sin(20\mu)\,e^{-200\sigma^2}$: the formula of section 3.)
# 3. **Add.** $e^{ik(a+b)} = e^{ika}\,e^{ikb}$, and for independent $a$ and $b$ the mean of this product is again the product of the means: $\varphi_{a+b}(k) = \varphi_a(k)\,\varphi_b(k)$.
# 4. **Put together.** $\varphi(k) = e^{-\sigma_1^2k^2/2}\,e^{-\sigma_2^2k^2/2} = e^{-(\sigma_1^2+\sigma_2^2)\,k^2/2}$. By step 2 with $\mu = 0$, that is the fingerprint of $\sqrt{\sigma_1^2+\sigma_2^2}\;\epsilon$.
#
# For noises with means $\mu_1$ and $\mu_2$ the other factors multiply too: $e^{ik\mu_1}e^{ik\mu_2} = e^{ik(\mu_1+\mu_2)}$, so **means add and variances add**.
#
# The next cell draws the fingerprint. $\mathbb E[\sin kx]$ is 0 by symmetry, so $\mathbb E[\cos kx]$ is all of it. Dots are means over the draws, and each must lie within 5 standard errors of the curve.

# %%
ks = torch.arange(1, 17) / 4
fig, (ax,) = lab.figure(width=7, height=3)
for x, std, label in (
    (0.6 * eps_1, 0.6, "0.6 eps_1"),
    (0.8 * eps_2, 0.8, "0.8 eps_2"),
    (total, 1.0, "sum"),
):
    curve = torch.exp(-(std**2) * ks**2 / 2)
    dots = [check_mean(torch.cos(k * x), exact) for k, exact in zip(ks, curve, strict=True)]
    for k in ks:
        check_mean(torch.sin(k * x), 0.0)
    (drawn,) = ax.plot(ks, curve, label=label)
    ax.plot(ks, dots, "o", ms=4, color=drawn.get_color())
ax.set(xlabel="k", ylabel="mean of cos(k x)")
ax.legend()
lab.show(
    fig, "Fingerprints of both noises and of their sum: the sum's is the product of the other two."
)

# %% [markdown]
# Two more checks, of other kinds. The moments, which are means of powers: the variance of the sum must be 1, and the mean of $x^4$ must be 3: by step 1 with $g(\epsilon) = \epsilon^3$, $\mathbb E[\epsilon^4] = 3\,\mathbb E[\epsilon^2] = 3$. And no dice at all: the density of a sum is the **convolution** of the two densities,
#
# $$p_{a+b}(x) = \int p_a(y)\;p_b(x-y)\;dy,$$
#
# because $a = y$ and $b = x-y$ together make $x$. The cell computes this integral on a grid, for every $x$ between −6 and 6.

# %%
print(f"variance {check_mean(total**2, 1.0):.4f}, mean of x^4 {check_mean(total**4, 3.0):.4f}")
b = dc.Gaussian(zero, torch.tensor(0.8**2))
p_b = b.log_prob(line[:, None] - line[None, :]).exp()  # row x, column y
convolved = (p_b * bells[0.6]).sum(1) * (line[1] - line[0])
torch.testing.assert_close(convolved, bells[1.0], rtol=0, atol=1e-12)
print("the convolution of the bells with std 0.6 and 0.8 is the bell with std 1.0")

# %% [markdown]
# **Why diffusion needs this.** Lesson 02 adds a little noise to a picture, again and again, often a thousand times. Use (2) again and again: three noises are one, four are one, and a thousand are one. (Each step also shrinks what is there a little. That only makes the $\sigma$ of the earlier noises smaller.) So a picture after 500 steps costs one draw, not 500, and training becomes affordable.
#
# ## 9. Predict, then run
#
# Start at 0 and add a thousand independent noises, each with standard deviation 0.05. How far from 0 do you end, typically? Is the standard deviation of the sum nearer to 0.05, to 1.6 or to 50? Write down a number before you run the cell.

# %%
ends = (0.05 * torch.randn(1000, 5000, generator=rng)).sum(0)
at_once = math.sqrt(1000 * 0.05**2)
check_mean(ends**2, at_once**2)
print(f"5 000 sums of 1 000 noises: standard deviation {ends.std():.4f}; by (2): {at_once:.4f}")

# %% [markdown]
# The *variances* add up: $1000\cdot 0.0025 = 2.5$, and $\sqrt{2.5} \approx 1.58$. Most of the steps undo one another. The spread grows with the root of the number of steps.
#
# ## 10. What breaks
#
# The task: add ten independent noises, each of variance 0.1. By (2) the sum is $N(0, 1)$. Three mistakes that people make:
#
# - **`rand` for `randn`**: `torch.rand` draws evenly between 0 and 1. Each draw has mean ½ and variance 1/12.
# - **The root is missing**: the variance 0.1 is used where the standard deviation $\sqrt{0.1}$ belongs.
# - **Standard deviations added**: one draw stands for all ten, with $\sigma = 10\cdot\sqrt{0.1}$.
#
# What will each do to the mean and the variance?

# %%
z, u = torch.randn(10, 20_000, generator=rng), torch.rand(10, 20_000, generator=rng)
sums = {
    "right": (math.sqrt(0.1) * z).sum(0),
    "rand for randn": (math.sqrt(0.1) * u).sum(0),
    "root missing": (0.1 * z).sum(0),
    "std added": 10 * math.sqrt(0.1) * z[0],
}
fig, axes = lab.figure(4, width=12, height=2.8, sharey=True)
for ax, (name, x) in zip(axes, sums.items(), strict=True):
    ax.hist(x, bins=100, range=(-10, 10), density=True, color=lab.SKY)
    ax.plot(line, bells[1.0], color=lab.BLACK, ls="-")
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
# By hand: `rand` gives the mean $10\sqrt{0.1}/2 \approx 1.58$ and the variance $10\cdot 0.1/12 \approx 0.083$. Without the root the variance is $10\cdot 0.1^2 = 0.1$. Added standard deviations give $(10\sqrt{0.1})^2 = 10$.
#
# Look at the second picture again. It has the shape of a bell, though a narrow and shifted one: sums of many independent draws look nearly Gaussian, whatever is drawn, if its variance is finite (the **central limit theorem**). Without the black curve beside it you would not notice. The mean and the variance, each with its standard error, find all three mistakes. The package's samplers are tested that way.
#
# ## 11. Exercises
#
# `lab.check` compares your answer with the package's. If you are stuck, take the `#` away from `lab.hint`; each run shows one more hint.
#
# **Exercise 1.** Write `merge_std(sigma1, sigma2)`: the standard deviation of the sum of two independent noises with these standard deviations. Both are tensors of the same shape, and so is the answer.


# %%
# STARTER
def merge_std(sigma1, sigma2):
    return None  # your line here


# SOLUTION
def merge_std(sigma1, sigma2):
    return (sigma1**2 + sigma2**2).sqrt()


# %%
lab.check("01.1", merge_std)
# lab.hint("01.1")

# %% [markdown]
# **Exercise 2. Find the mistakes.** A colleague draws $x \sim N(\mu, \sigma^2)$ for a batch of $B$ points in the plane. `mean` and `eps` have shape (B, 2). `var` has shape (B,): one variance for each point. The spread of the draws is wrong, and during training `mean` never moves:
#
# ```python
# def reparameterize(mean, var, eps):
#     with torch.no_grad():
#         return mean + var[:, None] * eps
# ```
#
# There are two mistakes. Repair both, and return the draws, of shape (B, 2).


# %%
# STARTER
def reparameterize(mean, var, eps):
    return None  # your line here


# SOLUTION
def reparameterize(mean, var, eps):
    return mean + var[:, None].sqrt() * eps


# %%
lab.check("01.2", reparameterize)
# lab.hint("01.2")

# %% [markdown]
# **Exercise 3. Derive.** `Gaussian` holds the variance, so gradients go to `var`, not to $\sigma$. Write $v$ for the variance: $x = \mu + \sqrt v\;\epsilon$. Work out $\partial x/\partial v$ on paper, and enter it as `slope_of_var(var, eps)`. Do not use autograd: the check compares your formula with it. Both arguments are tensors of the same shape, and so is the answer.


# %%
# STARTER
def slope_of_var(var, eps):
    return None  # your line here


# SOLUTION
def slope_of_var(var, eps):
    return eps / (2 * var.sqrt())


# %%
lab.check("01.3", slope_of_var)
# lab.hint("01.3")

# %% [markdown]
# ## 12. Summary
#
# 1. A draw by itself has no slope; torch then answers 0, or nothing.
# 2. Written as $x = \mu + \sigma\epsilon$, with all chance in $\epsilon$, it passes gradients to $\mu$ and $\sigma$, and their mean over draws is the gradient of $\mathbb E[f(x)]$.
# 3. The score-function estimate needs only values of $f$; it is noisier for smooth $f$, and less noisy for $f$ that wiggle within the width of the bell.
# 4. Independent Gaussians merge into one Gaussian: means add, variances add, standard deviations do not.
# 5. A wrong noise shows in the mean and the variance, measured against their standard errors.
#
# | equation | function |
# |---|---|
# | density of $N(\mu, \sigma^2)$ | `Gaussian.log_prob` |
# | (1) $x = \mu + \sigma\epsilon$ | `Gaussian.sample`, `standard_normal` |
# | (2) Gaussians merge | `q_sample`, `q_marginal` (lesson 02) |
#
# **References.** Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning* (1992), for the score-function estimate. Kingma and Welling, *Auto-Encoding Variational Bayes* (2014), and Rezende, Mohamed and Wierstra, *Stochastic Backpropagation and Approximate Inference in Deep Generative Models* (2014), for the pathwise one. Mohamed, Rosca, Figurnov and Mnih, *Monte Carlo Gradient Estimation in Machine Learning* (2020), for both.
#
# **Next**: [02 · How does a picture turn into noise?](02_forward_process.ipynb)
