"""The estimator on ROS 2."""
