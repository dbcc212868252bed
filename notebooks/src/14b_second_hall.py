# %% [markdown]
# # 14b · Can you find a mistake before you see the code?
#
# What you see of a mistake is that something is odd, and the code is a thousand lines away. So a visit goes as in the first hall: you meet the symptom, choose an instrument, name the mistake, and only then open the code.
#
# **At the end you can**
# - choose an instrument that can see a mistake, and say why another one cannot;
# - read a number beside the number that right code gives;
# - recognise nine mistakes, of SDEs, likelihoods, fast samplers, inpainting, guidance, control, latents, flows and parallel training, and mend them.
#
# **You need** lessons 07, 08 and 09 for exhibits 1 to 3, then for each the lesson that it names. No exhibit builds on another, so stop where you like. **Time**: about 135 minutes, a quarter of an hour for each exhibit.

# %%
from itertools import pairwise

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_lab.museum import second as hall
from diffusion_lab.museum.second import controls, endings, exhibits, fillings, flows, mended, tilts

torch.set_num_threads(1)  # so that sums repeat to the last digit; nothing here is large

# %% [markdown]
# ## 1. A walk
#
# ### Exhibit 1: paths that do not agree
#
# Somebody follows $dx = -\tfrac12 x\,dt + \sigma\,dW$ by Euler–Maruyama (lesson 08): 2 000 paths from $x = 1$, with $\sigma = 1.5$, in 100 steps of $\Delta t = 0.01$. A **push** is what the noise did in one step: what is left of the step without its drift, divided by $\sigma\sqrt{\Delta t}$. Its variance should be 1, and each path can estimate that from its own 100 pushes. Here are five paths, five paths of right code, and the estimates of all paths. What is different?

# %%
codes = {"exhibit": exhibits.noisy_walk, "right code": mended.noisy_walk}
colors = {"exhibit": lab.RED, "right code": lab.BLUE}
fig, axes = lab.figure(3, width=11, height=3.2)
time = torch.linspace(0, 1, 101)
for ax, (name, walk) in zip(axes, codes.items(), strict=False):
    ax.plot(time, hall.walks.paths(walk)[:, :5], color=colors[name], ls="-", lw=1)
    ax.set(xlabel="time", ylabel="x", title=name, ylim=(-3, 3.5))
    found = hall.walks.estimates(walk)
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
# On average both codes get the variance of a push right. But the estimates should scatter by $\sqrt{2/100} = 0.14$ (lesson 08), and those of the exhibit scatter twice as much.
#
# **Choose an instrument**, here and in each exhibit. Which question will the exhibit fail? Decide first. The cross is the exhibit, the blue dot is right code, and what is allowed is grey. An instrument for which both are inside cannot see this mistake.

# %%
lab.Explorer(*hall.instruments(1))

# %% [markdown]
# **Name it.** One list serves the whole hall. Some of its names are never needed.

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
# **Open the code**, and find the line:

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
# <details><summary>What it was, once you have mended it</summary>
#
# A push of the exhibit is a product $z z'$ of two independent normal numbers. Its mean is 0 and its variance is $1 \cdot 1$, so means and variances are right, at the end of a path, too. Its mean fourth power is $3 \cdot 3 = 9$: the product is near 0 far too often, and sometimes very large. In the paths these are the calm stretches and the jumps. (Where `measure` is content and `check` is not, that is the lesson again: one instrument sees one thing.)
#
# </details>
#
# ## 2. A likelihood
#
# ### Exhibit 2: too many calls
#
# The probability flow carries points of the data to noise. The divergence of its velocity, summed up on the way, gives their log density (lesson 09). It is estimated with one random direction (lesson 07). A solver chooses its steps so that the error stays below a tolerance, and each call of the ODE's right side costs a pass through the network. Here are the calls for 20 points:

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
# With each digit of the tolerance, right code needs a few calls more. The exhibit needs more than six times as many. Is its estimate of the divergence wrong? Does it lead the points astray? **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(2))

# %% [markdown]
# **Name it:**

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
# **Open the code.** It returns the function `f` that the solver will call.

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
# <details><summary>What it was, once you have mended it</summary>
#
# Each single answer of the exhibit is as good as that of right code. But the solver compares answers *with each other*. Where two of them differ at nearly the same place, it believes that the function bends sharply there, and takes smaller steps. They help little, as the difference does not shrink with the step. One direction for a whole solve is random, too, so the average over solves is right; and for the solver it is a smooth function.
#
# </details>

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: is the exhibit's result worse at all?
#
# The error that the solver estimates falls like the step itself in the exhibit, and like its fourth power or faster in right code. But the result is no worse. Its fresh draws average out on the way, while one direction keeps its luck. How much does the log density of a point scatter from solve to solve, at the tolerance 0.001?

# %%
scatters = {}
for name, make in makers.items():
    sums = [flows.solved(make, 1e-3, seed).x[:, 2] for seed in range(40)]
    scatters[name] = torch.stack(sums).var(0).mean().sqrt()
    print(f"{name}: scatter {scatters[name]:.4f} nats, {calls[name][1]} calls")
solves = (scatters["right code"] / scatters["exhibit"]).square().ceil().int()
print(
    f"the exhibit's scatter with right code: {solves} solves, {solves * calls['right code'][1]} calls"
)

# %% [markdown]
# In right code it is about half a nat, in the exhibit a fifth of that. `probes` of `dc.log_likelihood` averages several directions, each with a solve of its own. For so small a scatter that takes more calls than the exhibit made. What right code gains is that the tolerance means something again: calls hardly grow with its digits, and `std_error` tells the scatter. The points, too, end nearer to the exact place in the exhibit, for its steps are far smaller than the tolerance asks.

# %% [markdown]
# ## 3. A fast sampler
#
# ### Exhibit 3: pictures that stay rough
#
# The data are six small pictures. A perfect denoiser knows them, so with a few calls a sampler should end *on* one of them. DPM-Solver++(2M) (lesson 09) goes from the noise level 20 down to 0.25, and from there to 0, where clean data is. Drag the number of calls. The **grain** is the root mean square of what lies between a sample and the picture nearest to it.

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
# From three calls on the grain of right code is 0. That of the exhibit stays near 0.25 from five calls on. **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(3))

# %% [markdown]
# **Name it:**

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
# **Open the code.** For noise levels, $h$ is the growth of $-\ln(\text{level})$ in a step. The correction extrapolates from the last two guesses.

# %%
hall.open_code(3)

# %% [markdown]
# **Exercise 3.** Write `fast_sampler(denoise, x, levels)` right, from memory if you can. `levels` is a list of floats that fall, all above 0: one call of `denoise(x, level)` at each, and 0 at the end. All steps but the first and the last are corrected.


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
# <details><summary>What it was, once you have mended it</summary>
#
# Why would anybody write that? At the level 0, $h$ is infinite, and the formula divides by zero. The last level, put twice into the list, makes that go away. But then the last step goes nowhere, a call of the network is thrown away, and noise of the level 0.25 is left. That was the grain. Euler's step goes to 0 without $h$, and its end is the network's last guess, for any number of calls.
#
# </details>
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
# With the four pictures given here: from five calls on. From three on each sample is one of them, but from three to five calls three of the twelve still change to another picture.
#
# ## 4. Inpainting
#
# ### Exhibit 4: a cloud that is too round
#
# (Lesson 10.) The data are pairs of numbers with correlation 0.9. The first of a pair is known, the second is asked for. After each step down from the noise, the known number is put in, with fresh noise of the new level. Here the known numbers are those of the data, so the pairs should look like the data, too:

# %%
pairs = {"data": fillings.data()}
for name, fill in (("exhibit", exhibits.filled), ("right code", mended.filled)):
    pairs[name] = fillings.drawn(fill, fillings.data()[:, 0])
fig, axes = lab.figure(3, width=10, height=3.2)
for ax, (name, x) in zip(axes, pairs.items(), strict=True):
    lab.draw_points(ax, x[:600], color=colors.get(name, lab.BLACK))
    ax.set(title=name, xlabel="known number", ylabel="unknown number")
    ax.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))
    print(f"{name}: correlation {torch.corrcoef(x.T)[0, 1]:.4f}")
lab.show(
    fig, "Pairs of the data, of exhibit 4 and of right code: those of the exhibit are rounder."
)

# %% [markdown]
# **Choose an instrument.** All but the fourth put in the number 2. Then $N(1.8,\,0.19)$ is exact for the other.

# %%
lab.Explorer(*hall.instruments(4))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "L"

# %%
hall.diagnose(4, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(4)

# %% [markdown]
# **Exercise 4.** Write `filled(denoise, x, y, levels, noise)` right. `noise[i, r]` holds three draws (B, D) for round r of step i: `z` for the step, `fresh` for the known number, and `back`, for a way back after the round. Go all rounds. After the last one there is no way back.


# %%
# STARTER
def filled(denoise, x, y, levels, noise):
    return None  # your lines here


# SOLUTION
def filled(denoise, x, y, levels, noise):
    stops = [*levels, 0.0]
    for i, draws in enumerate(noise):
        level, lower = stops[i], stops[i + 1]
        keep = (lower / level) ** 2
        for z, fresh, back in draws:
            guess = denoise(x, level)
            down = guess + keep * (x - guess) + lower * (1 - keep) ** 0.5 * z
            down[:, 0] = y + lower * fresh[:, 0]
            x = down + (level**2 - lower**2) ** 0.5 * back
        x = down
    return x


# %%
# lab.hint("14b.4")
hall.measure(4, filled)
lab.check("14b.4", filled)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# The known number does reach the unknown one, by way of the network's guess. But at each level the unknown number is drawn first, and the known one is put beside it afterwards. So the pair is too loose, however many levels there are. To go up and down again (*resampling*) draws the unknown number anew beside the known one. Ten rounds leave an error of a tenth of a std, for ten times the calls.
#
# </details>
#
# ## 5. Guidance
#
# ### Exhibit 5: samples that leave the data
#
# (Lesson 10.) The data are two classes of numbers, $N(-1, \tfrac14)$ and $N(1, \tfrac14)$. Somebody wants the second with the weight $w$: samples of $p(x)\,p(y|x)^w/Z$, where $Z$ makes the integral 1. They add the exact slopes, $\nabla\log p(x) + w\,\nabla\log p(y|x)$, at each noise level, and follow the probability flow. Drag $w$:

# %%
fig, (ax,) = lab.figure(width=7, height=3)
bins = torch.linspace(-1, 3, 41, dtype=torch.float64)
tilts_of = {"exhibit": exhibits.tilted, "right code": mended.tilted}
lines = []
for name, style in (("exhibit", "-"), ("right code", "--")):
    lines += ax.plot(bins[1:] - 0.05, 0 * bins[1:], color=colors[name], ls=style, label=name)
ax.set(xlabel="x", ylabel="density", ylim=(0, 2.6))
ax.legend(loc="upper left")
limits = ax.axis()

# %% [markdown]
# The weight 1 gives the class itself.


# %%
def weigh_slopes(w):
    """Show the law of the samples with the weight w, of exhibit 5 and of right code."""
    means = []
    for line, tilt in zip(lines, tilts_of.values(), strict=True):
        x = tilts.drawn(tilt, w)
        line.set_ydata(torch.histogram(x, bins, density=True).hist)
        means.append(x.mean())
    return f"w = {w:g}: mean {means[0]:.4f} in the exhibit, {means[1]:.4f} in right code."


lab.Explorer(fig, lines, weigh_slopes, {"w": lab.slider("weight", 1.0, 8.0, 3.0, 1.0)})

# %% [markdown]
# At $w = 8$ the mean of the exhibit is almost 2. That is two standard deviations above the mean of the class. In right code it hardly moves. **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(5))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "J"

# %%
hall.diagnose(5, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(5)

# %% [markdown]
# **Exercise 5.** Write `tilted(log_prob, log_p, w, x, u)` right, by *rejection*: of the draws `x` of $p(x|y)$, return some. Each comes with a number `u`, uniform on (0, 1). `log_p(x, 0.0)` is $\log p(y|x)$ without noise.


# %%
# STARTER
def tilted(log_prob, log_p, w, x, u):
    return None  # your lines here


# SOLUTION
def tilted(log_prob, log_p, w, x, u):
    chance = torch.exp((w - 1) * log_p(x, 0.0))
    return x[u < chance]


# %%
# lab.hint("14b.5")
hall.measure(5, tilted)
lab.check("14b.5", tilted)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# Without noise the sum is the slope of the wanted law. With noise, a flow needs the slope of the wanted law *to which noise was added*. For $w = 1$ the two agree, by Bayes' rule. For other weights they do not: under much noise $p(y|x)$ is unsure, so the sum pulls far out, and lower levels do not bring back what has left. Guidance is not wrong: each of its samplers has a law of its own (lesson 10), often a useful one. But $w$ is no exponent.
#
# </details>
#
# ## 6. A control
#
# ### Exhibit 6: a frozen base that answers differently
#
# (Lesson 11.) A base knows the wave $\sin 2x$, and is frozen. A control beside it learns to add $c\,x/2$ for a condition $c$. Then the control is taken away. The base alone should answer as before:

# %%
x = torch.linspace(-2, 2, 201, dtype=torch.float64)[:, None]
fig, (ax,) = lab.figure(width=7, height=3)
before = controls.untrained().base(x).detach()
ax.plot(x, before, color="0.8", ls="-", lw=6, label="before")
for name, train in (("exhibit", exhibits.train_control), ("right code", mended.train_control)):
    later = controls.after(train).model.base(x).detach()
    ax.plot(x, later, color=colors[name], ls="-." if name == "exhibit" else "--", label=name)
    print(f"{name}: answers changed by {(later - before).square().mean().sqrt():.4f}, rms")
ax.set(xlabel="x", ylabel="answer of the base alone")
ax.legend()
lab.show(
    fig, "The base alone, before and after: another curve for exhibit 6, the same for right code."
)

# %% [markdown]
# All curves are drawn in `eval()`. **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(6))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "N"

# %%
hall.diagnose(6, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(6)

# %% [markdown]
# **Exercise 6.** Write `train_control(model, batches, lr)` right. `model.base` and `model.control` both contain BatchNorm.


# %%
# STARTER
def train_control(model, batches, lr):
    return None  # your lines here: a tensor of losses


# SOLUTION
def train_control(model, batches, lr):
    model.control.train()
    model.base.requires_grad_(False).eval()
    losses = []
    for x, c, target in batches:
        loss = (model(x, c) - target).square().mean()
        model.zero_grad()
        loss.backward()
        for p in model.control.parameters():
            p.data -= lr * p.grad
        losses.append(loss.detach())
    return torch.stack(losses)


# %%
# lab.hint("14b.6")
hall.measure(6, train_control)
lab.check("14b.6", train_control)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# BatchNorm keeps running averages of what passes through it. They are *buffers*, not parameters: no gradient moves them, every call in `train()` does. `model.train()` reaches all parts, frozen ones too. A hash of the parameters sees nothing, one of the `state_dict()` does. And in `train()` the base answers by the averages of the batch, so the control learned beside another base. (Dropout does that, too, and leaves no trace in any state: only answers tell.)
#
# </details>
#
# ## 7. Latents
#
# ### Exhibit 7: three channels
#
# (Lesson 12.) Latents $z$ have three channels. They are scaled, so that $\mathbb E z^2 = 1$ as the schedule needs, and noised. How much of $z$ is left in $z_t$? The squared correlation tells. At $\bar\alpha_t = \tfrac12$ it should be one half. Drag $\bar\alpha_t$:

# %%
noisers = {"exhibit": exhibits.noisy_latents, "right code": mended.noisy_latents}
fig, (ax,) = lab.figure(width=7, height=3)
sets = [
    ax.bar(torch.arange(3) + shift, [0] * 3, 0.3, color=colors[name], label=name, hatch=hatch)
    for name, shift, hatch in (("exhibit", -0.16, "//"), ("right code", 0.16, ""))
]
ax.set(ylabel="share of z in z_t", ylim=(0, 1), xticks=range(3))
ax.set_xticklabels(["channel 0", "channel 1", "channel 2"])
ax.legend()
limits = ax.axis()


# %% [markdown]
# Right code loses all channels together:


# %%
def keep_latents(alpha_bar):
    """Show how much of each channel is left at this alpha_bar."""
    texts = []
    for bars, (name, noiser) in zip(sets, noisers.items(), strict=True):
        left = hall.scales.kept(noiser, alpha_bar)
        for bar, height in zip(bars, left, strict=True):
            bar.set_height(height)
        texts.append(", ".join(f"{share:.4f}" for share in left) + f" in {name}")
    return f"alpha_bar = {alpha_bar:g}, shares left: {'; '.join(texts)}."


moving = [bar for bars in sets for bar in bars]
lab.Explorer(
    fig, moving, keep_latents, {"alpha_bar": lab.slider("alpha_bar", 0.05, 0.95, 0.5, 0.05)}
)

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(7))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "Q"

# %%
hall.diagnose(7, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(7)

# %% [markdown]
# **Exercise 7.** Write `noisy_latents(z, train, alpha_bar, eps)` right. `z`, `train` and `eps` are (B, C, H, W), with another B for `train`.


# %%
# STARTER
def noisy_latents(z, train, alpha_bar, eps):
    return None  # your lines here


# SOLUTION
def noisy_latents(z, train, alpha_bar, eps):
    power = train.square().mean((0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    return alpha_bar**0.5 * z / power.sqrt() + (1 - alpha_bar) ** 0.5 * eps


# %%
# lab.hint("14b.7")
hall.measure(7, noisy_latents)
lab.check("14b.7", noisy_latents)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# By (65) of lesson 12 another scale is another schedule: it shifts the log SNR. The channels here have stds 2, 0.8 and 0.25, so each has a schedule of its own, and none has the one that is written down. Over all numbers the second moment is 1: a right average of three wrong parts.
#
# </details>
#
# ## 8. Few steps
#
# ### Exhibit 8: a race
#
# (Lesson 13.) Somebody compares a flow, followed by Euler's steps, with DDIM. Both get the same exact denoiser, the same noise and the same number of steps. The numbers are energy distances to the data, in **floors**: one floor is the mean distance of two sets of real data (lesson 05).

# %%
racers = {"exhibit": exhibits.race, "right code": mended.race}
counts = [1, 2, 4, 8]
fig, axes = lab.figure(2, width=9, height=3, sharey=True)
for ax, (name, racer) in zip(axes, racers.items(), strict=True):
    flow, ddim = zip(*(hall.races.floors(racer, steps) for steps in counts), strict=True)
    ax.plot(counts, flow, "o-", color=lab.BLACK, label="flow", ms=9, fillstyle="none")
    ax.plot(counts, ddim, "^--", color=lab.ORANGE, label="DDIM")
    ax.set(xscale="log", xlabel="steps", xticks=counts, xticklabels=counts, title=name)
    ax.minorticks_off()
    for steps, a, b in zip(counts, flow, ddim, strict=True):
        print(f"{name}, {steps} steps: flow {a:.4f}, DDIM {b:.4f}")
axes[0].set(ylabel="distance, in floors", ylim=(0, 15))
axes[0].legend()
lab.show(fig, "In exhibit 8 the flow is nearer to the data from 2 steps on; in right code, equal.")

# %% [markdown]
# "Straight paths need fewer steps." Do they? **Choose an instrument** (all but the first take 4 steps):

# %%
lab.Explorer(*hall.instruments(8))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "S"

# %%
hall.diagnose(8, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(8)

# %% [markdown]
# **Exercise 8.** Write `race(denoise, eps, times)` right. Leave the flow as it is.


# %%
# STARTER
def race(denoise, eps, times):
    return None  # your lines here: (2, B, D), the flow first


# SOLUTION
def race(denoise, eps, times):
    flow, ddim = eps, eps
    for time, later in pairwise(times):
        flow = flow + (later - time) * (flow - denoise(flow, 1 - time, time)) / time
    sizes = [((1 - time) ** 2 + time**2) ** 0.5 for time in times]
    stops = [((1 - time) / size, time / size) for time, size in zip(times, sizes, strict=True)]
    for (a, b), (a_s, b_s) in pairwise(stops):
        guess = denoise(ddim, a, b)
        ddim = a_s * guess + b_s * (ddim - a * guess) / b
    return torch.stack([flow, ddim])


# %%
# lab.hint("14b.8")
hall.measure(8, race)
lab.check("14b.8", race)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# At equal SNRs the two are one sampler, to the last digits. What was measured is the *grid*: even steps in the flow's time, against even steps in that of a VP schedule. Compare samplers on one grid, and grids with one sampler.
#
# </details>
#
# ## 9. Many processes
#
# ### Exhibit 9: eight for the price of eight
#
# (Lesson 15.) Processes compute gradients, each on four examples of its own, and average them. With twice as many processes the batch is twice as large, so the variance of the mean should be half:

# %%
meaners = {"exhibit": exhibits.mean_gradient, "right code": mended.mean_gradient}
worlds = [1, 2, 4, 8, 16]
fig, (ax,) = lab.figure(width=6.5, height=3)
for name, style in (("exhibit", "X-"), ("right code", "o--")):
    found = [hall.ranks.spread(meaners[name], world) for world in worlds]
    ax.plot(worlds, found, style, ms=8, color=colors[name], label=name)
    print(f"{name}: " + ", ".join(f"{value:.4f}" for value in found))
ax.set(xscale="log", yscale="log", xlabel="processes", ylabel="variance of the mean gradient")
ax.set_xticks(worlds, worlds)
ax.set_yticks([0.6, 0.3, 0.15, 0.075, 0.04], ["0.6", "0.3", "0.15", "0.075", "0.04"])
ax.minorticks_off()
ax.legend()
lab.show(fig, "Variance against processes: it halves with each doubling in right code alone.")

# %% [markdown]
# **Choose an instrument:**

# %%
lab.Explorer(*hall.instruments(9))

# %% [markdown]
# **Name it:**

# %%
for letter, name in hall.NAMES.items():
    print(letter, "", name.name)

# STARTER
diagnosis = None  # a letter of the list
# SOLUTION
diagnosis = "T"

# %%
hall.diagnose(9, diagnosis)

# %% [markdown]
# **Open the code:**

# %%
hall.open_code(9)

# %% [markdown]
# **Exercise 9.** Write `mean_gradient(gradient, x, ranks, seed)` right. Process `rank` has the `rank`-th part of `x.chunk(ranks)`, and `own_generator(seed, Place(rank, ranks))` of `diffusion_core.processes` is its generator.


# %%
from diffusion_core.processes import Place, own_generator


# STARTER
def mean_gradient(gradient, x, ranks, seed):
    return None  # your lines here


# SOLUTION
def mean_gradient(gradient, x, ranks, seed):
    found = []
    for rank, part in enumerate(x.chunk(ranks)):
        rng = own_generator(seed, Place(rank, ranks))
        eps = torch.randn(part.shape, generator=rng, dtype=x.dtype)
        found.append(gradient(part, eps.to(x)))
    return torch.stack(found).mean(0)


# %%
# lab.hint("14b.9")
hall.measure(9, mean_gradient)
lab.check("14b.9", mean_gradient)

# %% [markdown]
# <details><summary>What it was, once you have mended it</summary>
#
# The data of the processes differ, so the variance does not stay quite where it was. But what all share does not average out: by (67) of lesson 15, $C$ is left, the covariance of two processes' gradients. One process alone is right, and so is the average: only the *variance against the number* tells.
#
# </details>

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ## Deeper: how small a mistake can be seen?
#
# Exhibit 1 is as wrong as it can be. What if the second random number counts little? Let a push be $z\,(\sqrt{1-w^2} + w z')$; this weight $w$ is not that of exhibit 5. A push has variance 1 for every $w$, and $w = 1$ is the exhibit. The curve is the exact mean fourth power, $3 + 12w^2 - 6w^4$. The cross is what $n$ pushes read, here without the division by the squared variance. Dotted is $3 \pm 4\sqrt{96/n}$, four standard errors of right code, which it leaves very rarely. With 1 000 pushes, from which weight on is the mistake seen? With 100 000?

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


sliders = {
    "w": lab.slider("weight", 0.0, 1.0, 0.3, 0.05),
    "n": lab.choice("pushes", [1000, 10_000, 100_000], 10_000),
}
lab.Explorer(fig, [*edges, dot], weaken, sliders)

# %% [markdown]
# Where does the curve cross the upper dotted line? There the mistake is seen in about half of all sets of pushes. Yours is one set, so the cross lies beside the curve.

# %%
for n in (1000, 10_000, 100_000):
    error = 4 * (96 / n) ** 0.5
    crossing = (1 - (1 - error / 6) ** 0.5) ** 0.5  # solves 12 w^2 - 6 w^4 = error
    print(f"{n:7} pushes: weights above {crossing:.4f}")

# %% [markdown]
# For a small $w$ the curve rises like $12 w^2$, and the error falls like $1/\sqrt n$: a mistake of half the size needs 16 times the pushes. So an instrument has a reach, and it belongs to the reading. Exhibits 2, 3, 6 and 8 need no statistics: "the same question, the same answer", "the end is the last guess", "the state is as before" and "the same levels" hold to rounding, and one run tells. Where there is such an exact property, test that one.

# %% [markdown]
# ## 10. Summary
#
# 1. A symptom is a number that is odd beside the number of right code; without the second, the first says nothing.
# 2. An instrument sees only what it asks for: means, a known part that fits, samples of the right class, parameters that rest, the average over channels or processes can all be right in wrong code.
# 3. The right side of an ODE is a function, for a whole solve, and a sampler ends at noise level 0, on the network's last guess.
# 4. What is unknown is drawn beside what is known; weighted slopes are not the slope of a weighted law; a frozen network is in `eval()`.
# 5. Scales are measured, channel by channel; two things are compared on one grid; each process draws its own noise.
#
# | what is tested | function |
# |---|---|
# | the law of a step's noise | `wiener_increments`, `euler_maruyama` |
# | the right side of a likelihood | `hutchinson_trace`, `log_likelihood`, `solve_ode` |
# | the end of a fast sampler | `dpm_solver_2m`, `sample_chain` |
# | a part that is put in | `pasted`, `resampled`, `condition` |
# | what guidance samples | `classifier_guided`, `tilted_density` |
# | the scale of latents, the grid of a flow | `measure_latent_scale`, `euler_maruyama` |
# | the noise of a process | `own_generator` |
#
# **References.** Grathwohl et al., *FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models* (2019), section 3.1: one noise vector for a solve. Lu et al., *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models* (2022). Kloeden and Platen, *Numerical Solution of Stochastic Differential Equations* (1992). Lugmayr et al., *RePaint* (2022). Bradley and Nakkiran, *Classifier-Free Guidance is a Predictor-Corrector* (2024). Ioffe and Szegedy, *Batch Normalization* (2015). Gao et al., *Diffusion Meets Flow Matching: Two Sides of the Same Coin* (2024).
#
# **Next**: your own code, with the symptom first. The README's table lists the lessons.
