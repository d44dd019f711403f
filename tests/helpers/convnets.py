"""The convolutional nets written out in formulas, from the tensors of their `state_dict`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WrittenOut:
    """Computes a net in evaluation mode and keeps what its activations and poolings see.

    Attributes:
        pre_activations: inputs of the activations in the order of computation.
        pools: inputs of the max poolings.
    """

    def __init__(self, net: nn.Module, batch_norm: bool) -> None:
        self.tensors = list(net.state_dict().values())
        self.batch_norm = batch_norm
        self.pre_activations: list[Tensor] = []
        self.pools: list[Tensor] = []

    def take(self, count: int = 1) -> list[Tensor]:
        taken, self.tensors = self.tensors[:count], self.tensors[count:]
        return taken

    def conv(
        self, x: Tensor, stride: int = 1, padding: int = 1, bias: bool | None = None
    ) -> Tensor:
        has_bias = not self.batch_norm if bias is None else bias
        return F.conv2d(x, *self.take(1 + has_bias), stride=stride, padding=padding)

    def norm(self, x: Tensor) -> Tensor:
        if not self.batch_norm:
            return x
        weight, bias, mean, variance, _ = (t[..., None, None] for t in self.take(5))
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def batch_only_norm(self, x: Tensor) -> Tensor:
        """BatchNorm without running averages."""
        if not self.batch_norm:
            return x
        weight, bias = (t[..., None, None] for t in self.take(2))
        mean, variance = x.mean((0, 2, 3), True), x.var((0, 2, 3), correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def relu(self, x: Tensor) -> Tensor:
        self.pre_activations.append(x)
        return x.clamp(min=0)

    def pool(self, x: Tensor, kernel: int, stride: int) -> Tensor:
        self.pools.append(x)
        return x.unfold(2, kernel, stride).unfold(3, kernel, stride).amax((4, 5))

    def linear(self, x: Tensor) -> Tensor:
        weight, bias = self.take(2)
        return x.flatten(1) @ weight.T + bias

    def vgg(self, x: Tensor, plan: Sequence[int | str]) -> Tensor:
        for entry in plan:
            x = self.pool(x, 2, 2) if entry == "M" else self.relu(self.norm(self.conv(x)))
        return self.linear(x)

    def resnet(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        for stride, changes in [(1, False)] * 2 + [(2, True), (1, False)] * 3:
            inner = self.relu(self.norm(self.conv(x, stride)))
            inner = self.norm(self.conv(inner))
            x = self.relu(inner + (self.norm(self.conv(x, stride, 0)) if changes else x))
        return self.linear(x.mean((2, 3)))

    def wide_resnet(self, x: Tensor, blocks: int, first_changes: bool) -> Tensor:
        x = self.conv(x)
        for group in range(3):
            for block in range(blocks):
                changes = block == 0 and (group > 0 or first_changes)
                stride = 2 if block == 0 and group > 0 else 1
                active = self.relu(self.norm(x))
                inner = self.relu(self.norm(self.conv(active, stride)))
                inner = self.conv(inner)
                x = inner + (self.conv(active, stride, 0) if changes else x)
        return self.linear(self.relu(self.norm(x)).mean((2, 3)))

    def cnn(self, x: Tensor) -> Tensor:
        x = self.relu(self.batch_only_norm(self.conv(x)))
        x = self.relu(self.batch_only_norm(self.conv(x, padding=0)))
        x = self.pool(x, 6, 1)
        x = self.relu(self.batch_only_norm(self.conv(x)))
        x = self.pool(self.conv(x, padding=0, bias=True), 6, 1)
        return self.linear(self.linear(x))


@torch.no_grad()
def move(net: nn.Module, size: float = 0.1) -> None:
    """Move parameters and running averages of a net at random; variances stay positive."""
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.mul_(1 + size * torch.rand_like(value))
            if not name.endswith("running_var"):
                value.add_(size * torch.randn_like(value))
