"""What the APIs' bodies say: bytes to a query. Knows no HTTP, no pool and no engine."""
