"""The filter, run by an interpreter of the packet filter that knows nothing of how it is built."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from mtspark.core.confinement.seccomp import CALLS, NEWEST, PROCESSORS, assemble

ALLOWED, ENDED = "allowed", "ended"
PROCESS = 4711
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HARMLESS = """
    _sysctl access afs_syscall alarm arch_prctl arch_specific_syscall brk capget chdir clock_getres
    clock_gettime clock_nanosleep close close_range copy_file_range create_module dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 exit exit_group faccessat faccessat2 fadvise64 fchdir fdatasync
    fgetxattr flistxattr flock fstat fstatat fstatfs fsync futex futex_waitv get_kernel_syms
    get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid
    getgid getgroups getitimer getpeername getpgid getpgrp getpid getpmsg getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid
    gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
    io_cancel io_destroy io_getevents io_pgetevents ioprio_get landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lgetxattr listxattr llistxattr lookup_dcookie
    lseek lstat madvise mbind membarrier mincore mlock mlock2 mlockall mmap mprotect mq_getsetattr
    mq_notify mq_timedreceive mq_timedsend mremap msync munlock munlockall munmap name_to_handle_at
    nanosleep newfstatat pause pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll pread64
    preadv preadv2 pselect6 putpmsg pwrite64 pwritev pwritev2 query_module read readahead readlink
    readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages restart_syscall rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_yield seccomp security select sendfile set_mempolicy
    set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setitimer setsockopt
    shmdt shutdown sigaltstack signalfd signalfd4 splice stat statfs statx sync_file_range
    sync_file_range2 syscalls sysfs sysinfo tee time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tuxcall umask
    uname ustat vmsplice vserver wait4 waitid write writev cachestat map_shadow_stack futex_wake
    futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr
    lsm_list_modules mseal
"""
"""Calls that change nothing outside the process: questions, own memory, signals and timers, files
that are open already. Read one by one."""
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def answer(machine: str, number: int, *values: int, mark: int | None = None) -> str:
    """What the kernel does with a call."""
    words = {0: number, 4: ARCHITECTURES[machine] if mark is None else mark}
    for at, value in enumerate((*values, *[0] * (6 - len(values)))):
        words[16 + 8 * at], words[20 + 8 * at] = value % 2**32, value >> 32
    program, at, register = assemble(PROCESSORS[machine], PROCESS), 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            register = words[operand]
        elif code == 0x06:
            break
        else:
            holds = {
                0x15: register == operand,
                0x25: register > operand,
                0x45: bool(register & operand),
            }[code]
            at += if_true if holds else if_false
    if operand == 0x7FFF0000:
        return ALLOWED
    return ENDED if operand == 0x80000000 else errno.errorcode[operand & 0xFFFF]


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_are_judged_by_number_and_arguments(machine: str) -> None:
    column = PROCESSORS[machine].column

    def judged(name: str, *values: int) -> str:
        number = CALLS[name][column]
        assert number is not None
        return answer(machine, number, *values)

    here = 2**64 - 100
    assert judged("openat", here, 1, 0) == ALLOWED
    assert judged("openat", here, 1, 0o2000000 | 0o200000) == ALLOWED
    for flags in (0o1, 0o2, 0o100, 0o1000, 0o2000, 0o101):
        assert judged("openat", here, 1, flags) == "EPERM"
    assert judged("clone", 0x003D0F00) == judged("clone", 0x01200011) == "EPERM"
    assert judged("clone3") == judged("openat2") == "ENOSYS"
    assert judged("prlimit64", 0, 7, 0, 2**40) == ALLOWED
    assert judged("prlimit64", 0, 7, 2**40) == "EPERM"
    assert judged("prlimit64", 0, 7, 4096) == "EPERM"
    for name in ("kill", "tgkill"):
        assert judged(name, PROCESS, 6) == ALLOWED
        assert judged(name, 1, 6) == judged(name, 2**64 - 1, 6) == judged(name, 0, 6) == "EPERM"
    assert judged("prctl", 15) == ALLOWED
    assert judged("prctl", 1) == "EPERM"
    for request in (0x5401, 0x5451):
        assert judged("ioctl", 3, request) == ALLOWED
    # TIOCSTI, TIOCLINUX, FIOSETOWN, FS_IOC_SETFLAGS, FS_IOC_ENABLE_VERITY
    for request in (0x5412, 0x541C, 0x8901, 0x40086602, 0x40806685):
        assert judged("ioctl", 3, request) == "EPERM"
    # F_DUPFD_CLOEXEC, F_SETFD, F_SETFL, F_SETLK
    for command in (1030, 2, 4, 6):
        assert judged("fcntl", 3, command) == ALLOWED
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
    for command in (8, 10, 15, 1024, 1026):
        assert judged("fcntl", 3, command) == "EPERM"
    for name in ("execve", "unlinkat", "socket", "mount", "bpf", "ptrace", "ftruncate"):
        assert judged(name) == "EPERM"


JUDGED_BY_ARGUMENTS = {
    *("open", "openat", "prlimit64", "kill", "tkill", "tgkill", "prctl", "ioctl", "fcntl"),
}


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_other_call_in_the_list_is_refused(machine: str) -> None:
    """Each way out: whatever the C library of this machine makes of `os.unlink` and the like."""
    column = PROCESSORS[machine].column
    met = {
        name: answer(machine, number)
        for name, pair in CALLS.items()
        if (number := pair[column]) is not None and name not in JUDGED_BY_ARGUMENTS
    }
    assert {name for name, met_with in met.items() if met_with == "ENOSYS"} == {"clone3", "openat2"}
    assert set(met.values()) == {"EPERM", "ENOSYS"}
    assert len(met) > 120


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_unknown_numbers_and_conventions(machine: str) -> None:
    assert answer(machine, 463) == answer(machine, 100_000) == "ENOSYS"
    # x32's numbers, and the 32-bit convention that a 64-bit program may use on x86.
    assert answer(machine, 0x40000000 + 2) == "ENOSYS"
    assert answer(machine, 5, mark=0x40000003) == ENDED
    # read, futex and mmap are what everything does.
    for number in {"x86_64": (0, 202, 9), "aarch64": (63, 98, 222)}[machine]:
        assert answer(machine, number) == ALLOWED


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].is_file():
        pytest.skip(f"no {HEADERS[machine]} on this machine")
    text = HEADERS[machine].read_text()
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    # Newer than the headers of many systems.
    known = {name: pair for name, pair in CALLS.items() if name in numbers or name != "fchmodat2"}
    column = PROCESSORS[machine].column
    for name, pair in known.items():
        found = numbers.get(name)
        assert pair[column] == (None if found is None else int(found)), name


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_call_of_the_kernel_is_judged(machine: str) -> None:
    """A call that is in neither list is allowed without anybody having thought of it."""
    if not HEADERS[machine].is_file():
        pytest.skip(f"no {HEADERS[machine]} on this machine")
    numbers = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    known = {name for name, number in numbers if int(number) <= NEWEST}
    harmless = set(HARMLESS.split())
    # The names of 32-bit processors, which have other numbers from 403 on.
    assert {name for name in known if not name.endswith("_time64")} - {
        "clock_gettime64",
        "clock_settime64",
        "clock_adjtime64",
        "timer_gettime64",
        "timer_settime64",
        "timerfd_gettime64",
        "timerfd_settime64",
    } <= harmless | set(CALLS)
    assert not harmless & set(CALLS)
