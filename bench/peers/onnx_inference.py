"""The latency of one call under onnxruntime, for bench/run inference.

    onnx_inference.py PROGRAM FOLDER [ROUNDS [PART]]

PROGRAM is bench/inference of the build, which exports the models to FOLDER. One thread, every graph optimization, and
inputs and outputs that are bound once: a call is run_with_iobinding() and nothing else. A model that does nothing takes 2.5 us
that way, Python's part included, which cannot be left out: the package has no headers of C.
"""
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

from common import report

# Those of bench/inference.cpp.
CASES = [("784-16-10", 1, 4000), ("784-16-10", 32, 4000), ("784-128-10", 1, 4000), ("784-128-10", 32, 2000),
         ("784-512-10", 1, 2000), ("784-512-10", 32, 1000), ("cnn", 1, 1000), ("cnn", 32, 200)]
INPUTS = 16  # used in turn


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def bound(network, given, out):
    binding = network.io_binding()
    for bind, one, array in ((binding.bind_input, network.get_inputs()[0], given),
                             (binding.bind_output, network.get_outputs()[0], out)):
        bind(one.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return binding


def latency(network, bindings, calls):
    run, clock, times = network.run_with_iobinding, time.perf_counter_ns, []
    for call in range(calls):
        binding = bindings[call % len(bindings)]
        start = clock()
        run(binding)
        times.append(clock() - start)
    times.sort()
    return times[len(times) // 2] / 1e3, times[int(len(times) * 0.99)] / 1e3


def measure(folder, model, batch_size, calls, rounds):
    network, case = session(os.path.join(folder, f"{model}.onnx")), f"{model} b{batch_size}"
    shape = [batch_size, *network.get_inputs()[0].shape[1:]]
    given = np.fromfile(os.path.join(folder, f"{case} input"), np.float32).reshape(shape)
    expected = np.fromfile(os.path.join(folder, f"{case} output"), np.float32).reshape(batch_size, -1)
    out = np.empty_like(expected)
    inputs = [given, *np.random.default_rng(1).standard_normal((INPUTS - 1, *shape), np.float32)]
    bindings = [bound(network, each, out) for each in inputs]
    latency(network, bindings, calls)  # warms up
    found = [latency(network, bindings, calls) for _ in range(rounds)]
    network.run_with_iobinding(bindings[0])
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    p50, p99 = (statistics.median(column) for column in zip(*found))
    report(case=case, who="onnx", p50=p50, p99=p99)


def main():
    program, folder, *rest = sys.argv[1:]
    rounds, part = [int(word) for word in rest] + [5, 100][len(rest):]
    os.makedirs(folder, exist_ok=True)
    subprocess.run([program, "export", folder], check=True)
    for model, batch_size, calls in CASES:
        measure(folder, model, batch_size, max(calls * part // 100, 5), rounds)


if __name__ == "__main__":
    main()
