"""`targets`: add and check devices."""
