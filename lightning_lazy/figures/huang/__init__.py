"""Figures of Huang, Du, Xu & Liu 2020."""

from lightning_lazy.figures.huang.cars_and_dogs import fig4
from lightning_lazy.figures.huang.ends import fig3
from lightning_lazy.figures.huang.series import fig1, fig2
from lightning_lazy.figures.huang.table import table1

__all__ = ["fig1", "fig2", "fig3", "fig4", "table1"]
