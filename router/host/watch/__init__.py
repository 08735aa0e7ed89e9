"""The watch on running answers: statistics in the engine's worker, orders and figures in a table that both share."""
