"""The device that is this machine, for every test of this folder."""

from devices.sshd import _board, board

__all__ = ["_board", "board"]
