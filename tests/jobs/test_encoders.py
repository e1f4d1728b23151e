"""Visual and textual encoders, embedded and from a local model folder."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.encoders.pictures import MAX_PIXELS, decode_picture
from jobs.encoders.text import HashedTextEncoder, ModelTextEncoder, encode_texts
from jobs.encoders.visual import DescriptorEncoder, ModelVisualEncoder, encode_images
from jobs.errors import DataError
from tests.jobs import source_builder as build

RED, BLUE = (200, 30, 30), (30, 30, 200)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_every_form_of_a_red_picture_decodes_to_red() -> None:
    red = Image.new("RGB", (40, 30), RED)
    half = Image.new("RGBA", (40, 30), (*RED, 255))
    forms = {
        "jpeg": saved(red, "JPEG"),
        "cmyk": saved(red.convert("CMYK"), "JPEG"),
        "webp": saved(red, "WEBP"),
        "palette": saved(red.convert("P", palette=Image.Palette.ADAPTIVE)),
        "alpha": saved(half),
        "animated": saved(red, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 30), BLUE)]),
        "bmp": saved(red, "BMP"),
    }
    for name, data in forms.items():
        picture = decode_picture(data)
        assert picture is not None, name
        assert picture.mode == "RGB", name
        assert np.abs(np.asarray(picture).mean(axis=(0, 1)) - RED).max() < 12, name


def test_transparency_lies_on_white_and_sixteen_bit_grey_keeps_its_level() -> None:
    clear = decode_picture(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert clear is not None and np.asarray(clear).min() == 255
    palette = Image.new("P", (8, 8), 0)
    clear = decode_picture(saved(palette, "PNG", transparency=0))
    assert clear is not None and np.asarray(clear).min() == 255
    grey = decode_picture(saved(Image.fromarray(np.full((8, 8), 0x8000, dtype=np.uint16))))
    assert grey is not None and np.asarray(grey).max() == 128


def test_exif_rotation_is_applied() -> None:
    wide = Image.new("RGB", (40, 20), BLUE)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    upright = decode_picture(saved(wide, "JPEG", exif=exif))
    assert upright is not None and upright.size == (20, 40)


def test_large_pictures_are_scaled_down_and_small_ones_kept() -> None:
    large, small = (decode_picture(saved(Image.new("RGB", size, RED), "JPEG")) for size in ((3000, 1500), (1, 1)))
    assert large is not None and large.size == (512, 256)
    assert small is not None and small.size == (1, 1)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that declares any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(4096))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        build.picture(1)[:-40],
        build.picture(1, "JPEG", size=(200, 200))[:600],
        build.picture(1, "WEBP")[:30],
        bomb(MAX_PIXELS // 1000 + 1, 1000),
        bomb(60_000, 60_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["empty", "words", "cut PNG", "cut JPEG", "cut WebP", "too many pixels", "bomb", "EPS", "SVG"],
)
def test_unreadable_bytes_give_none(data: bytes) -> None:
    assert decode_picture(data) is None


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(3)
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        clean = build.picture(2, form)
        for _ in range(40):
            data = bytearray(clean)
            for place in random.integers(0, len(data), 6):
                data[place] = random.integers(256)
            picture = decode_picture(bytes(data))
            assert picture is None or picture.mode == "RGB"


def test_descriptor_has_unit_parts_and_tells_pictures_apart() -> None:
    encoder = DescriptorEncoder()
    pictures = [Image.new("RGB", (50, 70), RED), Image.new("RGB", (90, 30), RED), Image.new("RGB", (50, 70), BLUE)]
    vectors = encoder.encode([*pictures, decode_picture(build.picture(5))])
    assert vectors.shape == (4, 294)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    bounds = np.cumsum([0, 72, 54, 128, 40])
    norms = [np.linalg.norm(vectors[3, low:high]) for low, high in zip(bounds[:-1], bounds[1:], strict=True)]
    np.testing.assert_allclose(norms, 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.5
    np.testing.assert_array_equal(encoder.encode([pictures[2]])[0], vectors[2])


def test_encode_images_keeps_the_order_around_unreadable_ones() -> None:
    good = [build.picture(1), build.picture(2)]
    found = encode_images("embedded", 2, [b"", good[0], b"x", b"y", good[1]])
    assert [vector is None for vector in found] == [True, False, True, True, False]
    expected = DescriptorEncoder().encode([decode_picture(data) for data in good])
    np.testing.assert_array_equal(np.stack([found[1], found[4]]), expected)


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


def test_text_without_known_ngrams_gives_none(tmp_path: Path) -> None:
    HashedTextEncoder.fit(["red", "reed"], dim=2).save(tmp_path)
    known, unknown = encode_texts(tmp_path, True, 8, ["red", "Ж"])
    assert known is not None
    assert unknown is None


def test_clip_class_model_from_a_folder(tiny_clip: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    pictures = [decode_picture(build.picture(seed)) for seed in range(5)]
    encoder = ModelVisualEncoder(tiny_clip, batch_size=2)
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
    vectors = ModelVisualEncoder(tmp_path, 4).encode([decode_picture(build.picture(1))])
    assert vectors.shape == (1, 16)


def test_bert_class_model_from_a_folder(tiny_bert: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    encoder = ModelTextEncoder(tiny_bert, batch_size=2)
    texts = ["red shirt", "blue steel hammer red red", "hammer"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 16)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_bert), BertModel.from_pretrained(tiny_bert).eval()
    assert tokenizer.unk_token_id not in tokenizer(texts[1])["input_ids"]
    for text, vector in zip(texts, vectors, strict=True):  # one by one, so without any padding
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(dim=1)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(mean, dim=-1)[0].numpy(), atol=1e-5)
    assert encoder.encode(["red " * 500]).shape == (1, 16)


def test_model_fingerprint_follows_the_weights(tiny_bert: Path) -> None:
    from transformers import BertModel

    before = ModelTextEncoder(tiny_bert, 2).fingerprint
    assert ModelTextEncoder(tiny_bert, 4).fingerprint == before
    model = BertModel.from_pretrained(tiny_bert)
    model.pooler.dense.bias.data += 1
    model.save_pretrained(tiny_bert)
    assert ModelTextEncoder(tiny_bert, 2).fingerprint != before


def test_stop_folder_without_or_with_a_damaged_model(tmp_path: Path, tiny_bert: Path, tiny_clip: Path) -> None:
    with pytest.raises(DataError, match="holds no transformers model"):
        ModelVisualEncoder(tmp_path, 2)
    (tiny_bert / "model.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match="cannot be loaded as a text model"):
        ModelTextEncoder(tiny_bert, 2)
    (tiny_clip / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(DataError, match="cannot be loaded as a vision model"):
        ModelVisualEncoder(tiny_clip, 2)
