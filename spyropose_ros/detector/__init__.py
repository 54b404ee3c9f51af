"""Boxes of known objects in an image: network, bundle, detections."""
