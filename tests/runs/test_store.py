"""Run folders: whole artifacts or none, reused while nothing changed, refused when damaged."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import EdgekitError, InputError, Locked, NoSpace
from edgekit.core.files import sha256, write_atomically
from edgekit.core.measurement import Measurement
from edgekit.core.step import Context, Step
from edgekit.measure.context import log
from edgekit.runs import written
from edgekit.runs.results import read as read_results
from edgekit.runs.store import LOCK, LOG, RESULTS, Store
from edgekit.workflows import setup

pytestmark = pytest.mark.usefixtures("members")
Make = Callable[..., Artifact]


def quiet(items: Any, what: str, total: int | None = None) -> Any:
    yield from items


CONTEXT = Context(None, {}, quiet, logging.getLogger("tests"))


def copying(**fields: Any) -> Step:
    step: Step = registry.load("steps", "torch_copy")(**fields)
    return step


@pytest.fixture
def store(bars_run: Path) -> Store:
    return Store(bars_run)


@pytest.fixture
def make(store: Store) -> Make:
    """Make a copy of an artifact under a name."""

    def call(name: str, step: Step | None = None, parent: str = "torch", **roles: str) -> Artifact:
        inputs = {"parent": store.get(parent), **{role: store.get(other) for role, other in roles.items()}}
        with store.lock():
            return store.make(name, step or copying(), inputs, CONTEXT)

    return call


def test_opening_a_store_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    assert store.names() == ()
    assert not store.measurements()
    with pytest.raises(InputError, match="no artifact"):
        store.get("torch")
    assert not list(tmp_path.iterdir())


def test_what_is_made_is_read_back(store: Store, make: Make) -> None:
    artifact = make("copy.torch")
    assert store.get("copy.torch") == artifact
    assert artifact.path == store.path / "copy.torch"
    assert [(p.role, p.name, p.id) for p in artifact.parents] == [("parent", "torch", store.get("torch").id)]
    assert artifact.licences == ("made up",)
    assert artifact.sizes.total == sum((artifact.path / name).stat().st_size for name in artifact.files)
    assert artifact.files == {name: sha256(artifact.path / name) for name in ("model.json", "model.safetensors")}
    assert artifact.details["roles"] == {"parent": "torch"}
    assert store.names()[-1] == "copy.torch"
    assert store.root(artifact).name == "torch"
    assert store.parent(artifact) == store.get("torch")
    assert not list(store.path.glob(".making*"))


def test_a_record_holds_what_the_design_promises(store: Store) -> None:
    record = json.loads((store.path / "onnx-int8" / "artifact.json").read_text())
    wanted = "id parents step fields scheme inputs outputs tensors sizes files tools licences schema kind sets task"
    assert set(wanted.split()) <= set(record)
    assert record["kind"] == "onnx[int8]"
    assert record["tools"]["onnxruntime"]
    assert set(record["sets"]) == {"calibration"}
    assert record["parents"][0]["name"] == "onnx"
    assert record["sizes"]["total"] == (store.path / "onnx-int8" / "model.onnx").stat().st_size


@dataclasses.dataclass(frozen=True)
class Breaks(Step):
    """Writes half a model, then fails."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")

    how: str = "error"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Any:
        (out / "model.json").write_text("{")
        raise {"error": ValueError("broke"), "stop": KeyboardInterrupt()}[self.how]


@pytest.mark.parametrize(("how", "raised"), [("error", ValueError), ("stop", KeyboardInterrupt)])
def test_a_step_that_breaks_leaves_nothing(store: Store, make: Make, how: str, raised: type[BaseException]) -> None:
    before = make("copy.torch")
    with pytest.raises(raised):
        make("copy.torch", Breaks(how=how))
    assert store.get("copy.torch") == before, "what was there before is gone"
    assert not list(store.path.glob(".making*"))
    with pytest.raises(raised):
        make("other.torch", Breaks(how=how))
    assert "other.torch" not in store.names()


def test_a_name_is_replaced_whole(store: Store, make: Make) -> None:
    first = make("copy.torch")
    (first.path / "left-over.txt").touch()
    second = make("copy.torch", copying(note="again"))
    assert second.id != first.id
    assert store.get("copy.torch") == second
    assert not (second.path / "left-over.txt").exists()
    assert not list(store.path.glob(".old*"))


# --- ids ------------------------------------------------------------------------------------------------------------


def test_what_enters_an_id(store: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = {"parent": store.get("torch")}
    first = store.id(copying(), parent, CONTEXT)
    assert store.id(copying(), parent, CONTEXT) == first
    others = {
        "a field": store.id(copying(note="x"), parent, CONTEXT),
        "another parent": store.id(copying(), {"parent": make("copy.torch", copying(note="y"))}, CONTEXT),
        "another role": store.id(copying(), {**parent, "teacher": store.get("torch")}, CONTEXT),
        "a set": store.id(copying(), parent, dataclasses.replace(CONTEXT, sets={"s": store.set("bars:val")})),
        "another set": store.id(copying(), parent, dataclasses.replace(CONTEXT, sets={"s": store.set("bars:test")})),
        "the task": store.id(copying(), parent, dataclasses.replace(CONTEXT, task=registry.load("tasks", "bars")())),
    }
    with monkeypatch.context() as patch:
        patch.setattr(type(copying()), "tools", ("numpy",))
        others["a tool"] = store.id(copying(), parent, CONTEXT)
        patch.setattr("edgekit.runs.store.version", lambda name: "99")
        others["a tool's version"] = store.id(copying(), parent, CONTEXT)
    assert len({first, *others.values()}) == 1 + len(others), others


def test_a_file_that_a_field_names_enters_the_id(store: Store, tmp_path: Path) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"1")
    step = copying(teacher=str(weights))
    parent = {"parent": store.get("torch")}
    first = store.id(step, parent, CONTEXT)
    weights.write_bytes(b"2")
    assert store.id(step, parent, CONTEXT) != first


def test_reusable_only_as_it_was_made(store: Store, make: Make) -> None:
    artifact = make("copy.torch")
    assert store.reusable("copy.torch", artifact.id) == artifact
    assert store.reusable("copy.torch", "another") is None
    assert store.reusable("nothing", artifact.id) is None
    (artifact.path / "model.safetensors").write_bytes(b"")
    assert store.reusable("copy.torch", artifact.id) is None


# --- damage ---------------------------------------------------------------------------------------------------------

RECORDS = ["", "{", "[]", "3", "null", '"x"', "{}", '{"schema": "edgekit/9"}', '{"schema": "edgekit/1"}', "\xff\0"]


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_refused_and_in_nobodys_way(store: Store, record: str) -> None:
    (store.path / "onnx" / "artifact.json").write_text(record, encoding="latin-1")
    with pytest.raises(InputError) as error:
        store.get("onnx")
    assert "onnx" in error.value.what
    assert store.reusable("onnx", "x") is None
    assert [a.name for a in store.current()] == ["torch"], "what hangs on it stands without it"
    assert {m.artifact for m in store.measurements().values()} == {"torch", "onnx-int8"}


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "longer"])
def test_a_damaged_model_is_refused(store: Store, damage: str) -> None:
    path = store.path / "torch" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        raw[-1] ^= 1
        path.write_bytes({"cut": raw[:-1], "changed": raw, "longer": raw + b"\0"}[damage])
    with pytest.raises(InputError, match="not the file that edgekit wrote"):
        store.get("torch")


def test_children_of_a_parent_made_anew_are_stale(store: Store, make: Make) -> None:
    make("a.torch")
    child = make("b.torch", parent="a.torch")
    assert store.parent(child) is not None
    make("a.torch", copying(note="again"))
    with pytest.raises(InputError, match=r"made from an earlier a\.torch"):
        store.parent(child)
    with pytest.raises(InputError):
        store.root(child)
    assert "b.torch" in store.names()
    assert "b.torch" not in {a.name for a in store.current()}


# --- what a kill leaves ---------------------------------------------------------------------------------------------


def test_left_overs_of_a_kill_never_count(store: Store) -> None:
    whole = store.get("onnx")
    (store.path / ".making-onnx").mkdir()
    (store.path / ".making-onnx" / "artifact.json").write_text("{}")
    (store.path / "torch").rename(store.path / ".old-torch")  # killed between the two renames
    (store.path / ".old-onnx").mkdir()  # killed before the old one was deleted
    (store.path / ".results.json.part").touch()
    for scratch in (".scratch-0123", ".scratch-4567"):
        written.temporary(store.path, scratch)  # one killed before anything was kept
    (store.path / ".scratch-0123" / "checkpoint-000002.part").mkdir()  # and one in its first checkpoint
    assert store.names() == ("onnx", "onnx-int8")
    with store.lock():
        assert set(store.names()) == {"torch", "onnx", "onnx-int8"}
    assert store.get("onnx") == whole
    assert not [p.name for p in store.path.iterdir() if p.name.startswith(".") and p.name not in (LOCK, written.FILE)]


def test_hidden_files_that_edgekit_did_not_write_stay(store: Store) -> None:
    """Names such as edgekit gives, in a folder that is the user's, too: nothing is deleted, renamed or emptied."""
    (store.path / ".film.part").write_text("half of a download")
    for name in (".making-coffee", ".old-photos", ".scratch-notes"):
        (store.path / name).mkdir()
        (store.path / name / "mine.txt").write_text("mine")
    with store.lock():
        pass
    assert (store.path / ".film.part").read_text() == "half of a download"
    for name in (".making-coffee", ".old-photos", ".scratch-notes"):
        assert (store.path / name / "mine.txt").read_text() == "mine"


def test_a_lock_file_that_is_the_users_is_not_emptied(store: Store) -> None:
    (store.path / LOCK).write_text("another program's")
    with pytest.raises(InputError, match="not edgekit's"), store.lock():
        pass
    assert (store.path / LOCK).read_text() == "another program's"
    (store.path / LOCK).unlink()
    (store.path / "precious").write_text("kept")
    (store.path / LOCK).symlink_to(store.path / "precious")
    with pytest.raises(InputError, match="not edgekit's"), store.lock():
        pass
    assert (store.path / "precious").read_text() == "kept"


def test_making_again_keeps_the_users_files(store: Store, make: Make) -> None:
    (store.path / "onnx" / "notes.txt").write_text("mine")
    (store.path / "mine.torch").mkdir()
    (store.path / "mine.torch" / "data.bin").write_bytes(b"mine, too")
    make("onnx")
    make("mine.torch")
    assert (store.path / "onnx.kept" / "notes.txt").read_text() == "mine"
    assert [p.name for p in (store.path / "onnx.kept").iterdir()] == ["notes.txt"], "edgekit's own files are gone"
    assert (store.path / "mine.torch.kept" / "data.bin").read_bytes() == b"mine, too"
    (store.path / "onnx" / "notes.txt").write_text("more")
    make("onnx", copying(note="again"))
    assert (store.path / "onnx.kept-2" / "notes.txt").read_text() == "more"
    assert {"onnx", "mine.torch"} <= set(store.names()) and not [n for n in store.names() if "kept" in n]


# --- names in records, and links ------------------------------------------------------------------------------------


def edited(store: Store, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = store.path / name / "artifact.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["../../secret", "{folder}/secret", "a\\b", "", ".", "a\0b", "a\nb", "x" * 300, "C:a"])
def test_a_record_names_only_files_of_its_own_folder(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    name = name.format(folder=tmp_path)
    edited(store, "onnx", lambda record: record["files"].update({name: sha256(tmp_path / "secret")}))
    with pytest.raises(InputError, match="damaged"):
        store.get("onnx")


@pytest.mark.parametrize("field", ["name", "parents"])
def test_a_record_names_only_artifacts_of_its_own_run(store: Store, field: str) -> None:
    value = "../x" if field == "name" else [{"role": "parent", "name": "../x", "id": "0"}]
    edited(store, "onnx", lambda record: record.update({field: value}))
    with pytest.raises(InputError, match="damaged"):
        store.get("onnx")


def test_names_lead_to_no_other_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (store.path / "onnx").rename(tmp_path / "other" / "onnx")
    with pytest.raises(InputError, match="outside itself"):
        store.get("../other/onnx")
    (store.path / "onnx").symlink_to(tmp_path / "other" / "onnx")
    assert "onnx" not in store.names()
    with pytest.raises(InputError, match="leads out of the folder"):
        store.get("onnx")


def test_a_link_out_of_an_artifact_is_not_followed(store: Store, tmp_path: Path) -> None:
    """Whatever its name: a task's tokenizer, say, is read and copied by name."""
    (tmp_path / "secret").write_text("secret")
    (store.path / "onnx" / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="leads out of the folder"):
        store.get("onnx")
    (store.path / "onnx" / "tokenizer.json").unlink()
    (store.path / "onnx" / "same.json").symlink_to("model.onnx")  # a link that stays inside is fine
    store.get("onnx")


def test_what_is_written_goes_through_no_link(store: Store, tmp_path: Path) -> None:
    """A folder that somebody prepared: links in place of the files that edgekit is going to write."""
    one = next(iter(store.measurements().values()))
    (tmp_path / "precious").write_text("kept")
    for name in (f".{RESULTS}.part", RESULTS, LOG, written.FILE):
        (store.path / name).unlink(missing_ok=True)
        (store.path / name).symlink_to(tmp_path / "precious")
        try:
            store.add(one)
            with setup.open_run(store):
                log.info("a line")
        except InputError as error:
            assert "leads out" in str(error)
        assert (tmp_path / "precious").read_text() == "kept", name
        (store.path / name).unlink(missing_ok=True)


def test_a_run_folder_may_be_reached_through_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(store.path)
    assert Store(tmp_path / "latest").get("onnx").id == store.get("onnx").id


def test_a_checkpoint_survives_and_what_is_half_made_beside_it_does_not(store: Store) -> None:
    scratch = written.temporary(store.path, ".scratch-0123") / "fold-1"
    for name in ("checkpoint-000001", "checkpoint-000002.part"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "state.json").touch()
    (scratch / ".best.safetensors.part").touch()
    with store.lock():
        assert [path.name for path in scratch.iterdir()] == ["checkpoint-000001"]


def test_an_interrupted_copy_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgekit.runs.store._sync", interrupted)
    with store.lock(), pytest.raises(KeyboardInterrupt):
        store.copy(store.get("torch"), "another")
    assert not list(store.path.glob(".making*"))


def test_one_at_a_time(store: Store) -> None:
    with store.lock():
        with pytest.raises(Locked) as error, Store(store.path).lock():
            pytest.fail("both hold it")
        assert error.value.code == 2
    with Store(store.path).lock():
        pass


def test_a_lock_is_given_back_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(InputError) as error, Store(tmp_path / "run").lock():
        pass
    assert error.value.code == 2


# --- results --------------------------------------------------------------------------------------------------------


def test_measurements_come_back_as_they_were(store: Store) -> None:
    found = store.measurements()
    assert {m.artifact for m in found.values()} == {"torch", "onnx", "onnx-int8"}
    assert all(key == m.key for key, m in found.items())
    again = {m.key: m for m in read_results(store.path / RESULTS)}
    assert again == found
    assert all(isinstance(m, Measurement) and m.metric and m.metric.samples == 300 for m in found.values())
    one = next(iter(found.values()))
    changed = dataclasses.replace(one, session="another")
    store.add(changed)
    assert store.measurements()[one.key] == changed
    assert len(store.measurements()) == len(found)


def test_measurements_of_what_is_no_more_are_left_out(store: Store, make: Make) -> None:
    parent = {"parent": store.get("torch")}
    with store.lock():
        store.make("onnx-int8", copying(), parent, CONTEXT)
    assert "onnx-int8" not in {m.artifact for m in store.measurements().values()}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"schema": "edgekit/2", "measurements": []}', '{"schema": "edgekit/1"}', "null"]
)
def test_what_is_no_results_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / RESULTS
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(path) in str(error.value)


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgekitError) as error:
        write_atomically(path, "new")
    assert error.value.code == 2
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_no_absolute_path_is_stored_and_all_are_read(store: Store, make: Make, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    step = copying(note=f"{tmp_path}/lists/a.txt?sep=/:x")
    artifact = make("copy.torch", step)
    text = (artifact.path / "artifact.json").read_text()
    assert str(tmp_path) not in text and '"{run}/../lists/a.txt?sep=/:x"' in text
    assert store.get("copy.torch") == artifact and artifact.fields["note"] == step.note  # type: ignore[attr-defined]
    assert store.reusable("copy.torch", store.id(step, {"parent": store.get("torch")}, CONTEXT)) == artifact
    copied = store.copy(artifact, "other")
    assert str(tmp_path) not in (copied.path / "artifact.json").read_text()


def test_an_older_record_with_an_absolute_path_is_read(store: Store, make: Make, tmp_path: Path) -> None:
    artifact = make("copy.torch", copying(note="x"))
    record = artifact.path / "artifact.json"
    record.write_text(record.read_text().replace('"x"', f'"{tmp_path}/a.txt"'))
    assert store.get("copy.torch").fields["note"] == f"{tmp_path}/a.txt"


@pytest.mark.parametrize("text", ["basic_ios::clear: iostream error", "I/O error: File too large (os error 27)"])
def test_a_full_disk_in_a_librarys_words(make: Make, store: Store, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError(text)

    step = copying()
    monkeypatch.setattr(type(step), "apply", full)
    monkeypatch.setattr(Store, "id", lambda *_: "0")
    with pytest.raises(NoSpace, match="cannot write"):
        make("copy.torch", step)
    assert not list(store.path.glob(".making*")) and "copy.torch" not in store.names()
