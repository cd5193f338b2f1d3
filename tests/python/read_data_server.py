"""Prints as JSON the scalars of a folder as TensorBoard's default data server has them: read_data_server.py FOLDER.

{tag: [[step, value], ...]}. The server drops points that the package's own event accumulator, which
read_tensorboard.py uses, would still give.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import grpc
import tensorboard_data_server
from tensorboard.data.proto import data_provider_pb2, data_provider_pb2_grpc


def wait_for(path):
    for _ in range(1500):
        if os.path.exists(path):
            with open(path) as file:
                text = file.read()
            if text.endswith("\n"):
                return text.strip()
        time.sleep(0.02)
    sys.exit("the data server did not say its port")


def scalars(stub):
    request = data_provider_pb2.ReadScalarsRequest(
        plugin_filter=data_provider_pb2.PluginFilter(plugin_name="scalars"),
        downsample=data_provider_pb2.Downsample(num_points=10000),
    )
    found = {}
    for run in stub.ReadScalars(request).runs:
        for tag in run.tags:
            found[tag.tag_name] = [[step, round(value, 6)] for step, value in zip(tag.data.step, tag.data.value)]
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        port_file = os.path.join(folder, "port")
        command = [tensorboard_data_server.server_binary(), "--logdir", sys.argv[1], "--port", "0"]
        command += ["--port-file", port_file, "--die-after-stdin", "--reload", "once"]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            with grpc.insecure_channel("localhost:" + wait_for(port_file)) as channel:
                stub = data_provider_pb2_grpc.TensorBoardDataProviderStub(channel)
                before, now = None, {}
                for _ in range(100):  # it loads while it answers
                    before, now = now, scalars(stub)
                    if now and now == before:
                        break
                    time.sleep(0.1)
        finally:
            server.stdin.close()
            server.wait()
    print(json.dumps(now))


main()
