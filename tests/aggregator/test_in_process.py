"""The in-process grid keeps the promises of Flower's `Grid`, and the stock strategy runs on it."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.run import Run

from aggregator.in_process import InProcessGrid

CONTENT = RecordDict({"numbers": MetricRecord({"n": 1})})


def echo(message: Message) -> Message:
    """Answer a message with its own content."""
    return Message(message.content, reply_to=message)


def ask(node_id: int) -> Message:
    """Give a query to one node."""
    return Message(CONTENT, dst_node_id=node_id, message_type="query")


def test_replies_answer_the_messages_that_were_pushed():
    """Each reply names its message and its node, in order, since the strategy matches by both."""
    grid = InProcessGrid({5: echo, 6: echo})
    message_ids = grid.push_messages([ask(5), ask(6)])
    replies = grid.pull_messages(message_ids)
    assert isinstance(message_ids, list)
    assert isinstance(replies, list)
    assert [r.metadata.reply_to_message_id for r in replies] == message_ids
    assert [r.metadata.src_node_id for r in replies] == [5, 6]


def test_device_is_called_when_its_reply_is_pulled_and_only_once():
    """Devices work lazily, so that a round never holds more than one chunk of replies."""
    calls = []

    def device(message):
        """Echo, and note who was called."""
        calls.append(message.metadata.dst_node_id)
        return echo(message)

    grid = InProcessGrid({5: device, 6: device})
    message_ids = grid.push_messages([ask(5), ask(6)])
    assert calls == []
    grid.pull_messages(message_ids[:1])
    assert calls == [5]
    assert grid.pull_messages(message_ids[:1]) == []
    assert calls == [5]


@pytest.mark.parametrize("node_id", [5, 99])
def test_silent_or_unknown_node_is_reported_as_a_superlink_would(node_id):
    """Both give Flower's error code 5, so that a strategy cannot tell the two grids apart."""
    grid = InProcessGrid({5: lambda _: None})
    (reply,) = grid.pull_messages(grid.push_messages([ask(node_id)]))
    assert reply.has_error()
    assert reply.error.code == 5


def test_silence_stays_silent_where_it_is_not_reported():
    """Without reports nothing comes at all, which lets a test reach the timeouts."""
    grid = InProcessGrid({5: lambda _: None}, report_silence=False)
    assert grid.pull_messages(grid.push_messages([ask(5)])) == []


def test_grid_is_a_flower_grid_with_a_run():
    """The interface is Flower's own, and messages carry the run and the group they were given."""
    grid = InProcessGrid({5: echo})
    assert isinstance(grid, Grid)
    assert [node.node_id for node in grid.get_nodes()] == [5]
    grid.set_run(Run.create_empty(8))
    assert grid.run.run_id == 8
    message = grid.create_message(CONTENT, "query", 5, "group")
    assert (message.metadata.run_id, message.metadata.group_id) == (8, "group")


def test_stock_fedavg_runs_on_it_and_finds_the_mean():
    """Flower's own strategy finds nothing missing, which no test of ours alone could show."""

    def device(message):
        """Answer with the node's number, so that the mean is known."""
        arrays = ArrayRecord([np.full(3, float(message.metadata.dst_node_id), np.float32)])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
        return Message(content, reply_to=message)

    result = FedAvg(fraction_evaluate=0.0).start(
        InProcessGrid({5: device, 6: device, 10: device}),
        ArrayRecord([np.zeros(3, np.float32)]),
        num_rounds=1,
    )
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == pytest.approx([7.0, 7.0, 7.0])
