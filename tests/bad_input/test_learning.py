"""Losses that do not fit their targets; optimizers and schedules."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "data=teacher_student loss=cross_entropy",
        "cross entropy must have two outputs or more, got 1; use LogisticLoss",
    ),
    (
        "data.binary=true 'data.classes=[0,1]' loss=cross_entropy",
        "cross entropy must have two outputs or more, got 1; use LogisticLoss",
    ),
    (
        "data.mixup=1",
        "mixup=1 makes shares of the classes, which SoftHingeLoss(beta=20, samples='mean', "
        "outputs='mean', factor=1, targets='one_vs_all') can't be fitted to: use a cross entropy,"
        " the squared loss with targets=one_hot, or mixup=null",
    ),
    (
        "+loss.targets=one_hot",
        "targets must be one of one_vs_all, binary, got 'one_hot'; pick one",
    ),
    (
        "loss=squared +loss.targets=what",
        "targets must be one of one_hot, one_vs_all, binary, got 'what'; pick one",
    ),
    (
        "loss=squared +loss.factor=-1",
        "factor must be finite and above 0, got -1; change factor",
    ),
    (
        "loss=squared +loss.factor=abc",
        "factor must be a number above 0, got 'abc'; write it as factor=0.1",
    ),
    (
        "loss=squared +loss.samples=median",
        "samples must be one of mean, sum, got 'median'; pick one",
    ),
    (
        "optimizer.momentum=-1",
        "can't build the optimizer or its schedule: Invalid momentum value: -1; change one of "
        "optimizer.lr=1.0, optimizer.momentum=-1",
    ),
    (
        "optimizer.momentum=abc",
        "momentum must be a number, got 'abc'; change momentum",
    ),
    (
        "optimizer.momentum=null",
        "momentum must be a number, got None; change momentum",
    ),
    (
        "optimizer.lr=-1",
        "can't build the optimizer or its schedule: Invalid learning rate: -1; change one of "
        "optimizer.lr=-1, optimizer.momentum=0.0",
    ),
    (
        "optimizer.lr=abc",
        "lr must be a number or a Tensor, got 'abc'; change lr",
    ),
    (
        "optimizer=nesterov optimizer.momentum=0",
        "can't build the optimizer or its schedule: Nesterov momentum requires a momentum and "
        "zero dampening; change one of optimizer.lr=1.0, optimizer.momentum=0, "
        "optimizer.nesterov=True",
    ),
    (
        "+optimizer.weight_decay=-1",
        "can't build the optimizer or its schedule: Invalid weight_decay value: -1; change one of"
        " optimizer.lr=1.0, optimizer.momentum=0.0, optimizer.weight_decay=-1",
    ),
    (
        "optimizer=adam 'optimizer.betas=[2,0.9]'",
        "can't build the optimizer or its schedule: Invalid beta parameter at index 0: 2; change "
        "one of optimizer.lr=1.0, optimizer.betas=[2, 0.9], optimizer.eps=1e-08",
    ),
    (
        "optimizer=adam optimizer.betas=0.9",
        "betas must be a list, got 0.9; change betas",
    ),
    (
        "optimizer=adam optimizer.eps=-1",
        "can't build the optimizer or its schedule: Invalid epsilon value: -1; change one of "
        "optimizer.lr=1.0, optimizer.betas=[0.9, 0.999], optimizer.eps=-1",
    ),
    (
        "optimizer=rmsprop optimizer.alpha=abc",
        "alpha must be a number, got 'abc'; change alpha",
    ),
    (
        "optimizer=scaled_rmsprop optimizer.rho=1",
        "rho must lie in [0, 1), got 1; change rho",
    ),
    (
        "optimizer=scaled_rmsprop optimizer.alpha=0",
        "alpha must lie in (0, inf), got 0; change alpha",
    ),
    (
        "optimizer=scaled_adam optimizer.alpha=1e30",
        "alpha=1e+30 can't be squared in torch.float32: choose alpha between 1e-18 and 1e18, or "
        "up to 1e±150 in double precision (trainer=float64)",
    ),
    (
        "optimizer=scaled_adam 'optimizer.betas=[0.9]'",
        "betas must be two numbers, got [0.9]; pass (β₁, β₂)",
    ),
    (
        "optimizer=scaled_adam 'optimizer.betas=[0.9,1.0]'",
        "betas must lie in [0, 1), got 1.0; change betas",
    ),
    (
        "optimizer=scaled_adam optimizer.eps=abc",
        "eps must be a number, got 'abc'; change eps",
    ),
    (
        "optimizer=layerwise 'optimizer.factors=[1]'",
        "factors must be 2 numbers, one a parameter (shapes (100, 64), (10, 100)), got 1; pass "
        "one for each",
    ),
    (
        "optimizer=layerwise 'optimizer.factors=[1,-1]'",
        "factors must be finite and above 0, got -1; change factors",
    ),
    (
        "optimizer=layerwise optimizer.factors=abc",
        "factors must be a list, got 'abc'; change factors",
    ),
    (
        "optimizer=layerwise optimizer.optimizer=null",
        "optimizer must be a Callable, got None; change optimizer",
    ),
    (
        "optimizer._target_=torch.optim.Nothing",
        "_target_ must name a class or function, got torch.optim.Nothing, which is not there (No "
        "module named 'torch.optim.Nothing'): check its spelling",
    ),
    (
        "schedule=step 'schedule.milestones=[3,2]'",
        "milestones must be above 0 and ascending, got [3.0, 2.0]; sort or drop some",
    ),
    (
        "schedule=step 'schedule.milestones=[nan]'",
        "milestones must be above 0 and ascending, got [nan]; sort or drop some",
    ),
    (
        "optimizer=adam 'optimizer.betas=[0.9]'",
        "can't build the optimizer or its schedule: list index out of range; change one of "
        "optimizer.lr=1.0, optimizer.betas=[0.9], optimizer.eps=1e-08",
    ),
    (
        "schedule=step schedule.milestones=abc",
        "milestones must be a list or null, got 'abc'; change milestones",
    ),
    (
        "schedule=step schedule.factor=0",
        "factor must be finite and above 0, got 0; change factor",
    ),
    (
        "schedule=inverse_time schedule.beta=-1",
        "beta must be finite and at least 0, got -1; change beta",
    ),
    (
        "schedule=step_fractions schedule.total=0",
        "total must be finite and above 0, got 0; change total",
    ),
    (
        "+schedule.beta=1",
        "can't build the optimizer or its schedule: Constant.__init__() got an unexpected keyword"
        " argument 'beta'; change one of optimizer.lr=1.0, optimizer.momentum=0.0, "
        "schedule.beta=1",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_way_of_learning_is_refused(
    refused: Callable[[str, str], None], overrides: str, line: str
) -> None:
    refused(overrides, line)
