"""How to have the run again, and how its clock relates to a cluster's."""

from __future__ import annotations

import shlex

from .shape import Report


def command(report: Report) -> str:
    """The command line that runs the same scenario under the same steps again."""
    words = ["shoal", "lab", "run", report["source"], "--ladder", ",".join(report["steps"])]
    words += ["--seed", str(report["seed"]), "--time-scale", f"{report['time_scale']:g}"]
    return shlex.join([*words, *report["options"]])


def command_lines(report: Report, width: int) -> list[str]:
    """The same command for a shell, broken before options so that lines fit *width* if that can be helped."""
    lines = [""]
    for number, words in enumerate(command(report).split(" --")):
        option = f"--{words}" if number else words
        if lines[-1] and len(lines[-1]) + len(" ") + len(option) + len(" \\") > width:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {option}" if lines[-1] else option
    return lines


def time_note(report: Report) -> str:
    """One sentence on what a second of this run is worth in a cluster."""
    scale = report["time_scale"]
    if scale == 1:
        return "Nothing is sped up: 1 s here is 1 s of a cluster with the kubelet's default probes."
    return f"1 s here is {scale:g} s of a cluster with the kubelet's default probes."
