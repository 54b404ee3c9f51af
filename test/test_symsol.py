"""The reader of SYMSOL on a tiny archive in the exact layout of the public one."""

import multiprocessing
import pickle
import shutil

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.scenes.detector import BoxNoise
from training.data.source import CropSettings
from training.data.symsol import ARCHIVE_NAMES, SymsolSource

EQUIVALENTS = {"tet": 12, "cube": 24, "icosa": 60, "cone": 360, "cyl": 720}
COUNTS = {"train": 7, "test": 5}
SIZE = 224


def crop_settings(resolution=SIZE):
    return CropSettings(resolution, resolution // 4, 1.3, BoxNoise(), 0.0, False)


def make_rotations(n, m, seed):
    rng = np.random.default_rng(seed)
    return Rotation.random(n * m, random_state=rng).as_matrix().reshape(n, m, 3, 3)


def picture(shape, split, index, size=SIZE):
    """Smooth, so that a resized one can be compared; red grows downwards, blue sideways."""
    v, u = np.indices((size, size)) / size
    colour = np.stack((200 * v, np.full_like(u, 10 * index), 200 * u), -1)
    return (colour + len(shape) + (split == "test")).astype(np.uint8)


def write_png(path, image):
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """All eight shapes; train's rotations are stored plainly, test's compressed, as float32."""
    root = tmp_path_factory.mktemp("data")
    for split, n in COUNTS.items():
        (root / "symsol" / split / "images").mkdir(parents=True)
        arrays = {}
        for seed, shape in enumerate(ARCHIVE_NAMES.values()):
            arrays[shape] = make_rotations(n, EQUIVALENTS.get(shape, 1), seed + 10 * n)
            for i in range(n):
                path = root / "symsol" / split / "images" / f"{shape}_{i:05d}.png"
                write_png(path, picture(shape, split, i))
        path = root / "symsol" / split / "rotations.npz"
        if split == "train":
            np.savez(path, **arrays)
        else:
            np.savez_compressed(path, **{k: v.astype(np.float32) for k, v in arrays.items()})
    return root


@pytest.fixture
def copy(archive, tmp_path):
    """An archive to damage."""
    return shutil.copytree(archive, tmp_path / "data")


def test_all_shapes_and_both_names(archive):
    for name, on_disk in ARCHIVE_NAMES.items():
        source = SymsolSource(on_disk, str(archive))
        assert (source.name, source.object_name) == (f"symsol/{name}", name)
        assert SymsolSource(name, str(archive)).name == source.name
        assert len(source.training_items(crop_settings())) == COUNTS["train"]
        sample = next(source.samples("test", 0))
        assert sample.equivalents.shape == (EQUIVALENTS.get(on_disk, 1), 3, 3)
    with pytest.raises(ValueError, match="no shape 'sphere': choose from cone, cyl"):
        SymsolSource("sphere", str(archive))


def test_what_the_source_says_of_itself(archive):
    source = SymsolSource("cube", str(archive))
    assert source.rotation_only and not source.has_intrinsics and source.mesh is None
    target = source.target()
    assert target.vertices.shape == (0, 3)
    np.testing.assert_array_equal(target.symmetries, np.eye(4)[None])


def test_a_training_item_is_the_whole_image_with_the_first_rotation(archive):
    source = SymsolSource("ico", str(archive))
    items = source.training_items(crop_settings())
    stored = np.load(archive / "symsol" / "train" / "rotations.npz")["icosa"]
    for i in range(len(items)):
        item = items.item(i, None)
        expected = picture("icosa", "train", i)
        np.testing.assert_array_equal(item["crop"].permute(1, 2, 0).numpy(), expected)
        np.testing.assert_allclose(item["rotation"].numpy(), stored[i, 0], atol=1e-6)
        assert item["estimate"].tolist() == item["translation"].tolist() == [0, 0, 1.5]
        # The middle of the object is seen in the middle of the image.
        seen = item["K_crop"] @ item["translation"]
        np.testing.assert_allclose(seen[:2] / seen[2], 111.5, rtol=1e-6)


def test_other_resolutions_are_resized(archive):
    items = SymsolSource("cube", str(archive)).training_items(crop_settings(56))
    item = items.item(3, None)
    assert item["crop"].shape == (3, 56, 56)
    full = picture("cube", "train", 3).astype(float)
    blocks = full.reshape(56, 4, 56, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(item["crop"], blocks, atol=1)
    assert float(item["K_crop"][0, 0]) == pytest.approx(56 * 1.5 / 1.3)


def test_test_samples_have_all_equivalents(archive):
    source = SymsolSource("cyl", str(archive))
    samples = list(source.samples("test", 0))
    stored = np.load(archive / "symsol" / "test" / "rotations.npz")["cyl"]
    assert [sample.id for sample in samples] == [f"cyl_{i:05d}" for i in range(5)]
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.image, picture("cyl", "test", i))
        np.testing.assert_array_equal(sample.equivalents, stored[i])
        np.testing.assert_array_equal(sample.rotation, stored[i, 0])
        assert sample.box is None and sample.image_id == i
    with pytest.raises(ValueError, match="no split 'val': choose from test"):
        next(source.samples("val", 0))


def test_validation_watches_test_images(archive):
    items = SymsolSource("cube", str(archive)).validation_items(crop_settings())
    assert len(items) == COUNTS["test"]
    crop = items.item(2, None)["crop"].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(crop, picture("cube", "test", 2))


def test_low_data_regime(copy):
    """Training on images 0 .. 9,499, validation on 9,500 .. 9,999; later ones are not touched."""
    with pytest.raises(ValueError, match="10000 training images, there are 7"):
        SymsolSource("tetX", str(copy), low_data_regime=True)
    stored = make_rotations(10_003, 1, seed=3)
    train = copy / "symsol" / "train"
    np.savez(train / "rotations.npz", tetX=stored)
    for i in (9_499, 9_500, 9_999):
        write_png(train / "images" / f"tetX_{i:05d}.png", picture("tetX", "train", i % 20))
    source = SymsolSource("tetX", str(copy), low_data_regime=True)
    training = source.training_items(crop_settings())
    validation = source.validation_items(crop_settings())
    assert (len(training), len(validation)) == (9_500, 500)
    for items, index, expected in ((training, -1, 9_499), (validation, 0, 9_500)):
        item = items.item(index % len(items), None)
        np.testing.assert_allclose(item["rotation"], stored[expected, 0], atol=1e-6)
        image = picture("tetX", "train", expected % 20)
        np.testing.assert_array_equal(item["crop"].permute(1, 2, 0).numpy(), image)


def test_items_survive_another_process(archive):
    items = SymsolSource("cone", str(archive)).training_items(crop_settings(32))
    expected = items.item(4, None)
    copied = pickle.loads(pickle.dumps(items)).item(4, None)
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fork lacks other tests' threads
        elsewhere = pool.apply(items.item, (4, None))
    for item in (elsewhere, copied):
        np.testing.assert_array_equal(item["crop"], expected["crop"])


# --- what is missing, misnamed or damaged ----------------------------------------------------


def test_a_missing_archive_comes_with_the_download(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        SymsolSource("cube", str(tmp_path))
    message = str(error.value)
    assert "symsol/train/rotations.npz is missing" in message.replace("\\", "/")
    for line in ("3.3 GB", "wget https://", "unzip symsol_dataset.zip", "ln -s"):
        assert line in message


def test_a_missing_test_half_is_named(copy):
    (copy / "symsol" / "test" / "rotations.npz").unlink()
    with pytest.raises(FileNotFoundError, match="test.rotations.npz is missing"):
        SymsolSource("cube", str(copy))


def test_a_misnamed_key_lists_what_is_there(copy):
    path = copy / "symsol" / "train" / "rotations.npz"
    np.savez(path, cube=make_rotations(2, 24, 0), icosahedron=make_rotations(2, 60, 0))
    with pytest.raises(ValueError, match="no 'icosa' in it, it holds cube, icosahedron"):
        SymsolSource("ico", str(copy))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((7, 3, 3)),
        np.zeros((7, 24, 9)),
        np.zeros((0, 24, 3, 3)),
        np.zeros((7, 24, 3, 3), int),
        np.asfortranarray(np.zeros((7, 24, 3, 3))),
    ],
)
def test_an_array_of_another_shape_is_named(copy, array):
    np.savez(copy / "symsol" / "train" / "rotations.npz", cube=array)
    with pytest.raises(ValueError, match=r"rotations.npz cannot be used.*shape \(n, m, 3, 3\)"):
        SymsolSource("cube", str(copy))


def test_pickled_objects_are_refused(copy):
    array = np.empty((7, 24, 3, 3), object)
    np.savez(copy / "symsol" / "train" / "rotations.npz", cube=array)
    with pytest.raises(ValueError, match="not object"):
        SymsolSource("cube", str(copy))


def test_damaged_rotations_are_named(copy):
    path = copy / "symsol" / "train" / "rotations.npz"
    content = bytearray(path.read_bytes())
    for damaged in (content[: len(content) // 2], b"nothing of the kind"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="rotations.npz cannot be used"):
            SymsolSource("cube", str(copy))
    start = content.find(b"cube.npy") + 1000  # within the array
    content[start] ^= 0xFF
    path.write_bytes(content)
    source = SymsolSource("cube", str(copy))
    with pytest.raises(ValueError, match="rotations.npz cannot be used: Bad CRC"):
        source.training_items(crop_settings())


def test_a_half_unpacked_archive_shows_before_the_training(copy):
    (copy / "symsol" / "train" / "images" / "cube_00006.png").unlink()
    with pytest.raises(FileNotFoundError, match="cube_00006.png is missing"):
        SymsolSource("cube", str(copy)).training_items(crop_settings())


def test_a_missing_or_damaged_image_is_named(copy):
    images = copy / "symsol" / "train" / "images"
    items = SymsolSource("cube", str(copy)).training_items(crop_settings())
    content = (images / "cube_00002.png").read_bytes()
    (images / "cube_00001.png").unlink()
    (images / "cube_00002.png").write_bytes(content[: len(content) // 2])
    write_png(images / "cube_00003.png", picture("cube", "train", 3)[:100])
    with pytest.raises(FileNotFoundError, match="cube_00001.png is missing"):
        items.item(1, None)
    with pytest.raises(ValueError, match="cube_00002.png is not a readable image"):
        items.item(2, None)
    with pytest.raises(ValueError, match="cube_00003.png is not square but 224 x 100"):
        items.item(3, None)
