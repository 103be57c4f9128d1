"""Preprocessing against the reference's own processors, byte for byte."""

import json

import numpy as np
import pytest
from clip_goldens import PHOTOS, ROOT, copy_golden, edit_json, photo, pictures
from PIL import Image

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.image_processing import load_image_processing, process_image

SIZES = [(640, 427), (427, 640), (300, 300), (97, 1000), (31, 32), (20, 33), (1, 9)]


def theirs(kind, image, **settings):
    """Pixels by transformers before scaling, uint8 [h, w, 3]."""
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, kind)(
        do_rescale=False, do_normalize=False, **settings
    )
    (pixels,) = processor([image], return_tensors="np")["pixel_values"]
    return pixels.transpose(1, 2, 0)


def ours(tmp_path, family, target, image, **settings):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    processing = load_image_processing(tmp_path, family=family, image_size=target)
    return process_image(processing, image)


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_for_clip(tmp_path, name, resample):
    settings = {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "resample": resample,
    }
    found = ours(tmp_path, "clip", (224, 224), photo(name), **settings)
    assert found.dtype == np.uint8
    expected = theirs("CLIPImageProcessorPil", photo(name), **settings)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_for_siglip(tmp_path, name, resample):
    settings = {"size": {"height": 256, "width": 224}, "resample": resample}
    found = ours(tmp_path, "siglip", (256, 224), photo(name), **settings)
    expected = theirs("SiglipImageProcessorPil", photo(name), **settings)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_every_shape_of_image(tmp_path, size):
    image = photo("flower.jpg").resize(size)
    # The crop is larger than the short side: the reference pads with black.
    settings = {
        "size": {"shortest_edge": 30},
        "crop_size": {"height": 33, "width": 48},
        "resample": 3,
    }
    found = ours(tmp_path, "clip", (33, 48), image, **settings)
    expected = theirs("CLIPImageProcessorPil", image, **settings)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = photo("china.jpg").resize((60, 50)).convert(mode)
    found = ours(tmp_path, "clip", (32, 32), image, size=32, crop_size=32)
    expected = ours(tmp_path, "clip", (32, 32), image.convert("RGB"), size=32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["openai", "laion", "siglip", "siglip2"])
def test_normalised_pixels_are_those_of_the_reference(name):
    transformers = pytest.importorskip("transformers")
    kind = "SiglipImageProcessorPil" if "siglip" in name else "CLIPImageProcessorPil"
    size = (36, 36) if name == "siglip2" else (32, 32)
    family = "siglip" if "siglip" in name else "clip"
    reference = getattr(transformers, kind).from_pretrained(ROOT / name)
    processing = load_image_processing(ROOT / name, family=family, image_size=size)
    for image in [*pictures(name), *map(photo, PHOTOS)]:
        found = process_image(processing, image) * processing.scale
        found = (found - processing.mean) / processing.std
        (expected,) = reference([image], return_tensors="np")["pixel_values"]
        # A 255th of a pixel's range is what counts; this is rounding of float32.
        np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=2e-6)


def test_defaults_where_there_is_no_file(tmp_path):
    clip = load_image_processing(tmp_path, family="clip", image_size=(336, 336))
    assert (clip.shortest_edge, clip.size, clip.crop) == (336, None, (336, 336))
    assert clip.resample == Image.Resampling.BICUBIC
    siglip = load_image_processing(tmp_path, family="siglip", image_size=(256, 256))
    assert (siglip.shortest_edge, siglip.size, siglip.crop) == (None, (256, 256), None)
    assert siglip.mean == siglip.std == (0.5, 0.5, 0.5)


def test_the_processors_part_of_newer_checkpoints(tmp_path):
    folder = copy_golden("siglip2", tmp_path)
    old = folder / "preprocessor_config.json"
    content = {"image_processor": json.loads(old.read_text()), "processor_class": "x"}
    expected = load_image_processing(folder, family="siglip", image_size=(36, 36))
    old.unlink()
    (folder / "processor_config.json").write_text(json.dumps(content))
    found = load_image_processing(folder, family="siglip", image_size=(36, 36))
    assert found == expected
    assert found.resample == Image.Resampling.BILINEAR


def test_switched_off_steps(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"do_rescale": False, "do_normalize": False, "size": 32})
    )
    found = load_image_processing(tmp_path, family="siglip", image_size=(32, 32))
    assert (found.scale, found.mean, found.std) == (1.0, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 224}, r"Expected images of 32x32 from .*found \(224, 224\)"),
        ({"do_center_crop": False}, "shortest edge 32 and no crop"),
        ({"size": {"longest_edge": 5}}, "shortest_edge, or height and width"),
        ({"size": {"shortest_edge": 0}}, "at least 1, found 0"),
        ({"size": {"shortest_edge": "a"}}, "at least 1, found 'a'"),
        ({"crop_size": {"height": 32}}, "crop_size in"),
        ({"resample": 9}, "between 0 and 5, found 9"),
        ({"resample": "cubic"}, "found 'cubic'"),
        ({"image_mean": [0.5]}, "three numbers"),
        ({"image_std": [0, 1, 1]}, "above 0"),
        ({"do_resize": False}, "do_resize, found false"),
        ({"do_pad": True}, "padded images"),
        ({"rescale_factor": "x"}, "rescale_factor in .* above 0, found 'x'"),
    ],
)
def test_what_can_not_be_done_is_named(tmp_path, settings, message):
    folder = copy_golden("openai", tmp_path)
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(settings))
    with pytest.raises(InputError, match=message) as error:
        load_image_processing(folder, family="clip", image_size=(32, 32))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(InputError, match=r"preprocessor_config\.json"):
        load_image_processing(tmp_path, family="clip", image_size=(32, 32))
