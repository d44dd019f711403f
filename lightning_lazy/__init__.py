"""How far does a network move from its initialisation while it learns, and what decides that?"""

from importlib.metadata import version

from lightning_lazy.checkpoints import load_checkpoint, read_checkpoint
from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.errors import InputError
from lightning_lazy.metrics_log import MetricsLog
from lightning_lazy.module import ScaledLightningModule
from lightning_lazy.run_files import RunFiles
from lightning_lazy.scaling import ScaledModel

__version__ = version("lightning-lazy")

__all__ = [
    "InputError",
    "LinearizedModel",
    "MetricsLog",
    "RunFiles",
    "ScaledLightningModule",
    "ScaledModel",
    "load_checkpoint",
    "read_checkpoint",
]
