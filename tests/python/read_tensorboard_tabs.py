"""Prints as JSON what TensorBoard's tabs show of one run below a folder: read_tensorboard_tabs.py LOGDIR.

The package's own plugins answer, out of its default data server. {"scalars": {tag: steps}, "histograms": {tag: steps},
"layout": the CUSTOM SCALARS tab's, "sessions": the HPARAMS tab's, "texts": {tag: HTML}}
"""

import json
import logging
import os
import sys
import time

from tensorboard.context import RequestContext
from tensorboard.data import server_ingester
from tensorboard.data.provider import RunTagFilter
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar import custom_scalars_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.plugins.text import text_plugin
from tensorboard.util import grpc_util

MANY = 10**6


def started(folder):
    ingester = server_ingester.SubprocessServerDataIngester(
        server_binary=server_ingester.get_server_binary(),
        logdir=folder,
        reload_interval=0,
        channel_creds_type=grpc_util.ChannelCredsType.LOCAL,
    )
    ingester.start()
    return ingester


def steps(provider, plugin):
    read = provider.read_scalars if plugin == "scalars" else provider.read_tensors
    found = read(
        RequestContext(), experiment_id="", plugin_name=plugin, run_tag_filter=RunTagFilter(), downsample=MANY
    )
    return {tag: [point.step for point in points] for tags in found.values() for tag, points in tags.items()}


def sessions(context):
    request = api_pb2.ListSessionGroupsRequest(allowed_statuses=[0, 1, 2, 3], slice_size=10)
    handler = list_session_groups.Handler(RequestContext(), backend_context.Context(context), "", request)
    return [
        {
            "hparams": sorted(group.hparams),
            "status": api_pb2.Status.Name(session.status),
            "metrics": {value.name.tag: [value.training_step, value.value] for value in session.metric_values},
            "has_times": 0 < session.start_time_secs <= session.end_time_secs,
        }
        for group in handler.run().session_groups
        for session in group.sessions
    ]


def main():
    logging.disable(logging.CRITICAL)
    ingester = started(sys.argv[1])
    provider = ingester.data_provider
    context = base_plugin.TBContext(data_provider=provider, logdir=sys.argv[1], plugin_name_to_instance={})
    before, now = None, {}
    for _ in range(100):  # it loads while it answers
        before, now = now, {
            "scalars": steps(provider, "scalars"),
            "histograms": steps(provider, "histograms"),
            "layout": custom_scalars_plugin.CustomScalarsPlugin(context).layout_impl(RequestContext(), ""),
            "sessions": sessions(context),
            "texts": steps(provider, "text"),
        }
        if now["scalars"] and now == before:
            break
        time.sleep(0.1)
    if isinstance(now["layout"], str):
        now["layout"] = json.loads(now["layout"])
    run = os.listdir(sys.argv[1])[0]
    text = text_plugin.TextPlugin(context)
    now["texts"] = {tag: text.text_impl(RequestContext(), run, tag, "", True)[0]["text"] for tag in now["texts"]}
    print(json.dumps(now))


main()
