"""Figures of Li, Wei & Ma 2019."""

from lightning_lazy.figures.li.examples import patch_examples
from lightning_lazy.figures.li.learning_order import fig1, fig3, noise
from lightning_lazy.figures.li.patterns import pq

__all__ = ["fig1", "fig3", "noise", "patch_examples", "pq"]
