"""A seccomp filter: the kernel refuses system calls that reading a file does not need.

The filter is a program of the classic Berkeley packet filter, which the kernel runs on the number
and the arguments of every call (https://docs.kernel.org/userspace-api/seccomp_filter.html). Its
answer is the first that fits:

* a call made in another processor's convention ends the process;
* calls in `FORBIDDEN` fail with EPERM, and calls newer than `NEWEST` with ENOSYS;
* a few calls depend on an argument: files open for reading only, `ioctl` and `fcntl` do what
  `FILE_CONTROLS` and `FCNTL_COMMANDS` list, signals go to this process only, and limits are read
  only;
* every other call is allowed.

`clone3` and `openat2` keep their arguments in memory, which a filter cannot see: they fail with
ENOSYS, and the C library falls back to `clone` and `openat`. `clone` fails, too: readers start
no threads, since an ordinary user's limit of processes is 0.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass

from mtspark.core.confinement.calls import SECCOMP, prctl

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand: struct sock_filter of linux/filter.h."""

LOAD, JUMP_EQUAL, JUMP_ABOVE, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, PROCESSOR, ARGUMENTS = 0, 4, 16
"""Where struct seccomp_data of linux/seccomp.h has the number, the convention, the arguments."""
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
FILTER_MODE = 2

REFUSED = FAIL | errno.EPERM
UNKNOWN = FAIL | errno.ENOSYS

WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND: the same on x86-64 and AArch64."""
DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG."""
FILE_CONTROLS = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Others change attributes of
files that are open for reading only, send signals, or type into a terminal."""
FCNTL_COMMANDS = (*range(8), 36, 37, 38, 1027, 1030, 1032, 1034)
"""Copies of descriptors, their flags, locks, and questions. Others have signals sent to any process
of the user (F_SETOWN, F_SETSIG), or hold up those who open a file (F_SETLEASE)."""
NEWEST = 462
"""mseal, of Linux 6.10. From 424 on, numbers are the same on every processor."""

CALLS = {
    # name: (number on x86-64, number on AArch64); None: there is none
    # Checked by an argument
    "open": (2, None),
    "openat": (257, 56),
    "prlimit64": (302, 261),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    # Make, change and remove files
    "creat": (85, None),
    "open_by_handle_at": (304, 265),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # Programs and processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Sockets, and what outlives a process
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # Limits and rights
    "setrlimit": (160, 164),
    "capset": (126, 91),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # Parts of the kernel with a long record of faults, and those for an administrator
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "uselib": (134, None),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
    # Arguments in memory
    "clone3": (435, 435),
    "openat2": (437, 437),
}
"""From asm/unistd_64.h and asm-generic/unistd.h of Linux."""

BY_ARGUMENT = (
    *("open", "openat", "prlimit64", "kill", "tkill", "tgkill", "prctl", "ioctl", "fcntl"),
)
NOT_OFFERED = ("clone3", "openat2")
FORBIDDEN = tuple(name for name in CALLS if name not in (*BY_ARGUMENT, *NOT_OFFERED))


@dataclass(frozen=True)
class Processor:
    """A calling convention.

    Attributes:
        mark: AUDIT_ARCH of linux/audit.h.
        column: of `CALLS`.
    """

    mark: int
    column: int


PROCESSORS = {"x86_64": Processor(0xC000003E, 0), "aarch64": Processor(0xC00000B7, 1)}
PROCESSORS["arm64"] = PROCESSORS["aarch64"]


def processor() -> Processor | None:
    """Return this machine's convention; None where no filter is known for it."""
    if not sys.platform.startswith("linux") or sys.maxsize < 2**32 or sys.byteorder != "little":
        return None
    return PROCESSORS.get(platform.machine())


def assemble(machine: Processor, process: int) -> list[Instruction]:
    """Build the filter.

    Args:
        machine: whose numbers it checks.
        process: id of the one process that may receive signals.

    Returns:
        Instructions; a jump skips so many of those that follow.
    """
    rules = {
        "open": _unless_set(1, WRITING),
        "openat": _unless_set(2, WRITING),
        "prlimit64": _only_if_null(2),
        **dict.fromkeys(("kill", "tkill", "tgkill"), _only_if_equal(0, process)),
        "prctl": _unless_one_of(0, (DEATH_SIGNAL,)),
        "ioctl": _only_if_one_of(1, FILE_CONTROLS),
        "fcntl": _only_if_one_of(1, FCNTL_COMMANDS),
        **{name: [_answer(REFUSED)] for name in FORBIDDEN},
        **{name: [_answer(UNKNOWN)] for name in NOT_OFFERED},
    }
    program = [
        (LOAD, 0, 0, PROCESSOR),
        (JUMP_EQUAL, 1, 0, machine.mark),
        _answer(KILL),
        (LOAD, 0, 0, NUMBER),
        # Also the numbers of x32, which have bit 30 set.
        (JUMP_ABOVE, 0, 1, NEWEST),
        _answer(UNKNOWN),
    ]
    for name, rule in rules.items():
        number = CALLS[name][machine.column]
        if number is not None:
            # Every rule ends in an answer: what is loaded in it disturbs no other.
            program += [(JUMP_EQUAL, 0, len(rule), number), *rule]
    return [*program, _answer(ALLOW)]


def _answer(value: int) -> Instruction:
    return (RETURN, 0, 0, value)


def _low(argument: int) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS + 8 * argument)


def _unless_set(argument: int, bits: int) -> list[Instruction]:
    return [_low(argument), (JUMP_SET, 0, 1, bits), _answer(REFUSED), _answer(ALLOW)]


def _only_if_equal(argument: int, value: int) -> list[Instruction]:
    return [_low(argument), (JUMP_EQUAL, 1, 0, value), _answer(REFUSED), _answer(ALLOW)]


def _only_if_null(argument: int) -> list[Instruction]:
    high = (LOAD, 0, 0, ARGUMENTS + 8 * argument + 4)
    return [
        _low(argument),
        (JUMP_EQUAL, 0, 2, 0),
        high,
        (JUMP_EQUAL, 1, 0, 0),
        _answer(REFUSED),
        _answer(ALLOW),
    ]


def _unless_one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    return [_low(argument), *_jumps(values), _answer(ALLOW), _answer(REFUSED)]


def _only_if_one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    return [_low(argument), *_jumps(values), _answer(REFUSED), _answer(ALLOW)]


def _jumps(values: tuple[int, ...]) -> list[Instruction]:
    """Jump over one answer, to the next one, for each of some values."""
    return [(JUMP_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]


class _Step(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step)))


def forbid_system_calls(process: int) -> bool:
    """Put the filter in force for this thread and all that it starts.

    Needs no_new_privs or root. Returns whether it is in force.
    """
    machine = processor()
    if machine is None:
        return False
    instructions = assemble(machine, process)
    steps = (_Step * len(instructions))(*(_Step(*step) for step in instructions))
    program = _Program(len(instructions), steps)
    return prctl(SECCOMP, ctypes.c_ulong(FILTER_MODE), ctypes.byref(program))
