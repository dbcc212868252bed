# %% [markdown]
# # 14 · What is wrong with this code?
#
# Code for diffusion models rarely fails with an error. It runs, the loss falls, samples come out, and they are a little worse than they should be. This museum shows twelve mistakes of that kind, and at its end a whole program with two more. You see what is odd, choose an instrument, name the mistake, and open the code last.
#
# **At the end you can**
# - choose an instrument that shows whether a schedule, a training step, a sampler or a likelihood is right;
# - read a number beside the range in which it must lie, and beside what right code gives;
# - find, name and mend mistakes that raise no error;
# - say why an instrument may see nothing although the mistake is there.
#
# **You need** lessons 02 to 05, and from lesson 06 the vector that tells a network its step. The exhibits do not build on each other, so stop whenever you like. **Time**: about 120 minutes, eight for an exhibit and a quarter of an hour for the program.

# %%
import torch
from matplotlib.patches import Rectangle

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import metrics
from diffusion_lab import museum
from diffusion_lab.museum import exhibits, instruments, ledgers, mended, program, walks
from diffusion_lab.museum.readings import quiet

torch.set_num_threads(1)  # so that sums repeat to the last digit; nothing here is large

# %% [markdown]
# ## 1. Which instrument?
#
# The data are nine narrow Gaussians on a square. Two samplers walk there in 50 steps with $\sigma_t^2=\beta_t$ and the exact denoiser (lesson 04). One of them is wrong, and the code below does not tell which. Do the clouds?


# %%
def walk_to_nine(step, seed):
    """Return samples after 50 steps with the exact denoiser."""
    schedule, rng = dc.vp_schedule(50), torch.Generator().manual_seed(seed)
    exact, x = dc.mixture_eps_model(schedule, walks.NINE), walks.standard(rng, 2)
    for t in range(schedule.T, 0, -1):
        x = step(schedule, x, exact(x, t), t, walks.standard(rng, 2))
    return x


samplers = walks.two_samplers()  # "A" and "B"
clouds = {name: [walk_to_nine(step, seed) for seed in range(5)] for name, step in samplers.items()}
fig, axes = lab.figure(3, width=10, height=3.4, sharey=True)
shown = {"data": walks.real(walks.NINE)(walks.POINTS), "A": clouds["A"][0], "B": clouds["B"][0]}
for ax, (name, cloud) in zip(axes, shown.items(), strict=True):
    lab.draw_points(ax, cloud, limit=1.4, title=name)
lab.show(fig, "Nine modes each: the data, and the samples of A and of B, one of which is wrong.")

# %% [markdown]
# Two numbers for each, over five seeds: the energy distance to real points as a multiple of its floor (lesson 05), and the width of the modes as a multiple of the true one.

# %%
for name, found in clouds.items():
    far = metrics.times_floor(metrics.energy_distance, found, walks.real(walks.NINE))
    off = [torch.cdist(x, walks.NINE.means).min(1).values.square().mean() / 2 for x in found]
    width = torch.stack(off).sqrt() / 0.05
    print(
        f"{name}: {far.mean:.2f} +- {far.std:.2f} floors; widths {width.min():.2f} to {width.max():.2f}"
    )

# %% [markdown]
# The distance cannot tell them apart: chance moves it more than the mistake does. The widths can. All of A's are well below 1, all of B's are near it. A is wrong, and it is exhibit 7. An instrument sees what it asks for, and nothing else.
#
# **A visit** has five steps. Look at the *number and the figure*: the exhibit is red, right code is blue. *Choose an instrument*: decide first which question the exhibit fails, then turn to it. Grey is what is allowed, so no place within it is better than another; an instrument for which both are inside cannot see this mistake. *Name* the mistake: the list serves all twelve, and four of its names are never needed. Then *open the code*, and *mend* it. Its docstring is true; the code below it is not. What you write is measured with the instrument, and compared with right code on fresh random cases.
#
# ## 2. Into noise

# %% [markdown]
# ### Exhibit 1: where sampling begins
#
# A schedule of $T$ steps. Drag $T$. On the left is $\bar\alpha_t$. On the right are the data, two points at −1 and 1, after all $T$ steps; dotted is $N(0, 1)$, from which sampling begins.

# %%
DATA = dc.mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
axis = torch.linspace(-4, 4, 161, dtype=torch.float64)
normal = dc.Gaussian(torch.zeros(1).double(), torch.ones(1).double()).log_prob(axis).exp()
fig, (left, right) = lab.figure(2, width=9, height=3)
left.set(xlabel="t", ylabel="alpha_bar", xlim=(0, 1030), ylim=(-0.03, 1.03))
right.set(xlabel="x_T", ylabel="density", ylim=(0, 0.65))
right.plot(axis, normal, color=lab.BLACK, ls=":", lw=2.5, zorder=3)
lines = []
for name, color, style in (("exhibit", lab.RED, "-"), ("right code", lab.BLUE, "--")):
    lines += left.plot([0, 1000], [1, 0], style, color=color, label=name)
    lines += right.plot(axis, normal, style, color=color)
legend = left.legend(loc="upper right")

# %% [markdown]
# The gap is that of lesson 02, in bits per dimension. `quiet` keeps back the package's warning of it:


# %%
def explore_gap(T):
    """Show the schedules of exhibit 1 and of right code with T steps."""
    gaps = []
    for i, betas_of in enumerate((exhibits.straight_betas, mended.straight_betas)):
        schedule = quiet(lambda betas_of=betas_of: dc.NoiseSchedule(betas_of(T)))
        lines[2 * i].set_data(torch.arange(T + 1), schedule.alpha_bars)
        end = dc.diffuse(schedule, DATA, T).log_prob(axis[:, None]).exp()
        lines[2 * i + 1].set_data(axis, end)
        gaps.append(dc.prior_gap(schedule))
    return f"T = {T}: prior gap {gaps[0]:.4f} bits in the exhibit, {gaps[1]:.4f} in right code."


lab.Explorer(fig, lines, explore_gap, {"T": lab.slider("T", 30, 1000, 50, step=10)})

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(1))

# %% [markdown]
# **Name it:**

# %%
museum.names()

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "D"

# %%
museum.diagnose(1, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(1)

# %% [markdown]
# **Exercise 1.** Write `straight_betas(T)` for any $T$ from 25 on: evenly spaced, both ends multiplied by the same factor, and so chosen that the $T$ betas add up to what DDPM's 1000 add up to.


# %%
# STARTER
def straight_betas(T):
    return None  # your lines here


# SOLUTION
def straight_betas(T):
    scale = 1000 / T  # fewer steps, larger ones
    return torch.linspace(1e-4 * scale, 0.02 * scale, T, dtype=torch.float64)


# %%
# lab.hint("14.1")
museum.measure(1, straight_betas)
lab.check("14.1", straight_betas)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# With $T=1000$ the exhibit is DDPM's schedule. With fewer steps its $\beta_t$ stay as small, and less noise is put in: on the slider, its gap is at most 0.01 bits from $T=430$ on. Sampling then begins from another law than the one in which the data ends.
#
# </details>
#
# ### Exhibit 2: two curves
#
# Two schedules with 1000 steps, and what they leave of the data. Their docstring promises $\beta_t$ from 0.0001 to 0.02, with evenly spaced roots.

# %%
schedules = {
    "exhibit": quiet(lambda: dc.NoiseSchedule(exhibits.curved_betas(1000))),
    "right code": quiet(lambda: dc.NoiseSchedule(mended.curved_betas(1000))),
}
colors = {"exhibit": lab.RED, "right code": lab.BLUE, "real": lab.BLACK}
styles = {"exhibit": "-", "right code": "--", "real": ":"}
fig, (ax,) = lab.figure(width=7, height=2.8)
for name, s in schedules.items():
    ax.plot(s.alpha_bars, styles[name], color=colors[name], label=name)
    print(f"{name}: alpha_bar_1000 = {s.alpha_bars[-1]:.4f}")
ax.set(xlabel="t", ylabel="alpha_bar", ylim=(0, 1.03))
ax.legend()
lab.show(
    fig, "After 1000 steps, exhibit 2 leaves nearly all of the data, right code almost nothing."
)

# %% [markdown]
# **Choose an instrument.** That $x_T$ is not noise, the figure shows. The instruments ask why, so they ask what the docstring promises:

# %%
lab.Explorer(*museum.instruments_of(2))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "K"

# %%
museum.diagnose(2, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(2)

# %% [markdown]
# **Exercise 2.** Write `curved_betas(T)` as the docstring says.


# %%
# STARTER
def curved_betas(T):
    return None  # your lines here


# SOLUTION
def curved_betas(T):
    return torch.linspace(1e-4**0.5, 0.02**0.5, T, dtype=torch.float64) ** 2


# %%
# lab.hint("14.2")
museum.measure(2, curved_betas)
lab.check("14.2", curved_betas)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Evenly spaced numbers were squared, and their ends were squared, too: the exhibit goes from $10^{-8}$ to 0.0004.
#
# </details>
#
# ### Exhibit 3: one step of the chain
#
# A step is $x_t = a\,x_{t-1} + b\,z$ with two numbers $a$, $b$ that depend on $t$. So it can be measured without random numbers: $x_{t-1}=1$, $z=0$ gives $a$, and $x_{t-1}=0$, $z=1$ gives $b$. As $z$ has variance 1 and is independent,
#
# $$\text{Var}(x_t) = a^2\,\text{Var}(x_{t-1}) + b^2.$$
#
# The figure puts 200 steps from a fixed $x_0$ together. Dotted is the jump, $q(x_t\mid x_0)$.


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


schedule = dc.vp_schedule(200)
fig, (ax,) = lab.figure(width=7, height=2.8)
for name, step in (("exhibit", exhibits.noisier), ("right code", mended.noisier)):
    stds = add_up_variances(step, schedule).sqrt()
    ax.plot(stds, styles[name], color=colors[name], label=name, lw=2)
    print(f"{name}: standard deviation of x_200 = {stds[-1]:.4f}")
ax.plot(schedule.marginal_vars.sqrt(), ":", color=lab.BLACK, label="jump")
ax.set(xlabel="t", ylabel="standard deviation of x_t")
ax.legend()
lab.show(fig, "Exhibit 3's standard deviation stays far below the jump's; right code's lies on it.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(3))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "B"

# %%
museum.diagnose(3, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(3)

# %% [markdown]
# **Exercise 3.** Write `noisier(schedule, x_prev, t, z)` right. `t` is one whole number.


# %%
# STARTER
def noisier(schedule, x_prev, t, z):
    return None  # your lines here


# SOLUTION
def noisier(schedule, x_prev, t, z):
    return schedule.alphas[t].sqrt() * x_prev + schedule.betas[t].sqrt() * z


# %%
# lab.hint("14.3")
museum.measure(3, noisier)
lab.check("14.3", noisier)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# $\beta_t\,z$ has variance $\beta_t^2$, and $\beta_t$ was wanted. As $\beta_t < 1$, far too little noise is added.
#
# </details>
#
# ## 3. Training
#
# ### Exhibit 4: which steps?
#
# Algorithm 1 draws a step for each example. Here are 20 000 draws from $T=50$ steps, and how often the last ones came:

# %%
fig, (ax,) = lab.figure(width=7, height=2.6)
for name, pick in (("exhibit", exhibits.pick_steps), ("right code", mended.pick_steps)):
    counts = torch.bincount(pick(50, 20_000, 0), minlength=52)[41:52]
    shift = -0.2 if name == "exhibit" else 0.2
    ax.bar(torch.arange(41, 52) + shift, counts, 0.4, color=colors[name], label=name)
    print(f"{name}: t = 41 to 51 drawn {counts.tolist()} times")
ax.axhline(20_000 / 50, color=lab.BLACK, ls=":")
ax.set(xlabel="t", ylabel="times drawn", xticks=range(41, 52), ylim=(0, 640))
ax.legend(ncols=2)
lab.show(fig, "How often t = 41 to 51 was drawn; dotted is what an equal chance would give.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(4))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "F"

# %%
museum.diagnose(4, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(4)

# %% [markdown]
# **Exercise 4.** Write `pick_steps(T, n, seed)` right. Make the generator from the seed as the exhibit does, and draw with one call of `torch.randint`.


# %%
# STARTER
def pick_steps(T, n, seed):
    return None  # your lines here


# SOLUTION
def pick_steps(T, n, seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, T + 1, (n,), generator=rng)


# %%
# lab.hint("14.4")
museum.measure(4, pick_steps)
lab.check("14.4", pick_steps)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Sampling *begins* at $t=T$, and the network never saw it. (That right code misses one of 50 steps has a chance below $50\,(49/50)^{20\,000} < 10^{-173}$.)
#
# </details>
#
# ### Exhibit 5: a vector for each step
#
# A network is told $t$ as a row of cosines and sines (lesson 06). Here are 200 steps, and for each the step with the nearest vector:

# %%
t = torch.arange(1, 201)
fig, axes = lab.figure(2, width=9, height=3.4, sharey=True)
for ax, embed, name in zip(
    axes, (exhibits.step_vector, mended.step_vector), ("exhibit", "right code"), strict=True
):
    ax.plot(t, instruments.nearest(embed(t, 32)) + 1, ".", ms=4, color=colors[name])
    ax.set(xlabel="step", title=name)
    print(
        f"{name}: nearest to t = 100 is the vector of t = {instruments.nearest(embed(t, 32))[99] + 1}"
    )
axes[0].set_ylabel("step of the nearest vector")
lab.show(fig, "Nearest vectors: scattered in exhibit 5, beside each step in right code.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(5))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "G"

# %%
museum.diagnose(5, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(5)

# %% [markdown]
# **Exercise 5.** Write `step_vector(t, dim)` right. The frequencies are $f_k = 10\,000^{-k/(\text{dim}/2)}$ for $k = 0, \dots, \text{dim}/2 - 1$; first come all cosines, then all sines.


# %%
# STARTER
def step_vector(t, dim):
    return None  # your lines here


# SOLUTION
def step_vector(t, dim):
    k = torch.arange(dim // 2, device=t.device)
    frequencies = 10_000 ** (-k / (dim // 2))
    angles = t[:, None] * frequencies  # (B, dim/2): a row for each step, from the start
    return torch.cat([angles.cos(), angles.sin()], dim=1)


# %%
# lab.hint("14.5")
museum.measure(5, step_vector)
lab.check("14.5", step_vector)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# All numbers are there, in wrong rows. A batch of one shows nothing: test with two or more, all different.
#
# </details>
#
# ### Exhibit 6: answers
#
# The end of a network that guesses noise. It gets random features; the answers of right code have the law of noise, $N(0,1)$:

# %%
rng = torch.Generator().manual_seed(0)
h, weight = (torch.randn(size, generator=rng).double() for size in ((10_000, 16), (1, 16)))
fig, (ax,) = lab.figure(width=7, height=2.8)
for name, layer in (("exhibit", exhibits.last_layer), ("right code", mended.last_layer)):
    answers = layer(h, weight / weight.norm(), torch.zeros(1).double())[:, 0]
    style = {"histtype": "step", "color": colors[name], "ls": styles[name], "label": name}
    ax.hist(answers, torch.linspace(-4.5, 4.5, 91), **style)
    print(f"{name}: answers from {answers.min():.4f} to {answers.max():.4f}")
ax.set(xlabel="value", ylabel="count", yscale="log")
ax.legend()
lab.show(fig, "Answers of right code go from about -4 to 4; those of exhibit 6 stop at -0.28.")

# %% [markdown]
# **Choose an instrument.** Each takes weights of norm about 4, and one of them a bias, too. So its answers are spread more widely than the figure's, and the ranges are meant for that:

# %%
lab.Explorer(*museum.instruments_of(6))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "J"

# %%
museum.diagnose(6, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(6)

# %% [markdown]
# **Exercise 6.** Write `last_layer(h, weight, bias)` right.


# %%
# STARTER
def last_layer(h, weight, bias):
    return None  # your lines here


# SOLUTION
def last_layer(h, weight, bias):
    return h @ weight.T + bias


# %%
# lab.hint("14.6")
museum.measure(6, last_layer)
lab.check("14.6", last_layer)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Such a network trains, and its loss falls: it answers as well as it can. But noise is below −1 in one case out of six, and the network cannot say so.
#
# </details>
#
# ## 4. The way back
#
# ### Exhibit 7: a cloud that is too narrow
#
# It was A in section 1. Here the data is $N(0, 1)$, for which Algorithm 2 with $\sigma_t^2=\beta_t$ is exact in every step but the last, which adds no noise (so right code ends at $1-\beta_1$): $x_{t-1}$ and $x_t$ have variance 1 and covariance $\sqrt{\alpha_t}$, so $x_{t-1}$ given $x_t$ has variance $1-\alpha_t$. The exact denoiser is linear, and variances add up as in exhibit 3:

# %%
lengths = (10, 20, 50, 100, 200, 500)
fig, (ax,) = lab.figure(width=7, height=2.8)
for name, step in (("exhibit", exhibits.step_back), ("right code", mended.step_back)):
    found = [walks.variance_after(step, dc.vp_schedule(T)) for T in lengths]
    ax.semilogx(lengths, found, "o" + styles[name], color=colors[name], label=name)
    print(f"{name}: " + ", ".join(f"{value:.4f}" for value in found))
ax.set(xlabel="T", ylabel="variance of the samples", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
ax.legend()
lab.show(fig, "Variance of the samples: too small in exhibit 7 for few steps, nearly 1 for many.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(7))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "I"

# %%
museum.diagnose(7, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(7)

# %% [markdown]
# **Exercise 7.** Write `step_back(schedule, x_t, eps_hat, t, z)` right, with $\sigma_t^2 = \beta_t$ and no noise in the step from $t = 1$.


# %%
# STARTER
def step_back(schedule, x_t, eps_hat, t, z):
    return None  # your lines here


# SOLUTION
def step_back(schedule, x_t, eps_hat, t, z):
    beta, alpha, alpha_bar = schedule.betas[t], schedule.alphas[t], schedule.alpha_bars[t]
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    return mean + beta.sqrt() * z if t > 1 else mean


# %%
# lab.hint("14.7")
museum.measure(7, step_back)
lab.check("14.7", step_back)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Why does it hide when there are many steps? Then $\beta_{t-1}$ and $\beta_t$ differ by little. Measure where a mistake would be large.
#
# </details>
#
# ### Exhibit 8: half way
#
# The data is that of section 1 again, and lies in $[-1, 1]$. Here are states $x_{25}$ on the way back, of 50 steps, and real ones: data to which noise was added.

# %%
states = {
    "exhibit": walks.half_walk(exhibits.careful_step),
    "right code": walks.half_walk(mended.careful_step),
    "real": walks.half_real()(walks.POINTS),
}
fig, axes = lab.figure(3, width=10, height=3.4, sharey=True)
for ax, (name, x) in zip(axes, states.items(), strict=True):
    lab.draw_points(ax, x, title=name, color=colors[name])
    print(f"{name}: the farthest coordinate is {x.abs().max():.4f}")
lab.show(fig, "Half way, the states of exhibit 8 fill a square; others form a round cloud.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(8))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "C"

# %%
museum.diagnose(8, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(8)

# %% [markdown]
# **Exercise 8.** Write `careful_step(schedule, x_t, eps_hat, t, z)` right. It should still use that the data lies in $[-1, 1]$; the variance is the default of `p_step`.


# %%
# STARTER
def careful_step(schedule, x_t, eps_hat, t, z):
    return None  # your lines here


# SOLUTION
def careful_step(schedule, x_t, eps_hat, t, z):
    x0_hat = dc.x0_from_eps(schedule, x_t, eps_hat, t).clamp(-1, 1)  # a guess of data
    mean, var = dc.p_step(schedule, x_t, x0_hat, t)
    return mean + var.sqrt() * z


# %%
# lab.hint("14.8")
museum.measure(8, careful_step)
lab.check("14.8", careful_step)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# At the end the samples look right. The exact denoiser knows the way back from anywhere, even from states that never occur. A network has only seen states like the real ones.
#
# </details>
#
# ### Exhibit 9: long steps
#
# DDIM goes from $t$ to any $s<t$:
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\epsilon + \sigma z.$$
#
# The two noises have variance $1-\bar\alpha_s$ together. $\eta$ says how much is fresh: 0, none, in lesson 05; 1 here. With $\eta=1$, $\sigma^2$ is the variance of the posterior $q(x_s\mid x_t,x_0)$: (8) of lesson 03, for a single step from $s$ to $t$. The walk has 20 strides of five steps, from $T=100$. The data are eight modes on a ring, of which one has $8/15 = 0.53$ of the points. *Stray* is a point more than 0.2 from every mode.

# %%
samples = {
    "exhibit": walks.long_walk(exhibits.long_step),
    "right code": walks.long_walk(mended.long_step),
    "real": walks.real(walks.RING)(walks.POINTS),
}
fig, axes = lab.figure(3, width=11, height=3.6, sharey=True)
for ax, (name, x) in zip(axes, samples.items(), strict=True):
    found = metrics.mode_coverage(x, walks.RING.means, radius=0.2)
    lab.draw_points(ax, x, limit=1.6, title=name, color=colors[name])
    print(f"{name}: {found.shares[0]:.4f} in the heavy mode, {found.stray:.4f} stray")
lab.show(
    fig, "Exhibit 9's points lie around the modes and between them, other points mostly in them."
)

# %% [markdown]
# **Choose an instrument.** One compares clouds by the **maximum mean discrepancy** (MMD). Its square is the share of close pairs within one cloud, plus that within the other, less twice that between the two. "Close" is a bell $\exp(-|x-y|^2/2b^2)$, averaged over five widths $b$ from 0.1 to 2:

# %%
lab.Explorer(*museum.instruments_of(9))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "M"

# %%
museum.diagnose(9, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(9)

# %% [markdown]
# **Exercise 9.** Write `long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z)` right, for $\eta = 1$. The two $\bar\alpha$ are numbers.


# %%
# STARTER
def long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z):
    return None  # your lines here


# SOLUTION
def long_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, z):
    x0_hat = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    var = (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    direction = (1 - alpha_bar_s - var) ** 0.5
    return alpha_bar_s**0.5 * x0_hat + direction * eps_hat + var**0.5 * z


# %%
# lab.hint("14.9")
museum.measure(9, long_step)
lab.check("14.9", long_step)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# $1-\bar\alpha_t$ is more noise than $x_s$ may hold, and `max(.., 0)` keeps quiet about it. (Right code has strays, too: twenty long steps are coarse, and leave the modes too narrow, which the MMD hardly feels. So a share of strays says something only beside that of right code.)
#
# </details>
#
# ### Exhibit 10: ten strides
#
# The data are two points, −1 and 1. From $T=50$, DDIM takes ten strides without fresh noise. With the exact denoiser most samples must land *on* a point:

# %%
fig, axes = lab.figure(2, width=9, height=2.6, sharey=True)
for ax, stops_of, name in zip(
    axes, (exhibits.stops, mended.stops), ("exhibit", "right code"), strict=True
):
    x = walks.landed(stops_of)[:, 0]
    ax.hist(x, torch.linspace(-1.4, 1.4, 113), color=colors[name])
    ax.set(xlabel="sample", title=name)
    off = torch.minimum((x - 1).abs(), (x + 1).abs()).median()
    print(f"{name}: distance to the nearest point {off:.4f}, in the median")
axes[0].set_ylabel("count")
lab.show(
    fig, "Samples scatter around the two points in exhibit 10; right code's mostly lie on them."
)

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(10))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "N"

# %%
museum.diagnose(10, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(10)

# %% [markdown]
# **Exercise 10.** Write `stops(T, strides)` right: a list of whole numbers. `strides` divides $T$.


# %%
# STARTER
def stops(T, strides):
    return None  # your lines here


# SOLUTION
def stops(T, strides):
    return torch.linspace(T, 0, strides + 1).round().int().tolist()


# %%
# lab.hint("14.10")
museum.measure(10, stops)
lab.check("14.10", stops)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Row 0 is clean data, and the walk ended at row 1. (Ten strides are few: even right code leaves some samples between the points. The median does not mind them.)
#
# </details>
#
# ## 5. Likelihood
#
# ### Exhibit 11: above the truth
#
# The ELBO (lesson 04) is a *lower* bound on $\log p_\theta(x_0)$. Its terms are costs in nats: `prior` is $L_T$, `steps` holds the $L_{t-1}$ for $t\ge2$, and `recon` is $L_0$. For data $N(0,1)$ and the exact denoiser with $\sigma_t^2=\beta_t$ each step back is the exact reverse of a step forward (the last one, too: unlike in exhibit 7 it has its noise, in $L_0$). So the model is $N(0,1)$, too, and the bound has no gap: it should meet the exact log-likelihood. The schedule has 50 steps and ends early, as that of exhibit 1. All terms but $L_T$ come from one draw of $x_t$ each, so 4000 examples leave a chance error (one standard deviation):

# %%
s = ledgers.short_schedule()
terms, x0 = ledgers.ledger(s, 4000), ledgers.bell_points(4000)
costs = {
    "exhibit": -exhibits.lower_bound(terms).mean(),
    "right code": -mended.lower_bound(terms).mean(),
    "exact": -ledgers.exact_model(s).log_prob(x0).mean(),
}
error = (mended.lower_bound(terms) - ledgers.exact_model(s).log_prob(x0)[:, 0]).std() / 4000**0.5
print(f"right code lies {costs['right code'] - costs['exact']:+.4f} from exact, error {error:.4f}")
fig, (ax,) = lab.figure(width=7, height=2.2)
bars = ax.barh(list(costs), [float(c) for c in costs.values()])
for bar, color in zip(bars, (lab.RED, lab.BLUE, lab.BLACK), strict=True):
    bar.set_color(color)
ax.bar_label(bars, fmt=" %.2f ")
ax.set(xlabel="cost in nats (-ELBO, or -log p), on average over x_0")
ax.margins(x=0.2)
lab.show(fig, "Cost by exhibit 11, by right code, and exact: the exhibit's is too low.")

# %% [markdown]
# **Choose an instrument.** One takes 600 steps and only 100 examples. Its chance error is larger, and so is the range it allows:

# %%
lab.Explorer(*museum.instruments_of(11))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "E"

# %%
museum.diagnose(11, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(11)

# %% [markdown]
# **Exercise 11.** Write `lower_bound(terms)` right: ELBO$(x_0)$ for each example, shape (B,).


# %%
# STARTER
def lower_bound(terms):
    return None  # your lines here


# SOLUTION
def lower_bound(terms):
    return -(terms.prior + terms.steps.sum(1) + terms.recon)


# %%
# lab.hint("14.11")
museum.measure(11, lower_bound)
lab.check("14.11", lower_bound)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# With a schedule that ends in noise, $L_T$ is nearly 0, and nobody misses it.
#
# </details>
#
# ### Exhibit 12: grey levels
#
# A pixel has one of 256 grey levels from 0 to 1, and $L_0$ needs their probabilities under $N(0.5,\,0.1^2)$: for each level that of a bin around it, a difference of two values of the cumulative distribution function (`ndtr` is that of $N(0,1)$).

# %%
fig, (ax,) = lab.figure(width=7, height=2.6)
for name, probs_of in (("exhibit", exhibits.level_probs), ("right code", mended.level_probs)):
    probs = probs_of(0.5, 0.1)
    ax.plot(probs, styles[name], color=colors[name], label=name)
    print(f"{name}: the likeliest level has {probs.max():.4f}")
ax.set(xlabel="grey level", ylabel="probability")
ax.legend()
lab.show(fig, "Probabilities of 256 levels: in exhibit 12 all are larger than in right code.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*museum.instruments_of(12))

# %% [markdown]
# **Name it:**

# %%
# museum.names()  # shows the list again

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "L"

# %%
museum.diagnose(12, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
museum.open_code(12)

# %% [markdown]
# **Exercise 12.** Write `level_probs(mean, std)` right: 256 numbers in float64. `mean` and `std` are two numbers.


# %%
# STARTER
def level_probs(mean, std):
    return None  # your lines here


# SOLUTION
def level_probs(mean, std):
    levels, half = torch.linspace(0, 1, 256, dtype=torch.float64), 1 / 510
    upper, lower = (levels + half - mean) / std, (levels - half - mean) / std
    upper[-1], lower[0] = torch.inf, -torch.inf
    return torch.special.ndtr(upper) - torch.special.ndtr(lower)


# %%
# lab.hint("14.12")
museum.measure(12, level_probs)
lab.check("14.12", level_probs)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Levels lie 1/255 apart, and each bin of the exhibit reaches its neighbours' levels: every value from 0 to 1 is counted twice. (The width 2/255 is right for levels from −1 to 1.)
#
# </details>

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the bins, drawn

# %%
fig, axes = lab.figure(2, width=9, height=2.4, sharey=True)
for ax, half, name in zip(axes, (1 / 255, 1 / 510), ("exhibit", "right code"), strict=True):
    for row, i in enumerate(range(126, 131)):
        corner = (i / 255 - half, row - 0.3)
        ax.add_patch(Rectangle(corner, 2 * half, 0.6, color=colors[name], alpha=0.4))
        ax.plot([i / 255], [row], "o", color=lab.BLACK)
    ax.set(xlabel="grey value", xlim=(0.485, 0.519), ylim=(-0.6, 4.6), title=name)
axes[0].set(ylabel="level", yticks=range(5), yticklabels=range(126, 131))
lab.show(
    fig, "Five grey levels as dots, and their bins: exhibit 12's overlap, those of right code meet."
)

# %% [markdown]
# ## 6. A whole program
#
# Three cells make one program: tables, Algorithm 1, Algorithm 2. Two mistakes are in it. Nobody tells you which, and there is no list. Here are the points from which it learns, each spread by 0.1. They are yours to change.

# %%
my_points = program.ring()  # 24 pairs of numbers on a circle; or, say, [[0.0, 1.0], [1.0, 0.0]]
my_T, my_steps = 50, 100 if dc.is_short_run() else 1500

# %% [markdown]
# **First cell.** The tables, with row 0 for clean data.


# %%
def make_tables(T):
    """Return beta_t and alpha_bar_t for t = 0..T, of the VP schedule."""
    time = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    alpha_bars = torch.exp(-0.1 * time - 9.95 * time**2)
    betas = torch.zeros_like(alpha_bars)
    betas[1:] = 1 - alpha_bars[1:] / alpha_bars[:-1]
    return betas, alpha_bars


# %% [markdown]
# **Second cell.** Algorithm 1, with a small network.


# %%
def train_denoiser(points, T, steps, seed):
    """Return a network that guesses the noise from x_t and t / T, and its losses."""
    data, (_, alpha_bars) = torch.tensor(points, dtype=torch.float64), make_tables(T)
    rng, nn, losses = torch.Generator().manual_seed(seed), torch.nn, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, middle, last = nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 2)
    network = nn.Sequential(first, nn.SiLU(), middle, nn.SiLU(), last).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        x0 = data[torch.randint(len(data), (256,), generator=rng)]
        x0 = x0 + 0.1 * torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        t = torch.randint(1, T + 1, (256, 1), generator=rng)
        eps = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        x_t = alpha_bars[t].sqrt() * x0 + (1 - alpha_bars[t]).sqrt() * eps
        eps_hat = network(torch.cat([x_t, t // T], 1))
        loss = (eps_hat - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


# %% [markdown]
# **Third cell.** Algorithm 2, with $\sigma_t^2=\beta_t$.


# %%
def draw_points(network, T, n, seed):
    """Return n samples (n, 2)."""
    betas, alpha_bars = make_tables(T)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    z = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    for t in range(T, 0, -1):
        told = torch.full((n, 1), t / T, dtype=torch.float64)
        with torch.no_grad():
            eps_hat = network(torch.cat([x, told], 1))
        mean = (x - betas[t] / (1 - alpha_bars[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
        x = mean + betas[t].sqrt() * z if t > 1 else mean
    return x


# %% [markdown]
# Run it. In the legend stands how far the samples are from the data, by the energy distance:

# %%
network, losses = train_denoiser(my_points, my_T, my_steps, 0)
drawn, target = draw_points(network, my_T, 600, 0), program.fresh(my_points)(600)
right, right_losses = program.right_program(my_points, my_T, my_steps, 600)
far, near = (
    metrics.times_floor(metrics.energy_distance, [x], program.fresh(my_points)).mean
    for x in (drawn, right)
)
fig, axes = lab.figure(3, width=11, height=3.4)
lab.draw_points(axes[0], target, limit=5, title="what it should draw", color=lab.BLACK)
lab.draw_points(axes[1], drawn, limit=5, title="what it draws", color=lab.RED)
axes[2].plot(losses, ".", ms=2, color=lab.RED, label=f"program: {far:.1f} floors away")
axes[2].plot(right_losses, ".", ms=2, color=lab.BLUE, label=f"right code: {near:.1f}")
axes[2].set(xlabel="step", ylabel="loss", ylim=(0, 1.2))
axes[2].legend(markerscale=5)
lab.show(fig, "The data, the program's samples, and its loss in training beside right code's.")

# %% [markdown]
# The loss falls, and one number alone would say nothing. **Exercise 13** (a quarter of an hour). Find both mistakes and mend them, in the cells above. Measure before you read: you know instruments for a step, a training, a sampler. Then run from the first cell on. The check below runs your three cells on a few points, and, once one is mended, says which cell has the other. Mend one alone, and the distance may even grow: judge training by its loss, not by the samples.


# %%
# STARTER
def my_program(points, T, steps, seed):
    network, _ = train_denoiser(points, T, steps, seed)
    return draw_points(network, T, 8, seed)


# SOLUTION
def train_denoiser(points, T, steps, seed):
    data, (_, alpha_bars) = torch.tensor(points, dtype=torch.float64), make_tables(T)
    rng, nn, losses = torch.Generator().manual_seed(seed), torch.nn, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, middle, last = nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 2)
    network = nn.Sequential(first, nn.SiLU(), middle, nn.SiLU(), last).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        x0 = data[torch.randint(len(data), (256,), generator=rng)]
        x0 = x0 + 0.1 * torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        t = torch.randint(1, T + 1, (256, 1), generator=rng)
        eps = torch.randn(x0.shape, generator=rng, dtype=x0.dtype)
        x_t = alpha_bars[t].sqrt() * x0 + (1 - alpha_bars[t]).sqrt() * eps
        eps_hat = network(torch.cat([x_t, t / T], 1))  # it was t // T, which is 0 but at t = T
        loss = (eps_hat - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


def draw_points(network, T, n, seed):
    betas, alpha_bars = make_tables(T)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    for t in range(T, 0, -1):
        z = torch.randn(n, 2, generator=rng, dtype=torch.float64)  # it was drawn once, for all
        told = torch.full((n, 1), t / T, dtype=torch.float64)
        with torch.no_grad():
            eps_hat = network(torch.cat([x, told], 1))
        mean = (x - betas[t] / (1 - alpha_bars[t]).sqrt() * eps_hat) / (1 - betas[t]).sqrt()
        x = mean + betas[t].sqrt() * z if t > 1 else mean
    return x


def my_program(points, T, steps, seed):
    network, _ = train_denoiser(points, T, steps, seed)
    return draw_points(network, T, 8, seed)


# %%
# lab.hint("14.13")
lab.check("14.13", my_program)

# %% [markdown]
# **Your picture.** Once the check is content, these are samples of *your* program, for points of your own:

# %%
mine = draw_points(train_denoiser(my_points, my_T, my_steps, 0)[0], my_T, 600, 2)
fig, axes = lab.figure(2, width=8, height=3.6)
lab.draw_points(axes[0], target, limit=3, title="your points, spread by 0.1", color=lab.BLACK)
far = metrics.times_floor(metrics.energy_distance, [mine], program.fresh(my_points)).mean
lab.draw_points(axes[1], mine, limit=3, title=f"samples of your program: {far:.1f} floors away")
lab.show(fig, "Your points, and the samples of your program.")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how small a mistake can be seen?
#
# Mix an exhibit with right code: $(1-w)$ of what right code returns, $w$ of what the exhibit returns. From which weight on does the instrument see it? On the scale 1 is the edge of what is allowed, and what is beyond 1000 is drawn there.

# %%
weights = torch.linspace(0, 1, 21).tolist()
fig, (ax,) = lab.figure(width=7, height=3)
ax.axhspan(-1, 1, color="0.88")
(curve,) = ax.plot(weights, weights, color=lab.RED, ls="-")
(dot,) = ax.plot([0], [0], "X", ms=10, color=lab.RED)
ax.set_yscale("symlog", linthresh=1)
ax.set(xlabel="weight w of the mistake", ylabel="reading, 1 = edge", ylim=(-1500, 1500))
ticks = (-1000, -100, -10, -1, 0, 1, 10, 100, 1000)
ax.set_yticks(ticks, [str(tick) for tick in ticks])
ax.minorticks_off()

# %% [markdown]
# Choose an exhibit, and drag the weight.


# %%
def read_mixture(number, w):
    """Return where the instrument reads a mixture of exhibit `number` with right code."""
    exhibit = museum.EXHIBITS[number]

    def mixed(*case):
        return (1 - w) * exhibit.mended(*case) + w * exhibit.function(*case)

    return museum.place(museum.reading(number, mixed))


curves = {number: [read_mixture(number, w) for w in weights] for number in (3, 7, 11, 12)}
for number, found in curves.items():
    first = next(w for w, reading in zip(weights, found, strict=True) if abs(reading) > 1)
    print(f"exhibit {number} is seen from weight {first:.2f} on")

# %% [markdown]
# Two things decide this: how far the mistake moves the number, and how wide the grey band is. Where the number is known exactly, as for the sum of exhibit 12, the band can be narrow. (The weights are 0.05 apart, so none below 0.05 is found.) The curves of four exhibits:


# %%
def weaken_exhibit(number, w):
    """Show the reading of an exhibit whose mistake has the weight w."""
    found = curves[number]
    here = found[weights.index(min(weights, key=lambda other: abs(other - w)))]
    curve.set_ydata(found)
    dot.set_data([w], [here])
    seen = "outside" if abs(here) > 1 else "inside"
    return f"Exhibit {number}, weight {w:g}: the reading is {here:.2f}, {seen}."


options = {
    "number": lab.choice("exhibit", list(curves), 7),
    "w": lab.slider("weight", 0.0, 1.0, 0.2, 0.05),
}
lab.Explorer(fig, [curve, dot], weaken_exhibit, options)

# %% [markdown]
# ## 7. Summary
#
# 1. Mistakes in diffusion models seldom stop the program; they show in numbers, beside the numbers of right code.
# 2. An instrument sees what it asks for. Five of the twelve hide when they are measured in the wrong place: with 1000 steps (1), in a batch of one (5), with many steps (7), at the end of the walk (8), with a schedule that ends in noise (11).
# 3. A schedule is tested by its gap and its ends, a step by adding up variances, training by what it asks for and how it tells the step.
# 4. A sampler is tested on data with an exact denoiser: moments, distances, nearest points, half way and at the end.
# 5. A likelihood is tested where it is known exactly, and probabilities by their sum.
#
# | instrument | function |
# |---|---|
# | prior gap | `prior_gap`, and the warning of a schedule with a large gap |
# | moments, step by step and at once | `q_step`, `q_marginal`, `q_posterior` |
# | drawing steps | `draw_t` |
# | the vector of a step | `nets.timestep_embedding` |
# | exact denoiser, exact states half way | `mixture_eps_model`, `diffuse` |
# | distances and their floor | `metrics.energy_distance`, `metrics.mmd`, `metrics.times_floor` |
# | stops of a walk | `even_taus` |
# | terms of the bound | `elbo_terms`, `gaussian_decoder` |
# | shares of grey levels | `discretized_decoder` |
#
# **References.** Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021), for what the number of steps asks of a schedule. Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed* (2024), on schedules in wide use that do not end in noise. Gretton et al., *A Kernel Two-Sample Test* (2012). Beside the code stands a public report of the mistake, where one was found; "of a published kind" means that teaching code in public has such mistakes, and no single place is named.
#
# **Next**: after lesson 09, the [second hall](14b_second_hall.ipynb).
