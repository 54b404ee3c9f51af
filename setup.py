"""Installs core, scenes and training with pip, without ROS. CMakeLists.txt builds the package."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name):
    """Return the packages listed in requirements/NAME.txt."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


setup(
    name="spyropose_ros",
    version=ElementTree.parse(ROOT / "package.xml").findtext("version"),
    description="Pose distributions on SE(3) of known objects from images, for ROS 2",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(
        include=[
            "spyropose_ros",
            *("spyropose_ros.core*", "spyropose_ros.detector*", "spyropose_ros.photos*"),
            *("spyropose_ros.scenes*", "spyropose_ros.bop*", "training*"),
        ]
    ),
    package_data={"": ["py.typed", "*.yaml"]},
    install_requires=requirements("core") + requirements("opencv"),
    extras_require={
        name: requirements(name) for name in ("train", "step", "export", "view", "test")
    },
)
