"""Where the coefficient of L2 stands in a run: in its module or in its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from lightning_lazy.errors import InputError
from lightning_lazy.optim.weight_decay import is_coupled

_WITHOUT_OPTIMIZER = (
    "add ½·l2·‖θ‖² to the loss in training_step, with l2 a number that is an attribute of the "
    "module"
)
_COUPLED = f"use SGD, or Adam without decoupled_weight_decay, or {_WITHOUT_OPTIMIZER}"


def module_l2(pl_module: Any) -> float | None:
    """Return the attribute ``l2`` of a module where it is a number."""
    value = getattr(pl_module, "l2", None)
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


@contextmanager
def with_l2(pl_module: Any, value: float) -> Iterator[None]:
    """Set the attribute ``l2`` inside, where the module has one that is a number."""
    before = getattr(pl_module, "l2", None)
    if module_l2(pl_module) is None:
        yield
        return
    pl_module.l2 = value
    try:
        yield
    finally:
        pl_module.l2 = before


def weight_decays(optimizer: Any) -> list[float]:
    """Return the weight decay of every parameter group that has one."""
    groups = optimizer.param_groups
    return [float(group["weight_decay"]) for group in groups if "weight_decay" in group]


def present_l2(trainer: Any, pl_module: Any) -> float:
    """Return λ: the module's ``l2``, else the largest weight decay of the optimizers.

    Raises:
        InputError: Both are above 0, or weight decay is not L2.
    """
    explicit = module_l2(pl_module) or 0.0
    for own in trainer.optimizers:
        if any(weight_decays(own)):
            _refuse_decoupled(
                "PeakTime", own, f"{_COUPLED}; or say what λ is by l2=… of the callback"
            )
    decay = max((one for own in trainer.optimizers for one in weight_decays(own)), default=0.0)
    if explicit > 0 and decay > 0:
        raise InputError(
            f"{type(pl_module).__name__} has l2={explicit:g} and its optimizer "
            f"weight_decay={decay:g}: say which one counts by l2=… of the callback"
        )
    return explicit or decay


@dataclass
class L2Setter:
    """Sets λ of a run in the one place where it stands.

    Attributes:
        in_module: Whether that is the module's attribute ``l2``; else it is ``weight_decay`` in the
            optimizer's groups.
        largest: The largest weight decay at the start.
        scales: Weight decay of each group in units of the largest: 0 stays 0. All are 1 where no
            group has had any.
    """

    in_module: bool
    largest: float = 0.0
    scales: list[float] = field(default_factory=list)

    @classmethod
    def find(cls, optimizer: Any, pl_module: Any, explicit: bool) -> "L2Setter":
        """Find the place.

        Args:
            optimizer: The optimizer of the run.
            pl_module: The module.
            explicit: Whether the training loss depends on the module's ``l2``.

        Raises:
            InputError: There is none, or there are two, or weight decay is not L2.
        """
        decays, kind = weight_decays(optimizer), type(optimizer).__name__
        largest = max(decays, default=0.0)
        value = (module_l2(pl_module) or 0.0) if explicit else 0.0
        if value > 0 and largest > 0:
            raise InputError(
                f"{type(pl_module).__name__} has l2={value:g} and {kind} weight_decay={largest:g}: "
                "set one of them to 0, AutoL2 steers the other"
            )
        if explicit and largest == 0:
            return cls(in_module=True)
        if not decays:
            raise InputError(
                f"AutoL2 found no L2 to steer, {kind} has no weight_decay: use an optimizer that "
                f"has, such as SGD, or {_WITHOUT_OPTIMIZER}"
            )
        own = f"set weight_decay=0: AutoL2 then steers the l2 of {type(pl_module).__name__}"
        _refuse_decoupled("AutoL2", optimizer, own if explicit else _COUPLED)
        return cls(in_module=False, largest=largest)

    def set(self, optimizer: Any, pl_module: Any, value: float) -> None:
        """Set λ; groups that the optimizer got since the start take part with their own scale."""
        if self.in_module:
            pl_module.l2 = value
            return
        for group in optimizer.param_groups[len(self.scales) :]:
            self.scales.append(group["weight_decay"] / self.largest if self.largest else 1.0)
        for group, scale in zip(optimizer.param_groups, self.scales, strict=False):
            group["weight_decay"] = scale * value


def _refuse_decoupled(callback: str, optimizer: Any, remedy: str) -> None:
    kind = type(optimizer).__name__
    try:
        coupled = is_coupled(optimizer)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{callback} can't tell whether the weight_decay of {kind} is L2 ({reason}): {remedy}"
        ) from error
    if not coupled:
        raise InputError(
            f"{callback} needs L2, {kind} decays weights outside of the gradient (decoupled weight "
            f"decay): {remedy}"
        )
