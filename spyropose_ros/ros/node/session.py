"""What runs between configure and cleanup: subscriptions, models, and the worker thread."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.ros.interfaces import Header, TFMessage
from spyropose_ros.ros.node.adaptive_subscription import (
    AdaptiveSubscription,
    SubscriptionEventCallbacks,
)
from spyropose_ros.ros.node.health import Activity, Counts, Work
from spyropose_ros.ros.node.inputs import Inputs
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.questions import Questions
from spyropose_ros.ros.node.work_session import WorkSession, device_memory, free_memory
from spyropose_ros.ros.pipeline.assembler import Assembler, Input
from spyropose_ros.ros.pipeline.camera_frame import FrameSet, Result
from spyropose_ros.ros.pipeline.detectors import detection_topics, unused
from spyropose_ros.ros.pipeline.drops import BadInputError, DropCounter, Reason
from spyropose_ros.ros.pipeline.history import History
from spyropose_ros.ros.pipeline.images import converter
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models
    from spyropose_ros.ros.pipeline.pipeline import Pipeline

_FLUSH_PERIOD = 0.02  # seconds; how exactly views.wait is kept
_TF_DEPTH = 100  # as in tf2
_LESS_THAN_LATCHED = (
    "a publisher on /tf_static offers less than reliable and transient_local: transforms that it "
    "sent before this node started are missing; publish them as static_transform_publisher does"
)


class Session(WorkSession[FrameSet]):
    """Subscribes, loads the models in its own thread, and then always takes the newest frame set.

    Args:
        node: owns the subscriptions.
        read: gives the present parameters; those that are not dynamic stay as they are now.
        detectors: that find the boxes in this process; none if they come from a topic.
        outputs: publishes.
        activity: told of everything that arrives and is published.
        drops: told of everything that is dropped.
        on_failure: gets the exception that ended the thread, in that thread.

    Attributes:
        topics: that are subscribed to.
    """

    topics: Sequence[str]

    def __init__(
        self,
        node: Node,
        read: Callable[[], Parameters],
        detectors: Sequence[str],
        outputs: Outputs,
        activity: Activity,
        drops: DropCounter,
        on_failure: Callable[[Exception], object],
    ) -> None:
        super().__init__(node, drops, on_failure)
        self._read = read
        self._detectors = detectors
        self._outputs = outputs
        self._activity = activity
        self._transforms = TransformBuffer()
        self._pipeline: Pipeline | None = None
        self._announced = 0  # models that ~/model_info says are loaded
        self._entities: list[tuple[Callable, Any]] = []  # with what destroys them
        self._parameters = parameters = read()
        self._assembler = Assembler(
            parameters, node.resolve_topic_name, drops.add, self._warn, bool(detectors)
        )
        if parameters.cameras:
            # Steady clock: frames must not wait for ever while simulated time stands still
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            timer = node.create_timer(_FLUSH_PERIOD, self._flush, clock=steady)
            self._entities.append((node.destroy_timer, timer))
        if parameters.fixed_frame:
            self._subscribe_to_transforms()
        inputs = self._assembler.inputs
        self._inputs = Inputs(node, inputs, parameters, activity, drops.add, self._on_message)
        self.topics = [entry.topic for entry in inputs]
        self._history = History(parameters.history)
        self._questions = Questions(node, self._history, self._models)
        self._worker.start()

    def values(self, counts: Counts) -> dict[str, str]:
        """Return what the models and detectors are, for /diagnostics."""
        models = self._models()  # None: PyTorch may be half imported by the other thread
        names = [models.model_id(name) for name in models.objects] if models is not None else []
        found = {
            "detectors": ", ".join(map(bundle_name, self._detectors)),
            "boxes found": str(counts.found),
        }
        return {
            "device memory (MB)": "none" if models is None else device_memory(),
            "models": ", ".join(names),
            **(found if self._detectors else {}),
        }

    # ---- executor thread ---------------------------------------------------------------------

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        self._assembler.apply(parameters)

    def look_around(self) -> None:
        """Warn once of a publisher of detections that nobody listens to."""
        for name in detection_topics(self._parameters) if self._detectors else ():
            topic = self._node.resolve_topic_name(name)
            if self._node.count_publishers(topic):
                self._assembler.warn(unused(topic))

    def reset(self) -> None:
        """Clear pending messages and the history."""
        self._assembler.reset()
        self._history.clear()

    def _unsubscribe(self) -> None:
        self._inputs.close()
        for destroy, entity in self._entities:
            destroy(entity)
        self._assembler.reset()
        self._questions.close()

    def _models(self) -> Models | None:
        pipeline = self._pipeline
        return None if pipeline is None else pipeline.models

    def _release(self) -> bool:
        loaded, self._pipeline = self._pipeline is not None, None
        return loaded

    def _subscribe_to_transforms(self) -> None:
        moving = AdaptiveSubscription(
            self._node,
            TFMessage,
            "/tf",
            lambda message: self._on_transforms(message, static=False),
            QoSProfile(depth=_TF_DEPTH),
            say=lambda text: self._drops.add(Reason.INCOMPATIBLE_QOS, text),
        )
        self._entities.append((AdaptiveSubscription.close, moving))
        # One for what was sent earlier, one for publishers that offer less; receiving both is idle
        latched = QoSProfile(depth=_TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        modest = QoSProfile(depth=_TF_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        for qos in (latched, modest):
            subscription = self._node.create_subscription(
                TFMessage,
                "/tf_static",
                lambda message: self._on_transforms(message, static=True),
                qos,
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=lambda event: self._drops.add(
                        Reason.INCOMPATIBLE_QOS, _LESS_THAN_LATCHED, event.total_count_change
                    )
                ),
            )
            self._entities.append((self._node.destroy_subscription, subscription))

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        for text in self._transforms.add_message(message, static):
            self._drops.add(Reason.BAD_TRANSFORM, text)

    def _on_message(self, entry: Input, message: Any) -> None:
        assembled = self._assembler.add(entry, message, time.monotonic())
        self._activity.match(assembled.matched)
        self._node.get_logger().debug(
            f"received {entry.topic} {_seconds(message.header)}: images that got detections: "
            f"{assembled.matched}, frame sets: {len(assembled.frame_sets)}"
        )
        self._submit_all(assembled.frame_sets)

    def _flush(self) -> None:
        self._submit_all(self._assembler.flush(time.monotonic()))

    def _submit_all(self, frame_sets: Sequence[FrameSet]) -> None:
        for frame_set in frame_sets:
            self._submit(frame_set)

    def _count(self, item: FrameSet) -> int:
        return len(item.frames)

    # ---- worker thread -----------------------------------------------------------------------

    def _prepare(self) -> Callable[[FrameSet], None]:
        start = time.monotonic()
        self._inform("loading PyTorch")
        from spyropose_ros.ros.pipeline.finder import Finder  # here, because they take seconds
        from spyropose_ros.ros.pipeline.models import Models
        from spyropose_ros.ros.pipeline.pipeline import Pipeline

        parameters = self._parameters
        models = Models(parameters, self._inform)
        finder = Finder(self._detectors, models, self._inform) if self._detectors else None
        converter()
        if self._closed:  # cleaned up meanwhile
            del models, finder
            free_memory()
            return self._handle
        self._pipeline = Pipeline(
            models,
            self._transforms,
            self._drops.add,
            self._assembler.warn,
            self._node.get_logger().debug,
            finder,
        )
        self._announce(self._pipeline, parameters)
        found = f"found by {finder}, " if finder else ""
        self._inform(
            f"ready after {time.monotonic() - start:.1f} s: {models}, {found}"
            f"waiting for {', '.join(self.topics)}"
        )
        return self._handle

    def _announce(self, pipeline: Pipeline, parameters: Parameters) -> None:
        self._announced = len(pipeline.models.estimators)
        self._outputs.publish_model_info(pipeline.models, parameters, pipeline.finder)

    def _handle(self, frame_set: FrameSet) -> None:
        pipeline = self._pipeline
        if pipeline is None:  # cleaned up meanwhile
            self._refuse(len(frame_set.frames))
            return
        parameters = self._read()
        fresh = self._fresh(frame_set, parameters.sync.max_age)
        if not fresh.frames:
            return
        age = min(self._age(frame.image.header) for frame in fresh.frames)
        result = pipeline.process(fresh, parameters)
        if result is None:
            return
        if self._refusal is not None:
            self._refuse(len(result.views))
            return
        try:
            self._publish(result, age, pipeline, parameters)
        except BadInputError as error:
            self._drops.add(error.reason, str(error), len(result.views))
        except Exception as error:  # whatever one frame does, the next is processed
            if self._node.context.ok():
                text = f"while publishing: {type(error).__name__}: {error}"
                self._drops.add(Reason.ERROR, text, len(result.views))

    def _publish(
        self, result: Result, age: float, pipeline: Pipeline, parameters: Parameters
    ) -> None:
        seen = {view.camera for view in result.views}
        if missing := [camera for camera in parameters.cameras if camera not in seen]:
            self._drops.add(
                Reason.FEWER_VIEWS,
                f"estimated without {', '.join(missing)}: check that image, camera_info and "
                "detections of every camera arrive, and views.wait",
            )
        self._history.add(result)  # first: whoever receives it may ask at once
        self._outputs.publish(result, pipeline.models, parameters)
        if len(pipeline.models.estimators) > self._announced:  # one was loaded for this frame
            self._announce(pipeline, parameters)
        latency = min(self._age(view.header) for view in result.views)
        work = Work(
            len(result.views),
            age,
            result.inference_time,
            latency,
            result.detection,
            result.presences,
        )
        self._node.get_logger().debug(
            f"published {_seconds(result.header)}: objects: "
            f"{', '.join(target.object_name for target in result.targets) or 'none'}; "
            f"age at start {1000 * age:.0f} ms, inference {1000 * result.inference_time:.0f} ms, "
            f"latency {1000 * latency:.0f} ms"
        )
        if self._activity.publish(work) == 1:
            self._inform(
                f"first result published: objects: {len(result.targets)}, "
                f"{1000 * result.inference_time:.0f} ms"
            )

    def _fresh(self, frame_set: FrameSet, max_age: float) -> FrameSet:
        """Return the frames that are not too old; the others are counted."""
        fresh = [f for f in frame_set.frames if not self._is_stale(f.image.header, max_age)]
        return dataclasses.replace(frame_set, frames=tuple(fresh))


def _seconds(header: Header) -> str:
    return f"{header.stamp.sec}.{header.stamp.nanosec:09d}"
