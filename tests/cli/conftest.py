"""The device that is this machine, for the commands that need one."""

from devices.sshd import _board, board

__all__ = ["_board", "board"]
