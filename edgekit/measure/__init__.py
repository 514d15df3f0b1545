"""Executing, verifying and measuring artifacts on targets."""
