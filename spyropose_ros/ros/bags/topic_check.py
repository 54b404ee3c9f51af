"""Checks that a bag has the topics that a run needs; the error names those that would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spyropose_ros.ros.bags.bag_files import BagError, BagReader
from spyropose_ros.ros.bags.message_types import type_name
from spyropose_ros.ros.interfaces import CompressedImage, Image
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.frame_source import Role

_COMPRESSED_DEPTH = "/compressedDepth"  # how image_transport's topics of compressed depth end
_REMEDIES = {
    Role.IMAGE: "record the images as well",
    Role.CAMERA_INFO: "record it as well",
    Role.DETECTIONS: "record the detector's output as well (docs/bags.md)",
    Role.DEPTH: "record the depth image, registered to the images, raw or as compressedDepth, or "
    "leave out -p depth_image:=true",
}


def recorded_kind(reader: BagReader, entry: Input) -> type:
    """Return the class of an input's messages in a bag, which may have compressed depth images."""
    if entry.role is Role.DEPTH and reader.topics.get(entry.topic) == type_name(CompressedImage):
        return CompressedImage
    return entry.kind


def check_inputs(reader: BagReader, inputs: Sequence[Input]) -> None:
    """Check that a bag has all topics, in the right types.

    Args:
        reader: the bag.
        inputs: the topics.

    Raises:
        BagError: if it does not; with the remapping that helps, if there is one.
    """
    names: dict[str, str] = {}
    for entry in inputs:
        if entry.topic in names:
            raise BagError(
                f"{entry.topic} is given as {names[entry.topic]} and as {entry.name}: remap each "
                "to a topic of its own"
            )
        names[entry.topic] = entry.name
    for entry in inputs:
        if entry.topic not in reader.topics:
            raise BagError(_missing(reader, entry, names))
        reader.check_type(entry.topic, recorded_kind(reader, entry))


def _missing(reader: BagReader, entry: Input, used: Collection[str]) -> str:
    """Say what the bag has instead of a topic that is not in use."""
    text = f"{reader.path} has no topic {entry.topic}"
    free = [topic for topic in sorted(reader.topics) if topic not in used]
    similar = _likely(_of_kind(reader, free, entry.kind), entry.role)
    if entry.role is Role.DEPTH:
        similar += [topic for topic in free if topic.endswith(_COMPRESSED_DEPTH)]
    if similar:
        return f"{text}: add " + " or ".join(f"-r {entry.name}:={topic}" for topic in similar)
    if entry.role is Role.IMAGE and (remedy := _other_transport(reader, entry, free)):
        return f"{text} nor another one of type {type_name(entry.kind)}: {remedy}"
    listing = ", ".join(f"{name} ({kind})" for name, kind in sorted(reader.topics.items()))
    return (
        f"{text} nor another one of type {type_name(entry.kind)} that is not in use: "
        f"{_REMEDIES[entry.role]}. It has {listing or 'no topics'}"
    )


def _other_transport(reader: BagReader, entry: Input, free: Sequence[str]) -> str:
    """Say how to use compressed images instead of raw ones, or the other way round."""
    if entry.kind is Image:
        other, transport, name = CompressedImage, "compressed", f"{entry.name}/compressed"
    else:
        other, transport, name = Image, "raw", entry.name.removesuffix("/compressed")
    topics = _likely(_of_kind(reader, free, other), Role.IMAGE)
    remaps = " or ".join(f"-r {name}:={topic}" for topic in topics)
    return f"add -p image_transport:={transport} {remaps}" if topics else ""


def _of_kind(reader: BagReader, topics: Sequence[str], kind: type) -> list[str]:
    """Return the topics of a type; compressed depth images have a type of their own here."""
    return [
        topic
        for topic in topics
        if reader.topics[topic] == type_name(kind) and not topic.endswith(_COMPRESSED_DEPTH)
    ]


def _likely(topics: list[str], role: Role) -> list[str]:
    """Return the topics that tell by their name whether they have depth images, or else all."""
    if role not in (Role.IMAGE, Role.DEPTH):
        return topics
    return [topic for topic in topics if ("depth" in topic) is (role is Role.DEPTH)] or topics
