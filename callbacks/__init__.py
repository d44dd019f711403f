"""Callbacks that work in any Lightning project."""
