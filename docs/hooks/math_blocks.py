"""Turns the ``.. math::`` of docstrings into what Markdown renders."""

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^\.\. math::(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)


class MathBlocks(griffe.Extension):
    """Rewrites the docstring of every object that is documented."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put display formulas between dollars."""
        if obj.docstring is not None:
            obj.docstring.value = _BLOCK.sub(_dollars, obj.docstring.value)


def _dollars(found: re.Match[str]) -> str:
    formula = " ".join(found[1].split())
    return f"\n$$\n{formula}\n$$\n"
