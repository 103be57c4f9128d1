"""New images among the clusters of a finished run."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image
from small_runs import blobs, small_encoder, small_run, small_vocabulary

import mca_jax
from mca_jax.core.errors import InputError
from mca_jax.data import find_images
from mca_jax.model import predict as module
from mca_jax.model.predict import Predictor
from mca_jax.pipeline.config import config_from_dict
from mca_jax.report.export import assigned_images, export_folders
from mca_jax.report.images import ImageReader
from mca_jax.report.write import write_predictions


@pytest.fixture(scope="module")
def predictor():
    return Predictor(small_run().model)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Crops of two real photographs, one of them twice, and two broken files."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, picture in zip("ab", load_sample_images().images, strict=True):
        for i in range(4):
            top, left = random.integers(0, 150, 2)
            crop = picture[top : top + 240, left : left + 240]
            Image.fromarray(crop).save(root / f"{name}{i}.png")
    (root / "a9.png").write_bytes((root / "a0.png").read_bytes())
    (root / "c0.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (root / "c1.jpg").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def photo_run(photos, tmp_path_factory):
    vocabulary = small_vocabulary(tmp_path_factory.mktemp("nouns"))
    with small_encoder() as encoder:
        config = mca_jax.apply_overrides(
            mca_jax.Config(),
            ["train.epochs=2", "encoder.batch_size=4", vocabulary, encoder],
        )
        yield mca_jax.cluster(photos, num_clusters=2, config=config)


def test_training_images_get_the_answer_of_training(predictor):
    result = small_run()
    placed = predictor.predict(image_embeddings=result.embeddings)
    np.testing.assert_array_equal(placed.nearest, result.assignments)
    np.testing.assert_allclose(
        placed.probabilities, result.probabilities, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        placed.confidences, result.confidences, rtol=0, atol=1e-6
    )
    # What the images of a cluster attend to is what it is named by.
    for cluster in result.clusters:
        rows = np.flatnonzero(result.assignments == cluster.index)
        first = [placed.nouns[row][0] for row in rows]
        common = max(set(first), key=first.count)
        assert common == cluster.nouns[0].name


def test_files_get_the_answer_of_training(photo_run, photos):
    placed = Predictor(photo_run.model).predict(photos)
    assert placed.paths == photo_run.paths
    assert placed.skipped == photo_run.skipped
    np.testing.assert_array_equal(placed.nearest, photo_run.assignments)
    np.testing.assert_allclose(
        placed.probabilities, photo_run.probabilities, rtol=0, atol=1e-6
    )
    # The same picture twice.
    rows = [placed.paths.index(name) for name in ("a0.png", "a9.png")]
    np.testing.assert_array_equal(*placed.probabilities[rows])


def test_folders_paths_and_pixels_agree(photo_run, photos):
    predictor = Predictor(photo_run.model)
    names = [f"a{i}.png" for i in range(4)]
    pixels = np.stack([np.asarray(Image.open(photos / name)) for name in names])
    from_folder = predictor.predict(str(photos)).probabilities[:4]
    from_paths = predictor.predict([photos / name for name in names])
    assert from_paths.paths == tuple(str(photos / name) for name in names)
    np.testing.assert_allclose(from_paths.probabilities, from_folder, atol=1e-6)
    from_pixels = predictor.predict(pixels)
    np.testing.assert_allclose(from_pixels.probabilities, from_folder, atol=1e-6)
    from_pictures = predictor.predict([Image.open(photos / name) for name in names])
    np.testing.assert_array_equal(
        from_pictures.probabilities, from_pixels.probabilities
    )
    from_listing = predictor.predict(find_images(photos)).probabilities[:4]
    np.testing.assert_array_equal(from_listing, from_folder)


@pytest.mark.parametrize("form", ["paths", "pictures"])
def test_lists_are_clustered_as_their_folder_is(photo_run, photos, tmp_path, form):
    """And shown and exported, as far as there are files."""
    files = [photos / name for name in photo_run.paths]
    config = config_from_dict(photo_run.model.config)
    images = files if form == "paths" else list(map(Image.open, files))
    with small_encoder():
        result = mca_jax.cluster(images, config=config)
    np.testing.assert_array_equal(result.embeddings, photo_run.embeddings)
    np.testing.assert_array_equal(result.assignments, photo_run.assignments)
    with_pictures = form == "paths"
    assert ImageReader(result).available == with_pictures
    if with_pictures:
        assert result.paths == tuple(map(str, files))
        assert export_folders(assigned_images(result), tmp_path / "out") == 0
        copies = [path.name for path in tmp_path.glob("out/*/*")]
        assert sorted(copies) == sorted(photo_run.paths)
    else:
        with pytest.raises(InputError, match="found arrays"):
            export_folders(assigned_images(result), tmp_path / "out")


def test_a_stream_is_the_same_in_pieces(photo_run, photos, monkeypatch):
    whole = Predictor(photo_run.model).predict(photos)
    # Windows: good and broken images, then nothing but broken ones.
    monkeypatch.setattr(module, "_WINDOW", 3)
    told = []
    predictor = Predictor(photo_run.model)
    parts = list(predictor.stream(photos, progress=told.append))
    assert [len(part.paths) for part in parts] == [3, 3, 3, 0]
    assert sum((part.paths for part in parts), ()) == whole.paths
    assert sum((part.skipped for part in parts), ()) == whole.skipped
    assert sum(told) == 11
    together = np.concatenate([part.probabilities for part in parts])
    np.testing.assert_allclose(together, whole.probabilities, rtol=0, atol=1e-6)


def test_nearly_no_training_image_is_none_of_these(predictor):
    result = small_run()
    for share in (0.0, 0.005, 0.1):
        placed = predictor.predict(
            image_embeddings=result.embeddings, outlier_quantile=share
        )
        assert (placed.clusters < 0).mean() <= share
        flagged = placed.clusters < 0
        np.testing.assert_array_equal(flagged, placed.closeness < placed.threshold)
        np.testing.assert_array_equal(
            placed.clusters[~flagged], placed.nearest[~flagged]
        )


def test_a_stranger_is_none_of_these(predictor):
    axes = np.eye(8, dtype=np.float32)
    placed = predictor.predict(image_embeddings=axes)
    # The blobs lie on the first four axes.
    assert placed.names[4:] == ("none of these",) * 4
    assert set(placed.clusters[4:]) == {-1}
    assert "none of these" not in placed.names[:4]
    assert (placed.nearest >= 0).all()


@pytest.mark.parametrize("count", [0, 1, 1024, 1025])
def test_padding_changes_nothing(predictor, count):
    vectors = blobs(1, per_axis=300)[:count]
    placed = predictor.predict(image_embeddings=vectors)
    assert len(placed.paths) == len(placed.nouns) == count
    assert placed.probabilities.shape == (count, 4)
    np.testing.assert_allclose(placed.probabilities.sum(axis=1), 1, atol=1e-5)
    for row in range(0, count, 400):
        alone = predictor.predict(image_embeddings=vectors[row : row + 1])
        np.testing.assert_allclose(
            alone.probabilities[0], placed.probabilities[row], rtol=0, atol=1e-6
        )
        assert alone.nouns[0] == placed.nouns[row]


def test_placing_is_traced_once(monkeypatch):
    traces = []
    build = module.build_assign

    def counting(model):
        place, arrays = build(model)

        def counted(*arguments):
            traces.append(1)
            return place(*arguments)

        return counted, arrays

    monkeypatch.setattr(module, "build_assign", counting)
    predictor = Predictor(small_run().model)
    for count in (1, 7, 1024, 1500):
        predictor.predict(image_embeddings=blobs(count, per_axis=400)[:count])
    assert traces == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "found neither"),
        ({"images": "x", "image_embeddings": np.eye(8)}, "found both"),
        ({"image_embeddings": np.eye(4)}, r"shape \[n, 8\], found \[4, 4\]"),
        ({"image_embeddings": np.full((1, 8), np.nan)}, "finite"),
        (
            {"image_embeddings": np.eye(8), "outlier_quantile": 2},
            "outlier_quantile between 0",
        ),
        ({"images": np.zeros((1, 8, 8, 3), np.uint8)}, "made from given embeddings"),
        ({"images": "/no/such/folder"}, "No such folder"),
        ({"images": []}, "at least one image"),
        ({"images": ["a.png", Image.new("L", (1, 1))]}, "str in row 0 and Image"),
    ],
)
def test_arguments_that_do_not_fit(predictor, arguments, message):
    with pytest.raises(InputError, match=message):
        predictor.predict(**arguments)


def test_another_encoder_is_refused(photo_run, photos):
    encoder = {**photo_run.model.encoder, "fingerprint": "0" * 64}
    model = dataclasses.replace(photo_run.model, encoder=encoder)
    with pytest.raises(InputError, match="'small' with fingerprint 0000000000000000"):
        Predictor(model).predict(photos)


def test_nothing_to_read(photo_run, photos, tmp_path):
    predictor = Predictor(photo_run.model)
    broken = [photos / "c0.jpg", photos / "gone.jpg"]
    with pytest.raises(InputError, match=r"No readable image among 2: .*c0"):
        predictor.predict(broken)
    with pytest.raises(InputError, match="No readable image among 2"):
        write_predictions(predictor.stream(broken), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tables_of_a_prediction(predictor, tmp_path):
    axes = np.eye(8, dtype=np.float32)
    placed = predictor.predict(image_embeddings=axes[3:5])
    risky = dataclasses.replace(placed, paths=("=1+1.jpg", "fine, really.jpg"))
    counts = write_predictions([risky, placed], tmp_path)
    assert counts == {"images": 4, "none": 2, "skipped": 0}
    with (tmp_path / "assignments.csv").open(newline="", encoding="utf-8-sig") as file:
        header, first, second, *rest = csv.reader(file)
    assert header[:4] == ["path", "cluster", "confidence", "cluster_name"]
    assert header[4:] == ["nearest_cluster", "closeness", "nouns"]
    assert first[0] == "./=1+1.jpg"
    assert first[1] == first[4] == str(placed.nearest[0])
    assert second[:2] == ["fine, really.jpg", "-1"]
    assert second[3] == "none of these"
    assert float(second[2]) == pytest.approx(placed.confidences[1], abs=5e-7)
    assert first[6] == "; ".join(placed.nouns[0])
    assert len(rest) == 2
    assert (tmp_path / "skipped.csv").read_text("utf-8-sig") == "path,reason\n"
