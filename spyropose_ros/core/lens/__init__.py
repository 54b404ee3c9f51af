"""Cameras as calibrations describe them: what a camera matrix may be, and rectification."""
