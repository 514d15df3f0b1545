"""Run one job on a device: `python runner.py JOB.json RESULT.json`.

This file and the file of one runtime are all that a device needs beside Python 3.8, numpy and that runtime. The job
names the runtime's file and class, the model, `.npy` files of inputs, and what is wanted: the outputs for every sample
(written as `.npy` files), the latency of one batch (raw times, nothing summarised), or both. Labels never come here.

A runtime's class offers `prepare_imports()`, `(model, threads, precision, specs)`, `inputs`, `outputs` (lists of dicts
with name, dtype, shape, quantization), `bind(feeds) -> callable` that runs one inference and returns the outputs in
order, and `facts()`.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import platform
import sys
import time

SCHEMA = "edgekit-runner/1"
DISTINCT_BATCHES = 16  # inputs the timed loop cycles through
WARMUP_BLOCK_SECONDS = 0.02


class Refused(Exception):
    """The job cannot be done; `kind` is missing (a package), model (it does not load), or input (it does not fit)."""

    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


def main(job_path, result_path):
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    result = {"schema": SCHEMA, "error": None}
    try:
        result.update(work(job))
    except Refused as error:
        result["error"] = {"kind": error.kind, "what": str(error)}
    except MemoryError:
        result["error"] = {"kind": "memory", "what": "out of memory"}
    part = result_path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(part, result_path)


def work(job):
    """The whole job; returns the result's entries."""
    import numpy as np

    runtime_class = load_class(job["runtime_file"], job["runtime_class"])
    try:
        runtime_class.prepare_imports()
    except ImportError as error:
        raise Refused("missing", str(error)) from error
    arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in job["inputs"].items()}
    floor = peak_rss_bytes()
    started = time.perf_counter_ns()
    try:
        session = runtime_class(job["model"], job["threads"], job["precision"], job["specs"])
    except MemoryError:
        raise
    except Exception as error:
        raise Refused("model", one_line(error)) from error
    load_ms = (time.perf_counter_ns() - started) / 1e6
    feeds = matched(session.inputs, arrays)
    result = {"load_ms": load_ms, "floor_rss_bytes": floor, "outputs": {}}
    try:
        if job["latency"]:
            result.update(measure(session, feeds, job["latency"]))
        if job["outputs"]:
            result["outputs"] = all_outputs(session, feeds, job["outputs"]["folder"], job["outputs"]["batch"])
    except (MemoryError, Refused):
        raise
    except Exception as error:
        raise Refused("run", one_line(error)) from error
    result["peak_rss_bytes"] = peak_rss_bytes()
    result["facts"] = dict(session.facts(), python=platform.python_version(), numpy=np.__version__)
    return result


def load_class(path, name):
    spec = importlib.util.spec_from_file_location("edgekit_runtime", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def matched(specs, arrays):
    """Spec → array pairs: by name, or the only one to the only one. Raises Refused, both lists shown."""
    if len(specs) == 1 and len(arrays) == 1:
        return [(specs[0], next(iter(arrays.values())))]
    wanted, given = sorted(spec["name"] for spec in specs), sorted(arrays)
    if wanted != given:
        raise Refused("input", "the model takes %s; the samples hold %s" % (", ".join(wanted), ", ".join(given)))
    return [(spec, arrays[spec["name"]]) for spec in specs]


def batches(feeds, size):
    """Dictionaries of contiguous batches in the dtype the model takes; the last one may be short."""
    count = min(len(array) for _, array in feeds)
    for first in range(0, count, size):
        yield {spec["name"]: as_input(array[first : first + size], spec) for spec, array in feeds}


def as_input(array, spec):
    """A batch as the model takes it: cast, and quantized where the tensor is stored as integers."""
    import numpy as np

    shape = spec["shape"]
    if len(array.shape) != len(shape) or any(s not in (None, a) for s, a in zip(shape[1:], array.shape[1:])):
        raise Refused(
            "input", "%s takes %s per sample; the samples are %s" % (spec["name"], shape[1:], list(array.shape[1:]))
        )
    if spec.get("quantization"):
        scale, zero_point = spec["quantization"]
        limits = np.iinfo(spec["dtype"])
        stored = np.rint(np.asarray(array, np.float32) / np.float32(scale)) + zero_point
        return np.ascontiguousarray(np.clip(stored, limits.min, limits.max).astype(spec["dtype"]))
    return np.ascontiguousarray(array, dtype=spec["dtype"])


def as_output(array, spec):
    """An output as real numbers: scale * (stored - zero_point) where it is stored as integers."""
    import numpy as np

    if spec.get("quantization"):
        scale, zero_point = spec["quantization"]
        return (np.asarray(array, np.float32) - np.float32(zero_point)) * np.float32(scale)
    return np.asarray(array)


def padded(feed, size):
    """The batch filled up to `size` by repeating its last sample."""
    import numpy as np

    return {
        name: array if len(array) == size else np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
        for name, array in feed.items()
    }


def fixed_batch(specs):
    """The batch the model insists on, or None where its first axis is dynamic."""
    return next((spec["shape"][0] for spec in specs if spec["shape"] and spec["shape"][0] is not None), None)


def all_outputs(session, feeds, folder, batch):
    """Run every sample once; each output goes to a `.npy` file of shape (samples, …)."""
    import numpy as np

    count = min(len(array) for _, array in feeds)
    fixed = fixed_batch(session.inputs)
    files = {}
    done = 0
    for feed in batches(feeds, fixed or batch):
        taken = len(next(iter(feed.values())))
        outputs = session.bind(padded(feed, fixed or taken))()
        for index, (spec, value) in enumerate(zip(session.outputs, outputs)):
            value = as_output(value, spec)
            if value.ndim == 0 or len(value) != (fixed or taken):
                what = "output %s has shape %s: its first axis is not the batch" % (spec["name"], list(value.shape))
                raise Refused("run", what)
            if index not in files:
                path = os.path.join(folder, "output%d.npy" % index)
                shape = (count,) + value.shape[1:]
                files[index] = (path, np.lib.format.open_memmap(path, "w+", value.dtype, shape))
            files[index][1][done : done + taken] = value[:taken]
        done += taken
    for _, array in files.values():
        array.flush()
    return {session.outputs[index]["name"]: path for index, (path, _) in files.items()}


def measure(session, feeds, plan):
    """Raw times of single inferences over real samples, after a warm-up that lasts until the times are steady."""
    size = fixed_batch(session.inputs) or plan["batch"]
    calls = []
    for feed in batches(feeds, size):
        if len(calls) == DISTINCT_BATCHES:
            break
        calls.append(session.bind(padded(feed, size)))
    clock = time.perf_counter_ns
    started = clock()
    calls[0]()
    first_ms = (clock() - started) / 1e6
    gc.collect()
    gc.disable()
    warmups, steady = warm_up(calls, plan["warmup_seconds"])
    times = []
    watch = Watch()
    stop = clock() + int(plan["seconds"] * 1e9)
    index = 0
    while True:
        call = calls[index % len(calls)]
        before = clock()
        call()
        after = clock()
        times.append(after - before)
        index += 1
        if after >= stop and index >= plan["min_runs"]:
            break
    gc.enable()
    return {
        "first_ms": first_ms,
        "warmups": warmups,
        "steady": steady,
        "times_ns": times,
        "batch": size,
        "watch": watch.seen(),
    }


def warm_up(calls, seconds):
    """Run for `seconds`, then on until two blocks' medians agree within 3 %, or ten times as long: (runs, steady)."""
    clock = time.perf_counter_ns
    started, runs, medians = clock(), 0, []
    while True:
        block, times = clock(), []
        while not times or clock() - block < WARMUP_BLOCK_SECONDS * 1e9:
            before = clock()
            calls[runs % len(calls)]()
            times.append(clock() - before)
            runs += 1
        medians.append(sorted(times)[len(times) // 2])
        elapsed = (clock() - started) / 1e9
        steady = len(medians) >= 3 and max(medians[-3:]) <= 1.03 * min(medians[-3:])
        if elapsed >= seconds and steady:
            return runs, True
        if elapsed >= 10 * seconds:
            return runs, False


class Watch:
    """What else the machine did between making this and asking: raw counters, judged on the host."""

    def __init__(self):
        self._cpu, self._wall = time.process_time_ns(), time.perf_counter_ns()
        self._steal, self._throttled = steal_ticks(), throttle_count()

    def seen(self):
        """cpu_share: CPU time of this process per wall time; steal_share: of all CPU time, what a hypervisor took."""
        cpu, wall = time.process_time_ns() - self._cpu, time.perf_counter_ns() - self._wall
        steal, total = (after - before for before, after in zip(self._steal, steal_ticks()))
        return {
            "cpu_share": cpu / wall,
            "steal_share": steal / total if total else 0.0,
            "throttled": throttle_count() - self._throttled,
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        }


def steal_ticks():
    """(stolen, total) ticks over all CPUs (proc(5), the first line of /proc/stat); zeros where there is none."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return ticks[7], sum(ticks)
    except (OSError, ValueError, IndexError):
        return 0, 0


def throttle_count():
    """How often the cores were slowed for heat since boot, where the kernel counts it (x86)."""
    total = 0
    for cpu in range(os.cpu_count() or 1):
        try:
            path = "/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count" % cpu
            with open(path, encoding="ascii") as file:
                total += int(file.read())
        except (OSError, ValueError):
            return total
    return total


def peak_rss_bytes():
    """The process's high-water mark. /proc counts from exec; getrusage would include the parent's on Linux."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def one_line(error):
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
