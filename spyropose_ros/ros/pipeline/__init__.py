"""From the messages of one moment to distributions. Never imports rclpy."""
