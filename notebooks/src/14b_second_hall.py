# %% [markdown]
# # 14b · Can you find a mistake before you see the code?
#
# In the first hall of this museum the code came first. In life it comes last: what you see is that something is odd, and the code is a thousand lines away. So this hall turns a visit round. You meet the symptom, choose an instrument, name the mistake, and only then open the code.
#
# **At the end you can**
# - choose an instrument that can see a mistake, and say why another one cannot;
# - read a number beside the number that right code gives;
# - recognise three mistakes of SDEs, likelihoods and fast samplers, and mend them;
# - say how many samples an instrument needs for a small mistake.
#
# **You need** lessons 07, 08 and 09. Nothing is trained here. **Time**: about 50 minutes, a quarter of an hour for each exhibit. They do not build on each other.

# %%
import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_lab.museum import second as hall
from diffusion_lab.museum.second import endings, exhibits, flows, mended, walks

torch.set_num_threads(1)  # so that sums repeat to the last digit; nothing here is large

# %% [markdown]
# ## 1. A walk
#
# ### Exhibit 1: paths that do not agree
#
# Somebody follows $dx = -\tfrac12 x\,dt + \sigma\,dW$ by Euler–Maruyama (lesson 08): 2 000 paths from $x = 1$, with $\sigma = 1.5$, in 100 steps of $\Delta t = 0.01$. Here are five paths, and five paths of right code. What is different?

# %%
codes = {"exhibit": exhibits.noisy_walk, "right code": mended.noisy_walk}
colors = {"exhibit": lab.RED, "right code": lab.BLUE}
fig, axes = lab.figure(3, width=11, height=3.2)
time = torch.linspace(0, 1, 101)
for ax, (name, walk) in zip(axes, codes.items(), strict=False):
    ax.plot(time, walks.paths(walk)[:, :5], color=colors[name], ls="-", lw=1)
    ax.set(xlabel="time", ylabel="x", title=name, ylim=(-3, 3.5))
    found = walks.estimates(walk)
    style = {"color": colors[name], "ls": "-" if name == "exhibit" else "--", "lw": 2}
    bins = torch.linspace(0, 2.5, 51)
    axes[2].hist(found, bins, histtype="step", label=name, **style)
    print(
        f"{name}: variance from one path, {found.mean():.4f} on average, scatter {found.std():.4f}"
    )
axes[2].set(xlabel="variance of a push, from one path", ylabel="paths")
axes[2].legend()
lab.show(
    fig, "Five paths each, and what 2 000 single paths tell of the variance: wider for exhibit 1."
)

# %% [markdown]
# A **push** is what the noise did in one step: what is left of the step without its drift, divided by $\sigma\sqrt{\Delta t}$. Its variance should be 1. Each path can estimate that from its own 100 pushes, by the mean of their squares. On average both codes get it right. But the estimates should scatter by $\sqrt{2/100} = 0.14$ (lesson 08), and those of the exhibit scatter twice as much.
#
# **Choose an instrument.** Five questions can be asked. Which one will the exhibit fail? Decide first, and then choose. The cross is the exhibit, the blue dot is right code, and what is allowed is grey. An instrument for which both are inside cannot see this mistake.

# %%
lab.Explorer(*hall.instruments(1))

# %% [markdown]
# **Name it.** One list of names serves the whole hall. Some of them are never needed.

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# %%
# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "B"

# %%
hall.diagnose(1, diagnosis)

# %% [markdown]
# **Now open the code**, and find the line:

# %%
hall.open_code(1)

# %% [markdown]
# **Exercise 1.** Write `noisy_walk(x, sigma, dt, noise)` right. Of the two draws in `noise[i]`, use the first.


# %%
# STARTER
def noisy_walk(x, sigma, dt, noise):
    return None  # your lines here


# SOLUTION
def noisy_walk(x, sigma, dt, noise):
    states = []
    for z, _ in noise:
        x = x - x / 2 * dt + sigma * dt**0.5 * z
        states.append(x)
    return torch.stack(states)


# %%
# lab.hint("14b.1")
hall.measure(1, noisy_walk)
lab.check("14b.1", noisy_walk)

# %% [markdown]
# A push of the exhibit is a product $z z'$ of two independent normal numbers. Its mean is 0 and its variance is $1 \cdot 1$, so an instrument that asks for means and variances is content. Its mean fourth power is $3 \cdot 3 = 9$, as the product is near 0 far too often, and sometimes very large. In the paths these are the calm stretches and the jumps. The end of a path is a sum of many pushes, and its variance is right, too. (Where `measure` is content and `check` is not, that is the lesson again: one instrument sees one thing.)
#
# ## 2. A likelihood
#
# ### Exhibit 2: too many calls
#
# The probability flow carries points of the data to noise. If the divergence of its velocity is summed up on the way, the log density of the points comes out (lesson 09). The divergence is estimated with one random direction (lesson 07). A solver chooses its own steps, so that the error stays below a tolerance, and each call of the right side costs a pass through the network. Here are the calls for 20 points:

# %%
tolerances = [1e-2, 1e-3, 1e-4]
makers = {"exhibit": exhibits.right_side, "right code": mended.right_side}
calls = {name: [flows.solved(f, tol).calls for tol in tolerances] for name, f in makers.items()}
for name, counted in calls.items():
    print(f"{name}: {counted} calls")
assert calls["exhibit"][2] > 6 * calls["exhibit"][1] > 36 * calls["exhibit"][0]
fig, (ax,) = lab.figure(width=6.5, height=3)
for name, style in (("exhibit", "X-"), ("right code", "o--")):
    ax.plot(tolerances, calls[name], style, ms=8, color=colors[name], label=name)
ax.set(xscale="log", yscale="log", xlabel="tolerance", ylabel="calls of the right side")
ax.invert_xaxis()
ax.legend()
lab.show(
    fig, "A tenth of the tolerance costs exhibit 2 six times the calls, right code a few more."
)

# %% [markdown]
# With each digit of the tolerance, right code needs a few calls more. The exhibit needs more than six times as many. Is its estimate of the divergence wrong? Does it lead the points astray? **Choose an instrument**, and decide first which one it will be:

# %%
lab.Explorer(*hall.instruments(2))

# %% [markdown]
# **Name it.** The list again:

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "E"

# %%
hall.diagnose(2, diagnosis)

# %% [markdown]
# **Now open the code.** A *maker*: it returns the function `f` that the solver will call.

# %%
hall.open_code(2)

# %% [markdown]
# **Exercise 2.** Write the maker `right_side(velocity, fresh)` right. `velocity(x, time)` has the shape of x, (B, D); `fresh()` draws signs (B, D); f returns the velocity and the estimate (B,). You may use `dc.hutchinson_trace`.


# %%
# STARTER
def right_side(velocity, fresh):
    return None  # your lines here: a function f(x, time)


# SOLUTION
def right_side(velocity, fresh):
    direction = fresh()  # once for each solve

    def f(x, time):
        return dc.hutchinson_trace(lambda x: velocity(x, time), x, direction)

    return f


# %%
# lab.hint("14b.2")
hall.measure(2, right_side)
lab.check("14b.2", right_side)

# %% [markdown]
# Each single answer of the exhibit is as good as that of right code: the average is exact, the scatter is that of the formula. So an instrument that takes answers one by one sees nothing. But the solver compares answers *with each other*. Where two answers at nearly the same place differ, it believes that the function bends sharply there, and takes smaller steps. They help little. The difference does not shrink with the step, so the error that the solver estimates falls only like the step itself; in right code it falls like its fourth power or faster. One direction for a whole solve is random too, so the average over solves is still right, and for the solver it is a smooth function.
#
# Is the exhibit's result worse at all? No. Its fresh draws average out on the way, while one direction keeps its luck: in right code the log density of a point scatters by about half a nat from solve to solve, in the exhibit by a fifth of that. But that is what `probes` of `dc.log_likelihood` is for: the average of several directions costs little, and the tolerance means something again. The points, too, end nearer to the exact place in the exhibit, for its steps are far smaller than the tolerance asks.
#
# ## 3. A fast sampler
#
# ### Exhibit 3: pictures that stay rough
#
# The data are six small pictures, such as a disc and a cross. A perfect denoiser knows them, so with a few calls a sampler should end *on* one of them. DPM-Solver++(2M) (lesson 09) goes from the noise level 20 down to 0.25, and from there to 0, where clean data is. Drag the number of calls. The **grain** is the root mean square of what lies between a sample and the picture nearest to it.

# %%
samplers = {"exhibit": exhibits.fast_sampler, "right code": mended.fast_sampler}
fig, axes = lab.figure(2, width=9, height=2.7)
sheets = []
for ax, name in zip(axes, samplers, strict=True):
    sheets.append(lab.draw_images(ax, torch.zeros(12, 1, 14, 14), 6))
    ax.set_title(name)


# %% [markdown]
# Twelve samples each, from the same noise. With one call there is no level between 20 and 0.


# %%
def sample_both(calls):
    """Show samples of exhibit 3 and of right code with this many calls."""
    grains = []
    for sheet, sampler in zip(sheets, samplers.values(), strict=True):
        x = endings.drawn(sampler, calls)
        sheet.set_data(lab.image_grid(x[:12].view(12, 1, 14, 14), 6))
        grains.append(endings.grain(x))
    return f"{calls} calls: grain {grains[0]:.4f} in the exhibit, {grains[1]:.4f} in right code."


lab.Explorer(fig, sheets, sample_both, {"calls": lab.slider("calls", 1, 20, 10)})

# %% [markdown]
# From five calls on, more do not help. (The last instrument tries 1, 2, 5 and 10 calls, and reads the worst.) **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(3))

# %% [markdown]
# **Name it.** The list again:

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "G"

# %%
hall.diagnose(3, diagnosis)

# %% [markdown]
# **Now open the code.** For noise levels, $h$ is the growth of $-\ln(\text{level})$ in a step. The correction extrapolates from the last two guesses.

# %%
hall.open_code(3)

# %% [markdown]
# **Exercise 3** (a quarter of an hour). Write `fast_sampler(denoise, x, levels)` right, from memory if you can. `levels` is a list of floats that fall, all above 0: one call of `denoise(x, level)` at each, and 0 at the end. All steps but the first and the last are corrected.


# %%
# STARTER
def fast_sampler(denoise, x, levels):
    return None  # your lines here


# SOLUTION
def fast_sampler(denoise, x, levels):
    before, h_before = None, None
    for i, level in enumerate(levels):
        guess = denoise(x, level)
        if i == len(levels) - 1:
            return guess  # the step to 0
        ratio = levels[i + 1] / level
        h, mixed = -torch.tensor(ratio).double().log().item(), guess
        if before is not None:
            mixed = guess + h / (2 * h_before) * (guess - before)
        x = ratio * x + (1 - ratio) * mixed
        before, h_before = guess, h


# %%
# lab.hint("14b.3")
hall.measure(3, fast_sampler)
lab.check("14b.3", fast_sampler)

# %% [markdown]
# Why would anybody write that? At the level 0, $h$ is infinite. The formula divides by zero there or, with tensors, makes NaN. The last level, put twice into the list, makes that go away. Then $h = 0$ in the last step: the state stays where it is, a call of the network is thrown away, and noise of the level 0.25 is left. That was the grain. The step to 0 does not need $h$. Euler's step goes there alone, without a correction, and its end is the network's last guess, for any number of calls.
#
# Draw with it. The pictures are yours to change: `my_pictures` holds one after another, black −1 and white 1. Then change `my_calls`.

# %%
my_pictures = torch.ones(4, 8, 8, dtype=torch.float64)
my_pictures[0, 2:6, 2:6] = -1
my_pictures[1, :4] = -1
my_pictures[2, :, ::2] = -1
my_pictures[3].fill_diagonal_(-1)
my_calls = 6


def my_denoise(x, level):
    """The mean of your pictures that x can have come from."""
    data = my_pictures.flatten(1)
    return torch.softmax(-torch.cdist(x, data).square() / (2 * level**2), 1) @ data


levels = dc.geometric_levels(20, 0.25, my_calls).tolist() if my_calls > 1 else [20.0]
z = torch.randn(12, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
mine = fast_sampler(my_denoise, levels[0] * z, levels)

# %% [markdown]
# One call gives a mixture of all pictures, for at a high level the best guess is the mean of the data. From how many calls on do your samples stay as they are?

# %%
fig, axes = lab.figure(2, width=9, height=2.7)
framed = torch.nn.ConstantPad2d(1, 0.0)  # grey, between black and white
lab.draw_images(axes[0], framed(my_pictures[:, None]), 4)
axes[0].set_title("your pictures")
if mine is None:
    axes[1].text(0.5, 0.5, "your samples, once exercise 3 is written", ha="center")
    axes[1].set_axis_off()
else:
    lab.draw_images(axes[1], framed(mine.view(12, 1, 8, 8)), 6)
    axes[1].set_title(f"your samples, {my_calls} calls")
lab.show(fig, "Your pictures, and what your sampler makes of noise.")

# %% [markdown]
# With the four pictures given here: from five calls on. From three on each sample is one of them, but three samples still change from one picture to another, as coarse steps lead elsewhere.
#
# ## 4. How small a mistake can be seen?
#
# Exhibit 1 is as wrong as it can be. What if the second random number counts little? Let a push be $z\,(\sqrt{1-w^2} + w z')$. Its variance is 1 for every weight $w$, and $w = 1$ is the exhibit. The curve is the exact mean fourth power, $3 + 12w^2 - 6w^4$. The cross is what $n$ pushes read, here without the division by the squared variance. Dotted is $3 \pm 4\sqrt{96/n}$, four standard errors of right code, which it leaves very rarely. With 1 000 pushes, from which weight on is the mistake seen? With 100 000?

# %%
rng = torch.Generator().manual_seed(2)
z, other = torch.randn(2, 100_000, generator=rng, dtype=torch.float64)
weight = torch.linspace(0, 1, 101)
kept = 1 - weight**2
fig, (ax,) = lab.figure(width=7, height=3)
ax.plot(weight, 3 * (kept**2 + 6 * kept * weight**2 + 3 * weight**4), color=lab.BLACK, ls="-", lw=1)
edges = [ax.plot([0, 1], [3, 3], color=lab.BLUE, ls=":")[0] for _ in range(2)]
(dot,) = ax.plot([0], [3], "X", ms=10, color=lab.RED)
ax.set(xlabel="weight w of the mistake", ylabel="mean fourth power")
limits = ax.axis((0, 1.02, 1, 13))

# %% [markdown]
# Drag the weight:


# %%
def weaken(w, n):
    """Show what the fourth power reads on n pushes with a mistake of weight w."""
    push = z[:n] * ((1 - w**2) ** 0.5 + w * other[:n])
    read, error = (push**4).mean(), 4 * (96 / n) ** 0.5
    for edge, side in zip(edges, (-1, 1), strict=True):
        edge.set_data([0, 1], [3 + side * error] * 2)
    dot.set_data([w], [read])
    seen = "outside" if abs(read - 3) > error else "inside"
    return f"w = {w:g}, {n} pushes: {read:.4f} is {seen} {3 - error:.4f} to {3 + error:.4f}."


controls = {
    "w": lab.slider("weight", 0.0, 1.0, 0.3, 0.05),
    "n": lab.choice("pushes", [1000, 10_000, 100_000], 10_000),
}
lab.Explorer(fig, [*edges, dot], weaken, controls)

# %% [markdown]
# Where does the curve cross the upper dotted line? There the mistake is seen in about half of all sets of pushes. Yours is one set, so the cross lies beside the curve.

# %%
for n in (1000, 10_000, 100_000):
    error = 4 * (96 / n) ** 0.5
    crossing = (1 - (1 - error / 6) ** 0.5) ** 0.5  # solves 12 w^2 - 6 w^4 = error
    print(f"{n:7} pushes: weights above {crossing:.4f}")

# %% [markdown]
# For a small $w$ the curve rises like $12 w^2$, and the error falls like $1/\sqrt n$: a mistake of half the size needs 16 times the pushes. So an instrument has a reach, and it belongs to the reading. The other two exhibits need no statistics: "the same question, the same answer" and "the end is the last guess" hold to rounding, and one call tells. Where there is such an exact property, test that one.
#
# ## 5. Summary
#
# 1. A symptom is a number that is odd beside the number of right code; without the second, the first says nothing.
# 2. An instrument sees only what it asks for: means and variances cannot tell a wrong law with the right mean and variance.
# 3. The right side of an ODE must be a function: the same question, the same answer, for a whole solve.
# 4. A sampler ends at noise level 0, by Euler's step, on the network's last guess.
# 5. A small mistake needs many samples, unless it breaks a property that holds exactly.
#
# | what is tested | function |
# |---|---|
# | the law of a step's noise | `wiener_increments`, `euler_maruyama` |
# | the right side of a likelihood | `hutchinson_trace`, `log_likelihood`, `solve_ode` |
# | the end of a fast sampler | `dpm_solver_2m`, `sample_chain` |
#
# **References.** Grathwohl et al., *FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models* (2019), section 3.1: one noise vector for a solve. Lu et al., *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models* (2022). Kloeden and Platen, *Numerical Solution of Stochastic Differential Equations* (1992).
#
# **Next**: your own code, with the symptom first. The README's table lists the lessons.
