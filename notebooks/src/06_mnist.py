# %% [markdown]
# # 06 · Can it draw digits?
#
# Lesson 05 moved points in the plane. A picture of a handwritten digit is a point, too, with 784 coordinates. The ideas stay. What has to change is the network, and this lesson takes it apart, trains it on real digits in front of you, and lets it draw.
#
# **At the end you can**
# - explain every block of a U-Net, and why it is there;
# - say what a network can be asked for besides the noise, and convert one answer into another;
# - train a diffusion model on images, and ask it for a digit;
# - recognise one common mistake of sampling by its look.
#
# **You need** lessons 02 and 05, and what a convolution is. **Time**: about 85 minutes, of which 3 to 4 are training on two CPU cores. A GPU is used by itself.

# %%
import math
from functools import partial

import torch
import torch.nn.functional as F

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, metrics, nets, pretrained

device = dc.default_device()
rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# These are the digits that the network will see: 28 × 28 pixels, from MNIST, written by hand by some hundreds of people. A pixel is a whole number from 0 to 255. We scale it to lie between −1 and 1, as in lesson 02.
#
# (Without a network connection and without the files, the lesson uses the small set of digits that comes with scikit-learn; then the figure says so.)

# %%
digits = data.images("train")
x0 = data.to_signed(digits.x)
fig, (ax,) = lab.figure(width=8, height=2.6)
lab.draw_images(ax, x0[:48], 16, note=digits.note)
lab.show(fig, "48 handwritten digits from the training set, in three rows.")
assert x0.shape[1:] == (1, 28, 28) and x0.min() == -1 and x0.max() == 1

# %% [markdown]
# ## 2. A network for pictures
#
# The network gets a noisy picture $x_t$ of shape (B, 1, 28, 28), where B is the number of pictures in a batch, and the step $t$ of each. It must return something of the same shape. To clean a pixel it needs two things at once: **the whole picture** (is this a 3 or an 8?) and **exact places** (where does the stroke end?).
#
# A **U-Net** gets both. It makes the picture smaller, so that far things come near; then larger again; and it hands the fine details straight across, by *skip connections*:
#
# ```text
# x_t -> fold -> stem -> block ------------- skip -------------> join -> block -> last -> unfold -> answer
#                          |                                      |
#                        down -> block -> attention -> block ->  up
# ```
#
# We look at the parts one by one, on a tiny batch.
#
# **Folding pixels into channels.** The layers that cost the most time are those at full size. So the first step cuts the picture into squares of 2 × 2 pixels and writes the four pixels of a square below one another, as four channels. Nothing is lost, and there are four times fewer places to work on.

# %%
tiny = torch.arange(16.0).reshape(1, 1, 4, 4)
folded = F.pixel_unshuffle(tiny, 2)
print("one 4 x 4 picture:", tiny[0, 0].int().tolist())
print("folded, 4 channels of 2 x 2:", folded[0].int().tolist())
torch.testing.assert_close(F.pixel_shuffle(folded, 2), tiny, rtol=0, atol=0)

# %% [markdown]
# **Telling it the time.** The same network serves all $t$, so it must know $t$. A plain number between 1 and 1000 is hard to use. Instead, $t$ becomes a vector of sines and cosines, some slow, some fast, like the hands of a clock:
#
# $$\big(\cos(\omega_1 t), \dots, \cos(\omega_k t),\ \sin(\omega_1 t), \dots, \sin(\omega_k t)\big),\qquad \omega_i = 10000^{-(i-1)/k}.$$
#
# Here $k = 64$: the first 64 entries are cosines, the last 64 are sines. What matters: no step is confused with another, and the vector nearest to that of $t$ is that of $t-1$ or of $t+1$. The cell tests this for every $t$, and shows the first 250 vectors.

# %%
every_t = torch.arange(1, 1001)
clock = nets.timestep_embedding(every_t, 128)
distance = torch.cdist(clock, clock, compute_mode="donot_use_mm_for_euclid_dist")
nearest = distance.fill_diagonal_(torch.inf).argmin(1)
assert ((nearest - torch.arange(1000)).abs() == 1).all()
fig, (ax,) = lab.figure(width=6, height=2)
shown = {"aspect": "auto", "cmap": "cividis", "interpolation": "nearest"}
image = ax.imshow(clock[:250].T, vmin=-1, vmax=1, **shown)
fig.colorbar(image, label="value")
ax.set(xlabel="t", ylabel="entry of the vector")
lab.show(
    fig,
    "The vector of each t up to 250: top half cosines, bottom half sines, fast waves above slow.",
)

# %% [markdown]
# **Telling it the digit.** We also tell the network what a picture shows: its *label* $y$, from 0 to 9. A table, `label`, holds a learned vector for each label, and that vector is added to the one of $t$. The table has an eleventh row, number `null_label` = 10. The network gets it when it is told nothing. So one network can answer with a label and without.
#
# **The residual block** does most of the work. It does three things twice: normalise, bend, convolve. *Normalise* is GroupNorm: the channels of each picture are put into 8 groups, each group is brought to mean 0 and variance 1, and then each channel gets a learned factor and shift. It never looks at the other pictures of the batch. *Bend* is SiLU, $x \cdot \mathrm{sigmoid}(x)$, a smooth step between 0 and $x$. Between the two convolutions the block is told $t$: a linear map (`from_t`) makes one number for each channel, and that number is added at every pixel. The *shortcut* adds the input to the output; where the number of channels changes, it is a 1 × 1 convolution. At the start of training the second convolution is zero. So a new block is its shortcut alone, and learns only what to *add*.
#
# **Self-attention** lets every place look at every other. Three linear maps make three vectors of each place: a *query* $q$ (what it looks for), a *key* $k$ (what it has to offer) and a *content* $c$ (what it hands over; `v` in the code). These letters are used only here: $q$ is no distribution, $k$ is not the 64 above, and `v` is not the $v$ of section 3. Place $i$ gets
#
# $$\sum_j w_{ij}\,c_j, \qquad w_{ij} = \mathrm{softmax}_j\big(q_i\cdot k_j/\sqrt{d}\big),$$
#
# where $d$ is the length of $q$. The weights are positive and sum to 1; they are large where key $j$ fits query $i$. That line is `scaled_dot_product_attention`. The 64 channels are cut into 4 parts of $d = 16$, the *heads*, each with weights of its own, and the result is added to the input. The cell below computes one head by hand, on $7 \cdot 7 = 49$ places. There are as many weights as pairs of places: $49^2$ at 7 × 7, but $784^2$ at 28 × 28. So it stands only where the picture is smallest.

# %%
lab.show_source(nets.ResBlock, nets.SelfAttention)
q, k, c = torch.randn(3, 49, 16, generator=rng, dtype=torch.float64)
weights = (q @ k.T / 16**0.5).softmax(-1)
torch.testing.assert_close(weights @ c, F.scaled_dot_product_attention(q, k, c))
print(
    f"weights of one place: from {weights[0].min():.4f} to {weights[0].max():.4f}, sum {weights[0].sum():.4f}"
)
print(f"the lowest value of SiLU: {F.silu(torch.linspace(-5, 5, 10_001)).min():.4f}")

# %% [markdown]
# **Down** is a 3 × 3 convolution at every second pixel: 14 × 14 becomes 7 × 7, and 32 channels become 64. **Up** repeats each pixel two by two; then a 3 × 3 convolution makes 32 channels again.
#
# **The skip connection.** What the fine level knew before *Down* was kept. It is laid beside what comes from *Up*: 32 + 32 = 64 channels (`torch.cat`). A residual block makes 32 of them. So the exact places, lost at 7 × 7, are there again.
#
# The first convolution, `stem`, makes 32 channels of the 4 folded ones. A small network, `time`, works on the vector of $t$ before the blocks get it. The last convolution makes 4 channels again, and unfolding makes one picture of them. It starts at zero, too: a new network answers 0. The whole way, in the network's own code:

# %%
lab.show_source(nets.UNet.forward)

# %% [markdown]
# Let us send two noisy pictures through, and print the shape after each part: (pictures, channels, height, width). `time` is the vector of $t$, and `label` that of the digit. Folding takes 28 to 14 before `stem`; unfolding takes 14 to 28 after `last`. `down_blocks`, `middle_in`, `middle_out` and `up_blocks` are residual blocks; `norm` is a last GroupNorm.

# %%
unet = nets.UNet(classes=10)
shapes = []
for name, part in unet.named_children():
    for i, block in enumerate(part if isinstance(part, torch.nn.ModuleList) else [part]):
        label = f"{name}[{i}]" if isinstance(part, torch.nn.ModuleList) else name
        block.register_forward_hook(
            lambda m, a, y, label=label: shapes.append((label, tuple(y.shape)))
        )
out = unet(
    torch.randn(2, 1, 28, 28, generator=rng), torch.tensor([1, 1000]), y=torch.tensor([3, 8])
)
print("picture         (2, 1, 28, 28)")
for label, shape in shapes:
    print(f"{label:16s}{shape}")
parameters = sum(p.numel() for p in unet.parameters())
print(f"result          {tuple(out.shape)}; {parameters:,} parameters")
assert out.shape == (2, 1, 28, 28) and out.abs().max() == 0

# %% [markdown]
# The last layer has no bend behind it. Its answer must take both signs, and a SiLU is never below −0.28.
#
# ## 3. What to ask for: noise, picture, or a bit of both
#
# In lesson 05 the network guessed the noise $\epsilon$. It could as well guess the clean $x_0$: each follows from the other, once $x_t$ is known. But the two are not equally easy to use:
#
# - Near $t = T$ the picture is nearly all noise. To get $\hat x_0$ from $\hat\epsilon$ we divide by $\sqrt{\bar\alpha_t}$, which is tiny there, so a small error becomes a huge one.
# - Near $t = 0$ it is the other way round: $\hat\epsilon$ from $\hat x_0$ divides by $\sqrt{1-\bar\alpha_t}$.
#
# There is a quantity in between, called $v$:
#
# $$v = \sqrt{\bar\alpha_t}\;\epsilon - \sqrt{1-\bar\alpha_t}\;x_0. \tag{22}$$
#
# Why this one? Write $\sqrt{\bar\alpha_t} = \cos\varphi$ and $\sqrt{1-\bar\alpha_t} = \sin\varphi$, which we may, as their squares sum to 1. Then $x_t = \cos\varphi\,x_0 + \sin\varphi\,\epsilon$ and $v = \cos\varphi\,\epsilon - \sin\varphi\,x_0$. So $(x_t, v)$ is the pair $(x_0, \epsilon)$ *turned* by the angle $\varphi$. Turning back by the same angle gives
#
# $$x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v, \qquad \epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v.$$
#
# No division anywhere. The sampler needs both $\hat x_0$ and $\hat\epsilon$. Put the network's answer $\hat v$ in the place of $v$. If it is wrong by $\delta$, then $\hat x_0$ is wrong by $\sqrt{1-\bar\alpha_t}\,\delta$ and $\hat\epsilon$ by $\sqrt{\bar\alpha_t}\,\delta$: never by more than $\delta$. If $\epsilon$ is asked, $\hat x_0$ is wrong by $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,\delta$; if $x_0$ is asked, $\hat\epsilon$ is wrong by $\sqrt{\bar\alpha_t/(1-\bar\alpha_t)}\,\delta$. The first factor is huge near $t = T$, the second near $t = 0$.
#
# The cell checks the way back, and measures the larger of the two errors for each of the three questions, with $\delta = 0.01$. The schedule is now *cosine* with $T = 1000$: lesson 02 showed that it keeps pictures readable for longer.

# %%
schedule = dc.cosine_schedule(1000)
clean, eps = x0[:64].double(), torch.randn(64, 1, 28, 28, generator=rng).double()
delta = 0.01
print("   t   eps asked   x0 asked    v asked")
for t in (1, 250, 500, 750, 1000):
    x_t, v = dc.q_sample(schedule, clean, t, eps), dc.v_target(schedule, clean, eps, t)
    torch.testing.assert_close(dc.x0_from_v(schedule, x_t, v, t), clean, rtol=0, atol=1e-12)
    torch.testing.assert_close(dc.eps_from_v(schedule, x_t, v, t), eps, rtol=0, atol=1e-12)
    x0_by_eps = (dc.x0_from_eps(schedule, x_t, eps + delta, t) - clean).abs().max().item()
    eps_by_x0 = (dc.eps_from_x0(schedule, x_t, clean + delta, t) - eps).abs().max().item()
    x0_by_v = (dc.x0_from_v(schedule, x_t, v + delta, t) - clean).abs().max().item()
    eps_by_v = (dc.eps_from_v(schedule, x_t, v + delta, t) - eps).abs().max().item()
    asked = max(x0_by_eps, delta), max(eps_by_x0, delta), max(x0_by_v, eps_by_v)
    print(f"{t:4d}" + "".join(f"   {error:9.4f}" for error in asked))
    assert asked[2] <= delta + 1e-9

# %% [markdown]
# So this network predicts $v$. Everything else in the package asks for an `eps_model`. One line makes one from the other: `eps_model_from_v(schedule, v_model)`. Does that bring the division back, when $\hat x_0$ is computed from $\hat\epsilon$? In the formulas it cancels: the error of $\hat\epsilon$ is $\sqrt{\bar\alpha_t}\,\delta$, and dividing by $\sqrt{\bar\alpha_t}$ enlarges it to $\delta$ at most. What does not cancel is rounding: $\hat\epsilon$ is stored with about seven digits, and the error of the last is divided by $\sqrt{\bar\alpha_t}$.
#
# As a target of training, too, $v$ is the same question with other weights. At a given $x_t$ the formulas above give $\epsilon-\hat\epsilon = \sqrt{\bar\alpha_t}\,(v-\hat v)$. So $|v-\hat v|^2 = |\epsilon-\hat\epsilon|^2/\bar\alpha_t$: large $t$ counts more.
#
# ## 4. From scratch, and the package's version
#
# Algorithm 1 with $v$ in the place of $\epsilon$:

# %%
alpha_bars = schedule.alpha_bars.float()


def v_loss_from_scratch(model, x0, rng):
    """One round of Algorithm 1 for a network that predicts v."""
    t = torch.randint(1, 1001, (len(x0),), generator=rng)
    eps = torch.randn(x0.shape, generator=rng)
    keep = alpha_bars[t][:, None, None, None]  # (B, 1, 1, 1)
    x_t = keep.sqrt() * x0 + (1 - keep).sqrt() * eps
    v = keep.sqrt() * eps - (1 - keep).sqrt() * x0
    return (v - model(x_t, t)).square().mean()


# %%
lab.show_source(dc.v_loss)

# %% [markdown]
# A new U-Net answers 0 whatever it is asked, so it would not notice a wrong $x_t$ or $t$. We compare on a function that needs both.


# %%
def probe(x_t, t):
    return x_t * (t / 1000)[:, None, None, None]


ours = v_loss_from_scratch(probe, x0[:32], rng.manual_seed(1))
theirs = dc.v_loss(schedule, probe, x0[:32], generator=rng.manual_seed(1))
torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
print("v-loss from scratch and by the package: the same number")

# %% [markdown]
# ## 5. Training
#
# **Predict first.** Training takes 3000 steps, each with 32 digits; the bar shows how long it will take on your machine. You may stop it early (the stop button), and the rest works with what the network has learned by then. Four times on the way, the average of the weights (EMA, lesson 05) draws the digits 0 to 9 from the *same* noise, as section 6 will do and explain, but in 20 steps. What will you see after 2 % of the training, and after 30 %: noise, blobs, strokes, or digits?
#
# Nine times in ten the network is told the label. One time in ten `drop_labels` puts `null_label` in its place, so that the network learns to answer without, too. Section 6 needs both answers. A batch is a pair now, pictures and labels, and `train` hands both to the loss. (`partial(model, y=y)` is the function `model` with the labels already given.)


# %%
def labelled_loss(model, x0, y):
    """Ask for v with the label, one time in ten without."""
    y = dc.drop_labels(y, model.null_label, share=0.1, generator=rng)
    return dc.v_loss(schedule, partial(model, y=y), x0, generator=rng)


# %% [markdown]
# Two details. The trial in `bf16_is_faster` asks whether this machine computes faster with 16-bit numbers, and they are used only if so. `minibatches` gives batches of digits in random order, without end.

# %%
model = nets.UNet(classes=10).to(device)
ema = dc.EMA(model, decay=0.997)
every_row = torch.arange(len(x0))
drawn_rows = data.minibatches(every_row, 32, generator=rng)
batches = ((x0[rows], digits.labels[rows]) for rows in drawn_rows)
trial = partial(dc.v_loss, schedule, generator=torch.Generator().manual_seed(1))
half = torch.bfloat16 if dc.bf16_is_faster(model, trial, x0[:32].to(device)) else None
noise = torch.randn(10, 1, 28, 28, generator=rng).to(device)
told = dc.eps_model_from_v(schedule, partial(ema.model, y=torch.arange(10, device=device)))
guided = dc.classifier_free(ema.model, torch.arange(10, device=device), guidance_scale=1.5)
asked = dc.eps_model_from_v(schedule, guided)
previews = [0.02, 0.08, 0.3, 1.0]

# %% [markdown]
# `train` calls a function of ours after each step, with the share of the training that is done. Ours draws the previews.


# %%
def preview(done):
    """Draw the digits 0 to 9 four times during the training."""
    if previews and done >= previews[0]:
        chance = torch.Generator().manual_seed(2)  # the same fresh noise each time
        options = {"eta": 1.0, "clip": (-1, 1), "generator": chance}
        taus = dc.even_taus(1000, 20)
        *_, last = dc.sample_chain(dc.ddim_step, schedule, asked, noise, taus, **options)
        fig, (ax,) = lab.figure(width=6.5, height=0.8)
        lab.draw_images(ax, last.x_t, 10)
        lab.show(fig, f"The digits 0 to 9 after {previews.pop(0):.0%} of the training.")


history = dc.train(
    model,
    labelled_loss,
    batches,
    steps=3000,
    lr=4e-3,
    ema=ema,
    autocast=half,
    on_progress=preview,
)

# %% [markdown]
# Compare one digit along the four pictures: what was right first, and what came last? Did every digit get better each time?
#
# The loss says much less. Its lowest value is not 0 (lesson 05), and here we do not know it. A network that always answers 0 has the mean of $v^2$ as its loss. By (22) that is $\bar\alpha_t$ times the mean of $\epsilon^2$, which is 1, plus $1-\bar\alpha_t$ times the mean of $x_0^2$, which is below 1. So that loss is a little below 1. Small gains in the loss can be large gains in the drawings. (If you stopped the training early, the claims below say that they were not checked.)

# %%
smooth = torch.tensor(history.losses).unfold(0, min(100, len(history.losses)), 1).mean(1)
fig, (ax,) = lab.figure(width=7, height=2.8)
ax.semilogy(smooth)
ax.set(xlabel="training step", ylabel="v-loss, mean of 100 steps")
lab.show(fig, "The loss falls fast at first, then slowly until the end.")
lab.claim("loss at the end", smooth[-1], below=0.25, history=history)

# %% [markdown]
# ## 6. Drawing
#
# To draw, start from noise and walk from $t = 1000$ to 0. We need not take all 1000 steps. `ddim_step` can jump from $t$ to any earlier $s$: it guesses $\hat x_0$ and $\hat\epsilon$, and puts them together again with less noise. The list of times that a walk visits is called `taus`: `even_taus(1000, 50)` gives 1000, 980, ..., 20, 0. `sample_chain` takes one step from each to the next. Without fresh noise (`eta=0`) that is formula (4) read at the step $s$, with guesses in the place of $x_0$ and $\epsilon$:
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s}\;\hat\epsilon.$$
#
# With `eta=1` a part of $\hat\epsilon$ is replaced by fresh noise; for $s = t-1$ that is exactly a step of Algorithm 2. A later lesson is about it. The formula, checked on one step from 500 to 400:

# %%
t, s, scale = 500, 400, schedule.alpha_bars.sqrt()
step = dc.ddim_step(schedule, told, noise, t, s)
eps_hat = told(noise, torch.full((10,), t, device=device))
x_s = scale[s].item() * step.x0_hat + schedule.marginal_vars[s].sqrt().item() * eps_hat
torch.testing.assert_close(step.x_t, x_s, rtol=1e-3, atol=1e-3)

# %% [markdown]
# **Ask firmly.** Told a label, the network answers $\hat v(x_t, t, y)$; told none, $\hat v(x_t, t)$. The difference of the two is what the label changes. We can go further in that direction than the network does:
#
# $$\hat v(x_t, t) + w\,\big[\hat v(x_t, t, y) - \hat v(x_t, t)\big].$$
#
# $w = 0$ ignores the label, $w = 1$ is the network's own answer with the label, and we take $w = 1.5$ (`guidance_scale`). This is *classifier-free guidance*. What section 8 says of the drawings it says of network and guidance together. A later lesson says which density they then come from.
#
# It makes no difference whether $v$ is guided, or $\epsilon$. The formula is the same as $(1-w)\,\hat v(x_t, t) + w\,\hat v(x_t, t, y)$. By section 3, $\hat\epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v$. The factors $1-w$ and $w$ sum to 1, so the part with $x_t$ comes out whole. The cell checks three things on your network: $w = 0$ ignores the label, $w = 1$ is the answer with the label, and guiding $v$ is guiding $\epsilon$.

# %%
v, y, times = ema.model, torch.arange(10, device=device), torch.full((10,), t, device=device)
at_0, at_1, at_w = (dc.classifier_free(v, y, guidance_scale=w)(noise, times) for w in (0, 1, 1.5))
torch.testing.assert_close(at_0, v(noise, times))
torch.testing.assert_close(at_1, v(noise, times, y))
eps_0, eps_1, eps_w = (dc.eps_from_v(schedule, noise, v_hat, t) for v_hat in (at_0, at_1, at_w))
torch.testing.assert_close(eps_w, eps_0 + 1.5 * (eps_1 - eps_0), rtol=1e-4, atol=1e-4)

# %% [markdown]
# Now draw, in 50 steps. `clip=(-1, 1)` moves every guess $\hat x_0$ into the range that pixels have. After that, $\hat x_0$ and $\hat\epsilon$ no longer make up $x_t$. So $\hat\epsilon$ is computed again, from $x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\hat\epsilon$ solved for $\hat\epsilon$. As many zeros are asked for as ones, and so on.


# %%
def draw(n, network=ema.model, *, steps=50, seed=7, step=dc.ddim_step, eta=1.0):
    """Ask a network for n digits; return every step of the chain, on the CPU."""
    start = torch.randn(n, 1, 28, 28, generator=rng.manual_seed(seed)).to(device)
    labels = torch.arange(n, device=device) % 10
    guided = dc.classifier_free(network, labels, guidance_scale=1.5)
    eps_model, taus = dc.eps_model_from_v(schedule, guided), dc.even_taus(schedule.T, steps)
    options = {"eta": eta, "clip": (-1, 1), "generator": rng}
    chain = dc.sample_chain(step, schedule, eps_model, start, taus, **options)
    return [dc.Step(t, x_t.cpu(), x0_hat.cpu()) for t, x_t, x0_hat in chain]


drawn = draw(300)[-1].x_t
fig, (ax,) = lab.figure(width=8, height=3.3)
lab.draw_images(ax, drawn[:160], 20)
lab.show(fig, "160 digits drawn by the network, each from a picture of pure noise; 0 to 9 in turn.")

# %% [markdown]
# Now watch 20 of them come into being. Drag the slider, or press play. Left is the state after a step, right the guess $\hat x_0$ from which that step was made. Then change the rest. Are drawings with 20 steps worse than those with 100? Which of them stay the same with another number of steps, those with `eta=0` or with `eta=1`?

# %%
etas, step_counts, seeds = {"eta = 1": 1.0, "eta = 0": 0.0}, [20, 50, 100], [1, 2]
chains = {
    (name, steps, seed): draw(20, steps=steps, seed=seed, eta=etas[name])
    for name in etas
    for steps in step_counts
    for seed in seeds
}
fig, axes = lab.figure(2, width=7.5, height=2.6)
left = lab.draw_images(axes[0], drawn[:20], 5)
right = lab.draw_images(axes[1], drawn[:20], 5)
axes[0].set_title("x_t")
axes[1].set_title("x0_hat")

# %% [markdown]
# All chains are there already: the controls only choose what is shown.


# %%
def scrub_digits(percent, sampler, steps, seed):
    """Show a chain after some of its steps."""
    done = percent * steps // 100
    step = chains[sampler, steps, seed][done - 1]
    left.set_data(lab.image_grid(step.x_t, 5))
    right.set_data(lab.image_grid(step.x0_hat, 5))
    return f"{sampler}, seed {seed}: {done} of {steps} steps done, t = {step.t}."


controls = {
    "percent": lab.slider("steps done in %", 5, 100, 70, step=5),
    "sampler": lab.choice("sampler", list(etas)),
    "steps": lab.choice("steps", step_counts, 50),
    "seed": lab.choice("seed", seeds),
}
lab.Explorer(fig, [left, right], scrub_digits, controls, play="percent")

# %% [markdown]
# With `eta=0` the start decides nearly everything: with more steps, a drawing changes little. With `eta=1` fresh noise enters at every step, so another number of steps gives other drawings.
#
# ## 7. How good are they?
#
# Count by eye first: how many of the 160 would you accept? A number is harder to come by for pictures than for points. Two simple questions can be answered here.
#
# **Are the drawings like digits?** The energy distance of lesson 05 works in any number of dimensions. As a yardstick, noise is measured too: each pixel is drawn by itself, from a normal distribution with the mean and variance of that pixel in the training set, and cut off at −1 and 1. All are multiples of the floor, the distance that real digits have among themselves.
#
# **Are they copies?** For each drawing we find the nearest training picture. If drawings were copies, those distances would be near 0. They are compared with those of real test digits, which cannot be copies, and of pixel noise.

# %%
test_digits = data.to_signed(data.images("test").x)
pool = test_digits.flatten(1)


def fresh_real(n):
    """Draw n real digits that the network has never seen."""
    return pool[torch.randperm(len(pool), generator=rng)[:n]]


n = min(256, len(pool) // 4)
floor = metrics.floor(metrics.energy_distance, fresh_real, n)
flat = x0.flatten(1)
pixel_noise = flat.mean(0) + flat.std(0) * torch.randn(n, 784, generator=rng)
pixel_noise = pixel_noise.clamp(-1, 1)
scores = {
    "drawn": drawn[:n].flatten(1),
    "pixel noise": pixel_noise,
}
scores = {
    k: float(metrics.energy_distance(x, fresh_real(n))) / floor.mean for k, x in scores.items()
}

# %% [markdown]
# `nearest_distances` compares each picture with every training picture. The distance of two pictures is the root of the sum of their squared differences, pixel by pixel. In the right-hand panel the box holds the middle half of the distances, the line in it is the median, and circles are single pictures far from the rest.

# %%
compared = {"drawn": drawn[:n].flatten(1), "real": fresh_real(n), "pixel noise": pixel_noise}
gaps = {name: judge.nearest_distances(x, flat) for name, x in compared.items()}
fig, axes = lab.figure(2, width=10, height=2.8)
axes[0].barh(list(scores), list(scores.values()), color=lab.SKY)
axes[0].axvline(1, color=lab.BLACK, ls=":", label="the floor: real digits")
axes[0].set(xlabel="energy distance, multiples of the floor", title="Are they like digits?")
axes[0].legend(loc="lower right")
axes[1].boxplot(list(gaps.values()), tick_labels=list(gaps), orientation="horizontal")
axes[1].set(xlabel="distance to the nearest training picture", title="Are they copies?")
axes[1].set_xlim(left=0)
lab.show(
    fig,
    "Left: distance of drawings and pixel noise to real digits. Right: to the nearest training picture.",
)
# %% [markdown]
# The claims below should hold on every machine, so they are cautious ones. (The first needs MNIST: scikit-learn's digits are too few for it.) The figure says more: a median speaks for most drawings, not for all, and a single copy would be a circle near 0.

# %%
claim = partial(lab.claim, history=history)  # it says so, if the training was stopped early
nearer = scores["drawn"] / scores["pixel noise"]
claim("energy distance, drawn / pixel noise", nearer, below=1, digits=digits)
middle = {name: gap.median() for name, gap in gaps.items()}
claim("median distance to training, drawn / real", middle["drawn"] / middle["real"], above=0.5)
against_noise = middle["drawn"] / middle["pixel noise"]
claim("median distance to training, drawn / pixel noise", against_noise, below=1)

# %% [markdown]
# ## 8. A judge, and a network that trained for longer
#
# Would somebody else read our drawings as digits? Somebody else is here a **judge**: a small network that was trained to say which digit a real picture shows. Of the 10 000 test images of MNIST it names about 99 % rightly. For each picture it gives ten probabilities, one for each digit. We call a drawing *recognised* if one of them is above 0.9. (Lesson 00 called the judge *confident* then.)
#
# That share alone can be fooled: pure noise often passes, as lesson 00 showed, and a sampler that draws the same perfect 8 again and again is recognised every time. So the share of each digit belongs beside it, and so does a distance. The judge turns a picture into 64 numbers, its *features*, from which it decides. Take the mean $m$ and the covariance $C$ of the features of two sets of pictures. The **Fréchet distance** is the distance of the two Gaussians with these moments,
#
# $$D^2 = |m_1 - m_2|^2 + \mathrm{tr}\big(C_1 + C_2 - 2\,(C_1^{1/2} C_2\, C_1^{1/2})^{1/2}\big).$$
#
# In one dimension it is $(m_1-m_2)^2 + (\sigma_1-\sigma_2)^2$ with the standard deviations $\sigma$. The cell checks that on two sets of numbers.

# %%
a, b = torch.randn(1000, 1, generator=rng), 2 * torch.randn(1000, 1, generator=rng) + 1
by_hand = ((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2).sqrt()
assert abs(judge.frechet_distance(a, b) - by_hand.item()) < 1e-4
print("in one dimension the Fréchet distance is that of means and standard deviations")

# %% [markdown]
# The course brings a network of its own, with three times as many parameters. It was trained in the same way, for longer: `make train-mnist` does it again. (`about` says what made it, and what the judge found in 2000 of its drawings.) It draws from the same noise as yours.

# %%
shipped, about = pretrained.load("mnist")
opinion, _ = pretrained.load("judge")
by_shipped = draw(300, shipped.to(device))[-1].x_t
real_300 = fresh_real(300).reshape(-1, 1, 28, 28)
sets = {"yours": drawn, "shipped": by_shipped, "real": real_300}
verdicts = {name: judge.judge_images(opinion, x, test_digits) for name, x in sets.items()}
judged_floor = judge.frechet_floor(opinion, x0, test_digits, 300, generator=rng)

# %% [markdown]
# **Predict first.** Look at your drawings in section 6. The judge gets 300 like them. What share will it recognise?
#
# In the figure, the distance of each set is a multiple of the floor: the mean distance of 300 training digits to the test digits. "Real" are 300 of the test digits themselves, chosen at random, so their distance is about the floor, or below. (With scikit-learn's digits they are all the test digits, and it is 0.)

# %%
fig, axes = lab.figure(3, width=10, height=2.7, width_ratios=(1.3, 0.8, 1.2))
lab.draw_images(axes[0], by_shipped[:50], 10)
axes[0].set_title("drawn by the shipped network")
names = [f"{k}\n{v.frechet / judged_floor:.1f} x floor" for k, v in verdicts.items()]
bars = axes[1].bar(names, [v.confident for v in verdicts.values()], color=lab.SKY)
axes[1].bar_label(bars, fmt="%.2f")
axes[1].set(ylim=(0, 1.1), title="recognised; Fréchet distance", ylabel="share")
for k, (name, verdict) in enumerate(verdicts.items()):
    axes[2].bar(torch.arange(10) + 0.27 * (k - 1), verdict.shares, width=0.27, label=name)
axes[2].axhline(0.1, color=lab.BLACK, ls=":")
axes[2].set(xticks=range(10), xlabel="digit", ylabel="share", title="what was drawn")
axes[2].margins(y=0.4)
axes[2].legend(fontsize="small", loc="upper left")
lab.show(fig, "Digits of the shipped network; the share recognised; how often each digit is drawn.")
share = {name: verdict.confident for name, verdict in verdicts.items()}
large = about["judge"]["frechet"] / about["judge"]["frechet_floor"]
print(f"shipped network, {about['judge']['samples']} drawings: {large:.4f} x floor")
claim("share recognised, yours", share["yours"], at_least=0.75, digits=digits)
lab.claim("share recognised, the shipped network's", share["shipped"], at_least=0.9)

# %% [markdown]
# With 300 pictures the floor is high, and hides a small distance: "about 1 x floor" says no more than that. The printed number is from 2000 drawings, as in lesson 00. There the floor is lower, and the shipped network is seen to be off.
#
# A drawing may be readable and still be the wrong digit. We asked for 0, 1, ..., 9 in turn. Does the judge read the digit that was asked for?

# %%
asked_for = torch.arange(300) % 10
with torch.no_grad():
    obeyed = [(opinion(x).argmax(1) == asked_for).double().mean() for x in (drawn, by_shipped)]
claim("share that is the digit asked for, yours", obeyed[0], at_least=0.75, digits=digits)
lab.claim("share that is the digit asked for, the shipped network's", obeyed[1], at_least=0.9)

# %% [markdown]
# ## 9. What does a digit cost in bits?
#
# A model that gives a picture the probability $p(x_0)$ can pack it into a file of about $-\log_2 p(x_0)$ bits. We cannot compute $p(x_0)$. Lesson 04 computes a number that is never below $-\log p(x_0)$, called −ELBO. (If you have not read it, take the next sentences on trust, and look at the figure.) It is a sum with one term for each step, and the list of the terms is the *ledger*. The term $L_{t-1}$ says how far the network's step from $t$ to $t-1$ is from the best step, which knows $x_0$. The last step, from $t = 1$ to 0, must name a grey level from 0 to 255: a *decoder* gives each level a probability. Divided by $784\ln 2$, −ELBO is in bits per pixel.
#
# This is a question about all digits, so the network gets no label here. The variances of its steps are the posterior's, the default. All 1000 terms for many pictures would take minutes. So we compute them for 8 pictures only, see which $t$ matter most, and for the others draw only four $t$ each, more often where the terms are large. Dividing by the probability of the draw keeps the mean right (*importance sampling*).

# %%
eight, many = test_digits[:8].to(device), test_digits[-300:].to(device)
options = {"decoder": dc.discretized_decoder, "generator": rng}
shipped_eps = dc.eps_model_from_v(schedule, shipped)  # it is told t, and no label
terms = dc.elbo_terms(schedule, shipped_eps, eight, **options)
probs = dc.importance(terms)
estimate = dc.elbo_estimate(schedule, shipped_eps, many, probs=probs, draws=4, **options)
bits = dc.bits_per_dim(estimate.mean, 784)
bits_error = estimate.std_error / (784 * math.log(2))

# %% [markdown]
# For comparison: the same pictures as PNG files, one file for each (57 bytes of each, or 0.58 bits per pixel, are only its frame), and all of them packed together by gzip.


# %%
import gzip
import io

from PIL import Image


def png_bytes(picture):
    """Return the size of a picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture.numpy()).save(buffer, "PNG", optimize=True)
    return len(buffer.getvalue())


# %% [markdown]
# The left panel shows which steps cost most, with the last, $L_0$, as a dot; the right one the whole cost.

# %%
pixels = data.to_uint8(many.cpu())
costs = {
    "PNG": 8 * sum(png_bytes(picture) for picture in pixels) / pixels.numel(),
    "gzip": 8 * len(gzip.compress(pixels.numpy().tobytes(), 9)) / pixels.numel(),
    "shipped network": bits,
}
fig, axes = lab.figure(2, width=11, height=2.8, width_ratios=(1.2, 1))
axes[0].semilogy(range(2, 1001), terms.steps.mean(0).cpu()[2:] / (784 * math.log(2)))
axes[0].semilogy([1], [terms.recon.mean().item() / (784 * math.log(2))], "o", color=lab.BLACK)
axes[0].set(xlabel="t", ylabel="bits per pixel", title="the ledger's L_{t-1}, and L_0; 8 pictures")
axes[1].barh(list(costs), list(costs.values()), color=lab.SKY, xerr=[0, 0, bits_error])
axes[1].set(xlabel="bits per pixel", title=f"{bits:.2f} +- {bits_error:.2f} for the network")
lab.show(fig, "Left: what each step costs. Right: bits per pixel of PNG, gzip and the network.")
lab.claim("bits, the network / PNG", bits / costs["PNG"], below=1, digits=digits)
lab.claim("bits, the network / gzip", bits / costs["gzip"], above=1, digits=digits)

# %% [markdown]
# The network beats PNG, but not gzip, which packs all the pictures together. The small $t$ cost most: the last grey levels of a pixel are close to chance, and they must be paid for all the same, though nobody sees them. The loss of section 4 hardly looks at these steps. Both it and the ledger measure squared errors of the guess, but with other weights: at small $t$ an error weighs far more in the ledger. The loss was chosen for the eye, not for the shortest file. (Two folded sections follow: where the bits go, and a network that was asked for few.)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: where the bits go
#
# With $\sigma_t^2 = \tilde\beta_t$, the two Gaussians of a step differ in their means only. So for $t \ge 2$, with the *signal-to-noise ratio* $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$:
#
# $$L_{t-1} = \tfrac12\,\big(\mathrm{SNR}_{t-1} - \mathrm{SNR}_t\big)\,|x_0 - \hat x_0|^2. \tag{43}$$
#
# This is a sum over pixels. The check, at each, with a bad guess:

# %%
dice = torch.Generator().manual_seed(9)
four = clean[:4]
for t in (2, 300, 1000):
    x_t = dc.q_sample(schedule, four, t, generator=dice)
    guess = torch.randn(four.shape, generator=dice, dtype=torch.float64)
    q, p = dc.q_posterior(schedule, x_t, four, t), dc.p_step(schedule, x_t, guess, t)
    weight = (schedule.snr[t - 1] - schedule.snr[t]) / 2
    expected = weight * (four - guess) ** 2
    torch.testing.assert_close(dc.kl_divergence(q, p), expected, rtol=1e-6, atol=0)
print("(43) is the KL divergence of the step, at each pixel, for t = 2, 300 and 1000")

# %% [markdown]
# The network `bits` was trained for this sum alone, without labels (`make train-bits`); the next section says how it answers. In its schedule $\ln\mathrm{SNR}_t$ falls evenly from 13 to −9. So both ledgers are sorted by $\ln\mathrm{SNR}$. In each interval, each picture gets one $t$ by chance, whose term stands for all steps there. How far these go in $\ln\mathrm{SNR}$ is the interval's *width*.


# %%
@torch.no_grad()
def ledger_by_snr(schedule, x0_model, x0):
    """Return bits (22 intervals of ln SNR from -9 on, pictures, pixels), and the widths (22,)."""
    interval = schedule.snr.log().floor().clamp(min=-9)
    terms, widths = torch.zeros(22, len(x0), 784), torch.ones(22)
    for k in range(22):
        rows = 2 + (interval[2:] == k - 9).nonzero().flatten()
        if len(rows):
            t = rows[torch.randint(len(rows), (len(x0),), generator=dice)]
            weight = (schedule.snr[t - 1] - schedule.snr[t]) / 2 * len(rows) / math.log(2)
            x_t, t = dc.q_sample(schedule, x0, t.to(device), generator=dice), t.to(device)
            errors = (x0 - x0_model(x_t, t)).square().flatten(1).cpu()
            terms[k] = weight.float()[:, None] * errors
            widths[k] = (schedule.snr[rows - 1].log() - schedule.snr[rows].log()).sum()
    return terms, widths


bits_network, about_bits = pretrained.load("bits")
levels_schedule, some = bits_network.schedule, many[: 2 if dc.is_short_run() else 12]
bits_network = bits_network.to(device)

# %% [markdown]
# Left, the cost of an interval divided by its width. Dot and square are the whole of $L_0$, which pays for what is left when a schedule ends, near 10 and at 13. The maps show each pixel's cost in all steps but the last.


# %%
def shipped_x0(x_t, t):
    return dc.x0_from_v(schedule, x_t, shipped(x_t, t), t)


ledgers = {
    "asked for v": ledger_by_snr(schedule, shipped_x0, some),
    "grey levels": ledger_by_snr(levels_schedule, bits_network, some),
}
x_1, x_1_levels = (dc.q_sample(z, some, 1, generator=dice) for z in (schedule, levels_schedule))
with torch.no_grad():
    guess = shipped_x0(x_1, torch.ones(len(some), dtype=torch.int64, device=device))
    p = dc.Gaussian(guess, schedule.betas[1].to(guess).expand_as(guess))
    last = [dc.discretized_decoder(some, p, x_1), bits_network.decoder(some, None, x_1_levels)]
last_bits = [-log_p.mean().item() / (784 * math.log(2)) for log_p in last]

# %% [markdown]
# **Predict first:** what does a pixel cost that is black in every picture?

# %%
fig, axes = lab.figure(3, width=10, height=2.9, width_ratios=(1.5, 1, 1))
styles = {"color": lab.BLUE, "ls": "-"}, {"color": lab.ORANGE, "ls": "--"}
for (name, (table, widths)), L_0, ax, style, dot in zip(
    ledgers.items(), last_bits, axes[1:], styles, "os", strict=True
):
    axes[0].stairs(table.sum(2).mean(1) / 784 / widths, range(-9, 14), label=name, **style)
    axes[0].plot([15], [L_0], dot, color=style["color"])
    shown = table.sum(0).mean(0).view(28, 28).clamp(min=0.01)
    image = ax.imshow(shown, norm="log", vmin=0.01, vmax=10, cmap="cividis")
    ax.set(xticks=[], yticks=[], title=name)
fig.colorbar(image, ax=list(axes[1:]), label="bits")
axes[0].set_xticks([-9, -4, 1, 6, 11, 15], ["-9", "-4", "1", "6", "11", "$L_0$"])
axes[0].set(xlabel="ln SNR", ylabel="bits per pixel and unit", ylim=(-0.03, None))
axes[0].legend(fontsize="small", loc="upper left")
lab.show(fig, "Left: both ledgers by ln SNR, and L_0. Right: what each pixel costs in the steps.")

# %% [markdown]
# The $v$-network pays even in the corners, for two reasons. The map shows the smaller one.
#
# - **The noise.** $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v$ is black only where $\hat v$ repeats the pixel's noise to the last digit. By (43) an error $\delta$ of $\hat v$ costs about $\frac12\bar\alpha_t\,\delta^2$ nats for each unit of $\ln\mathrm{SNR}$.
# - **The decoder's width**, not in the map. At $t = 1$ the posterior's variance would be 0; the decoder takes $\beta_1$, and $\sqrt{\beta_1}$ is 0.8 of the distance of neighbouring levels. So even a black pixel guessed exactly costs the bits printed below, and four of five are black. A smaller $\beta_1$ leaves less to the decoder, and more units to pay.

# %%
never_ink = (x0 == -1).all(0).flatten()  # black in all training pictures
in_corners = [table[:, :, never_ink].mean().item() for table, _ in ledgers.values()]
black = torch.tensor([[-1.0]], dtype=torch.float64)
exactly = dc.Gaussian(black, schedule.betas[1].expand(1, 1))
cost = dc.bits_per_dim(-dc.discretized_decoder(black, exactly), 1).item()
print(f"L_0 of a black pixel that is guessed exactly: {cost:.4f} bits")
ratio = in_corners[1] / in_corners[0]
lab.claim("bits where no picture has ink, grey levels / v", ratio, below=0.1, digits=digits)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a network that says which grey levels it expects
#
# `bits` answers with four numbers at each pixel. They make a law $p_k > 0$ of the levels $l_k = 2k/255 - 1$, $k = 0..255$: a chance of black, one of white and, between, a logistic curve. Bayes' rule adds what the noisy pixel says:
#
# $$\hat x_0 = \sum_k l_k w_k, \qquad w = \mathrm{softmax}_k\Big(\ln p_k - \frac{(x_t - \sqrt{\bar\alpha_t}\,l_k)^2}{2(1-\bar\alpha_t)}\Big). \tag{44}$$
#
# For a pixel of law $p$ this is $\mathbb E[x_0\mid x_t]$. (The network sees $x_t$ before it says $p$, so $x_t$ counts twice; it can learn a $p$ that allows for it.) At $t = 1$, $w$ is the decoder: $L_0$ is the sum of $-\ln w$ at the true levels. The package, checked:

# %%
grey = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
a, b, centre, sharpness = answer = torch.tensor([0.5, -1.0, 0.2, 8.0], dtype=torch.float64)
black, white, between = torch.stack([a, b, torch.zeros_like(a)]).softmax(0)
curve = 1 - torch.tanh((1 + F.softplus(sharpness)) * (grey - centre) / 2) ** 2 + 1e-5
p = between * curve / curve.sum()
p[0], p[255] = p[0] + black, p[255] + white


def by_bayes(x_t, alpha_bar_t):
    """Return what the noisy pixel says of each level, and w of (44)."""
    said = -((x_t - alpha_bar_t.sqrt() * grey) ** 2) / (2 * (1 - alpha_bar_t))
    return said, (p.log() + said).softmax(0)


for t in (1, 300, 700):
    keep, x_t = levels_schedule.alpha_bars[t], torch.tensor(0.1, dtype=torch.float64)
    _, w = by_bayes(x_t, keep)
    pixel = [z.view(1, -1, 1, 1) for z in (answer, x_t, keep.sqrt(), (1 - keep).sqrt())]
    torch.testing.assert_close(nets.LevelPosterior(*pixel).mean.squeeze(), (w * grey).sum())
    print(
        f"t = {t}: chance of black {p[0]:.4f} before, {w[0]:.4f} after; guess {(w * grey).sum():.4f}"
    )

# %% [markdown]
# A pixel of level 0.3, with the same negative noise and $p$ throughout. **Predict first:** at which $\ln\mathrm{SNR}$ does black drop out of $w$?

# %%
fig, (ax,) = lab.figure(width=6, height=2.5)
ax.semilogy(grey, p, color=lab.BLUE, label="expected: p")
(evidence,) = ax.plot(grey, p, "--", color=lab.ORANGE, label="said by the noisy pixel")
(both,) = ax.plot(grey, p, "-", color=lab.BLACK, lw=2, label="both: w")
(mark,) = ax.plot([0, 0], [1e-9, 9], ":", color=lab.BLACK, label="mean of w")
ax.set(ylim=(1e-6, 2), xlabel="grey level", ylabel="chance (dashed: height 1)")
ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
snr_slider = {"log_snr": lab.slider("ln SNR", -6, 8, 0)}


def weigh(log_snr):
    """Show (44) for one pixel."""
    keep = torch.tensor(float(log_snr), dtype=torch.float64).sigmoid()
    said, w = by_bayes(0.3 * keep.sqrt() - 0.6 * (1 - keep).sqrt(), keep)
    mean = (w * grey).sum().item()
    evidence.set_ydata((said - said.max()).exp())
    both.set_ydata(w)
    mark.set_xdata([mean, mean])
    return f"ln SNR = {log_snr}: the guess for a pixel of level 0.3 is {mean:.2f}."


lab.Explorer(fig, [evidence, both, mark], weigh, snr_slider)

# %% [markdown]
# Below 0 the expectation decides; the pixel, darkened by noise, even argues for black. From 1 to 2 black drops out: the guess jumps. Then the pixel decides. (A real network's $p$ changes with $t$.)
#
# A small network sees 150 batches of 16 digits. `bound_loss` is a random term of the ledger.


# %%
def bits_loss(model, x0):
    return dc.bound_loss(model.schedule, model.posterior, x0, generator=dice)


beginner = nets.LevelUNet(levels_schedule, widths=(32, 64), patch=2).to(device)
sixteen = data.minibatches(x0, 4 if dc.is_short_run() else 16, generator=dice)
brief = dc.train(beginner, bits_loss, sixteen, steps=150, lr=4e-3)
chances = levels_schedule.alpha_bars.clone()
chances[:2] = 0  # as in the loss: t with more signal is drawn more often
sample = test_digits[:: len(test_digits) // 50][: 2 if dc.is_short_run() else 50].to(device)


# %% [markdown]
# The number behind a name counts test pictures. PNG and the next three networks get the same ones; gzip, bzip2 and xz all, in one file. PNG's frame is hatched. The lowest bar was measured on MNIST's test set when `bits` was made. Marks are standard errors.


# %%
def bits_of(plan, eps_model, decoder, probs):
    """Return an estimate of the bits per pixel of `sample` and its standard error."""
    options = {"decoder": decoder, "probs": probs, "draws": 4, "generator": dice}
    nats = dc.elbo_estimate(plan, eps_model, sample, **options)
    return nats.mean / (784 * math.log(2)), nats.std_error / (784 * math.log(2))


import bz2
import lzma

n, pixels = len(sample), data.to_uint8(sample.cpu())
rows = {f"PNG, {n}": (8 * sum(png_bytes(picture) for picture in pixels) / pixels.numel(), 0)}
packed = data.to_uint8(test_digits[: 500 if dc.is_short_run() else None]).numpy().tobytes()
formats = {"gzip": gzip.compress(packed, 9), "bzip2": bz2.compress(packed, 9)}
formats["xz"] = lzma.compress(packed, preset=9)
per_pixel = {name: 8 * len(file) / len(packed) for name, file in formats.items()}
rows |= {f"{k}, {len(packed) // 784}": (value, 0) for k, value in per_pixel.items()}
asked_for_v = bits_of(schedule, shipped_eps, dc.discretized_decoder, probs)
rows[f"asked for v, {n}"] = asked_for_v

# %% [markdown]
# Now grey levels:

# %%
levels_eps = dc.eps_model_from_x0(levels_schedule, bits_network)
beginner_eps = dc.eps_model_from_x0(levels_schedule, beginner)
chances = chances / chances.sum()
ours = bits_of(levels_schedule, beginner_eps, beginner.decoder, chances)
rows[f"150 steps, {n}"] = ours
rows[f"grey levels, {n}"] = bits_of(levels_schedule, levels_eps, bits_network.decoder, chances)
measured = about_bits["bits"]
shipped_bits = measured["bits_per_pixel"]
rows[f"grey levels, {measured['test_images']}"] = shipped_bits, measured["std_error"]

# %% [markdown]
# Published, for MNIST's test set (thin lines below):
#
# | model | bits per pixel |
# |---|---|
# | Real NVP | 1.06 |
# | Glow | 1.05 |
# | FFJORD | 0.99 |
# | Residual Flow | 0.97 |
#
# These are *flows*: invertible networks, whose density is computed. The density needs continuous numbers, so uniform noise is added to the levels: the result is a bound. Ours, an ELBO, is a bound, too.

# %%
fig, (ax,) = lab.figure(width=7, height=2.8)
values, errors = zip(*rows.values(), strict=True)
ax.barh(list(rows), values, xerr=errors, color=lab.SKY)
ax.barh(list(rows)[:1], [57 * 8 / 784], color=lab.SKY, hatch="///")
for published in (1.06, 1.05, 0.99, 0.97):
    ax.axvline(published, color=lab.BLACK, lw=0.5)
for k, (value, error) in enumerate(rows.values()):
    ax.text(value + error + 0.03, k, f"{value:.2f}", va="center")
ax.margins(x=0.1)
ax.set(xlabel="bits per pixel", title=f"pictures: {digits.source}")
ax.invert_yaxis()
lab.show(fig, "Bits per pixel of file formats, of the network asked for v, and of grey levels.")
ratio, against_xz = ours[0] / asked_for_v[0], shipped_bits / per_pixel["xz"]
lab.claim("bits, 150 steps / v", ratio, below=0.95, history=brief, digits=digits)
lab.claim("bits, grey levels / xz", against_xz, below=0.9, digits=digits)

# %% [markdown]
# So 150 steps with this answer, this loss and this schedule beat many thousands with $v$ and a loss for the eye. Does `bits` draw better? Both draw in 25 steps, without labels.

# %%
fig, axes = lab.figure(2, width=9, height=1.75)
for ax, name, plan, guess_eps in (
    (axes[0], "asked for v", schedule, shipped_eps),
    (axes[1], "grey levels", levels_schedule, levels_eps),
):
    start = torch.randn(12, 1, 28, 28, generator=dice).to(device)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": dice}
    taus = dc.even_taus(1000, 2 if dc.is_short_run() else 25)
    *_, end = dc.sample_chain(dc.ddim_step, plan, guess_eps, start, taus, **options)
    lab.draw_images(ax, end.x_t, 6)
    ax.set_title(name)
lab.show(fig, "Twelve digits of each network, drawn without labels.")

# %% [markdown]
# Strokes sharp, on pure black; figures worse. The bound hardly looks at large $t$, where shapes are decided.
#
# **From**: Ho and others (2020), the bound; Kingma and others, *Variational Diffusion Models* (2021), (43); Salimans and others, *PixelCNN++* (2017), logistic laws of pixels.

# %% [markdown]
# ## 10. What breaks
#
# Pixels lie between −1 and 1. So somebody clips the *state* $x_t$ to that range in every step, "to keep it stable". But $x_t$ is a noisy picture. At $t = 1000$ a third of its values lie outside, and at small $t$ nearly half of the black pixels do: −1 plus noise is as often below −1 as above. They must. The guess $\hat x_0$ is different: the best guess is a mean of clean pictures, and these lie in the range. What lies outside is an error, and may be clipped.
#
# Both samplers below clip the guess. The second clips the state as well.


# %%
def clipped_state(schedule, eps_model, x_t, t, s, **options):
    """A DDIM step with the mistake: the state is clipped."""
    step = dc.ddim_step(schedule, eps_model, x_t.clamp(-1, 1), t, s, **options)
    return step._replace(x_t=step.x_t.clamp(-1, 1))


broken = draw(60, step=clipped_state)[-1].x_t
fig, axes = lab.figure(2, width=7, height=1.6)
for ax, images, title in zip(
    axes, (drawn, broken), ("only x0_hat clipped", "x0_hat and state clipped"), strict=True
):
    lab.draw_images(ax, images[:30], 10)
    ax.set_title(title)
lab.show(fig, "30 digits drawn with only x0_hat clipped, and 30 with the state clipped as well.")
wrong = float(metrics.energy_distance(broken.flatten(1), fresh_real(60)))
right_one = float(metrics.energy_distance(drawn[:60].flatten(1), fresh_real(60)))
claim("distance from real digits, state clipped / not", wrong / right_one, above=1)

# %% [markdown]
# With the state clipped the strokes are fat and rough, and the background is grey. The reason: pure noise that is cut off at ±1 has standard deviation 0.72, not 1. The network is told $t$, and so expects more noise than there is. So it judges the noise wrongly, and takes a part of it for drawing.

# %%
normal = torch.randn(100_000, generator=rng.manual_seed(8), dtype=torch.float64)
print(f"standard deviation of noise cut off at -1 and 1: {normal.clamp(-1, 1).std():.2f}")
print(f"share of the noise outside -1 and 1: {(normal.abs() > 1).double().mean():.2f}")
x_20 = dc.q_sample(schedule, torch.full_like(normal, -1.0), 20, normal)
print(f"share of black pixels below -1 at t = 20: {(x_20 < -1).double().mean():.2f}")

# %% [markdown]
# ## 11. Exercises
#
# **Exercise 1.** Write `x0_of(x_t, v, alpha_bar_t)`, the clean picture from $v$ (section 3). `x_t` and `v` have shape (B, 1, H, W), `alpha_bar_t` has shape (B,).


# %%
# STARTER
def x0_of(x_t, v, alpha_bar_t):
    return None  # your lines here


# SOLUTION
def x0_of(x_t, v, alpha_bar_t):
    keep = alpha_bar_t[:, None, None, None]
    return keep.sqrt() * x_t - (1 - keep).sqrt() * v


# %%
# lab.hint("06.1")
lab.check("06.1", x0_of)

# %% [markdown]
# **Exercise 2.** Write `fold(x)`, the folding of section 2, with `reshape` and `permute` only: (B, 1, H, W) becomes (B, 4, H/2, W/2). The channel of a pixel is 2 · (its row within the square) + (its column within the square).


# %%
# STARTER
def fold(x):
    return None  # your lines here


# SOLUTION
def fold(x):
    B, _, H, W = x.shape
    squares = x.reshape(
        B, H // 2, 2, W // 2, 2
    )  # row of squares, row inside, column, column inside
    return squares.permute(0, 2, 4, 1, 3).reshape(B, 4, H // 2, W // 2)


# %%
# lab.hint("06.2")
lab.check("06.2", fold)

# %% [markdown]
# **Exercise 3.** How many parameters has a 3 × 3 convolution from `a` to `b` channels, with its bias? Write `parameters_of(a, b)` without building one. Then call `parameters_of(4, 32)`: it must be the number of parameters in `stem`, 1184.


# %%
# STARTER
def parameters_of(a, b):
    return None  # your line here


# SOLUTION
def parameters_of(a, b):
    return 3 * 3 * a * b + b


# %%
# lab.hint("06.3")
lab.check("06.3", parameters_of)

# %% [markdown]
# **Exercise 4. Find the mistakes.** A colleague writes one step of the sampler for a network that answers $v$: from $x_t$ to $x_s$, without fresh noise, and with pixels kept in range. `alpha_bar_t` and `alpha_bar_s` are two numbers.
#
# ```python
# def clipped_step(x_t, v, alpha_bar_t, alpha_bar_s):
#     x_t = x_t.clamp(-1, 1)
#     x0_hat = alpha_bar_t**0.5 * x_t - (1 - alpha_bar_t) ** 0.5 * v
#     eps_hat = (1 - alpha_bar_t) ** 0.5 * x_t + alpha_bar_t**0.5 * v
#     x0_hat = x0_hat.clamp(-1, 1)
#     return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) * eps_hat
# ```
#
# Three things are wrong. Write the function right. (Section 6 says what `clip` does to $\hat\epsilon$.)


# %%
# STARTER
def clipped_step(x_t, v, alpha_bar_t, alpha_bar_s):
    return None  # your lines here


# SOLUTION
def clipped_step(x_t, v, alpha_bar_t, alpha_bar_s):
    x0_hat = alpha_bar_t**0.5 * x_t - (1 - alpha_bar_t) ** 0.5 * v
    x0_hat = x0_hat.clamp(-1, 1)  # the guess, never the state
    eps_hat = (x_t - alpha_bar_t**0.5 * x0_hat) / (1 - alpha_bar_t) ** 0.5  # fits the guess
    return alpha_bar_s**0.5 * x0_hat + (1 - alpha_bar_s) ** 0.5 * eps_hat


# %%
# lab.hint("06.4")
lab.check("06.4", clipped_step)

# %% [markdown]
# ## 12. Summary
#
# 1. A U-Net sees the whole picture at its coarse end and exact places through its skip connections; it is told $t$ by a vector of sines and cosines.
# 2. A network may be asked for $\epsilon$, $x_0$ or $v$; each gives the others, and an error in $v$ is never enlarged.
# 3. Training is Algorithm 1 with $v$ in the place of $\epsilon$; drawing is a walk from noise to $t = 0$, here in 50 steps. Told a label, the network draws what it is asked for.
# 4. Drawings are compared with real digits by a distance and its floor, by a judge with the share of each digit, and with the training set to see that they are no copies.
# 5. Clip the guess, never the state.
#
# | equation | function |
# |---|---|
# | the vector of $t$ | `nets.timestep_embedding` |
# | (22) $v$ and back | `v_target`, `x0_from_v`, `eps_from_v`, `eps_model_from_v` |
# | Algorithm 1 for $v$ | `v_loss`, `train` |
# | a judge's verdict | `judge.judge_images`, `judge.frechet_distance` |
# | bits per pixel | `elbo_estimate`, `importance`, `bits_per_dim` |
# | asking for a digit | `drop_labels`, `classifier_free` |
# | drawing in few steps | `ddim_step`, `even_taus`, `sample_chain` |
#
# **References.** Ronneberger, Fischer and Brox, *U-Net* (2015). Ho, Jain and Abbeel, *Denoising Diffusion Probabilistic Models* (2020). Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (2021). Salimans and Ho, *Progressive Distillation for Fast Sampling of Diffusion Models* (2022), for $v$. Song, Meng and Ermon, *Denoising Diffusion Implicit Models* (2021). Ho and Salimans, *Classifier-Free Diffusion Guidance* (2022). LeCun, Cortes and Burges, *The MNIST database*.
#
# **Next**: [07 · Can you learn a slope that nobody can tell you?](07_score_matching.ipynb), or [14](14_bug_museum.ipynb) to find mistakes.
