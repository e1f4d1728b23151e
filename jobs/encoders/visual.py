"""Visual encoders: a classical descriptor that needs no model, and CLIP-class models from a local folder."""

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from skimage.color import rgb2hsv, rgb2lab
from skimage.feature import hog, local_binary_pattern

from jobs.encoders.model_folder import config_fingerprint, loading_model, model_fingerprint
from jobs.encoders.pictures import decode_picture
from jobs.settings import EMBEDDED


class VisualEncoder(Protocol):
    """Turns pictures into vectors of one length."""

    fingerprint: str

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures to float32 [len(pictures), D]."""
        ...


class DescriptorEncoder:
    """Colour, layout, shape and texture by scikit-image: 294 numbers, without state, the same for a picture at any time.

    On a picture of 64 x 64: a joint HSV histogram (8 x 3 x 3 bins), mean and deviation of Lab in a 3 x 3 grid (54), HOG with 8
    orientations in 4 x 4 cells (128), and histograms of uniform local binary patterns in a 2 x 2 grid (40). Each part
    has unit length, so that none outweighs the others.
    """

    SIDE = 64
    VERSION = 1  # raise it with any change below: vectors of unlike versions must not meet

    def __init__(self) -> None:
        libraries = {name: version(name) for name in ("pillow", "scikit-image")}
        self.fingerprint = config_fingerprint("descriptor", {"version": self.VERSION, "side": self.SIDE, **libraries})

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
    """A transformers model from a local folder: image features of CLIP-class models, else the pooled vision tower.

    Raises:
        DataError: the folder holds no such model.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModel

        self.fingerprint = model_fingerprint("vision-model", folder, {"pooling": "features", "norm": "l2"})
        self._batch_size, self._torch = batch_size, torch
        with loading_model(folder, "vision", together_with="image processor"):
            self._processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    def encode(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures to float32 [len(pictures), D], rows of unit length."""
        batches = [pictures[start : start + self._batch_size] for start in range(0, len(pictures), self._batch_size)]
        with self._torch.no_grad():
            return np.concatenate([self._features(batch) for batch in batches])

    def _features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        inputs = self._processor(images=list(pictures), return_tensors="pt")
        if hasattr(self._model, "get_image_features"):
            output: Any = self._model.get_image_features(pixel_values=inputs["pixel_values"])
        else:
            output = self._model(pixel_values=inputs["pixel_values"])
        pooled = output if isinstance(output, self._torch.Tensor) else output.pooler_output
        if pooled is None:
            pooled = output.last_hidden_state.mean(dim=1)
        return self._torch.nn.functional.normalize(pooled.flatten(1).float(), dim=-1).numpy()


@functools.cache
def visual_encoder(name: str, batch_size: int) -> VisualEncoder:
    """The encoder named in `features.visual_encoder`; loaded once in each process."""
    return DescriptorEncoder() if name == EMBEDDED else ModelVisualEncoder(Path(name).expanduser(), batch_size)


def encode_images(name: str, batch_size: int, images: Sequence[bytes]) -> list[np.ndarray | None]:
    """Encoded pictures to float32 vectors [D]; None for what cannot be decoded."""
    encoder = visual_encoder(name, batch_size)
    vectors: list[np.ndarray | None] = [None] * len(images)
    for start in range(0, len(images), batch_size):
        decoded = {row: decode_picture(images[row]) for row in range(start, min(start + batch_size, len(images)))}
        readable = {row: picture for row, picture in decoded.items() if picture is not None}
        if readable:
            for row, vector in zip(readable, encoder.encode(list(readable.values())), strict=True):
                vectors[row] = vector
    return vectors
