"""From image to logits: backbones, the keypoint model and the rotation model."""
