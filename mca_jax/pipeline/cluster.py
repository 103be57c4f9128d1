"""The whole job in one call: images or embeddings in, named clusters out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from mca_jax.alignment.forward import assign_clusters
from mca_jax.core.errors import InputError
from mca_jax.core.progress import Callback, Clock
from mca_jax.core.random import make_keys
from mca_jax.data import Images
from mca_jax.model.calibration import calibrate
from mca_jax.model.constraints import Given
from mca_jax.model.result import ClusterResult
from mca_jax.pipeline.assembly import build_model, host_network, remember_images
from mca_jax.pipeline.baselines import (
    Hooks,
    choose_baselines,
    compare_baselines,
    run_baselines,
)
from mca_jax.pipeline.config import Config, config_to_dict
from mca_jax.pipeline.describe import (
    describe_clusters,
    label_free_metrics,
    name_tree,
    nouns_to_see,
    provenance,
    warnings_for,
)
from mca_jax.pipeline.inputs import (
    embed_source,
    embed_view_sample,
    embed_vocabulary,
    open_inputs,
)
from mca_jax.pipeline.num_clusters import (
    check_enough,
    parse_num_clusters,
    settle_num_clusters,
)
from mca_jax.pipeline.resume import checkpoint_opener, training_identity
from mca_jax.pipeline.stages import (
    build_setup,
    cluster_images,
    find_neighbors,
    gather_data,
    predict_prepared,
    project,
    select_nouns,
    shard_embeddings,
    train_heads,
)
from mca_jax.pipeline.teach import apply_constraints, constrain_start, read_given
from mca_jax.semantics import NounTable

__all__ = ["Callback", "cluster"]


def cluster(
    images: Images | None = None,
    *,
    num_clusters: int | str | None = None,
    config: Config | None = None,
    image_embeddings: Any = None,
    view_embeddings: Any = None,
    noun_embeddings: Any = None,
    nouns: Sequence[str] | NounTable | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    constraints: Given | None = None,
    baselines: bool | Sequence[str] = False,
    callback: Callback | None = None,
) -> ClusterResult:
    """Cluster images into named groups. Takes no labels.

    Give a folder, an array of pixels, or embeddings with those of the nouns.

    Args:
      images: Folder, read recursively; paths of files; PIL images; pixels, uint8
        ``[n, h, w, 3]``; or a source, such as the images of a named data set.
      num_clusters: ``k``, at least 2 and at most ``n``; overrides that of
        ``config``, and is needed where there is no ``config``. ``"auto"``
        estimates it, ``"auto:5-60"`` in a range; what was found is in
        ``metrics["cluster_count"]``.
      config: All settings; None takes the defaults.
      image_embeddings: In place of ``images``: unit vectors ``[n, d]``.
      view_embeddings: With them, if to be had: unit vectors ``[s, v, d]`` of ``v``
        random views (crops, other light) of each of some hundred images. They show
        which axes to ignore; without them the principal axes are clustered.
      noun_embeddings: With them: unit vectors of the nouns ``[m, d]``.
      nouns: The nouns of those rows: names, or a table from ``load_nouns``.
      cache_dir: Folder that keeps embeddings of images for later runs.
      checkpoint_dir: Folder that keeps the state of training. A run that was
        broken off goes on from there, bit for bit, when it is called again; over
        other images, or with other settings, it begins anew beside that.
      constraints: What you know of single images, by path or row: which belong
        together, apart, in one group, or nowhere; see ``Constraints``. Or a JSON file
        of that. No labels are needed for it.
      baselines: Simpler methods on the same embeddings, to compare: True for all
        of ``pipeline.baselines.BASELINES``, or names of some. None takes labels.
      callback: Told about progress.

    Returns:
      Assignments, names, confidences and everything that the report shows.

    Raises:
      InputError: The arguments don't fit each other, a value is out of range,
        or no image can be read.
      Interrupted: With ``checkpoint_dir``, after Ctrl-C or SIGTERM in training.

    Example:
      >>> import numpy as np
      >>> axes = np.eye(4, dtype=np.float32)
      >>> photos = np.repeat(axes[:2], 20, axis=0)
      >>> result = cluster(image_embeddings=photos, noun_embeddings=axes,
      ...                  nouns=["cat", "boat", "tree", "lamp"], num_clusters=2)
      >>> sorted(c.name for c in result.clusters)
      ['boat', 'cat']
    """
    if num_clusters is None and config is None:
        raise InputError(
            "Expected num_clusters: how many groups to make, or num_clusters='auto' to "
            "estimate it"
        )
    config = config or Config()
    wanted = parse_num_clusters(
        config.num_clusters if num_clusters is None else num_clusters
    )
    compared = choose_baselines(baselines)
    clock = Clock(callback)

    # Images and nouns as unit vectors of one space, and the number of clusters.
    inputs = open_inputs(
        *(images, image_embeddings, nouns, noun_embeddings, config),
        view_embeddings=view_embeddings,
    )
    embedded = embed_source(inputs, config.encoder, clock, cache_dir=cache_dir)
    check_enough(len(embedded.paths), embedded.skipped, wanted)
    said = read_given(constraints, embedded.paths)
    embedded, views = embed_view_sample(
        inputs, embedded, config.encoder, clock, cache_dir=cache_dir
    )
    config, counted = settle_num_clusters(
        embedded.embeddings, wanted, config, clock, views=views
    )
    vocabulary, encoder, damaged = embed_vocabulary(
        inputs, config.encoder, clock, cache_dir=cache_dir
    )
    keys = make_keys(jax.random.key(config.seed))
    about = provenance(encoder, len(vocabulary.rows))
    identity = {}
    if checkpoint_dir is not None:
        identity = training_identity(
            config, embedded.embeddings, vocabulary, encoder, views, said
        )

    # The space that is clustered, and who is near whom in it.
    clock.report_stage("Projecting")
    projected = project(
        shard_embeddings(embedded.embeddings, config),
        vocabulary,
        config,
        spaces=encoder.spaces if encoder else (),
        views=views,
    )
    seen = nouns_to_see(vocabulary, config)
    del inputs, vocabulary
    clock.report_stage("Finding neighbours")
    near = find_neighbors(keys.neighbor_search, projected.images, config)
    clock.report_stage("k-means")
    kmeans = cluster_images(keys.kmeans, near.images, config)
    clock.report_stage("Filtering nouns")
    space, audit = select_nouns(projected.nouns, kmeans.centers, config)
    clock.report_stage("Finding nouns")
    prepared = gather_data(
        *(keys, near.images, kmeans, space, config),
        near=near.neighbors.indices,
        unsmoothed=projected.images,
    )
    prepared, data = constrain_start(prepared, said), prepared.data

    clock.report_stage("Training", config.train.epochs)
    setup = build_setup(data, config)
    hooks = Hooks(
        partial(_log_epoch, clock),
        checkpoint_opener(
            *(checkpoint_dir, identity, config),
            provenance=about,
            space=space,
            callback=clock.callback,
        ),
    )
    fit = train_heads(
        *(keys.training, setup, data, prepared.initialization, config),
        text_share=prepared.text_share,
        **hooks._asdict(),
    )
    others, failures = run_baselines(
        compared,
        keys,
        embedded.embeddings,
        prepared,
        config,
        setup=setup,
        hooks=hooks,
        clock=clock,
    )

    # What the networks say, in words and numbers.
    clock.report_stage("Predicting")
    params = calibrate(
        keys.calibration,
        setup.heads,
        fit.params,
        images=data.images,
        image_neighbors=data.image_neighbors,
        assignments=fit.assignments,
    )
    predictions = predict_prepared(setup.heads, params, data)
    assignments = assign_clusters(predictions.probabilities)
    clock.report_stage("Naming")
    names, tree = name_tree(
        np.asarray(data.images),
        embedded.embeddings,
        assignments,
        seen,
        num_clusters=config.num_clusters,
        image_mean=np.asarray(projected.projection.mean),
        noun_mean=np.asarray(projected.noun_mean),
    )
    clusters = describe_clusters(
        names,
        space.table,
        images=np.asarray(data.images),
        probabilities=predictions.probabilities,
        assignments=assignments,
    )
    model = build_model(
        encoder=encoder,
        config=config,
        embeddings=embedded.embeddings,
        assignments=assignments,
        network=host_network(projected, setup, params),
        memory=remember_images(projected.images, near),
        nouns=space,
        clusters=clusters,
    )
    clock.report_stage("Measuring")
    metrics = {
        **counted,
        "label_free": label_free_metrics(predictions, prepared, fit, near.recall),
    }
    if compared:
        metrics["baselines"] = compare_baselines(assignments, others, prepared, config)
    clock.stop()
    return apply_constraints(
        ClusterResult(
            paths=embedded.paths,
            root=embedded.root,
            skipped=embedded.skipped,
            embeddings=embedded.embeddings,
            digests=embedded.digests,
            neighbors=np.asarray(data.image_neighbors),
            assignments=assignments,
            probabilities=predictions.probabilities,
            clusters=clusters,
            tree=tree,
            model=model,
            params=params,
            history=fit.history,
            status=fit.status.value,
            metrics=metrics,
            baselines=others,
            audit=audit.counts(),
            warnings=(
                *(*embedded.warnings, *damaged),
                *(*warnings_for(names, fit, prepared), *failures),
            ),
            seconds=clock.seconds,
            config=config_to_dict(config),
            provenance=about,
        ),
        said,
        seed=config.seed,
    )


def _log_epoch(clock: Clock, name: str, row: dict[str, float]) -> None:
    clock.callback.advance(1)
    clock.callback.log("epoch", {"run": name, **row})
