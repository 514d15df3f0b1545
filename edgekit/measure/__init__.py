"""Artifacts executed, verified and measured on targets."""
