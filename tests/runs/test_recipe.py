"""Recipes: everything wrong is said at once, names are what they should be, and nothing is lost on the way to disk."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from helpers import trust
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core import registry
from edgekit.core.errors import InputError, Problem, RecipeError
from edgekit.core.target import Target
from edgekit.measure import targets
from edgekit.runs import recipe as recipes
from edgekit.runs.graph import nodes
from edgekit.runs.recipe import Recipe, check, to_table

pytestmark = pytest.mark.usefixtures("members")

HOST = Target("host", "", "local", arch="x86_64", isa=("avx512_vnni",))
PI = Target("pi", "", "ssh", arch="aarch64")


def chain(*steps: Any, name: str = "") -> dict[str, Any]:
    return {"name": name, "steps": list(steps)} if name else {"steps": list(steps)}


def table(*chains: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task": "bars", "chain": list(chains), **more}


def made(*chains: dict[str, Any], **more: Any) -> Recipe:
    recipe, problems = check(table(*chains, **more))
    assert recipe is not None, problems
    return recipe


def said(*chains: dict[str, Any], **more: Any) -> str:
    recipe, problems = check(table(*chains, **more))
    assert recipe is None
    return "\n".join(map(str, problems))


def names(*chains: dict[str, Any], on: tuple[Target, ...] = (HOST,)) -> list[str]:
    return [node.name for node in nodes(made(*chains), on)]


# --- what is wrong --------------------------------------------------------------------------------------------------


def test_every_problem_at_once() -> None:
    recipe, problems = check(
        {
            "task": "barz",
            "seeds": 1,
            "targets": ["hots"],
            "train": {"epochz": 1, "lr": "fast"},
            "chain": [
                chain("trian"),
                chain({"step": "train", "batch": 0}, name="a.b"),
                chain({"model": "cnn"}, 3),
                {"steps": [], "nmae": "x"},
            ],
            "plan": {"threads": 0, "thread": 1},
            "gates": 3,
        }
    )
    text = "\n".join(map(str, problems))
    assert recipe is None
    for wanted in (
        "task: there is no task 'barz' (did you mean bars?)",
        "unknown key 'seeds' (did you mean seed?)",
        "there is no target 'hots' (did you mean host?)",
        "chain 1, step 1: there is no step 'trian' (did you mean train or pretrain?)",
        "the name 'a.b' must not contain",
        "chain 3, step 1: must be a name or {step =",
        "chain 3, step 2: must be a name or {step =",
        "chain 4: unknown key 'nmae' (did you mean name?)",
        "chain 4: steps must be a non-empty list of steps",
        "unknown key 'thread' (did you mean threads?)",
        "gates: must be a table",
    ):
        assert wanted in text


def test_fields_of_steps() -> None:
    text = said(chain({"step": "train", "epochs": "3", "batch": 0}), chain({"step": "train", "batch": 0, "lr": -1.0}))
    assert "step 1 (train).epochs: must be an integer" in text
    assert "batch must be at least 1" in text
    assert "lr must be a positive number" in text
    assert "no network 'cmn' (did you mean cnn?" in said(chain({"step": "train", "model": "cmn"}))


def test_chains_that_do_not_fit() -> None:
    assert "the first step, to_onnx, needs torch" in said(chain("to_onnx"))
    assert "onnx_int8 accepts onnx, but train before it produces torch" in said(chain("train", "onnx_int8"))
    assert "train must be the first step of a chain, not step 2" in said(chain("train", "train"))
    text = said(chain("train", "onnx_int8", "to_onnx"))
    assert "to_onnx accepts torch, but onnx_int8 before it produces onnx[int8]" in text, (
        "only the first misfit was named"
    )


@pytest.mark.parametrize("chains", [None, [], 3, "x", ["train"], {"steps": ["train"]}])
def test_chains_that_are_no_chains(chains: Any) -> None:
    recipe, problems = check({"task": "bars", **({} if chains is None else {"chain": chains})})
    assert recipe is None
    assert any("chain" in str(problem) for problem in problems)


@pytest.mark.parametrize("name", ["a/b", "a.b", "../x", "x@y", "x~y", "-x", "a\\b", "a\0", "a\n", "x" * 99, 3])
def test_names_that_would_not_be_folders(name: Any) -> None:
    assert "must not contain" in said({"name": name, "steps": ["train"]})


def test_a_task_is_needed() -> None:
    recipe, problems = check({"chain": [chain("train")]})
    assert recipe is None
    assert "'task' is missing" in "\n".join(map(str, problems))


# --- names and graphs -----------------------------------------------------------------------------------------------


def test_the_plain_names() -> None:
    assert names(chain("train", "to_onnx", "onnx_int8")) == ["torch", "onnx", "onnx-int8"]
    assert names(chain("train", "to_onnx", "onnx_fp16", name="a")) == ["a.torch", "a.onnx", "a.onnx-fp16"]


def test_earlier_ones_of_a_format_add_their_step() -> None:
    assert names(chain("train", "torch_copy", "to_onnx")) == ["torch~train", "torch", "onnx"]
    assert names(chain("train", "torch_copy", {"step": "torch_copy", "note": "2"}, name="c")) == [
        "c.torch~train",
        "c.torch~torch_copy",
        "c.torch",
    ]


def test_a_shared_prefix_is_made_once_under_its_first_name() -> None:
    found = nodes(
        made(chain("train", "to_onnx", "onnx_int8"), chain("train", "to_onnx", "onnx_fp16", name="half")), [HOST]
    )
    assert [node.name for node in found] == ["torch", "onnx", "onnx-int8", "half.onnx-fp16"]
    assert found[-1].parents == {"parent": "onnx"}
    assert found[0].parents == {}


def test_a_prefix_with_another_field_is_another() -> None:
    assert names(chain("train", "to_onnx"), chain({"step": "train", "epochs": 3}, "to_onnx", name="b")) == [
        "torch",
        "onnx",
        "b.torch",
        "b.onnx",
    ]


def test_duplicate_names_are_refused() -> None:
    two = made(chain("train"), chain({"step": "train", "epochs": 3}))
    with pytest.raises(RecipeError) as error:
        nodes(two, [HOST])
    assert "two different artifacts would be called 'torch'" in str(error.value.problems[0])


def test_another_instruction_set_adds_its_name() -> None:
    found = nodes(made(chain("train", "to_onnx", "onnx_int8")), [HOST, PI])
    assert [node.name for node in found] == ["torch", "onnx", "onnx-int8", "onnx-int8@arm64"]
    assert [getattr(found[i].step, "scheme", "") for i in (2, 3)] == ["u8s8", "s8s8"]
    assert found[3].parents == {"parent": "onnx"}
    same = dataclasses.replace(HOST, name="other")
    assert len(nodes(made(chain("train", "to_onnx", "onnx_int8")), [HOST, same])) == 3


def test_references_are_parents_and_come_first() -> None:
    found = nodes(
        made(
            chain("train", {"step": "torch_copy", "teacher": "big.torch"}, name="small"),
            chain({"step": "train", "epochs": 3}, name="big"),
        ),
        [HOST],
    )
    order = [node.name for node in found]
    assert order.index("big.torch") < order.index("small.torch")
    parents = {node.name: node.parents for node in found}
    assert parents["small.torch"] == {"parent": "small.torch~train", "teacher": "big.torch"}


def test_references_to_nothing() -> None:
    bad = made(chain("train", {"step": "torch_copy", "teacher": "bgi.torch"}), chain("train", name="big"))
    with pytest.raises(RecipeError) as error:
        nodes(bad, [HOST])
    assert "teacher = 'bgi.torch' is neither an artifact nor a file" in str(error.value.problems[0])


def test_references_to_files_are_left_to_the_step(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.touch()
    (node,) = nodes(made(chain({"step": "train", "init": str(weights)})), [HOST])
    assert node.parents == {}


def test_cycles_are_refused() -> None:
    bad = made(
        chain("train", {"step": "torch_copy", "teacher": "b.torch"}, name="a"),
        chain("train", {"step": "torch_copy", "teacher": "a.torch", "note": "x"}, name="b"),
    )
    with pytest.raises(RecipeError) as error:
        nodes(bad, [HOST])
    assert "depend on each other" in str(error.value.problems[0])
    assert "a.torch" in str(error.value.problems[0])


def test_itself_as_a_teacher_is_a_cycle() -> None:
    bad = made(chain("train", {"step": "torch_copy", "teacher": "torch"}))
    with pytest.raises(RecipeError, match="1 problem"):
        nodes(bad, [HOST])


# --- defaults, seeds, --set -----------------------------------------------------------------------------------------


def test_shared_defaults_and_the_seed() -> None:
    recipe = made(chain("train"), chain({"step": "train", "epochs": 9}, name="b"), train={"lr": 0.5}, seed=7)
    first, second = (c.steps[0] for c in recipe.chains)
    assert (first.lr, first.seed) == (0.5, 7)  # type: ignore[attr-defined]
    assert (second.lr, second.epochs) == (0.5, 9)  # type: ignore[attr-defined]
    own = made(chain({"step": "train", "seed": 1}), seed=7)
    assert own.chains[0].steps[0].seed == 1  # type: ignore[attr-defined]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "r.toml"
    path.write_text('task = "bars"\n[[chain]]\nsteps = [{step = "train", epochs = 9}, "to_onnx", "onnx_int8"]\n')
    return path


def test_set_reaches_every_field(written: Path) -> None:
    recipe = recipes.load(
        str(written),
        [
            "train.epochs=3",
            "train.lr=0.25",
            "train.model=ds-cnn",
            "onnx_int8.scheme=s8s8",
            "plan.threads=2",
            "gates.strict=true",
            "seed=5",
            'targets=["null"]',
        ],
    )
    train, _, int8 = recipe.chains[0].steps
    assert (train.epochs, train.lr, train.model, train.seed) == (3, 0.25, "ds-cnn", 5)  # type: ignore[attr-defined]
    assert int8.scheme == "s8s8"  # type: ignore[attr-defined]
    assert (recipe.plan.threads, recipe.gates.strict, recipe.targets) == (2, True, ("null",))


def test_set_that_cannot_be(written: Path) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.load(str(written), ["train.epochs", "train.epochs=many", "nothing.here=3", "task.x=1", "train.epoch=1"])
    text = "\n".join(map(str, error.value.problems))
    for wanted in (
        "'train.epochs' is not step.field=value",
        "train.epochs: must be an integer",
        "unknown key 'nothing'",
        "'task' is not a table",
        "unknown key 'epoch'",
    ):
        assert wanted in text


def test_finding_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipes.find("mnist").is_file()
    with pytest.raises(InputError) as error:
        recipes.find("mnits")
    assert "mnist" in error.value.next
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mnist.toml").touch()
    trust(tmp_path)
    assert recipes.find("mnist") == tmp_path / "recipes" / "mnist.toml", "the working directory does not win"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_shipped_recipes_are_sound(name: str) -> None:
    recipe = recipes.load(name)
    found = [node.name for node in nodes(recipe, [targets.load(t) for t in recipe.targets])]
    assert {"torch", "onnx", "onnx-int8", "ds.torch", "ds.onnx", "ds.onnx-int8"} <= set(found)
    assert recipe.gates.max_drop_pp == 0.5


# --- properties -----------------------------------------------------------------------------------------------------

steps_of_chains = st.sampled_from(
    [
        ["train"],
        ["train", "to_onnx"],
        ["train", "to_onnx", "onnx_int8"],
        ["train", "to_onnx", "onnx_fp16"],
        ["train", "torch_copy", "to_onnx"],
        [{"step": "train", "model": "ds-cnn", "lr": 0.25}, "to_onnx"],
        ["train", {"step": "to_onnx", "opset": 19}, {"step": "onnx_int8", "samples": 9, "scheme": "s8s8"}],
    ]
)
recipe_tables = st.builds(
    lambda chains, seed, threads, seconds, drop, strict, epochs: table(
        *(chain(*steps, name=name) for name, steps in chains.items()),
        seed=seed,
        plan={"threads": threads, "seconds": seconds},
        gates={"max_drop_pp": drop, "strict": strict},
        train={"epochs": epochs},
    ),
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True) | st.just(""), steps_of_chains, min_size=1, max_size=4
    ),
    st.integers(-(2**31), 2**31),
    st.integers(1, 64),
    st.floats(0.01, 100),
    st.floats(0, 100),
    st.booleans(),
    st.integers(1, 100),
)
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(recipe_tables)
@relaxed
def test_a_recipe_survives_being_written(data: dict[str, Any]) -> None:
    recipe, problems = check(data)
    assert recipe is not None, problems
    again, problems = check(tomllib.loads(tomli_w.dumps(to_table(recipe))))
    assert not problems
    assert again == recipe
    assert [n.name for n in nodes(recipe, [HOST])] == [n.name for n in nodes(recipe, [HOST])]


@given(recipe_tables)
@relaxed
def test_a_graph_is_sound(data: dict[str, Any]) -> None:
    recipe, _ = check(data)
    assert recipe is not None
    found = nodes(recipe, [HOST, PI])
    seen: set[str] = set()
    for node in found:
        assert node.name not in seen
        assert set(node.parents.values()) <= seen, "a parent comes after its child"
        assert ("parent" in node.parents) == bool(node.step.accepts)
        seen.add(node.name)
    assert len({(n.step, tuple(n.parents.items())) for n in found}) == len(found), "something is made twice"


words = st.sampled_from(
    [
        "task",
        "seed",
        "targets",
        "chain",
        "plan",
        "gates",
        "train",
        "to_onnx",
        "name",
        "steps",
        "step",
        "epochs",
        "lr",
        "model",
    ]
) | st.text(max_size=5)
things = st.recursive(
    st.booleans() | st.integers() | st.floats() | words | st.none() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=25,
)
near_recipes = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["bars", "mnist", 3]) | things,
        "seed": st.integers() | things,
        "targets": st.just(["host"]) | things,
        "train": st.just({"epochs": 2}) | things,
        "plan": st.dictionaries(st.sampled_from(["threads", "seconds", "batch"]), things) | things,
        "gates": things,
        "chain": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "name": words | things,
                    "steps": st.lists(
                        st.sampled_from(["train", "to_onnx", "onnx_int8", "import_onnx"])
                        | st.fixed_dictionaries({"step": st.just("train")}, optional={"epochs": things, "init": things})
                        | things,
                        max_size=4,
                    )
                    | things,
                },
            )
            | things,
            max_size=3,
        )
        | things,
    },
)


@given(near_recipes | st.dictionaries(words, things, max_size=6))
@settings(relaxed, max_examples=300)
def test_any_table_is_a_recipe_or_problems(data: Mapping[str, Any]) -> None:
    recipe, problems = check(data)
    assert (recipe is None) == bool(problems)
    assert all(isinstance(problem, Problem) and problem.what for problem in problems)
    if recipe is not None:
        try:
            nodes(recipe, [HOST])
        except RecipeError as error:
            assert error.problems


@given(st.lists(st.text(max_size=12) | st.builds("{}.{}={}".format, words, words, st.text(max_size=6)), max_size=4))
@relaxed
def test_any_set_is_taken_or_refused(texts: list[str]) -> None:
    data = table(chain("train", {"step": "to_onnx"}))
    problems = recipes._apply_sets(data, texts)
    assert all(problem.what for problem in problems)
    check(data)


def test_step_names_are_registry_keys() -> None:
    for name in registry.names("steps"):
        assert registry.class_name(name) == registry.load("steps", name).__name__
