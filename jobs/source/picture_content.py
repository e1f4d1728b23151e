"""Decodes pictures from any source into small, upright RGB images, and says what was found in each of them."""

import io
import logging
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

# Pillow opens many more. Some of them call other programs (EPS), others are seldom pictures of a product.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# A few kilobytes of PNG can declare gigapixels; 50 million are a 150 MB bitmap.
MAX_PIXELS = 50_000_000
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class Picture(NamedTuple):
    """A decoded picture (None if it is unreadable) and its traits: see `decode_picture`."""

    image: Image.Image | None
    traits: tuple[str, ...]


def decode_picture(data: bytes, max_side: int) -> Picture:
    """Decode an encoded picture.

    An animation gives its first frame, transparency is laid on white, and EXIF rotation is applied. CMYK, palette, grey and
    16-bit pictures become 8-bit RGB. The traits of a readable picture are `animated`, `transparent`, `rotated`, `cmyk`,
    `palette`, `grey` and `sixteen_bit`. The trait of an unreadable one says why: `no_picture` (none of the formats), `huge`
    (declares more than `MAX_PIXELS`), `truncated` or `damaged`.

    Args:
        data: JPEG, PNG, WebP, GIF or BMP.
        max_side: longest side in pixels. Larger pictures are scaled down, smaller ones stay as they are.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of badly tagged pictures; both are handled here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return Picture(None, ("huge",))
                traits = _traits(image)
                image.draft("RGB", (max_side, max_side))  # lets JPEG decode at a fraction of its size
                return Picture(_rgb(ImageOps.exif_transpose(image), max_side), traits)
    except UnidentifiedImageError:
        return Picture(None, ("no_picture",))
    except Image.DecompressionBombError:
        return Picture(None, ("huge",))
    except Exception as error:  # for a damaged file, Pillow raises nearly any error; one picture must not stop a run
        log.debug("unreadable picture: %s: %s", type(error).__name__, error)
        return Picture(None, ("truncated" if "truncated" in str(error).lower() else "damaged",))


def _traits(image: Image.Image) -> tuple[str, ...]:
    met = {
        "animated": getattr(image, "is_animated", False),
        "transparent": image.has_transparency_data,
        "rotated": image.getexif().get(_ORIENTATION, 1) != 1,
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "grey": image.mode in ("1", "L", "LA"),
        "sixteen_bit": image.mode.startswith("I"),
    }
    return tuple(name for name, here in met.items() if here)


def _rgb(image: Image.Image, max_side: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it to white
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    return image
