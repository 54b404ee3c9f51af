"""From messages to pose distributions. Never imports rclpy."""
