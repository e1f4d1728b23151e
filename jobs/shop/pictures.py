"""Draws the picture of an item: a product card with the silhouette of its category in the item's colours and pattern.

A picture depends on the world and the item number alone, so it need never be drawn again.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from jobs.shop.hashing import hashed, uniform
from jobs.shop.silhouettes import SIDE, silhouette
from jobs.shop.vocabulary import CATEGORIES, PALETTES, PATTERNS
from jobs.shop.world import World

SIZE = 96  # pixels, both ways
VERSION = 1  # raise it if pictures change, so that old ones are not used
_MISSING = 0.03
_FITTINGS = {
    "oak": (168, 124, 78), "bamboo": (196, 164, 104), "cork": (180, 140, 98), "leather": (110, 70, 48),
    "copper": (184, 110, 74), "brass": (190, 158, 84), "steel": (138, 146, 154), "glass": (150, 180, 188),
    "marble": (208, 206, 204), "ceramic": (226, 220, 208), "velvet": (84, 50, 78),
}  # fmt: skip
_BACKGROUNDS = ((244, 243, 240), (236, 240, 244), (246, 239, 232), (235, 242, 236), (242, 237, 243), (250, 250, 250))

_GRID = ((np.arange(SIZE) + 0.5) / SIZE).astype(np.float32)
_X, _Y = np.meshgrid(_GRID, _GRID)


def has_picture(world: World, items: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each item has a picture. About 3 % have none."""
    return uniform(world.seed, "picture missing", items) >= _MISSING


def draw_item(world: World, item: int, leaf_number: int) -> bytes:
    """JPEG of `SIZE` x `SIZE` pixels for one item of the given leaf."""
    leaf, odd = world.look(item, leaf_number), world.odd_pictures
    u = uniform(world.seed, "picture", item, np.arange(16))
    # A few items are pictured in another colour or pattern than they have, as in any catalogue.
    palette = PALETTES[leaf.palette if u[0] >= odd else int(u[0] / odd * len(PALETTES))]
    names = tuple(PATTERNS)
    pattern = leaf.pattern if u[1] >= odd else names[int(u[1] / odd * len(names))]

    tint = (u[2:5] - 0.5) * 34
    main, accent = np.array(palette.main) + tint, np.array(palette.accent) + tint * 0.6
    share = _pattern(pattern, _X + u[5], _Y + u[6], 0.85 + 0.3 * u[7], world.seed, item)
    cloth = main + (accent - main) * share[..., None]
    cloth = cloth * (1.12 - 0.26 * _X - 0.10 * _Y)[..., None]  # light from the upper left

    body, fittings = (_placed(mask, leaf.aspect, u[8:12]) for mask in silhouette(CATEGORIES[leaf.category].name))
    card = _background(u[12], u[13])
    shadow = ImageChops.offset(ImageChops.lighter(body, fittings), 2, 3).filter(ImageFilter.GaussianBlur(3))
    card.paste((105, 100, 98), mask=shadow.point(lambda value: value * 0.45))
    card.paste(_image(cloth), mask=body)
    edge = ImageChops.subtract(body, body.filter(ImageFilter.MinFilter(3)))
    card.paste(tuple(int(value) for value in np.clip(main * 0.62, 0, 255)), mask=edge.point(lambda value: value * 0.7))
    metal = np.array(_FITTINGS.get(leaf.material[0], np.array(palette.main) * 0.45))
    card.paste(_image(metal * (1.15 - 0.3 * _X)[..., None]), mask=fittings)
    stream = io.BytesIO()
    card.save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _background(kind: float, light: float) -> Image.Image:
    base = np.array(_BACKGROUNDS[int(kind * len(_BACKGROUNDS))]) - 8 * light
    floor = 1 / (1 + np.exp(-(_Y - 0.80) * 60))
    return _image(base * (1.02 - 0.05 * _Y - 0.055 * floor)[..., None])


def _placed(mask: Image.Image, aspect: float, u: NDArray[np.float64]) -> Image.Image:
    """The mask at the picture's size, turned up to 7 degrees, scaled 0.85 to 1.0 and moved a little."""
    angle, scale = np.deg2rad(14 * (u[0] - 0.5)), 0.85 + 0.15 * u[1]
    dx, dy = 0.06 * (u[2:4] - 0.5) * SIDE
    cos, sin, half = np.cos(angle) / scale, np.sin(angle) / scale, SIDE / 2
    # Maps a pixel of the result to a pixel of the mask, about the centre.
    ax, bx, ay, by = cos / aspect, sin / aspect, -sin, cos
    matrix = (ax, bx, half - ax * (half + dx) - bx * (half + dy), ay, by, half - ay * (half + dx) - by * (half + dy))
    return mask.transform(mask.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR).resize(
        (SIZE, SIZE), Image.Resampling.BOX
    )


def _pattern(name: str, x: NDArray, y: NDArray, scale: float, seed: int, item: int) -> NDArray[np.float64]:
    """Share of the accent colour at each pixel, 0..1, [SIZE, SIZE]."""
    if name == "stripes":
        return _soft(np.sin(2 * np.pi * 7 * scale * x), 4)
    if name == "dots":
        cell = 8 * scale
        away = np.hypot((x * cell) % 1 - 0.5, (y * cell) % 1 - 0.5)
        return _soft(0.30 - away, 18)
    if name == "checks":
        return 0.5 * _soft(np.sin(2 * np.pi * 6 * scale * x), 4) + 0.5 * _soft(np.sin(2 * np.pi * 6 * scale * y), 4)
    if name == "zigzag":
        tooth = np.abs((x * 6 * scale) % 1 - 0.5)
        return _soft(np.sin(2 * np.pi * (6 * scale * y + 1.2 * tooth)), 4)
    if name == "two_tone":
        return _soft(_Y - 0.45 - 0.15 * (y[0, 0] % 1), 40)
    if name == "diamonds":
        return _soft(np.abs((x * 5 * scale) % 1 - 0.5) + np.abs((y * 5 * scale) % 1 - 0.5) - 0.5, 14)
    if name == "confetti":
        spots = uniform(seed, "confetti", item, np.arange(70)[:, None], np.arange(2)).astype(np.float32)
        away = np.hypot(_X[..., None] - spots[:, 0], _Y[..., None] - spots[:, 1])
        return _soft(0.020 - away.min(-1), 220)
    # Plain: a little shading, so that the cloth does not look like a hole.
    wave = hashed(seed, "plain", item)[0] % np.uint64(7)
    return 0.06 * (1 + np.sin(2 * np.pi * (x + 0.5 * y) + float(wave)))


def _soft(value: NDArray, steepness: float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(np.clip(-steepness * value, -40, 40)))


def _image(colours: NDArray) -> Image.Image:
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
