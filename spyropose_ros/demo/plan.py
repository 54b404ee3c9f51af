"""What a demo consists of: the model, the parameters of its processes, and its rule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from spyropose_ros.detector.bundle_files import CONFIG as DETECTOR

_MAX_POSES = 1024  # per message: enough for the whole arc of poses of a hidden handle
_BEAM = 128  # a quarter of the node's default: 0.1 to 0.2 nats worse, twice as fast on a CPU
_AT_REST = {  # however long it takes to choose the next place, the mug is where it was
    "temporal.rotation_noise": 0.5,
    "temporal.translation_noise": 0.0005,
    "temporal.outlier": 0.001,
    "temporal.max_gap": 600.0,
}
_MAX_AGE = 10.0  # seconds; the camera waits for every frame, so a late one is not obsolete

SHIPPED = ("mug", "lmo")
"""The demos whose models come with the package."""

NEXT_VIEW = "next-view"
"""The demo of a camera that chooses where to look from; with the mug's model."""

FIXED_FRAME = "table"
"""In which its camera moves."""

OWN, ANNOTATIONS = "own", "annotations"
"""Where boxes come from: the detector made for the model, or the truth with simulated errors."""

RULE = """\
The exit code is 0 only if
  - at least 90 % of the published frames got a distribution (own detector on photographs: 80 % of
    those that show at least half of the object; missed is also what was found a diameter or more
    beside the object),
  - the median rotation error of the leading mode is at most 1.5 x the model card's + 2 deg
    (mug: frames whose handle gives >= 5 % of the mug's pixels; else: visible >= 90 %), and at most
    half of what a guess has (66 deg without a symmetry),
  - the median sideways error, of the same frames, is at most 1.5 x the card's + 2 mm, and at most
    a quarter of the object's diameter,
  - the true rotation is among the most central 90 % of the poses at most 15 points more seldom
    than the card's 90 % credible regions hold the truth, and in at least half of the frames,
  - mug: hiding the handle raises the entropy about the mug's axis by at least half as much as on
    the card.
The card's numbers are those of report.json beside the model."""


@dataclass(frozen=True)
class Model:
    """What the demo knows of the model bundle, from its config.json.

    Attributes:
        directory: Of the bundle.
        object_name: 'mug', 'lmo/<object>', or 'part/<class id>' for a part of one's own.
        center: Of the object's bounding sphere, object frame, metres.
        diameter: Of the bounding sphere, metres.
        data: Data set of the training and its name of the object.
    """

    directory: Path
    object_name: str
    center: tuple[float, float, float]
    diameter: float
    data: tuple[str, str]

    @classmethod
    def read(cls, directory: str | Path) -> Model:
        """Read the description of a bundle.

        Args:
            directory: Folder of the bundle, or of a run that has made one.

        Returns:
            What the bundle is for; its weights are not read.

        Raises:
            ValueError: There is no bundle, or it is damaged or cannot be shown.
        """
        folder = Path(directory).expanduser().absolute()
        if (folder / "bundle").is_dir():
            folder /= "bundle"
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text())
            record, info = config["record"], config["object"]
            data, name = record.get("dataset", "rendered"), record["object"]
            if data == "lmo":
                name = f"lmo/{name}"
            elif data != "rendered":
                name = f"part/{info['name']}"
            sphere = tuple(info["center"]), float(info["diameter"])
            model = cls(folder, name, *sphere, (data, record["object"]))
        except OSError as error:
            raise ValueError(
                f"there is no model in {path.parent} ({error.strerror}): give mug, lmo, or the "
                "folder of a run that has made one, see ./run train --help"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}): export the model again") from error
        if model.is_part and not model.mesh.is_file():
            raise ValueError(
                f"{folder} has no {model.mesh.name} to show: the demo plays parts that were "
                "trained from a mesh"
            )
        return model

    @property
    def class_id(self) -> str:
        """The object's name in detections."""
        return self.object_name.rpartition("/")[2]

    @property
    def is_part(self) -> bool:
        """Whether it is a part of one's own, neither the mug nor an object of LM-O."""
        return self.object_name.startswith("part/")

    @property
    def has_photographs(self) -> bool:
        """Whether the demo shows photographs."""
        return self.object_name.startswith("lmo/")

    @property
    def has_handle(self) -> bool:
        """Whether it is the mug, whose handle is hidden at times."""
        return self.object_name == "mug"

    @property
    def demo(self) -> str:
        """Name of the demo, and of its folder of results."""
        return "lmo" if self.has_photographs else self.class_id

    @property
    def detector(self) -> Path | None:
        """The detector made for it: in its bundle, or for photographs the one of all objects."""
        if (self.directory / DETECTOR).is_file():
            return self.directory
        shared = share_folder() / "models" / "lmo_detector"
        return shared if self.has_photographs and (shared / DETECTOR).is_file() else None

    @property
    def report(self) -> Path:
        """The evaluation that the model card shows."""
        return self.directory / "report.json"

    @property
    def mesh(self) -> Path:
        """The object's mesh."""
        return self.directory / "mesh.ply"


def share_folder() -> Path:
    """Return the folder with models and configuration: installed, or the source tree."""
    try:
        return Path(get_package_share_directory("spyropose_ros"))
    except PackageNotFoundError:
        return Path(__file__).parents[2]


def shipped_model(demo: str) -> Path:
    """Find the package's model for a demo.

    Args:
        demo: 'mug' or 'lmo'.

    Returns:
        The folder of the model.

    Raises:
        ValueError: The package has none.
    """
    models = share_folder() / "models"
    found = sorted(models.glob("demo_mug" if demo == "mug" else f"demo_{demo}_*"))
    if not found:
        raise ValueError(
            f"there is no model for the demo of {demo} in {models}: train one, see ./run train "
            "--help, and give its folder with --model"
        )
    return found[0]


def box_source(model: Model, given: str) -> str:
    """Choose where the boxes come from.

    Args:
        model: The model to show.
        given: OWN, ANNOTATIONS, or the folder of a detector.

    Returns:
        The folder of a detector; ANNOTATIONS also if the model has no detector.
    """
    if given != OWN:
        return given
    return ANNOTATIONS if model.detector is None else str(model.detector)


def parameters(
    model: Model,
    frames: int = 0,
    device: str = "auto",
    output: str = "",
    data_root: str = "data",
    detector: str = OWN,
) -> dict[str, dict]:
    """Return the ROS parameters of the processes.

    A detector runs in the estimator's process, as `estimator.launch.py` runs it: the image is
    decoded once, and no box travels as a message.

    Args:
        model: The model to show.
        frames: Number of frames; 0 for all.
        device: Where the model runs.
        output: Folder for the results; by default one for each demo.
        data_root: Folder of the downloaded data sets.
        detector: OWN, ANNOTATIONS, or the folder of a detector.

    Returns:
        Parameters by the executable's name.
    """
    boxes = box_source(model, detector)
    annotated = boxes == ANNOTATIONS
    processes: dict[str, dict] = {
        "estimator": _estimator(model, device, "topic" if annotated else boxes),
        "demo_camera": {
            "object": str(model.directory) if model.is_part else model.object_name,
            "frames": frames,
            "data_root": data_root,
            "detections": annotated,
        },
        "demo_summary": {
            "model": str(model.directory),
            "detector": boxes,
            "output": output or output_folder(model),
            "data_root": data_root,
        },
    }
    return processes | ({"demo_detector": {}} if annotated else {})


def output_folder(model: Model) -> str:
    """Return the folder for the results of a demo."""
    return f"demo_output/{model.demo}"


def next_view_parameters(model: Model, device: str, output: str) -> dict[str, dict]:
    """Return the ROS parameters of the processes of the demo NEXT_VIEW; see `parameters`."""
    filtered = {"fixed_frame": FIXED_FRAME, "temporal.enabled": True}
    return {
        "estimator": _estimator(model, device, "topic") | filtered | _AT_REST,
        "demo_next_view": {"output": output},
    }


def _estimator(model: Model, device: str, detector: str) -> dict:
    """Return the parameters of the estimator."""
    return {
        "objects": [str(model.directory)],
        "detector": detector,
        "detections.max_count": 1,  # the demo shows one object
        "device": device,
        "search.beam": _BEAM,
        "threads": 1,  # several processes share the cores: more threads would wait
        "qos.reliability": "reliable",
        "qos.depth": 20,  # the camera publishes while PyTorch's import holds the interpreter
        "sync.max_age": _MAX_AGE,
        "output.max_poses": _MAX_POSES,
    }
