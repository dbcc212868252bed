# %% [markdown]
# # 09 · How few calls of the network are enough?
#
# Drawing a digit in lesson 06 took 50 steps, the original sampler takes 1000. Each step calls the network (with guidance it asks twice, in every solver alike), so the number of calls *is* the price. This lesson makes time continuous. The way back from noise becomes an equation, which can be followed with few long steps, badly or well.
#
# **At the end you can**
# - write the way back to the data as an SDE and as an ODE, and show that both have the right densities at all times;
# - read the density of a point off the ODE;
# - say what DDIM really does, and replace it by a better solver;
# - compare samplers fairly, and draw digits with 10 calls.
#
# **You need** lesson 08, and DDIM from lessons 05 and 06. **Time**: about 120 minutes.

# %%
import math
from functools import cache, partial
from itertools import pairwise

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, metrics, pretrained, toys

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# Data on a line: two heaps. Noise turns them into one broad hill; time runs from 0 (data) to 1 (noise). Shading shows the density. We start at time 1, on the left of each picture, and go back.

# %%
line_data = dc.mixture(torch.tensor([[-1.2], [1.0]]).double(), 0.04, torch.tensor([0.35, 0.65]))
vp = dc.vp_sde(beta_min=0.1, beta_max=20.0)
score = dc.mixture_score(vp, line_data)
back, flow = dc.reverse_sde(vp, score), dc.probability_flow(vp, score)
times = torch.linspace(1, 0, 401, dtype=torch.float64)
starts = torch.linspace(-1.9, 1.9, 14, dtype=torch.float64)[:, None]
paths = {
    "with noise": torch.stack([starts, *dc.euler_maruyama(back, starts, times, generator=rng)]),
    "without noise": torch.stack([starts, *dc.euler_maruyama(flow, starts, times)]),
}
height = torch.linspace(-3, 3, 61, dtype=torch.float64)
shade = torch.stack(
    [dc.mixture_at(vp, line_data, t).log_prob(height[:, None]) for t in times[::16].tolist()]
)

# %% [markdown]
# Left: an SDE. Right: an ODE. Both begin at the same 14 points, evenly spaced. Move the time, or play it.

# %%
fig, axes = lab.figure(2, width=8.5, height=3.1, sharey=True)
ways = []
for ax, (name, colour) in zip(
    axes, {"with noise": lab.BLUE, "without noise": lab.RED}.items(), strict=True
):
    ax.pcolormesh(times[::16], height, shade.T.exp().sqrt(), cmap="Greys", vmin=0, vmax=1.8)
    ax.set(xlabel="time", title=name, xlim=(1, 0), ylim=(-3, 3))
    ways.append(ax.plot([], [], color=colour, lw=0.8)[0])
axes[0].set_ylabel("x")
gap = torch.tensor([torch.nan], dtype=torch.float64)


def go_back(time):
    """Show both kinds of path from time 1 to this time."""
    done = 1 + round((1 - time) * 400)
    for way, states in zip(ways, paths.values(), strict=True):
        lines = torch.cat([torch.cat([x, gap]) for x in states[:done, :, 0].T])
        way.set_data(torch.cat([times[:done], gap]).repeat(len(starts)), lines)
    upper = [int((states[done - 1] > 0).sum()) for states in paths.values()]
    return f"time {time:g}: above 0 are {upper[0]} of 14 points with noise, {upper[1]} without."


controls = {"time": lab.slider("time", 0.0, 1.0, 0.0, 0.05)}
lab.Explorer(fig, ways, go_back, controls)

# %% [markdown]
# On the left the paths shake, cross, and change sides late. On the right they are smooth and never cross: the start decides the end. Yet both end in the same two heaps. Why?
#
# ## 2. The way into noise
#
# A step of DDPM is $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\epsilon$. Cut the time from 0 to 1 into more and more such steps, with $\beta_t = \beta(t/T)/T$. What is left in the limit is an SDE, as in lesson 08, with the drift $f(x, t) = -\tfrac12\beta(t)\,x$ and the diffusion $g(t) = \sqrt{\beta(t)}$:
#
# $$dx = -\tfrac12\beta(t)\,x\,dt + \sqrt{\beta(t)}\,dW.$$
#
# Up to section 5, $t$ is a time in $[0, 1]$, and $q_t$ is the density at that time. Here $\beta(t)$ rises evenly from 0.1 to 20. What each point keeps of the data is known: $x = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ with $\bar\alpha = e^{-\int_0^t \beta}$. So for our mixture $q_t$ and its score $\nabla\log q_t$ are exact. (It is called *VP*, "variance preserving": data of variance 1 keep it.)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the limits of DDPM and of NCSN
#
# With $T$ steps of $\beta(t/T)/T$ the chain keeps the share $\prod(1-\beta(t/T)/T)$ of the data's variance; the SDE keeps $e^{-\int\beta}$. NCSN's levels (lesson 08) rise from $\sigma_{\min}$ to $\sigma_{\max}$ when noise is added. From one to the next the variance grows by the difference of their squares, so together by $\sigma_{\max}^2 - \sigma_{\min}^2$, exactly, for every $T$. Their SDE has $g = \sqrt{d\sigma^2/dt}$, and steps that take $g$ at their end, as DDPM's take $\beta$, add $g(t/T)^2/T$ each. That is right in the limit only:
#
# $$\prod_{t=1}^{T}\Big(1-\frac{\beta(t/T)}{T}\Big) \to e^{-\int_0^1\beta}, \qquad \sum_{t=1}^{T}\frac{g(t/T)^2}{T} \to \int_0^1 g^2\,dt = \sigma_{\max}^2 - \sigma_{\min}^2, \tag{35}$$
#
# both with an error proportional to $1/T$. NCSN's SDE is $dx = g\,dW$ without drift (*VE*, "variance exploding").

# %%
ve = dc.ve_sde(0.01, 50.0)
kept, grown = vp.marginal(1.0)[0] ** 2, ve.marginal(1.0)[1] ** 2
print("   T   log of DDPM's product less log of its limit   sum of g^2/T / its limit - 1")
errors = []
for T in (100, 200, 400, 800, 1600):
    betas = [vp.diffusion(starts, t / T) ** 2 / T for t in range(1, T + 1)]
    squares = [ve.diffusion(starts, t / T) ** 2 / T for t in range(1, T + 1)]
    errors.append((sum(math.log1p(-b) for b in betas) - math.log(kept), sum(squares) / grown - 1))
    print(f"{T:5}   {errors[-1][0]:.4f}   {errors[-1][1]:.4f}")
for row in zip(*errors, strict=True):
    slope = math.log2(row[-1] / row[-2])
    assert abs(slope + 1) < 0.05
    print(f"slope in T of the last two: {slope:.4f}")

# %% [markdown]
# ## 3. The way back, with noise
#
# Which equation runs through the same densities, backwards? Lesson 08 had the rule by which a density changes: $\partial_t\,q = -(f q)' + \tfrac12 g^2 q''$ (Fokker–Planck, in one dimension, for a $g$ that does not depend on $x$). Let time run backwards and the right side changes its sign: $(fq)' - \tfrac12 g^2 q''$. A minus before the second derivative is no diffusion. But $q'' = (q\,(\log q)')'$. So borrow $g^2 q''$ and pay it back as a drift:
#
# $$(fq)' - \tfrac12 g^2 q'' \;=\; -\big(\,[\,g^2 (\log q)' - f\,]\,q\,\big)' + \tfrac12 g^2 q''.$$
#
# That is Fokker–Planck for a walk with noise $g$, whose drift *per step back* is $g^2\nabla\log q_t - f$. Written with $dt < 0$ it is the **reverse SDE**:
#
# $$dx = \big[f - g^2\,\nabla\log q_t(x)\big]\,dt + g\,dW. \tag{36}$$
#
# Undo the drift, climb the score, and shake as before: $dW \sim N(0, |dt|\,I)$. From scratch, with Euler–Maruyama's step:


# %%
def back_by_hand(x, times, dw):
    """Follow (36) along falling times (n + 1,), with increments dw (n, ...)."""
    for i, (t, s) in enumerate(pairwise(times.tolist())):
        g = vp.diffusion(x, t)
        x = x + (vp.drift(x, t) - g**2 * score(x, t)) * (s - t) + g * dw[i]
    return x


lab.show_source(dc.reverse_sde)
dw = dc.wiener_increments(times, starts, generator=rng)
*_, end = dc.euler_maruyama(back, starts, times, increments=dw)
torch.testing.assert_close(end, back_by_hand(starts, times, dw))
print("from scratch and by the package: the same states")

# %% [markdown]
# ## 4. The way back, without noise
#
# We borrowed $g^2 q''$. Borrow *half* of it, and the noise is gone:
#
# $$(fq)' - \tfrac12 g^2 q'' = -\big(\,[\,\tfrac12 g^2 (\log q)' - f\,]\,q\,\big)'.$$
#
# Only a drift is left: the **probability flow**, an ordinary differential equation:
#
# $$\frac{dx}{dt} = f - \tfrac12\, g^2\,\nabla\log q_t(x). \tag{37}$$
#
# Noise and the share of the score belong together: full noise with the whole score, no noise with one half. We let 4 000 points run through both, from exact states at time 1. At five times we compare with the exact density. The number is the largest gap between the share of points below any place and the right share; it stays below 0.026 in 99 of 100 draws that are exact.


# %%
def largest_gap(x, time):
    """Return the largest difference of distribution functions: points x, and the exact one."""
    x, q = x.sort().values, dc.mixture_at(vp, line_data, time)
    below = 0.5 + 0.5 * torch.erf((x[:, None] - q.means[:, 0]) / (2 * q.vars).sqrt())
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64) / len(x)
    return (below @ q.weights - ranks).abs().max().item()


five = {0.8: 80, 0.6: 160, 0.4: 240, 0.2: 320, 0.0: 400}  # the states at these times
noise = dc.mixture_at(vp, line_data, 1.0).sample(4000, generator=rng.manual_seed(1))
print("time   exact draws   reverse SDE   flow")
rng.manual_seed(11)
runs = {
    name: list(dc.euler_maruyama(sde, noise, times, generator=rng))
    for name, sde in (("SDE", back), ("flow", flow))
}
for time, step in five.items():
    exact = dc.mixture_at(vp, line_data, time).sample(4000, generator=rng)
    clouds = [exact, runs["SDE"][step - 1], runs["flow"][step - 1]]
    gaps = [largest_gap(x[:, 0], time) for x in clouds]
    assert max(gaps) < 0.026
    print(f"{time}    " + "        ".join(f"{gap:.4f}" for gap in gaps))

# %% [markdown]
# (The flow's gap stays nearly the same, as its points keep their order.)
#
# **Predict, then switch.** What if noise and share do not match: noise with half the score, or no noise with the whole score? Will the points be too wide, or too narrow?

# %%
shares = {"one half": 0.5, "the whole": 1.0}
edges = torch.linspace(-4, 4, 81, dtype=torch.float64)
centres = (edges[1:] + edges[:-1]) / 2
fig, (ax,) = lab.figure(width=6.5, height=3.4)
(wanted,) = ax.plot([], [], color=lab.BLACK, ls=":", label="exact density")
(counted,) = ax.plot([], [], color=lab.BLUE, drawstyle="steps-mid", label="4 000 points")
ax.set(xlabel="x", ylabel="density", ylim=(0, 1.6), xlim=(-4, 4))
legend = ax.legend(loc="upper right")


@cache
def mismatched(noisy, share):
    """Return the states at the five times, with or without noise, with a share of g^2 score."""

    def drift(x, t):
        return vp.drift(x, t) - share * vp.diffusion(x, t) ** 2 * score(x, t)

    sde = dc.SDE(drift, vp.diffusion if noisy else lambda x, t: 0.0)
    states = list(dc.euler_maruyama(sde, noise, times, generator=rng.manual_seed(2)))
    return {time: states[step - 1][:, 0] for time, step in five.items()}


# %% [markdown]
# Now switch:


# %%
def compare(noisy, share, time):
    """Show the points at a time beside the exact density."""
    x = mismatched(noisy == "yes", shares[share])[time]
    wanted.set_data(centres, dc.mixture_at(vp, line_data, time).log_prob(centres[:, None]).exp())
    counted.set_data(centres, torch.histogram(x, edges).hist / len(x) / (edges[1] - edges[0]))
    return (
        f"noise: {noisy}, {share} of the score, time {time}: largest gap "
        f"{largest_gap(x, time):.4f}, variance {x.var():.4f}."
    )


controls = {
    "noisy": lab.choice("noise", ["no", "yes"]),
    "share": lab.choice("share of the score", list(shares)),
    "time": lab.choice("time", list(five), 0.0),
}
lab.Explorer(fig, [wanted, counted], compare, controls)

# %% [markdown]
# No noise and the whole score: the points run together already in the noise (at time 0.8 around 0). There the score is about $-x$, and its whole pull inwards is twice the push of $-f$ outwards. All end in one spot of the heavier heap: one bin, which leaves the frame. The other heap is lost. Noise and half the score: much too wide (variance 2.69, not 1.14). Nothing raises an error.
#
# ## 5. A density for every point
#
# The flow also gives the density of each point. Follow a small cloud of points along (37) with the velocity $u = f - \tfrac12 g^2\nabla\log q_t$. Its volume grows at the rate $\mathrm{div}\,u$, the trace of the slopes of $u$ (lesson 07). The number of points in it stays, so the log density falls at that rate. Add it up from the point $x_0$ to $x_T$, where it arrives at time 1 (there the density is $q_T$):
#
# $$\log q_0(x_0) = \log q_T(x_T) + \int_0^1 \mathrm{div}\,u\;dt. \tag{38}$$
#
# In practice $q_T$ is unknown, and $N(0, I)$ stands in for it. That adds $\log N(x_T) - \log q_T(x_T)$ to the result, with the density $N$ of $N(0, I)$. Here both are known, in the plane. `log_likelihood` hands (38) to scipy's solver, which chooses its own steps to meet a *tolerance*.

# %%
plane = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]]).double(),
    torch.tensor([0.05, 0.1, 0.2]),
    torch.tensor([0.5, 0.3, 0.2]),
)
plane_flow = dc.probability_flow(vp, dc.mixture_score(vp, plane))
q_T = dc.mixture_at(vp, plane, 1.0)
points = plane.sample(24, generator=rng.manual_seed(3))
truth = plane.log_prob(points)


def standard_log_prob(x):
    """The log density of N(0, I)."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).sum(1)


# %% [markdown]
# For 24 points, the error in nats. **Predict first**: as the tolerance goes down, which of the two kinds of marks follows?


# %%
@cache
def carried(exponent):
    """Return errors with q_T and with N(0, I), and log N - log q_T, at tolerance 10^exponent."""
    found = dc.log_likelihood(plane_flow, points, q_T.log_prob, tolerance=10.0**exponent)
    floor = standard_log_prob(found.x_T) - q_T.log_prob(found.x_T)
    error = found.log_prob - truth
    return error, error + floor, floor, found.calls


fig, (ax,) = lab.figure(width=7.5, height=3.4)
at = torch.arange(1, 25)
floor = carried(-9)[2].abs()
ax.plot(at, floor, "_", ms=12, color=lab.BLACK, label="|log N - log q_T| at the point's x_T")
(by_q,) = ax.plot([], [], "o", ms=4, color=lab.GREEN, label="error with q_T")
(by_n,) = ax.plot([], [], "^", ms=5, color=lab.ORANGE, label="error with N(0, I)")
ax.set(yscale="log", ylim=(1e-12, 10), xlim=(0, 25), xlabel="point", ylabel="size of the error")
legend = ax.legend(loc="lower center", ncols=3, fontsize="small")

# %% [markdown]
# The dashes are the price of $N(0, I)$:


# %%
def tighten(exponent):
    """Show the errors of 24 log densities at a tolerance."""
    exact_prior, normal_prior, _, calls = carried(exponent)
    by_q.set_data(at, exact_prior.abs())
    by_n.set_data(at, normal_prior.abs())
    return (
        f"tolerance 1e{exponent}, {calls} calls: largest error {exact_prior.abs().max():.1e} "
        f"with q_T, {normal_prior.abs().max():.1e} with N(0, I)."
    )


controls = {"exponent": lab.slider("tolerance: 10 to the", -9, -2, -6)}
lab.Explorer(fig, [by_q, by_n], tighten, controls)

# %% [markdown]
# With $q_T$ the error follows the tolerance. With $N(0, I)$ it stops at the dashes: **a floor that no tolerance lowers**, for it is the prior's error, not the solver's.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the mean of that floor
#
# The mean of $\log N - \log q_T$ over $q_T$ is minus the KL divergence of lesson 04, and `prior_gap` bounds that.

# %%
exact_prior, normal_prior, floor, _ = carried(-9)
assert exact_prior.abs().max() < 1e-6 and (normal_prior - floor).abs().max() < 1e-6
print(f"with q_T:    largest error {exact_prior.abs().max():.1e} nats")
print(
    f"with N(0,I): largest error {normal_prior.abs().max():.4f}, off its floor by {(normal_prior - floor).abs().max():.1e}"
)
to_nats = 2 * math.log(2)  # two dimensions, bits
kl = to_nats * dc.prior_kl(dc.vp_schedule(50), plane)
moment = (plane.weights @ (plane.means.square().sum(1) / 2 + plane.vars)).item()
bound = to_nats * dc.prior_gap(dc.vp_schedule(50), moment)
side = torch.linspace(-7, 7, 281, dtype=torch.float64)
grid = torch.cartesian_prod(side, side)
weight = q_T.log_prob(grid).exp() * (side[1] - side[0]) ** 2  # an integral over the plane
mean = weight @ (standard_log_prob(grid) - q_T.log_prob(grid))
assert abs(mean + kl) < 1e-9
print(
    f"mean of the floor over q_T: {mean:.1e}; minus the KL: {-kl:.1e}; the bound on the KL: {bound:.1e}"
)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: more than two dimensions
#
# The trace needs one backward pass for each coordinate. For many coordinates take Hutchinson's estimate (lesson 07): $v^\top J v$ with random signs $v$ and the matrix $J$ of all slopes of $u$. One $v$ is drawn for a whole solve. Each solve gives one estimate of $\log q_0$; the mean of several has a standard error, and a number without it says little.

# %%
wide_means = torch.randn(3, 36, generator=rng.manual_seed(4), dtype=torch.float64)
wide = dc.mixture(wide_means, 0.1)
wide_flow = dc.probability_flow(vp, dc.mixture_score(vp, wide))
wide_x, prior = wide.sample(4, generator=rng), dc.mixture_at(vp, wide, 1.0)
options = {"tolerance": 1e-5, "generator": rng}
found = dc.log_likelihood(wide_flow, wide_x, prior.log_prob, probes=6, **options)
print("36 dimensions, 6 probes: estimate +- standard error, and the exact log density")
for value, error, exact in zip(found.log_prob, found.std_error, wide.log_prob(wide_x), strict=True):
    assert abs(value - exact) < 5 * error
    print(f"{value:9.3f} +- {error:.3f}   {exact:9.3f}")

# %% [markdown]
# ## 6. DDIM was Euler's method all along
#
# Use other coordinates; from here on $t$ and $s$ are rows of a schedule again. Divide the state by what it keeps of the data, and let the noise level play the part of time:
#
# $$y = \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \sigma_t\,\epsilon, \qquad \sigma_t = \sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}}.$$
#
# Here $y$ is no label. It has no drift; only the variance $\sigma^2$ of the noise grows. So in (37) $f = 0$ and $g^2\,dt = d(\sigma^2) = 2\sigma\,d\sigma$, and the flow is $dy = -\sigma\,\nabla\log q\;d\sigma$, with $q$ the density of $y$ (its score is $\sqrt{\bar\alpha_t}$ times that of $x_t$). Lesson 07 says what $-\sigma\nabla\log q$ is: the best guess $\hat\epsilon$ of the noise. So the flow is one short line, and Euler's step from $\sigma_t$ down to $\sigma_s$ another:
#
# $$\frac{dy}{d\sigma} = \hat\epsilon, \qquad y_s = y_t + (\sigma_s - \sigma_t)\,\hat\epsilon. \tag{39}$$
#
# DDIM (lesson 05; here without fresh noise, $\eta = 0$) was derived in another way. Is it the same step, with any function in the place of a network?

# %%
schedule, x_t = dc.cosine_schedule(1000), torch.randn(5, 2, generator=rng, dtype=torch.float64)


def any_model(x_t, t):
    """A guess of the noise that nobody trained."""
    return torch.tanh(2 * x_t)


scale, sigma = schedule.alpha_bars.sqrt(), schedule.snr.rsqrt()
for t, s in ((1000, 900), (500, 20), (3, 1), (1, 0)):
    euler = x_t / scale[t] + (sigma[s] - sigma[t]) * any_model(x_t, t)
    ddim = dc.ddim_step(schedule, any_model, x_t, t, s).x_t / scale[s]
    torch.testing.assert_close(ddim, euler, rtol=1e-12, atol=1e-12)
print("DDIM's step and Euler's agree to 1e-12")

# %% [markdown]
# Euler's long step follows the slope at its start, though the path bends. Two ideas do better.
#
# ## 7. A better slope
#
# **Heun**: look ahead. Take Euler's step to $y_s'$, ask for the slope there, too, and take the whole step with the mean of both:
#
# $$y_s = y_t + (\sigma_s - \sigma_t)\,\tfrac12\big[\hat\epsilon(y_t, \sigma_t) + \hat\epsilon(y_s', \sigma_s)\big]. \tag{40}$$
#
# It needs two calls a step. **DPM-Solver++(2M)**: look back, for nothing. Write Euler's step with the guess of the data, $\hat x_0 = y - \sigma\hat\epsilon$: it is $y_s = \hat x_0 + (\sigma_s/\sigma_t)(y_t - \hat x_0)$, a part of the way towards $\hat x_0$. The guess changes on the way, nearly as in the step before: remember that guess, $\hat x_0'$, and go on along the line through both (in $\ln\sigma$) to the middle of the step. With $h = \ln(\sigma_t/\sigma_s)$ for the length of the step, and $h'$ for the one before,
#
# $$y_s = D + \frac{\sigma_s}{\sigma_t}\,(y_t - D), \qquad D = \hat x_0 + \frac{h}{2h'}\,\big(\hat x_0 - \hat x_0'\big). \tag{41}$$
#
# The first step has no step before, and in the last one $\sigma_s = 0$: there $D = \hat x_0$. From scratch:


# %%
def two_m_by_hand(eps_at, y, levels):
    """Follow (41) along falling noise levels and then to 0; eps_at(y, sigma) guesses the noise."""
    before = None
    for i, sigma in enumerate(levels):
        x0_hat = y - sigma * eps_at(y, sigma)
        D, last = x0_hat, i + 1 == len(levels)
        if before is not None and not last:
            h, h_before = math.log(sigma / levels[i + 1]), math.log(levels[i - 1] / sigma)
            D = x0_hat + h / (2 * h_before) * (x0_hat - before)
        y = D + (0 if last else levels[i + 1] / sigma) * (y - D)
        before = x0_hat
    return y


# %% [markdown]
# The package's version is a *fresh* step for `sample_chain`, one that remembers. We hold ours against it on two moons, where the best guess is known.

# %%
means, std = toys.toy_centres("moons", 200)
moons = dc.mixture(means, std**2)


def exact_eps(y, sigma):
    """The best guess of the noise in y = x_0 + sigma eps, for the moons."""
    return -sigma * dc.mixture(means, std**2 + sigma**2).score(y)


levels = dc.geometric_levels(20.0, 0.05, 10)
ladder = dc.schedule_from_noise_levels(levels)
start = torch.randn(1000, 2, generator=rng.manual_seed(5), dtype=torch.float64)
chain = dc.sample_chain(dc.dpm_solver_2m(), ladder, dc.mixture_eps_model(ladder, moons), start)
*_, last = chain
by_hand = two_m_by_hand(exact_eps, start / ladder.alpha_bars[-1].sqrt(), levels.tolist())
torch.testing.assert_close(last.x_t, by_hand, rtol=1e-9, atol=1e-9)
print("from scratch and by the package: the same 1 000 points")


# %% [markdown]
# A wrapped `eps_model` counts:


# %%
class Counting:
    """An eps_model that counts its calls."""

    def __init__(self, eps_model):
        self.eps_model, self.calls = eps_model, 0

    def __call__(self, x_t, t):
        self.calls += 1
        return self.eps_model(x_t, t)


makers = {"DDIM": lambda: dc.ddim_step, "Heun": lambda: dc.heun_step, "2M": dc.dpm_solver_2m}
for name, make in makers.items():
    counting = Counting(dc.mixture_eps_model(ladder, moons))
    *_, last = dc.sample_chain(make(), ladder, counting, start)
    print(f"{name}: 10 noise levels, {counting.calls} calls")

# %% [markdown]
# Heun's step to 0 has no slope at its end, so it is Euler's, with one call.
#
# A solver has *order* $k$ if its error falls like $1/N^k$ with $N$ steps. Euler has order 1, Heun and 2M have order 2. **Predict, then run**: each may call 9 times. Which of the three comes nearest to the data, and which is last?

# %%
real = partial(moons.sample, generator=rng.manual_seed(6))
one_floor = metrics.floor(metrics.energy_distance, real, 1000, pairs=40).mean
fresh = real(1000)


@cache
def few(name, calls):
    """Return 1 000 points of a solver with so many calls, from noise level 20 on."""
    count = (calls + 1) // 2 if name == "Heun" else calls
    grid = dc.schedule_from_noise_levels(dc.geometric_levels(20.0, 0.05, count))
    *_, last = dc.sample_chain(makers[name](), grid, dc.mixture_eps_model(grid, moons), start)
    return last.x_t, metrics.energy_distance(last.x_t, fresh).item() / one_floor


# %% [markdown]
# The number in the sentence is the energy distance to fresh data (lesson 05), divided by that of two sets of real data: 1 is the floor, and less is scatter, not better than real. All levels are even in $\ln\sigma$, from 20 to 0.05; the last step goes to 0.

# %%
fig, axes = lab.figure(3, width=10, height=4.1, sharey=True)
colours = {"DDIM": lab.BLUE, "Heun": lab.ORANGE, "2M": lab.GREEN}
crowds = []
for ax, name in zip(axes, makers, strict=True):
    lab.draw_points(ax, fresh, color=lab.BLACK, limit=3).set(alpha=0.12)
    crowds.append(lab.draw_points(ax, fresh[:0], color=colours[name], limit=3, title=name))
    ax.label_outer()


def spend(calls):
    """Show the three clouds after so many calls."""
    found = [few(name, calls) for name in makers]
    for crowd, (x, _) in zip(crowds, found, strict=True):
        crowd.set_data(*x.T)
    said = ", ".join(f"{name} {d:.2f}" for name, (_, d) in zip(makers, found, strict=True))
    return f"{calls} calls each; distance in multiples of the floor: {said}."


lab.Explorer(fig, crowds, spend, {"calls": lab.slider("calls", 3, 31, 9, 2)})

# %% [markdown]
# With 9 calls Heun is last, for it takes only five steps, and an order is a promise for many. 2M has the same order and nine steps. By 31 calls Heun catches up.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: orders, measured
#
# The truth is the flow solved by scipy to 1e-11. Errors are over 200 points in ten groups; each group gives a slope, and the ten slopes an interval of 95 in 100. We stop at the lowest level, 0.05. Then we add the last step to 0.


# %%
def flowed(y, highest, lowest):
    """Return y carried from one level to a lower one by the adaptive solver."""

    def slope(y, sigma):
        return -sigma * dc.mixture(plane.means, plane.vars + sigma**2, plane.weights).score(y)

    return dc.solve_ode(slope, y, highest, lowest, tolerance=1e-11).x


far = 20 * torch.randn(200, 2, generator=rng.manual_seed(7), dtype=torch.float64)
low = flowed(far, 20.0, 0.05)
zero = flowed(low, 0.05, 0.0)
off = {}
for name, make in makers.items():
    for steps in (160, 320):
        grid = dc.schedule_from_noise_levels(dc.geometric_levels(20.0, 0.05, steps + 1))
        shrink = grid.alpha_bars.sqrt()
        guess = dc.mixture_eps_model(grid, plane)
        *_, before, last = dc.sample_chain(make(), grid, guess, shrink[-1] * far)
        for goal, gone in (("to 0.05", before.x_t / shrink[1] - low), ("to 0", last.x_t - zero)):
            squares = gone.square().sum(1)
            off[name, goal, steps] = squares.view(10, 20).mean(1).sqrt()

# %% [markdown]
# The order is minus the slope from 160 to 320 steps:

# %%
orders = {"DDIM": 1, "Heun": 2, "2M": 2}
for goal in ("to 0.05", "to 0"):
    for name, order in orders.items():
        slopes = (off[name, goal, 160] / off[name, goal, 320]).log2()
        half = 2.26 * slopes.std() / 10**0.5  # Student's t with 9 degrees of freedom
        error = off[name, goal, 320].square().mean().sqrt()
        assert goal == "to 0" or abs(slopes.mean() - order) < 0.1
        print(f"{goal:7} {name:4}: order {slopes.mean():.4f} +- {half:.4f}, error {error:.1e}")
grid = dc.schedule_from_noise_levels(dc.geometric_levels(20.0, 0.05, 2))
last = dc.ddim_step(grid, dc.mixture_eps_model(grid, plane), grid.alpha_bars[1].sqrt() * low, 1, 0)
print(
    f"the last step alone, from the exact state at 0.05: error {(last.x_t - zero).square().sum(1).mean().sqrt():.1e}"
)

# %% [markdown]
# Down to 0.05 all is as promised. The step from there to 0 is *one* step however many came before, and its error stays. It does no harm: it is far below the spread of the data. But whoever measures orders at 0 finds none.
#
# A slope of 2 is no proof that the code is right, either. Turn the ratio of (41) upside down, $h'/(2h)$. Where all steps are equal that changes nothing; so take long and short steps in turn. The mistake is now large in each step, and yet:


# %%
def inverted_2m(levels, upside_down):
    """2M on any levels down to the last, with the ratio of steps as in (41) or upside down."""
    y, before = far, None
    for i, sigma in enumerate(levels[:-1]):
        q = dc.mixture(plane.means, plane.vars + sigma**2, plane.weights)
        x0_hat = y + sigma**2 * q.score(y)
        h, h_before = math.log(sigma / levels[i + 1]), math.log(levels[i - 1] / sigma)
        ratio = h_before / h if upside_down else h / h_before
        D = x0_hat if before is None else x0_hat + ratio / 2 * (x0_hat - before)
        y, before = D + levels[i + 1] / sigma * (y - D), x0_hat
    return (y - low).square().sum(1).mean().sqrt().item()


share = {
    n: torch.tensor([0.0] + [3.0, 1.0] * (n // 2)).double().cumsum(0) / (2 * n) for n in (160, 320)
}
for upside_down, kind in ((False, "as in (41)"), (True, "upside down")):
    errors = [inverted_2m((20 * (0.05 / 20) ** share[n]).tolist(), upside_down) for n in (160, 320)]
    print(f"{kind:11}: error {errors[1]:.1e}, order {math.log2(errors[0] / errors[1]):.4f}")

# %% [markdown]
# Still order 2: the error of a long step cancels that of the short one beside it. A slope is blind to this mistake. What sees it is a case with a known answer: if $\hat x_0$ is a straight line in $\ln\sigma$, then $D$ must be its value in the middle of the step.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: predictor and corrector
#
# A sampler errs in each step, and the errors add up. Langevin steps (lesson 08) at the level that was reached can mend them: they pull points towards $q_s$, whatever came before. A **predictor** goes from $t$ to $s$, then a **corrector** takes steps
#
# $$x \leftarrow x + \tfrac{\delta}{2}\nabla\log q_s(x) + \sqrt\delta\,\epsilon, \qquad \delta = r\,(1 - \bar\alpha_s). \tag{42}$$
#
# $r$ is the ratio of lesson 08. The chain nearly keeps $q_s$, by (32). Each corrector step is a call. Below, one long DDIM step on Gaussian data, and more and more corrections; the right variance is known.

# %%
bell = dc.mixture(torch.tensor([[0.5]]).double(), 0.25)
short = dc.vp_schedule(20)
guess, q_s = dc.mixture_eps_model(short, bell), dc.diffuse(short, bell, 3)
x_t = dc.diffuse(short, bell, 16).sample(20_000, generator=rng.manual_seed(8))
step = dc.ddim_step(short, guess, x_t, 16, 3)
print(f"variance to reach: {q_s.vars.item():.4f}; DDIM alone: {step.x_t.var():.4f}")
for steps in (1, 5, 25):
    options = {"eta": 0.0, "steps": steps, "ratio": 0.4, "generator": rng}
    step = dc.predictor_corrector_step(short, guess, x_t, 16, 3, **options)
    print(f"and {steps} corrector steps: {step.x_t.var():.4f}")
size = 0.4 * short.marginal_vars[3] / q_s.vars
print(f"where the corrector's own chain ends, by (32): {(q_s.vars / (1 - size / 4)).item():.4f}")

# %% [markdown]
# ## 8. Quality against calls
#
# Near the floor one cloud's distance scatters by a fifth to a half. A benchmark of this course, `benchmarks/solvers.py`, drew 12 clouds of 2 000 points for each solver, each grid and each number of calls, with settings fixed beforehand. Besides the three solvers there are DDIM with fresh noise in each step ($\eta = 1$, "ancestral"), and a predictor with corrector, which spends half of its calls on Langevin steps. All grids run from level 20 to 0.05: even in $\ln\sigma$ ("log SNR", as SNR $= 1/\sigma^2$), in $\sigma^{1/7}$ ("Karras"), or in the time of section 2 ("VP time"). The points are means, the bars one standard deviation of a cloud.

# %%
table = lab.measured("solvers")
looks = {**colours, "ancestral": lab.PINK, "predictor-corrector": lab.SKY}
marks = dict(zip(looks, "osD^v", strict=True))
fig, (ax,) = lab.figure(width=7.5, height=4)
ax.set(xscale="log", yscale="log", xlabel="calls of the network", xlim=(4.4, 24), ylim=(0.45, 40))
ax.set(ylabel="distance, multiples of the floor")
ax.set_xticks([5, 10, 20], [5, 10, 20])
ax.set_yticks([0.5, 1, 2, 5, 10, 20], [0.5, 1, 2, 5, 10, 20])
ax.minorticks_off()
ax.axhline(1, color=lab.BLACK, lw=0.8)
(slow,) = ax.plot([], [], color=lab.BLACK, ls=":", label="DDPM, 1 000 calls")
curves, bars = {}, {}
for name, colour in looks.items():
    (curves[name],) = ax.plot([], [], color=colour, marker=marks[name], ms=5, label=name)
    (bars[name],) = ax.plot([], [], color=colour, lw=1, ls="-")
(bars["DDPM"],) = ax.plot([], [], color=lab.BLACK, lw=1, ls="-")
legend = ax.legend(fontsize="small", ncols=2)

# %% [markdown]
# Choose the data and the grid:


# %%
def place(data_name, grid):
    """Show the measured quality of each solver on these data and this grid."""
    for name, curve in curves.items():
        rows = [r for r in table if (r["data"], r["solver"], r["grid"]) == (data_name, name, grid)]
        calls, mean, std = (torch.tensor([r[k] for r in rows]) for k in ("calls", "score", "std"))
        curve.set_data(calls, mean)
        ends = torch.stack([mean - std, mean + std, mean * torch.nan], 1).flatten()
        bars[name].set_data(calls.repeat_interleave(3), ends)
    (ddpm,) = [r for r in table if (r["data"], r["solver"]) == (data_name, "DDPM")]
    slow.set_data([4, 25], [ddpm["score"]] * 2)
    bars["DDPM"].set_data([22.5, 22.5], [ddpm["score"] - ddpm["std"], ddpm["score"] + ddpm["std"]])
    wanted = (data_name, "2M", grid, 10)
    (ten,) = [r for r in table if (r["data"], r["solver"], r["grid"], r["calls"]) == wanted]
    said = [f"{r['score']:.2f} +- {r['std']:.2f}" for r in (ten, ddpm)]
    return f"{data_name}, {grid}: 2M with 10 calls {said[0]}, DDPM with 1 000 calls {said[1]}."


controls = {
    "data_name": lab.choice("data", ["moons", "eight_gaussians"]),
    "grid": lab.choice("grid", ["log SNR", "Karras", "VP time"]),
}
lab.Explorer(fig, [slow, *curves.values(), *bars.values()], place, controls)

# %% [markdown]
# For 2M the grid matters as much as the solver: at even VP times 20 calls do not reach what ten do on the log SNR grid, and with ten DDIM is better there. With ten calls DDIM hardly notices the grid.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: more from this chart
#
# The clouds are larger than in section 7, so the floor is lower, and the same error is more floors: Heun's 9 calls stand higher here. Heun with 5 calls has three levels only, 20, 1 and 0.05, and each of its two steps spans a factor of 20. Fresh noise in each step mostly loses to DDIM (not with ten calls on the eight Gaussians, log SNR or Karras). On the log SNR grid it stays well above 2M with 5 or 10 calls. Corrections cost calls, and with few calls they are not worth them.

# %% [markdown]
# ### Ten calls, in numbers
#
# On the log SNR grid:

# %%
for toy in ("moons", "eight_gaussians"):
    picked = {
        (r["solver"], r["calls"]): r["score"]
        for r in table
        if r["data"] == toy and r["grid"] in ("log SNR", "vp_schedule")
    }
    assert picked["2M", 10] <= 1.5
    print(
        f"{toy}: 2M {picked['2M', 10]:.2f}, DDIM {picked['DDIM', 10]:.2f}, "
        f"DDPM with 1 000 calls {picked['DDPM', 1000]:.2f}"
    )

# %% [markdown]
# On these toys ten calls of 2M from level 20 are as good as a thousand of DDPM. A real network errs by itself, and no solver mends that. The benchmark drew three sets of 2 000 digits with each sampler below. The network knows 1 000 rows, so each level is rounded to one (`nearest_taus`). "Even t" starts at row 1000, with $\sigma$ = 20 291.

# %%
rows = [r for r in table if r["data"] == "digits"]
rows.sort(key=lambda r: (r["calls"] > 10, r["score"]))
score_of = {(r["solver"], r["grid"], r["calls"]): r["score"] for r in rows}
fig, (ax,) = lab.figure(width=8, height=2.8)
names = [f"{r['solver']}, {r['calls']:g} calls ({r['grid']})" for r in rows]
bar = {"color": [looks[r["solver"]] for r in rows], "xerr": [r["std"] for r in rows]}
drawn = ax.barh(names, [r["score"] for r in rows], **bar)
ax.bar_label(drawn, fmt="%.2f", padding=3)
ax.invert_yaxis()
ax.axvline(1, color=lab.BLACK, ls=":")
ax.set(xlabel="Fréchet distance, multiples of the floor at n = 2 000")
lab.show(fig, "Fréchet distance of 2 000 digits by solver and number of calls; mean of three sets.")
ten, twenty = (score_of["2M", "log SNR", calls] for calls in (10, 20))
hundred = score_of["DDIM", "even t", 100]
assert ten <= 1.2 * hundred and abs(twenty / ten - 1) < 0.1
print(f"2M: 10 calls {ten:.4g}, 20 calls {twenty:.4g}; 100 of DDIM: {hundred:.4g}")

# %% [markdown]
# **Ten calls of 2M come within a fifth of a hundred of DDIM, and twenty no nearer.** The marks are a set's standard deviation. A better solver follows the network's flow; where the network errs, this need not lead nearer to digits. Look for yourself: both begin with the same noise.

# %%
shipped, about = pretrained.load("mnist")
usual = about["judge"]["guidance_scale"]
opinion, _ = pretrained.load("judge")
n, slow_steps = lab.up_to(64, least=2), lab.up_to(100)
fast_rows = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, 10))
z = torch.randn(n, 1, 28, 28, generator=rng.manual_seed(9))


def drawn_from(z, step, taus, labels, guidance_scale=usual, **options):
    """Return digits with these labels, drawn from z by a step along the rows taus."""
    guided = dc.classifier_free(shipped, labels, guidance_scale=guidance_scale)
    guess = dc.eps_model_from_v(schedule, guided)
    *_, last = dc.sample_chain(step, schedule, guess, z, taus, **options)
    return last.x_t.clamp(-1, 1)


# %% [markdown]
# Labels 0 to 9 in turn:

# %%
labels = torch.arange(n) % 10
sheets = {
    "2M, 10 calls": drawn_from(z, dc.dpm_solver_2m(), fast_rows, labels, clip=(-1, 1)),
    "DDIM, 100 calls": drawn_from(
        z, dc.ddim_step, dc.even_taus(1000, slow_steps), labels, clip=(-1, 1)
    ),
}
fig, axes = lab.figure(2, width=8, height=4)
for ax, (name, x) in zip(axes, sheets.items(), strict=True):
    lab.draw_images(ax, x, 8)
    ax.set_title(name)
lab.show(fig, "64 digits by 10 calls of 2M, and from the same noise by 100 calls of DDIM.")
read = {}
for name, x in sheets.items():
    read[name] = judge.judge_images(opinion, x, x).confident
lab.claim(
    "share read with confidence: 10 calls, less that of 100",
    read["2M, 10 calls"] - read["DDIM, 100 calls"],
    at_least=-0.1,
)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: from a picture to its noise, and back
#
# The flow can be followed in both directions. So each picture has a *latent*, the state at the highest level that leads to it: `invert` goes there, and the sampler leads back. How exact is the round trip? First the mixture in the plane, with the exact guess:

# %%
x0 = plane.sample(50, generator=rng.manual_seed(10))
for name, heun, last_two in (("Euler", False, (160, 320)), ("Heun", True, (40, 80))):
    trips = {}
    for steps in (10, 20, *last_two):
        grid = dc.schedule_from_noise_levels(dc.geometric_levels(10.0, 0.01, steps))
        guess = dc.mixture_eps_model(grid, plane)
        *_, latent = dc.invert(grid, guess, x0, heun=heun)
        *_, home = dc.sample_chain(dc.heun_step if heun else dc.ddim_step, grid, guess, latent.x_t)
        trips[steps] = (home.x_t - x0).square().mean().sqrt().item()
    a, b = last_two
    slope = math.log2(trips[b] / trips[a])
    assert abs(slope + (3 if heun else 1)) < 0.1
    said = ", ".join(f"{trips[steps]:.1e}" for steps in (10, 20, a, b))
    print(f"{name}: 10, 20, {a}, {b} steps: {said}; slope of the last two {slope:.4f}")

# %% [markdown]
# Ten steps are no inversion. Euler's error falls with slope −1. Heun's falls with slope −3, one better than its order: most of the error on the way up is taken back on the way down. (It stops near 3e-7: the step between 0 and the lowest level is one step always.)
#
# Now two real digits. Their latents are mixed and led back to pictures. A straight line between two latents passes places that are too near to 0 for noise; so the mixture runs along an arc (with $a$ for the part of the way, from 0 to 1, and $\omega$ for the angle between the latents $z$ and $z'$): $\big[\sin((1-a)\omega)\,z + \sin(a\,\omega)\,z'\big]/\sin\omega$.

# %%
test = data.images("test")
pair = data.to_signed(torch.stack([test.x[(test.labels == d).nonzero()[2, 0]] for d in (3, 8)]))
up_rows = dc.nearest_taus(schedule, dc.geometric_levels(100.0, 0.02, lab.up_to(20, least=3)))
guess = dc.eps_model_from_v(schedule, shipped)  # without a label: none is known on the way up
*_, latent = dc.invert(schedule, guess, pair, up_rows, heun=True)
one, other = latent.x_t
angle = torch.acos((one * other).sum() / (one.norm() * other.norm()))
part = torch.linspace(0, 1, 11)[:, None, None, None]
mixed = (torch.sin((1 - part) * angle) * one + torch.sin(part * angle) * other) / torch.sin(angle)
*_, home = dc.sample_chain(dc.heun_step, schedule, guess, mixed, up_rows)
fig, axes = lab.figure(3, width=7, height=2.8)
for ax, x, title in ((axes[0], pair[:1], "first"), (axes[2], pair[1:], "second")):
    lab.draw_images(ax, x, 1, note=test.note if title == "first" else "")
    ax.set_title(title)
between = lab.draw_images(axes[1], pair[:1], 1)
title = axes[1].set_title("in between")

# %% [markdown]
# Move from one to the other:


# %%
def blend(a):
    """Show the picture of the latent a part of the way from the first to the second."""
    between.set_data(lab.image_grid(home.x_t[round(10 * a)][None], 1))
    return f"{a:g} of the way from the first digit's latent to the second's."


lab.Explorer(fig, [between], blend, {"a": lab.slider("part of the way", 0.0, 1.0, 0.5, 0.1)})

# %% [markdown]
# ## 9. What breaks
#
# **The forgotten half.** Someone copies the score term of the reverse SDE into a sampler without noise: the flow with the whole score, as in section 4. In the coordinates of section 6 that is twice the change in each step, $y_s = y_t + 2(\sigma_s - \sigma_t)\hat\epsilon$. We draw 24 fours, right and wrong, from the same noise, without guidance (scale 1), which would narrow the spread by itself.


# %%
def no_half_step(schedule, eps_model, x_t, t, s):
    """DDIM's step with twice the change; the last one to 0 is right."""
    step = dc.ddim_step(schedule, eps_model, x_t, t, s)
    (scale_t, _), (scale_s, _) = (schedule.marginal_factors.numbers[u] for u in (t, s))
    twice = 2 * step.x_t - scale_s / scale_t * x_t
    return step if s == 0 else step._replace(x_t=twice)


n, steps = lab.up_to(24, least=2), lab.up_to(20, least=2)
fours, z = torch.full((n,), 4), torch.randn(n, 1, 28, 28, generator=rng.manual_seed(6))
rows_20 = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, steps))
kinds = {
    "as in (39)": drawn_from(z, dc.ddim_step, rows_20, fours, 1),
    "the half forgotten": drawn_from(z, no_half_step, rows_20, fours, 1),
}
kinds["real"] = data.to_signed(test.x[test.labels == 4][:n])

# %% [markdown]
# Which of the first two would you choose by one picture?

# %%
fig, axes = lab.figure(3, width=11, height=2.8)
for ax, (name, x) in zip(axes, kinds.items(), strict=True):
    lab.draw_images(ax, x, 6)
    ax.set_title(name)
lab.show(fig, "24 fours: by DDIM, with the half forgotten, and real ones.")
spread = {name: x.var(0).mean().sqrt() for name, x in kinds.items()}
mnist = {"digits": test}
lab.claim(
    "spread of the pixels, right / real",
    spread["as in (39)"] / spread["real"],
    at_least=0.8,
    **mnist,
)
lab.claim(
    "spread of the pixels, half forgotten / real",
    spread["the half forgotten"] / spread["real"],
    at_most=0.75,
    **mnist,
)

# %% [markdown]
# Each wrong four is cleaner than the right ones, and they vary half as much: the points ran together, as in section 4. **A single picture cannot show that a sampler is wrong. The spread can.**

# %% [markdown]
# ## 10. Exercises
#
# **Exercise 1. Predict the number.** The data are $N(0, 1)$, and the SDE is that of section 2 with $\beta(t) = 2 + 8\,t$. Somebody follows it back from exact states at time 1, with full noise but only half of the score. Which variance do the points have at time 0? (Steps are as small as you like.)

# %%
# STARTER
variance = None  # your number here
# SOLUTION
variance = 1 + 2 + 8 / 2  # drift: -beta x / 2 + beta x / 2 = 0, so the noise only adds up

# %%
# lab.hint("09.1")
lab.check("09.1", variance)

# %% [markdown]
# **Exercise 2. Some noise.** (36) has all the noise, (37) has none. Take $\lambda g$ in the place of $g$ in front of $dW$: $dx = [f - c\,g^2\,\nabla\log q_t]\,dt + \lambda g\,dW$. For which $c$ are the densities still $q_t$? Write `score_share(noise_share)`: it gets $\lambda$ of shape (B,) and returns $c$.


# %%
# STARTER
def score_share(noise_share):
    return None  # your lines here


# SOLUTION
def score_share(noise_share):
    return (1 + noise_share**2) / 2  # half of g^2 q'' to remove, and lambda^2 half to pay for noise


# %%
# lab.hint("09.2")
lab.check("09.2", score_share)

# %% [markdown]
# **Exercise 3. A solver of your own** (15 minutes). A third way to a better slope: ask in the *middle*. Write `my_step(eps_at, y, sigma_t, sigma_s)`. It takes an Euler step to the level $\sigma_m = \sqrt{\sigma_t\sigma_s}$, asks for the slope there, and with that slope takes the whole step from $y$. `eps_at(y, sigma)` guesses the noise; $\sigma_t > \sigma_s > 0$ are numbers; `y` and the result are (B, D).


# %%
# STARTER
def my_step(eps_at, y, sigma_t, sigma_s):
    return None  # your lines here


# SOLUTION
def my_step(eps_at, y, sigma_t, sigma_s):
    sigma_m = (sigma_t * sigma_s) ** 0.5
    y_m = y + (sigma_m - sigma_t) * eps_at(y, sigma_t)
    return y + (sigma_s - sigma_t) * eps_at(y_m, sigma_m)


# %%
# lab.hint("09.3")
lab.check("09.3", my_step)

# %% [markdown]
# Now place it on the chart of section 8. The cells below run your step on the moons, three clouds of 2 000 points each, down *your* levels, and then to 0 by Euler. Change `my_levels` (highest, lowest, spacing), then `my_step`. Without memory it cannot become 2M; Euler, Heun and other middles are in reach.


# %%
def my_levels(count):
    """Your noise levels, falling from the highest to the lowest."""
    return dc.geometric_levels(20.0, 0.05, count)


# %% [markdown]
# `my_cloud` draws one cloud from $N(0, \sigma^2 + 1)$ at your first level $\sigma$:


# %%
def my_cloud(count, seed):
    """Return your 2 000 points and the calls they cost; None where there is no step yet."""
    grid, calls = my_levels(count).tolist(), []

    def eps_at(y, sigma):
        calls.append(sigma)
        return exact_eps(y, sigma)

    z = torch.randn(2000, 2, generator=rng.manual_seed(seed), dtype=torch.float64)
    y = (grid[0] ** 2 + 1) ** 0.5 * z
    for sigma_t, sigma_s in pairwise(grid):
        y = my_step(eps_at, y, sigma_t, sigma_s)
        if y is None:
            return None, 0
    return y - grid[-1] * eps_at(y, grid[-1]), len(calls)


# %% [markdown]
# Run it:

# %%
seeds = range(lab.up_to(3))
tries = [[my_cloud(count, seed) for seed in seeds] for count in (3, 5, 10)]
mine = {}  # calls: distance in multiples of the table's floor
if tries[0][0][0] is not None:
    like_table = partial(moons.sample, generator=torch.Generator().manual_seed(1))
    pairs = lab.up_to(20, least=2)
    floor_2000 = metrics.floor(metrics.energy_distance, like_table, 2000, pairs=pairs).mean
    for clouds in tries:
        found = [metrics.energy_distance(x, like_table(2000)).item() for x, _ in clouds]
        mine[clouds[0][1]] = sum(found) / len(found) / floor_2000

# %% [markdown]
# And draw it:

# %%
fig, axes = lab.figure(2 if mine else 1, width=11 if mine else 6, height=3.8)
for name in makers:
    rows = [r for r in table if (r["data"], r["solver"], r["grid"]) == ("moons", name, "log SNR")]
    style = {"color": colours[name], "marker": marks[name], "ms": 5, "label": name}
    axes[0].plot([r["calls"] for r in rows], [r["score"] for r in rows], **style)
axes[0].set(xscale="log", yscale="log", xlabel="calls of the network")
axes[0].set(ylabel="distance, multiples of the floor")
axes[0].set_xticks([5, 10, 20], [5, 10, 20])
axes[0].set_yticks([1, 2, 5, 10, 20], [1, 2, 5, 10, 20])
axes[0].minorticks_off()
if mine:
    axes[0].plot(list(mine), list(mine.values()), "*", ms=13, color=lab.RED, label="your solver")
    lab.draw_points(axes[1], tries[-1][0][0], color=lab.RED, title="your points, most calls")
axes[0].legend()
lab.show(fig, "The measured solvers on two moons, and yours: quality against calls.")

# %% [markdown]
# ## 11. Summary
#
# 1. The way into noise is an SDE; the way back is another with the whole score, or an ODE with half of it, and all three have the same densities.
# 2. Along the ODE the log density changes by the divergence, so each point has a likelihood, as exact as the prior at its end.
# 3. In $y = x_t/\sqrt{\bar\alpha_t}$ and $\sigma$ the ODE is $dy/d\sigma = \hat\epsilon$, and DDIM is Euler's method for it.
# 4. 2M remembers one guess and has order 2 for one call a step; Heun pays two, and with about ten calls that was too dear on the toys.
# 5. Samplers are compared by calls, on fresh clouds, with grid and first level stated: from $\sigma = 20$ on the log SNR grid ten calls of 2M came within a fifth of a hundred of DDIM on our digits.
#
# | equation | function |
# |---|---|
# | (35) limits of DDPM and NCSN | `vp_sde`, `ve_sde` |
# | (36) reverse SDE | `reverse_sde`, `euler_maruyama` |
# | (37) probability flow | `probability_flow`, `solve_ode` |
# | (38) likelihood | `log_likelihood` |
# | (39) DDIM as Euler's step | `ddim_step` |
# | (40) Heun | `heun_step` |
# | (41) DPM-Solver++(2M) | `dpm_solver_2m` |
# | (42) predictor–corrector | `predictor_corrector_step` |
#
# **References.** Anderson, *Reverse-Time Diffusion Equation Models* (1982). Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations* (2021). Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Karras et al., *Elucidating the Design Space of Diffusion-Based Generative Models* (2022). Lu et al., *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models* (2022). Grathwohl et al., *FFJORD* (2019).
#
# **Next**: [10 · Can you tell a diffusion model what to draw?](10_guidance.ipynb)
