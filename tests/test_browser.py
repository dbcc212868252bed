"""Every lesson with a widget, in real JupyterLab in a real browser: `make browser`.

Each lesson is run whole (with training cut short), then each slider is moved with the keyboard.
Screenshots are kept where DIFFUSION_SCREENSHOTS names a folder.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import browser_lab  # noqa: E402
import sliders  # noqa: E402

pytestmark = pytest.mark.browser
NOTEBOOKS = ROOT / "notebooks"
LESSONS = [
    p for p in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if "lab.Explorer(" in p.read_text("utf-8")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a copy of the lessons and on the benchmark's notebook."""
    home = tmp_path_factory.mktemp("jupyter")
    lessons = home / "lessons"
    shutil.copytree(NOTEBOOKS, lessons, ignore=shutil.ignore_patterns("src", ".*"))
    sliders.write_notebook(lessons / "sliders.ipynb")
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
        sliders.last.wait_for()  # controls inside a row appear after the picture
        for k in range(sliders.count()):
            before, said = picture.get_attribute("src"), sentence.inner_text()
            sliders.nth(k).focus()
            step_back = float(sliders.nth(k).get_attribute("aria-valuenow")) > 0
            page.keyboard.press("ArrowLeft" if step_back else "ArrowRight")
            sync_api.expect(sentence).not_to_have_text(said)
            assert picture.get_attribute("src") != before
            assert picture.get_attribute("alt") == sentence.inner_text()
        explorer.scroll_into_view_if_needed()
        keep_screenshot(page, f"{request.node.callspec.id}-{i}-wide")
        page.set_viewport_size({"width": 800, "height": 1280})
        explorer.scroll_into_view_if_needed()
        box, right = picture.bounding_box(), page.locator(".jp-Notebook").bounding_box()
        assert box["x"] + box["width"] <= right["x"] + right["width"], "the picture is cut off"
        keep_screenshot(page, f"{request.node.callspec.id}-{i}-tall")
        page.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.parametrize("page", ["sliders.ipynb"], indirect=True)
def test_a_fast_drag_shows_no_blank_frame_and_ends_at_the_last_value(page):
    for name in ("Explorer, points", "Explorer, digits"):
        seen = sliders.drag(page, sliders.cell_of(page, name))
        assert seen.frames > 10 and seen.filmed > 2, "the drag was not seen"
        assert (seen.blank, seen.filmed_blank) == (0, 0)
        assert seen.settled_ms < 1000
