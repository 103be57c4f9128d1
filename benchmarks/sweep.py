"""Every variant and baseline on every set, over seeds: one file a run.

python -m benchmarks.sweep --images=DIR[,DIR] --cache=DIR --out=DIR --seeds=5

A folder of --images has a sub-folder for each class; --unions=A+B puts two of the sets
together. A run whose file is there, made with the same settings from the same
embeddings, is not repeated. Labels are read by the functions that score a finished
run, by the reference lines, and by the draw of a long-tailed set (--long-tail=10,50);
nothing that trains is given them.
python -m benchmarks.results_page makes the page.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.methods import (
    BASELINES,
    Shared,
    run_baseline,
    run_peer_of,
    run_variant,
)
from benchmarks.peers import PEERS
from benchmarks.reference_lines import (
    class_rows,
    linear_probe,
    score_classes,
    zero_shot,
)
from benchmarks.runs import (
    describe_machine,
    peak_gib,
    read_run,
    reset_peak,
    run_path,
    write_run,
)
from benchmarks.sets import (
    Answers,
    SweepSet,
    draw_long_tail,
    join_sets,
    load_sets,
)
from benchmarks.variants import VARIANTS
from mca_jax.core.errors import InputError, check_in_range, check_one_of
from mca_jax.core.text import fingerprint
from mca_jax.evaluation import (
    Scores,
    expected_calibration_error,
    score_clustering,
)
from mca_jax.pipeline.config import Config, apply_overrides, config_to_dict

__all__ = ["REFERENCES", "Plan", "main", "plan_runs", "run_sweep"]

REFERENCES = ("zero-shot", "linear-probe")
"""Lines that use class names or labels; no clustering can be blamed for less."""


class Plan(NamedTuple):
    """One run that is wanted, with the settings that differ from the defaults."""

    variant: str
    kind: Literal["variant", "baseline", "reference"]
    seed: int
    overrides: tuple[str, ...]


def plan_runs(
    *, names: Sequence[str], num_seeds: int, overrides: Sequence[str]
) -> list[Plan]:
    """List the runs of one set seed by seed, those that share most together.

    Args:
      names: Variants, baselines and reference lines; empty takes all.
      num_seeds: Seeds 0 to this, at least 1.
      overrides: Settings of every run.

    Raises:
      InputError: A name is unknown or there is no seed.
    """
    check_in_range("--seeds", num_seeds, 1)
    known = [*VARIANTS, *BASELINES, *REFERENCES]
    for name in names:
        # Peers run where they are named: their packages are an extra.
        check_one_of("variant", name, [*known, *PEERS])
    plans = []
    for seed in range(num_seeds):
        for name in names or known:
            # Names and their nearest images have no seed.
            if name == "zero-shot" and seed:
                continue
            own = VARIANTS[name].overrides if name in VARIANTS else ()
            kind = "reference" if name in REFERENCES else "baseline"
            kind = "variant" if name in VARIANTS else kind
            plans.append(Plan(name, kind, seed, (*overrides, *own)))
    return plans


def _reference(
    given: SweepSet, answers: Answers, plan: Plan
) -> tuple[Scores, dict[str, float]] | None:
    """Score a line that uses labels; None where it can't be had for this set."""
    started = time.perf_counter()
    if plan.variant == "zero-shot":
        rows = class_rows(given.table, answers.class_names)
        if rows is None:
            return None
        scores = score_classes(answers.labels, zero_shot(given, rows))
    else:
        if np.bincount(answers.labels).min() < 2:
            return None
        held, predicted = linear_probe(given.embeddings, answers, seed=plan.seed)
        scores = score_classes(answers.labels[held], predicted)
    return scores, {plan.variant: time.perf_counter() - started}


def _make_run(
    shared: Shared, answers: Answers, plan: Plan, config: Config
) -> dict[str, Any] | None:
    """Do one run and score it."""
    reset_peak()
    values: dict[str, Any] = {"label_free": {}, "epochs": 0, "status": "no training"}
    values |= {"history": [], "risk": [], "steps_per_pass": 0, "start_acc": None}
    values["ece"] = None
    if plan.kind == "reference":
        found = _reference(shared.given, answers, plan)
        if found is None:
            return None
        scores, values["seconds"] = found
    else:
        if plan.kind == "variant":
            outcome = run_variant(shared, config)
        elif plan.variant in PEERS:
            outcome = run_peer_of(shared, plan.variant, config)
        else:
            outcome = run_baseline(shared, plan.variant, config)
        # From here on the clusters are what they are.
        scores = Scores(*score_clustering(answers.labels, outcome.assignments))
        values |= outcome._asdict()
        del values["assignments"], values["started"], values["confidences"]
        if outcome.confidences is not None:
            values["ece"] = expected_calibration_error(
                answers.labels, outcome.assignments, outcome.confidences
            )
        if outcome.started is not None:
            start = score_clustering(answers.labels, outcome.started)
            values["start_acc"] = start.acc
    return {"scores": scores._asdict(), **values, "peak_gib": peak_gib()}


def run_sweep(
    sets: Sequence[tuple[SweepSet, Answers]],
    plans: Sequence[Plan],
    folder: Path,
    *,
    command: str,
    log: Callable[[str], None] = print,
) -> int:
    """Do all runs whose files are not there yet; return how many were done.

    Files hold ``command``, which makes them again; ``log`` gets a line for each run.

    Raises:
      InputError: A setting is bad or a file can't be written.
    """
    hardware, versions = describe_machine()
    done = 0
    for given, answers in sets:
        shared, seed = Shared(given), -1
        for plan, config, path, identity in _missing(given, plans, folder, versions):
            if plan.seed != seed:
                shared.forget_seed()
                seed = plan.seed
            made = _make_run(shared, answers, plan, config)
            where = f"{given.name} {plan.variant} seed {plan.seed}"
            names = config.encoder.name, config.encoder.image
            if made is None:
                log(f"{where}: can't be had for this set")
                continue
            write_run(
                path,
                {
                    "set": given.name,
                    "base": given.base,
                    "ratio": given.ratio,
                    **plan._asdict(),
                    "uses_labels": plan.kind == "reference",
                    **made,
                    "encoder": "+".join(filter(None, names)),
                    "num_images": len(given.embeddings),
                    "num_clusters": given.num_clusters,
                    "identity": identity,
                    # The same for all seeds of a line, unless settings changed.
                    "settings": fingerprint({**config_to_dict(config), "seed": 0}),
                    "command": command,
                    "hardware": hardware,
                    "versions": versions,
                },
            )
            done += 1
            shown = " / ".join(f"{100 * x:.1f}" for x in made["scores"].values())
            log(f"{where}: {shown}")
    return done


def _missing(
    given: SweepSet, plans: Sequence[Plan], folder: Path, versions: dict[str, str]
) -> Iterator[tuple[Plan, Config, Path, str]]:
    """The runs of a set that have no whole file of the same settings."""
    for plan in plans:
        base = Config(num_clusters=given.num_clusters, seed=plan.seed)
        config = apply_overrides(base, plan.overrides)
        path = run_path(folder, given.name, plan.variant, plan.seed)
        made_of = (given.digest, given.encoder, versions["mca-jax"])
        identity = fingerprint([plan.variant, config_to_dict(config), *made_of])
        before = read_run(path)
        if before is None or before["identity"] != identity:
            yield plan, config, path, identity


def _command(options: argparse.Namespace) -> str:
    """Spell the command without the folders of one machine."""
    images = ",".join(f"DIR/{path.resolve().name}" for path in options.images)
    words = [f"--images={images}", "--cache=DIR", "--out=DIR"]
    words.append(f"--seeds={options.seeds}")
    if options.unions:
        words.append(f"--unions={','.join(options.unions)}")
    if options.long_tail:
        words.append(f"--long-tail={','.join(map(str, options.long_tail))}")
        words.append(f"--long-tail-seed={options.long_tail_seed}")
    if options.only:
        words.append(f"--only={','.join(options.only)}")
    words += [f"--set={override}" for override in options.set]
    return " ".join(["python -m benchmarks.sweep", *words])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def some(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
        return lambda text: [kind(part) for part in text.split(",") if part]

    parser.add_argument("--images", type=some(Path), required=True)
    parser.add_argument("--cache", type=some(Path), required=True, help="or one a set")
    parser.add_argument("--out", type=Path, required=True, help="folder of run files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=some(str), default=[], help="variants")
    parser.add_argument("--unions", type=some(str), default=[], help="set+set")
    parser.add_argument("--long-tail", type=some(int), default=[], help="ratios")
    parser.add_argument("--long-tail-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="train.epochs=3")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run; exit status 2 after bad input."""
    options = _parse(argv)
    try:
        plans = plan_runs(
            names=options.only, num_seeds=options.seeds, overrides=options.set
        )
        config = apply_overrides(Config(), options.set)
        sets = load_sets(options.images, options.cache, config)
        sets += [join_sets(sets, union) for union in options.unions]
        sets += [
            draw_long_tail(*pair, ratio=ratio, seed=options.long_tail_seed)
            for pair in list(sets)
            for ratio in options.long_tail
        ]
        started = time.monotonic()
        done = run_sweep(
            sets,
            plans,
            options.out,
            command=_command(options),
            log=lambda line: print(line, flush=True),
        )
        print(f"{done} runs in {time.monotonic() - started:.0f} s")
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
