"""50 batches of a small GAN: several_optimizers.py FILE

Real samples "x" [48, 6] and noise "y" [48, 4] in batches of 8; for each case and type "<case>.<type>.losses" in the
order in which they are computed, and weights. Cases: "automatic", each batch first for the generator, then for the
discriminator; "turns", one batch for the generator and three for the discriminator, counted anew in each epoch;
"manual", with gradients accumulated, clipped and a scheduler.
"""
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from common import TYPES, Reference

BATCHES, SIZE = 50, 8


def networks():
    return nn.ModuleDict({
        "generator": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)),
        "discriminator": nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))})


reference = Reference(14, networks)
x, z = reference.randn("x", 48, 6) * 0.5 + 1, reference.randn("y", 48, 4)
reference.tensors["x"] = x


class Gan:
    def __init__(self, dtype):
        self.model = reference.model(dtype)
        self.generator, self.discriminator = self.model["generator"], self.model["discriminator"]
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), 0.01, (0.5, 0.999))
        self.discriminator_optimizer = torch.optim.SGD(self.discriminator.parameters(), 0.05, 0.5)
        self.data = [(x[i:i + SIZE].to(dtype), z[i:i + SIZE].to(dtype)) for i in range(0, len(x), SIZE)]
        self.losses = []

    def against(self, real, images):
        scores = self.discriminator(images)
        return cross_entropy(scores, torch.full_like(scores, real))

    def generator_loss(self, batch):
        self.losses.append(self.against(1, self.generator(batch[1])))
        return self.losses[-1]

    def discriminator_loss(self, batch):
        fake = self.generator(batch[1]).detach()
        self.losses.append((self.against(1, batch[0]) + self.against(0, fake)) / 2)
        return self.losses[-1]

    def train_generator(self, batch):
        self.generator_optimizer.zero_grad()
        self.generator_loss(batch).backward(inputs=list(self.generator.parameters()))
        self.generator_optimizer.step()

    def train_discriminator(self, batch):
        self.discriminator_optimizer.zero_grad()
        self.discriminator_loss(batch).backward()
        self.discriminator_optimizer.step()


def automatic(gan, place, batch):
    gan.train_generator(batch)
    gan.train_discriminator(batch)


def turns(gan, place, batch):
    gan.train_discriminator(batch) if place % 4 else gan.train_generator(batch)


def manual(gan, place, batch):
    gan.discriminator_optimizer.zero_grad()
    gan.discriminator_loss(batch).backward()
    nn.utils.clip_grad_norm_(gan.discriminator.parameters(), 0.1)
    gan.discriminator_optimizer.step()
    if place % 2 == 0:
        gan.generator_optimizer.zero_grad()
    (gan.generator_loss(batch) / 2).backward(inputs=list(gan.generator.parameters()))
    if place % 2 == 1:
        gan.generator_optimizer.step()
    if place == len(gan.data) - 1:
        gan.scheduler.step()


for case in (automatic, turns, manual):
    for name, dtype in TYPES.items():
        gan = Gan(dtype)
        gan.scheduler = torch.optim.lr_scheduler.ExponentialLR(gan.generator_optimizer, 0.8)
        for i in range(BATCHES):
            place = i % len(gan.data)
            case(gan, place, gan.data[place])
        reference.add_run(f"{case.__name__}.{name}", gan.losses, gan.model)
reference.save()
