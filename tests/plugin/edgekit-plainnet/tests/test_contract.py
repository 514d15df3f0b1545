"""Plainnet keeps what edgekit asks of every member."""

from edgekit.testing import ExporterContract, FormatContract, RuntimeContract, StepContract


class TestFormats(FormatContract):
    members = ("plainnet",)


class TestSteps(StepContract):
    members = ("to_plainnet", "plainnet_int8")


class TestExporters(ExporterContract):
    members = ("to_plainnet",)


class TestRuntimes(RuntimeContract):
    members = ("plainnet",)
