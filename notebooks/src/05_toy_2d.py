# %% [markdown]
# # 05 · Can a network learn to walk back?
#
# Lesson 02 turned data into noise. Here a small network learns the way back, on points in the plane. In the plane we know the perfect answer exactly, so we can see how far the network is from it.
#
# **At the end you can**
# - say what the network is asked, and what the best possible answer is;
# - read the training loop (Algorithm 1) and the sampler (Algorithm 2), and say what each line is for;
# - measure how good samples are, in multiples of what chance alone gives;
# - recognise two common mistakes by what they do to the samples.
#
# **You need** lesson 02, lesson 03 for why formula (8) holds, and PyTorch modules and optimizers. **Time**: about 70 minutes.

# %%
import warnings
from functools import cache, partial

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import metrics, toys
from diffusion_core.nets import MLP

rng = torch.Generator().manual_seed(0)
schedule = dc.vp_schedule(200)

# %% [markdown]
# ## 1. The picture first
#
# Start on the left with 2 000 points of pure noise. Step by step the points find their way into the shape of the data, two moons. This is what we are going to build. A function that tells the points where to go we call a **guide**; section 2 says what it answers. Here it is perfect; later it is learned. Our moons are exactly a mixture (lesson 02) of 1 000 small Gaussians, with centres along two half circles. That is why a perfect guide exists.

# %%
toy = "moons"
centres, std = toys.toy_centres(toy)
truth = dc.mixture(centres, std**2)  # the data's distribution, exactly
perfect = dc.mixture_eps_model(schedule, truth)

x_T = torch.randn(2000, 2, generator=rng)
chain = [
    dc.Step(200, x_T, x_T),  # the start; of its last entry, the guess of x_0, no use is made
    *dc.sample_chain(dc.ddpm_step, schedule, perfect, x_T, generator=rng),
]
fig, axes = lab.figure(5, width=12, height=2.8, sharey=True)
for ax, t in zip(axes, (200, 100, 50, 20, 0), strict=True):
    lab.draw_points(ax, chain[200 - t].x_t, title=f"t = {t}")  # chain[200 - t] is at t
for ax in axes[1:]:
    ax.set_ylabel("")
lab.show(fig, "2 000 points at t = 200, 100, 50, 20, 0: a round cloud of noise becomes two moons.")

# %% [markdown]
# ## 2. What the network is asked
#
# Remember how $x_t$ is made: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, with data $x_0$ and noise $\epsilon \sim N(0, I)$. The network sees $x_t$ and $t$ and is asked: **which noise $\epsilon$ is in there?** Its answer is written $\hat\epsilon$, or $\epsilon_\theta(x_t, t)$, where $\theta$ stands for its weights. In code it is `eps_hat`, and a function that answers is an `eps_model(x_t, t)`, with one $t$ for each row of $x_t$.
#
# An answer is also a guess of the clean data. Solve for $x_0$:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\hat\epsilon}{\sqrt{\bar\alpha_t}}.$$
#
# The question has no certain answer. Many pairs $(x_0, \epsilon)$ give the same $x_t$. So we ask for the answer whose squared error is smallest *on average*. That answer is the mean of all noises that could be in $x_t$, each weighted by how likely it is: $\mathbb E[\epsilon \mid x_t]$. Here is why. For any guess $g$,
#
# $$\mathbb E\big[\,|\epsilon - g|^2 \mid x_t\big] = \mathbb E\big[\,|\epsilon - \mathbb E[\epsilon|x_t]|^2 \mid x_t\big] + \big|g - \mathbb E[\epsilon|x_t]\big|^2,$$
#
# because $\epsilon - g = (\epsilon - m) + (m - g)$ with $m = \mathbb E[\epsilon|x_t]$; given $x_t$, both $m$ and $g$ are fixed, so the mixed term $2\,(m-g)\cdot\mathbb E[\epsilon - m \mid x_t]$ is 0. (For a vector, $|\cdot|^2$ is the sum of the squares; in code, errors are divided by the number of coordinates.) The first part does not depend on $g$; the second is smallest when $g$ is the mean.
#
# Our toys are Gaussian mixtures, so this mean can be computed exactly. Were it known that $x_0$ comes from the Gaussian $N(m_k, s^2 I)$, then $\epsilon$ and $x_t$ would be jointly Gaussian, and the rule of section 3 would give the mean $\sqrt{1-\bar\alpha_t}\,(x_t - \sqrt{\bar\alpha_t}\,m_k)\,/\,(\bar\alpha_t s^2 + 1 - \bar\alpha_t)$. As $k$ is not known, these means are averaged, each weighted by how likely $k$ is given $x_t$ (Bayes' rule). `mixture_eps_model` does that; `perfect` above is such a function. The next cell does it by hand.

# %%
x0 = toys.toy_2d(toy, 20_000, generator=rng)
t = dc.draw_t(schedule, x0, rng)
eps = torch.randn(x0.shape, generator=rng)
x_t = dc.q_sample(schedule, x0, t, eps)

x, keep = x_t[:5].double(), schedule.alpha_bars[30]
away = x[:, None] - keep.sqrt() * centres  # (5, 1000, 2): from each centre to each point
var = keep * std**2 + 1 - keep
shares = (-away.square().sum(2) / (2 * var)).softmax(1)  # how likely each k is
by_hand = (1 - keep).sqrt() / var * (shares[..., None] * away).sum(1)
torch.testing.assert_close(perfect(x, torch.full((5,), 30)), by_hand, rtol=1e-9, atol=1e-12)
print("the perfect guess, by hand and by the package: the same numbers")

# %% [markdown]
# Now we try three changes of the perfect answer, and measure what they do to the average error. It must grow by the mean square of the change: that is the formula above. (`draw_t` draws $t$ from $1, \dots, T$, all equally likely.)

# %%
eps_best = perfect(x_t, t)
error = (eps - eps_best).square().mean(1)
error_early, error_late = error[t <= 2].mean(), error[t > 150].mean()  # for section 6
for name, change in {
    "larger": 0.1 * eps_best,
    "shifted": torch.tensor([0.1, 0.0]),
    "pulled in": -0.1 * x_t,
}.items():
    worse = (eps - eps_best - change).square().mean(1) - error
    mixed = worse - change.square().mean(-1)  # the mixed term: 0 on average
    assert worse.mean() > 5 * worse.std() / 20_000**0.5, name
    assert mixed.mean().abs() < 5 * mixed.std() / 20_000**0.5, name
print("20 000 questions: each change makes the error larger, by the mean of its square")

# %% [markdown]
# ## 3. One step back
#
# How does a guess of the noise help to go from $x_t$ to $x_{t-1}$? If we knew $x_0$, the distribution of $x_{t-1}$ would be known exactly. It is a Gaussian, called the **posterior**:
#
# $$q(x_{t-1} \mid x_t, x_0) = N\big(\tilde\mu_t,\ \tilde\beta_t I\big), \quad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t, \quad
# \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t. \tag{8}$$
#
# Lesson 03 derives this formula. Here we repeat one of its checks, for our 200 steps. Given $x_0$, the pair $(x_{t-1}, x_t)$ is jointly Gaussian: $x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,z_t$ with fresh noise $z_t$, independent of $x_{t-1}$. So $\text{Var}(x_{t-1}) = 1-\bar\alpha_{t-1}$, $\text{Var}(x_t) = 1-\bar\alpha_t$, and the covariance, the mean of the product of their deviations from their means, is $\text{Cov}(x_{t-1}, x_t) = \sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})$. For any two joint Gaussians $a, b$, knowing $b$ shifts the mean of $a$ by $\text{Cov}(a,b)/\text{Var}(b)$ times ($b$ − the mean of $b$), and lowers the variance by $\text{Cov}(a,b)^2/\text{Var}(b)$ (lesson 03, section 4).

# %%
# x_0 and x_t: a batch of one point with one coordinate
one, seen = torch.tensor([[0.7]]).double(), torch.tensor([[-0.4]]).double()
for t in range(1, 201):
    before, now = dc.q_marginal(schedule, one, t - 1), dc.q_marginal(schedule, one, t)
    cov = schedule.alphas[t].sqrt() * before.var
    mean = before.mean + cov / now.var * (seen - now.mean)
    var = before.var - cov**2 / now.var
    posterior = dc.q_posterior(schedule, seen, one, t)
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(posterior.var, var, rtol=1e-9, atol=1e-15)
print("formula (8) = conditioning the joint Gaussian, for every t from 1 to 200")

# %% [markdown]
# We do not know $x_0$, but we have $\hat x_0$. Put it in the place of $x_0$, and (8) becomes a step that we can take. Write $\hat x_0$ with $\hat\epsilon$ and collect terms, with $\sqrt{\bar\alpha_{t-1}}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$. The factor of $x_t$ becomes $[\beta_t + \alpha_t(1-\bar\alpha_{t-1})]\,/\,[\sqrt{\alpha_t}\,(1-\bar\alpha_t)] = 1/\sqrt{\alpha_t}$, because $\beta_t + \alpha_t - \bar\alpha_t = 1-\bar\alpha_t$. The factor of $\hat\epsilon$ becomes $-\beta_t/(\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t})$. So the mean of our step is (11) of lesson 03, with $\hat\epsilon$ in the place of $\epsilon$:
#
# $$\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\hat\epsilon\Big). \tag{11}$$
#
# The next cell puts a guess into both. `x0_from_eps` is $\hat x_0$.

# %%
guess = torch.tensor([[0.3]]).double()  # any guess of the noise
for t in range(1, 201):
    by_10 = dc.q_posterior(schedule, seen, dc.x0_from_eps(schedule, seen, guess, t), t).mean
    noise_part = schedule.betas[t] / schedule.marginal_vars[t].sqrt() * guess
    by_11 = (seen - noise_part) / schedule.alphas[t].sqrt()
    torch.testing.assert_close(by_10, by_11, rtol=1e-9, atol=1e-11)
print("(8) with the guess x0_hat = (11) with the guess eps_hat, for every t from 1 to 200")

# %% [markdown]
# This step is an approximation, even with the perfect answer: $\hat x_0$ is a mean, and the true $x_0$ scatters around it. The mean of the step is right; its shape and its variance are only nearly right. The smaller the steps, the better (lesson 03, section 9).
#
# ## 4. From scratch: Algorithms 1 and 2
#
# **Algorithm 1, training.** Take data $x_0$. Draw a step $t$ from $1, \dots, T$, all equally likely. Draw noise $\epsilon$. Make $x_t$. Ask the network, and move its weights so that the squared error $|\epsilon - \epsilon_\theta(x_t, t)|^2$, divided by the number of coordinates, becomes smaller. Repeat. The function below is one round, up to the error, for a whole batch at once, each example with its own $t$.
#
# Row $t$ of a table belongs to step $t$, and row 0 is clean data. So `randint(1, T + 1)`, which leaves out its upper end, draws exactly $1, \dots, T$. The tables stay in float64, as lesson 02 advised; a row is cast to the data's float32 after it is taken.

# %%
T, betas, alpha_bars = 200, schedule.betas, schedule.alpha_bars


def simple_loss(model, x0, rng):
    """One round of Algorithm 1: the squared error of the guessed noise."""
    t = torch.randint(1, T + 1, (len(x0),), generator=rng)
    eps = torch.randn(x0.shape, generator=rng)
    keep = alpha_bars[t][:, None]  # (B, 1)
    x_t = keep.sqrt().float() * x0 + (1 - keep).sqrt().float() * eps
    return (eps - model(x_t, t)).square().mean()


# %% [markdown]
# Around it stands the loop. Here are five rounds with a tiny network:

# %%
tiny = MLP(width=16)
optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-3)
for _ in range(5):
    optimizer.zero_grad()
    simple_loss(tiny, toys.toy_2d(toy, 64, generator=rng), rng).backward()
    optimizer.step()

# %% [markdown]
# **Algorithm 2, sampling.** Start from pure noise $x_T \sim N(0, I)$. For $t = T, \dots, 1$: guess the noise, take the mean (11), and add noise of variance $\sigma_t^2$:
#
# $$x_{t-1} = \mu_\theta(x_t, t) + \sigma_t\,z, \qquad z \sim N(0, I)\ \text{ for } t \ge 2, \qquad z = 0\ \text{ at } t = 1. \tag{20}$$
#
# At $t = 1$ nothing is added: the last step goes to clean data. ($\tilde\beta_1$ is 0 anyway; with $\sigma_t^2 = \beta_t$ the rule matters.) The choice here is $\sigma_t^2 = \tilde\beta_t$; $\sigma_t^2 = \beta_t$ is the other usual one (lesson 04, section 11, says where the two come from).


# %%
@torch.no_grad()
def sample(model, x, rng):
    """Algorithm 2: from noise x (N, 2) to data."""
    for t in range(T, 0, -1):
        eps_hat = model(x, torch.full((len(x),), t))
        # 1 - alpha_bars is a difference, but in float64 it is good enough (lesson 02)
        mean = (x - betas[t] / (1 - alpha_bars[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
        var = (1 - alpha_bars[t - 1]) / (1 - alpha_bars[t]) * betas[t]
        z = torch.randn(x.shape, generator=rng) if t > 1 else 0.0
        x = (mean + var.sqrt() * z).float()
    return x


# %% [markdown]
# ## 5. The package's version
#
# `eps_loss` is one round of Algorithm 1, up to the error; `train` in section 6 is the loop around it. `ddpm_step` is one round of Algorithm 2, and `sample_chain` is the loop: it yields every step, so that one can watch.

# %%
lab.show_source(dc.eps_loss, dc.ddpm_step)

# %% [markdown]
# Where is (11)? The package makes $\hat x_0$ (in `_x0_hat`) and puts it into (8): `of_x0` and `of_x_t` are the two weights there. It is the same mean, as we saw. The last `add_` adds the noise. `s` is the step it goes to, here always $t-1$; `clip` is for pictures (lesson 06). Same random numbers, same result:

# %%
untrained = MLP(seed=1)
ours = simple_loss(untrained, x0[:64], rng.manual_seed(3))
theirs = dc.eps_loss(schedule, untrained, x0[:64], generator=rng.manual_seed(3))
torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)

ours = sample(perfect, x_T[:50], rng.manual_seed(4))
*_, last = dc.sample_chain(dc.ddpm_step, schedule, perfect, x_T[:50], generator=rng.manual_seed(4))
torch.testing.assert_close(ours, last.x_t, rtol=0, atol=1e-3)
print("Algorithms 1 and 2 from scratch and by the package: the same numbers, up to rounding")

# %% [markdown]
# ## 6. Training
#
# The network is an **MLP**, a multilayer perceptron: layers of 128 numbers. Each layer adds to them a linear map of them, sent through an activation function (SiLU, a smooth bend). It learns one function for all $t$, so it must be told $t$. It gets $t$ as a vector of sines and cosines of many frequencies, which makes near steps look alike and far ones different.
#
# While it trains, a second copy of the weights follows slowly: an **exponential moving average** (EMA). After update $n$, the copy moves $9/(10+n)$ of the way to the present weights: far at first, 0.002 at the end. (It never moves less than 1 − `decay`.) It averages out the jitter of the last updates, and we sample with it.
#
# `train` takes 4 000 steps of AdamW; the learning rate rises at first, then falls to 0. The bar shows how long it will take on your machine. You may stop it early (the stop button): the rest of the lesson works with what the network has learned by then, and its claims say that they were not checked.
#
# **Predict, then run.** The loss is the mean squared error of the guessed noise. The noise has variance 1, so a network that always answers 0 has loss 1. How low can the loss go: to 0? Write down your guess, and why.

# %%
model = MLP()
ema = dc.EMA(model, decay=0.998)


def batches():
    """Fresh points without end."""
    while True:
        yield toys.toy_2d(toy, 512, generator=rng)


loss = partial(dc.eps_loss, schedule, generator=rng)
history = dc.train(model, loss, batches(), steps=4000, lr=2e-3, ema=ema)
learned = ema.model

# %% [markdown]
# The curve below is the loss of the network itself, not of the copy; each point is a mean of 100 steps.

# %%
floor_of_loss = error.mean()  # of the perfect answer, section 2
smooth = torch.tensor(history.losses).unfold(0, min(100, len(history.losses)), 1).mean(1)
fig, (ax,) = lab.figure(width=7, height=3)
ax.plot(smooth, label="network, mean of 100 steps")
ax.axhline(floor_of_loss, color=lab.BLACK, ls=":", label="the perfect answer")
ax.set(xlabel="training step", ylabel="loss", ylim=(0, 1))
ax.legend()
lab.show(fig, "The loss falls fast, then flattens at the loss of the perfect answer, far above 0.")
assert error_early > 0.85 and error_late < 0.05
print(
    f"the perfect answer's error: {floor_of_loss:.2f} on average, "
    f"{error_early:.2f} at t = 1 and 2, {error_late:.2f} at t > 150"
)
lab.claim(
    "loss at the end, as a multiple of the perfect answer's",
    smooth[-1] / floor_of_loss,
    at_most=1.1,
    history=history,
)

# %% [markdown]
# The loss cannot reach 0. At large $t$ the state $x_t$ is nearly the noise itself, and the error is near 0. At small $t$ the little noise cannot be told from the data's own width, and the error is near 1. The loss is the average over all $t$. Its lowest value is a property of the data and the schedule. So a loss says little by itself: 0.2 may be perfect.
#
# ## 7. Learned and perfect, side by side
#
# At a place $x_t$ the negative of $\hat\epsilon$ points towards $\sqrt{\bar\alpha_t}\,\hat x_0$, the shrunken guess of the data. The arrows below show $-\hat\epsilon$ at $t = 30$, the perfect one and the learned one; their length is not to scale.

# %%
side = torch.linspace(-2.5, 2.5, 17)
places = torch.cartesian_prod(side, side)
when = torch.full((len(places),), 30)
fig, axes = lab.figure(2, width=9, height=4.2, sharey=True)
for ax, (name, guide) in zip(axes, {"perfect": perfect, "learned": learned}.items(), strict=True):
    arrows = -guide(places, when)
    lab.draw_points(ax, chain[170].x_t, color=lab.ORANGE, title=f"{name}, t = 30")
    ax.quiver(*places.T, *arrows.T, width=0.004, scale=40, scale_units="width")
lab.show(fig, "Arrows of the perfect and the learned guide at t = 30: both point at the moons.")

# %% [markdown]
# Where points are at this $t$, the arrows agree; the next cell measures it. In the corners there is almost no training point at $t = 30$, so nothing has taught the network what to say there, even where it looks right. It hardly matters: almost no chain comes there at this $t$.

# %%
points_there, t_there = chain[170].x_t, torch.full((2000,), 30)
difference = learned(points_there, t_there) - perfect(points_there, t_there)
lab.claim(
    "error of the learned guess at t = 30 (root mean square; the noise has 1)",
    difference.square().mean().sqrt(),
    at_most=0.15,
    history=history,
)

# %% [markdown]
# Now the chains themselves. A guide that was made for 200 steps can also lead a chain of 20. `vp_schedule(20)` keeps every tenth point of the same curve: its row $t$ is row $10t$ of ours. So at its step $t$ we tell the guide $10t$. The next cell checks that for all numbers of steps that you will choose from.
#
# For the perfect guide we take 200 small Gaussians here in place of 1 000, so that it answers quickly. They lie so close together that its answers hardly change; that is checked, too.

# %%
numbers_of_steps = [10, 20, 50, 100, 200]
for number in numbers_of_steps:
    rows = schedule.alpha_bars[:: 200 // number]
    torch.testing.assert_close(dc.vp_schedule(number).alpha_bars, rows, rtol=1e-12, atol=0)
quick = dc.mixture_eps_model(schedule, dc.mixture(toys.toy_centres(toy, 200)[0], std**2))
for t in (1, 5, 30, 100, 200):
    points, times = chain[200 - t].x_t, torch.full((2000,), t)
    difference = quick(points, times) - perfect(points, times)
    assert difference.square().mean().sqrt() < 0.02  # where the noise has 1
guides = {"learned": learned, "perfect": quick}
print("fewer steps are rows of the same schedule; 200 Gaussians guide as well as 1 000")

# %% [markdown]
# There are three samplers: Algorithm 2, called **DDPM** after its paper, with $\sigma_t^2 = \tilde\beta_t$ ("posterior variances"), Algorithm 2 with $\sigma_t^2 = \beta_t$ ("betas"), and **DDIM** with $\eta = 0$ (lesson 09; $\eta$ is the share of fresh noise). It adds no noise of its own: it puts $\hat x_0$ and $\hat\epsilon$ into the formula for $x_t$, with the $\bar\alpha$ of the next time.
#
# A chain is computed when it is first asked for, and kept. After that the slider only looks up its states. Each state comes with the guess $\hat x_0$ that is made from it; at the end that is the state itself.


# %%
samplers = {
    "DDPM, posterior variances": lambda s: partial(dc.ddpm_step, variances=s.posterior_vars),
    "DDPM, betas": lambda s: partial(dc.ddpm_step, variances=s.betas),
    "DDIM, eta = 0": lambda s: partial(dc.ddim_step, eta=0.0),
}


@cache
def chain_of(guide, sampler, number, seed):
    """The states of a chain, first to last, each with the guess that is made from it."""
    s, rng = dc.vp_schedule(number), torch.Generator().manual_seed(seed)
    states, guesses = [torch.randn(300, 2, generator=rng)], []
    for step in dc.sample_chain(
        samplers[sampler](s),
        s,
        lambda x, t: guides[guide](x, t * 200 // number),
        states[0],
        generator=rng,
    ):
        states.append(step.x_t)
        guesses.append(step.x0_hat)
    return list(zip(states, [*guesses, states[-1]], strict=True))


# %% [markdown]
# The arrows show the **score** $\nabla\log q(x_t)$, the slope of the log density: it points where the density grows fastest, and its length says how fast. With the perfect answer it is $-\hat\epsilon / \sqrt{1-\bar\alpha_t}$ (lesson 07); with the learned one that is an estimate of it. It becomes very long at small $t$, so it is drawn times $\sqrt{1-\bar\alpha_t}$: that is $-\hat\epsilon$, as above.
#
# The arrows follow the slider at once; the points move when a step is complete. With 10 steps, the points jump at every tenth percent. In between, the arrows already belong to later times; the sampler does not use those, but takes the whole step by the arrows at its start. (At 100 % the arrows are those of $t = 1$: at $t = 0$ there are none.)

# %%
fig, axes = lab.figure(2, width=9, height=4.2, sharey=True)
arrows = axes[0].quiver(*places.T, *places.T, width=0.004, scale=40, scale_units="width", alpha=0.4)
state = lab.draw_points(axes[0], x_T, title="x_t, and the score there")
state.set_markersize(3)
guess = lab.draw_points(axes[1], x_T, color=lab.RED, title="x0_hat: the guess from this x_t")
words = axes[1].text(-3, 3, "", va="top")


def scrub(percent, guide, sampler, number, seed):
    """Show a chain where it is after some of its steps."""
    done, t = percent * number // 100, max(200 - 2 * percent, 1)
    x, x0_hat = chain_of(guide, sampler, number, seed)[done]
    state.set_data(*x.T.numpy())
    guess.set_data(*x0_hat.T.numpy())
    eps_hat = guides[guide](places, torch.full((len(places),), t))
    arrows.set_UVC(*-eps_hat.T.numpy())
    words.set_text(f"{percent} %: {done} of {number} steps")
    return (
        f"{guide} guide, {sampler}, seed {seed}, {percent} %: {done} of {number} steps done, "
        f"points at t = {200 - done * 200 // number}, arrows at t = {t}."
    )


# %% [markdown]
# Drag the first slider, or press play. Then change the guide, the sampler, the number of steps.

# %%
controls = {
    "percent": lab.slider("steps done, in %", 0, 100, 80),
    "guide": lab.choice("guide", list(guides)),
    "sampler": lab.choice("sampler", list(samplers)),
    "number": lab.choice("number of steps", numbers_of_steps, 200),
    "seed": lab.slider("seed", 0, 9, 0),
}
lab.Explorer(fig, [arrows, state, guess, words], scrub, controls, play="percent")

# %% [markdown]
# A seed fixes the starting points and all the noise. So with one seed both guides get the same start and the same noise, and you can compare where they lead. Take 10 steps, and look at the end: even with the perfect guide, each sampler leaves points off the moons (farther than four standard deviations from every centre), as ten steps are too coarse. With 200 steps there are far fewer. The next cell counts them.
#
# With the perfect guide, every early guess is close to the middle of the data: from pure noise, the mean of everything is the best answer. The decisions fall late. The learned guide's first guesses scatter widely, and many lie outside the picture: $\hat x_0$ divides by $\sqrt{\bar\alpha_t}$, which is 0.0066 at $t = 200$, so a small error in $\hat\epsilon$ becomes 150 times larger. That does little harm, because the step, (8) or DDIM's, gives $\hat x_0$ almost no weight there.

# %%
for sampler in samplers:
    ends = [chain_of("perfect", sampler, number, 0)[-1][0].double() for number in (10, 200)]
    off = [(torch.cdist(x, centres).min(1).values > 4 * std).double().mean() for x in ends]
    assert off[0] > 2 * off[1], sampler
print("each sampler leaves at least twice as many points off the moons with 10 steps as with 200")
first = {guide: chain_of(guide, "DDPM, betas", 200, 0)[0][1].square().mean() for guide in guides}
assert first["perfect"].sqrt() < 0.1  # the data have 1
lab.claim(
    "scatter of the learned guide's first guesses, as a multiple of the perfect one's",
    (first["learned"] / first["perfect"]).sqrt(),
    above=10,
    history=history,
)

# %% [markdown]
# ## 8. How good is it, in numbers?
#
# We need a distance between two clouds of points. Two are used here. Both are 0 if and only if the distributions are equal (the first when all directions are taken; the code takes 128):
#
# - **Sliced Wasserstein**: look at both clouds, of equal size, along one direction, sort the values of each, and take the mean of the squared differences; average this over many directions, and take the root at the end.
# - **Energy distance**: with $X, X'$ from one cloud and $Y, Y'$ from the other, all independent, the root of $2\,\mathbb E|X-Y| - \mathbb E|X-X'| - \mathbb E|Y-Y'|$ (means over all pairs of points).

# %%
x, y = toys.toy_2d(toy, 500, generator=rng).double(), torch.randn(500, 2, generator=rng).double()
angles = torch.arange(128).double() * torch.pi / 128
directions = torch.stack([angles.cos(), angles.sin()])
gaps = (x @ directions).sort(0).values - (y @ directions).sort(0).values
torch.testing.assert_close(gaps.square().mean().sqrt(), metrics.sliced_wasserstein(x, y))
squared = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
torch.testing.assert_close(squared.sqrt(), metrics.energy_distance(x, y), rtol=1e-5, atol=0)
print("both distances, from scratch and by the package: the same numbers")

# %% [markdown]
# A number alone means nothing. Two fresh clouds of *real* points are not at distance 0 either, because both are finite. The mean distance of such pairs is the **floor**. We report multiples of it. Around 1 is as good as real.


# %%
real = partial(toys.toy_2d, toy, generator=rng)
clouds = {name: [] for name in guides}
for _ in range(5):
    start = torch.randn(2000, 2, generator=rng)
    for name, guide in {"learned": learned, "perfect": perfect}.items():
        *_, last = dc.sample_chain(dc.ddpm_step, schedule, guide, start, generator=rng)
        clouds[name].append(last.x_t)
distances = {"sliced Wasserstein": metrics.sliced_wasserstein, "energy": metrics.energy_distance}
scores = {
    f"{name}, {guide} guide": metrics.times_floor(distance, clouds[guide], real)
    for name, distance in distances.items()
    for guide in guides
}

# %% [markdown]
# `metrics.times_floor` takes five clouds, each drawn with other noise, and measures the floor with twenty pairs of fresh real clouds. How far from 1 will the network be, and how far the perfect guide?

# %%
fig, (ax,) = lab.figure(width=7, height=2.4)
means, spreads = zip(*scores.values(), strict=True)
ax.barh(list(scores), means, xerr=spreads, color=lab.SKY, capsize=3)
ax.axvline(1, color=lab.BLACK, ls=":")
ax.set(xlabel="distance of 2 000 samples to the data, in multiples of the floor")
lab.show(
    fig,
    "Both distances for both guides, as multiples of the floor, with their spread over 5 draws.",
)
for name, score in scores.items():
    lab.claim(f"{name}, multiples of the floor", score.mean, at_most=2, history=history)

# %% [markdown]
# The black lines show how much one cloud differs from the next (one standard deviation on either side). A bar is a mean of five, so its own standard error is about half of that; and the floor is a mean of chance, too. So a bar may come out below 1, and a bar at 1.2 is only weak evidence. When the learned guide comes out ahead of the perfect one, that may be chance: five clouds of 2 000 points cannot rank the two. (Even the perfect guide need not reach 1 exactly, for 200 Gaussian steps are an approximation: section 3.)
#
# ## 9. What breaks
#
# **Noise on the last step.** A loop that adds noise at $t = 1$, too, blurs everything by $\sigma_1$. (With $\sigma_t^2 = \tilde\beta_t$ that is 0, so here all samplers use $\sigma_t^2 = \beta_t$.) With our 200 steps $\sigma_1$ is only 0.03. With the 10 steps of the cosine schedule below it is 0.17: wider than each **mode**, that is, each of the nine narrow Gaussians that are the data of this section (0.12).
#
# **A schedule that was cut short.** `linear_schedule(10)` stops at $\bar\alpha_{10} = 0.90$: nine tenths of the variance are still data. We start from $N(0, I)$ all the same, and give the chain a *perfect* guide.
#
# The data are nine narrow Gaussians on a square, each with the same share of the points, so the four corners together have 4/9 of them. All samplers use the perfect guide. The first has our 200 steps, "10 steps" has the cosine schedule, "cut short" the linear one; start and seed are the same. Ten steps are coarse, so even a right schedule loses some of the corners then and widens the modes. Compare each mistake with "10 steps", not with "200 steps". Above each picture stand the share of the points in the corners (true: 0.44) and the width of the modes as a multiple of the true one: the root mean square distance to the nearest centre, divided by $\sqrt2$ standard deviations.

# %%
modes, mode_std = toys.toy_centres("nine_gaussians")
nine = dc.mixture(modes, mode_std**2)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", dc.PriorGapWarning)  # it warns, rightly; we want to see why
    cut_short = dc.linear_schedule(10)
coarse = dc.cosine_schedule(10)
results = {}
for name, s in {
    "200 steps": schedule,
    "10 steps": coarse,
    "10 steps, cut short": cut_short,
}.items():
    guide = dc.mixture_eps_model(s, nine)
    options = {"variances": s.betas, "generator": rng.manual_seed(1)}
    *_, last = dc.sample_chain(dc.ddpm_step, s, guide, x_T, **options)
    results[name] = last.x_t
assert 0.9 < cut_short.alpha_bars[-1] < 0.91
assert schedule.betas[1].sqrt() < 0.03 < mode_std < 0.13 < 0.16 < coarse.betas[1].sqrt()
z = torch.randn(x_T.shape, generator=rng)  # as a loop that adds noise at t = 1 would add it
results["10 steps, noise on the last"] = results["10 steps"] + coarse.betas[1].sqrt() * z

# %% [markdown]
# Each point is counted at the centre nearest to it:

# %%
fig, axes = lab.figure(4, width=12, height=3.3, sharey=True)
is_corner = modes.abs().min(1).values > 0.5
shares, widths = {}, {}
for ax, (name, x) in zip(axes, results.items(), strict=True):
    distance, nearest = torch.cdist(x.double(), modes).min(1)
    shares[name] = is_corner[nearest].double().mean().item()
    widths[name] = (distance.square().mean().sqrt() / (2**0.5 * mode_std)).item()
    title = f"{name}\n{shares[name]:.2f} in corners, width {widths[name]:.1f}"
    lab.draw_points(ax, x, title=title)
for ax in axes[1:]:
    ax.set_ylabel("")
lab.show(
    fig, "Nine Gaussians: 200 steps; 10 steps; 10 steps cut short; 10 steps with noise on the last."
)
of_start = is_corner[torch.cdist(x_T.double(), modes).min(1).indices].double().mean().item()
assert of_start - 0.05 < shares["10 steps, cut short"] < shares["10 steps"] < shares["200 steps"]
assert widths["10 steps, noise on the last"] > 1.5 > max(widths["10 steps"], widths["200 steps"])
print("corners lost with the schedule cut short, modes widened by noise on the last step;")
print(f"of the points of pure noise, {of_start:.2f} lie nearest to a corner")

# %% [markdown]
# Cutting the schedule short loses more of the corners than coarse steps alone: ten such small steps only pull each point to the mode near which it started. Each mode looks fine; the shares are wrong. And noise on the last step widens every mode. Neither stops the program, and the training loss can be at its lowest possible value with both. That is why the package's samplers return the mean at the last step by themselves, and why schedules warn.
#
# ## 10. Exercises
#
# `lab.check` compares your answer with the package's. If you are stuck, take the `#` away from `lab.hint`; each run shows one more hint.
#
# **Exercise 1.** Write `guess_x0(x_t, eps_hat, alpha_bar_t)`, the estimate of the clean data from section 2. `alpha_bar_t` has shape (B,); the others have shape (B, 2), and so has the answer.


# %%
# STARTER
def guess_x0(x_t, eps_hat, alpha_bar_t):
    return None  # your lines here


# SOLUTION
def guess_x0(x_t, eps_hat, alpha_bar_t):
    keep = alpha_bar_t[:, None]
    return (x_t - (1 - keep).sqrt() * eps_hat) / keep.sqrt()


# %%
# lab.hint("05.1")
lab.check("05.1", guess_x0)

# %% [markdown]
# **Exercise 2.** Write `step_mean(x_t, eps_hat, t)`: formula (11), for one whole number `t` and the `schedule` of this lesson. `x_t`, `eps_hat` and the answer have shape (B, 2). Use `schedule.betas`, `schedule.alphas` and `schedule.alpha_bars`.


# %%
# STARTER
def step_mean(x_t, eps_hat, t):
    return None  # your lines here


# SOLUTION
def step_mean(x_t, eps_hat, t):
    noise_part = schedule.betas[t] / (1 - schedule.alpha_bars[t]).sqrt()
    return (x_t - noise_part * eps_hat) / schedule.alphas[t].sqrt()


# %%
# lab.hint("05.2")
lab.check("05.2", step_mean)

# %% [markdown]
# **Exercise 3. Find the mistakes.** A colleague uses $\sigma_t^2 = \beta_t$ in Algorithm 2, and writes the noise like this:
#
# ```python
# def added_noise(z, t):
#     if t == 0:
#         return 0 * z
#     return schedule.betas[t] * z
# ```
#
# The samples have too little noise on the way, and noise on the very last step. Two things are wrong. Write the function right: it returns what is added to the mean at step `t`, for a given draw `z` and one whole number `t`: a tensor of the shape of `z`, all zeros where nothing is added.


# %%
# STARTER
def added_noise(z, t):
    return None  # your lines here


# SOLUTION
def added_noise(z, t):
    if t == 1:  # the last step goes from t = 1 to clean data
        return 0 * z
    return schedule.betas[t].sqrt() * z  # a standard deviation, not a variance


# %%
# lab.hint("05.3")
lab.check("05.3", added_noise)

# %% [markdown]
# **Exercise 4. Predict the number.** Let the data themselves be $N(0, 1)$, in one dimension, and let $t$ be the step with $\bar\alpha_t = 0.36$. The best guess of the noise then has the form $\hat\epsilon = c\,x_t$. What is its mean squared error, that is, the variance of $\epsilon$ that is left when $x_t$ is known? (Section 3 has the rule for two joint Gaussians.) Give at least four digits.

# %%
# STARTER
lowest_error = None  # your number here
# SOLUTION
lowest_error = 1 - (1 - 0.36)  # Var(eps) - Cov(eps, x_t)^2 / Var(x_t)

# %%
# lab.hint("05.4")
lab.check("05.4", lowest_error)

# %% [markdown]
# ## 11. Summary
#
# 1. The network guesses the noise in $x_t$; the best possible answer is the mean $\mathbb E[\epsilon \mid x_t]$, and for a mixture it is known exactly.
# 2. A guess of the noise is a guess of the clean data, and the posterior with this guess is a step back.
# 3. Algorithm 1 draws $t$ and $\epsilon$ and minimises a squared error; its lowest value is not 0.
# 4. Algorithm 2 takes the steps from $T$ to 0, with fresh noise in each but the last.
# 5. Distances are read as multiples of the floor that real data have among themselves.
#
# | equation | function |
# |---|---|
# | the best guess | `mixture_eps_model` |
# | (8) the posterior | `q_posterior` |
# | (11) its mean with a guess | `x0_from_eps`, `p_step` |
# | Algorithm 1; its loss is (19) of lesson 04 | `eps_loss`, `train` |
# | (20) Algorithm 2 | `ddpm_step`, `sample_chain` |
#
# **References.** Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020), Algorithms 1 and 2. Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Székely and Rizzo, *Energy statistics* (2013). Rabin et al., *Wasserstein Barycenter and its Application to Texture Mixing* (2011), for the sliced distance.
#
# **Next**: [06 · Can it draw digits?](06_mnist.ipynb)
