"""Run Microsoft's own Functions runtime for Python, and call it as the host does, but without gRPC."""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime

HOST = "127.0.0.1"


class Message(SimpleNamespace):
    """Replace any protobuf message. The runtime only sets and reads attributes."""

    def WhichOneof(self, group: str) -> str | None:
        """Return the field of the oneof group that is set. Each message here has at most one such field."""
        return next((name for name in vars(self) if name != "name"), None)


class StatusResult(Message):
    Failure = 0
    Success = 1


class BindingInfo(Message):
    # The values of the direction enum. azure.functions uses the same.
    out = 1
    inout = 2
    undefined = 0


# The messages of https://github.com/Azure/azure-functions-language-worker-protobuf that the runtime creates.
PROTOS = SimpleNamespace(
    BindingInfo=BindingInfo,
    FunctionLoadResponse=Message,
    FunctionMetadataResponse=Message,
    InvocationResponse=Message,
    ParameterBinding=Message,
    RpcException=Message,
    RpcFunctionMetadata=Message,
    RpcHttp=Message,
    StatusResult=StatusResult,
    TypedData=Message,
    WorkerInitResponse=Message,
    WorkerMetadata=Message,
)


class FunctionFailed(Exception):
    """Report that a function raised an exception. The text is the runtime's report."""


class WorkerError(Exception):
    """Report that the app could not be loaded. The text is the runtime's report."""


@dataclass(frozen=True)
class Function:
    """Describe a function of the app, with the data of its metadata."""

    id: str
    name: str
    bindings: tuple[dict[str, Any], ...]

    @property
    def trigger(self) -> dict[str, Any]:
        return next(binding for binding in self.bindings if binding["type"].endswith("Trigger"))

    @property
    def is_http(self) -> bool:
        return bool(self.trigger["type"] == "httpTrigger")


class Worker:
    """Run the runtime in this process, with the app in `app_root`. A process can have only one worker."""

    def __init__(self, app_root: Path) -> None:
        self.app_root = app_root
        self.functions: tuple[Function, ...] = ()
        self.server_log_level = logging.WARNING
        self.http_uri = ""
        """The URL at which the runtime accepts the HTTP requests of invocations."""

    async def start(self) -> None:
        """Load the app. Raise `WorkerError` if that fails."""
        sys.path.insert(0, str(self.app_root))
        # Hide the start messages of the runtime's HTTP server. It sets the levels of its loggers later, so use a filter.
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno >= self.server_log_level)
        runtime.start_threadpool_executor()
        init = Message(capabilities={}, function_app_directory=str(self.app_root))
        response = await runtime.worker_init_request(worker_request(worker_init_request=init))
        if response.result.status != StatusResult.Success:
            raise WorkerError(response.result.exception.message)
        self.http_uri = response.capabilities.get("HttpUri", "")
        metadata = await runtime.functions_metadata_request(worker_request())
        self.functions = tuple(
            Function(found.function_id, found.name, tuple(json.loads(raw) for raw in found.raw_bindings))
            for found in metadata.function_metadata_results or ()
        )
        for function in self.functions:
            await runtime.function_load_request(worker_request(function_load_request=Message(function_id=function.id)))

    def stop(self) -> None:
        """Stop the worker. Call this before the event loop cancels the runtime's HTTP server, so that it logs no error."""
        self.server_log_level = logging.CRITICAL
        runtime.stop_threadpool_executor()

    async def invoke(self, function: Function, invocation_id: str, data: Message, traceparent: str = "") -> None:
        """Run `function` with `data` for its trigger. Raise `FunctionFailed` if it raises an exception."""
        invocation = Message(
            invocation_id=invocation_id,
            function_id=function.id,
            input_data=[Message(name=function.trigger["name"], data=data)],
            trigger_metadata={},
            trace_context=Message(trace_parent=traceparent, trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        response = await runtime.invocation_request(worker_request(invocation_request=invocation))
        if response.result.status != StatusResult.Success:
            raise FunctionFailed(
                f"Exception while executing function: Functions.{function.name}. Result: Failure\n"
                f"Exception: {response.result.exception.message}"
            )


def worker_request(**message: Message) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**message), properties={"host": HOST, "protos": PROTOS})


def http_trigger_data(route_parameters: dict[str, str]) -> Message:
    """Return the data of an HTTP trigger whose request is forwarded: only the route parameters."""
    body = Message(bytes=b"")
    return Message(http=Message(method="", url="", headers={}, body=body, params=route_parameters, query={}))
