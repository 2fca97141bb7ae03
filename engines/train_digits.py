"""Train the demo's model: a ResNet-56 (He et al. 2016, the CIFAR form) on scikit-learn's digits, and keep it as ONNX.

    python -m pamdi.engines.train_digits [--epochs 8]

Needs the ``train`` extra (torch, scikit-learn, onnxscript). Writes ``models/digits.npz`` and
``models/resnet56-digits.onnx`` (input ``image``, float32 [batch, 3, 32, 32]; output ``logits``, [batch, 10]) and
prints the accuracy on the test images. The seed is fixed; results may differ in the last digits between machines.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from pamdi.engines.digits import FILE, load
from pamdi.engines.torch_export import strip

MODEL = FILE.parent / "resnet56-digits.onnx"
SEED = 56


def keep_digits() -> None:
    """Write scikit-learn's digits with a stratified split: every fourth image of a class is for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    is_test = np.zeros(len(data.target), bool)
    for digit in range(10):
        is_test[np.flatnonzero(data.target == digit)[::4]] = True
    images = data.images.astype(np.uint8)
    np.savez_compressed(FILE, images=images, labels=data.target.astype(np.uint8), is_test=is_test)


def build_network() -> Any:
    """ResNet-56: a 3x3 stem, three stages of nine basic blocks with 16, 32, 64 channels, pooling, one dense layer."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, entering: int, channels: int) -> None:
            super().__init__()
            stride = 1 if entering == channels else 2
            self.body = nn.Sequential(
                nn.Conv2d(entering, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
                nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
            )  # fmt: skip
            self.short = nn.Identity() if stride == 1 else nn.Conv2d(entering, channels, 1, 2, bias=False)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.body(x) + self.short(x))

    layers: list[Any] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    entering = 16
    for channels in (16, 32, 64):
        for _ in range(9):
            layers.append(Block(entering, channels))
            entering = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(network: Any, epochs: int) -> None:
    import torch

    images, labels = (torch.from_numpy(array) for array in load("train"))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batch = 64
    steps = epochs * (len(labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(labels))
        total = 0.0
        for first in range(0, len(labels) - batch + 1, batch):
            chosen = order[first : first + batch]
            loss = torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss)
        print(f"epoch {epoch + 1} of {epochs}: mean loss {total * batch / len(labels):.4f}", flush=True)


def accuracy(network: Any) -> float:
    import torch

    images, labels = (torch.from_numpy(array) for array in load("test"))
    network.eval()
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())


def export(network: Any, path: Path) -> None:
    import torch

    network.eval()
    torch.onnx.export(
        network, (torch.zeros(2, 3, 32, 32),), str(path), input_names=["image"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},), opset_version=18, dynamo=True,
        external_data=False,
    )  # fmt: skip
    strip(path)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    epochs = parser.parse_args().epochs
    torch.manual_seed(SEED)
    keep_digits()
    network = build_network()
    train(network, epochs)
    export(network, MODEL)
    print(f"accuracy on the test digits: {accuracy(network):.4f}; {MODEL.name}: {MODEL.stat().st_size} bytes")


if __name__ == "__main__":
    main()
