"""Mesh files as programs write them: geometry, colours, and what is said of what is lost."""

import io
import json
import sys
import unicodedata
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.meshes import read_mesh_file
from training.generate.cad import has_colours, load_cad, lost_colours

GREEN, VIOLET = (10, 200, 10), (200, 10, 200)
UV = "vt 0.1 0.1\nvt 0.9 0.1\nvt 0.9 0.9\n"


def box():
    return trimesh.creation.box((40, 32, 20))


def picture():
    """Green on the left, violet on the right."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = GREEN, VIOLET
    return Image.fromarray(pixels)


def obj(head="", colour="", use="usemtl m0\n", textured=True):
    """A box whose triangles run from the picture's left to its right."""
    mesh = box()
    vertices = "".join(f"v {x:g} {y:g} {z:g}{colour}\n" for x, y, z in mesh.vertices)
    corners = [
        [f"{i}/{k + 1}" if textured else f"{i}" for k, i in enumerate(f)] for f in mesh.faces + 1
    ]
    faces = "".join(f"f {' '.join(corner)}\n" for corner in corners)
    return head + vertices + (UV if textured else "") + use + faces


def colours(mesh):
    return {tuple(map(int, colour)) for colour in mesh.visual.vertex_colors[:, :3]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def is_the_box(mesh):
    return np.allclose(np.sort(mesh.extents), [0.02, 0.032, 0.04]) and mesh.volume == pytest.approx(
        0.04 * 0.032 * 0.02
    )


# --- textures of OBJ files -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tex.png", "map_Kd tex.png"),
        ("textures/tex.png", r"map_Kd textures\tex.png"),
        ("textures/tex.png", r"map_Kd .\textures\tex.png"),
        ("tex.png", "map_Kd -s 1 1 1 tex.png"),
        ("my tex.png", "map_Kd -o 0 0 -clamp on my tex.png"),
        ("tex.png", 'map_Kd "tex.png"'),
        ("my tex.png", "map_Kd my%20tex.png"),
        ("Tex2.PNG", "map_Kd tex2.png"),
        ("Textures/tex.png", "map_Kd textures/tex.png"),
        ("tex.png", r"map_Kd C:\parts\tex.png"),
        ("maps/tex.png", "map_Kd /home/somebody/parts/maps/tex.png"),
        ("../maps/tex.png", "map_Kd ../maps/tex.png"),
        (unicodedata.normalize("NFD", "größe.png"), "map_Kd größe.png"),
        ("größe.png", "map_Kd größe.png".encode("latin-1")),
        ("表面.png", "map_Kd 表面.png".encode("cp932")),
        ("tex.jpg", "map_kd tex.jpg"),
        ("tex.tga", "\tmap_Kd\ttex.tga"),
        ("tex.bmp", "map_Kd tex.bmp\r"),
    ],
)
def test_textures_are_found_as_exporters_name_them(tmp_path, file, line):
    folder = tmp_path / "parts"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    picture().save(folder / file, quality=100)
    line = line if isinstance(line, bytes) else line.encode()
    write(folder / "part.mtl", b"newmtl m0\nKd 1 1 1\n" + line + b"\n")
    mesh = load_cad(write(folder / "part.obj", obj("mtllib part.mtl\n")), "mm")
    assert lost_colours(mesh) == [] and is_the_box(mesh)
    found = np.array(sorted(colours(mesh)))
    assert abs(found[:, None] - [GREEN, VIOLET]).max(-1).min(0).max() < 12  # JPEG


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("my part.mtl", "mtllib my part.mtl\n"),
        ("part.mtl", "mtllib .\\PART.mtl\r\n"),
        ("part.mtl", "mtllib other.mtl part.mtl\n"),
        ("part.mtl", "mtllib other.mtl\nmtllib part.mtl\n"),
        ("part.mtl", "# saved with mtllib nothing.mtl\nmtllib part.mtl\n"),
        ("part.mtl", "# Blender 'C:\\parts\\\nmtllib part.mtl\n"),
        ("part.mtl", "mtllib \\\npart.mtl\n"),
        ("part.mtl", "\ufeffmtllib part.mtl\n"),
        ("part.mtl", ""),
    ],
)
def test_material_files_are_found(tmp_path, name, head):
    write(tmp_path / name, "newmtl m0\nKd 1 0 0.2\n")
    write(tmp_path / "other.mtl", "newmtl m1\nKd 0 0 1\n")
    mesh = load_cad(write(tmp_path / "part.obj", obj(head)), "mm")
    assert colours(mesh) == {(255, 0, 51)} and lost_colours(mesh) == []


@pytest.mark.parametrize(
    ("mode", "left"), [("P", (0, 204, 0)), ("RGBA", GREEN), ("I;16", 3 * (50,))]
)
def test_textures_of_every_depth(tmp_path, mode, left):
    image = picture()
    if mode == "I;16":
        grey = np.full((64, 64), 50 * 257, np.uint16)
        image = Image.fromarray(grey)
    image.convert(mode).save(tmp_path / "tex.png")
    write(tmp_path / "part.mtl", "newmtl m0\nmap_Kd tex.png\n")
    mesh = load_cad(write(tmp_path / "part.obj", obj("mtllib part.mtl\n")), "mm")
    assert abs(np.array(sorted(colours(mesh))) - left).max(1).min() < 60


def test_a_material_called_none_is_none(tmp_path):
    write(tmp_path / "part.mtl", "newmtl m0\nKd 1 0 0\n")
    text = obj("mtllib part.mtl\n", use="usemtl None\n")
    mesh = load_cad(write(tmp_path / "part.obj", text), "mm")
    assert not has_colours(mesh) and lost_colours(mesh) == []


def test_a_file_without_usemtl_has_its_only_material(tmp_path):
    write(tmp_path / "part.mtl", "newmtl m0\nKd 1 0 0.2\n")
    mesh = load_cad(write(tmp_path / "part.obj", obj("mtllib part.mtl\n", use="")), "mm")
    assert colours(mesh) == {(255, 0, 51)}


@pytest.mark.parametrize(
    ("material", "said"),
    [
        ("newmtl m0\nKd 1 1 1\nmap_Kd gone.png\n", "texture gone.png is missing"),
        ("newmtl m0\nmap_Kd broken.png\n", "texture broken.png is no readable image"),
        (f"newmtl m0\nmap_Kd {300 * 'x'}.png\n", "xxx.png is missing"),
        ("newmtl m0\nmap_Kd -s 1 1 1 x\\gone.png\n", r"gone.png is missing"),
        ("newmtl m0\nmap_Kd größe.png\n".encode("latin-1"), "texture größe.png is missing"),
        ("newmtl other\nKd 1 0 0\n", "no material file defines m0"),
        (None, "material file part.mtl is missing"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, caplog, material, said):
    if material is not None:
        write(tmp_path / "part.mtl", material)
    picture().save(tmp_path / "whole.png")
    write(tmp_path / "broken.png", (tmp_path / "whole.png").read_bytes()[:100])
    mesh = load_cad(write(tmp_path / "part.obj", obj("mtllib part.mtl\n")), "mm")
    assert not has_colours(mesh)
    (lost,) = lost_colours(mesh)
    assert said in lost and lost in caplog.text
    assert "Traceback" not in caplog.text


def test_a_texture_of_obj_without_coordinates_is_said_to_be_lost(tmp_path):
    picture().save(tmp_path / "tex.png")
    write(tmp_path / "part.mtl", "newmtl m0\nmap_Kd tex.png\n")
    mesh = load_cad(write(tmp_path / "part.obj", obj("mtllib part.mtl\n", textured=False)), "mm")
    assert lost_colours(mesh) == ["material m0 has a texture but no coordinates for it"]
    assert not has_colours(mesh)


def test_parts_that_lost_their_texture_are_grey_beside_the_others(tmp_path):
    write(tmp_path / "part.mtl", "newmtl m0\nmap_Kd gone.png\nnewmtl m1\nKd 1 0 0\n")
    text = obj("mtllib part.mtl\n").replace("f 3/", "usemtl m1\nf 3/", 1)
    mesh = load_cad(write(tmp_path / "part.obj", text), "mm")
    assert colours(mesh) == {(178, 178, 178), (255, 0, 0)} and is_the_box(mesh)


# --- colours of vertices and faces -----------------------------------------------------------


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("colour", [" 0.8 0.1 0.1", " 204 26 26", " 0.8 0.1 0.1 1.0"])
def test_vertex_colours_of_obj(tmp_path, textured, colour):
    path = write(tmp_path / "part.obj", obj(colour=colour, use="", textured=textured))
    assert colours(load_cad(path, "mm")) == {(204, 26, 26)}


def test_vertex_colours_that_some_lack_are_said_to_be_lost(tmp_path):
    text = obj(colour=" 1 0 0", use="", textured=False).replace(" 1 0 0\n", "\n", 1)
    mesh = load_cad(write(tmp_path / "part.obj", text), "mm")
    assert not has_colours(mesh)
    assert lost_colours(mesh) == ["only 7 of 8 vertices have a colour"]


def test_the_scale_of_colours_is_that_of_the_whole_file(tmp_path):
    """The second part is nearly black: 1 of 255, not of 1."""
    light, dark = (obj(colour=f" {c} {c} {c}", use="", textured=False) for c in (204, 1))
    faces = [line.split()[1:] for line in dark.splitlines() if line.startswith("f ")]
    moved = "".join("f " + " ".join(str(int(i) + 8) for i in face) + "\n" for face in faces)
    vertices = "".join(f"{line}\n" for line in dark.splitlines() if line.startswith("v "))
    path = write(tmp_path / "part.obj", f"usemtl m0\n{light}{vertices}usemtl m1\n{moved}")
    assert {tuple(c) for c in colours(load_cad(path, "mm"))} == {(204, 204, 204), (1, 1, 1)}


def ply(kind, names, values, element="vertex", comment=b"", newline="\n"):
    """An ASCII PLY with one colour for all vertices or faces."""
    mesh = box()
    extra = [f"property {kind} {name}" for name in names]
    head = ["ply", "format ascii 1.0", "COMMENT", f"element vertex {len(mesh.vertices)}"]
    head += [f"property float {axis}" for axis in "xyz"] + extra * (element == "vertex")
    head += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices"]
    head += extra * (element == "face") + ["end_header"]
    tail = " ".join(map(str, values))
    lines = [*map(str, mesh.vertices.tolist())]
    lines = [
        line.strip("[]").replace(",", "") + f" {tail}" * (element == "vertex") for line in lines
    ]
    faces = [f"3 {a} {b} {c}" + f" {tail}" * (element == "face") for a, b, c in mesh.faces]
    text = newline.join([*head, *lines, *faces, ""])
    return text.encode().replace(b"COMMENT", b"comment " + comment)


@pytest.mark.parametrize("element", ["vertex", "face"])
@pytest.mark.parametrize(
    ("kind", "names", "values"),
    [
        ("uchar", ("red", "green", "blue"), (204, 26, 0)),
        ("uchar", ("red", "green", "blue", "alpha"), (204, 26, 0, 255)),
        ("uchar", ("diffuse_red", "diffuse_green", "diffuse_blue"), (204, 26, 0)),
        ("uchar", ("r", "g", "b"), (204, 26, 0)),
        ("uchar", ("Red", "Green", "Blue"), (204, 26, 0)),
        ("uchar", ("Diffuse_Red", "Diffuse_Green", "Diffuse_Blue"), (204, 26, 0)),
        ("float", ("red", "green", "blue"), (0.8, 0.102, 0)),
        ("float", ("red", "green", "blue"), (204, 26, 0)),
        ("ushort", ("red", "green", "blue"), (204 * 257, 26 * 257, 0)),
        ("int", ("red", "green", "blue"), (204, 26, 0)),
    ],
)
def test_colours_of_ply(tmp_path, element, kind, names, values):
    path = write(tmp_path / "part.ply", ply(kind, names, values, element))
    mesh = load_cad(path, "mm")
    assert colours(mesh) == {(204, 26, 0)} and is_the_box(mesh)


def test_comments_on_colours_are_no_colours(tmp_path):
    names = ("diffuse_red", "diffuse_green", "diffuse_blue")
    path = write(tmp_path / "part.ply", ply("uchar", names, (204, 26, 0), comment=b"a red part"))
    assert colours(load_cad(path, "mm")) == {(204, 26, 0)}


@pytest.mark.parametrize("comment", ["größe".encode("latin-1"), "表面".encode("cp932"), b"a\\"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_headers_of_ply_in_any_encoding(tmp_path, comment, newline, mark):
    names = ("red", "green", "blue")
    content = mark + ply("uchar", names, (1, 2, 3), comment=comment, newline=newline)
    mesh = load_cad(write(tmp_path / "part.ply", content), "mm")
    assert colours(mesh) == {(1, 2, 3)} and is_the_box(mesh)


def test_the_texture_of_ply(tmp_path):
    uv = np.tile([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], (2, 1))
    mesh = trimesh.Trimesh(box().vertices, box().faces, visual=TextureVisuals(uv, image=picture()))
    content = mesh.export(file_type="ply")
    head = b"ply\nformat binary_little_endian 1.0\n"
    content = content.replace(head, head + b"comment TextureFile textures\\Tex.png\n")
    path = write(tmp_path / "part.ply", content)
    lost = load_cad(path, "mm")
    assert lost_colours(lost) == ["texture textures\\Tex.png is missing"] and not has_colours(lost)
    (tmp_path / "textures").mkdir()
    picture().save(tmp_path / "textures" / "tex.png")
    assert colours(load_cad(path, "mm")) == {GREEN, VIOLET}


def test_a_texture_of_ply_without_coordinates_is_said_to_be_lost(tmp_path):
    picture().save(tmp_path / "tex.png")
    content = box().export(file_type="ply")
    head = b"ply\nformat binary_little_endian 1.0\n"
    content = content.replace(head, head + b"comment TextureFile tex.png\n")
    mesh = load_cad(write(tmp_path / "part.ply", content), "mm")
    assert lost_colours(mesh) == ["it names a texture but has no texture coordinates"]
    assert not has_colours(mesh)


def test_points_in_ascii_ply_are_not_called_cut_off(tmp_path):
    text = "ply\nformat ascii 1.0\nelement vertex 3\n"
    text += "".join(f"property float {axis}\n" for axis in "xyz")
    text += "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    path = write(tmp_path / "points.ply", text + "0 0 0\n4 0 0\n9 1 0\n")
    with pytest.raises(DataError, match="has no faces: export it as a triangle mesh, not as point"):
        load_cad(path, "mm")


def stl(header, attribute):
    content = bytearray(box().export(file_type="stl"))
    content[:80] = header.ljust(80, b"\0")
    for start in range(84, len(content), 50):
        content[start + 48 : start + 50] = attribute.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("header", "attribute", "expected"),
    [
        (b"", 0, None),
        (b"solid " + "größe".encode("latin-1"), 0, None),
        (b"", 0x8000 | 31 << 10 | 16 << 5, (255, 132, 0)),  # VisCAM: blue comes first
        (b"COLOR=\x00\x00\xff\xff", 31 | 16 << 5, (255, 132, 0)),  # Magics: red comes first
        (b"COLOR=\x0a\xc8\x0a\xff,MATERIAL=...", 0x8000, GREEN),
        (b"COLOR=\x0a\xc8\x0a\xff", 0, GREEN),
    ],
)
def test_colours_of_binary_stl(tmp_path, header, attribute, expected):
    mesh = load_cad(write(tmp_path / "part.stl", stl(header, attribute)), "mm")
    assert is_the_box(mesh)
    assert (colours(mesh) == {expected}) if expected else not has_colours(mesh)


@pytest.mark.parametrize("name", ["größe".encode("latin-1"), "表".encode("cp932"), b"a b", b""])
def test_names_in_ascii_stl_in_any_encoding(tmp_path, name):
    text = box().export(file_type="stl_ascii").encode()
    first = text.index(b"\n")
    path = write(tmp_path / "part.stl", b"\xef\xbb\xbfsolid " + name + text[first:])
    assert is_the_box(load_cad(path, "mm"))


def test_colours_of_glb(tmp_path):
    mesh = box()
    assert not has_colours(load_cad(write(tmp_path / "a.glb", mesh.export(file_type="glb")), "mm"))
    mesh.visual.vertex_colors = [*GREEN, 255]
    assert colours(load_cad(write(tmp_path / "b.glb", mesh.export(file_type="glb")), "mm")) == {
        GREEN
    }
    uv = np.tile([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], (2, 1))
    plain = PBRMaterial(baseColorFactor=[204, 26, 26, 255])
    mesh.visual = TextureVisuals(uv, material=plain)
    assert colours(load_cad(write(tmp_path / "c.glb", mesh.export(file_type="glb")), "mm")) == {
        (204, 26, 26)
    }
    mesh.visual = TextureVisuals(uv, material=PBRMaterial(baseColorTexture=picture()))
    textured = mesh.export(file_type="glb")
    found = load_cad(write(tmp_path / "d.glb", textured), "mm")
    assert colours(found) == {GREEN, VIOLET} and is_the_box(found)
    start = textured.index(b"\x89PNG")
    broken = textured[: start + 30] + bytes(60) + textured[start + 90 :]
    lost = load_cad(write(tmp_path / "e.glb", broken), "mm")
    assert len(lost_colours(lost)) == 1 and not has_colours(lost)


def test_a_texture_that_several_parts_of_gltf_lack_is_told_once(tmp_path):
    uv = np.tile([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], (2, 1))
    scene = trimesh.Scene()
    for number in range(2):
        part = box().apply_translation([50 * number, 0, 0])
        material = PBRMaterial("paint", baseColorTexture=picture())
        part.visual = TextureVisuals(uv, material=material)
        scene.add_geometry(part)
    for name, content in scene.export(file_type="gltf").items():
        write(tmp_path / name, content)
    tree = json.loads((tmp_path / "model.gltf").read_text())
    whole = json.dumps(tree)
    for image in tree["images"]:
        image.pop("bufferView")
        image["uri"] = "gone.png"
    write(tmp_path / "model.gltf", json.dumps(tree))
    mesh = load_cad(tmp_path / "model.gltf", "mm")
    assert lost_colours(mesh) == ["texture gone.png is missing"] and not has_colours(mesh)
    write(tmp_path / "model.gltf", whole.replace("image/png", "image/ktx2"))
    mesh = load_cad(tmp_path / "model.gltf", "mm")
    assert lost_colours(mesh) == ["the texture of material paint cannot be read"]


# --- geometry --------------------------------------------------------------------------------


def test_statements_of_obj_in_every_legal_form(tmp_path):
    mesh = box()
    lines = ["# größe \\", "o part", "g", "s off"]
    for number, (x, y, z) in enumerate(mesh.vertices):
        lines.append(f"v\t{x} {y} \\\n  {z}" if number % 2 else f"  v {x} {y} {z} 1.0  # a corner")
    for number, corners in enumerate(mesh.faces):
        relative = corners - len(mesh.vertices)
        lines.append("f " + " ".join(map(str, relative if number % 2 else corners + 1)))
    lines += ["v 0 0 0", "p 9", "l 1 2"]  # relative indices count from where they stand
    path = write(tmp_path / "part.obj", "\r\n".join(lines).encode("latin-1"))
    assert is_the_box(load_cad(path, "mm"))


FORMATS = {
    "part.ply": lambda mesh: mesh.export(file_type="ply"),
    "ascii.ply": lambda mesh: mesh.export(file_type="ply", encoding="ascii"),
    "part.stl": lambda mesh: mesh.export(file_type="stl"),
    "ascii.stl": lambda mesh: mesh.export(file_type="stl_ascii").encode(),
    "part.obj": lambda mesh: mesh.export(file_type="obj").encode(),
    "part.glb": lambda mesh: mesh.export(file_type="glb"),
    "part.off": lambda mesh: mesh.export(file_type="off").encode(),
}


@pytest.mark.parametrize("text", ["<!doctype html>\n<title>404</title>", "a note, " * 100])
def test_a_text_is_not_called_a_cut_off_stl_file(tmp_path, text):
    path = write(tmp_path / "part.stl", text.encode())
    with pytest.raises(DataError, match="it is text, but no STL file, which begins with 'solid'"):
        load_cad(path, "mm")


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_cut_off_are_said_to_be(tmp_path, name):
    content = FORMATS[name](trimesh.creation.icosphere(2, 40))
    assert load_cad(write(tmp_path / name, content), "mm").volume > 0
    for keep in (0, 10, 70, len(content) // 3, len(content) // 2, len(content) - 5):
        path = write(tmp_path / name, content[:keep])
        if name == "part.off" and keep == len(content) - 5:
            continue  # the last number is shorter, which nothing tells
        with pytest.raises(DataError, match=r"cut off|is empty|has no faces|no (PLY|GLB)") as error:
            load_cad(path, "mm")
        assert "No module" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [
        ("3mf", "lxml", "lxml"),
        ("dae", "collada", "pycollada"),
        ("step", "cascadio", "cascadio"),
        ("STP", "cascadio", "cascadio"),
    ],
)
def test_kinds_that_need_a_package_say_which(tmp_path, monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    path = write(tmp_path / f"part.{kind}", coloured_3mf() if kind == "3mf" else "<COLLADA/>")
    with pytest.raises(
        DataError, match=f"'.{kind.lower()}' files need the Python package {package}: inst"
    ):
        read_mesh_file(path)


def coloured_3mf():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("3D/3dmodel.model", "<model><basematerials/></model>")
    return stream.getvalue()


def test_3mf_is_read_without_its_colours(tmp_path):
    pytest.importorskip("lxml")
    mesh = box()
    vertices = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in mesh.vertices)
    faces = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in mesh.faces)
    space = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
    model = (
        f'<model unit="millimeter" xmlns="{space}"><resources><basematerials id="2"/>'
        f'<object id="1" type="model"><mesh><vertices>{vertices}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object></resources>"
        '<build><item objectid="1"/></build></model>'
    )
    with zipfile.ZipFile(tmp_path / "part.3mf", "w") as archive:
        archive.writestr("3D/3dmodel.model", model)
    found = load_cad(tmp_path / "part.3mf", "mm")
    assert is_the_box(found) and not has_colours(found)
    assert lost_colours(found) == [
        "colours in 3MF files cannot be read: export it as GLB, OBJ or PLY"
    ]


def test_3mf_that_is_cut_off_and_kinds_that_are_unknown(tmp_path):
    with pytest.raises(DataError, match="cut off or damaged"):
        read_mesh_file(write(tmp_path / "cut.3mf", coloured_3mf()[:40]))
    with pytest.raises(DataError, match="a '.fbx' file cannot be read"):
        read_mesh_file(write(tmp_path / "part.fbx", "Kaydara"))


def test_gltf_without_its_buffer_says_so(tmp_path):
    for name, content in box().export(file_type="gltf").items():
        write(tmp_path / name, content)
    buffer, *_ = tmp_path.glob("*.bin")
    assert is_the_box(load_cad(tmp_path / "model.gltf", "mm"))
    buffer.unlink()
    with pytest.raises(DataError, match=f"it refers to {buffer.name}, which is missing"):
        load_cad(tmp_path / "model.gltf", "mm")


def test_compressed_gltf_is_refused_with_the_remedy(tmp_path):
    content = box().export(file_type="glb")
    size = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + size])
    tree["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + size :]
    head = b"glTF" + b"".join(
        number.to_bytes(4, "little") for number in (2, 20 + len(text) + len(rest), len(text))
    )
    path = write(tmp_path / "part.glb", head + b"JSON" + text + rest)
    with pytest.raises(DataError, match="KHR_draco_mesh_compression: export it uncompressed"):
        read_mesh_file(path)


@pytest.mark.parametrize("kind", ["stl", "ply", "obj"])
def test_the_origin_may_be_far_away(tmp_path, kind):
    mesh = trimesh.creation.icosphere(3, 30).apply_translation((20_000, -9_000, 30_000))
    content = mesh.export(file_type=kind)
    far = load_cad(write(tmp_path / f"part.{kind}", content), "mm")
    assert far.extents == pytest.approx([0.06, 0.06, 0.06], rel=1e-3)
    normals = far.vertices - [20, -9, 30]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert (normals * far.vertex_normals).sum(1).min() > 0.99
    mesh.apply_translation((5e6, 0, 0))  # as in a map's coordinates
    with pytest.raises(DataError, match="from its origin.*move the origin to the part"):
        load_cad(write(tmp_path / f"far.{kind}", mesh.export(file_type=kind)), "mm")


def test_scenes_of_several_parts_keep_their_places(tmp_path):
    scene = trimesh.Scene()
    for number, colour in enumerate((GREEN, VIOLET)):
        part = trimesh.creation.box((20, 20, 20))
        part.visual.vertex_colors = [*colour, 255]
        move = np.eye(4)
        move[0, 3] = 50 * number
        scene.add_geometry(part, transform=move)
    buffer = io.BytesIO(scene.export(file_type="glb"))
    mesh = load_cad(write(tmp_path / "two.glb", buffer.getvalue()), "mm")
    assert mesh.extents == pytest.approx([0.07, 0.02, 0.02])
    right = mesh.vertices[:, 0] > 0.025
    assert {tuple(map(int, c)) for c in mesh.visual.vertex_colors[right, :3]} == {VIOLET}
    assert {tuple(map(int, c)) for c in mesh.visual.vertex_colors[~right, :3]} == {GREEN}
