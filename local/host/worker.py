"""Microsoft's own Functions runtime for Python, driven as the host drives it, but without gRPC between them."""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime

HOST_ADDRESS = "127.0.0.1"


class Message(SimpleNamespace):
    """Stands for any protobuf message: the runtime only sets and reads attributes."""

    def WhichOneof(self, group: str) -> str | None:
        """The field that is set; every message with alternatives is made with just one of them."""
        return next((name for name in vars(self) if name != "name"), None)


class StatusResult(Message):
    Failure = 0
    Success = 1


class BindingInfo(Message):
    # The direction as the runtime compares it, and as it comes from azure.functions.
    out = 1
    inout = 2
    undefined = 0


# The messages of https://github.com/Azure/azure-functions-language-worker-protobuf that the runtime makes.
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
    """A function has raised; the text is the runtime's report."""


class WorkerError(Exception):
    """The app could not be loaded; the text is the runtime's report."""


@dataclass(frozen=True)
class Function:
    """A function of the app, as its metadata has it."""

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
    """The runtime in this process, with the app in `app_root` loaded. There can be one per process."""

    def __init__(self, app_root: Path) -> None:
        self.app_root = app_root
        self.functions: tuple[Function, ...] = ()
        self.server_log_level = logging.WARNING
        self.http_uri = ""
        """Where the runtime listens for the HTTP requests that belong to invocations."""

    async def start(self) -> None:
        """Loads the app. Raises `WorkerError` when it cannot be."""
        sys.path.insert(0, str(self.app_root))
        # The runtime's HTTP server reports that it has started. Its loggers get their levels later: hence a filter.
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno >= self.server_log_level)
        runtime.start_threadpool_executor()
        init = Message(capabilities={}, function_app_directory=str(self.app_root))
        response = await runtime.worker_init_request(request(worker_init_request=init))
        if response.result.status != StatusResult.Success:
            raise WorkerError(response.result.exception.message)
        self.http_uri = response.capabilities.get("HttpUri", "")
        metadata = await runtime.functions_metadata_request(request())
        self.functions = tuple(
            Function(found.function_id, found.name, tuple(json.loads(raw) for raw in found.raw_bindings))
            for found in metadata.function_metadata_results or ()
        )
        for function in self.functions:
            await runtime.function_load_request(request(function_load_request=Message(function_id=function.id)))

    def stop(self) -> None:
        """To be called before the loop ends, which cancels the runtime's HTTP server; that is no error to report."""
        self.server_log_level = logging.CRITICAL
        runtime.stop_threadpool_executor()

    async def invoke(self, function: Function, invocation_id: str, data: Message, traceparent: str = "") -> None:
        """Runs `function` with `data` for its trigger. Raises `FunctionFailed`."""
        invocation = Message(
            invocation_id=invocation_id,
            function_id=function.id,
            input_data=[Message(name=function.trigger["name"], data=data)],
            trigger_metadata={},
            trace_context=Message(trace_parent=traceparent, trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        response = await runtime.invocation_request(request(invocation_request=invocation))
        if response.result.status != StatusResult.Success:
            raise FunctionFailed(
                f"Exception while executing function: Functions.{function.name}. Result: Failure\n"
                f"Exception: {response.result.exception.message}"
            )


def request(**message: Message) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**message), properties={"host": HOST_ADDRESS, "protos": PROTOS})


def http_data(route_parameters: dict[str, str]) -> Message:
    """What an HTTP trigger gets when the request itself is forwarded: the route's parameters, nothing else."""
    body = Message(bytes=b"")
    return Message(http=Message(method="", url="", headers={}, body=body, params=route_parameters, query={}))
