"""A policy file: the plan that somebody signs, and the campaign then keeps to.

Guarantee: a `Policy` that was read costs at most its ε at its δ (by the exact Gaussian curve, or
PLD for sampled rounds): reading re-derives every number that follows from others, and refuses a
file in which one of them was changed alone. It says nothing of who approved it: whoever can write
the file can write a consistent one. That is what the signature is for, and nothing here verifies it
(`privacy.signed_policy` does; a campaign takes nothing less).

Neighbouring relation: `privacy.events.ADJACENCY`; it stands in the file.

The file is TOML of three tables, ``[policy]``, ``[mechanism]``, ``[sign_off]``, and ``[signature]``
once it was signed; `to_toml` writes it with a comment for every number.

Edge cases:

| file | outcome |
|---|---|
| no TOML, a missing or unknown table or key, a wrong type | `PolicyFormatError`, with the line |
| a noise multiplier too small for its ε | `PolicyFormatError` with the line |
| a sensitivity or digest that doesn't follow from the rest | `PolicyFormatError` with the line |
| an empty ``approved_by`` | a valid policy that nobody approved: `Policy.approved` is False |
| more than 1 MB | `PolicyFormatError` |

Test: tests/privacy/test_policy.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from client_sdk.wire import TaskKind, canonical_json
from privacy.accounting import fits
from privacy.clipping import MAX_CLIP_NORM
from privacy.errors import PolicyFormatError
from privacy.events import ADJACENCY, ALL_TIME, TRUSTED, MechanismName, ReleaseEvent
from privacy.factorisation import Factorisation, FactorisationName

POLICY_VERSION: Final = 1
MAX_BYTES: Final = 1_000_000
# Sampled rounds were planned by PLD, at whose precision they are checked.
_PLD_SLACK: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class SignOff:
    """Who planned and who approved; empty where nobody did yet."""

    planned_by: str = ""
    approved_by: str = ""
    approved_on: str = ""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What ``homebody privacy sign`` wrote: unverified, as everything that was only read.

    Attributes:
        key: Ed25519 public key, 64 hexadecimal digits.
        valid_until: Last day on which the policy holds, ``YYYY-MM-DD``, UTC.
        signature: 128 hexadecimal digits.
    """

    key: str
    valid_until: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One approved, or not yet approved, way to spend a budget.

    Attributes:
        population: Name of the people who share the budget.
        people: N.
        report_goal: M.
        rounds: T.
        task: What is asked.
        epsilon: The budget.
        delta: Its δ.
        mechanism: How it is released.
        noise_multiplier: Deviation of the white noise over the sensitivity of the whole release.
        factorisation: How the rounds' noise hangs together; None for one round.
        sampling_probability: Only with Poisson sampling.
        window: The ledger's budget window.
        clip_norm: Largest norm of one contribution; it scales the noise, and costs nothing.
        sign_off: Who stands for it.
        signature: Of all of the above, unverified; None where nobody signed.
    """

    population: str
    people: int
    report_goal: int
    rounds: int
    task: TaskKind
    epsilon: float
    delta: float
    mechanism: MechanismName
    noise_multiplier: float
    factorisation: Factorisation | None = None
    sampling_probability: float | None = None
    window: str = ALL_TIME
    clip_norm: float = 1.0
    sign_off: SignOff = field(default_factory=SignOff)
    signature: Signature | None = None

    def __post_init__(self) -> None:
        if not self.rounds == (1 if self.factorisation is None else self.factorisation.rounds):
            raise ValueError("rounds are those of the factorisation, or 1 without one")
        if not 1 <= self.report_goal <= self.people:
            raise ValueError("report_goal must be from 1 to the number of people")
        if not (math.isfinite(self.epsilon) and self.epsilon > 0.0 and 0.0 < self.delta < 1.0):
            raise ValueError("epsilon must be above 0 and delta strictly between 0 and 1")
        if not 0.0 < self.clip_norm <= MAX_CLIP_NORM:
            raise ValueError(f"clip_norm must be above 0 and at most {MAX_CLIP_NORM:g}")
        slack = 1.0 if self.sampling_probability is None else 1.0 + _PLD_SLACK
        if not fits([self.event()], epsilon=self.epsilon * slack, delta=self.delta):
            raise ValueError(
                f"noise_multiplier {self.noise_multiplier:g} is too small for epsilon "
                f"{self.epsilon:g} at delta {self.delta:g}"
            )

    def event(
        self, *, task_id: str = "0" * 32, clip_norm: float | None = None, dimension: int = 1
    ) -> ReleaseEvent:
        """Describe the release that the policy allows; by default with the policy's clip norm."""
        return ReleaseEvent(
            kind=self.task,
            task_id=task_id,
            population=self.population,
            mechanism=self.mechanism,
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm if clip_norm is None else clip_norm,
            dimension=dimension,
            report_goal=self.report_goal,
            factorisation=self.factorisation,
            sampling_probability=self.sampling_probability,
            window=self.window,
        )

    @property
    def approved(self) -> bool:
        """Whether somebody put a name under it."""
        return bool(self.sign_off.approved_by and self.sign_off.approved_on)

    @property
    def sensitivity(self) -> float:
        """Of the whole release, in clip norms."""
        return self.event(clip_norm=1.0).sensitivity

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the sign-off and the signature: what was planned."""
        event = json.loads(self.event().to_json())
        terms = {"people": self.people, "epsilon": self.epsilon, "delta": self.delta}
        return hashlib.sha256(
            canonical_json({"policy": POLICY_VERSION, "event": event, **terms})
        ).hexdigest()

    def to_toml(self) -> str:
        """Write the file, with a comment for every number."""
        event = self.event()
        run = self.factorisation
        policy = [
            ("version", POLICY_VERSION, "of this file's form"),
            ("population", self.population, "the people who share the budget"),
            ("people", self.people, "how many they are"),
            ("task", self.task.value, f"consent asked for: {event.purpose.value}"),
            ("report_goal", self.report_goal, "people in each round; the fixed denominator"),
            ("rounds", self.rounds, "releases, all of them paid by the one price below"),
            ("epsilon", self.epsilon, "what all of it may cost"),
            ("delta", self.delta, ""),
            ("window", self.window, "budget window of the ledger"),
            ("adjacency", ADJACENCY, "neighbours that epsilon is about"),
            ("trusted", TRUSTED, ""),
            ("digest", self.digest, "SHA-256 of what was planned"),
        ]
        mechanism: list[tuple[str, Any, str]] = [
            ("name", self.mechanism.value, ""),
            ("noise_multiplier", self.noise_multiplier, "noise deviation / sensitivity"),
            ("sensitivity", self.sensitivity, "of the whole release, in clip norms"),
            ("clip_norm", self.clip_norm, "largest norm of one contribution"),
        ]
        if run is not None:
            mechanism += [
                ("strategy", run.name.value, "how the noise of the rounds hangs together"),
                ("min_separation", run.min_separation, "rounds between two reports of one device"),
                ("max_participations", run.max_participations, "reports of one device in the run"),
                ("coefficients", list(run.coefficients), ""),
                ("decays", list(run.decays), ""),
                ("weights", list(run.weights), ""),
            ]
        if self.sampling_probability is not None:
            mechanism.append(("sampling_probability", self.sampling_probability, event.assumes[0]))
        signed = [(each.name, getattr(self.sign_off, each.name), "") for each in fields(SignOff)]
        tables = {"policy": policy, "mechanism": mechanism, "sign_off": signed}
        if self.signature is not None:
            values = vars(self.signature)
            tables["signature"] = [(name, values[name], "") for name in _KEYS["signature"]]
        head = "# A privacy policy of Homebody: read it, then homebody privacy sign or check it.\n"
        return head + "".join(_table(name, rows) for name, rows in tables.items())


def read_policy(data: bytes) -> Policy:
    """Read what `Policy.to_toml` wrote, perhaps signed since.

    Raises:
        PolicyFormatError: anything else; the message names the line.
    """
    if len(data) > MAX_BYTES:
        raise PolicyFormatError(f"a policy has at most {MAX_BYTES:,} bytes; got {len(data):,}")
    try:
        text = data.decode("utf-8")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyFormatError(f"line {line}: not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        reason = re.sub(r"\s*\(at .*\)", "", str(error))
        raise PolicyFormatError(f"line {line}: {reason}") from error
    return _Reader(text=text, values=values).policy()


_ANY_NUMBER: Final = (float, int)
_KEYS: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "policy": {
        "version": (int,),
        "population": (str,),
        "people": (int,),
        "task": (str,),
        "report_goal": (int,),
        "rounds": (int,),
        "epsilon": _ANY_NUMBER,
        "delta": _ANY_NUMBER,
        "window": (str,),
        "adjacency": (str,),
        "trusted": (str,),
        "digest": (str,),
    },
    "mechanism": {
        "name": (str,),
        "noise_multiplier": _ANY_NUMBER,
        "sensitivity": _ANY_NUMBER,
    },
    "sign_off": {each.name: (str,) for each in fields(SignOff)},
    "signature": {each.name: (str,) for each in fields(Signature)},
}
_OPTIONAL: Final[Mapping[str, tuple[type, ...]]] = {
    "strategy": (str,),
    "min_separation": (int,),
    "max_participations": (int,),
    "coefficients": (list,),
    "decays": (list,),
    "weights": (list,),
    "sampling_probability": _ANY_NUMBER,
    "clip_norm": _ANY_NUMBER,
}
_RUN_KEYS: Final = frozenset(_OPTIONAL) - {"sampling_probability", "clip_norm"}


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """The text, for the lines, and the values."""

    text: str
    values: Mapping[str, Any]

    def policy(self) -> Policy:
        """Check every key, then what follows from them."""
        for name in self.values:
            if name not in _KEYS:
                raise self._wrong(name, "", f"unknown table or key {name!r}")
        for name, keys in _KEYS.items():
            if name != "signature" or name in self.values:
                self._check_table(name, keys)
        policy, mechanism = self.values["policy"], self.values["mechanism"]
        if policy["version"] != POLICY_VERSION:
            raise self._wrong("policy", "version", f"expected version {POLICY_VERSION}")
        if (policy["adjacency"], policy["trusted"]) != (ADJACENCY, TRUSTED):
            raise self._wrong("policy", "adjacency", "this version accounts for another claim")
        made = self._made(policy, mechanism)
        told = mechanism["sensitivity"]
        if not math.isclose(told, made.sensitivity, rel_tol=1e-9):
            expected = f"{made.sensitivity!r} follows from the rest"
            raise self._wrong("mechanism", "sensitivity", f"got {told!r}; {expected}")
        if policy["digest"] != made.digest:
            raise self._wrong(
                "policy", "digest", "something was changed after it was planned; plan again"
            )
        return made

    def _made(self, policy: Mapping[str, Any], mechanism: Mapping[str, Any]) -> Policy:
        task = self._one_of("policy", "task", TaskKind)
        name = self._one_of("mechanism", "name", MechanismName)
        run = None
        if _RUN_KEYS & set(mechanism):
            missing = _RUN_KEYS - set(mechanism)
            if missing:
                raise self._wrong("mechanism", "", f"{', '.join(sorted(missing))} missing")
            strategy = self._one_of("mechanism", "strategy", FactorisationName)
            run = self._checked(
                "mechanism",
                "strategy",
                lambda: Factorisation.from_values(
                    {
                        **{key: mechanism[key] for key in _RUN_KEYS - {"strategy"}},
                        "name": strategy.value,
                        "rounds": policy["rounds"],
                    }
                ),
            )
        signed = self.values.get("signature")
        keys = ("population", "people", "report_goal", "rounds", "epsilon", "delta", "window")
        made: Policy = self._checked(
            "mechanism",
            "noise_multiplier",
            lambda: Policy(
                **{key: policy[key] for key in keys},
                task=task,
                mechanism=name,
                noise_multiplier=mechanism["noise_multiplier"],
                factorisation=run,
                sampling_probability=mechanism.get("sampling_probability"),
                # Absent in files of before there was a choice.
                clip_norm=mechanism.get("clip_norm", 1.0),
                sign_off=SignOff(**self.values["sign_off"]),
                signature=None if signed is None else Signature(**signed),
            ),
        )
        return made

    def _check_table(self, name: str, keys: Mapping[str, tuple[type, ...]]) -> None:
        table = self.values.get(name)
        if not isinstance(table, dict):
            raise self._wrong(name, "", f"table [{name}] is missing")
        known = {**keys, **(_OPTIONAL if name == "mechanism" else {})}
        for key in keys:
            if key not in table:
                raise self._wrong(name, "", f"{key} is missing in [{name}]")
        for key, value in table.items():
            if key not in known:
                raise self._wrong(name, key, f"unknown key {key!r} in [{name}]")
            if type(value) not in known[key]:
                expected = "a number" if known[key] == _ANY_NUMBER else known[key][0].__name__
                raise self._wrong(name, key, f"{key} must be {expected}; got {value!r}")

    def _one_of(self, table: str, key: str, kind: Any) -> Any:
        value = self.values[table][key]
        try:
            return kind(value)
        except ValueError as error:
            known = ", ".join(each.value for each in kind)
            problem = f"{key} {value!r} is unknown; known are {known}"
            raise self._wrong(table, key, problem) from error

    def _checked(self, table: str, key: str, make: Any) -> Any:
        try:
            return make()
        except (ValueError, TypeError, OverflowError) as error:
            named = re.match(r"\w+", str(error))
            word = named[0] if named else key
            at = next((t for t in _KEYS if word in self.values.get(t, {})), None)
            raise self._wrong(at or table, word if at else key, str(error)) from error

    def _wrong(self, table: str, key: str, problem: str) -> PolicyFormatError:
        return PolicyFormatError(f"line {self._line(table, key)}: {problem}")

    def _line(self, table: str, key: str) -> int:
        """Find where a key of a table stands, or the table, or the last line."""
        inside, at_table = False, 0
        for number, line in enumerate(self.text.splitlines(), 1):
            stripped = line.strip()
            if stripped.startswith("["):
                inside = stripped.strip("[] ") == table
                at_table = number if inside else at_table
            plain = re.match(r'"?([\w-]+)"?\s*=', stripped)
            if plain and plain[1] == (key or table) and (inside or not key):
                return number
        return at_table or max(1, self.text.count("\n"))


def _table(name: str, rows: list[tuple[str, Any, str]]) -> str:
    lines = []
    for key, value, comment in rows:
        # JSON's strings, numbers and lists of numbers are TOML's too.
        said = json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
        lines.append(f"{key} = {said}" + (f"  # {comment}" if comment else ""))
    return f"\n[{name}]\n" + "\n".join(lines) + "\n"
