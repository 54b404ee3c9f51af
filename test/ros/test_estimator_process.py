"""The estimator as a process of its own: start-up errors, what it says, and how it ends."""

import resource
import signal

import pytest

import graph
from spyropose_ros.ros.messages.invariants import check_invariants


def arguments(bundle, *more):
    return ("-p", f"objects:=['{bundle}']", "-p", "device:=cpu", "-p", "search.beam:=16", *more)


def test_distributions_cross_the_graph_between_processes(launch_process, mug_bundle):
    debug = ("--log-level", "process.estimator:=debug")
    process = launch_process(*arguments(mug_bundle), "-r", "__ns:=/process", *debug)
    peer = graph.Peer("/process")
    try:
        process.wait_for("ready after")
        peer.connect()
        sent = peer.send(graph.detection(), graph.detection("person"))
        peer.spin_until(lambda: peer.distributions)
        (message,) = peer.distributions[0].distributions
        check_invariants(message)
        assert message.header == graph.image_message(sent).header
    finally:
        peer.close()
    process.wait_for("first result published: objects: 1,")
    process.wait_for("received /process/detections ")
    process.wait_for(": objects: mug; age at start ")
    assert "dropped (unknown class, 1 so far): detection has 'person'" in process.output
    process.send(signal.SIGINT)
    assert process.exit_code() == 0
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    "parameter, texts",
    [
        ("objects:=['/nowhere/mug']", ["parameter 'objects'", "/nowhere/mug", "no such folder"]),
        ("sync.slop:=1", ["'sync.slop' is 1 but must be a number with a decimal point"]),
    ],
)
def test_what_cannot_work_ends_the_process_with_one_line(
    launch_process, mug_bundle, parameter, texts
):
    process = launch_process(*arguments(mug_bundle), "-p", parameter)
    assert process.exit_code() == 1
    assert "Traceback" not in process.output
    assert "loading PyTorch" not in process.output
    (line,) = [line for line in process.output.splitlines() if "[FATAL]" in line]
    for text in texts:
        assert text in line


def test_a_malformed_params_file_ends_the_process(launch_process, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("/**:\n  ros__parameters:\n   - [")
    process = launch_process("--params-file", str(file))
    assert process.exit_code() == 1
    assert "broken.yaml" in process.output
    assert "Traceback" not in process.output


def test_unknown_names_and_silence_are_explained(launch_process, mug_bundle, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    sync:\n      max_agee: 2.0\n")
    process = launch_process(
        *arguments(mug_bundle), "--params-file", str(file), "-r", "__ns:=/silence"
    )
    process.wait_for("nothing published for 5 s; received 0 on /silence/image_rect (0 publishers)")
    assert "start a publisher of /silence/image_rect and" in process.output
    warning = "unknown parameter 'sync.max_agee' is ignored: did you mean 'sync.max_age'?"
    assert warning in process.output
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
    assert "Traceback" not in process.output


def test_interrupts_while_the_model_loads_end_the_process_cleanly(launch_process, mug_bundle):
    process = launch_process(*arguments(mug_bundle))
    process.wait_for("loading PyTorch")
    process.send(signal.SIGINT)
    process.send(signal.SIGINT)
    assert process.exit_code() == 0
    assert "Traceback" not in process.output and "FATAL" not in process.output


def cpu_time_of_the_end(process) -> float:
    """Interrupts a process; returns the seconds of CPU time it still takes."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = process.cpu_time
    process.send(signal.SIGINT)
    assert process.exit_code() == 0
    assert "Traceback" not in process.output and "FATAL" not in process.output
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = usage.ru_utime + usage.ru_stime - ended.ru_utime - ended.ru_stime
    return total - before


def test_an_idle_node_ends_before_ros2_launch_loses_its_patience(launch_process, mug_bundle):
    process = launch_process(*arguments(mug_bundle), "-r", "__ns:=/idle")
    peer = graph.Peer("/idle")
    try:
        process.wait_for("ready after")
        peer.connect()
        assert cpu_time_of_the_end(process) < 0.5
        name = peer.node.resolve_topic_name("image_rect")
        # well before its lease in the graph runs out, after 20 s
        peer.spin_until(lambda: peer.node.count_subscribers(name) == 0, timeout=10)
    finally:
        peer.close()


def test_a_working_node_ends_in_the_middle_of_its_frame(launch_process, mug_bundle):
    process = launch_process(
        *arguments(mug_bundle, "-p", "search.beam:=65536", "-p", "search.mass_tolerance:=0.0"),
        *("-p", "sync.max_age:=0.0", "-r", "__ns:=/sigint"),
    )
    peer = graph.Peer("/sigint")
    try:
        process.wait_for("ready after")
        peer.connect()
        idle = process.cpu_time
        peer.send(*(graph.detection() for _ in range(16)))
        peer.spin_until(lambda: process.cpu_time > idle + 0.5)
        assert cpu_time_of_the_end(process) < 0.5
        assert "first result" not in process.output
    finally:
        peer.close()


def test_a_mistyped_quality_of_service_ends_the_process_with_its_name(launch_process):
    override = "qos_overrides./image_rect.subscription.reliability:=relaible"
    process = launch_process("-p", "device:=cpu", "-p", override)
    assert process.exit_code() == 1
    assert "Unexpected QoS override for policy `reliability`: `relaible`" in process.output
    assert "transition" not in process.output
