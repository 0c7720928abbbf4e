"""A system-call filter for sandboxed programs, as the classic-BPF program that `bwrap --seccomp` takes.

Namespaces hide files, processes and the network, and resource limits bound one process. Three holes remain, and this
filter closes them by refusing system calls (errno EPERM):

- process creation: RLIMIT_NPROC does not bind root, so a fork bomb is stopped by refusing every new process (threads
  pass: the supervisor counts them);
- memory that outlives its owner or its mapping (memfd, System V and POSIX queues), which RLIMIT_AS does not count;
- kernel interfaces that no namespace covers or that have a history of escapes: sockets (AF_VSOCK reaches the host of a
  virtual machine), io_uring, new namespaces, mounts, bpf, keyrings, ptrace, perf, userfaultfd, handles to files and
  processes, the kernel's log and its queues that all users share.

Each instruction is `struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}`; the data it reads is `struct seccomp_data {int
nr; u32 arch; u64 instruction_pointer; u64 args[6]}`. Source: linux/filter.h, linux/seccomp.h, and the kernel's tables
of system calls (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h for aarch64).
"""

import struct

# Audit architecture, then the numbers of the calls. `clone` passes with CLONE_THREAD; `clone3` hides its flags in
# memory that a filter cannot read, so it answers "not implemented", and the C library falls back to `clone`.
TABLES = {
    "x86_64": {
        "arch": 0xC000003E,
        "clone": 56,
        "clone3": 435,
        "refused": {
            "shmget": 29,
            "socket": 41,
            "socketpair": 53,
            "fork": 57,
            "vfork": 58,
            "semget": 64,
            "msgget": 68,
            "ptrace": 101,
            "syslog": 103,
            "modify_ldt": 154,
            "pivot_root": 155,
            "chroot": 161,
            "acct": 163,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "reboot": 169,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "io_setup": 206,
            "mq_open": 240,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "inotify_init": 253,
            "unshare": 272,
            "inotify_init1": 294,
            "perf_event_open": 298,
            "fanotify_init": 300,
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "finit_module": 313,
            "memfd_create": 319,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
            "io_uring_setup": 425,
            "open_tree": 428,
            "move_mount": 429,
            "fsopen": 430,
            "fspick": 433,
            "pidfd_open": 434,
            "pidfd_getfd": 438,
            "mount_setattr": 442,
            "memfd_secret": 447,
        },
    },
    "aarch64": {
        "arch": 0xC00000B7,
        "clone": 220,
        "clone3": 435,
        "refused": {
            "io_setup": 0,
            "inotify_init1": 26,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "quotactl": 60,
            "acct": 89,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "syslog": 116,
            "ptrace": 117,
            "reboot": 142,
            "mq_open": 180,
            "msgget": 186,
            "semget": 190,
            "shmget": 194,
            "socket": 198,
            "socketpair": 199,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "perf_event_open": 241,
            "fanotify_init": 262,
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kcmp": 272,
            "finit_module": 273,
            "memfd_create": 279,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
            "io_uring_setup": 425,
            "open_tree": 428,
            "move_mount": 429,
            "fsopen": 430,
            "fspick": 433,
            "pidfd_open": 434,
            "pidfd_getfd": 438,
            "mount_setattr": 442,
            "memfd_secret": 447,
        },
    },
}

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data (little-endian: the low half of args[0])
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, NOT_IMPLEMENTED = 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
CLONE_THREAD = 0x00010000
X32_BIT = 0x40000000  # calls of the x32 ABI carry other numbers: no program here uses it


def program(machine: str) -> bytes:
    """The filter for `machine` (platform.machine()). Raises KeyError for an architecture without a table."""
    table = TABLES[machine]
    code = [
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 1, 0, table["arch"]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (JUMP_AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, KILL),
        (JUMP_EQUAL, 0, 1, table["clone3"]),
        (RETURN, 0, 0, NOT_IMPLEMENTED),
    ]
    for number in sorted(table["refused"].values()):
        code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    code += [
        (JUMP_EQUAL, 1, 0, table["clone"]),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_ANY_BIT, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
