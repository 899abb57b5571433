"""One small journey: a cart, a reminder by SMS, a purchase."""

import pytest

from client_sdk.experience.journeys import Journey

CART = """\
journey = "cart"
version = 1
title = "A cart"
start = "new"
fallback = "new"

[channels]
web = { cap = 2, per = "1 day", opt_in = false }
sms = { cap = 1, per = "7 days", opt_in = true }

[facts.town]
meaning = "The town that the person is in."
consent = "personalise"
opt_in = "location"

[opt_ins.location]
meaning = "Where you are."

[slots]
area = { from = "favourite:category_affinity", consent = "personalise" }
town = { from = "fact:town", consent = "personalise" }

[states.new]
meaning = "Nothing yet."

[states.carted]
meaning = "Something is in the cart."
[[states.carted.enter]]
id = "noted"
channel = "web"
content = "noted"
slots = ["area"]
[[states.carted.exit]]
id = "left"
channel = "web"
once = true

[states.reminded]
meaning = "Was reminded."
[[states.reminded.enter]]
id = "remind"
channel = "sms"
when = [{ opt_in = "sms" }]

[states.bought]
meaning = "Bought."
terminal = true

[[transitions]]
from = "new"
to = "carted"
on = "cart"
because = "you put something in the cart"

[[transitions]]
from = "carted"
to = "reminded"
after = "2 days"
without = ["cart", "screen"]
because = "the cart waits"

[[transitions]]
from = "carted"
to = "bought"
on = "purchase"
because = "you bought it"

[[transitions]]
from = "reminded"
to = "carted"
on = "cart"
because = "you put something in the cart"

[[transitions]]
from = "reminded"
to = "new"
on = "screen"
when = [{ fact = "town", is = "Ulm" }]
because = "you are in Ulm"
"""


@pytest.fixture
def cart_text() -> str:
    """The file."""
    return CART


@pytest.fixture(scope="session")
def cart() -> Journey:
    """The journey."""
    return Journey.from_toml(CART)
