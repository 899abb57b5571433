"""The real thing: a SuperLink process, TLS, node keys, the gate, and devices in threads.

Longer than 400 lines because all of it shares one SuperLink, which takes seconds to start.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import flwr
import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPushError,
    ObjectUnavailableError,
    push_objects,
)
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.run import Run
from flwr.superlink.grid import HttpGrid
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from aggregator import envelope
from aggregator.consents import ConsentRegistry
from aggregator.errors import PortInUseError, SuperLinkError
from aggregator.in_process import InProcessGrid
from aggregator.strategy import BoundedSumStrategy, TaskPlan
from aggregator.superlink import control
from aggregator.superlink.control import ControlRoom, SuperLinkGrid
from aggregator.superlink.gate import ALLOWED, running_gate
from aggregator.superlink.process import Endpoint, running_superlink
from aggregator.superlink.round import RoundDevice, run_superlink_round
from client_sdk.errors import ServerUnreachableError
from client_sdk.federation import flower_device
from client_sdk.federation.flower_device import (
    NodeRefusedError,
    SuperLinkConnection,
    handle_message,
)
from client_sdk.wire import Order, Refusal, SparseVector, TaskKind, sha256_hex
from privacy.bounded_sum import BoundedSum
from privacy.events import MechanismName, NoiseSource, ReleaseEvent
from privacy.mechanisms import UnsafeNoNoise
from simulations.scripted import EARLIER_TASK, EXPECTED, Behaviour, ScriptedDevice, SoftwareKey

DIMENSION = 500
KEY = SoftwareKey()
SOMEWHERE = Endpoint(host="127.0.0.1", port=1, root_certificates_pem=b"", process_id=0)


class RecordingLedger:
    """The ledger's port, in memory."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def reserve(self, event: ReleaseEvent) -> str:
        """Note the call and agree."""
        self.calls.append("reserve")
        return "reservation"

    def commit(self, reservation: str, accepted: int) -> None:
        """Note how many were accepted."""
        self.calls.append(f"commit {accepted}")

    def void(self, reservation: str, reason: str) -> None:
        """Note the reason that the reservation was given up for."""
        self.calls.append(f"void {reason}")


class Site:
    """One SuperLink with its gate and its control room."""

    def __init__(self, inner, gate, room, directory) -> None:
        self.inner = inner
        self.gate = gate
        self.room = room
        self.directory = directory

    def enrol(self, *, endpoint=None, **options) -> tuple[int, SuperLinkConnection]:
        """Register a new node key, and give its node and a connection, by default via the gate."""
        private, public = generate_key_pairs()
        node_id = self.room.register_node(public_key_to_bytes(public), name="test")
        return node_id, self.connection(private, endpoint=endpoint, **options)

    def connection(self, private, *, endpoint=None, **options) -> SuperLinkConnection:
        """Give a connection with the key, registered or not, that polls fast enough for a test."""
        endpoint = endpoint or self.gate
        return SuperLinkConnection(
            address=endpoint.address,
            node_key_pem=private_key_to_bytes(private),
            root_certificates_pem=endpoint.root_certificates_pem,
            **{"poll_interval_s": 0.2, **options},
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Give one running site to the whole module, because a start takes seconds."""
    directory = tmp_path_factory.mktemp("superlink")
    with (
        running_superlink(directory) as inner,
        running_gate(inner, directory=directory, max_body_bytes=100_000) as gate,
        ControlRoom(inner) as room,
    ):
        yield Site(inner, gate, room, directory)


@pytest.fixture
def registry(tmp_path):
    """Give a real consent registry on a fresh file, and close it afterwards."""
    with ConsentRegistry(f"sqlite:///{tmp_path / 'consents.db'}") as opened:
        yield opened


def make_plan(*, open_s: int = 120, quorum: int = 1, **options) -> TaskPlan:
    """Give a plan without noise, so that sums are exact, for a new task open from now."""
    order = Order(
        task_id=os.urandom(16).hex(),
        kind=TaskKind.ITEM_STATISTICS,
        population="tests",
        round=0,
        policy_sha256="2" * 64,
        catalogue_sha256="3" * 64,
        dimension=DIMENSION,
        clip_norm=1.0,
        closes_at_s=int(time.time()) + open_s,
        promise={},
        parameters={},
        payload_sha256=sha256_hex(b"rows"),
        payload=b"rows",
    )
    event = ReleaseEvent(
        kind=order.kind,
        task_id=order.task_id,
        population=order.population,
        noise_multiplier=0.0,
        clip_norm=order.clip_norm,
        dimension=order.dimension,
        report_goal=10,
        mechanism=MechanismName.UNSAFE_NO_NOISE,
        noise_source=NoiseSource.NONE,
    )
    return TaskPlan(order=order, event=event, noise=None, quorum=quorum, **options)


def make_devices(*behaviours: Behaviour) -> list[ScriptedDevice]:
    """Give one consenting device per behaviour, each with its own vector."""
    rng = np.random.default_rng(5)
    other = SoftwareKey()
    return [
        ScriptedDevice(
            vector=SparseVector.from_dense(rng.normal(size=DIMENSION).astype(np.float32)),
            consented_at_s=int(time.time()) - 10,
            behaviour=behaviour,
            other=other,
        )
        for behaviour in behaviours
    ]


def sum_of(devices) -> np.ndarray:
    """Give the noiseless clipped sum, computed without any transport, to compare with."""
    total = BoundedSum(dimension=DIMENSION, clip_norm=1.0)
    for device in devices:
        total.add(device.vector)
    return total.release(UnsafeNoNoise())


def as_round_devices(devices) -> list[RoundDevice]:
    """Give the devices in the form that `run_superlink_round` takes."""
    return [
        RoundDevice(name=str(number), public_key_hex=device.public_key_hex, answer=device.answer)
        for number, device in enumerate(devices)
    ]


def make_strategy(directory, ledger, registry) -> BoundedSumStrategy:
    """Give a strategy on the wall clock for the nodes in the directory."""
    return BoundedSumStrategy(signer=KEY, ledger=ledger, consents=registry, directory=directory)


def wait_until_online(grid, node_ids, *, timeout_s: float = 30.0) -> None:
    """Wait until the SuperLink lists all the nodes, since only those can be asked."""
    ends_s = time.monotonic() + timeout_s
    while not set(node_ids) <= set(grid.get_node_ids()):
        assert time.monotonic() < ends_s, "the nodes did not check in"
        time.sleep(0.1)


def is_free(port: int) -> bool:
    """Say whether nothing listens on the port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_until_free(port: int, *, timeout_s: float = 20.0) -> bool:
    """Say whether the port becomes free in time, as a process needs a moment to end."""
    ends_s = time.monotonic() + timeout_s
    while not is_free(port):
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.1)
    return True


# What of Flower is used beyond its public surface: a new version has to pass these first.


def test_flower_is_the_version_whose_internals_are_pinned():
    """The constants copied from Flower are still Flower's, in the version they were read from."""
    assert flwr.__version__.startswith("1.41.")
    assert SUPERLINK_NODE_ID == envelope.SUPERLINK_NODE_ID
    unavailable = {
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    }
    assert unavailable == envelope.UNAVAILABLE_CODES


def test_both_sides_agree_on_the_record_and_the_field():
    """Server and phone share no code for the wrapping, so their names for it are compared here."""
    assert (envelope.RECORD, envelope.FIELD) == (flower_device.RECORD, flower_device.FIELD)


def test_flower_internals_have_the_shape_that_the_adapters_expect():
    """A changed signature fails here by name, rather than in the middle of a round."""
    assert list(inspect.signature(ProtobufClient.from_server_address).parameters) == [
        "server_address",
        "insecure",
        "root_certificates",
        "interceptors",
        "retry_invoker",
    ]
    assert list(inspect.signature(HttpGrid.__init__).parameters) == [
        "self",
        "runtime_api_address",
        "insecure",
        "root_certificates",
        "token",
    ]
    assert isinstance(HttpGrid._runtime_client, property)
    assert issubclass(ObjectUnavailableError, Exception)
    assert "object_ids_to_push" in inspect.signature(push_objects).parameters


def test_message_metadata_is_set_through_the_door_that_the_adapters_use():
    """Flower still reads the message id from where the grid writes it."""
    grid = InProcessGrid({5: lambda _: None})
    message = Message(RecordDict({"r": ConfigRecord({"f": b""})}), 5, "query")
    (message_id,) = grid.push_messages([message])
    assert message.metadata.message_id == message_id


def test_calls_that_end_or_signal_the_process_are_not_used():
    """No call retries for ever, and no Flower helper that can end our process is imported."""
    stock = HttpGrid(token="t")._retry_invoker
    ours = SuperLinkGrid(SOMEWHERE, token="t")._retry_invoker
    assert stock.max_time is None
    assert ours.max_time is not None
    for module in (flower_device, control):
        assert not any(each is HeartbeatSender for each in vars(module).values())
        assert not {"http_request_response", "make_task_heartbeat_fn_http"} & set(vars(module))


# Who gets in.


def test_registered_node_checks_in_and_leaves(site):
    """A registered key is all that a device needs, and without work it answers nothing."""
    _, connection = site.enrol()
    assert connection.exchange(lambda frame: frame, timeout_s=0.0) == 0


def test_node_whose_connection_broke_checks_in_again_at_once(site):
    """A call that timed out does not lock the node out until the SuperLink has forgotten it."""
    _, connection = site.enrol()

    def broken():
        raise httpx.ReadTimeout("slow")

    with pytest.raises(ServerUnreachableError):
        connection.exchange(lambda frame: frame, timeout_s=0.0, may_stay=broken)
    assert connection.exchange(lambda frame: frame, timeout_s=0.0) == 0


def test_heartbeat_that_times_out_is_sent_again_and_breaks_nothing():
    """Flower gives a heartbeat five seconds; on a busy server that is no reason to leave."""
    sent: list[float] = []

    class BusyClient:
        """Loses the first heartbeat."""

        def SendNodeHeartbeat(self, request):  # noqa: N802 - Flower's name
            """Time out once."""
            sent.append(request.heartbeat_interval)
            if len(sent) == 1:
                raise httpx.ReadTimeout("slow")

    now_s = [0.0]
    session = flower_device._Session(BusyClient(), Node(node_id=1), lambda: now_s[0])
    now_s[0] = flower_device.HEARTBEAT_S
    for _ in range(3):
        session.keep_alive()
    assert len(sent) == 2


@pytest.mark.parametrize("failures", [1, 5, 6])
def test_pull_that_finds_the_server_busy_is_tried_again_but_not_for_ever(failures):
    """A 502 of the proxy costs a pull, not the session; the sixth in a row ends it."""
    answers = [httpx.Response(502, request=httpx.Request("POST", "https://x"))] * failures

    class BusyClient:
        """Fails so often, then has no message."""

        def PullMessages(self, request):  # noqa: N802 - Flower's name
            """Give what is next."""
            if answers:
                answers.pop().raise_for_status()
            return PullMessagesResponse()

    session = flower_device._Session(BusyClient(), Node(node_id=1), lambda: 0.0)
    for _ in range(min(failures, 5)):
        assert session.pull() is None
    if failures > 5:
        with pytest.raises(httpx.HTTPStatusError):
            session.pull()
    else:
        assert session.pull() is None


def test_node_with_an_unregistered_key_is_refused(site):
    """A key that nobody registered gets no session, and the error says what to do."""
    private, _ = generate_key_pairs()
    with pytest.raises(NodeRefusedError, match="enrol the device again"):
        site.connection(private).exchange(lambda frame: frame, timeout_s=0.0)


def test_node_cannot_register_itself_even_past_the_gate(site):
    """Enrolment is the operator's alone, also for somebody who reaches the SuperLink directly."""
    private, public = generate_key_pairs()
    with (
        FleetHttpClient.from_server_address(
            site.inner.address,
            insecure=False,
            root_certificates=site.inner.root_certificates_pem,
            interceptors=[NodeAuthHttpInterceptor(private, public)],
        ) as client,
        pytest.raises(httpx.HTTPStatusError),
    ):
        client.RegisterNode(RegisterNodeFleetRequest(public_key=public_key_to_bytes(public)))


def test_node_with_a_revoked_key_is_refused(site):
    """Unregistering a node locks its key out at once."""
    node_id, connection = site.enrol()
    site.room.unregister_node(node_id)
    with pytest.raises(NodeRefusedError):
        connection.exchange(lambda frame: frame, timeout_s=0.0)


def test_server_of_another_authority_is_not_trusted(site, tmp_path):
    """A device speaks only to the server whose root it was enrolled with."""
    from datetime import UTC, datetime

    from aggregator.superlink.certificates import make_certificates

    other = make_certificates(tmp_path, host="127.0.0.1", now=datetime.now(UTC))
    private, _ = generate_key_pairs()
    connection = SuperLinkConnection(
        address=site.gate.address,
        node_key_pem=private_key_to_bytes(private),
        root_certificates_pem=other.root.read_bytes(),
    )
    with pytest.raises(ServerUnreachableError, match="cannot be reached"):
        connection.exchange(lambda frame: frame, timeout_s=0.0)


def test_key_of_another_kind_is_a_mistake(site):
    """Flower takes P-384 keys alone, and the error says so before anything is sent."""
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="P-384"):
        site.connection(private).exchange(lambda frame: frame, timeout_s=0.0)


def test_node_key_is_not_shown(site):
    """A connection that ends up in a log must not give its private key away."""
    _, connection = site.enrol()
    assert "PRIVATE" not in repr(connection)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-fab",
        "/v1/fleet/get-run",
        "/v1/fleet/../control/start-run",
        "/docs",
        "/health",
    ],
)
def test_gate_lets_nothing_but_the_fleet_calls_through(site, path):
    """The network reaches no control, registration or documentation path, however it is spelt."""
    with httpx.Client(verify=_trust(site)) as client:
        assert client.post(f"https://{site.gate.address}{path}").status_code == 404


def test_gate_refuses_a_body_that_is_too_large(site):
    """Too long a body stops at the gate, before it costs the SuperLink anything."""
    with httpx.Client(verify=_trust(site)) as client:
        answer = client.post(f"https://{site.gate.address}{ALLOWED[-2]}", content=bytes(100_001))
    assert answer.status_code == 413


def _trust(site):
    """Give a TLS context that trusts the gate's root and no other."""
    import ssl

    return ssl.create_default_context(cadata=site.gate.root_certificates_pem.decode("ascii"))


# Rounds.


@pytest.mark.slow
def test_round_with_hostile_devices_gives_the_same_sum_as_in_process(registry, tmp_path):
    """Real transport under attack gives the simulation's sum to the bit, and no thread stays."""
    hostile = [
        Behaviour.REFUSES_CONSENT,
        Behaviour.WITHDRAWS,
        Behaviour.NOT_A_NUMBER,
        Behaviour.OVERSIZED,
        Behaviour.IGNORES,
        Behaviour.REPLAYS,
        Behaviour.FORGES,
        Behaviour.IMPERSONATES,
    ]
    devices = make_devices(*hostile, *[Behaviour.HONEST] * 24)
    ledger = RecordingLedger()
    plan = make_plan(open_s=240, acceptance_timeout_s=60.0)
    result = run_superlink_round(
        plan,
        as_round_devices(devices),
        connector=SuperLinkConnection,
        signer=KEY,
        ledger=ledger,
        consents=registry,
        directory=tmp_path / "superlink",
        earlier_tasks=frozenset({EARLIER_TASK}),
    )
    in_process = dict(enumerate(devices[len(hostile) :]))
    reference = make_strategy(
        {node_id: device.public_key_hex for node_id, device in in_process.items()},
        RecordingLedger(),
        registry,
    ).start(
        InProcessGrid(
            {
                node_id: lambda message, device=device: handle_message(device.answer, message)
                for node_id, device in in_process.items()
            }
        ),
        plan,
    )
    assert dict(result.refusals) == {EXPECTED[behaviour]: 1 for behaviour in hostile}
    assert result.accepted == 24
    assert result.noisy_sum.tobytes() == reference.noisy_sum.tobytes()
    assert result.noisy_sum.tobytes() == sum_of(devices[len(hostile) :]).tobytes()
    assert ledger.calls == ["reserve", "commit 24"]
    assert not [t for t in threading.enumerate() if t.name.startswith("device-")]


def test_device_that_is_switched_off_after_its_upload_is_counted(site, registry):
    """A finished upload counts even if its device is offline when the aggregator looks."""
    (device,) = make_devices(Behaviour.HONEST)
    node_id, connection = site.enrol()
    seen: list[bytes] = []

    def answer(frame):
        """Answer, and note that a frame has come."""
        seen.append(frame)
        return device.answer(frame)

    with site.room.open_run() as grid:
        thread = threading.Thread(
            target=connection.exchange,
            args=(answer,),
            kwargs={"timeout_s": 60.0, "may_stay": lambda: len(seen) < 2},
        )
        thread.start()
        wait_until_online(grid, [node_id])

        class PatientGrid:
            """Looks for the contribution only after the device has left."""

            def get_node_ids(self):
                """Give the one node, whether or not it is still online."""
                return [node_id]

            def push_messages(self, messages):
                """Push as the real grid does."""
                return grid.push_messages(messages)

            def pull_messages(self, message_ids):
                """Pull, but wait for the device to leave once it has the order."""
                if len(seen) == 2:
                    thread.join()
                return grid.pull_messages(message_ids)

        result = make_strategy({node_id: device.public_key_hex}, RecordingLedger(), registry).start(
            PatientGrid(), make_plan(open_s=60)
        )
    assert result.accepted == 1


def _push_raw(session, message: Message) -> None:
    """Push any message, as a node with Flower's client could."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = get_all_nested_objects(message)
        response = session._client.PushMessages(
            PushMessagesRequest(
                node=session._node,
                messages_list=[
                    flower_device.message_to_proto(
                        flower_device.remove_content_from_message(message)
                    )
                ],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[0.0],
            )
        )
        push_objects(
            objects,
            flower_device.make_push_object_fn_protobuf(
                session._client.PushObject,
                session._node,
                message.metadata.run_id,
                response.session_id,
            ),
            object_ids_to_push=set(response.objects_to_push),
        )


def _ask_one_and_let_another_forge(site, registry, *, endpoint):
    """Victim and forger are invited; the forger answers the victim's message in its name."""
    victim, forger = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    victim_id, victim_way = site.enrol(endpoint=site.inner)
    forger_id, forger_way = site.enrol(endpoint=endpoint)
    plan = make_plan(open_s=25)
    with (
        site.room.open_run() as grid,
        victim_way._session() as victim_session,
        forger_way._session() as forger_session,
    ):
        strategy = make_strategy(
            {victim_id: victim.public_key_hex, forger_id: forger.public_key_hex},
            RecordingLedger(),
            registry,
        )
        errors: list[Exception] = []

        def attack():
            """Forge with the victim's message, then let both devices answer honestly."""
            try:
                stolen = _pull(victim_session)
                forged = handle_message(forger.answer, stolen)
                _push_raw(forger_session, forged)
            except httpx.HTTPStatusError as error:
                errors.append(error)
                victim_session.push(handle_message(victim.answer, stolen))
            for session, device in ((forger_session, forger), (victim_session, victim)):
                _answer_all(session, device)

        thread = threading.Thread(target=attack)
        thread.start()
        result = strategy.start(grid, plan, node_ids=[victim_id, forger_id])
        thread.join()
    return result, errors, victim, forger


def _pull(session) -> Message:
    """Give the next message for this node, and fail if none comes within ten seconds."""
    for _ in range(100):
        message = session.pull()
        if message is not None:
            return message
        time.sleep(0.1)
    raise AssertionError("no message came")


def _answer_all(session, device, *, for_s: float = 4.0) -> None:
    """Answer whatever arrives for a while, as an honest device would."""
    ends_s = time.monotonic() + for_s
    while time.monotonic() < ends_s:
        message = session.pull()
        if message is None:
            time.sleep(0.1)
        else:
            session.push(handle_message(device.answer, message))


@pytest.mark.slow
def test_superlink_takes_a_forged_reply_but_the_signature_inside_gives_it_away(site, registry):
    """Flower lets one node answer for another; the sum is safe but the victim is lost."""
    result, errors, _, forger = _ask_one_and_let_another_forge(site, registry, endpoint=site.inner)
    assert errors == []
    assert dict(result.refusals) == {Refusal.UNKNOWN_DEVICE: 1}
    assert result.noisy_sum.tobytes() == sum_of([forger]).tobytes()


@pytest.mark.slow
def test_gate_stops_a_forged_reply_so_that_the_victim_is_counted(site, registry):
    """The gate refuses a reply in another's name, so that forging cannot exclude anybody."""
    result, errors, victim, forger = _ask_one_and_let_another_forge(
        site, registry, endpoint=site.gate
    )
    assert [error.response.status_code for error in errors] == [400]
    assert not result.refusals
    assert result.noisy_sum.tobytes() == sum_of([victim, forger]).tobytes()


def test_reply_that_cannot_be_read_is_counted_and_spares_its_neighbours(site, registry):
    """One odd reply is one refusal, and the replies pulled along with it are still added."""
    honest, hostile = make_devices(Behaviour.HONEST, Behaviour.HONEST)
    honest_id, honest_way = site.enrol()
    hostile_id, hostile_way = site.enrol()
    with (
        site.room.open_run() as grid,
        honest_way._session() as honest_session,
        hostile_way._session() as hostile_session,
    ):

        def respond():
            """Send nine records where one is due, then let the other device answer."""
            invitation = _pull(hostile_session)
            many = RecordDict({str(n): ConfigRecord({"frame": bytes([n])}) for n in range(9)})
            # The aggregator may have thrown the reply away before it is all there.
            with suppress(ObjectPushError):
                _push_raw(hostile_session, Message(many, reply_to=invitation))
            _answer_all(honest_session, honest)

        thread = threading.Thread(target=respond)
        thread.start()
        result = make_strategy(
            {honest_id: honest.public_key_hex, hostile_id: hostile.public_key_hex},
            RecordingLedger(),
            registry,
        ).start(grid, make_plan(open_s=30), node_ids=[honest_id, hostile_id])
        thread.join()
    assert dict(result.refusals) == {Refusal.MALFORMED: 1}
    assert result.accepted == 1


def test_grid_takes_the_envelope_that_the_superlink_checked(site):
    """Sender and message id come from the authenticated envelope, and the content is whole."""
    node_id, connection = site.enrol()
    with site.room.open_run() as grid, connection._session() as session:
        content = RecordDict({"homebody": ConfigRecord({"frame": b"?"})})
        message_ids = list(grid.push_messages([Message(content, node_id, "query")]))
        session.push(Message(content, reply_to=_pull(session)))
        (reply,) = grid.pull_messages(message_ids)
    assert isinstance(grid, SuperLinkGrid)
    assert reply.metadata.src_node_id == node_id
    assert reply.metadata.reply_to_message_id == message_ids[0]
    assert reply.content["homebody"]["frame"] == b"?"


class FakeRuntime:
    """The SuperLink's side of a grid, in memory: one reply, whose objects a test may hold back."""

    def __init__(self, reply: Message) -> None:
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.tree = get_object_tree(reply)
            self.objects = {
                object_id: each.deflate()
                for object_id, each in get_all_nested_objects(reply).items()
            }
            self.envelope = flower_device.message_to_proto(
                flower_device.remove_content_from_message(reply)
            )
        self.missing: set[str] = set()
        self.asked: list[list[str]] = []
        self.pulled: list[str] = []
        self.confirmed: list[str] = []

    def PullMessages(self, request):  # noqa: N802  # Flower's name.
        """Give the reply's envelope whenever a message is asked for by id."""
        self.asked.append(list(request.message_ids))
        found = [self.envelope] if request.message_ids else []
        return PullAppMessagesResponse(
            messages_list=found, message_object_trees=[self.tree for _ in found]
        )

    def PullObject(self, request):  # noqa: N802
        """Give the object, or say that it is still being uploaded."""
        self.pulled.append(request.object_id)
        there = request.object_id not in self.missing
        return PullObjectResponse(
            object_found=True,
            object_available=there,
            object_content=self.objects[request.object_id] if there else b"",
        )

    def ConfirmMessageReceived(self, request):  # noqa: N802
        """Note that the SuperLink may delete the reply."""
        self.confirmed.append(request.message_object_id)
        return ConfirmMessageReceivedResponse()


def _grid_over(content: RecordDict) -> tuple[SuperLinkGrid, FakeRuntime, str]:
    """A SuperLink's grid with one reply waiting, without a SuperLink."""
    in_process = InProcessGrid({})
    message = Message(RecordDict({"r": ConfigRecord({"f": b"asked"})}), 5, "query")
    in_process.push_messages([message])
    runtime = FakeRuntime(Message(content, reply_to=message))
    grid = SuperLinkGrid(SOMEWHERE, token="t")
    grid.set_run(Run.create_empty(1))
    grid._client = runtime
    return grid, runtime, message.metadata.message_id


def test_grid_downloads_nothing_of_a_reply_with_too_many_objects():
    """A reply of the wrong shape is dropped by its outline, so that it costs no download."""
    records = {str(n): ConfigRecord({"frame": bytes([n])}) for n in range(9)}
    grid, runtime, message_id = _grid_over(RecordDict(records))
    (reply,) = grid.pull_messages([message_id])
    assert len(reply.content) == 0
    assert runtime.pulled == []
    assert len(runtime.confirmed) == 1


def test_grid_waits_for_a_slow_upload_without_asking_for_the_reply_again():
    """The SuperLink hands an envelope out once, so the grid keeps it until all is there."""
    grid, runtime, message_id = _grid_over(
        RecordDict({"homebody": ConfigRecord({"frame": b"whole"})})
    )
    runtime.missing = {list(runtime.objects)[-1]}
    assert grid.pull_messages([message_id]) == []
    assert grid.pull_messages([message_id]) == []
    assert runtime.confirmed == []
    runtime.missing = set()
    (reply,) = grid.pull_messages([message_id])
    assert reply.content["homebody"]["frame"] == b"whole"
    assert runtime.asked == [[message_id], [], []]
    assert len(runtime.confirmed) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"Message , 0\x00"])
def test_grid_hands_on_an_unreadable_reply_without_content(content):
    """Garbage becomes an empty reply to the right message, for the strategy to count."""
    grid, runtime, message_id = _grid_over(RecordDict({"homebody": ConfigRecord({"frame": b""})}))
    runtime.objects = dict.fromkeys(runtime.objects, content)
    (reply,) = grid.pull_messages([message_id])
    assert len(reply.content) == 0
    assert reply.metadata.reply_to_message_id == message_id


def test_grid_hands_on_an_object_that_is_no_message_without_content():
    """A lone record in a message's place is an empty reply too, not an exception."""
    record = ConfigRecord({"frame": b"x"})
    grid, runtime, message_id = _grid_over(RecordDict({"homebody": record}))
    runtime.tree = ObjectTree(object_id=record.object_id)
    (reply,) = grid.pull_messages([message_id])
    assert len(reply.content) == 0


# Starting, stopping, failing.


def test_port_that_is_taken_is_one_clear_error(tmp_path, site):
    """Both servers name the remedy, rather than wait for a child that cannot listen."""
    with (
        pytest.raises(PortInUseError, match="choose another one"),
        running_superlink(tmp_path, port=site.inner.port),
    ):
        pass
    with (
        pytest.raises(PortInUseError, match="choose another one"),
        running_gate(site.inner, directory=site.directory, port=site.gate.port),
    ):
        pass


def test_error_inside_the_block_stops_the_process_and_frees_the_port(tmp_path):
    """A round that fails leaves neither a process nor a port behind."""
    with (
        pytest.raises(RuntimeError, match="mine"),
        running_superlink(tmp_path) as inner,
        running_gate(inner, directory=tmp_path) as gate,
    ):
        raise RuntimeError("mine")
    assert wait_until_free(inner.port)
    assert wait_until_free(gate.port)
    with pytest.raises(ProcessLookupError):
        os.kill(inner.process_id, 0)


def test_superlink_that_cannot_start_is_one_clear_error(tmp_path):
    """The error points to the log, where the cause is."""
    (tmp_path / "superlink.db").mkdir()
    with (
        pytest.raises(SuperLinkError, match=r"did not start.*superlink\.log"),
        running_superlink(tmp_path),
    ):
        pass


def test_killed_parent_leaves_no_orphan(tmp_path):
    """Even SIGKILL, which runs no clean-up, takes the SuperLink down with the aggregator."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from aggregator.superlink.process import Endpoint, running_superlink
        with running_superlink(Path(sys.argv[1])) as endpoint:
            print(endpoint.port, flush=True)
            time.sleep(600)
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    port = int(parent.stdout.readline())
    assert not is_free(port)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until_free(port)


@pytest.mark.slow
def test_superlink_that_dies_during_the_round_voids_the_reservation(tmp_path, registry):
    """The round ends with an error and not a hang, and the budget comes back."""
    (device,) = make_devices(Behaviour.HONEST)
    ledger = RecordingLedger()
    with running_superlink(tmp_path) as inner, ControlRoom(inner) as room:
        node_id, connection = Site(inner, inner, room, tmp_path).enrol()
        connection.exchange(device.answer, timeout_s=0.0)

        def kill(*_):
            """Kill the SuperLink at the first sign of progress."""
            os.kill(inner.process_id, signal.SIGKILL)

        strategy = BoundedSumStrategy(
            signer=KEY,
            ledger=ledger,
            consents=registry,
            directory={node_id: device.public_key_hex},
            on_progress=kill,
        )
        with pytest.raises(SuperLinkError), room.open_run() as grid:
            strategy.start(grid, make_plan(open_s=30), node_ids=[node_id])
    assert ledger.calls[0] == "reserve"
    assert ledger.calls[1].startswith("void")


def test_state_survives_a_kill_and_the_node_need_not_enrol_again(tmp_path):
    """Registrations are on disk, so a crash of the server costs no visit to the devices."""
    private, public = generate_key_pairs()
    with running_superlink(tmp_path) as inner:
        with ControlRoom(inner) as room:
            room.register_node(public_key_to_bytes(public), name="test")
        os.kill(inner.process_id, signal.SIGKILL)
    with running_superlink(tmp_path) as inner:
        connection = SuperLinkConnection(
            address=inner.address,
            node_key_pem=private_key_to_bytes(private),
            root_certificates_pem=inner.root_certificates_pem,
        )
        assert connection.exchange(lambda frame: frame, timeout_s=0.0) == 0


def test_unauthenticated_pull_is_refused(site):
    """Knowing a node's number is not enough to read its messages."""
    node_id, _ = site.enrol()
    request = PullMessagesRequest(node=Node(node_id=node_id)).SerializeToString()
    with httpx.Client(verify=_trust(site)) as client:
        answer = client.post(
            f"https://{site.gate.address}/v1/fleet/pull-messages",
            content=request,
            headers={"content-type": "application/protobuf"},
        )
    assert answer.status_code in (401, 415)
