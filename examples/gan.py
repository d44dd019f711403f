"""Someone's GAN, which steps two optimizers by hand: callbacks are told what to measure.

python examples/gan.py
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy.callbacks import HessianTopEigenvalues, LazinessReport


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Return a net of one hidden layer, `[batch, inputs]` to `[batch, outputs]`."""
    return nn.Sequential(nn.Linear(inputs, 32), nn.LeakyReLU(0.2), nn.Linear(32, outputs))


class GAN(pl.LightningModule):
    """A generator of points in the plane and a discriminator of them."""

    def __init__(self, latent: int = 4) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.latent = latent
        self.generator, self.discriminator = perceptron(latent, 2), perceptron(2, 1)

    def sample(self, size: int) -> Tensor:
        """Return points `[size, 2]` made of noise."""
        return self.generator(torch.randn(size, self.latent, device=self.device))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Step the discriminator, then the generator."""
        of_generator, of_discriminator = self.optimizers()
        self._step(of_discriminator, "discriminator", discriminator_loss(self, batch))
        judged = self.discriminator(self.sample(len(batch[0])))
        self._step(of_generator, "generator", cross_entropy(judged, torch.ones_like(judged)))

    def _step(self, optimizer: Any, name: str, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log(f"train/{name}", loss)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for each net."""
        nets = (self.generator, self.discriminator)
        return [torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.999)) for net in nets]


cross_entropy = nn.functional.binary_cross_entropy_with_logits


def judgement(module: GAN, batch: Any) -> Tensor:
    """Return what the discriminator makes of real points, `[batch, 1]`."""
    return module.discriminator(batch[0])


def discriminator_loss(module: GAN, batch: Any) -> Tensor:
    """Return the discriminator's loss on real points and as many of the generator's."""
    real = judgement(module, batch)
    fake = module.discriminator(module.sample(len(real)).detach())
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    return cross_entropy(torch.cat([real, fake]), truth)


def loader(samples: int = 1000, batch_size: int = 50) -> DataLoader[Any]:
    """Return a loader of points on a circle of radius 2, without labels."""
    angle = torch.linspace(0, 2 * torch.pi, samples)
    points = 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return DataLoader(TensorDataset(points), batch_size, shuffle=True)


if __name__ == "__main__":
    report = LazinessReport(forward=judgement)
    sharpness = HessianTopEigenvalues(size=250, loss_fn=discriminator_loss)
    pl.Trainer(max_epochs=5, callbacks=[report, sharpness]).fit(GAN(), loader())
