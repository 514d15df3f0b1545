"""Run one job on a device: `python runner.py JOB.json RESULT.json`.

This file and the file of one runtime are all that a device needs beside Python 3.8, numpy and that runtime. The job
names the runtime's file and class, the model, `.npy` files of inputs, and what is wanted: the outputs for every sample
(written as `.npy` files), the latency of one batch (raw times, nothing summarised), the time of each operator, or
several of these. Labels never come here.

Samples of as many axes as the model's input lie along its first axis, the batch; with one axis more, each sample is
the whole input (a scalar, a state, an image without a batch axis) and the model is run on one at a time.

A runtime's class offers `prepare_imports()`, `(model, threads, precision, specs)`, `inputs`, `outputs` (lists of dicts
with name, dtype, shape, quantization), `bind(feeds) -> callable` that runs one inference and returns the outputs in
order, and `facts()`. One whose runtime tells each operator's time offers `profile(model, folder, repeat)`.
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
# inferences before a profile, and how long, how often at least and at most those in it are repeated
PROFILE_WARM_UPS, PROFILE_SECONDS, PROFILE_LEAST, PROFILE_MOST = 3, 0.5, 10, 500
THROTTLES = "/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count"
#: what samples can hold
DTYPES = tuple("bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split())


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
    if job.get("driver"):
        session = load_class(job["driver"]["file"], job["driver"]["class"])(session, job["driver"]["settings"])
    feeds = matched(session.inputs, arrays)
    result = {"load_ms": load_ms, "floor_rss_bytes": floor, "outputs": {}}
    try:
        sensors = load_module(job["sensors"]) if job.get("sensors") else None
        if job["latency"]:
            result.update(measure(session, feeds, job["latency"], sensors))
        if job.get("sustained"):
            result["sustained"] = sustained(session, feeds, job["sustained"], sensors)
        if job.get("profile"):
            result["profile"] = profiled(runtime_class, job["model"], feeds, job["profile"]["folder"])
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
    return getattr(load_module(path), name)


def load_module(path):
    spec = importlib.util.spec_from_file_location("edgekit_runtime", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def matched(specs, arrays):
    """Spec → array pairs: by name, or the only one to the only one. Raises Refused, both lists shown."""
    if len(specs) == 1 and len(arrays) == 1:
        pairs = [(specs[0], next(iter(arrays.values())))]
    else:
        wanted, given = sorted(spec["name"] for spec in specs), sorted(arrays)
        if wanted != given:
            raise Refused("input", "the model takes %s; the samples hold %s" % (", ".join(wanted), ", ".join(given)))
        pairs = [(spec, arrays[spec["name"]]) for spec in specs]
    for spec, array in pairs:
        check(spec, array)
    return pairs


def check(spec, array):
    """Raises Refused where the samples are not what this input takes."""
    name, shape = spec["name"], spec["shape"]
    if spec["dtype"] not in DTYPES:
        raise Refused("input", "%s takes %s: only numbers and truth values can be given" % (name, spec["dtype"]))
    if array.dtype.kind not in "biuf":
        raise Refused("input", "%s takes %s; the samples are of type %s" % (name, spec["dtype"], array.dtype))
    wanted = shape if whole(spec, array) else shape[1:]
    fits = len(array.shape) == len(wanted) + 1 and all(w in (None, a) for w, a in zip(wanted, array.shape[1:]))
    if not fits:
        what = "%s takes %s per sample; the samples are %s" % (name, shape[1:], list(array.shape[1:]))
        raise Refused("input", what)


def whole(spec, array):
    """Is each sample all of the input, since it has an axis more? Else the input's first axis is the batch."""
    return len(array.shape) > len(spec["shape"])


def fixed_batch(feeds):
    """The batch the model insists on, None where it is open; inputs that a sample fills wholly are fed one by one."""
    sizes = {1 if whole(spec, array) else spec["shape"][0]: spec["name"] for spec, array in feeds}
    fixed = sorted(size for size in sizes if size is not None)
    if fixed and fixed[-1] > 1 and len(sizes) > 1:
        what = "%s takes %d rows where others take another number" % (sizes[fixed[-1]], fixed[-1])
        raise Refused("input", what + ": give each sample of it whole, as (samples, %d, …)" % fixed[-1])
    return fixed[0] if fixed else None


def batches(feeds, size):
    """(samples in it, dictionary of contiguous arrays in the dtype the model takes); the last one may be short."""
    count = min(len(array) for _, array in feeds)
    for first in range(0, count, size):
        parts = {s["name"]: (s, a[first] if whole(s, a) else a[first : first + size]) for s, a in feeds}
        yield min(size, count - first), {name: as_input(array, spec) for name, (spec, array) in parts.items()}


def as_input(array, spec):
    """A batch as the model takes it: cast, and quantized where the tensor is stored as integers."""
    import numpy as np

    if spec.get("quantization"):
        scale, zero_point = spec["quantization"]
        limits = np.iinfo(spec["dtype"])
        stored = np.rint(np.asarray(array, np.float32) / np.float32(scale)) + zero_point
        return np.asarray(np.clip(stored, limits.min, limits.max).astype(spec["dtype"]), order="C")
    with np.errstate(invalid="ignore"):
        cast = np.asarray(array, dtype=spec["dtype"], order="C")
    if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
        lost = np.asarray(array)[cast != array].flat[0]
        raise Refused("input", "%s takes %s; the samples hold %s" % (spec["name"], spec["dtype"], lost))
    return cast


def as_output(array, spec):
    """An output as real numbers: scale * (stored - zero_point) where it is stored as integers."""
    import numpy as np

    array = array if isinstance(array, (list, dict)) else np.asarray(array)
    if isinstance(array, (list, dict)) or array.dtype.kind not in "biuf":
        raise Refused("run", "output %s is no tensor of numbers" % spec["name"])
    if spec.get("quantization"):
        scale, zero_point = spec["quantization"]
        return (np.asarray(array, np.float32) - np.float32(zero_point)) * np.float32(scale)
    return array


def padded(feed, taken, size):
    """The batch of `taken` samples filled up to `size` by repeating its last one."""
    import numpy as np

    if taken == size:
        return feed
    return {name: np.concatenate([a, np.repeat(a[-1:], size - taken, axis=0)]) for name, a in feed.items()}


def all_outputs(session, feeds, folder, batch):
    """Run every sample once; each output goes to a `.npy` file of shape (samples, …).

    Where samples cannot share an inference they are run one at a time: an output whose first axis is 1 is then the
    sample's row, any other is the sample's as it is.
    """
    import numpy as np

    count = min(len(array) for _, array in feeds)
    fixed = fixed_batch(feeds)
    size = fixed or (batch if batch > 1 and count > 1 and independent(session, feeds) else 1)
    kept = {}
    done = 0
    for taken, feed in batches(feeds, size):
        ran = fixed or taken
        outputs = session.bind(padded(feed, taken, ran))()
        for index, (spec, value) in enumerate(zip(session.outputs, outputs)):
            value = as_output(value, spec)
            if size == 1:
                value = value if value.ndim and len(value) == 1 else value[None]
            elif value.ndim == 0 or len(value) != ran:
                what = "output %s has shape %s: its first axis is not the batch" % (spec["name"], list(value.shape))
                raise Refused("run", what + ", so give each sample whole, with an axis more")
            if index not in kept:
                path = os.path.join(folder, "output%d.npy" % index)
                shape = (count,) + value.shape[1:]
                kept[index] = (path, np.lib.format.open_memmap(path, "w+", value.dtype, shape))
            rows = kept[index][1]
            if rows.shape[1:] != value.shape[1:]:
                shapes = "%s, then %s" % (list(rows.shape[1:]), list(value.shape[1:]))
                raise Refused("run", "output %s changes its shape between samples: %s" % (spec["name"], shapes))
            rows[done : done + taken] = value[:taken]
        done += taken
        for array in [a for _, a in feeds] + [a for _, a in kept.values()]:
            let_go(array)
    for _, array in kept.values():
        array.flush()
    return {session.outputs[index]["name"]: path for index, (path, _) in kept.items()}


def independent(session, feeds):
    """Does a model whose batch is open give a sample the same answer beside another as alone?

    Not where its first axis is time, where a shape of one sample was traced into it, or where an activation's range is
    taken over the whole batch.
    """
    import numpy as np

    _, pair = next(batches(feeds, 2))
    try:
        beside = session.bind(pair)()
    except MemoryError:
        raise
    except Exception:  # whatever it raises, it does not take two
        return False
    alone = session.bind({name: array[1:] for name, array in pair.items()})()
    for spec, two, one in zip(session.outputs, beside, alone):
        two, one = as_output(two, spec), as_output(one, spec)
        if two.ndim == 0 or one.ndim == 0 or len(two) != 2 or one.shape != (1,) + two.shape[1:]:
            return False
        a, b = two[1:].astype(np.float64), one.astype(np.float64)
        largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        if not np.allclose(a, b, rtol=1e-2, atol=1e-3 * largest + 1e-6, equal_nan=True):
            return False
    return True


def let_go(array: object) -> None:
    """Take a memory-mapped array's pages out of this process, so that its memory does not grow with the samples."""
    import mmap

    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def measure(session, feeds, plan, sensors=None):
    """Raw times of single inferences over real samples, after a warm-up that lasts until the times are steady."""
    size, calls = bound(session, feeds, plan["batch"])
    clock = time.perf_counter_ns
    started = clock()
    calls[0]()
    first_ms = (clock() - started) / 1e6
    gc.collect()
    gc.disable()
    warmups, steady = warm_up(calls, plan["warmup_seconds"])
    times = []
    watch = Watch()
    energy = sensors.Energy(sampling=False) if sensors else None
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
    joules = energy.joules() if energy else None
    gc.enable()
    return {
        "first_ms": first_ms,
        "warmups": warmups,
        "steady": steady,
        "times_ns": times,
        "batch": size,
        "watch": watch.seen(),
        "energy_mj": 1e3 * joules / len(times) if joules is not None else None,
        "energy_source": energy.source if joules is not None else "",
    }


def bound(session, feeds, batch):
    """(samples per inference, calls over different ones)."""
    size, calls = fixed_batch(feeds) or batch, []
    for taken, feed in batches(feeds, size):
        if len(calls) == DISTINCT_BATCHES:
            break
        calls.append(session.bind(padded(feed, taken, size)))
    return size, calls


def sustained(session, feeds, plan, sensors):
    """Inference after inference for `seconds`, one entry per window of time: what a long load does to the device.

    Windows are summarised here: ten minutes hold millions of times. `seconds` are those from the start to a window's
    middle, `throttled` whether the clock was held back in it.
    """
    _, calls = bound(session, feeds, plan["batch"])
    found = {name: [] for name in ("seconds", "p50_ms", "p90_ms", "inferences", "temperature_c", "frequency_mhz")}
    found["throttled"], found["power_w"] = [], []
    clock, energy = time.perf_counter_ns, sensors.Energy(sampling=True)
    gc.collect()
    gc.disable()
    start, total, joules, slowed = clock(), 0, energy.joules(), throttle_count()
    first_joules = joules
    while clock() - start < plan["seconds"] * 1e9:
        opened, times = clock(), []
        stop = min(opened + int(plan["window"] * 1e9), start + int(plan["seconds"] * 1e9))
        while not times or clock() < stop:
            before = clock()
            calls[total % len(calls)]()
            times.append(clock() - before)
            total += 1
        now, spent, count = clock(), energy.joules(), throttle_count()
        times.sort()
        found["seconds"].append(round(((opened + now) / 2 - start) / 1e9, 3))
        found["p50_ms"].append(times[len(times) // 2] / 1e6)
        found["p90_ms"].append(times[len(times) * 9 // 10] / 1e6)
        found["inferences"].append(len(times))
        found["temperature_c"].append(sensors.temperature_now())
        found["frequency_mhz"].append(sensors.frequency_now())
        held = sensors.firmware_now()
        found["throttled"].append(count > slowed if held is None and os.path.exists(THROTTLES % 0) else held)
        known = spent is not None and joules is not None
        found["power_w"].append(round((spent - joules) / ((now - opened) / 1e9), 3) if known else None)
        joules, slowed = spent, count
    gc.enable()
    energy.close()
    per = 1e3 * (joules - first_joules) / total if joules is not None and first_joules is not None else None
    return dict(found, energy_mj=per, energy_source=energy.source if per is not None else "")


def profiled(runtime_class, model, feeds, folder):
    """Each operator's mean time, as the runtime itself tells it, in one thread; None from one that does not tell.

    To profile costs time of its own: it explains a latency and is none.
    """
    if not hasattr(runtime_class, "profile"):
        return None
    size, given = fixed_batch(feeds) or 1, []
    for taken, feed in batches(feeds, size):
        given.append(padded(feed, taken, size))
        if len(given) == DISTINCT_BATCHES:
            break

    def repeat(run, warm):
        """Run the warm-ups, or until the time is over; how often."""
        stop, runs = time.monotonic() + PROFILE_SECONDS, 0
        while not (runs >= PROFILE_WARM_UPS if warm else runs >= PROFILE_MOST):
            run(given[runs % len(given)])
            runs += 1
            if not warm and runs >= PROFILE_LEAST and time.monotonic() >= stop:
                break
        return runs

    return runtime_class.profile(model, folder, repeat)


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
            with open(THROTTLES % cpu, encoding="ascii") as file:
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
