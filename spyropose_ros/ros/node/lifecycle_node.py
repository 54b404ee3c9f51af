"""The estimator node: life cycle, services, parameters and diagnostics around a session."""

from __future__ import annotations

import platform
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future

from spyropose_ros.ros.interfaces import (
    DiagnosticArray,
    DiagnosticStatus,
    KeyValue,
    SetBool,
    Trigger,
)
from spyropose_ros.ros.node import health
from spyropose_ros.ros.node.health import State
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.parameter_server import ParameterServer
from spyropose_ros.ros.node.session import Session
from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.objects import check_objects
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters

SILENCE_PERIOD = 5.0  # seconds
STOP_TIMEOUT = 3.0  # seconds that a transition waits for the current frame


class EstimatorNode(LifecycleNode):
    """Publishes the pose distribution of every detected object in every image it can keep up with.

    Configuring subscribes and starts loading the models, without blocking; frames are processed
    while the node is active and enabled. Cleaning up releases the models. Unless ``autostart`` is
    false, the node configures and activates itself.

    Args:
        **options: passed on to rclpy's Node.

    Raises:
        ParameterError: if a parameter cannot be used; with ``autostart`` also if a bundle cannot.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("estimator", **options)
        logger = self.get_logger()
        self.drops = DropCounter(logger.warning, logger.info, debug=logger.debug)
        self.activity = health.Activity()
        self.failure: Future[Exception] = Future()  # gets the exception that ended the worker
        self._session: Session | None = None
        self._active = False
        self._enabled = True
        self._verdict = health.Verdict()
        self._before_silence = self.activity.counts()
        self._settings = ParameterServer(self, self._apply, lambda: self._session is not None)
        self._outputs = Outputs(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        # Steady clock: these reports matter most when simulated time stands still
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self.create_timer(SILENCE_PERIOD, self._report_silence, clock=steady)
        if self._settings.current.autostart:
            check_objects(self._settings.current)
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._session is not None and self._session.ready

    def stop(self) -> bool:
        """End the session after the current frame; call it before destroying the node.

        Returns:
            Whether it ended within STOP_TIMEOUT.
        """
        self._active = False
        session, self._session = self._session, None
        return session is None or session.close(STOP_TIMEOUT)

    # ---- life cycle --------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start loading the models; the log and ~/model_info say when it is done.

        Fails if a bundle is missing, or damaged so that it shows before PyTorch is loaded. A model
        that cannot be loaded later ends the process: nothing could ever be estimated.
        """
        try:
            check_objects(self._settings.current)
        except ParameterError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        try:
            self._session = Session(
                self,
                lambda: self._settings.current,
                self._outputs,
                self.activity,
                self.drops,
                self.failure.set_result,
            )
        except Exception as error:  # rclpy would swallow it
            self.failure.set_result(error)
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start processing frames."""
        self._active = True
        self._update()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop processing frames; the models stay loaded."""
        self._active = False
        self._update()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and release the models."""
        if not self.stop():
            self.get_logger().info("models are released when the current frame is done")
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do as on_cleanup."""
        self.stop()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do as on_cleanup: a session must not live on unseen."""
        self.stop()
        return super().on_error(state)

    def _update(self) -> None:
        """Tell the session whether frames are wanted."""
        if self._session is not None:
            reason = None if self._enabled else Reason.DISABLED
            self._session.refuse(reason if self._active else Reason.INACTIVE)

    # ---- services and parameters -------------------------------------------------------------

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response):
        self._enabled = request.data
        self._update()
        response.success = True
        response.message = self._state().value
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response):
        if self._session is not None:
            self._session.reset()
        response.success = self._session is not None
        response.message = (
            "pending messages and history cleared; a frame being processed is still published"
            if response.success
            else "nothing to reset: the node is not configured"
        )
        return response

    def _apply(self, parameters: Parameters) -> None:
        if self._session is not None:
            self._session.apply(parameters)

    # ---- diagnostics -------------------------------------------------------------------------

    def _state(self) -> State:
        if self._session is None:
            return State.NOT_CONFIGURED
        if not self._session.ready:
            return State.LOADING
        if not self._active:
            return State.INACTIVE
        return State.RUNNING if self._enabled else State.DISABLED

    def _publish_diagnostics(self) -> None:
        counts, drops = self.activity.counts(), self.drops.counts()
        level, message = self._verdict.judge(self._state(), drops, counts.published)
        topics = self._session.topics if self._session is not None else []
        values = {f"received {topic}": str(counts.received[topic]) for topic in topics}
        values |= {
            "images matched": str(counts.matched),
            "images processed": str(counts.processed),
            "results published": str(counts.published),
            **health.drop_values(drops),
            **self.activity.timings(),
            "device memory (MB)": self._session.device_memory if self._session else "none",
            "models": ", ".join(self._session.model_names) if self._session else "none",
            "last problem": self.drops.last_problem,
        }
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self.get_fully_qualified_name()[1:]}: pose distributions",
            message=message,
            hardware_id=f"{platform.node()} {self._settings.current.device}",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _report_silence(self) -> None:
        counts, before = self.activity.counts(), self._before_silence
        self._before_silence = counts
        if counts.published > before.published or self._session is None:
            return
        state = self._state()
        if state is State.LOADING:
            self.get_logger().info(state.value)
        if state is not State.RUNNING:
            return
        topics = self._session.topics
        self.get_logger().warning(
            health.explain_silence(
                SILENCE_PERIOD,
                {topic: counts.received[topic] - before.received[topic] for topic in topics},
                {topic: self.count_publishers(topic) for topic in topics},
                self.drops.summary(),
            )
        )
