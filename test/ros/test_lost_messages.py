"""Messages that the middleware overwrites because nobody took them in time are counted."""

import time

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

import graph
from spyropose_ros.ros.node.health import Activity
from spyropose_ros.ros.node.inputs import Inputs
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.drops import DropCounter, Reason
from spyropose_ros.ros.pipeline.parameters import Parameters, QosParameters


@pytest.fixture
def listener():
    node = Node("listener", namespace="/lost")
    node.drops, node.activity = DropCounter(print, print), Activity()
    parameters = Parameters(qos=QosParameters(depth=5))
    inputs = Assembler(parameters, node.resolve_topic_name, print, print).inputs
    Inputs(node, inputs, parameters, node.activity, node.drops.add, lambda entry, message: None)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()


@pytest.fixture
def camera(listener):
    node = Node("camera", namespace="/lost")
    publishers = []

    def publisher():
        publishers.append(node.create_publisher(Image, "image_rect", 100))
        wait_until(publishers[-1].get_subscription_count)
        return publishers[-1]

    yield publisher
    node.destroy_node()


def wait_until(condition, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


def publish(publisher, first, count):
    for index in range(first, first + count):
        publisher.publish(graph.image_message(index * graph.SECOND))


def take_all(listener):
    received = -1
    while received < (received := listener.activity.counts().received["/lost/image_rect"]):
        for _ in range(20):
            listener.executor.spin_once(timeout_sec=0.05)
    return received, listener.drops.counts().get(Reason.LOST, 0)


def test_a_burst_beyond_the_queue_is_counted(listener, camera):
    publisher = camera()
    publish(publisher, 1, 1)
    take_all(listener)
    publish(publisher, 2, 30)
    received, lost = take_all(listener)
    assert lost > 0
    assert received + lost == 31


def test_other_publishers_are_not_taken_for_losses(listener, camera):
    first = camera()
    publish(first, 1, 3)
    take_all(listener)
    second = camera()
    for index in range(4, 10):
        publish((first, second)[index % 2], index, 1)
        take_all(listener)
    assert take_all(listener) == (9, 0)
