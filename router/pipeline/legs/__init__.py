"""Several legs of one request: a draft that is judged, an answer that another model goes on with, or another engine
where its own was lost (docs/moments.md)."""
