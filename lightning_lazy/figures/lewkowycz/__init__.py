"""Figures of Lewkowycz & Gur-Ari 2020."""

from lightning_lazy.figures.lewkowycz.auto_l2 import fig1c, s9, s10
from lightning_lazy.figures.lewkowycz.budgets import fig1b, fig4, s2, s3, s4
from lightning_lazy.figures.lewkowycz.curves import s6
from lightning_lazy.figures.lewkowycz.fitting import s1, s5
from lightning_lazy.figures.lewkowycz.imagenet import s8
from lightning_lazy.figures.lewkowycz.peak_times import fig2, fig2_wrn, fig3, s7
from lightning_lazy.figures.lewkowycz.schedules import fig1a
from lightning_lazy.figures.lewkowycz.wide_network import fig5

__all__ = [
    "fig1a",
    "fig1b",
    "fig1c",
    "fig2",
    "fig2_wrn",
    "fig3",
    "fig4",
    "fig5",
    "s1",
    "s2",
    "s3",
    "s4",
    "s5",
    "s6",
    "s7",
    "s8",
    "s9",
    "s10",
]
