"""The files of a part's training."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Where everything lies.

    Attributes:
        root: folder of the part, runs/<name>.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The held-out set, in the BOP format."""
        return self.root / "data"

    @property
    def detector(self) -> Path:
        """Run of the detector."""
        return self.root / "detector"

    @property
    def pose(self) -> Path:
        """Run of the pose model."""
        return self.root / "pose"

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
