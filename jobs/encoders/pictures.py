"""Decoding of pictures that come from anywhere: small, upright, RGB, or None."""

import io
import logging
import warnings

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)

# Pillow opens many more; some of them call other programs (EPS) or are seldom pictures of a product.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# A few kilobytes of PNG can declare gigapixels; 50 million are a 150 MB bitmap.
MAX_PIXELS = 50_000_000


def decode_picture(data: bytes, max_side: int = 512) -> Image.Image | None:
    """Decode an encoded picture.

    An animation gives its first frame, transparency lies on white, EXIF rotation is applied, CMYK, palette, grey and
    16-bit pictures become 8-bit RGB.

    Args:
        data: JPEG, PNG, WebP, GIF or BMP.
        max_side: longest side in pixels; larger pictures are scaled down, smaller ones kept.

    Returns:
        An RGB picture, or None when the bytes are no picture, are cut off, or declare more than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of oddly tagged pictures; both are handled here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                image.draft("RGB", (max_side, max_side))  # lets JPEG decode at a fraction of its size
                return _rgb(ImageOps.exif_transpose(image), max_side)
    except Exception as error:  # on damaged files Pillow's plugins raise nearly every kind; one picture must not stop a run
        log.debug("unreadable picture: %s: %s", type(error).__name__, error)
        return None


def _rgb(image: Image.Image, max_side: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it to white
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    return image
