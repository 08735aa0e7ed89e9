"""Batches: many requests of one file, answered where the engines have slack, resumed after a crash."""
