"""Temperature, clock, throttling and power of the device: standard library only; None if a value cannot be read.

Every source has a pure parser, tested on recorded output. Energy comes from a counter (RAPL, Linux powercap) or from
power readings: Texas Instruments' INA sensors (hwmon, or iio on older Jetsons) or the Raspberry Pi 5's PMIC. If a chip
measures the whole board, its rail is used, else the sum of all rails. The idle power is included.
"""

import glob
import os
import re
import shutil
import subprocess
import threading
import time

#: Raspberry Pi firmware's flags: now capped, throttled or at the soft temperature limit (bit 0 is low voltage)
THROTTLED = 0b1110
#: Jetson's names of the rails that supply the whole board
BOARD_RAILS = ("VDD_IN", "POM_5V_IN")
SAMPLE_SECONDS = 0.25


# --- parsers ---------------------------------------------------------------------------------------------------------


def temperature(texts):
    """Thermal zones in thousandths of a degree → degrees of the hottest; a zone that is off can be invalid."""
    degrees = [int(text) / 1000.0 for text in texts if re.match(r"-?\d+\s*$", text)]
    sane = [value for value in degrees if -40 < value < 150]
    return max(sane) if sane else None


def frequency(texts, cpuinfo):
    """`scaling_cur_freq` of each core in kHz, else the `cpu MHz` of /proc/cpuinfo → MHz of the fastest."""
    mhz = [int(text) / 1000.0 for text in texts if re.match(r"\d+\s*$", text)]
    mhz = mhz or [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.M)]
    return round(max(mhz), 1) if mhz else None


def firmware(text):
    """`throttled=0x50005` or `50005` → is the clock throttled now; None for any other text."""
    match = re.match(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})\s*$", text)
    return bool(int(match.group(1), 16) & THROTTLED) if match else None


def rapl(before, after, ranges):
    """Microjoules of each package before and after, and its counter's range → joules."""
    return sum((b - a) if b >= a else (b - a + wrap) for a, b, wrap in zip(before, after, ranges)) / 1e6


def pmic(text):
    """`vcgencmd pmic_read_adc`: NAME_A current(i)=xA and NAME_V volt(i)=yV → watts of all rails that have both."""
    amps = {name: float(value) for name, value in re.findall(r"^\s*(\w+)_A current\(\d+\)=([\d.]+)A", text, re.M)}
    volts = {name: float(value) for name, value in re.findall(r"^\s*(\w+)_V volt\(\d+\)=([\d.]+)V", text, re.M)}
    both = set(amps) & set(volts)
    return sum(amps[name] * volts[name] for name in both) if both else None


def ina(files):
    """A hwmon folder's or an iio device's files (name → text) → rail → watts.

    hwmon: powerN_input in µW, else inN_input in mV times currN_input in mA, named by inN_label; iio: in_powerN_input
    in mW, named by rail_name_N (NVIDIA's driver).
    """
    rails = {}
    for name, text in files.items():
        number = re.match(r"\s*(\d+)\s*$", text)
        power = re.match(r"power(\d+)_input$", name)
        volt = re.match(r"in(\d+)_input$", name)
        iio = re.match(r"in_power(\d+)_input$", name)
        if not number:
            continue
        if power:
            rails[files.get("power%s_label" % power.group(1), "rail " + power.group(1)).strip()] = int(text) / 1e6
        elif iio:
            rails[files.get("rail_name_%s" % iio.group(1), "rail " + iio.group(1)).strip()] = int(text) / 1e3
        elif volt:
            amps = files.get("curr%s_input" % volt.group(1), "")
            if re.match(r"\s*\d+\s*$", amps):
                label = files.get("in%s_label" % volt.group(1), "rail " + volt.group(1)).strip()
                rails[label] = int(text) * int(amps) / 1e6
    return rails


def board(rails):
    """(watts, rail name) of the whole board's rail, if there is one; else the sum of all rails."""
    for name in BOARD_RAILS:
        if name in rails:
            return rails[name], name
    return (sum(rails.values()), "all rails") if rails else (None, "")


# --- readers ---------------------------------------------------------------------------------------------------------


def text_of(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def texts(pattern):
    return [text_of(path) for path in sorted(glob.glob(pattern))]


def output_of(command):
    if not shutil.which(command[0]):
        return ""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5).stdout.decode()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def temperature_now(root="/sys"):
    zones = temperature(texts(root + "/class/thermal/thermal_zone*/temp"))
    return zones if zones is not None else temperature(texts(root + "/class/hwmon/hwmon*/temp*_input"))


def frequency_now():
    cores = texts("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    return frequency(cores, "" if cores else text_of("/proc/cpuinfo"))


def firmware_now():
    text = text_of("/sys/devices/platform/soc/soc:firmware/get_throttled")
    return firmware(text or output_of(["vcgencmd", "get_throttled"]))


class Energy:
    """Joules since its creation; `source` names the sensor, "" if the board has none.

    A counter costs nothing while it counts. Power is sampled by a thread, if `sampling` is set: a thread would disturb
    a timed loop.
    """

    def __init__(self, sampling, root="/sys"):
        self._rapl = [
            folder
            for folder in sorted(glob.glob(root + "/class/powercap/intel-rapl:*"))
            if text_of(folder + "/name").startswith("package") and text_of(folder + "/energy_uj").strip()
        ]
        self.source = "rapl, %d package(s)" % len(self._rapl) if self._rapl else ""
        self._before = self._counters()
        self._joules, self._stop, self._thread = 0.0, threading.Event(), None
        if not self._rapl and sampling:
            self._root = root
            watts, self.source = self._power()
            if watts is not None:
                self._thread = threading.Thread(target=self._sample, daemon=True)
                self._thread.start()

    def joules(self):
        """Joules so far, None if there is no sensor."""
        if self._rapl:
            wraps = [int(text_of(folder + "/max_energy_range_uj") or 0) for folder in self._rapl]
            return rapl(self._before, self._counters(), wraps)
        return self._joules if self._thread else None

    def close(self):
        self._stop.set()
        if self._thread:
            self._thread.join(10)

    def _counters(self):
        return [int(text_of(folder + "/energy_uj") or 0) for folder in self._rapl]

    def _power(self):
        rails = {}
        for folder in glob.glob(self._root + "/class/hwmon/hwmon*"):
            if text_of(folder + "/name").startswith("ina"):
                rails.update(ina({name: text_of(os.path.join(folder, name)) for name in os.listdir(folder)}))
        for folder in glob.glob(self._root + "/bus/iio/devices/iio:device*"):
            if text_of(folder + "/name").startswith("ina"):
                rails.update(ina({name: text_of(os.path.join(folder, name)) for name in os.listdir(folder)}))
        watts, rail = board(rails)
        if watts is not None:
            return watts, "ina, " + rail
        watts = pmic(output_of(["vcgencmd", "pmic_read_adc"]))
        return (watts, "pmic_read_adc") if watts is not None else (None, "")

    def _sample(self):
        last = time.monotonic()
        while not self._stop.wait(SAMPLE_SECONDS):
            watts, _ = self._power()
            now = time.monotonic()
            self._joules += (watts or 0.0) * (now - last)
            last = now
