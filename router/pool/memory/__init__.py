"""How much memory engines take, computed from files before any engine starts.

    config.json -> shape (layers, heads, states) -> cache (KV bytes of a token, of a sequence)
    safetensors headers -> weights (`router.pool.weights`)      traffic -> mix (requests at once, tokens of each)
    these and the devices -> plan: bytes, sequences and context of each engine, whether all fit, and why

Bytes throughout. Pure but for the readers of files; knows no engine, and asks vLLM nothing.
"""
