"""Visual encoders: a classical image descriptor that needs no model, and CLIP-class models from a local folder."""

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from skimage.color import rgb2hsv, rgb2lab
from skimage.feature import hog, local_binary_pattern

from jobs.base.settings import EMBEDDED
from jobs.features.encoders.inference import encoding, on_device, unit_rows
from jobs.features.encoders.model_folder import config_fingerprint, loading_model, local_model, model_fingerprint
from jobs.source.picture_content import Picture, decode_picture

# Pictures are decoded at twice the side that an encoder reads. That is enough for its resampling, and much less work.
_OVERSAMPLING = 2
_USUAL_SIDE = 224  # if a model's processor names no size
_LONGEST_STRIP = 8  # a picture's longest side over its shortest


class DescriptorEncoder:
    """Colour, layout, shape and texture by scikit-image: 294 numbers. It has no state.

    On a picture of 64 x 64, these are a joint HSV histogram (8 x 3 x 3 bins), mean and deviation of Lab in a 3 x 3 grid (54),
    HOG with 8 orientations in 4 x 4 cells (128), and histograms of uniform local binary patterns in a 2 x 2 grid (40). Each
    part has unit length, so that none outweighs the others.
    """

    SIDE = 64
    VERSION = 2  # raise it with every change below: vectors of different versions must not be mixed

    def __init__(self) -> None:
        libraries = {name: version(name) for name in ("pillow", "scikit-image")}
        self.fingerprint = config_fingerprint("descriptor", {"version": self.VERSION, "side": self.SIDE, **libraries})

    def prepare(self, data: bytes) -> Picture:
        """The picture at twice the descriptor's side, or None."""
        return decode_picture(data, _OVERSAMPLING * self.SIDE)

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures to float32 [len(pictures), 294]."""
        return np.stack([self._describe(picture) for picture in pictures]).astype(np.float32)

    def _describe(self, picture: Image.Image) -> np.ndarray:
        side = self.SIDE
        rgb = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float64) / 255
        grey = rgb @ np.array([0.299, 0.587, 0.114])
        colours, _ = np.histogramdd(rgb2hsv(rgb).reshape(-1, 3), bins=(8, 3, 3), range=((0, 1),) * 3)
        lab = rgb2lab(rgb) / 100
        layout = [
            moment
            for rows in np.array_split(lab, 3, axis=0)
            for cell in np.array_split(rows, 3, axis=1)
            for moment in (cell.mean(axis=(0, 1)), cell.std(axis=(0, 1)))
        ]
        shape = hog(grey, orientations=8, pixels_per_cell=(side // 4,) * 2, cells_per_block=(1, 1))
        patterns = local_binary_pattern((grey * 255).round().astype(np.uint8), P=8, R=1, method="uniform")
        texture = [
            np.bincount(cell.astype(int).ravel(), minlength=10)
            for rows in np.split(patterns, 2, axis=0)
            for cell in np.split(rows, 2, axis=1)
        ]
        parts = (np.sqrt(colours.ravel()), np.concatenate(layout), shape, np.sqrt(np.concatenate(texture)))
        return np.concatenate([part / max(float(np.linalg.norm(part)), 1e-12) for part in parts])


class ModelVisualEncoder:
    """A transformers model from a local folder: the image features of a CLIP-class model, else the pooled vision tower.

    Args:
        folder: written by `save_pretrained`, with the image processor.
        precision: precision of the matrix products: `float32`, `bfloat16` or `float16`.

    Raises:
        DataError: the folder holds no such model.
    """

    def __init__(self, folder: Path, precision: str = "float32") -> None:
        from transformers import AutoImageProcessor, AutoModel

        self._folder, self._precision = folder, precision
        with loading_model(folder, "vision", together_with="image processor"):
            self._processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            self._model = on_device(AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True))
        size = dict(self._processor.size or {})
        self._side = max((value for value in size.values() if value), default=_USUAL_SIDE)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the model's files, the decoding, the pooling and the precision."""
        decoding = {"decoded_side": _OVERSAMPLING * self._side, "pillow": version("pillow")}
        config = {"pooling": "features", "norm": "l2", "precision": self._precision, **decoding}
        return model_fingerprint("vision-model", self._folder, config)

    def prepare(self, data: bytes) -> Picture:
        """The picture at twice the model's side, or None. Of a very long strip, the middle."""
        image, traits = decode_picture(data, _OVERSAMPLING * self._side)
        if image is not None and max(image.size) > _LONGEST_STRIP * min(image.size):
            # A processor scales the short side to the model's side. For a line of pixels, that would take gigabytes.
            width, height = (min(length, _LONGEST_STRIP * min(image.size)) for length in image.size)
            image = ImageOps.fit(image, (width, height))
        return Picture(image, traits)

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures to float32 [len(pictures), D], rows of unit length."""
        inputs = self._processor(images=list(pictures), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._model.device)
        with encoding(self._model.device, self._precision):
            features = getattr(self._model, "get_image_features", self._model)
            output: Any = features(pixel_values=pixels)
        pooled = output.pooler_output if hasattr(output, "pooler_output") else output
        if pooled is None:
            pooled = output.last_hidden_state.mean(dim=1)
        return unit_rows(pooled.flatten(1))


@functools.cache
def visual_encoder(name: str, cache: Path, precision: str) -> DescriptorEncoder | ModelVisualEncoder:
    """The encoder named in `features.visual_encoder`; loaded once in each process.

    Args:
        name: `embedded`, or where the model lies: see `local_model`.
        cache: folder for the copies of models that lie elsewhere.
        precision: of a model's matrix products.
    """
    return DescriptorEncoder() if name == EMBEDDED else ModelVisualEncoder(local_model(name, cache), precision)
