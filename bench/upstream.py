"""A fast simulator of Azure OpenAI: `python -m bench.upstream PORT`. It checks nothing.

What it does is asked for in the request's `user` field: `latency=SECONDS chunks=N pace=SECONDS`.
"""

import asyncio
import re
import sys

from aiohttp import web

ANSWER = (
    b'{"choices":[{"content_filter_results":{},"finish_reason":"stop","index":0,"logprobs":null,"message":{"content":"'
    + b"All work and no play. " * 12
    + b'","refusal":null,"role":"assistant"}}],"created":1732340000,"id":"chatcmpl-bench","model":"bench",'
    b'"object":"chat.completion","system_fingerprint":"fp","usage":{"completion_tokens":60,"prompt_tokens":8,"total_tokens":68}}'
)
CHUNK = (
    b'data: {"choices":[{"content_filter_results":{},"delta":{"content":" piece"},"finish_reason":null,"index":0,'
    b'"logprobs":null}],"created":1732340000,"id":"chatcmpl-bench","model":"bench","object":"chat.completion.chunk"}\n\n'
)
END = CHUNK.replace(b'{"content":" piece"},"finish_reason":null', b'{},"finish_reason":"stop"') + b"data: [DONE]\n\n"
ASKED = re.compile(rb"(latency|chunks|pace)=([0-9.]+)")


class Upstream:
    """Counts the calls in flight, so that a run can see how many were."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            body = await request.read()
            asked = {name: float(value) for name, value in ASKED.findall(body[:200])}
            await asyncio.sleep(asked.get(b"latency", 0))
            if b"chunks" not in asked:
                return web.Response(body=ANSWER, content_type="application/json")
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for _ in range(int(asked[b"chunks"])):
                if b"pace" in asked:
                    await asyncio.sleep(asked[b"pace"])
                await response.write(CHUNK)
            await response.write(END)
            return response
        finally:
            self.in_flight -= 1

    async def tell(self, _: web.Request) -> web.Response:
        """The most calls that were in flight at once since this was asked last."""
        most, self.most = self.most, 0
        return web.json_response({"most": most})


def main() -> None:
    upstream = Upstream()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_get("/most", upstream.tell)
    application.router.add_post("/{path:.*}", upstream.answer)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
