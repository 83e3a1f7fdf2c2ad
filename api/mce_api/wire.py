"""The SageMaker wire in constants: header names, paths, limits. One place per name.

Sources: the botocore service model ``sagemaker-runtime`` 2017-05-13 (headers, body limit), the SageMaker developer
guide (container contract, pipeline limits). Header names are lower-case bytes because that is how the router compares
them.
"""

from typing import Final

# --- request headers (botocore: InvokeEndpointInput, InvokeEndpointWithResponseStreamInput)
TARGET_CONTAINER: Final = b"x-amzn-sagemaker-target-container-hostname"
TARGET_MODEL: Final = b"x-amzn-sagemaker-target-model"
TARGET_VARIANT: Final = b"x-amzn-sagemaker-target-variant"
CUSTOM_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"
INFERENCE_ID: Final = b"x-amzn-sagemaker-inference-id"
SESSION_ID: Final = b"x-amzn-sagemaker-session-id"
ENABLE_EXPLANATIONS: Final = b"x-amzn-sagemaker-enable-explanations"

STREAM_ACCEPT: Final = b"x-amzn-sagemaker-accept"
"""Accept of a streamed invocation."""
TRACE: Final = b"x-mce-trace"
"""Ours: with the value 1 the answer has a Server-Timing header."""

# --- response headers
STREAM_CONTENT_TYPE: Final = b"X-Amzn-SageMaker-Content-Type"
EVENT_STREAM: Final = b"application/vnd.amazon.eventstream"
REQUEST_ID: Final = "x-amzn-RequestId"
ERROR_TYPE: Final = "x-amzn-ErrorType"
INVOKED_VARIANT: Final = "x-Amzn-Invoked-Production-Variant"
REASON: Final = "x-mce-reason"

TARGET_CONTAINER_HEADER: Final = "X-Amzn-SageMaker-Target-Container-Hostname"

# --- container contract (developer guide, "Custom Inference Code with Hosting Services")
PING_PATH: Final = "/ping"
INVOCATIONS_PATH: Final = "/invocations"
CONTAINER_PATH_PATTERN: Final = r"^(/[A-Za-z0-9_~:-][A-Za-z0-9._~:-]*)*/?$"
"""A path that a container may serve these at instead: no empty segment, none that begins with a dot, no escapes, no
query. So every server reads it alike. The empty string is kept out by its length."""
CONTAINER_PATH_MAX_LENGTH: Final = 256
BIND_TO_PORT: Final = "SAGEMAKER_BIND_TO_PORT"
SAFE_PORT_RANGE: Final = "SAGEMAKER_SAFE_PORT_RANGE"
PING_TIMEOUT_SECONDS: Final = 2.0
PING_INTERVAL_SECONDS: Final = 5.0

# --- limits
MAX_CONTAINERS: Final = 15
MAX_BODY_BYTES: Final = 6 * 1024 * 1024
"""Largest request or response body (botocore: BodyBlob max 6291456)."""
MAX_HOP_BYTES: Final = 5 * 1024 * 1024
"""Largest body handed from one Serial container to the next (developer guide, pipeline troubleshooting)."""
MAX_CONTAINER_HEADER_BYTES: Final = 4096
"""Largest header block that a container may answer with (runtime error text, seen)."""
MAX_MESSAGE_CHARACTERS: Final = 2048
"""Largest Message of an error (botocore: Message max 2048)."""
INVOCATION_TIMEOUT_SECONDS: Final = 60
MIN_LINEAR_STEP_PERCENT: Final = 10
"""Smallest LinearStepSize (developer guide, deployment guardrails)."""
STARTUP_TIMEOUT_SECONDS: Final = 240
MIN_STARTUP_TIMEOUT_SECONDS: Final = 60
MAX_STARTUP_TIMEOUT_SECONDS: Final = 3600

# --- names (botocore: ContainerHostname, EndpointName, VariantName)
NAME_PATTERN: Final = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
NAME_MAX_LENGTH: Final = 63
DEFAULT_VARIANT: Final = "AllTraffic"
