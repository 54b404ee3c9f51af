"""Renderings and labelled photographs in the same batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from spyropose_ros.bop import BopFrame, BopInstance, BopScene, BopTarget, frame_visibility
from spyropose_ros.bop.annotation import visibility
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.scenes.renderer import Renderer
from training.config import BopOptions
from training.data.bop import BopItems
from training.data.source import ENDLESS, CropSettings, Items, Source

Batch = dict[str, Tensor]

_SYMMETRIES = 64  # of a photograph, at most; a continuous symmetry has hundreds


class MixedItems:
    """Renderings without end, some of them replaced by crops of photographs.

    Args:
        renderings: without end.
        photographs: any number.
        share: of the photographs.

    Raises:
        InputError: the renderings are not without end.
    """

    def __init__(self, renderings: Items, photographs: Items, share: float):
        if renderings.__len__() != ENDLESS:
            raise InputError("--photographs goes with objects that are rendered without end")
        self._renderings = renderings
        self._photographs = photographs
        self._share = share

    def __len__(self) -> int:
        return ENDLESS

    def item(self, index: int, rng: np.random.Generator) -> Batch:
        """Return a view to be composed, or a crop; see `training.data.source.Items`."""
        if rng.random() < self._share:
            return self._photographs.item(int(rng.integers(self._photographs.__len__())), rng)
        return self._renderings.item(index, rng)


def collate(items: list[Batch]) -> Batch | list[Batch]:
    """Stack items of one kind, or those of each kind.

    Args:
        items: those of one kind have the same names.

    Returns:
        A batch, or one of each kind.
    """
    kinds: dict[frozenset[str], list[Batch]] = {}
    for item in items:
        kinds.setdefault(frozenset(item), []).append(item)
    batches = [default_collate(kind) for kind in kinds.values()]
    return batches[0] if len(batches) == 1 else batches


class MixedComposer(nn.Module):
    """Composes the renderings of a batch; its photographs are crops already.

    Args:
        composer: of the renderings.
    """

    def __init__(self, composer: nn.Module):
        super().__init__()
        self._composer = composer

    def forward(self, batch: Batch | list[Batch]) -> Batch:
        """Return one batch of crops; see `training.data.source.Items`."""
        parts = batch if isinstance(batch, list) else [batch]
        crops = [part if "crop" in part else self._composer(part) for part in parts]
        shared = set.intersection(*(set(part) for part in crops))
        return {name: torch.cat([part[name] for part in crops]) for name in sorted(shared)}


def photograph_items(
    source: Source, directory: str | Path, crop: CropSettings, options: BopOptions
) -> BopItems:
    """Cut crops from photographs in each of which the object's pose is known.

    Where the visibility is not annotated, nothing is assumed to hide the object. Which of the poses
    that look the same counts is chance.

    Args:
        source: the object.
        directory: of scenes as `training.label_photographs` writes them.
        crop: how they are cut.
        options: how much of the object a photograph must show.

    Returns:
        An item for each photograph and symmetry; where there are very many, for some at random.

    Raises:
        InputError: the object has no mesh.
        MissingFileError: a file is missing.
        DataError: a file is damaged, or no photograph shows enough of the object.
    """
    if source.mesh is None:
        raise InputError(f"{source.name} has no mesh, which --photographs need")
    renderer = Renderer(source.mesh)
    symmetries, rng = source.target().symmetries, np.random.default_rng(0)
    targets = []
    scenes = sorted(path for path in Path(directory).glob("*") if path.name.isdigit())
    for frame in [frame for scene in scenes for frame in BopScene(scene).frames]:
        renderers = {instance.object_id: renderer for instance in frame.instances}
        for instance, entry in zip(
            frame.instances, frame_visibility(frame, renderers), strict=True
        ):
            seen = instance.visibility or visibility(entry)
            if seen.reaches(options.min_visible, options.min_pixels):
                labelled = replace(instance, visibility=seen)
                drawn = rng.permutation(symmetries)[:_SYMMETRIES]
                targets += [_turned(frame, labelled, symmetry) for symmetry in drawn]
    if not targets:
        raise DataError(
            f"no photograph of {directory} shows the object where it says with visible fraction "
            f">= {options.min_visible} and >= {options.min_pixels} visible pixels: label again, or "
            "lower --min-visible and --min-pixels"
        )
    return BopItems(source, targets, crop)


def _turned(frame: BopFrame, instance: BopInstance, symmetry: np.ndarray) -> BopTarget:
    """Return the instance in an equivalent pose; the symmetry is a transform [4, 4]."""
    rotation = instance.rotation @ symmetry[:3, :3]
    translation = instance.rotation @ symmetry[:3, 3] + instance.translation
    return BopTarget(frame, replace(instance, rotation=rotation, translation=translation))


def mixed(
    source: Source, directory: str | Path, share: float, crop: CropSettings, options: BopOptions
) -> tuple[MixedItems, MixedComposer]:
    """Put photographs among the training items of a source.

    Args:
        source: the object.
        directory: of the photographs; see `photograph_items` for it and for errors.
        share: of the photographs.
        crop: how both are cut.
        options: how much of the object a photograph must show.

    Returns:
        The items, and what composes their batches.
    """
    photographs = photograph_items(source, directory, crop, options)
    items = MixedItems(source.training_items(crop), photographs, share)
    return items, MixedComposer(source.composer(crop))
