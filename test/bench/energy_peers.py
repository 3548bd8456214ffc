# Zeus, pyJoules, CodeCarbon and jtop on a simulated machine (a tree that stands for sysfs: RAPL each millisecond, an INA3221 each 100 ms), for
# `npm run bench:energy`. Their own reading code, pointed at the tree; no line of theirs is here. Usage: energy_peers.py TREE CASES_JSON
# Prints one JSON line a case: the window on the monotonic clock, the true joules and what each tool answers.
import json
import multiprocessing as mp
import os
import random
import statistics
import sys
import threading
import time

IDLE_W, LOAD_W = 8.0, 25.0
RANGE_UJ = 65_532_610_987
VOLTS = 5.0
LSB_MA = 8


def write(path, value):
    with open(path + ".new", "w") as file:
        file.write(f"{value}\n")
    os.replace(path + ".new", path)


def play(root, loaded, joules, jump, stop):
    """Stands for the hardware: counts the true joules, shows them as the sensors would."""
    rapl = f"{root}/class/powercap/intel-rapl:0/energy_uj"
    amperes = f"{root}/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0/curr1_input"
    noise, noise_until = 1.0, 0.0
    offset, last, shown, shown_at = 0.0, time.monotonic(), 0.0, time.monotonic()
    while not stop.value:
        now = time.monotonic()
        if now >= noise_until:  # a machine's power is never still
            noise, noise_until = 1 + 0.03 * (2 * random.random() - 1), now + 0.05
        joules.value += (now - last) * noise * (LOAD_W if loaded.value else IDLE_W)
        last = now
        if jump.value >= 0:
            offset, jump.value = jump.value - joules.value, -1.0
        write(rapl, int((joules.value + offset) * 1e6) % RANGE_UJ)
        if now - shown_at >= 0.1:
            watts = (joules.value - shown) / (now - shown_at)
            shown, shown_at = joules.value, now
            write(amperes, round(watts / VOLTS * 1000 / LSB_MA) * LSB_MA)
        time.sleep(0.0008)


def main():
    root, cases = sys.argv[1], json.loads(sys.argv[2])
    powercap = f"{root}/class/powercap"
    hwmon = f"{root}/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon0"
    loaded, joules = mp.Value("i", 0), mp.Value("d", 0.0)
    jump, stop = mp.Value("d", -1.0), mp.Value("i", 0)
    hardware = mp.Process(target=play, args=(root, loaded, joules, jump, stop), daemon=True)
    hardware.start()
    time.sleep(0.3)

    import zeus.device.cpu.rapl as zeus_rapl
    import zeus.device.soc.jetson as zeus_jetson
    import pyJoules.device.rapl_device as pyjoules
    from codecarbon.core.cpu import IntelRAPL
    from codecarbon.core.units import Time
    from jtop.core.power import list_all_i2c_ports, read_power_status
    from pathlib import Path

    zeus_cpu = zeus_rapl.RAPLCPU(0, powercap)
    zeus_cpu.get_total_energy_consumption()  # starts its tracker of wraps
    # Its class checks for a Jetson's files first: here it is given the rail.
    zeus_jetson.jetson_is_available = lambda: True
    rail = {"total_power_mw": zeus_jetson.VoltageCurrentProduct(Path(f"{hwmon}/in1_input"), Path(f"{hwmon}/curr1_input"))}
    zeus_jetson.Jetson._discover_available_metrics = lambda self: rail
    zeus_soc = zeus_jetson.Jetson()
    pyjoules.RAPL_API_DIR = powercap
    device = pyjoules.RaplDevice()
    device.configure(domains=[pyjoules.RaplPackageDomain(0)])
    ports = list_all_i2c_ports(hwmon)

    polls = []

    def poll():
        while not stop.value:
            values = read_power_status(dict(ports["VDD_IN"]))
            polls.append((time.monotonic(), values["volt"] * values["curr"] / 1e6))
            time.sleep(1)

    threading.Thread(target=poll, daemon=True).start()
    zeus_soc.get_total_energy_consumption()
    for case in cases:
        seconds, wraps = case["seconds"], case["wraps"]
        lead = 3.0
        half = LOAD_W * seconds / 2
        jump.value = RANGE_UJ / 1e6 - half - IDLE_W * lead if wraps else 1000.0
        time.sleep(0.05)
        begun = joules.value
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        # What the tools need to begin is left before the window whose middle is to be the wrap.
        while joules.value - begun < IDLE_W * (lead - 0.15):
            time.sleep(0.001)
        carbon = IntelRAPL(rapl_dir=powercap)
        carbon.start()
        zeus_soc.begin_window("w")
        before = (zeus_cpu.get_total_energy_consumption().cpu_mj, device.get_energy()[0])
        true_before, began = joules.value, time.monotonic_ns()
        loaded.value = 1
        time.sleep(seconds)
        loaded.value = 0
        ended, true_after = time.monotonic_ns(), joules.value
        after = (zeus_cpu.get_total_energy_consumption().cpu_mj, device.get_energy()[0])
        soc = zeus_soc.end_window("w")
        details = carbon.get_cpu_details(Time(seconds))
        kwh = sum(value for name, value in details.items() if "Energy" in name)
        inside = [watts for at, watts in polls if began / 1e9 <= at <= ended / 1e9] or [polls[-1][1]]
        answer = {
            "beganMs": began / 1e6,
            "endedMs": ended / 1e6,
            "trueJoules": true_after - true_before,
            "tools": {
                "Zeus, RAPL": (after[0] - before[0]) / 1e3,
                "pyJoules": (after[1] - before[1]) / 1e6,
                "CodeCarbon, RAPL": kwh * 3.6e6,
                "Zeus, Jetson INA3221": soc.total_energy_mj / 1e3,
                "jtop, 1 s poll x time": statistics.mean(inside) * (ended - began) / 1e9,
            },
        }
        print(json.dumps(answer), flush=True)
        sys.stdin.readline()
    stop.value = 1
    zeus_soc._stop_process()
    os._exit(0)


if __name__ == "__main__":
    main()
