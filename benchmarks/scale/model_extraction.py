"""Feature extraction in Spark against a bare loop, with a vision transformer as the encoder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.record import Row
from benchmarks.scale.extraction import against_loop


@dataclass(frozen=True)
class Size:
    """Attributes: pictures; how often loop and job take turns."""

    pictures: int = 8_192
    turns: int = 2


FULL = Size()
QUICK = Size(192, 1)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Pictures per second of both."""
    encoder = str(_vision_transformer(folder / "model"))
    yield from against_loop(encoder, "model extraction", "ViT-S/32 with 224 x 224", size.pictures, size.turns, folder)


def _vision_transformer(folder: Path) -> Path:
    """A CLIP-class vision tower of the size of ViT-S/32. Its weights are random, which does not change the time it takes."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=384, intermediate_size=1536, num_attention_heads=6)
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder
