"""Every lesson with a widget, in real JupyterLab in a real browser: `make browser`.

Each lesson is run whole (with training cut short), then each slider is moved with the keyboard.
In one lesson the solutions are typed into the exercises, as a learner would.
Screenshots are kept where DIFFUSION_SCREENSHOTS names a folder.
"""

import os
import re
import shutil
from pathlib import Path

import browser_lab
import build_notebooks as build
import pytest
import sliders

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.browser
sync_api.expect.set_options(timeout=browser_lab.WAIT)
NOTEBOOKS = ROOT / "notebooks"
LESSONS = [
    p for p in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if "lab.Explorer(" in p.read_text("utf-8")
]

END_KERNEL = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
CUT_OFF = """labels => labels.filter(label => label.scrollWidth > label.clientWidth)
  .map(label => label.textContent)"""


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
            step_back = float(sliders.nth(k).get_attribute("aria-valuenow")) > 0
            page.keyboard.press("ArrowLeft" if step_back else "ArrowRight")
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
        editor, said = cells.nth(i).locator(".cm-content"), cells.nth(i + 2).get_by_role("status")
        sync_api.expect(said).to_contain_text("Not attempted yet")
        editor.click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.insert_text(solution)
        assert editor.inner_text().split() == solution.split()
        for _ in range(3):  # the exercise, the solution folded under it, the check
            page.keyboard.press("Shift+Enter")
        sync_api.expect(said).to_have_text(re.compile("^✓ Right"))


@pytest.mark.parametrize("page", ["sliders.ipynb"], indirect=True)
def test_a_fast_drag_shows_no_blank_frame_and_ends_at_the_last_value(page):
    for name in ("Explorer, points", "Explorer, digits"):
        seen = sliders.drag(page, sliders.cell_of(page, name))
        assert seen.frames > 10 and seen.filmed > 2, "the drag was not seen"
        assert (seen.blank, seen.filmed_blank) == (0, 0)
