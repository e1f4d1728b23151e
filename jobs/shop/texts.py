"""Writes titles and descriptions by a small grammar, with the words of an item's category and leaf."""

import random
from dataclasses import dataclass

from jobs.shop.vocabulary import CATEGORIES, MATERIALS, NOISE_WORDS, PALETTES, PATTERNS, STYLES
from jobs.shop.world import Leaf, World

_NO_TEXT, _TITLE_ONLY = 0.03, 0.04
_OPENINGS = (
    "A {style} {noun} made of {material}, {pattern} in {colour}.",
    "This {pattern} {noun} in {colour} {material} fits a {style} {place}.",
    "{line} brings {colour} {material} to your {place}: a {style} {noun}.",
    "Meet the {line} {noun}: {style}, {pattern}, {material} throughout.",
)
_MIDDLES = (
    "The {part} and the {other_part} are finished by hand.",
    "{Verb} it every day; the {part} will not wear out.",
    "Its {part} comes in {colour2}, the {other_part} in {material2}.",
    "Part of the {line} range, {noise} and {noise2}.",
)
_ENDINGS = (
    "A {noise} choice, {noise2} and {noise3}.",
    "{Noise} {noise2} for {noise3}.",
    "Goes well with other {style} pieces of the {line} line.",
    "Easy to {verb}.",
)
_PLACES = ("home", "flat", "room", "life", "wardrobe", "day out")


@dataclass(frozen=True)
class ItemText:
    """What the shop says about an item; None if it says nothing."""

    title: str | None
    text: str | None


def describe(world: World, item: int, leaf: Leaf) -> ItemText:
    """Title and description of an item. About 3 % of the items have neither, and 4 % have only a title."""
    # A seed that is a text is hashed with SHA-512, so the sequence is the same on every machine.
    source = random.Random(f"{world.seed} text {item}")
    fate = source.random()
    words = _words(leaf, world.odd_words, source)
    title = source.choice(
        (
            "{style} {material} {noun} {line}",
            "{line} {noun} in {colour}",
            "{pattern} {noun}, {material}",
            "{colour} {material} {noun} {noise}",
        )
    ).format(**words)
    text = " ".join(source.choice(group).format(**words) for group in (_OPENINGS, _MIDDLES, _ENDINGS))
    if source.random() < world.stated:
        facts = PALETTES[leaf.palette].words[0], PATTERNS[leaf.pattern][0], leaf.material[0], leaf.style[0]
        text += " Colour: {}. Pattern: {}. Material: {}. Style: {}.".format(*facts)
    if fate < _NO_TEXT:
        return ItemText(None, None)
    return ItemText(title[0].upper() + title[1:], text[0].upper() + text[1:] if fate >= _NO_TEXT + _TITLE_ONLY else None)


def _words(leaf: Leaf, odd: float, source: random.Random) -> dict[str, str]:
    category, palette = CATEGORIES[leaf.category], PALETTES[leaf.palette]

    def own(words: tuple[str, ...], others: tuple[tuple[str, ...], ...]) -> str:
        return source.choice(source.choice(others) if source.random() < odd else words)

    palettes = tuple(other.words for other in PALETTES)
    part, other_part = source.sample(category.parts, 2)
    noise = source.sample(NOISE_WORDS, 3)
    verb = source.choice(category.verbs)
    return {
        "noun": source.choice(category.nouns),
        "style": own(leaf.style, STYLES),
        "material": own(leaf.material, MATERIALS),
        "material2": own(leaf.material, MATERIALS),
        "colour": own(palette.words, palettes),
        "colour2": own(palette.words, palettes),
        "pattern": own(PATTERNS[leaf.pattern], tuple(PATTERNS.values())),
        "line": leaf.line.capitalize(),
        "part": part,
        "other_part": other_part,
        "verb": verb,
        "Verb": verb.capitalize(),
        "noise": noise[0],
        "Noise": noise[0].capitalize(),
        "noise2": noise[1],
        "noise3": noise[2],
        "place": source.choice(_PLACES),
    }
