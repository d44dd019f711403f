"""What ``${…}`` can compute in a configuration."""

import math

from omegaconf import OmegaConf

from lightning_lazy.sweeps import sweep_time


def register_resolvers() -> None:
    """Make the functions of this module and ``${sweep_time:…}`` known to OmegaConf."""
    for function in (power, product, minimum, maximum, whole, tick):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)
    OmegaConf.register_new_resolver("sweep_time", sweep_time, use_cache=True, replace=True)


def power(base: float, exponent: float) -> float:
    """Return base**exponent: ``alpha: ${power:${model.width},-0.5}``.

    >>> power(16, -0.5), power(0, -1)
    (0.25, inf)
    """
    number = float(base)
    return math.inf if number == 0 and exponent < 0 else number**exponent


def product(*factors: float) -> float:
    """Return the product: ``lr: ${product:0.1,${power:${model.tau},-2}}``.

    >>> product(0.5, 3, 2)
    3.0
    """
    return float(math.prod(factors))


def minimum(*values: float) -> float:
    """Return the smallest value: ``lr: ${minimum:10,${…}}``.

    >>> minimum(10, 0.5)
    0.5
    """
    return float(min(values))


def maximum(*values: float) -> float:
    """Return the largest value, such as the length of a run: ``${maximum:${max_epochs},…}``.

    >>> maximum(-1, 200)
    200.0
    """
    return float(max(values))


def tick(max_steps: int) -> str:
    """Return what gives the length of a run, ``step`` or ``epoch``, of its ``max_steps``.

    >>> tick(-1)
    'epoch'
    """
    return "step" if max_steps > 0 else "epoch"


def whole(value: float) -> int:
    """Return the nearest whole number: ``max_steps: ${whole:${product:…}}``.

    >>> whole(66.7)
    67
    """
    return round(float(value))
