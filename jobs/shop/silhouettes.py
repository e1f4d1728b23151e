"""The silhouette of each category, as two masks: the body, which gets the pattern, and the fittings, which get the material."""

import functools
from collections.abc import Callable

from PIL import Image, ImageDraw

SIDE = 192  # masks are drawn at this size and scaled down, which smooths their edges


class _Pen:
    """Draws shapes on one mask. Coordinates are in units of the picture's side."""

    def __init__(self) -> None:
        self.mask = Image.new("L", (SIDE, SIDE), 0)
        self._draw = ImageDraw.Draw(self.mask)

    def polygon(self, *points: tuple[float, float], fill: int = 255) -> None:
        self._draw.polygon([(x * SIDE, y * SIDE) for x, y in points], fill=fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: int = 255) -> None:
        self._draw.ellipse((x0 * SIDE, y0 * SIDE, x1 * SIDE, y1 * SIDE), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, radius: float = 0.02, fill: int = 255) -> None:
        self._draw.rounded_rectangle((x0 * SIDE, y0 * SIDE, x1 * SIDE, y1 * SIDE), radius * SIDE, fill=fill)

    def line(self, *points: tuple[float, float], width: float = 0.03) -> None:
        self._draw.line([(x * SIDE, y * SIDE) for x, y in points], fill=255, width=round(width * SIDE), joint="curve")

    def arc(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, width: float = 0.035) -> None:
        box = (x0 * SIDE, y0 * SIDE, x1 * SIDE, y1 * SIDE)
        self._draw.arc(box, start, end, fill=255, width=round(width * SIDE))


@functools.cache
def silhouette(category: str) -> tuple[Image.Image, Image.Image]:
    """Body and fittings of a category, two masks of `SIDE` x `SIDE`, mode L; the fittings lie on top."""
    body, fittings = _Pen(), _Pen()
    _SHAPES[category](body, fittings)
    return body.mask, fittings.mask


def _shirt(body: _Pen, fittings: _Pen) -> None:
    body.polygon(
        (0.36, 0.18), (0.64, 0.18), (0.88, 0.32), (0.80, 0.48), (0.70, 0.43),
        (0.70, 0.84), (0.30, 0.84), (0.30, 0.43), (0.20, 0.48), (0.12, 0.32),
    )  # fmt: skip
    body.ellipse(0.41, 0.10, 0.59, 0.26, fill=0)
    fittings.arc(0.40, 0.09, 0.60, 0.27, 0, 180, width=0.025)


def _mug(body: _Pen, fittings: _Pen) -> None:
    body.box(0.22, 0.26, 0.66, 0.82, radius=0.07)
    body.ellipse(0.22, 0.20, 0.66, 0.33)
    fittings.arc(0.56, 0.36, 0.84, 0.70, 270, 90, width=0.06)
    fittings.ellipse(0.26, 0.225, 0.62, 0.305)


def _lamp(body: _Pen, fittings: _Pen) -> None:
    body.polygon((0.36, 0.14), (0.64, 0.14), (0.80, 0.48), (0.20, 0.48))
    fittings.box(0.475, 0.48, 0.525, 0.80)
    fittings.ellipse(0.34, 0.77, 0.66, 0.88)


def _chair(body: _Pen, fittings: _Pen) -> None:
    body.box(0.30, 0.12, 0.70, 0.48, radius=0.06)
    body.box(0.24, 0.53, 0.76, 0.64, radius=0.04)
    for left, foot in ((0.28, 0.22), (0.69, 0.75)):
        fittings.polygon((left, 0.64), (left + 0.05, 0.64), (foot + 0.05, 0.90), (foot, 0.90))
    fittings.box(0.34, 0.47, 0.38, 0.54)
    fittings.box(0.62, 0.47, 0.66, 0.54)


def _bag(body: _Pen, fittings: _Pen) -> None:
    body.polygon((0.22, 0.40), (0.78, 0.40), (0.86, 0.86), (0.14, 0.86))
    fittings.arc(0.34, 0.14, 0.66, 0.66, 180, 360, width=0.045)
    fittings.ellipse(0.46, 0.46, 0.54, 0.54)


def _hat(body: _Pen, fittings: _Pen) -> None:
    body.ellipse(0.06, 0.58, 0.94, 0.80)
    body.box(0.27, 0.24, 0.73, 0.70, radius=0.16)
    fittings.polygon((0.27, 0.56), (0.73, 0.56), (0.735, 0.66), (0.265, 0.66))


def _bottle(body: _Pen, fittings: _Pen) -> None:
    body.box(0.34, 0.38, 0.66, 0.90, radius=0.08)
    body.polygon((0.44, 0.22), (0.56, 0.22), (0.56, 0.30), (0.66, 0.46), (0.34, 0.46), (0.44, 0.30))
    fittings.box(0.425, 0.10, 0.575, 0.22, radius=0.03)


def _vase(body: _Pen, fittings: _Pen) -> None:
    body.ellipse(0.24, 0.38, 0.76, 0.86)
    body.polygon((0.42, 0.20), (0.58, 0.20), (0.60, 0.46), (0.40, 0.46))
    body.box(0.36, 0.80, 0.64, 0.89, radius=0.03)
    fittings.box(0.37, 0.16, 0.63, 0.22, radius=0.03)


def _dress(body: _Pen, fittings: _Pen) -> None:
    body.polygon((0.38, 0.12), (0.62, 0.12), (0.66, 0.28), (0.58, 0.46), (0.82, 0.90), (0.18, 0.90), (0.42, 0.46), (0.34, 0.28))
    body.ellipse(0.42, 0.03, 0.58, 0.22, fill=0)
    fittings.polygon((0.41, 0.43), (0.59, 0.43), (0.605, 0.50), (0.395, 0.50))


def _clock(body: _Pen, fittings: _Pen) -> None:
    body.ellipse(0.14, 0.14, 0.86, 0.86)
    fittings.arc(0.12, 0.12, 0.88, 0.88, 0, 360, width=0.055)
    fittings.line((0.50, 0.50), (0.50, 0.26), width=0.035)
    fittings.line((0.50, 0.50), (0.67, 0.58), width=0.045)
    fittings.ellipse(0.46, 0.46, 0.54, 0.54)


def _cushion(body: _Pen, fittings: _Pen) -> None:
    body.polygon(
        (0.14, 0.20), (0.32, 0.25), (0.50, 0.26), (0.68, 0.25), (0.86, 0.20), (0.82, 0.40), (0.82, 0.60),
        (0.86, 0.82), (0.68, 0.77), (0.50, 0.76), (0.32, 0.77), (0.14, 0.82), (0.18, 0.60), (0.18, 0.40),
    )  # fmt: skip
    for x, y in ((0.14, 0.20), (0.86, 0.20), (0.14, 0.82), (0.86, 0.82)):
        fittings.ellipse(x - 0.04, y - 0.04, x + 0.04, y + 0.04)


def _umbrella(body: _Pen, fittings: _Pen) -> None:
    body.ellipse(0.08, 0.14, 0.92, 0.90)
    body.polygon((0.0, 0.52), (1.0, 0.52), (1.0, 1.0), (0.0, 1.0), fill=0)
    for left in (0.08, 0.29, 0.50, 0.71):
        body.ellipse(left, 0.47, left + 0.21, 0.58, fill=0)
    fittings.box(0.485, 0.52, 0.515, 0.84, radius=0.005)
    fittings.arc(0.40, 0.76, 0.515, 0.90, 0, 180, width=0.03)
    fittings.box(0.485, 0.08, 0.515, 0.15, radius=0.005)


_SHAPES: dict[str, Callable[[_Pen, _Pen], None]] = {
    "shirt": _shirt, "mug": _mug, "lamp": _lamp, "chair": _chair, "bag": _bag, "hat": _hat, "bottle": _bottle,
    "vase": _vase, "dress": _dress, "clock": _clock, "cushion": _cushion, "umbrella": _umbrella,
}  # fmt: skip
