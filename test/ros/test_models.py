"""Models: where bundles are looked for, and why a set of them is refused."""

import shutil
from pathlib import Path

import pytest
import torch
import trimesh
from ament_index_python.packages import get_package_share_directory

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.pipeline import objects
from spyropose_ros.ros.pipeline.models import Models
from spyropose_ros.ros.pipeline.objects import DEMO_MODEL, check_objects, demo_bundle, locate
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters, SearchParameters


def load(*objects, **parameters):
    return Models(Parameters(objects=objects, **({"device": "cpu"} | parameters)), print)


def test_paths_and_hub_ids_are_located():
    share = Path(get_package_share_directory("spyropose_ros"))
    assert locate("package://spyropose_ros/config/estimator.yaml") == str(
        share / "config" / "estimator.yaml"
    )
    assert locate("~/models/mug") == str(Path.home() / "models" / "mug")
    assert locate("/models/mug") == "/models/mug"
    assert locate("somebody/spyropose-mug") == "somebody/spyropose-mug"


def test_the_demo_model_is_in_the_share_folder_else_in_the_source_tree(monkeypatch, tmp_path):
    share = tmp_path / DEMO_MODEL
    share.mkdir(parents=True)
    monkeypatch.setattr(objects, "get_package_share_directory", lambda name: str(tmp_path))
    assert demo_bundle() == str(share)
    share.rmdir()
    assert Path(demo_bundle()) == Path(__file__).parents[2] / DEMO_MODEL


def test_class_ids_are_object_names_and_the_class_map(mug_bundle, duck_bundle):
    models = load(mug_bundle, duck_bundle, class_map=("41=mug", "bird=duck"))
    assert models.classes == {"mug": "mug", "duck": "duck", "41": "mug", "bird": "duck"}
    assert models.model_id("mug") == "mug"
    assert models.appearance("duck").size == 0.12
    assert models.appearance("duck").mesh is None


def test_a_mesh_in_the_bundle_becomes_a_resource_for_rviz(mug_bundle, tmp_path):
    bundle = shutil.copytree(mug_bundle, tmp_path / "with mesh")
    trimesh.creation.box((0.1, 0.2, 0.3)).export(bundle / "mesh.ply")
    look = load(str(bundle)).appearance("mug")
    assert look.mesh == (bundle / "mesh.ply").as_uri()
    assert look.extents == pytest.approx((0.1, 0.2, 0.3))


def test_the_mesh_of_a_package_is_found_by_rviz_on_other_machines():
    look = load(demo_bundle()).appearance("mug")
    assert look.mesh == f"package://spyropose_ros/{DEMO_MODEL}/mesh.ply"


def test_models_are_loaded_when_first_asked_for(mug_bundle, duck_bundle):
    models = load(mug_bundle, duck_bundle, lazy_loading=True)
    assert models.estimators == {} and models.objects.keys() == {"mug", "duck"}
    assert "duck (loaded when first detected)" in str(models)
    assert models.estimator("duck") is models.estimator("duck")
    assert models.estimators.keys() == {"duck"}


def test_lazy_loading_still_refuses_missing_bundles_at_the_start(tmp_path):
    with pytest.raises(ParameterError, match="no such folder"):
        load(str(tmp_path / "missing"), lazy_loading=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = [
    (lambda folder: cut(folder / "model.safetensors"), "damaged"),
    (lambda folder: cut(folder / "config.json"), "damaged"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    (lambda folder: shutil.rmtree(folder), "no such folder"),
]


@pytest.mark.parametrize(
    "read, change, text",
    [(load, *case) for case in DAMAGE]
    + [(lambda bundle: check_objects(Parameters(objects=(bundle,))), *case) for case in DAMAGE],
)
def test_unusable_bundles_are_refused_by_name(mug_bundle, tmp_path, read, change, text):
    bundle = shutil.copytree(mug_bundle, tmp_path / "damaged")
    change(bundle)
    with pytest.raises(ParameterError) as caught:
        read(str(bundle))
    assert "parameter 'objects'" in str(caught.value)
    assert str(bundle) in str(caught.value) and text in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_bundles_that_may_not_be_read_are_refused_with_the_remedy(
    mug_bundle, tmp_path, name, monkeypatch
):
    bundle = shutil.copytree(mug_bundle, tmp_path / "locked")
    for method in ("read_bytes", "read_text"):  # the tests may run as root, who may read all
        monkeypatch.setattr(Path, method, denied(name, getattr(Path, method)))
    with pytest.raises(ParameterError, match=f"{name}'.*: check that you may read it"):
        check_objects(Parameters(objects=(str(bundle),)))


def denied(name, read):
    def refuse(path, *given, **options):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *given, **options)

    return refuse


def test_a_check_before_the_start_does_not_ask_the_hub(mug_bundle, tmp_path):
    check_objects(Parameters(objects=(mug_bundle, "somebody/some-model")))
    with pytest.raises(ParameterError, match="no such folder"):
        check_objects(Parameters(objects=(str(tmp_path / "no"), "somebody/some-model")))
    with pytest.raises(ParameterError, match="'class_map' maps '41' to 'cup'"):
        check_objects(Parameters(objects=(mug_bundle,), class_map=("41=cup",)))


@pytest.mark.parametrize(
    "parameters, text",
    [
        ({"device": "cuda:99"}, "device 'cuda:99' is not available"),
        ({"device": "tpu"}, "device 'tpu' is not available"),
        ({"search": SearchParameters(depth=9)}, "depth 9 is not available"),
        ({"class_map": ("41=cup",)}, "'class_map' maps '41' to 'cup'"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(mug_bundle, parameters, text):
    with pytest.raises((SpyroposeError, ValueError), match=text):
        load(mug_bundle, **parameters)


def test_number_of_threads_is_that_of_the_parameter(mug_bundle):
    before = torch.get_num_threads()
    try:
        load(mug_bundle, threads=before + 1)
        assert torch.get_num_threads() == before + 1
        load(mug_bundle, threads=0)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_two_models_of_one_object_are_refused(mug_bundle):
    with pytest.raises(ParameterError, match="two models of 'mug'"):
        load(mug_bundle, mug_bundle)


def test_an_unknown_package_is_refused():
    with pytest.raises(ParameterError, match="no package 'nowhere'"):
        load("package://nowhere/model")
