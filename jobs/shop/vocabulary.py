"""What the shop sells, and the words for it: categories, palettes, patterns, materials, styles, and their synonyms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One kind of product. Its name is also the name of its silhouette in `silhouettes.py`."""

    name: str
    nouns: tuple[str, ...]
    parts: tuple[str, ...]
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Palette:
    """Two colours that go together, RGB 0..255, and what sellers call them."""

    main: tuple[int, int, int]
    accent: tuple[int, int, int]
    words: tuple[str, ...]


CATEGORIES = (
    Category("shirt", ("shirt", "tee", "top"), ("collar", "sleeves", "hem"), ("wear", "wash")),
    Category("mug", ("mug", "cup", "beaker"), ("handle", "rim", "glaze"), ("sip from", "fill")),
    Category("lamp", ("lamp", "light", "luminaire"), ("shade", "stand", "switch"), ("switch on", "read by")),
    Category("chair", ("chair", "seat", "stool"), ("backrest", "legs", "cushioning"), ("sit on", "pull up")),
    Category("bag", ("bag", "tote", "carryall"), ("straps", "pockets", "lining"), ("carry", "pack")),
    Category("hat", ("hat", "cap", "headwear"), ("brim", "crown", "band"), ("put on", "travel with")),
    Category("bottle", ("bottle", "flask", "carafe"), ("lid", "neck", "seal"), ("pour from", "refill")),
    Category("vase", ("vase", "planter", "urn"), ("opening", "foot", "belly"), ("arrange flowers in", "display")),
    Category("dress", ("dress", "gown", "frock"), ("waist", "skirt", "neckline"), ("dance in", "dress up in")),
    Category("clock", ("clock", "timepiece", "timer"), ("dial", "hands", "movement"), ("hang", "glance at")),
    Category("cushion", ("cushion", "pillow", "bolster"), ("cover", "zip", "filling"), ("lean on", "plump up")),
    Category("umbrella", ("umbrella", "parasol", "brolly"), ("canopy", "shaft", "ribs"), ("open", "fold")),
)

PALETTES = (
    Palette((200, 55, 60), (250, 205, 190), ("red", "crimson", "scarlet")),
    Palette((35, 85, 150), (165, 205, 235), ("blue", "navy", "azure")),
    Palette((50, 120, 75), (190, 220, 160), ("green", "forest", "emerald")),
    Palette((235, 175, 45), (95, 65, 30), ("yellow", "mustard", "amber")),
    Palette((120, 70, 150), (215, 190, 235), ("purple", "violet", "plum")),
    Palette((225, 115, 50), (255, 225, 180), ("orange", "tangerine", "rust")),
    Palette((45, 45, 52), (205, 205, 210), ("black", "charcoal", "onyx")),
    Palette((30, 145, 150), (245, 240, 215), ("teal", "turquoise", "petrol")),
    Palette((225, 120, 160), (255, 230, 235), ("pink", "rose", "blush")),
    Palette((125, 80, 50), (230, 200, 160), ("brown", "walnut", "chestnut")),
)

PATTERNS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid", "unprinted"),
    "stripes": ("striped", "banded", "pinstriped"),
    "dots": ("dotted", "spotted", "polka-dot"),
    "checks": ("checked", "gingham", "plaid"),
    "zigzag": ("zigzag", "chevron", "herringbone"),
    "two_tone": ("two-tone", "colour-block", "dipped"),
    "diamonds": ("diamond", "argyle", "lattice"),
    "confetti": ("speckled", "terrazzo", "confetti"),
}

MATERIALS = (
    ("cotton", "organic cotton"), ("linen", "flax linen"), ("oak", "solid oak"), ("bamboo", "woven bamboo"),
    ("steel", "brushed steel"), ("ceramic", "glazed ceramic"), ("leather", "soft leather"), ("wool", "merino wool"),
    ("glass", "blown glass"), ("copper", "hammered copper"), ("canvas", "waxed canvas"), ("cork", "pressed cork"),
    ("velvet", "crushed velvet"), ("brass", "polished brass"), ("felt", "thick felt"), ("marble", "veined marble"),
)  # fmt: skip

STYLES = (
    ("rustic", "farmhouse"), ("modern", "minimalist"), ("vintage", "retro"), ("coastal", "nautical"),
    ("industrial", "workshop"), ("nordic", "scandinavian"), ("bohemian", "folk"), ("classic", "timeless"),
    ("playful", "whimsical"), ("urban", "street"), ("alpine", "mountain"), ("romantic", "floral"),
)  # fmt: skip

NOISE_WORDS = (
    "new", "gift", "quality", "popular", "best", "value", "daily", "everyday", "limited", "season", "home", "family",
    "easy", "light", "sturdy", "handy", "original", "design", "simple", "pretty", "durable", "favourite", "small", "large",
    "premium", "basic", "extra", "trend", "offer", "special", "comfort", "weekend", "friends", "travel", "office", "garden",
)  # fmt: skip

SYLLABLES = ("sol", "vei", "ra", "mun", "ki", "lor", "ten", "bri", "os", "fen", "da", "quil", "yar", "nim", "pel", "tor")
