"""What `ssh` says when it gives up → what that means, and what to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from edgekit.core.errors import DeviceError, EdgekitError, InputError
from edgekit.core.target import Address


def refusal(
    said: Sequence[str], name: str, address: Address, front: Sequence[str], *, opened: bool = False
) -> EdgekitError:
    """The error for the lines ssh, or the far shell, printed; `opened`: the device had answered before.

    `front` is how ssh was called, so that what is to be typed works as it is.
    """
    text = "\n".join(said)
    by_hand = shlex.join([*front, *address.words()])
    port, user = ["-p", str(address.port)] if address.port else [], f"{address.user}@" if address.user else ""
    for pattern, what, next in _MEANINGS:
        found = re.search(pattern, text)
        if found:
            where = {"name": name, "address": str(address), "by_hand": by_hand, "host": _known_as(address)}
            where["copy"] = " ".join(["ssh-copy-id", *port, f"{user}{address.host}"])
            kind = InputError if "configuration" in what else DeviceError
            return kind(what.format(**where), _line(text, found.start()), next.format(**where))
    last = last_line(said)
    if opened:
        then = "is it on, and was it restarted? run the same command again: what was finished is kept"
        return DeviceError(f"the connection to {name} was cut", last or "it ended without a word", then)
    return DeviceError(f"cannot talk to {name} at {address}", last or "it ended without a word", f"try: {by_hand}")


#: (what ssh prints, what happened, what to do), the most telling first
_MEANINGS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "{name} shows another host key than it used to",
        "it was set up anew, or this is another machine. If you know why: ssh-keygen -R '{host}', then: {by_hand} true",
    ),
    (
        r"[Hh]ost key is known for|Host key verification failed",
        "the host key of {name} is not known here",
        "compare it once with the device's own, and accept it: {by_hand} true",
    ),
    (
        r"Bad owner or permissions on|Bad configuration option|terminating, \d+ bad configuration|"
        r"Can't open user config file",
        "your ssh configuration cannot be used for {name}",
        "mend that file",
    ),
    (
        r"Too many authentication failures",
        "{name} refused after too many keys",
        "name the one key for it in ~/.ssh/config: IdentityFile, with IdentitiesOnly yes",
    ),
    (
        r"Permission denied|no mutual signature|sign_and_send_pubkey",
        "{name} does not let you in as {address}",
        "is the user right? then put your key there: {copy} (and ssh-add it where it has a passphrase)",
    ),
    (
        r"Could not resolve hostname",
        "there is no host like that of {name}, {address}",
        "check the name, or write the IP address: edgekit targets add {name} --ssh user@host --replace",
    ),
    (
        r"Connection refused",
        "{name} runs no ssh server at {address}",
        "start it there: sudo systemctl enable --now ssh; is the port right?",
    ),
    (
        r"Operation timed out|Connection timed out|No route to host|Network is unreachable|Host is down",
        "{name} cannot be reached at {address}",
        "is it on, and in the same network? try: ping the host",
    ),
    (
        r"Timeout, server .* not responding",
        "{name} went silent",
        "is it on, and in reach? run the same command again: what was finished is kept",
    ),
    (
        r"This account is currently not available|nologin|restricted",
        "the user of {address} may not run commands on {name}",
        "use an account with a shell",
    ),
)


def _line(text: str, at: int) -> str:
    """The line around a position, without ornament."""
    start = text.rfind("\n", 0, at) + 1
    return text[start : text.find("\n", at) if "\n" in text[at:] else len(text)].strip("@ \r")


def _known_as(address: Address) -> str:
    """How known_hosts names it."""
    return f"[{address.host}]:{address.port}" if address.port not in (0, 22) else address.host


def last_line(said: Sequence[str]) -> str:
    """The last line that says anything."""
    return next((line.strip()[:300] for line in reversed(said) if line.strip()), "")
