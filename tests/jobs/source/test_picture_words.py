"""Every word that the picture modules have for a picture is told in plain words."""

import io
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from jobs.source import picture_cache, picture_fetching, picture_files, picture_hosts
from jobs.source.picture_content import decode_picture
from jobs.source.picture_words import WORDS, counted
from tests.jobs import source_builder as build


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("module", [picture_cache, picture_fetching, picture_files, picture_hosts])
def test_what_is_done_about_a_picture_and_why_there_is_none(module: ModuleType) -> None:
    words = {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str) and value.islower()}
    assert words and words <= WORDS.keys()


def test_what_is_found_in_a_picture() -> None:
    plain, turned = Image.new("RGB", (8, 8)), Image.Exif()
    turned[0x0112] = 6
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(noise, "PNG")
    pictures = [
        encoded(plain, "JPEG", exif=turned),
        encoded(plain.convert("CMYK"), "JPEG"),
        encoded(plain.convert("L"), "PNG"),
        encoded(plain.convert("RGBA"), "PNG"),
        encoded(Image.new("I;16", (8, 8)), "PNG"),
        encoded(plain.convert("P"), "GIF", save_all=True, append_images=[noise.resize((8, 8)).convert("P")]),
        encoded(Image.new("1", (8_000, 8_000)), "PNG"),
        whole[: len(whole) // 2],
        whole[:60] + bytes(len(whole) - 60),
        b"nothing of the kind",
    ]
    found = {trait for picture in pictures for trait in decode_picture(picture, 64).traits}
    assert found == {
        "rotated", "cmyk", "grey", "transparent", "sixteen_bit", "animated", "palette", "huge", "truncated", "damaged",
        "no_picture",
    } <= WORDS.keys()  # fmt: skip


def test_numbers_and_words_make_a_sentence() -> None:
    assert counted({"fetched": 1_200, "not_asked": 1}) == "1,200 downloaded now; 1 kept from an earlier download"
    assert decode_picture(build.picture(1), 64).traits == () and counted({}) == ""
    assert counted({"of_another_version": 2}) == "2 of another version"
