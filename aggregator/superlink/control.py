"""An aggregator without ``flwr run``: registers nodes, opens a run, hands out its grid.

No Flower app is executed anywhere. The SuperLink wants a bundle before it opens a run, so it gets
one with empty modules; this process then claims the run's one task, and is the ServerApp.

Rules a reader can check line by line:

1. One run at a time in one process: Flower keeps the task's identity in one place.
2. A reply is taken with the envelope that the SuperLink checked, never with the one inside the
   object that a node uploaded: that one can name anybody.
3. A reply of more than three objects is not downloaded, and one that cannot be read is handed on
   without content: it is counted, and the other replies of its chunk are not lost. A reply whose
   objects are still under way is left alone until the next pull: a slow phone is not cut off, and
   a node that announces a reply and never uploads it holds nobody up.
4. The task's outcome is pushed however the block ends. If this process dies, the SuperLink fails
   the run after 60 s without a heartbeat; the ledger then holds an open reservation, which counts
   as spent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final, Self

import httpx
from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, fab_to_proto, message_from_proto, run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest, UnregisterNodeRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from aggregator.errors import SuperLinkError
from aggregator.superlink.process import Endpoint

_MAX_OBJECTS: Final = 3
_HEARTBEAT_S: Final = 10.0
_RETRY_S: Final = 10.0
_BUNDLE: Final = {
    "pyproject.toml": b"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "homebody-stub"
version = "1.0.0"
description = "Nobody runs this: devices run the code that shipped with their app."
license = "Apache-2.0"
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "homebody"

[tool.flwr.app.components]
serverapp = "stub.server:app"
clientapp = "stub.client:app"
""",
    "stub/__init__.py": b"",
    "stub/server.py": b"",
    "stub/client.py": b"",
}


class SuperLinkGrid(HttpGrid):
    """Flower's HTTP grid, made to survive hostile and slow devices (rules 2 and 3)."""

    def __init__(self, endpoint: Endpoint, *, token: str) -> None:
        super().__init__(
            endpoint.address,
            insecure=False,
            root_certificates=endpoint.root_certificates_pem,
            token=token,
        )
        # Flower's own retries never end, and raise a signal in this process on some errors.
        self._retry_invoker = RetryInvoker(
            lambda: exponential(max_delay=2),
            httpx.TransportError,
            max_tries=None,
            max_time=_RETRY_S,
        )
        self._arriving: dict[str, tuple[Message, ObjectTree]] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Fetch the replies to these messages that have come, whole."""
        wanted = list(message_ids)
        pulled = self._runtime_client.PullMessages(
            PullAppMessagesRequest(
                message_ids=[each for each in wanted if each not in self._arriving]
            )
        )
        for proto, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True):
            envelope = message_from_proto(proto)
            self._arriving[envelope.metadata.reply_to_message_id] = envelope, tree
        opened = (self._open(message_id) for message_id in wanted)
        return [reply for reply in opened if reply is not None]

    def _open(self, message_id: str) -> Message | None:
        """Make the reply whole, or None where it has not come, or not all of it."""
        if message_id not in self._arriving:
            return None
        envelope, tree = self._arriving[message_id]
        if not envelope.has_error():
            try:
                content = self._content(tree)
            except ObjectUnavailableError:
                return None
            self._confirm(tree)
            envelope = make_message(metadata=envelope.metadata, content=content)
        del self._arriving[message_id]
        return envelope

    def _content(self, tree: ObjectTree) -> RecordDict:
        """Download a reply's content; an empty one where nothing of ours is in it."""
        nodes = islice(iterate_object_tree(tree), _MAX_OBJECTS + 1)
        object_ids = [each.object_id for each in nodes]
        if len(object_ids) > _MAX_OBJECTS:
            return RecordDict()
        pull = make_pull_object_fn_protobuf(
            self._runtime_client.PullObject, self.node, self.run.run_id
        )
        try:
            contents = {object_id: pull(object_id) for object_id in object_ids}
            message = inflate_object_from_contents(tree.object_id, contents)
            content = message.content if isinstance(message, Message) else None
        except (httpx.HTTPError, ObjectUnavailableError):
            raise
        except Exception:  # noqa: BLE001  # Flower's parsers raise anything on hostile bytes.
            return RecordDict()
        return RecordDict() if content is None else content

    def _confirm(self, tree: ObjectTree) -> None:
        """Let the SuperLink forget the reply."""
        self._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self.node, run_id=self.run.run_id, message_object_id=tree.object_id
            )
        )


class ControlRoom:
    """The operator's side of a SuperLink: its unauthenticated paths, kept behind the proxy.

    Args:
        endpoint: Where the SuperLink answers.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._control = ControlHttpClient.from_server_address(
            endpoint.address,
            insecure=False,
            root_certificates=endpoint.root_certificates_pem,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-cli")],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._control.close()

    def register_node(self, public_key_pem: bytes, *, name: str) -> int:
        """Let a node in.

        Args:
            public_key_pem: Its NIST P-384 key.
            name: For the operator's eyes; nothing about a person.

        Returns:
            The node id, with which the directory finds the device's signing key.

        Raises:
            SuperLinkError: the SuperLink refused, or cannot be reached.
        """
        with _as_superlink_errors("register a node"):
            answer = self._control.RegisterNode(
                RegisterNodeRequest(public_key=public_key_pem, name=name)
            )
        return int(answer.node_id)

    def unregister_node(self, node_id: int) -> None:
        """Revoke a node's key; its next call is refused.

        Raises:
            SuperLinkError: the SuperLink refused, or cannot be reached.
        """
        with _as_superlink_errors("revoke a node"):
            self._control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    @contextmanager
    def open_run(self) -> Iterator[SuperLinkGrid]:
        """Open a run and be its ServerApp for as long as the ``with`` block.

        Yields:
            The grid, for `BoundedSumStrategy.start`.

        Raises:
            SuperLinkError: the SuperLink refused, or cannot be reached.
        """
        with _as_superlink_errors("run the task"):
            token = self._claim_run()
            with _client(self._endpoint, RuntimeTokenHttpInterceptor(token=token)) as client:
                grid = SuperLinkGrid(self._endpoint, token=token)
                try:
                    with _heartbeat(client), _outcome(client):
                        _enter(grid, client)
                        yield grid
                finally:
                    grid.close()

    def _claim_run(self) -> str:
        content, _ = build_fab_from_files(_BUNDLE)
        started = self._control.StartRun(StartRunRequest(fab=fab_to_proto(Fab("", content, {}))))
        if not started.HasField("run_id"):
            raise SuperLinkError("the SuperLink did not open a run; see its log")
        with _client(self._endpoint) as client:
            acquired = client.AcquireTask(
                AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
            )
        if acquired.task.run_id != started.run_id:
            raise SuperLinkError("the SuperLink handed out another run; end that one first")
        return acquired.token


def _client(endpoint: Endpoint, *more: RuntimeTokenHttpInterceptor) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        endpoint.address,
        insecure=False,
        root_certificates=endpoint.root_certificates_pem,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"), *more],
    )


def _enter(grid: SuperLinkGrid, client: RuntimeHttpClient) -> None:
    """Read the task, and become it."""
    given = client.PullTaskInput(PullTaskInputRequest())
    TaskIdentity.task_id = given.task_id
    TaskIdentity.run_id = given.run.run_id
    TaskIdentity.node_id = context_from_proto(given.context).node_id
    grid.set_run(run_from_proto(given.run))


@contextmanager
def _heartbeat(client: RuntimeHttpClient) -> Iterator[None]:
    """Keep the task alive; Flower's own sender raises a signal in this process when it fails."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_HEARTBEAT_S):
            try:
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError:
                continue

    thread = threading.Thread(target=beat, name="superlink-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _outcome(client: RuntimeHttpClient) -> Iterator[None]:
    """Tell the SuperLink how the task ended; an error's name, never its text."""
    try:
        yield
    except BaseException as error:
        try:
            _push_outcome(client, SubStatus.FAILED, type(error).__name__)
        except httpx.HTTPError as second:
            error.add_note(f"the SuperLink could not be told: {type(second).__name__}")
        raise
    _push_outcome(client, SubStatus.COMPLETED, "")


def _push_outcome(client: RuntimeHttpClient, sub_status: str, details: str) -> None:
    client.PushTaskOutput(PushTaskOutputRequest(sub_status=sub_status, details=details))


@contextmanager
def _as_superlink_errors(action: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise SuperLinkError(
            f"the SuperLink refused to {action} (HTTP {status}); see its log"
        ) from error
    except httpx.TransportError as error:
        raise SuperLinkError(
            f"the SuperLink cannot be reached to {action} ({type(error).__name__})"
        ) from error
