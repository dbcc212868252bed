# %% [markdown]
# # 00 · What will you be able to do?
#
# A **diffusion model** draws pictures that nobody drew. (Lesson 06 checks that they are no copies.) Take a picture and add a little noise, again and again, until nothing is left of it. A neural network watches this for many pictures, and learns to take one step back. Then it gets pure noise, walks back step by step, and arrives at a picture that never existed.
#
# **At the end you can**
# - draw digits from noise, and say in numbers how good they are;
# - say what such a network gets, and what it answers;
# - dissolve a digit in noise, and say what is left of it;
# - find your way through a lesson, its exercises, and the whole course.
#
# **You need** some PyTorch, and the mean and the variance of random numbers. No GPU. **Time**: five minutes to run and look, about 50 to read it all and do the exercises.
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
# The network comes with the course. It learned on MNIST's 60 000 handwritten training digits; 10 000 test digits it never saw. `schedule` says how much noise there is at each step $t$ from 1 to 1000; the walk back takes 50 long strides, to save time. We ask for the digits 0 to 9 in turn. The 60 digits below are drawn now, on your machine, within seconds. Lessons 05 and 06 explain every line of the code.

# %%
schedule = dc.cosine_schedule(1000)
model, about = pretrained.load("mnist")
strength = about["judge"]["guidance_scale"]  # how firmly we ask for a digit
taus = dc.even_taus(1000, 50)  # 1000, 980, ..., 20, 0


def walk_back(x, eta=1.0, start=1000, scale=strength):
    """Walk from step `start` to the digits 0, .., 9, 0, .. in long strides; return all strides."""
    labels = torch.arange(len(x), device=device) % 10
    asked = dc.classifier_free(model.to(device), labels, guidance_scale=scale)
    eps_model = dc.eps_model_from_v(schedule, asked)
    options = {"eta": eta, "clip": (-1, 1), "generator": rng}
    strides = [t for t in taus if t <= start]
    chain = dc.sample_chain(dc.ddim_step, schedule, eps_model, x.to(device), strides, **options)
    return list(chain)


n = lab.up_to(60, least=2)  # 60; only the tests of the course draw fewer
x_T = torch.randn(n, 1, 28, 28, generator=rng)
chain = walk_back(x_T)
drawn = chain[-1].x_t.cpu()
fig, (ax,) = lab.figure(width=8, height=1.3)
lab.draw_images(ax, drawn, 20)
lab.show(fig, "60 digits that nobody wrote: drawn from pure noise, each asked for by its label.")

# %% [markdown]
# Watch 30 of them come into being, in mixed order. Drag the slider, or press play. Left is the picture on its way, right what the network expects it to become. When can you first tell which digit it will be?

# %%
mixed = torch.randperm(len(x_T), generator=rng)[:30]
on_the_way = [x[mixed] for x in (x_T, *(step.x_t.cpu() for step in chain))]
expected = [x[mixed] for x in (*(step.x0_hat.cpu() for step in chain), drawn)]
fig, axes = lab.figure(2, width=9, height=1.9)
panels = [lab.draw_images(ax, x_T[:30], 10) for ax in axes]
axes[0].set_title("on the way")
axes[1].set_title("expected at the end")


def scrub_strides(done):
    """Show the pictures after some of the 50 strides."""
    for panel, pictures in zip(panels, (on_the_way[done], expected[done]), strict=True):
        panel.set_data(lab.image_grid(pictures, 10))
    return f"{done} of 50 strides done, t = {taus[done]}."


lab.Explorer(
    fig, panels, scrub_strides, {"done": lab.slider("strides done", 0, 50, 20)}, play="done"
)

# %% [markdown]
# ### What goes in, what comes out
#
# The network gets a noisy picture, the number $t$ of the step, which says how much noise there is, and a label: the digit that is asked for. It answers with a guess of the noise. (Ours answers with $v$, a mixture of noise and picture, from which both guesses follow: lesson 06.) Take the noise away (section 4's formula, solved for the clean picture), and a guess of it is left. In training we put the noise in ourselves, so it is known. The network is changed, little by little, until the squared error of its guess is small on average. That is all it learns. A step back goes a part of the way to the guess. Why not all of it at once? At large $t$ (drag it to 900 below) the guess is a blurred mean of many pictures; small steps let it settle on one.
#
# Below is a real 3. Move $t$, and tell the network another digit. (Both noises are shown at half strength.) When does it believe the picture, and when the label?

# %%
real_digits = data.images("test")
real = data.to_signed(real_digits.x)
first_of = {k: real[real_digits.labels == k][:1] for k in range(10)}
eps = torch.randn(1, 1, 28, 28, generator=rng.manual_seed(1))
fig, axes = lab.figure(5, width=11, height=2.5)
titles = "in: noisy picture", "out: guess of the noise", "known: the noise"
titles += "so: guess of the picture", "known: the picture"
parts = [lab.draw_images(ax, first_of[3], 1) for ax in axes]
for ax, title, part in zip(axes, titles, parts, strict=True):
    part.set_data(lab.image_grid(eps / 2 if title == titles[2] else first_of[3], 1))
    ax.set_title(title)
told = dict(transform=axes[1].transAxes, ha="center", va="bottom", color="w", backgroundcolor="k")
error = axes[1].text(0.5, 0.03, "", **told)
picture_error = axes[3].text(0.5, 0.03, "", **told | {"transform": axes[3].transAxes})

# %% [markdown]
# A widget: a figure, a function that moves what changes and returns a sentence, and controls.


# %%
def guess_noise(t, label):
    """Show what the network makes of a noisy 3 when it is told a label."""
    x_t = dc.q_sample(schedule, first_of[3], t, eps).to(device)
    asked = dc.classifier_free(model, torch.tensor([label], device=device))
    v = asked(x_t, torch.full((1,), t, device=device))
    eps_hat = dc.eps_from_v(schedule, x_t, v, t).cpu()
    guess = dc.x0_from_v(schedule, x_t, v, t).cpu()
    for part, picture in zip(
        (parts[0], parts[1], parts[3]), (x_t, eps_hat / 2, guess), strict=True
    ):
        part.set_data(lab.image_grid(picture, 1))
    error.set_text(f"squared error {(eps_hat - eps).square().mean():.4f}")
    picture_error.set_text(f"squared error {(guess - first_of[3]).square().mean():.4f}")
    return f"a real 3 at t = {t}; the network is told that it is a {label}."


controls = {"t": lab.slider("t", 1, 1000, 700), "label": lab.choice("label", list(range(10)), 3)}
lab.Explorer(fig, [parts[0], parts[1], parts[3], error, picture_error], guess_noise, controls)

# %% [markdown]
# With little noise the picture decides, and with much noise the label. The *noise* is easy to guess where there is much of it; the *picture* is, where there is little.
#
# ## 2. How good are they?
#
# A second network, the **judge**, was trained to read digits. It gives a probability to each of the ten digits. Three numbers come from it:
#
# - **confident**: the share of the drawings to which it gives more than 0.9 for one digit;
# - **shares**: how often it sees each digit. A network that draws only ones may be readable, but has learned little;
# - the **Fréchet distance**: how far the drawings, as a set, are from real digits. The judge turns a picture into 64 numbers, its *features*. The distance compares their means, variances, and how they vary together (formula in lesson 06).
#
# No number means anything alone. So real digits and pure noise stand beside each. The distance is given in multiples of the **floor**: how far a set of training digits, as many as were drawn, is by chance from the test digits.

# %%
judged = real[: lab.up_to(10_000)]  # all of them
network, _ = pretrained.load("judge")
of_real = judge.judge_images(network, judged, judged)
known = about["judge"]  # measured when the network was trained, on more drawings
as_many = lab.up_to(known["samples"])  # for the same floor
pure = torch.randn(as_many, 1, 28, 28, generator=rng)
pictures = {"pure noise": pure, "your 60": drawn}
verdicts = {name: judge.judge_images(network, x, judged) for name, x in pictures.items()}
many = f"{known['samples']} drawn"

# %% [markdown]
# Your 60 are too few for reliable shares, and a small set's distance is large by chance. So the network was also judged on many more drawings when it was trained; each digit was asked for equally often there. (With neither internet nor MNIST's files the real digits are scikit-learn's, which the judge reads less well; the figure then says so.)

# %%
confident = {name: verdict.confident for name, verdict in verdicts.items()}
confident |= {many: known["confident"], "real": of_real.confident}
distance = {"pure noise": verdicts["pure noise"].frechet, many: known["frechet"]}
distance = {name: d / known["frechet_floor"] for name, d in distance.items()} | {"floor": 1}
fig, axes = lab.figure(3, width=10, height=3)
axes[0].bar_label(axes[0].barh(list(confident), list(confident.values())), fmt=" %.3f")
axes[0].set(title="confident", xlabel="share of the pictures", xlim=(0, 1.3))
axes[1].bar(torch.arange(10) - 0.2, known["shares"], 0.4, color=lab.SKY, label=many)
shares = verdicts["pure noise"].shares
axes[1].bar(torch.arange(10) + 0.2, shares, 0.4, color=lab.ORANGE, hatch="//", label="pure noise")
axes[1].plot(torch.arange(10) - 0.2, of_real.shares, "o", color=lab.BLACK, label="real")
axes[1].set(title="shares", xlabel="digit", xticks=range(10))
axes[1].margins(y=0.3)
axes[1].legend()
axes[2].bar_label(axes[2].barh(list(distance), list(distance.values())), fmt=" %.1f")
axes[2].set(title="Fréchet distance", xlabel="multiples of the floor")
axes[2].margins(x=0.25)
fig.supxlabel(real_digits.note, fontsize="small", wrap=True)
lab.show(fig, "The judge on drawn digits, on real ones and on noise: confident, shares, distance.")

# %% [markdown]
# Look at the noise. The judge is sure there, too, and reads nearly all of it as one digit! It must choose among ten, it never saw noise in training, and nobody taught it to say "I do not know". So a high share of confident readings proves little alone; shares and distance give the noise away. Ask of every number: what would nonsense reach, and what real data? The drawings are read as surely as real digits, for we ask firmly: the network guesses with and without the label, and we go beyond the guess with it (06, 10). This makes digits more typical. 1.3 floors are far better than noise, and not yet real digits.
#
# The lines below are **claims**: what a number should be, and in brackets what it is on your machine, and whether the claim holds there.

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
# Now the other direction, which needs no network. Choose a digit and drag $t$ from 0 to 1000. We call the clean picture $x_0$, and the picture at step $t$ is $x_t$. Grey levels go from −1 (black) to 1 (white); noise goes beyond, and is shown as black or white. The curves show by how much the digit and the noise are multiplied. Where do you lose the digit?

# %%
signal, noise = schedule.alpha_bars.sqrt(), schedule.marginal_vars.sqrt()
fig, (left, right) = lab.figure(2, width=8, height=3.2)
picture = lab.draw_images(left, first_of[3], 1)
right.plot(signal, label="factor of the digit")
right.plot(noise, label="factor of the noise")
right.legend(loc="lower center")
right.set(xlabel="t", ylabel="factor", ylim=(-0.03, 1.03))
(here,) = right.plot([0, 0], [1, 0], "o", color=lab.BLACK)

# %% [markdown]
# The noise is that of section 1's real 3, and stays fixed:


# %%
def dissolve_slowly(t, digit):
    """Show a digit at step t."""
    picture.set_data(lab.image_grid(dc.q_sample(schedule, first_of[digit], t, eps), 1))
    here.set_data([t, t], [signal[t], noise[t]])
    return f"t = {t}: the digit {digit}, times {signal[t]:.3f}, plus noise, times {noise[t]:.3f}."


controls = {"t": lab.slider("t", 0, 1000, 300), "digit": lab.choice("digit", list(range(10)), 3)}
lab.Explorer(fig, [picture, here], dissolve_slowly, controls)

# %% [markdown]
# ## 4. The one formula
#
# The picture at step $t$ is the clean picture times one number, which falls from 1 to nearly 0, plus noise times another, which rises from 0 to nearly 1:
#
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon.$$
#
# - $\epsilon$ ("epsilon", `eps`) is the noise: for every pixel a number of its own from the normal distribution with mean 0 and variance 1;
# - $\bar\alpha_t$ ("alpha bar", `alpha_bars[t]`) is a number between 0 and 1 that the schedule gives to step $t$. It says what share of the digit's variance is left.
#
# Why the roots? Multiplying by $c$ multiplies a variance by $c^2$, and the variances of independent parts add. So the noise brings the variance $1-\bar\alpha_t$: just what the digit has lost, if its variance was 1. And why shrink the digit at all? So that the numbers keep their size. For data of variance 1 the network sees the same variance at every $t$; for our digits (0.39 for MNIST, section 5) it grows slowly to 1. And the last $x_t$ is noise that one can draw. In the package's version `factors` looks up the two numbers, and `combine` adds the parts:

# %%
lab.show_source(dc.q_sample)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: is one jump the same as 300 steps?
#
# At the top, noise was added *step by step*. The formula jumps to step $t$ at once. So the cell takes 300 small steps, one after the other (`q_step` is one step: the state times $\sqrt{1-\beta_t}$, plus noise of variance $\beta_t$), for three pixels: black, grey and white. It does so 20 000 times, and jumps 20 000 times. Mean and variance of both must be those of the formula, within five **standard errors**: by how much an average of finitely many draws is off, typically. For the mean of $n$ normal draws that is $\sqrt{\text{variance}/n}$; for their variance, the variance times $\sqrt{2/n}$.

# %%
t, n, rng = 300, 20_000, rng.manual_seed(2)
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
print(f"standard errors: {(var / n).sqrt():.4f} and {var * (2 / n) ** 0.5:.4f}")

# %% [markdown]
# ## 5. Predict, then run
#
# In the picture of section 3 the two factors cross near $t = 500$. So the noise has variance one half after half of the steps. What is its variance after a quarter of them: a quarter? And after three quarters? Write down two numbers before you run the cell.

# %%
half = int((noise >= signal).nonzero()[0])
print(f"the factors meet at t = {half}: {signal[half]:.4f} and {noise[half]:.4f}")
torch.testing.assert_close(signal**2 + noise**2, torch.ones(1001, dtype=torch.float64))
for t in (250, 500, 750):
    print(f"t = {t}: factor of the noise {noise[t]:.4f}, its variance {noise[t] ** 2:.4f}")
lab.claim("variance of our digits", real.var(), below=1)

# %% [markdown]
# Less than a quarter, and more than three quarters: the variance grows slowly at both ends. The *squares* of the two factors add up to 1, at every $t$. So they meet not at 0.5, but at $\sqrt{1/2} \approx 0.7071$. (Our digits have a variance below 1, so the noise is already stronger there.)
#
# ## 6. What breaks
#
# `torch.randn` draws from the normal distribution. One letter less, `torch.rand`, draws evenly between 0 and 1. Somebody starts the walk from that. Nothing stops with an error. What will the drawings look like?
#
# The sampler has a dial, $\eta$ ("eta"): with `eta=0` it adds no fresh noise on the way, with `eta=1`, as in section 1, it adds some in every stride but the last. Above each panel stands the share of the 30 drawings that the judge reads with confidence.

# %%
even = torch.rand(30, 1, 28, 28, generator=rng.manual_seed(3))
few = lab.up_to(30, least=2)
broken = {
    "randn, eta = 0": walk_back(x_T[:few], eta=0.0)[-1].x_t.cpu(),
    "rand, eta = 0": walk_back(even[:few], eta=0.0)[-1].x_t.cpu(),
    "rand, eta = 1": walk_back(even[:few], eta=1.0)[-1].x_t.cpu(),
}
fig, axes = lab.figure(3, width=10, height=1.5)
sure = {name: judge.judge_images(network, x, judged).confident for name, x in broken.items()}
for ax, (name, x) in zip(axes, broken.items(), strict=True):
    lab.draw_images(ax, x, 10)
    ax.set_title(f"{name}: confident {sure[name]:.2f}")
lab.show(fig, "30 drawings from normal noise, from even noise, and from even noise with eta = 1.")

# %% [markdown]
# Even noise has mean 0.5 and variance 1/12, where the network expects 0 and 1. Its mean is a grey veil; the network takes it for white strokes, and with `eta=0` no fresh noise corrects that. With `eta=1` the fresh noise washes most of it away, and the drawings look much better: **the mistake hides**. Mistakes in diffusion models often do. That is why this course checks numbers, and does not trust looks.

# %%
right_one, wrong, hidden = sure.values()
lab.claim("eta = 0, share confident: from rand minus from randn", wrong - right_one, below=0)
lab.claim("from rand, share confident: eta = 1 minus eta = 0", hidden - wrong, above=0)
print(
    f"even noise: mean {even.double().mean():.2f}, variance {even.double().var():.2f}, not 0 and 1"
)

# %% [markdown]
# ## 7. How a lesson works
#
# You have seen most of it: a question as title, the picture before the formula, sliders, a prediction, a mistake. Each equation is executed: a check below it fails if the equation, or the code, is wrong. What a first reader can skip stands folded under a heading "Deeper"; a click opens it.
#
# **Sliders without a mouse.** Press Tab until the slider is marked. The arrow keys move it by one step, Page Up and Page Down by five, Home and End to its ends. You may also click on the number beside it, and type another. A picture that does not follow has no running kernel: run its cell, and those above it.
#
# **Exercises.** Write your answer in the cell that says `# your …`, run it, then run the cell below it. `lab.check` compares with the package, on fresh random numbers. It says "Not attempted yet", "Right", or what went wrong: many mistakes it knows by name. If you are stuck, take the `#` away from `lab.hint`; each run shows one more hint. The solution is folded.
#
# ## 8. Exercises
#
# **Exercise 1. Predict the number.** The pixels of $x_0$ have standard deviation 0.5, and at some step $\bar\alpha_t = 0.36$. What is the standard deviation of $x_t$, to three decimals?
#
# Before you answer, see what somebody hears who took 0.8:

# %%
compare = lab.check  # the same check, on somebody else's answer
compare("00.1", 0.8)

# %% [markdown]
# And yours?

# %%
# STARTER
std_of_x_t = None  # your number here
# SOLUTION
std_of_x_t = (0.36 * 0.5**2 + 1 - 0.36) ** 0.5

# %%
# lab.hint("00.1")
lab.check("00.1", std_of_x_t)

# %% [markdown]
# **Exercise 2. Dissolve a digit of your own** (15 minutes). Write `dissolve(x0, alpha_bar_t, eps)`, the formula of section 4 for a batch of pictures. `x0` and `eps` have shape (B, 1, H, W). `alpha_bar_t` has shape (B,): one number for each picture, so give it more axes.


# %%
# STARTER
def dissolve(x0, alpha_bar_t, eps):
    return None  # your line here


# SOLUTION
def dissolve(x0, alpha_bar_t, eps):
    keep = alpha_bar_t[:, None, None, None]  # (B, 1, 1, 1): one number for each picture
    return keep.sqrt() * x0 + (1 - keep).sqrt() * eps


# %%
# lab.hint("00.2")
lab.check("00.2", dissolve)

# %% [markdown]
# Now draw a digit (left button; Shift takes away). A nine is there to begin with. Or give `lab.DrawingPad` a (28, 28) tensor from −1 (black) to 1 (white), or the path of a picture file.

# %%
down, across = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
ring = (1.7 - (torch.hypot(down - 9.5, across - 13) - 4.5).abs()).clamp(0, 1)
stroke = (1.7 - (across - 17.5).abs()).clamp(0, 1) * ((down > 8) & (down < 24))
pad = lab.DrawingPad(2 * torch.maximum(ring, stroke) - 1)
pad

# %% [markdown]
# Run this after each drawing. Above, your `dissolve` takes it to five steps. Below, the network walks back from each; nobody tells it a label. **Predict**: up to which $t$ does *your* digit come back?

# %%
ts = [100, 300, 500, 700, 900]
mine = pad.image.expand(5, -1, -1, -1)
alpha_bar_t = schedule.alpha_bars[ts].float()
fresh = torch.randn(5, 1, 28, 28, generator=rng.manual_seed(4))
noisy, by = dissolve(mine, alpha_bar_t, fresh), "your dissolve"
if noisy is None:
    noisy, by = (
        dc.q_sample(schedule, mine, torch.tensor(ts), fresh),
        "q_sample, until yours is there",
    )
back = [walk_back(x[None], start=t, scale=0)[-1].x_t.cpu() for x, t in zip(noisy, ts, strict=True)]
fig, (ax,) = lab.figure(width=8, height=3)
labels = ["your digit", *(f"t = {t}" for t in ts)]
lab.draw_images(ax, torch.cat([mine[:1], noisy, mine[:1], *back]), 6, labels=labels)
ax.set_xlabel(f"above: dissolved by {by}; below: walked back from there")
lab.show(fig, "Your digit, dissolved up to five steps, and what the network makes of each.")

# %% [markdown]
# The noise erases the fine lines first and the digit last; what is erased, the network invents. At $t = 900$ too little is left to tell which digit it was. Told no label, this small network also draws what is no digit (06). Draw a letter, a house, a 7 with a bar. What does it take them for?
#
# ## 9. A map of the course
#
# | no. | question | what you understand at its end | minutes |
# |---|---|---|---|
# | 00 | What will you be able to do? | how a lesson works | 50 |
# | 01 | [How does a gradient pass through a die?](01_reparameterization.ipynb) | gradients through random draws | 60 |
# | 02 | [How does a picture turn into noise?](02_forward_process.ipynb) | the way into noise | 65 |
# | 03 | [Why is the way back out of reach, and what is within reach?](03_posterior.ipynb) | one step back | 90 |
# | 04 | [How does a bound become a loss?](04_elbo.ipynb) | what a network should learn, and why | 80 |
# | 05 | [Can a network learn to walk back?](05_toy_2d.ipynb) | training and sampling in the plane | 80 |
# | 06 | [Can it draw digits?](06_mnist.ipynb) | the network, trained in front of you | 85 |
# | 07 | [Can you learn a slope that nobody can tell you?](07_score_matching.ipynb) | losses that learn the slope of a density | 95 |
# | 08 | [Can a slope and some noise draw new points?](08_langevin_ncsn.ipynb) | Langevin dynamics | 115 |
# | 09 | [How few calls of the network are enough?](09_sde_ode_samplers.ipynb) | the way back as an equation | 120 |
# | 10 | [Can you tell a diffusion model what to draw?](10_guidance.ipynb) | steering by labels, by known pixels | 120 |
# | 11 | [Can a trained network learn to follow your lines?](11_controlnet.ipynb) | ControlNet | 90 |
# | 12 | [Must diffusion work on pixels?](12_latent_diffusion.ipynb) | latent diffusion | 110 |
# | 13 | [Is there a straighter way to the data?](13_flow_matching.ipynb) | flow matching; one step | 110 |
# | 14 | [What is wrong with this code?](14_bug_museum.ipynb) | twelve mistakes that raise no error | 120 |
# | 14b | [Can you find a mistake before you see the code?](14b_second_hall.ipynb) | more of them | 135 |
# | 15 | [What changes when one process becomes many?](15_scaling_up.ipynb) | many processes | 90 |
#
# Arrows show what builds on what:
#
# ```text
#  01 - - > 02 ----> 03 ----> 04     the theory
#            |
#            +-----> 05 ----> 06     the practice
#                     |
#                     +-----> 07 ----> 08 ----> 09 ----> 13     the score
#                                                |
#                                                +-----> 10 ----> 11, 12   steering
# ```
#
# 02 needs one fact of 01: a sum of independent normal numbers is normal again. Who takes that on trust can begin with 02. 14 comes after 05, its second hall from 09 on, and 15 after 06; 12 also uses 04. In a hurry? Take 02, 05 and 06; only folded sections of 06 use 04.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the symbols of the course
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
# | $\alpha_t$ | `alphas[t]` | $1-\beta_t$: what step $t$ keeps of the variance |
# | $\bar\alpha_t$ | `alpha_bars[t]` | what $t$ steps keep of the variance: the product of all $1-\beta_s$ up to $s = t$ |
# | $\text{SNR}_t$ | `snr[t]` | $\bar\alpha_t/(1-\bar\alpha_t)$, the signal-to-noise ratio |
# | $\hat\epsilon$ | `eps_hat` | the network's guess of $\epsilon$; a hat is a guess |
# | $\hat x_0$ | `x0_hat` | the guess of $x_0$ that follows from it |
# | $\eta$ | `eta` | the share of fresh noise in a stride back: 0 none, 1 as in section 1 |
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
# ## 10. Summary
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
