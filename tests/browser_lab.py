"""Real JupyterLab in a real browser, for tests/test_browser.py and benchmarks/sliders.py."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 300_000  # milliseconds for anything to happen, on the slowest machine
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
  await app.commands.execute('notebook:expand-all-headings');  // what is folded is tried, too
  await app.commands.execute('notebook:run-all-cells');
}"""
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
  .filter(cell => cell.type === 'code').map(cell => ({
    count: cell.executionCount,
    errors: cell.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue),
  }))"""


@contextmanager
def jupyterlab(home: Path, notebooks: Path) -> Iterator[dict]:
    """Serve a folder of notebooks with a free port, a token and settings of its own under home."""
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
    command += [
        "--expose-app-in-browser",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={notebooks}",
    ]
    command += ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={secrets.token_hex(16)}"]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield _address(process, home)
    finally:
        process.terminate()
        process.wait(timeout=WAIT / 1000)


def _address(process: subprocess.Popen, home: Path) -> dict:
    """Wait until the server has written where it is."""
    for _ in range(WAIT // 100):
        assert process.poll() is None, (home / "log").read_text()
        for path in (home / "runtime").glob("jpserver-*.json"):
            if text := path.read_text():  # it is empty for a moment
                return json.loads(text)
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


@contextmanager
def chromium() -> Iterator:
    """Start the system's browser; LookupError where there is none."""
    from playwright.sync_api import sync_playwright

    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        raise LookupError(f"no browser found, looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=FLAGS)
        yield browser
        browser.close()


def run_notebook(browser, server: dict, name: str):
    """Open a notebook in a new page of 1280 x 800 pixels, run every cell, return the page."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(WAIT)
    own = f"lab/workspaces/{Path(name).stem}/tree"  # or the notebook before is opened again, too
    page.goto(f"{server['url']}{own}/{name}?token={server['token']}")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate(RUN_ALL)  # without a limit
    cells = page.evaluate(CELLS)
    assert [cell["errors"] for cell in cells if cell["errors"]] == []
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    return page
