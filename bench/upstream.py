"""Run a fast simulator of Azure OpenAI that validates nothing: `python -m bench.upstream PORT`.

The request's `user` field may set `latency=SECONDS chunks=N pace=SECONDS`. With `chunks` the response is a stream, and
`pace` is the wait before each chunk. An event without output comes first, without a wait.
"""

import asyncio
import re
import sys

from aiohttp import web

RESPONSE = (
    b'{"choices":[{"content_filter_results":{},"finish_reason":"stop","index":0,"logprobs":null,"message":{"content":"'
    + b"All work and no play. " * 12
    + b'","refusal":null,"role":"assistant"}}],"created":1732340000,"id":"chatcmpl-bench","model":"bench",'
    b'"object":"chat.completion","system_fingerprint":"fp","usage":{"completion_tokens":60,"prompt_tokens":8,"total_tokens":68}}'
)
# Azure's first event has no output.
PREAMBLE = b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[]}\n\n'
CHUNK = (
    b'data: {"choices":[{"content_filter_results":{},"delta":{"content":" chunk"},"finish_reason":null,"index":0,'
    b'"logprobs":null}],"created":1732340000,"id":"chatcmpl-bench","model":"bench","object":"chat.completion.chunk"}\n\n'
)
END = CHUNK.replace(b'{"content":" chunk"},"finish_reason":null', b'{},"finish_reason":"stop"') + b"data: [DONE]\n\n"
OPTIONS = re.compile(rb"(latency|chunks|pace)=([0-9.]+)")


class Upstream:
    """Respond to chats, and count the calls in flight."""

    def __init__(self) -> None:
        self.in_flight = self.peak = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            body = await request.read()
            options = {name: float(value) for name, value in OPTIONS.findall(body[:200])}
            await asyncio.sleep(options.get(b"latency", 0))
            if b"chunks" not in options:
                return web.Response(body=RESPONSE, content_type="application/json")
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(PREAMBLE)
            for _ in range(int(options[b"chunks"])):
                if b"pace" in options:
                    await asyncio.sleep(options[b"pace"])
                await response.write(CHUNK)
            await response.write(END)
            return response
        finally:
            self.in_flight -= 1

    async def report_peak(self, _: web.Request) -> web.Response:
        """Return the highest number of concurrent calls since the last report."""
        peak, self.peak = self.peak, 0
        return web.json_response({"peak": peak})


def main() -> None:
    upstream = Upstream()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/peak", upstream.report_peak)
    application.router.add_post("/{path:.*}", upstream.chat)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
