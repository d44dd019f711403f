"""Measures of laziness: pure functions of modules and tensors."""
