"""What the columns and entries of a table of cells are called in figures."""

import re

from lightning_lazy.figures.style import COLORS

OPTIMIZERS = {
    "sgd": "gradient descent",
    "momentum": "gradient descent with momentum",
    "rmsprop": "RMSProp, original",
    "scaled_rmsprop": "RMSProp, α-folded (Algorithm 1)",
    "adam": "Adam, original",
    "scaled_adam": "Adam, α-folded",
}
CURVED = ("sgd", "momentum")
"""Optimizers whose step in a direction is η times the gradient, so that η·λ_max = 2 means them."""
FOLDED = {"rmsprop": "scaled_rmsprop", "adam": "scaled_adam"}
"""The α-folded form of an adaptive optimizer."""
CLASSES = {
    "SGD": "sgd",
    "RMSprop": "rmsprop",
    "ScaledRMSprop": "scaled_rmsprop",
    "Adam": "adam",
    "ScaledAdam": "scaled_adam",
}
"""The optimizer of a single run by the name of its class."""
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
METRICS = {
    "val/acc": "test accuracy",
    "train/acc": "training accuracy",
    "lazy/sign_consistency": "hidden-sign consistency",
    "val/loss": "test loss",
    "train/loss": "training loss",
    "lazy/param_distance": "distance ‖θ − θ₀‖/‖θ₀‖",
    "effective_lr": "effective learning rate",
    "frozen_throughout": "share of frozen parameters",
    "curvature/hessian_top1_start": r"$\lambda_{\max}$ at the start",
    "curvature/hessian_top1": r"$\lambda_{\max}$ at the end",
}
SHARES = ("val/acc", "train/acc", "lazy/sign_consistency", "frozen_throughout")
"""Metrics between 0 and 1."""
KNOBS = {"lr": "learning rate η", "alpha": "output scale α", "l2": "L2 coefficient"}
_SYMBOLS = {"lr": r"\eta", "alpha": r"\alpha"}
_ORDER = ("sgd", "rmsprop", "scaled_rmsprop", "adam", "scaled_adam", "momentum")
OPTIMIZER_COLORS = dict(zip(_ORDER, COLORS, strict=True))


def best_of_score(column: str) -> str:
    """Return what the best of a score is called: the highest accuracy or the lowest loss.

    >>> best_of_score("val/acc"), best_of_score("train/loss")
    ('best test accuracy', 'lowest training loss')
    """
    return f"{'best' if column in SHARES else 'lowest'} {METRICS[column]}"


def span(start: float, end: float) -> str:
    r"""Return two positive numbers in one format, as powers of ten where one is far from 1.

    >>> span(30, 1000), span(1e-6, 1000)
    ('30 … 1000', '$10^{-6}$ … $10^{3}$')
    >>> span(3e-5, 1)
    '$3 \\times 10^{-5}$ … $10^{0}$'
    """
    if start >= 1e-2 and end < 1e4:
        return f"{start:.4g} … {end:.4g}"
    return f"${_power(start)}$ … ${_power(end)}$"


def _power(value: float) -> str:
    digits, _, exponent = f"{value:.3e}".partition("e")
    factor = "" if float(digits) == 1 else rf"{float(digits):g} \times "
    return f"{factor}10^{{{int(exponent)}}}"


def symbol(knob: str) -> str:
    r"""Return a knob's symbol in matplotlib's mathematics, without the dollar signs.

    >>> symbol("width")
    '\\mathrm{width}'
    """
    return _SYMBOLS.get(knob, rf"\mathrm{{{knob.replace('_', ' ')}}}")


def lazy_bound(has_l2: bool) -> str:
    """Return the name of the line beyond which gradient descent diverges in lazy training."""
    opening, closing = ("(", r" + \mathrm{l2})") if has_l2 else ("", "")
    return rf"$\eta\,{opening}\lambda_{{\max}}{closing} = 2$"


def file_name(text: str) -> str:
    """Return a text as part of a file's name.

    >>> file_name("Fashion-MNIST, l2 = 0.01")
    'fashion_mnist_l2_0.01'
    """
    return re.sub(r"[^\w.]+", "_", text.lower()).strip("_")
