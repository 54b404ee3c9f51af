"""Data sets in the BOP format: models, scenes, splits, and the visibility of annotated objects.

The format keeps millimetres; the readers convert them to metres.

Source: https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md
"""

from spyropose_ros.bop.dataset import BopDataset, BopTarget
from spyropose_ros.bop.files import MM
from spyropose_ros.bop.models import (
    HALF_TURN_OBJECTS,
    LMO_OBJECTS,
    ModelInfo,
    complete_models_info,
    describe_model,
    load_mesh,
    load_models_info,
    models_directory,
)
from spyropose_ros.bop.photographs import Photograph, read_photographs
from spyropose_ros.bop.placement import check_place
from spyropose_ros.bop.scene import BopFrame, BopInstance, BopScene, Visibility, scene_cameras
from spyropose_ros.bop.visibility import (
    annotate_visibility,
    frame_visibility,
    lacks_visibility,
    visibility_path,
    visible_masks,
)

__all__ = [
    "HALF_TURN_OBJECTS",
    "LMO_OBJECTS",
    "MM",
    "BopDataset",
    "BopFrame",
    "BopInstance",
    "BopScene",
    "BopTarget",
    "ModelInfo",
    "Photograph",
    "Visibility",
    "annotate_visibility",
    "check_place",
    "complete_models_info",
    "describe_model",
    "frame_visibility",
    "lacks_visibility",
    "load_mesh",
    "load_models_info",
    "models_directory",
    "read_photographs",
    "scene_cameras",
    "visibility_path",
    "visible_masks",
]
