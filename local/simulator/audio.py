"""Simulate speech, transcriptions and translations.

The payloads: https://platform.openai.com/docs/api-reference/audio, and audioResponse and audioVerboseResponse in
https://github.com/Azure/azure-rest-api-specs
(cognitiveservices/data-plane/AzureOpenAI/inference/preview/2025-04-01-preview/inference.yaml). The forms on v1:
https://learn.microsoft.com/azure/foundry/openai/reference-preview-latest#create-transcription.
"""

import base64
import json
import math
import struct

from local.simulator import forms, model, payloads
from local.simulator.forms import Part
from local.simulator.payloads import Content, ErrorResponse, Event, Json, Payload

CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
MAX_SPEECH_INPUT = 4096
# Speech is 24 kHz, 16 bits, mono. Each chunk is a tenth of a second.
RATE = 24_000
SILENCE = bytes(RATE // 10 * 2)
# Each chunk of MP3 has this many frames, of 26 ms.
MP3_FRAMES = 4
MP3_FRAME_SIZE = 417

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
# The endings of the file names that Azure accepts.
AUDIO_FILES = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
# Bytes of a second of the files that are sent.
FILE_RATE = 32_000
# Tokens of a second of audio.
TOKENS_PER_SECOND = 10


def speech(body: Json, script: Json) -> Payload:
    """Return the speech that `body` requests: audio with a chunk for each two words, or events with these chunks."""
    text = body.get("input")
    for name, value in (("input", text), ("voice", body.get("voice"))):
        if not value:
            raise ErrorResponse(400, payloads.missing_parameter(name))
    if not isinstance(text, str) or len(text) > MAX_SPEECH_INPUT:
        problem = f"Invalid 'input': string too long. Expected a string with maximum length {MAX_SPEECH_INPUT}."
        raise ErrorResponse(400, payloads.invalid_request(problem, code="string_above_max_length", param="input"))
    audio_format = body.get("response_format") or "mp3"
    if audio_format not in CONTENT_TYPES:
        raise ErrorResponse(400, payloads.invalid_value("response_format", audio_format, CONTENT_TYPES))
    chunks = encode_speech(audio_format, model.split(text) or [text])
    if body.get("stream_format") != "sse":
        if error := script.get("error"):
            return payloads.stream_error(error)
        return Content(CONTENT_TYPES[audio_format], chunks)
    tokens = {"input_tokens": len(text) // 4 + 1, "output_tokens": len(chunks)}
    usage = payloads.scripted_usage({**tokens, "total_tokens": sum(tokens.values())}, script)
    audio = [{"type": "speech.audio.delta", "audio": base64.b64encode(chunk).decode()} for chunk in chunks]
    return payloads.end_with_error([*map(encode, audio), encode({"type": "speech.audio.done", "usage": usage})], script)


def encode_speech(audio_format: str, texts: list[str]) -> list[bytes]:
    """Return a chunk of silence for each text: valid WAV, PCM or MP3, otherwise only bytes that begin like the format."""
    match audio_format:
        case "mp3":
            # With empty side information (32 bytes), a decoder ignores the rest of the frame.
            frames = [b"\xff\xfb\x90\x64" + bytes(32) + text.encode() for text in texts]
            return [frame[:MP3_FRAME_SIZE].ljust(MP3_FRAME_SIZE, b"\0") * MP3_FRAMES for frame in frames]
        case "wav":
            size = len(SILENCE) * len(texts)
            fields = (b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * 2, 2, 16, b"data", size)
            header = struct.pack("<4sI4s4sIHHIIHH4sI", *fields)
        case _:
            header = {"opus": b"OggS", "flac": b"fLaC", "aac": b"\xff\xf1"}.get(audio_format, b"")
    return [header + SILENCE, *[SILENCE] * (len(texts) - 1)]


def transcribe(parts: list[Part], script: Json) -> Payload:
    """Return the transcription of the file in the form, which says how many bytes the file has, and their hash."""
    return write_down(parts, script, translate=False)


def translate(parts: list[Part], script: Json) -> Payload:
    """Return the same as a translation, which has no usage and no stream."""
    return write_down(parts, script, translate=True)


def write_down(parts: list[Part], script: Json, *, translate: bool) -> Payload:
    fields = forms.fields(parts)
    files = [part for part in parts if part.name == "file"]
    if not files:
        raise ErrorResponse(400, payloads.MISSING_AUDIO)
    file = files[-1]
    if (file.filename or "").rpartition(".")[2].lower() not in AUDIO_FILES:
        raise ErrorResponse(400, payloads.UNKNOWN_AUDIO_FORMAT)
    result = fields.get("response_format") or "json"
    if result not in FORMATS:
        raise ErrorResponse(400, payloads.invalid_value("response_format", result, FORMATS))
    default = f"You sent {file.size} bytes as {file.filename}. Their SHA-256 begins with {file.sha256[:16]}."
    text = script.get("reply") or default
    chunks = model.split(text)
    seconds = file.size / FILE_RATE
    usage = payloads.scripted_usage(token_usage(fields.get("prompt") or "", seconds, chunks), script)
    if fields.get("stream") == "true" and not translate:
        events: list[Json] = [{"type": "transcript.text.delta", "delta": chunk} for chunk in chunks]
        events.append({"type": "transcript.text.done", "text": text, "usage": usage})
        return payloads.end_with_error([*map(encode, events)], script)
    if error := script.get("error"):
        return payloads.stream_error(error)
    if result == "verbose_json":
        return verbose(text, seconds, translate=translate)
    if result == "json":
        return {"text": text} if translate else {"text": text, "usage": usage}
    return Content("text/plain; charset=utf-8", [subtitles(result, text, seconds).encode()])


def subtitles(result: str, text: str, seconds: float) -> str:
    match result:
        case "srt":
            return f"1\n{timestamp(0, ',')} --> {timestamp(seconds, ',')}\n{text}\n\n"
        case "vtt":
            return f"WEBVTT\n\n{timestamp(0, '.')} --> {timestamp(seconds, '.')}\n{text}\n\n"
    return f"{text}\n"


def token_usage(prompt: str, seconds: float, chunks: list[str]) -> Json:
    audio_tokens, text_tokens = math.ceil(seconds * TOKENS_PER_SECOND), len(prompt) // 4
    return {
        "type": "tokens",
        "input_tokens": audio_tokens + text_tokens,
        "input_token_details": {"audio_tokens": audio_tokens, "text_tokens": text_tokens},
        "output_tokens": len(chunks),
        "total_tokens": audio_tokens + text_tokens + len(chunks),
    }


def verbose(text: str, seconds: float, *, translate: bool) -> Json:
    """Return a transcription with its segments. Models that have it report the duration as their usage."""
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.1,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
    return {
        "task": "translate" if translate else "transcribe",
        "language": "english",
        "duration": seconds,
        "text": text,
        "segments": [segment],
        **({} if translate else {"usage": {"type": "duration", "seconds": math.ceil(seconds)}}),
    }


def timestamp(seconds: float, point: str) -> str:
    """Return the time as subtitles have it, such as 00:01:02.500. `point` separates the milliseconds."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{whole:02}{point}{milliseconds:03}"


def encode(event: Json) -> Event:
    has_output = event["type"].endswith(".delta")
    return Event(json.dumps(event, ensure_ascii=False), has_output=has_output, usage=event.get("usage"))
