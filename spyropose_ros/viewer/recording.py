"""Plays the distributions of a bag: what `./run bag FILE --all` has written, or was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from spyropose_ros.core.errors import InputError
from spyropose_ros.ros.bags.bag_files import BagError, BagReader
from spyropose_ros.ros.interfaces import (
    CameraInfo,
    CompressedImage,
    Image,
    PoseDistributionArray,
    String,
    TFMessage,
    type_name,
)
from spyropose_ros.viewer.collector import Collector
from spyropose_ros.viewer.viewer import Viewer

_LONGEST = 2.0  # seconds between two moments: longer gaps of a recording are cut


class Recording:
    """The topics of a bag that a viewer shows.

    Args:
        reader: of the bag.
        say: logs a line.

    Raises:
        BagError: it has no distributions, or those of several estimators.
    """

    def __init__(self, reader: BagReader, say: Callable[[str], object]) -> None:
        self._reader = reader
        self._said: set[str] = set()
        self._say = say
        self._topic = self._distributions()
        self._collector = Collector(self._warn)
        self._takers: dict[str, tuple[type, Callable[[Any], object]]] = {
            self._topic: (PoseDistributionArray, lambda message: message),
            "/tf": (TFMessage, partial(self._collector.add_transforms, static=False)),
        }
        self._add_cameras()

    def play(self, viewer: Viewer) -> int:
        """Show the moments of the bag at the pace of the recording.

        Args:
            viewer: shows them.

        Returns:
            Their number.
        """
        model_info = f"{self._topic.rpartition('/')[0]}/model_info"
        for record in self._reader.records([model_info]):
            self._collector.add_model_info(self._reader.decode(record, String))
        for record in self._reader.records(["/tf_static"]):
            self._collector.add_transforms(self._reader.decode(record, TFMessage), True)
        count, before = 0, None
        for record in self._reader.records(self._takers):
            kind, take = self._takers[record.topic]
            try:
                message = self._reader.decode(record, kind)
                take(message)
                if record.topic != self._topic:
                    continue
                moment = self._collector.moment(message)
            except (BagError, InputError) as error:
                self._warn(f"{error}: it is left out")
                continue
            if before is not None:
                time.sleep(min(max(1e-9 * (record.time - before), 0.0), _LONGEST))
            before = record.time
            viewer.show(moment)
            count += 1
        return count

    def _distributions(self) -> str:
        wanted = type_name(PoseDistributionArray)
        topics = [topic for topic, kind in self._reader.topics.items() if kind == wanted]
        path = self._reader.path
        if not topics:
            raise BagError(
                f"{path} has no distributions: run ./run bag {path} --all, and view its output"
            )
        if len(topics) > 1:
            raise BagError(
                f"{path} has the distributions of several estimators, on {', '.join(topics)}: "
                "copy one of them into a bag of its own with ros2 bag convert"
            )
        self._reader.check_type(topics[0], PoseDistributionArray)
        return topics[0]

    def _add_cameras(self) -> None:
        """Take every image that has a calibration beside it, and is none of the estimator's."""
        kinds = {type_name(kind): kind for kind in (Image, CompressedImage)}
        own = self._topic.rpartition("/")[0]
        for topic, name in self._reader.topics.items():
            folder = topic.removesuffix("/compressed").rpartition("/")[0]
            info = f"{folder}/camera_info"
            if name in kinds and folder != own and info in self._reader.topics:
                camera = folder.lstrip("/")
                self._takers[topic] = kinds[name], partial(self._collector.add_image, camera)
                self._takers[info] = CameraInfo, partial(self._collector.add_camera_info, camera)

    def _warn(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def play(path: Path, viewer: Viewer, say: Callable[[str], object]) -> None:
    """Show a bag once somebody watches.

    Args:
        path: folder of a bag, or its file.
        viewer: shows it.
        say: logs a line.

    Raises:
        BagError: it cannot be read, or has nothing to show.
    """
    with BagReader(path) as reader:
        recording = Recording(reader, say)
        say(f"open {viewer.url} in a browser: the recording begins then")
        while not viewer.watched:
            time.sleep(0.1)
        count = recording.play(viewer)
        if not count:
            raise BagError(f"{path} has no moment that could be shown")
        say(f"{count} moments were shown; step back through the last of them, or Ctrl-C to end")
