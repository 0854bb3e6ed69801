"""PyTorch's plain forward + backward of the CIFAR ResNet-20, batch 128, two threads: what the Fisher pass is held against.

Needs only torch (2.13 was used); not a dependency of the project. Prints samples a second, median and best of ten steps.
"""
import time

import torch
import torch.nn.functional as F
from torch import nn

BATCH, THREADS, STEPS, WARM_UP = 128, 2, 10, 2


class Block(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.pad = (channels_out - channels_in) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks, channels = [], 16
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            for index in range(3):
                blocks.append(Block(channels, width, stride if index == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))


def measure(channels_last):
    model = ResNet20().eval()
    images = torch.randn(BATCH, 3, 32, 32)
    labels = torch.randint(0, 10, (BATCH,))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        began = time.perf_counter()
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        seconds.append(time.perf_counter() - began)
    seconds = sorted(seconds[WARM_UP:])
    return BATCH / seconds[len(seconds) // 2], BATCH / seconds[0]


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    for channels_last in (False, True):
        median, best = measure(channels_last)
        layout = "channels_last" if channels_last else "default layout"
        print(f"{layout}: forward + backward {median:.0f} samples/s (best {best:.0f})")
