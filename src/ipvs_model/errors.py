"""Errors of control calls."""

import os


class IPVSError(OSError):
    """A control call was refused; the object is unchanged.

    ``errno`` is the kernel's, ``strerror`` what ipvsadm prints.

    >>> import errno
    >>> IPVSError(errno.ESRCH, "No such service")
    IPVSError(3, 'No such service')
    """

    def __init__(self, errno: int, text: str | None = None) -> None:
        super().__init__(errno, os.strerror(errno) if text is None else text)
