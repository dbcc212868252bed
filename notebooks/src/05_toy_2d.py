# %% [markdown]
# # 05 · Can a network learn to walk back?
#
# Lesson 02 turned data into noise. Here a small network learns the way back, on points in the plane. Our points come from a known mixture, so the perfect answer is known exactly, and we see how far the network is from it.
#
# **At the end you can**
# - say what the network is asked, and what the best possible answer is;
# - write Algorithm 1 (training) and Algorithm 2 (sampling) from empty cells, and draw moons of your own;
# - read a guess of the noise as a guess of the data, a step back, and a score;
# - measure samples in multiples of what chance alone gives;
# - recognise two common mistakes by what they do to the samples.
#
# **You need** lesson 02, lesson 03 for why formula (8) holds, and PyTorch modules and optimizers. **Time**: about 80 minutes.

# %%
import warnings
from functools import cache, partial

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import metrics, toys
from diffusion_core.nets import MLP

# %% [markdown]
# ## 1. The picture first
#
# On the left, 2 000 points of pure noise. In $T = 200$ steps they find their way into the shape of the data, two moons. A **denoiser** tells them where to go (section 2). This one is exact, as our moons are exactly a mixture (lesson 02) of 100 small Gaussians, with centres along two half circles.

# %%
rng = torch.Generator().manual_seed(0)
schedule = dc.vp_schedule(200)
centres, std = toys.toy_centres("moons", 100)
truth = dc.mixture(centres, std**2)  # the distribution of the data
exact = dc.mixture_eps_model(schedule, truth)

x_T = torch.randn(2000, 2, generator=rng)
walk_home = dc.sample_chain(dc.ddpm_step, schedule, exact, x_T, generator=rng)
states = [x_T, *(step.x_t for step in walk_home)]  # at t = 200, 199, ..., 0

fig, axes = lab.figure(3, width=12, height=4.1)
lab.draw_points(axes[0], x_T, color="0.6", title="t = 200: noise")
lab.draw_points(axes[1], states[-1], color="0.85")
moving = lab.draw_points(axes[1], x_T, title="on the way, with the ends in grey")
axes[2].plot(torch.zeros(2000) - 2, states[-1][:, 1], "_", color="0.6", ms=6)  # the ends
(trails,) = axes[2].plot([], [], color=lab.ORANGE, lw=0.8, ls="-")
(heads,) = axes[2].plot([], [], "s", color=lab.BLACK, ms=4)
axes[2].set(xlim=(205, -5), ylim=(-3.2, 3.2), xlabel="t: noise left, data right")
labels = axes[2].set(ylabel="second coordinate", title="twelve of the walks")

# %% [markdown]
# Drag the slider, or press play. On the right, twelve of the points: their second coordinate against $t$, all ends as a grey bar. When do the moons become visible? (Section 6 computes when a point's moon is decided.)


# %%
def move_home(done):
    """Show the points after some of the 20 parts of the way."""
    past = torch.stack(states[: 10 * done + 1])[:, :12, 1]  # (steps, 12)
    t = torch.arange(200.0, 199.0 - 10 * done, -1)
    gap = torch.full((1,), torch.nan)
    moving.set_data(*states[10 * done].T)
    trails.set_data(torch.cat([t, gap] * 12), torch.cat([torch.cat([y, gap]) for y in past.T]))
    heads.set_data(torch.full((12,), t[-1]), past[-1])
    return f"{done} of 20 parts of the way are done: the points are at t = {200 - 10 * done}."


parts = {"done": lab.slider("parts of the way", 0, 20, 18)}
lab.Explorer(fig, [moving, trails, heads], move_home, parts, play="done")

# %% [markdown]
# ## 2. What the network is asked
#
# By (4) of lesson 02, $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ with data $x_0$ and noise $\epsilon \sim N(0, I)$. The network sees $x_t$ and $t$ and is asked: **which noise $\epsilon$ is in there?** Its answer is $\hat\epsilon = \epsilon_\theta(x_t, t)$, where $\theta$ stands for its weights. In code that is an `eps_model(x_t, t)`, with one $t$ for each row of $x_t$.
#
# An answer is also a guess of the clean data. Solve for $x_0$:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\hat\epsilon}{\sqrt{\bar\alpha_t}}.$$
#
# The question has no certain answer, for many $x_0$ could have led to the same $x_t$. Which? Each of 20 000 data could have ended at $x_t$ with the density $N(x_t;\ \sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)I)$. All are equally likely before we look; so by Bayes' rule these numbers, divided by their sum, are their shares given $x_t$.

# %%
x0 = truth.sample(20_000, generator=rng)
noise = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)


def weigh_data(x_t, t):
    """Return the share of each of the 20 000 data, given one x_t."""
    alpha_bar_t = schedule.alpha_bars[t]
    squared = (x_t - alpha_bar_t.sqrt() * x0).square().sum(1)
    return (-squared / (2 * (1 - alpha_bar_t))).softmax(0)  # exp, divided by the sum


fig, axes = lab.figure(2, width=9, height=4.3, sharey=True)
around = lab.draw_points(axes[0], x0[:0], color="0.7", title="noisy data, and one x_t")
(here,) = axes[0].plot([], [], "s", color=lab.BLACK, ms=8)
lab.draw_points(axes[1], x0[:2000], color="0.8")
cloud = lab.draw_points(axes[1], x0[:0], title="data that could have led there")
axes[1].set_ylabel("")
(middle,) = axes[1].plot([], [], "*", color=lab.RED, ms=15, mec=lab.BLACK)

# %% [markdown]
# Move $x_t$, then $t$. The blue cloud is 300 draws from $q(x_0 \mid x_t)$, the red star its mean, both from the exact mixture. Can you find an $x_t$ whose star lies where no data are? And a $t$ at which hardly anything of the noise is unknown, though the clean point could be anywhere?


# %%
def show_cloud(t, first, second):
    """Draw the cloud q(x_0 | x_t) of one x_t, and say how much of the noise stays unknown."""
    x_t, alpha_bar_t = torch.tensor([first, second], dtype=x0.dtype), schedule.alpha_bars[t]
    root, noise_var = alpha_bar_t.sqrt(), (1 - alpha_bar_t).item()
    could_be = dc.condition(truth, lambda clean: root * clean, x_t, noise_var)  # q(x_0 | x_t)
    mean, cov = could_be.moments()
    around.set_data(*dc.q_sample(schedule, x0[:2000], t, noise[:2000]).T)
    here.set_data(*x_t[:, None])
    cloud.set_data(*could_be.sample(300, generator=torch.Generator().manual_seed(0)).T)
    middle.set_data(*mean[:, None])
    left = cov.trace() / 2 * alpha_bar_t / noise_var
    above = " Two very different noises are possible; the mean over all x_t is at most 1."
    return (
        f"t = {t}, x_t = ({first:g}, {second:g}): x_0 is ({mean[0]:.2f}, {mean[1]:.2f}) on average;"
        f" the variance of the noise, 1 before we look, is now {left:.3f}." + above * (left > 1)
    )


controls = {
    "t": lab.slider("t", 1, 200, 20),
    "first": lab.slider("first of x_t", -2.0, 2.0, -0.6, 0.1),
    "second": lab.slider("second of x_t", -2.0, 2.0, 1.0, 0.1),
}
lab.Explorer(fig, [around, here, cloud, middle], show_cloud, controls)

# %% [markdown]
# At best a network is right *on average*. Write $\epsilon^* = \mathbb E[\epsilon \mid x_t]$ for the mean of all noises that could be in $x_t$, each weighted by its share. For any answer $g$ (lesson 03, section 8)
#
# $$\mathbb E\big[|\epsilon - g|^2 \mid x_t\big] = \mathbb E\big[|\epsilon - \epsilon^*|^2 \mid x_t\big] + |g - \epsilon^*|^2.$$
#
# The first part is the width of the cloud, which nobody can change. **The best answer is the conditional mean.**
#
# We need one fact. For jointly Gaussian numbers $a$ and $b$,
#
# $$\mathbb E[a \mid b] = \mathbb E[a] + \frac{\text{Cov}(a, b)}{\text{Var}(b)}\,(b - \mathbb E[b]), \qquad \text{Var}(a \mid b) = \text{Var}(a) - \frac{\text{Cov}(a, b)^2}{\text{Var}(b)}.$$
#
# For equal shares of $N(m_k, w^2 I)$ the best answer has a formula. Given $k$, both $\epsilon$ and $x_t$ are Gaussian, with covariance $\sqrt{1-\bar\alpha_t}$, and $x_t$ has the mean $\sqrt{\bar\alpha_t}\,m_k$ and the variance $V_t = \bar\alpha_t w^2 + 1-\bar\alpha_t$. Put $a = \epsilon$ and $b = x_t$, then average over $k$:
#
# $$\epsilon^*(x_t, t) = \sum_k p(k \mid x_t)\,\frac{\sqrt{1-\bar\alpha_t}}{V_t}\,(x_t - \sqrt{\bar\alpha_t}\,m_k), \qquad p(k \mid x_t) \propto \exp\Big(\!-\frac{|x_t-\sqrt{\bar\alpha_t}\,m_k|^2}{2V_t}\Big).$$
#
# That is `exact`. The 20 000 data must give the same mean, up to chance:

# %%
for t, place in ((20, (0.5, 0.9)), (50, (0.2, 0.0)), (120, (-1.0, 0.5))):
    x_t, alpha_bar_t = torch.tensor([place], dtype=torch.float64), schedule.alpha_bars[t]
    shares = weigh_data(x_t, t)[:, None]
    noises = (x_t - alpha_bar_t.sqrt() * x0) / (1 - alpha_bar_t).sqrt()  # those that could be in it
    mean = (shares * noises).sum(0)
    chance = (shares.square() * (noises - mean).square()).sum(0).sqrt()  # standard error
    (best,) = exact(x_t, torch.tensor([t]))
    assert ((mean - best).abs() < 5 * chance).all()
    print(
        f"t = {t}: mean by the data ({mean[0]:.4f}, {mean[1]:.4f}), standard errors "
        f"({chance[0]:.4f}, {chance[1]:.4f}), exact ({best[0]:.4f}, {best[1]:.4f})"
    )

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the formula by hand, and three worse answers
#
# First the sum over $k$, written out for five places at $t = 30$. Then three changes of the exact answer, at random $t$ (`draw_t` draws from $1, \dots, T$, all equally likely): each must make the mean squared error larger, by the mean square of the change.

# %%
x, alpha_bar_t = x_T[:5].double(), schedule.alpha_bars[30]
apart = x[:, None] - alpha_bar_t.sqrt() * centres  # (5, 100, 2): from each centre to each place
V = alpha_bar_t * std**2 + 1 - alpha_bar_t
p_k = (-apart.square().sum(2) / (2 * V)).softmax(1)
by_hand = ((1 - alpha_bar_t).sqrt() / V) * (p_k[..., None] * apart).sum(1)
torch.testing.assert_close(exact(x, torch.full((5,), 30)), by_hand, rtol=1e-9, atol=1e-12)

t = dc.draw_t(schedule, x0, rng)
x_t = dc.q_sample(schedule, x0, t, noise)
best = exact(x_t, t)
for change in (0.1 * best, torch.tensor([0.1, 0.0]), -0.1 * x_t):
    worse = (noise - best - change).square().mean(1) - (noise - best).square().mean(1)
    mixed = worse - change.square().mean(-1)  # the mixed term: 0 on average
    assert worse.mean() > 5 * worse.std() / len(x0) ** 0.5
    assert mixed.mean().abs() < 5 * mixed.std() / len(x0) ** 0.5
print("by hand and by the package: the same numbers; each change costs the mean of its square")

# %% [markdown]
# ## 3. What a guess is good for
#
# **A step back.** If we knew $x_0$, we would know $x_{t-1}$ up to a little noise: it follows the **posterior** (lesson 03)
#
# $$q(x_{t-1} \mid x_t, x_0) = N\big(\tilde\mu_t,\ \tilde\beta_t I\big), \quad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t, \quad
# \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t. \tag{8}$$
#
# We put $\hat x_0$ in the place of $x_0$. Collected in $x_t$ and $\hat\epsilon$, the mean is
#
# $$\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\hat\epsilon\Big). \tag{11}$$
#
# Even with the exact answer only the mean is right, shape and variance nearly; small steps help (lesson 03, section 6).
#
# **A jump.** Put both guesses into $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, read at an earlier $s < t$:
#
# $$x_s = \sqrt{\bar\alpha_s}\;\hat x_0 + \sqrt{1-\bar\alpha_s}\;\hat\epsilon.$$
#
# No noise is drawn. This is **DDIM** (with $\eta = 0$; $\eta$ is the share of fresh noise, lesson 09).
#
# **A slope.** The density of $x_t$ is $q(x_t) = \int q(x_t \mid x_0)\,q(x_0)\,dx_0$. The slope of the Gaussian $q(x_t \mid x_0)$ in $x_t$ is itself times $-(x_t - \sqrt{\bar\alpha_t}\,x_0)/(1-\bar\alpha_t) = -\epsilon/\sqrt{1-\bar\alpha_t}$. So
#
# $$\nabla \log q(x_t) = \frac{\nabla q(x_t)}{q(x_t)} = \int \frac{q(x_t \mid x_0)\,q(x_0)}{q(x_t)}\,\frac{-\epsilon}{\sqrt{1-\bar\alpha_t}}\,dx_0 = -\frac{\epsilon^*(x_t, t)}{\sqrt{1-\bar\alpha_t}}.$$
#
# This slope of the log density is called the **score**. It points where the density grows fastest. Autograd agrees:

# %%
x_t = x_T[:100].double().requires_grad_()
for t in (1, 50, 200):
    (slope,) = torch.autograd.grad(dc.diffuse(schedule, truth, t).log_prob(x_t).sum(), x_t)
    score = -exact(x_t.detach(), torch.full((100,), t)) / (1 - schedule.alpha_bars[t]).sqrt()
    torch.testing.assert_close(score, slope, rtol=1e-8, atol=1e-8)
print("the exact answer, scaled, is the slope of the log density at t = 1, 50, 200")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: (8) and (11) for our 200 steps
#
# Given $x_0$, the pair $(x_{t-1}, x_t)$ is jointly Gaussian, with the covariance $\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})$. Conditioning it gives (8). And (8) with $\hat x_0$ is (11): the factor of $x_t$ is $[\beta_t + \alpha_t(1-\bar\alpha_{t-1})]/[\sqrt{\alpha_t}(1-\bar\alpha_t)] = 1/\sqrt{\alpha_t}$, because $\beta_t + \alpha_t - \bar\alpha_t = 1 - \bar\alpha_t$.

# %%
one, seen = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()  # x_0 and x_t
guess = torch.tensor([[0.3]]).double()  # any guess of the noise
for t in range(1, 201):
    before, now = dc.q_marginal(schedule, one, t - 1), dc.q_marginal(schedule, one, t)
    cov = schedule.alphas[t].sqrt() * before.var
    posterior = dc.q_posterior(schedule, seen, one, t)
    mean = before.mean + cov / now.var * (seen - now.mean)
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(posterior.var, before.var - cov**2 / now.var, rtol=1e-9, atol=1e-15)

    by_8 = dc.q_posterior(schedule, seen, dc.x0_from_eps(schedule, seen, guess, t), t).mean
    noise_part = schedule.betas[t] / schedule.marginal_vars[t].sqrt() * guess
    by_11 = (seen - noise_part) / schedule.alphas[t].sqrt()
    torch.testing.assert_close(by_8, by_11, rtol=1e-9, atol=1e-11)
print("(8) = the joint Gaussian, conditioned; (8) with x0_hat = (11): for every t from 1 to 200")

# %% [markdown]
# ## 4. Algorithms 1 and 2, by you
#
# **Algorithm 1, training.** Take data $x_0$. Draw $t$ from $1, \dots, T$, all equally likely, and noise $\epsilon$. Make $x_t$. Ask the network, and move its weights so that the mean of $|\epsilon - \epsilon_\theta(x_t, t)|^2$ becomes smaller. Repeat.
#
# **Exercise 1. The question.** Write `my_eps_loss(schedule, model, x0, t, eps)` for one batch, where `t` (B,) and `eps` (B, D) are already drawn: the squared error of the model's answer, as a mean over examples *and* coordinates. Row $t$ of a table such as `schedule.alpha_bars` belongs to step $t$. The tables are float64; `.to(x0)` casts a row to the data's kind.


# %%
# STARTER
def my_eps_loss(schedule, model, x0, t, eps):
    return None  # your lines here


# SOLUTION
def my_eps_loss(schedule, model, x0, t, eps):
    alpha_bar_t = schedule.alpha_bars[t].to(x0)[:, None]  # (B, 1)
    x_t = alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps
    return (eps - model(x_t, t)).square().mean()


# %%
# lab.hint("05.1")
lab.check("05.1", my_eps_loss)

# %% [markdown]
# **Algorithm 2, sampling.** Start from noise $x_T \sim N(0, I)$. For $t = T, \dots, 1$: guess the noise, take the mean (11), and add fresh noise of variance $\sigma_t^2$,
#
# $$x_{t-1} = \mu_\theta(x_t, t) + \sigma_t\,z, \qquad z \sim N(0, I)\ \text{ for } t \ge 2, \qquad z = 0\ \text{ at } t = 1. \tag{20}$$
#
# At $t = 1$ nothing is added, as the last step goes to clean data. Two choices are usual: $\sigma_t^2 = \beta_t$ and $\sigma_t^2 = \tilde\beta_t$ (with 200 steps no difference shows; in coarse steps the first is too wide, the second too narrow: section 8; lesson 04's folded section 11 has the best).
#
# **Exercise 2. The walk.** Write `my_ddpm(schedule, model, x_T, noises)` with $\sigma_t^2 = \beta_t$. It returns $x_0$. `noises` (T + 1, N, D) holds the noise: `noises[t]` is the $z$ of step $t$. The model wants one $t$ for each row of its input.


# %%
# STARTER
def my_ddpm(schedule, model, x_T, noises):
    return None  # your lines here


# SOLUTION
def my_ddpm(schedule, model, x_T, noises):
    x = x_T
    for t in range(schedule.T, 0, -1):
        eps_hat = model(x, torch.full((len(x),), t))
        of_eps = schedule.betas[t] / (1 - schedule.alpha_bars[t]).sqrt()
        x = (x - of_eps * eps_hat) / schedule.alphas[t].sqrt()
        if t > 1:
            x = x + schedule.betas[t].sqrt() * noises[t]
    return x


# %%
# lab.hint("05.2")
lab.check("05.2", my_ddpm)

# %% [markdown]
# The package's versions:

# %%
lab.show_source(dc.eps_loss, dc.ddpm_step)

# %% [markdown]
# `eps_loss` draws $t$ and $\epsilon$ itself. `ddpm_step` is one round of Algorithm 2: it makes $\hat x_0$ and puts it into (8), with the weights `of_x0` and `of_x_t`; that is (11). Its default is $\sigma_t^2 = \tilde\beta_t$. `sample_chain` is the loop: it yields every step.
#
# ## 5. Training
#
# The network is an **MLP**, a multilayer perceptron: three hidden layers $h \to h + \text{SiLU}(Wh + b)$ of 128 numbers; SiLU is a smooth bend. It is told $t$ as a vector of sines and cosines of many frequencies, alike for near steps and different for far ones.
#
# A second copy of the weights follows: after update $n$ it moves $9/(n+10)$ of the way to the present weights (never less than 1/500): fast at first, 1/334 at the end. This **exponential moving average** (EMA) evens out the jitter of the last updates, and we sample with it.
#
# How low can the loss go: to 0? The noise has variance 1, so a network that always answers 0 has loss 1.
#
# **Exercise 3. Predict the number.** Let the data be $N(0, 1)$, on a line, and let $t$ be the step with $\bar\alpha_t = 0.36$. The best guess then is $\hat\epsilon = c\,x_t$ with a number $c$. What is its mean squared error, that is, the variance of $\epsilon$ that is left when $x_t$ is known?

# %%
# STARTER
lowest_error = None  # your number here
# SOLUTION
Cov, Var = (1 - 0.36) ** 0.5, 0.36 + (1 - 0.36)  # Cov(eps, x_t) = sqrt(0.64); Var(x_t) = 1
lowest_error = 1 - Cov**2 / Var  # of Var(eps) = 1, what x_t does not tell

# %%
# lab.hint("05.3")
lab.check("05.3", lowest_error)

# %% [markdown]
# Now train on moons. You may stop it early: the rest works with what was learned by then.

# %%
model = MLP()
ema = dc.EMA(model, decay=0.998)
fresh = (truth.sample(256, generator=rng).float() for _ in iter(int, 1))  # without end
loss = partial(dc.eps_loss, schedule, generator=rng)
# the rate rises, then falls to 0; gradients that are too long are shortened
history = dc.train(model, loss, fresh, steps=3000, lr=4e-3, ema=ema)
learned = ema.model

# %% [markdown]
# The loss, and the error of both denoisers at each $t$:

# %%
times = torch.tensor([1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200])
errors = {"exact": [], "learned": []}
for t in times:
    asked = t.expand(len(x0))
    x_t = dc.q_sample(schedule, x0, asked, noise)
    errors["exact"].append((exact(x_t, asked) - noise).square().mean())
    errors["learned"].append((learned(x_t.float(), asked) - noise).square().mean())

every = torch.arange(1, 201).repeat(100)  # each t a hundred times
lowest = (exact(dc.q_sample(schedule, x0, every, noise), every) - noise).square().mean()
smooth = torch.tensor(history.losses).unfold(0, min(100, len(history.losses)), 1).mean(1)
print("t      " + "".join(f"{t:8}" for t in times[::2].tolist()))
print("exact  " + "".join(f"{error:8.4f}" for error in errors["exact"][::2]))
print(f"mean over all t: {lowest:.4f}")

# %%
fig, axes = lab.figure(2, width=10, height=3.4)
axes[0].plot(smooth, color=lab.ORANGE, label="network, mean of 100 steps")
axes[0].axhline(lowest, color=lab.BLUE, ls="--", label="exact answer")
axes[0].set(xlabel="training step", ylabel="loss", ylim=(0.2, 0.35))
axes[1].plot(times, errors["learned"], "s-", color=lab.ORANGE, label="learned")
axes[1].plot(times, errors["exact"], "o--", color=lab.BLUE, ms=4, label="exact")
axes[1].set(xscale="log", xlabel="t", ylabel="error of the guessed noise", ylim=(0, 1.1))
for ax in axes:
    ax.legend()
lab.show(fig, "The loss falls to that of the exact answer, far above 0; both err most at small t.")
lab.claim(
    "loss at the end, as a multiple of the exact answer's",
    smooth[-1] / lowest,
    at_most=1.1,
    history=history,
)

# %% [markdown]
# The loss cannot reach 0 (dips below the line are chance). At large $t$ the state is nearly the noise itself, and the question is easy. At small $t$ the little noise cannot be told from the data's own width: the error is near 1. Its lowest value belongs to the data and the schedule, so a loss says little by itself: 0.22 may be perfect.
#
# Where in the plane does the network err? The colour is $|\hat\epsilon - \epsilon^*|$, learned against exact; the white points are data at this $t$. Compare the places where they are with the corners; then look for the $t$ with the largest gap among data (root mean square, in the picture).

# %%
side = torch.linspace(-3.2, 3.2, 65, dtype=torch.float64)
plane = torch.cartesian_prod(side, side)
fig, (ax,) = lab.figure(width=6, height=4.6)
dark = {"norm": "log", "vmin": 0.01, "vmax": 3, "cmap": "cividis", "origin": "lower"}
image = ax.imshow(torch.ones(65, 65), extent=(-3.25, 3.25, -3.25, 3.25), **dark)
dots = lab.draw_points(ax, x0[:0], color="white", title="learned against exact")
words = ax.text(-3, 2.8, "", color="white", bbox={"color": "black", "alpha": 0.6})
fig.colorbar(image, label="distance of the two answers")


def show_gap(t):
    """Draw how far the learned answer is from the exact one, all over the plane."""
    asked = torch.full((len(plane),), t)
    gap = (learned(plane.float(), asked) - exact(plane, asked)).norm(dim=1)
    image.set_data(gap.reshape(65, 65).T)
    x_t = dc.q_sample(schedule, x0[:2000], t, noise[:2000])
    dots.set_data(*x_t[:400].T)
    asked = asked[:1].expand(2000)
    among = (learned(x_t.float(), asked) - exact(x_t, asked)).square().mean().sqrt()
    words.set_text(f"among data: {among:.2f} in each coordinate")
    said = f"The distance between the learned and the exact answer over the plane, at t = {t}."
    return said + " Along rays, where you see any, the exact answer turns from moon to moon."


lab.Explorer(fig, [image, dots, words], show_gap, {"t": lab.slider("t", 1, 200, 20)})

# %% [markdown]
# At $t = 20$ the answers agree where data are. The gap among data is largest at $t$ = 5 to 10, where the best answer changes sharply and the last points between the moons choose a side; the loss, a mean over all $t$, hides this. In the corners hardly a training point ever was, so nothing has taught the network what to say. That does little harm: hardly a walk comes there.

# %%
places = [(20, dc.q_sample(schedule, x0, 20, noise)), (7, dc.q_sample(schedule, x0, 7, noise))]
corners = plane[(plane.abs() > 2.5).all(1)]
gaps = [
    (learned(x.float(), torch.full((len(x),), t)) - exact(x, torch.full((len(x),), t)))
    for t, x in (*places, (20, corners))
]
at_20, at_7, far_off = (gap.square().mean().sqrt() for gap in gaps)
lab.claim("gap at t = 20 among data (the noise has 1)", at_20, at_most=0.2, history=history)
lab.claim("at t = 7, as a multiple of that", at_7 / at_20, above=1.3, history=history)
lab.claim(
    "in the corners at t = 20, as a multiple of the first",
    far_off / at_20,
    above=3,
    history=history,
)

# %% [markdown]
# ## 6. Side by side
#
# Now walks with both denoisers and three samplers. A denoiser made for 200 steps can lead a walk of 20: `vp_schedule(20)` keeps every tenth row of ours, so at its step $t$ we ask at $10\,t$. The walks have the same start and the same noise.


# %%
samplers = {
    "DDPM, posterior variances": lambda short: partial(
        dc.ddpm_step, variances=short.posterior_vars
    ),
    "DDPM, betas": lambda short: partial(dc.ddpm_step, variances=short.betas),
    "DDIM": lambda short: dc.ddim_step,
}
denoisers = {"exact": exact, "learned": learned}
for steps in (5, 10, 20):
    rows = schedule.alpha_bars[:: 200 // steps]
    torch.testing.assert_close(dc.vp_schedule(steps).alpha_bars, rows, rtol=1e-12, atol=0)

# %% [markdown]
# Each walk is computed when first asked for, and kept:


# %%
@cache
def walk_with(denoiser, sampler, steps):
    """Return the states of a walk, each with the guess of x_0 that is made from it."""
    short, same_noise = dc.vp_schedule(steps), torch.Generator().manual_seed(5)
    seen, guesses = [x_T[:400]], []
    step_back, denoise_at = samplers[sampler](short), denoisers[denoiser]
    options = {"eps_model": lambda x, t: denoise_at(x, t * 200 // steps), "x_T": seen[0]}
    for step in dc.sample_chain(step_back, short, **options, generator=same_noise):
        seen.append(step.x_t)
        guesses.append(step.x0_hat)
    return list(zip(seen, [*guesses, seen[-1]], strict=True))


# %% [markdown]
# Arrows show $-\hat\epsilon$, the score times $\sqrt{1-\bar\alpha_t}$, at the points' $t$ (at the end, at $t = 1$). A point is **off the moons** if it is farther than four widths $w$ from every centre; the per cent counts guesses of $x_0$, not states.

# %%
grid = torch.cartesian_prod(*2 * [torch.linspace(-2.5, 2.5, 15)])
fig, axes = lab.figure(2, width=9, height=4.4, sharey=True)
arrows = axes[0].quiver(*grid.T, *grid.T, width=0.004, scale=36, scale_units="width", alpha=0.5)
state = lab.draw_points(axes[0], x_T[:0], title="states, and minus the guessed noise")
guess = lab.draw_points(axes[1], x_T[:0], color=lab.RED, title="guesses of x_0 from these states")
axes[1].set_ylabel("")
words = axes[1].text(-3, 2.8, "")

# %% [markdown]
# Take the slider to both ends, and change one thing at a time:


# %%
def follow_both(done, denoiser, sampler, steps):
    """Show a walk where it is after some of the 20 parts of the way."""
    at = done * steps // 20
    t = 200 - at * 200 // steps
    x, x0_hat = walk_with(denoiser, sampler, steps)[at]
    state.set_data(*x.T)
    guess.set_data(*x0_hat.T)
    arrows.set_UVC(*-denoisers[denoiser](grid, torch.full((len(grid),), max(t, 1))).T)
    off = (torch.cdist(x0_hat.double(), centres).min(1).values > 4 * std).double().mean()
    words.set_text(f"t = {t}: {100 * off:.0f} % off the moons")
    return f"{denoiser} denoiser, {sampler}: {at} of {steps} steps done, {done} of 20 parts."


controls = {
    "done": lab.slider("parts of the way", 0, 20, 16),
    "denoiser": lab.choice("denoiser", list(denoisers), "learned"),
    "sampler": lab.choice("sampler", list(samplers)),
    "steps": lab.choice("steps", [5, 10, 20, 200], 200),
}
lab.Explorer(fig, [arrows, state, guess, words], follow_both, controls, play="done")

# %% [markdown]
# At the left end each guess of the exact denoiser is near the middle: in pure noise the mean of everything is the best answer. Each step goes a little way there and asks again; as $t$ falls, the mean lies on one moon. When is it decided which moon a point joins? Add up $p(k \mid x_t)$ over the centres of each moon:


# %%
def share_decided(t):
    """Return the share of 2 000 noisy data for which one moon has at least 95 %."""
    x_t, alpha_bar_t = dc.q_sample(schedule, x0[:2000], t, noise[:2000]), schedule.alpha_bars[t]
    V = alpha_bar_t * std**2 + 1 - alpha_bar_t
    distance = torch.cdist(x_t, alpha_bar_t.sqrt() * centres)
    one_moon = (-distance.square() / (2 * V)).softmax(1)[:, :50].sum(1)
    return ((one_moon - 0.5).abs() > 0.45).double().mean().item()


half = max(t for t in range(1, 201) if share_decided(t) >= 0.5)
for t in (100, 50, half, 10):
    print(f"t = {t}: decided for {100 * share_decided(t):.0f} %")
assert schedule.posterior_factors.numbers[200][0] < 7e-4  # the weight of x0_hat in (8)

# %% [markdown]
# So the decisions fall late. The learned denoiser's first guesses scatter widely, as $\hat x_0$ divides by $\sqrt{\bar\alpha_{200}} = 0.0066$: a small error of $\hat\epsilon$ grows 150 times. With 200 steps of DDPM it does little harm, for (8) gives $\hat x_0$ the weight 0.0007 there.
#
# And the ends? Even the exact denoiser leaves points off the moons when steps are coarse; the learned one does with fine steps, too:

# %%
counts = (5, 10, 20, 200)
fig, axes = lab.figure(2, width=9, height=3.2, sharey=True)
share_off = {}
for ax, name in zip(axes, denoisers, strict=True):
    for sampler, mark in zip(samplers, ("o-", "s--", "^:"), strict=True):
        ends = torch.stack([walk_with(name, sampler, steps)[-1][0].double() for steps in counts])
        off = (torch.cdist(ends, centres).min(2).values > 4 * std).double().mean(1)
        share_off[name, sampler] = off
        ax.plot(counts, 100 * off, mark, label=sampler)
    ax.set(
        title=f"{name}: {100 * off[-1]:.1f} % with DDIM, 200 steps", xlabel="steps", xscale="log"
    )
    ax.set_xticks(counts, labels=counts)
    ax.minorticks_off()
axes[0].set(ylabel="% off the moons at the end\n(2 %: 8 points, give or take 3)")
axes[1].legend()
lab.show(fig, "Exact and learned denoiser: the share of 400 ends off the moons, against the steps.")
for sampler in samplers:
    off = share_off["exact", sampler]
    assert off[0] > off[1] > off[2] > off[3] == 0, sampler
    few_off = share_off["learned", sampler][-1]
    lab.claim(f"share off the moons: learned, {sampler}", few_off, at_most=0.05, history=history)
print(
    "exact: fewer points off the moons with 10 steps than with 5, with 20 than with 10; 0 with 200"
)

# %%
first = {name: walk_with(name, "DDIM", 200)[0][1].square().mean().sqrt() for name in denoisers}
assert first["exact"] < 0.1  # the data have 1
lab.claim(
    "scatter of the learned first guesses, as a multiple of the exact ones'",
    first["learned"] / first["exact"],
    above=10,
    history=history,
)

# %% [markdown]
# ## 7. How good is it, in numbers?
#
# We need a distance between two clouds of points. The **energy distance** compares mean lengths. With $X, X'$ from one cloud and $Y, Y'$ from the other, all independent, it is the root of
#
# $$2\,\mathbb E|X-Y| - \mathbb E|X-X'| - \mathbb E|Y-Y'|.$$
#
# It is 0 only for equal distributions. But two fresh clouds of *real* points are finite, so not at 0. Their mean distance is the **floor**; we report multiples of it: about 1 is as good as real. **Predict**: where will the network be?

# %%
real = partial(truth.sample, generator=rng)
n = lab.up_to(2000)
floor = metrics.floor(metrics.energy_distance, real, n)
multiples = {name: [] for name in ("fresh data", *denoisers)}
for _ in range(lab.up_to(5)):
    multiples["fresh data"].append(metrics.energy_distance(real(n), real(n)))
    z = torch.randn(n, 2, generator=rng)
    for name, denoiser in denoisers.items():
        *_, last = dc.sample_chain(dc.ddpm_step, schedule, denoiser, z, generator=rng)
        multiples[name].append(metrics.energy_distance(last.x_t.double(), real(n)))

# %% [markdown]
# Five clouds of each:

# %%
fig, (ax,) = lab.figure(width=7, height=2.4)
for height, values in enumerate(multiples.values()):
    values = torch.stack(values) / floor.mean
    ax.plot(values, torch.full_like(values, height), "o", color=lab.SKY)
    ax.plot(values.mean(), height, "|", color=lab.BLACK, ms=18, mew=2)
ax.axvline(1, color=lab.BLACK, ls=":")
ax.set(xlim=(0, None), yticks=range(3), yticklabels=multiples, ylim=(-0.6, 2.6))
ax.set(xlabel="energy distance of 2 000 points to the data, in multiples of the floor")
lab.show(
    fig,
    "Five clouds each of data, exact and learned samples: distances in floors; a bar is a mean.",
)
for name in denoisers:
    multiple = torch.stack(multiples[name]).mean() / floor.mean
    lab.claim(f"{name} denoiser, in floors", multiple, at_most=2, history=history)

# %% [markdown]
# Even fresh data scatter about 1: five clouds cannot rank denoisers this close. Floors feel the whole shape, the share off the moons (section 6) the few points between. Both count.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the energy distance from scratch
#
# Means over all pairs of points, a point with itself included.

# %%
x, y = real(500), torch.randn(500, 2, generator=rng).double()
squared = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
torch.testing.assert_close(squared.sqrt(), metrics.energy_distance(x, y), rtol=1e-5, atol=0)
print("by hand and by the package: the same distance")

# %% [markdown]
# ## 8. What breaks
#
# **Noise on the last step.** A loop that adds noise at $t = 1$, too, blurs everything by $\sigma_1$. With $\sigma_t^2 = \beta_t$ and 200 steps that is only 0.03, with the 10 steps below, of a cosine schedule, 0.17 (with `vp_schedule(10)` 0.32; a mode's true width is 0.12).
#
# **A schedule cut short.** `linear_schedule(10)` stops at $\bar\alpha_{10} = 0.90$: nine tenths of the variance are still data. Somebody starts from $N(0, I)$ all the same.
#
# The data are now nine narrow Gaussians (**modes**) on a square, each with the same share: the four corners have 4/9. All denoisers are exact. **Predict** what each mistake does to the shares, and what to the widths. Coarse steps alone thin the corners, too.

# %%
modes, mode_std = toys.toy_centres("nine_gaussians")
nine = dc.mixture(modes, mode_std**2)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", dc.PriorGapWarning)  # it warns, rightly; we want to see why
    cut_short = dc.linear_schedule(10)
coarse = dc.cosine_schedule(10)
assert 0.9 < cut_short.alpha_bars[-1] < 0.91 and schedule.betas[1].sqrt() < 0.03
assert mode_std < 0.13 < 0.16 < coarse.betas[1].sqrt() < 0.17
assert 0.315 < dc.vp_schedule(10).betas[1].sqrt() < 0.325
ends = {}
for name, table in (
    ("200 steps", schedule),
    ("10 steps, cosine", coarse),
    ("cut short", cut_short),
):
    denoiser = dc.mixture_eps_model(table, nine)
    options = {"variances": table.betas, "generator": rng.manual_seed(1)}
    *_, last = dc.sample_chain(dc.ddpm_step, table, denoiser, x_T, **options)
    ends[name] = last.x_t.double()
z = torch.randn(x_T.shape, generator=rng)  # as a loop that adds noise at t = 1 would add it
ends["noise on the last"] = ends["10 steps, cosine"] + coarse.betas[1].sqrt() * z

# %% [markdown]
# Each point counts at its nearest centre. The width is a multiple of the true one; in brackets, without the points farther than four widths away. A point *stays* if it ends at the mode nearest to its start.

# %%
fig, axes = lab.figure(4, width=12, height=4, sharey=True)
is_corner = modes.abs().min(1).values > 0.5
start = torch.cdist(x_T.double(), modes).argmin(1)
shares, widths, inner, stays = {}, {}, {}, {}
for ax, (name, x) in zip(axes, ends.items(), strict=True):
    distance, nearest = torch.cdist(x, modes).min(1)
    near = distance[distance < 4 * mode_std]
    shares[name] = is_corner[nearest].double().mean().item()
    stays[name] = (nearest == start).double().mean().item()
    widths[name], inner[name] = (
        (d.square().mean().sqrt() / (2**0.5 * mode_std)).item() for d in (distance, near)
    )
    title = f"{name}\n{shares[name]:.2f} in corners, {stays[name]:.2f} stay"
    title += f"\nwidth {widths[name]:.1f} ({inner[name]:.1f})"
    lab.draw_points(ax, x, limit=2.2, title=title)
    ax.label_outer()
lab.show(fig, "Nine Gaussians: 200 steps; 10 steps; 10 cut short; 10 with noise on the last.")

# %%
of_start = is_corner[start].double().mean().item()
assert of_start - 0.05 < shares["cut short"] < shares["10 steps, cosine"] < shares["200 steps"]
assert widths["noise on the last"] > 1.5 > max(widths["10 steps, cosine"], widths["200 steps"])
assert inner["cut short"] > 1.12 > inner["10 steps, cosine"]  # these are strays, those are not
assert stays["cut short"] > 0.8 > 0.15 > stays["200 steps"]
options = {"variances": cut_short.posterior_vars, "generator": rng.manual_seed(1)}
*_, last = dc.sample_chain(
    dc.ddpm_step, cut_short, dc.mixture_eps_model(cut_short, nine), x_T, **options
)
smaller = torch.cdist(last.x_t.double(), modes).min(1).values.square().mean().sqrt()
assert smaller < 2**0.5 * mode_std
print("cut short, with the posterior variances: the modes are narrower than the true ones")
print(f"of the points of pure noise, {of_start:.2f} lie nearest to a corner")

# %% [markdown]
# Cut short, five points of six go to the mode nearest to their start; with 200 steps one in nine, which is chance. Nothing looks broken: each mode is only a little wide, as $\beta_t$ adds too much in steps so coarse (with $\tilde\beta_t$ they are too narrow). But the shares are wrong. Noise on the last step widens every mode. Neither stops the program, and the training loss may be the lowest possible with both. So the package's samplers return the mean at the last step, and its schedules warn.
#
# ## 9. Your own moons
#
# **Exercise 4. The loop** (15 minutes, with the picture). Write `my_loop(model, loss, optimizer, batches)`: for each `x0` of `batches` make one update of the weights with `loss(model, x0)`. It returns the list of all losses, as floats.


# %%
# STARTER
def my_loop(model, loss, optimizer, batches):
    return None  # your lines here


# SOLUTION
def my_loop(model, loss, optimizer, batches):
    losses = []
    for x0 in batches:
        optimizer.zero_grad()
        value = loss(model, x0)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


# %%
# lab.hint("05.4")
lab.check("05.4", my_loop)

# %% [markdown]
# Choose your data: "moons", "circles", "swiss_roll", "eight_gaussians" or "nine_gaussians".


# %%
my_toy, my_updates, my_rate = "moons", 2000, 2e-3
my_data = partial(toys.toy_2d, my_toy, generator=rng)


def my_question(model, x0):
    """Draw t and the noise, and ask with your loss."""
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=rng)
    return my_eps_loss(schedule, model, x0, t, torch.randn(x0.shape, generator=rng))


few, none = my_data(2), torch.optim.SGD(model.parameters())
tried = [
    my_eps_loss(schedule, model, few, torch.tensor([1, 2]), few),
    my_ddpm(schedule, model, few, torch.zeros(201, 2, 2)),
    my_loop(model, my_question, none, []),
]

# %% [markdown]
# Train, and draw 2 000 points:

# %%
pictures = {"data": my_data(2000)}
if not any(answer is None for answer in tried):
    mine = MLP(seed=2)
    optimizer = torch.optim.AdamW(mine.parameters(), lr=my_rate)
    my_losses = my_loop(
        mine, my_question, optimizer, [my_data(256) for _ in range(lab.up_to(my_updates))]
    )
    with torch.no_grad():
        noises = torch.randn(schedule.T + 1, 2000, 2, generator=rng)
        pictures["yours"] = my_ddpm(schedule, mine, x_T, noises)

# %% [markdown]
# Judge them by the floor of your data, and by the share farther than four widths from every centre:

# %%
my_centres, my_width = toys.toy_centres(my_toy)
my_floor = metrics.floor(metrics.energy_distance, my_data, 2000, pairs=10).mean
fig, axes = lab.figure(len(pictures), width=4 * len(pictures), height=4)
for ax, (name, x) in zip([*axes], pictures.items(), strict=True):
    multiple = metrics.energy_distance(x, my_data(2000)) / my_floor
    off = metrics.mode_coverage(x.double(), my_centres, 4 * my_width).stray.item()
    lab.draw_points(ax, x, limit=2.6, title=f"{name}: {multiple:.1f} floors, {100 * off:.1f} % off")
lab.show(fig, "Data; and, once your three functions are written, 2 000 points of your own network.")

# %% [markdown]
# Bring yours below 2 floors *and* below 3 % off. What helps: more updates, a rate that falls, an average of the weights? Then take other data, or only 20 steps: `my_ddpm(dc.vp_schedule(20), lambda x, t: mine(x, 10 * t), x_T, noises)`.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: what helps, after your own tries
#
# The average and the falling rate cut the floors; more updates cut the strays. All three together do it: the network of section 5 has them.
#
# For the average, make `ema = dc.EMA(mine, decay=0.998)` before the loop, call `ema.update(mine)` after each `optimizer.step()`, and sample with `ema.model`. For the rate, set `optimizer.param_groups[0]["lr"]` inside the loop.

# %% [markdown]
# ## 10. Summary
#
# 1. The network guesses the noise in $x_t$; the best answer is the mean $\mathbb E[\epsilon \mid x_t]$, and for a mixture it is known exactly.
# 2. A guess of the noise is a guess of the data, a step back, a jump, and a score.
# 3. Algorithm 1 draws $t$ and $\epsilon$ and minimises a squared error; its lowest value is not 0.
# 4. Algorithm 2 steps from $T$ to 0, with fresh noise in each step but the last.
# 5. Distances are read as multiples of the floor.
#
# | equation | function |
# |---|---|
# | the best guess of the noise | `mixture_eps_model` |
# | (8) the posterior | `q_posterior` |
# | $\hat x_0$ from a guess of the noise | `x0_from_eps` |
# | (11) the mean with that guess | `q_posterior` |
# | DDIM | `ddim_step` |
# | Algorithm 1 | `eps_loss`, `train` |
# | (20) Algorithm 2 | `ddpm_step`, `sample_chain` |
#
# **References.** Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020), Algorithms 1 and 2. Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Székely and Rizzo, *Energy statistics* (2013).
#
# **Next**: [06 · Can it draw digits?](06_mnist.ipynb)
