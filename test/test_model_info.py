"""~/model_info says which models run, and how."""

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from spyropose_ros.core.bundle_files import Feature
from spyropose_ros.ros.messages.model_info import model_info
from spyropose_ros.ros.pipeline.parameters import Parameters, SearchParameters

MODELS = SimpleNamespace(
    objects={
        "mug": SimpleNamespace(diameter=0.12, center=[0.0, 0.0, 0.04]),
        "duck": SimpleNamespace(diameter=0.1, center=[0.0, 0.0, 0.0]),
    },
    estimators={"mug": SimpleNamespace(depth=5, device="cuda:0")},
    classes={"mug": "mug", "duck": "duck", "41": "mug"},
    model_id=lambda name: f"demo_{name}",
    appearance=lambda name: SimpleNamespace(mesh=f"file:///models/{name}/mesh.ply"),
    features=lambda name: {"handle": Feature([0.07, 0.0, 0.048])},
)


def test_it_lists_objects_settings_and_version():
    parameters = Parameters(search=SearchParameters(beam=64))
    content = json.loads(model_info(MODELS, parameters).data)
    version = ElementTree.parse(Path(__file__).parents[1] / "package.xml").findtext("version")
    assert content == {
        "version": version,
        "search": {"depth": 0, "beam": 64, "mass_tolerance": 0.05, "crops": 1, "verify": False},
        "objects": [
            {
                "name": "mug",
                "class_ids": ["mug", "41"],
                "model_id": "demo_mug",
                "diameter": 0.12,
                "center": [0.0, 0.0, 0.04],
                "mesh": "file:///models/mug/mesh.ply",
                "features": {"handle": [0.07, 0.0, 0.048]},
                "depth": 5,
                "device": "cuda:0",
            },
            {
                "name": "duck",
                "class_ids": ["duck"],
                "model_id": "demo_duck",
                "diameter": 0.1,
                "center": [0.0, 0.0, 0.0],
                "mesh": None,
                "features": {},
                "depth": None,
                "device": None,
            },
        ],
    }
