"""A merge and an erasure that are cut off anywhere: kill -9 at every line, a clock that fails."""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from client_sdk.experience.preferences import Preferences
from client_sdk.household import Household
from client_sdk.keys import FileKeyStore
from client_sdk.testing import FixedClock, MemoryKeyStore
from tests.client_sdk.test_household import ADA, buy, event_ids, stores, with_account

KILLED_IN = ("household.py", "profile_stores.py")


class FailingClock(FixedClock):
    """A clock that fails at one of its next calls."""

    calls_left: int | None = None

    def now_s(self) -> float:
        """Fail, or tell the time."""
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise OSError("the clock is out of order")
        return super().now_s()


@pytest.mark.parametrize("meanwhile", ["nothing", "withdrawal", "pause"])
def test_merge_that_fails_is_tried_again_by_the_next_change(tmp_path: Path, meanwhile: str) -> None:
    """Wherever it fails nobody is lost, and it is finished first.

    A withdrawal that came between counts; a pause takes no yes back, so nothing is lost for it.
    """
    left_out = []
    for calls in itertools.count():
        clock, path = FailingClock(), tmp_path / f"at-{calls}"
        with Household.open(path, key_store=MemoryKeyStore(), clock=clock) as household:
            account = with_account(household, "e1", "e2")
            buy(household.current, "e2", "e3")
            household.current.preferences.more("tea")
            clock.calls_left = calls
            try:
                household.sign_in(ADA)
                break
            except OSError:
                clock.calls_left = None
            if household._roster.intent is None:
                continue
            assert event_ids(household.current) == ["e2", "e3"]
            if meanwhile == "withdrawal":
                household.current.consent.withdraw("personalise")
            elif meanwhile == "pause":
                household.current.preferences.pause(for_s=60)
            household.add("Kim")
            assert household.profile.profile_id == account
            (merge,) = household.merges()
            left_out.append(merge.left_out)
            assert merge.copied + merge.left_out == merge.duplicates == 1
            assert event_ids(household.current) == ["e1", "e2", "e3"][: 2 + merge.copied]
            assert stores(path) == {account}
            if merge.left_out:
                assert household.current.preferences.current() == Preferences()
                assert "taken back" in merge.reason
    assert sorted(set(left_out)) == ([0, 1] if meanwhile == "withdrawal" else [0])


def dies(path: Path, keys: Path, line: int, act: Callable[[Household], object]) -> bool:
    """Act in a process of its own that is killed before its n-th line; False if it got through."""
    child = os.fork()
    if child == 0:
        household = Household.open(path, key_store=FileKeyStore(keys), clock=FixedClock())
        lines = itertools.count(1)

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if not frame.f_code.co_filename.endswith(KILLED_IN) and frame.f_code.co_name != "erase":
                return None
            if event == "line" and next(lines) == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        act(household)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def lives_of(base: Path, act: Callable[[Household], object]) -> Iterator[tuple[Path, Path]]:
    """Kill an act at each of its lines; gives a household and its keys as each death left them."""
    for line in itertools.count(1):
        path = base.with_name(f"{base.name}-{line}")
        keys = path.with_name(f"{path.name}.keys")
        shutil.copytree(base, path)
        shutil.copytree(base.with_name(f"{base.name}.keys"), keys)
        died = dies(path, keys, line, act)
        yield path, keys
        shutil.rmtree(path)
        shutil.rmtree(keys)
        if not died:
            return


def test_merge_killed_at_any_line_is_not_begun_or_finished(tmp_path: Path) -> None:
    """Kill -9 before each line of the merge: afterwards there is one of two states, never a third.

    Either the person is not signed in and everything is where it was, or the merge is whole: the
    counts right, the anonymous store and its key gone. Signing in again ends in the second state.
    """
    base = tmp_path / "base"
    with Household.open(base, clock=FixedClock()) as household:
        account = with_account(household, "e1", "e2")
        buy(household.current, "e2", "e3")
        household.current.preferences.less("oats")
        anonymous = household.profile.profile_id
    seen: dict[bool, int] = {True: 0, False: 0}
    for path, keys in lives_of(base, lambda household: household.sign_in(ADA)):
        with Household.open(path, key_store=FileKeyStore(keys), clock=FixedClock()) as household:
            merged = not household.profile.anonymous
            seen[merged] += 1
            if not merged:
                assert event_ids(household.current) == ["e2", "e3"]
                assert stores(path) == {account, anonymous}
                assert household.merges() == []
                household.sign_in(ADA)
            assert event_ids(household.current) == ["e1", "e2", "e3"]
            assert stores(path) == {account}
            assert [(merge.copied, merge.duplicates) for merge in household.merges()] == [(1, 1)]
            assert household.current.preferences.current().less == {"oats"}
            assert sum(file.is_file() for file in keys.iterdir()) == 2
    assert min(seen.values()) > 10


@pytest.mark.parametrize("act", ["sign_out", "remove", "erase"])
def test_act_killed_at_any_line_leaves_no_store_that_nobody_knows(tmp_path: Path, act: str) -> None:
    """Whatever was going on, each store on disk is somebody's, and who is left has everything."""
    base = tmp_path / "base"
    with Household.open(base, clock=FixedClock()) as household:
        account = household.sign_in(ADA).profile.profile_id
        buy(household.current, "e1")
    acts: dict[str, Callable[[Household], object]] = {
        "sign_out": lambda household: household.sign_out(),
        "remove": lambda household: household.remove(account),
        "erase": lambda household: household.erase(),
    }
    outcomes = set()
    for path, keys in lives_of(base, acts[act]):
        with Household.open(path, key_store=FileKeyStore(keys), clock=FixedClock()) as household:
            known = {profile.profile_id for profile in household.profiles()}
            assert stores(path) == known
            outcomes.add((household.profile.anonymous, account in known))
            if account in known:
                household.switch(account)
                assert event_ids(household.current) == ["e1"]
    assert outcomes == {(False, True), (True, act == "sign_out")}
