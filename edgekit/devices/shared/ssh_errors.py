"""Map `ssh`'s error output to what it means and what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from edgekit.core.errors import DeviceError, EdgekitError, InputError
from edgekit.core.target import Address


def ssh_error(
    output: Sequence[str], name: str, address: Address, front: Sequence[str], *, opened: bool = False
) -> EdgekitError:
    """The error for the output of ssh or the remote shell; `opened`: the device had answered before.

    `front` is ssh's command line, so that the suggested command can be copied as it is.
    """
    text = "\n".join(output)
    by_hand = shlex.join([*front, *address.words()])
    port, user = ["-p", str(address.port)] if address.port else [], f"{address.user}@" if address.user else ""
    for pattern, what, next in _MEANINGS:
        match = re.search(pattern, text)
        if match:
            where = {"name": name, "address": str(address), "by_hand": by_hand, "host": _known_hosts_name(address)}
            where["copy"] = " ".join(["ssh-copy-id", *port, f"{user}{address.host}"])
            kind = InputError if "configuration" in what else DeviceError
            return kind(what.format(**where), _line(text, match.start()), next.format(**where))
    last = last_line(output)
    if opened:
        hint = "is it on, and was it restarted? run the same command again: finished work is kept"
        return DeviceError(f"the connection to {name} was lost", last or "it ended without a message", hint)
    return DeviceError(f"cannot talk to {name} at {address}", last or "it ended without a message", f"try: {by_hand}")


#: (pattern of ssh's output, what happened, what to do), the most specific first
_MEANINGS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "the host key of {name} has changed",
        "it was reinstalled, or this is another machine. If you know why: ssh-keygen -R '{host}', then: {by_hand} true",
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
        r"Timeout, server .* not responding",
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
    return text[start : text.find("\n", at) if "\n" in text[at:] else len(text)].strip("@ \r")


def _known_hosts_name(address: Address) -> str:
    """Its name in known_hosts."""
    return f"[{address.host}]:{address.port}" if address.port not in (0, 22) else address.host


def last_line(output: Sequence[str]) -> str:
    """The last line that is not empty."""
    return next((line.strip()[:300] for line in reversed(output) if line.strip()), "")
