"""One pass of the estimator over a bag: the parts of the node, without a node."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from spyropose_ros.ros.bags.bag_files import BagError, BagReader, BagWriter, Record, type_name
from spyropose_ros.ros.bags.topic_names import TopicNames
from spyropose_ros.ros.interfaces import (
    CameraInfo,
    CompressedImage,
    Detection2DArray,
    Image,
    String,
    TFMessage,
)
from spyropose_ros.ros.messages import result_messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.assembler import FrameSource, Input
from spyropose_ros.ros.pipeline.camera_frame import Frame, Result, nanoseconds
from spyropose_ros.ros.pipeline.drops import BadInput, DropCounter, Reason
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer
from spyropose_ros.ros.pipeline.view_group import ViewGroup

TF_LEAD = 10**9  # nanoseconds by which TF is ahead: the transforms around a frame come after it
PICTURES = frozenset({"~/overlay", "~/rotations"})
_IMAGES = (Image, CompressedImage)


@dataclass(frozen=True)
class _BagInput:
    """A topic that is read.

    Args:
        camera: whose topic it is.
        entry: what is done with its messages.
    """

    camera: str
    entry: Input


class BagRun:
    """Runs the estimator over all frames of a bag, one after the other.

    Args:
        reader: the bag.
        names: of the topics.
        parameters: of the node.
        pictures: whether ~/overlay and ~/rotations are drawn.
        say: logs a line.

    Raises:
        BagError: if a topic is missing or of the wrong type.
    """

    def __init__(
        self,
        reader: BagReader,
        names: TopicNames,
        parameters: Parameters,
        pictures: bool,
        say: Callable[[str], object],
    ) -> None:
        self._reader = reader
        self._parameters = parameters
        self._say = say
        self.drops = DropCounter(say, say)
        self._sources = [
            FrameSource(camera, parameters, self._drop) for camera in parameters.cameras or ("",)
        ]
        self._inputs = _find_inputs(reader, names, self._sources)
        views = parameters.views
        self._group: ViewGroup[Frame] = ViewGroup(
            parameters.cameras, round(views.slop * 1e9), views.wait, self._drop
        )
        self._outputs = {
            topic: names.resolve(topic)
            for topic in result_messages.TOPICS
            if pictures or topic not in PICTURES
        } | {"~/model_info": names.resolve("~/model_info")}
        self._transforms = TransformBuffer()
        tf, self._tf_static = names.resolve("/tf"), names.resolve("/tf_static")
        for topic in (tf, self._tf_static):
            reader.check_type(topic, TFMessage)
        self._ahead = reader.records([tf])
        self._next_transforms = next(self._ahead, None)
        self._chooser = TransformChooser()
        self._warned: set[str] = set()
        self.seconds: list[float] = []  # per processed frame
        self.written: Counter[str] = Counter()

    def run(self, writer: BagWriter, copy: bool) -> None:
        """Processes all frames; once.

        Args:
            writer: the bag of the outputs.
            copy: whether the other topics of the bag are copied into it.

        Raises:
            BagError: if the bag is damaged.
            ParameterError: if a model cannot be loaded.
        """
        from spyropose_ros.ros.messages.model_info import model_info
        from spyropose_ros.ros.pipeline.models import Models  # here, because it takes seconds
        from spyropose_ros.ros.pipeline.pipeline import Pipeline

        self._writer = writer
        self._models = Models(self._parameters, self._say)
        self._pipeline = Pipeline(
            self._models, self._transforms, self._drop, self._warn, debug=lambda text: None
        )
        copied = self._copy_topics() if copy else frozenset()
        self._prepare()
        writer.add_topic(self._outputs["~/model_info"], String, latched=True)
        moment = None
        with tqdm(total=self._count_images(), unit="image", disable=None) as progress:
            for record in self._reader.records({*self._inputs, *copied}):
                if moment is None:
                    self._write("~/model_info", model_info(self._models, self._parameters), record)
                moment = record.time
                if record.topic in copied:
                    writer.copy(record)
                if record.topic in self._inputs:
                    self._look_ahead(moment)
                    self._add(record)
                    progress.update(self._inputs[record.topic].entry.kind in _IMAGES)
        if moment is not None:
            self._process(self._group.flush(float("inf")), record)
        for source in self._sources:
            source.reset()  # counts the images that no detections came for

    def summary(self) -> str:
        """What became of the bag, in a few lines."""
        topics = ", ".join(f"{count} on {topic}" for topic, count in self.written.items())
        return (
            f"{len(self.seconds)} frames processed, {statistics.median(self.seconds):.3f} s each "
            f"(median), {sum(self.seconds):.1f} s in all\n"
            f"dropped: {self.drops.summary()}\n"
            f"written: {topics}"
        )

    def _copy_topics(self) -> frozenset[str]:
        """Adds all topics of the bag but those of an estimator that ran while it was recorded."""
        made = {topic for name, topic in self._outputs.items() if name != "/tf"}
        copied = frozenset(self._reader.topics.keys() - made)
        for topic in self._writer.copy_topics(self._reader, copied):
            self._say(f"{topic} is not copied: nothing tells the definition of its type")
        return copied

    def _prepare(self) -> None:
        """Feeds what was said before the recording began."""
        for record in self._reader.records([self._tf_static]):
            self._transforms.add_message(self._reader.decode(record, TFMessage), static=True)
        for topic, source in self._inputs.items():
            if source.entry.kind is CameraInfo:
                for record in itertools.islice(self._reader.records([topic]), 1):
                    source.entry.store(self._reader.decode(record, CameraInfo))

    def _look_ahead(self, moment: int) -> None:
        """Feeds the transforms up to TF_LEAD after a moment."""
        while self._next_transforms is not None and self._next_transforms.time <= moment + TF_LEAD:
            message = self._reader.decode(self._next_transforms, TFMessage)
            for text in self._transforms.add_message(message, static=False):
                self._warn(text)
            self._next_transforms = next(self._ahead, None)

    def _add(self, record: Record) -> None:
        """Feeds a message, and processes the frames that it completes."""
        source = self._inputs[record.topic]
        frames = source.entry.store(self._reader.decode(record, source.entry.kind))
        if not self._parameters.cameras:
            self._process([[frame] for frame in frames], record)
            return
        now = record.time * 1e-9
        for frame in frames:
            stamp = nanoseconds(frame.image.header.stamp)
            self._process(self._group.add(source.camera, stamp, frame, now), record)
        self._process(self._group.flush(now), record)

    def _process(self, moments: Sequence[Sequence[Frame]], record: Record) -> None:
        for frames in moments:
            begin = time.monotonic()
            result = self._pipeline.process(frames, self._parameters)
            messages = [] if result is None else self._messages(result)
            for topic, message in messages:
                self._write(topic, message, record)
            if messages:
                self.seconds.append(time.monotonic() - begin)

    def _messages(self, result: Result) -> list[tuple[str, Any]]:
        """All messages about a frame; none, which is counted, where it has no usable outcome."""
        result = dataclasses.replace(result, inference_time=0.0)
        try:
            return list(
                result_messages.messages(
                    result,
                    self._models,
                    self._parameters,
                    self._chooser,
                    self._outputs.__contains__,
                )
            )
        except BadInput as error:
            self._drop(error.reason, str(error), len(result.views))
            return []

    def _write(self, name: str, message: Any, record: Record) -> None:
        """Writes a message on one of the node's topics, at the time of a record."""
        self._writer.write(self._outputs[name], message, record.time)
        self.written[self._outputs[name]] += 1

    def _count_images(self) -> int:
        return self._reader.count(
            [topic for topic, source in self._inputs.items() if source.entry.kind in _IMAGES]
        )

    def _drop(self, reason: Reason, text: str, count: int = 1) -> None:
        if reason is Reason.TIME_JUMP:
            self._pipeline.reset()
            self._chooser.reset()
        self.drops.add(reason, text, count)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._say(text)


def _find_inputs(
    reader: BagReader, names: TopicNames, sources: Sequence[FrameSource]
) -> dict[str, _BagInput]:
    """What the bag has for the estimator, by topic."""
    found = {}
    for source in sources:
        for entry in source.inputs:
            topic = names.resolve(entry.name)
            if topic not in reader.topics:
                raise BagError(_missing(reader, entry, topic))
            reader.check_type(topic, entry.kind)
            found[topic] = _BagInput(source.camera, entry)
    return found


def _missing(reader: BagReader, entry: Input, topic: str) -> str:
    """Says what the bag has instead of a topic."""
    kind = type_name(entry.kind)
    similar = [name for name, other in sorted(reader.topics.items()) if other == kind]
    if similar:
        remedy = " or ".join(f"-r {entry.name}:={name}" for name in similar)
        return f"{reader.path} has no topic {topic}: add {remedy}"
    remedy = _REMEDIES.get(entry.kind, "record it as well")
    listing = ", ".join(f"{name} ({other})" for name, other in sorted(reader.topics.items()))
    return (
        f"{reader.path} has no topic {topic} nor another one of type {kind}: {remedy}. It has "
        f"{listing or 'no topics'}"
    )


_REMEDIES = {
    Image: "record raw images, or add -p image_transport:=compressed for compressed ones",
    CompressedImage: "record compressed images, or add -p image_transport:=raw for raw ones",
    Detection2DArray: "record what the detector says as well (docs/bags.md)",
}
