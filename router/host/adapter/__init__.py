"""All that touches vLLM, 0.25 to 0.33. Nothing else in the host imports it."""
