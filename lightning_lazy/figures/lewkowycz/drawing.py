"""What the figures of this paper share in their looks."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex


def shades(count: int) -> list[str]:
    """Return so many colours from dark to light."""
    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0.0, 0.85, count)]


def legend(axes: Axes) -> None:
    """Draw a legend where there is anything to name; a small one in two columns for many names."""
    count = len(axes.get_legend_handles_labels()[1])
    many: dict[str, Any] = {"fontsize": 6, "ncols": 2} if count > 9 else {"fontsize": 8}
    if count:
        axes.legend(frameon=False, **many)


def describe_seeds(cells: pd.DataFrame) -> str:
    """Say over how many seeds points are means, and what a cross is where there is one."""
    count = cells["seed"].nunique()
    crosses = "; ×: diverged" if cells["diverged"].any() else ""
    return (f"mean and range of {count} seeds" if count > 1 else "one seed") + crosses
