#!/usr/bin/env python3
"""All traces at all lead times: one table of who was short how long at what cost. Standard library only.

    frontiers.py --out DIR [--prescale BIN] [--leads 1m,5m,15m] [--seeds 10] [--jobs 2] [--from-reports] TRACE...

A TRACE is a file of windows as for `prescale backtest`, with what it needs to know after commas:

    requests.csv[,name=N][,config=FILE][,events=FILE][,parts=FILE][,from=TIME][,to=TIME][,step=1m][,early=10s][,signal=value]

Without a configuration one is written for 200 units at the highest load (of windows of `step`, in the column `signal`), and
with decisions from the first `early` of a window on; `early=` has them wait for closed windows.
Each trace is one run of `prescale backtest --sweep` with all lead times, so that forecasts are made once; they are kept
in DIR/NAME and used again. So many as `--jobs` run side by side: forecasts are made on one core each. With --from-reports nothing is flown: the tables are made of DIR/NAME/report.json.

A cell (trace and lead time) is won where Prescale's frontier lies on or beyond that of every baseline but the oracle.
The tables go to standard output and to DIR/frontiers.md.
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNITS_AT_PEAK = 200
CONFIG = """[features]
step = "{step}"
{early}[forecast]
step = "{step}"
[[services]]
name = "web"
signal = "{signal}"
unit_capacity = {capacity:.6g}
target = {{ kind = "aws-asg", group = "web", min = 1, max = {most}, price_usd_hour = 0.1 }}
"""
# Judged apart: it knows the future.
ORACLE = "oracle"


class Trace:
    def __init__(self, text):
        path, *options = text.split(",")
        known = {"name", "config", "events", "parts", "from", "to", "step", "early", "signal"}
        self.options = dict(option.split("=", 1) for option in options if "=" in option)
        if len(self.options) < len(options) or set(self.options) - known:
            raise SystemExit(f"trace `{text}`: after the path comes KEY=VALUE with one of {', '.join(sorted(known))}")
        self.path = Path(path)
        self.name = self.options.get("name", self.path.name.split(".")[0])

    def config(self, folder):
        """The configuration, written where none is given."""
        if "config" in self.options:
            return Path(self.options["config"])
        signal = self.options.get("signal", "value")
        opened = gzip.open if self.path.suffix == ".gz" else open
        with opened(self.path, "rt", newline="") as file:
            loads = [float(row[signal]) for row in csv.DictReader(file) if row.get(signal)]
        if not loads:
            raise SystemExit(f"trace `{self.path}` has no load in a column `{signal}`")
        step, capacity = self.options.get("step", "1m"), max(loads) / UNITS_AT_PEAK
        early = self.options.get("early", "10s")
        early = f'early_step = "{early}"\n' if early else ""
        path = folder / "prescale.toml"
        path.write_text(CONFIG.format(step=step, early=early, signal=signal, capacity=capacity, most=2 * UNITS_AT_PEAK))
        return path


def fly(trace, arguments):
    """One run; what it reports, and the seconds that it took."""
    folder = arguments.out / trace.name
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.from_reports:
        return json.loads((folder / "report.json").read_text()), None
    log = open(folder / "log", "w")
    command = [arguments.prescale, "backtest", "-c", trace.config(folder), "--history", trace.path, "--sweep", "--json"]
    command += ["--lead-times", arguments.leads, "--seeds", str(arguments.seeds), "--out", folder]
    for option in ("events", "parts", "from", "to"):
        if option in trace.options:
            command += [f"--{option}", trace.options[option]]
    begun = time.monotonic()
    done = subprocess.run([os.fspath(part) for part in command], stdout=subprocess.PIPE, stderr=log, text=True)
    if done.returncode != 0:
        raise SystemExit(f"`prescale backtest` on `{trace.path}` ended with {done.returncode}, see `{log.name}`")
    return json.loads(done.stdout), time.monotonic() - begun


def seconds(span):
    """For the order of lead times."""
    units = {"h": 3600, "m": 60, "s": 1}
    total, digits = 0.0, ""
    for letter in span:
        if letter.isdigit() or letter == ".":
            digits += letter
        elif digits:
            total, digits = total + float(digits) * units.get(letter, 0), ""
    return total


def cells(report):
    """By lead time: its card, and how Prescale's frontier lies to each other one."""
    beyond = report.get("beyond", {})
    cards = report.get("lead_times") or {lead: report for lead in beyond}
    return [(lead, cards[lead], beyond.get(lead, {})) for lead in sorted(cards, key=seconds)]


def least_violation(frontier, cost):
    """The least percent of time short at no more than this cost; a mean of two points is one of its own."""
    best = None
    points = sorted(frontier)
    for a in points:
        if a[0] <= cost:
            best = a[1] if best is None else min(best, a[1])
        for b in points:
            if a[0] <= cost < b[0]:
                between = a[1] + (b[1] - a[1]) * (cost - a[0]) / (b[0] - a[0])
                best = between if best is None else min(best, between)
    return best


def number(value, form):
    return "–" if value is None else form.format(value)


def rows(name, lead, card, beyond):
    """The lines of one cell, Prescale first."""
    order = sorted(card["systems"], key=lambda system: (system != "prescale", system == ORACLE, system))
    for system in order:
        score, found = card["systems"][system], beyond.get(system)
        if system == "prescale":
            verdict = ""
        elif found is None:
            verdict = "–"
        else:
            verdict = "yes" if found["on_or_beyond"] else f"no, {found['beaten']} of {found['points']}"
            verdict += number(found.get("worst_excess_pct"), " ({:+.1f} %)")
        yield [
            name,
            lead,
            system,
            score.get("chosen", ""),
            number(score["violations"]["time_pct"], "{:.3f}"),
            number(score["violations"]["requests_pct"], "{:.3f}"),
            number(score["cost_usd"], "{:.2f}"),
            number(score.get("actions"), "{:.0f}"),
            number(score.get("regret_to_oracle"), "{:+.1f}"),
            verdict,
        ]


HEADS = ["trace", "lead", "system", "setting", "time %", "requests %", "cost USD", "actions", "regret %", "beyond it"]


def table(heads, lines):
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def verdict(name, lead, card, beyond):
    """Whether the cell is won, at whom it is not, and violations at HPA's cost as a share of HPA's."""
    lost = [system for system, found in beyond.items() if system != ORACLE and not found["on_or_beyond"]]
    hpa, ratio = card["systems"].get("hpa"), None
    if hpa and hpa["violations"]["time_pct"] > 0:
        ours = least_violation(card["frontier"]["prescale"], hpa["cost_usd"])
        ratio = None if ours is None else ours / hpa["violations"]["time_pct"]
    worst = {system: number(beyond[system].get("worst_excess_pct"), "{:+.1f} %") for system in lost}
    at = ", ".join(f"{system} ({worst[system]})" for system in sorted(lost))
    said = "not judged" if not beyond else "lost" if lost else "won"
    return [name, lead, said, at, number(ratio, "{:.2f}")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", metavar="TRACE", type=Trace)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--prescale", default="prescale")
    parser.add_argument("--leads", default="1m,5m,15m")
    parser.add_argument("--seeds", default=10, type=int)
    parser.add_argument("--jobs", default=2, type=int)
    parser.add_argument("--from-reports", action="store_true")
    arguments = parser.parse_args()
    names = [trace.name for trace in arguments.traces]
    if len(set(names)) < len(names):
        raise SystemExit(f"two traces have the same name: {', '.join(names)}")
    scores, verdicts, times, notes = [], [], [], []
    begun = time.monotonic()
    with ThreadPoolExecutor(max(arguments.jobs, 1)) as pool:
        runs = [pool.submit(fly, trace, arguments) for trace in arguments.traces]
        flown = [run.result() for run in runs]
    for trace, (report, took) in zip(arguments.traces, flown):
        for lead, card, beyond in cells(report):
            scores += rows(trace.name, lead, card, beyond)
            verdicts.append(verdict(trace.name, lead, card, beyond))
        parts = report.get("timings", {})
        flying = sum(parts.values()) - parts.get("forecasts", 0.0)
        runs, forecasts = len(report.get("seeds", {}).get("seeds", [])), parts.get("forecasts", 0.0)
        times.append([trace.name, f"{runs}", f"{forecasts:.1f}", f"{flying:.1f}", number(took, "{:.1f}")])
        notes += [f"{trace.name}: {note}" for note in report.get("notes", [])]
        print(f"{trace.name}: done", file=sys.stderr)
    won = sum(line[2] == "won" for line in verdicts)
    lines = [f"Prescale's frontier lies on or beyond that of every baseline in {won} of {len(verdicts)} cells.", ""]
    heads = ["trace", "lead", "cell", "not beyond (cost at worst)", "time short at HPA's cost / HPA's"]
    lines += table(heads, verdicts)
    lines += ["", *table(HEADS, scores), ""]
    lines += table(["trace", "seeds", "forecasts s", "flights s, all cores", "run s"], times)
    if not arguments.from_reports:
        lines += ["", f"All runs, {arguments.jobs} side by side: {(time.monotonic() - begun) / 60:.1f} minutes."]
    lines += [""] + [f"- {note}" for note in notes]
    text = "\n".join(lines).rstrip() + "\n"
    (arguments.out / "frontiers.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
