"""The Flower side of a device: one frame in, one frame out, without Flower's SuperNode.

A SuperNode downloads and runs code; a person's device must not. Here the device runs the code that
shipped with the app, and Flower only carries bytes: one record with one field, the frame.

Rules a reader can check line by line:

1. Only ``/v1/fleet`` calls are made, over TLS, to a server whose certificate chains to the root
   given; each call is signed with the node's key (NIST P-384).
2. No code is asked for: `GetRun` and `GetFab` are never called.
3. A message of more than three objects (message, record dict, record) is not downloaded.
4. Whatever goes wrong inside the device, the reply is an error with a fixed text.
5. Flower's `http_request_response` is not used: it ends the process on errors.

A SuperLink throws a reply away when its node is offline at the time the aggregator looks, even if
the reply arrived before. So a device that answered does not sign off: it says goodbye with one long
heartbeat (``linger_s``), closes the connection, and may be switched off.

This is the only file of the SDK that touches Flower, and it is loaded on use (seconds, tens of MB).
The internals that it uses are those of flwr 1.41; tests/aggregator/test_superlink.py pins them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client_sdk.errors import HomebodyError, ServerUnreachableError

RECORD: Final = "homebody"
FIELD: Final = "frame"
UNREADABLE_CODE: Final = 100
HEARTBEAT_S: Final = 60.0
MAX_LINGER_S: Final = 3600.0

_UNREADABLE: Final = Error(UNREADABLE_CODE, "homebody: not a frame")
_MAX_OBJECTS: Final = 3
_MIN_HEARTBEAT_S: Final = 10.0
# So many pulls in a row may find the server busy before the device gives up.
_MAX_BUSY: Final = 5
_BUSY_CODES: Final = frozenset({502, 503, 504})

Answer = Callable[[bytes], bytes | None]


class NodeRefusedError(HomebodyError):
    """The server does not know this node's key, or has revoked it: enrol the device again."""


def handle_message(answer: Answer, message: Message) -> Message | None:
    """Hand the frame in ``message`` to the device's pinned code, and wrap what it says.

    Args:
        answer: `Participant.answer`, or anything that takes and gives a frame; None is silence.
        message: What came from the grid.

    Returns:
        The reply; an error reply with a fixed text where the message holds no frame, or None where
        the device stays silent.
    """
    frame = _frame_of(message)
    if frame is None:
        return Message(_UNREADABLE, reply_to=message)
    said = answer(frame)
    if said is None:
        return None
    return Message(RecordDict({RECORD: ConfigRecord({FIELD: said})}), reply_to=message)


def _frame_of(message: Message) -> bytes | None:
    if not message.has_content() or len(message.content) != 1:
        return None
    record = message.content.config_records.get(RECORD)
    frame = None if record is None or len(record) != 1 else record.get(FIELD)
    return frame if isinstance(frame, bytes) else None


@dataclass(frozen=True, kw_only=True)
class SuperLinkConnection:
    """How a device reaches a SuperLink.

    Attributes:
        address: ``host:port`` of the SuperLink, or of the proxy in front of it.
        node_key_pem: The node's private key (NIST P-384, PEM, PKCS 8), as it was enrolled.
        root_certificates_pem: The certificate authority that signed the server's certificate.
        poll_interval_s: How long to wait after a pull that brought nothing.
        linger_s: How long the SuperLink keeps the replies of a device that has left; at most
            `MAX_LINGER_S`.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.
    """

    address: str
    node_key_pem: bytes = field(repr=False)
    root_certificates_pem: bytes
    poll_interval_s: float = 1.0
    linger_s: float = 900.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def exchange(
        self, answer: Answer, *, timeout_s: float, may_stay: Callable[[], bool] = lambda: True
    ) -> int:
        """Check in, answer what waits for this device, and leave.

        Args:
            answer: The device's pinned code: a frame in, a frame out, or None for silence.
            timeout_s: How long to wait for messages, in seconds.
            may_stay: Asked before each message; the device leaves as soon as it says no (the
                person picked the phone up, the charger is gone).

        Returns:
            How many messages were answered.

        Raises:
            NodeRefusedError: the key is unknown or revoked.
            ServerUnreachableError: no connection, or the server failed.
            ValueError: the key is not a NIST P-384 key.
        """
        ends_s = self.clock() + timeout_s
        answered = 0
        with _as_homebody_errors(), self._session() as session:
            while may_stay():
                message = session.pull()
                if message is not None:
                    reply = handle_message(answer, message)
                    answered += reply is not None and session.push(reply)
                elif self.clock() >= ends_s:
                    break
                else:
                    self.sleep(min(self.poll_interval_s, max(0.0, ends_s - self.clock())))
                session.keep_alive()
            session.leave(linger_s=self.linger_s if answered else 0.0)
        return answered

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        key = load_pem_private_key(self.node_key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
            raise ValueError("node_key_pem must be a NIST P-384 private key")
        with FleetHttpClient.from_server_address(
            self.address,
            insecure=False,
            root_certificates=self.root_certificates_pem,
            interceptors=[NodeAuthHttpInterceptor(key, key.public_key())],
        ) as client:
            activated = client.ActivateNode(
                ActivateNodeRequest(
                    public_key=public_key_to_bytes(key.public_key()),
                    heartbeat_interval=HEARTBEAT_S,
                )
            )
            session = _Session(client, Node(node_id=activated.node_id), self.clock)
            try:
                yield session
            except httpx.HTTPError:
                # A node that is still active can't check in again until two heartbeats are missed.
                with suppress(httpx.HTTPError):
                    session.leave(linger_s=0.0)
                raise


class _Session:
    """One activated node: Flower's calls, and nothing else."""

    def __init__(self, client: FleetHttpClient, node: Node, clock: Callable[[], float]) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._beat_s = clock()
        self._busy = 0

    def keep_alive(self) -> None:
        """Send a heartbeat where half the interval has passed; one that is lost is tried again."""
        if self._clock() - self._beat_s >= HEARTBEAT_S / 2:
            # Flower gives a heartbeat five seconds, which a busy server may need for longer.
            try:
                self._beat(HEARTBEAT_S)
            except httpx.HTTPError as error:
                if not _is_passing(error):
                    raise

    def leave(self, *, linger_s: float) -> None:
        """Say goodbye: at once, or after ``linger_s`` so that replies can still be fetched."""
        if linger_s > 0.0:
            # A node counts as online for two intervals after its last heartbeat.
            self._beat(max(min(linger_s, MAX_LINGER_S) / 2, _MIN_HEARTBEAT_S))
        else:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))

    def _beat(self, interval_s: float) -> None:
        self._client.SendNodeHeartbeat(
            SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=interval_s)
        )
        self._beat_s = self._clock()

    def pull(self) -> Message | None:
        """Fetch the oldest message that waits, or None; also where the server is busy."""
        try:
            pulled = self._client.PullMessages(PullMessagesRequest(node=self._node))
        except httpx.HTTPError as error:
            self._busy += 1
            if self._busy > _MAX_BUSY or not _is_passing(error):
                raise
            return None
        self._busy = 0
        if not pulled.messages_list:
            return None
        envelope = message_from_proto(pulled.messages_list[0])
        tree = pulled.message_object_trees[0]
        message = self._inflate(envelope.metadata.run_id, tree)
        if message is None:
            # The envelope has no content, so that it gets the fixed error as its reply.
            message = envelope
        # As the SuperNode does: the reply names the message by its object id.
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _inflate(self, run_id: int, tree: ObjectTree) -> Message | None:
        if len(list(islice(iterate_object_tree(tree), _MAX_OBJECTS + 1))) > _MAX_OBJECTS:
            return None
        try:
            return pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self._client.PullObject, self._node, run_id),
                make_confirm_message_received_fn_protobuf(
                    self._client.ConfirmMessageReceived, self._node, run_id
                ),
                return_type=Message,
            )
        except httpx.HTTPError:
            raise
        except Exception:  # noqa: BLE001  # Flower's parsers raise anything on hostile bytes.
            return None

    def push(self, reply: Message) -> bool:
        """Hand a reply in; False where its run has ended meanwhile."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            tree = get_object_tree(reply)
            try:
                pushed = self._client.PushMessages(
                    PushMessagesRequest(
                        node=self._node,
                        messages_list=[message_to_proto(remove_content_from_message(reply))],
                        message_object_trees=[tree],
                        clientapp_runtime_list=[0.0],
                    )
                )
                push_objects(
                    objects,
                    make_push_object_fn_protobuf(
                        self._client.PushObject,
                        self._node,
                        reply.metadata.run_id,
                        pushed.session_id,
                    ),
                    object_ids_to_push=set(pushed.objects_to_push),
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.FORBIDDEN:
                    return False
                raise
        return True


def _is_passing(error: httpx.HTTPError) -> bool:
    """Say whether a server that is busy, or a network that is slow, may answer the next call."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _BUSY_CODES
    return isinstance(error, httpx.TimeoutException)


@contextmanager
def _as_homebody_errors() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.PRECONDITION_FAILED):
            raise NodeRefusedError(
                f"the SuperLink refused this node's key (HTTP {status}); enrol the device again"
            ) from error
        raise ServerUnreachableError(
            f"the SuperLink failed (HTTP {status}); try again later"
        ) from error
    except httpx.TransportError as error:
        raise ServerUnreachableError(
            f"the SuperLink cannot be reached ({type(error).__name__}); try again later"
        ) from error
