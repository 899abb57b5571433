"""Every task of the kernel engine beside 500 real devices; and proof that the check would notice.

Each mutant is the kernel with one expression changed: a sign, a clip, a negative. The parity check,
which finds nothing wrong with the kernel, has to find each of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.publishing import export_checked_graph
from client_sdk.wire import Order, TaskKind
from simulations.engines.encoders import KernelOptions
from simulations.kernel.compiled import SOURCE
from tests.simulations.engines.encoder_town import (
    BATCH,
    PEOPLE,
    RANK,
    Asked,
    People,
    differences,
    open_town,
    orders,
    people_of_town,
)

TASKS = tuple(kind.value for kind in TaskKind)
REFUSED = (
    "outcomes of an unknown experiment",
    "arms that are too few",
    "a survey of what nobody tells",
    "weights that are not finite",
    "units that no device has",
    "a table that is none",
)
BOUNDED_BY_MAKING = ("experiment-outcomes", "survey", "model-evaluation")
BY_ENTRIES = tuple(task for task in TASKS if task != "item-training")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One expression of the kernel, what stands there instead, and the tasks that it spoils."""

    old: str
    new: str
    tasks: tuple[str, ...]
    by_rows: bool = False


MUTANTS = {
    "the sign of an entry": Mutant(
        old="out->sum[places[at]] += (int32_t)(values[at] * scale)",
        new="out->sum[places[at]] -= (int32_t)(values[at] * scale)",
        tasks=BY_ENTRIES,
    ),
    "the sign of a row": Mutant(
        old="row[j] += (int32_t)(along[slot] * scaled[j])",
        new="row[j] -= (int32_t)(along[slot] * scaled[j])",
        tasks=("item-training",),
    ),
    "the sign of a step": Mutant(
        old="along[slot] -= change", new="along[slot] += change",
        tasks=("item-training",),
    ),
    "the sign of a step by rows": Mutant(
        old="row[j] -= rate * (error * u[j])", new="row[j] += rate * (error * u[j])",
        tasks=("item-training",), by_rows=True,
    ),
    "the sign of the private vector": Mutant(
        old="u[j] = (float)found[j]", new="u[j] = -(float)found[j]",
        tasks=("item-training", "model-evaluation"),
    ),
    "the sign of the projection": Mutant(
        old="memory[j] += x * row[j]", new="memory[j] -= x * row[j]", tasks=("model-evaluation",)
    ),
    "no clip": Mutant(
        old="norm > out->clip_norm ? norm : out->clip_norm", new="out->clip_norm",
        tasks=(
            "item-counts", "item-statistics", "item-training", "bandit-statistics",
            "propensity-training",
        ),
    ),
    "a clip a thousandth too tight": Mutant(
        old="out->keep * STEPS", new="0.999 * out->keep * STEPS", tasks=TASKS
    ),
    "one negative": Mutant(
        old="ranks[at] = (uint32_t)(product >> 32)",
        new="ranks[at] = ((uint32_t)(product >> 32) + !at) % left",
        tasks=("item-training",),
    ),
    "one negative too few": Mutant(
        old="left ? positives * task->negatives : 0",
        new="left ? positives * task->negatives - 1 : 0",
        tasks=("item-training",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel with all mutants in it, of which its variable `mutant` chooses one; 0 is none."""
    text = SOURCE.read_text(encoding="utf-8")
    for number, mutant in enumerate(MUTANTS.values(), start=1):
        assert text.count(mutant.old) == 1, mutant.old
        chosen = f"(mutant == {number} ? ({mutant.new}) : ({mutant.old}))"
        text = text.replace(mutant.old, chosen)
    source = tmp_path_factory.mktemp("mutants") / "mutants.c"
    source.write_text(f"int mutant = 0;\n{text}", encoding="utf-8")
    return source


@pytest.fixture(scope="module")
def people() -> People:
    """Who they are, and what they hold."""
    return people_of_town()


@pytest.fixture(scope="module")
def asked_of_all(people: People) -> Iterator[tuple[Mapping[str, Asked], tuple[str, ...]]]:
    """Every task once, on real devices; and their keys."""
    with open_town(people, export_checked_graph(RANK, batch=BATCH)) as town:
        yield {name: town.ask(order) for name, order in orders(people).items()}, town.names


@pytest.mark.parametrize("task", [*TASKS, *REFUSED])
def test_kernel_every_task_equals_the_devices(
    task: str, people: People, asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]]
) -> None:
    """Accepted, refusals, each person's clipped contribution and the sum are the devices'."""
    found, names = asked_of_all
    assert list(differences(found[task], people, names, options=KernelOptions())) == []


def test_kernel_by_rows_equals_the_devices(
    people: People, asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]]
) -> None:
    """So does the general kernel of item training."""
    found, names = asked_of_all
    options = KernelOptions(by_rows=True)
    assert list(differences(found["item-training"], people, names, options=options)) == []


def test_devices_gave_every_kind_of_answer(
    asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]],
) -> None:
    """The comparison means something: most people contribute, and every refusal is met."""
    found = asked_of_all[0]
    for task in TASKS:
        assert len(found[task].contributors) == len(found[task].vectors) > PEOPLE // 3
        assert {"no-answer", "no-consent"} <= set(found[task].refusals)
    assert all(found[task].total is None for task in REFUSED)
    reasons = {task: set(asked.refusals) for task, asked in found.items()}
    assert "unknown-task" in reasons["bandit-statistics"]
    assert "unknown-task" in reasons["a survey of what nobody tells"]
    assert {"unknown-task", "too-little-data"} <= reasons["units that no device has"]
    assert "out-of-bounds-order" in reasons["weights that are not finite"]
    assert {"too-little-data", "out-of-bounds-order"} <= reasons["experiment-outcomes"]
    assert {"too-little-data", "out-of-bounds-order"} <= reasons["a table that is none"]
    assert "out-of-bounds-order" in reasons["arms that are too few"]
    for task in ("item-counts", "item-training", "bandit-statistics", "propensity-training"):
        clip = found[task].order.clip_norm
        norms = np.array([vector.norm() for vector in found[task].vectors.values()])
        assert np.count_nonzero(norms > 0.999 * clip) > PEOPLE // 20, "some are clipped"
    evaluated = found["model-evaluation"].vectors.values()
    assert len({tuple(each.values.tolist()) for each in evaluated}) > PEOPLE // 20, "some are found"


@pytest.mark.parametrize("name", MUTANTS)
def test_parity_check_a_mutated_kernel_is_noticed(
    name: str,
    mutants: Path,
    people: People,
    asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]],
) -> None:
    """One sign, one clip or one negative differs: the check fails for each task it is part of."""
    mutant, (found, names) = MUTANTS[name], asked_of_all
    options = KernelOptions(by_rows=mutant.by_rows, source=mutants)
    chosen = ctypes.c_int.in_dll(options.compiled, "mutant")
    for task in mutant.tasks:
        chosen.value = 1 + list(MUTANTS).index(name)
        assert next(differences(found[task], people, names, options=options), None), task
        chosen.value = 0


@pytest.mark.parametrize("task", ["item-counts", "item-training", "model-evaluation"])
def test_parity_check_the_same_library_without_its_mutants_passes(
    task: str,
    mutants: Path,
    people: People,
    asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]],
) -> None:
    """It was the mutant that was noticed, and not the other library."""
    found, names = asked_of_all
    options = KernelOptions(source=mutants)
    whole = differences(found[task], people, names, options=options, each_person=False)
    assert list(whole) == []


@pytest.mark.parametrize("task", BOUNDED_BY_MAKING)
def test_parity_check_vectors_made_for_another_clip_are_noticed(
    task: str,
    people: People,
    asked_of_all: tuple[Mapping[str, Asked], tuple[str, ...]],
) -> None:
    """What is bounded by its making, and not by the kernel's clip: a thousandth is too much."""
    found, names = asked_of_all
    order: Order = found[task].order
    other = replace(order, clip_norm=order.clip_norm * 1.001)
    options = KernelOptions()
    assert next(differences(found[task], people, names, options=options, order=other), None)
