"""Steps, one file each: the arrows from artifacts to an artifact."""
