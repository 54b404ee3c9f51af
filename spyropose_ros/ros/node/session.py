"""What runs between configure and cleanup: subscriptions, models, and the worker thread."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from spyropose_ros.ros.interfaces import Header, TFMessage
from spyropose_ros.ros.node.adaptive_subscription import (
    AdaptiveSubscription,
    SubscriptionEventCallbacks,
)
from spyropose_ros.ros.node.health import Activity, Work
from spyropose_ros.ros.node.inputs import Inputs
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.worker import Worker
from spyropose_ros.ros.pipeline.assembler import Assembler, Input
from spyropose_ros.ros.pipeline.camera_frame import FrameSet, Result, nanoseconds
from spyropose_ros.ros.pipeline.drops import BadInputError, DropCounter, Reason
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
_REMEDIES = {
    Reason.INACTIVE: "the node is not active: ros2 lifecycle set <node> activate",
    Reason.DISABLED: "switched off by the service ~/enable",
}


class Session:
    """Subscribes, loads the models in its own thread, and then always takes the newest frame set.

    Args:
        node: owns the subscriptions.
        read: gives the present parameters; those that are not dynamic stay as they are now.
        outputs: publishes.
        activity: told of everything that arrives and is published.
        drops: told of everything that is dropped.
        on_failure: gets the exception that ended the thread, in that thread.
    """

    def __init__(
        self,
        node: Node,
        read: Callable[[], Parameters],
        outputs: Outputs,
        activity: Activity,
        drops: DropCounter,
        on_failure: Callable[[Exception], object],
    ) -> None:
        self._node = node
        self._read = read
        self._outputs = outputs
        self._activity = activity
        self._drops = drops
        self._on_failure = on_failure
        self._refusal: Reason | None = Reason.INACTIVE
        self._closed = False
        self._transforms = TransformBuffer()
        self._pipeline: Pipeline | None = None
        self._announced = 0  # models that ~/model_info says are loaded
        self._entities: list[tuple[Callable, Any]] = []  # with what destroys them
        self._parameters = parameters = read()
        self._assembler = Assembler(parameters, node.resolve_topic_name, drops.add, self._warn)
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
        self._worker: Worker[FrameSet] = Worker(self._prepare, self._discard, self._fail)
        self._worker.start()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._worker.ready

    @property
    def model_names(self) -> list[str]:
        """Names of the bundles, once they are known."""
        pipeline = self._pipeline
        if pipeline is None:
            return []
        return [pipeline.models.model_id(name) for name in pipeline.models.objects]

    @property
    def device_memory(self) -> str:
        """Memory that PyTorch holds on the GPUs in MB; 'none' without a GPU."""
        if self._pipeline is None:  # PyTorch may be half imported by the other thread
            return "none"
        import torch

        if not torch.cuda.is_initialized():
            return "none"
        held = (torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
        return f"{sum(held) / 1e6:.0f}"

    # ---- executor thread ---------------------------------------------------------------------

    def refuse(self, reason: Reason | None) -> None:
        """Drop all frames from now on for the reason; None accepts them again."""
        self._refusal = reason

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        self._assembler.apply(parameters)

    def reset(self) -> None:
        """Clear pending messages and the history."""
        self._assembler.reset()

    def close(self, timeout: float) -> bool:
        """Unsubscribe, stop the thread after the current frame, and release the models.

        Args:
            timeout: longest wait for the thread, seconds.

        Returns:
            Whether the thread has ended.
        """
        self._closed = True
        self._refusal = Reason.INACTIVE
        self._inputs.close()
        for destroy, entity in self._entities:
            destroy(entity)
        self._assembler.reset()
        ended = self._worker.stop(timeout)
        if self._pipeline is not None:
            self._pipeline = None
            _free_memory()
        return ended

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
        self._submit(assembled.frame_sets)

    def _flush(self) -> None:
        self._submit(self._assembler.flush(time.monotonic()))

    def _submit(self, frame_sets: Sequence[FrameSet]) -> None:
        for frame_set in frame_sets:
            if self._refusal is not None:
                self._refuse(len(frame_set.frames))
            else:
                self._worker.submit(frame_set)

    def _refuse(self, count: int) -> None:
        reason = self._refusal or Reason.INACTIVE
        self._drops.add(reason, _REMEDIES[reason], count)

    def _discard(self, frame_set: FrameSet) -> None:
        count = len(frame_set.frames)
        if self._refusal is not None:
            self._refuse(count)
        elif self.ready:
            text = "frames arrive faster than the models run, the newest is used"
            self._drops.add(Reason.BUSY, text, count)
        else:
            self._drops.add(Reason.BUSY, "the models are still loading", count)

    # ---- worker thread -----------------------------------------------------------------------

    def _prepare(self) -> Callable[[FrameSet], None]:
        start = time.monotonic()
        self._inform("loading PyTorch")
        from spyropose_ros.ros.pipeline.models import Models  # here, because they take seconds
        from spyropose_ros.ros.pipeline.pipeline import Pipeline

        parameters = self._parameters
        models = Models(parameters, self._inform)
        converter()
        if self._closed:  # cleaned up meanwhile
            del models
            _free_memory()
            return self._handle
        self._pipeline = Pipeline(
            models,
            self._transforms,
            self._drops.add,
            self._assembler.warn,
            self._node.get_logger().debug,
        )
        self._announce(models, parameters)
        self._inform(
            f"ready after {time.monotonic() - start:.1f} s: {models}, "
            f"waiting for {', '.join(self.topics)}"
        )
        return self._handle

    def _fail(self, error: Exception) -> None:
        if not self._closed:
            self._on_failure(error)

    def _announce(self, models: Models, parameters: Parameters) -> None:
        self._announced = len(models.estimators)
        self._outputs.publish_model_info(models, parameters)

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
            self._publish(result, age, pipeline.models, parameters)
        except BadInputError as error:
            self._drops.add(error.reason, str(error), len(result.views))
        except Exception as error:  # whatever one frame does, the next is processed
            if self._node.context.ok():
                text = f"while publishing: {type(error).__name__}: {error}"
                self._drops.add(Reason.ERROR, text, len(result.views))

    def _publish(self, result: Result, age: float, models: Models, parameters: Parameters) -> None:
        seen = {view.camera for view in result.views}
        if missing := [camera for camera in parameters.cameras if camera not in seen]:
            self._drops.add(
                Reason.FEWER_VIEWS,
                f"estimated without {', '.join(missing)}: check that image, camera_info and "
                "detections of every camera arrive, and views.wait",
            )
        self._outputs.publish(result, models, parameters)
        if len(models.estimators) > self._announced:  # one was loaded for this frame
            self._announce(models, parameters)
        latency = min(self._age(view.header) for view in result.views)
        work = Work(len(result.views), age, result.inference_time, latency)
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

    def _age(self, header: Header) -> float:
        """Return the seconds since an image was taken; nan before simulated time starts."""
        now = self._node.get_clock().now().nanoseconds
        return (now - nanoseconds(header.stamp)) * 1e-9 if now else float("nan")

    def _fresh(self, frame_set: FrameSet, max_age: float) -> FrameSet:
        """Return the frames that are not too old; the others are counted."""
        fresh = []
        for frame in frame_set.frames:
            age = self._age(frame.image.header)
            if max_age and age > max_age:
                self._drops.add(
                    Reason.STALE,
                    f"image is {age:.3f} s old, more than sync.max_age = {max_age:g} s: "
                    "synchronise the clocks, set use_sim_time for a bag, or raise sync.max_age",
                )
            else:
                fresh.append(frame)
        return dataclasses.replace(frame_set, frames=tuple(fresh))

    def _inform(self, text: str) -> None:
        if self._node.context.ok():  # the log is a publisher too and ends with the context
            self._node.get_logger().info(text)

    def _warn(self, text: str) -> None:
        if self._node.context.ok():
            self._node.get_logger().warning(text)


def _seconds(header: Header) -> str:
    return f"{header.stamp.sec}.{header.stamp.nanosec:09d}"


def _free_memory() -> None:
    """Release unused GPU memory; call it only once PyTorch is imported."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
