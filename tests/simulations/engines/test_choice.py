"""Which engine runs, and what is said where the one that was asked for cannot."""

from __future__ import annotations

import pytest

from simulations.engines.choice import choose_engine, clock_for
from simulations.kernel.compiled import KernelUnavailableError
from simulations.settings import ENGINES, EngineName, SettingsError


def no_compiler() -> None:
    """Be a machine without a compiler."""
    raise KernelUnavailableError("the kernel engine needs a C compiler")


def compiler() -> None:
    """Be a machine with one."""


@pytest.mark.parametrize("asked", ENGINES)
def test_choose_engine_asked_for_is_taken(asked: EngineName) -> None:
    """Whoever names an engine gets it, and the result says that it was their wish."""
    choice = choose_engine(asked, people=10, compiled=compiler)
    assert (choice.name, choice.why) == (asked, "as asked")


def test_choose_engine_unasked_takes_the_kernel_where_it_compiles() -> None:
    """Fast where possible, real devices elsewhere, and always with the reason."""
    assert choose_engine(None, people=10, compiled=compiler).name == "kernel"
    without = choose_engine(None, people=10, compiled=no_compiler)
    assert without.name == "devices"
    assert "needs a C compiler" in without.why


@pytest.mark.parametrize(("asked", "have_events"), [("kernel", True), (None, False)])
def test_choose_engine_kernel_without_compiler_is_refused(
    asked: EngineName | None, have_events: bool
) -> None:
    """Asked for, or the only way for synthetic people: one error with the cure."""
    with pytest.raises(SettingsError, match="needs a C compiler"):
        choose_engine(asked, people=10, have_events=have_events, compiled=no_compiler)


def test_choose_engine_devices_ask_for_no_compiler() -> None:
    """They are the way out where there is none."""
    assert choose_engine("devices", people=10, compiled=no_compiler).name == "devices"


def test_clock_for_a_network_runs_and_for_the_others_stands() -> None:
    """Time-outs need time to pass; everything else is repeatable because it does not."""
    assert clock_for("kernel", now_s=50.0).now_s() == 50.0
    clock = clock_for("superlink", now_s=50.0)
    first, second = clock.now_s(), clock.now_s()
    assert 50.0 <= first <= second < 60.0
