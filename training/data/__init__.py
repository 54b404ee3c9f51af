"""Data sets for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.core.errors import InputError
from training.config import PAPER_BOP, BopOptions

if TYPE_CHECKING:
    from training.data.source import Source

DATASETS = ("rendered", "lmo", "shapes", "symsol", "tless", "hb")
"""Data sets by name; any other BOP data set by its folder's name or path."""


def open_source(
    dataset: str,
    object_name: str,
    data_root: str = "data",
    low_data_regime: bool = False,
    resolution: int = 224,
    bop: BopOptions = PAPER_BOP,
    views: Literal["upright", "uniform"] = "upright",
) -> Source:
    """Open a data set and choose one object.

    Args:
        dataset: one of `DATASETS` ("symsol_ours" is the paper's name of "shapes"), the name of a
            folder in <data_root>/bop, or the path of a folder in the BOP format.
        object_name: name or number of the object.
        data_root: where the data sets lie.
        low_data_regime: of SYMSOL.
        resolution: side of the evaluation images that are rendered to be the crop, pixels.
        bop: which images of a BOP data set.
        views: of objects that are rendered.

    Returns:
        What gives the object's training items and evaluation samples.

    Raises:
        InputError: unknown data set or object.
        MissingFileError: the data are missing.
    """
    if low_data_regime and dataset != "symsol":
        raise InputError(f"--low-data-regime is for symsol, not for {dataset}: leave it out")
    if views != "upright" and dataset not in ("rendered", "lmo"):
        raise InputError(f"--views is for rendered objects, not for {dataset}: leave it out")
    if dataset in ("shapes", "symsol_ours"):
        from training.data.shapes import ShapesSource

        return ShapesSource(object_name, resolution)
    if dataset == "symsol":
        from training.data.symsol import SymsolSource

        return SymsolSource(object_name, data_root, low_data_regime)
    if dataset == "rendered":
        from training.data.rendered import RenderedSource

        return RenderedSource(object_name, data_root, views=views)
    if dataset == "lmo" and object_name in LMO_OBJECTS:
        from training.data.rendered import LmoSource

        return LmoSource(object_name, data_root, views)
    for folder in (Path(data_root) / "bop" / dataset, Path(dataset)):
        if folder.is_dir() or dataset in ("tless", "hb"):  # BopSource says where to get these
            from training.data.bop import BopSource
            from training.data.part import PartSource, renders_its_own

            kind = PartSource if renders_its_own(folder) else BopSource
            return kind(folder, object_name, bop)
    if dataset == "lmo":
        known = ", ".join(LMO_OBJECTS)
        raise InputError(f"LM-O has no object '{object_name}': choose from {known}")
    raise InputError(
        f"no data set '{dataset}': choose from {', '.join(DATASETS)}, or give the path of a folder "
        f"in the BOP format (looked for {Path(data_root) / 'bop' / dataset})"
    )
