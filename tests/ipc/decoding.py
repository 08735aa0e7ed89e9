"""What a decoder of frames holds."""

from router.ipc.frames import FrameDecoder


def unfinished_bytes(decoder: FrameDecoder) -> int:
    """Of a frame that is not whole yet."""
    return len(decoder._head) if decoder._frame is None else len(decoder._frame)
