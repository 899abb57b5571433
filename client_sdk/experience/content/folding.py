"""Folding: a text as a reader would hear it, so that no disguise hides a word from a rule.

Rules a reader can check line by line:

1. `disguised` refuses what an honest text does not need: invisible and control characters, letters
   of several scripts in one word, letters and digits that only look like plain ones. Scripts that
   need combining marks are refused with them: there the template speaks.
2. `folded` is small letters without accents, typographic quotes made plain, spaces single.
3. `readings` adds the ways in which a word can be spelled to slip through: spaced out letters put
   together, digits and signs read as the letters that they look like.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_PLAIN: Final = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2011\u00a0", "''\"\"--- ")
_LOOKS: Final = str.maketrans("0134578@$!|", "oieastbasil")
_SPACED: Final = re.compile(r"\b(?:\w[\s._*\-]+){2,}\w\b")
_INSIDE: Final = re.compile(r"(?<=[a-z])[._*\-\u00b7](?=[a-z])")
# Control, format, private, unassigned, half a pair, line and paragraph, combining.
_HIDDEN: Final = frozenset(("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp", "Mn", "Me"))
_SCRIPTS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC", "HEBREW")


def disguised(text: str) -> bool:
    r"""Say whether a text hides what it says.

    >>> disguised("guar\u0430nteed"), disguised("guar\u200banteed"), disguised("Café crème")
    (True, True, False)
    """
    for char in unicodedata.normalize("NFC", text.replace("\n", " ")):
        category = unicodedata.category(char)
        if category in _HIDDEN or (char.isdigit() and not char.isascii()):
            return True
        # Mathematical, full-width, circled and superscript letters and digits, and others alike.
        if char.isalnum() and unicodedata.normalize("NFKC", char) != char:
            return True
        if category == "So" and "LETTER" in unicodedata.name(char, ""):
            return True
    return any(len(_scripts(word)) > 1 for word in re.findall(r"[^\W\d_]+", text))


def folded(text: str) -> str:
    r"""Give small letters without accents, and single spaces.

    >>> folded("Crème  brûlée\u2019s"), folded("ONE\nTWO")
    ("creme brulee's", 'one two')
    """
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN)).casefold()
    bare = "".join(char for char in plain if not unicodedata.combining(char))
    return " ".join(bare.split())


def readings(text: str) -> tuple[str, ...]:
    """Give the ways in which a text could be read: as it stands, and undisguised.

    >>> "guaranteed" in readings("g u a r a n t e e d")[1]
    True
    >>> "guaranteed" in readings("gu4r4nt33d")[2]
    True
    """
    plain = folded(text)
    joined = _INSIDE.sub("", _SPACED.sub(lambda match: re.sub(r"[\W_]", "", match[0]), plain))
    looked = " ".join(
        word.translate(_LOOKS) if re.search("[a-z]", word) else word for word in joined.split()
    )
    return plain, joined, looked


def _scripts(word: str) -> set[str]:
    names = (unicodedata.name(char, "").split(" ")[0] for char in word)
    return {name for name in names if name in _SCRIPTS}
