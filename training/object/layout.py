"""The files of a part's training."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Where everything lies.

    Attributes:
        root: folder of the part, runs/<name>.
        stage: 1, or more where a finished training goes on: its held-out set and its runs have
            folders of their own.
    """

    root: Path
    stage: int = 1

    @property
    def data(self) -> Path:
        """The held-out set, in the BOP format."""
        return self.of_stage("data")

    @property
    def detector(self) -> Path:
        """Run of the detector."""
        return self.of_stage("detector")

    @property
    def pose(self) -> Path:
        """Run of the pose model."""
        return self.of_stage("pose")

    @property
    def labels(self) -> Path:
        """Labelled photographs; without `labels_summary` they could not be labelled."""
        return self.of_stage("labels")

    @property
    def labels_summary(self) -> Path:
        """What the labelling has found."""
        return self.labels / "labels.json"

    @property
    def photos(self) -> Path:
        """Run of the pose model with photographs, or on renderings alone if they have no labels."""
        return self.of_stage("photos")

    @property
    def poses(self) -> list[Path]:
        """Runs of the pose model in this stage, each from the weights of the one before."""
        return [self.pose, *([self.photos] if self.photos.is_dir() else [])]

    @property
    def stages(self) -> list["Layout"]:
        """Of all stages up to this one."""
        return [replace(self, stage=stage) for stage in range(1, self.stage + 1)]

    def of_stage(self, name: str) -> Path:
        """Return a stage's folder, such as "data", "detector" or "pose"."""
        return self.root / (name if self.stage == 1 else f"{name}_{self.stage}")

    @property
    def bundle(self) -> Path:
        """The result: pose model, detector, mesh and card."""
        return self.root / "bundle"

    @property
    def page(self) -> Path:
        """What a browser shows."""
        return self.root / "index.html"

    @property
    def mesh_facts(self) -> Path:
        """What was found in the mesh."""
        return self.root / "mesh.json"

    @property
    def crops(self) -> Path:
        """Sheet of training crops."""
        return self.root / "crops.png"

    @property
    def pose_report(self) -> Path:
        """The pose model's evaluation."""
        return self.bundle / "report.json"

    @property
    def records(self) -> Path:
        """Its answers, image by image."""
        return self.pose_report.with_name("report.records.jsonl")

    @property
    def figure(self) -> Path:
        """Its figures."""
        return self.pose_report.with_name("report.png")

    @property
    def predictions(self) -> Path:
        """Its pictures."""
        return self.pose_report.with_name("report_predictions.png")

    @property
    def presence_report(self) -> Path:
        """The evaluation of presence; missing where it could not be fitted."""
        return self.bundle / "presence_renderings.json"

    @property
    def presence_figure(self) -> Path:
        """Its figures."""
        return self.presence_report.with_suffix(".png")

    @property
    def detector_report(self) -> Path:
        """The detector's evaluation."""
        return self.bundle / "report_detector_rendered.json"
