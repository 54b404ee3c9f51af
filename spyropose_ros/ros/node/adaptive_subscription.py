"""A subscription that asks its publishers for no more than they offer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_KEPT = DurabilityPolicy.TRANSIENT_LOCAL
LATCHED = QoSProfile(depth=1, durability=_KEPT)
"""Reliable, and what was sent last reaches those that come later."""

_PERIOD = 1.0  # seconds between two looks at the publishers


def attainable(wanted: QoSProfile, offers: Sequence[QoSProfile], latched: bool) -> QoSProfile:
    """Return the quality of service that all publishers can give.

    Args:
        wanted: what is asked for if they offer it.
        offers: what the publishers offer.
        latched: whether messages sent earlier are wanted where all publishers keep them.

    Returns:
        A copy of what is wanted, with less reliability or more durability; durability needs
        reliability, too.
    """
    asked = copy.copy(wanted)
    if any(offer.reliability == ReliabilityPolicy.BEST_EFFORT for offer in offers):
        asked.reliability = ReliabilityPolicy.BEST_EFFORT
    elif latched and offers and all(offer.durability == _KEPT for offer in offers):
        asked.reliability, asked.durability = ReliabilityPolicy.RELIABLE, _KEPT
    return asked


def _demands(qos: QoSProfile) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
    """Return what a publisher must offer."""
    return qos.reliability, qos.durability


class AdaptiveSubscription:
    """Subscribes again with other demands where the publishers offer less, or more.

    The middleware delivers nothing to a subscription that asks for more than a publisher offers.

    Args:
        node: owns the subscription.
        kind: message class.
        name: of the topic.
        callback: called with every message, and its information if it takes two arguments.
        qos: what is wanted; the node's qos_overrides parameters override it.
        say: called with a text when less must be asked for.
        on_lost: called with the number of messages that the middleware says it lost.
        latched: whether messages sent earlier are wanted from publishers that keep them. Where only
            some do, a second subscription asks them, and their messages come twice.
        on_again: called after subscribing again; what is sent meanwhile is not received.

    Attributes:
        topic: its full name.
    """

    topic: str

    def __init__(
        self,
        node: Node,
        kind: type,
        name: str,
        callback: Callable[..., None],
        qos: QoSProfile,
        say: Callable[[str], object],
        on_lost: Callable[[int], None] = lambda count: None,
        latched: bool = False,
        on_again: Callable[[], None] = lambda: None,
    ) -> None:
        self._node = node
        self._kind = kind
        self._name = name
        self._callback = callback
        self._say = say
        self._on_lost = on_lost
        self._latched = latched
        self._on_again = on_again
        self._earlier: Subscription | None = None  # to the publishers that keep their messages
        self._asked = self._wanted = copy.copy(qos)
        options = QoSOverridingOptions.with_default_policies()
        self._subscription = self._subscribe(self._wanted, options)  # changes what is wanted
        self.topic = self._subscription.topic_name
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_PERIOD, self._adapt, clock=steady)

    @property
    def reliable(self) -> bool:
        """Whether messages that get lost are sent again."""
        return self._asked.reliability != ReliabilityPolicy.BEST_EFFORT

    @property
    def less_reliable(self) -> bool:
        """Whether a publisher offers less reliability than is wanted."""
        return not self.reliable and self._wanted.reliability != ReliabilityPolicy.BEST_EFFORT

    def close(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)
        self._ask_for_earlier(False)

    def _subscribe(
        self, qos: QoSProfile, options: QoSOverridingOptions | None = None
    ) -> Subscription:
        return self._node.create_subscription(
            self._kind,
            self._name,
            self._callback,
            qos,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._adapt(),
                message_lost=lambda event: self._on_lost(event.total_count_change),
            ),
            qos_overriding_options=options,
        )

    def _adapt(self) -> None:
        """Subscribe again if the publishers offer something else than what was asked for."""
        offers = [
            publisher.qos_profile
            for publisher in self._node.get_publishers_info_by_topic(self.topic)
        ]
        asked = attainable(self._wanted, offers, self._latched)
        before = self._asked
        if not offers:
            return
        keeping = any(_demands(offer) == _demands(LATCHED) for offer in offers)
        self._ask_for_earlier(self._latched and keeping and asked.durability != _KEPT)
        if _demands(asked) == _demands(before):
            return
        self._asked = asked
        former, self._subscription = self._subscription, self._subscribe(asked)
        self._node.destroy_subscription(former)
        self._on_again()
        if self.less_reliable and asked.reliability != before.reliability:
            self._say(
                f"a publisher on {self.topic} offers best_effort only, so no more is asked and "
                "what gets lost is not sent again: set the reliability of the publisher to "
                "reliable if you can"
            )

    def _ask_for_earlier(self, wanted: bool) -> None:
        """Subscribe beside the subscription to what was sent earlier, or no longer."""
        if wanted and self._earlier is None:
            self._earlier = self._subscribe(LATCHED)
        elif not wanted and self._earlier is not None:
            self._node.destroy_subscription(self._earlier)
            self._earlier = None
