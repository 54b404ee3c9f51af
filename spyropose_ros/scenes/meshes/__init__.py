"""Mesh files as CAD programs, scanners and artists' tools write them."""

from spyropose_ros.scenes.meshes.reader import MeshFile, read_mesh_file

__all__ = ["MeshFile", "read_mesh_file"]
