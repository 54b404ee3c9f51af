"""Evaluate detector and pose models together: `python -m training.evaluate_chain lmo MODEL,MODEL`.

On photographs of LM-O, by the measures of the BOP challenge: recalls of surface and projected
distance, and of the visible surface where there are depth images, over all targets of the eight
objects; objects without a model are missed. Writes
<output>.md with the tables and, in the format of the challenge, <output>-<boxes>-<split>.csv.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.bop.results import read_results, write_results
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance, runs

if TYPE_CHECKING:
    from spyropose_ros.bop.results import BopEstimate
    from spyropose_ros.bop.scene import BopFrame
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.detector.detector import Detector
    from spyropose_ros.scenes.verification import Verification
    from training.evaluation.chain import Recall, Targets

log = logging.getLogger(__name__)

SPLITS = ("dev", "test")
_NUMBERS = {number: name for name, number in LMO_OBJECTS.items()}
_WIDTH = 640  # of the photographs


def evaluate_chain(
    dataset: str,
    models: str,
    detector: str | None = None,
    compare: str | None = None,
    targets: str | None = None,
    beam: int = 512,
    limit: int | None = None,
    seed: int = 1,
    verify: bool = False,
    device: str | None = None,
    data_root: str = "data",
    output: str = "chain_lmo",
) -> Path:
    """Estimate all targets with the boxes of the annotation and of a detector, and measure.

    Args:
        dataset: "lmo".
        models: run ids or bundles of pose models, separated by commas.
        detector: run id or bundle; without it, only annotated boxes are used.
        compare: results file of another method, in the format of the challenge.
        targets: the challenge's list, test_targets_bop19.json, where it is at hand; by default the
            objects of which a tenth is visible by our own renderings.
        beam: most cells expanded per level.
        limit: most photographs of each half.
        seed: of the noise of annotated boxes.
        verify: weigh the modes by renderings, see `spyropose_ros.scenes.verification`.
        device: where to run.
        data_root: where the data set lies.
        output: path of the written files, without their extensions.

    Returns:
        Path of the Markdown file.

    Raises:
        InputError: another data set, two models of one object, a model of no object of it, or no
            target in a half.
        DataError: a file of results or targets is damaged.
        BundleError: a bundle is missing, damaged or foreign.
        MissingFileError: the photographs are missing.
    """
    if dataset != "lmo":
        raise InputError(f"the only data set with photographs is lmo, got '{dataset}'")

    from spyropose_ros.detector.detector import Detector
    from spyropose_ros.scenes.renderer import Renderer
    from spyropose_ros.scenes.verification import Verification
    from training.data.rendered import LmoSource, lmo_frames
    from training.evaluation import chain

    estimators = _estimators(models.split(","), device, beam)
    finder = None
    if detector is not None:
        finder = Detector.from_pretrained(runs.bundle_directory(detector), device)
    device = str(next(iter(estimators.values())).device)
    sources = {n: LmoSource(name, data_root) for name, n in LMO_OBJECTS.items()}
    objects = {n: source.target() for n, source in sources.items()}
    renderers = {n: Renderer(source.mesh) for n, source in sources.items()}
    verifications = {}
    if verify:
        meshes = {name: sources[n].mesh for name, n in LMO_OBJECTS.items()}
        verifications = {name: Verification(e, meshes[name]) for name, e in estimators.items()}
    lines = [
        "# Detector and pose models on photographs of LM-O",
        "",
        f"Models of {', '.join(estimators)}; detector: {detector or 'none'}; beam {beam}"
        f"{'; modes verified by renderings' if verify else ''}.",
        f"Command: `{provenance.command()}` (version {provenance.package_version()}, commit "
        f"{provenance.git_commit()}, {provenance.hardware(device)}).",
        f"Targets: {targets or 'objects of which a tenth is visible, by renderings of them'}.",
        "Recalls are means over the thresholds of the BOP challenge: surface distance (MSSD) of "
        "0.05 to 0.5 diameters, projected distance (MSPD) of 5 to 50 pixels and, where there are "
        "depth images, discrepancy of the visible surface (VSD) of 0.05 to 0.5 with tolerances of "
        "0.05 to 0.5 diameters; AR is the mean of the three. Annotated boxes are those of the "
        f"visible silhouettes, with the noise of a simulated detector, seed {seed}.",
    ]
    for split in SPLITS:
        frames = lmo_frames(Path(data_root) / "lmo", split)[:limit]
        wanted = chain.visible_targets(frames) if targets is None else chain.read_targets(targets)
        _require_targets(wanted, frames, split)
        results = {}
        for boxes, source in (("annotated", None), ("detected", finder)):
            if boxes == "annotated" or source is not None:
                results[boxes] = _estimates(frames, wanted, estimators, source, seed, verifications)
                write_results(f"{output}-{boxes}-{split}.csv", results[boxes])
        if compare is not None:
            results[Path(compare).stem] = read_results(compare)
        measured = renderers if all(frame.depth_path for frame in frames) else None
        found = {
            name: chain.recalls(poses, frames, wanted, objects, _WIDTH, measured)
            for name, poses in results.items()
        }
        lines += ["", f"## {split} half, {len(frames)} photographs", ""]
        lines += _table(found, set(estimators))
    path = Path(f"{output}.md")
    write_text(path, "\n".join(lines) + "\n")
    log.info("%s", path.read_text())
    return path


def _estimators(models: list[str], device: str | None, beam: int) -> dict[str, Estimator]:
    """Load pose models, by the names of their objects."""
    from spyropose_ros.core.estimator import Estimator

    estimators: dict[str, Estimator] = {}
    for model in models:
        bundle = runs.bundle_directory(model)
        estimator = Estimator.from_pretrained(bundle, device, SearchSettings(beam))
        name = estimator.bundle.object.name
        if name in estimators:
            raise InputError(f"{model} is a second model of '{name}': give one of each object")
        if name not in LMO_OBJECTS:
            raise InputError(f"{model} is a model of '{name}', which is no object of LM-O")
        estimators[name] = estimator
    return estimators


def _require_targets(targets: Targets, frames: list[BopFrame], split: str) -> None:
    """Refuse photographs that show no target: there is nothing to measure."""
    shown = {(f.scene_id, f.frame_id, i.object_id) for f in frames for i in f.instances}
    if not shown & set(targets):
        raise InputError(
            f"no target is in the {len(frames)} photographs of the {split} half: raise --limit, "
            "or give other --targets"
        )


def _estimates(
    frames: list[BopFrame],
    targets: Targets,
    estimators: dict[str, Estimator],
    detector: Detector | None,
    seed: int,
    verifications: dict[str, Verification],
) -> list[BopEstimate]:
    """Estimate the poses of all frames; annotated boxes where there is no detector."""
    from training.evaluation import chain

    poses: list[BopEstimate] = []
    for frame in tqdm(frames, unit="image"):
        image, started = frame.image(), time.perf_counter()
        if detector is None:
            found = chain.annotated(frame, _NUMBERS, targets, seed)
        else:
            found = chain.detected(detector, image)
        poses += chain.estimates(
            frame, image, found, estimators, verifications, LMO_OBJECTS, started
        )
    return poses


def _table(found: dict[str, dict[int, Recall]], modelled: set[str]) -> list[str]:
    """Return the recalls of several results, by object."""
    from training.evaluation.chain import mean_recall

    targets = next(iter(found.values()))
    groups = {_NUMBERS[number]: [number] for number in targets}
    with_model = [number for number in targets if _NUMBERS[number] in modelled]
    if with_model and len(with_model) < len(targets):
        groups[f"objects with a model ({len(with_model)})"] = with_model
    groups[f"all objects ({len(targets)})"] = list(targets)
    measures = ["vsd", "mssd", "mspd", "average"]
    if any(recall.vsd is None for recall in targets.values()):
        measures = ["mssd", "mspd"]
    columns = [{"average": "AR"}.get(measure, measure.upper()) for measure in measures]
    header = ["", "targets"]
    for name in found:
        header += [f"{name}: {columns[0]}", *columns[1:], "answered"]
    rows = []
    for title, numbers in groups.items():
        cells = [title, str(sum(targets[number].targets for number in numbers))]
        for recalls in found.values():
            mean = mean_recall([recalls[number] for number in numbers])
            cells += [f"{getattr(mean, measure):.3f}" for measure in measures]
            cells.append(f"{mean.found:.1%}")
        rows.append(cells)
    return markdown.table(header, rows)


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(evaluate_chain)


if __name__ == "__main__":
    main()
