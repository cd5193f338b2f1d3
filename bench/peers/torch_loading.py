"""PyTorch's DataLoader, with torchvision for images and webdataset for tar shards."""
import os
import time

import numpy as np
import torch
from common import report
from loading_common import BATCH, MEAN, STD, arguments, own_bytes, rate
from torch.utils.data import DataLoader, Dataset, TensorDataset

torch.set_num_threads(1)


class Windows(Dataset):
    """nanoGPT's way: two slices of a memory map per sample."""
    def __init__(self, path, length):
        self.path, self.length = path, length
        self.data = np.memmap(path, np.uint16, "r")

    def __len__(self):
        return len(self.data) - self.length

    def __getitem__(self, i):
        window = torch.from_numpy(self.data[i:i + self.length + 1].astype(np.int64))
        return window[:-1], window[1:]


def photos(size, padded):
    from torchvision.transforms import v2
    crop = [v2.RandomCrop(size, padding=4)] if padded else [v2.RandomResizedCrop(size, antialias=True)]
    return v2.Compose([v2.ToImage(), *crop, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True),
                       v2.Normalize(MEAN, STD)])


def main():
    case, folder, workers, seconds = arguments()
    options = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    if workers > 0:
        options["prefetch_factor"] = 4
    if case == "tensors":
        data = TensorDataset(torch.rand(60_000, 784), torch.randint(10, (60_000,)))
        loader = DataLoader(data, shuffle=True, **options)
    elif case == "tokens":
        data = Windows(f"{folder}/tokens.bin", 1024)
        sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=1_000_000)
        loader = DataLoader(data, sampler=sampler, **options)
    elif case in ("jpeg", "png", "paths"):
        from torchvision.datasets import ImageFolder
        start = time.perf_counter()
        data = ImageFolder(f"{folder}/{case}", photos(224 if case == "jpeg" else 64, padded=case != "jpeg"))
        loader = DataLoader(data, shuffle=True, **options)
        if case == "paths":
            return report(**start_of(loader, start, seconds))
    else:
        import webdataset
        data = (webdataset.WebDataset(f"{folder}/shards/{{0000..0003}}.tar", shardshuffle=4, empty_check=False)
                .shuffle(200).decode("pil").to_tuple("jpg", "cls")
                .map_tuple(photos(224, padded=False), lambda label: label).batched(BATCH))
        loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=workers > 0,
                                      **({"prefetch_factor": 4} if workers else {}))
    report(samples=rate(lambda: (len(batch[0]) for batch in loader), seconds))
    return None


def start_of(loader, start, seconds):
    """Until the first batch, and the memory that came with each worker, to this process and to theirs, after a while."""
    before = own_bytes([os.getpid()])
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - start
    end = time.perf_counter() + seconds
    for _ in batches:
        if time.perf_counter() > end:
            break
    time.sleep(1)
    workers = [worker.pid for worker in batches._workers]
    return {"start_s": first, "fetcher_mb": (own_bytes([os.getpid(), *workers]) - before) / len(workers) / 2**20}


if __name__ == "__main__":
    main()
