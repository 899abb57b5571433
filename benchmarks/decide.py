"""Latency of a decision on a device, beside its bare model call and the same over HTTP.

    python -m benchmarks.decide [--json FILE] [--calls N]

What is timed: `Decider.decide` with a policy of more than 20 rules, a history of 10,000 events in a
vault on disk: features read, guardrails, scores, exploration and the write to the log. The scorer
is a logistic model over person and action features. ``decide_100`` is for one of several places of
a screen: nothing happened since the last decision. ``after_event_100`` is for the first place after
the person did something: an event is stored before each decision, untimed.

Beside it, in the same run: the scorer alone on the same table; and a FastAPI service with a
scikit-learn logistic regression, in a process of its own on loopback, asked with one kept
connection. What the service does: it reads the person's and the actions' features from JSON, scores
the same 100 actions and returns the best. What it does not do, and the device does: guardrails,
caps, exploration, a reason, a log that survives a kill; nor is there a network, TLS or a feature
store. It is left out, and said to be, where scikit-learn or httpx is not installed.

The kinds take turns, a block of calls each, so that all of them see the same machine. The ratios
are of medians. More than the caps allow in a week is not decided: the clock goes on by 8 days, and
the decision after that is one of those that are timed.

``p99_us`` is of all calls. On a busy machine the slowest ones are those that lost the processor in
their middle, for milliseconds: ``kept_share`` says how many did not (the thread's count of
involuntary switches stayed), and ``p99_kept_us`` is of those. A wait for the disk is in both.

Events and decisions share the store's log, which is brought into the database after every 256
writes, when an event comes (untimed here), or by a decision where no event comes before 16 MiB.
``decide_100_alone`` is that other case, decision after decision with no event between them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from client_sdk import Homebody
from client_sdk.experience.action_table import ActionTable
from client_sdk.experience.actions import Action, Moment
from client_sdk.experience.decisions import Status
from client_sdk.experience.guardrails.policy import GuardrailPolicy
from client_sdk.experience.scoring import Scores
from client_sdk.signals.events import Event
from client_sdk.signals.features.columns import FloatArray
from client_sdk.signals.features.context import Context
from client_sdk.signals.features.standard import STANDARD
from client_sdk.testing import FixedClock, MemoryKeyStore
from client_sdk.wire import Catalogue, Item

SIZES: Final = (10, 100, 1_000)
EVENTS: Final = 10_000
ITEMS: Final = 3_000
FEATURES: Final = 16
WARM_UP: Final = 50
NOT_MEASURED: Final = 2
BLOCK: Final = 50
# Enough decisions to bring the log into the database, and to let old decisions go, several times.
ALONE: Final = 4_000
# Below the caps of the policy.
DECISIONS_A_WEEK: Final = 900
CHANNELS: Final = ("in-app", "web", "push", "email", "sms")
KINDS: Final = ("product_view", "product_view", "cart", "purchase", "search", "message_shown")

_CAPS: Final = "".join(
    f"[channels.{name}]\nopt_in = {str(name not in CHANNELS[:2]).lower()}\n"
    "per_session = 1000\nper_day = 1000\nper_week = 1000\n"
    for name in CHANNELS
)
POLICY: Final = f"""
version = 1
name = "benchmark"
fallback = ["a0"]
{_CAPS}
[quiet_hours]
from = "21:00"
to = "08:00"
[fatigue]
messages_7_days = 1000
dismissed_share = 0.9
[cool_down]
after_complaint_hours = 72
after_return_hours = 24
except_kinds = ["help"]
[bought]
within_days = 30
[offers]
active_days = 7
one_at_a_time = false
[sensitive]
topics = ["topic 1"]
[never]
topics = ["topic 2"]
[confidence]
minimum = 0.1
[exploration]
epsilon = 0.05
cap = 0.1
"""


class Call(NamedTuple):
    """One timed call: what it took, and whether it kept the processor until its end."""

    spent_us: float
    kept: bool


class LogisticScorer:
    """Value times a logistic model of the person's and the action's features."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._action = rng.standard_normal(FEATURES)
        self._person = rng.standard_normal(len(STANDARD)) * 0.01

    def score(self, actions: ActionTable, features: FloatArray) -> Scores:
        """Score every action."""
        logit = actions.features @ self._action + float(features @ self._person)
        # The logistic function without an overflow at either end.
        chance = 0.5 * np.tanh(0.5 * logit) + 0.5
        return Scores(expected=actions.values * chance, confidence=np.maximum(chance, 1 - chance))


class Device:
    """One person's store, and a decider over it, as an app makes them."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock()
        items = tuple(
            Item(item_id=f"i{row}", name=f"Item {row}", category=f"topic {row % 40}")
            for row in range(ITEMS)
        )
        self.home = Homebody.open(
            folder, catalogue=Catalogue(items=items), key_store=MemoryKeyStore(), clock=self.clock
        )
        self.home.consent.grant("personalise")
        self._rng = np.random.default_rng(0)
        now_s = self.clock.now_s()
        self.home.track_many(
            self._event(now_s - (EVENTS - place) * 300.0) for place in range(EVENTS)
        )
        self.scorer = LogisticScorer()
        self.decider = self.home.decider(GuardrailPolicy.from_toml(POLICY), scorer=self.scorer)

    def live(self) -> None:
        """Let five minutes pass, and the person do one thing."""
        self.clock.advance(300.0)
        self.home.track_many([self._event(self.clock.now_s())])

    def _event(self, time_s: float) -> Event:
        kind = KINDS[int(self._rng.integers(len(KINDS)))]
        return Event(kind=kind, time_s=time_s, item_id=f"i{int(self._rng.integers(ITEMS))}")


def actions_of(n: int) -> list[Action]:
    """Make n actions: most in the app, of 40 topics, with features."""
    rng = np.random.default_rng(n)
    return [
        Action(
            action_id=f"a{row}",
            kind=("content", "offer", "message")[row % 3],
            channel=CHANNELS[0] if row % 4 else CHANNELS[row // 4 % len(CHANNELS)],
            topic=f"topic {row % 40}",
            item_id=f"i{row * 7 % ITEMS}",
            tags=(f"tag-{row % 9}",),
            value=float(rng.random()),
            features=tuple(rng.standard_normal(FEATURES).tolist()),
        )
        for row in range(n)
    ]


class Questions:
    """Asks a device what to do, and keeps it from reaching its caps.

    Args:
        device: The one that is asked.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._moment = Moment(name="home", session="s", context=Context(utc_offset_s=3_600))
        self.asked = self.chosen = 0

    def ask(self, actions: Sequence[Action], *, lives: bool) -> float:
        """Decide once, after an event or without; give the time that it took, in µs."""
        device = self._device
        if self.asked % DECISIONS_A_WEEK == 0:
            device.clock.advance(8 * 86_400.0)
        if lives:
            device.live()
        started = time.perf_counter_ns()
        decision = device.decider.decide(self._moment, actions)
        spent_us = (time.perf_counter_ns() - started) / 1_000
        self.asked += 1
        self.chosen += decision.status is Status.CHOSEN
        return spent_us


def measure(calls: int) -> dict[str, Any]:
    """Time decisions of each size, the bare model, and HTTP where it can be had, in turns."""
    found: dict[str, Any] = {"rules": len(GuardrailPolicy.from_toml(POLICY).rules)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        device = Device(Path(folder) / "vault")
        stack.callback(device.home.close)
        questions = Questions(device)
        kinds: dict[str, Callable[[], float]] = {}
        for size in SIZES:
            actions = actions_of(size)
            kinds[f"decide_{size}"] = partial(questions.ask, actions, lives=False)
            kinds[f"after_event_{size}"] = partial(questions.ask, actions, lives=True)
        table, features = ActionTable(actions_of(100)), device.home.features().values
        kinds["model"] = _timed(lambda: device.scorer.score(table, features))
        if find_spec("sklearn") is not None and find_spec("httpx") is not None:
            kinds["http"] = _timed(stack.enter_context(_over_http(table, features)))
        for name, calls_of in _in_turns(kinds, calls).items():
            found[name] = _percentiles(calls_of)
        found["decide_100_alone"] = _percentiles(
            [_observed(kinds["decide_100"]) for _ in range(max(calls, ALONE))]
        )
        found["chosen_share"] = round(questions.chosen / questions.asked, 3)
        p50_us = found["decide_100"]["p50_us"]
        found["model_ratio"] = round(p50_us / found["model"]["p50_us"], 1)
        found["same"] = all(
            device.decider.why(decision.decision_id).same
            for decision in device.decider.decisions()[-100:]
        )
        found.setdefault("http", None)
        found["http_ratio"] = found["http"] and round(found["http"]["p50_us"] / p50_us, 1)
    return found


def _in_turns(kinds: Mapping[str, Callable[[], float]], calls: int) -> dict[str, list[Call]]:
    times: dict[str, list[Call]] = {name: [] for name in kinds}
    for call in kinds.values():
        for _ in range(WARM_UP):
            call()
    while len(times["model"]) < calls:
        for name, call in kinds.items():
            call()  # what another kind left in the caches is nobody's cost
            left = calls - len(times[name])
            times[name] += [_observed(call) for _ in range(min(BLOCK, left))]
    return times


def _observed(call: Callable[[], float]) -> Call:
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    spent_us = call()
    kept = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == switches
    return Call(spent_us=spent_us, kept=kept)


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def spent_us() -> float:
        started = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - started) / 1_000

    return spent_us


def _percentiles(calls: Sequence[Call]) -> dict[str, float | None]:
    p50, p99 = np.percentile([call.spent_us for call in calls], [50, 99])
    kept = [call.spent_us for call in calls if call.kept]
    return {
        "p50_us": round(float(p50), 1),
        "p99_us": round(float(p99), 1),
        "p99_kept_us": round(float(np.percentile(kept, 99)), 1) if kept else None,
        "kept_share": round(len(kept) / len(calls), 3),
    }


@contextlib.contextmanager
def _over_http(table: ActionTable, features: FloatArray) -> Iterator[Callable[[], object]]:
    import httpx

    question = {
        "person": features.tolist(),
        "actions": [
            {"id": action.action_id, "value": action.value, "features": list(action.features)}
            for action in table.actions
        ],
    }
    with _service() as url, httpx.Client(base_url=url, trust_env=False) as client:

        def ask() -> object:
            answer = client.post("/decide", json=question)
            answer.raise_for_status()
            return answer.json()["action"]

        yield ask


@contextlib.contextmanager
def _service() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.decide", "--serve", str(port)]
    with subprocess.Popen(command) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise RuntimeError("the service did not start: see its error above")
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def serve(port: int) -> None:
    """Serve the peer: a logistic regression that scores what is posted."""
    import uvicorn
    from fastapi import FastAPI
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    rows = rng.standard_normal((2_000, FEATURES + len(STANDARD)))
    model = LogisticRegression().fit(rows, rows[:, 0] + rng.standard_normal(2_000) > 0)
    app = FastAPI()

    @app.post("/decide")
    def decide(question: dict[str, Any]) -> dict[str, Any]:
        person = question["person"]
        asked = question["actions"]
        inputs = np.array([[*action["features"], *person] for action in asked])
        chances = model.predict_proba(inputs)[:, 1]
        values = np.array([action["value"] for action in asked])
        best = int(np.argmax(chances * values))
        return {"action": asked[best]["id"], "confidence": float(chances[best])}

    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, ws="none")


def _rank() -> dict[str, Any] | None:
    if find_spec("tensorflow") is None:
        return None
    from aggregator.publishing import export_checked_graph
    from benchmarks.rank import RANK
    from benchmarks.rank import measure as measure_rank

    return measure_rank(50_000, export_checked_graph(RANK).data)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--calls", type=int, default=2_000, help="timed calls of each kind")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.calls < 1:
        print("--calls: expected 1 or more; got less", file=sys.stderr)
        return NOT_MEASURED
    if options.serve is not None:
        serve(options.serve)
        return 0
    found = measure(options.calls)
    found["rank_50000"] = _rank()
    names = [f"{what}_{size}" for what in ("decide", "after_event") for size in SIZES]
    for name in (*names, "decide_100_alone"):
        row = found[name]
        kept = "none" if row["p99_kept_us"] is None else f"{row['p99_kept_us']:.0f} µs"
        print(
            f"{name:<16} p50 {row['p50_us']:>8.0f} µs   p99 {row['p99_us']:>8.0f} µs   "
            f"of the {row['kept_share']:.1%} that kept the processor {kept:>10}"
        )
    print(f"rules {found['rules']}, chosen {found['chosen_share']:.0%}, replayed {found['same']}")
    print(f"model_ratio {found['model_ratio']} (bare model: {found['model']['p50_us']:.0f} µs)")
    if found["http"] is None:
        print("http_ratio: not measured, scikit-learn or httpx is not installed")
    else:
        print(f"http_ratio {found['http_ratio']} (over HTTP: {found['http']['p50_us']:.0f} µs)")
    if found["rank_50000"] is None:
        print("rank_50000: not measured, TensorFlow is not installed")
    else:
        print(f"rank_50000 {found['rank_50000']['ratio_p50']} x numpy")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
