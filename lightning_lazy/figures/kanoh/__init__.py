"""Figures of Kanoh & Sugiyama 2021, and phase diagrams of any two knobs."""

from lightning_lazy.figures.kanoh.diagrams import paper_figures, phase_diagram
from lightning_lazy.figures.kanoh.slices import fig6

__all__ = ["fig6", "paper_figures", "phase_diagram"]
