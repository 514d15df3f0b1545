"""What boards print of their temperature, clock and power. The texts are composed from the documentation of the kernel
(hwmon, powercap, iio), the Raspberry Pi firmware and NVIDIA; no such board was at hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.ondevice import sensors

PMIC = """\
   3V7_WL_SW_A current(0)=0.11613250A
   3V3_SYS_A current(1)=0.09661344A
   VDD_CORE_A current(7)=2.49500000A
   3V7_WL_SW_V volt(8)=3.71533900V
   3V3_SYS_V volt(9)=3.31386300V
   VDD_CORE_V volt(15)=0.72021090V
   EXT5V_V volt(24)=5.14752000V
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_hottest_zone_that_is_sane() -> None:
    assert sensors.temperature(["47712\n", "51000\n", "-274000\n", "nonsense", ""]) == 51.0
    assert sensors.temperature(["-274000\n"]) is None and sensors.temperature([]) is None


def test_the_fastest_core() -> None:
    assert sensors.frequency(["1800000\n", "600000\n"], "") == 1800.0
    assert sensors.frequency([], "processor\t: 0\ncpu MHz\t\t: 2249.998\ncpu MHz\t\t: 3100.1\n") == 3100.1
    assert sensors.frequency(["<unavailable>"], "") is None


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("throttled=0x0", False),
        ("throttled=0x50000", False),  # it was, and is no longer
        ("throttled=0x50005", True),
        ("0x1", False),  # the voltage is low, the clock is not held back
        ("8\n", True),
        ("error", None),
        ("", None),
    ],
)
def test_the_raspberry_pi_s_firmware(text: str, held: bool | None) -> None:
    assert sensors.firmware(text) is held


def test_the_raspberry_pi_5_s_power() -> None:
    watts = 0.11613250 * 3.71533900 + 0.09661344 * 3.31386300 + 2.495 * 0.72021090
    assert sensors.pmic(PMIC) == pytest.approx(watts), "a rail without a current is left out"
    assert sensors.pmic("Command not registered") is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_counter_that_wraps(before: int, spent: int, more: int) -> None:
    wrap = max(before, spent) + more
    after = (before + spent) % wrap
    assert sensors.rapl([before], [after], [wrap]) == pytest.approx(spent / 1e6)


def test_a_jetson_s_rails() -> None:
    orin = {"in1_label": "VDD_IN\n", "in1_input": "4968\n", "curr1_input": "1192\n"}
    orin |= {"in2_label": "VDD_CPU_GPU_CV\n", "in2_input": "4960\n", "curr2_input": "304\n"}
    rails = sensors.ina(orin)
    assert rails == pytest.approx({"VDD_IN": 4968 * 1192 / 1e6, "VDD_CPU_GPU_CV": 4960 * 304 / 1e6})
    assert sensors.board(rails) == (pytest.approx(5.921856), "VDD_IN")
    nano = {"rail_name_0": "POM_5V_IN\n", "in_power0_input": "2034\n", "rail_name_1": "POM_5V_CPU\n"}
    assert sensors.ina(nano | {"in_power1_input": "400\n"}) == {"POM_5V_IN": 2.034, "POM_5V_CPU": 0.4}
    assert sensors.ina({"power1_input": "2500000\n"}) == {"rail 1": 2.5}
    assert sensors.board({"a": 1.0, "b": 2.0}) == (3.0, "all rails") and sensors.board({}) == (None, "")


@given(
    st.dictionaries(st.from_regex(r"(in|curr|power|in_power)[0-9]_(input|label)", fullmatch=True), st.text(max_size=9))
)
def test_nonsense_is_no_rail_and_no_crash(files: dict[str, str]) -> None:
    assert all(watts >= 0 for watts in sensors.ina(files).values())


def test_energy_of_a_counter(tmp_path: Path) -> None:
    package = "class/powercap/intel-rapl:0"
    files = {f"{package}/name": "package-0\n", f"{package}/energy_uj": "1000\n"}
    write(tmp_path, {**files, f"{package}/max_energy_range_uj": "262143328850\n"})
    write(tmp_path, {"class/powercap/intel-rapl:1/name": "psys\n", "class/powercap/intel-rapl:1/energy_uj": "5\n"})
    energy = sensors.Energy(sampling=False, root=str(tmp_path))
    (tmp_path / package / "energy_uj").write_text("2501000\n")
    assert energy.joules() == 2.5 and energy.source == "rapl, 1 package(s)"
    energy.close()


def test_energy_of_readings(tmp_path: Path) -> None:
    write(tmp_path, {"class/hwmon/hwmon0/name": "ina3221\n", "class/hwmon/hwmon0/power1_input": "4000000\n"})
    energy, started = sensors.Energy(sampling=True, root=str(tmp_path)), time.monotonic()
    time.sleep(3.5 * sensors.SAMPLE_SECONDS)
    energy.close()
    spent = time.monotonic() - started
    assert energy.source == "ina, all rails"
    assert 4.0 * sensors.SAMPLE_SECONDS <= energy.joules() <= 4.0 * spent
    assert sensors.Energy(sampling=False, root=str(tmp_path)).joules() is None, (
        "a timed loop of its own is not disturbed"
    )


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert sensors.temperature_now(str(tmp_path)) is None
    energy = sensors.Energy(sampling=True, root=str(tmp_path))
    assert energy.joules() is None and energy.source == ""
    energy.close()
