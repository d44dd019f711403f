"""Figures of Chizat, Oyallon & Bach 2019."""

from lightning_lazy.figures.chizat.cnn import fig3a, fig3a_lr, fig3b
from lightning_lazy.figures.chizat.kernel_spectrum import kernel_spectrum
from lightning_lazy.figures.chizat.two_layer import fig1, fig2a, fig2b

__all__ = ["fig1", "fig2a", "fig2b", "fig3a", "fig3a_lr", "fig3b", "kernel_spectrum"]
