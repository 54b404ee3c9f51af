"""One pass of the estimator over a bag: the pipeline of the node, without a node."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from spyropose_ros.ros.bags.bag_files import BagError, BagReader, BagWriter
from spyropose_ros.ros.bags.channel import Record
from spyropose_ros.ros.bags.topic_check import check_inputs, recorded_kind
from spyropose_ros.ros.bags.topic_names import TopicNames
from spyropose_ros.ros.interfaces import String, TFMessage
from spyropose_ros.ros.messages import result_messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.assembler import Assembler, Input
from spyropose_ros.ros.pipeline.camera_frame import FrameSet, Result
from spyropose_ros.ros.pipeline.detectors import choose_detectors, detection_topics, unused
from spyropose_ros.ros.pipeline.drops import BadInputError, DropCounter, Reason, WarnOnce
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer

TF_LEAD = 10**9  # nanoseconds that TF is ahead: transforms around a frame are recorded after it
FIGURES = frozenset({"~/overlay", "~/rotations"})


class BagRun:
    """Runs the estimator over all frames of a bag, one after the other.

    Args:
        reader: the bag.
        names: of the topics.
        parameters: of the node.
        figures: whether ~/overlay and ~/rotations are drawn.
        log: logs a line.

    Raises:
        BagError: if a topic is missing or of the wrong type.
        ParameterError: if a detector cannot be used.
    """

    def __init__(
        self,
        reader: BagReader,
        names: TopicNames,
        parameters: Parameters,
        figures: bool,
        log: Callable[[str], object],
    ) -> None:
        self._reader = reader
        self._parameters = parameters
        self._log = log
        self.drops = DropCounter(log, log)
        self._detectors = choose_detectors(parameters, names.is_remapped)
        self._assembler = Assembler(
            parameters, names.resolve, self.drops.add, log, bool(self._detectors)
        )
        self._warn = WarnOnce(log)
        self._say_problems()
        topics = map(names.resolve, detection_topics(parameters) if self._detectors else ())
        for topic in reader.topics.keys() & set(topics):
            self._warn(unused(topic))
        self._inputs = {entry.topic: entry for entry in self._assembler.inputs}
        check_inputs(reader, self._assembler.inputs)
        self._kinds = {topic: recorded_kind(reader, e) for topic, e in self._inputs.items()}
        self._outputs = {
            topic: names.resolve(topic)
            for topic in result_messages.TOPICS
            if figures or topic not in FIGURES
        } | {"~/model_info": names.resolve("~/model_info")}
        self._transforms = TransformBuffer()
        tf, self._tf_static = names.resolve("/tf"), names.resolve("/tf_static")
        for topic in (tf, self._tf_static):
            reader.check_type(topic, TFMessage)
        self._ahead = reader.records([tf])
        self._next_transforms = next(self._ahead, None)
        self._chooser = TransformChooser()
        self.seconds: list[float] = []  # per processed frame
        self._read: Counter[str] = Counter()  # messages by topic
        self.written: Counter[str] = Counter()

    def run(self, writer: BagWriter, copy: bool) -> None:
        """Process all frames; call it once.

        Args:
            writer: the bag of the outputs.
            copy: whether the other topics of the bag are copied into it.

        Raises:
            BagError: if the bag is damaged.
            ParameterError: if a model cannot be loaded.
        """
        from spyropose_ros.ros.messages.model_info import model_info
        from spyropose_ros.ros.pipeline.finder import Finder  # here: it takes seconds
        from spyropose_ros.ros.pipeline.models import Models
        from spyropose_ros.ros.pipeline.pipeline import Pipeline

        self._writer = writer
        self._models = Models(self._parameters, self._log)
        finder = Finder(self._detectors, self._models, self._log) if self._detectors else None
        self._pipeline = Pipeline(
            self._models,
            self._transforms,
            self.drops.add,
            self._assembler.warn,
            debug=lambda text: None,
            finder=finder,
        )
        copied = self._copy_topics() if copy else frozenset()
        self._prepare()
        writer.add_topic(self._outputs["~/model_info"], String, latched=True)
        record = None
        with tqdm(total=self._count_images(), unit="image", disable=None) as progress:
            for record in self._reader.records({*self._inputs, *copied}):
                if not self.written:
                    info = model_info(self._models, self._parameters, finder)
                    self._write("~/model_info", info, record)
                if record.topic in copied:
                    writer.copy(record)
                if entry := self._inputs.get(record.topic):
                    self._look_ahead(record.time)
                    self._read[record.topic] += self._add(entry, record)
                    progress.update(entry.role is Role.IMAGE)
        if record is not None:
            self._process(self._assembler.finish(), record)
        self._assembler.reset()  # counts the images that got no detections
        self._say_problems()

    def summary(self) -> str:
        """Summarise the outcome in a few lines."""
        topics = ", ".join(f"{count} on {topic}" for topic, count in self.written.items())
        return (
            f"{len(self.seconds)} frames processed, {statistics.median(self.seconds):.3f} s each "
            f"(median), {sum(self.seconds):.1f} s in all\n"
            f"read: {self._messages_read()}\n"
            f"dropped: {self.drops.summary()}\n"
            f"written: {topics}"
            + "".join(f"\nwarning: {text}" for text in self._assembler.warn.logged)
        )

    def failure(self) -> str:
        """Say where all frames went."""
        dropped = f"; dropped: {self.drops.summary()}" if self.drops.counts() else ""
        return (
            f"no frame of {self._reader.path} could be processed; read: {self._messages_read()}"
            f"{dropped}"
        )

    def _messages_read(self) -> str:
        """Say how many of the messages that the bag says it has were read, by topic."""
        return ", ".join(
            f"{self._read[topic]} of {self._reader.announced(topic)} on {topic}"
            for topic in self._inputs
        )

    def _say_problems(self) -> None:
        """Log what is damaged or missing in the bag, as far as it is known by now."""
        for problem in self._reader.problems:
            self._warn(f"{self._reader.path}: {problem}")

    def _copy_topics(self) -> frozenset[str]:
        """Add all topics of the bag except the outputs of an estimator that ran while recording."""
        made = {topic for name, topic in self._outputs.items() if name != "/tf"}
        copied = frozenset(self._reader.topics.keys() - made)
        for topic in self._writer.copy_topics(self._reader, copied):
            self._log(f"{topic} is not copied: the definition of its type is unknown")
        return copied

    def _prepare(self) -> None:
        """Feed static transforms and calibrations, which may be recorded after the first image."""
        for record in self._reader.records([self._tf_static]):
            self._add_transforms(record, static=True)
        for entry in self._assembler.inputs:
            if entry.role is Role.CAMERA_INFO:
                for record in itertools.islice(self._reader.records([entry.topic]), 1):
                    self._add(entry, record)

    def _look_ahead(self, now: int) -> None:
        """Feed the transforms up to TF_LEAD after a time in nanoseconds."""
        while self._next_transforms is not None and self._next_transforms.time <= now + TF_LEAD:
            self._add_transforms(self._next_transforms, static=False)
            self._next_transforms = next(self._ahead, None)

    def _add_transforms(self, record: Record, static: bool) -> None:
        message = self._decode(record, TFMessage)
        for text in self._transforms.add_message(message, static) if message else ():
            self.drops.add(Reason.BAD_TRANSFORM, text)

    def _decode(self, record: Record, kind: type) -> Any:
        """Deserialise a message; None, which is logged, if it is damaged."""
        try:
            return self._reader.decode(record, kind)
        except BagError as error:
            self._warn(f"{error}: it is left out")
            return None

    def _add(self, entry: Input, record: Record) -> bool:
        """Feed a message, and process the frame sets that it completes.

        Returns:
            Whether it could be read.
        """
        message = self._decode(record, self._kinds[entry.topic])
        if message is None:
            return False
        assembled = self._assembler.add(entry, message, record.time * 1e-9)
        self._process(assembled.frame_sets, record)
        return True

    def _process(self, frame_sets: Sequence[FrameSet], record: Record) -> None:
        for frame_set in frame_sets:
            start = time.monotonic()
            result = self._pipeline.process(frame_set, self._parameters)
            messages = [] if result is None else self._messages(result)
            for topic, message in messages:
                self._write(topic, message, record)
            if messages:
                self.seconds.append(time.monotonic() - start)

    def _messages(self, result: Result) -> list[tuple[str, Any]]:
        """Make all messages about a result; none, which is counted, if it is unusable."""
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
        except BadInputError as error:
            self.drops.add(error.reason, str(error), len(result.views))
            return []

    def _write(self, name: str, message: Any, record: Record) -> None:
        """Write a message on one of the node's topics, at the time of a record."""
        self._writer.write(self._outputs[name], message, record.time)
        self.written[self._outputs[name]] += 1

    def _count_images(self) -> int:
        return self._reader.count([i.topic for i in self._assembler.inputs if i.role is Role.IMAGE])
