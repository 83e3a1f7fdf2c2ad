"""What spans cost: CPU time of one request with one call, in the thread that serves it and in the exporter's.

Run as `.venv/bin/python bench/tracing.py`; no other program is needed. Each row is a process of its own, its figure the
least of 20 batches of 1000, with everything in the processor's caches; and the CPU time that starting a tracer takes.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from mce_router import tracing

BATCHES: Final = 20
REQUESTS: Final = 1000
PARENT: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
CASES: Final = {
    "no-header": (b"", b""),
    "sampled": (PARENT + b"01", b""),
    "sampled-tracestate": (PARENT + b"01", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
    "unsampled": (PARENT + b"00", b""),
}


def least(do: Callable[[], object], *, count: int) -> float:
    """Microseconds of CPU for one of the `count` things that `do` does."""
    best = float("inf")
    for _ in range(BATCHES):
        before = time.thread_time()
        do()
        best = min(best, time.thread_time() - before)
    return best / count * 1e6


def run(case: str) -> None:
    """Measures one case in this process; prints a row."""
    began = time.process_time()
    started = tracing.make({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    starting = time.process_time() - began
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415 - the start is timed
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    from mce_router.spans import Spans  # noqa: PLC0415

    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = Spans(provider)
    parent, state = CASES[case]

    def requests() -> None:
        kept.clear()
        for _ in range(REQUESTS):
            trace = tracer.request(parent, state, b"12345678-1234-4123-a123-000000000001", "mnist", "mnist")
            trace.hop("one")
            trace.hop_done(status=200, reason="")
            trace.done(status=200, reason="")

    serving = least(requests, count=REQUESTS)
    spans = kept.get_finished_spans()
    encoding = least(lambda: encode_spans(spans).SerializePartialToString(), count=REQUESTS) if spans else 0.0
    print(f"{case:20}{serving:10.1f}{encoding:12.1f}{starting * 1000:12.0f}")
    if started is not None:
        started.close(1.0)


def main() -> None:
    """All cases, or in a child the one that is named."""
    if len(sys.argv) > 1:
        run(sys.argv[1])
        return
    print(f"{'case':20}{'serving us':>10}{'encoding us':>12}{'start ms':>12}", flush=True)
    for case in CASES:
        subprocess.run([sys.executable, __file__, case], check=True)


if __name__ == "__main__":
    main()
