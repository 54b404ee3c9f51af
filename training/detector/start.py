"""Where the training of a detector starts: published weights, other classes."""

from spyropose_ros.detector.bundle import DetectorBundle
from spyropose_ros.detector.network import DetectionNetwork

_CLASSES = ".classes."  # in the names of what depends on the classes


def started_from(bundle: DetectorBundle, num_classes: int) -> DetectionNetwork:
    """Make a network to be trained.

    Args:
        bundle: a trained detector, such as models/nanodet_coco.
        num_classes: of the new one.

    Returns:
        A network, in training mode, that outlines what the old one did and knows no class yet.
    """
    network = DetectionNetwork(num_classes)
    kept = {n: w for n, w in bundle.network.state_dict().items() if _CLASSES not in n}
    network.load_state_dict(network.state_dict() | kept)
    return network
