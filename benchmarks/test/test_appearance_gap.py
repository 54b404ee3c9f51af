"""The ladder from photographs to renderings."""

from dataclasses import replace

import cv2
import numpy as np

from benchmarks.accuracy.appearance_gap import RUNGS, rungs
from spyropose_ros.scenes.sampler import SceneSampler, SceneSettings
from training.data.rendered_objects import load_object_model
from training.data.source import Sample


def test_rungs_mix_object_and_surroundings():
    settings = SceneSettings(full_frame=True, occlusion_probability=0.0, sprites=20)
    scenes = SceneSampler(load_object_model("mug"), settings)
    scene = scenes.sample(np.random.default_rng(0))
    photograph = replace(scene, image=np.clip(scene.image * 0.5 + 90, 0, 255).astype(np.uint8))
    pose = scene.rotation, scene.translation, scene.box
    sample = Sample("0", photograph.image, scene.K, *pose)
    images = dict(
        zip(RUNGS, rungs(sample, scene.mask, scenes, np.random.default_rng(1)), strict=True)
    )
    photo, matched, rimmed, cut, inserted, rendering = images.values()
    core = cv2.erode(scene.mask.astype(np.uint8), np.ones((7, 7))) > 0
    outside = cv2.dilate(scene.mask.astype(np.uint8), np.ones((7, 7))) == 0
    np.testing.assert_array_equal(photo, sample.image)
    np.testing.assert_array_equal(matched[outside], photo[outside])
    assert np.abs(matched[scene.mask].mean(0) - rendering[scene.mask].mean(0)).max() < 3
    grown = cv2.dilate(scene.mask.astype(np.uint8), np.ones((7, 7))) > 0
    np.testing.assert_array_equal(rimmed[grown], photo[grown])
    np.testing.assert_array_equal(cut[core], photo[core])
    assert (cut[outside] != photo[outside]).mean() > 0.5
    np.testing.assert_array_equal(inserted[core], rendering[core])
    np.testing.assert_array_equal(inserted[outside], photo[outside])
