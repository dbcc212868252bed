# %% [markdown]
# # 10 · Can you tell a diffusion model what to draw?
#
# You want not *some* digit but *this* one, or the rest of a picture that you began. Guidance steers a trained model while it samples. This lesson steers in three ways, and asks, beside an exact answer, what is really drawn.
#
# **At the end you can**
# - steer by a classifier and by a label, and convert the two scales in use;
# - say which density guided samples follow, and which they do not;
# - weigh accuracy against variety, in numbers;
# - fill in the missing part of a picture.
#
# **You need** lessons 07 and 09; lesson 06 for the network and the judge. **Time**: about 120 minutes.

# %%
from functools import cache, partial

import torch

import diffusion_core as dc
import diffusion_lab as lab
from diffusion_core import data, judge, nets, pretrained

rng = torch.Generator().manual_seed(0)

# %% [markdown]
# ## 1. The picture first
#
# The shipped network of lesson 06 can be asked with a label, $\hat v(x_t, t, y)$, or without, $\hat v(x_t, t)$; then it gets the **null label**. (Three times in ten in its training the label was replaced by it.) *Guidance* goes from the second answer to the first and on, by the scale $w$. We draw the same noise with seven scales, by ten calls of 2M (lesson 09).

# %%
schedule = dc.cosine_schedule(1000)
network, _ = pretrained.load("mnist")
opinion, _ = pretrained.load("judge")
scales = [0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
n, calls = (20, 2) if dc.is_short_run() else (100, 10)
rows = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, calls))
labels = torch.arange(n) % 10
noise = torch.randn(n, 1, 28, 28, generator=rng.manual_seed(1))


def drawn_by(v_model):
    """Return the states from noise to digits, and the digits expected at each of them."""
    guess = dc.eps_model_from_v(schedule, v_model)
    chain = dc.sample_chain(dc.dpm_solver_2m(), schedule, guess, noise, rows, clip=(-1, 1))
    steps = list(chain)
    states = [noise, *(step.x_t for step in steps)]
    return states, [*(step.x0_hat for step in steps), steps[-1].x_t]


walks = {w: drawn_by(dc.classifier_free(network, labels, guidance_scale=w)) for w in scales}

# %% [markdown]
# Asked for 0 to 9, one row a scale, one noise a column. Which row is the clearest? Which looks like handwriting?

# %%
fig, axes = lab.figure(1, len(scales), width=7, height=5.4)
for ax, w in zip(axes, scales, strict=True):
    lab.draw_images(ax, walks[w][0][-1][:10], 10)
    ax.set_ylabel(f"w = {w:g}", rotation=0, ha="right", va="center")
lab.show(fig, "The digits 0 to 9 asked for with seven scales, from the same noise.")

# %% [markdown]
# Choose a scale and a digit, then play the way from noise, call by call. At which calls does the scale decide? Is there a scale at which all ten pictures of one digit look alike?

# %%
fig, axes = lab.figure(1, 2, width=8, height=2.3)
panels = [lab.draw_images(ax, noise[:10], 10) for ax in axes]
axes[0].set_title("on the way")
axes[1].set_title("expected at the end")


def steer(w, digit, done):
    """Show ten digits drawn with a scale, after a part of the way."""
    chosen = torch.arange(10) if digit == "one of each" else (labels == digit).nonzero()[:10, 0]
    for panel, states in zip(panels, walks[w], strict=True):
        panel.set_data(lab.image_grid(states[done][chosen], 10))
    return f"scale {w:g}, digit asked for: {digit}, {done / calls:g} of the calls done."


controls = {
    "w": lab.choice("guidance scale w", scales, 3.0),
    "digit": lab.choice("digit", ["one of each", *range(10)]),
    "done": lab.slider("calls of the network", 0, calls, calls // 2),
}
lab.Explorer(fig, panels, steer, controls, play="done")

# %% [markdown]
# At $w = 0$ the label is ignored. At $w = 1$ the digits are varied, and some are hard to read. At $w = 8$ all are bold, and still not copies of each other. A large scale decides early: what is expected is sharp from the first call on. At $w = 1$ it begins as a blurred mean of the class, and is one sharp digit at about the fourth call. The second half of the way changes edges only.
#
# ## 2. A classifier steers
#
# We want the score of the noisy data *of class $y$*. Bayes' rule has it: $q(x_t \mid y) = q(x_t)\,p(y\mid x_t)/p(y)$. Take the logarithm and the gradient in $x_t$; $p(y)$ does not depend on $x_t$:
#
# $$\nabla\log q(x_t\mid y) = \nabla\log q(x_t) + \nabla\log p(y\mid x_t).$$
#
# The first part is the model, and needs no labels. The second is the gradient of a **classifier** that looks at $x_t$. With $\hat\epsilon = -\sqrt{1-\bar\alpha_t}\,\nabla\log q$ (lesson 07), this is **classifier guidance**:
#
# $$\hat\epsilon_y = \hat\epsilon - \sqrt{1-\bar\alpha_t}\;\nabla\log p(y\mid x_t). \tag{45}$$
#
# **Exercise 1. Write it.** `my_guided(eps_hat, x_t, classifier, y, alpha_bar_t)` returns $\hat\epsilon_y$. `classifier(x_t)` answers with *logits* (B, classes): their `log_softmax` over the classes is $\log p(\cdot\mid x_t)$. Take the gradient by autograd. `x_t` and `eps_hat` are (B, D), `y` (B,) holds labels, `alpha_bar_t` is a number.


# %%
# STARTER
def my_guided(eps_hat, x_t, classifier, y, alpha_bar_t):
    return None  # your lines here


# SOLUTION
def my_guided(eps_hat, x_t, classifier, y, alpha_bar_t):
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        log_p = classifier(x).log_softmax(1).gather(1, y[:, None])
        (pull,) = torch.autograd.grad(log_p.sum(), x)
    return eps_hat - (1 - alpha_bar_t) ** 0.5 * pull


# %%
# lab.hint("10.1")
lab.check("10.1", my_guided)

# %% [markdown]
# The package's version wraps an `eps_model` and is one, so every sampler takes it.

# %%
lab.show_source(dc.classifier_guided)

# %% [markdown]
# Data on a line: two classes, $N(-1, \tfrac14)$ and $N(1, \tfrac14)$, equally frequent. Here $p(y\mid x_t)$ is known at every $t$ (`mixture_classifier`). We ask for the class at 1. The guided $\hat\epsilon$ must be the best $\hat\epsilon$ of that class alone:

# %%
line = dc.vp_schedule(100)
pair, side = dc.mixture(torch.tensor([[-1.0], [1.0]]).double(), 0.25), torch.tensor([0, 1])
right = dc.of_class(pair, side, 1)
whole, told = dc.mixture_eps_model(line, pair), dc.mixture_eps_model(line, right)
knows_noise = dc.mixture_classifier(line, pair, side)
asked = torch.ones(2000).long()
guided = dc.classifier_guided(line, whole, dc.label_log_prob(knows_noise, asked))
places = torch.linspace(-4, 4, 2000, dtype=torch.float64)[:, None]
for t in (1, 30, 100):
    torch.testing.assert_close(guided(places, t), told(places, t), rtol=1e-9, atol=1e-12)
print("classifier guidance is the eps_model of the class, at t = 1, 30 and 100")

# %% [markdown]
# ### What breaks: a classifier of clean data
#
# Somebody takes a classifier of clean data, the exact $p(y\mid x_0)$, and asks it about $x_t$. **Predict**: 2 000 samples of class 1. Will their mean be 1? Their spread 0.5? Will they be on the right side?

# %%
flow_start = torch.special.ndtri((torch.arange(2000).double() + 0.5) / 2000)[:, None]


def clean_only(x_t, t):
    """The exact classifier of clean data, whatever the noise."""
    return knows_noise(x_t, 0)


ends = {}
for name, classifier in (("knows the noise", knows_noise), ("clean data only", clean_only)):
    log_p = dc.label_log_prob(classifier, asked)
    guided = dc.classifier_guided(line, whole, log_p)
    *_, last = dc.sample_chain(dc.ddim_step, line, guided, flow_start)
    ends[name] = last.x_t
    as_asked = (knows_noise(last.x_t, 0).argmax(1) == 1).double().mean()
    print(
        f"{name}: mean {last.x_t.mean():.4f}, spread {last.x_t.std():.4f}, as asked {as_asked:.4f}"
    )
assert abs(ends["knows the noise"].std() - 0.5) < 0.05 and ends["clean data only"].std() < 0.25

# %% [markdown]
# Every sample is "as asked", more than of the right class itself (0.977 of it lies on its side). Yet the spread is less than half of 0.5: most sit in one spot, just above 1. (At every $t$ this classifier pulls with full strength left of 0. In a few steps all are thrown over, land where the pull ends, and go on together.) **Accuracy does not see it; the distribution does.** Move $t$: in much noise nothing is certain. Which classifier knows that?

# %%
fig, axes = lab.figure(2, width=9.5, height=3)
colours = {"knows the noise": lab.BLUE, "clean data only": lab.RED}
styles = {"knows the noise": "-", "clean data only": "--"}
curves = {
    name: axes[0].plot([], [], color=colours[name], ls=styles[name], label=name)[0] for name in ends
}
axes[0].set(xlabel="$x_t$", ylabel="p(class at 1)", xlim=(-4, 4), ylim=(-0.05, 1.05))
axes[0].legend(loc="lower right")
options = {"bins": 60, "range": (-1.5, 3.5), "density": True, "histtype": "step"}
for name, x in ends.items():
    axes[1].hist(x[:, 0], color=colours[name], ls=styles[name], **options)
axes[1].plot(places, right.log_prob(places).exp(), color=lab.BLACK, ls=":", label="class at 1")
axes[1].set(xlabel="x", ylabel="density", xlim=(-1.5, 3.5), title="samples")
legend = axes[1].legend()

# %% [markdown]
# Move it:


# %%
def ask_both(t):
    """Show what both classifiers say of x_t."""
    for name, classifier in (("knows the noise", knows_noise), ("clean data only", clean_only)):
        curves[name].set_data(places, classifier(places, t)[:, 1].exp())
    sure = knows_noise(torch.ones(1, 1).double(), t)[0, 1].exp()
    return f"t = {t} of 100: at x_t = 1 the class is certain to {sure:.4f}, with the noise known."


lab.Explorer(fig, curves.values(), ask_both, {"t": lab.slider("t", 0, 100, 60)})

# %% [markdown]
# So a classifier for guidance is trained on *noisy* data, and told $t$.
#
# ### Two that are trained
#
# In practice $p(y\mid x_t)$ is learned. Two networks of the same size get 1 000 steps each. The first sees noisy points, at every $t$; the second sees them clean.


# %%
def labelled_points():
    """Points of both classes, with their labels, without end."""
    chance = torch.Generator().manual_seed(8)
    while True:
        y = torch.randint(2, (256,), generator=chance)
        yield 2.0 * y[:, None] - 1 + 0.5 * torch.randn(256, 1, generator=chance), y


# %% [markdown]
# A logit of 0 for the first class, and the network's answer for the second:


# %%
def two_logits(net, noisy, x_t, t):
    """The logits of both classes; a network of clean data is told t = 0, whatever t is."""
    t = torch.as_tensor(t).expand(len(x_t)) * int(noisy)
    answer = net(x_t.float(), t)
    return torch.cat([torch.zeros_like(answer), answer], 1).to(x_t.dtype)


# %% [markdown]
# The loss is the cross-entropy, $-\log p(y\mid x_t)$ on average:


# %%
def class_loss(net, x0, y, noisy, chance):
    """Cross-entropy of the labels, of noisy points at random t or of clean ones."""
    t = dc.draw_t(line, x0, chance)
    x = dc.q_sample(line, x0, t, generator=chance) if noisy else x0
    return torch.nn.functional.cross_entropy(two_logits(net, noisy, x, t), y)


trained, histories = {}, {}
for name, noisy in (("trained on noisy data", True), ("trained on clean data", False)):
    net = nets.MLP(dim=1, width=32, depth=2)
    loss = partial(class_loss, noisy=noisy, chance=rng.manual_seed(9))
    histories[name] = dc.train(net, loss, labelled_points(), steps=1000, lr=1e-2)
    trained[name] = partial(two_logits, net, noisy)

# %% [markdown]
# **Predict**: which of the two exact classifiers will each be like, in what it says and in what it draws?

# %%
fig, axes = lab.figure(2, width=9.5, height=3)
learned_ends = {}
axes[0].plot(places, knows_noise(places, 60)[:, 1].exp(), color=lab.BLACK, ls=":", label="exact")
axes[1].plot(places, right.log_prob(places).exp(), color=lab.BLACK, ls=":", label="class at 1")
looks = ((lab.BLUE, "-"), (lab.RED, "--"))
for (name, classifier), (colour, style) in zip(trained.items(), looks, strict=True):
    guided = dc.classifier_guided(line, whole, dc.label_log_prob(classifier, asked))
    *_, last = dc.sample_chain(dc.ddim_step, line, guided, flow_start)
    learned_ends[name] = last.x_t
    p = classifier(places, 60).softmax(1)[:, 1].detach()
    axes[0].plot(places, p, color=colour, ls=style, label=name)
    axes[1].hist(last.x_t[:, 0], color=colour, ls=style, label=name, **options)
axes[0].set(xlabel="$x_t$", ylabel="p(class at 1)", xlim=(-4, 4), title="t = 60")
axes[1].set(xlabel="x", ylabel="density", xlim=(-1.5, 3.5), title="samples")
for ax in axes:
    ax.legend(fontsize="small")
lab.show(fig, "What two trained classifiers say at t = 60, and what each of them draws.")

# %%
by_noisy, by_clean = learned_ends.values()
on_both = (
    {"history": histories["trained on noisy data"]},
    {"history": histories["trained on clean data"]},
)
lab.claim("noisy: mean of the samples, less 1", abs(by_noisy.mean() - 1), at_most=0.1, **on_both[0])
lab.claim("noisy: their spread, less 0.5", abs(by_noisy.std() - 0.5), at_most=0.05, **on_both[0])
lab.claim("clean: spread of the samples (right: 0.5)", by_clean.std(), at_most=0.3, **on_both[1])

# %% [markdown]
# Learning from noisy points is enough: mean and spread are right to a few hundredths. The other draws what the exact classifier of clean data drew.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: moving the mean instead
#
# The first guided samplers moved the mean of the ancestral step, by the variance of the step times the gradient. Put (45) into the mean (11) and compare:
#
# $$\mathbb E[x_{t-1}\mid x_t, y] = \mu_\theta + \frac{\beta_t}{\sqrt{\alpha_t}}\nabla\log p(y\mid x_t) = \mu_\theta + \sigma_t^2\,\nabla\log p(y\mid x_t) + O(\beta_t^2). \tag{46}$$
#
# So the moved mean (`shifted`) is right to first order in the step. Over a chain its error falls like $1/T$. Below, both start from the same noise and get the same noise in each step.

# %%
log_p = dc.label_log_prob(knows_noise, asked)
gaps = []
for T in (25, 50, 100):
    short = dc.vp_schedule(T)
    base = dc.mixture_eps_model(short, pair)
    log_p = dc.label_log_prob(dc.mixture_classifier(short, pair, side), asked)
    kinds = (
        (dc.ddpm_step, dc.classifier_guided(short, base, log_p)),
        (dc.shifted(dc.ddpm_step, log_p), base),
    )
    both = []
    for step, guess in kinds:
        options = {"variances": short.betas, "generator": rng.manual_seed(2)}
        *_, last = dc.sample_chain(step, short, guess, flow_start, **options)
        both.append(last.x_t)
    gaps.append((both[0] - both[1]).square().mean().sqrt().log2())
    print(f"T = {T}: they differ by {2 ** gaps[-1]:.4f}")
print(f"slope of the last two: {gaps[-1] - gaps[-2]:.4f}")
assert abs(gaps[-1] - gaps[-2] + 1) < 0.15

# %% [markdown]
# The variance in (46) is that of the step. The smaller variance $\tilde\beta_t$ (`posterior_vars`) has the same first order.
#
# Where is the gradient taken? The derivation treats $\log p(y\mid x_{t-1})$ as a straight line around the mean of $x_{t-1}$. So the gradient belongs *at the mean*, and the classifier should be told $t-1$. The first program took it at $x_t$ and told $t$, as `shifted` does. (Asked about it, its authors called it a slight bug that did not change their results.) Few steps show what it does:


# %%
def moved_mean(log_p, at_mean, told, schedule, guess, x_t, t, s, **options):
    """A step whose mean is moved by the gradient at x_t or at the mean, told t or t - 1."""
    step = dc.ddpm_step(schedule, guess, x_t, t, s, **options)
    place = dc.p_step(schedule, x_t, step.x0_hat, t).mean if at_mean else x_t
    with torch.enable_grad():
        x = place.detach().requires_grad_()
        (pull,) = torch.autograd.grad(log_p(x, told(t)).sum(), x)
    return step._replace(x_t=step.x_t + schedule.posterior_vars[t] * pull)


ways = {
    "at x_t, told t": (False, lambda t: t),
    "at the mean, told t": (True, lambda t: t),
    "at the mean, told t - 1": (True, lambda t: t - 1),
}
print(f"the class itself: as asked {torch.special.ndtr(torch.tensor(2.0)):.4f}, spread 0.5000")
for T in (20, 100):
    short = dc.vp_schedule(T)
    log_p = dc.label_log_prob(dc.mixture_classifier(short, pair, side), asked)
    for name, (at_mean, told_t) in ways.items():
        step, chance = partial(moved_mean, log_p, at_mean, told_t), rng.manual_seed(2)
        base = dc.mixture_eps_model(short, pair)
        *_, last = dc.sample_chain(step, short, base, flow_start, generator=chance)
        share, x = (last.x_t > 0).double().mean(), last.x_t
        print(f"T = {T:3}, {name:24} as asked {share:.4f}, spread {x.std():.4f}")

# %% [markdown]
# In 20 steps 12 of 100 samples are of the wrong class, where 2 would be right; at the mean and told $t-1$ it is 6. **The place alone changes hardly anything: it is the $t$.** At $t-1$ there is less noise, so the classifier is surer and pulls harder. In 100 steps little is left of the difference. (A later program was mended at the place alone, and still tells the classifier $t$.) (45) asks about none of this: it is exact at every $x_t$.
#
# The two trained classifiers, moving the mean:

# %%
moved = {}
for name, classifier in trained.items():
    step = dc.shifted(dc.ddpm_step, dc.label_log_prob(classifier, asked))
    chance = {"variances": line.betas, "generator": rng.manual_seed(3)}
    *_, last = dc.sample_chain(step, line, whole, flow_start, **chance)
    moved[name] = last.x_t
noisy, clean = on_both
by_noisy, by_clean = moved.values()
lab.claim("noisy: mean of the samples, less 1", abs(by_noisy.mean() - 1), at_most=0.06, **noisy)
lab.claim("noisy: spread, less 0.5", abs(by_noisy.std() - 0.5), at_most=0.06, **noisy)
lab.claim("clean: mean of the samples", by_clean.mean(), at_least=1.03, **clean)
lab.claim("clean: spread (by the ODE at most 0.3)", by_clean.std(), at_least=0.4, **clean)

# %% [markdown]
# Even the classifier of clean data does little harm here: each step adds fresh noise, and the last steps, where it is right, mend what the first ones did. A chain with fresh noise hides a wrong guide; the ODE, which adds none, shows it.

# %% [markdown]
# ## 3. No classifier at all
#
# Solve Bayes' rule for the gradient: $\nabla\log p(y\mid x_t) = \nabla\log q(x_t\mid y) - \nabla\log q(x_t)$. A network that answers with and without a label knows both. So their difference *is* a classifier's gradient. Taken $w$ times in (45), it gives **classifier-free guidance**:
#
# $$\hat\epsilon(x_t) + w\,\big[\hat\epsilon(x_t, y) - \hat\epsilon(x_t)\big] = (1 + w')\,\hat\epsilon(x_t, y) - w'\,\hat\epsilon(x_t), \qquad w = 1 + w'. \tag{47}$$
#
# Both sides are published, and both call their scale $w$. On the left (our `guidance_scale`) 0 means no label, 1 the label alone. On the right (our `strength`, the $w'$) 0 means the label alone. So "guidance 0" is no guidance in one paper, no *label* in the other. Always ask: **which number gives the plain conditional model?** The same $w$ mixes $\hat v$, too: it is a multiple of $\hat\epsilon$ plus one of $x_t$, and $x_t$ is the same in both. A guided step asks the network twice; we count the pair as one call.

# %%
a, b = told(places, 50), whole(places, 50)
for w in (0.0, 1.0, 1.5, 4.0):
    strength = dc.strength_from_scale(w)
    left, other = b + w * (a - b), (1 + strength) * a - strength * b
    torch.testing.assert_close(left, other, rtol=1e-12, atol=1e-12)
    assert dc.scale_from_strength(strength) == w
    print(f"guidance_scale {w:g} is strength {strength:g}: the same to 1e-12")

# %% [markdown]
# ## 4. What does guidance sample?
#
# Let $p(x)$ be the density of the data. At $w = 1$ the samples follow $p(x\mid y)$. And at $w = 3$? The formula adds $3\,\nabla\log p(y\mid x_t)$, so it is often said that guidance samples the **tilted density**
#
# $$\frac{p(x)\,p(y\mid x)^w}{Z}, \tag{48}$$
#
# with $Z$ so that it integrates to 1: the class, with its doubtful members pushed down. On a line we can compute it. **Predict**: beyond $w = 1$, will the samples lie nearer to the middle than the tilted density, or farther out?

# %%
axis = torch.linspace(-7, 7, 2801, dtype=torch.float64)
tilts = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]


def exact_network(x_t, t, y=None):
    """The best guess of a network that may be told the class at 1."""
    return whole(x_t, t) if y is None else told(x_t, t)


# %% [markdown]
# Both samplers start from the same 2 000 points: the quantiles of $N(0, 1)$ at evenly spaced shares.


# %%
@cache
def guided_line(w):
    """Return samples by the ODE and by ancestral steps, and the tilted density on the axis."""
    guess = dc.classifier_free(exact_network, asked, guidance_scale=w)
    *_, flow = dc.sample_chain(dc.ddim_step, line, guess, flow_start)
    options = {"variances": line.betas, "generator": rng.manual_seed(3)}
    *_, walked = dc.sample_chain(dc.ddpm_step, line, guess, flow_start, **options)
    log_p = dc.label_log_prob(knows_noise, torch.ones(len(axis)).long())
    tilted = dc.tilted_density(pair.log_prob, partial(log_p, t=0), w, axis)
    return flow.x_t[:, 0], walked.x_t[:, 0], tilted


# %% [markdown]
# Solid: the ODE (DDIM). Dashed: ancestral steps. Dots: the tilted density.

# %%
edges = torch.linspace(-3, 4, 71, dtype=torch.float64)
middles = (edges[1:] + edges[:-1]) / 2
fig, (ax,) = lab.figure(width=7.5, height=3.3)
(by_flow,) = ax.plot([], [], color=lab.BLUE, drawstyle="steps-mid", label="ODE")
(by_walk,) = ax.plot([], [], color=lab.ORANGE, ls="--", drawstyle="steps-mid", label="ancestral")
(by_tilt,) = ax.plot([], [], color=lab.BLACK, ls=":", lw=2, label="tilted density")
ax.set(xlabel="x", ylabel="density", xlim=(-3, 4), ylim=(0, 1.8))
legend = ax.legend(loc="upper left")


def tilt(w):
    """Show both histograms beside the tilted density."""
    flow, walked, tilted = guided_line(w)
    for curve, x in ((by_flow, flow), (by_walk, walked)):
        curve.set_data(middles, torch.histogram(x, edges).hist / len(x) / 0.1)
    by_tilt.set_data(axis, tilted)
    mean = torch.trapezoid(axis * tilted, axis)
    return (
        f"w = {w:g}: mean by the ODE {flow.mean():.4f}, by ancestral steps {walked.mean():.4f}, "
        f"of the tilted density {mean:.4f}."
    )


lab.Explorer(fig, [by_flow, by_walk, by_tilt], tilt, {"w": lab.choice("scale w", tilts, 3.0)})

# %% [markdown]
# As in lesson 09, one number for the distance: the largest gap between the share of samples below any place, and the right share.


# %%
def gap_to(x, density):
    """Return the largest difference of distribution functions: samples x, a density on the axis."""
    below = torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density, axis)])
    x = x.sort().values
    found = below[torch.searchsorted(axis, x).clamp(max=len(axis) - 1)]
    return (found - (torch.arange(len(x)) + 0.5) / len(x)).abs().max().item()


print("  w   gap: ODE   ancestral   mean, spread: ODE     ancestral         tilted")
for w in (0.0, 0.5, 1.0, 2.0, 3.0):
    flow, walked, tilted = guided_line(w)
    gaps = gap_to(flow, tilted), gap_to(walked, tilted)
    assert max(gaps) < 0.035 if w in (0, 1) else min(gaps) > 0.1
    mean = torch.trapezoid(axis * tilted, axis)
    std = torch.trapezoid((axis - mean) ** 2 * tilted, axis).sqrt()
    shown = [(x.mean(), x.std()) for x in (flow, walked)] + [(mean, std)]
    said = "   ".join(f"{m:6.4f}, {s:.4f}" for m, s in shown)
    print(f"{w:3.1f}     {gaps[0]:.4f}      {gaps[1]:.4f}         {said}")

# %% [markdown]
# They agree at $w = 0$ and $w = 1$ only. Beyond 1 the samples lie farther out than the tilted density, and those of the ODE much closer together. Between 0 and 1 they lie nearer to the middle, and wider. And the two samplers differ, so **what guidance draws is no law of the model alone**.
#
# Why? The tilted density has its own noisy versions, and their pull at $x_t$ comes from the *mean of the powers* $p(y\mid x_0)^w$ over all $x_0$ behind $x_t$. Guidance takes the *power of the mean*, $p(y\mid x_t)^w$. The two are equal at the scales 0 and 1 only.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a case that pencil and paper can do
#
# Data $N(0, 1)$, and $y = x_0 + {}$noise of variance 1, observed as $y = 0$. Then $p(y\mid x_t) = N(y;\,\sqrt{\bar\alpha_t}\,x_t,\ 2-\bar\alpha_t)$. Everything is linear, so all is normal with mean 0, and the ODE and the reverse SDE give an equation for the variance. Solved, from $\bar\alpha = 0$ to 1 (the second is measured below):
#
# - tilted density: $\dfrac{1}{1+w}$;
# - ODE: $2^{-w}$;
# - reverse SDE: $\dfrac{1 - 2^{1-2w}}{2w-1}$, and $\ln 2$ at $w = \tfrac12$.
#
# All give 1 at $w = 0$ and $\tfrac12$ at $w = 1$. The curve $2^w$ is convex and meets the line $1 + w$ at these two points only.

# %%
fine = dc.vp_schedule(100)
near = torch.tensor([[-1.0], [1.0]]).double()


def seen_as_0(x_t, t):
    """log p(y = 0 | x_t), up to a constant."""
    alpha_bar = fine.alpha_bars[t][:, None]
    return (-0.5 * alpha_bar * x_t**2 / (2 - alpha_bar))[:, 0]


bell_eps = dc.mixture_eps_model(fine, dc.mixture(torch.zeros(1, 1).double(), 1.0))
print("  w   2^-w     measured   tilted")
for w in (0.0, 0.5, 1.0, 2.0, 3.0):
    guess = dc.classifier_guided(fine, bell_eps, seen_as_0, guidance_scale=w)
    *_, last = dc.sample_chain(dc.heun_step, fine, guess, near)
    variance = last.x_t[1, 0].item() ** 2  # the map is linear, and sends 1 to the spread
    assert abs(variance / 2**-w - 1) < 0.01
    print(f"{w:3.1f}   {2**-w:.4f}   {variance:.4f}     {1 / (1 + w):.4f}")

# %% [markdown]
# ## 5. Accuracy against variety
#
# Two numbers for each scale of digits: the share in which the judge sees the digit **as asked**, and the **spread** within a class (root of the mean variance of the pixels), divided by that of as many real digits. One alone is worthless: copies of one clear 3 are as asked; noise is varied.

# %%
test = data.images("test")
order = torch.cat([(test.labels == digit).nonzero()[: n // 10, 0] for digit in range(10)])
real, real_labels = data.to_signed(test.x[order]), test.labels[order]
real_spread = judge.in_class_spread(real, real_labels)


def place_of(x):
    """Return what the judge says of n digits: spread beside real ones, share as asked."""
    spread = judge.in_class_spread(x, labels) / real_spread
    return spread, judge.as_asked(opinion, x, labels)


found = {w: place_of(states[-1]) for w, (states, _) in walks.items()}
found_real = (1.0, judge.as_asked(opinion, real, real_labels))

# %% [markdown]
# On the left your 100 digits a scale; with so few, take differences of 0.02 for chance.


# %%
def draw_scales(ax):
    """Draw the share as asked against the spread, for the scales from 1 on."""
    shown = {w: place for w, place in found.items() if w}
    ax.plot(*zip(*shown.values(), strict=True), "o-", color=lab.BLUE, label="scales")
    for i, (w, place) in enumerate(shown.items()):
        ax.annotate(f"{w:g}", place, (3, -12 + 18 * (i % 2)), textcoords="offset points")
    ax.plot(*found_real, "*", ms=12, color=lab.BLACK, label="real digits")
    ax.set(ylabel="as asked", ylim=(0.85, 1.03))
    ax.set_xlabel("spread / real" + (f"; {test.note}" if test.note else ""), wrap=True)


# %% [markdown]
# In the middle and on the right stands the committed run of `benchmarks/guidance.py`: 12 calls a digit, the mean of three sets of 2 000 digits a scale. It has the Fréchet distance to the test digits as well (lesson 06), in multiples of its floor, what real training digits have on average: three sets of them may lie a little below 1.

# %%
table = lab.measured("guidance")
many = {r["scale"]: r for r in table}
fig, axes = lab.figure(3, width=12, height=3.4)
draw_scales(axes[0])
axes[0].set_title(f"n = {n}; scale 0 is far below")
drawn = [r for r in table if r["scale"] != "real"]
for ax, key, name in (
    (axes[1], "spread", "spread / real"),
    (axes[2], "frechet", "Fréchet / floor"),
):
    ax.plot([r["scale"] for r in drawn], [r[key] for r in drawn], "o-", color=lab.BLUE)
    ax.axhline(many["real"][key], color=lab.BLACK, ls=":", label="real digits")
    ax.set(xlabel="scale w", ylabel=name, title=f"n = {many['real']['n']:g}, from the table")
axes[1].axhline(0.9, color=lab.RED, lw=0.8, ls="--", label="aim")
axes[2].axhline(2, color=lab.RED, lw=0.8, ls="--", label="aim")
for ax in axes:
    ax.legend(fontsize="small")
lab.show(
    fig, "Share as asked against spread for seven scales, and spread and Frechet distance by scale."
)

# %% [markdown]
# From 0 to 1 the label arrives; from 1 to 2 the last doubtful digits go, and a little of the spread with them. After that nothing is left to gain. The Fréchet distance, least near 1.5 (in 50 steps 1.3), sees what the others hardly do: beyond it the digits become less like real ones. We fixed $w = 1.5$ before the benchmark ran, and three aims, to be met together:

# %%
mnist = {"digits": test}
lab.claim("scale 0: share as asked (chance is 0.1)", found[0.0][1], at_most=0.25, **mnist)
lab.claim("scale 3: share as asked", found[3.0][1], at_least=0.97, **mnist)
lab.claim("its spread, less that at scale 1", found[3.0][0] - found[1.0][0], below=0, **mnist)
chosen = many[1.5]
lab.claim("table, scale 1.5: as asked", chosen["asked"], at_least=0.98)
lab.claim("table, scale 1.5: spread / real", chosen["spread"], at_least=0.9)
lab.claim("table, scale 1.5: Fréchet distance / floor", chosen["frechet"], at_most=2)

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: away from a worse network
#
# Left without a label, the shipped network draws about one digit in five that the judge does not recognise (no class above 0.9). A trained network blurs what it has seen: a little of its probability lies between the digits. A smaller network, trained for two minutes on the same pictures by the same loss, errs in much the same places, only more. So go from its answer $\hat\epsilon_\text{weak}$ to the better one ($w = 1$), and on ($w > 1$):
#
# $$\hat\epsilon_\text{weak}(x_t) + w\,\big[\hat\epsilon(x_t) - \hat\epsilon_\text{weak}(x_t)\big]. \tag{75}$$
#
# This is **autoguidance** (Karras et al., *Guiding a Diffusion Model with a Bad Version of Itself*, 2024). It is (47) with the worse network's answer in the place of the one without a label. Let $\epsilon^*$ be the best guess of the noise at $(x_t, t)$, and $\delta$ the network's error there: $\hat\epsilon = \epsilon^* + \delta$. Let the worse one err in the same direction, $c > 1$ times as far: $\hat\epsilon_\text{weak} = \epsilon^* + c\,\delta$. Then (75) is $\epsilon^* + (c - w(c-1))\,\delta$, and at $w = c/(c-1)$ no error is left.
#
# An exact case: the line of section 2, both classes. Two "networks" take the data for wider than they are: the better one adds $h$ to the variance of each class, the worse one $3h$. For small $h$ they err nearly as 1 to 3, so $w = 1.5$ should cancel nearly all. **Predict**: when $h$ is halved, by which factor does each error (the largest at $t = 50$) fall?


# %%
def widened(extra):
    """The best guess of a network that takes the data for wider than they are."""
    return dc.mixture_eps_model(line, dc.mixture(pair.means, 0.25 + extra))


print("h       worse      better     (75)")
fallen = []
for extra in (0.02, 0.01, 0.005):
    better, worse = widened(extra), widened(3 * extra)
    led = dc.autoguided(better, worse, guidance_scale=1.5)
    off = [(guess(places, 50) - whole(places, 50)).abs().max() for guess in (worse, better, led)]
    fallen.append(torch.stack(off))
    print(f"{extra:.3f}   " + "   ".join(f"{error:.6f}" for error in off))
factors = fallen[-2] / fallen[-1]
print("the last halving divides them by", ", ".join(f"{factor:.2f}" for factor in factors))
assert abs(factors[1] - 2) < 0.1 and abs(factors[2] - 4) < 0.3

# %% [markdown]
# The error of (75) falls like $h^2$: the first order is gone. The samples show it, too; here $h = 0.1$. "Exact" is the exact model by the same sampler, whose 100 steps draw a spread of 1.104 for 1.118. Which $w$ comes nearest?


# %%
@cache
def led_line(w):
    """Return samples guided away from the worse of two blurred models."""
    guess = dc.autoguided(widened(0.1), widened(0.3), guidance_scale=w)
    *_, last = dc.sample_chain(dc.ddim_step, line, guess, flow_start)
    return last.x_t[:, 0]


# %%
fig, (ax,) = lab.figure(width=7.5, height=3)
both_classes = pair.log_prob(axis[:, None]).exp()
ax.plot(axis, both_classes, color=lab.BLACK, ls=":", label="data")
(by_led,) = ax.plot([], [], color=lab.BLUE, drawstyle="steps-mid", label="samples (ODE)")
ax.set(xlabel="x", ylabel="density", xlim=(-3, 3), ylim=(0, 0.8))
legend = ax.legend(loc="upper left")


def lead(w):
    """Show the samples of one scale beside the density of the data."""
    x = led_line(w)
    by_led.set_data(middles, torch.histogram(x, edges).hist / len(x) / 0.1)
    gap = gap_to(x, both_classes)
    right = guided_line(0.0)[0].std()
    return f"w = {w:g}: spread {x.std():.4f} (exact: {right:.4f}), gap to the data {gap:.4f}."


led_scales = [0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0]
for w in (0.0, 1.0, 1.5, 2.0):
    print(lead(w))
excess = [(led_line(w).std() - guided_line(0.0)[0].std()).item() for w in (1.0, 1.5)]
assert 0 < excess[1] < excess[0] / 3
lab.Explorer(fig, [by_led], lead, {"w": lab.choice("scale w", led_scales, 1.0)})

# %% [markdown]
# At $w = 0$ the worse model draws, at 1 the better one; both spread too far. At 1.5 three quarters of what was too much at 1 are gone; the rest stays, as $h = 0.1$ is not small. At 2 the samples lie too close together.
#
# Now digits without a label. The mixture of $\hat v$ is that of $\hat\epsilon$, as in section 3. Nobody knows $c$ there, nor whether the errors are parallel: scales are tried (`benchmarks/mnist_trials.md`). And *where* matters. At $t > 850$ it is decided which digit appears: guided there, too, fives got rare and noughts frequent. Guided below 300 as well, the digits came no nearer. So guide between (`limited`), at noise levels from 0.5 to 4.2; exercise 3 tries that for labels.

# %%
weak, _ = pretrained.load("mnist_weak")
led = dc.autoguided(network, weak, guidance_scale=2.1)
free = {"the worse network": weak, "the network": network}
free["guided by both"] = dc.limited(led, network, 300, 850)
taus = dc.even_taus(1000, 2 if dc.is_short_run() else 25)
sure = {}
fig, axes = lab.figure(3, width=9.5, height=1.75)
for ax, (name, v_model) in zip(axes, free.items(), strict=True):
    options = {"eta": 1.0, "clip": (-1, 1), "generator": torch.Generator().manual_seed(9)}
    guess = dc.eps_model_from_v(schedule, v_model)
    *_, last = dc.sample_chain(dc.ddim_step, schedule, guess, noise, taus, **options)
    sure[name] = judge.judge_images(opinion, last.x_t, real).confident
    lab.draw_images(ax, last.x_t[:50], 10)
    ax.set_title(f"{name}: {sure[name]:.0%} recognised")
lab.show(fig, "Digits without a label, by the worse network, the network, and guided by both.")
gain = sure["guided by both"] - sure["the network"]
lab.claim("recognised, guided by both less the network", gain, above=0, **mnist)

# %% [markdown]
# All start from the same noise. From the second panel to the third most digits stay what they are, and some that nobody could read become clear. `python benchmarks/digits.py --steps 100` draws 2 000 of them: 90 % are recognised or a little more, 80 % without this guidance, and the Fréchet distance is below twice its floor, not 2.4 times. One fault stays: fives are rarer (7 to 8 %) than they should be (9 %). With a label nothing is gained by a worse network: (47) at $w = 1.25$ and the same $t$ reaches 1.17 floors, a worse network in its place 1.27. The worse network is small: a step inside the interval takes 1.4 times as long, one outside no longer than before.
#
# Now take the network of lesson 06 that was never told a digit ("black, white, or a bell") as the better one. Alone it is at 1.31 floors, 90 % are recognised, and its rarest digit has 9 %. Away from the same worse network at $w = 1.2$: 1.06 floors, 92 %, each digit 9 to 12 %. (Means of three seeds. A first look at 1.3 gave more that is recognised, 94 %, but less even classes.) Its $w$ is smaller as it errs less: the further apart the two errors are, the nearer $c/(c-1)$ is to 1.

# %% [markdown]
# ## 6. A part of the picture is known
#
# The upper half of a picture is given, and the model shall draw the rest. More generally a *measurement* $y = A x_0 + {}$noise is given, where $A$ is linear: some pixels, or a blurred picture. We want samples of $p(x_0\mid y)$. For a mixture of $N(m_k, v_kI)$ with shares $\pi_k$ this is a mixture again:
#
# $$p(x_0\mid y) = \sum_k \pi_k'\,N\big(m_k + G_k(y - Am_k),\ v_k(I - G_kA)\big), \qquad \pi_k' \propto \pi_k\,N(y;\,Am_k, S_k), \tag{49}$$
#
# with $S_k = v_kAA^\top + R$, $G_k = v_kA^\top S_k^{-1}$ and $R$ the variance of the noise. Each Gaussian is weighted anew by how well it explains $y$. So we can judge three methods:
#
# - **Pasting.** After every step, overwrite the known part by the given one, with fresh noise $\epsilon$ of the level $s$ at which the step arrives: $\sqrt{\bar\alpha_s}\,x_0 + \sqrt{1-\bar\alpha_s}\,\epsilon$.
# - **Resampling** (RePaint). Paste, then add the noise of one step again, step and paste again, for some rounds, before going on.
# - **The gradient of the measurement.** (45) with $y$ in the place of the label:
#
# $$\nabla\log p(y\mid x_t) = J^\top A^\top\,(A\,C A^\top + R)^{-1}\,(y - A\hat x_0), \qquad J = \frac{\partial\hat x_0}{\partial x_t}, \tag{50}$$
#
# where $C = \mathrm{Cov}(x_0\mid x_t) = \frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}J$ says how unsure $\hat x_0$ is. It is exact for Gaussian data. Some leave $C$ out; then $R$ alone stands in the bracket.
#
# The data: a bent cloud in the plane. The first number is measured, 1.6. **Predict**: which methods will get the second number wrong, and which will miss the *measured* one?

# %%
spots = torch.linspace(-1.6, 1.6, 5, dtype=torch.float64)
bent = dc.mixture(
    torch.stack([spots, spots - 0.2 * spots**2 + 0.3], 1), 0.2, torch.exp(-(spots**2) / 1.6)
)
ladder = dc.vp_schedule(100)
bent_eps = dc.mixture_eps_model(ladder, bent)
seen = torch.full((1000, 2), 1.6, dtype=torch.float64)  # the second column is never looked at
plane_start = torch.randn(1000, 2, generator=rng.manual_seed(4), dtype=torch.float64)


def first(x0):
    """The measurement: the first of two numbers."""
    return x0[:, :1]


# %% [markdown]
# Each step adds noise of variance $\beta_t$. Pasting measures without noise; the gradient needs some, of variance 0.01. So each has its own exact answer.

# %%
methods = ["pasting", "resampling, 5 rounds", "resampling, 20 rounds"]
methods += ["gradient without C", "gradient with C"]


@cache
def samples_by(method):
    """Return 1 000 samples given the first number, and the exact mixture for this method."""
    chance = torch.Generator().manual_seed(5)
    options = {"variances": ladder.betas, "generator": chance}
    step, guess, noise_var = dc.ddpm_step, bent_eps, 0.0
    if method.startswith("gradient"):
        noise_var, with_c = 0.01, method.endswith("with C")
        guess = dc.measurement_guided(
            ladder, bent_eps, first, first(seen), noise_var, covariance=with_c
        )
    else:
        step = dc.pasted(dc.ddpm_step, seen, torch.tensor([True, False]), generator=chance)
        rounds = 1 if method == "pasting" else int(method.split()[1])
        step = dc.resampled(step, rounds, generator=chance)
    *_, last = dc.sample_chain(step, ladder, guess, plane_start, **options)
    return last.x_t, dc.condition(bent, first, seen[0, :1], noise_var)


# %% [markdown]
# On the left the data are grey. On the right is the second number alone:

# %%
fig, axes = lab.figure(2, width=9.5, height=3.7)
lab.draw_points(axes[0], bent.sample(1000, generator=rng), color="0.6", limit=4)
cloud = lab.draw_points(axes[0], seen[:0], color=lab.BLUE, limit=4)
heights = torch.linspace(-2, 4, 241, dtype=torch.float64)
bins = torch.linspace(-2, 4, 41, dtype=torch.float64)
(exact,) = axes[1].plot([], [], color=lab.BLACK, ls=":", lw=2, label="exact")
(counted,) = axes[1].plot([], [], color=lab.BLUE, drawstyle="steps-mid", label="samples")
axes[1].set(xlabel="second number", ylabel="density", xlim=(-2, 4), ylim=(0, 1.3))
legend = axes[1].legend(loc="upper left")

# %% [markdown]
# Choose a method:


# %%
def fill(method):
    """Show the samples of a method, and the exact density of the second number."""
    x, answer = samples_by(method)
    spread = answer.covs[:, 1, 1].sqrt()
    each = torch.distributions.Normal(answer.means[:, 1], spread).log_prob(heights[:, None])
    exact.set_data(heights, each.exp() @ answer.weights)
    counted.set_data(
        (bins[1:] + bins[:-1]) / 2, torch.histogram(x[:, 1], bins).hist / len(x) / 0.15
    )
    cloud.set_data(*x.T)
    mean, cov = answer.moments()
    return (
        f"{method}: second number {x[:, 1].mean():.4f}, spread {x[:, 1].std():.4f}; "
        f"exact {mean[1]:.4f}, {cov[1, 1].sqrt():.4f}."
    )


lab.Explorer(fig, [cloud, exact, counted], fill, {"method": lab.choice("method", methods)})

# %% [markdown]
# The *measurement error* is the root mean square of the first number less 1.6. Where the measurement is noisy, the exact answer has one, too.

# %%
print("                         mean    exact    spread   exact    measurement error, exact")
for method in methods:
    x, answer = samples_by(method)
    mean, cov = answer.moments()
    off, ratio = abs(x[:, 1].mean() - mean[1]), x[:, 1].std() / cov[1, 1].sqrt()
    error = (x[:, 0] - 1.6).square().mean().sqrt()
    due = (cov[0, 0] + (mean[0] - 1.6) ** 2).clamp(min=0).sqrt()
    meets = off <= 0.05 and abs(ratio - 1) <= 0.1
    assert meets == (method in ("resampling, 20 rounds", "gradient with C"))
    said = f"{x[:, 1].mean():.4f}   {mean[1]:.4f}   {x[:, 1].std():.4f}   {cov[1, 1].sqrt():.4f}"
    print(
        f"{method:22}   {said}   {error:.4f}   {due:.4f}   {'meets the aim' if meets else 'misses'}"
    )

# %% [markdown]
# The aim is: mean within 0.05, spread within 10 %. **Pasting has no measurement error at all, and is wrong**: each step draws the free part beside the known part *as it was before*. Then new noise is pasted, which the free part has never seen. Going back and forth lets both parts agree: 20 rounds meet the aim, 5 just miss it. The gradient with $C$ meets it as well, and its measurement error is about what it must be. Without $C$ it trusts every early guess and pulls too hard: it misses the second number, and fits the first better than it should.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: going back more than one step
#
# The published version of resampling goes back ten steps at a time, walks down again in single steps, and only then goes back the next time. Does that help here? `resampled` goes back as far as its step went. So we give it a step that walks several single ones. The last block is walked step by step: a step that arrives at 0 is not repeated. So all single steps but the last are walked once a round.


# %%
def in_single_steps(step, schedule, guess, x_t, t, s, **options):
    """Walk from t to s in steps of one; the last of them is the answer."""
    for u in range(t, s, -1):
        result = step(schedule, guess, x_t, u, u - 1, **options)
        x_t = result.x_t
    return result


answer = dc.condition(bent, first, seen[0, :1], 0.0)
mean, std = answer.moments()[0][1], answer.moments()[1][1, 1].sqrt()
print(f"exact: mean {mean:.4f}, spread {std:.4f}")
for rounds in (5, 20):
    for jump in (1, 5, 10):
        chance = torch.Generator().manual_seed(6)
        step = dc.pasted(dc.ddpm_step, seen, torch.tensor([True, False]), generator=chance)
        step = dc.resampled(partial(in_single_steps, step), rounds, generator=chance)
        taus = [*range(100, jump, -jump), *range(jump, -1, -1)]
        options = {"variances": ladder.betas, "generator": chance}
        *_, last = dc.sample_chain(step, ladder, bent_eps, plane_start, taus, **options)
        x, calls_made = last.x_t[:, 1], 1 + rounds * 99
        print(
            f"{rounds:2} rounds, {jump:2} back: {calls_made:4} calls, mean {x.mean():.4f}, "
            f"spread {x.std():.4f}"
        )

# %% [markdown]
# At the same number of calls the length of the jump does not move the mean beyond chance (a mean of 1 000 samples is known to about 0.02). It is the number of rounds that counts. So one step back suffices for this lesson. On pictures the authors found that longer jumps look better.

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: the covariance is a slope
#
# Lesson 07 has $\hat x_0$ from the score (Tweedie). One derivative more gives the covariance: $\mathrm{Cov}(x_0\mid x_t) = \frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}\,\partial\hat x_0/\partial x_t$. A check: $x_t$ itself is a measurement of $x_0$, with $A = \sqrt{\bar\alpha_t}$, so (49) knows the covariance, too.


# %%
def denoise(x, t):
    """The best guess of x_0 for one state."""
    return dc.x0_from_eps(ladder, x[None], bent_eps(x[None], t), t)[0]


for t in (5, 40, 100):
    scale, noise_var = ladder.alpha_bars[t].sqrt(), ladder.marginal_vars[t].item()
    x_t = plane_start[0]
    _, cov = dc.condition(bent, partial(torch.mul, scale), x_t, noise_var).moments()
    slope = torch.autograd.functional.jacobian(partial(denoise, t=t), x_t)
    torch.testing.assert_close(noise_var / scale * slope, cov, rtol=1e-9, atol=1e-11)
    print(f"t = {t}: variances {cov[0, 0]:.4f}, {cov[1, 1]:.4f}, covariance {cov[0, 1]:.4f}")

# %% [markdown]
# For pictures $C$ is a matrix of 784 × 784 numbers. It is never written down: conjugate gradients solve $(ACA^\top + R)\,u = y - A\hat x_0$ with products only, and each product is one backward pass ($J$ of the best guess is symmetric, as $C$ is, and a network's nearly so).

# %% [markdown]
# ### Digits
#
# Ten real digits, of which the network gets the upper half; no label. The sampler is DDIM with fresh noise ($\eta = 1$). Ten rounds of resampling are a compromise: the plane asked for more.

# %%
rows_20 = dc.nearest_taus(schedule, dc.geometric_levels(20.0, 0.05, 2 if dc.is_short_run() else 20))
unasked = dc.eps_model_from_v(schedule, network)
upper = torch.zeros(1, 28, 28, dtype=torch.bool)
upper[:, :14] = True


def complete(picture, known, rounds, guess=unasked):
    """Draw the unknown part of pictures (B, 1, 28, 28) by pasting, with so many rounds."""
    chance = torch.Generator().manual_seed(6)
    step = dc.pasted(dc.ddim_step, picture, known, generator=chance)
    step = dc.resampled(step, rounds, generator=chance)
    z = torch.randn(picture.shape, generator=chance)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": chance}
    *_, last = dc.sample_chain(step, schedule, guess, z, rows_20, **options)
    return last.x_t


# %% [markdown]
# The gradient measures the upper half, with a little noise:


# %%
def by_gradient(measure, y, noise_var, count=3):
    """Draw pictures whose measurement is y, by (50) with so many conjugate gradients."""
    chance = torch.Generator().manual_seed(7)
    guess = dc.measurement_guided(schedule, unasked, measure, y, noise_var, iterations=count)
    z = torch.randn(len(y), 1, 28, 28, generator=chance)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": chance}
    *_, last = dc.sample_chain(dc.ddim_step, schedule, guess, z, rows_20, **options)
    return last.x_t.clamp(-1, 1)


whole_digits = torch.stack([real[(real_labels == digit).nonzero()[1, 0]] for digit in range(10)])
given = torch.where(upper, whole_digits, -0.5)
fillings = {
    "real": whole_digits,
    "given": given,
    "pasting": complete(whole_digits, upper, 1),
    "resampling": complete(whole_digits, upper, 1 if dc.is_short_run() else 10),
    "gradient": by_gradient(lambda x0: x0[:, :, :14], whole_digits[:, :, :14], 0.01),
}

# %% [markdown]
# Is each *one* digit, where the halves meet? The judge counts how many it reads as the real one. (Another digit need not be a mistake: many upper halves fit two.)

# %%
which = torch.arange(10)
fig, axes = lab.figure(1, len(fillings), width=8, height=4.6)
for ax, (name, x) in zip(axes, fillings.items(), strict=True):
    lab.draw_images(ax, x, 10)
    count = "" if name == "given" else f"\n{10 * judge.as_asked(opinion, x, which):.0f} of 10"
    ax.set_ylabel(name + count, rotation=0, ha="right", va="center")
lab.show(fig, "Ten real digits, their upper halves, and the lower halves by three methods.")
three = ("pasting", "resampling", "gradient")
seam = {name: (x[:, :, 14] - x[:, :, 13]).abs().mean() for name, x in fillings.items()}
error = {name: (fillings[name] - whole_digits)[:, :, :14].square().mean().sqrt() for name in three}
for name in ("resampling", "gradient"):
    fit = seam[name] / seam["real"]
    lab.claim(f"{name}: step in grey where the halves meet / real", fit, at_most=1.3, **mnist)
lab.claim("measurement error, pasting", error["pasting"], at_most=0)
lab.claim("measurement error, gradient", error["gradient"], at_most=0.1, **mnist)

# %% [markdown]
# Some strokes of pasting do not go on below. But ten pictures are few: a difference of two may be chance. **Looking at samples decides little here; the exact case did.**
#
# ### Your own picture
#
# Draw the upper half of something (left button; Shift takes away), then run the cells below. An arc is there. Without the pad, put any (1, 1, 28, 28) tensor from −1 (black) to 1 (white) into `my_picture`, or the path of a picture file into the pad.

# %%
down, across = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
from_ring = ((down - 12).square() + (across - 14).square()).sqrt() - 6.5
arc = (1.8 - from_ring.abs()).clamp(0, 1) * (down < 14)
pad = lab.DrawingPad(2 * arc - 1)
pad

# %% [markdown]
# `my_known` says where your picture counts. In the lower row the network is also asked for the digits 0 to 9, by (47): guidance wraps the `eps_model`, pasting the step, so both work at once. Which digits fit no arc like this?

# %%
my_picture = pad.image  # (1, 1, 28, 28)
my_known = (down < 14)[None]  # (1, 28, 28)
ten, rounds = my_picture.expand(10, -1, -1, -1), 1 if dc.is_short_run() else 3
both = dc.classifier_free(network, which, guidance_scale=2.0)
ways = [complete(ten, my_known, rounds)]
ways += [complete(ten, my_known, rounds, dc.eps_model_from_v(schedule, both))]
fig, axes = lab.figure(2, width=9, height=1.8, width_ratios=[1, 6])
lab.draw_images(axes[0], torch.where(my_known, my_picture, -0.5), 1)
axes[0].set_title("yours")
lab.draw_images(axes[1], torch.cat(ways), 10)
axes[1].set_title("above: free; below: asked for 0 to 9")
lab.show(fig, "Your picture, its unknown part grey, and twenty ways to complete it.")

# %% [markdown] jp-MarkdownHeadingCollapsed=true
# ### Deeper: a picture from its thumbnail
#
# Pasting needs pixels. The gradient takes any linear $A$. Here it gets the digits as 7 × 7 thumbnails (means of 4 × 4 pixels).

# %%
shrink = partial(torch.nn.functional.avg_pool2d, kernel_size=4)
some = whole_digits[:6]
sharp = by_gradient(shrink, shrink(some), 0.001)
fig, axes = lab.figure(1, 3, width=5.5, height=3)
seen_as = torch.nn.functional.interpolate(shrink(some), scale_factor=4)
for ax, x, name in zip(axes, (some, seen_as, sharp), ("real", "given", "gradient"), strict=True):
    lab.draw_images(ax, x, 6)
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
lab.show(fig, "Six digits, their thumbnails, and digits drawn to have these thumbnails.")
misfit = (shrink(sharp) - shrink(some)).square().mean().sqrt() / 2
apart = (shrink(some) - shrink(some.roll(1, 0))).square().mean().sqrt() / 2
lab.claim("error of the thumbnail, of the range", misfit, at_most=0.1, **mnist)
lab.claim("that of another of the six digits (chance)", apart, at_least=0.15, **mnist)

# %% [markdown]
# ## 7. Exercises
#
# **Exercise 2. Predict the number.** Data $N(0, 1)$; a measurement $y = x_0 + {}$noise of variance $\tfrac13$; the scale is $w = 2$. Which variance has the tilted density (48)?

# %%
# STARTER
tilted_variance = None  # your number here
# SOLUTION
tilted_variance = 1 / (1 + 2 / (1 / 3))  # precisions add, and the measurement's counts twice

# %%
# lab.hint("10.2")
lab.check("10.2", tilted_variance)

# %% [markdown]
# **Exercise 3. A guided sampler of your own** (15 minutes). Perhaps guidance is needed in a part of the way only. Write `my_guide(told, untold, sigma, between, w)`: the answers with and without the label, the noise level of the state (a number, $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ as in lesson 09), a pair of levels (lowest, highest), a scale. From lowest to highest, guide with $w$ as on the left of (47). Outside, give the plain conditional answer.


# %%
# STARTER
def my_guide(told, untold, sigma, between, w):
    return None  # your lines here


# SOLUTION
def my_guide(told, untold, sigma, between, w):
    lowest, highest = between
    if lowest <= sigma <= highest:
        return untold + w * (told - untold)
    return told


# %%
# lab.hint("10.3")
lab.check("10.3", my_guide)

# %% [markdown]
# Now find levels, and a scale up to 3, that keep more variety at the same accuracy: a star right of the curve from 1 to 3 (0.02 is chance). Your digits start from the same noise; the ten calls are at the levels 20, 10.3, 5.3, 2.7, 1.4, 0.72, 0.37, 0.19, 0.10 and 0.05. The levels given below lie about on the curve. Then change `my_guide` itself: a scale that rises on the way, or falls?

# %%
my_levels, my_scale = (0.3, 3.0), 3.0


def my_model(x_t, t):
    """The network's two answers, put together by you."""
    answers = network(x_t, t, labels), network(x_t, t)
    return my_guide(*answers, schedule.snr[t[0]].item() ** -0.5, my_levels, my_scale)


mine = None
if my_guide(noise[:1], noise[:1], 1.0, my_levels, my_scale) is not None:
    mine = drawn_by(my_model)[0][-1]

# %%
fig, axes = lab.figure(1 if mine is None else 2, width=6 if mine is None else 10, height=3.6)
draw_scales(axes[0])
if mine is not None:
    axes[0].plot(*place_of(mine), "*", ms=14, color=lab.RED, label="yours")
    lab.draw_images(axes[1], mine[:50], 10)
axes[0].legend()
lab.show(
    fig, "Your guidance beside the scales from 1 on: share as asked against spread; your digits."
)

# %% [markdown]
# ## 8. Summary
#
# 1. Bayes' rule adds the gradient of a classifier to the score; at scale 1 that is exact, if the classifier knows the noise.
# 2. Two answers of one network, with and without the label, replace the classifier; two scales are in use, 1 apart.
# 3. Guided samples follow the tilted density at scale 0 and 1 only; elsewhere each sampler draws its own.
# 4. Guidance buys accuracy, and too much of it costs likeness to real data: measure both.
# 5. Pasting a known part has no measurement error and is wrong; enough rounds of resampling, or the gradient with the covariance, come close to the exact answer.
#
# | equation | function |
# |---|---|
# | (45) classifier guidance | `classifier_guided`, `label_log_prob`, `mixture_classifier` |
# | (46) the mean moved | `shifted` |
# | (47) classifier-free guidance | `classifier_free`, `scale_from_strength`, `strength_from_scale` |
# | (48) tilted density | `tilted_density`, `of_class` |
# | (49) exact conditional mixture | `condition` |
# | (50) gradient of a measurement | `measurement_guided` |
# | (75) away from a worse network | `autoguided`, `limited` |
# | pasting, resampling | `pasted`, `resampled` |
#
# **References.** Dhariwal and Nichol, *Diffusion Models Beat GANs on Image Synthesis* (2021). Ho and Salimans, *Classifier-Free Diffusion Guidance* (2022). Lugmayr et al., *RePaint: Inpainting using Denoising Diffusion Probabilistic Models* (2022). Chung et al., *Diffusion Posterior Sampling for General Noisy Inverse Problems* (2023). Rozet et al., *Learning Diffusion Priors from Observations by Expectation Maximization* (2024). Kynkäänniemi et al., *Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models* (2024).
#
# **Next**: [11 · Can a trained network learn to follow your lines?](11_controlnet.ipynb)
