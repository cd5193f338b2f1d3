"""Models the time of a data-parallel step on 1 to 1,024 ranks, and prints the tables of docs/scaling.md.

Needs nothing but Python: scaling_model.py. The inputs are the constants below: what bench/distributed and
bench/collectives measured, what links are rated at, and what was published. docs/scaling.md explains the model.
"""
import math
from dataclasses import dataclass, replace

MIB = 1 << 20
RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


# --- What an all-reduce takes ----------------------------------------------------------------------------------------

@dataclass
class Link:
    latency: float  # seconds of one message, software included
    bandwidth: float  # bytes a second in each direction


@dataclass
class Cluster:
    """Nodes of `size` ranks. `inside` is the link of a rank within its node, `between` the links of a node together."""
    name: str
    size: int
    inside: Link
    between: Link
    software: float = math.inf  # bytes a second that a rank itself copies and adds


def ring(ranks):
    return 2 * (ranks - 1)


def tree(ranks):
    return 2 * math.ceil(math.log2(ranks)) if ranks > 1 else 0


def all_reduce(cluster, ranks, size, messages=tree):
    """Seconds of `size` bytes. A rank sends and receives 2 (p - 1) / p of them, the least that is possible, through the
    narrowest link; `messages` counts those that follow upon each other."""
    if ranks == 1:
        return 0.0
    inside = min(ranks, cluster.size)
    nodes = math.ceil(ranks / cluster.size)
    bandwidth = cluster.inside.bandwidth if inside > 1 else math.inf
    if nodes > 1:
        bandwidth = min(bandwidth, cluster.between.bandwidth)
    latency = messages(inside) * cluster.inside.latency + messages(nodes) * cluster.between.latency
    return latency + 2 * (ranks - 1) / ranks * size * (1 / bandwidth + 1 / cluster.software)


# --- What backward hides ---------------------------------------------------------------------------------------------

@dataclass
class Layer:
    parameters: int
    work: float  # multiplications of a sample


@dataclass
class Model:
    name: str
    layers: list  # in the order of the forward pass
    alone: float  # seconds of a step of one rank
    together: float  # seconds more on two ranks that no bucket accounts for
    forward: float = 1 / 3  # share of the step before backward: backward does each product twice


def buckets(model, first, others):
    """(bytes, share of backward's work after which it is there), as c10d::Reducer fills them: from the last layer to
    the first, closed when it has reached its size."""
    out, size, done = [], 0, 0.0
    total = sum(layer.work for layer in model.layers)
    for layer in reversed(model.layers):
        size += 4 * layer.parameters
        done += layer.work / total
        if size >= (others if out else first):
            out.append((size, done))
            size = 0
    if size:
        out.append((size, 1.0))
    return out


def exposed(model, cluster, ranks, first, others, messages=tree):
    """Seconds that the reduction goes on after backward. One bucket at a time, each from when it is there."""
    backward = model.alone * (1 - model.forward)
    free = 0.0
    for size, share in buckets(model, first, others):
        free = max(free, share * backward) + all_reduce(cluster, ranks, size, messages)
    return max(0.0, free - backward)


def step(model, cluster, ranks, messages=tree, first=1 * MIB, others=25 * MIB):
    if ranks == 1:
        return model.alone
    return model.alone + model.together + exposed(model, cluster, ranks, first, others, messages)


def oversubscribed(model, cluster, ranks, cores):
    """What `step` takes for more ranks than cores: each has its share of a core, to compute as to copy and add."""
    share = max(1.0, ranks / cores)
    slower = replace(model, alone=model.alone * share, together=model.together * share)
    link = replace(cluster.inside, latency=cluster.inside.latency * share)
    return slower, replace(cluster, inside=link, software=cluster.software / share)


# --- The models ------------------------------------------------------------------------------------------------------

def mlp():
    return [Layer(784 * 1024 + 1024, 784 * 1024), Layer(1024 * 1024 + 1024, 1024 * 1024), Layer(1024 * 10 + 10, 10240)]


def gpt(layers=4, width=128, context=128, vocabulary=256):
    """The first layer is the embeddings, whose weight is the last one's as well: its gradient is there at the end."""
    block = [Layer(2 * width, 0), Layer(3 * width * (width + 1), 3 * width * width * context),
             Layer(width * (width + 1), (width * width + 2 * context * width) * context), Layer(2 * width, 0),
             Layer(4 * width * (width + 1), 4 * width * width * context),
             Layer(width * (4 * width + 1), 4 * width * width * context)]
    return [Layer((vocabulary + context) * width, 0), *(block * layers), Layer(2 * width, width * vocabulary * context)]


def resnet(depths, groups=1, group_width=64):
    """ResNets and ResNeXts of bottlenecks (He et al. 2016, Xie et al. 2017) as torchvision has them, 224 x 224."""
    layers = []

    def convolution(inputs, outputs, kernel, side, parts=1):
        weights = inputs * outputs * kernel * kernel // parts
        layers.append(Layer(weights + 2 * outputs, weights * side * side))

    convolution(3, 64, 7, 112)
    inputs, side = 64, 56
    for stage, depth in enumerate(depths):
        planes = 64 << stage
        width = planes * group_width // 64 * groups
        for block in range(depth):
            into = side
            if stage > 0 and block == 0:
                side //= 2
            convolution(inputs, width, 1, into)
            convolution(width, width, 3, side, groups)
            convolution(width, planes * 4, 1, side)
            if block == 0:
                convolution(inputs, planes * 4, 1, side)
            inputs = planes * 4
    layers.append(Layer(inputs * 1000 + 1000, inputs * 1000))
    return layers


# --- Measured here ---------------------------------------------------------------------------------------------------

# bench/distributed, two cores: seconds of a step of one rank and of two over MPI. bench/collectives: an all-reduce of
# two ranks over MPI takes latency + bytes / bandwidth.
ONE_RANK = {"MLP": 0.007778, "GPT": 0.1997}
TWO_RANKS = {"MLP": 0.01153, "GPT": 0.2049}
MPI_TIMES = [(4 << 10, 6.772e-6), (64 << 10, 25.28e-6), (1 << 20, 174.3e-6), (4 << 20, 589.3e-6)]


def line_through(times):
    """Latency and bytes a second of least squares in relative error."""
    weights = [(size, seconds, 1 / seconds ** 2) for size, seconds in times]
    w = sum(v for _, _, v in weights)
    x = sum(v * size for size, _, v in weights) / w
    y = sum(v * seconds for _, seconds, v in weights) / w
    slope = (sum(v * (size - x) * (seconds - y) for size, seconds, v in weights)
             / sum(v * (size - x) ** 2 for size, _, v in weights))
    return y - slope * x, 1 / slope


HERE_LATENCY, HERE_BANDWIDTH = line_through(MPI_TIMES)
# Of two ranks each sends and receives all bytes once, in two messages.
HERE = Cluster("this machine", 2, Link(HERE_LATENCY / 2, math.inf), Link(0, math.inf), software=HERE_BANDWIDTH)


def measured(name, layers):
    model = Model(name, layers, ONE_RANK[name], 0.0)
    model.together = max(0.0, TWO_RANKS[name] - step(model, HERE, 2))
    return model


# --- Links, as they are rated, with a fifth off for protocols --------------------------------------------------------

def rated(latency_us, gigabytes):
    return Link(latency_us * 1e-6, 0.8 * gigabytes * 1e9)


ETHERNET, NDR = rated(15, 12.5), rated(2, 50)  # 100 Gbit/s over TCP, 400 Gbit/s InfiniBand
NVLINK_2, NVLINK_4 = rated(5, 150), rated(5, 450)  # of a V100 (6 links of 25 GB/s) and of an H100

CPU_CLUSTERS = [Cluster("100 Gbit/s Ethernet", 1, ETHERNET, ETHERNET, HERE_BANDWIDTH),
                Cluster("400 Gbit/s InfiniBand", 1, NDR, NDR, HERE_BANDWIDTH)]
DGX_1 = Cluster("NVLink 2; 4 x 100 Gbit/s InfiniBand", 8, NVLINK_2, rated(5, 50))
GPU_CLUSTERS = [Cluster("NVLink; 100 Gbit/s Ethernet", 8, NVLINK_2, ETHERNET), DGX_1,
                Cluster("NVLink 4; 8 x 400 Gbit/s InfiniBand", 8, NVLINK_4, Link(5e-6, 8 * NDR.bandwidth)),
                Cluster("NVLink 4 among all", 1024, NVLINK_4, NVLINK_4)]


# --- Published -------------------------------------------------------------------------------------------------------

# Milliseconds (median) of a step with batches of 32, V100s, nodes of 8 in a DGX-1, by GPUs; 0 is without DDP.
# https://github.com/pytorch/pytorch/blob/main/benchmarks/distributed/ddp/README.md, PyTorch 1.4.
PUBLISHED = {
    "ResNet-50": (resnet([3, 4, 6, 3]), {0: 97, 1: 100, 2: 103, 4: 103, 8: 104, 16: 104}),
    "ResNet-101": (resnet([3, 4, 23, 3]), {0: 162, 1: 171, 2: 176, 4: 176, 8: 179, 16: 179}),
    "ResNeXt-50": (resnet([3, 4, 6, 3], 32, 4), {0: 145, 1: 147, 2: 153, 4: 153, 8: 157, 16: 157}),
    "ResNeXt-101": (resnet([3, 4, 23, 3], 32, 8), {0: 415, 1: 425, 2: 438, 4: 439, 8: 447, 16: 450}),
}


def published(name):
    layers, times = PUBLISHED[name]
    model = Model(name, layers, times[0] / 1e3, 0.0)
    model.together = max(0.0, times[2] / 1e3 - step(model, DGX_1, 2))
    return model


# --- The tables ------------------------------------------------------------------------------------------------------

def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def cell(model, seconds):
    return f"{seconds * 1e3:.4g} ms, {100 * model.alone / seconds:.0f} %"


def scaling(model, clusters):
    print(f"{model.name}: {sum(layer.parameters for layer in model.layers) / 1e6:.2f} million parameters; "
          f"{model.alone * 1e3:.4g} ms alone, {model.together * 1e3:.3g} ms more together; buckets of "
          + ", ".join(f"{size / MIB:.1f}" for size, _ in buckets(model, MIB, 25 * MIB)) + " MiB\n")
    rows = []
    for ranks in RANKS:
        seconds = [step(model, cluster, ranks) for cluster in clusters] + [step(model, clusters[0], ranks, ring)]
        rows.append([f"{ranks:,}", *(cell(model, each) for each in seconds)])
    table(["ranks", *(cluster.name for cluster in clusters), clusters[0].name + ", rings"], rows)


def bucket_sizes(model, cluster):
    sizes = [1, 4, 25, 100]
    print(f"{model.name}, {cluster.name}:\n")
    table(["ranks", *(f"buckets of {size} MiB" for size in sizes)],
          [[f"{ranks:,}", *(cell(model, step(model, cluster, ranks, first=MIB, others=size * MIB)) for size in sizes)]
           for ranks in (16, 128, 1024)])


def main():
    print(f"MPI on this machine: {HERE_LATENCY * 1e6:.1f} us + bytes / {HERE_BANDWIDTH / 1e9:.1f} GB/s\n")
    table(["size", "measured", "line"],
          [[f"{size >> 10} KiB", f"{seconds * 1e6:.4g} us", f"{all_reduce(HERE, 2, size) * 1e6:.4g} us"]
           for size, seconds in MPI_TIMES])
    rows = []
    for name, (layers, times) in PUBLISHED.items():
        model = published(name)
        for ranks in (2, 4, 8, 16):
            seconds = step(model, DGX_1, ranks)
            rows.append([name, str(ranks), f"{times[ranks]} ms, {100 * times[0] / times[ranks]:.1f} %",
                         f"{seconds * 1e3:.1f} ms, {100 * model.alone / seconds:.1f} %"])
    table(["model", "GPUs", "published", "modelled"], rows)
    scaling(measured("MLP", mlp()), CPU_CLUSTERS)
    scaling(measured("GPT", gpt()), CPU_CLUSTERS)
    resnet_50 = published("ResNet-50")
    scaling(resnet_50, GPU_CLUSTERS)
    fast = Model("ResNet-50, computed four times as fast", resnet_50.layers, resnet_50.alone / 4,
                 resnet_50.together / 4)
    scaling(fast, GPU_CLUSTERS)
    bucket_sizes(fast, GPU_CLUSTERS[0])


if __name__ == "__main__":
    main()
