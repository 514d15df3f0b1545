"""Tasks, one file each: data splits, networks by name, a loss and a metric."""
