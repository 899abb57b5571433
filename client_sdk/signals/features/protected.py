"""The closed word lists: which attributes are protected or sensitive, and how names are matched.

Rules a reader can check line by line:

1. *Protected* is what European law names: the special categories of GDPR Art. 9(1), criminal
   convictions (Art. 10), the grounds of the Charter of Fundamental Rights Art. 21, and the
   directives 2000/43/EC (racial or ethnic origin), 2000/78/EC (religion or belief, disability, age,
   sexual orientation), 2004/113/EC and 2006/54/EC (sex, with pregnancy and gender reassignment).
2. *Sensitive* is what identifies, locates or prices a person: contact, exact place, money, numbers.
3. A name is split into words at ``_``, at anything that is no letter or digit, before a capital and
   at digits, and case folded. A term matches where its words follow each other, or are written as
   one; the last may have an ``s``. So ``userGender`` and ``age_group`` match, and ``usage``,
   ``page`` or ``message`` do not.
4. `STEMS` are long enough to be looked for anywhere, so ``usergender`` matches too. A name that
   hides what it is (``g1``) can't be caught by any list: a policy is no substitute for a review.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from client_sdk.signals.features.definitions import SENSITIVITIES, Sensitivity

_PROTECTED: Final = """
age | age group | birth date | date of birth | birth day | birth year | year of birth | dob | born
| gender | sex | male | female | transgender | intersex | non binary | pronoun | gender identity |
gender reassignment | ethnicity | ethnic | race | racial | colour of skin | skin color | skin
colour | caste | ancestry | national minority | native language | mother tongue | religion |
religious | belief | faith | church | mosque | synagogue | creed | sexual orientation | sexuality
| sex life | gay | lesbian | bisexual | lgbt | lgbtq | queer | political | politics | political
opinion | political party | party membership | voter | trade union | union member | union
membership | philosophical | disability | disabled | handicap | wheelchair | health | medical |
medicine | medication | illness | disease | diagnosis | patient | symptom | allergy | hiv | blood
| mental | therapy | pregnant | pregnancy | maternity | paternity | menstruation | fertility |
marital status | marital | marriage | married | divorced | widowed | civil partnership | family
status | nationality | citizenship | national origin | social origin | country of birth | birth
place | place of birth | migrant | immigration | refugee | asylum | genetic | dna | biometric |
fingerprint | face id | criminal | conviction | offence | offense
"""
_SENSITIVE: Final = """
income | salary | wage | wealth | credit | credit score | debt | bank | iban | account number |
card number | insurance | unemployed | employer | occupation | education | school | postcode |
postal code | zip | zip code | address | street | house number | latitude | longitude | lng | gps
| geo | geohash | location | precise location | coordinates | city | ip | ip address | mac address
| imei | idfa | gaid | advertising id | device id | cookie | user agent | phone | telephone |
mobile number | email | e mail | mail address | name | first name | last name | surname | full
name | user name | username | nickname | initials | ssn | social security | passport | id card |
tax id | national id | licence plate | license plate | child | children | kids | household | photo
| voice | contacts | password
"""
STEMS: Final[dict[str, Sensitivity]] = {
    "gender": "protected",
    "ethnic": "protected",
    "religio": "protected",
    "birthda": "protected",
    "pregnan": "protected",
    "disabilit": "protected",
    "sexual": "protected",
    "nationalit": "protected",
    "biometric": "protected",
    "tradeunion": "protected",
    "postcode": "sensitive",
    "latitude": "sensitive",
    "longitude": "sensitive",
    "ipaddress": "sensitive",
    "emailaddress": "sensitive",
    "phonenumber": "sensitive",
    "creditscore": "sensitive",
}
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")


def _terms(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(term.split()) for term in text.split("|"))


_TERMS: Final[dict[Sensitivity, frozenset[tuple[str, ...]]]] = {
    "protected": _terms(_PROTECTED),
    "sensitive": _terms(_SENSITIVE),
}
_JOINED: Final = {level: {"".join(term) for term in terms} for level, terms in _TERMS.items()}


def words_of(name: str) -> tuple[str, ...]:
    """Split a name into words.

    >>> words_of("userGender2"), words_of("IPAddress"), words_of("age_group")
    (('user', 'gender'), ('ip', 'address'), ('age', 'group'))
    """
    return tuple(word.casefold() for word in _WORDS.findall(name))


# About a millisecond a name, and the names are an app's few own: topics, tags, rules, properties.
@lru_cache(maxsize=1_024)
def sensitivity_of(name: str) -> Sensitivity:
    """Say how sensitive an attribute is by its name.

    >>> sensitivity_of("userGender"), sensitivity_of("home_postcode"), sensitivity_of("page_usage")
    ('protected', 'sensitive', 'ordinary')
    """
    words = words_of(name)
    joined = "".join(words)
    found = {level for stem, level in STEMS.items() if stem in joined}
    found |= {
        level
        for level, terms in _TERMS.items()
        if any(_has(words, term) for term in terms) or any(_is_one_of(w, level) for w in words)
    }
    return max(found, key=SENSITIVITIES.index, default="ordinary")


def _has(words: tuple[str, ...], term: tuple[str, ...]) -> bool:
    n = len(term)
    *first, last = term
    return any(
        list(words[start : start + n - 1]) == first and words[start + n - 1] in (last, f"{last}s")
        for start in range(len(words) - n + 1)
    )


def _is_one_of(word: str, level: Sensitivity) -> bool:
    return word in _JOINED[level] or word.removesuffix("s") in _JOINED[level]
