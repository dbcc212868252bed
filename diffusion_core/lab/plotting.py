"""Figures for lessons: drawn without pyplot, shown with a sentence that says what they show."""

import base64
import inspect
import io
import textwrap
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from IPython.display import display
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey by their order here.
BLACK, BLUE, ORANGE, GREEN, PINK, SKY, RED = (
    "#000000 #0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00".split()
)
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": matplotlib.cycler(
            color=[BLUE, ORANGE, GREEN, PINK, RED, SKY],
            linestyle=["-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1))],
        ),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "figure.dpi": 100,
        "font.size": 10,
        "legend.frameon": False,
    }
)


def figure(
    columns: int = 1, rows: int = 1, *, width: float = 9, height: float = 3.2, **options
) -> tuple[Figure, np.ndarray]:
    """Return a figure of width x height inches and its axes, a flat array; no pyplot, no leak."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, np.ravel(fig.subplots(rows, columns, **options))


def show(fig: Figure, sentence: str) -> None:
    """Display a figure; the sentence is its text for screen readers and for the tests."""
    fig.canvas.draw()
    fig.canvas.draw()  # the layout of axes with equal scales settles at the second drawing
    data = {"image/png": base64.b64encode(png(fig.canvas)).decode(), "text/plain": sentence}
    display(data, metadata={"image/png": {"alt": sentence}}, raw=True)


def show_source(*functions: Callable) -> None:
    """Display the source of functions of the package, as it runs."""
    code = "\n\n".join(textwrap.dedent(inspect.getsource(f)).rstrip() for f in functions)
    names = ", ".join(f"{f.__module__}.{f.__qualname__}" for f in functions)
    markdown = f"`{names}`\n\n```python\n{code}\n```"
    display({"text/markdown": markdown, "text/plain": code}, raw=True)


def png(canvas: FigureCanvasAgg) -> bytes:
    """Encode what a canvas holds, fast: Pillow at compression level 1."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def draw_points(
    ax: Axes, x: Tensor, *, color: str = BLUE, limit: float = 3.2, title: str = ""
) -> Artist:
    """Draw points (N, 2) on square axes from -limit to limit; return the artist."""
    x = x.detach().cpu()
    (artist,) = ax.plot(x[:, 0], x[:, 1], "o", ms=2, mew=0, color=color, alpha=0.6)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    ax.set(xlabel="first coordinate", ylabel="second coordinate")
    return artist


def image_grid(images: Tensor, columns: int) -> np.ndarray:
    """Stitch images (N, 1, H, W) in [-1, 1] into one picture with values in [0, 1], row by row."""
    images = ((images.detach().cpu().float() + 1) / 2).clamp(0, 1)
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1), dtype=np.float32)
    for i, image in enumerate(images[:, 0].numpy()):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw_images(
    ax: Axes, images: Tensor, columns: int, *, labels: Sequence[str] = (), note: str = ""
) -> Artist:
    """Draw images (N, 1, H, W) in [-1, 1] as one stitched picture; return the artist.

    `labels` stand above the columns; `note` (what happened to the data, say) below the picture.
    """
    sheet = image_grid(images, columns)
    artist = ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    width = (sheet.shape[1] - 1) / columns
    ax.set(yticks=[], xticks=[(i + 0.5) * width for i in range(len(labels))], xticklabels=labels)
    ax.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False)
    ax.set_xlabel(note, fontsize="small", wrap=True)
    return artist
