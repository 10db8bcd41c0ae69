"""CPU of a process and its descendants, from /proc."""

import os

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _fields(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        text = file.read()
    # The command may contain anything, parentheses too: what follows the last one is numbers.
    return text[text.rindex(")") + 2 :].split()


def tree(root):
    """`root` and its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(_fields(name)[1]), []).append(int(name))
            except (OSError, ValueError):
                pass  # gone since it was listed
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def cpu(root):
    """(user, system) seconds of `root`'s tree, all threads and all children that were waited for."""
    user = system = 0
    for pid in tree(root):
        try:
            fields = _fields(pid)
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND


def peak_kib(root):
    """Peak resident memory of `root`, KiB."""
    with open(f"/proc/{root}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
