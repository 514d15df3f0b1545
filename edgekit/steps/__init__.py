"""Steps, one file each: a step makes an artifact, from other artifacts or from a task."""
