# %% [markdown]
# # 00 · What will you be able to do?
#
# A **diffusion model** draws pictures that nobody drew. The idea is short. Take a picture and add a little noise, again and again, until nothing is left of it. A neural network watches this for many pictures, and learns to take one step back. Then it gets pure noise, walks back step by step, and arrives at a picture that never existed.
#
# **At the end you can**
# - draw digits from noise, and say in numbers how good they are;
# - dissolve a digit in noise, and say what is left of it;
# - find your way through a lesson, its exercises, and the whole course.
#
# **You need** some PyTorch, and the mean and the variance of random numbers. No GPU. **Time**: five minutes to run and look, about 30 to read it all and do the exercises.
#
# Click on the next cell and press Shift+Enter. The cell runs, and the one below is chosen. Go on like this to the end.

# %%
import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, pretrained

device = dc.default_device()
rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# The network comes with the course. It learned on MNIST, 60 000 digits written by hand. `schedule` says how much noise there is at each of 1000 steps. The walk back takes 50 long strides instead of 1000 steps, to save time. We ask for the digits 0 to 9 in turn. The 60 digits below are drawn now, on your machine, within seconds.
#
# You need not understand the code yet. Lessons 05 and 06 explain every line of it.

# %%
schedule = dc.cosine_schedule(1000)
model, about = pretrained.load("mnist")
strength = about["judge"]["guidance_scale"]  # how firmly we ask for a digit
taus = dc.even_taus(1000, 50)  # 1000, 980, ..., 20, 0


def walk_back(x_T, eta=1.0):
    """Walk from noise to the digits 0, 1, .., 9, 0, .. in 50 strides; return all strides."""
    labels = torch.arange(len(x_T), device=device) % 10
    asked = dc.classifier_free(model.to(device), labels, guidance_scale=strength)
    eps_model = dc.eps_model_from_v(schedule, asked)
    options = {"eta": eta, "clip": (-1, 1), "generator": rng}
    chain = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T.to(device), taus, **options)
    return list(chain)


x_T = torch.randn(60, 1, 28, 28, generator=rng)
chain = walk_back(x_T)
drawn = chain[-1].x_t.cpu()
fig, (ax,) = lab.figure(width=8, height=1.3)
lab.draw_images(ax, drawn, 20)
lab.show(fig, "60 digits that nobody wrote: the network drew each from a picture of pure noise.")

# %% [markdown]
# Watch the first 30 of them come into being. Drag the slider, or press play. On the left is the picture on its way, on the right what the network expects it to become. When can you first tell which digit it will be?

# %%
on_the_way = [x_T, *(step.x_t for step in chain)]
expected = [*(step.x0_hat for step in chain), drawn]
fig, axes = lab.figure(2, width=9, height=1.9)
panels = [lab.draw_images(ax, x_T[:30], 10) for ax in axes]
axes[0].set_title("on the way")
axes[1].set_title("expected at the end")


def scrub_strides(done):
    """Show the pictures after some of the 50 strides."""
    for panel, pictures in zip(panels, (on_the_way[done], expected[done]), strict=True):
        panel.set_data(lab.image_grid(pictures[:30], 10))
    return f"{done} of 50 strides done, t = {taus[done]}."


lab.Explorer(
    fig, panels, scrub_strides, {"done": lab.slider("strides done", 0, 50, 30)}, play="done"
)

# %% [markdown]
# ## 2. How good are they?
#
# Your eye is a good judge, but a slow one. A second network, the **judge**, was trained to read digits. It looks at every drawing and gives a probability to each of the ten digits. Three numbers come from it:
#
# - **confident**: the share of the drawings to which it gives more than 0.9 for one digit;
# - **shares**: how often it sees each digit. A network that draws only ones may be readable, but has learned little;
# - the **Fréchet distance**: one number for how far the drawings, as a set, are from real digits. The judge turns a picture into 64 numbers, its *features*, and reads the digit from these. The distance compares their means, their variances, and how they vary together. Lesson 06 has the formula.
#
# No number means anything alone. So real digits and pure noise stand beside each of them. For the distance we give multiples of the **floor**: how far a set of real digits, as many as were drawn, is by chance from the real test digits.

# %%
real_digits = data.images("test")
real = data.to_signed(real_digits.x)
network, _ = pretrained.load("judge")
of_real = judge.judge_images(network, real, real)
known = about["judge"]  # measured when the network was trained, on more drawings
pure = torch.randn(known["samples"], 1, 28, 28, generator=rng)  # as many, for the same floor
pictures = {"pure noise": pure, "your 60": drawn}
verdicts = {name: judge.judge_images(network, x, real) for name, x in pictures.items()}
many = f"{known['samples']} drawn"

# %% [markdown]
# The network was also judged when it was trained, on many more drawings. Your 60 appear only in the left panel. So few would give no reliable shares, and would seem far from anything. The shares are those of the many drawings. Each digit was asked for equally often there, so even shares are what an obedient network gives.
#
# (Without a network connection and without MNIST's files, the real digits are those of scikit-learn; then the figure says so. The judge learned on MNIST, and reads them less well.)

# %%
confident = {name: verdict.confident for name, verdict in verdicts.items()}
confident |= {many: known["confident"], "real": of_real.confident}
distance = {"pure noise": verdicts["pure noise"].frechet, many: known["frechet"]}
distance = {name: d / known["frechet_floor"] for name, d in distance.items()} | {"floor": 1}
fig, axes = lab.figure(3, width=10, height=3)
axes[0].bar_label(axes[0].barh(list(confident), list(confident.values())), fmt=" %.3f")
axes[0].set(title="confident", xlabel="share of the pictures", xlim=(0, 1.3))
axes[1].bar(range(10), known["shares"], color=lab.SKY, label=many)
axes[1].plot(range(10), of_real.shares, "o", color=lab.BLACK, label="real")
axes[1].plot(range(10), verdicts["pure noise"].shares, "x", color=lab.ORANGE, label="pure noise")
axes[1].set(title="shares", xlabel="digit", xticks=range(10))
axes[1].margins(y=0.3)
axes[1].legend()
axes[2].bar_label(axes[2].barh(list(distance), list(distance.values())), fmt=" %.1f")
axes[2].set(title="Fréchet distance", xlabel="multiples of the floor")
axes[2].margins(x=0.25)
fig.supxlabel(real_digits.note, fontsize="small", wrap=True)
lab.show(fig, "The judge on drawn digits, on real ones and on noise: confident, shares, distance.")

# %% [markdown]
# Look at the noise. The judge is sure of what it reads in pure noise, too, and reads nearly all of it as one digit! It never saw noise when it was trained, and nobody taught it to say "I do not know". So a high share of confident readings proves little alone. The shares and the distance give the noise away. Ask of every number in this course: what would nonsense reach?
#
# The lines below are **claims**. Each says what a number should be; the bracket says what it is on your machine, and whether the claim holds there. Lessons end many of their experiments like this.

# %%
of_noise = verdicts["pure noise"]
lab.claim("share of your 60 read with confidence", confident["your 60"], at_least=0.9)
lab.claim("share of the rarest digit in the many drawings", min(known["shares"]), at_least=0.05)
lab.claim("share of pure noise read with confidence", of_noise.confident, above=0.5)
lab.claim("share of the digit seen most often there", of_noise.shares.max(), above=0.9)
lab.claim(
    "distance of noise from real digits, as a multiple of the drawings'",
    distance["pure noise"] / distance[many],
    at_least=10,
    digits=real_digits,
)

# %% [markdown]
# ## 3. Dissolve a digit yourself
#
# Now the other direction, the one that needs no network. Choose a digit and drag $t$, the number of the step, from 0 to 1000. We call the clean picture $x_0$, and the picture at step $t$ is $x_t$. Grey levels go from −1 (black) to 1 (white); noise goes beyond, and is shown as black and white.
#
# The curves on the right show by how much the digit and the noise are multiplied; the two dots are at your $t$. Where do you lose the digit? (The sentence below the picture names `alpha_bar`; section 4 says what it is.)

# %%
first_of = {k: real[real_digits.labels == k][:1] for k in range(10)}
signal, noise = schedule.alpha_bars.sqrt(), schedule.marginal_vars.sqrt()
fig, (left, right) = lab.figure(2, width=8, height=3.2)
picture = lab.draw_images(left, first_of[3], 1)
right.plot(signal, label="digit times")
right.plot(noise, label="noise times")
(here,) = right.plot([0, 0], [1, 0], "o", color=lab.BLACK)
right.legend(loc="lower center")
right.set(xlabel="t", ylabel="factor", ylim=(-0.03, 1.03))
eps = torch.randn(1, 1, 28, 28, generator=rng.manual_seed(1))

# %% [markdown]
# A widget has three parts: a figure, a function that moves what changes and returns a sentence, and the controls.


# %%
def dissolve_slowly(t, digit):
    """Show a digit at step t."""
    picture.set_data(lab.image_grid(dc.q_sample(schedule, first_of[digit], t, eps), 1))
    here.set_data([t, t], [signal[t], noise[t]])
    return (
        f"digit {digit}, t = {t}: alpha_bar = {schedule.alpha_bars[t]:.4f}, "
        f"digit times {signal[t]:.3f} + noise times {noise[t]:.3f}."
    )


controls = {"t": lab.slider("t", 0, 1000, 300), "digit": lab.choice("digit", list(range(10)), 3)}
lab.Explorer(fig, [picture, here], dissolve_slowly, controls)

# %% [markdown]
# ## 4. The one formula
#
# In words: the picture at step $t$ is the clean picture times one number, plus noise times another. The first number falls from 1 to nearly 0, the second rises from 0 to nearly 1.
#
# In symbols:
#
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon.$$
#
# - $\epsilon$ ("epsilon", `eps`) is the noise: for every pixel a number of its own from the normal distribution with mean 0 and variance 1;
# - $\bar\alpha_t$ ("alpha bar", `alpha_bars[t]`) is a number between 0 and 1 that the schedule gives to step $t$. It says what share of the digit's variance is left.
#
# Why the roots? Multiplying by $c$ multiplies a variance by $c^2$. So the noise in $x_t$ has variance $1-\bar\alpha_t$: exactly what the digit has lost, if its variance was 1. The noise has mean 0, so the mean of $x_t$ is $\sqrt{\bar\alpha_t}\,x_0$.
#
# This is the package's version. `q_marginal` gives that mean and that variance:

# %%
lab.show_source(dc.q_sample)

# %% [markdown]
# Is it true? At the top of this lesson, noise was added *step by step*. The formula jumps to step $t$ at once. So the cell below takes 300 small steps, one after the other (`q_step` is one step), for three pixels: black, grey and white. It does so 20 000 times, and jumps 20 000 times. Mean and variance of both must be those of the formula, within five standard errors. (A **standard error** is by how much an average of finitely many draws is off, typically. Five of them are as good as never exceeded. For the mean of $n$ normal draws it is $\sqrt{\text{variance}/n}$; for their variance, the variance times $\sqrt{2/n}$.)

# %%
t, n = 300, 20_000
pixels = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64).expand(n, 3)
walked = pixels
for step in range(1, t + 1):
    walked = dc.q_step(schedule, walked, step).sample(generator=rng)
jumped = dc.q_sample(schedule, pixels, t, generator=rng)

alpha_bar_t = schedule.alpha_bars[t]
mean, var = alpha_bar_t.sqrt() * pixels[0], 1 - alpha_bar_t
print("      mean: formula, steps, jump    variance: formula, steps, jump")
for i, name in enumerate(("black", "grey", "white")):
    means = mean[i], walked[:, i].mean(), jumped[:, i].mean()
    variances = var, walked[:, i].var(), jumped[:, i].var()
    print(f"{name:5s}", *(f"{number:9.4f}" for number in (*means, *variances)))
for x_t in (walked, jumped):
    assert ((x_t.mean(0) - mean).abs() < 5 * (var / n).sqrt()).all()
    assert ((x_t.var(0) - var).abs() < 5 * var * (2 / n) ** 0.5).all()

# %% [markdown]
# Lesson 02 shows *why* many steps make one jump. Lessons 03 to 06 are about the way back.
#
# ## 5. Predict, then run
#
# In the picture of section 3 the two factors cross near $t = 500$. So half of the variance is noise after half of the steps. How much is it after a quarter of them: a quarter? And after three quarters? Write down two numbers before you run the cell.

# %%
half = int((noise >= signal).nonzero()[0])
print(f"the factors meet at t = {half}: {signal[half]:.4f} and {noise[half]:.4f}")
torch.testing.assert_close(signal**2 + noise**2, torch.ones(1001, dtype=torch.float64))
for t in (250, 500, 750):
    print(f"t = {t}: factor of the noise {noise[t]:.4f}, its variance {noise[t] ** 2:.4f}")

# %% [markdown]
# Less than a quarter, and more than three: this schedule goes slowly at both ends. The *squares* of the two factors add up to 1, at every $t$. So they meet not at 0.5, but at $\sqrt{1/2} \approx 0.7071$. (The digit's own variance is below 1, so the noise is already the stronger of the two there.)
#
# ## 6. What breaks
#
# `torch.randn` draws from the normal distribution. One letter less, `torch.rand`, draws evenly between 0 and 1. Somebody starts the walk from that. Nothing stops with an error. What will the drawings look like?
#
# The sampler has a dial, $\eta$ ("eta"): with `eta=0` it adds no fresh noise on the way, with `eta=1`, as in section 1, it adds some in every stride. Above each panel stands the share of the 30 drawings that the judge reads with confidence. (A high share proves little, as section 2 showed. A low one is a bad sign.)

# %%
even = torch.rand(30, 1, 28, 28, generator=rng.manual_seed(3))
broken = {
    "randn, eta = 0": walk_back(x_T[:30], eta=0.0)[-1].x_t.cpu(),
    "rand, eta = 0": walk_back(even, eta=0.0)[-1].x_t.cpu(),
    "rand, eta = 1": walk_back(even, eta=1.0)[-1].x_t.cpu(),
}
fig, axes = lab.figure(3, width=10, height=1.5)
confident = {name: judge.judge_images(network, x, real).confident for name, x in broken.items()}
for ax, (name, x) in zip(axes, broken.items(), strict=True):
    lab.draw_images(ax, x, 10)
    ax.set_title(f"{name}: confident {confident[name]:.2f}")
lab.show(fig, "30 drawings from normal noise, from even noise, and from even noise with eta = 1.")

# %% [markdown]
# Even noise has mean 0.5 and variance 1/12, where the network expects 0 and 1. With `eta=0` no fresh noise comes in, so the wrong start stays in the drawings. With `eta=1` the fresh noise washes most of it away, and the drawings look much better: **the mistake hides**. Mistakes in diffusion models often do. That is why this course checks numbers, and does not trust looks.

# %%
right_one, wrong, hidden = confident.values()
lab.claim("eta = 0, share confident: from rand minus from randn", wrong - right_one, below=0)
lab.claim("from rand, share confident: eta = 1 minus eta = 0", hidden - wrong, above=0)
print(
    f"even noise: mean {even.double().mean():.2f}, variance {even.double().var():.2f}, not 0 and 1"
)

# %% [markdown]
# ## 7. How a lesson works
#
# 1. A **question** is the title. The **picture** comes before the formula.
# 2. Then the **maths**. Each equation is executed: a check below it fails if the equation, or the code, is wrong. From lesson 01 on, the main equations have numbers.
# 3. The idea **from scratch** in a few lines; then the **package's version**, shown as it runs; a check that both agree.
# 4. An **experiment**, often with sliders.
# 5. **Predict, then run**: a guess makes you notice more. **What breaks**: one mistake, and how it shows.
# 6. **Exercises** that answer, and a **summary** with the next lesson.
#
# **Sliders without a mouse.** Press Tab until the slider is marked. The arrow keys move it by one, Page Up and Page Down by five, Home and End to its ends. You may also click on the number beside it, and type another. A picture that does not follow has no running kernel: run its cell, and those above it.
#
# **Exercises.** Write your answer in the cell with `# your line here`, run it, then run the cell below it. `lab.check` compares with the package, on fresh random numbers. It says "Not attempted yet", "Right", or what went wrong: many mistakes it knows by name. `lab.hint` shows one hint at a time; in a lesson it stands behind a `#`, which you take away. The solution is folded below. The next cell asks for the first hint of exercise 1:

# %%
lab.hint("00.1")

# %% [markdown]
# ## 8. A map of the course
#
# | no. | question | what you understand at its end | minutes |
# |---|---|---|---|
# | 00 | What will you be able to do? | how a lesson works | 30 |
# | 01 | [How does a gradient pass through a die?](01_reparameterization.ipynb) | gradients through random draws; merging noises | 75 |
# | 02 | [How does a picture turn into noise?](02_forward_process.ipynb) | the way into noise, step by step and at once | 80 |
# | 03 | [Why is the way back out of reach, and what is within reach?](03_posterior.ipynb) | one step back, when the clean data is known | 105 |
# | 04 | [How does a bound become a loss?](04_elbo.ipynb) | what a network should learn, and why | 160 |
# | 05 | [Can a network learn to walk back?](05_toy_2d.ipynb) | training and sampling, on points in the plane | 70 |
# | 06 | [Can it draw digits?](06_mnist.ipynb) | a network like that of section 1, trained in front of you | 85 |
# | 07 | [Can you learn a slope that nobody can tell you?](07_score_matching.ipynb) | three losses that learn the slope of a density; guessing noise is one | 95 |
# | 08 | [Can a slope and some noise draw new points?](08_langevin_ncsn.ipynb) | Langevin dynamics: drawing with a score alone, from much noise to little | 115 |
# | 09 | [How few calls of the network are enough?](09_sde_ode_samplers.ipynb) | the way back as an equation, with noise or without; ten calls, not a thousand | 120 |
# | 14 | [What is wrong with this code?](14_bug_museum.ipynb) | twelve mistakes that raise no error, found by measurement, named and mended | 90 |
# | 14b | [Can you find a mistake before you see the code?](14b_second_hall.ipynb) | more of them, from the symptom on: the code comes last | 50 |
#
# **To come**: 10 guidance; 11 ControlNet; 12 latent diffusion; 13 flow matching. Where a lesson names one of these, you can go on without it.
#
# An arrow means that a lesson builds on another:
#
# ```text
#  01 - - > 02 ----> 03 ----> 04     the theory
#            |
#            +-----> 05 ----> 06     the practice
#                     |
#                     +-----> 07 ----> 08 ----> 09     the score
# ```
#
# 02 needs one fact of 01: a sum of independent normal numbers is normal again. Who takes that on trust can begin with 02. 14, a museum of mistakes, comes after 05, and its second hall after 09. In a hurry? Take 02, 05 and 06; only section 9 of 06 uses 04.
#
# ## 9. Ten symbols
#
# | symbol | name in code | meaning |
# |---|---|---|
# | $T$ | `T` | the number of steps, here 1000 |
# | $t$ | `t` | a step, from 1 to $T$; 0 is clean data |
# | $x_0$ | `x0` | clean data |
# | $x_t$ | `x_t` | the state after step $t$ |
# | $x_T$ | `x_T` | where sampling starts: noise |
# | $\epsilon$ | `eps` | the noise in $x_t$ |
# | $\beta_t$ | `betas[t]` | the variance of the noise that step $t$ adds |
# | $\bar\alpha_t$ | `alpha_bars[t]` | what $t$ steps keep of the variance: the product of all $1-\beta_s$ up to $s = t$ |
# | $\hat\epsilon$ | `eps_hat` | the network's guess of $\epsilon$; a hat is a guess |
# | $\hat x_0$ | `x0_hat` | the guess of $x_0$ that follows from it |
#
# Row $t$ of every table belongs to step $t$, and row 0 is clean data: so a table has $T + 1$ rows. Functions that begin with `q_` are fixed; what begins with `p_` is learned. All symbols: [NOTATION.md](../NOTATION.md).

# %%
print("T:", schedule.T, "  rows of alpha_bars:", len(schedule.alpha_bars))
print(
    f"alpha_bars[0] = {schedule.alpha_bars[0]:.4f}, alpha_bars[500] = {schedule.alpha_bars[500]:.4f}"
)
product = torch.ones((), dtype=torch.float64)
for s in range(1, 501):
    product = product * (1 - schedule.betas[s])
torch.testing.assert_close(product, schedule.alpha_bars[500], rtol=1e-12, atol=0)

# %% [markdown]
# ## 10. Exercises
#
# **Exercise 1.** Write `dissolve(x0, alpha_bar_t, eps)`, the formula of section 4 for a batch of pictures. `x0` and `eps` have shape (B, 1, H, W). `alpha_bar_t` has shape (B,): one number for each picture, so give it more axes.


# %%
# STARTER
def dissolve(x0, alpha_bar_t, eps):
    return None  # your line here


# SOLUTION
def dissolve(x0, alpha_bar_t, eps):
    keep = alpha_bar_t[:, None, None, None]  # (B, 1, 1, 1): one number for each picture
    return keep.sqrt() * x0 + (1 - keep).sqrt() * eps


# %%
# lab.hint("00.1")
lab.check("00.1", dissolve)

# %% [markdown]
# **Exercise 2. Predict the number.** The pixels of $x_0$ have standard deviation 0.5. At some step $\bar\alpha_t = 0.36$. What is the standard deviation of the part of $x_t$ that comes from the digit, $\sqrt{\bar\alpha_t}\,x_0$?

# %%
# STARTER
std_of_digit_part = None  # your number here
# SOLUTION
std_of_digit_part = 0.36**0.5 * 0.5

# %%
# lab.hint("00.2")
lab.check("00.2", std_of_digit_part)

# %% [markdown]
# ## 11. Summary
#
# 1. Noise turns pictures into nothing, step by step; a network learns to walk back, and then draws new ones from pure noise.
# 2. At step $t$, the picture is the clean one times $\sqrt{\bar\alpha_t}$ plus noise times $\sqrt{1-\bar\alpha_t}$.
# 3. The squares of the two factors add up to 1, so data of variance 1 keep variance 1 at every step.
# 4. A number for quality needs company: what real data reaches, and what nonsense reaches.
# 5. Mistakes often hide behind good looks, so this course checks every equation by running it.
#
# | formula | function |
# |---|---|
# | $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ | `q_sample` |
# | $\bar\alpha_t$ for every $t$ | `cosine_schedule(T).alpha_bars` |
# | the walk back | `sample_chain`, `ddim_step`, `even_taus` |
# | the networks that come with the course | `pretrained.load` |
# | the judge | `judge.judge_images` |
#
# **References.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics* (2015), had the idea. Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020), made it work for pictures.
#
# **Next**: [01 · How does a gradient pass through a die?](01_reparameterization.ipynb)
