"""Curvature and kernels of networks."""
