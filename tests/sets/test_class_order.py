"""Labels as indices into the model's classes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.sets.class_order import in_order_of


def labelled(labels: list[int], classes: tuple[str, ...] = ()) -> SampleSet:
    return SampleSet("photos", {"x": np.zeros(len(labels))}, np.array(labels), "sha", classes=classes)


def test_a_folders_classes_get_the_models_indices() -> None:
    ordered = in_order_of(labelled([0, 1, 2, 1], ("bird", "cat", "dog")), ("dog", "cat", "bird", "fish"))
    assert ordered.labels is not None and ordered.labels.tolist() == [2, 1, 0, 1]
    assert ordered.sha256 != "sha" and ordered.classes == ("dog", "cat", "bird", "fish")


def test_what_agrees_or_has_no_names_is_unchanged() -> None:
    for data, classes in (
        (labelled([0, 1], ("cat", "dog")), ("cat", "dog", "fish")),
        (labelled([0, 1], ("cat", "dog")), ()),
        (labelled([0, 2]), ("a", "b", "c")),
        (SampleSet("s", {"x": np.zeros(2)}, np.array([0.5, 3.0]), "sha"), ("a", "b")),
        (SampleSet("s", {"x": np.zeros(2)}, None, "sha"), ("a", "b")),
    ):
        assert in_order_of(data, classes) is data


def test_a_class_that_the_model_does_not_name() -> None:
    with pytest.raises(InputError, match="'dogs'") as refused:
        in_order_of(labelled([0, 1], ("cat", "dogs")), ("cat", "dog"))
    assert "dog" in str(refused.value.next)
    with pytest.raises(InputError, match="label 2"):
        in_order_of(labelled([0, 2]), ("cat", "dog"))
