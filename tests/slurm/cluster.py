"""A real SLURM on this machine, for tests: its daemons on loopback, several nodes with stand-in GPUs, no systemd.

    with Cluster(folder) as cluster:
        cluster.run("scontrol", "update", "NodeName=gpu1", "State=DOWN", "Reason=test")

Needs root and Debian's packages munge, slurmctld, slurmd, slurm-client; with accounting also slurmdbd,
slurm-wlm-mysql-plugin and mariadb-server-core. Several slurmd run side by side, each under a node's name and with a
port of its own. A stand-in GPU is an existing device node in gres.conf, which nothing opens: SLURM hands it out like a
card, one job at a time, and sets CUDA_VISIBLE_DEVICES. There are no cgroups. Snakemake's plugin strips SLURM_CONF
before it calls srun, so that /etc/slurm must lead to the same files while the cluster runs; `stop` takes them away.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ETC = Path("/etc/slurm")
CONFIGS = ("slurm.conf", "gres.conf", "cgroup.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@dataclass(frozen=True)
class Node:
    name: str
    cpus: int
    memory_mib: int
    gpus: int


NODES = (Node("gpu1", 2, 8000, 1), Node("gpu2", 2, 8000, 1), Node("cpu1", 2, 8000, 0))


def missing(accounting: bool = False) -> str:
    """Why no cluster can be started here, or nothing."""
    absent = [name for name in PROGRAMS + ACCOUNTING_PROGRAMS * accounting if shutil.which(name, path=SEARCH) is None]
    if absent:
        return f"SLURM is not installed here: no {', '.join(absent)}"
    if os.geteuid() != 0:
        return "a SLURM for tests needs root: its files are found through /etc/slurm"
    others = [name for name in CONFIGS if (ETC / name).exists() and not (ETC / name).is_symlink()]
    return f"{ETC / others[0]} belongs to a SLURM of this machine" if others else ""


class Cluster:
    """Daemons, configuration and state below `home` (a short path: sockets allow 107 characters)."""

    def __init__(self, home: Path, nodes: tuple[Node, ...] = NODES, accounting: bool = False, port: int = 17600):
        self.home, self.nodes, self.accounting, self.port = Path(home), nodes, accounting, port
        self.daemons: dict[str, subprocess.Popen] = {}
        self.settings: dict[str, str] = {}

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PATH": SEARCH, "SLURM_CONF": str(self.home / "etc/slurm.conf")}

    def run(self, *command: str, timeout: float = 20) -> str:
        """What a SLURM command prints; CalledProcessError if it fails."""
        found = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=True
        )
        return found.stdout

    def jobs(self, fields: str = "JobID,Name,State,Comment") -> list[dict[str, str]]:
        """All jobs that the controller remembers, ended ones too: one dict of the squeue fields each."""
        names = fields.split(",")
        separator = "\x1f"
        spec = ",".join(f"{name}:.300{separator}" for name in names)
        lines = self.run("squeue", "-h", "--states=all", "-O", spec).splitlines()
        return [dict(zip(names, (part.strip() for part in line.split(separator)), strict=False)) for line in lines]

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for name in ("etc", "run", "log", "state", "spool", "munge", "db"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o755)  # munged wants its socket to be reachable for all
        (self.home / "munge").chmod(0o700)
        self._configure()
        key = self.home / "munge/munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
        files = {
            "key-file": key,
            "seed-file": self.home / "munge/munged.seed",
            "socket": self.home / "run/munge.socket",
            "pid-file": self.home / "run/munged.pid",
            "log-file": self.home / "log/munged.log",
        }
        self._spawn("munged", *(f"--{name}={path}" for name, path in files.items()), "--num-threads=2", "--foreground")
        _until((self.home / "run/munge.socket").exists, "munged made its socket")
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node.name)
        self.wait_ready()

    def start_controller(self) -> None:
        self._spawn("slurmctld", "-D", "-i")

    def start_node(self, name: str) -> None:
        (self.home / "spool" / name).mkdir(exist_ok=True)
        self._spawn(f"slurmd.{name}", "-D", "-N", name, program="slurmd")

    def wait_ready(self) -> None:
        """Every node has registered and takes jobs."""
        ready = {"idle", "mixed", "allocated", "completing"}

        def all_ready() -> bool:
            states = self.run("sinfo", "-h", "-N", "-p", "all", "-o", "%T").split()
            return len(states) == len(self.nodes) and set(states) <= ready

        _until(all_ready, "every node is ready", 30)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a daemon: slurmctld, munged, slurmd.NODE; it has ended when this returns."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(20)

    def wait_saved(self) -> None:
        """The controller has saved what it knows: it does so seconds late, and one that is killed forgets the rest."""
        kept, last, changed = self.home / "state/job_state", None, 0.0

        def saved() -> bool:
            nonlocal last, changed
            states = {(job["JobID"], job["State"]) for job in self.jobs()}
            if states != last:
                last, changed = states, time.time()
            return kept.exists() and kept.stat().st_mtime > changed or time.time() > changed + 8

        _until(saved, "the controller has saved its state", 60)

    def stop(self) -> None:
        if "slurmctld" in self.daemons:
            # Jobs first: a job's step daemon would outlive slurmd.
            for command in (["scancel", "--full", "-u", "root"], ["scancel", "-u", "root"]):
                subprocess.run(command, env=self.environment, capture_output=True, timeout=20)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                left = subprocess.run(
                    ["squeue", "-h", "-t", "R,CG,PD"], env=self.environment, capture_output=True, text=True
                )
                if not left.stdout.strip():
                    break
                time.sleep(0.2)
        for name in [
            *(n for n in self.daemons if n.startswith("slurmd.")),
            "slurmctld",
            "slurmdbd",
            "mariadbd",
            "munged",
        ]:
            daemon = self.daemons.pop(name, None)
            if daemon is None:
                continue
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._end_steps()
        for name in CONFIGS:
            if (ETC / name).is_symlink() and os.readlink(ETC / name) == str(self.home / "etc" / name):
                (ETC / name).unlink()

    def _end_steps(self) -> None:
        """Kill step daemons of this cluster that outlived their slurmd, and what runs below them."""
        mark = f"SLURM_CONF={self.home}/etc/slurm.conf".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                daemon = "slurmstepd" in (entry / "comm").read_text()
                if daemon and mark in (entry / "environ").read_bytes().split(b"\0"):
                    below = subprocess.run(["pgrep", "-P", entry.name], capture_output=True, text=True).stdout.split()
                    for number in map(int, [entry.name, *below]):
                        os.kill(number, signal.SIGKILL)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, *arguments: str, program: str | None = None) -> None:
        path = shutil.which(program or name, path=SEARCH)
        with (self.home / "log" / f"{name}.out").open("ab") as log:
            # A session of its own: Ctrl-C in the tests must reach the daemons through `stop` alone.
            self.daemons[name] = subprocess.Popen(
                [path, *arguments], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _start_accounting(self) -> None:
        options = {
            "datadir": self.home / "db",
            "socket": self.home / "run/mysql.sock",
            "bind-address": "127.0.0.1",
            "port": self.port + 3,
            "innodb-buffer-pool-size": "16M",
            "innodb-log-file-size": "8M",
            "innodb-lock-wait-timeout": 900,
            "user": "root",
        }
        flags = ["--no-defaults", "--skip-grant-tables", "--skip-name-resolve", "--performance-schema=OFF"]
        self._spawn("mariadbd", *flags, *(f"--{name}={value}" for name, value in options.items()))
        _until(lambda: _listening(self.port + 3), "mariadb listens")
        text = f"""AuthType=auth/munge
AuthInfo=socket={self.home}/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={self.port + 2}
SlurmUser=root
PidFile={self.home}/run/slurmdbd.pid
LogFile={self.home}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={self.port + 3}
StorageUser=slurm
StorageLoc=slurm_acct_db
"""
        path = self.home / "etc/slurmdbd.conf"
        path.write_text(text)
        path.chmod(0o600)
        self._spawn("slurmdbd", "-D")
        _until(lambda: _listening(self.port + 2), "slurmdbd listens")  # slurmctld must find it at its very first start

    def _configure(self) -> None:
        etc = self.home / "etc"
        (etc / "slurm.conf").write_text(self._slurm_conf())
        devices = [
            f"NodeName={node.name} Name=gpu File={device}" for node in self.nodes for device in DEVICES[: node.gpus]
        ]
        (etc / "gres.conf").write_text("\n".join(["AutoDetect=off", *devices, ""]))
        # 22.05 always loads a cgroup plugin; this one does nothing as long as nothing asks it.
        lines = ["CgroupPlugin=cgroup/v1", f"CgroupMountpoint={self.home}/no-cgroup", "CgroupAutomount=no", ""]
        (etc / "cgroup.conf").write_text("\n".join(lines))
        ETC.mkdir(exist_ok=True)
        for name in CONFIGS:
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(etc / name)

    def _slurm_conf(self) -> str:
        home, port = self.home, self.port
        accounting = {"AccountingStorageType": "accounting_storage/none", "JobAcctGatherType": "jobacct_gather/none"}
        if self.accounting:
            accounting = {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "127.0.0.1",
                "AccountingStoragePort": port + 2,
                "AccountingStoragePass": f"{home}/run/munge.socket",
                "AccountingStorageTRES": "gres/gpu",
                "JobAcctGatherType": "jobacct_gather/linux",
                "JobAcctGatherFrequency": 2,
            }
        values = {
            "ClusterName": "test",
            "SlurmctldHost": "localhost(127.0.0.1)",
            "SlurmctldPort": port,
            "SlurmdPort": port + 1,
            "SrunPortRange": f"{port + 100}-{port + 399}",
            "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",  # loopback, not every address
            "AuthType": "auth/munge",
            "CredType": "cred/munge",
            "AuthInfo": f"socket={home}/run/munge.socket",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "StateSaveLocation": f"{home}/state",
            "SlurmdSpoolDir": f"{home}/spool/%n",
            "SlurmctldPidFile": f"{home}/run/slurmctld.pid",
            "SlurmdPidFile": f"{home}/run/slurmd.%n.pid",
            "SlurmctldLogFile": f"{home}/log/slurmctld.log",
            "SlurmdLogFile": f"{home}/log/slurmd.%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobCompType": "jobcomp/none",
            "MpiDefault": "none",
            "SwitchType": "switch/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "GresTypes": "gpu",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0",
            "SlurmdParameters": "config_overrides",  # believe the sizes below, not the hardware
            "ReturnToService": 2,
            "JobRequeue": 1,
            "MinJobAge": 7200,  # squeue still knows jobs that have ended
            "KillWait": 3,
            "SlurmdTimeout": 20,
            "SlurmctldTimeout": 20,
            "InactiveLimit": 0,
            "CompleteWait": 0,
            "TCPTimeout": 2,
            "MessageTimeout": 10,
        }
        lines = [f"{name}={value}" for name, value in (values | accounting | self.settings).items()]
        for number, node in enumerate(self.nodes):
            gres = f" Gres=gpu:{node.gpus}" if node.gpus else ""
            shape = f"Boards=1 SocketsPerBoard=1 CoresPerSocket={node.cpus} ThreadsPerCore=1 CPUs={node.cpus}"
            place = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={port + 10 + number}"
            lines.append(f"NodeName={node.name} {place} {shape} RealMemory={node.memory_mib}{gres} State=UNKNOWN")
        everyone = ",".join(node.name for node in self.nodes)
        lines.append(f"PartitionName=all Nodes={everyone} Default=YES DefaultTime=10 MaxTime=INFINITE State=UP")
        return "\n".join([*lines, ""])


def _until(true: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except (OSError, subprocess.SubprocessError):
            pass
        time.sleep(0.1)
    raise TimeoutError(f"after {seconds:.0f} s it is still not so that {what}")


def _listening(port: int) -> bool:
    import socket

    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex(("127.0.0.1", port)) == 0
