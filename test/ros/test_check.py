"""The self check as its own process on a real graph."""

import subprocess
import sys

import graph


def run(*arguments):
    command = [sys.executable, "-m", "spyropose_ros.ros.node.check", "--ros-args", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_working_graph_gets_ticks_and_a_missing_topic_its_remedy(mug_bundle):
    peer = graph.Peer("/checked", image_topic="camera/image")
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
    remedy = (
        "remap it to one of /checked/camera/image: --ros-args -r image_rect:=/checked/camera/image"
    )
    assert remedy in bad.communicate()[0]


def test_a_bad_parameter_is_a_line():
    process = run("-p", "sync.slop:=1", "-r", "__ns:=/unchecked")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output
    assert "✗ parameter 'sync.slop' is 1 but must be a number with a decimal point" in output
