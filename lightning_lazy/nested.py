"""Nested mappings by dotted paths."""

from collections.abc import Mapping
from typing import Any


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted path; lists count as values.

    >>> leaves({"model": {"width": 3, "sizes": [1, 2]}, "lr": 0.1})
    {'model.width': 3, 'model.sizes': [1, 2], 'lr': 0.1}
    """
    if not isinstance(node, Mapping) or not node:
        return {path: node}
    found: dict[str, Any] = {}
    for key, child in node.items():
        found |= leaves(child, f"{path}.{key}" if path else str(key))
    return found
