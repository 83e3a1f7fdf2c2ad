# Every image of mce, one target each: router, operator.
#   docker build --target router .        buildah bud --target router .
# Nothing here needs BuildKit. BASE is any Debian-like image whose python3 is 3.11 or newer.
ARG BASE=docker.io/library/debian:bookworm-slim

# What every image has: the interpreter, and no package that only a build needs.
FROM ${BASE} AS python
RUN (command -v python3 > /dev/null || (apt-get update && apt-get install -y --no-install-recommends python3)) \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/dpkg.log /var/log/apt
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# uv in a virtual environment of its own, and the sources. Byte code is compiled here, since the images run with a
# read-only root and would otherwise compile at every start.
FROM python AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv \
    && python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.9'
ENV UV_PROJECT_ENVIRONMENT=/venv UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./

# The libraries first, from the lock alone: an edit of the sources does not fetch them again.
FROM build AS build-router
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-install-project --extra router --extra otel
COPY api api
COPY kit kit
COPY operator operator
COPY router router
COPY local local
COPY cli cli
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable --extra router --extra otel

FROM build AS build-operator
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-install-project --extra operator
COPY api api
COPY kit kit
COPY operator operator
COPY router router
COPY local local
COPY cli cli
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable --extra operator

FROM python AS router
COPY --from=build-router /venv /venv
# For the operator, which names a program of this image in a hook.
ENV PATH=/venv/bin:$PATH
USER 65532:65532
ENTRYPOINT ["/venv/bin/python", "-m", "mce_router"]

FROM python AS operator
COPY --from=build-operator /venv /venv
USER 65532:65532
ENTRYPOINT ["/venv/bin/python", "-m", "mce_operator"]
