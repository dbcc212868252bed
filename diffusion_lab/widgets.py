"""Sliders that follow the hand: a figure built once, of which only the changing parts are redrawn.

The picture is one HTML <img> with alt text beside plain ipywidgets controls. What a notebook
saves is the picture and the sentence, so a reader without a kernel sees the figure too.
"""

import base64
import html
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from weakref import WeakSet

import ipywidgets
import torch
from IPython import get_ipython
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .calling import told
from .plotting import array, png

_made: WeakSet["Explorer"] = WeakSet()  # those that are there
WIDE = {"description_width": "11em"}


def slider(
    name: str, low: float, high: float, value: float, step: float = 1
) -> ipywidgets.IntSlider | ipywidgets.FloatSlider:
    """Return a slider that reports every move, over whole numbers unless the step is a float."""
    kind = ipywidgets.FloatSlider if isinstance(step, float) else ipywidgets.IntSlider
    return kind(value, min=low, max=high, step=step, description=name, style=WIDE, layout=_row())


def choice(name: str, options: Sequence, value: object = None) -> ipywidgets.Dropdown:
    """Return a drop-down list; the first option is chosen where no value is given."""
    value = options[0] if value is None else value
    return ipywidgets.Dropdown(
        options=options, value=value, description=name, style=WIDE, layout=_row()
    )


class Explorer(ipywidgets.VBox):
    """Controls above a figure that follows them.

    `update(**values)` gets one value for each control by its name, changes the `artists` of the
    figure and returns one sentence with the current values. Nothing else of the figure may
    change: its axes, limits and labels are drawn once. An exception, in `update` or in drawing,
    is shown in the place of the sentence; the next move draws again. `play` names a slider that
    gets a play button.
    """

    def __init__(
        self,
        fig: Figure,
        artists: Sequence[Artist],
        update: Callable[..., str],
        controls: dict[str, ipywidgets.Widget],
        *,
        play: str | None = None,
    ) -> None:
        self.figure, self.artists, self.update, self.controls = fig, list(artists), update, controls
        self.sentence, self.png = "", b""
        for artist in self.artists:
            artist.set_animated(True)
        self._canvas = FigureCanvasAgg(fig)  # its own: closing a figure of pyplot takes pyplot's
        self._canvas.draw()
        fig.set_layout_engine("none")  # the layout is settled; drawing again would be slower
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(fig.bbox)
        self._image, self._view = "", ipywidgets.HTML()
        self._follow(_running_cell())
        self._redraw()
        buttons = [self._play_button(controls[play])] if play else []
        super().__init__([*controls.values(), *buttons, self._view])

    def _follow(self, cell: tuple[str | None, int]) -> None:
        """Follow the controls, in the place of what an earlier run of the same cell has made."""
        name, run = self._cell = cell
        earlier = [old for old in _made if name and old._cell[0] == name and old._cell[1] != run]
        for old, control in product(earlier, self.controls.values()):
            for stop in old._stops.pop(control, ()):
                stop()
        self._stops = {}  # of each control: what ends that it moves this picture
        for control in self.controls.values():
            control.observe(self._redraw, "value")
            self._stops[control] = [partial(control.unobserve, self._redraw, "value")]
        _made.add(self)

    def _redraw(self, _change: object = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        try:
            with torch.no_grad():
                sentence = self.update(**values)
            if not isinstance(sentence, str):
                raise TypeError(f"update must return a sentence, got {type(sentence).__name__}")
            self._draw()
        except Exception as error:  # shown to the learner, in the widget: see the class docstring
            said = f"This picture could not be drawn: {told(error)}"
            self.sentence = self.sentence or said  # the last good one stays with its picture
            self._say(said)
            return
        self.sentence = sentence
        source = base64.b64encode(self.png).decode()
        width, height = self._canvas.get_width_height()
        self._image = (
            f'<img alt="{html.escape(sentence)}" src="data:image/png;base64,{source}" '
            f'width="{width}" height="{height}" {_WHOLE}>'
        )
        self._say(sentence)

    def _draw(self) -> None:
        self._canvas.restore_region(self._background)
        for artist in self.artists:
            if isinstance(artist, Line2D):  # arrays: it goes through a tensor number by number
                artist.set_data(*map(array, artist.get_data()))
            artist.draw(self._canvas.get_renderer())
        self.png = png(self._canvas)

    def _play_button(self, control: ipywidgets.IntSlider) -> ipywidgets.Play:
        """Return a play button that moves a slider; they are joined in the browser."""
        ends = {"min": control.min, "max": control.max, "step": control.step}
        button = ipywidgets.Play(value=control.value, interval=100, **ends)
        link = ipywidgets.jslink((button, "value"), (control, "value"))
        self._stops[control].append(link.unlink)
        return button

    def _say(self, sentence: str) -> None:
        """Show the picture with a sentence: one message to the browser, not two."""
        self._view.value = f'{self._image}<p role="status">{html.escape(sentence)}</p>'

    def _repr_mimebundle_(self, **options) -> dict:
        """Add the picture and the sentence to the live view: for GitHub, print and the tests."""
        bundle = {**super()._repr_mimebundle_(**options), "text/plain": self.sentence}
        picture = base64.b64encode(self.png).decode()
        return {**bundle, "image/png": picture} if picture else bundle


# Decoded before it is shown and of known size: a drag shows no blank frame, and nothing jumps.
_WHOLE = 'decoding="sync" style="max-width: 100%; height: auto"'


def _row() -> ipywidgets.Layout:
    return ipywidgets.Layout(width="auto", max_width="36em")


def _running_cell() -> tuple[str | None, int]:
    """Return the name of the cell that runs, if the front end tells it, and the run's number."""
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return parent.get("metadata", {}).get("cellId"), getattr(shell, "execution_count", 0)
