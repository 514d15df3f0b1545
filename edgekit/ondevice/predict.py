"""Run one deployed model: `./run INPUT…`, or `./run --check`. Needs Python 3.8, numpy and the model's runtime.

It is part of a bundle, next to `manifest.json`, which names the model, its runtime, the preprocessing of an input
and the classes. Inputs are .npy and .npz files, .pgm and .ppm images, other images if Pillow is
installed, .wav sounds, for a model of a table the rows of .csv, .tsv and .jsonl files, and for a model of texts a text
itself (two, separated by a tab) or the lines of a .txt file. `--check` runs the bundle's own samples and compares the
outputs with those of the machine that created the bundle.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH = 64

# Said with every answer to a file for a model that came without a signature.
ASSUMED = "the model's preprocessing is not known: values are taken as they are; edgekit import --signature states it"


class InvalidInput(Exception):
    """An input that cannot be read, or a damaged bundle."""


def main(words):
    sys.dont_write_bytecode = True
    parser = argparse.ArgumentParser(description="Run one deployed model.")
    parser.add_argument(
        "inputs", nargs="*", help=".npy, .npz, .pgm, .ppm, .wav, .csv, any image if Pillow is installed, or a text"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the outputs of the machine that created the bundle"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per input")
    parser.add_argument("--top", type=int, default=3, help="number of classes to show")
    parser.add_argument("--new-tokens", type=int, default=32, help="of a language model: tokens to generate")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(words)
    with open(os.path.join(HERE, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    try:
        check_names(manifest)
        if options.check:
            print(json.dumps(check(manifest, options.threads)))
            return 0
        if not options.inputs:
            parser.error("give an input, or --check")
        if manifest["preprocessing"].get("assumed") and not all(
            path.endswith((".npy", ".npz")) for path in options.inputs
        ):
            print("predict: %s" % ASSUMED, file=sys.stderr)
        if manifest.get("states"):
            for path, entry in generated(manifest, options.inputs, options.new_tokens, options.threads):
                print(
                    json.dumps(dict(entry, input=path)) if options.json else printable("%s: %s" % (path, entry["text"]))
                )
            return 0
        for path, samples in [(path, read(path, manifest)) for path in options.inputs]:
            for name, outputs in answers(path, samples, manifest, options.threads):
                found = boxes(outputs, manifest, path)
                entry = dict(found or summarize(outputs, manifest, options.top), input=name)
                print(json.dumps(entry) if options.json else printable("%s: %s" % (name, entry["text"])))
    except (InvalidInput, OSError) as error:
        print(printable("predict: %s" % error), file=sys.stderr)
        return 2
    return 0


def printable(text):
    """Text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


# --- the model -------------------------------------------------------------------------------------------------------


def opened(manifest, threads, runner):
    """The runtime's session; of a model with states, the one that keeps them."""
    runtime_class = runner.load_class(os.path.join(HERE, manifest["runtime_file"]), manifest["runtime_class"])
    runtime_class.prepare_imports()
    states = manifest.get("states") or {}
    specs = {"inputs": manifest["inputs"], "outputs": manifest["outputs"], "states": states}
    session = runtime_class(os.path.join(HERE, manifest["model"]), threads, manifest["compute"], specs)
    return load_sibling("state").Stateful(session, {"states": states}) if states else session


def generated(manifest, prompts, count, threads):
    """For each prompt its answer: the tokens that follow it, and their text."""
    import numpy as np

    front = manifest["preprocessing"]
    samples = [(prompt, sample) for prompt in prompts for sample in read(prompt, manifest)]
    session = opened(manifest, threads, load_sibling("runner"))
    for prompt, sample in samples:
        tokens = session.request({name: np.asarray(a, np.int64) for name, a in sample.items()}, count)[0][0]
        text = " ".join(map(str, tokens))
        if front["kind"] == "text" and not prompt.endswith((".npy", ".npz")):
            text = load_sibling("text").decoded(tokenizer_of(front), tokens)
        yield prompt, {"outputs": {"tokens": tokens.tolist()}, "text": text}


def predict(manifest, arrays, threads, stepwise=0):
    """Input name → array, to output name → array of floats; the first axis is the sample. `stepwise`: of a model with
    states, so many positions at once and the rest one by one."""
    import numpy as np

    runner = load_sibling("runner")
    try:
        session = opened(manifest, threads, runner)
        session = session.stepwise(stepwise) if stepwise else session
        feeds = runner.match_inputs(session.inputs, arrays)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            paths = runner.all_outputs(session, feeds, folder, BATCH, manifest.get("lists", {}))
            return {name: np.array(np.load(path, allow_pickle=False)) for name, path in paths.items()}
    except (runner.JobError, RuntimeError, ValueError) as error:
        raise InvalidInput(runner.one_line(error)) from error


def answers(path, samples, manifest, threads):
    """The outputs for each sample of a file, which are run in one call, with its name: "rows.csv[2]" if it has more."""
    import numpy as np

    arrays = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]} if samples else {}
    outputs = predict(manifest, arrays, threads) if samples else {}
    for i in range(len(samples)):
        name = "%s[%d]" % (path, i) if len(samples) > 1 else path
        yield name, {key: value[i : i + 1] for key, value in outputs.items()}


def is_plain(name):
    """Is this a relative path without "..", as a file of a bundle is named? (core/relative_paths.py)"""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name[1:2] == ":":
        return False
    parts = name.split("/")
    sizes = [len(part.encode()) for part in parts]
    return not {"", ".", ".."} & set(parts) and max(sizes) <= 255 and sum(sizes) + len(parts) - 1 <= 1024


def check_names(manifest):
    """Raise InvalidInput if the manifest names a file outside the bundle, or a link leads out of it."""
    check = manifest["check"]
    names = list(manifest["files"]) + [manifest["runtime_file"], manifest["model"], check["inputs"], check["outputs"]]
    names += [check["files"]["answers"]] + check["files"]["names"] if check.get("files") else []
    root = os.path.realpath(HERE)
    for name in names:
        if not is_plain(name) or not os.path.realpath(os.path.join(HERE, name)).startswith(root + os.sep):
            raise InvalidInput("manifest.json names %r, which is not a file of this bundle" % (name,))


def load_sibling(name):
    """The module of that name in this folder, even if another module has the same name."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("edgekit_" + name, os.path.join(HERE, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summarize(outputs, manifest, top):
    """The most probable classes, if the first output is one row of class scores, and every output as lists."""
    import numpy as np

    entry = {"outputs": {name: value[0].tolist() for name, value in outputs.items()}}
    first = next(iter(outputs.values()))[0]
    if first.ndim != 1 or len(first) < 2 or not manifest["labels"]:
        return dict(entry, text=", ".join("%s %s" % (name, np.array2string(v[0])) for name, v in outputs.items()))
    outputs_of = manifest.get("signature", {}).get("output") or [{}]
    share = shares(first, outputs_of[0].get("kind", ""))
    labels = manifest["labels"]
    order = [int(i) for i in np.argsort(-share)[:top]]
    entry["classes"] = [{"class": labels[i] if i < len(labels) else str(i), "share": float(share[i])} for i in order]
    return dict(entry, text=", ".join("%s %.1f%%" % (c["class"], 100 * c["share"]) for c in entry["classes"]))


def decoder(manifest):
    """The module that decodes this model's outputs into boxes; None if they are no boxes."""
    records = manifest.get("signature", {}).get("output") or []
    if not any(record.get("kind") == "boxes" for record in records):
        return None
    detections = load_sibling("detections")
    return detections if detections.decodes(records) else None


def decoded(detections, outputs, manifest):
    """The boxes of each sample, in pixels of the model's input."""
    front = manifest["preprocessing"]
    size = front.get("height"), front.get("width")
    if None in size:
        raise InvalidInput("the model takes images of any size: its boxes cannot be decoded here")
    records = manifest["signature"]["output"]
    try:
        why = detections.doubt(list(outputs.values()), records, size)
        if why:
            raise ValueError(why)
        return detections.decode(list(outputs.values()), records, size)
    except ValueError as error:
        raise InvalidInput("the boxes cannot be decoded: %s" % error) from error


def boxes(outputs, manifest, path):
    """The boxes of one sample with class names, in pixels of the image if `path` is one; {} if the model finds none."""
    detections = decoder(manifest)
    if detections is None:
        return {}
    found, front = decoded(detections, outputs, manifest)[0], manifest["preprocessing"]
    pixels = "input"
    if front["kind"] == "image" and not path.lower().endswith((".npy", ".npz")):
        preprocess, pixels = load_sibling("preprocess"), "image"
        size = preprocess.image_size(path, front)
        found = detections.in_image(found, preprocess.placement(front, *size), size)
    told = detections.entries(found, manifest["labels"])
    where = " (in pixels of the model's input)" if told and pixels == "input" else ""
    return {"boxes": told, "pixels_of": pixels, "text": detections.text(told) + where}


def shares(scores, kind):
    """Scores of classes as shares that add up to 1: of logits the softmax, of probabilities themselves.

    `kind` is that of the output's signature; if it is neither, scores that are shares already are taken as they are.
    """
    import numpy as np

    values = np.asarray(scores, np.float64)
    already = values.min() >= 0 and abs(values.sum() - 1) < 1e-3
    if kind == "probabilities" or (kind != "logits" and already):
        return values / (values.sum() or 1.0)
    shifted = np.exp(values - values.max())
    return shifted / shifted.sum()


def check(manifest, threads):
    """Compare the outputs on this device with those in the bundle; `ok`: they are within the tolerance.

    Every file's sha256 is checked first. `max_relative` is relative to the largest absolute value of an output.
    """
    for name, entry in sorted(manifest["files"].items()):
        with open(os.path.join(HERE, name), "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != entry["sha256"]:
                return {"ok": False, "why": "%s is damaged: its sha256 differs" % name}
    inputs, references = (load_npz(os.path.join(HERE, manifest["check"][part])) for part in ("inputs", "outputs"))
    half = next(iter(inputs.values())).shape[1] // 2 if manifest.get("states") else 0
    result = compare_outputs(predict(manifest, inputs, threads, half), references, manifest["check"]["tolerance"])
    if result["ok"] and manifest["check"].get("files"):
        replayed = replay(manifest, manifest["check"]["files"], threads)
        result["files"] = replayed
        if replayed.get("why"):
            result.update(ok=False, why=replayed["why"])
    return result


def replay(manifest, files, threads):
    """Read the bundle's files as a user's, run them, and compare with the answers of the machine that created it.

    `why`, if the answers are worse: classes must agree on 97 % of the files, and be right on at most one file in 32
    less than there; 95 % of the boxes must be found; other outputs must be within the tolerance. Decoders of JPEG may
    differ by a grey level.
    """
    import numpy as np

    answers = load_npz(os.path.join(HERE, files["answers"]))
    count, first = len(files["names"]), next(iter(answers))
    try:
        samples = [read(os.path.join(HERE, name), manifest)[0] for name in files["names"]]
    except (InvalidInput, OSError) as error:
        if "Pillow" in str(error):
            return {"count": count, "skipped": "Pillow is not installed here, and the files are no .pgm or .ppm"}
        return {"count": count, "why": "its program cannot read the files: %s" % error}
    inputs = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    outputs = predict(manifest, inputs, threads)
    result = compare_outputs(outputs, answers, files["tolerance"])
    replayed = {"count": count, "max_relative": result.get("max_relative"), "top1_agreement": None, "correct": None}
    detections = decoder(manifest)
    if detections is not None and all(outputs[name].shape == answers[name].shape for name in answers):
        here, there = (decoded(detections, each, manifest) for each in (outputs, {n: answers[n] for n in outputs}))
        replayed["boxes_agreement"] = detections.agreement(here, there)
        if replayed["boxes_agreement"] is None:
            return replayed if result["ok"] else dict(replayed, why="on its files, %s" % result["why"])
        if replayed["boxes_agreement"] < 0.95:
            what = "its own program finds %.0f%% of the host's boxes only"
            replayed["why"] = what % (100 * replayed["boxes_agreement"])
        return replayed
    if outputs[first].shape != answers[first].shape or answers[first].ndim != 2 or answers[first].shape[1] < 2:
        return replayed if result["ok"] else dict(replayed, why="on its files, %s" % result["why"])
    here, there = outputs[first].argmax(1), answers[first].argmax(1)
    replayed["top1_agreement"] = float(np.mean(here == there))
    if replayed["top1_agreement"] < 0.97:
        agreed = int(np.sum(here == there))
        replayed["why"] = "its own program gives the host's class for %d of %d files only" % (agreed, count)
    if files["labels"] is not None:
        labels = np.array(files["labels"])
        replayed.update(correct=int(np.sum(here == labels)), correct_host=int(np.sum(there == labels)))
        replayed["classes"] = len(set(files["labels"]))
        if replayed["correct_host"] - replayed["correct"] > count // 32:
            what = "its own program is right on %(correct)d of %(count)d files, and the host on %(correct_host)d"
            replayed["why"] = what % replayed
    return replayed


def compare_outputs(outputs, references, tolerance):
    """The differences between outputs and reference outputs, by name; with tolerance 0 they must be bit-identical."""
    import numpy as np

    worst, largest, same, agreed, count = 0.0, 0.0, True, 0, 0
    for name, reference in references.items():
        output = outputs.get(name)
        if output is None or output.shape != reference.shape:
            return {"ok": False, "why": "output %s is missing or has another shape" % name}
        same = same and np.array_equal(output, reference, equal_nan=output.dtype.kind == "f")
        a, b = np.asarray(output, np.float64), np.asarray(reference, np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return {"ok": False, "why": "output %s contains NaN or infinity" % name}
        difference = float(np.max(np.abs(np.where(np.isfinite(a), a - b, 0.0)), initial=0.0))
        scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        worst, largest = max(worst, difference / scale if scale else difference), max(largest, difference)
        if count == 0 and b.ndim == 2:
            agreed, count = int(np.sum(a.argmax(1) == b.argmax(1))), len(b)
    result = {"ok": same if tolerance == 0 else worst <= tolerance, "bit_identical": bool(same)}
    samples = len(next(iter(references.values())))
    result.update(max_abs=largest, max_relative=worst, tolerance=tolerance, samples=samples)
    result["top1_agreement"] = agreed / count if count else None
    if not result["ok"]:
        result["why"] = "its outputs differ by %.3g of the largest value, and %g is allowed" % (worst, tolerance)
    return result


# --- inputs ----------------------------------------------------------------------------------------------------------


def read(path, manifest):
    """The samples of a file: a list of dictionaries, input name → array with one sample along the first axis."""
    import numpy as np

    suffix, front = os.path.splitext(path)[1].lower(), manifest["preprocessing"]
    first = manifest["inputs"][0]
    try:
        if suffix == ".npz":
            arrays = {name: a for name, a in load_npz(path).items() if name != "label"}
            count = min(len(a) for a in arrays.values())
            return [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(count)]
        if suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            whole = array.ndim == len(first["shape"])
            return (
                [{first["name"]: array[i : i + 1]} for i in range(len(array))]
                if whole
                else [{first["name"]: array[None]}]
            )
        if front["kind"] == "text":
            return texts(path, front)
        if front["kind"] == "image":
            return [{front["input"]: load_sibling("preprocess").image(path, front)[None]}]
        if front["kind"] == "audio" and suffix == ".wav":
            return [{front["input"]: load_sibling("preprocess").sound(path, front)[None]}]
        if front["kind"] == "table" and suffix in (".csv", ".tsv", ".jsonl"):
            table = load_sibling("table")
            with np.errstate(over="ignore"):
                rows = np.array(table.samples(path, front["columns"]), np.float32)
            if not np.isfinite(rows).all():
                number = int(np.argwhere(~np.isfinite(rows))[0][0]) + 1
                raise ValueError("row %d: a number is too large for float32" % number)
            return [{front["input"]: row.reshape([1] + front["shape"])} for row in rows]
    except (ValueError, EOFError, KeyError) as error:
        raise InvalidInput("cannot read %s: %s" % (path, " ".join(str(error).split())[:200])) from error
    raise InvalidInput("%s: this model takes %s as .npy or .npz" % (path, first["name"]))


def texts(source, front):
    """A text, or the lines of a .txt file, as the tokens that the model takes."""
    text, tokenizer = load_sibling("text"), tokenizer_of(front)
    lines = [source]
    if source.endswith(".txt"):
        with open(source, encoding="utf-8") as file:
            lines = [line.rstrip("\r\n") for line in file if line.strip()]
    if not lines:
        raise ValueError("it holds no texts")
    pairs = [line.split("\t", 1) for line in lines]
    return [text.samples(tokenizer, pair, front["parts"])[0] for pair in pairs]


def tokenizer_of(front):
    """The bundle's tokenizer. Raises InvalidInput without the package that reads it."""
    try:
        return load_sibling("text").load(os.path.join(HERE, front["tokenizer"]), front["length"])
    except ImportError:
        raise InvalidInput("a text needs the package tokenizers: python3 -m pip install tokenizers") from None


def load_npz(path):
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
