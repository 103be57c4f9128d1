"""The encoder that build_clip returns: contract, invariants, settings."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from clip_goldens import (
    ROOT,
    compiled,
    copy_golden,
    edit_json,
    embed_images,
    embed_texts,
    load_encoder,
    pictures,
)
from PIL import Image
from safetensors.numpy import save_file

from mca_jax.core.errors import InputError
from mca_jax.encoders.clip.encoder import build_clip
from mca_jax.encoders.huggingface.checkpoint_files import find_weights, read_weights

NOUNS = ["cat", "sea lion", "Eiffel Tower"]
IDS = ["n02121620", "", ""]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("laion", "15e7fd69139fda04"), ("siglip2_naflex", "9d4541ce43b4cb47")],
)
def test_fingerprints_of_images_stay(name, expected):
    """By them embeddings of before are found, and models know their encoder."""
    assert load_encoder(name).image_fingerprint.startswith(expected)


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("openai", (32, 32), 20),
        ("rectangular", (32, 72), 20),
        ("siglip2", (36, 36), 32),
        # 20 patches and the row for the grid; 8 by 8 pixels a patch.
        ("siglip2_naflex", (21, 64), 32),
    ],
)
def test_what_an_encoder_promises(name, size, width):
    encoder = load_encoder(name)
    assert encoder.name == str(ROOT / name)
    assert (encoder.image_size, encoder.width) == (size, width)
    pixels = encoder.preprocess(pictures(name)[0])
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert len(bytes.fromhex(encoder.fingerprint)) == 32
    found = embed_texts(encoder, NOUNS, IDS)
    assert found.shape == (3, width)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_tokens_have_a_row_for_each_noun_and_a_layer_for_each_prompt():
    encoder = build_clip(str(ROOT / "openai"), prompts=("a {}", "the {}", "{}."))
    tokens = encoder.tokenize(NOUNS, IDS)
    assert tokens.shape == (3, 3, 16)
    assert encoder.tokenize(["cat"], [""]).shape == (1, 3, 8)
    assert load_encoder("siglip").tokenize(NOUNS, IDS).shape == (3, 1, 64)


def test_an_ensemble_is_the_renormalised_mean_of_its_prompts():
    singles = [
        embed_texts(build_clip(str(ROOT / "laion"), prompts=(each,)), NOUNS)
        for each in ("a photo of a {}", "art of the {}.")
    ]
    both = build_clip(
        str(ROOT / "laion"), prompts=("a photo of a {}", "art of the {}.")
    )
    mean = np.mean(singles, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_texts(both, NOUNS), expected, atol=1e-6)
    assert np.abs(expected - singles[0]).max() > 0.01


def test_padding_does_not_change_a_text_of_clip():
    encoder = load_encoder("laion")
    short = encoder.tokenize(["cat"], [""])
    end = int(short[0, 0].max())
    for fill in (0, end):
        longer = np.pad(short, ((0, 0), (0, 0), (0, 8)), constant_values=fill)
        found = compiled("laion")[1](encoder.params, longer)
        expected = compiled("laion")[1](encoder.params, short)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["openai", "siglip2_naflex"])
def test_rows_do_not_depend_on_their_batch(name):
    images = pictures(name)
    expected = embed_images(name, images)
    turned = embed_images(name, [images[2], images[0], images[1]])
    np.testing.assert_allclose(turned, expected[[2, 0, 1]], atol=1e-6)
    alone = [embed_images(name, [image])[0] for image in images]
    np.testing.assert_allclose(alone, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["openai", "siglip"])
def test_one_trace_for_one_shape(name):
    encoder = load_encoder(name)
    traces = []

    def images(params, pixels):
        traces.append(pixels.shape)
        return encoder.encode_images(params, pixels)

    function = jax.jit(images)
    for _ in range(3):
        function(encoder.params, np.zeros((2, 32, 32, 3), np.uint8))
    assert traces == [(2, 32, 32, 3)]


def test_sharded_equals_unsharded():
    encoder = load_encoder("openai")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    plain = jax.jit(encoder.encode_images)(encoder.params, pixels)
    split = jax.jit(encoder.encode_images, in_shardings=(None, rows))
    np.testing.assert_allclose(split(encoder.params, pixels), plain, atol=1e-6)


def test_glosses_and_articles_change_the_text():
    folder = str(ROOT / "laion")
    plain = build_clip(folder)
    glossed = build_clip(folder, glosses={"n02121620": "feline mammal"})
    fixed = build_clip(folder, fix_articles=True)
    assert (
        np.abs(
            embed_texts(glossed, ["cat"], IDS[:1]) - embed_texts(plain, ["cat"])
        ).max()
        > 0.01
    )
    np.testing.assert_array_equal(
        embed_texts(glossed, ["cat"]), embed_texts(plain, ["cat"])
    )
    assert (
        np.abs(embed_texts(fixed, ["owl"]) - embed_texts(plain, ["owl"])).max() > 0.01
    )
    prints = {each.fingerprint for each in (plain, glossed, fixed)}
    assert len(prints) == 3


def test_the_fingerprint_follows_what_the_embeddings_depend_on(tmp_path):
    first = load_encoder("siglip").fingerprint
    folder = copy_golden("siglip", tmp_path)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert build_clip(str(folder)).fingerprint == first
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(resample=2))
    second = build_clip(str(folder)).fingerprint
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    third = build_clip(str(folder)).fingerprint
    fourth = build_clip(str(folder), prompts=("{}",)).fingerprint
    fifth = build_clip(str(folder), dtype="bfloat16").fingerprint
    assert len({first, second, third, fourth, fifth}) == 5


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\ntags:\n- vision\n---\n# CLIP\n", "MIT"),
        ('---\ntags: []\nlicense: "Apache-2.0"\n---\n', "Apache-2.0"),
        ("---\nlicense: other\n---\n", "other"),
        ("# CLIP\nlicense: mit\n", "unknown"),
        ("---\ntags:\n- vision\n---\nlicense: mit", "unknown"),
    ],
)
def test_the_licence_is_the_model_cards(tmp_path, card, licence):
    folder = copy_golden("siglip", tmp_path)
    (folder / "README.md").write_text(card)
    assert build_clip(str(folder)).licence == licence


def test_no_card_no_licence():
    assert load_encoder("openai").licence == "unknown"


@pytest.mark.parametrize("shape", [(1, 31, 32, 3), (32, 32, 3), (1, 32, 32, 4)])
def test_pixels_of_another_size_are_refused(shape):
    encoder = load_encoder("openai")
    with pytest.raises(InputError, match=r"pixels of shape \[b, 32, 32, 3\].*found"):
        encoder.encode_images(encoder.params, np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(2, 8), (2, 1, 25)])
def test_tokens_of_another_shape_are_refused(shape):
    encoder = load_encoder("openai")
    with pytest.raises(InputError, match="at most 24"):
        encoder.encode_texts(encoder.params, np.zeros(shape, np.int32))


def test_settings_are_checked_before_anything_is_loaded():
    with pytest.raises(InputError, match="Unknown dtype 'float16'"):
        build_clip("nowhere/at-all", dtype="float16")
    with pytest.raises(InputError, match="template 'a photo'"):
        build_clip("nowhere/at-all", prompts=("a photo",))


def test_a_tokenizer_of_another_model_is_noticed(tmp_path):
    folder = copy_golden("laion", tmp_path)
    edit_json(
        folder / "config.json",
        lambda c: c["text_config_dict"].update(eos_token_id=7),
    )
    with pytest.raises(InputError, match="eos_token_id 7"):
        build_clip(str(folder)).tokenize(["cat"], [""])
    other = copy_golden("siglip2", tmp_path)
    (other / "tokenizer.json").write_bytes((ROOT / "laion" / "vocab.json").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer.json is no tokenizer"):
        build_clip(str(other))


def test_ids_beyond_the_vocabulary_are_noticed(tmp_path):
    folder = copy_golden("siglip", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((ROOT / "siglip2" / name).read_bytes())
    with pytest.raises(InputError, match="belong to different models"):
        build_clip(str(folder)).tokenize(["the photograph"], [""])


def test_images_of_any_mode_and_size_are_taken():
    encoder = load_encoder("siglip2_naflex")
    for image in (
        Image.new("L", (1, 500)),
        Image.new("RGBA", (500, 1)),
        Image.new("RGB", (1, 1)),
    ):
        for each in (encoder, load_encoder("openai")):
            pixels = each.preprocess(image)
            assert pixels.shape == (*each.image_size, 3)
        assert np.isfinite(embed_images("siglip2_naflex", [image])).all()


def test_building_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from mca_jax.encoders.clip.encoder import build_clip; "
        f"build_clip({str(ROOT / 'laion')!r}).tokenize(['cat'], ['']); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("words", [1, 7, 30])
def test_tokens_may_be_cut_behind_the_places_that_they_need(words):
    # One word is one token here, and two tokens go around.
    encoder = build_clip(str(ROOT / "laion"), prompts=("{}", "a {}"))
    tokens = encoder.tokenize(["a", " ".join(["a"] * words)], ["", ""])
    counts = encoder.count_tokens(tokens)
    np.testing.assert_array_equal(counts, [4, min(words + 3, 24)])
    padded = np.pad(tokens, ((0, 0), (0, 0), (0, 24 - tokens.shape[2])))
    whole = compiled("laion")[1](encoder.params, padded)
    cut = compiled("laion")[1](encoder.params, tokens[..., : max(counts)])
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_rows_of_siglip_are_never_cut():
    # Its text tower reads the padding too.
    assert load_encoder("siglip").count_tokens is None
    assert load_encoder("siglip2").count_tokens is None


def test_prompts_leave_the_fingerprint_of_images(tmp_path):
    folder = str(ROOT / "laion")
    prints = {
        build_clip(folder, **options).image_fingerprint
        for options in ({}, {"prompts": ("{}",)}, {"glosses": {"n1": "x"}})
    }
    assert len(prints) == 1
    copy = copy_golden("laion", tmp_path)
    edit_json(copy / "preprocessor_config.json", lambda c: c.update(resample=2))
    prints |= {build_clip(folder, dtype="bfloat16").image_fingerprint}
    prints |= {build_clip(str(copy)).image_fingerprint}
    assert len(prints) == 3


@pytest.mark.parametrize("name", ["laion", "siglip2"])
def test_a_tower_may_have_one_layer(tmp_path, name):
    # The last layer stands by itself: here nothing is left to be stacked.
    folder = copy_golden(name, tmp_path)
    config = folder / "config.json"
    for section in ("text_config", "text_config_dict", "vision_config"):
        edit_json(config, lambda c, s=section: c.get(s, {}).update(num_hidden_layers=1))
    tensors = read_weights(find_weights(folder, source=name))
    kept = {k: v.copy() for k, v in tensors.items() if ".layers.0." in k}
    kept |= {k: v.copy() for k, v in tensors.items() if ".layers." not in k}
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file(kept, folder / "model.safetensors")
    encoder = build_clip(str(folder))
    assert ("blocks" in encoder.params["image"]["params"]) == (name == "siglip2")
    tokens = encoder.tokenize(["cat"], [""])
    pixels = np.zeros((1, *encoder.image_size, 3), np.uint8)
    for function, inputs in (
        (encoder.encode_texts, tokens),
        (encoder.encode_images, pixels),
    ):
        found = jax.jit(function)(encoder.params, inputs)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
