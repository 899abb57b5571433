"""A Flower grid over devices in this process: the same strategy, no network, no SuperLink.

The simulation and the tests run on it. A device is called when its reply is pulled, not when its
message is pushed, so that no reply waits in memory.

Flower keeps the identity of the running task in one place a process: a process has one live grid,
this one or a SuperLink's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Final

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Device = Callable[[Message], Message | None]

_TASK_ID: Final = 1
_RUN_ID: Final = 1


class InProcessGrid(Grid):
    """Hands each message to a function, and returns what the function says.

    Args:
        devices: Node id to the device; a device that returns None stays silent.
        report_silence: True gives an error reply for a silent device at once, as a SuperLink does
            when the node's heartbeat lapses. False gives nothing, as long as one waits.
    """

    def __init__(self, devices: Mapping[int, Device], *, report_silence: bool = True) -> None:
        self._devices = devices
        self._report_silence = report_silence
        self._waiting: dict[str, Message] = {}
        self._numbers = count(1)
        self._run = Run.create_empty(_RUN_ID)
        self.set_run(self._run)

    def set_run(self, run: Run) -> None:
        """Name the run that messages belong to, for the whole process."""
        self._run = run
        TaskIdentity.task_id = _TASK_ID
        TaskIdentity.run_id = run.run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; the `Message` constructor does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Every device's node id."""
        return list(self._devices)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Keep the messages until their replies are pulled; return their ids."""
        return [self._keep(message) for message in messages]

    def _keep(self, message: Message) -> str:
        message_id = f"in-process-{next(self._numbers)}"
        # Flower sets ids through the same door: Metadata has no setter for it.
        message.metadata.__dict__["_message_id"] = message_id
        self._waiting[message_id] = message
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Ask the devices of these messages, and return what they reply."""
        replies = (self._ask(message_id) for message_id in message_ids)
        return [reply for reply in replies if reply is not None]

    def _ask(self, message_id: str) -> Message | None:
        message = self._waiting.pop(message_id, None)
        if message is None:
            return None
        device = self._devices.get(message.metadata.dst_node_id)
        reply = None if device is None else device(message)
        if reply is None and self._report_silence:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "silent"), reply_to=message)
        return reply

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push, then pull every reply; nothing is waited for, so ``timeout`` changes nothing."""
        del timeout
        return self.pull_messages(self.push_messages(messages))
