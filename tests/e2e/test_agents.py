"""Test that the loops of agents end by themselves: each turn calls a tool, until the model has its result."""

import asyncio
import json
import os
import subprocess
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

from tests.support.gateway_calls import attempts
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.processes import Simulator
from tests.support.upstreams import CALLER_KEY, Gateway

VERSIONS = ["2025-04-01-preview", "v1"]
# More turns than any loop may take.
MAX_TURNS = 6
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def weather(city: str) -> str:
    """Return the weather in `city`."""
    return f"sunny in {city}"


@pytest.fixture(params=VERSIONS)
def connection(request: pytest.FixtureRequest, gateway: Gateway, model: Simulator) -> dict[str, Any]:
    """Return the options with which clients connect to the app."""
    gateway.configure(model.url, AZURE_OPENAI_API_VERSION=request.param)
    return {"base_url": f"{gateway.app.url}/api/v1", "api_key": CALLER_KEY, "max_retries": 0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("responses", [False, True])
def test_a_loop_of_langchain_ends(connection: Any, model: Simulator, responses: bool, stream: bool) -> None:
    chat = ChatOpenAI(model="chat", use_responses_api=responses, streaming=stream, **connection).bind_tools([tool(weather)])
    messages: list[Any] = [HumanMessage("How is the weather?")]
    for _ in range(MAX_TURNS):
        messages.append(chat.invoke(messages))
        calls = messages[-1].tool_calls
        messages += [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in calls]
        if not calls:
            break
    assert "sunny in text" in messages[-1].text
    assert attempts([model]) == [2]


@pytest.mark.parametrize("stateful", [False, True])
def test_a_loop_with_responses_ends(connection: Any, model: Simulator, stateful: bool) -> None:
    with OpenAI(**connection) as client:
        items: list[Any] = [{"role": "user", "content": "How is the weather?"}]
        sent, previous = items, None
        for _ in range(MAX_TURNS):
            response = client.responses.create(
                model="chat", input=sent, tools=[WEATHER], previous_response_id=previous, store=stateful
            )
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            results = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
            items += [*(call.to_dict() for call in calls), *results]
            sent, previous = (results, response.id) if stateful else (items, None)
    assert "sunny" in response.output_text
    assert attempts([model]) == [2]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["OpenAIResponsesModel", "OpenAIChatCompletionsModel"])
@pytest.mark.parametrize("choice", [None, "required"])
def test_a_loop_of_openai_agents_ends(
    connection: Any, model: Simulator, kind: str, choice: str | None, stream: bool
) -> None:
    agents: Any = pytest.importorskip("agents", reason="needs openai-agents")
    agents.set_tracing_disabled(True)

    async def run() -> Any:
        async with AsyncOpenAI(**connection) as client:
            agent = agents.Agent(
                name="agent",
                tools=[agents.function_tool(weather)],
                model=getattr(agents, kind)("chat", client),
                model_settings=agents.ModelSettings(tool_choice=choice),
            )
            if not stream:
                return await agents.Runner.run(agent, "How is the weather?", max_turns=MAX_TURNS)
            result = agents.Runner.run_streamed(agent, "How is the weather?", max_turns=MAX_TURNS)
            assert [event async for event in result.stream_events()]
            return result

    assert "sunny in text" in asyncio.run(run()).final_output
    assert attempts([model]) == [2]


@needs_node
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("agent.js", {"calls": ["text", "text"], "replies": [True, True]}),
        ("ai_sdk.js", [[2, "stop", True]] * 4),
    ],
)
def test_the_loops_of_javascript_sdks_end(connection: Any, program: str, expected: Any) -> None:
    run = subprocess.run(
        ["node", program],
        cwd=NODE_FOLDER,
        env={"PATH": os.environ["PATH"], "OPENAI_BASE_URL": connection["base_url"], "OPENAI_API_KEY": CALLER_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == expected
