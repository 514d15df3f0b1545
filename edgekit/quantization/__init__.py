"""What int8 is made of: activation statistics and ranges, the weight side on the torch program, and what went wrong."""
