"""Map `ssh`'s error output to what it means and what to do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgekit.core import children
from edgekit.core.errors import DeviceError, EdgekitError, InputError
from edgekit.core.target import Address
from edgekit.devices.shared.untrusted import shown


def ssh_error(
    output: Sequence[str], name: str, address: Address, front: Sequence[str], *, opened: bool = False
) -> EdgekitError:
    """The error for the output of ssh or the remote shell; `opened`: the device had answered before.

    `front` is ssh's command line, so that the suggested command can be copied as it is.
    """
    text = "\n".join(output)
    last = shown(last_line(output), 300).rstrip(".")
    by_hand = shlex.join([*front, *address.words()])
    port, user = ["-p", str(address.port)] if address.port else [], f"{address.user}@" if address.user else ""
    for pattern, what, next in _MEANINGS:
        match = re.search(pattern, text)
        # once it was opened, the device's own output is in the text, and could imitate ssh's messages
        if match and (not opened or pattern == STOPPED):
            where = {"name": name, "address": str(address), "by_hand": by_hand}
            where["key"] = _key(match["key"], front, address) if "key" in match.groupdict() else ""
            where["forget"] = _forget(front, address) if "{forget}" in next else ""
            where["copy"] = " ".join(["ssh-copy-id", *port, f"{user}{address.host}"])
            kind = InputError if "configuration" in what else DeviceError
            return kind(what.format(**where), _line(text, match.start()), next.format(**where))
    if opened:
        hint = "is it on, and was it restarted? run the same command again: finished work is kept"
        return DeviceError(f"the connection to {name} was lost", last or "it ended without a message", hint)
    return DeviceError(f"cannot talk to {name} at {address}", last or "it ended without a message", f"try: {by_hand}")


#: time-out of `ssh -G` in seconds
SECONDS = 10
#: ssh's message after ServerAliveCountMax unanswered probes
STOPPED = r"Timeout, server .* not responding"
#: (pattern of ssh's output, what happened, what to do), the most specific first
_MEANINGS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "the host key of {name} has changed",
        "it was reinstalled, or this is another machine. If you know why: {forget}, then: {by_hand} true",
    ),
    (
        r"[Hh]ost key is known for|Host key verification failed",
        "the host key of {name} is unknown",
        "compare it once with the device's own key, and accept it: {by_hand} true",
    ),
    (
        r"Bad owner or permissions on|Bad configuration option|terminating, \d+ bad configuration|"
        r"Can't open user config file",
        "your ssh configuration cannot be used for {name}",
        "fix that file",
    ),
    (
        r"Permissions \d+ for '(?P<key>[^'\n]+)' are too open",
        "ssh does not use the key of {name}: other users can read its file",
        "chmod 600 {key}",
    ),
    (
        r"Load key \"(?P<key>[^\"\n]+)\": Permission denied",
        "ssh may not read the key of {name}",
        "make it yours: sudo chown $USER {key}; chmod 600 {key}",
    ),
    (
        r"[Cc]ertificate.*(?:not yet valid|expired)",
        "a certificate of {name} is not valid now",
        "compare the clock of this machine with the true time: date; if it is right, have the certificate renewed",
    ),
    (
        r"Too many authentication failures",
        "{name} rejected the login after too many keys",
        "name its key in ~/.ssh/config: IdentityFile, with IdentitiesOnly yes",
    ),
    (
        r"Permission denied|no mutual signature|sign_and_send_pubkey",
        "{name} does not let you in as {address}",
        "is the user right? then copy your key to it: {copy} (and ssh-add the key if it has a passphrase)",
    ),
    (
        r"Could not resolve hostname",
        "the host of {name}, {address}, cannot be resolved",
        "check the name, or write the IP address: edgekit targets add {name} --ssh user@host --replace",
    ),
    (
        r"Connection refused",
        "no ssh server of {name} answers at {address}",
        "start it on the device: sudo systemctl enable --now ssh; is the port right?",
    ),
    (
        r"Operation timed out|Connection timed out|No route to host|Network is unreachable|Host is down",
        "{name} cannot be reached at {address}",
        "is it on, and in the same network? try: ping the host",
    ),
    (
        STOPPED,
        "{name} stopped answering",
        "is it on, and in reach? run the same command again: finished work is kept",
    ),
    (
        r"This account is currently not available|nologin|restricted",
        "the user of {address} may not run commands on {name}",
        "use an account with a shell",
    ),
)


def _line(text: str, at: int) -> str:
    """The line at a position, without ssh's decoration."""
    start = text.rfind("\n", 0, at) + 1
    return shown(text[start : text.find("\n", at) if "\n" in text[at:] else len(text)].strip("@ \r"), 300)


def _settings(front: Sequence[str], address: Address) -> list[tuple[str, str]]:
    """(key, value) of ssh's own configuration for this address; nothing if ssh cannot say it."""
    command = [*front, "-G", *address.words()]
    try:
        done = children.run(command, text=True, errors="replace", timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [(key, value) for key, _, value in (line.partition(" ") for line in done.stdout.splitlines())]


def _key(named: str, front: Sequence[str], address: Address) -> str:
    """The key file that a message names, for a command to type; a device could have sent the message, so only one of
    those that ssh would use.
    """
    files = {Path(value).expanduser() for key, value in _settings(front, address) if key == "identityfile"}
    return shlex.quote(named) if Path(named).expanduser() in files else "KEYFILE"


def _forget(front: Sequence[str], address: Address) -> str:
    """The command that removes the device's key from the file that holds it, under the name that ssh stores it by.

    ssh's own configuration (`ssh -G`) gives them: HostKeyAlias, else HostName, with the port unless it is 22.
    """
    settings = dict(_settings(front, address))
    host, port = settings.get("hostname", address.host).lower(), settings.get("port", str(address.port or 22))
    stored = settings.get("hostkeyalias") or (host if port == "22" else f"[{host}]:{port}")
    files = f"{settings.get('userknownhostsfile', '')} {settings.get('globalknownhostsfile', '')}".split()
    for place in (Path(file).expanduser() for file in files):
        search = ["ssh-keygen", "-F", stored, "-f", str(place)]
        found = place.is_file() and children.run(search, timeout=SECONDS)
        if found and found.returncode == 0:
            own = [] if place == Path("~/.ssh/known_hosts").expanduser() else ["-f", str(place)]
            root = "" if os.access(place.parent, os.W_OK) else "sudo "
            return root + shlex.join(["ssh-keygen", *own, "-R", stored])
    return shlex.join(["ssh-keygen", "-R", stored])


def last_line(output: Sequence[str]) -> str:
    """The last line that is not empty."""
    return next((line.strip()[:300] for line in reversed(output) if line.strip()), "")
