"""What lets a request start, asked once, before anything is done for it: its key (`keys`), then the bounds on requests
in flight and on pending body bytes (`gate`); where slots are short, a short queue (`queue`). Knows no HTTP, no pool."""
