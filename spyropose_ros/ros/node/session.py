"""What runs between configure and cleanup: subscriptions, models, and the thread that estimates."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from spyropose_ros.ros.interfaces import TFMessage
from spyropose_ros.ros.node.health import Activity, Work
from spyropose_ros.ros.node.inputs import CameraInput
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.worker import Worker
from spyropose_ros.ros.pipeline.camera_frame import Frame, nanoseconds
from spyropose_ros.ros.pipeline.drops import BadInput, DropCounter, Reason, one_line
from spyropose_ros.ros.pipeline.images import converter
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer
from spyropose_ros.ros.pipeline.view_group import ViewGroup

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models
    from spyropose_ros.ros.pipeline.pipeline import Pipeline

_FLUSH_PERIOD = 0.02  # seconds; how exactly views.wait is kept
_TF_DEPTH = 100  # as tf2 has it
_MAX_WARNINGS = 100  # texts may hold what came in messages


class Session:
    """Subscribes, loads the models in a thread of its own, and then always takes the newest frame.

    Args:
        node: owns the subscriptions.
        read: gives the present parameters; those that are not dynamic stay as they are now.
        outputs: publishes.
        activity: told of everything that comes and goes.
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
        self._warned: set[str] = set()
        self._refusal: Reason | None = Reason.INACTIVE
        self._closed = False
        self._reset = threading.Event()
        self._transforms = TransformBuffer()
        self._pipeline: Pipeline | None = None
        self._announced = 0  # models that ~/model_info says are loaded
        self._entities: list[tuple[Callable, Any]] = []  # with what destroys them
        self._parameters = parameters = read()
        self._rectified = parameters.rectified
        self._views: ViewGroup[Frame] | None = None
        if parameters.cameras:
            views = parameters.views
            self._views = ViewGroup(
                parameters.cameras, round(views.slop * 1e9), views.wait, self._drop
            )
            # Steady clock: frames must not wait for ever while simulated time stands still
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            timer = node.create_timer(_FLUSH_PERIOD, self._flush, clock=steady)
            self._entities.append((node.destroy_timer, timer))
        if parameters.fixed_frame:
            self._subscribe_to_transforms()
        self._cameras = [
            CameraInput(node, camera, parameters, activity, self._drop, self._on_frame)
            for camera in parameters.cameras or ("",)
        ]
        self.topics = [topic for camera in self._cameras for topic in camera.topics]
        self._worker: Worker[list[Frame]] = Worker(self._prepare, self._discard, self._fail)
        self._worker.start()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._worker.ready

    @property
    def model_names(self) -> list[str]:
        """Bundles of the objects, once they are known."""
        pipeline = self._pipeline
        if pipeline is None:
            return []
        return [pipeline.models.model_id(name) for name in pipeline.models.objects]

    @property
    def device_memory(self) -> str:
        """Memory that PyTorch holds on the GPUs, in MB; 'none' without one."""
        if self._pipeline is None:  # PyTorch may be half imported by the other thread
            return "none"
        import torch

        if not torch.cuda.is_initialized():
            return "none"
        held = (torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
        return f"{sum(held) / 1e6:.0f}"

    # ---- executor thread ---------------------------------------------------------------------

    def refuse(self, reason: Reason | None) -> None:
        """Drops all frames from now on, counted under the reason; None takes them."""
        self._refusal = reason

    def apply(self, parameters: Parameters) -> None:
        """Takes over what may change at run time."""
        for camera in self._cameras:
            camera.source.apply(parameters)

    def reset(self) -> None:
        """Forgets waiting messages and everything that was seen before."""
        for camera in self._cameras:
            camera.source.reset()
        self._forget_views("forgotten by ~/reset")
        self._reset.set()

    def close(self, timeout: float) -> bool:
        """Ends the subscriptions and, after the frame in work, the thread; frees the models.

        Args:
            timeout: longest wait for the thread, seconds.

        Returns:
            Whether the thread has ended.
        """
        self._closed = True
        self._refusal = Reason.INACTIVE
        for camera in self._cameras:
            camera.close()
            camera.source.reset()
        for destroy, entity in self._entities:
            destroy(entity)
        self._forget_views("the node is being cleaned up")
        ended = self._worker.stop(timeout)
        if self._pipeline is not None:
            self._pipeline = None
            _free_memory()
        return ended

    def _drop(self, reason: Reason, text: str, count: int = 1) -> None:
        if reason is Reason.TIME_JUMP:
            self._reset.set()
        self._drops.add(reason, text, count)

    def _forget_views(self, text: str) -> None:
        if self._views is not None and (waiting := self._views.reset()):
            self._drops.add(Reason.INACTIVE, text, waiting)

    def _subscribe_to_transforms(self) -> None:
        latched = QoSProfile(depth=_TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, static, qos in (("/tf", False, _TF_DEPTH), ("/tf_static", True, latched)):
            subscription = self._node.create_subscription(
                TFMessage,
                topic,
                lambda message, static=static: self._on_transforms(message, static),
                qos,
            )
            self._entities.append((self._node.destroy_subscription, subscription))

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        for text in self._transforms.add_message(message, static):
            self._drops.add(Reason.BAD_TRANSFORM, text)

    def _on_frame(self, frame: Frame) -> None:
        self._activity.match(1)
        self._check_distortion(frame)
        if self._views is None:
            self._submit([frame])
            return
        stamp = nanoseconds(frame.image.header.stamp)
        for moment in self._views.add(frame.camera, stamp, frame, time.monotonic()):
            self._submit(moment)

    def _check_distortion(self, frame: Frame) -> None:
        info = frame.camera_info
        camera = next(c for c in self._cameras if c.source.camera == frame.camera)
        if not self._rectified or info is None or not any(info.d) or "rect" in camera.topics[0]:
            return
        self._warn(
            f"camera_info has lens distortion and {camera.topics[0]} does not look rectified by "
            "its name: feed a rectified image (image_proc), or set rectified: false"
        )

    def _flush(self) -> None:
        for moment in self._views.flush(time.monotonic()):
            self._submit(moment)

    def _submit(self, frames: list[Frame]) -> None:
        if self._refusal is not None:
            self._refuse(frames)
        else:
            self._worker.submit(frames)

    def _refuse(self, frames: list[Frame]) -> None:
        remedy = {
            Reason.INACTIVE: "the node is not active: ros2 lifecycle set <node> activate",
            Reason.DISABLED: "switched off by the service ~/enable",
        }
        reason = self._refusal or Reason.INACTIVE
        self._drops.add(reason, remedy[reason], len(frames))

    def _discard(self, frames: list[Frame]) -> None:
        if self._refusal is not None:
            self._refuse(frames)
            return
        self._drops.add(
            Reason.BUSY,
            "frames come faster than the models run, the newest is used"
            if self.ready
            else "the models are still loading",
            len(frames),
        )

    # ---- worker thread -----------------------------------------------------------------------

    def _prepare(self) -> Callable[[list[Frame]], None]:
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
            models, self._transforms, self._drops.add, self._warn, self._node.get_logger().debug
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

    def _handle(self, frames: list[Frame]) -> None:
        try:
            self._estimate_and_publish(frames)
        except BadInput as error:
            self._drops.add(error.reason, str(error), len(frames))
        except Exception as error:  # whatever one frame does, the next gets its chance
            if self._node.context.ok():
                text = f"while publishing: {type(error).__name__}: {error}"
                self._drops.add(Reason.ERROR, text, len(frames))

    def _estimate_and_publish(self, frames: list[Frame]) -> None:
        pipeline = self._pipeline
        if pipeline is None:  # cleaned up meanwhile
            self._refuse(frames)
            return
        if self._reset.is_set():
            self._reset.clear()
            pipeline.reset()
            self._outputs.reset()
        parameters = self._read()
        frames[:] = [frame for frame in frames if self._is_fresh(frame, parameters.sync.max_age)]
        if not frames:
            return
        age = min(self._age(frame) for frame in frames)
        result = pipeline.process(frames, parameters)
        if result is None:
            return
        seen = [view.camera for view in result.views]
        frames[:] = [frame for frame in frames if frame.camera in seen]
        if self._refusal is not None:
            self._refuse(frames)
            return
        if missing := [camera for camera in parameters.cameras if camera not in seen]:
            self._drops.add(
                Reason.FEWER_VIEWS,
                f"estimated without {', '.join(missing)}: check that image, camera_info and "
                "detections of every camera arrive, and views.wait",
            )
        self._outputs.publish(result, pipeline.models, parameters)
        if len(pipeline.models.estimators) > self._announced:  # one was loaded for this frame
            self._announce(pipeline.models, parameters)
        latency = min(self._age(frame) for frame in frames)
        work = Work(len(frames), age, result.inference_time, latency)
        if self._activity.publish(work) == 1:
            self._inform(
                f"first result published: objects: {len(result.targets)}, "
                f"{1000 * result.inference_time:.0f} ms"
            )

    def _age(self, frame: Frame) -> float:
        """Seconds since the image was taken; nan while simulated time has not begun."""
        now = self._node.get_clock().now().nanoseconds
        return (now - nanoseconds(frame.image.header.stamp)) * 1e-9 if now else float("nan")

    def _is_fresh(self, frame: Frame, max_age: float) -> bool:
        age = self._age(frame)
        if max_age and age > max_age:
            self._drops.add(
                Reason.STALE,
                f"image is {age:.3f} s old, more than sync.max_age = {max_age:g} s: synchronise "
                "the clocks, set use_sim_time for a bag, or raise sync.max_age",
            )
            return False
        return True

    def _inform(self, text: str) -> None:
        if self._node.context.ok():  # the log is a publisher too, and ends with the context
            self._node.get_logger().info(text)

    def _warn(self, text: str) -> None:
        """Warns once of what is suspicious but may be meant."""
        text = one_line(text)
        if text not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(text)
            if self._node.context.ok():
                self._node.get_logger().warning(text)


def _free_memory() -> None:
    """Gives back to the GPU what nothing refers to; only once PyTorch is imported."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
