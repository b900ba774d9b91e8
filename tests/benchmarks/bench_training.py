"""Time of an epoch of `core.train.train` compared with the usual loop over a DataLoader with PIL images, on the same network.

    python tests/benchmarks/bench_training.py [--data DIR] [--images 2560] [--rounds 5] [--nets allconv16,allconv48,...]

Ours: uint8 images in memory, crop_flip on the batch, a channels-last net that normalises its input; the time is that of the
whole call `train(epochs=1)`, with initialisation, member statistics and the accuracy on 64 validation images.
The usual loop: a Dataset of PIL images -> RandomCrop(32, 4) -> RandomHorizontalFlip -> ToTensor -> Normalize,
DataLoader(batch_size=128, shuffle=True, num_workers=0), an NCHW eager net of the same layers, cross-entropy, SGD with
the same momentum and weight decay; the time is that of the epoch alone.
Also the data path alone: crop + flip + scaling to float, without and with normalisation, as in the loop.

Each loop runs in a process of its own with one thread, so that neither's settings affect the other; they run in turns, one at
a time. Ratios are usual / this loop of the same round, in process CPU time. In our loop malloc keeps freed memory
(core/memory.py); `usual, kept` is the usual loop in a process with that setting, which shows its share in the difference.
Required: ours >= 1.25x the usual loop. Nets: allconvW (no batch norm), allconvbnW (batch norm after each convolution),
resnet18, vgg11_bn (slow).

RESULTS (2 cores x86_64, torch 2.15.0, defaults; median [range] over 5 rounds of usual / this loop)
    data path, augmentation + float  12.7 [9.8-25.0]      with normalisation  9.2 [6.5-18.4]
    net           ours               usual, kept
    allconv16     2.02 [1.70-2.19]   1.18 [1.03-1.37]
    allconv48     1.24 [1.21-1.24]   1.12 [1.05-1.15]
    allconvbn16   1.65 [1.60-1.76]   0.99 [0.98-1.03]
    allconvbn48   1.25 [1.22-1.33]   1.05 [1.02-1.18]
The nets of studies on CPUs (width 16) are as fast as required; at width 48 both loops spend nearly all of their time in the same
convolutions, and the ratio is just the required one.
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
        halves = super().build(channels, size, classes)
        layers: list[nn.Module] = []
        for layer in halves.body:  # pyright: ignore[reportGeneralTypeIssues]
            layers += [layer, nn.BatchNorm2d(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
        return halves._replace(body=nn.Sequential(*layers))


nets.NETS["allconvbn"] = AllConvBN


class Pictures(Dataset):
    """A data set like torchvision's CIFAR10: a row of an array becomes a PIL image, and a transform makes a tensor of it."""

    def __init__(self, images: Images, transform: Callable):
        self.x, self.y, self.transform = images.x.permute(0, 2, 3, 1).numpy(), images.y.tolist(), transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.x[i])), self.y[i]


def pool(folder: str, count: int) -> tuple[Images, str]:
    """Real images if this machine has them, otherwise random ones; and their description."""
    for place in [folder] if folder else [ROOT / "../shared/data/cifar10-jpeg", ROOT / "shared/data/cifar10-jpeg"]:
        if (Path(place) / "train.parquet").is_file():
            return data.load(f"parquet:{place}", pool=count), "CIFAR-10"
    stream = np.random.default_rng(0)
    x = torch.from_numpy(stream.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))
    return Images(x, torch.arange(count) % 10, 10), "random images"


def net_settings(name: str):
    """The settings of a net by its name on the command line, such as allconv16."""
    for prefix, cls in (("allconvbn", AllConvBN), ("allconv", nets.AllConv)):
        if name.startswith(prefix):
            return cls(width=int(name.removeprefix(prefix)))
    return nets.NETS[name]()


def loader(images: Images, mean: torch.Tensor, std: torch.Tensor) -> DataLoader:
    """The data loader of the usual loop."""
    steps = [
        transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(mean.tolist(), std.tolist()),
    ]  # fmt: skip
    return DataLoader(Pictures(images, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, num_workers=0)


def usual_epoch(config: TrialConfig, batches: DataLoader, shape: tuple[int, int, int], classes: int) -> float:
    """CPU seconds of one epoch of the usual loop."""
    halves = config.net.build(shape[0], min(shape[1:]), classes)
    net, sgd = nn.Sequential(halves.body, halves.head), config.optimizer
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
    """CPU seconds of an epoch of the data path of `train` up to the net; including normalisation if `mean` is given."""
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
    """CPU seconds of an epoch of the data path of the usual loop."""
    start = time.process_time()
    for _ in batches:
        pass
    return time.process_time() - start


def median_and_range(values: list[float], digits: int = 2) -> str:
    """Median and range as text."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def serve(folder: str, count: int, pipe) -> None:
    """Measure on request until the request is None; a request is ("data" | "usual" | "ours", net, number of images)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, _ = pool(folder, count)
    pixels = images.x.double().div(255)
    mean, std = pixels.mean((0, 2, 3)).float(), pixels.std((0, 2, 3)).float()
    while (request := pipe.recv()) is not None:
        measurement, net, number = request
        part = images.at(torch.arange(number))
        if measurement == "data":
            pipe.send((usual_data(loader(part, mean, std)), our_data(part, None, std), our_data(part, mean, std)))
            continue
        config = replace(TrialConfig(), epochs=1, batch_size=BATCH, augmentation=CropFlip(), net=net_settings(net))
        config = replace(config, optimizer=replace(config.optimizer, lr=0.001))
        if measurement == "ours":
            pipe.send(our_epoch(config, part))
        else:
            pipe.send(usual_epoch(config, loader(part, mean, std), part.shape, part.classes))


def start(folder: str, count: int, **env: str):
    """Start a process that measures, with variables added to its environment; returns the pipe to it."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    os.environ.update(env)
    context.Process(target=serve, args=(folder, count, its), daemon=True).start()
    for name in env:
        del os.environ[name]
    return ours


def measure(pipe, measurement: str, net: str, images: int):
    """Request a measurement and return it; see `serve`."""
    pipe.send((measurement, net, images))
    return pipe.recv()


def main() -> None:
    """Print the measurements."""
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
    usual_kept = start(args.data, args.images, **kept)
    loops = {"usual": (usual, "usual"), "ours": (ours, "ours"), "usual, kept": (usual_kept, "usual")}

    measure(ours, "data", "", 2 * BATCH)
    data_times = [measure(ours, "data", "", args.images) for _ in range(args.rounds)]
    for i, name in enumerate(("usual", "ours, augment + float", "ours, + normalise")):
        per_image = median_and_range([times[i] / args.images * 1e6 for times in data_times], 1)
        print(f"data path  {name:22} us/image {per_image:20}  usual/ours {median_and_range([t[0] / t[i] for t in data_times], 1)}")
    for net in args.nets.split(","):
        for pipe, loop in loops.values():
            measure(pipe, loop, net, 2 * BATCH)
        times = [{name: measure(pipe, loop, net, args.images) for name, (pipe, loop) in loops.items()}
                 for _ in range(args.rounds)]  # fmt: skip
        for name in loops:
            ratios = median_and_range([t["usual"] / t[name] for t in times])
            print(f"epoch  {net:12} {name:11} {median_and_range([t[name] for t in times])} s   usual/this {ratios}", flush=True)
    for pipe, _ in loops.values():
        pipe.send(None)


if __name__ == "__main__":
    main()
