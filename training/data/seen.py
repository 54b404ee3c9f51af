"""Which pixels of LM-O's photographs show an object, from the poses of all annotated objects."""

from functools import cached_property
from pathlib import Path

import numpy as np

from spyropose_ros.bop import LMO_OBJECTS, BopFrame, load_mesh
from spyropose_ros.scenes.renderer import Renderer
from training.data.source import Seen


class AnnotatedObjects:
    """Renders what the annotation of LM-O says. What is not annotated hides nothing.

    Args:
        root: folder of the data set.
    """

    def __init__(self, root: Path):
        self._root = root

    def seen(self, frame: BopFrame, number: int, width: int, height: int) -> Seen:
        """Render all objects of a photograph.

        Args:
            frame: with its annotation.
            number: of the annotation that is looked at.
            width: of the photograph, pixels.
            height: of the photograph, pixels.

        Returns:
            What the photograph shows of that object.
        """
        depths = []
        for instance in frame.instances:
            depth = (
                self._renderers[instance.object_id]
                .render(instance.rotation, instance.translation, frame.K, width, height)
                .depth
            )
            depths.append(np.where(depth > 0, depth, np.inf))
        own = depths.pop(number)
        others = np.min([np.full_like(own, np.inf), *depths], axis=0)
        mask = np.isfinite(own) & (own <= others)
        return Seen(mask, (others < frame.instances[number].translation[2]) & ~mask)

    @cached_property
    def _renderers(self) -> dict[int, Renderer]:
        return {number: Renderer(load_mesh(self._root, number)) for number in LMO_OBJECTS.values()}
