"""Fit what tells whether the object is there: `python -m training.fit_presence RUN_ID_OR_BUNDLE`.

A logistic model of what the network sees in crops of the object, of other things and of background,
all rendered like the images of the training. It is written into the bundle's config.json; weights
and temperatures do not change. See docs/presence.md.
"""

from __future__ import annotations

import json
import logging

from spyropose_ros.core.bundle_files import CONFIG, write_config
from spyropose_ros.core.errors import InputError
from training import cli, provenance, runs

log = logging.getLogger(__name__)

_SEED_OFFSET = 10_000  # apart from every evaluation seed


def fit_presence(
    run_or_bundle: str,
    split: str | None = None,
    images: int = 1500,
    seed: int = 0,
    device: str | None = None,
    data_root: str = "data",
) -> dict:
    """Fit and store the model.

    Args:
        run_or_bundle: run id or folder of a bundle.
        split: photographs that the probabilities are to hold for, such as LM-O's "dev"; renderings
            by default, which the weights are always fitted on.
        images: number of renderings.
        seed: of the images and boxes.
        device: where to run.
        data_root: where data sets lie.

    Returns:
        The model, as the bundle keeps it.

    Raises:
        InputError: if the bundle is on the hub, the split is the one that is evaluated on, or the
            model knows only rotations.
    """
    directory = runs.stored_bundle(run_or_bundle)

    from training.data.streams import VALIDATION
    from training.presence.crops import look_at
    from training.presence.fitting import fit
    from training.presence.shown import renderings
    from training.presence.subject import open_subject

    subject = open_subject(str(directory), device, data_root)
    source = subject.source
    if split == source.splits[0]:
        raise InputError(
            f"'{split}' is what {source.name} is evaluated on: a fit to it flatters the "
            "evaluation; choose another split, or leave it out"
        )
    seed += _SEED_OFFSET
    crops = look_at(subject.estimator, renderings(source, seed, VALIDATION, images))
    crops = crops.without_parts()
    record = {
        "command": provenance.command(),
        "data": f"renderings of {source.name}",
        "crops": {"object": int(crops.there.sum()), "other": int((~crops.there).sum())},
        "seed": seed,
        "git_commit": provenance.git_commit(),
    }
    others = None
    if split is not None:
        seen = look_at(subject.estimator, subject.photographs(split, seed))
        others = seen.evidence, seen.there
        record["scaled_to"] = f"{len(seen.kinds)} crops of {source.name}, {split} split"
    model = fit(crops.evidence, crops.there, others)
    config = json.loads((directory / CONFIG).read_text())
    config["presence"] = vars(model)
    config["record"]["presence"] = record
    write_config(directory, config)
    log.info("stored in %s", directory / CONFIG)
    runs.log_next("see how good it is", "evaluate_presence", directory)
    return config["presence"]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(fit_presence, kept="the bundle is as it was")
