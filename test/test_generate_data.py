"""Data sets from CAD files: the annotation against the pictures, repeatability, and bad input."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image
from pycocotools.coco import COCO

from spyropose_ros import bop
from spyropose_ros.scenes.renderer import Renderer
from training.generate.cad import has_colours, load_cad
from training.generate.dataset import generate
from training.generate.exports import _runs
from training.generate.part import Part
from training.generate.settings import GenerationSettings, ViewSettings, distance_range
from training.generate.symmetry import symmetry_of
from training.generate_data import main
from training.inspect_data import inspect_data

ROOT = Path(__file__).parent.parent
VIEWS = ViewSettings(resolution=(160, 120), distance=(0.2, 0.35))
SETTINGS = GenerationSettings("bracket", images=6, test_images=2, views=VIEWS)
FLAGS = ["--images=6", "--test-images=2", "--resolution", "160", "120"]
FLAGS += ["--distance", "0.2", "0.35"]  # the same as SETTINGS


def bracket() -> trimesh.Trimesh:
    """An L with a stud, 105 mm across, far from the origin of its file."""
    parts = [
        trimesh.creation.box((80, 40, 6)),
        trimesh.creation.box((6, 40, 50)).apply_translation((-37, 0, 28)),
        trimesh.creation.cylinder(8, 20, sections=32).apply_translation((20, 5, 10)),
    ]
    return trimesh.util.concatenate(parts).apply_translation((300, -120, 500))


@pytest.fixture(scope="module")
def cad(tmp_path_factory):
    path = tmp_path_factory.mktemp("cad") / "bracket.stl"
    bracket().export(path)
    return path


@pytest.fixture(scope="module")
def made(cad, tmp_path_factory):
    """A finished data set."""
    output = tmp_path_factory.mktemp("made") / "bracket"
    generate(cad, output, SETTINGS, [], workers=0)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def read(path: Path) -> dict:
    return json.loads(path.read_text())


# --- the data set ----------------------------------------------------------------------------


def test_the_layout_is_that_of_the_format(made):
    files = set(contents(made))
    for split, scenes, images in (("train", 6, 1), ("test", 1, 2)):
        for scene in range(scenes):
            folder = f"{split}/{scene:06d}"
            expected = {f"{folder}/scene_{part}.json" for part in ("camera", "gt", "gt_info")}
            for image in range(images):
                expected.add(f"{folder}/rgb/{image:06d}.jpg")
                expected |= {f"{folder}/{m}/{image:06d}_000000.png" for m in ("mask", "mask_visib")}
            assert {name for name in files if name.startswith(folder)} == expected
    top = {"camera.json", "dataset_info.md", "generation.json", "test_targets_bop19.json"}
    top |= {"models/models_info.json", "models/obj_000001.ply"}
    top |= {"coco_train.json", "coco_test.json", "yolo/data.yaml"}
    labels = {f"yolo/labels/train/{i:06d}/000000.txt" for i in range(6)}
    labels |= {f"yolo/labels/test/000000/00000{i}.txt" for i in range(2)}
    assert {name for name in files if not name.startswith(("train/", "test/"))} == top | labels
    camera = read(made / "camera.json")
    assert camera["fx"] == pytest.approx(80 / np.tan(np.radians(28)))
    assert [camera[key] for key in ("cx", "cy", "width", "height")] == [79.5, 59.5, 160, 120]
    assert read(made / "test_targets_bop19.json")[1] == {
        "im_id": 1,
        "inst_count": 1,
        "obj_id": 1,
        "scene_id": 0,
    }


def test_the_model_is_the_cad_file_in_millimetres(made):
    mesh = bracket()
    info = read(made / "models" / "models_info.json")["1"]
    for axis, low, size in zip("xyz", mesh.bounds[0], mesh.extents, strict=True):
        assert info[f"min_{axis}"] == pytest.approx(low, rel=1e-5)
        assert info[f"size_{axis}"] == pytest.approx(size, rel=1e-5)
    reach = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices[None], axis=-1).max()
    assert info["diameter"] == pytest.approx(reach, rel=1e-5)
    assert "symmetries_discrete" not in info
    data = bop.BopDataset(made)
    assert data.object_id("bracket") == 1
    np.testing.assert_allclose(bop.load_mesh(made, 1).bounds, mesh.bounds / 1e3, rtol=1e-5)


def test_annotation_agrees_with_the_mesh_and_the_masks(made):
    """Everything is recomputed from the pose in the files and the mesh in the files."""
    data, renderer = bop.BopDataset(made), Renderer(bop.load_mesh(made, 1))
    occluded = 0
    targets = [
        target
        for split in ("train", "test")
        for target in data.targets(data.scenes(split), 1, 0.0, 0)
    ]
    assert len(targets) == 8
    for target in targets:
        frame, instance = target.frame, target.instance
        scene = frame.image_path.parent.parent
        info = read(scene / "scene_gt_info.json")[str(frame.frame_id)][0]
        assert frame.image().shape == (120, 160, 3)
        # A canvas three times as large, as the toolkit does it.
        K = frame.K + [[0, 0, 160], [0, 0, 120], [0, 0, 0]]
        whole = renderer.render(instance.rotation, instance.translation, K, 480, 360).mask
        ys, xs = np.nonzero(whole)
        box = [xs.min() - 160, ys.min() - 120, np.ptp(xs), np.ptp(ys)]
        np.testing.assert_allclose(info["bbox_obj"], box, atol=1)
        assert info["px_count_all"] == pytest.approx(whole.sum(), abs=4)

        mask_file = scene / "mask" / f"{frame.frame_id:06d}_000000.png"
        mask = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) == {0, 255}
        assert np.count_nonzero((mask > 0) != whole[120:240, 160:320]) <= 4
        assert info["px_count_valid"] == np.count_nonzero(mask)
        visible = frame.visible_mask(instance)
        assert not (visible & (mask == 0)).any()
        ys, xs = np.nonzero(visible)
        assert info["bbox_visib"] == [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]
        assert info["px_count_visib"] == visible.sum()
        assert info["visib_fract"] == pytest.approx(visible.sum() / info["px_count_all"])
        occluded += visible.sum() < np.count_nonzero(mask)
    assert 1 <= occluded <= 7  # every other image has an occluder


def test_boxes_and_masks_for_other_detectors(made):
    """As pycocotools reads them, and as YOLO finds labels: by the path of the image."""
    coco = COCO(made / "coco_train.json")
    assert coco.loadCats(1)[0]["name"] == "bracket" and len(coco.imgs) == 6
    for number, image in coco.imgs.items():
        (annotation,) = coco.loadAnns(coco.getAnnIds(number))
        mask = coco.annToMask(annotation)
        path = made / image["file_name"]
        visible = path.parents[1] / "mask_visib" / f"{path.stem}_000000.png"
        np.testing.assert_array_equal(mask > 0, cv2.imread(str(visible), 0) > 0)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box and annotation["area"] == mask.sum()
        assert cv2.imread(str(path)).shape == (image["height"], image["width"], 3)

        seen = made / "yolo" / "images" / path.relative_to(made).parts[0] / path.parts[-3]
        assert (seen / path.name).samefile(path)
        label = str(seen / path.stem).replace("/images/", "/labels/") + ".txt"
        kind, *values = map(float, Path(label).read_text().split())
        center = [box[0] + box[2] / 2, box[1] + box[3] / 2]
        sides = np.array([160, 120] * 2)
        assert kind == 0
        np.testing.assert_allclose(np.array(values) * sides, [*center, *box[2:]], atol=1e-3)
    layout = yaml.safe_load((made / "yolo" / "data.yaml").read_text())
    assert layout == {"train": "images/train", "val": "images/test", "names": {0: "bracket"}}


@pytest.mark.parametrize("first", [0, 1])
def test_runs_begin_with_what_is_not_the_object(first):
    mask = np.zeros((2, 3), bool)
    mask[:, 1], mask[0, 0] = True, first
    assert _runs(mask) == ([0, 1, 1, 2, 2] if first else [2, 2, 2])


def test_without_occluders_our_reader_finds_the_same_visibility(cad, tmp_path):
    settings = replace(SETTINGS, images=2, test_images=4, views=replace(VIEWS, occlusion=0.0))
    output = tmp_path / "set"
    generate(cad, output, settings, [], workers=0)
    scene = output / "test" / "000000"
    written = read(scene / "scene_gt_info.json")
    (scene / "scene_gt_info.json").unlink()
    bop.annotate_visibility(scene, output)
    for key, (computed,) in read(scene / "scene_gt_info.json").items():
        for name, value in written[key][0].items():
            np.testing.assert_allclose(value, computed[name], atol=0.02 if "fract" in name else 4)


def test_the_object_stands_out_where_the_mask_is(cad, tmp_path):
    """A red object: the pixels of the visible mask are red, those around it are not."""
    mesh = bracket()
    mesh.visual.vertex_colors = [255, 0, 0, 255]
    mesh.export(tmp_path / "red.ply")
    settings = replace(SETTINGS, name="red", images=2, test_images=8)
    output = tmp_path / "set"
    generate(tmp_path / "red.ply", output, settings, [cad], workers=0)
    redness = {True: [], False: []}
    for frame in bop.BopScene(output / "test" / "000000").frames:
        visible = frame.visible_mask(frame.instances[0]).astype(np.uint8)
        near = cv2.dilate(visible, np.ones((25, 25))) - cv2.dilate(visible, np.ones((5, 5)))
        inner = cv2.erode(visible, np.ones((5, 5)))
        image = frame.image().astype(float)
        excess = image[..., 0] - image[..., 1:].max(-1)
        redness[True].append(excess[inner > 0].mean())
        redness[False].append(excess[near > 0].mean())
    assert np.mean(redness[True]) > 60
    assert np.mean(redness[True]) > np.mean(redness[False]) + 60


def test_upright_views_look_down_on_the_object(cad):
    mesh = load_cad(cad, "mm")
    part = Part(mesh, [], replace(VIEWS, views="upright"), (0.2, 0.35))
    for seed in range(5):
        scene = part.sample(np.random.default_rng(seed))
        assert scene.rotation[2, 2] <= 1e-9  # z of the object points towards the camera or up
        center = scene.rotation @ mesh.bounds.mean(0) + scene.translation
        assert 0.15 < center[2] < 0.4
        assert scene.depth[scene.mask].min() > 0.1


def test_a_lost_texture_is_said_in_the_first_lines_and_in_the_description(tmp_path, caplog):
    text = bracket().export(file_type="obj", include_normals=False)
    text = text.replace("f ", "usemtl m\nf ", 1)
    (tmp_path / "part.obj").write_text(f"mtllib part.mtl\n{text}")
    (tmp_path / "part.mtl").write_text("newmtl m\nKd 1 1 1\nmap_Kd C:\\\\tex\\\\gone.png\n")
    views = replace(VIEWS, distance=(0.2, 0.21), occlusion=0.0)
    settings = replace(SETTINGS, images=2, test_images=1, views=views)
    output = tmp_path / "mein Satz für später"
    generate(tmp_path / "part.obj", output, settings, [], workers=0)
    assert "gone.png is missing" in caplog.messages[0]
    (row,) = (
        line
        for line in (output / "dataset_info.md").read_text().splitlines()
        if line.startswith("| object")
    )
    assert "painted differently in every image; texture" in row and "gone.png is missing" in row
    sheet = inspect_data(str(output), "bracket", n=1, output=str(output / "über alles.png"))
    assert Path(sheet["sheet"]).stat().st_size > 0


# --- repeatability ---------------------------------------------------------------------------


def test_the_number_of_workers_does_not_matter(cad, made, tmp_path):
    generate(cad, tmp_path / "bracket", SETTINGS, [], workers=2)
    assert contents(tmp_path / "bracket") == contents(made)


def test_a_killed_run_is_completed_with_the_same_bytes(cad, made, tmp_path):
    output = tmp_path / "bracket"
    command = [sys.executable, "-m", "training.generate_data", str(cad), "--output", str(output)]
    process = subprocess.Popen([*command, *FLAGS, "--workers", "0"], cwd=ROOT)
    deadline = time.monotonic() + 300
    while len(list(output.glob("train/*/in_work/*.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (output / "dataset_info.md").exists()
    first = output / "train" / "000000" / "rgb" / "000000.jpg"
    written = first.stat().st_mtime_ns
    leftover = first.with_name("000000.jpg.1.partial")  # as a kill between two writes leaves it
    leftover.write_bytes(b"torn")
    main([str(cad), "--output", str(output), *FLAGS, "--workers", "0"])
    assert first.stat().st_mtime_ns == written  # what was there was kept
    assert contents(output) == contents(made)


def test_a_finished_set_stays_as_it_is(cad, made, capsys):
    before = contents(made)
    main([str(cad), "--output", str(made), *FLAGS, "--workers", "0"])
    assert contents(made) == before
    table = capsys.readouterr().out
    assert "105.5 mm" in table
    rows = [line.split() for line in table.splitlines()]
    for split, scenes, images in (("train", "6", "6"), ("test", "1", "2")):
        (row,) = (row for row in rows if row[0] == split)
        infos = [json.loads(f.read_text()) for f in made.glob(f"{split}/*/scene_gt_info.json")]
        pixels = [info["px_count_visib"] for scene in infos for (info,) in scene.values()]
        assert row[1:3] == [scenes, images]
        assert int(row[-1]) == sum(count >= 1024 for count in pixels)
    assert ("--min-pixels of training.train" in table) == any(
        int(row[-1]) < int(row[2]) for row in rows if row[0] in ("train", "test")
    )


def test_seed_split_and_scene_give_different_images(cad, made, tmp_path):
    generate(cad, tmp_path / "other", replace(SETTINGS, images=2, seed=1), [], workers=0)
    pictures = [
        content
        for folder in (made, tmp_path / "other")
        for name, content in contents(folder).items()
        if name.endswith(".jpg")
    ]
    assert len(set(pictures)) == len(pictures) == 12


def test_other_settings_do_not_mix_with_what_is_there(cad, made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy", symlinks=True)
    with pytest.raises(ValueError, match=r"other settings \(seed\).*another --output"):
        generate(cad, copy, replace(SETTINGS, seed=5), [], workers=0)
    other = tmp_path / "other.stl"
    trimesh.creation.box((50, 60, 70)).export(other)
    with pytest.raises(ValueError, match="cad_sha256"):
        generate(other, copy, SETTINGS, [], workers=0)
    assert contents(copy) == contents(made)


def test_foreign_folders_are_left_alone(cad, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        generate(cad, tmp_path, SETTINGS, [], workers=0)
    assert contents(tmp_path) == {"precious.txt": b"mine"}


# --- CAD files -------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "metres"), [("m", 1.0), ("cm", 1e-2), ("inch", 0.0254)])
def test_units(tmp_path, units, metres):
    trimesh.creation.box((0.5, 1, 2)).export(tmp_path / "box.stl")
    mesh = load_cad(tmp_path / "box.stl", units)
    np.testing.assert_allclose(mesh.extents, np.array([0.5, 1, 2]) * metres, rtol=1e-6)


def test_a_wrong_unit_is_noticed(cad, tmp_path):
    with pytest.raises(ValueError, match=r"105.5 m across with units 'm'.*--units cm or mm"):
        load_cad(cad, "m")
    trimesh.creation.box((1e-5, 1e-5, 1e-5)).export(tmp_path / "dust.ply")
    with pytest.raises(ValueError, match="scale the file"):
        load_cad(tmp_path / "dust.ply", "mm")
    with pytest.raises(ValueError, match="'parsec'.*choose from m, cm, mm, inch"):
        load_cad(cad, "parsec")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.stl is missing"):
        load_cad(tmp_path / "nothing.stl", "mm")
    (tmp_path / "part.step").write_text("ISO-10303-21;")
    with pytest.raises(ValueError, match=r"part.step is not a readable mesh.*PLY, OBJ or STL"):
        load_cad(tmp_path / "part.step", "mm")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 9 0 0\nv 0 9 0\nv 0 0 9\n")
    with pytest.raises(ValueError, match="points.obj"):
        load_cad(tmp_path / "points.obj", "mm")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 9 0 0\nv 0 9 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match="is flat"):
        load_cad(tmp_path / "flat.obj", "mm")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv 9 0 nan\nv 0 9 0\nv 0 0 9\nf 1 2 3\nf 1 2 4\n")
    with pytest.raises(ValueError, match="not finite"):
        load_cad(tmp_path / "nan.obj", "mm")


def test_flat_faces_stay_flat_and_round_ones_round(tmp_path):
    trimesh.creation.box((50, 60, 70)).export(tmp_path / "box.stl")
    normals = load_cad(tmp_path / "box.stl", "mm").vertex_normals
    np.testing.assert_allclose(np.sort(np.abs(normals)), [[0, 0, 1]] * 24, atol=1e-9)
    trimesh.creation.icosphere(4, 40).export(tmp_path / "ball.stl")
    ball = load_cad(tmp_path / "ball.stl", "mm")
    np.testing.assert_allclose(ball.vertex_normals, ball.vertices / 0.04, atol=0.02)


def test_colours_of_faces_and_textures_survive(tmp_path):
    box = trimesh.creation.box((50, 60, 70))
    assert not has_colours(load_cad(_export(box, tmp_path / "plain.ply"), "mm"))
    up = np.repeat(box.face_normals[:, 2:] > 0.5, 4, axis=1)
    box.visual.face_colors = np.where(up, [250, 0, 0, 255], [0, 0, 250, 255]).astype(np.uint8)
    mesh = load_cad(_export(box, tmp_path / "faces.ply"), "mm")
    red = mesh.visual.vertex_colors[:, 0] == 250
    np.testing.assert_array_equal(red, mesh.vertex_normals[:, 2] > 0.5)

    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, 8:] = [0, 250, 0]
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    (tmp_path / "stripes.mtl").write_text("newmtl m\nmap_Kd stripes.png\n")
    (tmp_path / "wedge.obj").write_text(
        "mtllib stripes.mtl\nusemtl m\nv 0 0 0\nv 90 0 0\nv 90 90 0\nv 0 90 0\nv 0 0 40\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\nf 1/1 5/1 2/2\nf 1/1 4/4 5/1\nf 5/1 4/4 3/3\nf 5/1 3/3 2/2\n"
    )
    mesh = load_cad(tmp_path / "wedge.obj", "mm")
    x, _, z = mesh.vertices.T
    bottom = (z < 1e-6) & (np.abs(x - 0.045) > 0.006)
    green = mesh.visual.vertex_colors[:, 1] > 125
    assert bottom.sum() > 500
    np.testing.assert_array_equal(green[bottom], x[bottom] > 0.045)


def _export(mesh: trimesh.Trimesh, path: Path) -> Path:
    mesh.export(path)
    return path


# --- symmetries and settings -----------------------------------------------------------------


def moved(symmetries, vertices):
    """Largest distance of the turned vertices from the nearest vertex, metres."""
    turned = vertices @ np.swapaxes(symmetries[:, :3, :3], 1, 2) + symmetries[:, None, :3, 3]
    return np.linalg.norm(turned[:, :, None] - vertices[None, None], axis=-1).min(2).max()


@pytest.mark.parametrize(
    ("shape", "text", "count"),
    [
        (trimesh.creation.box((0.1, 0.06, 0.03)), "none", 1),
        (trimesh.creation.box((0.1, 0.06, 0.03)), "z2", 2),
        (trimesh.creation.box((0.1, 0.06, 0.03)), "z2,x2", 4),
        (trimesh.creation.box((0.1, 0.1, 0.03)), "z4,x2", 8),
        (trimesh.creation.box((0.1, 0.1, 0.1)), "z4,x4", 24),
        (trimesh.creation.cylinder(0.02, 0.1, sections=315), "continuous_z", 315),
        (trimesh.creation.cylinder(0.02, 0.1, sections=315), "continuous_z,x2", 630),
    ],
)
def test_symmetries_as_the_reader_sees_them(tmp_path, shape, text, count):
    mesh = shape.copy().apply_translation((0.4, -0.1, 0.3))
    entry = bop.describe_model(mesh, half_turn=False) | symmetry_of(text, mesh).entry()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models_info.json").write_text(json.dumps({"1": entry}))
    symmetries = bop.load_models_info(tmp_path)[1].symmetries
    assert len(symmetries) == count
    some = symmetries[:: max(1, count // 10)]
    assert moved(some, np.asarray(mesh.vertices)) < 1e-5


@pytest.mark.parametrize("text", ["z4", "continuous_x", "y3"])
def test_a_symmetry_that_the_mesh_does_not_have_is_refused(text):
    with pytest.raises(ValueError, match=f"does not have the symmetry '{text}'"):
        symmetry_of(text, trimesh.creation.box((0.1, 0.06, 0.03)))


@pytest.mark.parametrize("text", ["z", "z1", "w2", "z2;x2", "continuous_w", ""])
def test_a_symmetry_that_is_not_understood_is_refused(text):
    with pytest.raises(ValueError, match="is not understood.*continuous_z"):
        symmetry_of(text, trimesh.creation.box((0.1, 0.06, 0.03)))


def test_default_distances_suit_the_object():
    assert distance_range(ViewSettings(), 0.1) == pytest.approx((0.35, 0.8))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (ViewSettings(distance=(0.05, 0.4)), "fills the image"),
        (ViewSettings(distance=(0.4, 50.0)), "20 pixels"),
        (ViewSettings(distance=(0.8, 0.4)), "the smaller one first"),
        (ViewSettings(fov=170.0), "makes no sense"),
        (ViewSettings(resolution=(8, 8)), "makes no sense"),
        (ViewSettings(occlusion=2.0), "between 0 and 1"),
    ],
)
def test_views_that_make_no_sense_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        distance_range(views, 0.1)


def test_names_and_counts_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="another --name"):
        GenerationSettings("my part")
    with pytest.raises(ValueError, match="--images 2"):
        GenerationSettings("part", images=1)


def test_many_images_fill_forty_scenes_evenly():
    scenes = GenerationSettings("part", images=2010, test_images=7).scenes()
    counts = [count for (split, _), count in scenes.items() if split == "train"]
    assert len(counts) == 40 and set(counts) == {50, 51} and sum(counts) == 2010
    assert scenes["test", 0] == 7


def test_the_command_explains_errors_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match="generate_data: .*nothing.stl is missing"):
        main([str(tmp_path / "nothing.stl"), "--output", str(tmp_path / "set")])
    assert not (tmp_path / "set").exists()
