"""How much to draw and to judge: all of it, or a fiftieth where a lesson is only tried."""

from diffusion_core.checks import check_count
from diffusion_core.training import is_short_run

SHARE = 50  # a short run draws and judges the fiftieth part


def up_to(number: int, *, least: int = 1) -> int:
    """Return number; in a short run (DIFFUSION_SHORT_RUN=1) a fiftieth, not below `least`.

    For whatever is counted: drawings, steps, pictures. What a lesson prints may not depend on it.
    Raises ValueError unless 1 <= least <= number, TypeError where one is not an int.
    """
    check_count("number", number)
    check_count("least", least)
    if least > number:
        raise ValueError(f"least must be at most {number}, the number, got {least}")
    return max(least, number // SHARE) if is_short_run() else number
