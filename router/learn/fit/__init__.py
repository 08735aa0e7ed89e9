"""From tables to weights: designs, fits, calibration, checkpoints."""
