"""Figure 1(a) of Lewkowycz & Gur-Ari 2020: λ with a learning-rate schedule."""

from pathlib import Path

from lightning_lazy.figures.lewkowycz.cells import peak_cells
from lightning_lazy.figures.lewkowycz.drawing import describe_seeds, legend
from lightning_lazy.figures.style import COLORS, label, logarithmic, new_figure, save

_TRAININGS = {"fixed": "fixed epochs", "proportional": "epochs ∝ 1/λ"}


def fig1a(folder: Path) -> list[Path]:
    """Draw the best test accuracy against λ, for a fixed time and one ∝ 1/λ (figure 1(a)).

    The paper's conclusion: with a fixed time one λ is best; with a time ∝ 1/λ the accuracy stays
    the same down to the smallest λ. Hollow: cut before its time.

    Args:
        folder: Folder of a sweep over ``cell`` (``training``, ``l2``) and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/fig1a.png``; the data stand beside it in ``cells.csv``.
    """
    cells = peak_cells(folder, ("cell.training",))
    figure, axes = new_figure(columns=1, width=5.6, height=4.0)
    one = axes[0][0]
    for (training, name), color in zip(_TRAININGS.items(), COLORS, strict=False):
        group = cells[cells["cell.training"] == training]
        if not len(group):
            continue
        lengths = sorted({f"{length:g}" for length in group["length"]}, key=float)
        span = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else lengths[0]
        groups = group.groupby("l2")["best"]
        mean = groups.mean()
        one.plot(mean.index, mean, lw=1.3, color=color, label=f"{name} ({span})")
        one.fill_between(mean.index, groups.min(), groups.max(), color=color, alpha=0.15, lw=0)
        for kept, face in ((~group["cut"], color), (group["cut"], "white")):
            one.plot(group["l2"][kept], group["best"][kept], "o", ms=5, mfc=face, mec=color)
    label(one, "λ", "best test accuracy")
    cut = int(cells["cut"].sum())
    title = f"{describe_seeds(cells)}; hollow: cut ({cut} of {len(cells)} runs)"
    one.set_title(title, fontsize=9, loc="left")
    logarithmic(one, "x")
    legend(one)
    return [save(figure, folder, "fig1a")]
