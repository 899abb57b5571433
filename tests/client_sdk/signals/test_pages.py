"""Pages: their coding, their bounds, and a vault that does all it can beside a plain list."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from client_sdk import Event
from client_sdk.signals import Vault
from client_sdk.signals.pages import PAGE_BYTES, PAGE_EVENTS, decode_page, encode_pages
from client_sdk.testing import MemoryKeyStore

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(["search", "screen", "support"]),
    time_s=st.floats(0, 1e10),
    event_id=TEXT.filter(bool),
    item_id=st.none() | TEXT.filter(bool),
    quantity=st.none() | st.floats(0.1, 1e9),
    price=st.none() | st.floats(0, 1e12),
    user_id=TEXT,
    device=TEXT,
    properties=st.dictionaries(TEXT.filter(bool), TEXT | st.booleans() | st.none(), max_size=4),
)


@given(events=st.lists(EVENTS, max_size=20))
def test_page_decoded_is_what_was_encoded(events: list[Event]) -> None:
    """Every event comes back, in order, field by field."""
    decoded = [event for _, page in encode_pages(events) for event in decode_page(page)]
    assert decoded == events
    assert [event.to_json() for event in decoded] == [event.to_json() for event in events]


def test_page_is_bounded_in_events_and_in_bytes() -> None:
    """The longest events that there can be are cut into pages that fit, none lost."""
    longest = [
        Event(
            kind="search",
            time_s=0.0,
            event_id=str(number),
            properties={f"{name:064}": "茶" * 256 for name in range(32)},
        )
        for number in range(200)
    ]
    pages = list(encode_pages(longest))
    assert all(len(page) <= PAGE_BYTES for _, page in pages)
    assert [event for _, page in pages for event in decode_page(page)] == longest
    assert sum(n_events for n_events, _ in pages) == 200
    short = [Event(kind="screen", time_s=0.0)] * (PAGE_EVENTS + 1)
    assert [n_events for n_events, _ in encode_pages(short)] == [PAGE_EVENTS, 1]


def test_page_with_a_single_long_event_is_a_page(tmp_path: Path) -> None:
    """Long events stay in pages of their own, and merging leaves them there."""
    events = [
        Event(
            kind="search",
            time_s=0.0,
            event_id=str(number),
            properties={f"{name:064}": "\x00" * 256 for name in range(32)},
        )
        for number in range(20)
    ]
    vault = Vault.open(tmp_path, MemoryKeyStore())
    for event in events:
        vault.append([event])
    assert vault.compact() > 0
    assert vault.compact() == 0
    assert [event for _, event in vault.events()] == events
    assert len({page for page, _ in vault.events()}) > 1
    vault.close()


@given(value=st.recursive(st.none() | st.integers() | TEXT, st.lists))
def test_page_of_other_json_is_a_value_error(value: object) -> None:
    """Whatever a sealed page holds, the answer is events or `ValueError`."""
    try:
        decode_page(json.dumps(value).encode())
    except ValueError:
        return
    assert isinstance(value, list)


class VaultBesideAList(RuleBasedStateMachine):
    """Every order of appends, removals, merges, rotations and reopenings, beside a plain list."""

    @initialize()
    def begin(self) -> None:
        """Open a new vault."""
        self.folder = Path(tempfile.mkdtemp())
        self.keys = MemoryKeyStore()
        self.vault = Vault.open(self.folder / "vault", self.keys)
        self.ids: list[int] = []
        self.known_page = 0
        self.known_count = 0

    @rule(first=st.integers(0, 900), count=st.sampled_from([0, 1, 1, 2, 15, 16, 17, 40, 600]))
    def append(self, first: int, count: int) -> None:
        """Add some, some of which are there already, and some twice in one call."""
        batch = [*range(first, first + count), *range(first, first + count, 7)]
        new = list(dict.fromkeys(number for number in batch if number not in self.ids))
        stored = self.vault.append(
            [Event(kind="screen", time_s=0.0, event_id=str(number)) for number in batch]
        )
        assert [n for n, is_new in zip(batch, stored, strict=True) if is_new] == new
        self.ids += new

    @rule(divisor=st.integers(1, 5), rest=st.integers(0, 4))
    def remove(self, divisor: int, rest: int) -> None:
        """Remove some, all or none; what a reader knew is known anew, as the rule is."""
        kept = [number for number in self.ids if number % divisor != rest]
        gone = self.vault.remove(lambda event: int(event.event_id) % divisor != rest)
        assert gone == len(self.ids) - len(kept)
        self.ids = kept
        self.look()

    @rule()
    def look(self) -> None:
        """Note how far a reader came."""
        self.known_page, self.known_count = self.vault.last_page, len(self.ids)

    @rule()
    def compact(self) -> None:
        """Merge."""
        self.vault.compact()

    @rule()
    def rotate(self) -> None:
        """Rotate the keys."""
        self.vault.rotate_keys()
        assert len(self.keys._secrets) == 1

    @rule()
    def reopen(self) -> None:
        """Close and open."""
        self.vault.close()
        self.vault = Vault.open(self.folder / "vault", self.keys)

    @invariant()
    def is_the_same(self) -> None:
        """The vault has what the list has, in order, and knows what came after the last look."""
        found = [int(event.event_id) for _, event in self.vault.events()]
        assert found == self.ids
        assert self.vault.count == len(self.ids)
        later = [int(event.event_id) for _, event in self.vault.events(self.known_page)]
        assert later == self.ids[self.known_count :]
        assert self.vault.check() == []

    def teardown(self) -> None:
        """Leave nothing."""
        if hasattr(self, "vault"):
            self.vault.close()
            shutil.rmtree(self.folder)


TestVaultBesideAList = VaultBesideAList.TestCase
TestVaultBesideAList.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_decode_page_of_no_json_is_a_value_error() -> None:
    """Bytes that are no page raise what the vault expects."""
    with pytest.raises(ValueError, match=r"."):
        decode_page(b"[[")
