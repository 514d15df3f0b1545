"""What runs on a device: the runner, pushed there with the file of one runtime."""
