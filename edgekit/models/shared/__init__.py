"""What the networks share: layers, attention, normalisation, widths."""
