# %% [markdown]
# # 14 · What is wrong with this code?
#
# Code for diffusion models rarely fails with an error. It runs, the loss falls, pictures come out, and they are a little worse than they should be. This museum shows twelve mistakes of that kind. You find each one out with an instrument, give it its name, and mend it.
#
# **At the end you can**
# - use an instrument that shows whether a schedule, a training step, a sampler or a likelihood is right;
# - read a number together with the range in which it must lie;
# - recognise twelve mistakes in code, and mend them;
# - say why an instrument may see nothing although the mistake is there.
#
# **You need** lessons 02 to 05, and from lesson 06 the vector that tells a network its step. Nothing is trained here. **Time**: about 90 minutes, seven for each exhibit. They do not build on each other, so stop whenever you like.

# %%
import torch
from matplotlib.patches import Rectangle

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import metrics
from diffusion_core.nets import timestep_embedding
from diffusion_lab import museum
from diffusion_lab.museum import exhibits, instruments, ledgers, walks
from diffusion_lab.museum.readings import quiet

torch.set_num_threads(1)  # so that sums repeat to the last digit; nothing here is large

# %% [markdown]
# ## 1. The picture first
#
# The data below are nine narrow Gaussians on a square. One of the four clouds is real data, and one was made by the package's sampler. The other two were made by exhibits of this museum, with a mistake in each. All samplers use the perfect guide (lesson 05). In the code, `walks.NINE` is the data as a mixture, `walks.standard` draws points from $N(0, I)$, and `walks.real(data)` is a function that draws real points: give it their number. Which two are wrong?


# %%
def walk_to_nine(step):
    """Return samples after 50 steps with the perfect guide."""
    schedule, rng = dc.vp_schedule(50), torch.Generator().manual_seed(0)
    perfect, x = dc.mixture_eps_model(schedule, walks.NINE), walks.standard(rng, 2)
    for t in range(schedule.T, 0, -1):
        x = step(schedule, x, perfect(x, t), t, walks.standard(rng, 2))
    return x


rng = torch.Generator().manual_seed(0)
schedule = dc.vp_schedule(50)
perfect, x_T = dc.mixture_eps_model(schedule, walks.NINE), walks.standard(rng, 2)
*_, last = dc.sample_chain(dc.ddpm_step, schedule, perfect, x_T, generator=rng)
clouds = {
    "A": walk_to_nine(exhibits.careful_step),
    "B": last.x_t,
    "C": walks.real(walks.NINE)(len(x_T)),
    "D": walk_to_nine(exhibits.step_back),
}

# %% [markdown]
# Look for modes that are missing, that are too wide or too narrow, and for points between them.

# %%
fig, axes = lab.figure(4, width=12, height=3.2, sharey=True)
for ax, (name, cloud) in zip(axes, clouds.items(), strict=True):
    lab.draw_points(ax, cloud, limit=1.4, title=name)
for ax in axes[1:]:
    ax.set_ylabel("")
lab.show(fig, "Four clouds of nine modes each: real data, a right sampler and two wrong ones.")

# %% [markdown]
# C is real data. The modes of B, made by the right sampler, are the narrowest of all: 50 steps with the posterior's variance are coarse for modes so narrow (lesson 04, section 11). B is right; A and D are exhibits 8 and 7. So a look at the widths does not find the wrong ones. Can the energy distance of lesson 05, as a multiple of its floor?

# %%
for name in "ABD":
    fresh = walks.real(walks.NINE)
    score = metrics.times_floor(metrics.energy_distance, [clouds[name]], fresh)
    print(f"{name}: {score.mean:.2f} times the floor")
    assert score.mean < 2

# %% [markdown]
# All three are below twice the floor, the right one as well as the wrong: this number does not tell them apart. The mistakes are there all the same, and with a network in the place of the perfect guide they do harm. So we must measure where a mistake acts, and not only at the end.
#
# ## 2. How a visit goes
#
# 1. Read the exhibit's **source**. Its docstring says what the function ought to do. It is true; the code below it is not.
# 2. Read the **instrument**. It gives one number, and the range in which the number must lie. ✗ means outside.
# 3. Look at the **figure**, if you want to see more.
# 4. **Exercise**: put the letter of the mistake's name into `diagnosis`, and write the function right. You may copy the source and change it. Three verdicts come back: on the name, on your function under the same instrument, and on your function compared with the package's on fresh random cases.
#
# The instruments of this course:
#
# | instrument | the question it asks | from lesson |
# |---|---|---|
# | prior gap | is $x_T$ noise, as sampling assumes? | 02 |
# | end points | do numbers begin and end where they should? | 02 |
# | moments | do mean and variance come out as the exact ones? | 02, 05 |
# | coverage | is every step asked for? | 05 |
# | nearest neighbour | do steps beside each other get the nearest vectors? | 06 |
# | nearest point | does a sample land on the data? | here |
# | range | can every right answer be given? | 05 |
# | distance against its floor | are these samples as good as real ones? | 05 |
# | ledger of the ELBO | does a bound keep to the exact log-likelihood? | 04 |
# | sum | do probabilities add up to 1? | 04 |
#
# And these are the names. Sixteen are on the list and twelve are needed, each once.

# %%
for letter, name in museum.NAMES.items():
    print(letter, "", name.name)

# %% [markdown]
# ## 3. First hall: into noise
#
# ### Exhibit 1: fifty steps
#
# A thousand steps take long, so somebody takes 50. The function makes the $\beta_t$ of the schedule; with $T = 1000$ they are DDPM's. The instrument is the prior gap of lesson 02: how many bits per dimension $q(x_T)$ may be away from $N(0, I)$, where sampling starts.

# %%
lab.show_source(exhibits.straight_betas)
museum.measure(1)

# %% [markdown]
# Drag $T$. On the left is $\bar\alpha_t$, what is left of the data's variance after $t$ steps. On the right are the data, two points at −1 and 1, after all $T$ steps; dotted is $N(0, 1)$. From which $T$ on is the gap at most 0.01?

# %%
DATA = dc.mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
axis = torch.linspace(-4, 4, 161, dtype=torch.float64)
normal = dc.Gaussian(torch.zeros(1).double(), torch.ones(1).double()).log_prob(axis).exp()
fig, (left, right) = lab.figure(2, width=9, height=3)
(curve,) = left.plot([0, 1000], [1, 0])
(end,) = left.plot([1000], [0], "o", color=lab.BLACK)
left.set(xlabel="t", ylabel="alpha_bar", xlim=(0, 1030), ylim=(-0.03, 1.03))
right.set(xlabel="x_T", ylabel="density", ylim=(0, 0.65))
right.plot(axis, normal, color=lab.BLACK, ls=":")
(density,) = right.plot(axis, normal, color=lab.BLUE, ls="-")

# %% [markdown]
# This is what moves when you drag. The package warns of every schedule whose prior gap is above 0.01 (lesson 02); `quiet` keeps that warning back here, as the gap is what we look at:


# %%
def explore_gap(T):
    """Show the exhibit's schedule with T steps."""
    schedule = quiet(lambda: dc.NoiseSchedule(exhibits.straight_betas(T)))
    curve.set_data(torch.arange(T + 1), schedule.alpha_bars)
    end.set_data([T], [schedule.alpha_bars[-1]])
    last = dc.diffuse(schedule, DATA, T)
    density.set_data(axis, last.log_prob(axis[:, None]).exp())
    left_over, gap = schedule.alpha_bars[-1], dc.prior_gap(schedule)
    return f"T = {T}: alpha_bar_T = {left_over:.4f}, prior gap {gap:.4f} bits per dimension."


lab.Explorer(fig, [curve, end, density], explore_gap, {"T": lab.slider("T", 10, 1000, 50, step=10)})

# %% [markdown]
# **Exercise 1.** Name the mistake. Then write `straight_betas(T)` for any $T$ from 25 on (with 20 or fewer, the last beta would reach 1): evenly spaced, both ends multiplied by the same factor, and so chosen that the $T$ betas add up to what DDPM's 1000 add up to.


# %%
# STARTER
diagnosis = None  # a letter of the list


def straight_betas(T):
    return None  # your lines here


# SOLUTION
diagnosis = "D"


def straight_betas(T):
    scale = 1000 / T  # fewer steps, larger ones
    return torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64)


# %%
# lab.hint("14.1")
museum.review(1, diagnosis, straight_betas)
lab.check("14.1", straight_betas)

# %% [markdown]
# ### Exhibit 2: a parabola
#
# Another schedule for 1000 steps. Its betas grow slowly at first and then fast. "Quadratic" means here: the *roots* $\sqrt{\beta_t}$ are evenly spaced. The instrument reads the end point.

# %%
lab.show_source(exhibits.curved_betas)
museum.measure(2)

# %% [markdown]
# The figure compares it with DDPM's straight betas, which have the same ends, or should have. How much of the data is left at $t = 1000$?

# %%
curved = quiet(lambda: dc.NoiseSchedule(exhibits.curved_betas(1000)))
fig, axes = lab.figure(2, width=9, height=3)
for name, s in {"exhibit 2": curved, "straight": dc.linear_schedule(1000)}.items():
    axes[0].plot(s.betas[1:], label=name)
    axes[1].plot(s.alpha_bars, label=name)
axes[0].set(xlabel="t", ylabel="beta")
axes[1].set(xlabel="t", ylabel="alpha_bar", ylim=(0, 1.03))
axes[0].legend()
lab.show(
    fig, "Beside the straight betas, those of exhibit 2 are hardly above 0; most data is left."
)
print(f"alpha_bar_1000: {curved.alpha_bars[-1]:.3f}, prior gap {dc.prior_gap(curved):.3f} bits")

# %% [markdown]
# **Exercise 2.** Name the mistake, and write `curved_betas(T)` as its docstring says.


# %%
# STARTER
diagnosis = None  # a letter of the list


def curved_betas(T):
    return None  # your lines here


# SOLUTION
diagnosis = "K"


def curved_betas(T):
    return torch.linspace(1e-4**0.5, 0.02**0.5, T, dtype=torch.float64) ** 2


# %%
# lab.hint("14.2")
museum.review(2, diagnosis, curved_betas)
lab.check("14.2", curved_betas)

# %% [markdown]
# ### Exhibit 3: one step of the chain
#
# From $x_{t-1}$ to $x_t$, with the noise given as `z`. The instrument puts 200 such steps together and compares the variance with that of $q(x_T \mid x_0)$, which jumps there at once.
#
# We build this instrument from scratch, since it is a good one: it needs no random numbers. A step is $x_t = a\,x_{t-1} + b\,z$ with two numbers $a$ and $b$ that depend on $t$. Feed it $x_{t-1} = 1, z = 0$, and it answers $a$. Feed it $x_{t-1} = 0, z = 1$, and it answers $b$. As $z$ is independent of $x_{t-1}$ and has variance 1,
#
# $$\text{Var}(x_t) = a^2\,\text{Var}(x_{t-1}) + b^2.$$


# %%
def add_up_variances(step, schedule):
    """Return Var(x_t) for t = 0..T by steps from a fixed x_0, without a random number."""
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    found = [0.0]
    for t in range(1, schedule.T + 1):
        a = step(schedule, one, t, zero).item()
        b = step(schedule, zero, t, one).item()
        found.append(a**2 * found[-1] + b**2)
    return torch.tensor(found, dtype=torch.float64)


# %% [markdown]
# Below are the museum's own version (`ONE` is a tensor holding a single 1) and the exhibit; then a check that both versions find the same numbers, and the reading:

# %%
lab.show_source(instruments.variances_by_steps, exhibits.noisier)
schedule = dc.vp_schedule(200)
by_steps = add_up_variances(exhibits.noisier, schedule)
theirs = torch.tensor(instruments.variances_by_steps(schedule, exhibits.noisier)).double()
torch.testing.assert_close(by_steps, theirs)
museum.measure(3)

# %% [markdown]
# Far too little noise, or far too much? The figure shows the standard deviation of $x_t$ for fixed $x_0$, both ways.

# %%
fig, (ax,) = lab.figure(width=7, height=2.8)
ax.plot(schedule.marginal_vars.sqrt(), label="at once, by q(x_t | x_0)")
ax.plot(by_steps.sqrt(), label="step by step, exhibit 3")
ax.set(xlabel="t", ylabel="standard deviation of x_t")
ax.legend()
lab.show(fig, "The noise put in step by step by exhibit 3 stays far below that of the jump.")

# %% [markdown]
# **Exercise 3.** Name the mistake, and write `noisier(schedule, x_prev, t, z)` right. `t` is one whole number.


# %%
# STARTER
diagnosis = None  # a letter of the list


def noisier(schedule, x_prev, t, z):
    return None  # your lines here


# SOLUTION
diagnosis = "B"


def noisier(schedule, x_prev, t, z):
    return schedule.alphas[t].sqrt() * x_prev + schedule.betas[t].sqrt() * z


# %%
# lab.hint("14.3")
museum.review(3, diagnosis, noisier)
lab.check("14.3", noisier)

# %% [markdown]
# ## 4. Second hall: training
#
# ### Exhibit 4: which steps?
#
# Algorithm 1 draws a step for each example of a batch. The instrument draws 20 000 times from $T = 50$ steps, and counts which are missed. If each of 50 steps has the same chance, the chance that one of them is missed 20 000 times is $(49/50)^{20\,000}$, less than $10^{-175}$.

# %%
lab.show_source(exhibits.pick_steps)
museum.measure(4)

# %% [markdown]
# The figure counts how often each of the last ten steps, 41 to 50, was drawn, and 51, which is no step and must stay empty.

# %%
drawn = exhibits.pick_steps(50, 20_000, 0)
counts = torch.bincount(drawn, minlength=52)[41:52]
fig, (ax,) = lab.figure(width=7, height=2.6)
ax.bar(range(41, 52), counts, color=lab.SKY)
ax.axhline(20_000 / 50, color=lab.BLACK, ls=":")
ax.set(xlabel="t", ylabel="times drawn", xticks=range(41, 52))
lab.show(fig, "How often exhibit 4 draws t = 41 to 51; dotted is what an equal chance would give.")

# %% [markdown]
# Sampling *begins* at $t = T$. What a network says about a step on which it was never trained is anybody's guess, and the whole walk starts from it.
#
# **Exercise 4.** Name the mistake, and write `pick_steps(T, n, seed)` right. Make the generator from the seed as the exhibit does, and draw with one call of `torch.randint`.


# %%
# STARTER
diagnosis = None  # a letter of the list


def pick_steps(T, n, seed):
    return None  # your lines here


# SOLUTION
diagnosis = "F"


def pick_steps(T, n, seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, T + 1, (n,), generator=rng)


# %%
# lab.hint("14.4")
museum.review(4, diagnosis, pick_steps)
lab.check("14.4", pick_steps)

# %% [markdown]
# ### Exhibit 5: a vector for each step
#
# A network is told $t$ as a row of `dim` numbers, cosines and sines of $t$ at many frequencies (lesson 06). Steps beside each other should get vectors that are close. The instrument takes 200 steps. For each it looks for the nearest vector among the other 199, and asks whether this belongs to a step beside it.

# %%
lab.show_source(exhibits.step_vector)
museum.measure(5)

# %% [markdown]
# On the left, each row of the picture is the vector of one step, from 1 at the top to 200. On the right, for each step, stands the step with the nearest vector. What should the right-hand picture look like?

# %%
t = torch.arange(1, 201)
vectors = exhibits.step_vector(t, 32)
fig, (left, right) = lab.figure(2, width=9, height=3.4)
image = left.imshow(vectors, aspect="auto", cmap="gray", interpolation="nearest")
left.set(xlabel="place in the vector", ylabel="step minus 1")
fig.colorbar(image, ax=left)
right.plot(t, instruments.nearest(vectors) + 1, ".", ms=4)
right.set(xlabel="step", ylabel="step of the nearest vector")
lab.show(
    fig, "Exhibit 5's 200 vectors: they change in jumps, and nearest neighbours are scattered."
)

# %% [markdown]
# **Predict, then run.** Somebody tests the function with a single step, $t = 7$, and compares with the package's. Do they agree?

# %%
seven = torch.tensor([7])
torch.testing.assert_close(exhibits.step_vector(seven, 32), timestep_embedding(seven, 32))
print("one step alone: the exhibit and the package agree")

# %% [markdown]
# They agree. With more than one step, the vector of a step depends on which others are in the batch. So a test with a batch of one proves little; give it two or more, all different.
#
# **Exercise 5.** Name the mistake, and write `step_vector(t, dim)` right. The frequencies are $f_k = 10\,000^{-k/(\text{dim}/2)}$ for $k = 0, \dots, \text{dim}/2 - 1$; first come all cosines, then all sines.


# %%
# STARTER
diagnosis = None  # a letter of the list


def step_vector(t, dim):
    return None  # your lines here


# SOLUTION
diagnosis = "G"


def step_vector(t, dim):
    k = torch.arange(dim // 2, device=t.device)
    frequencies = 10_000 ** (-k / (dim // 2))
    angles = t[:, None] * frequencies  # (B, dim/2): a row for each step, from the start
    return torch.cat([angles.cos(), angles.sin()], dim=1)


# %%
# lab.hint("14.5")
museum.review(5, diagnosis, step_vector)
lab.check("14.5", step_vector)

# %% [markdown]
# ### Exhibit 6: the end of a network
#
# The last lines of a network that guesses noise. `h` holds the features of each example, numbers that the layers before have made. The instrument feeds 10 000 rows of random features into it, and reads the lowest answer. Noise is below −1 in one case out of six.

# %%
lab.show_source(exhibits.last_layer)
museum.measure(6)

# %% [markdown]
# Compare the answers with what has to be answered:

# %%
rng = torch.Generator().manual_seed(0)
h, weight = (torch.randn(size, generator=rng).double() for size in ((10_000, 16), (1, 16)))
answers = exhibits.last_layer(h, weight / weight.norm(), torch.zeros(1).double())
noise = torch.randn(10_000, generator=rng)
fig, (ax,) = lab.figure(width=7, height=2.8)
bins = torch.linspace(-4, 4, 81)
ax.hist(noise, bins, color=lab.SKY, label="noise")
ax.hist(answers[:, 0], bins, histtype="step", color=lab.RED, ls="-", label="answers of exhibit 6")
ax.set(xlabel="value", ylabel="count", yscale="log")
ax.legend()
lab.show(fig, "Noise goes from -4 to 4; the answers of exhibit 6 stop just below 0.")

# %% [markdown]
# Such a network trains, and its loss falls: it answers as well as it can. But it cannot say "the noise here is −1".
#
# **Exercise 6.** Name the mistake, and write `last_layer(h, weight, bias)` right.


# %%
# STARTER
diagnosis = None  # a letter of the list


def last_layer(h, weight, bias):
    return None  # your lines here


# SOLUTION
diagnosis = "J"


def last_layer(h, weight, bias):
    return h @ weight.T + bias


# %%
# lab.hint("14.6")
museum.review(6, diagnosis, last_layer)
lab.check("14.6", last_layer)

# %% [markdown]
# ## 5. Third hall: the way back
#
# ### Exhibit 7: one step of Algorithm 2
#
# Algorithm 2 with $\sigma_t^2 = \beta_t$. For data that is $N(0, 1)$ itself this variance is exactly right: then $x_{t-1}$ and $x_t$ both have variance 1 and covariance $\sqrt{\alpha_t}$, so $x_{t-1}$ given $x_t$ has variance $1 - \alpha_t = \beta_t$. The perfect guide is linear for such data, so variances can be added up as in exhibit 3. The samples must have variance 1, up to the missing noise of the last step.

# %%
lab.show_source(exhibits.step_back)
museum.measure(7)

# %% [markdown]
# How does it depend on the number of steps?

# %%
lengths = (10, 20, 50, 100, 200, 500)
variances = [walks.variance_after(exhibits.step_back, dc.vp_schedule(T)) for T in lengths]
fig, (ax,) = lab.figure(width=7, height=2.8)
ax.axhspan(0.98, 1.02, color=lab.SKY, alpha=0.5, label="allowed")
ax.semilogx(lengths, variances, "o-", label="exhibit 7")
ax.set(xlabel="T", ylabel="variance of the samples", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
ax.legend()
lab.show(
    fig, "The variance of exhibit 7's samples: far too small for few steps, nearly 1 for many."
)

# %% [markdown]
# With many steps the mistake hides. (Why? You can say it once you have its name.) An instrument should be used where a mistake would be large; this one takes 50 steps.
#
# **Exercise 7.** Name the mistake, and write `step_back(schedule, x_t, eps_hat, t, z)` right, with $\sigma_t^2 = \beta_t$ and no noise in the step from $t = 1$.


# %%
# STARTER
diagnosis = None  # a letter of the list


def step_back(schedule, x_t, eps_hat, t, z):
    return None  # your lines here


# SOLUTION
diagnosis = "I"


def step_back(schedule, x_t, eps_hat, t, z):
    beta, alpha, alpha_bar = schedule.betas[t], schedule.alphas[t], schedule.alpha_bars[t]
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    return mean + beta.sqrt() * z if t > 1 else mean


# %%
# lab.hint("14.7")
museum.review(7, diagnosis, step_back)
lab.check("14.7", step_back)

# %% [markdown]
# ### Exhibit 8: a careful step
#
# The data lies in $[-1, 1]$, as pixels do, and this step makes use of it. (Here the variance is the posterior's, the default of `p_step`.) The instrument stops half way, at $t = 25$ of 50, and measures the energy distance to real states $x_{25}$, as a multiple of the floor. Real states are easy to get: take data and add noise.

# %%
lab.show_source(exhibits.careful_step)
museum.measure(8)

# %% [markdown]
# How do the states differ from real ones? Look at the shape of the cloud and at its edge.

# %%
states = {
    "exhibit 8": walks.half_walk(exhibits.careful_step),
    "real": walks.half_real()(walks.POINTS),
}
fig, axes = lab.figure(2, width=8, height=3.6, sharey=True)
for ax, (name, x) in zip(axes, states.items(), strict=True):
    lab.draw_points(ax, x, title=f"{name}, t = {walks.HALF_WAY}")
lab.show(fig, "Half way, the states of exhibit 8 fill a square; real ones form a round cloud.")

# %% [markdown]
# At the end, the cloud looked right: it was A in section 1. The perfect guide knows the way back from anywhere, even from states that never occur. A network has only seen states like those on the right.
#
# **Exercise 8.** Name the mistake, and write `careful_step(schedule, x_t, eps_hat, t, z)` right. It should still use that the data lies in $[-1, 1]$.


# %%
# STARTER
diagnosis = None  # a letter of the list


def careful_step(schedule, x_t, eps_hat, t, z):
    return None  # your lines here


# SOLUTION
diagnosis = "C"


def careful_step(schedule, x_t, eps_hat, t, z):
    x0_hat = dc.x0_from_eps(schedule, x_t, eps_hat, t).clamp(-1, 1)  # a guess of data
    mean, var = dc.p_step(schedule, x_t, x0_hat, t)
    return mean + var.sqrt() * z


# %%
# lab.hint("14.8")
museum.review(8, diagnosis, careful_step)
lab.check("14.8", careful_step)

# %% [markdown]
# ### Exhibit 9: a long step
#
# DDIM goes from $t$ to any $s < t$. With $\eta$ ("eta") $= 1$ it adds as much fresh noise $z$ as the posterior $q(x_s \mid x_t, x_0)$ has. In
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\epsilon + \sigma z$$
#
# the two noises together have variance $1-\bar\alpha_s$, as $x_s$ must have. The posterior's variance is that of lesson 03 with $s$ in the place of $t-1$, and $\bar\alpha_t/\bar\alpha_s$, what one long step keeps, in the place of $\alpha_t$: $\sigma^2 = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\left(1-\frac{\bar\alpha_t}{\bar\alpha_s}\right)$. The data are eight modes on a circle, one of which has more than half of the points. The instrument is the **maximum mean discrepancy** (MMD), another distance between two clouds: it compares how many pairs of points are close within a cloud and between the clouds.

# %%
lab.show_source(exhibits.long_step)
museum.measure(9)

# %% [markdown]
# What is wrong with the samples? A point that is more than 0.2 away from every mode is called stray. The titles also give the share of points in the heavy mode, at (1, 0); exactly, it is 8/15 = 0.53.

# %%
samples = {
    "exhibit 9": walks.long_walk(exhibits.long_step),
    "real": walks.real(walks.RING)(walks.POINTS),
}
fig, axes = lab.figure(2, width=8, height=3.6, sharey=True)
for ax, (name, x) in zip(axes, samples.items(), strict=True):
    coverage = metrics.mode_coverage(x, walks.RING.means, radius=0.2)
    title = f"{name}: {coverage.shares[0]:.2f} in one mode, {coverage.stray:.2f} stray"
    lab.draw_points(ax, x, limit=1.6, title=title)
lab.show(
    fig, "Samples of exhibit 9 lie around the eight modes and between them; real ones in them."
)

# %% [markdown]
# **Exercise 9.** Name the mistake, and write `long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z)` right, for $\eta = 1$. The two $\bar\alpha$ are numbers. Before you write, print what stands under each root, for $\bar\alpha_t = 0.3$ and $\bar\alpha_s = 0.5$.


# %%
# STARTER
diagnosis = None  # a letter of the list


def long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z):
    return None  # your lines here


# SOLUTION
diagnosis = "M"


def long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z):
    x0_hat = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    var = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    direction = (1 - alpha_bar_s - var) ** 0.5
    return alpha_bar_s**0.5 * x0_hat + direction * eps_hat + var**0.5 * z


# %%
# lab.hint("14.9")
museum.review(9, diagnosis, long_step)
lab.check("14.9", long_step)

# %% [markdown]
# ### Exhibit 10: where to stop
#
# A walk in few strides needs a list of stops. Here the data are just two points, −1 and 1, and the walk takes 10 strides from $T = 50$ without fresh noise. With the perfect guide most samples must land *on* one of the points. The instrument looks for the nearest point of the data, and reads the median distance to it. (Ten strides are few, and some samples end between the points. The median does not mind them.)

# %%
lab.show_source(exhibits.stops)
museum.measure(10)

# %% [markdown]
# Few samples lie exactly on a point. The figure shows how they scatter.

# %%
landed = walks.landed(exhibits.stops)[:, 0]
fig, (ax,) = lab.figure(width=7, height=2.6)
ax.hist(landed, torch.linspace(-1.4, 1.4, 113), color=lab.SKY)
for point in (-1, 1):
    ax.axvline(point, color=lab.BLACK, ls=":")
ax.set(xlabel="sample", ylabel="count")
lab.show(fig, "Exhibit 10's samples scatter around the two points of the data, dotted.")

# %% [markdown]
# **Exercise 10.** Name the mistake, and write `stops(T, strides)` right. It returns a list of whole numbers. You may assume that `strides` divides $T$.


# %%
# STARTER
diagnosis = None  # a letter of the list


def stops(T, strides):
    return None  # your lines here


# SOLUTION
diagnosis = "N"


def stops(T, strides):
    return torch.linspace(T, 0, strides + 1).round().int().tolist()


# %%
# lab.hint("14.10")
museum.review(10, diagnosis, stops)
lab.check("14.10", stops)

# %% [markdown]
# ## 6. Fourth hall: likelihood
#
# ### Exhibit 11: the sum of a ledger
#
# The ELBO (lesson 04) is a lower bound on the model's log-likelihood $\log p_\theta(x_0)$. It is made of a ledger with three kinds of terms: `prior` is $L_T$, `steps` holds the $L_{t-1}$ for $t \ge 2$, and `recon` is $L_0$. All are costs, in nats.
#
# For data that is $N(0, 1)$ and the perfect guide with $\sigma_t^2 = \beta_t$, every step of $p_\theta$ is linear. So $p_\theta(x_0)$ is a Gaussian whose variance can be added up. Here it is the data's own, 1: $x_T$ is $N(0, 1)$ however early the schedule stops, and every step back is the exact reverse of a step forward. So the bound has no gap, unlike in lesson 04, and should meet the exact log-likelihood, up to the chance in the draws of $x_t$. The instrument reads the difference of the two, over 4 000 draws of $x_0$. The schedule has 50 steps and stops early, as that of exhibit 1: so $L_T$ is large, as $x_T$ still tells much about $x_0$.

# %%
lab.show_source(exhibits.lower_bound)
museum.measure(11)

# %% [markdown]
# A lower bound above the truth! The figure shows the ledger's three kinds of terms, on average, beside the exact cost $-\log p_\theta(x_0)$, and what exhibit 11 makes of them. A negative cost is no mistake here: a density may be larger than 1.

# %%
s = ledgers.short_schedule()
terms, x0 = ledgers.ledger(s, 4000), ledgers.bell_points(4000)
costs = {
    "L_T": terms.prior.mean(),
    "sum of L_(t-1)": terms.steps.sum(1).mean(),
    "L_0": terms.recon.mean(),
    "exact": -ledgers.exact_model(s).log_prob(x0).mean(),
    "exhibit 11": -exhibits.lower_bound(terms).mean(),
}
fig, (ax,) = lab.figure(width=7, height=2.8)
colors = [lab.SKY] * 3 + [lab.BLACK, lab.RED]
ax.bar_label(ax.barh(list(costs), [float(c) for c in costs.values()], color=colors), fmt=" %.2f ")
ax.set(xlabel="cost in nats, on average over x_0")
ax.margins(x=0.2)
ax.invert_yaxis()
lab.show(
    fig, "The terms of the ledger, the exact cost, and the cost by exhibit 11, which is too low."
)

# %% [markdown]
# **Exercise 11.** Name the mistake, and write `lower_bound(terms)` right: ELBO$(x_0)$ for each example, shape (B,).


# %%
# STARTER
diagnosis = None  # a letter of the list


def lower_bound(terms):
    return None  # your lines here


# SOLUTION
diagnosis = "E"


def lower_bound(terms):
    return -(terms.prior + terms.steps.sum(1) + terms.recon)


# %%
# lab.hint("14.11")
museum.review(11, diagnosis, lower_bound)
lab.check("14.11", lower_bound)

# %% [markdown]
# ### Exhibit 12: the share of a grey level
#
# A pixel has one of 256 grey levels, and $L_0$ needs the probability of a level, not a density. Each level has a bin around it: the probability is that of the bin under $N(\text{mean}, \text{std}^2)$, a difference of two values of its cumulative distribution function (`ndtr` is that of $N(0, 1)$). Here levels go from 0 to 1. Every number should lie in exactly one bin, so the 256 probabilities must add up to 1.

# %%
lab.show_source(exhibits.level_probs)
museum.measure(12)

# %% [markdown]
# The figure draws the bins of five levels in the middle, one above the other. How should they lie?

# %%
fig, (ax,) = lab.figure(width=7, height=2.4)
half = 1 / 255  # as in the exhibit
for row, i in enumerate(range(126, 131)):
    bin_of_level = Rectangle((i / 255 - half, row - 0.3), 2 * half, 0.6, color=lab.SKY)
    ax.add_patch(bin_of_level)
    ax.plot([i / 255], [row], "o", color=lab.BLACK)
ax.set(xlabel="grey value", ylabel="level", xlim=(0.485, 0.519), ylim=(-0.6, 4.6))
ax.set(yticks=range(5), yticklabels=range(126, 131))
lab.show(fig, "Five grey levels as dots, and their bins in exhibit 12: each reaches the next dots.")

# %% [markdown]
# **Exercise 12.** Name the mistake, and write `level_probs(mean, std)` right: 256 numbers in float64. `mean` and `std` are two numbers.


# %%
# STARTER
diagnosis = None  # a letter of the list


def level_probs(mean, std):
    return None  # your lines here


# SOLUTION
diagnosis = "L"


def level_probs(mean, std):
    levels, half = torch.linspace(0, 1, 256, dtype=torch.float64), 1 / 510
    upper, lower = (levels + half - mean) / std, (levels - half - mean) / std
    upper[-1], lower[0] = torch.inf, -torch.inf
    return torch.special.ndtr(upper) - torch.special.ndtr(lower)


# %%
# lab.hint("14.12")
museum.review(12, diagnosis, level_probs)
lab.check("14.12", level_probs)

# %% [markdown]
# ## 7. When an instrument sees nothing
#
# A reading inside its range does not prove that code is right. Four exhibits pass when they are measured in the wrong place:

# %%
full = dc.NoiseSchedule(exhibits.straight_betas(1000))
gap = dc.prior_gap(full)
print(f"exhibit 1 with T = 1000: prior gap {gap:.6f} bits per dimension")
torch.testing.assert_close(exhibits.step_vector(seven, 32), timestep_embedding(seven, 32))
print("exhibit 5 with a batch of one: equal to the package's")
variance = walks.variance_after(exhibits.step_back, dc.linear_schedule(1000))
print(f"exhibit 7 with DDPM's 1000 steps: variance {variance:.3f}")
fresh = walks.real(walks.NINE)
ratio = metrics.times_floor(metrics.energy_distance, [clouds["A"]], fresh).mean
print(f"exhibit 8 at the end of the walk: {ratio:.2f} times the floor")
assert gap < 0.01 and 0.98 < variance < 1.02 and ratio < 2

# %% [markdown]
# So measure with few steps as well as with many, with a batch of several different examples, half way as well as at the end, and with data for which the exact answer is known. And know what right code reads on the same instrument: a number alone means nothing.
#
# ## 8. Summary
#
# 1. Mistakes in diffusion models seldom stop the program; they show in numbers, if one knows what the numbers should be.
# 2. A schedule is tested by its prior gap and its ends, and a step by adding up variances against the jump.
# 3. Training is tested by what it asks for, how it tells the step, and which answers are possible.
# 4. A sampler is tested on data with an exact guide: moments, distances against the floor, and the nearest point, half way and at the end.
# 5. A likelihood is tested where it is known exactly, and probabilities by their sum.
#
# | instrument | function |
# |---|---|
# | prior gap | `prior_gap`, and the warning of every schedule |
# | moments, step by step and at once | `q_step`, `q_marginal`, `q_posterior` |
# | drawing steps | `draw_t` |
# | the vector of a step | `nets.timestep_embedding` |
# | exact guide, exact states half way | `mixture_eps_model`, `diffuse` |
# | distances and their floor | `metrics.energy_distance`, `metrics.mmd`, `metrics.times_floor` |
# | stops of a walk | `even_taus` |
# | ledger | `elbo_terms`, `gaussian_decoder` |
# | shares of grey levels | `discretized_decoder` |
#
# **References.** Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), for what the number of steps asks of a schedule. Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed* (2024): schedules of models that many people use do not end in noise, like that of exhibit 1. Gretton et al., *A Kernel Two-Sample Test* (2012), for the MMD.
#
# **Next**: after lesson 09, the [second hall](14b_second_hall.ipynb); before, your own code: [05](05_toy_2d.ipynb) and [06](06_mnist.ipynb) are good places to put a mistake in and to look for it.
