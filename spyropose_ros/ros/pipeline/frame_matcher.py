"""Pairs each detection message with the image that it was computed from. Independent of ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from spyropose_ros.ros.pipeline.drops import Reason

Image = TypeVar("Image")
Detections = TypeVar("Detections")

UNSTAMPED = "image with zero stamp: let the camera driver stamp its images"


@dataclass(frozen=True)
class Match(Generic[Image, Detections]):
    """An image and the detections that belong to it.

    Attributes:
        image: the image.
        detections: computed from it.
    """

    image: Image
    detections: Detections


class FrameMatcher(Generic[Image, Detections]):
    """Matches by stamp: the exact one first, else the nearest image within ``slop``.

    The nearest image is taken only once an image newer than the detections is known: until then the
    exact one may still arrive. Images stay in the buffer after a match, because several detectors
    may answer for one image. Every detection message ends as a match, waiting in the
    bounded buffer, or dropped. Stamps are integers in nanoseconds; a zero stamp
    cannot be matched by time and is refused, because pairing by arrival would silently join a box
    with another frame. Not thread-safe.

    Args:
        slop: largest stamp difference of a pair that is not exact, in nanoseconds.
        capacity: how many images, and how many waiting detection messages, are kept.
        drop: called with the reason, what to do about it, and the number of messages dropped.
    """

    def __init__(
        self, slop: int, capacity: int, drop: Callable[[Reason, str, int], object]
    ) -> None:
        if slop < 0 or capacity < 1:
            raise ValueError(f"slop {slop} must be >= 0 and capacity {capacity} >= 1")
        self.slop = slop
        self._capacity = capacity
        self._drop = drop
        self._images: dict[int, Image] = {}
        self._used: set[int] = set()  # stamps of images that were matched
        self._waiting: list[tuple[int, Detections]] = []

    @property
    def newest(self) -> int | None:
        """Newest stamp of the buffered images; None without any."""
        return max(self._images, default=None)

    def add_image(self, stamp: int, image: Image) -> list[Match[Image, Detections]]:
        """Store an image.

        Args:
            stamp: of the image, nanoseconds; without one, 0, the image is dropped.
            image: returned in its matches.

        Returns:
            The matches that it completes, oldest detections first.
        """
        if stamp == 0:
            self._drop(Reason.IMAGE_STAMP, UNSTAMPED, 1)
            return []
        if stamp in self._images:
            self._forget(stamp)
        self._images[stamp] = image
        if len(self._images) > self._capacity:
            self._forget(min(self._images))
        waiting, self._waiting = self._waiting, []
        return [match for entry in waiting for match in self._resolve(*entry)]

    def add_detections(self, stamp: int, detections: Detections) -> list[Match[Image, Detections]]:
        """Store detections.

        Args:
            stamp: of their image, nanoseconds; without one, 0, they are dropped.
            detections: returned in their match.

        Returns:
            Their match if their image has arrived, else nothing.
        """
        if stamp == 0:
            self._drop(
                Reason.DETECTIONS_STAMP,
                "detections with zero stamp: let the detector copy the header of its image",
                1,
            )
            return []
        return self._resolve(stamp, detections)

    def _resolve(self, stamp: int, detections: Detections) -> list[Match[Image, Detections]]:
        if stamp in self._images:
            return [self._match(stamp, detections)]
        if max(self._images, default=stamp) > stamp:
            nearest = min(self._images, key=lambda other: abs(other - stamp))
            if abs(nearest - stamp) <= self.slop:
                return [self._match(nearest, detections)]
            self._drop(Reason.UNMATCHED, self._explain(stamp, nearest), 1)
            return []
        self._waiting.append((stamp, detections))
        if len(self._waiting) > self._capacity:
            del self._waiting[0]
            self._drop(
                Reason.UNMATCHED,
                f"{self._capacity} newer detection messages arrived and no image for the oldest: "
                "check that images arrive and that both stamps come from one clock",
                1,
            )
        return []

    def _explain(self, stamp: int, nearest: int) -> str:
        distance = (nearest - stamp) * 1e-9
        if nearest == min(self._images):
            return (
                f"detections are {distance:.3f} s older than the oldest kept image: "
                "raise sync.buffer_size above camera rate x detector latency"
            )
        return (
            f"no image has the stamp of the detections, the nearest is {distance:+.3f} s away: "
            "either images are lost (try qos.reliability: reliable) or the detector does not copy "
            "the header of its image (raise sync.slop)"
        )

    def reset(self) -> int:
        """Clear all images and detections.

        Returns:
            The number of detection messages that waited.
        """
        for stamp in list(self._images):
            self._forget(stamp)
        waiting = len(self._waiting)
        self._waiting.clear()
        return waiting

    def _match(self, stamp: int, detections: Detections) -> Match[Image, Detections]:
        self._used.add(stamp)
        return Match(self._images[stamp], detections)

    def _forget(self, stamp: int) -> None:
        del self._images[stamp]
        if stamp not in self._used:
            self._drop(
                Reason.NO_DETECTIONS,
                "an image got no detections: the detector is slower than the camera, or silent",
                1,
            )
        self._used.discard(stamp)
