"""Arithmetic in a configuration. Oracle: Python's own."""

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lightning_lazy.resolvers import register_resolvers


def resolved(expression: str) -> object:
    register_resolvers()
    config = OmegaConf.create({"tau": 0.2, "width": 16, "word": "x", "result": expression})
    return config.result


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("${power:${width},-0.5}", 0.25),
        ("${power:2,3}", 8.0),
        ("${minimum:10,${power:0,-1}}", 10.0),  # 1/λ for λ = 0, up to a cap
        ("${product:0.1,3,${tau}}", 0.1 * 3 * 0.2),
        ("${minimum:10,${product:0.1,${power:${tau},-2}}}", 0.1 / 0.2**2),
        ("${minimum:2,${product:0.1,${power:${tau},-2}}}", 2.0),
    ],
)
def test_values(expression: str, value: float) -> None:
    result = resolved(expression)
    assert isinstance(result, float)
    assert result == pytest.approx(value, rel=1e-15)


def test_words_are_refused_with_the_place() -> None:
    with pytest.raises(InterpolationResolutionError, match="could not convert string to float"):
        resolved("${power:${word},2}")


def test_registering_twice_is_harmless() -> None:
    register_resolvers()
    assert resolved("${power:3,2}") == 9.0
