"""An epoch of `core.train.train` against the usual DataLoader + PIL loop on the same architecture.

    python tests/benchmarks/bench_training.py [--data DIR] [--images 2560] [--rounds 5] [--nets allconv16,allconv48,...]

Ours: uint8 images resident in memory, crop_flip on the batch, channels-last net with normalisation inside; the time is
of the whole call `train(epochs=1)`, with initialisation, member statistics and the accuracy on 64 validation images.
The usual loop: a Dataset of PIL images -> RandomCrop(32, 4) -> RandomHorizontalFlip -> ToTensor -> Normalize,
DataLoader(batch_size=128, shuffle=True, num_workers=0), an NCHW eager net of the same layers, cross-entropy, SGD with
the same momentum and weight decay; the time is of the epoch alone.
Also the data path alone: crop + flip + scaling to float, without and with normalisation, as the loop does it.

Each side has a process of its own with one thread, so that nothing either of them sets reaches the other; they take
turns, one at a time. Ratios are usual / this side of the same round, in process CPU time. Our loop lets malloc keep what
it frees (core/memory.py); the side `usual, kept` is the usual loop in a process that does so too, to tell what comes from
there. Demanded: ours >= 1.25x the usual loop. Nets: allconvW (no batch norm), allconvbnW (batch norm after each
convolution), resnet18, vgg11_bn (slow).

RESULTS (2 cores x86_64, torch 2.15.0, defaults; median [range] over 5 rounds of usual / this side)
    data path, augmentation + float  12.7 [9.8-25.0]      with normalisation  9.2 [6.5-18.4]
    net           ours               usual, kept
    allconv16     2.02 [1.70-2.19]   1.18 [1.03-1.37]
    allconv48     1.24 [1.21-1.24]   1.12 [1.05-1.15]
    allconvbn16   1.65 [1.60-1.76]   0.99 [0.98-1.03]
    allconvbn48   1.25 [1.22-1.33]   1.05 [1.02-1.18]
The nets that a CPU study uses (width 16) clear the demand; at width 48 both sides spend nearly all of their time in the
same convolutions, and the ratio is at the demand, not above it.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from core import data, nets, rng
from core.augmentations.crop_flip import CropFlip
from core.config import TrialConfig
from core.data import Images
from core.slots import Context
from core.train import train

BATCH = 128
ROOT = Path(__file__).resolve().parents[2]


class AllConvBN(nets.AllConv):
    """The all-conv net with batch norm after each convolution."""

    def build(self, channels: int, size: int, classes: int) -> nets.Halves:
        body, head, dim = super().build(channels, size, classes)
        layers: list[nn.Module] = []
        for layer in body:
            layers += [layer, nn.BatchNorm2d(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
        return nn.Sequential(*layers), head, dim


nets.NETS["allconvbn"] = AllConvBN


class Pictures(Dataset):
    """What torchvision's CIFAR10 does: an array row becomes a PIL image, and the transform makes a tensor of it."""

    def __init__(self, images: Images, transform: Callable):
        self.x, self.y, self.transform = images.x.permute(0, 2, 3, 1).numpy(), images.y.tolist(), transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.x[i])), self.y[i]


def pool(folder: str, count: int) -> tuple[Images, str]:
    """Real images if there are any, else random ones."""
    for place in [folder] if folder else [ROOT / "../shared/data/cifar10-jpeg", ROOT / "shared/data/cifar10-jpeg"]:
        if (Path(place) / "train.parquet").is_file():
            return data.load(f"parquet:{place}", pool=count), "CIFAR-10"
    stream = np.random.default_rng(0)
    x = torch.from_numpy(stream.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))
    return Images(x, torch.arange(count) % 10, 10), "random images"


def settings(name: str):
    """A net by the names of the command line."""
    for prefix, cls in (("allconvbn", AllConvBN), ("allconv", nets.AllConv)):
        if name.startswith(prefix):
            return cls(width=int(name.removeprefix(prefix)))
    return nets.NETS[name]()


def loader(images: Images, mean: torch.Tensor, std: torch.Tensor) -> DataLoader:
    steps = [
        transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(mean.tolist(), std.tolist()),
    ]  # fmt: skip
    return DataLoader(Pictures(images, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, num_workers=0)


def usual_epoch(config: TrialConfig, batches: DataLoader, shape: tuple[int, int, int], classes: int) -> float:
    """CPU seconds of one epoch of the loop people write."""
    body, head, _ = config.net.build(shape[0], min(shape[1:]), classes)
    net, sgd = nn.Sequential(body, head), config.optimizer
    optimizer = torch.optim.SGD(net.parameters(), lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay)
    start = time.process_time()
    net.train()
    total, correct = 0.0, 0
    for x, y in batches:
        optimizer.zero_grad()
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
        correct += int((logits.argmax(1) == y).sum())
    return time.process_time() - start


def our_epoch(config: TrialConfig, images: Images) -> float:
    """CPU seconds of `train` with one epoch."""
    start = time.process_time()
    train(config, images, images.at(torch.arange(64)))
    return time.process_time() - start


def our_data(images: Images, mean: torch.Tensor | None, std: torch.Tensor) -> float:
    """CPU seconds of what `train` does to the images before the first layer, and the first layer if `mean` is given."""
    net = nets.build(nets.NETS["convnet"](), images.shape, images.classes)
    augment = CropFlip().bind(Context(images.classes, net.dim, images.shape, 1, net))
    stream = rng.generator(0, "augment")
    start = time.process_time()
    for rows in torch.randperm(len(images.y)).split(BATCH):
        x, _ = augment(images.x[rows], images.y[rows], rng.Draw(stream, len(rows)))
        x = x.to(memory_format=torch.channels_last).float().div_(255)
        if mean is not None:
            x = (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    return time.process_time() - start


def usual_data(batches: DataLoader) -> float:
    start = time.process_time()
    for _ in batches:
        pass
    return time.process_time() - start


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def serve(folder: str, count: int, turns) -> None:
    """A side's process: measures what it is asked for, ("data" | "usual" | "ours", which net, how many images)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, _ = pool(folder, count)
    pixels = images.x.double().div(255)
    mean, std = pixels.mean((0, 2, 3)).float(), pixels.std((0, 2, 3)).float()
    while (turn := turns.recv()) is not None:
        what, net, some = turn
        part = images.at(torch.arange(some))
        if what == "data":
            turns.send((usual_data(loader(part, mean, std)), our_data(part, None, std), our_data(part, mean, std)))
            continue
        config = replace(TrialConfig(), epochs=1, batch_size=BATCH, augmentation=CropFlip(), net=settings(net))
        config = replace(config, optimizer=replace(config.optimizer, lr=0.001))
        if what == "ours":
            turns.send(our_epoch(config, part))
        else:
            turns.send(usual_epoch(config, loader(part, mean, std), part.shape, part.classes))


def start(folder: str, count: int, **env: str):
    """The pipe to a new side."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    os.environ.update(env)
    context.Process(target=serve, args=(folder, count, there), daemon=True).start()
    for name in env:
        del os.environ[name]
    return here


def ask(side, *turn):
    side.send(turn)
    return side.recv()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="", help="folder with train.parquet and test.parquet")
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", default="allconv16,allconv48,allconvbn16,allconvbn48")
    args = parser.parse_args()
    source = pool(args.data, args.images)[1]
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(f"{os.cpu_count()} CPU cores ({platform.machine()}), {versions}, load {os.getloadavg()[0]:.1f}")
    print(f"{args.images:,} {source}, {args.rounds} rounds", flush=True)
    kept = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    usual, ours = start(args.data, args.images), start(args.data, args.images)
    keeping = start(args.data, args.images, **kept)
    sides = {"usual": (usual, "usual"), "ours": (ours, "ours"), "usual, kept": (keeping, "usual")}

    ask(ours, "data", "", 2 * BATCH)
    each = [ask(ours, "data", "", args.images) for _ in range(args.rounds)]
    for i, name in enumerate(("usual", "ours, augment + float", "ours, + normalise")):
        per_image = spread([times[i] / args.images * 1e6 for times in each], 1)
        print(f"data path  {name:22} us/image {per_image:20}  usual/ours {spread([t[0] / t[i] for t in each], 1)}")
    for net in args.nets.split(","):
        for side, what in sides.values():
            ask(side, what, net, 2 * BATCH)
        times = [{name: ask(side, what, net, args.images) for name, (side, what) in sides.items()}
                 for _ in range(args.rounds)]  # fmt: skip
        for name in sides:
            ratios = spread([t["usual"] / t[name] for t in times])
            print(f"epoch  {net:12} {name:11} {spread([t[name] for t in times])} s   usual/this {ratios}", flush=True)
    for side, _ in sides.values():
        side.send(None)


if __name__ == "__main__":
    main()
