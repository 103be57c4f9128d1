"""Where weights come from, and what is wrong with those that don't load."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import ml_dtypes
import numpy as np
import pytest
from clip_goldens import ROOT, copy_golden, edit_json, load_encoder
from huggingface_hub import errors
from safetensors.numpy import load_file, save_file

from mca_jax.core.errors import InputError, InputWarning
from mca_jax.encoders import build_encoder
from mca_jax.encoders.clip.config import parse_clip_config
from mca_jax.encoders.clip.encoder import build_clip
from mca_jax.encoders.clip.towers import expected_tensors
from mca_jax.encoders.huggingface import checkpoint_files
from mca_jax.encoders.huggingface.checkpoint_files import (
    find_checkpoint,
    find_weights,
    read_weights,
)
from mca_jax.encoders.registry import build_image_encoder

REPOSITORY = "somebody/some-clip"


def fails(folder, message):
    """Check that a folder is refused in one line."""
    with pytest.raises(InputError, match=message) as error:
        build_clip(str(folder))
    assert "\n" not in str(error.value)


def rewrite(folder, change):
    """Apply a function to the tensors of a golden checkpoint."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_safetensors_are_mapped_and_exact():
    path = ROOT / "openai" / "model.safetensors"
    found = read_weights([path])
    expected = load_file(path)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.owndata
        assert not found[name].flags.writeable


def test_shards_and_msgpack_hold_the_same_kind_of_tensors():
    single = read_weights(find_weights(ROOT / "openai", source="x"))
    shards = read_weights(find_weights(ROOT / "laion", source="x"))
    flax = read_weights(find_weights(ROOT / "rectangular", source="x"))
    assert len(find_weights(ROOT / "laion", source="x")) > 1
    shapes = {k: v.shape for k, v in single.items() if not k.endswith("position_ids")}
    assert {k: v.shape for k, v in shards.items()} == shapes
    shapes["vision_model.embeddings.position_embedding.weight"] = (37, 32)
    assert {k: v.shape for k, v in flax.items()} == shapes


def test_half_precision_is_read(tmp_path):
    values = np.array([1.5, -2.0, 0.25], np.float32)
    header = {
        "a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]},
        "b": {"dtype": "F16", "shape": [3, 1], "data_offsets": [6, 12]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = values.astype(ml_dtypes.bfloat16).tobytes()
    content += values.astype(np.float16).tobytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    found = read_weights([path])
    np.testing.assert_array_equal(found["a"].astype(np.float32), values)
    np.testing.assert_array_equal(found["b"].astype(np.float32), values[:, None])


def test_quantised_weights_are_refused(tmp_path):
    header = {"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(InputError, match="Tensor a .*unsupported type F8_E4M3"):
        read_weights([path])


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
@pytest.mark.parametrize("name", ["openai", "rectangular"])
def test_truncated_weights_are_named(tmp_path, name, kept):
    folder = copy_golden(name, tmp_path)
    (path,) = find_weights(folder, source="x")
    path.write_bytes(path.read_bytes()[:kept])
    fails(folder, f"{path.name} is truncated or damaged .*download it again")


def test_garbage_is_no_weights(tmp_path):
    folder = copy_golden("rectangular", tmp_path)
    (folder / "flax_model.msgpack").write_bytes(b"\xc1 no msgpack")
    fails(folder, "flax_model.msgpack is truncated or damaged")
    (folder / "flax_model.msgpack").write_bytes(b"\x07")
    fails(folder, "flax_model.msgpack is truncated or damaged")


def test_pointers_of_git_lfs_are_recognised(tmp_path):
    folder = copy_golden("siglip", tmp_path)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model.safetensors").write_bytes(pointer)
    fails(folder, "pointer of git-lfs")


def test_missing_tensors_are_named(tmp_path):
    folder = copy_golden("siglip", tmp_path)
    rewrite(folder, lambda t: t.pop("vision_model.head.probe"))
    fails(folder, "Missing tensors in .*model.safetensors: vision_model.head.probe;")
    edit_json(
        folder / "config.json",
        lambda c: c["text_config"].update(num_hidden_layers=4),
    )
    fails(folder, r"text_model.encoder.layers.2.* and \d+ more")


def test_extra_tensors_are_named_but_for_position_ids(tmp_path):
    folder = copy_golden("openai", tmp_path)
    rewrite(folder, lambda t: t.update({"head.weight": np.zeros(3, np.float32)}))
    with pytest.warns(InputWarning, match="that nothing reads: head.weight; if"):
        found = build_clip(str(folder))
    np.testing.assert_array_equal(
        found.params["image"]["params"]["positions"],
        load_encoder("openai").params["image"]["params"]["positions"],
    )
    assert any(
        name.endswith(".position_ids")
        for name in read_weights([ROOT / "openai" / "model.safetensors"])
    )


def test_a_shallower_config_is_noticed(tmp_path):
    folder = copy_golden("openai", tmp_path)
    edit_json(
        folder / "config.json",
        lambda c: c["vision_config"].update(num_hidden_layers=2),
    )
    fails(folder, "Unknown tensors .*vision_model.encoder.layers.2.layer_norm1.bias")


def test_a_wrong_image_size_is_named(tmp_path):
    folder = copy_golden("openai", tmp_path)

    def grow(config):
        config["vision_config"]["image_size"] = 40

    edit_json(folder / "config.json", grow)
    fails(folder, "images of 40x40 .* found .*32, 32")
    for key in ("size", "crop_size"):
        edit_json(
            folder / "preprocessor_config.json", lambda c, key=key: c.update({key: 40})
        )
    fails(folder, r"shape \[26, 32\] .* found \[17, 32\]; image_size or patch_size")


def test_a_wrong_shape_is_named(tmp_path):
    folder = copy_golden("openai", tmp_path)
    edit_json(folder / "config.json", lambda c: c.update(projection_dim=24))
    fails(folder, r"visual_projection.weight .* \[24, 32\] .* found \[20, 32\]$")


def test_logit_scales_of_either_shape(tmp_path):
    folder = copy_golden("siglip", tmp_path)
    rewrite(folder, lambda t: t.update(logit_scale=t["logit_scale"].reshape(())))
    assert build_clip(str(folder)).params["logit_scale"].shape == ()
    rewrite(folder, lambda t: t.update(logit_scale=np.zeros(2, np.float32)))
    fails(folder, r"logit_scale .* \[1\] .* found \[2\]")


def test_only_pickles(tmp_path):
    folder = copy_golden("openai", tmp_path)
    (folder / "model.safetensors").unlink()
    fails(folder, "No model.safetensors and no flax_model.msgpack in")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    fails(folder, r"only as a pickle \(pytorch_model.bin\), which runs code")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "index.json is no JSON"),
        ("[]", "No weight_map in"),
        ('{"weight_map": {}}', "No weight_map in"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "No file absent.safetensors"),
        ('{"weight_map": {"a": "../openai/x"}}', "No file ../openai/x beside"),
        (json.dumps({"weight_map": {"a": "x" * 300}}), "No file xxxx"),
        ("[" * 100_000, "index.json is no JSON"),
    ],
)
def test_damaged_indices(tmp_path, index, message):
    folder = copy_golden("laion", tmp_path)
    (folder / "model.safetensors.index.json").write_text(index)
    fails(folder, message)


def test_a_msgpack_of_something_else_than_numbers(tmp_path):
    from flax import serialization

    folder = copy_golden("rectangular", tmp_path)
    content = serialization.msgpack_serialize({"text": {"kernel": b"bytes"}})
    (folder / "flax_model.msgpack").write_bytes(content)
    fails(folder, "damaged .something else than numbers")


def test_a_missing_shard_and_one_too_many(tmp_path):
    folder = copy_golden("laion", tmp_path)
    shards = find_weights(folder, source="x")
    copied = shards[0].with_name("copy.safetensors")
    copied.write_bytes(shards[0].read_bytes())
    edit_json(
        folder / "model.safetensors.index.json",
        lambda c: c["weight_map"].update(again=copied.name),
    )
    fails(folder, "in another file")
    shards[0].unlink()
    fails(folder, f"No file {shards[0].name} beside")


def test_folders_that_are_no_checkpoint(tmp_path):
    fails(tmp_path, "No config.json in")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    fails(
        tmp_path,
        "model_type chinese_clip, clip, .*siglip2, found 'resnet': it sees",
    )
    (tmp_path / "config.json").write_text("not json")
    fails(tmp_path, "config.json is no JSON")
    fails(tmp_path / "config.json", "found a file; name the folder")
    fails(tmp_path / "absent", "No folder .*absent")
    (tmp_path / "nested").mkdir()
    modules = [{"path": "0_CLIPModel", "type": "models.CLIPModel"}]
    (tmp_path / "nested" / "modules.json").write_text(json.dumps(modules))
    fails(tmp_path / "nested", "old one; its model lies in 0_CLIPModel: pass that")


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("ViT-B-32", "openai/clip-vit-base-patch32"),
        ("ViT-L/14@336px", "openai/clip-vit-large-patch14-336"),
        ("sentence-transformers/clip-ViT-B-16", "openai/clip-vit-base-patch16"),
        ("ViT-B-16-SigLIP2", "google/siglip2-base-patch16-224"),
    ],
)
def test_names_of_other_libraries_lead_to_the_twin(name, twin):
    with pytest.raises(InputError, match=f"{name} is what other .*; {twin} is a"):
        build_encoder(name)


def test_siglip_without_a_last_layer_for_texts(tmp_path):
    """As the multilingual ones: it gives what a layer that changes nothing would."""
    folder = copy_golden("siglip2", tmp_path)

    def square(config):
        config["text_config"] |= {"hidden_size": 32, "num_attention_heads": 4}

    edit_json(folder / "config.json", square)
    config = parse_clip_config(
        json.loads((folder / "config.json").read_text()), source="x"
    )
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.normal(size=shape).astype(np.float32) / 4
        for name, shape in expected_tensors(config).items()
    }
    tensors["text_model.head.weight"] = np.eye(32, dtype=np.float32)
    tensors["text_model.head.bias"] *= 0
    save_file(tensors, folder / "model.safetensors")
    with_layer = build_clip(str(folder)).params["text"]["params"]["projection"]
    for part in ("weight", "bias"):
        del tensors[f"text_model.head.{part}"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.warns(InputWarning, match="has no text_model.head, as is right for"):
        build_clip(str(folder))
    edit_json(folder / "config.json", lambda c: c["text_config"].update(no_head=True))
    without = build_clip(str(folder)).params["text"]["params"]["projection"]
    for part in ("kernel", "bias"):
        np.testing.assert_array_equal(without[part], with_layer[part])
    tensors["text_model.head.bias"] = np.zeros(32, np.float32)
    save_file(tensors, folder / "model.safetensors")
    fails(folder, "Missing tensors in .*: text_model.head.weight")


def test_an_unknown_activation(tmp_path):
    folder = copy_golden("laion", tmp_path)
    edit_json(
        folder / "config.json", lambda c: c["vision_config"].update(hidden_act="gelu2")
    )
    fails(folder, "Unknown hidden_act in vision_config.*'gelu2'; did you mean 'gelu'")


class Response:
    """What the hub's errors want to know about their cause."""

    headers: dict = {}
    request = None
    status_code = 404
    text = ""


def hub_error(kind):
    try:
        return kind("no\nway", response=Response())
    except TypeError:
        return kind("no\nway")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("x"), "the hub can't be reached; pass a local"),
        (hub_error(errors.RepositoryNotFoundError), "No checkpoint .* on the hub"),
        (hub_error(errors.RevisionNotFoundError), "No checkpoint .* on the hub"),
        (hub_error(errors.GatedRepoError), "terms accepted"),
        (errors.HFValidationError("x"), "neither a local folder nor an id"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (TimeoutError(), "TimeoutError; pass a local"),
    ],
)
def test_what_the_hub_answers_is_one_line(monkeypatch, error, message):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=message) as caught:
        find_checkpoint(REPOSITORY)
    told = str(caught.value)
    assert REPOSITORY in told
    assert "local folder" in told
    assert "lite" in told
    assert "\n" not in told


def serve(monkeypatch, source, folder):
    """Let a folder stand for the hub; return the patterns that were asked for."""
    import fnmatch

    asked = []

    def download(repo_id, *, allow_patterns, **kwargs):
        asked.append(allow_patterns)
        folder.mkdir(exist_ok=True)
        for file in source.iterdir():
            if any(fnmatch.fnmatch(file.name, p) for p in allow_patterns):
                (folder / file.name).write_bytes(file.read_bytes())
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


@pytest.mark.parametrize(
    ("name", "build", "weights"),
    [
        ("timm/plain", build_image_encoder, "model.safetensors"),
        ("open_clip/perception", build_encoder, "open_clip_model.safetensors"),
        ("clip/chinese", build_encoder, "model.safetensors"),
    ],
)
def test_other_layouts_come_from_the_hub(monkeypatch, tmp_path, name, build, weights):
    source = Path(shutil.copytree(ROOT.parent / name, tmp_path / "hub"))
    (source / "pytorch_model.bin").write_bytes(b"large")
    serve(monkeypatch, source, tmp_path / "cache")
    assert build(REPOSITORY).fingerprint == build(str(ROOT.parent / name)).fingerprint
    found = {file.name for file in (tmp_path / "cache").iterdir()}
    assert {each for each in found if each.endswith((".safetensors", ".bin"))} == {
        weights
    }


@pytest.mark.parametrize(("name", "calls"), [("laion", 2), ("rectangular", 3)])
def test_one_form_of_the_weights_is_downloaded(monkeypatch, tmp_path, name, calls):
    source = copy_golden(name, tmp_path / "hub")
    for extra in ("pytorch_model.bin", "tf_model.h5", "open_clip_model.safetensors"):
        (source / extra).write_bytes(b"large")
    if name == "laion":
        (source / "flax_model.msgpack").write_bytes(b"large")
    asked = serve(monkeypatch, source, tmp_path / "cache")
    encoder = build_clip(REPOSITORY)
    assert encoder.name == REPOSITORY
    assert len(asked) == calls
    found = {file.name for file in (tmp_path / "cache").iterdir()}
    wanted = {file.name for file in (ROOT / name).iterdir()} - {
        "golden.json",
        "golden.npz",
    }
    assert found == wanted


def test_a_repository_of_pickles(monkeypatch, tmp_path):
    source = copy_golden("openai", tmp_path / "hub")
    (source / "model.safetensors").unlink()
    serve(monkeypatch, source, tmp_path / "cache")
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "list_repo_files",
        lambda self, repo_id: ["README.md", "pytorch_model.bin"],
    )
    fails(REPOSITORY, r"some-clip has its weights only as a pickle \(pytorch_model")
    requests = [SimpleNamespace(ref=f"refs/pr/{number}") for number in (3, 5)]
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "list_repo_refs",
        lambda self, repo_id, **kwargs: SimpleNamespace(pull_requests=requests),
    )
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "file_exists",
        lambda self, repo_id, name, revision: revision == "refs/pr/5",
    )
    fails(
        REPOSITORY,
        "its revision refs/pr/5 has safetensors: set encoder.revision to refs/pr/5, or "
        "fetch it with hf download somebody/some-clip --revision=refs/pr/5 --local-dir",
    )

    def refuse(self, repo_id):
        raise OSError

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    fails(REPOSITORY, "No model.safetensors and no flax_model.msgpack in somebody")


def hub_cache(root, **revisions):
    """A cache of the hub with some files at each revision; main is the first."""
    folder = root / "models--somebody--some-clip"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(next(iter(revisions)))
    for place, (name, files) in enumerate(revisions.items()):
        snapshot = folder / "snapshots" / name
        snapshot.mkdir(parents=True)
        for file in files:
            shutil.copy(ROOT / "openai" / file, snapshot / file)
        os.utime(snapshot, (place, place))
    return folder / "snapshots"


SMALL = ("config.json", "preprocessor_config.json", "tokenizer.json")


def test_offline_the_weights_of_another_revision_are_found(monkeypatch, tmp_path):
    snapshots = hub_cache(tmp_path, a=SMALL, b=("model.safetensors",), c=())
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: str(snapshots / "a")
    )
    with pytest.warns(InputWarning, match="revision a of some.* has no weights; .* b "):
        found = build_encoder(REPOSITORY)
    assert found.fingerprint == load_encoder("openai").fingerprint
    (snapshots / "b" / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *a: [])
    fails(
        REPOSITORY,
        "of somebody/some-clip in the local cache, which holds the rest of revision "
        "a, b, c; fetch it with hf download somebody/some-clip$",
    )


def test_offline_the_only_revision_in_the_cache_is_taken(monkeypatch, tmp_path):
    hub_cache(tmp_path, a=(), b=(*SMALL, "model.safetensors"))

    def refuse(*args, **kwargs):
        raise errors.LocalEntryNotFoundError("x")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.warns(InputWarning, match="can't be reached; revision b is taken"):
        found = build_clip(REPOSITORY, cache_dir=str(tmp_path))
    assert found.fingerprint == load_encoder("openai").fingerprint
    with pytest.raises(InputError, match="is not in the local cache"):
        build_clip(REPOSITORY, cache_dir=str(tmp_path), revision="refs/pr/8")


def test_the_revision_is_asked_for(monkeypatch):
    asked = []

    def download(repo_id, *, revision, **kwargs):
        asked.append(revision)
        return str(ROOT / "openai")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert build_encoder(REPOSITORY, revision="refs/pr/8").width == 20
    assert set(asked) == {"refs/pr/8"}
    with pytest.raises(InputError, match="no encoder.revision with encoder 'lite'"):
        build_encoder("lite", revision="refs/pr/8")


def test_offline_the_hubs_cache_is_used_and_nothing_else(tmp_path):
    # The real client in a process of its own, for it reads its settings once.
    cache = tmp_path / "hub"
    snapshot = cache / "models--somebody--some-clip" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cache / "models--somebody--some-clip" / "refs").mkdir()
    (cache / "models--somebody--some-clip" / "refs" / "main").write_text("0" * 40)
    for file in (ROOT / "openai").iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    code = f"""
from mca_jax.core.errors import InputError
from mca_jax.encoders.huggingface.checkpoint_files import find_checkpoint
print(find_checkpoint({REPOSITORY!r}))
try:
    find_checkpoint("somebody/absent")
except InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    found, told = done.stdout.splitlines()
    assert Path(found) == snapshot
    assert told == (
        "Checkpoint somebody/absent is not in the local cache and the hub can't be "
        "reached; pass a local folder that holds the checkpoint, or use the embedded "
        "encoder lite"
    )


def test_no_pickle_is_ever_opened():
    text = Path(checkpoint_files.__file__).read_text()
    assert "import pickle" not in text
    assert "torch.load" not in text
    assert "allow_pickle" not in text
