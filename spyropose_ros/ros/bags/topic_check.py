"""Checks that a bag has the topics that a run needs; the error names those that would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spyropose_ros.ros.bags.bag_files import BagError, BagReader
from spyropose_ros.ros.interfaces import CompressedImage, Image, type_name
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.topic_choice import COMPRESSED_DEPTH, likely

_REMEDIES = {
    Role.IMAGE: "record the images as well",
    Role.CAMERA_INFO: "record it as well",
    Role.DETECTIONS: "record the detector's output as well (docs/bags.md), or name a detector "
    "that finds the boxes, -p detector:=BUNDLE",
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
    similar = likely(reader.topics.items(), entry.kind, entry.role, used)
    if entry.role is Role.DEPTH:
        free = sorted(reader.topics.keys() - set(used))
        similar += [topic for topic in free if topic.endswith(COMPRESSED_DEPTH)]
    if similar:
        return f"{text}: add " + " or ".join(f"-r {entry.name}:={topic}" for topic in similar)
    if entry.role is Role.IMAGE and (remedy := _other_transport(reader, entry, used)):
        return f"{text} nor another one of type {type_name(entry.kind)}: {remedy}"
    listing = ", ".join(f"{name} ({kind})" for name, kind in sorted(reader.topics.items()))
    return (
        f"{text} nor another one of type {type_name(entry.kind)} that is not in use: "
        f"{_REMEDIES[entry.role]}. It has {listing or 'no topics'}"
    )


def _other_transport(reader: BagReader, entry: Input, used: Collection[str]) -> str:
    """Say how to use compressed images instead of raw ones, or the other way round."""
    if entry.kind is Image:
        other, transport, name = CompressedImage, "compressed", f"{entry.name}/compressed"
    else:
        other, transport, name = Image, "raw", entry.name.removesuffix("/compressed")
    topics = likely(reader.topics.items(), other, Role.IMAGE, used)
    remaps = " or ".join(f"-r {name}:={topic}" for topic in topics)
    return f"add -p image_transport:={transport} {remaps}" if topics else ""
