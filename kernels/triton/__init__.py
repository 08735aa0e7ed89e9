"""GPU kernels, imported by name where they are used: this package itself loads nothing."""
