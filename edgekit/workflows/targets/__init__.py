"""`targets`: devices are added, checked and cleaned."""
