"""Which topics of a graph or a bag may be meant where an input is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from spyropose_ros.ros.interfaces import PoseDistributionArray, type_name
from spyropose_ros.ros.pipeline.frame_source import Role

COMPRESSED_DEPTH = "/compressedDepth"  # how image_transport's topics of compressed depth end


_DISTRIBUTIONS = "/distributions"  # what estimators publish, beside images of their own


def likely(
    topics: Iterable[tuple[str, str]], kind: type, role: Role, used: Collection[str]
) -> list[str]:
    """Return the topics that may have the messages of an input.

    Args:
        topics: names and types of what there is.
        kind: message class.
        role: of the input.
        used: topics of other inputs.

    Returns:
        Those of the type that are not in use and no estimator's own, sorted; for images those that
        tell by their name whether they have depth, or else all. Compressed depth images count as a
        type of their own.
    """
    topics = list(topics)
    estimators = {
        topic.removesuffix(_DISTRIBUTIONS)
        for topic, name in topics
        if name == type_name(PoseDistributionArray) and topic.endswith(_DISTRIBUTIONS)
    }
    found = sorted(
        topic
        for topic, name in topics
        if name == type_name(kind)
        and topic not in used
        and not topic.endswith(COMPRESSED_DEPTH)
        and topic.rpartition("/")[0] not in estimators
    )
    if role not in (Role.IMAGE, Role.DEPTH):
        return found
    return [topic for topic in found if ("depth" in topic) is (role is Role.DEPTH)] or found
