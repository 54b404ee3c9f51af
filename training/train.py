"""Train a model: `python -m training.train mug --preset small --run-dir runs/mug`.

Every setting of `training.config.TrainConfig` is a flag (`--config.optim.max_steps 1000`); without
flags the preset decides. A run folder holds the resolved configuration, TensorBoard logs,
checkpoints and the exported bundle. Running the same command again resumes from the checkpoint.
"""

import argparse
import logging
import time
from dataclasses import asdict
from pathlib import Path

import cv2
import lightning
import numpy as np
import torch
import trimesh
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from spyropose_ros.core.backbone import resolve_backbone
from spyropose_ros.core.bundle import MESH, ModelBundle, ObjectInfo
from spyropose_ros.core.keypoints import box_keypoints, farthest_points
from spyropose_ros.core.model import ModelConfig, PoseModel
from spyropose_ros.scenes.detector import apparent_size_ratio
from spyropose_ros.scenes.sampler import (
    ObjectModel,
    SceneSampler,
    load_object_model,
    scene_settings,
)
from training import provenance
from training.config import PRESETS, NetworkConfig, TrainConfig
from training.data.rendered import RenderedData
from training.module import PoseModule

log = logging.getLogger(__name__)

_SURFACE_SAMPLES = 10_000


def object_info(model: ObjectModel, network: NetworkConfig) -> ObjectInfo:
    """Geometry that the bundle stores: keypoints, bounding sphere and apparent size.

    Raises:
        ValueError: unknown kind of keypoints.
    """
    if network.keypoints == "fps":
        surface, _ = trimesh.sample.sample_surface(model.mesh, _SURFACE_SAMPLES, seed=0)
        keypoints = farthest_points(surface - model.center, network.n_keypoints)
    elif network.keypoints == "box":
        keypoints = box_keypoints(model.diameter / 2)
    else:
        raise ValueError(f"keypoints must be 'fps' or 'box', got '{network.keypoints}'")
    ratio, ratio_std = apparent_size_ratio(model.mesh.vertices - model.center, model.diameter)
    return ObjectInfo(
        model.name,
        [float(v) for v in model.center],
        float(model.diameter),
        ratio,
        ratio_std,
        np.round(keypoints, 6).tolist(),
    )


def build_model(network: NetworkConfig, info: ObjectInfo) -> PoseModel:
    """A fresh network, with pretrained encoder weights where they are to be had."""
    architecture, weights = resolve_backbone(network.backbone, network.pretrained)
    shared = set(ModelConfig.__dataclass_fields__) - {"backbone"}
    options = {k: v for k, v in asdict(network).items() if k in shared}
    model = PoseModel(ModelConfig(architecture, **options), torch.tensor(info.keypoints))
    if network.start_from:
        other = ModelBundle.from_pretrained(network.start_from)
        model.extractor.load_state_dict(other.model.extractor.state_dict())
        if other.object.name == info.name:
            model.load_state_dict(other.model.state_dict())
    elif weights is not None:
        model.extractor.encoder.backbone.load_state_dict(weights)
    return model


def train(name: str, config: TrainConfig, run_dir: Path, accelerator: str = "auto") -> Path:
    """Train, or resume, and export the bundle.

    Args:
        name: object, "mug" or "lmo/<object>".
        config: settings.
        run_dir: for everything the run writes.
        accelerator: as Lightning names it.

    Returns:
        Folder of the bundle.
    """
    started = time.time()
    lightning.seed_everything(config.seed, verbose=False)
    cv2.setNumThreads(1)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(_plain(asdict(config))))

    model = load_object_model(name, config.data.data_root)
    info = object_info(model, config.network)
    network = build_model(config.network, info)
    data = RenderedData(
        SceneSampler(model, scene_settings(name)),
        info.size_ratio,
        config.network,
        config.data,
        config.optim,
        config.seed,
    )
    module = PoseModule(
        network.to(memory_format=torch.channels_last),
        info.diameter,
        config.objective,
        config.optim,
        config.seed,
        torch.from_numpy(model.symmetries).float(),
    )
    checkpoints = ModelCheckpoint(
        run_dir / "checkpoints", save_last=True, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=config.optim.max_steps,
        logger=TensorBoardLogger(run_dir, name="", version="tensorboard"),
        callbacks=[checkpoints, TQDMProgressBar(refresh_rate=10)],
        log_every_n_steps=25,
        num_sanity_val_steps=0,
    )
    last = run_dir / "checkpoints" / "last.ckpt"
    if last.is_file():
        log.info("resuming from %s", last)
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    record = {
        "package_version": provenance.package_version(),
        "git_commit": provenance.git_commit(),
        "command": provenance.command("training.train"),
        "object": name,
        "config": _plain(asdict(config)),
        "steps": trainer.global_step,
        "hardware": provenance.hardware(str(trainer.strategy.root_device)),
        "seconds": round(time.time() - started),
    }
    bundle = ModelBundle(network, info, [1.0] * config.network.depth, record)
    bundle.save_pretrained(run_dir / "bundle")
    model.mesh.export(run_dir / "bundle" / MESH)
    log.info("bundle written to %s", run_dir / "bundle")
    return run_dir / "bundle"


def _plain(value):
    """Tuples as lists, for YAML and JSON."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def parse_args(arguments: list[str] | None = None) -> Namespace:
    """Command line; the preset gives the defaults of all settings."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="small")
    preset = first.parse_known_args(arguments)[0].preset
    parser = ArgumentParser(prog="python -m training.train", description=__doc__.split("\n")[0])
    parser.add_argument("object", type=str, help="mug or lmo/<object>")
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument("--run_dir", type=str, help="default: runs/<object>")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu or auto")
    parser.add_argument("--settings", action="config", help="YAML file with the same keys")
    parser.add_argument("--config", type=TrainConfig, default=PRESETS.get(preset))
    return parser.instantiate_classes(parser.parse_args(arguments))


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args()
    run_dir = Path(args.run_dir or f"runs/{args.object.replace('/', '_')}")
    train(args.object, args.config, run_dir, args.accelerator)


if __name__ == "__main__":
    main()
