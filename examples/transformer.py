"""Someone's transformer under `lightning.pytorch`, which names the commonest token of a sequence.

python examples/transformer.py
"""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy.callbacks import HessianTopEigenvalues, LazinessReport


class Block(nn.Module):
    """Self-attention and a perceptron, each after LayerNorm; `[batch, length, width]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, heads, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.norms[1](x))


class Transformer(pl.LightningModule):
    """Classifies sequences of tokens."""

    def __init__(self, tokens: int = 8, length: int = 12, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads=2) for _ in range(depth)))
        self.head = nn.Linear(width, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `[batch, tokens]` of sequences `[batch, length]`."""
        return self.head(self.blocks(self.embedding(tokens) + self.position).mean(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the cross entropy."""
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the accuracy."""
        self.log("val/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, whose weight decay is no L2."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def loaders(samples: int = 1000, batch_size: int = 50) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders for training and validation of random sequences."""
    x = torch.randint(8, (2 * samples, 12), generator=torch.Generator().manual_seed(0))
    y = nn.functional.one_hot(x, 8).sum(1).argmax(1)  # of several, the first
    train, val = TensorDataset(x[:samples], y[:samples]), TensorDataset(x[samples:], y[samples:])
    return DataLoader(train, batch_size, shuffle=True), DataLoader(val, batch_size)


if __name__ == "__main__":
    watching = [LazinessReport(), HessianTopEigenvalues(size=250)]
    trainer = pl.Trainer(max_epochs=5, callbacks=watching)
    trainer.fit(Transformer(), *loaders())
