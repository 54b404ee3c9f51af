"""The self check as its own process on a real graph."""

import functools
import signal
import subprocess
import sys
import time

import pytest

import graph
from spyropose_ros.ros.interfaces import Image


def run(*arguments, **options):
    command = [sys.executable, "-m", "spyropose_ros.ros.node.check", "--ros-args", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def test_a_working_graph_gets_ticks_and_a_missing_topic_its_remedy(mug_bundle):
    peer = graph.Peer("/checked", image_topic="camera/image")
    peer.node.create_publisher(Image, "camera/depth", 10)  # never meant as colour
    parameters = ("-p", f"objects:=['{mug_bundle}']", "-p", "device:=cpu", "-r", "__ns:=/checked")
    good = run(*parameters, "-r", "image_rect:=camera/image")
    try:
        peer.spin_until(lambda: (peer.send(graph.detection()), good.poll() is not None)[1], 60)
        bad = run(*parameters)
        assert bad.wait(60) == 1
    finally:
        peer.close()
        good.kill()
    lines = good.communicate()[0].splitlines()
    text = "\n".join(lines)
    for expected in (
        "✓ /checked/camera/image: publishers 1, reliable",
        "✓ calibration: 160x120, focal lengths 150 and 150",
        "✓ detected objects with a model: mug",
        "✓ models: mug (3 levels, on cpu)",
        "✓ one estimate takes",
    ):
        assert expected in text, text
    wrong = [line for line in lines if not line.startswith("✓")]
    assert all("shared memory of Fast DDS" in line for line in wrong)  # left to the user
    assert good.returncode == bool(wrong)
    remedy = "has no publisher: add --ros-args -r image_rect:=/checked/camera/image\n"
    assert remedy in bad.communicate()[0]


def test_a_detector_in_the_node_is_timed_and_needs_no_topic(mug_bundle):
    options = {"objects": f"['{mug_bundle}']", "device": "cpu", "detector": graph.COCO}
    options["class_map"] = "['cup=mug']"
    parameters = [part for name, value in options.items() for part in ("-p", f"{name}:={value}")]
    output, _ = run(*parameters, "-r", "__ns:=/alone").communicate(timeout=60)
    assert "✓ boxes are found by nanodet_coco, in" in output
    assert "✗ /alone/image_rect has no publisher" in output
    assert "/alone/detections" not in output


def test_a_bad_parameter_is_a_line():
    process = run("-p", "sync.slop:=1", "-r", "__ns:=/unchecked")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output
    assert "✗ parameter 'sync.slop' is 1 but must be a number with a decimal point" in output


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_ctrl_c_at_any_time_is_one_line(seconds):
    process = run("-r", "__ns:=/unchecked")
    first = process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert first.startswith("✓ ROS 2")
    assert output.endswith("check: interrupted; nothing is kept: the same command starts again\n")
    assert process.returncode == 130 and "Traceback" not in output


def test_a_check_in_the_background_goes_on_after_ctrl_c_and_ends_on_sigterm():
    ignore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    process = run("-r", "__ns:=/unchecked", preexec_fn=ignore)
    process.stdout.readline()
    time.sleep(1.0)  # it waits for publishers
    process.send_signal(signal.SIGINT)
    assert any("has no publisher" in process.stdout.readline() for _ in range(2))
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM and "Traceback" not in output
