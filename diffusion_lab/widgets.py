"""Sliders that follow the hand: a figure built once, of which only the changing parts are redrawn.

The picture is one HTML <img> with alt text beside plain ipywidgets controls. What a notebook
saves is the picture and the sentence, so a reader without a kernel sees the figure too.
"""

import base64
import html
from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .plotting import png

WIDE = {"description_width": "11em"}


def slider(name: str, low: int, high: int, value: int, step: int = 1) -> ipywidgets.IntSlider:
    """Return a slider over whole numbers that reports every move."""
    return ipywidgets.IntSlider(
        value, min=low, max=high, step=step, description=name, style=WIDE, layout=_row()
    )


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
        fig.canvas.draw()
        fig.set_layout_engine("none")  # the layout is settled; drawing again would be slower
        fig.canvas.draw()
        self._background = fig.canvas.copy_from_bbox(fig.bbox)
        self._image, self._view = "", ipywidgets.HTML()
        for control in controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()
        buttons = [_play_button(controls[play])] if play else []
        super().__init__([*controls.values(), *buttons, self._view])

    def _redraw(self, _change: object = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        try:
            with torch.no_grad():
                sentence = self.update(**values)
            if not isinstance(sentence, str):
                raise TypeError(f"update must return a sentence, got {type(sentence).__name__}")
            self._draw()
        except Exception as error:  # shown to the learner, in the widget: see the class docstring
            said = f"This picture could not be drawn: {type(error).__name__}: {error}"
            self.sentence = self.sentence or said  # the last good one stays with its picture
            self._say(said)
            return
        self.sentence = sentence
        source = base64.b64encode(self.png).decode()
        width, height = self.figure.canvas.get_width_height()
        self._image = (
            f'<img alt="{html.escape(sentence)}" src="data:image/png;base64,{source}" '
            f'width="{width}" height="{height}" {_WHOLE}>'
        )
        self._say(sentence)

    def _draw(self) -> None:
        canvas = self.figure.canvas
        canvas.restore_region(self._background)
        for artist in self.artists:
            if isinstance(artist, Line2D):  # arrays: it goes through a tensor number by number
                artist.set_data(*map(np.asarray, artist.get_data()))
            self.figure.draw_artist(artist)
        self.png = png(canvas)

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


def _play_button(control: ipywidgets.IntSlider) -> ipywidgets.Play:
    """Return a play button that moves a slider; they are joined in the browser."""
    button = ipywidgets.Play(
        value=control.value, min=control.min, max=control.max, step=control.step, interval=100
    )
    ipywidgets.jslink((button, "value"), (control, "value"))
    return button
