"""Every lesson with a widget, in real JupyterLab in a real browser: `make browser`.

Each lesson is run whole (with training cut short), then each slider is moved with the keyboard.
Screenshots are kept where DIFFUSION_SCREENSHOTS names a folder.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LESSONS = [
    p for p in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if "lab.Explorer(" in p.read_text("utf-8")
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
}
RUN_ALL = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  while (!app.shell.currentWidget?.sessionContext) await new Promise(r => setTimeout(r, 100));
  const { context, sessionContext } = app.shell.currentWidget;
  await context.ready;
  await sessionContext.ready;
  await sessionContext.session.kernel.info;
  await app.commands.execute('notebook:run-all-cells');
}"""
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
  .filter(cell => cell.type === 'code').map(cell => ({
    count: cell.executionCount,
    errors: cell.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue),
  }))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a copy of the lessons, a free port, a token and folders of its own."""
    home = tmp_path_factory.mktemp("jupyter")
    lessons = home / "lessons"
    shutil.copytree(NOTEBOOKS, lessons, ignore=shutil.ignore_patterns("src", ".*"))
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    kinds = ("CONFIG", "DATA", "RUNTIME")
    env = {
        **os.environ,
        **{f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in kinds},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "DIFFUSION_SHORT_RUN": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--expose-app-in-browser", "--ServerApp.port=0", f"--ServerApp.root_dir={lessons}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={secrets.token_hex(16)}"]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield _address(process, home)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(process: subprocess.Popen, home: Path) -> dict:
    """Wait until the server has written where it is."""
    for _ in range(600):
        assert process.poll() is None, (home / "log").read_text()
        for path in (home / "runtime").glob("jpserver-*.json"):
            return json.loads(path.read_text())
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


@pytest.fixture(scope="module")
def browser():
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser found, looked for {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found[0], args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server, request):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(30_000)
    own = f"lab/workspaces/{request.param.stem}/tree"  # or the lesson before is opened again, too
    page.goto(f"{server['url']}{own}/{request.param.name}?token={server['token']}")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.set_default_timeout(600_000)
    page.evaluate(RUN_ALL)
    page.set_default_timeout(30_000)
    yield page
    page.close()


def keep_screenshot(page, name: str) -> None:
    if folder := os.environ.get("DIFFUSION_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize("page", LESSONS, indirect=True, ids=lambda path: path.stem)
def test_every_slider_moves_its_picture(page, request):
    cells = page.evaluate(CELLS)
    assert [cell["errors"] for cell in cells if cell["errors"]] == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
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
