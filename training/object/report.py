"""What the page says about a part: from the files that its training has left."""

import json
import shlex
import time
from itertools import islice
from pathlib import Path

import numpy as np

from spyropose_ros.bop import BopDataset, BopFrame, BopScene, load_mesh, load_models_info
from spyropose_ros.core.bundle_files import CONFIG as POSE_CONFIG
from spyropose_ros.core.files import write_text
from spyropose_ros.detector.bundle import CONFIG as DETECTOR_CONFIG
from training import provenance
from training.detector.evaluation import PRECISION
from training.evaluation.records import read_records
from training.evaluation.report import ACCURACIES, COVERAGES, read_report
from training.evaluation.verdict import summary_lines, verdict
from training.object.confusion import WRONG, confusions
from training.object.figures import (
    DETECTOR_CURVES,
    POSE_CURVES,
    detections,
    outlines,
    training_curves,
)
from training.object.layout import Layout
from training.object.mesh_facts import fact_lines
from training.object.page import Picture, Section, read_picture, render
from training.runs import steps_of

_SHOWN = 6  # pictures of a kind
_LEAST_SCORE = 0.3


def write_page(layout: Layout, name: str, hours: float) -> None:
    """Write index.html.

    Args:
        layout: of the part's folder, whose other files are complete.
        name: of the part.
        hours: of all stages, those asked for.
    """
    facts = json.loads(layout.mesh_facts.read_text())
    report = read_report(layout.pose_report)[0]
    found = json.loads(layout.detector_report.read_text())
    sections = [
        _mesh(layout, facts),
        _accuracy(layout, report),
        _calibration(layout, report),
        _confused(layout),
        *_presence(layout),
        *_photographs(layout),
        _detector(layout, found),
        _training(layout, hours),
        _launch(layout, name),
    ]
    judgement = verdict(report).partition(";")[0]  # without remedies, which name other commands
    sentences = (
        f"Pose model: {judgement}. Detector: finds {found['recall']:.0%} of the parts, with "
        f"{PRECISION:.0%} of its boxes right."
    )
    write_text(layout.page, render(name, sentences, sections))


def _mesh(layout: Layout, facts: dict) -> Section:
    return Section(
        "What was found in the mesh",
        rows=fact_lines(facts),
        warnings=facts["warnings"],
        pictures=read_picture(
            layout.crops,
            "Crops as the model sees them in training: outline (green), axes (x red, y green, "
            "z blue), keypoints (white), where the detector sees the part (yellow).",
        ),
    )


def _accuracy(layout: Layout, report: dict) -> Section:
    summary = report["metrics"]["all"]
    rows = [(line[:16].strip(), line[16:]) for line in summary_lines(report)]
    accuracy = ", ".join(f"{summary[f'acc_{a}']:.0%} within {a} deg" for a in ACCURACIES)
    rows.append(("rotations", accuracy))
    rows += [
        (f"... {group}", f"{part['rotation_median_deg']:.1f} deg, {part['images']} images")
        for group, part in report["metrics"].items()
        if group != "all"
    ]
    return Section(
        "How accurate the poses are",
        [
            "Measured on renderings that the training has not seen, modulo the symmetries above. "
            "Photographs of your camera may be harder: evaluate on some before you rely on it."
        ],
        rows,
        read_picture(
            layout.predictions,
            "Predictions, from the smallest to the largest error. Solid axes: the leading mode; "
            "haze: the other poses; dashed white: the truth.",
        ),
    )


def _calibration(layout: Layout, report: dict) -> Section:
    coverage = report["metrics"]["all"]["coverage"]
    rows = [
        (f"{mass:.0%} region", f"holds the true pose in {coverage[str(mass)]:.0%} of the images")
        for mass in COVERAGES
    ]
    caption = "Calibration, log-likelihood level by level, and entropy."
    return Section(
        "Whether its probabilities are true",
        [
            "They are fitted to what photographs are like. On these renderings the regions may "
            "hold the truth more often than they say."
        ],
        rows=rows,
        pictures=read_picture(layout.figure, caption),
    )


def _confused(layout: Layout) -> Section:
    title, every = "What it confuses", read_records(layout.records)
    records = [record for record in every if record["n_modes"]]
    if not records:
        return Section(title, ["In no image does a pose stand out: there is nothing to confuse."])
    rest = 1 - len(records) / len(every)
    told = [f"In {rest:.0%} of the images no pose stands out. What follows is of the others."]
    texts = told if rest else []
    truth = _true_rotations(layout.data)
    pairs = [(truth[r["scene"], r["image"]], r["R"]) for r in records]
    symmetries = next(iter(load_models_info(layout.data).values())).symmetries[:, :3, :3]
    true, estimated = (np.array(rotations) for rotations in zip(*pairs, strict=True))
    found = confusions(true, estimated, symmetries)
    limit = f"{np.degrees(WRONG):.0f} degrees"
    if not found:
        return Section(title, [*texts, f"No leading mode is more than {limit} off."])
    return Section(
        title,
        [
            *texts,
            f"Turns of the object, more than {limit}, by which the leading mode is off. Of a pose "
            "that cannot be told in an image, the distribution has several modes.",
        ],
        [(turn.words, f"{turn.share:.1%} of these images") for turn in found],
    )


def _true_rotations(data: Path) -> dict[tuple[int, int], np.ndarray]:
    frames = _frames(data)
    return {(f.scene_id, f.frame_id): f.instances[0].rotation for f in frames}


def _frames(data: Path) -> list[BopFrame]:
    """Return the images of the held-out set, one instance each."""
    scenes = BopDataset(data).scenes("test")
    return [frame for scene in scenes for frame in BopScene(scene).frames]


def _presence(layout: Layout) -> list[Section]:
    """Return what is said of presence, nothing where the bundle does not tell it."""
    if not layout.presence_report.is_file():
        return []
    found = json.loads(layout.presence_report.read_text())
    rows = [
        ("told from other things", f"AUC {found['auc']:.3f}"),
        ("its probabilities", f"{found['ece']:.3f} off the true ones on average"),
        ("where the part is", f"{found['there']:.2f} (median)"),
        ("measured on", f"{found['object']} crops of the part, {found['other']} of other things"),
    ]
    caption = "ROC curves by what else is seen, calibration, and presence of both."
    pictures = read_picture(layout.presence_figure, caption)
    return [Section("Whether it knows that the part is there", rows=rows, pictures=pictures)]


def _photographs(layout: Layout) -> list[Section]:
    """Return what is said of photographs, nothing where none are labelled."""
    if not layout.labels_summary.is_file():
        return []
    found = json.loads(layout.labels_summary.read_text())
    rows = [
        ("photographs", f"{found['photographs']}, in {found['detected']} of them it was detected"),
        ("their label", f"{found['agreeing']} of {found['groups']} groups agree on it"),
    ]
    scenes = sorted(path for path in layout.labels.iterdir() if path.is_dir())
    frames = [frame for scene in scenes for frame in BopScene(scene).frames]
    mesh = load_mesh(layout.data, next(iter(load_models_info(layout.data))))
    caption = "Where the label says that the part is (green): the outline must fit."
    picture = Picture(outlines(frames[:: -(-len(frames) // _SHOWN)], mesh), caption)
    return [Section("The photographs it was trained with", rows=rows, pictures=[picture])]


def _detector(layout: Layout, found: dict) -> Section:
    rows = [
        (
            "recall",
            f"{found['recall']:.0%} of the objects, where {PRECISION:.0%} of the boxes are right",
        ),
        ("overlap of these boxes", _shown(found["median_iou"], "{:.2f} (median IoU)")),
        ("false boxes", _shown(found["false_per_empty_image"], "{:.2f} in each image without it")),
        ("average precision", f"AP {found['ap']:.2f}, AP50 {found['ap50']:.2f}"),
        ("its scores", _shown(found["ece"], "{:.3f} off the true probabilities on average")),
        ("measured on", f"{found['images']} renderings with {found['objects']} objects"),
    ]
    caption = "Test images with true (green) and found (yellow) boxes and their scores."
    picture = Picture(detections(_shown_detections(layout)), caption)
    return Section("How well it is found", rows=rows, pictures=[picture])


def _shown(value: float | None, form: str) -> str:
    return "none" if value is None else form.format(value)


def _shown_detections(layout: Layout) -> list:
    """Return the first test images with their boxes; see `detections`."""
    from spyropose_ros.detector.detector import Detector

    detector = Detector.from_pretrained(layout.bundle)
    shown = []
    for frame in islice(_frames(layout.data), _SHOWN):
        image = frame.image()
        found = detector.detect(image, _LEAST_SCORE)
        seen = frame.instances[0].visibility
        true = [] if seen is None or seen.box is None else [seen.box]
        shown.append((image, np.reshape(true, (-1, 4)), found.boxes, found.scores))
    return shown


def _training(layout: Layout, hours: float) -> Section:
    made = [
        ("made", f"{time.strftime('%Y-%m-%d')}, {hours:g} hours in all"),
        ("command", provenance.command()),
    ]
    records = {
        "pose model": json.loads((layout.bundle / POSE_CONFIG).read_text())["record"],
        "detector": json.loads((layout.bundle / DETECTOR_CONFIG).read_text())["record"],
    }
    runs = {
        "pose model": [run for each in layout.stages for run in each.poses],
        "detector": [each.detector for each in layout.stages],
    }
    return Section(
        "How the training went",
        ["Not good enough? Run the command again with more --hours: both models train on."],
        rows=made
        + [row for name in runs for row in _trainings(name, records[name], len(runs[name]))],
        pictures=[
            Picture(training_curves(runs["pose model"], POSE_CURVES), "The pose model."),
            Picture(training_curves(runs["detector"], DETECTOR_CURVES), "The detector."),
        ],
    )


def _trainings(title: str, record: dict, count: int) -> list[tuple[str, str]]:
    """Return a model's trainings, the earlier ones that it went on from below the last."""
    rows: list[tuple[str, str]] = []
    for _ in range(count):
        text = f"{steps_of(record)} in {record['seconds'] / 60:.0f} min, {record['hardware']}"
        rows.append(("... before that" if rows else title, text))
        record = record.get("started_from", {})
    return rows


def _launch(layout: Layout, name: str) -> Section:
    return Section(
        "Run it",
        [
            f"The bundle holds pose model, detector and mesh. The node publishes poses of "
            f"detections with the class id {name}."
        ],
        code=launch_lines(layout),
    )


def launch_lines(layout: Layout) -> list[str]:
    """Return the commands that use a finished bundle."""
    bundle = shlex.quote(str(layout.bundle))
    topics = "-r image_rect:=/camera/image_rect -r camera_info:=/camera/camera_info"
    return [
        "# in a workspace of an installed ROS 2",
        f"ros2 launch spyropose_ros estimator.launch.py model:={bundle} \\",
        "    image_topic:=/camera/image_rect camera_info_topic:=/camera/camera_info",
        "",
        "# with the ROS 2 of ./run; no results? The same with check in the place of node",
        f"./run node --ros-args -p objects:=[{bundle}] {topics}",
        "",
        "# a photograph, with the camera's horizontal field of view in degrees",
        f"./run estimate photograph.jpg --model {bundle} --fov 56",
        "",
        "# without a camera: a demo with renderings of the part",
        f"./run demo {bundle}",
    ]
