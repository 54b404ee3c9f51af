"""PLY files: headers in any encoding, colours by any of their names."""

import io
import re
from typing import Any, cast

from trimesh.exchange.ply import load_ply

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.meshes.assets import Assets, decode

_HEADER = re.compile(rb"(?s)\s*ply\s.*?end_header[^\n\r]*(\r\n|\n|\r)")
_ENDS_WITH_LISTS = re.compile(r"element \S+ \d+\nproperty list (?:(?!element).)*$", re.DOTALL)
_COLOURS = {"diffuse_red": "red", "diffuse_green": "green", "diffuse_blue": "blue"}
_COLOURS |= {"r": "red", "g": "green", "b": "blue"}
_PLAIN = ("red", "green", "blue", "alpha")


def load(content: bytes, assets: Assets) -> list[dict[str, Any]]:
    """Read a PLY file.

    Args:
        content: of the file.
        assets: finds the texture, and keeps what is lost.

    Returns:
        Arguments of `trimesh.Trimesh`.

    Raises:
        DataError: the file is cut off or damaged.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    header = _HEADER.match(content)
    if header is None:
        ply = content.lstrip()[:3] == b"ply"
        raise DataError("it is cut off within its header" if ply else "it is no PLY file")
    text, counts, image = _plain_header(decode(header[0]))
    body = content[header.end() :]
    if "format ascii" in text:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < sum(counts):
            raise DataError(f"it is cut off: {len(lines)} of {sum(counts)} lines are there")
        if counts and counts[-1] > 0 and _ENDS_WITH_LISTS.search(text):
            last = lines[sum(counts) - 1].split()
            if len(last) <= int(last[0]):
                raise DataError("it is cut off within its last line")
        body = b"\n".join(lines) + b"\n"
    try:
        stream = io.BytesIO(text.encode("utf-8", "surrogateescape") + body)
        part = load_ply(stream, resolver=cast(Any, assets))  # duck-typed
    except ValueError as error:
        if "unexpected length" not in str(error):
            raise
        raise DataError("it is cut off, or longer than its header says") from error
    if image and not assets.failed and part.get("visual") is None:
        assets.lost.append("it names a texture but has no texture coordinates")
    if not image or assets.failed:
        part["visual"] = None  # trimesh makes up a texture for coordinates without one
    return [part]


def _plain_header(header: str) -> tuple[str, list[int], bool]:
    """Return the header with the names that trimesh knows.

    Returns:
        Text, sizes of the elements, and whether a texture is named.
    """
    kept, counts, image = [], [], False
    lines = re.split("[\r\n]+", header.strip())
    has_colours = any(re.match(r"(?i)property\s.*\sred\s*$", line) for line in lines)
    for line in lines:
        words = line.split()
        is_texture = "texturefile" in line.lower()
        image |= is_texture
        if not words or (words[0] in ("comment", "obj_info") and not is_texture):
            continue
        if words[0] == "element":
            counts.append(int(words[2]))
        if words[0] == "property":
            name = words[-1].lower()
            if name in _PLAIN or (name in _COLOURS and not has_colours):
                line = " ".join([*words[:-1], _COLOURS.get(name, name)])
        kept.append(line)
    return "\n".join(kept) + "\n", counts, image
