"""The model server against calling the taxi model in process, and against a route of the same server that does nothing.

    PYTHONPATH=. python tests/benchmarks/serving.py [--seconds 5] [--repeats 3] [--clients 8] [--data DIRECTORY]

"raw" is `tf.saved_model.load(...).signatures["serving_default"]` called on serialized tf.Examples in a process of its own. The load
comes from another process: requests over connections that are kept, each sent when the one before is answered. Everything is
measured in turn, `repeats` times, and each figure is the median. "batching" is a server with --max-batch-size 64, "complete batches"
one with --max-batch-size CLIENTS --batch-timeout-micros 2000, which waits until every client has asked. "CPU" is the processor time
of the whole server, or of raw's process, for one call: it tells what a call costs on a machine that has other things to do as well.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import evaluator
import harness

ROWS = 64
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(harness.ROOT), "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> None:
    parser = harness.repeated(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    serving = _pushed(args.data)
    version = str(serving / "1")
    many = f"{args.clients} clients"
    waiting = ("--max-batch-size", str(args.clients), "--batch-timeout-micros", "2000")
    found: dict[str, list[dict[str, float]]] = {}
    print(harness.load(), flush=True)
    with (
        _server(serving) as plain,
        _server(serving, "--max-batch-size", str(ROWS)) as batching,
        _server(serving, *waiting) as complete,
    ):
        measurements = {
            "raw, 1 row": ("raw", version, "1"),
            f"raw, {ROWS} rows": ("raw", version, str(ROWS)),
            "nothing, 1 client": ("load", plain, "nothing", "1"),
            "1 row, 1 client": ("load", plain, "1", "1"),
            f"nothing, {many}": ("load", batching, "nothing", str(args.clients)),
            f"1 row, {many}": ("load", plain, "1", str(args.clients)),
            f"1 row, {many}, batching": ("load", batching, "1", str(args.clients)),
            f"1 row, {many}, complete batches": ("load", complete, "1", str(args.clients)),
            f"{ROWS} rows, 1 client": ("load", plain, str(ROWS), "1"),
            f"{ROWS} rows, 2 clients": ("load", plain, str(ROWS), "2"),
        }
        for _ in range(args.repeats):
            for name, arguments in measurements.items():
                found.setdefault(name, []).append(_measured(*arguments, str(args.seconds)))
    medians = {
        name: {key: statistics.median(one[key] for one in every) for key in every[0]} for name, every in found.items()
    }
    print("| | calls/s | rows/s | p50 ms | p99 ms | CPU us |\n|---|---|---|---|---|---|")
    for name, one in medians.items():
        figures = f"{one['calls']:,.0f} | {one['rows']:,.0f} | {one['p50']:.2f} | {one['p99']:.2f} | {one['cpu']:.0f}"
        print(f"| {name} | {figures} |")
    times = medians["1 row, 1 client"]["p99"] / medians["raw, 1 row"]["p99"]
    print(f"\np99 of one row at one client: {times:.2f} times raw's")
    for kind in ("batching", "complete batches"):
        share = medians[f"1 row, {many}, {kind}"]["calls"] / medians[f"nothing, {many}"]["calls"]
        print(f"requests/s of {many} with {kind}: {share:.0%} of nothing's")
    best = max(medians[f"{ROWS} rows, {clients}"]["rows"] for clients in ("1 client", "2 clients"))
    print(f"rows/s in batches of {ROWS}: {best / medians[f'raw, {ROWS} rows']['rows']:.0%} of raw's")
    print(harness.load())


def _pushed(data: Path) -> Path:
    """A serving directory of a taxi model."""
    serving = data / "serving" / "taxi"
    if not (serving / "1").exists():
        data.mkdir(parents=True, exist_ok=True)
        harness.taxi_replicas(15_000, data)
        harness.measure(Path(evaluator.__file__), {"": ("prepare", str(data), "15000")}, 1)
        shutil.copytree(data / "model" / "Format-Serving", serving / "new")
        (serving / "new").rename(serving / "1")
    return serving


@contextmanager
def _server(serving: Path, *options: str) -> Iterator[str]:
    """A server's URL, and behind a # the process that it is."""
    command = [
        sys.executable,
        "-m",
        "pipeline.cli.main",
        "serve",
        str(serving),
        "--rest-port",
        "0",
        "--grpc-port",
        "0",
        *options,
    ]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "http://" in line:
                yield f"{line.split()[-1]}#{process.pid}"
                break
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _measured(kind: str, target: str, *arguments: str) -> dict[str, float]:
    target, _, server = target.partition("#")
    command = [sys.executable, __file__, "--child", kind, target, *arguments]
    begin = _cpu_s(server) if server else 0.0
    done = subprocess.run(command, env=ENVIRONMENT, cwd=harness.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}: ended with {done.returncode}\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if server:
        result["cpu"] = (_cpu_s(server) - begin) / result["asked"] * 1e6
    return result


def _cpu_s(process: str) -> float:
    """The processor time of a process since it began."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def child(arguments: list[str]) -> None:
    if arguments[0] == "raw":
        raw(Path(arguments[1]), int(arguments[2]), float(arguments[3]))
    else:
        load(arguments[1], arguments[2], int(arguments[3]), float(arguments[4]))


def raw(version: Path, rows: int, seconds: float) -> None:
    import tensorflow as tf

    examples = [example()] * rows
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    for _ in range(200):
        signature(examples=tf.constant(examples))["probabilities"].numpy()
    times = []
    cpu = time.process_time()
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        signature(examples=tf.constant(examples))["probabilities"].numpy()
        times.append(time.perf_counter() - begin)
    report(times, rows, seconds, cpu=(time.process_time() - cpu) / len(times) * 1e6)


def example() -> bytes:
    """A trip, serialized."""
    import tensorflow as tf

    from configs.taxi.ask import TRIPS

    features = tf.train.Features()
    for name, value in TRIPS[0].items():
        feature = features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return tf.train.Example(features=features).SerializeToString()


def load(url: str, kind: str, clients: int, seconds: float) -> None:
    """`clients` connections, each with one request at a time; `kind` is a number of rows, or nothing."""
    import uvloop

    host, port = url.split("/")[2].split(":")
    if kind == "nothing":
        request, rows = f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 0
    else:
        rows = int(kind)
        body = json.dumps({"instances": [{"b64": base64.b64encode(example()).decode()}] * rows})
        path = "/" + url.split("/", 3)[3]
        request = f"POST {path}:predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        warm = runner.run(_ask(host, int(port), request, clients, 1.0))  # connections, graphs and caches
        times = runner.run(_ask(host, int(port), request, clients, seconds))
    report(times, rows, seconds, asked=len(warm) + len(times))


async def _ask(host: str, port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.done = asyncio.get_running_loop().create_future()
            self.received = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.send()

        def send(self) -> None:
            self.begin = time.perf_counter()
            self.transport.write(request)

        def data_received(self, data: bytes) -> None:
            self.received += data
            head, found, body = self.received.partition(b"\r\n\r\n")
            if not found or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
                return
            now = time.perf_counter()
            times.append(now - self.begin)
            if not head.startswith(b"HTTP/1.1 200"):
                self.done.set_exception(RuntimeError(self.received.decode()))
            elif now < end:
                self.received = b""
                self.send()
            else:
                self.done.set_result(None)
                self.transport.close()

    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(Client, host, port))[1] for _ in range(clients)]
    await asyncio.gather(*(client.done for client in made))
    return times


def report(times: list[float], rows: int, seconds: float, **more: float) -> None:
    times.sort()
    calls = len(times) / seconds
    p50, p99 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.99))
    print(json.dumps({"calls": calls, "rows": calls * rows, "p50": p50, "p99": p99, **more}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
