"""What all evaluation commands share: a model, its data, and the head of the report."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.search import PosePyramid
from spyropose_ros.scenes.verification import Verification
from training import provenance, runs
from training.data.source import EvaluationObject, Sample, Source
from training.evaluation.admissible import AdmissiblePoses
from training.evaluation.ambiguity import ambiguity_metrics
from training.evaluation.metrics import image_metrics, summarise
from training.evaluation.protocol import Protocol
from training.evaluation.report import write_report


@dataclass(frozen=True)
class Evaluation:
    """A model, ready to be evaluated on a split of its data.

    Attributes:
        estimator: of the model.
        source: the data.
        target: the object.
        split: of the data.
        seed: of the noise.
        protocol: how images are put before the model.
        directory: of the report.
        verification: of the modes, by renderings; None without.
        admissible: finds the poses that precision and recall are measured against; None without.
    """

    estimator: Estimator
    source: Source
    target: EvaluationObject
    split: str
    seed: int
    protocol: Protocol
    directory: Path
    verification: Verification | None = None
    admissible: AdmissiblePoses | None = None

    @classmethod
    def open(
        cls,
        run_or_bundle: str,
        split: str | None,
        seed: int,
        settings: SearchSettings,
        protocol: Protocol,
        device: str | None,
        data_root: str,
        output: str | None,
        dataset: str | None = None,
    ) -> "Evaluation":
        """Load the model and its data.

        Args:
            run_or_bundle: run id, folder of a bundle, or hub id.
            split: of the data that the bundle was trained for; its first by default.
            seed: of the noise.
            settings: of the search.
            protocol: how images are put before the model.
            device: where to run.
            data_root: where data sets lie.
            output: folder of the report; next to the bundle by default.
            dataset: another one that shows the object, than that of the training.

        Returns:
            What the evaluation needs; with the paper's protocol, the temperatures are off.

        Raises:
            BundleError: the bundle cannot be used.
            InputError: the split does not exist.
        """
        bundle = ModelBundle.from_pretrained(runs.bundle_directory(run_or_bundle))
        source = runs.bundle_source(bundle, data_root, dataset)
        split = split or source.splits[0]
        source.check_split(split)
        protocol.prepare(bundle)
        if bundle.record["config"].get("last_level_only"):
            settings = replace(settings, exhaustive=True)  # the other heads are not trained
        estimator = Estimator(bundle, device, settings)
        directory = Path(output or bundle.name)
        return cls(estimator, source, source.target(), split, seed, protocol, directory)

    def head(self, description: str) -> dict:
        """Collect all that the records follow from.

        Args:
            description: of the protocol, in words.

        Returns:
            The head of the report, plain values by name.
        """
        bundle = self.estimator.bundle
        return {
            "object": self.source.object_name,
            "data": self.source.name,
            "annotation_sha256": self.source.annotation(self.split),
            "split": self.split,
            "variant": runs.variant(bundle),
            "bundle": runs.fingerprint(bundle),
            "seed": self.seed,
            "search": asdict(self.estimator.settings) | {"depth": self.estimator.depth},
            "protocol": description,
            "package_version": provenance.package_version(),
            "git_commit": provenance.git_commit(),
        }

    def metrics(self, pyramid: PosePyramid, sample: Sample) -> dict:
        """Compute the metrics of one image."""
        source, center = self.source, np.array(self.estimator.bundle.object.center)
        at = torch.from_numpy(center).float()
        distribution, verified = pyramid.distribution(0, at, source.diameter).to("cpu"), None
        if self.verification is not None:
            assert sample.box is not None  # `verified` has refused what has none
            verified = self.verification(sample.image, sample.K, sample.box, distribution)
            distribution = verified
        found = image_metrics(pyramid, center, source.diameter, sample, self.target, verified)
        if self.admissible is None:
            return found
        poses, width = self.admissible(sample), sample.image.shape[1]
        return found | ambiguity_metrics(distribution, poses, self.target, sample.K, width)

    def with_ambiguity(self) -> "Evaluation":
        """Measure precision and recall against the admissible poses, too.

        Returns:
            The evaluation.

        Raises:
            InputError: the data set has no mesh.
        """
        mesh, source = _mesh(self.source), self.source
        return replace(self, admissible=AdmissiblePoses(mesh, source.center, source.diameter))

    def verified(self) -> "Evaluation":
        """Weigh the modes by renderings.

        Returns:
            The evaluation.

        Raises:
            InputError: the data set has no mesh, images are crops, or the protocol is another than
                the node's.
        """
        if self.source.rotation_only or self.protocol.paper or self.protocol.regular_grid:
            raise InputError(
                "modes are verified where boxes are given and the grid is the node's: leave out "
                "--verify, or --paper-protocol and --regular-grid"
            )
        return replace(self, verification=Verification(self.estimator, _mesh(self.source)))

    def write(
        self,
        stem: str,
        head: dict,
        groups: dict[str, list[dict]],
        seconds: Iterable[float],
        pictures: Sequence[Path] = (),
    ) -> dict:
        """Summarise the records and write the report.

        Args:
            stem: of the file names.
            head: of the report.
            groups: records by name; the figure shows those of the first group.
            seconds: that each search took.
            pictures: of single images, in the report's folder.

        Returns:
            The report.
        """
        summary = {
            name: summarise(records, self.target, self.source.diameter)
            for name, records in groups.items()
        }
        report = head | {"metrics": summary}
        times = {
            "command": provenance.command(),
            "hardware": provenance.hardware(str(self.estimator.device)),
            "seconds_per_search_median": float(np.median(list(seconds))),
        }
        shown = next(iter(groups.values()))
        write_report(self.directory, stem, report, times, shown, pictures)
        return report


def _mesh(source: Source) -> trimesh.Trimesh:
    """Return the mesh of a data set's object."""
    if source.mesh is None:
        raise InputError(f"{source.name} has no mesh, which --verify and --ambiguity render")
    return source.mesh
