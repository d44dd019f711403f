"""From points over two knobs to edges of divergence, their power laws, and the best points."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lightning_lazy.figures.kanoh.boundary import (
    Edge,
    Side,
    band_width,
    best_of,
    edge_of_divergence,
)
from lightning_lazy.figures.kanoh.names import span, symbol
from lightning_lazy.figures.kanoh.power_law import PowerLaw, fit_longest_stretch

GOOD = 0.95
"""Training accuracy from which a point counts as good."""


class Regions(NamedTuple):
    """What the points of an optimizer over two knobs say.

    Attributes:
        along: The knob whose critical and best values are looked for; where the learning rate is
            one of the two, it.
        against: The other knob.
        lines: A row for each value of ``against``: ``critical``, the edge of divergence, with
            ``low``, ``high`` and ``exceptions`` as `Edge` has them; ``best`` and its ``score``;
            ``decades``, over how many decades of ``along`` the training accuracy is at least
            `GOOD`.
        law: The power law of ``critical`` in ``against``, of the longest stretch that has one;
            ``None`` where there are fewer than three different edges.
        best: The row of ``lines`` with the highest score, if any point counts.
    """

    along: str
    against: str
    lines: pd.DataFrame
    law: PowerLaw | None
    best: "pd.Series[float] | None"


def find_regions(points: pd.DataFrame, x: str, y: str) -> Regions:
    """Return the edges of divergence and the best points of one optimizer.

    Learning rates diverge above their edge; of another knob both sides are tried, and the one with
    more edges and fewer exceptions is taken.

    Args:
        points: Rows of `over_seeds`, of one panel and one optimizer.
        x: The horizontal axis.
        y: The vertical axis.
    """
    along, against = (y, x) if y == "lr" else (x, y)
    groups = [(value, line) for value, line in points.groupby(against)]
    edges = _edges(groups, along)
    rows = []
    for (value, line), edge in zip(groups, edges, strict=True):
        best = best_of(line[along].tolist(), line["score"].tolist())
        rows.append(
            {
                against: value,
                "critical": np.nan if edge is None else edge.value,
                "low": np.nan if edge is None else edge.low,
                "high": np.nan if edge is None else edge.high,
                "exceptions": 0 if edge is None else edge.exceptions,
                "best": None if best is None else best.value,
                "score": np.nan if best is None else best.score,
                "decades": _decades(line, along),
            }
        )
    lines = pd.DataFrame(rows)
    scored = lines[lines["score"].notna()].sort_values("score", kind="stable", ascending=False)
    top = None if scored.empty else scored.iloc[0]
    return Regions(along, against, lines, _law(lines, against), top)


def law_text(regions: Regions) -> str:
    """Return the law as text, with the stretch that it is of where that is not everything."""
    law, against = regions.law, regions.against
    if law is None:
        return ""
    known = regions.lines[regions.lines["critical"].notna() & (regions.lines[against] > 0)]
    text = law.text(regions.along, against)
    if len(known) == law.points:
        return text
    return f"{text} (${symbol(against)}$ = {span(law.start, law.end)})"


def _positive(values: "pd.Series[float]") -> bool:
    return bool(pd.api.types.is_numeric_dtype(values) and (values > 0).all())


def _edges(groups: list[tuple[Any, pd.DataFrame]], along: str) -> list[Edge | None]:
    """Return the edge of each line, all on the same side."""
    sides: tuple[Side, ...] = ("above",) if along == "lr" else ("above", "below")
    tried = []
    for side in sides:
        edges = [
            edge_of_divergence(line[along].tolist(), line["diverged"].tolist(), side)
            if _positive(line[along])
            else None
            for _, line in groups
        ]
        found = [edge for edge in edges if edge is not None]
        tried.append((len(found), -sum(edge.exceptions for edge in found), edges))
    return max(tried, key=lambda one: one[:2])[2]


def _law(lines: pd.DataFrame, against: str) -> PowerLaw | None:
    if not pd.api.types.is_numeric_dtype(lines[against]):
        return None
    used = lines[lines["critical"].notna() & (lines[against] > 0)]
    if used["critical"].nunique() < 3:  # a slope through one or two cuts says nothing of a law
        return None
    columns = (used[name].tolist() for name in (against, "critical", "low", "high"))
    return fit_longest_stretch(*columns)


def _decades(line: pd.DataFrame, along: str) -> float:
    """Return the width of the band of good points; NaN where there are no accuracies."""
    measured = line["train/acc"].notna() | line["diverged"]
    if not measured.any() or line["train/acc"].isna().all() or not _positive(line[along]):
        return np.nan
    if len(line) < 2:
        return np.nan
    good = (line["train/acc"] >= GOOD) & ~line["untrusted"] & ~line["diverged"]
    return band_width(line[along].tolist(), good.tolist())
