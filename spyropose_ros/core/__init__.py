"""The SpyroPose method on torch and numpy: grids, network, search, distribution. Never imports ROS."""
