"""The policy of features: what is sensitive or protected becomes a feature by name only.

Rules a reader can check line by line:

1. An empty policy, and a missing file, allow nothing that is sensitive or protected.
2. The sensitivity of a declared feature is at least what the word lists say of its name, of the
   property it reads, and of the kinds that the app made up; a lower one is refused, not corrected.
3. What is not ordinary needs its own name in the policy. A class of features can't be allowed.
4. The file is read strictly: one table ``[allow]`` with ``features``, ``reason`` and
   ``approved_by``; the error names the file, the key and what to do.

An example::

    [allow]
    features = ["age_group", "sensitive:health"]
    reason = "Asked for by the person in the settings; decision record 12."
    approved_by = "privacy@example.org"
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client_sdk.signals.features.definitions import SENSITIVITIES, FeatureDefinition, Sensitivity
from client_sdk.signals.features.protected import sensitivity_of

_KEYS: Final = ("features", "reason", "approved_by")


@dataclass(frozen=True, kw_only=True)
class FeaturePolicy:
    """Which names a responsible person allowed, and why.

    Attributes:
        features: Names of features, and of item tags such as ``"sensitive:health"``.
        reason: Why they are allowed; needed as soon as there is a name.
        approved_by: Who allowed them; needed as soon as there is a name.

    Raises:
        ValueError: a name is empty or there twice, or the reason or who approved it is missing.

    >>> FeaturePolicy().allows("age_group")
    False
    """

    features: tuple[str, ...] = ()
    reason: str = ""
    approved_by: str = ""

    def __post_init__(self) -> None:
        if any(not name.strip() for name in self.features):
            raise ValueError("features: expected names; got an empty one")
        if len(set(self.features)) != len(self.features):
            raise ValueError("features: expected each name once; got one twice")
        if self.features and not (self.reason.strip() and self.approved_by.strip()):
            raise ValueError("expected a reason and approved_by for what is allowed; got none")

    def allows(self, name: str) -> bool:
        """Say whether a name is allowed."""
        return name in self.features

    def check(self, definition: FeatureDefinition, *, reads: Sequence[str]) -> None:
        """Refuse a feature that is not declared honestly, or not allowed.

        Args:
            definition: The feature.
            reads: The names of what it reads: properties, and kinds of the app's own.

        Raises:
            ValueError: its sensitivity is too low, or the policy does not name it.
        """
        name, declared = definition.name, definition.sensitivity
        levels: list[Sensitivity] = [sensitivity_of(text) for text in (name, *reads)]
        least = max(levels, key=SENSITIVITIES.index)
        if SENSITIVITIES.index(declared) < SENSITIVITIES.index(least):
            raise ValueError(
                f"feature {name!r}: expected the sensitivity {least!r}; got {declared!r}: declare "
                "it, and allow it by name in the policy file, or read another property"
            )
        if declared != "ordinary" and not self.allows(name):
            raise ValueError(
                f"feature {name!r} is {declared}: expected its name in the policy file under "
                "[allow] features, with a reason; got none"
            )

    @classmethod
    def read(cls, path: Path) -> FeaturePolicy:
        """Read a policy file; a missing one allows nothing.

        Raises:
            ValueError: the file is not as promised; the message names the file and the key.
        """
        try:
            value = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path.name}: expected TOML; correct the file") from error
        try:
            return cls._from_toml(value)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error

    @classmethod
    def _from_toml(cls, value: dict[str, object]) -> FeaturePolicy:
        if not value:
            return cls()
        if set(value) != {"allow"} or not isinstance(value["allow"], dict):
            raise ValueError("expected one table [allow]; remove what is beside it")
        allow = value["allow"]
        unknown = sorted(set(allow) - set(_KEYS))
        if unknown:
            raise ValueError(f"[allow] {unknown[0]}: expected only {', '.join(_KEYS)}; remove it")
        names = allow.get("features", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError('[allow] features: expected a list of names such as ["age_group"]')
        texts = {key: allow.get(key, "") for key in ("reason", "approved_by")}
        for key, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"[allow] {key}: expected text; write it in quotes")  # noqa: TRY004 - every refusal of a policy is a ValueError
            if names and not text.strip():
                raise ValueError(f"[allow] {key}: expected text for what is allowed; add it")
        return cls(features=tuple(names), **texts)
