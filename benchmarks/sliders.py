"""How fast does a picture follow its slider? `python benchmarks/sliders.py`

Drives JupyterLab in headless Chromium and times each key press on a slider until the animation
frame that shows the new picture. Contestants take turns, so that noise hits all of them: the mere
round trip to the kernel (an image of 4 x 4 pixels), our Explorer, and plain `interact` with inline
matplotlib. The aim, on two idle cores: medians of at most 1.8 round trips for 2 000 points and 2.3
for 32 digits, 95th percentiles of at most 100 ms, and twice as fast as `interact`. Then it drags,
and looks for blank frames; and it times the kernel's share alone, which should be at most 10 ms.
"""

import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from browser_lab import chromium, jupyterlab, run_notebook

ROUNDS, PRESSES, WARM_UP, DRAG = 6, 10, 5, 40
SET_UP = """
import base64, io
import ipywidgets, torch
from PIL import Image
from matplotlib import pyplot as plt
import diffusion_core as dc
from diffusion_core import data, toys
import diffusion_lab as lab

rng = torch.Generator().manual_seed(0)
schedule = dc.vp_schedule(1000)
points = toys.toy_2d("moons", 2000, generator=rng)
digits = data.to_signed(data.images("test").x[:32])
point_noise = torch.randn(points.shape, generator=rng)
digit_noise = torch.randn(digits.shape, generator=rng)

def noisy(x0, t, noise):
    return dc.q_sample(schedule, x0, t, noise)

def t_slider():
    return lab.slider("t", 0, 1000, 100)
"""
ROUND_TRIP = """
tiny, picture = t_slider(), ipywidgets.HTML()

def paint(_=None):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (tiny.value % 256, tiny.value // 256, 0)).save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    picture.value = f'<img alt="" src="data:image/png;base64,{source}">'

tiny.observe(paint, "value")
paint()
ipywidgets.VBox([tiny, picture])
"""
EXPLORE_POINTS = """
fig, (left, right) = lab.figure(2, height=4)
cloud = lab.draw_points(left, points)
right.plot(schedule.alpha_bars)
(here,) = right.plot([0], [1], "o")

def move_points(t):
    cloud.set_data(*noisy(points, t, point_noise).T.numpy())
    here.set_data([t], [schedule.alpha_bars[t]])
    return f"t = {t}."

explorer = lab.Explorer(fig, [cloud, here], move_points, {"t": t_slider()})
explorer
"""
EXPLORE_DIGITS = """
fig, (ax,) = lab.figure(width=6, height=3.4)
sheet = lab.draw_images(ax, digits, 8)

def move_digits(t):
    sheet.set_data(lab.image_grid(noisy(digits, t, digit_noise), 8))
    return f"t = {t}."

explorer = lab.Explorer(fig, [sheet], move_digits, {"t": t_slider()})
explorer
"""
INTERACT_POINTS = """
%matplotlib inline

def plot_points(t):
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    lab.draw_points(left, noisy(points, t, point_noise))
    right.plot(schedule.alpha_bars)
    right.plot([t], [schedule.alpha_bars[t]], "o")
    plt.show()

ipywidgets.interact(plot_points, t=t_slider());
"""
INTERACT_ONE_IMAGE = """
def plot_sheet(t):
    fig, ax = plt.subplots(figsize=(6, 3.4))
    lab.draw_images(ax, noisy(digits, t, digit_noise), 8)
    plt.show()

ipywidgets.interact(plot_sheet, t=t_slider());
"""
INTERACT_DIGITS = """
def plot_digits(t):
    fig, axes = plt.subplots(4, 8, figsize=(6, 3.4))
    for ax, image in zip(axes.flat, noisy(digits, t, digit_noise)):
        ax.imshow(image[0], cmap="gray", vmin=-1, vmax=1)
        ax.axis("off")
    plt.show()

ipywidgets.interact(plot_digits, t=t_slider());
"""
CONTESTANTS = {
    "round trip": ROUND_TRIP,
    "Explorer, points": EXPLORE_POINTS,
    "Explorer, digits": EXPLORE_DIGITS,
    "interact, points": INTERACT_POINTS,
    "interact, digits": INTERACT_DIGITS,
    "interact, one image": INTERACT_ONE_IMAGE,
}
RIVALS = (
    ("Explorer, points", "interact, points"),
    ("Explorer, digits", "interact, digits"),
    ("Explorer, digits", "interact, one image"),  # the 32 digits stitched together, as in ours
)
# From a key going down to the animation frame after the new picture is decoded; and to its time on
# the screen, which the browser reports for an element with the attribute elementtiming.
WATCH = """root => {
  const before = root.querySelector('img').src;
  let start;
  root.addEventListener('keydown', () => { start = performance.now(); },
    { capture: true, once: true });
  const shown = new Promise(resolve => {
    const observer = new PerformanceObserver(list => {
      observer.disconnect();
      resolve(list.getEntries()[0].renderTime - start);
    });
    observer.observe({ type: 'element' });
  });
  const frame = new Promise(resolve => {
    const observer = new MutationObserver(async () => {
      const img = root.querySelector('img');
      if (!img || img.src === before) return;
      observer.disconnect();
      img.setAttribute('elementtiming', 'picture');
      await img.decode();
      requestAnimationFrame(() => resolve(performance.now() - start));
    });
    observer.observe(root, { subtree: true, childList: true, attributes: true });
  });
  window.moved = Promise.all([frame, shown]);
}"""
# Looks at every animation frame until window.drag.over is set.
SAMPLE = """root => {
  window.drag = { frames: 0, blank: 0, over: false };
  const { width, height } = root.querySelector('img').getBoundingClientRect();
  const look = () => {
    const img = root.querySelector('img'), box = img?.getBoundingClientRect();
    window.drag.frames += 1;
    const whole = img?.complete && img.naturalWidth > 0;
    if (!whole || box.width !== width || box.height !== height) window.drag.blank += 1;
    if (!window.drag.over) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


class Drag(NamedTuple):
    """Frames and blank frames, by the page and by screencast, and the time the last key took."""

    frames: int
    blank: int
    filmed: int
    filmed_blank: int
    settled_ms: float


def write_notebook(path: Path) -> None:
    """Write the notebook: the set-up and one cell for each contestant."""
    cells = [SET_UP, *CONTESTANTS.values()]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c.strip()) for c in cells])
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "name": "python3"}
    nbformat.write(nb, path)


def cell_of(page, name: str):
    """Return the cell of a contestant: the set-up comes before them."""
    return page.locator(".jp-CodeCell").nth(1 + list(CONTESTANTS).index(name))


def press(page, cell, times: int) -> list[list[float]]:
    """Press a key on the cell's slider, wait for the picture, and so on.

    Return the milliseconds of each: until the animation frame, until the screen.
    """
    cell.get_by_role("slider").focus()
    took = []
    for _ in range(times):
        page.wait_for_timeout(50)
        cell.evaluate(WATCH)
        page.keyboard.press("ArrowRight")
        took.append(page.evaluate("window.moved"))
    return took


def film(page, frames: list[bytes]):
    """Start a screencast into a list; return the session that ends it."""
    session = page.context.new_cdp_session(page)

    def keep(frame: dict) -> None:
        frames.append(base64.b64decode(frame["data"]))
        session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    session.on("Page.screencastFrame", keep)
    session.send("Page.startScreencast", {"format": "png"})
    return session


def drag(page, cell) -> Drag:
    """Press a key many times without waiting; look at every frame, wait for the last value."""
    slider, picture, said = cell.get_by_role("slider"), cell.locator("img"), "[role=status]"
    slider.focus()
    picture.scroll_into_view_if_needed()
    box, frames = picture.bounding_box(), []
    session = film(page, frames)
    cell.evaluate(SAMPLE)
    for _ in range(DRAG):
        page.keyboard.press("ArrowRight")
    start = time.perf_counter()
    sentence = f"t = {slider.get_attribute('aria-valuenow').split('.')[0]}."
    cell.locator(said, has_text=sentence).wait_for()
    settled = 1000 * (time.perf_counter() - start)
    source = picture.get_attribute("src")
    page.wait_for_timeout(500)
    assert picture.get_attribute("src") == source, "moves had been queued"
    session.send("Page.stopScreencast")
    counts = page.evaluate("() => { window.drag.over = true; return window.drag; }")
    corners = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
    crops = [Image.open(io.BytesIO(f)).convert("L").crop(corners) for f in frames]
    blank = sum(low == high for low, high in (crop.getextrema() for crop in crops))
    return Drag(counts["frames"], counts["blank"], len(frames), blank, settled)


def print_table(took: dict[str, list[list[float]]]) -> None:
    middles = {name: np.median(times, axis=0) for name, times in took.items()}
    print("key press to         animation frame: median, 95th percentile ms, times the round trip")
    print("                     the screen: median ms, times the round trip")
    for name, times in took.items():
        frame, shown = middles[name]
        high = np.percentile(times, 95, axis=0)[0]
        times_frame, times_shown = middles[name] / middles["round trip"]
        print(
            f"{name:20s} {frame:6.1f} {high:6.1f} {times_frame:6.2f} "
            f"{shown:10.1f} {times_shown:6.2f}"
        )
    for name, rival in RIVALS:
        ratio = middles[rival][0] / middles[name][0]
        print(f"{name}: {ratio:.1f} times as fast as {rival}")


def kernel_share(name: str) -> np.ndarray:
    """Return median and 95th percentile of the milliseconds of one move, without a browser."""
    scope = {}
    exec(SET_UP + CONTESTANTS[name], scope)
    slider, times = scope["explorer"].controls["t"], []
    for t in range(200, 300):
        start = time.perf_counter()
        slider.value = t
        times.append(1000 * (time.perf_counter() - start))
    return np.percentile(times, [50, 95])


def main() -> None:
    for name in ("Explorer, points", "Explorer, digits"):
        median, high = kernel_share(name)
        print(f"kernel alone, {name}: median {median:.1f} ms, 95th percentile {high:.1f} ms")
    with tempfile.TemporaryDirectory() as home:
        notebooks = Path(home) / "notebooks"
        notebooks.mkdir()
        write_notebook(notebooks / "sliders.ipynb")
        with jupyterlab(Path(home), notebooks) as server, chromium() as browser:
            page = run_notebook(browser, server, "sliders.ipynb")
            took = {name: [] for name in CONTESTANTS}
            for name in CONTESTANTS:
                press(page, cell_of(page, name), WARM_UP)
            for _ in range(ROUNDS):
                for name, times in took.items():
                    times += press(page, cell_of(page, name), PRESSES)
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
            print_table(took)
            for name in ("Explorer, points", "Explorer, digits"):
                print(f"{DRAG} keys at once, {name}: {drag(page, cell_of(page, name))}")


if __name__ == "__main__":
    main()
