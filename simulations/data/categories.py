"""A category from a shop's short description of an item, by the words in it.

Rules, in order: the first category that has one of its phrases in the description wins. Phrases
begin at a word's beginning, so "candle" finds "CANDLES"; one that ends with a point ends at a
word's end too, so "tin." does not find "TINSEL". What is bought for an occasion (Christmas, a
party) stands first, then what the item is, then, last, what it is like. An item without any such
word is in `OTHER`: an honest gap is better than a guess.

``python -m simulations.data.bundled`` prints how many items of the sample each category holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

OTHER: Final = "other"

# Category to phrases, separated by commas; the order matters and is explained above.
_PHRASES: Final[Mapping[str, str]] = {
    "delivery": "next day carriage, postage",
    "christmas": (
        "christmas, xmas, santa, reindeer, snowm, snowy, advent, nativity, bauble, sleigh, "
        "jingle, noel, mistletoe, snowflake, stocking, holly, cracker, pannetone, tree "
        "decoration"
    ),
    "easter": (
        "easter, chick., chicks., hen on nest, wobbly, paper egg, hanging spring flower egg"
    ),
    "lunch & picnic": (
        "lunch box, picnic, snack box, tiffin, flask, round snack, food container, round "
        "container, bottle bag"
    ),
    "bags & purses": (
        "bag., bags., shopper, tote, purse, backpack, rucksack, handbag, wallet, luggage, "
        "passport, mini cases, suitcase"
    ),
    "candles & lights": (
        "candle, chocolatecandle, t-light, tealight, tea light, light., lights., lantern, lamp, "
        "night light, incense, oil burner, matches, led., torch, lampshade, chandelier, "
        "candlestick, holder willie winkie, disco ball"
    ),
    "party": (
        "party, balloon, bunting, garland, paper chain, pennant, invites, napkin, paper cup, "
        "paper plate, straws, doilies, doily napkin, honeycomb, parasol straw, birthday "
        "garland, cocktail, leis, place setting, popcorn, toast its, flags assorted, sundae "
        "dish, tattoos"
    ),
    "baking": (
        "cake case, cake stand, cakestand, cake tin, baking, cookie cutter, biscuit cutter, "
        "cupcake, petit four, cake frill, cake decoration, measuring spoon, rolling pin, "
        "mixing, jelly mould, lolly, icing, pastry, whisk, cake slice, cake plate, loaf"
    ),
    "garden": (
        "garden, watering can, plant, herb, bird house, birdhouse, bird feeder, grow your own, "
        "grow a, seed, flowerpot, hammock, windmill, thermometer, wheelbarrow, trellis, "
        "potting, spade, secateurs, bird bath, bird table, flytrap, cloche, pots., fly swat"
    ),
    "bathroom": (
        "bath., bathroom metal, sponge, flannel, towel., towels., soap, toilet, washroom, "
        "shower, toothbrush, cosmetic, lip gloss, hot baths, wash bag, plasters, first aid, "
        "perfume, bathroom, apothecary, manicure, wc."
    ),
    "hot water bottles & warmers": (
        "hot water bottle, hand warmer, pocket warmer, hottie, slipper, mug warmer"
    ),
    "cards & wrapping": (
        "card., cards., wrap., gift tag, tags., gift bag, gift wrap, gift tape, ribbon, "
        "tissue., tissues., envelope, postcard, stocking filler, sack"
    ),
    "sewing & craft": (
        "sewing, craft, feltcraft, knitting, paint set, paint your, stencil, measuring tape, "
        "pin cushion, felt craft, button, repair kit, canvas, nancy, stamp set, colouring set, "
        "modelling clay, crayon"
    ),
    "stationery": (
        "pencil, pen., pens., notebook, note book, exercise book, sticker, sticky, ruler, "
        "eraser, stationery, writing set, journal, address book, tape., stamp., stamps., "
        "chalk., calculator, notepad, shopping list, diary, calendar, memo, letter rack, letter "
        "holder, magazine rack, scissor, organiser, tissue box, rubber"
    ),
    "toys & games": (
        "toy, game., games., jigsaw, domino, skittle, puzzle, doll., dolls., skipping, "
        "spinning, marbles, playing card, snap., ludo, snakes, bingo, blocks, teddy, puppet, "
        "drawing slate, playhouse, naughts, pick up sticks, glider, rocking horse, harmonica, "
        "heads and tails, rounders, croquet, spinning top, modelling clay, magic tree, magic "
        "sheep, creepy, badges, racing, bubbles, bucket, nesting box, baby, money box, money "
        "bank, piggy bank, snake., yo-yo, diabolo, childrens umbrella, height chart, trinket "
        "monkey, soldier, catch cup, bubblegum ring"
    ),
    "clothing & umbrellas": (
        "umbrella, parasol, rain., poncho, scarf, hairband, hair, hat., fan., sunglasses, "
        "socks, butterfly clips"
    ),
    "jewellery & trinkets": (
        "jewel, necklace, bracelet, earring, brooch, ring., rings., trinket, bead, bangle, "
        "keepsake, charm., charms."
    ),
    "kitchen & dining": (
        "mug, mugs., cup., cups., teacup, teapot, plate., plates., bowl, dish, jug, tray, "
        "trays., spoon, fork., cutlery, pan., apron, oven, tea towel, coaster, placemat, "
        "tablecloth, chopstick, egg., eggs., jam., jar., jars., tea., coffee, sugar, milk, "
        "bread bin, colander, kitchen, glass., toastrack, salt., pepper, tongs, strainer, "
        "recipe, fridge, magnet, beaker, enamel, food cover, bottle opener, tea set, platter, "
        "butter., beurre, biscuit tin, biscuits tin, spice, cosy., breakfast, scales, saucer, "
        "goblet, decanter, teatime, diner., doilies, bib., washing up, scrubbing, bottle."
    ),
    "storage": (
        "storage, basket, box., boxes, tin., tins., cabinet, drawer, drawers, crate, tidy, "
        "chest, cupboard, rack., bin., hook, hanger, hangers., coathanger, coat hanger, caddy, "
        "pegs, peg bag, shelf, container, holder, drawerknob, knob, stand., cubes, recycling"
    ),
    "textiles": (
        "cushion, doormat, door mat, mat., throw., quilt, rug., blanket, fabric, curtain, "
        "doorstop, filler pad, kneeling, seat pad, stool"
    ),
    "clocks, frames & signs": (
        "clock, frame, sign., stopmetal, wall art, mirror, picture, photo, chalkboard, "
        "blackboard, black board, letters, block word, building block, plaque, doorsign, "
        "picture frame"
    ),
    "home decoration": (
        "decoration, ornament, heart, hearts, wicker, wreath, hanging, star., stars., zinc, "
        "mobile, bird, flower, cherub, butterfly, angel, vase, feather, artificial, slate, "
        "cornice, decorative, filigree, owl, folkart, willow, bell., bells., tile, rose., "
        "deco., wooden"
    ),
}
# These name the thing whatever else is said: a "kitchen metal sign" is a sign.
_FIRST: Final[Mapping[str, str]] = {
    "hot water bottles & warmers": "hot water bottle, hand warmer, pocket warmer, mug warmer",
    "pets": "dog bowl, cat bowl, dog food, cat food",
    "tools & bicycle": ("spirit level, screwdriver, bicycle b, bicycle c, bicycle p, secateurs"),
    "clocks, frames & signs": (
        "metal sign, sign., doorsign, wall clock, alarm clock, clock., frame, wall art, "
        "building block, block word, block letters, wooden block letters, door hanger"
    ),
    "cards & wrapping": "birthday card, greeting card, roll wrap, gift tag, gift bag, ribbon",
    "home decoration": "card holder, cardholder",
    "toys & games": (
        "playing card, marbles, skittle, playhouse, jigsaw, water bomb, keyring, key ring, key "
        "fob, card game, snap card, modelling clay, children's toy, soft toy, croquet, rounders"
    ),
    "stationery": "writing set, journal, stamps stickers, sticker sheet",
    "party": "party bag, party invites, cocktail, napkin, party bunting",
    "baking": "cake case, cake stand, cakestand, cake tin",
    "candles & lights": "t-light, tealight, candle, lights.",
    "kitchen & dining": (
        "tea towel, oven glove, oven mitt, apron, egg cup, egg holder, food cover, washing up, "
        "mug., egg cosy"
    ),
    "garden": "garden marker, herb marker, flowerpot, gardeners, garden glove",
    "storage": ("hook, toy tidy, peg bag, clothes peg, hanger, book box, treasure tin, storage"),
}


def _pattern(phrases: str) -> re.Pattern[str]:
    """Compile comma-separated phrases; a final point means the end of a word."""
    parts = [" ".join(phrase.split()) for phrase in phrases.split(",")]
    ends = [
        re.escape(part.removesuffix(".")) + (r"\b" if part.endswith(".") else "") for part in parts
    ]
    return re.compile(r"\b(?:" + "|".join(ends) + ")")


_RULES: Final = tuple(
    (category, _pattern(phrases)) for category, phrases in (*_FIRST.items(), *_PHRASES.items())
)
CATEGORIES: Final = (*dict.fromkeys((*_PHRASES, *_FIRST)), OTHER)


def derive_category(description: str) -> str:
    """Give the category of an item.

    Args:
        description: What the shop calls it, in any case.

    Returns:
        One of `CATEGORIES`.

    Example:
        >>> derive_category("WHITE HANGING HEART T-LIGHT HOLDER"), derive_category("THING")
        ('candles & lights', 'other')
    """
    text = " ".join(description.lower().split())
    return next((category for category, words in _RULES if words.search(text)), OTHER)


def coverage(descriptions: Iterable[str]) -> Mapping[str, int]:
    """Count the items of each category, largest first.

    Example:
        >>> dict(coverage(["PARTY BUNTING", "SPOTTY BUNTING", "THING"]))
        {'party': 2, 'other': 1}
    """
    return dict(Counter(derive_category(description) for description in descriptions).most_common())
