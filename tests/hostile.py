"""Hostile programs, each asked for `add(a, b)`, that go for the machine: exhaustion, sight, reach, privileges.

Each with how the sandbox must report it: "held" where every attempt of its was refused, "ESCAPED" (never expected)
where one was not. <SECRET>: a file of the user. <PORT>: a listener on loopback. <SOCKET>, <ABSTRACT>: listeners on Unix
sockets. <PID>: the process that runs the tests.
"""

PRELUDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(*actions):
    for action in actions:
        try:
            result = action()
        except (OSError, ImportError):
            continue
        if not (isinstance(result, int) and result == -1):
            raise RuntimeError("ESCAPED: " + repr(result)[:200])
    raise RuntimeError("held")

def read(path):
    with open(path, "rb") as file:
        return file.read(1000)
"""
HELD = r"RuntimeError: held"
KILLED = r"ended with code 1\d\d"
WRONG = r"AssertionError"
ENDED = r"ended (before its last line|with code \d+)"


def load(*lines: str) -> str:
    """A program that does its work while it is loaded."""
    return PRELUDE + "\n".join(lines) + "\n"


def when_called(*lines: str, before: str = "") -> str:
    """A program that does its work when its function is called."""
    return PRELUDE + before + "\ndef add(a, b):\n" + "\n".join(f"    {line}" for line in lines) + "\n"


def tries(*actions: str, before: str = "") -> str:
    """A program of actions that must all be refused: they raise OSError or return -1."""
    return when_called("attempt(" + ", ".join(f"lambda: {action}" for action in actions) + ")", before=before)


PROGRAMS = {
    "fork bomb": (load("while True:", "    os.fork()"), "PermissionError"),
    "fork by number": (
        tries("libc.syscall(57)", "libc.syscall(58)", "libc.syscall(56, 17, 0, 0, 0, 0)", "libc.syscall(435, 0, 0)"),
        HELD,
    ),
    "new programs": (
        tries(
            "subprocess.run([sys.executable, '-c', ''])",
            "os.posix_spawn(sys.executable, [sys.executable], {})",
            "os.system('true') and -1",
            "os.popen('true').close() and -1",
            before="import subprocess",
        ),
        HELD,
    ),
    "daemon": (
        load(
            "if os.fork() == 0:", "    os.setsid()", "    if os.fork() == 0:", "        import time; time.sleep(1000)"
        ),
        "PermissionError",
    ),
    "thread bomb": (
        load(
            "import threading, time",
            "threading.stack_size(32768)",
            "while True:",
            "    threading.Thread(target=time.sleep, args=(1000,)).start()",
        ),
        "more than 64 threads|can't start new thread",
    ),
    "threads that outlive": (
        when_called("import threading, time", "threading.Thread(target=time.sleep, args=(1000,)).start()", "return 0"),
        WRONG,
    ),
    "memory bomb": (load("x = []", "while True:", "    x.append(bytearray(2**27))"), "MemoryError"),
    "memory map": (load("import mmap", "mmap.mmap(-1, 2**31)"), "OSError"),
    "hidden memory": (
        tries(
            "os.memfd_create('x')", "libc.shmget(0, 4096, 0o1600)", "libc.msgget(0, 0o1600)", "libc.semget(0, 1, 512)"
        ),
        HELD,
    ),
    "endless output": (load("while True:", "    print('x' * 10_000)"), "File too large"),
    "endless errors": (load("while True:", "    os.write(2, b'x' * 2**20)"), "File too large"),
    "endless result": (when_called("return 'x' * 2**25"), "more than 16777216 bytes|MemoryError"),
    "disk filling": (load("for i in range(100):", "    open(str(i), 'wb').write(bytes(2**23))"), "No space left"),
    "large file": (load("open('f', 'wb').write(bytes(2**25))"), "File too large"),
    "sparse huge file": (tries("os.truncate('f', 2**40)", before="open('f', 'w').close()"), HELD),
    "many files": (load("x = [open(str(i), 'w') for i in range(1000)]"), "Too many open files"),
    "many empty files": (
        load("for i in range(10**9):", "    os.close(os.open(str(i), os.O_CREAT))"),
        "more than 4096 files",
    ),
    "endless loop": (load("while True:", "    pass"), "1 s of processor time"),
    "endless loop in C": (load("10 ** 10 ** 10"), "1 s of processor time|MemoryError"),
    "huge sleep": (load("import time", "time.sleep(10**6)"), "1 s asleep"),
    "time bomb": (when_called("import time", "if a > 2: time.sleep(10**6)", "return a + b"), "1 s asleep"),
    "sleep in a destructor": (
        when_called("import time", "class X(int):", "    def __del__(self): time.sleep(10**6)", "return X(a + b)"),
        "1 s asleep",
    ),
    "recursion": (when_called("return add(a, b)"), "RecursionError"),
    "crash": (when_called("ctypes.string_at(0)"), KILLED),
    "file deletion": (
        when_called(
            "import shutil",
            "for folder in ('/work', '/dev', shutil.__file__[:-9] + 'json', os.path.dirname(r'<SECRET>')):",
            "    shutil.rmtree(folder, ignore_errors=True)",
            "assert os.listdir(shutil.__file__[:-9] + 'json')",
            "attempt(*(lambda path=path: os.remove(path) for path in (r'<SECRET>', os.__file__, sys.executable)))",
        ),
        HELD,
    ),
    "writing elsewhere": (
        tries(
            *(
                f"open({path!r}, 'w')"
                for path in ("/x", "/dev/x", "/usr/x", "/usr/lib/x", "/tmp/x", "/etc/ld.so.preload")
            ),
            "open(os.__file__, 'a')",
            "open(sys.executable, 'ab')",
            "open(r'<SECRET>', 'a')",
            "os.chmod(os.__file__, 0o777)",
            "os.utime(os.__file__)",
        ),
        HELD,
    ),
    "reading keys": (
        tries(
            "read(r'<SECRET>')",
            "read(os.path.expanduser('~/.ssh/id_ed25519'))",
            "read('/root/.ssh/authorized_keys')",
            "read('/etc/passwd')",
            "read('/etc/shadow')",
            "read('/run/secrets')",
            "os.listdir(os.path.dirname(r'<SECRET>'))",
        ),
        HELD,
    ),
    "reading the environment": (
        when_called(
            "assert not {'SECRET_TOKEN', 'HOME', 'USER', 'HF_TOKEN'} & set(os.environ), os.environ",
            "libc.getenv.restype = ctypes.c_char_p",
            "assert libc.getenv(b'SECRET_TOKEN') is None",
            "attempt(lambda: read('/proc/1/environ'), lambda: read('/proc/<PID>/environ'))",
        ),
        HELD,
    ),
    "proc": (
        tries(
            "os.listdir('/proc/1/root')",
            "os.listdir('/proc/<PID>/root')",
            "os.listdir('/proc/self/fd')",
            "read('/proc/self/mem')",
            "read('/proc/<PID>/mem')",
            "os.open('/proc/self/root/../..', os.O_RDONLY)",
            "open('/proc/sys/kernel/core_pattern', 'w')",
            "os.listdir('/sys')",
            "libc.mount(b'proc', b'/work', b'proc', 0, 0)",
        ),
        HELD,
    ),
    "symlinks": (
        tries(
            "read('way')",
            "read('up')",
            "os.link(os.__file__, 'hard') or read('hard')",
            "os.readlink('/proc/self/exe')",
            before="os.symlink(r'<SECRET>', 'way'); os.symlink('../' * 20 + r'<SECRET>', 'up')",
        ),
        HELD,
    ),
    "socket to loopback": (
        tries("socket.create_connection(('127.0.0.1', <PORT>), 1)", "socket.socket()", before="import socket"),
        HELD,
    ),
    "socket to the outside": (
        tries(
            "socket.create_connection(('192.0.2.1', 80), 1)",
            "socket.getaddrinfo('example.org', 80)",
            "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socket(40, socket.SOCK_STREAM)",
            "urllib.request.urlopen('http://192.0.2.1', timeout=1)",
            before="import socket, urllib.request",
        ),
        HELD,
    ),
    "unix sockets": (
        tries(
            "socket.socket(socket.AF_UNIX).connect(r'<SOCKET>')",
            "socket.socket(socket.AF_UNIX).connect('\\0<ABSTRACT>')",
            "socket.socketpair()",
            "libc.syscall(41, 1, 1, 0)",
            before="import socket",
        ),
        HELD,
    ),
    "signals to the parent": (
        when_called(
            "import signal",
            "for pid in (os.getppid(), <PID>, 1, -1):",
            "    for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGUSR1, signal.SIGKILL):",
            "        try:",
            "            os.kill(pid, number) if pid != -1 or number != signal.SIGKILL else None",
            "        except OSError: pass",
            "raise RuntimeError('held')",
            before="import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGUSR1)]",
        ),
        HELD + "|1 s asleep|" + KILLED,
    ),
    "signals by group": (load("os.killpg(0, 9)"), KILLED),
    "ptrace": (
        tries(
            "libc.ptrace(0, 0, 0, 0)",
            "libc.ptrace(16, 1, 0, 0)",
            "libc.process_vm_readv(1, 0, 0, 0, 0, 0)",
            "libc.syscall(434, 1, 0)",
            "libc.syscall(312, 1, 1, 0, 0, 0)",
        ),
        HELD,
    ),
    "limits": (
        when_called(
            "import resource as r",
            "def lift(name):",
            "    try:",
            "        r.setrlimit(name, (r.RLIM_INFINITY, r.RLIM_INFINITY))",
            "    except ValueError:",
            "        return -1",
            "names = (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE)",
            "attempt(*(lambda name=name: lift(name) for name in names))",
        ),
        HELD,
    ),
    "mounts": (
        tries(
            "libc.mount(b'x', b'/work', b'tmpfs', 0, 0)",
            "libc.mount(0, b'/', 0, 32 | 4096, 0)",
            "libc.umount2(b'/work', 2)",
            "libc.syscall(428, -100, b'/', 0)",
            "libc.syscall(430, b'tmpfs', 0)",
        ),
        HELD,
    ),
    "namespaces": (
        tries(
            "libc.unshare(0x10000000)",
            "libc.unshare(0x10000000 | 0x20000 | 0x40000000)",
            "libc.setns(0, 0)",
            "libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
        ),
        HELD,
    ),
    "chroot": (tries("os.chroot('/work')", "libc.pivot_root(b'/', b'/work')", "libc.syscall(161, b'/work')"), HELD),
    "device nodes": (
        tries(
            "os.mknod('disk', 0o60666, os.makedev(8, 0))",
            "os.mknod('memory', 0o20666, os.makedev(1, 1))",
            "read('/dev/sda')",
            "read('/dev/mem')",
            "read('/dev/kmsg')",
            "os.open('/dev/tty', os.O_RDWR)",
            "os.open('/dev/fuse', os.O_RDWR)",
        ),
        HELD,
    ),
    "setuid": (
        tries(
            "os.setuid(0)",
            "os.setgid(0)",
            "os.setgroups([0])",
            "os.chown('f', 0, 0)",
            "os.setxattr('f', 'security.capability', b'x')",
            before="open('f', 'w').close()",
        ),
        HELD,
    ),
    "system calls by number": (
        tries(
            "libc.syscall(321, 0, 0, 0)",  # bpf
            "libc.syscall(323, 0)",  # userfaultfd
            "libc.syscall(425, 8, 0)",  # io_uring_setup
            "libc.syscall(298, 0, 0, 0, 0, 0)",  # perf_event_open
            "libc.syscall(248, 0, 0, 0, 0, 0)",  # add_key
            "libc.syscall(304, 0, 0, 0)",  # open_by_handle_at
            "libc.syscall(103, 3, 0, 0)",  # syslog: the kernel's log
            "libc.syscall(169, 0, 0, 0, 0)",  # reboot
            "libc.syscall(170, b'x', 1)",  # sethostname
            "libc.syscall(175, 0, 0, b'')",  # init_module
        ),
        HELD,
    ),
    "32-bit system calls": (  # mov eax, 2 (fork); int 0x80; ret
        when_called(
            "import mmap",
            "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
            "page.write(bytes.fromhex('b802000000cd80c3'))",
            "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()",
            "return 0",
        ),
        KILLED,
    ),
    "x32 system calls": (when_called("libc.syscall(0x40000000 | 39)", "return 0"), KILLED),
}
