"""The SpyroPose method on torch and numpy: grids, network, search. Never imports ROS."""
