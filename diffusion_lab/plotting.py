"""Figures for lessons: drawn without pyplot, shown with a sentence that says what they show."""

import base64
import html
import inspect
import struct
import sys
import textwrap
import zlib
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from IPython import display as ipython
from IPython import get_ipython
from isal import isal_zlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import PcolorImage
from torch import Tensor

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey by their order here.
BLACK, BLUE, ORANGE, GREEN, PINK, SKY, RED = (
    "#000000 #0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00".split()
)
COLOURS = {"✓": GREEN, "✗": RED, "○": BLUE}  # of what begins with these signs
PLAIN = str.maketrans("✓✗○", "+xo")  # for a console that knows none of them
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
    before, canvas = fig.canvas, FigureCanvasAgg(fig)  # that of a closed figure has no pixels
    canvas.draw()
    canvas.draw()  # the layout of axes with equal scales settles at the second drawing
    fig.set_canvas(before)
    picture = base64.b64encode(png(canvas, small=True)).decode()
    data = {"image/png": picture, "text/plain": sentence}
    display(data, metadata={"image/png": {"alt": sentence}}, raw=True)


def show_source(*functions: Callable) -> None:
    """Display the source of functions of the package, as it runs."""
    code = "\n\n".join(textwrap.dedent(inspect.getsource(f)).rstrip() for f in functions)
    names = ", ".join(f"{f.__module__}.{f.__qualname__}" for f in functions)
    markdown = f"`{names}`\n\n```python\n{code}\n```"
    display({"text/markdown": markdown, "text/plain": code}, raw=True)


def say(text: str) -> None:
    """Show a sentence that begins with ✓, ✗ or ○, in the colour of that sign."""
    style = f"border-left: 4px solid {COLOURS[text[0]]}; padding-left: 0.6em"
    page = f'<p role="status" style="{style}">{html.escape(text, quote=False)}</p>'
    display({"text/plain": text, "text/html": page}, raw=True)


def display(data: dict[str, str], **options) -> None:
    """Show in a notebook; elsewhere print the text, in the letters that the console knows."""
    text = printable(data["text/plain"])
    if get_ipython() is None:
        print(text)
    else:
        ipython.display({**data, "text/plain": text}, **options)


def printable(text: str) -> str:
    """Return a text in the letters of the console; a notebook knows all."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def png(canvas: FigureCanvasAgg, *, small: bool = False) -> bytes:
    """Encode what a canvas holds as PNG, without filters: in a tenth of Pillow's time.

    A small one takes that time, too, and three quarters of the bytes.
    """
    pixels = np.asarray(canvas.buffer_rgba())
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + width * 4), np.uint8)  # a row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    packed = zlib.compress(rows, 9) if small else isal_zlib.compress(rows, 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # 8 bits a colour, RGBA
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


class Pixels(PcolorImage):
    """Pixels (H, W) as a slider needs them: drawn in a fifth of the time of `Axes.imshow`."""

    def set_data(self, pixels: np.ndarray | Tensor) -> None:
        """Replace the pixels (H, W)."""
        pixels = np.asarray(pixels.detach().cpu().float() if isinstance(pixels, Tensor) else pixels)
        height, width = pixels.shape
        super().set_data(np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5, pixels)


def draw_pixels(
    ax: Axes, pixels: np.ndarray | Tensor, *, vmin: float = 0, vmax: float = 1
) -> Pixels:
    """Draw pixels (H, W), black at vmin, white at vmax, the first row on top; return the artist."""
    height, width = pixels.shape
    artist = Pixels(ax, cmap="gray", norm=Normalize(vmin, vmax))
    artist.set_data(pixels)
    artist.set_extent((-0.5, width - 0.5, height - 0.5, -0.5))  # sets the axes' limits, too
    ax.add_image(artist)
    ax.set_aspect("equal")
    return artist


def array(x: np.ndarray | Tensor) -> np.ndarray:
    """Return the numbers of a tensor of any float dtype, on any device; an array as it is."""
    return np.asarray(x.detach().cpu().double() if isinstance(x, Tensor) else x)


def draw_points(
    ax: Axes, x: Tensor, *, color: str = BLUE, limit: float = 3.2, title: str = ""
) -> Artist:
    """Draw points (N, 2) on square axes from -limit to limit; return the artist."""
    x = array(x)
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
    artist = draw_pixels(ax, sheet)
    width = (sheet.shape[1] - 1) / columns
    ax.set(yticks=[], xticks=[(i + 0.5) * width for i in range(len(labels))], xticklabels=labels)
    ax.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False)
    ax.set_xlabel(note, fontsize="small", wrap=True)
    return artist
