"""Makes `router/checkpoints/embedding.safetensors`: a sentence encoder, distilled into a vector a WordPiece.

    python -m router.learn.distil TABLE.parquet... --out router/checkpoints/embedding.safetensors

`prompts` choose the texts, `teacher` says where the encoder puts them, `student` fits the vectors to that.
"""
