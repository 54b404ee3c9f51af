"""Where the training of a detector starts: published weights, or those of an earlier training."""

from spyropose_ros.detector.bundle import DetectorBundle
from spyropose_ros.detector.network import DetectionNetwork

_CLASSES = ".classes."  # in the names of what depends on the classes


def started_from(bundle: DetectorBundle, classes: tuple[str, ...]) -> DetectionNetwork:
    """Make a network to be trained.

    Args:
        bundle: a trained detector, such as models/nanodet_coco.
        classes: of the new one.

    Returns:
        A network, in training mode, that outlines what the old one did; it knows no class yet,
        unless all are the same.
    """
    network = DetectionNetwork(len(classes))
    same = bundle.info.classes == classes
    kept = {n: w for n, w in bundle.network.state_dict().items() if same or _CLASSES not in n}
    network.load_state_dict(network.state_dict() | kept)
    return network
