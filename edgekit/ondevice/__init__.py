"""Code that runs on a device, such as the runner, which is pushed together with the file of one runtime."""
