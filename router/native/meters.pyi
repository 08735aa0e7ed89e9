"""Metrics that are counted natively, in the buffers of `observe.metrics`. Used by native modules only."""

NAMES_OF_REASONS: tuple[str, ...]  #: in the order of `Reason` in csrc/policy.hpp
