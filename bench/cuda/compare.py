"""PyTorch on the same device, networks and batch sizes as fishermask_cuda_bench: what our figures stand beside.

    python3 bench/cuda/compare.py [--json FILE] [--ours BENCH.json] [--time-limit SECONDS] [--smoke] [--device cpu]

Needs torch with CUDA, and nothing else. Measures plain forward + backward (model.eval(), gradients of all weights, summed
loss), the exact per-sample Fisher of torch.func (vmap of grad, squared, summed; in pieces where memory does not suffice),
torch.topk and kthvalue, and the ceilings (copy, matmul) as torch reaches them. Precisions: f32, tf32
(allow_tf32), bf16 (autocast). Each figure or failure goes into the JSON as soon as it is known. With --ours, prints and
stores the ratios. Exit code 1 when a measurement failed, 3 when there is no torch or no CUDA.
"""
import argparse
import contextlib
import json
import os
import statistics
import sys
import time
import warnings

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as error:
    print(f"compare.py: no torch: {error}")
    sys.exit(3)

CLASSES = 10


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
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width, heads, causal, gelu):
        super().__init__()
        self.heads, self.causal, self.gelu = heads, causal, gelu
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate=self.gelu))


class Vit(nn.Module):
    def __init__(self, side=224, patch=16, width=768, heads=12, depth=12, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[Block(width, heads, False, "none") for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Gpt2(nn.Module):
    """Tied head, as the published network has it: 124,439,808 parameters."""

    def __init__(self, vocabulary=50257, context=1024, width=768, heads=12, depth=12):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads, True, "tanh") for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def images(side, classes):
    return lambda n, device: (torch.randn(n, 3, side, side, device=device), torch.randint(0, classes, (n,), device=device))


def texts(length, vocabulary):
    def batch(n, device):
        ids = torch.randint(0, vocabulary, (n, length), device=device)
        return ids, torch.randint(0, vocabulary, (n, length), device=device)

    return batch


# Name, network, batch, draw: as bench/cuda/network_bench.cc.
NETWORKS = [
    ("resnet20", lambda: ResNet((16, 32, 64), 3, False), 512, images(32, CLASSES)),
    ("resnet18", lambda: ResNet((64, 128, 256, 512), 2, True), 512, images(32, CLASSES)),
    ("vit_b16", Vit, 64, images(224, 1000)),
    ("gpt2_124m", Gpt2, 8, texts(512, 50257)),
]
SMOKE = [
    ("resnet-smoke", lambda: ResNet((4, 8), 1, True), 2, images(8, CLASSES)),
    ("vit-smoke", lambda: Vit(16, 8, 12, 2, 1, 5), 2, images(16, 5)),
    ("gpt2-smoke", lambda: Gpt2(11, 8, 12, 2, 1), 2, texts(6, 11)),
]


class Clock:
    """Median seconds of work on the device, by the host's clock around whole rounds."""

    def __init__(self, device, rounds, round_seconds):
        self.device, self.rounds, self.round_seconds = device, rounds, round_seconds

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def run(self, work, repeats=1):
        self.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - began) / repeats

    def median(self, work):
        work()
        repeats = max(1, min(100, int(self.round_seconds / max(self.run(work), 1e-6))))
        return statistics.median(self.run(work, repeats) for _ in range(self.rounds))


@contextlib.contextmanager
def precision(name, device):
    """f32: no rounding of operands; tf32: matmul and convolution by TF32; bf16: autocast."""
    torch.backends.cuda.matmul.allow_tf32 = name != "f32"
    torch.backends.cudnn.allow_tf32 = name != "f32"
    with torch.autocast(device, dtype=torch.bfloat16, enabled=name == "bf16"):
        yield


def loss_of(logits, labels):
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), reduction="sum")


def plain(model, x, labels):
    def work():
        model.zero_grad(set_to_none=True)
        loss_of(model(x), labels).backward()

    return work


def vmap_fisher(model, x, labels, chunk):
    """Sum over the samples of the squared gradients; `chunk` samples' gradients in memory at a time."""
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    buffers = {k: v.detach() for k, v in model.named_buffers()}
    if torch.is_autocast_enabled(x.device.type):
        # vmap has no batch norm of mixed types: bf16 throughout, which is no slower.
        parameters, buffers = ({k: v.bfloat16() for k, v in d.items()} for d in (parameters, buffers))
        x = x.bfloat16() if x.is_floating_point() else x

    def loss(parameters, x, label):
        return loss_of(torch.func.functional_call(model, (parameters, buffers), (x[None],)), label[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def work():
        sums = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in parameters.items()}
        with torch.autocast(x.device.type, enabled=False):
            for begin in range(0, x.shape[0], chunk):
                part = slice(begin, begin + chunk)
                for k, g in gradients(parameters, x[part], labels[part]).items():
                    sums[k] += g.square().sum(0)
        return sums

    return work


def largest_vmap(clock, model, x, labels):
    """The largest chunk that fits, and its seconds."""
    chunk = x.shape[0]
    while True:
        try:
            return chunk, clock.median(vmap_fisher(model, x, labels, chunk))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            if chunk == 1:
                raise
            chunk = max(1, chunk // 4)


class Report:
    """Figures as they come, on disk after each."""

    def __init__(self, options):
        self.options, self.began, self.failed = options, time.perf_counter(), False
        self.document = {
            "schemaVersion": 1, "torch": torch.__version__, "cuda": torch.version.cuda, "smoke": options.smoke,
            "device": torch.cuda.get_device_name(0) if options.device == "cuda" else "cpu", "rounds": options.rounds,
            "ceilings": [], "networks": [], "topK": [], "steps": [],
        }

    def step(self, name, work):
        entry = {"step": name, "status": "ran"}
        began = time.perf_counter()
        if self.options.time_limit and began - self.began > self.options.time_limit:
            entry.update(status="skipped", reason="the time limit was reached")
        else:
            try:
                work()
            except Exception as error:  # whatever torch throws: the next figure may still be had
                self.failed = True
                entry.update(status="failed", reason=f"{type(error).__name__}: {str(error)[:500]}")
                if self.options.device == "cuda":
                    torch.cuda.empty_cache()
        entry["seconds"] = time.perf_counter() - began
        if entry["status"] != "ran":
            print(f"{entry['status'].upper()}: {name}: {entry['reason']}")
        self.document["steps"].append(entry)
        self.save()

    def save(self):
        if not self.options.json:
            return
        with open(self.options.json + ".new", "w", encoding="utf-8") as file:
            json.dump(self.document, file, indent=1)
            file.write("\n")
        os.replace(self.options.json + ".new", self.options.json)


def measure_ceilings(report, clock, options):
    size = 1 << (16 if options.smoke else 28)
    rows = report.document["ceilings"]

    def copy():
        a, b = torch.zeros(size, device=options.device), torch.empty(size, device=options.device)
        rows.append({"ceiling": "copy", "gbPerSecond": 8e-9 * size / clock.median(lambda: b.copy_(a))})

    def matmul(name):
        edge = 64 if options.smoke else 8192
        kind = torch.bfloat16 if name == "bf16" else torch.float32
        a = torch.randn(edge, edge, device=options.device, dtype=kind)
        with precision("f32" if name == "f32" else "tf32", options.device):
            seconds = clock.median(lambda: a @ a)
        rows.append({"ceiling": "matmul", "precision": name, "size": edge, "gflops": 2e-9 * edge**3 / seconds})

    report.step("copy", copy)
    for name in options.precisions:
        report.step(f"matmul, {name}", lambda name=name: matmul(name))


def measure_network(report, clock, options, entry, name):
    network, make, batch, draw = entry
    torch.manual_seed(0)
    model = make().to(options.device).eval()
    x, labels = draw(batch, options.device)
    row = {"network": network, "precision": name, "batch": batch}
    report.document["networks"].append(row)
    row["parameters"] = sum(p.numel() for p in model.parameters())
    with precision(name, options.device):
        row["plainMilliseconds"] = 1e3 * clock.median(plain(model, x, labels))
        if x.dim() == 4:
            last, x_last = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
            row["plainChannelsLastMilliseconds"] = 1e3 * clock.median(plain(last, x_last, labels))
            model = model.to(memory_format=torch.contiguous_format)
        model.zero_grad(set_to_none=True)
        chunk, seconds = largest_vmap(clock, model, x, labels)
        row.update(vmapMilliseconds=1e3 * seconds, vmapChunk=chunk)
    fastest = min(row[k] for k in row if k.startswith("plain"))
    print(f"{network:12} {name:5} batch {batch:4}  plain {fastest:10.2f} ms   vmap {1e3 * seconds:10.2f} ms "
          f"({chunk} at a time)", flush=True)


def measure_top_k(report, clock, options, count):
    share = 0.01
    scores = torch.empty(count, device=options.device).log_normal_(-12, 3)
    k = max(1, int(share * count))
    row = {"params": count, "k": k}
    report.document["topK"].append(row)
    row["topkMilliseconds"] = 1e3 * clock.median(lambda: torch.topk(scores, k, sorted=False))
    row["kthvalueMilliseconds"] = 1e3 * clock.median(lambda: torch.kthvalue(scores, count - k + 1))
    del scores
    weight, forget, remain = (torch.rand(count, device=options.device) for _ in range(3))

    def mask():
        chosen = torch.topk((forget / 5000) / (remain / 45000 + 1e-12), k, sorted=False).indices
        weight[chosen] = 0

    row["scoreSelectMaskMilliseconds"] = 1e3 * clock.median(mask)
    print(f"top-k {count:>11}  topk {row['topkMilliseconds']:9.3f} ms   kthvalue {row['kthvalueMilliseconds']:9.3f} ms   "
          f"score, topk, mask {row['scoreSelectMaskMilliseconds']:9.3f} ms", flush=True)


def ratios(document, ours):
    """Our figures over theirs; times, so that less than 1 is faster than torch."""
    rows = []
    theirs = {(r["network"], r["precision"]): r for r in document["networks"]}
    for row in ours.get("networks") or []:
        other = theirs.get((row["network"], row["precision"]))
        if other is None or other["batch"] != row["batch"] or "plainMilliseconds" not in other:
            continue
        fisher = row["fisher"]["milliseconds"]
        fastest = min(v for k, v in other.items() if k.startswith("plain"))
        entry = {"network": row["network"], "precision": row["precision"], "fisherOverPlain": fisher / fastest}
        entry["forwardBackwardOverPlain"] = row["forwardBackward"]["milliseconds"] / fastest
        if "vmapMilliseconds" in other:
            entry["vmapOverFisher"] = other["vmapMilliseconds"] / fisher
        rows.append(entry)
    masks = {r["params"]: r for r in document["topK"]}
    for row in ours.get("topK") or []:
        other = masks.get(row["params"], {})
        if row["distribution"] == "lognormal" and "scoreSelectMaskMilliseconds" in other:
            entry = {"params": row["params"], "maskingOverTorch": row["milliseconds"] / other["scoreSelectMaskMilliseconds"]}
            entry["maskingOverTopk"] = row["milliseconds"] / other["topkMilliseconds"]
            rows.append(entry)
    return rows


def print_ratios(rows):
    print("\nours over torch's (times)")
    for row in rows:
        if "network" in row:
            print(f"  {row['network']:12} {row['precision']:5} Fisher / plain {row['fisherOverPlain']:6.2f}   "
                  f"vmap / Fisher {row.get('vmapOverFisher', float('nan')):6.2f}")
        else:
            print(f"  masking {row['params']:>11}   / (score, topk, mask) {row['maskingOverTorch']:6.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--ours", help="the JSON of fishermask_cuda_bench, of the same machine")
    parser.add_argument("--precisions", default="f32,tf32,bf16", type=lambda text: text.split(","))
    parser.add_argument("--params", default="1e6,1e7,1e8,1e9", type=lambda text: [int(float(w)) for w in text.split(",")])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=0, help="seconds after which nothing new is begun")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try this program alone")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("compare.py: torch finds no CUDA device")
        sys.exit(3)
    if options.smoke:
        options.rounds, options.params = 1, [5000]
    warnings.filterwarnings("ignore")  # of vmap: that a kernel has no batching rule, on every call
    clock = Clock(options.device, options.rounds, 0 if options.smoke else 0.05)
    report = Report(options)
    measure_ceilings(report, clock, options)
    for entry in SMOKE if options.smoke else NETWORKS:
        for name in options.precisions:
            report.step(f"{entry[0]}, {name}", lambda e=entry, n=name: measure_network(report, clock, options, e, n))
    for count in options.params:
        report.step(f"top-k, {count}", lambda c=count: measure_top_k(report, clock, options, c))
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            report.document["ratios"] = ratios(report.document, json.load(file))
        print_ratios(report.document["ratios"])
    report.save()
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
