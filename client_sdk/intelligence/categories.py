"""The category of every item, as numbers, so that a category costs one gather for the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from client_sdk.intelligence.history import IndexArray, WeightArray
from client_sdk.wire.table import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemCategories:
    """One category an item.

    Attributes:
        codes: intp[n] (numpy gathers fastest by it), the category number of each item.
        names: the category of each number; the empty name means "no category".
        sizes: float32[g], the number of items of each category, >= 1.

    Example:
        >>> ItemCategories.from_names(["tea", "", "tea"]).sizes.tolist()
        [1.0, 2.0]
    """

    codes: npt.NDArray[np.intp]
    names: tuple[str, ...]
    sizes: FloatArray

    def __post_init__(self) -> None:
        """Check that every code has a name and a size."""
        groups = len(self.names)
        if self.codes.dtype != np.intp or self.codes.ndim != 1:
            raise ValueError("codes must be intp[n]; use ItemCategories.from_names")
        if len(self.codes) and (self.codes.min() < 0 or self.codes.max() >= groups):
            raise ValueError(f"codes must be from 0 to {groups - 1}")
        if self.sizes.shape != (groups,) or bool(np.any(self.sizes < 1)):
            raise ValueError("sizes must hold one number >= 1 for each category")

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ItemCategories:
        """Number the categories of a catalogue, given one name an item ("" for none)."""
        unique = sorted(set(names))
        number = {name: code for code, name in enumerate(unique)}
        codes = np.array([number[name] for name in names], np.intp)
        sizes = np.bincount(codes, minlength=len(unique)).astype(np.float32)
        return cls(codes=codes, names=tuple(unique), sizes=sizes)

    def extended(self, names: Sequence[str]) -> ItemCategories:
        """Give these items and, after them, items of these categories.

        A category that was there keeps its number and its size, so that nothing changes for the
        items before them.

        Example:
            >>> more = ItemCategories.from_names(["tea", "cup"]).extended(["tea", "mug"])
            >>> more.names, more.codes.tolist(), more.sizes.tolist()
            (('cup', 'tea', 'mug'), [1, 0, 1, 2], [1.0, 1.0, 1.0])
        """
        number = {name: code for code, name in enumerate(self.names)}
        new = sorted(set(names) - number.keys())
        number |= {name: code for code, name in enumerate(new, start=len(self.names))}
        codes = np.array([number[name] for name in names], np.intp)
        counts = np.bincount(codes, minlength=len(number))[len(self.names) :]
        return ItemCategories(
            codes=np.concatenate([self.codes, codes]),
            names=(*self.names, *new),
            sizes=np.concatenate([self.sizes, counts.astype(np.float32)]),
        )

    @cached_property
    def _nameless(self) -> int | None:
        """The number of "no category"; None where every item has one."""
        return self.names.index("") if "" in self.names else None

    def affinity(self, items: IndexArray, weights: WeightArray, size_power: float) -> FloatArray:
        """Say how much a person leans to each category.

        Args:
            items: int32[m], the person's items.
            weights: float[m] >= 0, what each counts.
            size_power: 0 gives the share of the weight, 1 the share per item of the category.

        Returns:
            float32[g], in [0, 1], summing to at most 1; 0 for items without a category.
        """
        total = np.bincount(self.codes[items], weights, len(self.names)).astype(np.float64)
        if self._nameless is not None:
            total[self._nameless] = 0.0
        total /= self.sizes**size_power
        if (top := total.sum()) > 0:
            total /= top
        share: FloatArray = total.astype(np.float32)
        return share
