"""PyTorch beside fishermask, in one run: plain forward + backward, and the exact per-sample Fisher of torch.func.

    python3 bench/compare.py [--net NAME]... [--batch N] [--threads N] [--rounds N] [--vmap] [--json FILE]

Needs torch (2.13 was used) and a built package (npm run build): a tool, not a dependency of the project. The two take
turns, so that a machine whose speed drifts slows both: each round times PyTorch's passes in this process, then runs
`fishermask bench fisher` of the same network and batch in another. What is printed is the median over the rounds, and
ratios are taken within a round: of plain passes, the faster of PyTorch's layouts counts. Times of PyTorch are of
model.eval() with gradients of all weights, on random images or tokens.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def conv_bn(channels_in, channels_out, stride, kernel=3):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels_out)
    )


class ResidualBlock(nn.Module):
    """projection: a 1x1 convolution where the shape changes; otherwise channels are padded with zeros."""

    def __init__(self, channels_in, channels_out, stride, projection):
        super().__init__()
        self.first = conv_bn(channels_in, channels_out, stride)
        self.second = conv_bn(channels_out, channels_out, 1)
        changes = stride != 1 or channels_in != channels_out
        self.shortcut = conv_bn(channels_in, channels_out, stride, 1) if changes and projection else None
        self.pad = (channels_out - channels_in) // 2 if changes and not projection else 0

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, widths, blocks, projection):
        super().__init__()
        self.stem = conv_bn(3, widths[0], 1)
        layers, channels = [], widths[0]
        for stage, width in enumerate(widths):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(ResidualBlock(channels, width, stride, projection))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class Vgg16(nn.Module):
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(512, 10)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class VitTiny(nn.Module):
    def __init__(self, width=192):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, 3, False) for _ in range(12)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Gpt6(nn.Module):
    LENGTH, VOCABULARY = 128, 8192

    def __init__(self, width=384):
        super().__init__()
        self.tokens, self.places = nn.Embedding(self.VOCABULARY, width), nn.Embedding(self.LENGTH, width)
        self.blocks = nn.Sequential(*[Block(width, 6, True) for _ in range(6)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, self.VOCABULARY, bias=False)

    def forward(self, ids):
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x)))


NETWORKS = {
    "resnet20": lambda: ResNet((16, 32, 64), 3, False),
    "resnet18": lambda: ResNet((64, 128, 256, 512), 2, True),
    "vgg16_bn": Vgg16,
    "vit_tiny": VitTiny,
    "gpt6": Gpt6,
}


def batch_of(name, size):
    if name == "gpt6":
        ids = torch.randint(0, Gpt6.VOCABULARY, (size, Gpt6.LENGTH))
        return ids, torch.randint(0, Gpt6.VOCABULARY, (size, Gpt6.LENGTH))
    return torch.randn(size, 3, 32, 32), torch.randint(0, 10, (size,))


def loss_of(logits, labels):
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")


class Plain:
    """Forward and backward with the gradients of all weights."""

    def __init__(self, name, size, channels_last=False):
        torch.manual_seed(0)
        self.model = NETWORKS[name]().eval()
        self.x, self.labels = batch_of(name, size)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)

    def __call__(self):
        self.model.zero_grad()
        loss_of(self.model(self.x), self.labels).backward()


class Training:
    """A training step: batch statistics, mean loss, SGD with momentum."""

    def __init__(self, name, size, channels_last=False):
        self.plain = Plain(name, size, channels_last)
        self.plain.model.train()
        self.optimizer = torch.optim.SGD(self.plain.model.parameters(), lr=1e-4, momentum=0.9)

    def __call__(self):
        self.optimizer.zero_grad()
        (loss_of(self.plain.model(self.plain.x), self.plain.labels) / len(self.plain.labels)).backward()
        self.optimizer.step()


class Vmap:
    """The exact per-sample Fisher by torch.func: per-sample gradients, squared, summed."""

    def __init__(self, name, size):
        torch.manual_seed(0)
        model = NETWORKS[name]().eval()
        self.x, self.labels = batch_of(name, size)
        self.parameters = {k: v.detach() for k, v in model.named_parameters()}
        self.buffers = {k: v.detach() for k, v in model.named_buffers()}

        def loss(parameters, x, label):
            logits = torch.func.functional_call(model, (parameters, self.buffers), (x[None],))
            return loss_of(logits, label[None])

        self.gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def __call__(self):
        return {k: g.square().sum(0) for k, g in self.gradients(self.parameters, self.x, self.labels).items()}


def seconds_of(work, steps):
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def ours(name, options):
    command = [
        "node", os.path.join(ROOT, "dist/cli/main.js"), "bench", "fisher", "--net", name, "--batch", str(options.batch),
        "--threads", str(options.threads), "--rounds", str(options.steps), "--json",
    ]
    ending = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if ending.returncode != 0:
        sys.exit(f"compare.py: {' '.join(command)} ended with {ending.returncode}: {ending.stderr}")
    return json.loads(ending.stdout)


def row_of(name, works, options):
    """One round: samples a second of everything, and what follows from them."""
    row = {key: options.batch / seconds_of(work, options.steps) for key, work in works.items()}
    report = ours(name, options)
    row["our forward + backward"] = report["forwardBackward"]["samplesPerSecond"]
    row["our Fisher"] = report["fisher"]["samplesPerSecond"]
    row["our training step"] = report["trainingStep"]["samplesPerSecond"]

    def fastest(kind):
        return max(row[key] for key in works if key.startswith(kind))

    row["time of our Fisher / plain"] = row["plain"] / row["our Fisher"]
    row["time of our Fisher / faster plain"] = fastest("plain") / row["our Fisher"]
    row["time of our training / faster theirs"] = fastest("training") / row["our training step"]
    if options.vmap:
        row["time of our Fisher / vmap"] = row["vmap"] / row["our Fisher"]
    memory = report["fisherOverForwardBackward"]["peakRssAboveStart"]
    if memory is not None:
        row["memory of our Fisher / our plain"] = memory
    row["GEMM ceiling, GFLOP/s"] = report["ceilings"]["gemmGflops"]
    return row, {"machine": report["machine"], "versions": report["versions"]}


def compare(name, options):
    works = {"plain": Plain(name, options.batch), "training": Training(name, options.batch)}
    if name != "gpt6":
        works["plain, channels-last"] = Plain(name, options.batch, True)
        works["training, channels-last"] = Training(name, options.batch, True)
    if options.vmap:
        works["vmap"] = Vmap(name, options.batch)
    for work in works.values():
        work()
    rounds = []
    for _ in range(options.rounds):
        row, build = row_of(name, works, options)
        rounds.append(row)
    medians = {key: statistics.median(row[key] for row in rounds) for key in rounds[0]}
    return {"median": medians, "rounds": rounds, **build}


def show(name, result, options):
    print(f"{name}, batch {options.batch}, {options.threads} threads, {options.rounds} rounds")
    for key, value in result["median"].items():
        values = [row[key] for row in result["rounds"]]
        form = ".3g" if value < 10 else ".1f"
        print(f"  {key:38} {value:10{form}}   ({min(values):{form}} to {max(values):{form}})")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--net", action="append", choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each piece in a round")
    parser.add_argument("--vmap", action="store_true", help="also torch.func's per-sample gradients (memory!)")
    parser.add_argument("--json", help="where the numbers go as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Of vmap: that a kernel has no batching rule, on every call.
    warnings.filterwarnings("ignore", message=".*batching rule.*")
    results = {}
    for name in options.net or NETWORKS:
        results[name] = compare(name, options)
        show(name, results[name], options)
    if options.json:
        document = {
            "schemaVersion": 1, "torch": torch.__version__, "batch": options.batch, "threads": options.threads,
            "steps": options.steps, "results": results,
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
