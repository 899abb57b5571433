"""Claims that no text may make: each a name and a pattern, to be read and extended.

Rules a reader can check line by line:

1. A pattern is searched in folded text: small letters, no accents, single spaces (`folding`).
2. The lists are broad on purpose. A harmless text that is refused costs a template; a promise that
   slips through costs trust, or breaks the law.
3. No list is complete: a text that has to be right is written and approved by a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One kind of claim.

    Attributes:
        name: What it is, for the log.
        pattern: A regular expression over folded text.

    Raises:
        ValueError: the pattern is none.
    """

    name: str
    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern of {self.name}: expected a regular expression") from error

    def found(self, folded: str) -> bool:
        """Say whether a folded text makes the claim.

        >>> GUARANTEE.found("your approval is guaranteed")
        True
        """
        return re.search(self.pattern, folded) is not None


def _words(*words: str) -> str:
    return rf"\b(?:{'|'.join(words)})\b"


GUARANTEE: Final = Claim(
    name="guarantee",
    pattern=_words(
        r"guarantee\w*", r"warrant(?:y|ied|ed)", r"promis\w+", r"assur(?:e|es|ed|ance)\b",
        r"certain(?:ly|ty)?", r"definitely", r"no doubt", r"risk[ -]?free", r"no[ -]risks?",
        r"without (?:any )?risks?", r"zero[ -]risk", r"can ?not lose", r"can'?t lose", r"cant lose",
        r"never lose", r"fail[ -]?safe", r"fool ?proof", r"always wins?",
        r"you (?:will|'ll) (?:win|profit|earn|gain)",
    ),
)  # fmt: skip
FINANCIAL_PROMISES: Final = (
    GUARANTEE,
    Claim(
        name="approval",
        pattern=_words(
            r"pre[ -]?approv\w+", r"instant(?:ly)? approv\w+",
            r"approval (?:is )?(?:sure|instant|automatic)",
            r"(?:you|we) will (?:be )?(?:approved?|accept(?:ed)?)",
            r"you(?:'re| are) (?:already )?approved",
            r"everyone (?:is|gets) (?:approved|accepted)", r"no credit check", r"nobody is refused",
        ),
    ),
    Claim(
        name="return on money",
        pattern=_words(
            r"(?:high(?:er)?|best|double|triple|top|sure|safe|steady|strong) "
            r"(?:returns?|yields?|profits?|interest|gains?)",
            r"profits?", r"returns? of", r"earn (?:up to|at least|more|money)",
            r"make (?:you )?(?:money|rich|a fortune)",
            r"get rich", r"grow your (?:money|wealth|savings)",
            r"beat (?:the )?(?:market|inflation)",
            r"(?:double|triple|multiply) your \w+", r"passive income", r"outperform\w*",
            r"safe(?:st)? investments?",
            r"(?:best|lowest) (?:rate|rates|price|deal)s?",
            r"save (?:thousands|hundreds|a fortune)",
        ),
    ),
    Claim(
        name="financial advice",
        pattern=_words(
            r"you should (?:invest|buy|sell|borrow|switch)", r"we (?:recommend|advise)",
            r"invest now",
            r"borrow now", r"free money", r"tax[ -]free", r"debt[ -]free",
        ),
    ),
)  # fmt: skip
MEDICAL_CLAIMS: Final = (
    Claim(
        name="cure",
        pattern=_words(
            r"cur(?:e|es|ed|ing)", r"heals?", r"healing", r"treats?", r"treatment",
            r"remed(?:y|ies)", r"therap\w+",
            r"prevents? \w+", r"relieves?", r"reliev(?:ed|ing)", r"detox\w*",
            r"anti[ -]?(?:ageing|aging|inflammatory|viral|bacterial)",
            r"boosts? (?:your )?(?:immun\w+|metabolism|testosterone)",
            r"lowers? (?:your )?(?:blood pressure|cholesterol)",
            r"reverses? \w+", r"los(?:e|ing) weight", r"weight[ -]loss", r"burns? fat", r"slimming",
        ),
    ),
    Claim(
        name="medical proof",
        pattern=_words(
            r"clinically", r"scientifically proven", r"proven to",
            r"doctors? (?:recommend\w*|approved?|agree)",
            r"dermatologist\w*", r"medical(?:ly)?", r"diagnos\w+", r"side[ -]effects?",
            r"miracle\w*",
            r"(?:fda|ema|nhs)[ -]?(?:approved|cleared)",
        ),
    ),
)  # fmt: skip
PRESSURE: Final = (
    Claim(
        name="pressure",
        pattern=_words(
            r"last chance", r"act (?:now|fast)", r"hurry", r"only \w+ left",
            r"before it(?:'?s| is) (?:too late|gone)",
            r"do(?:n'?t| not) miss", r"everyone (?:is|else)", r"you(?:'ll| will) regret",
            r"final (?:call|warning|notice)",
            r"ends (?:soon|tonight|today)", r"limited time", r"immediately or", r"or (?:else|lose)",
        ),
    ),
)  # fmt: skip
OFFERS: Final = Claim(
    name="offer",
    pattern=_words(
        r"free", r"gratis", r"complimentary", r"discount\w*", r"sale", r"deal", r"deals",
        r"voucher\w*",
        r"coupon\w*", r"cash ?back", r"refund\w*", r"bonus\w*", r"gift\w*", r"reduced",
        r"cheaper", r"cheapest",
        r"lowest", r"best price", r"(?:half|double) \w+", r"twice", r"in stock", r"sold out",
        r"next[ -]day",
    ),
)  # fmt: skip
"""What is true only where the brief says so; a text that has one needs it in the brief."""

BANNED: Final = (*FINANCIAL_PROMISES, *MEDICAL_CLAIMS, *PRESSURE)
