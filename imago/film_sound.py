"""The sound of one film, taken over into another."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

# Kinds of sound that players expect in each container; FFmpeg would write more. Matroska holds anything.
_COMMON = ("aac", "mp3", "ac3", "eac3", "alac")
_HELD = {".mp4": (*_COMMON, "opus", "flac"), ".mov": (*_COMMON, "pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be")}
_BIT_RATE = 96_000  # a channel, of sound that is encoded anew


class Sound:
    """All sound tracks of a source, written bit by bit so that they stay beside the pictures.

    Args:
        source: PyAV's input container, at its start.
        target: PyAV's output container, to which nothing is written yet; its file name's ending decides what is copied.
        start: Seconds on the source's clock that are the target's zero.
    """

    def __init__(self, source: Any, target: Any, start: Fraction = Fraction(0)) -> None:
        self.target = target
        self.start = start
        self.tracks: dict[int, _Copied | _Encoded] = {}
        ending = "." + target.name.rpartition(".")[2].lower()
        for stream in source.streams.audio:
            if stream.codec_context is None:  # a kind that FFmpeg has no decoder for
                continue
            copied = ending not in _HELD or stream.codec_context.name in _HELD[ending]
            track = _Copied(stream, target) if copied else _Encoded(stream, target)
            self.tracks[stream.index] = track
            if stream.language:
                track.stream.metadata["language"] = stream.language
        self.packets: Iterator[Any] = source.demux(*source.streams.audio) if self.tracks else iter(())
        self.waiting: Any = None

    def write_until(self, end: Fraction | float) -> None:
        """Write the sound that begins before `end`, in seconds."""
        while True:
            packet = self.waiting or self._next()
            if packet is None:
                return
            time = packet.pts if packet.pts is not None else packet.dts
            if not math.isinf(end) and time is not None and time * packet.time_base >= end:
                self.waiting = packet
                return
            self.waiting = None
            self.target.mux(self.tracks[packet.stream.index].packets(packet))

    def _next(self) -> Any:
        """The next packet, on the target's clock; None at the end."""
        for packet in self.packets:
            if packet.size and packet.stream.index in self.tracks:
                shift = round(self.start / packet.time_base)
                packet.pts, packet.dts = (None if t is None else t - shift for t in (packet.pts, packet.dts))
                return packet
        return None

    def finish(self) -> None:
        """Write what encoders still hold."""
        for track in self.tracks.values():
            self.target.mux(track.last_packets())


class _Copied:
    """A track whose packets are taken over as they are."""

    def __init__(self, source: Any, target: Any) -> None:
        self.stream = target.add_stream_from_template(source)

    def packets(self, packet: Any) -> list[Any]:
        packet.stream = self.stream
        return [packet]

    def last_packets(self) -> list[Any]:
        return []


class _Encoded:
    """A track that is decoded and encoded as AAC."""

    def __init__(self, source: Any, target: Any) -> None:
        import av

        codec = source.codec_context
        self.stream = target.add_stream("aac", rate=codec.sample_rate, layout=codec.layout)
        self.stream.bit_rate = _BIT_RATE * codec.layout.nb_channels
        self.resampler = av.AudioResampler("fltp", codec.layout, codec.sample_rate, frame_size=1024)

    def packets(self, packet: Any) -> list[Any]:
        import av

        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:  # a damaged packet is a short silence, not the end of the film
            return []
        frames = [part for frame in decoded for part in self.resampler.resample(frame)]
        return [encoded for frame in frames for encoded in self.stream.encode(frame)]

    def last_packets(self) -> list[Any]:
        frames = self.resampler.resample(None)
        return [encoded for frame in [*frames, None] for encoded in self.stream.encode(frame)]
