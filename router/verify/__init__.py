"""What judges an answer: the numbers that are read off it, and the weights that turn them into P(correct)."""
