"""Every lesson with a widget, in real JupyterLab in a real browser: `make browser`.

Each lesson is run whole (with training cut short), then each slider is moved with the keyboard.
In one lesson the solutions are typed into the exercises, as a learner would.
The pad to draw on gets strokes of the mouse and of a finger.
Screenshots are kept where DIFFUSION_SCREENSHOTS names a folder.
"""

import json
import os
import re
import shutil
from pathlib import Path

import browser_lab
import build_notebooks as build
import nbformat
import pytest
import sliders
import torch

from diffusion_core import data

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.browser
sync_api.expect.set_options(timeout=browser_lab.WAIT)
NOTEBOOKS = ROOT / "notebooks"
LESSONS = [
    p for p in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if "lab.Explorer(" in p.read_text("utf-8")
]

PAD = """import diffusion_lab as lab
pad, inked = lab.DrawingPad(), []
pad.on_change(lambda image: inked.append(int((image > -1).sum())))
pad"""
END_KERNEL = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
LEVELS = """canvas => [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data]
  .filter((_, i) => i % 4 == 0)"""
CUT_OFF = """labels => labels.filter(label => label.scrollWidth > label.clientWidth)
  .map(label => label.textContent)"""

IN_THE_KERNEL = """async code => {
  const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
  const future = kernel.requestExecute({ code });
  let said = '';
  future.onIOPub = message => { said += message.content.text ?? message.content.evalue ?? ''; };
  await future.done;
  return said;
}"""


def write_pad(path: Path) -> None:
    """Write a notebook with a pad to draw on."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PAD)])
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "name": "python3"}
    nbformat.write(nb, path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a copy of the lessons and on the benchmark's notebook."""
    home = tmp_path_factory.mktemp("jupyter")
    lessons = home / "lessons"
    shutil.copytree(NOTEBOOKS, lessons, ignore=shutil.ignore_patterns("src", ".*"))
    sliders.write_notebook(lessons / "sliders.ipynb")
    write_pad(lessons / "pad.ipynb")
    with browser_lab.jupyterlab(home, lessons) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    try:
        with browser_lab.chromium() as chromium:
            yield chromium
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(browser, server, request):
    page = browser_lab.run_notebook(browser, server, request.param)
    yield page
    page.evaluate(END_KERNEL)  # or the next test of this lesson would find it again
    page.close()


def keep_screenshot(page, name: str) -> None:
    if folder := os.environ.get("DIFFUSION_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize("page", [p.name for p in LESSONS], indirect=True)
def test_every_slider_moves_its_picture(page, request):
    explorers = page.locator(".jp-OutputArea-output .widget-vbox:has(img)")
    assert explorers.count() > 0
    for i in range(explorers.count()):
        explorer = explorers.nth(i)
        picture, sentence = explorer.locator("img"), explorer.get_by_role("status")
        sliders = explorer.get_by_role("slider")
        controls = explorer.locator("[role=slider], select")
        controls.last.wait_for()  # controls inside a row appear after the picture
        for k in range(sliders.count()):
            before, said = picture.get_attribute("src"), sentence.inner_text()
            sliders.nth(k).focus()
            now, lowest = (sliders.nth(k).get_attribute(f"aria-value{n}") for n in ("now", "min"))
            page.keyboard.press("ArrowLeft" if float(now) > float(lowest) else "ArrowRight")
            sync_api.expect(sentence).not_to_have_text(said)
            assert picture.get_attribute("src") != before
            assert picture.get_attribute("alt") == sentence.inner_text()
        if sliders.count() == 0:  # a picture that is moved by choices alone
            before, said = picture.get_attribute("src"), sentence.inner_text()
            others = controls.first.locator("option:not(:checked)").all_inner_texts()
            controls.first.select_option(others[0])
            sync_api.expect(sentence).not_to_have_text(said)
            assert picture.get_attribute("src") != before
        assert explorer.locator(".widget-label").evaluate_all(CUT_OFF) == []
        explorer.scroll_into_view_if_needed()
        keep_screenshot(page, f"{request.node.callspec.id}-{i}-wide")
        page.set_viewport_size({"width": 800, "height": 1280})
        explorer.scroll_into_view_if_needed()
        box, right = picture.bounding_box(), page.locator(".jp-Notebook").bounding_box()
        assert box["x"] + box["width"] <= right["x"] + right["width"], "the picture is cut off"
        too_wide = explorer.evaluate("e => e.scrollWidth - e.clientWidth")
        assert too_wide <= 0, "a control is cut off"
        keep_screenshot(page, f"{request.node.callspec.id}-{i}-tall")
        page.set_viewport_size({"width": 1280, "height": 800})


def solutions(name: str) -> dict[int, str]:
    """Return the solutions of a lesson's exercises by the position of their cell."""
    source = NOTEBOOKS / "src" / f"{name}.py"
    pairs = zip(build.lesson(source).cells, build.lesson(source, solved=True).cells, strict=True)
    return {i: b.source for i, (a, b) in enumerate(pairs) if a.source != b.source}


@pytest.mark.parametrize("page", ["01_reparameterization.ipynb"], indirect=True)
def test_a_learner_gets_from_each_starter_to_right(page):
    cells = page.locator(".jp-Notebook .jp-Cell")
    answers = solutions("01_reparameterization")
    assert answers
    for i, solution in answers.items():
        editor, said = cells.nth(i).locator(".cm-content"), cells.nth(i + 1).get_by_role("status")
        sync_api.expect(said).to_contain_text("Not attempted yet")
        editor.click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.insert_text(solution)
        assert editor.inner_text().split() == solution.split()
        for _ in range(2):  # the exercise, its check
            page.keyboard.press("Shift+Enter")
        sync_api.expect(said).to_have_text(re.compile("^✓ Right"))


@pytest.mark.parametrize("page", ["sliders.ipynb"], indirect=True)
def test_a_fast_drag_shows_no_blank_frame_and_ends_at_the_last_value(page):
    for name in ("Explorer, points", "Explorer, digits"):
        seen = sliders.drag(page, sliders.cell_of(page, name))
        assert seen.frames > 10 and seen.filmed > 2, "the drag was not seen"
        assert (seen.blank, seen.filmed_blank) == (0, 0)


class Pad:
    """The pad on a page, as a hand and as the kernel know it; places are in its pixels."""

    def __init__(self, page):
        self.page, self.group = page, page.get_by_role("group", name="Drawing pad")
        self.canvas, self.status = self.group.locator("canvas"), self.group.get_by_role("status")
        self.canvas.scroll_into_view_if_needed()

    def on_screen(self, place):
        box = self.canvas.bounding_box()
        return [box[side] + p * box["width"] / 28 for side, p in zip("xy", place, strict=True)]

    def stroke(self, *places, **button):
        first, *others = [self.on_screen(place) for place in places]
        self.page.mouse.move(*first)
        self.page.mouse.down(**button)
        for place in others:
            self.page.mouse.move(*place, steps=5)
        self.page.mouse.up(**button)

    def image(self):
        """`pad.image` as the kernel has it; the message of the stroke came before this one."""
        said = self.page.evaluate(IN_THE_KERNEL, "print(pad.image.tolist())")
        return torch.tensor(json.loads(said))

    def shown(self):
        """The levels of the pixels on the screen, (28, 28)."""
        levels = self.canvas.evaluate(LEVELS)
        return torch.tensor(levels, dtype=torch.uint8).view(28, 28)


def near(place, to, *, within):
    """Where the centre of a pixel is at most so far from the segment between two places."""
    start, end = torch.tensor(place), torch.tensor(to)
    along = torch.linspace(0, 1, 201)[:, None]
    points = start + along * (end - start)  # (201, 2): x, y
    rows, columns = torch.meshgrid(torch.arange(28) + 0.5, torch.arange(28) + 0.5, indexing="ij")
    centres = torch.stack([columns, rows], dim=-1).view(-1, 2)
    return (torch.cdist(centres, points).min(dim=1).values <= within).view(28, 28)


@pytest.mark.parametrize("page", ["pad.ipynb"], indirect=True)
def test_a_stroke_reaches_the_kernel_and_is_cleared(page, request):
    pad = Pad(page)
    sync_api.expect(pad.status).to_have_text("The pad is empty.")
    assert (pad.image() == -1).all()
    a, b = (6.0, 5.0), (21.0, 20.0)
    pad.stroke(a, b)
    image = pad.image()
    assert image.shape == (1, 1, 28, 28)
    ink = (image[0, 0] + 1) / 2
    assert (ink[near(a, b, within=1.0)] == 1).all()
    assert (ink[~near(a, b, within=2.2)] == 0).all()
    assert ((ink > 0) & (ink < 1)).sum() > 20, "its edge is grey"
    assert torch.equal(data.to_uint8(image)[0], pad.shown()), "the screen shows what is there"
    sync_api.expect(pad.status).to_have_text(f"{int((ink > 0).sum())} of 784 pixels hold ink.")
    keep_screenshot(page, request.node.name)

    pad.stroke((13.5, 12.5), (13.5, 12.5), button="right")  # takes away where it is
    erased = (pad.image()[0, 0] + 1) / 2
    hole = near((13.5, 12.5), (13.5, 12.5), within=1.5)
    assert (erased[hole] == 0).all() and (ink[hole] == 1).any()
    far = ~near((13.5, 12.5), (13.5, 12.5), within=2.7)
    assert torch.equal(erased[far], ink[far])
    page.keyboard.down("Shift")
    pad.stroke(a, b)
    page.keyboard.up("Shift")
    assert (pad.image() == -1).all()

    pad.stroke(b, a)
    assert (pad.image() > -1).any()
    pad.group.get_by_role("button", name="Clear").focus()
    page.keyboard.press("Enter")
    sync_api.expect(pad.status).to_have_text("The pad is empty.")
    assert (pad.image() == -1).all() and (pad.shown() == 0).all()
    counts = page.evaluate(IN_THE_KERNEL, "print(inked)")
    count = int((ink > 0).sum())
    first, holed, nothing, again, cleared = json.loads(counts)
    assert (first, nothing, cleared) == (count, 0, 0) and 0 < holed < count and again > 0
    cells = page.evaluate(browser_lab.CELLS)
    assert [cell["count"] for cell in cells] == [1], "the keys went to the pad, not to the notebook"


@pytest.mark.parametrize("page", ["pad.ipynb"], indirect=True)
def test_a_pad_follows_the_eraser_a_finger_and_the_kernel(page):
    pad = Pad(page)
    eraser = pad.group.get_by_role("button", name="Eraser: off")
    pad.stroke((10.0, 14.0), (18.0, 14.0))
    eraser.click()
    pad.stroke((10.0, 14.0), (18.0, 14.0))
    assert (pad.image() == -1).all()
    pad.group.get_by_role("button", name="Eraser: on").click()
    finger = page.context.new_cdp_session(page)
    x, y = pad.on_screen((14.0, 6.0))
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x, "y": y + 100}]),
        ("touchEnd", []),
    ):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    ink = (pad.image()[0, 0] + 1) / 2
    assert (ink[near((14.0, 6.0), (14.0, 16.0), within=1.0)] == 1).all()
    assert (ink[~near((14.0, 6.0), (14.0, 16.0), within=2.2)] == 0).all()
    page.evaluate(
        IN_THE_KERNEL,
        "def follow(image): raise ValueError('no ink')\npad.on_change(follow); pad.clear()",
    )
    sync_api.expect(pad.status).to_have_text("What follows the pad stopped with ValueError: no ink")
    assert (pad.shown() == 0).all()
