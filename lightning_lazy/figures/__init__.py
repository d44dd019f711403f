"""Figures, drawn from the files of runs."""
