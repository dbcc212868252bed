# %% [markdown]
# # 06 · Can it draw digits?
#
# A picture of a handwritten digit is a point, as in lesson 05, but with 784 coordinates. The ideas stay; the network changes. You write its blocks, train it, and let it draw: digits first, your own pictures last.
#
# **At the end you can**
# - write a residual block and the way through a U-Net, and say why each part is there;
# - say why a network is asked for $v$, and convert one answer into another;
# - train a diffusion model on images, on your own too, and ask it for a digit;
# - say how much of a good drawing is guidance, and what it costs.
#
# **You need** lessons 02 and 05, and what a convolution is. **Time**: about 85 minutes, 3 of them training on two CPU cores. A GPU is used by itself.

# %%
from functools import partial

import torch
import torch.nn.functional as F

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, nets, pretrained, toys

device, rng = dc.default_device(), torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# The data: MNIST, 28 × 28 pixels, whole numbers from 0 to 255, scaled to lie between −1 and 1. (Or scikit-learn's small digits; the figure says so.)
#
# The course brings a trained network. It can be asked with the digit, its **label** $y$, and without. The schedule is *cosine* with $T = 1000$ (lesson 02).

# %%
digits = data.images("train")
x0 = data.to_signed(digits.x)
assert x0.shape[1:] == (1, 28, 28) and x0.min() == -1 and x0.max() == 1
schedule = dc.cosine_schedule(1000)
shipped, about = pretrained.load("mnist")
shipped = shipped.to(device)
ten = torch.stack([x0[digits.labels == digit][3] for digit in range(10)])
ten_labels, ten_eps = torch.arange(10, device=device), torch.randn(10, 1, 28, 28, generator=rng)


@torch.no_grad()
def expected_at(t):
    """Return ten noisy digits, and what the network expects without the labels and with them."""
    x_t = dc.q_sample(schedule, ten, t, ten_eps).to(device)
    times = torch.full((10,), t, device=device)
    answers = shipped(x_t, times), shipped(x_t, times, ten_labels)
    return x_t, *(dc.x0_from_v(schedule, x_t, v_hat, t) for v_hat in answers)


# %% [markdown]
# Real digits, the same with noise, and the $\hat x_0$ that the network expects. **Move $t$.** From where on can *you* not read the digits? From where on do the two lower rows differ?

# %%
fig, axes = lab.figure(1, 4, width=5.6, height=2.7)
names = ["real", "with noise", "expected, no label", "expected, label told"]
strips = [lab.draw_images(ax, ten, 10) for ax in axes]
for ax, name in zip(axes, names, strict=True):
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
axes[3].set_xlabel(digits.note, fontsize="small", wrap=True)


def look(t):
    """Show what the network expects at t."""
    for strip, images in zip(strips[1:], expected_at(t), strict=True):
        strip.set_data(lab.image_grid(images, 10))
    return (
        f"t = {t}: the noise is {schedule.snr[t].item() ** -0.5:.3g} times as strong as the digit."
    )


lab.Explorer(fig, strips[1:], look, {"t": lab.slider("t", 50, 1000, 850, 50)})

# %% [markdown]
# In much noise the network without a label answers with a blur: the mean of all digits that could be meant (lesson 05). With a label: the mean of one kind.
#
# ## 2. A network for pictures
#
# The network gets noisy pictures $x_t$ (B, 1, 28, 28) and the step $t$ of each, and answers in the same shape. To clean a pixel it needs **the whole picture** (a 3 or an 8?) and **exact places** (where does the stroke end?).
#
# A **U-Net** has both. It makes the picture smaller, so that far things come near; then larger again; and it hands details straight across, by a *skip connection*:
#
# ```text
# x_t─fold─stem─block─────────────skip────────────►join─block─last─unfold─►answer
#                 │                                │
#                down─►block─►attention─►block─►up
# ```
#
# Blocks are also told time and label. The parts at work on a noisy 7, of each the channel that varies most:

# %%
parts = {"fold, stem": shipped.stem, "block": shipped.down_blocks[0], "down": shipped.downs[0]}
parts |= {" block": shipped.middle_in, "attention": shipped.attention}
parts |= {"block ": shipped.middle_out, "up": shipped.ups[0]}
parts |= {"join, block": shipped.up_blocks[0], "last": shipped.last}
seven, at_300, maps = slice(7, 8), torch.tensor([300], device=device), {}
hooks = [
    part.register_forward_hook(lambda part, x, y, name=name: maps.update({name: y[0]}))
    for name, part in parts.items()
]
x_300, guess_300, _ = (images[seven] for images in expected_at(300))
with torch.no_grad():
    shipped(x_300, at_300)
for hook in hooks:
    hook.remove()
fig, axes = lab.figure(11, width=12, height=1.7)
shown = {"x_t": x_300[0], **maps, "x0_hat": guess_300[0]}
for ax, (name, channels) in zip(axes, shown.items(), strict=True):
    z = channels.cpu()[channels.flatten(1).var(1).argmax().item()]
    lab.draw_pixels(ax, z, vmin=z.min().item(), vmax=z.max().item())
    ax.set(xticks=[], yticks=[], xlabel=" × ".join(map(str, channels.shape)))
    ax.set_title(name, fontsize="small")
lab.show(
    fig, "A noisy seven on its way through the U-Net: channels, height and width of each part."
)

# %% [markdown]
# `last` looks like noise, as this network answers $v$ (section 3), at $t = 300$ mostly the noise; $\hat x_0$ is computed from $x_t$ and it.
#
# **Fold.** Layers at full size cost most. So the picture is cut into squares of 2 × 2 pixels, and the four pixels of a square become four channels, on a quarter of the places.

# %%
tiny = torch.arange(16.0).reshape(1, 1, 4, 4)
folded = F.pixel_unshuffle(tiny, 2)
print("one 4 x 4 picture:", tiny[0, 0].int().tolist())
print("folded, 4 channels of 2 x 2:", folded[0].int().tolist())

# %% [markdown]
# **Exercise 1.** Write `fold(x)` with `reshape` and `permute`: (B, 1, H, W) becomes (B, 4, H/2, W/2). The channel of a pixel is 2 · (its row in the square) + (its column in the square).


# %%
# STARTER
def fold(x):
    return None  # your lines here


# SOLUTION
def fold(x):
    B, _, H, W = x.shape
    # row of squares, row inside, column of squares, column inside
    squares = x.reshape(B, H // 2, 2, W // 2, 2)
    return squares.permute(0, 2, 4, 1, 3).reshape(B, 4, H // 2, W // 2)


# %%
# lab.hint("06.1")
lab.check("06.1", fold)

# %% [markdown]
# **Telling it the time.** A plain number up to 1000 is hard to use. So $t$ becomes 64 cosines and 64 sines, slow and fast, like a clock's hands:
#
# $$\big(\cos(\omega_1 t), \dots, \cos(\omega_{64} t),\ \sin(\omega_1 t), \dots, \sin(\omega_{64} t)\big),\qquad \omega_i = 10000^{-(i-1)/64}.$$
#
# The vector nearest to that of $t$ belongs to $t-1$ or to $t+1$: the cell tests every $t$.

# %%
clock = nets.timestep_embedding(torch.arange(1, 1001), 128)
distance = torch.cdist(clock, clock, compute_mode="donot_use_mm_for_euclid_dist")
nearest = distance.fill_diagonal_(torch.inf).argmin(1)
assert ((nearest - torch.arange(1000)).abs() == 1).all()
fig, (ax,) = lab.figure(width=5, height=1.7)
shown = {"aspect": "auto", "cmap": "cividis", "interpolation": "nearest"}
image = ax.imshow(clock[:100].T, vmin=-1, vmax=1, extent=(0.5, 100.5, 127.5, -0.5), **shown)
fig.colorbar(image, label="value")
ax.set(xlabel="t", ylabel="entry")
lab.show(fig, "The vector of each t: top half cosines, bottom half sines, fast waves above slow.")

# %% [markdown]
# **Telling it the digit.** A table holds a learned vector for each label; row 10, `null_label`, is for "no label". The vector is added to what a small network makes of that of $t$. All blocks get the sum, `emb` (B, 128).
#
# **The residual block** does most of the work. Twice it normalises, bends, convolves.
# - *Normalise* is GroupNorm: the channels of each picture are put into 8 groups, and each group is brought to mean 0 and variance 1; then each channel gets a learned factor and shift.
# - *Bend* is SiLU (`F.silu`), $x\cdot\mathrm{sigmoid}(x)$, a smooth step from 0 to $x$.
# - *Convolve*: 3 × 3, `conv1`, then `conv2`.
#
# After `conv1` the block is told `emb`: a linear map, `from_t`, makes one number for each channel, which is added at every pixel. (The shipped network gets two: a factor, too.) At the end the block's input is added, through `shortcut` (a 1 × 1 convolution where the number of channels changes). A new `conv2` is zero: the block learns only what to *add*.
#
# **Exercise 2.** Write it. `block` holds the layers `norm1`, `conv1`, `from_t`, `norm2`, `conv2` and `shortcut`. `x` is (B, channels, H, W), `emb` (B, 128).


# %%
# STARTER
def my_block(block, x, emb):
    return None  # your lines here


# SOLUTION
def my_block(block, x, emb):
    h = block.conv1(F.silu(block.norm1(x)))
    h = h + block.from_t(emb)[:, :, None, None]
    return block.shortcut(x) + block.conv2(F.silu(block.norm2(h)))


# %%
# lab.hint("06.2")
lab.check("06.2", my_block)

# %% [markdown]
# **Self-attention** lets every place look at every other. Linear maps make three vectors of each (normalised) place: a *query* $a_i$ (what it looks for), a *key* $b_j$ (what it offers) and a *content* $c_j$ (what it hands over). Place $i$ gets
#
# $$\sum_j g_{ij}\,c_j, \qquad g_{ij} = \mathrm{softmax}_j\big(a_i\cdot b_j/\sqrt{m}\big),$$
#
# where $m$ is the length of $a_i$. Four *heads* each have a part of the channels and weights of their own; side by side, their results go through one more linear map and are added to the input. There are $49^2$ weights at 7 × 7, but $784^2$ at 28 × 28: so attention stands where the picture is smallest.


# %%
@torch.no_grad()
def attention_weights(x_t, t):
    """Return the weights (heads, 49, 49) inside the shipped network, for one picture."""
    part, seen = shipped.attention, []
    hook = part.register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    shipped(x_t, t)
    hook.remove()
    places = part.norm(seen[0]).flatten(2).transpose(1, 2)  # (1, 49, channels)
    vectors = part.to_qkv(places).view(49, 3, part.heads, -1)
    query, key, content = vectors.permute(1, 2, 0, 3)  # (heads, 49, m) each
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    package = F.scaled_dot_product_attention(query, key, content)
    torch.testing.assert_close(weights @ content, package, rtol=1e-4, atol=1e-4)
    return weights.cpu()


# %% [markdown]
# What does the trained network look at?

# %%
fig, axes = lab.figure(5, width=10, height=2.3)
noisy = lab.draw_images(axes[0], x_300, 1)
(box,) = axes[0].plot([], [], "s", ms=14, mfc="none", mec=lab.ORANGE, mew=2)
heads = [lab.draw_pixels(ax, torch.zeros(7, 7), vmax=0.12) for ax in axes[1:]]
for ax, title in zip(axes, ["the picture", *(f"head {k}" for k in (1, 2, 3, 4))], strict=True):
    ax.set(xticks=[], yticks=[], title=title)

# %% [markdown]
# Choose a place (marked) and a time. Do the heads look at the same things? From the stroke, and from the background?


# %%
def attend(row, column, t):
    """Show where one place looks, in each head."""
    x_t = expected_at(t)[0][seven]
    weights = attention_weights(x_t, torch.tensor([t], device=device))[:, 7 * row + column]
    noisy.set_data(lab.image_grid(x_t, 1))
    box.set_data([4 * column + 2.5], [4 * row + 2.5])
    for head, pixels in zip(heads, weights, strict=True):
        head.set_data(pixels.view(7, 7))
    return (
        f"t = {t}: where the place in row {row} and column {column} looks; white is 0.12 or more."
    )


controls = {
    "row": lab.slider("row", 0, 6, 2),
    "column": lab.slider("column", 0, 6, 4),
    "t": lab.choice("t", [100, 300, 600, 900], 300),
}
lab.Explorer(fig, [noisy, box, *heads], attend, controls)

# %% [markdown]
# From the stroke (row 4, column 3) head 1 looks at its own piece, the others at the 7's corner and end.
#
# **Down** is a 3 × 3 convolution at every second pixel. **Up** repeats each pixel two by two, and convolves. **The skip connection**: what the fine level knew before *down* is laid behind what comes from *up* (`torch.cat` along the channels), and a block makes one of both.
#
# At the end stand `norm`, SiLU and `last`, a convolution that makes the folded channels. A SiLU is never below −0.28, and the answer needs both signs: so nothing bends behind `last`.
#
# **Exercise 3** (a quarter of an hour; section 9 trains it). Write the way of the diagram: `my_unet(net, x_t, emb)`. `net` has `stem`, `down_blocks[0]`, `downs[0]`, `middle_in`, `attention`, `middle_out`, `ups[0]`, `up_blocks[0]`, `norm` and `last`. Blocks go through your `my_block(block, h, emb)`, other parts are called: `net.stem(h)`. To fold and unfold take `F.pixel_unshuffle(x, 2)` and `F.pixel_shuffle(h, 2)`.


# %%
# STARTER
def my_unet(net, x_t, emb):
    return None  # your lines here


# SOLUTION
def my_unet(net, x_t, emb):
    h = net.stem(F.pixel_unshuffle(x_t, 2))
    skip = my_block(net.down_blocks[0], h, emb)
    h = my_block(net.middle_in, net.downs[0](skip), emb)
    h = my_block(net.middle_out, net.attention(h), emb)
    h = my_block(net.up_blocks[0], torch.cat([net.ups[0](h), skip], dim=1), emb)
    return F.pixel_shuffle(net.last(F.silu(net.norm(h))), 2)


# %%
# lab.hint("06.3")
lab.check("06.3", my_unet)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the package's version, and its numbers
#
# The package goes the same way, for any number of levels (`gain`: section 4):

# %%
lab.show_source(nets.UNet.forward, nets.UNet.embed, nets.UNet.encode, nets.UNet.decode)

# %% [markdown]
# And this is how it is built. `E` is the length of `emb`, `widths` the channels at each level:

# %%
lab.show_source(nets.UNet._build, nets.timestep_embedding)

# %% [markdown]
# Why these numbers?
#
# | number | why |
# |---|---|
# | widths 32 and 64 | it learns from twice as many digits in a second as the shipped network with 48 and 128 (990 without `gain`, and 475, on one machine) |
# | 8 groups | 4 channels in a group at width 32: enough to measure a mean and a variance, few enough to keep channels different |
# | 4 heads | four patterns of looking, with 16 numbers each |
# | `gain` | after 80 000 digits, without labels, the distance of section 7 is 4.0 times the floor of 1000 drawings, without it 4.5 (one run each; 56 % and 53 % are recognised). The error of $v$ is not smaller: 0.137 and 0.135 |
# | batches of 32 | in three minutes on one core (25 000 digits) a network of the shipped one's size had an error of 0.135; with 64 it was 0.155: more, rougher steps learn faster here. With 16 fewer digits are seen in the same time |
# | learning rate 0.004 | after a minute, the best of 0.001, 0.002 and 0.004 (`benchmarks/time_to_quality.py`) |
# | average of the weights, 0.997 | it reaches over the last 300 steps or so, a tenth of the training |
# | one time in ten without a label | little, as training is short: the shipped network took three |
# | $w = 1.5$ | fixed beforehand; in 50 steps the shipped network is nearest to real digits at about 1.3 (lesson 10) |
#
# `benchmarks/mnist_trials.md` has these trials, and those that were given up.

# %%
unet = nets.UNet(classes=10, gain=True)
print(f"{sum(p.numel() for p in unet.parameters()):,} parameters")
out = unet(torch.randn(2, 1, 28, 28, generator=rng), torch.tensor([1, 1000]))
assert out.shape == (2, 1, 28, 28) and out.abs().max() == 0

# %% [markdown]
# ## 3. What to ask for: noise, picture, or a bit of both
#
# In lesson 05 the network guessed the noise $\epsilon$. It could as well guess $x_0$: with $x_t$, each gives the other. Between the two there is $v$:
#
# $$v = \sqrt{\bar\alpha_t}\;\epsilon - \sqrt{1-\bar\alpha_t}\;x_0. \tag{22}$$
#
# **Try it.** Three small networks see the same points in the plane and differ only in what they are asked. The sampler needs both $\hat x_0$ and $\hat\epsilon$, so we convert each answer to both, and compare with the best possible ones (lesson 05). **Predict:** where is each of the three bad?


# %%
def ask_for(target):
    """Return a loss: the squared error of a network that is asked for target(x0, eps, t)."""

    def loss(model, x0):
        t, eps = dc.draw_t(schedule, x0, dice), torch.randn(x0.shape, generator=dice)
        return (target(x0, eps, t) - model(dc.q_sample(schedule, x0, t, eps), t)).square().mean()

    return loss


questions = {
    "noise": lambda x0, eps, t: eps,
    "clean point": lambda x0, eps, t: x0,
    "v": partial(dc.v_target, schedule),
}
answers = {}
for name, target in questions.items():
    dice = torch.Generator().manual_seed(3)
    points = (toys.toy_2d("moons", 128, generator=dice) for _ in range(1000))
    answers[name] = nets.MLP(width=64)
    dc.train(answers[name], ask_for(target), points, steps=1000, lr=4e-3)

# %% [markdown]
# The root mean square distance from the best answer, at 27 times.

# %%
centres, std = toys.toy_centres("moons")
moons = dc.mixture(centres, std**2)
best, times = dc.mixture_eps_model(schedule, moons), [1, *range(40, 961, 40), 985, 1000]
wrappers = [
    lambda model: model,
    partial(dc.eps_model_from_x0, schedule),
    partial(dc.eps_model_from_v, schedule),
]
cloud = moons.sample(lab.up_to(500), generator=dice)  # 500; only the course's tests take fewer
fig, axes = lab.figure(2, width=9, height=2.6)
for (name, model), wrap in zip(answers.items(), wrappers, strict=True):
    errors = []
    for t in times:
        x_t, model = dc.q_sample(schedule, cloud, t, generator=dice), model.double()
        with torch.no_grad():
            off = (wrap(model)(x_t, torch.full((len(x_t),), t)) - best(x_t, t)).square().mean()
        scale = schedule.marginal_vars[t] / schedule.alpha_bars[t]
        errors.append(((off * scale).sqrt().item(), off.sqrt().item()))
    for ax, error in zip(axes, zip(*errors, strict=True), strict=True):
        ax.semilogy(times, error, label=f"asked for {name}")
axes[0].set(xlabel="t", ylabel="error", title="error of x0_hat")
axes[1].set(xlabel="t", ylabel="error", title="error of eps_hat")
axes[1].legend()
lab.show(fig, "Errors of the clean point and of the noise, for three networks, against t.")

# %% [markdown]
# Asked for the noise, the network is useless near $t = T$, where its $\hat x_0$ explodes; asked for $x_0$, near $t = 0$. Asked for $v$, neither explodes.

# %%
of_v, of_noise, of_clean = (axes[k].lines[i].get_ydata() for k, i in ((0, 2), (0, 0), (1, 1)))
lab.claim("error of x0_hat at T, asked for noise / v", of_noise[-1] / of_v[-1], above=100)
of_v = axes[1].lines[2].get_ydata()
lab.claim("error of eps_hat at 1, asked for x0 / v", of_clean[0] / of_v[0], above=5)

# %% [markdown]
# Why? Near $T$ nearly all of $x_t$ is noise, so "what is the noise?" is an *easy* question. But what matters is the little rest: $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)/\sqrt{\bar\alpha_t}$ divides a small error by a tiny number. $v$ is the *hard* question at both ends: near $T$ about $-x_0$, near 0 about $\epsilon$. So the network works where the sampler needs it. Solving for both (the squares of the two roots sum to 1),
#
# $$x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v, \qquad \epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v.$$
#
# An error of $\hat v$ is multiplied by at most 1 on its way to $\hat x_0$ and $\hat\epsilon$. For a given $x_0$, $v = (\sqrt{\bar\alpha_t}\,x_t - x_0)/\sqrt{1-\bar\alpha_t}$ is a straight line in $x_t$.

# %%
clean, eps = x0[:64].double(), torch.randn(64, 1, 28, 28, generator=rng).double()
for t in (1, 250, 500, 750, 1000):
    x_t, v = dc.q_sample(schedule, clean, t, eps), dc.v_target(schedule, clean, eps, t)
    torch.testing.assert_close(dc.x0_from_v(schedule, x_t, v, t), clean, rtol=0, atol=1e-12)
    torch.testing.assert_close(dc.eps_from_v(schedule, x_t, v, t), eps, rtol=0, atol=1e-12)
    line = schedule.alpha_bars[t].sqrt() * x_t - clean
    torch.testing.assert_close(line / schedule.marginal_vars[t].sqrt(), v, rtol=0, atol=1e-9)
print("x_0 and eps come back from x_t and v, at t = 1, 250, 500, 750 and 1000")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: how far a small error goes
#
# Write $\sqrt{\bar\alpha_t} = \cos\varphi$ and $\sqrt{1-\bar\alpha_t} = \sin\varphi$. Then $x_t = \cos\varphi\,x_0 + \sin\varphi\,\epsilon$ and $v = \cos\varphi\,\epsilon - \sin\varphi\,x_0$: $(x_t, v)$ is the pair $(x_0, \epsilon)$ *turned* by $\varphi$, and turning back enlarges nothing.
#
# An answer is wrong by $\delta$, at every pixel. Asked for $\epsilon$, $\hat x_0$ is wrong by $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}\,\delta$. Asked for $x_0$, $\hat\epsilon$ is wrong by $\sqrt{\bar\alpha_t/(1-\bar\alpha_t)}\,\delta$. Asked for $v$, the two are wrong by $\sqrt{1-\bar\alpha_t}\,\delta$ and $\sqrt{\bar\alpha_t}\,\delta$. A guess that is the answer itself is wrong by $\delta$. Lines are the larger of the two errors of each answer; dots are measured by the package's conversions:

# %%
level = schedule.snr[1:] ** -0.5
factors = {"noise": level.clamp(min=1), "clean": (1 / level).clamp(min=1)}
factors["v"] = torch.maximum(schedule.alpha_bars, schedule.marginal_vars)[1:].sqrt()
fig, (ax,) = lab.figure(width=6, height=2.3)
for name, factor in factors.items():
    ax.semilogy(range(1, 1001), factor, label=f"asked for {name}")
delta = 0.01
for t in (1, 250, 500, 750, 1000):
    x_t, v = dc.q_sample(schedule, clean, t, eps), dc.v_target(schedule, clean, eps, t)
    by_eps = (dc.x0_from_eps(schedule, x_t, eps + delta, t) - clean).abs().max() / delta
    by_x0 = (dc.eps_from_x0(schedule, x_t, clean + delta, t) - eps).abs().max() / delta
    wrong_x0 = (dc.x0_from_v(schedule, x_t, v + delta, t) - clean).abs().max() / delta
    wrong_eps = (dc.eps_from_v(schedule, x_t, v + delta, t) - eps).abs().max() / delta
    measured = [by_eps.clamp(min=1), by_x0.clamp(min=1), max(wrong_x0, wrong_eps)]
    expected = [factor[t - 1] for factor in factors.values()]
    torch.testing.assert_close(torch.stack(measured), torch.stack(expected), rtol=1e-6, atol=0)
    ax.plot([t] * 3, measured, "o", color=lab.BLACK, ls="none")
ax.set(xlabel="t", ylabel="larger error / delta")
ax.legend()
lab.show(fig, "By how much a small error of each answer is enlarged, against t.")

# %% [markdown]
# **And the weights?** At a given $x_t$ the formulas give $\epsilon-\hat\epsilon = \sqrt{\bar\alpha_t}\,(v-\hat v)$, so $|v-\hat v|^2 = |\epsilon-\hat\epsilon|^2/\bar\alpha_t$: it is the old question with other weights, and the last one is $1/\bar\alpha_{1000}$, four hundred million. Is that not dangerous? No: $\epsilon$ can be read off $x_t$ up to an error whose square is of the order of $\bar\alpha_t$. The product is an ordinary number. A network that always answers 0 has the loss $\bar\alpha_t\,\mathbb E\,\epsilon^2 + (1-\bar\alpha_t)\,\mathbb E\,x_0^2$, at most 1 at *every* $t$.
#
# Everything else in the package asks for an `eps_model`, and `eps_model_from_v` makes one. Does the division come back, when $\hat x_0$ is computed from that $\hat\epsilon$? In the formulas it cancels. What does not is rounding: $\hat\epsilon$ has about seven digits, and the error of the last is divided by $\sqrt{\bar\alpha_t}$: at $t = 1000$ about $10^{-7}\cdot 20\,000 = 0.002$, little beside pixels from −1 to 1.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the loss from scratch
#
# Algorithm 1 with $v$ in the place of $\epsilon$, and the package's version:


# %%
def v_loss_from_scratch(model, x0, rng):
    """One round of Algorithm 1 for a network that predicts v."""
    t = torch.randint(1, 1001, (len(x0),), generator=rng)
    eps = torch.randn(x0.shape, generator=rng)
    keep = schedule.alpha_bars.float()[t][:, None, None, None]  # (B, 1, 1, 1)
    x_t = keep.sqrt() * x0 + (1 - keep).sqrt() * eps
    v = keep.sqrt() * eps - (1 - keep).sqrt() * x0
    return (v - model(x_t, t)).square().mean()


# %% [markdown]
# A new U-Net answers 0 whatever it is asked, so it would not notice a wrong $x_t$. We compare on a function that needs $x_t$ and $t$.

# %%
lab.show_source(dc.v_loss)


def probe(x_t, t):
    return x_t * (t / 1000)[:, None, None, None]


ours = v_loss_from_scratch(probe, x0[:32], rng.manual_seed(1))
theirs = dc.v_loss(schedule, probe, x0[:32], generator=rng.manual_seed(1))
torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)

# %% [markdown]
# ## 4. Training
#
# Algorithm 1 with $v$ in the place of $\epsilon$ (`v_loss`). One time in ten `drop_labels` puts `null_label` in the place of the label, so that the network learns to answer without.
#
# `gain=True`: for a given $x_0$, $v$ is a line in $x_t$. So `last` makes an offset $d$ and a gain $k$ for each pixel; the answer is $\hat v = d + k\,x_t$: noise can go past the layers. (The shipped network has no gain.)


# %%
def labelled_loss(model, x0, y):
    """Ask for v with the label, one time in ten without."""
    y = dc.drop_labels(y, model.null_label, share=0.1, generator=rng)
    return dc.v_loss(schedule, partial(model, y=y), x0, generator=rng)


model = nets.UNet(classes=10, gain=True).to(device)
ema = dc.EMA(model, decay=0.997)
drawn_rows = data.minibatches(torch.arange(len(x0)), 32, generator=rng)
batches = ((x0[rows], digits.labels[rows]) for rows in drawn_rows)

# %% [markdown]
# To draw we walk from noise to $t = 0$ in 50 steps, with the network's average weights (EMA, lesson 05). Options: sections 5 and 6.


# %%
usual_steps = lab.up_to(50)


def draw(n, network=ema.model, *, scale=1.5, steps=usual_steps, seed=7, **options):
    """Ask a network for n digits, 0 to 9 in turn; return every step of the walk, on the CPU."""
    step, eta = options.get("step", dc.ddim_step), options.get("eta", 1.0)
    chance = torch.Generator().manual_seed(seed)
    start = torch.randn(n, 1, 28, 28, generator=chance).to(device)
    labels = torch.arange(n, device=device) % 10
    guided = dc.classifier_free(network, labels, guidance_scale=scale)
    eps_model, taus = dc.eps_model_from_v(schedule, guided), dc.even_taus(schedule.T, steps)
    settings = {"eta": eta, "clip": (-1, 1), "generator": chance}
    chain = dc.sample_chain(step, schedule, eps_model, start, taus, **settings)
    return [dc.Step(t, x_t.cpu(), x0_hat.cpu()) for t, x_t, x0_hat in chain]


# %% [markdown]
# **Predict first.** Training takes 3000 steps with 32 digits each; you may stop it early. Four times, 0 to 9 are drawn from the *same* noise. What will you see after 2 %, and after 30 %: noise, blobs, strokes, digits?

# %%
previews = [0.02, 0.08, 0.3, 1.0]


def preview(done):
    """Draw the digits 0 to 9 four times during the training."""
    if previews and done >= previews[0]:
        fig, (ax,) = lab.figure(width=5.6, height=0.7)
        lab.draw_images(ax, draw(10)[-1].x_t, 10)
        lab.show(fig, f"The digits 0 to 9 after {previews.pop(0):.0%} of the training.")


options = {"steps": 3000, "lr": 4e-3, "ema": ema, "on_progress": preview}
history = dc.train(model, labelled_loss, batches, **options)

# %% [markdown]
# What was right first? The ground: after 2 %, 60 steps, most of it is dark. Then come strokes, last shapes.

# %%
smooth = torch.tensor(history.losses).unfold(0, min(100, len(history.losses)), 1).mean(1)
fig, (ax,) = lab.figure(width=6, height=2)
ax.semilogy(smooth)
ax.set(xlabel="training step", ylabel="v-loss, mean of 100")
lab.show(fig, "The loss falls fast at first, then slowly until the end.")
claim = partial(lab.claim, history=history)  # it says so, if the training was stopped early
claim("loss at the end", smooth[-1], below=0.25)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: what your network makes of $d$ and $k$
#
# Where a pixel is surely of grey $m$, $v$ is the line of section 3 with $x_0 = m$. So there $d = -m/\sqrt{1-\bar\alpha_t}$ and $k = \sqrt{\bar\alpha_t/(1-\bar\alpha_t)}$, the root of the signal-to-noise ratio $\mathrm{SNR}_t$. Nobody told the network these numbers. Does it find them? We show $-\sqrt{1-\bar\alpha_t}\,d$, which is $m$ at such a pixel, and $k/\sqrt{\mathrm{SNR}_t}$, which is 1.


# %%
@torch.no_grad()
def offset_and_gain(x_t, t):
    """Return d and k of your network for ten digits, with their labels."""
    network, seen = ema.model, []
    hook = network.last.register_forward_hook(lambda part, given, answer: seen.append(answer))
    network(x_t.to(device), torch.full((10,), t, device=device), ten_labels)
    hook.remove()
    return F.pixel_shuffle(seen[0], 2).cpu().chunk(2, dim=1)


fig, axes = lab.figure(3, width=6.4, height=1.9)
for ax, title in zip(axes, ["x_t", "grey of d", "k / root of SNR"], strict=True):
    ax.set(xticks=[], yticks=[], title=title)
pictures = [lab.draw_images(ax, ten[seven], 1) for ax in axes[:2]]
trust = lab.draw_pixels(axes[2], torch.ones(28, 28), vmin=0, vmax=1.25)
bar = fig.colorbar(trust, ax=axes[2])

# %% [markdown]
# **Predict first:** at which pixels of a noisy 7 is $k$ smaller? Does that change with $t$?


# %%
def take_apart(t):
    """Show what the network answers for a noisy seven."""
    x_t = dc.q_sample(schedule, ten, t, ten_eps)
    d, k = offset_and_gain(x_t, t)
    for picture, z in zip(pictures, (x_t, -schedule.marginal_vars[t].sqrt() * d), strict=True):
        picture.set_data(lab.image_grid(z[seven], 1))
    slope = schedule.snr[t].item() ** 0.5
    trust.set_data(k[seven][0, 0] / slope)
    return f"t = {t}: the root of SNR is {slope:.2f}."


lab.Explorer(fig, [*pictures, trust], take_apart, {"t": lab.slider("t", 50, 950, 100, 50)})

# %% [markdown]
# On the ground $k$ is what the line asks for. In the strokes it is smaller: their grey is in doubt, and $x_t$ itself says something about it. Suppose that a pixel's grey, as far as the other pixels tell it, follows $\mathcal N(m, s^2)$. With lesson 03's posterior mean of $x_0$, the best $v$ is again a line in $x_t$, of slope
#
# $$\sqrt{\mathrm{SNR}_t}\,\Big(1 - \frac{s^2}{\bar\alpha_t\,s^2 + 1 - \bar\alpha_t}\Big).$$
#
# - With $s = 0$ this is the root of the SNR. A network with this $k$ fixed at all pixels would be one that is asked for $x_0$.
# - With $s = 1$ it is 0. With $s \to \infty$ only $x_t$ counts: $\hat x_0 = x_t/\sqrt{\bar\alpha_t}$, and the slope is $-1/\sqrt{\mathrm{SNR}_t}$.
# - As $t$ falls, the factor in brackets goes to 0 for every $s > 0$; as $t$ grows, it goes to $1 - s^2$. So for a fixed $s < 1$ the dark strokes of the right panel fade. The doubt $s$ grows with $t$, too, but the last claim shows that they do fade.
#
# The cell compares the formula with the package's exact answer. A network is freer: its $d$ depends on $x_t$, too, so $k$ need not be the whole slope (beside a stroke it is above 1 in places).
#
# With $d$ and $k$ of the line, $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,(d + k\,x_t) = m$ for every $x_t$: no noise is left in the guess, and a wrong $x_t$ does no harm (section 8). The price: at small $t$ both are large and must cancel (on black ground at $t = 1$ each is about 156, and $v$ about $\epsilon$). There a gain makes $\hat v$ worse: the two networks of the row `gain` in section 2's table have errors of 0.154 with it and 0.137 without, for $t$ up to 250. At larger $t$ the one with a gain errs less.

# %%
two = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
for t in (100, 500, 900):
    keep, rest, slope = schedule.alpha_bars[t], schedule.marginal_vars[t], schedule.snr[t].sqrt()
    for s in (0.1, 0.5, 1.0, 30.0):
        greys = dc.mixture(torch.full((1, 1), -0.3, dtype=torch.float64), s**2)
        eps_hat = dc.mixture_eps_model(schedule, greys)(two, torch.full((2,), t))
        at_0, at_1 = ((eps_hat - rest.sqrt() * two) / keep.sqrt()).flatten()  # v of both
        expected = slope * (1 - s**2 / (keep * s**2 + rest))
        torch.testing.assert_close(at_1 - at_0, expected, rtol=0, atol=1e-9)

# %% [markdown]
# And the network's $k$, on the ground and in strokes:

# %%
ground = F.max_pool2d(ten, 5, stride=1, padding=2) == -1  # no ink within two pixels
gains = {t: offset_and_gain(dc.q_sample(schedule, ten, t, ten_eps), t)[1] for t in (100, 700)}
in_ink = {t: (k[ten > -0.8].mean() / k[ground].mean()).item() for t, k in gains.items()}
off = abs(gains[100][ground].mean().item() / schedule.snr[100].sqrt().item() - 1)
claim("how far k / root of SNR is from 1 on the ground, t = 100", off, below=0.1, digits=digits)
claim("k in strokes / k on the ground, t = 100", in_ink[100], below=0.8, digits=digits)
claim("the same at t = 700", in_ink[700], above=0.85, digits=digits)

# %% [markdown]
# ## 5. Drawing
#
# `ddim_step` jumps from $t$ to any earlier $s$: it guesses $\hat x_0$ and $\hat\epsilon$, and puts them together again with less noise. The walk visits the times `even_taus(1000, 50)`: 1000, 980, ..., 20, 0. Without fresh noise (`eta=0`) a step is
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s}\;\hat\epsilon.$$
#
# With `eta=1` a part of $\hat\epsilon$ is fresh noise; for $s = t-1$ that is a step of Algorithm 2. `clip=(-1, 1)` moves every guess $\hat x_0$ into the range of pixels. Then $\hat\epsilon$ no longer fits: a jump from $t$ to $t$ would change the picture. So it is computed again, from $x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\hat\epsilon$.

# %%
count = lab.up_to(160)
drawn = draw(count)[-1].x_t
fig, (ax,) = lab.figure(width=6.4, height=1.4)
lab.draw_images(ax, drawn[:80], 20)
lab.show(fig, "80 digits drawn by the network, each from a picture of pure noise; 0 to 9 in turn.")

# %% [markdown]
# Watch 10 others come into being: left the state, right the guess $\hat x_0$ from which the step was made. After which share of the steps can you read each digit, and what do later ones change? Then compare 20 steps with 50: with which `eta` do the drawings stay the same?

# %%
etas, step_counts, seeds = {"eta = 1": 1.0, "eta = 0": 0.0}, [20, 50], [1, 2]
chains = {
    (name, steps, seed): draw(lab.up_to(10), steps=steps, seed=seed, eta=etas[name])
    for name in etas
    for steps in step_counts
    for seed in seeds
}
fig, axes = lab.figure(2, width=6, height=1.4)
left = lab.draw_images(axes[0], drawn[:10], 5)
right = lab.draw_images(axes[1], drawn[:10], 5)
for ax, title in zip(axes, ["x_t", "x0_hat"], strict=True):
    ax.set_title(title)

# %% [markdown]
# Choose a walk:


# %%
def scrub_digits(percent, sampler, steps, seed):
    """Show a walk after some of its steps."""
    done = percent * steps // 100
    step = chains[sampler, steps, seed][done - 1]
    left.set_data(lab.image_grid(step.x_t, 5))
    right.set_data(lab.image_grid(step.x0_hat, 5))
    return f"{sampler}, seed {seed}: {done} of {steps} steps done, t = {step.t}."


controls = {
    "percent": lab.slider("steps done in %", 5, 100, 40, step=5),
    "sampler": lab.choice("sampler", list(etas)),
    "steps": lab.choice("steps", step_counts, 50),
    "seed": lab.choice("seed", seeds),
}
lab.Explorer(fig, [left, right], scrub_digits, controls, play="percent")

# %% [markdown]
# At 40 % most guesses can be read; later steps clean edges and bend strokes. With `eta=0` the start decides nearly everything. With `eta=1` fresh noise enters at every step, so another number of steps gives other drawings.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: one step by hand
#
# The formula, on one step from 500 to 400. Then three facts of the next section, on your network: $w = 0$ ignores the label, $w = 1$ is the answer with the label, and it makes no difference whether $v$ is guided or $\epsilon$: the formula is $(1-w)\,\hat v(x_t, t) + w\,\hat v(x_t, t, y)$, the factors sum to 1, and so the part of $\hat\epsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,\hat v$ that is $x_t$ comes out whole.

# %%
t, s, scale = 500, 400, schedule.alpha_bars.sqrt()
network, y, times = ema.model, ten_labels, torch.full((10,), t, device=device)
noise = torch.randn(10, 1, 28, 28, generator=rng).to(device)
told = dc.eps_model_from_v(schedule, partial(network, y=y))
step = dc.ddim_step(schedule, told, noise, t, s)
x_s = scale[s].item() * step.x0_hat
x_s = x_s + schedule.marginal_vars[s].sqrt().item() * told(noise, times)
torch.testing.assert_close(step.x_t, x_s, rtol=1e-3, atol=1e-3)
guided = [dc.classifier_free(network, y, guidance_scale=w)(noise, times) for w in (0, 1, 1.5)]
torch.testing.assert_close(guided[0], network(noise, times))
torch.testing.assert_close(guided[1], network(noise, times, y))
eps_0, eps_1, eps_w = (dc.eps_from_v(schedule, noise, v_hat, t) for v_hat in guided)
torch.testing.assert_close(eps_w, eps_0 + 1.5 * (eps_1 - eps_0), rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## 6. Ask firmly
#
# All of these were drawn with a trick. Told a label, the network answers $\hat v(x_t, t, y)$; told none, $\hat v(x_t, t)$. We go further from the second to the first than the network does:
#
# $$\hat v(x_t, t) + w\,\big[\hat v(x_t, t, y) - \hat v(x_t, t)\big].$$
#
# This is **classifier-free guidance** (lesson 10). $w = 0$ ignores the label, $w = 1$ is the network's own answer to it. So far $w$ was 1.5.
#
# A **judge** says how readable drawings are, a network that names 99 % of the real test digits rightly. A drawing is *recognised* if the judge gives one digit a probability above 0.9. How varied? The *spread* is the root of a pixel's mean variance within a digit, divided by that of real digits. **Predict:** what does each do as $w$ grows?

# %%
opinion, _ = pretrained.load("judge")
test = data.images("test")
test_digits = data.to_signed(test.x)
scales, by_scale = [0.0, 1.0, 1.5, 3.0, 6.0], {}
labels = torch.arange(lab.up_to(80, least=20)) % 10
same_labels = torch.cat([(test.labels == y).nonzero()[[k // 10]] for k, y in enumerate(labels)])
real = test_digits[same_labels[:, 0]]
real_spread = judge.in_class_spread(real, labels)
for w in scales:
    images = draw(len(labels), scale=w)[-1].x_t
    recognised = judge.judge_images(opinion, images, real).confident
    by_scale[w] = images, recognised, judge.in_class_spread(images, labels) / real_spread

# %% [markdown]
# Move $w$. Dotted lines: real digits.

# %%
fig, axes = lab.figure(3, width=9, height=2.1, width_ratios=[2.6, 1, 1])
panel = lab.draw_images(axes[0], drawn[:20], 10)
titles, marks = ["recognised", "spread / real"], []
of_real = judge.judge_images(opinion, real, real).confident, 1.0
for k, (ax, title, level) in enumerate(zip(axes[1:], titles, of_real, strict=True), 1):
    ax.plot(scales, [found[k] for found in by_scale.values()], "-", color=lab.SKY)
    ax.axhline(level, color=lab.BLACK, ls=":")
    marks += ax.plot([0], [1], "o", ms=9, color=lab.BLUE)
    ax.set(xlabel="scale w", title=title, xlim=(-0.5, 6.5))
    ax.margins(y=0.25)


def insist(w):
    """Show what is drawn with a scale."""
    images, *numbers = by_scale[w]
    panel.set_data(lab.image_grid(images[:20], 10))
    for mark, number in zip(marks, numbers, strict=True):
        mark.set_data([w], [number])
    kind = {0.0: "the label is ignored", 1.0: "the network's own answer"}.get(w, "guided")
    return f"w = {w:g}, {kind}: 20 drawings; share recognised; spread beside real digits."


lab.Explorer(fig, [panel, *marks], insist, {"w": lab.choice("scale w", scales, 0.0)})

# %% [markdown]
# **Without a label this small network draws many things that are no digits.** It is small, and practised that one time in ten only. (The shipped one, at three in ten: 80 %; one never told a label: 89 %, section 7, Deeper.) Much of what looks good above is guidance, paid for by drawings of one digit that are more alike.

# %%
share_0, share_w = by_scale[0.0][1], by_scale[1.5][1]
claim("share recognised, w = 0 / w = 1.5", share_0 / share_w, below=0.9, digits=digits)
spread = by_scale[6.0][2] / by_scale[1.0][2]
claim("spread, w = 6 / w = 1", spread, below=1, digits=digits)

# %% [markdown]
# ## 7. How good are they?
#
# **Are they digits, as a set?** A sampler that draws one perfect 8 again and again is recognised every time. So beside the share recognised belong the share of each digit, and the **Fréchet distance** (lesson 00) of the judge's 64 *features* to those of real digits, divided by its *floor*: what as many training digits have on average.
#
# **Are they copies?** We measure the distance of 60 drawings to the nearest training picture: the root of the summed squared differences. Real test digits, which cannot be copies, stand beside it, and noise: each pixel alone, with that pixel's mean and variance, clipped.

# %%
its_scale = about["judge"]["guidance_scale"]
by_shipped = draw(count, shipped, scale=its_scale)[-1].x_t
picks = torch.randperm(len(test_digits), generator=rng)
some_real = test_digits[picks[picks % 2 == 1][:count]]  # not among those compared with
train, against = x0[: lab.up_to(10_000)], test_digits[::2][: lab.up_to(5_000)]
sets = {"yours": drawn, "shipped": by_shipped, "real": some_real}
verdicts = {name: judge.judge_images(opinion, x, against) for name, x in sets.items()}
judged_floor = judge.frechet_floor(opinion, train, against, count, generator=rng)
flat = x0[: lab.up_to(len(x0))].flatten(1)
few = lab.up_to(60)
pixel_noise = flat.mean(0) + flat.std(0) * torch.randn(few, 784, generator=rng)
sets["noise"] = pixel_noise.clamp(-1, 1)
gaps = {name: judge.nearest_distances(x[:few].flatten(1), flat) for name, x in sets.items()}

# %% [markdown]
# **Predict**: what share of your drawings in section 5 is recognised?

# %%
fig, axes = lab.figure(3, width=10.5, height=2.7, width_ratios=(1, 1.2, 1.3))
names = [f"{name}\n{v.frechet / judged_floor:.1f} x floor" for name, v in verdicts.items()]
bars = axes[0].bar(names, [v.confident for v in verdicts.values()], color=lab.SKY)
axes[0].bar_label(bars, fmt="%.2f")
axes[0].set(ylim=(0, 1.1), title="recognised; distance", ylabel="share")
for k, (name, verdict) in enumerate(verdicts.items()):
    axes[1].bar(torch.arange(10) + 0.27 * (k - 1), verdict.shares, width=0.27, label=name)
axes[1].axhline(0.1, color=lab.BLACK, ls=":")
axes[1].set(xticks=range(10), xlabel="digit", title="what was drawn")
axes[1].margins(y=0.4)
axes[1].legend(fontsize="small", loc="upper left", ncols=3)
axes[2].boxplot(list(gaps.values()), tick_labels=list(gaps), orientation="horizontal")
axes[2].set(xlabel="distance", title="to the nearest training picture", xlim=(0, None))
lab.show(
    fig, "Share recognised and Fréchet distance; what was drawn; distance to the training set."
)
large = about["judge"]["frechet"] / about["judge"]["frechet_floor"]
print(f"shipped network, {about['judge']['samples']} drawings: {large:.4f} x floor")
claim("share recognised, yours", verdicts["yours"].confident, at_least=0.75, digits=digits)
of_asked = judge.as_asked(opinion, drawn, torch.arange(count) % 10)
claim("share that is the digit asked for, yours", of_asked, at_least=0.75, digits=digits)
ratio = gaps["yours"].min() / gaps["real"].min()
claim("smallest distance to training, yours / real", ratio, above=0.3, digits=digits)

# %% [markdown]
# With 160 pictures the floor is high and hides a small distance; the printed number, of 2000 drawings at $w = 1.25$, shows the shipped network a little off. The real ones are random; the others were asked for in turn: a missing digit would show. A copy would lie near 0.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: two yardsticks, tried
#
# Take the mean $m$ and the covariance $C$ of the features of two sets of pictures. The Fréchet distance $D$ is that of the two Gaussians with these moments,
#
# $$D^2 = |m_1 - m_2|^2 + \mathrm{tr}\big(C_1 + C_2 - 2\,(C_1^{1/2} C_2\, C_1^{1/2})^{1/2}\big).$$
#
# In one dimension $D^2 = (m_1-m_2)^2 + (\sigma_1-\sigma_2)^2$ with the standard deviations $\sigma$. The cell checks that. And the energy distance of lesson 05, on pixels, in multiples of its own floor: drawings, and the noise of section 7.

# %%
from diffusion_core import metrics

one, two = torch.randn(1000, 1, generator=rng), 2 * torch.randn(1000, 1, generator=rng) + 1
by_hand = ((one.mean() - two.mean()) ** 2 + (one.std() - two.std()) ** 2).sqrt()
assert abs(judge.frechet_distance(one, two) - by_hand.item()) < 1e-4
print("in one dimension the Fréchet distance is that of means and standard deviations")

# %% [markdown]
# Now the pixels:

# %%
pool = test_digits.flatten(1)


def fresh_real(n):
    """Draw n real digits that the network has never seen."""
    return pool[torch.randperm(len(pool), generator=rng)[:n]]


floor = metrics.floor(metrics.energy_distance, fresh_real, few)
energies = {
    name: float(metrics.energy_distance(sets[name][:few].flatten(1), fresh_real(few))) / floor.mean
    for name in ("yours", "noise")
}
fig, (ax,) = lab.figure(width=6, height=1.5)
ax.barh(list(energies), list(energies.values()), color=lab.SKY)
ax.axvline(1, color=lab.BLACK, ls=":")
ax.set(xlabel="energy distance on pixels, multiples of the floor")
lab.show(
    fig, "The energy distance of drawings and of pixel noise to real digits; the floor is dotted."
)

# %% [markdown]
# With 60 pictures, noise that nobody would take for a digit is only about 1.4 times as far as real digits are from each other. More pictures would tell them apart (3 times with 500). But a distance between pixels needs many to see what an eye sees in one: whether neighbouring pixels fit together. That is why the features of a network are compared.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: what does a digit cost in bits?
#
# A model that gives a picture the probability $p(x_0)$ can pack it into a file of about $-\log_2 p(x_0)$ bits. We cannot compute $p(x_0)$. Lesson 04 computes a number that is never below $-\log p(x_0)$, called −ELBO. (If you have not read it, take the next sentences on trust, and look at the figure.) It is a sum with one term for each step (and one for the start from pure noise, here nearly 0), and the list of the terms is the *ledger*. The term $L_{t-1}$ says how far the network's step from $t$ to $t-1$ is from the best step, which knows $x_0$. The last step, from $t = 1$ to 0, must name a grey level from 0 to 255: a *decoder* gives each level a probability. Divided by $784\ln 2$, −ELBO is in bits per pixel.
#
# This is a question about all digits, so the network gets no label here. The variances of its steps are the posterior's, the default. All 1000 terms for many pictures would take minutes. So we compute them for 8 pictures only, see which $t$ matter most, and for the others draw only four $t$ each, more often where the terms are large. Dividing by the probability of the draw keeps the mean right (*importance sampling*).

# %%
import math

eight, many = (z.to(device) for z in (test_digits[:8], test_digits[-lab.up_to(200) :]))
ledger = dc.cosine_schedule(lab.up_to(1000))  # the schedule of section 1
options = {"decoder": dc.discretized_decoder, "generator": rng}
shipped_eps = dc.eps_model_from_v(schedule, shipped)  # it is told t, and no label
terms = dc.elbo_terms(ledger, shipped_eps, eight, **options)
probs = dc.importance(terms)
estimate = dc.elbo_estimate(ledger, shipped_eps, many, probs=probs, draws=4, **options)
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
fig, axes = lab.figure(2, width=9, height=2.5, width_ratios=(1.2, 1))
axes[0].semilogy(range(2, ledger.T + 1), terms.steps.mean(0).cpu()[2:] / (784 * math.log(2)))
axes[0].semilogy([1], [terms.recon.mean().item() / (784 * math.log(2))], "o", color=lab.BLACK)
axes[0].set(
    xlabel="t", ylabel="bits per pixel", title="the ledger's $L_{t-1}$, and $L_0$; 8 pictures"
)
axes[1].barh(list(costs), list(costs.values()), color=lab.SKY, xerr=[0, 0, bits_error])
axes[1].set(xlabel="bits per pixel", title=f"{bits:.2f} +- {bits_error:.2f} for the network")
lab.show(fig, "Left: what each step costs. Right: bits per pixel of PNG, gzip and the network.")
lab.claim("bits, the network / PNG", bits / costs["PNG"], below=1, digits=digits)
lab.claim("bits, the network / gzip", bits / costs["gzip"], above=1, digits=digits)

# %% [markdown]
# The network beats PNG, but not gzip, which packs all the pictures together. The small $t$ cost most: the last grey levels of a pixel are close to chance, and even exact guesses of black are paid for there (see below). Nobody sees either. The loss of section 4 hardly looks at these steps. Both it and the ledger measure squared errors of the guess, but with other weights: at small $t$ an error weighs far more in the ledger. The loss was chosen for the eye, not for the shortest file.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: where the bits go
#
# The best step is a Gaussian of variance $\tilde\beta_t$ (lesson 03). The network's step has the variance $\sigma_t^2$. Here $\sigma_t^2 = \tilde\beta_t$, so the two Gaussians differ in their means only. So for $t \ge 2$, with the *signal-to-noise ratio* $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$:
#
# $$L_{t-1} = \tfrac12\,\big(\mathrm{SNR}_{t-1} - \mathrm{SNR}_t\big)\,|x_0 - \hat x_0|^2. \tag{43}$$
#
# This is a sum over pixels. We check it pixel by pixel, with a random guess:

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
# The network `bits` was trained for this sum and $L_0$ alone, without labels (`make train-bits`, 12 epochs, two hours on one core); the next section says how it answers. In its schedule $\ln\mathrm{SNR}_t$ falls evenly from 13 to −9, in 4000 steps: by (43) each step is charged the error at its noisier end. With smaller steps that end is less noisy, and the sum is smaller: with 1000 it is about 0.01 bits more. So both ledgers are sorted by $\ln\mathrm{SNR}$. In each interval, each picture gets one $t$ by chance, whose term stands for all steps there. The interval's *width* is the range of $\ln\mathrm{SNR}$ that these steps cover.


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
levels_schedule, some = bits_network.schedule, many[: lab.up_to(12)]
bits_network = bits_network.to(device)

# %% [markdown]
# Left, the cost of an interval divided by its width. Dot and square show $L_0$ in bits per pixel, not per unit. It pays for the noise left at $t = 1$, where $\ln\mathrm{SNR}$ is about 10 ($v$) and 13 (grey levels). The maps show each pixel's cost in all steps but the last, a mean over 12 pictures.


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
# - **The decoder's width**, not in the map. At $t = 1$ the posterior's variance would be 0; the decoder takes $\beta_1$, and $\sqrt{\beta_1}$ is 0.8 of the distance of neighbouring levels. So even a black pixel guessed exactly costs the bits printed below, and four of five are black. A smaller $\beta_1$ makes $L_0$ cheaper but adds steps, which cost, too.

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
# `bits` answers with four numbers at each pixel. They make a law $p_k > 0$ of the levels $l_k = 2k/255 - 1$, $k = 0..255$: a chance of black, one of white, and a bell over all levels (a logistic density, and a small constant that leaves no level impossible). Bayes' rule adds what the noisy pixel says:
#
# $$\hat x_0 = \sum_k l_k r_k, \qquad r = \mathrm{softmax}_k\Big(\ln p_k - \frac{(x_t - \sqrt{\bar\alpha_t}\,l_k)^2}{2(1-\bar\alpha_t)}\Big). \tag{44}$$
#
# For a pixel of law $p$ this is $\mathbb E[x_0\mid x_t]$. (The network sees $x_t$ before it says $p$, so $x_t$ counts twice; it can learn a $p$ that allows for it.) At $t = 1$, $r$ is the decoder: $L_0$ is the sum of $-\ln r$ at the true levels. The package, checked:

# %%
grey = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
dark, light, centre, sharpness = answer = torch.tensor([0.5, -1.0, 0.2, 8.0], dtype=torch.float64)
black, white, between = torch.stack([dark, light, torch.zeros_like(dark)]).softmax(0)
curve = 1 - torch.tanh((1 + F.softplus(sharpness)) * (grey - centre) / 2) ** 2 + 1e-5
p = between * curve / curve.sum()
p[0], p[255] = p[0] + black, p[255] + white


def by_bayes(x_t, alpha_bar_t):
    """Return what the noisy pixel says of each level, and r of (44)."""
    said = -((x_t - alpha_bar_t.sqrt() * grey) ** 2) / (2 * (1 - alpha_bar_t))
    return said, (p.log() + said).softmax(0)


for t in (1, 1200, 2800):
    keep, x_t = levels_schedule.alpha_bars[t], torch.tensor(0.1, dtype=torch.float64)
    _, r = by_bayes(x_t, keep)
    pixel = [z.view(1, -1, 1, 1) for z in (answer, x_t, keep.sqrt(), (1 - keep).sqrt())]
    torch.testing.assert_close(nets.LevelPosterior(*pixel).mean.squeeze(), (r * grey).sum())
    print(
        f"t = {t}: chance of black {p[0]:.4f} before, {r[0]:.4f} after; guess {(r * grey).sum():.4f}"
    )

# %% [markdown]
# A pixel of level 0.3, with the same negative noise and $p$ throughout. **Predict first:** at which $\ln\mathrm{SNR}$ does black drop out of $r$?

# %%
fig, (ax,) = lab.figure(width=5.2, height=2.3)
ax.semilogy(grey, p, color=lab.BLUE, label="expected: p")
(evidence,) = ax.plot(grey, p, "--", color=lab.ORANGE, label="said by the noisy pixel")
(both,) = ax.plot(grey, p, "-", color=lab.BLACK, lw=2, label="both: r")
(mark,) = ax.plot([0, 0], [1e-9, 9], ":", color=lab.BLACK, label="mean of r")
ax.set(ylim=(1e-6, 2), xlabel="grey level", ylabel="chance (dashed: height 1)")
ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
snr_slider = {"log_snr": lab.slider("ln SNR", -6, 8, 0)}


def weigh(log_snr):
    """Show (44) for one pixel."""
    keep = torch.tensor(float(log_snr), dtype=torch.float64).sigmoid()
    said, r = by_bayes(0.3 * keep.sqrt() - 0.6 * (1 - keep).sqrt(), keep)
    mean = (r * grey).sum().item()
    evidence.set_ydata((said - said.max()).exp())
    both.set_ydata(r)
    mark.set_xdata([mean, mean])
    return f"ln SNR = {log_snr}: the guess for a pixel of level 0.3 is {mean:.2f}."


lab.Explorer(fig, [evidence, both, mark], weigh, snr_slider)

# %% [markdown]
# Below 0 the expectation decides; the pixel, darkened by noise, even argues for black. Between 0 and 2 black drops out: the guess jumps. Then the pixel decides. (A real network's $p$ changes with $t$.)
#
# A small network sees 150 batches of 16 digits. `bound_loss` is a random term of the ledger.


# %%
def bits_loss(model, x0):
    return dc.bound_loss(model.schedule, model.posterior, x0, generator=dice)


beginner = nets.LevelUNet(levels_schedule, widths=(32, 64), patch=2).to(device)
sixteen = data.minibatches(x0, lab.up_to(16, least=4), generator=dice)
brief = dc.train(beginner, bits_loss, sixteen, steps=150, lr=4e-3)
chances = levels_schedule.alpha_bars.clone()
chances[:2] = 0  # as in the loss: t with more signal is drawn more often
sample = test_digits[:: len(test_digits) // 50][: lab.up_to(50, least=2)].to(device)


# %% [markdown]
# The number behind a name counts test pictures. PNG and the three networks with the same number get the same pictures; gzip, bzip2 and xz get all, in one file. PNG's frame is hatched. The lowest bar was measured on MNIST's test set when `bits` was made. Marks are standard errors.


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
packed = data.to_uint8(test_digits[: lab.up_to(10_000)]).numpy().tobytes()
formats = {"gzip": gzip.compress(packed, 9), "bzip2": bz2.compress(packed, 9)}
formats["xz"] = lzma.compress(packed, preset=9)
per_pixel = {name: 8 * len(file) / len(packed) for name, file in formats.items()}
rows |= {f"{k}, {len(packed) // 784}": (value, 0) for k, value in per_pixel.items()}
asked_for_v = bits_of(ledger, shipped_eps, dc.discretized_decoder, probs)
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
# Published, for MNIST's test set (thin lines below; collected by Chen and others, 2019):
#
# | model | bits per pixel |
# |---|---|
# | Real NVP | 1.06 |
# | Glow | 1.05 |
# | FFJORD | 0.99 |
# | Residual Flow | 0.97 |
#
# These are *flows*: invertible networks, whose density is computed, or estimated without bias. The density needs continuous numbers, so uniform noise is added to the levels: the result is a bound. Ours, an ELBO, is a bound, too: level with Real NVP, above the other three. No bar counts the weights (2 MB for `bits`), which a receiver must have.

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
# So 150 steps with this answer, this loss and this schedule beat many thousands with $v$ and a loss for the eye (by a network, though, that practised without a label three times in ten only). Does `bits` draw better? Both draw in 25 steps at the same SNRs, without labels.

# %%
fig, axes = lab.figure(2, width=9, height=1.75)
evenly = dc.even_taus(schedule.T, lab.up_to(25, least=2))
noise_levels = schedule.snr[evenly[:-1]].rsqrt()
for ax, name, plan, guess_eps in (
    (axes[0], "asked for v", schedule, shipped_eps),
    (axes[1], "grey levels", levels_schedule, levels_eps),
):
    start = torch.randn(12, 1, 28, 28, generator=dice).to(device)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": dice}
    taus = dc.nearest_taus(plan, noise_levels)
    *_, end = dc.sample_chain(dc.ddim_step, plan, guess_eps, start, taus, **options)
    lab.draw_images(ax, end.x_t, 6)
    ax.set_title(name)
lab.show(fig, "Twelve digits of each network, drawn without labels.")

# %% [markdown]
# `bits` draws sharp strokes on pure black, but fewer figures that can be read: 57 %, where the other network reaches 80 % (`benchmarks/mnist_trials.md`). Its loss hardly looks where shapes appear. Three sums count the same error $e_t = |v - \hat v|^2$, each with weights of its own. The loss for $v$ counts all $t$ alike. The plain loss of Algorithm 1, $L_\mathrm{simple}$, sees $|\epsilon-\hat\epsilon|^2 = \bar\alpha_t\,e_t$. The bound, by (43), sees $|x_0-\hat x_0|^2 = (1-\bar\alpha_t)\,e_t$, times half of what the SNR loses in a step. **Predict first:** which share of each lies between $\ln\mathrm{SNR} = -4$ and 2, where a shape appears in the noise?

# %%
fig, (ax,) = lab.figure(width=5, height=2.2)
ax.axvspan(-4, 2, color=lab.BLACK, alpha=0.08)
share = {}
for name, plan, color, ls, weight_at in (
    ("v", schedule, lab.BLUE, "-", lambda s, t: torch.ones_like(s.snr[t])),
    ("plain", schedule, lab.GREEN, "-.", lambda s, t: s.alpha_bars[t]),
    (
        "bound",
        levels_schedule,
        lab.ORANGE,
        "--",
        lambda s, t: (s.snr[t - 1] - s.snr[t]) / 2 * (1 - s.alpha_bars[t]),
    ),
):
    t = torch.arange(2, plan.T + 1)
    weight = weight_at(plan, t)
    weight = weight / weight.sum()
    at, step = plan.snr[t].log(), (plan.snr[t - 1] / plan.snr[t]).log()
    ax.plot(at, weight / step, color=color, ls=ls, label=name)
    share[name] = weight[(at >= -4) & (at <= 2)].sum().item()
ax.set(xlabel="ln SNR", ylabel="share per unit", xlim=(-9, 13))
ax.legend(fontsize="small")
lab.show(fig, "How three losses weigh the error of v, by ln SNR.")
print(", ".join(f"{name} {part:.0%}" for name, part in share.items()), "between -4 and 2")
lab.claim("weight between -4 and 2, bound / v", share["bound"] / share["v"], below=0.3)

# %% [markdown]
# The bound lays most of its weight on the grey levels of a picture whose shape is settled. (The shipped network went the other way: three of four $t$ in its training were drawn around $\ln\mathrm{SNR} = -0.75$, most of them between −4 and 2.) Grey levels are not to blame. With the loss for $v$, laws of pixels draw best of all: see the next part.
#
# **From**: Ho and others (2020), the bound; Kingma and others, *Variational Diffusion Models* (2021), (43); Salimans and others, *PixelCNN++* (2017), logistic laws of pixels; Chen and others, *Residual Flows* (2019), the table.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: black, white, or a bell
#
# (44) adds 256 terms at each pixel. To draw, a coarser law will do, with nothing to add up. A pixel is black with chance $p_b$, white with chance $p_w$, or comes from a bell of mean $m$ and standard deviation $s$ with chance $p_c = 1 - p_b - p_w$:
#
# $$p(x_0) = p_b\,\delta(x_0 + 1) + p_w\,\delta(x_0 - 1) + p_c\,\mathcal N(x_0;\, m,\, s^2).$$
#
# Here $\delta(x_0 - a)$ puts all its chance on the one number $a$, and $\mathcal N(x_0; m, s^2)$ is the density of $\mathcal N(m, s^2)$ at $x_0$. Statisticians call the first two *spikes*, and the bell a *slab*. (The bell reaches a little beyond black and white. Nobody minds.)
#
# Noise turns each part into a Gaussian: the law of $x_t$ is $\mathcal N(-\sqrt{\bar\alpha_t},\, 1 - \bar\alpha_t)$ for a black pixel, $\mathcal N(\sqrt{\bar\alpha_t},\, 1 - \bar\alpha_t)$ for a white one, and $\mathcal N(\sqrt{\bar\alpha_t}\,m,\, V)$ for one from the bell, with $V = \bar\alpha_t s^2 + 1 - \bar\alpha_t$. By Bayes' rule, the chances once $x_t$ is seen are in proportion to the chance before, times this density at $x_t$. We call them $r_b$, $r_w$ and $r_c$; their sum is 1. If the pixel is from the bell, $x_t/\sqrt{\bar\alpha_t}$ is a noisy reading of it. The guess goes from $m$ towards the reading, by a share $\bar\alpha_t s^2/V$ of the way: nearly all of it where the noise is small. Together:
#
# $$\hat x_0 = r_w - r_b + r_c\Big(m + \frac{\bar\alpha_t\,s^2}{V}\Big(\frac{x_t}{\sqrt{\bar\alpha_t}} - m\Big)\Big). \tag{76}$$
#
# The network gives each pixel a law of its own, by four numbers $a, b, m, c$: the chances are $\mathrm{softmax}(a, b, 0)$, and $s = 0.02 + \mathrm{softplus}(c - 1)$, so that no bell is narrower than 2.5 grey levels. (As in (44), $x_t$ counts twice.) Here is one law, and (76) checked against its bell cut into strips, at three readings:

# %%
four_numbers = torch.tensor([1.0, -0.5, 0.2, 0.0], dtype=torch.float64)  # a, b, m, c
chances_before = torch.cat([four_numbers[:2], four_numbers.new_zeros(1)]).softmax(0)
bell = torch.distributions.Normal(four_numbers[2], 0.02 + F.softplus(four_numbers[3] - 1))
slices = torch.linspace(-6, 6, 6001, dtype=torch.float64)  # 0.002 wide
places = torch.cat([slices.new_tensor([-1.0, 1.0]), slices])
in_slices = chances_before[2] * bell.log_prob(slices).exp() * 0.002
masses = torch.cat([chances_before[:2], in_slices])
keep = schedule.alpha_bars[500]
for reading in torch.tensor([-1.2, 0.1, 0.9], dtype=torch.float64):
    x_t = keep.sqrt() * reading
    seen = masses * torch.exp(-((x_t - keep.sqrt() * places) ** 2) / (2 * (1 - keep)))
    by_strips = (seen * places).sum() / seen.sum()
    pixel = [z.view(1, -1, 1, 1) for z in (four_numbers, x_t, keep.sqrt(), (1 - keep).sqrt())]
    closed = nets.spike_slab_mean(*pixel).squeeze()
    torch.testing.assert_close(closed, by_strips)
    print(f"reading {reading:4.1f}: by strips {by_strips:.6f}, by (76) {closed:.6f}")

# %% [markdown]
# Now the guess for every reading, for the same law. Dashed: the guess is the reading, as if there were no noise. Dotted: the mean of the law, without a look at the pixel. **Predict first:** what becomes of the curve where the noise fades, and where it is heavy?

# %%
fig, (ax,) = lab.figure(width=5.2, height=2.4)
readings = torch.linspace(-1.3, 1.3, 1041, dtype=torch.float64)
mean_of_law = (masses * places).sum()
ax.plot(readings, readings, "--", color=lab.ORANGE, label="the pixel alone")
ax.axhline(mean_of_law.item(), color=lab.BLUE, ls=":", label="the law alone")
(stairs,) = ax.plot(readings, readings, color=lab.BLACK, lw=2, label="both: (76)")
ax.set(ylim=(-1.3, 1.3), xlabel=r"reading $x_t\,/\,\sqrt{\bar\alpha_t}$", ylabel=r"$\hat x_0$")
ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))


def guessed(log_snr):
    """Show (76) for all readings at one SNR."""
    keep = torch.tensor(float(log_snr), dtype=torch.float64).sigmoid()
    row = (keep.sqrt() * readings).view(1, 1, 1, -1)
    law = four_numbers.view(1, 4, 1, 1).expand(1, 4, 1, len(readings))
    factors = [z.view(1, 1, 1, 1) for z in (keep.sqrt(), (1 - keep).sqrt())]
    x0_hat = nets.spike_slab_mean(law, row, *factors).flatten()
    stairs.set_ydata(x0_hat)
    width, black = math.exp(-log_snr / 2), ((x0_hat + 1).abs() < 0.02).double().mean().item()
    return f"ln SNR = {log_snr}: noise of a reading {width:.3f}; {black:.0%} of the curve is black."


lab.Explorer(fig, [stairs], guessed, {"log_snr": lab.slider("ln SNR", -6, 8, 6)})

# %% [markdown]
# Where the noise is heavy, the curve lies flat on the mean of the law. From $\ln\mathrm{SNR} = 5$ on it is nearly the reading itself, but for a flat piece at black and one at white: a spike has all its chance on one number, so close to it the spike wins over the bell. Each flat piece is some widths of the noise wide, and ends in steep steps. Hardly any pixel lies beyond the outer ones. A network asked for $v$ has to learn the two inner steps, and they lie elsewhere at each $t$. Where all is black it must repeat the noise: there $v = (\sqrt{\bar\alpha_t}\,x_t + 1)/\sqrt{1 - \bar\alpha_t}$, a line of slope $\sqrt{\mathrm{SNR}_t}$. In (76) the steps and this line are built in.
#
# Does this help after a very short training? Two U-Nets of widths 32 and 64, without labels, see the same 150 batches of 32, $t$ and noise. Both look at the same four pictures: $x_t$, the reading cut off near $\pm 1$, and how well each pixel fits black and white. One answers $v$ (we take its third number at each pixel for that). The other answers a law; from its $\hat x_0$, `dc.v_model_from_x0` computes $v$ as in section 3. The loss is that for $v$. **Predict first:** by how much is the second one's error smaller?


# %%
def after_a_moment(net, v_model):
    """Train net so that v_model answers v; return the error on test digits, and the history."""
    twin, other = (torch.Generator().manual_seed(seed) for seed in (3, 4))  # the same for both

    def loss(_, x0):
        return dc.v_loss(schedule, v_model, x0, generator=twin)

    batches = data.minibatches(x0, lab.up_to(32, least=4), generator=twin)
    history = dc.train(net, loss, batches, steps=150, lr=2e-3)
    with torch.no_grad():
        asked = test_digits[-lab.up_to(1000) :].to(device)
        return dc.v_loss(schedule, v_model, asked, generator=other).item(), history


options = {"widths": (32, 64), "patch": 2, "scale_shift": True}
plain = nets.PixelUNet(schedule, **options).to(device)
spikes = nets.SpikeSlabUNet(schedule, **options).to(device)
of_plain, _ = after_a_moment(plain, lambda x_t, t: plain(x_t, t)[0][:, 2:3])
of_spikes, moment = after_a_moment(spikes, dc.v_model_from_x0(schedule, spikes))
claim_here = partial(lab.claim, history=moment, digits=digits)
claim_here("error of v on test digits, spikes and a slab", of_spikes, below=0.25)
claim_here("the same, divided by the plain one's", of_spikes / of_plain, below=0.7)

# %% [markdown]
# The network asked for $v$ (it has no gain) first has to learn to repeat the noise; the other can do so from the start. This lead in the error of $v$ shrinks with time but does not vanish: after 80 000 digits it is 0.121 against 0.135. `benchmarks/time_to_quality.py` trains networks of this size without labels, one core each, and draws 2 000 digits in 25 steps. After *one* minute, the network of spikes and a slab is at 6.0 times the floor of section 7, and 51 % are recognised. A well-known library's U-Net (diffusers), asked for $v$, comes to 6.1 and 52 % after *five* minutes, with twice as many pictures seen. After five, the other is at 3.6 and 70 %. (In a later run, on a quicker machine, your network, with its gain and without labels, was at 6.5 and 47 % after one minute, at 5.7 and 54 % after 100 seconds, and at 4.0 and 67 % after five; the library's, after five, at 5.9 and 53 %.)
#
# And after 69 minutes on one core? The course brings such a network, a little wider (32 and 96), which was never told a digit: `mnist_unlabelled`. Beside it, the shipped network of section 1 draws without a label, from the same noise. You see their guesses $\hat x_0$, clipped, during 50 steps. **Predict first:** will both draw the same digits? At which step can you read the first ones?

# %%
never_told, about_never = pretrained.load("mnist_unlabelled")
by_law = dc.v_model_from_x0(schedule, never_told.to(device))
rivals = {"asked for v": shipped, "a law of each pixel": by_law}
of_each = lab.up_to(100)
free = {name: draw(of_each, rival, steps=50, scale=0.0) for name, rival in rivals.items()}
fig, axes = lab.figure(2, width=6, height=1.5)
sheets = [
    lab.draw_images(ax, walk[-1].x_t[:10], 5) for ax, walk in zip(axes, free.values(), strict=True)
]
for ax, name in zip(axes, free, strict=True):
    ax.set_title(name)


def guesses_after(done):
    """Show what both guess after so many parts of the walk."""
    for sheet, walk in zip(sheets, free.values(), strict=True):
        sheet.set_data(lab.image_grid(walk[done - 1].x0_hat[:10], 5))
    return f"{done} of 50 steps done: the guesses of both."


lab.Explorer(fig, sheets, guesses_after, {"done": lab.slider("steps done", 1, 50, 12)})

# %% [markdown]
# At first both show the same grey clouds: several digits are still possible, and a mean of them is grey, whoever computes it. Around step 10 the first ones can be read. Most drawings become the same digit on both sides, as the noise is the same. Where the left one ends between two digits, the right one often comes to a decision, and its edges are sharp a little earlier. The file of each network holds the judge's numbers for 2 000 drawings in 50 steps:

# %%
of_free = {"asked for v": about["judge_without_label"], "a law": about_never["judge"]}
off = {name: row["frechet"] / row["frechet_floor"] for name, row in of_free.items()}
for name, row in of_free.items():
    classes = f"each digit {min(row['shares']):.1%} to {max(row['shares']):.1%}"
    print(f"{name:12} {row['confident']:.1%} recognised, {off[name]:.2f} x floor, {classes}")
assert off["a law"] < 0.6 * off["asked for v"]
sure = judge.judge_images(opinion, free["a law of each pixel"][-1].x_t, real).confident
lab.claim("share recognised of those above, a law", sure, at_least=0.75, digits=digits)

# %% [markdown]
# The second network has fewer numbers (0.58 million, not 1.01). But not all of its lead is due to the law. It sees four pictures instead of one, and it practised without a label all the time, seven times as often as the other did. (The other shipped networks were trained before this was tried. Lesson 10 makes these digits better still.)
#
# **From**: Mitchell and Beauchamp, *Bayesian Variable Selection in Linear Regression* (1988), spikes and a slab.

# %% [markdown]
# ## 8. What breaks
#
# Pixels lie between −1 and 1. So somebody clips the *state* $x_t$ to that range in every step, "to keep it stable". But $x_t$ is noisy: a third of pure noise lies outside. (The guess $\hat x_0$ is a mean of clean pictures, which lie inside.) Both samplers below clip the guess of the shipped network; the second clips the state, too.


# %%
def clipped_state(schedule, eps_model, x_t, t, s, **options):
    """A DDIM step with the mistake: the state is clipped."""
    step = dc.ddim_step(schedule, eps_model, x_t.clamp(-1, 1), t, s, **options)
    return step._replace(x_t=step.x_t.clamp(-1, 1))


sound, broken = (
    draw(lab.up_to(20), shipped, step=step, scale=its_scale)[-1].x_t
    for step in (dc.ddim_step, clipped_state)
)
fig, axes = lab.figure(3, width=10, height=2.3, width_ratios=[1.7, 1.7, 1])
two_ways = {"only the guess clipped": sound, "the state, too": broken}
for ax, (name, images), ls in zip(axes, two_ways.items(), ("-", "--"), strict=False):
    lab.draw_images(ax, images[:4], 4)
    ax.set_title(name)
    values = images.flatten().clamp(-1, 1)
    axes[2].hist(values, bins=40, range=(-1, 1), histtype="step", ls=ls, label=name, log=True)
axes[2].set(xlabel="grey of a pixel", ylabel="pixels", title="all pixels", ylim=(None, 2e5))
axes[2].legend(fontsize="small", loc="upper right")
lab.show(fig, "Four digits of each sampler, enlarged, and the grey of all pixels.")

# %% [markdown]
# The ground is no longer black, the strokes are no longer white. A black pixel's noise is cut mostly on the dark side. Its mean rises, the network takes it for grey, and the error adds up over 50 steps. At large $t$ the noise is also weaker than the network expects. (Your $k$ saves the ground: section 4, Deeper.)

# %%
two_ways["yours"] = drawn[: len(broken)]
two_ways["yours, the state clipped, too"] = draw(len(broken), step=clipped_state)[-1].x_t
of_shipped, of_shipped_clipped, of_yours, of_yours_clipped = (
    (images < -0.95).float().mean() for images in two_ways.values()
)
lab.claim("share of black pixels, state clipped / not", of_shipped_clipped / of_shipped, below=0.9)
claim("the same of your network", of_yours_clipped / of_yours, above=0.9, digits=digits)
normal = torch.randn(100_000, generator=rng.manual_seed(8), dtype=torch.float64)
print(f"standard deviation of noise cut off at -1 and 1: {normal.clamp(-1, 1).std():.2f}")
print(f"share of the noise outside -1 and 1: {(normal.abs() > 1).double().mean():.2f}")
x_20 = dc.q_sample(schedule, torch.full_like(normal, -1.0), 20, normal)
print(f"share of black pixels below -1 at t = 20: {(x_20 < -1).double().mean():.2f}")

# %% [markdown]
# **Exercise 4. Find the mistakes.** A colleague writes one step for a network that answers $v$: from $x_t$ to $x_s$, without fresh noise, pixels kept in range. `alpha_bar_t` and `alpha_bar_s` are numbers.
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
# It draws poor digits. Write the function right.


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
# ## 9. Your network, your pictures
#
# Now *your* functions are trained: `MyUNet` goes your way, to $d$ and $k$. (While exercise 3 is empty, it goes the package's.)


# %%
class MyUNet(nets.UNet):
    """The package's layers, joined by `my_unet`."""

    def forward(self, x_t, t, y=None):
        both = my_unet(self, x_t, self.embed(t, y))
        if both is None:
            return super().forward(x_t, t, y)
        d, k = both.chunk(2, dim=1)
        return d + k * x_t


# %% [markdown]
# It learns from a folder of pictures (.png or .jpg), each 28 × 28 and grey. Put the path of yours into `my_folder`: signs, letters, faces, a few dozen at least. Otherwise the cell makes 200 rings and crosses.

# %%
my_folder = None  # for instance "pictures/faces"
down, across = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")


def draw_shapes(folder, n):
    """Write n rings and crosses as PNG files into a folder, and return it."""
    for k in range(n):
        y, x, size = (torch.rand(3, generator=rng) * 6 + torch.tensor([11, 11, 5])).tolist()
        ring = (((down - y) ** 2 + (across - x) ** 2).sqrt() - size).abs()
        cross = ((down - y).abs() - (across - x).abs()).abs() / 2**0.5
        cross = torch.maximum(cross, (down - y).abs() - 0.7 * size)
        ink = (2 - (cross if k % 2 else ring)).clamp(0, 1)
        Image.fromarray((255 * ink).byte().numpy()).save(Path(folder, f"{k:03d}.png"))
    return folder


import tempfile
from pathlib import Path

from PIL import Image

with tempfile.TemporaryDirectory() as spare:
    my_pictures = data.to_signed(data.folder(my_folder or draw_shapes(spare, 200)))

# %% [markdown]
# 300 steps, without labels. It begins with the weights from section 4: strokes it knows. With few pictures and many steps, look for copies (section 7).


# %%
def plain_loss(model, x0):
    return dc.v_loss(schedule, model, x0, generator=rng)


my_steps = 300
mine = MyUNet(classes=10, gain=True).to(device)
mine.load_state_dict(ema.model.state_dict())
my_ema = dc.EMA(mine, decay=0.98)
my_batches = data.minibatches(my_pictures, min(32, len(my_pictures)), generator=rng)
dc.train(mine, plain_loss, my_batches, steps=my_steps, lr=2e-3, ema=my_ema)
answer = dc.eps_model_from_v(schedule, my_ema.model)
start = torch.randn(lab.up_to(20), 1, 28, 28, generator=rng).to(device)
taus, settings = dc.even_taus(1000, usual_steps), {"eta": 1.0, "clip": (-1, 1), "generator": rng}
*_, last = dc.sample_chain(dc.ddim_step, schedule, answer, start, taus, **settings)
fig, axes = lab.figure(2, width=8, height=1.25)
lab.draw_images(axes[0], my_pictures[:20], 10)
axes[0].set_title("from the folder")
lab.draw_images(axes[1], last.x_t, 10)
axes[1].set_title("drawn")
lab.show(fig, "Pictures of the folder, and pictures drawn by the network that learned from them.")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: where this comes from
#
# **References.** Ronneberger et al., *U-Net* (2015). Vaswani et al., *Attention Is All You Need* (2017). Ho et al., *DDPM* (2020). Nichol and Dhariwal, *Improved DDPM* (2021). Song et al., *DDIM* (2021). Salimans and Ho, *Progressive Distillation* (2022), for $v$. Ho and Salimans, *Classifier-Free Diffusion Guidance* (2022). LeCun et al., *The MNIST database*.

# %% [markdown]
# ## 10. Summary
#
# 1. A U-Net sees the whole picture at its coarse end and exact places through its skip connections.
# 2. It may be asked for $\epsilon$, $x_0$ or $v$; each gives the others, and an error in $v$ is never enlarged.
# 3. Training is Algorithm 1 with $v$ in the place of $\epsilon$; drawing is a walk from noise.
# 4. Guidance makes drawings readable and alike; a judge, a distance and the nearest training pictures measure it.
# 5. Clip the guess, never the state.
#
# | equation | function |
# |---|---|
# | (22) $v$ and back | `v_target`, `x0_from_v`, `eps_from_v`, `eps_model_from_v` |
# | Algorithm 1 for $v$ | `v_loss`, `train` |
# | asking for a digit | `drop_labels`, `classifier_free` |
# | drawing in few steps | `ddim_step`, `even_taus`, `sample_chain` |
# | a judge's verdict | `judge.judge_images`, `judge.frechet_distance` |
#
# **Next**: [07 · Can you learn a slope that nobody can tell you?](07_score_matching.ipynb), or [14](14_bug_museum.ipynb).
