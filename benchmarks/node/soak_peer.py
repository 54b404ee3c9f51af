"""The rest of the soak's graph: publishes, injects faults, and checks what comes back."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from spyropose_ros.msg import PoseDistributionArray
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray

from benchmarks.node import graph
from benchmarks.node.soak_faults import FAULTS, OBJECTS, QUEUE, Change, Shot, many_detections
from spyropose_ros.demo.camera import FRAME_ID, camera_info, visible_message
from spyropose_ros.demo.detector import noisy
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.messages.result_messages import TOPICS
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.ros.pipeline.parameters import Parameters, flatten

RATE = 15.0  # images per second
_LATENCY = 0.05  # of the detector, seconds
_INTERVAL = 3.0  # seconds between faults, mean
_PICTURES = 12
_DEMANDING = 5  # results before the clock starts


class Peer:
    """Camera, detector, operator and viewer; the Bench of the faults.

    Args:
        node: owns publishers, subscriptions and clients.
        rng: of the faults.
        parameters: of the estimator, other than the defaults.
    """

    def __init__(self, node: Node, rng: np.random.Generator, parameters: Mapping[str, Any]) -> None:
        self.rng = rng
        self.changes: list[Change] = []
        self.parameters = {**flatten(Parameters()), **parameters}
        self.paused = False
        self.offset = 0.0
        self.published = 0
        self.answers = 0
        self.objects = 0  # of the last answer
        self.invalid: list[str] = []
        self.diagnostics = graph.Diagnostics(node)
        self._node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = itertools.count()
        self._running: set[str] = set()
        self._frames = list(open_frames("mug", _PICTURES))
        self._pixels = [image_message(Header(), frame.image) for frame in self._frames]
        self._image = node.create_publisher(Image, "image_rect", QUEUE)
        self._camera_info = node.create_publisher(CameraInfo, "camera_info", QUEUE)
        self._detections = node.create_publisher(Detection2DArray, "detections", QUEUE)
        node.create_subscription(
            PoseDistributionArray, "estimator/distributions", self._check, QUEUE
        )
        self._enable = node.create_client(SetBool, "estimator/enable")
        self._reset = node.create_client(Trigger, "estimator/reset")
        self._state = node.create_client(ChangeState, "estimator/change_state")
        self._set = node.create_client(SetParameters, "estimator/set_parameters")

    # ---- what faults can reach ---------------------------------------------------------------

    def shoot(self) -> None:
        """Publish a frame."""
        frame = self._frames[index := self.published % _PICTURES]
        now = self._node.get_clock().now().nanoseconds + round(self.offset * 1e9)
        header = self._header(now)
        pixels = self._pixels[index]
        height, width, _ = frame.image.shape
        image = Image(header=header, height=height, width=width, encoding="rgb8", step=pixels.step)
        image.data = pixels.data
        info = camera_info(frame.K, width, height)
        info.header = self._header(now)
        exact = visible_message(header, frame, "mug").detections
        boxes = [noisy(header, box, self.published) for box in exact]
        detections = Detection2DArray(header=self._header(now), detections=boxes)
        shot = Shot(image, info, detections, _LATENCY)
        for change in list(self.changes):
            change(shot, self.rng)
        if shot.camera_info is not None:
            self._camera_info.publish(shot.camera_info)
        self._image.publish(shot.image)
        self.published += 1
        if shot.detections is not None:
            answer = shot.detections
            self._after(shot.latency, lambda: self._detections.publish(answer))

    def enable(self, on: bool) -> None:
        """Call ~/enable."""
        self._enable.call_async(SetBool.Request(data=on))

    def reset(self) -> None:
        """Call ~/reset."""
        self._reset.call_async(Trigger.Request())

    def activate(self, on: bool) -> None:
        """Change the state of the life cycle."""
        number = Transition.TRANSITION_ACTIVATE if on else Transition.TRANSITION_DEACTIVATE
        self._state.call_async(ChangeState.Request(transition=Transition(id=number)))

    def set_parameters(self, parameters: list[Parameter]) -> None:
        """Call ~/set_parameters."""
        messages = [parameter.to_parameter_msg() for parameter in parameters]
        self._set.call_async(SetParameters.Request(parameters=messages))

    def watch(self, topic: str) -> Callable[[], object]:
        """Subscribe to an output of TOPICS; return what ends the subscription."""
        name = topic.replace("~", "estimator")
        viewer = self._node.create_subscription(TOPICS[topic], name, lambda _: None, 1)
        return lambda: self._node.destroy_subscription(viewer)

    def _header(self, stamp: int) -> Header:
        """Return a header for one message: faults change them."""
        header = Header(frame_id=FRAME_ID)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
        return header

    # ---- the course of the day ---------------------------------------------------------------

    def connect(self) -> None:
        """Wait until both sides know each other."""
        publishers = (self._image, self._camera_info, self._detections)
        clients = (self._enable, self._reset, self._state, self._set)
        self.work(
            60.0,
            lambda: (
                all(publisher.get_subscription_count() for publisher in publishers)
                and all(client.service_is_ready() for client in clients)
                and self._node.count_publishers("estimator/distributions")
            ),
        )

    def exert(self) -> None:
        """Have the most demanding results published once: their memory is no growth later."""
        values = {"temporal.enabled": True, "publish_tf": True, "output.max_poses": 4096}
        self.set_parameters([Parameter(name, value=value) for name, value in values.items()])
        ends = [self.watch(topic) for topic in TOPICS]
        self.changes.append(many_detections)
        self._tick()
        for _ in range(_DEMANDING):
            self.objects = 0
            self.work(60.0, lambda: self.objects == OBJECTS)
        self._events.clear()
        self.changes.clear()
        for end in ends:
            end()
        self.set_parameters([Parameter(name, value=self.parameters[name]) for name in values])

    def start(self, names: list[str], warm_up: float, end: float) -> None:
        """Start to publish, and plan the faults.

        Args:
            names: of the faults.
            warm_up: seconds in which every fault comes once.
            end: seconds after which no fault begins.
        """
        self._tick()
        for moment, name in zip(
            np.linspace(0, warm_up, len(names), endpoint=False),
            self.rng.permutation(names),
            strict=True,
        ):
            self._after(float(moment), lambda name=str(name): self._begin(name))
        moment = warm_up
        while (moment := moment + self.rng.exponential(_INTERVAL)) < end:
            name = str(self.rng.choice(names))
            self._after(moment, lambda name=name: self._begin(name))

    def work(self, seconds: float, done: Callable[[], object] = lambda: False) -> None:
        """Let the graph work for a while, or until something is done."""
        deadline = time.monotonic() + seconds
        while not done() and (now := time.monotonic()) < deadline:
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2]()
            self._executor.spin_once(timeout_sec=0.005)

    def settle(self) -> None:
        """Stop the camera, and wait until everything is counted."""
        self._events.clear()
        seen = self.diagnostics.count + 3
        self.work(20.0, lambda: self.diagnostics.count >= seen)
        self.reset()  # what waits for detections is counted now
        seen = self.diagnostics.count + 3
        self.work(20.0, lambda: self.diagnostics.count >= seen)

    def _tick(self) -> None:
        self._after(1 / RATE, self._tick)
        if not self.paused:
            self.shoot()

    def _begin(self, name: str) -> None:
        if name not in self._running:
            self._running.add(name)
            self._continue(name, FAULTS[name](self))

    def _continue(self, name: str, fault: Iterator[float]) -> None:
        duration = next(fault, None)
        if duration is None:
            self._running.discard(name)
        else:
            self._after(duration, lambda: self._continue(name, fault))

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._events, (time.monotonic() + seconds, next(self._serial), action))

    def _check(self, message: PoseDistributionArray) -> None:
        self.answers += 1
        self.objects = len(message.distributions)
        try:
            for distribution in message.distributions:
                check_invariants(distribution)
        except ValueError as error:
            self.invalid.append(str(error))

    def counts(self) -> dict[str, int]:
        """Return what became of the images, and of the other things that the node counts."""
        return {
            "published": self.published,
            "received": self.diagnostics.number("received /image_rect"),
            "processed": self.diagnostics.number("images processed"),
            **{reason.value: count for reason, count in self.diagnostics.drops().items()},
        }
