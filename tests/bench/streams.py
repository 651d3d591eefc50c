"""The part "streams" of tests/bench/compare: watches, topics, leases, expiry, sessions."""

import concurrent.futures
import json
import re
import statistics
import subprocess
import time

WATCHERS = ["--watchers=1000", "--value-size=32"]
PUTS = ["--connections=16", "--value-size=256"]
# As many puts as a busy service may have; so what is in their way shows in their latency, not in their number.
STEADY = [*PUTS, "--pipeline=16", "--rate=2000"]


class Measured:
    """What the groups need of tests/bench/compare, and what they found."""

    def __init__(self, options, kvd, etcd, systems, tools):
        self.options, self.kvd, self.etcd, self.systems, self.tools = options, kvd, etcd, systems, tools
        self.rows, self.raw = [], {}

    def start(self, *makes):
        started = [make() for make in makes]
        self.systems += started
        for system in started:
            system.start()
        return started

    def row(self, what, found, text, goal="", met=None):
        """found: figures by system; text: how one is written."""
        verdict = goal if met is None else f"{goal}: {'met' if met else 'missed'}"
        self.rows.append({"what": what, "goal": verdict,
                          **{name: text(found[name]) if name in found else "-" for name in ("kvd", "etcd")}})
        self.raw[what] = found
        print(self.rows[-1], flush=True)


class Background:
    """A kvbench that goes on until it is told to end."""

    def __init__(self, system, *options):
        self.process = subprocess.Popen(system.bench_command(*options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        return json.loads(self.process.stdout.readline())

    def end(self):
        rest = self.process.communicate()[0]
        if self.process.returncode != 0:
            raise SystemExit(f"{self.process.args} failed")
        return json.loads(rest) if rest else None


def milliseconds(figure):
    return f"{figure['after_commit_p50_us'] / 1000:.2f} / {figure['after_commit_p99_us'] / 1000:.2f} ms after the commit, " \
           f"{figure['p50_us'] / 1000:.2f} / {figure['p99_us'] / 1000:.2f} ms after sending"


def middle(runs, key):
    return sorted(runs, key=lambda run: run[key])[len(runs) // 2]


def fan_out(measured):
    """One key, 1000 watchers; both systems by turns."""
    systems = measured.start(measured.kvd, measured.etcd)
    seconds, runs = measured.options.seconds, measured.options.runs

    def measure(key, *options):
        found = {system.name: [] for system in systems}
        for _ in range(runs):
            for system in systems:
                found[system.name].append(system.load("--op=watch", f"--seconds={seconds}", *WATCHERS, *options))
        found = {name: middle(values, key) for name, values in found.items()}
        if any(figure["missing"] for figure in found.values()):
            raise SystemExit(f"events are missing: {found}")
        return found

    for connections, rate in ((10, 100), (100, 100), (1000, 100), (100, 500)):
        found = measure("after_commit_p50_us", f"--rate={rate}", "--pipeline=256", f"--connections={connections}")
        kvd, etcd = (found[name]["after_commit_p50_us"] for name in ("kvd", "etcd"))
        measured.row(f"1000 watchers of one key on {connections} connections, {rate} puts/s: the last is told (p50 / p99)",
                     found, milliseconds, f"2 ms: {'met' if kvd <= 2000 else 'missed'}; 5x sooner ({etcd / kvd:.1f}x)",
                     etcd >= 5 * kvd)
    for deep in (64, 1000):
        found = measure("events_rate", "--connections=100", f"--pipeline={deep}")
        kvd, etcd = (found[name]["events_rate"] for name in ("kvd", "etcd"))
        measured.row(f"the same on 100 connections, {deep} puts not yet told to all: events delivered", found,
                     lambda figure: f"{figure['events_rate'] / 1e6:.2f} M/s (kvbench: {figure['cpu']:.2f} of a core), the last is told "
                                    f"{figure['p50_us'] / 1000:.1f} ms after sending (p50)",
                     f"4 M/s, 3x ({kvd / etcd:.1f}x)", kvd >= 4e6 and kvd >= 3 * etcd)


def idle(measured):
    """100,000 watchers of single keys that nobody writes."""
    found = {}
    for make in (measured.kvd, measured.etcd):
        system, = measured.start(make)
        puts = ["--op=put", f"--seconds={measured.options.seconds}", *PUTS, "--pipeline=16", "--keys=10000"]
        without, with_watchers = [], []
        # On fresh nodes, which have no freed memory to use again.
        before = [measured.tools.rss_bytes(p.pid) for p in system.processes]
        watch = ["--op=watch-idle", "--watchers=100000", "--connections=100", "--prefix=idle", "--seconds=600"]
        watchers = Background(system, *watch)
        opened = watchers.line()["seconds"]
        bytes_more = max(measured.tools.rss_bytes(p.pid) - b for p, b in zip(system.processes, before))
        watchers.end()
        system.load(*puts)
        for _ in range(measured.options.runs):
            without.append(system.load(*puts)["rate"])
            watchers = Background(system, *watch)
            watchers.line()
            with_watchers.append(system.load(*puts)["rate"])
            watchers.end()
        found[system.name] = {"bytes": bytes_more, "opened_s": opened, "without": without, "with": with_watchers,
                              "ratio": statistics.median(with_watchers) / statistics.median(without)}
        system.stop()
    kvd = found["kvd"]
    measured.row("100,000 idle watchers of single keys: memory of their node; opened after", found,
                 lambda f: f"{f['bytes'] / 1e6:.0f} MB; {f['opened_s']:.2f} s", "100 MB", kvd["bytes"] <= 100e6)
    measured.row("puts (16 connections, 16 deep) without them; with them", found,
                 lambda f: f"{statistics.median(f['without']):,.0f}/s; {statistics.median(f['with']):,.0f}/s "
                           f"({f['ratio'] * 100:.0f} %)", "90 %", kvd["ratio"] >= 0.9)


def catch_up(measured):
    """A watcher from before the first of many events, and others' puts meanwhile."""
    found = {}
    # etcd gives one slow watcher 1000 revisions each 0.1 s.
    for make, events in ((measured.kvd, 1000000), (measured.etcd, 50000)):
        system, = measured.start(make)
        if system.name == "kvd":
            system.configure("history-bytes", str(4 << 30))
        measured.tools.fill(system, events, prefix="behind")
        before = system.load("--op=put", *STEADY, "--seconds=4")
        watcher = Background(system, "--op=watch-catch-up", "--prefix=behind", f"--count={events}", "--seconds=6")
        during = system.load("--op=put", *STEADY, "--seconds=4")
        caught = watcher.end()
        found[system.name] = {**caught, "p99_us": [before["p99_us"], during["p99_us"]]}
        system.stop()
    kvd = found["kvd"]
    ratio = kvd["p99_us"][1] / kvd["p99_us"][0]
    measured.row("one watcher 1,000,000 events behind (etcd: 50,000) catches up", found,
                 lambda f: f"{f['rate']:,.0f}/s (kvbench: {f['cpu']:.2f} of a core)", "500,000/s", kvd["rate"] >= 500000)
    measured.row("2,000 puts/s of others, p99 before; meanwhile", found,
                 lambda f: f"{f['p99_us'][0] / 1000:.1f} ms; {f['p99_us'][1] / 1000:.1f} ms "
                           f"({f['p99_us'][1] / f['p99_us'][0]:.1f}x)", "1.5x", ratio <= 1.5)


def leases(measured):
    """100,000 leases of 15 s, each renewed every 5 s."""
    count = 100000
    system, = measured.start(measured.kvd)
    common = [f"--keys={count}", "--sequential", "--ttl-ms=15000"]
    granted = system.load("--op=lease-grant", f"--count={count}", "--connections=16", "--pipeline=64", *common)
    found = {}
    for batch in (4000, 1):
        renew = Background(system, "--op=lease-renew", f"--batch={batch}", f"--rate={count // 5 // batch}",
                           "--connections=20", "--pipeline=1024", "--seconds=8", *common)
        time.sleep(2)
        leader = system.processes[system.leader()]
        began, before = time.monotonic(), measured.tools.cpu_seconds(leader.pid)
        time.sleep(6)
        cores = (measured.tools.cpu_seconds(leader.pid) - before) / (time.monotonic() - began)
        found[batch] = {**renew.end(), "leader_cores": cores, "granted": granted["rate"]}
        alive = system.metric("kvd_leases")
        if found[batch]["failed"] or alive != count or found[batch]["rate"] * batch < 0.95 * count / 5:
            raise SystemExit(f"not all leases were kept alive: {alive} are left, {found}")
    system.stop()
    measured.row("100,000 leases renewed every 5 s, 4,000 by one call: part of a core on the leader", {"kvd": found[4000]},
                 lambda f: f"{f['leader_cores'] * 100:.1f} %; granted {f['granted']:,.0f}/s", "10 %",
                 found[4000]["leader_cores"] <= 0.1)
    measured.row("the same, a call for each (20,000 calls/s)", {"kvd": found[1]}, lambda f: f"{f['leader_cores'] * 100:.1f} %")


def expiry(measured):
    """1,000,000 keys whose times are over within the same second, and puts meanwhile."""
    count, ahead = 1000000, 30
    system, = measured.start(measured.kvd)
    puts = ["--op=put", *STEADY, "--prefix=other"]
    before = system.load(*puts, "--seconds=4")
    began = time.monotonic()
    system.load("--op=put", "--sequential", f"--keys={count}", f"--count={count}", "--connections=16", "--pipeline=64",
                "--prefix=m", f"--expire-in={ahead}")
    if time.monotonic() - began > ahead - 3:
        raise SystemExit("filling took too long")
    time.sleep(ahead - 2 - (time.monotonic() - began))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        load = pool.submit(system.load, *puts, "--seconds=8", "--warmup=0")
        while system.metric("kvd_expiring_keys") > 0:
            time.sleep(0.2)
        took = time.monotonic() - began - ahead
        during = load.result()
    late = system.metric_buckets("kvd_expiry_lateness_seconds")
    system.stop()
    found = {"kvd": {"before_us": before["p99_us"], "p99_us": during["worst_second_p99_us"], "max_us": during["max_us"],
                     "lateness": late}}
    measured.row("2,000 puts/s while 1,000,000 keys expire in the same second: p99 before; of the worst second", found,
                 lambda f: f"{f['before_us'] / 1000:.1f} ms; {f['p99_us'] / 1000:.1f} ms (longest {f['max_us'] / 1000:.1f} ms)",
                 "20 ms", during["worst_second_p99_us"] <= 20000)
    measured.row("how late those expire, p99; the last is gone after", found,
                 lambda f: f"{at_most(quantile(late, 0.99))}; {took:.1f} s", "100 ms", quantile(late, 0.99) <= 0.1)


def steady_expiry(measured):
    """Keys whose times are over as fast as they come."""
    system, = measured.start(measured.kvd)
    load = system.load("--op=put", "--sequential", "--keys=1000000", "--ttl-ms=2000", "--rate=20000", "--connections=16",
                       "--pipeline=64", "--seconds=8")
    late = system.metric_buckets("kvd_expiry_lateness_seconds")
    system.stop()
    p99 = quantile(late, 0.99)
    measured.row("20,000 puts/s with a ttl of 2 s, so that as many keys expire: how late, p99; p99 of the puts",
                 {"kvd": {**load, "lateness": late}}, lambda f: f"{at_most(p99)}; {f['p99_us'] / 1000:.1f} ms", "100 ms", p99 <= 0.1)


def at_most(bound):
    return f"{bound * 1000:.0f} ms or less" if bound != float("inf") else "over 1 s"


def quantile(buckets, part):
    """The upper bound of the bucket that holds it. buckets: (bound, count of all up to it), ascending."""
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= part * total)


def topics(measured):
    system, = measured.start(measured.kvd)
    runs = [system.load("--op=subscribe", "--watchers=100", "--connections=10", "--rate=20000", "--pipeline=1024",
                        "--value-size=64", f"--seconds={measured.options.seconds}") for _ in range(measured.options.runs)]
    system.stop()
    found = middle(runs, "events_rate")
    if found["missing"]:
        raise SystemExit(f"messages are missing: {found}")
    measured.row("publish 20,000 messages/s to 100 subscribers on 10 connections: delivered, the last is told (p50 / p99)",
                 {"kvd": found},
                 lambda f: f"{f['rate']:,.0f} messages/s, {f['events_rate'] / 1e6:.2f} M/s, {f['p50_us'] / 1000:.2f} / "
                           f"{f['p99_us'] / 1000:.2f} ms after sending", "20,000/s", found["rate"] >= 19800)


def sessions(measured):
    """What exactly-once costs: puts with a stamp and without, by turns."""
    system, = measured.start(measured.kvd)
    for what, options in (("64 clients", ["--connections=64"]), ("16 connections, 64 deep", ["--connections=16", "--pipeline=64"])):
        plain, stamped = [], []
        for _ in range(max(3, measured.options.runs)):
            plain.append(system.load("--op=put", f"--seconds={measured.options.seconds}", *options)["rate"])
            stamped.append(system.load("--op=put", "--session", f"--seconds={measured.options.seconds}", *options)["rate"])
        a, b = statistics.median(plain), statistics.median(stamped)
        measured.row(f"put 256 B, {what}: plain; exactly once (in a session)", {"kvd": {"plain": plain, "session": stamped}},
                     lambda f, a=a, b=b: f"{a:,.0f}/s; {b:,.0f}/s ({b / a * 100:.0f} %)")
    system.stop()


GROUPS = {"fan-out": fan_out, "idle": idle, "catch-up": catch_up, "leases": leases, "expiry": expiry,
          "steady-expiry": steady_expiry, "topics": topics,
          "sessions": sessions}


def measure(options, kvd, etcd, systems, tools, data):
    """Rows by group: those of --rows, and the others as they were. What is started is added to systems."""
    groups = data.get("streams", {}).get("groups", {})
    for name, group in GROUPS.items():
        if not re.search(options.rows, name):
            continue
        measured = Measured(options, kvd, etcd, systems, tools)
        group(measured)
        for system in systems:
            system.stop()
        groups[name] = {"rows": measured.rows, "raw": measured.raw, "commit": data["commit"], "date": time.strftime("%Y-%m-%d"),
                        "runs": options.runs, "seconds": options.seconds}
    return {"groups": groups}


def write(data, text, command):
    """The text of the page with its section of the streams as it was measured, if it was."""
    if "streams" not in data:
        return text
    groups = [data["streams"]["groups"][name] for name in GROUPS if name in data["streams"]["groups"]]
    dates, commits = (sorted({group[key] for group in groups}) for key in ("date", "commit"))
    runs = sorted({f"{group['runs']} of {group['seconds']} s" for group in groups})
    lines = [f"Made by `{command} --part streams` on {', '.join(dates)}, commit {', '.join(commits)}, {data['machine']}; "
             f"{data['versions']['etcd']}. Three servers and the load share the machine; median of {' or '.join(runs)}.", "",
             "| what | kvd | etcd | goal |", "|---|---|---|---|",
             *(f"| {row['what']} | {row['kvd']} | {row['etcd']} | {row['goal']} |" for group in groups for row in group["rows"])]
    return re.sub(r"(<!-- streams -->\n).*?(<!-- end streams -->)", lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text,
                  flags=re.S)
