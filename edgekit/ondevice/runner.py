"""Run one job on a device: `python runner.py JOB.json RESULT.json`.

A device needs Python 3.8, numpy, one runtime, this file and the file of that runtime. The job names the runtime's file
and class, the model, `.npy` files of inputs, and the results to produce: the outputs of every sample (written as `.npy`
files), the latency of one batch (raw times, not summarised), the time of each operator, or several of these. Labels are
never sent to a device.

A model with states is run through `state.py`, and its latency is that of a request: the time from a prompt, the first
tokens of a sample, to the last of `new_tokens` that follow it.

If the sample array has as many axes as the model's input, samples are batched along its first axis. If it has one axis
more, each sample is the whole input (a scalar, a state, an image without a batch axis), and the model runs on one at a
time.

A runtime's class offers `prepare_imports()`, the constructor `(model, threads, precision, specs)`, `inputs` and
`outputs` (lists of dicts with name, dtype, shape, quantization), `bind(feeds)`, which returns a callable that runs one
inference and returns the outputs in order, and `facts()`. A runtime that reports each operator's time offers
`profile(model, folder, repeat)`.
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
DISTINCT_BATCHES = 16  # number of inputs that the timed loop cycles through
WARMUP_BLOCK_SECONDS = 0.02
# a profile's warm-up inferences, its duration in seconds, and its minimum and maximum number of inferences
PROFILE_WARM_UPS, PROFILE_SECONDS, PROFILE_MIN_RUNS, PROFILE_MAX_RUNS = 3, 0.5, 10, 500
THROTTLES = "/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count"
#: the supported input dtypes
DTYPES = tuple("bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64".split())


class JobError(Exception):
    """The job failed; `kind`: missing (a package), model (it does not load), input (it does not match), or run."""

    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


def main(job_path, result_path):
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    result = {"schema": SCHEMA, "error": None}
    try:
        result.update(run_job(job))
    except JobError as error:
        result["error"] = {"kind": error.kind, "what": str(error)}
    except MemoryError:
        result["error"] = {"kind": "memory", "what": "out of memory"}
    part = result_path + ".part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(part, result_path)


def run_job(job):
    """Run the job; returns the result's entries."""
    import numpy as np

    runtime_class = load_class(job["runtime_file"], job["runtime_class"])
    try:
        runtime_class.prepare_imports()
    except ImportError as error:
        raise JobError("missing", str(error)) from error
    arrays = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in job["inputs"].items()}
    floor = peak_rss_bytes()
    started = time.perf_counter_ns()
    try:
        session = runtime_class(job["model"], job["threads"], job["precision"], job["specs"])
    except MemoryError:
        raise
    except Exception as error:
        raise JobError("model", one_line(error)) from error
    load_ms = (time.perf_counter_ns() - started) / 1e6
    if job.get("driver"):
        session = load_class(job["driver"]["file"], job["driver"]["class"])(session, job["driver"]["settings"])
    feeds = match_inputs(session.inputs, arrays)
    result = {"load_ms": load_ms, "floor_rss_bytes": floor, "outputs": {}}
    try:
        sensors = load_module(job["sensors"]) if job.get("sensors") else None
        if job["latency"]:
            result.update(measure(session, feeds, job["latency"], sensors, job["threads"]))
        if job.get("sustained"):
            result["sustained"] = sustained(session, feeds, job["sustained"], sensors)
        if job.get("profile"):
            result["profile"] = profile_operators(runtime_class, job, session, feeds)
        if job["outputs"]:
            wanted = job["outputs"]
            if wanted.get("new_tokens"):
                session = session.generating(wanted["new_tokens"])
            elif wanted.get("stepwise"):
                session = session.stepwise(wanted["stepwise"])
            size = result["output_batch"] = output_batch(session, feeds, wanted["batch"])
            result["outputs"] = outputs_in_batches(session, feeds, wanted["folder"], size, wanted.get("lists", {}))
    except (MemoryError, JobError):
        raise
    except Exception as error:
        raise JobError("run", one_line(error)) from error
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


def match_inputs(specs, arrays):
    """(spec, array) pairs, matched by name, or the only input with the only array. Raises JobError with both lists."""
    if len(specs) == 1 and len(arrays) == 1:
        pairs = [(specs[0], next(iter(arrays.values())))]
    else:
        expected, available = sorted(spec["name"] for spec in specs), sorted(arrays)
        if expected != available:
            names = ", ".join(expected), ", ".join(available)
            raise JobError("input", "the model takes %s; the samples hold %s" % names)
        pairs = [(spec, arrays[spec["name"]]) for spec in specs]
    for spec, array in pairs:
        check(spec, array)
    return pairs


def check(spec, array):
    """Raises JobError if the samples do not match this input's dtype or shape."""
    name, shape = spec["name"], spec["shape"]
    if spec["dtype"] not in DTYPES:
        raise JobError("input", "%s takes %s: only numbers and booleans are supported" % (name, spec["dtype"]))
    if array.dtype.kind not in "biuf":
        raise JobError("input", "%s takes %s; the samples are of type %s" % (name, spec["dtype"], array.dtype))
    expected = shape if is_whole_input(spec, array) else shape[1:]
    fits = len(array.shape) == len(expected) + 1 and all(e in (None, a) for e, a in zip(expected, array.shape[1:]))
    if not fits:
        what = "%s takes %s per sample; the samples are %s" % (name, shape[1:], list(array.shape[1:]))
        raise JobError("input", what)


def is_whole_input(spec, array):
    """Is each sample the whole input (the array has one axis more)? If not, the input's first axis is the batch."""
    return len(array.shape) > len(spec["shape"])


def fixed_batch(feeds):
    """The model's fixed batch size, None if it is dynamic; 1 if a sample is a whole input."""
    sizes = {1 if is_whole_input(spec, array) else spec["shape"][0]: spec["name"] for spec, array in feeds}
    fixed = sorted(size for size in sizes if size is not None)
    if fixed and fixed[-1] > 1 and len(sizes) > 1:
        what = "%s takes %d rows, and another input takes another number" % (sizes[fixed[-1]], fixed[-1])
        raise JobError("input", what + ": use whole inputs as its samples, of shape (samples, %d, …)" % fixed[-1])
    return fixed[0] if fixed else None


def batches(feeds, size):
    """Batches: (number of samples, contiguous arrays in the model's dtype by name); the last one may be shorter."""
    count = min(len(array) for _, array in feeds)
    for first in range(0, count, size):
        parts = {s["name"]: (s, a[first] if is_whole_input(s, a) else a[first : first + size]) for s, a in feeds}
        yield min(size, count - first), {name: as_input(array, spec) for name, (spec, array) in parts.items()}


def as_input(array, spec):
    """A batch cast to the input's dtype, and quantized if the tensor is stored as integers."""
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
        raise JobError("input", "%s takes %s; the samples hold %s" % (spec["name"], spec["dtype"], lost))
    return cast


def as_output(array, spec):
    """An output as floats: scale * (stored - zero_point) if it is stored as integers."""
    import numpy as np

    array = array if isinstance(array, (list, dict)) else np.asarray(array)
    if isinstance(array, (list, dict)) or array.dtype.kind not in "biuf":
        raise JobError("run", "output %s is not a numeric tensor" % spec["name"])
    if spec.get("quantization"):
        scale, zero_point = spec["quantization"]
        return (np.asarray(array, np.float32) - np.float32(zero_point)) * np.float32(scale)
    return array


def pad_batch(feed, taken, size):
    """The batch of `taken` samples, padded to `size` by repeating the last one."""
    import numpy as np

    if taken == size:
        return feed
    return {name: np.concatenate([a, np.repeat(a[-1:], size - taken, axis=0)]) for name, a in feed.items()}


def all_outputs(session, feeds, folder, batch, lists=()):
    """Run every sample once; each output is written to a `.npy` file of shape (samples, …).

    If samples cannot be batched, they are run one at a time: an output whose first axis is 1 is then the sample's row,
    any other output is the sample's as a whole. `lists`: by name, the outputs (batch, length, …) whose length depends
    on the sample, and the length that zeros fill them up to.
    """
    return outputs_in_batches(session, feeds, folder, output_batch(session, feeds, batch), lists)


def output_batch(session, feeds, batch):
    """The number of samples that run at once: what the model fixes, else `batch`; 1 if samples cannot be batched."""
    count = min(len(array) for _, array in feeds)
    return fixed_batch(feeds) or (batch if batch > 1 and count > 1 and is_batchable(session, feeds) else 1)


def outputs_in_batches(session, feeds, folder, size, lists=()):
    """See `all_outputs`."""
    import numpy as np

    count = min(len(array) for _, array in feeds)
    fixed = fixed_batch(feeds)
    files = {}
    done = 0
    for taken, feed in batches(feeds, size):
        ran = fixed or taken
        outputs = session.bind(pad_batch(feed, taken, ran))()
        for index, (spec, value) in enumerate(zip(session.outputs, outputs)):
            value = as_output(value, spec)
            if size == 1:
                value = value if value.ndim and len(value) == 1 else value[None]
            elif value.ndim == 0 or len(value) != ran:
                what = "output %s has shape %s: its first axis is not the batch" % (spec["name"], list(value.shape))
                raise JobError("run", what + ", so use whole inputs as samples, with one axis more")
            if spec["name"] in lists:
                value = filled(value, spec["name"], lists[spec["name"]])
            if index not in files:
                path = os.path.join(folder, "output%d.npy" % index)
                shape = (count,) + value.shape[1:]
                files[index] = (path, np.lib.format.open_memmap(path, "w+", value.dtype, shape))
            rows = files[index][1]
            if rows.shape[1:] != value.shape[1:]:
                shapes = "%s, then %s" % (list(rows.shape[1:]), list(value.shape[1:]))
                what = "output %s changes its shape between samples: %s" % (spec["name"], shapes)
                raise JobError("run", what + "; if these are a detector's boxes, import it with --signature")
            rows[done : done + taken] = value[:taken]
        done += taken
        for array in [a for _, a in feeds] + [a for _, a in files.values()]:
            release_pages(array)
    for _, array in files.values():
        array.flush()
    return {session.outputs[index]["name"]: path for index, (path, _) in files.items()}


def filled(value, name, length):
    """The output with zeros after its rows, a detector's boxes: `length` of them."""
    import numpy as np

    if value.ndim < 2 or value.shape[1] > length:
        what = "output %s has the shape %s: at most %d boxes of a sample are read"
        raise JobError("run", what % (name, list(value.shape), length))
    result = np.zeros((len(value), length) + value.shape[2:], value.dtype)
    result[:, : value.shape[1]] = value
    return result


def is_batchable(session, feeds):
    """Does a model with a dynamic batch compute the same output for a sample in a batch of two as alone?

    It does not if its first axis is time, if the shape of one sample was traced into it, or if an activation's range is
    computed over the whole batch.
    """
    import numpy as np

    _, pair = next(batches(feeds, 2))
    try:
        together = session.bind(pair)()
    except MemoryError:
        raise
    except Exception:  # any exception: it does not accept a batch of two
        return False
    alone = session.bind({name: array[1:] for name, array in pair.items()})()
    for spec, two, one in zip(session.outputs, together, alone):
        two, one = as_output(two, spec), as_output(one, spec)
        if two.ndim == 0 or one.ndim == 0 or len(two) != 2 or one.shape != (1,) + two.shape[1:]:
            return False
        a, b = two[1:].astype(np.float64), one.astype(np.float64)
        largest = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        if not np.allclose(a, b, rtol=1e-2, atol=1e-3 * largest + 1e-6, equal_nan=True):
            return False
    return True


def release_pages(array: object) -> None:
    """Release a memory-mapped array's pages, so that this process's memory does not grow with the samples."""
    import mmap

    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def measure(session, feeds, plan, sensors=None, threads=1):
    """Raw times of single inferences on real samples, after a warm-up until the times are steady."""
    size, calls = bind_batches(session, feeds, plan)
    clock = time.perf_counter_ns
    started = clock()
    calls[0]()
    first_ms = (clock() - started) / 1e6
    gc.collect()
    gc.disable()
    warmups, steady = warm_up(calls, plan["warmup_seconds"], threads)
    times, cpu_times, first_times = [], [], []
    cpu_clock = time.process_time_ns
    watch = Watch()
    energy = sensors.Energy(sampling=False) if sensors else None
    stop = clock() + int(plan["seconds"] * 1e9)
    index = 0
    while True:
        call = calls[index % len(calls)]
        cpu_before, before = cpu_clock(), clock()
        returned = call()
        after = clock()
        cpu_times.append(cpu_clock() - cpu_before)
        times.append(after - before)
        if plan.get("new_tokens"):
            first_times.append(returned[1])
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
        "cpu_ns": cpu_times,
        "first_token_ns": first_times,
        "batch": size,
        "watch": watch.counters(),
        "energy_mj": 1e3 * joules / len(times) if joules is not None else None,
        "energy_source": energy.source if joules is not None else "",
    }


def bind_batches(session, feeds, plan):
    """(samples per inference, calls on different batches); with new tokens a call is a request for them."""
    size, calls = fixed_batch(feeds) or plan["batch"], []
    for taken, feed in batches(feeds, size):
        if len(calls) == DISTINCT_BATCHES:
            break
        feed = pad_batch(feed, taken, size)
        calls.append(request(session, feed, plan) if plan.get("new_tokens") else session.bind(feed))
    return size, calls


def request(session, feed, plan):
    """A call that generates `new_tokens` after a prompt: the sample's first tokens, repeated if it has fewer."""
    import numpy as np

    positions = np.arange(plan["prompt"])
    prompt = {name: np.take(array, positions % array.shape[1], axis=1) for name, array in feed.items()}
    return lambda: session.request(prompt, plan["new_tokens"])


def sustained(session, feeds, plan, sensors):
    """Run continuously for `seconds` and record one entry per time window: latency, clock, temperature and power.

    Windows are summarised on the device: ten minutes contain millions of times. `seconds` is the time from the start to
    a window's middle, `throttled` whether the clock was throttled in it.
    """
    _, calls = bind_batches(session, feeds, plan)
    series = {name: [] for name in ("seconds", "p50_ms", "p90_ms", "inferences", "temperature_c", "frequency_mhz")}
    series["throttled"], series["power_w"] = [], []
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
        series["seconds"].append(round(((opened + now) / 2 - start) / 1e9, 3))
        series["p50_ms"].append(times[len(times) // 2] / 1e6)
        series["p90_ms"].append(times[len(times) * 9 // 10] / 1e6)
        series["inferences"].append(len(times))
        series["temperature_c"].append(sensors.temperature_now())
        series["frequency_mhz"].append(sensors.frequency_now())
        held = sensors.firmware_now()
        series["throttled"].append(count > slowed if held is None and os.path.exists(THROTTLES % 0) else held)
        known = spent is not None and joules is not None
        series["power_w"].append(round((spent - joules) / ((now - opened) / 1e9), 3) if known else None)
        joules, slowed = spent, count
    gc.enable()
    energy.close()
    per = 1e3 * (joules - first_joules) / total if joules is not None and first_joules is not None else None
    return dict(series, energy_mj=per, energy_source=energy.source if per is not None else "")


def profile_operators(runtime_class, job, session, feeds):
    """Each operator's mean time in one thread, as reported by the runtime; None if it cannot profile.

    Profiling itself takes time, so the sum is not the latency.
    """
    if not hasattr(runtime_class, "profile"):
        return None
    size, inputs = fixed_batch(feeds) or 1, []
    for taken, feed in batches(feeds, size):
        feed = pad_batch(feed, taken, size)
        inputs.append(session.with_states(feed, job["specs"]["inputs"]) if hasattr(session, "with_states") else feed)
        if len(inputs) == DISTINCT_BATCHES:
            break

    def repeat(run, warm):
        """Run the warm-ups, or run until the time is over; returns the number of runs."""
        stop, runs = time.monotonic() + PROFILE_SECONDS, 0
        while not (runs >= PROFILE_WARM_UPS if warm else runs >= PROFILE_MAX_RUNS):
            run(inputs[runs % len(inputs)])
            runs += 1
            if not warm and runs >= PROFILE_MIN_RUNS and time.monotonic() >= stop:
                break
        return runs

    return runtime_class.profile(job["model"], job["profile"]["folder"], repeat)


def warm_up(calls, seconds, threads=1):
    """Run for `seconds`, then until the medians of three blocks are within 3 %, or for ten times as long.

    The medians are those of the wall time or, since others may use the core, with one thread those of the CPU time.
    Returns (runs, steady).
    """
    clock, cpu_clock = time.perf_counter_ns, time.process_time_ns
    started, runs, medians, cpu_medians = clock(), 0, [], []
    while True:
        block, times, cpu_times = clock(), [], []
        while not times or clock() - block < WARMUP_BLOCK_SECONDS * 1e9:
            cpu_before, before = cpu_clock(), clock()
            calls[runs % len(calls)]()
            times.append(clock() - before)
            cpu_times.append(cpu_clock() - cpu_before)
            runs += 1
        medians.append(sorted(times)[len(times) // 2])
        cpu_medians.append(sorted(cpu_times)[len(cpu_times) // 2])
        elapsed = (clock() - started) / 1e9
        kinds = [medians[-3:], cpu_medians[-3:]] if threads == 1 and min(cpu_medians[-3:]) > 0 else [medians[-3:]]
        steady = len(medians) >= 3 and any(max(last) <= 1.03 * min(last) for last in kinds)
        if elapsed >= seconds and steady:
            return runs, True
        if elapsed >= 10 * seconds:
            return runs, False


class Watch:
    """What else the machine did between making this and asking: raw counters, judged on the host."""

    def __init__(self):
        self._cpu, self._wall = time.process_time_ns(), time.perf_counter_ns()
        self._steal, self._throttled = steal_ticks(), throttle_count()

    def counters(self):
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


def end_with_parent():
    """Linux kills this process when its parent ends (prctl(2)); elsewhere the parent has a watched pipe to it."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    except (ImportError, OSError, AttributeError):
        pass


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1], sys.argv[2])
