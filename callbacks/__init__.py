"""Callbacks that work in any Lightning project."""

from lightning_lazy.callbacks.activation_stability import ActivationStability
from lightning_lazy.callbacks.anneal_on_loss import AnnealOnLoss
from lightning_lazy.callbacks.auto_l2 import AutoL2
from lightning_lazy.callbacks.catapult_monitor import CatapultMonitor
from lightning_lazy.callbacks.divergence_guard import DivergenceGuard
from lightning_lazy.callbacks.frozen_parameters import FrozenParameters
from lightning_lazy.callbacks.gradient_noise import GradientNoise
from lightning_lazy.callbacks.hessian_spectrum import HessianSpectrum
from lightning_lazy.callbacks.hessian_top_eigenvalues import HessianTopEigenvalues
from lightning_lazy.callbacks.laziness_report import LazinessReport
from lightning_lazy.callbacks.linearization_gap import LinearizationGap
from lightning_lazy.callbacks.neural_tangent_kernel import NeuralTangentKernel
from lightning_lazy.callbacks.parameter_distance import ParameterDistance
from lightning_lazy.callbacks.parameter_trajectory import ParameterTrajectory
from lightning_lazy.callbacks.pattern_learning import PatternLearning
from lightning_lazy.callbacks.peak_time import PeakTime
from lightning_lazy.callbacks.pre_activation_noise import PreActivationNoise
from lightning_lazy.callbacks.relative_scale import RelativeScale

__all__ = [
    "ActivationStability",
    "AnnealOnLoss",
    "AutoL2",
    "CatapultMonitor",
    "DivergenceGuard",
    "FrozenParameters",
    "GradientNoise",
    "HessianSpectrum",
    "HessianTopEigenvalues",
    "LazinessReport",
    "LinearizationGap",
    "NeuralTangentKernel",
    "ParameterDistance",
    "ParameterTrajectory",
    "PatternLearning",
    "PeakTime",
    "PreActivationNoise",
    "RelativeScale",
]
