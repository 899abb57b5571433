"""Policy files: what is written can be read, signed, and not be changed unnoticed."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_sdk.wire import TaskKind
from privacy.accounting import epsilon_exact
from privacy.errors import PolicyFormatError
from privacy.events import MechanismName
from privacy.factorisation import Factorisation, FactorisationName
from privacy.gaussian import noise_multiplier_for
from privacy.plan_request import Request
from privacy.planner import plans_for
from privacy.policy import Policy, Signature, SignOff, read_policy

SIGMA = noise_multiplier_for(epsilon=2.0, delta=1e-6)
BLT = Factorisation(
    name=FactorisationName.BLT,
    rounds=500,
    min_separation=50,
    max_participations=10,
    decays=(0.9637, 0.34897),
    weights=(0.34366, 0.17547),
)


def policy(**changes: Any) -> Policy:
    """A run of 500 rounds at ε 2."""
    values: dict[str, Any] = {
        "population": "shop",
        "people": 100_000,
        "report_goal": 1_000,
        "rounds": 500,
        "task": TaskKind.ITEM_TRAINING,
        "epsilon": 2.0,
        "delta": 1e-6,
        "mechanism": MechanismName.BLT,
        "noise_multiplier": SIGMA,
        "factorisation": BLT,
    }
    return Policy(**{**values, **changes})


ONE_ROUND = {"rounds": 1, "mechanism": MechanismName.GAUSSIAN, "factorisation": None}


class TestRoundTrip:
    """To a file and back."""

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            ONE_ROUND,
            {**ONE_ROUND, "sampling_probability": 0.01},
            {"sign_off": SignOff(planned_by="A", approved_by="B", approved_on="2026-11-22")},
            {"window": "2026-Q4"},
            {"clip_norm": 0.25},
            {"signature": Signature(key="k", valid_until="2027-01-01", signature="s")},
        ],
    )
    def test_policy_that_was_written_is_read_as_it_was(self, changes: dict[str, Any]) -> None:
        """Every bit of every number."""
        written = policy(**changes)
        read = read_policy(written.to_toml().encode())
        assert read == written
        assert read.digest == written.digest

    @given(population=st.text(min_size=1))
    def test_policy_survives_any_name(self, population: str) -> None:
        """Quotes, line breaks, control characters; what UTF-8 cannot hold isn't written."""
        written = policy(**ONE_ROUND, population=population)
        try:
            data = written.to_toml().encode()
        except UnicodeEncodeError:
            return
        assert read_policy(data) == written

    def test_every_plan_of_a_request_makes_a_policy(self) -> None:
        """What the planner offers can be signed."""
        request = Request(
            population=2_000, report_goal=100, rounds=20, epsilon=2.0, delta=1e-6, poisson=True
        )
        for plan in plans_for(request):
            made = policy(
                people=request.population,
                report_goal=plan.report_goal,
                rounds=plan.rounds,
                task=plan.task,
                mechanism=plan.mechanism,
                noise_multiplier=plan.noise_multiplier,
                factorisation=plan.factorisation,
                sampling_probability=plan.sampling_probability,
            )
            assert read_policy(made.to_toml().encode()) == made

    def test_sign_off_does_not_change_what_was_signed(self) -> None:
        """The digest is of the terms; who signed is beside it."""
        signed = policy(sign_off=SignOff(approved_by="B", approved_on="2026-11-22"))
        assert signed.digest == policy().digest
        assert (signed.approved, policy().approved) == (True, False)
        assert policy(epsilon=2.1).digest != policy().digest

    def test_clip_norm_is_part_of_what_was_planned(self) -> None:
        """It costs nothing, but a device sends by it; a file without one means 1, as before."""
        assert policy(clip_norm=0.5).digest != policy().digest
        assert policy(clip_norm=0.5).sensitivity == policy().sensitivity
        assert policy(clip_norm=0.5).event().noise_std == policy().event().noise_std / 2
        before = re.sub("(?m)^clip_norm.*\n", "", policy().to_toml())
        assert read_policy(before.encode()) == policy()

    @pytest.mark.parametrize("table", ["[signature]", '[signature]\nkey = "k"'])
    def test_half_a_signature_is_refused(self, table: str) -> None:
        """A table that lacks a key is no signature, and no absence of one."""
        with pytest.raises(PolicyFormatError, match=r"is missing in \[signature\]"):
            read_policy(f"{policy().to_toml()}\n{table}\n".encode())

    def test_event_of_a_policy_costs_at_most_its_budget(self) -> None:
        """As the ledger prices it, at any clip norm."""
        event = policy().event(clip_norm=0.3, dimension=32_000)
        spent = epsilon_exact([event], 1e-6)
        assert spent is not None
        assert spent <= 2.0
        assert event.sensitivity == pytest.approx(0.3 * BLT.sensitivity())


class TestRefused:
    """A file in which something was changed."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"noise_multiplier": SIGMA * (1 - 1e-6)},
            {"noise_multiplier": math.nan},
            {"rounds": 499},
            {"report_goal": 0},
            {"report_goal": 100_001},
            {"epsilon": 0.0},
            {"delta": 1.0},
            {"population": ""},
            {"mechanism": MechanismName.TREE},
        ],
    )
    def test_policy_that_cannot_be_is_not_made(self, changes: dict[str, Any]) -> None:
        """Too little noise for its ε, or a run that is none."""
        with pytest.raises(ValueError, match=r"."):
            policy(**changes)

    @pytest.mark.parametrize(
        ("old", "new", "key", "words"),
        [
            ("epsilon = 2.0", "epsilon = 1.9", "noise_multiplier", "too small"),
            ("epsilon = 2.0", "epsilon = 3.0", "digest", "plan again"),
            ("people = 100000", "people = 200000", "digest", "plan again"),
            ("people = 100000", 'people = "many"', "people", "must be int"),
            ("people = 100000", "people = true", "people", "must be int"),
            ("report_goal = 1000", "report_goal = 0", "report_goal", "from 1 to"),
            ("rounds = 500", "rounds = 400", "sensitivity", "follows from the rest"),
            ("rounds = 500", "rounds = 0", "rounds", "at least 1"),
            ("epsilon = 2.0", "epsilon = nan", "epsilon", "above 0"),
            ('task = "item-training"', 'task = "mind-reading"', "task", "known are"),
            ('name = "blt"', 'name = "bit"', "name", "known are"),
            ('strategy = "blt"', 'strategy = "elm"', "strategy", "known are"),
            ("min_separation = 50", "min_separation = 5", "sensitivity", "follows"),
            ("version = 1 ", "version = 2 ", "version", "expected version 1"),
            ('adjacency = "add-or', 'adjacency = "replace-or', "adjacency", "another claim"),
            ("window =", "windows =", "[policy]", "window is missing"),
            ('planned_by = ""', 'planned_by = ""\nplaned_by = ""', "planed_by", "unknown key"),
            ('planned_by = ""', "planned_by = 7", "planned_by", "must be str"),
            ("decays = [0.9637,", 'decays = ["x",', "decays", "decays must be"),
            ("decays = [0.9637,", "decays = [1.9637,", "decays", "between 0 and 1"),
            ("\n[sign_off]", "\n[signoff]", "[signoff]", "unknown table"),
        ],
    )
    def test_file_that_was_changed_is_refused_at_its_line(
        self, old: str, new: str, key: str, words: str
    ) -> None:
        """So that who edits finds the place."""
        text = policy().to_toml()
        assert text.count(old) == 1
        changed = text.replace(old, new)
        line = next(
            number
            for number, each in enumerate(changed.splitlines(), 1)
            if each.startswith((f"{key} =", key + "]", key) if key[0] == "[" else f"{key} =")
        )
        with pytest.raises(PolicyFormatError, match=re.escape(words)) as caught:
            read_policy(changed.encode())
        assert str(caught.value).startswith(f"line {line}: ")

    @pytest.mark.parametrize("table", ["policy", "mechanism", "sign_off"])
    def test_file_without_a_table_is_refused(self, table: str) -> None:
        """Nothing is taken for granted."""
        parts = re.split(r"(?m)^(?=\[)", policy().to_toml())
        kept = "".join(part for part in parts if not part.startswith(f"[{table}]"))
        with pytest.raises(PolicyFormatError, match=rf"line \d+: table \[{table}\] is missing"):
            read_policy(kept.encode())

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            (b"[policy]\nversion = \n", 2),
            (b"[policy]\n\nversion = 1\nversion = 1\n", 4),
            (b"# \xff", 1),
            (b"a = 1\n\xfe", 2),
            (b"[policy", 1),
            (b"", 1),
            (b"policy = 3", 1),
            (b"a = " + b"[" * 5_000, 1),
            (b"#" * 1_000_001, None),
        ],
    )
    def test_bytes_that_are_no_policy_are_refused(self, data: bytes, line: int | None) -> None:
        """Whatever they are."""
        with pytest.raises(PolicyFormatError) as caught:
            read_policy(data)
        assert line is None or str(caught.value).startswith(f"line {line}: ")

    @given(data=st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        """Never another error."""
        with pytest.raises(PolicyFormatError):
            read_policy(data)

    @given(at=st.integers(0, 1_900), by=st.integers(1, 255))
    def test_policy_with_one_byte_changed_is_refused_or_says_the_same(
        self, at: int, by: int
    ) -> None:
        """Outside comments and the sign-off no byte can be changed alone."""
        data = bytearray(policy().to_toml().encode())
        at %= len(data)
        data[at] = (data[at] + by) % 256
        try:
            read = read_policy(bytes(data))
        except PolicyFormatError:
            return
        assert read.digest == policy().digest
        assert read.event() == policy().event()
