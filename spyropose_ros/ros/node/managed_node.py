"""What the nodes share: life cycle, services, parameters and diagnostics around a session."""

from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

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
from spyropose_ros.ros.node.health import Counts, State
from spyropose_ros.ros.node.parameter_server import ParameterServer
from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.parameters import NetworkParameters, ParameterError

SILENCE_PERIOD = 5.0  # seconds
STOP_TIMEOUT = 3.0  # seconds that a transition waits for the current frame
_NO_MODELS = {"device memory (MB)": "none", "models": "none"}

P = TypeVar("P", bound=NetworkParameters)
Applied = TypeVar("Applied", bound=NetworkParameters, contravariant=True)


class Session(Protocol[Applied]):
    """What runs between configure and cleanup."""

    topics: Sequence[str]

    @property
    def ready(self) -> bool:
        """Whether images can be processed."""

    def values(self, counts: Counts) -> Mapping[str, str]:
        """Return what only this kind of session has to say in /diagnostics."""

    def look_around(self) -> None:
        """Say what about the graph is suspicious; called every SILENCE_PERIOD."""

    def refuse(self, reason: Reason | None) -> None:
        """Drop all frames from now on for the reason; None accepts them again."""

    def apply(self, parameters: Applied) -> None:
        """Apply the parameters that may change at run time."""

    def reset(self) -> None:
        """Clear pending messages and the history."""

    def close(self, timeout: float) -> bool:
        """End it; return whether that took no longer than the timeout in seconds."""


class ManagedNode(LifecycleNode, Generic[P]):
    """A life-cycle node that processes images by networks.

    Configuring subscribes and starts loading the models, without blocking; frames are processed
    while the node is active and enabled. Cleaning up releases the models. Unless ``autostart`` is
    false, the node configures and activates itself.

    Args:
        name: of the node.
        results: what it publishes, for /diagnostics.
        defaults: its parameters.
        **options: passed on to rclpy's Node.

    Attributes:
        drops: counts what is not used.
        activity: counts what is.
        failure: gets the exception that ended the worker.

    Raises:
        ParameterError: if a parameter cannot be used; with ``autostart`` also if a bundle cannot.
    """

    drops: DropCounter
    activity: health.Activity
    failure: Future[Exception]

    def __init__(self, name: str, results: str, defaults: P, **options: Any) -> None:
        super().__init__(name, **options)
        self._results = results
        logger = self.get_logger()
        self.drops = DropCounter(logger.warning, logger.info, debug=logger.debug)
        self.activity = health.Activity()
        self.failure = Future()
        self._session: Session[P] | None = None
        self._active = False
        self._enabled = True
        self._verdict = health.Verdict()
        self._before_silence = self.activity.counts()
        self._settings: ParameterServer[P] = ParameterServer(
            self, defaults, self._apply, lambda: self._session is not None
        )
        self._advertise()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        # Steady clock: these reports matter most when simulated time stands still
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self.create_timer(SILENCE_PERIOD, self._report_silence, clock=steady)
        if self._settings.current.autostart:
            self._check()
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                self.trigger_activate()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._session is not None and self._session.ready

    @abstractmethod
    def _advertise(self) -> None:
        """Make the publishers of the results, which are there in every state."""

    @abstractmethod
    def _check(self) -> None:
        """Check the bundles as far as it takes no time.

        Raises:
            ParameterError: if one cannot be used.
        """

    @abstractmethod
    def _make_session(self) -> Session[P]:
        """Make what runs from now on, after `_check`."""

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
            self._check()
        except ParameterError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        try:
            self._session = self._make_session()
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

    def _apply(self, parameters: P) -> None:
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
            **(self._session.values(counts) if self._session is not None else _NO_MODELS),
            "last problem": self.drops.last_problem,
        }
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self.get_fully_qualified_name()[1:]}: {self._results}",
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
        if self._session is not None:
            self._session.look_around()
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
