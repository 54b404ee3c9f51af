"""OBJ files: statements in the form that trimesh reads, and what becomes of their materials."""

import io
import re
from collections.abc import Iterator
from typing import Any, cast

from trimesh.exchange.obj import load_obj

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.meshes.assets import LIBRARY, Assets, decode, readable

_NONE = ("None", "(null)")  # what exporters call no material
_NUMBERS = ("v", "vt", "vn", "f")
_CORNERS, _COORDINATES = 3, 3
_COLOURED = 6  # numbers of a vertex with a colour


def load(content: bytes, stem: str, assets: Assets) -> list[dict[str, Any]]:
    """Read an OBJ file.

    Args:
        content: of the file.
        stem: of the file's name; its materials may be in a file of the same name.
        assets: finds materials and textures, and keeps what is lost.

    Returns:
        Arguments of `trimesh.Trimesh`, one for every material; a material without its texture is
        left out.

    Raises:
        DataError: the file is cut off or damaged.
    """
    text, libraries, used = _statements(decode(content), assets)
    textures = _read_libraries(libraries, used, stem, assets)
    if not used and len(textures) == 1:  # as some exporters of a single part write it
        text = text.replace("\nf ", f"\nusemtl {next(iter(textures))}\nf ", 1)
    stream = io.StringIO(f"mtllib {LIBRARY}\n{text}")
    loaded = load_obj(stream, resolver=cast(Any, assets))  # duck-typed
    parts = list(loaded["geometry"].values()) if "geometry" in loaded else [loaded]
    for part in parts:
        visual: Any = part.get("visual")
        name: Any = getattr(getattr(visual, "material", None), "name", None)
        failed = name not in textures or textures[name] in assets.failed
        if not failed and textures[name] is not None and visual.uv is None:
            assets.lost.append(f"material {readable(name)} has a texture but no coordinates for it")
            failed = True
        if failed:
            part["visual"] = None
    return parts


def _statements(text: str, assets: Assets) -> tuple[str, list[str], list[str]]:
    """Return the statements that matter, one a line, the material libraries and the materials."""
    kept, libraries, used = [], [], []
    counts = dict.fromkeys(_NUMBERS, 0)
    coloured = 0
    for number, key, rest in _lines(text):
        if key in _NUMBERS:
            words = rest.split()
            counts[key] += 1
            if (key == "v" and len(words) < _COORDINATES) or (key == "f" and len(words) < _CORNERS):
                raise DataError(f"line {number} ends early: '{key} {rest}'; is the file cut off?")
            coloured += key == "v" and len(words) >= _COLOURED
            if key == "f" and "-" in rest:
                words = [_absolute(word, counts) for word in words]
            kept.append(f"{key} {' '.join(words)}")
        elif key == "usemtl" and rest:
            used.append(" ".join(rest.split()))
            kept.append(f"usemtl {used[-1]}")
        elif key == "mtllib":
            libraries.append(rest)
    if 0 < coloured < counts["v"]:
        assets.lost.append(f"only {coloured} of {counts['v']} vertices have a colour")
    return "\n".join(kept), list(dict.fromkeys(libraries)), list(dict.fromkeys(used))


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield number, keyword and the rest of each statement, without comments; lines joined."""
    begun = ""
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        if line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        key, _, rest = (begun + line).strip().replace("\t", " ").partition(" ")
        begun = ""
        if key in _NUMBERS:
            rest = rest.partition("#")[0]  # elsewhere it may be part of a name
        yield number, key, rest.strip()


def _absolute(word: str, counts: dict[str, int]) -> str:
    """Return a corner v/vt/vn with indices that count from the first one."""
    indices = []
    for index, key in zip(word.split("/"), ("v", "vt", "vn"), strict=False):
        relative = index.startswith("-")
        indices.append(str(counts[key] + 1 + int(index)) if relative else index)
    return "/".join(indices)


def _read_libraries(
    names: list[str], used: list[str], stem: str, assets: Assets
) -> dict[str, str | None]:
    """Read all materials; return the texture as it is written, or None, by the material's name."""
    found = []
    for name in names:
        whole = assets.find(name)
        paths = [whole] if whole else [assets.find(word) for word in name.split()]
        if None in paths:
            assets.lost.append(f"material file {readable(name)} is missing")
        found += [path for path in paths if path is not None]
    beside = assets.find(f"{stem}.mtl") if used and not names else None
    found += [beside] if beside else []
    assets.library = "\n".join(decode(path.read_bytes()) for path in found)
    textures: dict[str, str | None] = {}
    current = None
    for line in assets.library.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].lower() == "newmtl":
            current = " ".join(words[1:])
            textures[current] = None
        elif len(words) > 1 and words[0].lower() == "map_kd" and current is not None:
            textures[current] = line.strip()[len("map_kd") :].strip()
    unknown = [readable(name) for name in used if name not in textures and name not in _NONE]
    if unknown and found:
        assets.lost.append(f"no material file defines {', '.join(unknown)}")
    elif unknown and not names:
        assets.lost.append(f"it names no material file for {', '.join(unknown)}")
    return textures
