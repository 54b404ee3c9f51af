"""The phases of a part's training, one after the other."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from spyropose_ros.bop import read_photographs
from spyropose_ros.core.errors import MissingFileError
from spyropose_ros.core.files import sha256, write_text
from spyropose_ros.detector.bundle import BOX_ERRORS, CONFIG, WEIGHTS, DetectorBundle
from spyropose_ros.scenes.renderer import bounding_sphere
from training.card import write_card
from training.generate.cad import load_cad
from training.generate.dataset import generate
from training.generate.settings import GenerationSettings, ViewSettings, distance_range
from training.generate.symmetry import symmetry_of
from training.object.layout import Layout
from training.object.ledger import Ledger
from training.object.mesh_facts import fact_lines, mesh_facts, unit_of
from training.object.plan import Plan, Settings
from training.object.processes import Failed, run_module
from training.object.report import launch_lines, write_page
from training.symmetry import Symmetry

log = logging.getLogger(__name__)

_LAST = "page"  # phase that finishes a stage
_OBJECT = "1"  # number of the part in its data set
_PATIENCE = 10  # validations of the pose model without a gain
_MIN_PIXELS = 200  # thin and distant parts cover few
_CARD_NOTE = "Made by `./run object` from a CAD file, on renderings{}."
_BOX_ERRORS, _RECALL = 100, 0.5  # of a detector whose errors are worth training with
_CORES = 2  # that a training keeps busy, at least where there are so many
_PHOTOS_SEED = 1000
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


class Phase(NamedTuple):
    """One thing to do; when it is begun again, it goes on where it was.

    Attributes:
        name: in the ledger.
        words: what the user reads.
        seconds: that it takes at most, roughly.
        do: does it.
    """

    name: str
    words: str
    seconds: float
    do: Callable[[], None]


def work(args: argparse.Namespace) -> int:
    """Do what is not done yet.

    Args:
        args: of the command line.

    Returns:
        Exit code: 0, or that of the command that failed or was interrupted.

    Raises:
        MissingFileError: the CAD file or the photographs are missing.
        DataError: one of them is damaged, or the size of the part says that the unit is wrong.
        InputError: its unit is unknown, or the folder holds another part or other settings, or
            the hours are hardly more than those that are done.
    """
    if not args.mesh.is_file():
        raise MissingFileError(f"{args.mesh} is missing: give the path of a CAD file")
    units, name = unit_of(args.mesh, args.units), args.name or args.mesh.stem
    distance = tuple(args.distance) if args.distance else None
    photos = None if args.photos is None else str(args.photos.resolve())
    settings = Settings(
        sha256(args.mesh),
        name,
        units,
        args.hours,
        args.symmetry,
        args.views,
        distance,
        args.seed,
        photos,
    )
    root = args.runs / name
    ledger = Ledger(root, settings.to_dict(), _LAST)
    part = _Part(args.mesh, settings, Layout(root, 1 + len(ledger.earlier)), ledger.hours)
    ledger.begin()
    phases = part.phases()
    if ledger.earlier and ledger.seconds(_LAST) is None:
        log.info(
            "%g of %g hours are done: both models train on from there", ledger.hours, settings.hours
        )
    for number, phase in enumerate(phases, 1):
        if ledger.seconds(phase.name) is not None:
            continue
        left = sum(each.seconds for each in phases if ledger.seconds(each.name) is None)
        times = f"about {_duration(phase.seconds)}; all in all {_duration(left)} left"
        log.info("[%d/%d] %s: %s", number, len(phases), phase.words, times)
        started = time.monotonic()
        try:
            phase.do()
        except Failed as failure:
            if failure.status in _STOPPED:
                log.info("object: stopped; what is done is kept: the same command goes on")
            else:
                log.info("object: '%s' failed, see above; the same command goes on", phase.words)
            return failure.status
        ledger.done(phase.name, time.monotonic() - started)
    log.info("finished: open %s in a browser; to run it:", part.layout.page)
    for line in launch_lines(part.layout):
        log.info("  %s", line)
    return 0


class _Part:
    """A part and all that is done with it.

    Args:
        path: of the CAD file.
        settings: of the command line.
        layout: of its folder, and the stage.
        before: hours of the finished stages.
    """

    def __init__(self, path: Path, settings: Settings, layout: Layout, before: float = 0.0):
        self.layout = layout
        self._path = path
        self._settings = settings
        self._plan = Plan.of(settings.hours, before, settings.photos is not None)
        self._photographs = len(read_photographs(settings.photos)) if settings.photos else 0
        self._data = GenerationSettings(
            settings.name,
            settings.units,
            settings.symmetry,
            images=0,  # the training renders its own
            test_images=self._plan.test_images,
            seed=settings.seed,
            views=ViewSettings(settings.views, settings.distance),
        )
        self._mesh = load_cad(path, settings.units)
        distance_range(self._data.views, 2 * bounding_sphere(self._mesh)[1])  # or says what to give
        self._symmetry: Symmetry | None = None

    def phases(self) -> list[Phase]:
        """Return everything in order."""
        plan = self._plan
        # Hours on processors are core-hours.
        cores = 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, _CORES)
        hour = 3600 / cores
        return [
            Phase("mesh", "look at the mesh and find its symmetries", 30, self._look),
            Phase("data", "render the held-out set", 20 + plan.test_images / 2, self._render),
            Phase(
                "detector",
                "train the detector",
                hour * plan.detector_hours + 60,
                self._train_detector,
            ),
            Phase("pose", "train the pose model", hour * plan.pose_hours + 60, self._train_pose),
            Phase("bundle", "join pose model and detector", 5, self._join),
            *self._photo_phases(hour),
            Phase(
                "calibrate",
                "calibrate the pose model",
                20 + plan.calibration_images / 5,
                self._calibrate,
            ),
            Phase("presence", "fit presence", 40 + plan.presence_images / 2, self._fit_presence),
            Phase("evaluate", "evaluate the pose model", 20 + 2 * plan.test_images, self._evaluate),
            Phase(
                "evaluate_detector",
                "evaluate the detector",
                20 + plan.detector_images / 5,
                self._evaluate_detector,
            ),
            Phase(_LAST, "write card and page", 30, self._describe),
        ]

    def _photo_phases(self, hour: float) -> list[Phase]:
        """Return what is done with photographs, nothing without."""
        if self._settings.photos is None:
            return []
        return [
            Phase("labels", "label the photographs", 30 + self._photographs, self._label),
            Phase(
                "photos",
                "train the pose model on, with photographs if they have labels",
                hour * self._plan.photos_hours + 60,
                self._train_on_photos,
            ),
            Phase("photos_bundle", "join pose model and detector", 5, self._join),
        ]

    def _look(self) -> None:
        """Check the mesh, find its symmetry, and tell."""
        self._symmetry = symmetry_of(self._settings.symmetry, self._mesh)
        facts = mesh_facts(self._path, self._settings.units, self._mesh, self._symmetry)
        for title, text in fact_lines(facts):
            log.info("  %-14s%s", title, text)
        for warning in facts["warnings"]:
            log.warning("  WARNING: %s", warning)
        write_text(self.layout.mesh_facts, json.dumps(facts, indent=1) + "\n")

    def _render(self) -> None:
        """Render the held-out set, and a sheet of training crops."""
        from training.inspect_data import inspect_data

        generate(self._path, self.layout.data, self._data, [], os.cpu_count() or 1, self._symmetry)
        inspect_data(str(self.layout.data), _OBJECT, output=str(self.layout.crops))

    def _train_detector(self) -> None:
        """Train the detector."""
        run = self._run("detector", self._plan.detector_hours)
        flags = ["--calibration-images", str(self._plan.detector_images)]
        flags += ["--views", self._settings.views]
        run_module("training.train_detector", [str(self.layout.data), _OBJECT, *run, *flags])

    def _train_pose(self) -> None:
        """Train the pose model, with the errors of the detector's boxes where it is worth it."""
        run = self._run("pose", self._plan.pose_hours)
        flags = [*run, *self._pose_flags(), "--patience", str(_PATIENCE)]
        run_module("training.train", [str(self.layout.data), _OBJECT, *flags])

    def _pose_flags(self) -> list[str]:
        """Return what every training of the pose model has."""
        flags = ["--min-pixels", str(_MIN_PIXELS)]
        if self._knows_box_errors():
            flags += ["--detector-noise", "measured", "--detector", str(self.layout.detector)]
        return flags

    def _label(self) -> None:
        """Label the photographs; the training goes on without."""
        assert self._settings.photos is not None
        flags = ["--output", str(self.layout.labels), "--seed", str(self._settings.seed)]
        try:
            run_module(
                "training.label_photographs", [str(self.layout.root), self._settings.photos, *flags]
            )
        except Failed as failure:
            if failure.status in _STOPPED:
                raise
            log.warning("  WARNING: the model trains on without photographs, see above")

    def _train_on_photos(self) -> None:
        """Train the pose model on, with those photographs among the renderings that have labels."""
        run = self._run("photos", self._plan.photos_hours, self.layout.pose)
        flags = [*run, *self._pose_flags()]
        if self.layout.labels_summary.is_file():
            flags += ["--photographs", str(self.layout.labels)]
        run_module("training.train", [str(self.layout.data), _OBJECT, *flags])

    def _knows_box_errors(self) -> bool:
        """Tell whether the detector is so good that the errors of its boxes say something."""
        detector = DetectorBundle.from_pretrained(self.layout.detector / "bundle")
        errors, recall = detector.box_errors, detector.record["calibration"]["recall"]
        return errors is not None and len(errors) >= _BOX_ERRORS and recall >= _RECALL

    def _run(self, model: str, hours: float, start: Path | None = None) -> list[str]:
        """Return the flags that every training has; it goes on with the weights of run `start`."""
        this, earlier = self.layout.of_stage(model), self.layout.stages[:-1]
        if earlier and start is None:
            start = earlier[-1].poses[-1] if model == "pose" else earlier[-1].of_stage(model)
        seed = self._settings.seed + len(earlier)  # other images than before
        seed += _PHOTOS_SEED if model == "photos" else 0
        flags = {
            "--runs": this.parent,
            "--run-id": this.name,
            "--logger": "csv",
            "--hours": hours,
            "--steps-per-epoch": self._plan.steps_per_epoch,
            "--validation-images": self._plan.validation_images,
            "--seed": seed,
        }
        if start is not None:
            flags["--start-from"] = start / "bundle"
        return [text for flag, value in flags.items() for text in (flag, str(value))]

    def _join(self) -> None:
        """Put pose model and detector into one bundle, which is there complete or not at all."""
        bundle = self.layout.bundle
        partial = bundle.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.layout.poses[-1] / "bundle", partial)
        for name in (WEIGHTS, CONFIG, *([BOX_ERRORS] if self._knows_box_errors() else [])):
            shutil.copy(self.layout.detector / "bundle" / name, partial)
        shutil.rmtree(bundle, ignore_errors=True)
        partial.rename(bundle)

    def _calibrate(self) -> None:
        flags = ["--images", str(self._plan.calibration_images), "--for-photographs"]
        run_module("training.calibrate", [str(self.layout.root), *flags])

    def _fit_presence(self) -> None:
        """Fit presence and judge it; the bundle can be used without."""
        flags = [str(self.layout.bundle), "--images", str(self._plan.presence_images)]
        try:
            for module in ("training.fit_presence", "training.evaluate_presence"):
                run_module(module, flags)
        except Failed as failure:
            if failure.status in _STOPPED:
                raise
            log.warning("  WARNING: the model will not tell presence, see above")

    def _evaluate(self) -> None:
        run_module("training.evaluate", [str(self.layout.root)])

    def _evaluate_detector(self) -> None:
        images = str(self._plan.detector_images)
        run_module("training.evaluate_detector", [str(self.layout.root), "--images", images])

    def _describe(self) -> None:
        seen = any(stage.labels_summary.is_file() for stage in self.layout.stages)
        note = _CARD_NOTE.format(" and unlabelled photographs" if seen else " alone")
        write_card(str(self.layout.root), note)
        write_page(self.layout, self._settings.name, self._settings.hours)


def _duration(seconds: float) -> str:
    """Return a time as it is spoken of."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
