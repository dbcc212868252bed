"""One progress bar for everything that takes long."""

import os

from tqdm.auto import tqdm


def progress_bar(**options) -> tqdm:
    """Return tqdm's bar for a notebook or a terminal; TQDM_DISABLE=1 hides it.

    tqdm's notebook bar does not read that variable itself.
    """
    return tqdm(**options, disable=os.environ.get("TQDM_DISABLE", "") not in ("", "0"))
