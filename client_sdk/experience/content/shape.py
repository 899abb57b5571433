"""What a file may hold, declared once: the reader and the JSON Schema both follow from it.

Rules a reader can check line by line:

1. A `Table` lists its keys; a key that it does not list is a mistake, with the nearest known ones.
2. `check` refuses what `json_schema` refuses, and the other way round.
3. Text has no control characters, and is bounded; lists and tables have at most `MAX_ENTRIES`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from client_sdk.experience.toml_file import Place, TomlFile

NAME: Final = "[a-z][a-z0-9_-]{0,63}"
DURATION: Final = "[1-9][0-9]{0,3} (second|minute|hour|day)s?"
MAX_TEXT_CHARS: Final = 1_000
MAX_ENTRIES: Final = 500
_LARGEST: Final = 1e15
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_CONTROL: Final = "\u0000-\u0008\u000b-\u001f\u007f"

KeyType = Literal[
    "text", "name", "names", "duration", "whole", "boolean", "scalar", "list", "named", "texts"
]
_SAID: Final[Mapping[str, str]] = {
    "text": "text",
    "name": "a name: a small letter, then small letters, digits, _ and -",
    "names": "a list of names",
    "texts": "a list of texts",
    "duration": 'a time such as "2 days" or "30 minutes"',
    "whole": "a whole number",
    "boolean": "true or false",
    "scalar": "text, a number, or true or false",
    "list": "a list of tables",
    "named": "tables by name",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """What one key may hold.

    Attributes:
        type: One of the words above.
        meaning: One sentence; it stands in the schema.
        required: Whether the key has to be there.
        one_of: The only values, where it is text or a name.
        minimum: The smallest whole number.
        maximum: The largest whole number.
        max_chars: The longest text.
        of: The table of each entry, for ``list`` and ``named``.
    """

    type: KeyType
    meaning: str
    required: bool = False
    one_of: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 1_000_000
    max_chars: int = MAX_TEXT_CHARS
    of: Table | None = None

    def sentence(self) -> str:
        """Say what is expected."""
        if self.one_of:
            return f"one of {list(self.one_of)}"
        if self.type == "whole":
            return f"a whole number from {self.minimum} to {self.maximum}"
        if self.type == "text":
            return f"text of 1 to {self.max_chars} characters"
        return _SAID[self.type]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The keys of one table.

    Attributes:
        keys: By name.
        exactly_one: Of these keys exactly one has to be there; empty for no such rule.
    """

    keys: Mapping[str, Key] = field(default_factory=dict)
    exactly_one: tuple[str, ...] = ()


def seconds(duration: str) -> float:
    """Read a duration that has the pattern.

    >>> seconds("2 days"), seconds("30 minutes")
    (172800.0, 1800.0)
    """
    number, unit = duration.split(" ")
    return int(number) * _SECONDS[unit.removesuffix("s")]


def check(file: TomlFile, table: Table) -> None:
    """Check a whole file.

    Raises:
        FileMistakeError: at the first place that is not as declared.
    """
    _check_table(file, file.tables, table, ())


def json_schema(table: Table) -> dict[str, Any]:
    """Give what `check` takes as a JSON Schema (draft 2020-12)."""
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"description": key.meaning, **_key_schema(key)}
            for name, key in table.keys.items()
        },
    }
    required = [name for name, key in table.keys.items() if key.required]
    if required:
        schema["required"] = required
    if table.exactly_one:
        schema["oneOf"] = [{"required": [name]} for name in table.exactly_one]
    return schema


def _key_schema(key: Key) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "pattern": f"^[^{_CONTROL}]*$"}
    name = {"type": "string", "pattern": f"^{NAME}$"}
    if key.one_of:
        return {"enum": list(key.one_of)}
    inner = json_schema(key.of) if key.of is not None else {}
    by_type: dict[KeyType, dict[str, Any]] = {
        "text": {**text, "maxLength": key.max_chars},
        "name": name,
        "names": {"type": "array", "items": name, "maxItems": MAX_ENTRIES, "uniqueItems": True},
        "texts": {
            "type": "array",
            "items": {**text, "maxLength": key.max_chars},
            "maxItems": MAX_ENTRIES,
            "uniqueItems": True,
        },
        "duration": {"type": "string", "pattern": f"^{DURATION}$"},
        "whole": {"type": "integer", "minimum": key.minimum, "maximum": key.maximum},
        "boolean": {"type": "boolean"},
        "scalar": {
            "type": ["string", "number", "boolean"],
            "maxLength": MAX_TEXT_CHARS,
            "minimum": -_LARGEST,
            "maximum": _LARGEST,
        },
        "list": {"type": "array", "items": inner, "maxItems": MAX_ENTRIES},
        "named": {
            "type": "object",
            "propertyNames": {"pattern": f"^{NAME}$"},
            "additionalProperties": inner,
            "maxProperties": MAX_ENTRIES,
        },
    }
    return by_type[key.type]


def _check_table(file: TomlFile, value: object, table: Table, at: Place) -> None:
    if not isinstance(value, Mapping):
        raise file.mistake(
            at, f"expected a table; got {_came(value)}: write it as [{_header(at)}] with keys"
        )
    for name in value:
        if name not in table.keys:
            near = difflib.get_close_matches(name, table.keys, n=1)
            remedy = f"write {near[0]!r}" if near else "remove it"
            raise file.mistake(
                (*at, name), f"expected one of {sorted(table.keys)}; got another key: {remedy}"
            )
    for name, key in table.keys.items():
        if name in value:
            _check_key(file, value[name], key, (*at, name))
        elif key.required:
            raise file.mistake((*at, name), f"expected {key.sentence()}; got none: add it")
    given = [name for name in table.exactly_one if name in value]
    if table.exactly_one and len(given) != 1:
        raise file.mistake(
            at,
            f"expected exactly one of {list(table.exactly_one)}; got {given or 'none'}: "
            f"{'keep one of them' if given else 'add one of them'}",
        )


def _check_key(file: TomlFile, value: object, key: Key, at: Place) -> None:
    if key.type in ("list", "names", "texts"):
        _check_list(file, value, key, at)
    elif key.type == "named":
        _check_named(file, value, key, at)
    elif (key.one_of and value not in key.one_of) or not _fits(value, key.type, key):
        raise file.mistake(at, f"{_expected(key)}; got {_came(value)}: correct it")


def _check_list(file: TomlFile, value: object, key: Key, at: Place) -> None:
    entries = _entries(file, value, key, at)
    for place, entry in enumerate(entries):
        if key.of is not None:
            _check_table(file, entry, key.of, (*at, place))
        elif not _fits(entry, "name" if key.type == "names" else "text", key):
            raise file.mistake((*at, place), f"{_expected(key)}; got {_came(entry)}: correct it")
    if key.type != "list" and len(set(entries)) != len(entries):
        raise file.mistake(at, "expected each entry once; got one twice: remove one")


def _check_named(file: TomlFile, value: object, key: Key, at: Place) -> None:
    if not isinstance(value, Mapping) or len(value) > MAX_ENTRIES:
        raise file.mistake(at, f"{_expected(key)}; got {_came(value)}: write [{_header(at)}.NAME]")
    for name, entry in value.items():
        if not re.fullmatch(NAME, name):
            raise file.mistake(
                (*at, name), f"expected {_SAID['name']}; got another name: rename it"
            )
        if key.of is not None:
            _check_table(file, entry, key.of, (*at, name))


def _entries(file: TomlFile, value: object, key: Key, at: Place) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise file.mistake(at, f"{_expected(key)}; got {_came(value)}: write it as a list")
    return value


def _fits(value: object, kind: str, key: Key) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "whole":
        return type(value) is int and key.minimum <= value <= key.maximum
    if isinstance(value, str):
        return _fits_text(value, kind, key)
    number = isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _LARGEST
    return kind == "scalar" and number


def _fits_text(value: str, kind: str, key: Key) -> bool:
    if kind == "scalar":
        return len(value) <= MAX_TEXT_CHARS
    if kind in ("name", "duration"):
        return re.fullmatch(NAME if kind == "name" else DURATION, value) is not None
    return 0 < len(value) <= key.max_chars and not re.search(f"[{_CONTROL}]", value)


def _expected(key: Key) -> str:
    return f"expected {key.sentence()}"


def _came(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value!r}"
    return {"dict": "a table", "list": "a list"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )


def _header(at: Place) -> str:
    return ".".join(str(part) for part in at if not isinstance(part, int))
