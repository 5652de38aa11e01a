"""`whisperctl local`: brings the embedded cloud up in order, says what it waits for, and ends all of it by id."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

from whisperctl.local import LocalOptions, account, preflight
from whisperctl.local.preflight import CannotStart
from whisperctl.local.processes import ProcessBook, Spawner, end_leftovers

log = logging.getLogger(__name__)

EDGE_TIMEOUT_S = 30.0
FIRST_PASS_TIMEOUT_S = 60.0
STAGE = "local"
EXIT_CODES = {signal.SIGTERM: 0, signal.SIGHUP: 0, signal.SIGINT: 130}


class Told(BaseException):
    """A signal asked us to end; not an Exception, so that nothing on the way swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = EXIT_CODES.get(signal.Signals(number), 1)


class Progress:
    """Lines on stderr: what is being waited for, and how long it took."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", file=self._out, flush=True)


def supervise(options: LocalOptions) -> int:
    """See `whisperctl.local.run`."""
    out, err = sys.stdout, sys.stderr
    progress = Progress(err)
    try:
        with _signals(), contextlib.ExitStack() as stack:
            return _run(options, stack, progress, out)
    except CannotStart as reason:
        print(f"whisperctl: {reason}", file=err)
        return 1
    except Told as told:
        progress.say("ended")
        return told.exit_code


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Turn the first signal into `Told`; further ones are ignored while everything is being ended."""
    told = False

    def tell(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise Told(number)

    before = {number: signal.signal(number, tell) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: LocalOptions, stack: contextlib.ExitStack, progress: Progress, out: IO[str]) -> int:
    preflight.check_system()
    directory = options.state_dir.resolve()
    preflight.prepare_directory(directory)
    stack.enter_context(preflight.lock_directory(directory))
    preflight.check_disk(directory)
    left = end_leftovers(directory / "processes.json")
    if left:
        progress.say(f"ended {len(left)} processes an earlier run left behind")
    preflight.check_port(options.port)
    _log_to(directory, stack)
    try:
        about = bring_up(options, directory, stack, progress)
    except CannotStart:
        raise
    except Exception as error:
        log.exception("the stack did not start")
        reason = f"{type(error).__name__}: {error}"
        raise CannotStart(
            f"The stack did not start ({reason}); {directory / 'logs' / 'local.log'} says where."
        ) from error
    _write_private(directory / "stack.json", about)
    stack.callback((directory / "stack.json").unlink, missing_ok=True)
    if options.check:
        return _check(directory, progress, out)
    if options.json_output:
        print(json.dumps(about), file=out, flush=True)
    else:
        print(f"READY {about['edge_url']}/#token={about['tokens']['operator']}", file=out, flush=True)
    progress.say("ready; the GPU is asleep. Ctrl-C ends everything")
    threading.Event().wait()
    raise AssertionError("nothing sets this event; a signal ends the wait")


def _log_to(directory: Path, stack: contextlib.ExitStack) -> None:
    """Our log and the Lambdas' output into files: stdout is for READY, stderr for progress."""
    handler = logging.FileHandler(directory / "logs" / "local.log", mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # Each request would be a line, and it is in the record of calls already.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    stack.callback(root.removeHandler, handler)
    lambdas = stack.enter_context((directory / "logs" / "lambda.log").open("w", buffering=1))
    stack.enter_context(contextlib.redirect_stdout(lambdas))
    stack.enter_context(contextlib.redirect_stderr(lambdas))


def bring_up(
    options: LocalOptions, directory: Path, stack: contextlib.ExitStack, progress: Progress
) -> dict[str, Any]:
    """Start everything; `stack` ends it in reverse order. Returns what stack.json shall hold."""
    if options.hosts == "systemd":
        from whisperctl.local.blank import bring_up_blank

        return bring_up_blank(options, directory, stack, progress)
    from whisperctl.local.roles import INHERITED, Plan

    repository = preflight.find_repository()
    model, caddy = preflight.find_model(), preflight.find_caddy()
    spawner = Spawner(ProcessBook(directory / "processes.json"))
    stack.callback(spawner.close)

    progress.say("waiting for the AWS stand-in")
    cloud = Cloud(options, stack)
    edge_url = f"https://localhost:{options.port}"
    account.put_environment(os.environ, options, cloud.endpoint.url, edge_url)
    store = account.create_table_and_documents(options)

    progress.say("waiting for app.py and its gateway")
    gateway = cloud.start_gateway(repository / "app.py", stack)
    plan = Plan(
        python=sys.executable,
        caddy=caddy,
        repository=repository,
        api_url=f"{gateway}/{STAGE}",
        stage=STAGE,
        edge_port=options.port,
        edge_bind=preflight.loopback(),
        edge_http_port=preflight.free_port(),
        edge_admin_port=preflight.free_port(),
        resolver=cloud.dns.address,
        storage=directory / "caddy",
        model_path=model,
        max_streams=options.max_streams,
        require_ticket=options.require_ticket,
        deadman_minutes=options.deadman_minutes,
        inherited={name: os.environ[name] for name in INHERITED if name in os.environ},
    )
    os.environ["API_URL"] = plan.api_url
    cloud.start_hosts(plan, directory / "hosts", spawner, stack)
    tokens = account.create_tokens(store, cloud.clock.now())
    gpus, edge = account.create_machines(cloud.ec2, options)
    cloud.edge_instance_id = edge

    progress.say("waiting for the edge")
    _wait_for_edge(plan.edge_url, plan.ca_cert, directory / "hosts" / edge / "var" / "log" / "caddy.log")
    cloud.triggers.start()
    progress.say("waiting for the first pass of the control plane")
    wait_for_asleep(plan.api_url, tokens["viewer"])
    cloud.calls.clear()
    made = account.Account(tokens, gpus, edge)
    return account.stack_file(plan, made, options=options, aws_endpoint=cloud.endpoint.url, pid=os.getpid())


class Cloud:
    """The parts in this process, wired. Imports stand here because moto takes two seconds to load."""

    def __init__(
        self,
        options: LocalOptions,
        stack: contextlib.ExitStack,
        address: str = "127.0.0.1",
        new_address: Callable[[], str] | None = None,
        resource_seconds: float = 0.0,
    ) -> None:
        """`address`: where the endpoint and the gateway listen; `new_address`: gives hosts theirs;
        `resource_seconds`: how long CloudFormation takes for one resource."""
        os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        from whisperctl.local.calls import CallRecord
        from whisperctl.local.cfn.stacks import Pace, Stacks
        from whisperctl.local.clock import StandInClock, Timeline
        from whisperctl.local.dns import HostsFileDns
        from whisperctl.local.ec2 import Dwell, Ec2
        from whisperctl.local.faults import Faults
        from whisperctl.local.hosts import free_address
        from whisperctl.local.ssm import Ssm
        from whisperctl.local.standin import StandIn

        self._options = options
        self._address = address
        self.edge_instance_id: str | None = None
        self._hosts_directory: Path | None = None
        lock = threading.RLock()
        self.clock, self.faults, self.calls = StandInClock(), Faults(), CallRecord()
        self.timeline = Timeline(self.clock)
        self.ec2 = Ec2(
            clock=self.clock,
            timeline=self.timeline,
            faults=self.faults,
            dwell=Dwell(options.boot_seconds, options.stop_seconds),
            region=account.REGION,
            lock=lock,
            new_address=new_address or free_address,
        )
        self.ssm = Ssm(
            clock=self.clock,
            faults=self.faults,
            ec2=self.ec2,
            agent_s=options.agent_seconds,
            region=account.REGION,
            lock=lock,
        )
        self.stacks = Stacks(
            clock=self.clock,
            timeline=self.timeline,
            faults=self.faults,
            client=self._own_client,
            region=account.REGION,
            zones=self.ec2.zones,
            pace=Pace(resource_seconds),
        )
        self._standin = standin = StandIn(
            clock=self.clock,
            faults=self.faults,
            calls=self.calls,
            ec2=self.ec2,
            ssm=self.ssm,
            lock=lock,
            stacks=self.stacks,
        )
        self._clients: dict[str, Any] = {}
        self.endpoint = standin.server(host=address)
        stack.callback(self.endpoint.close)
        self.dns = HostsFileDns(self._hosts_file)
        stack.callback(self.dns.close)

    def _own_client(self, service: str) -> Any:
        """CloudFormation's own clients of this endpoint."""
        import boto3

        if service not in self._clients:
            # A session each: making clients of one session is not safe from several threads.
            session = boto3.Session(
                region_name=account.REGION,
                aws_access_key_id="cloudformation",
                aws_secret_access_key="local",  # noqa: S106  the stand-in's
            )
            make: Any = session.client
            self._clients[service] = make(service, endpoint_url=self.endpoint.url)
        return self._clients[service]

    def _hosts_file(self) -> Path | None:
        if self.edge_instance_id is None or self._hosts_directory is None:
            return None
        return self._hosts_directory / self.edge_instance_id / "etc" / "hosts"

    def start_gateway(self, app: Path, stack: contextlib.ExitStack) -> str:
        """The real app.py behind a gateway; returns the gateway's URL."""
        from chalicelib import wiring
        from whisperctl.local.containers import mortal
        from whisperctl.local.gateway import Gateway
        from whisperctl.local.lambdas import AppPool, AsyncInvoker
        from whisperctl.local.triggers import Triggers

        stack.enter_context(mortal())
        wiring.use_clock(self.clock.now)
        pool = AppPool(app)
        self._instance_of: Callable[[str], str | None] = lambda _key: None
        gateway = Gateway(
            pool,
            stage=STAGE,
            region=account.REGION,
            clock=self.clock,
            instance_of=lambda key: self._instance_of(key),
        )
        server = gateway.server(host=self._address)
        stack.callback(server.close)
        self.invoker = AsyncInvoker(pool, self.timeline, account.REGION)
        self.triggers = Triggers(
            clock=self.clock,
            timeline=self.timeline,
            faults=self.faults,
            invoker=self.invoker,
            stack=self._options.stack_name,
            region=account.REGION,
        )
        self._standin.fire = self.triggers.fire
        self.ec2.on_state = self.triggers.instance_changed
        self.ssm.on_end = self.triggers.command_ended
        return server.url

    def start_hosts(self, plan: Any, directory: Path, spawner: Spawner, stack: contextlib.ExitStack) -> None:
        """Hosts that are process groups."""
        from whisperctl.local.hosts import Hosts

        self._hosts_directory = directory
        self.wire(Hosts(plan, directory, spawner, self.ec2.stopped_itself), stack)

    def wire(self, hosts: Any, stack: contextlib.ExitStack) -> None:
        """Wire EC2 and SSM to hosts; they end first, and before them whatever could start more."""
        self._instance_of = hosts.instance_of
        self.ec2.power = hosts
        self.ssm.host = hosts
        stack.callback(hosts.close)
        stack.callback(self.ssm.close)
        stack.callback(self.timeline.close)


def _wait_for_edge(edge_url: str, ca_cert: Path, caddy_log: Path) -> None:
    """Until the API answers through the edge, its certificate verified."""
    deadline = time.monotonic() + EDGE_TIMEOUT_S
    last = "it has made no certificate yet"
    while time.monotonic() < deadline:
        try:
            context = ssl.create_default_context(cafile=str(ca_cert))
            with urllib.request.urlopen(f"{edge_url}/api/v1/health", context=context, timeout=5) as answer:  # noqa: S310  our own https address
                if answer.status == 200:
                    return
        except FileNotFoundError:
            pass
        except (urllib.error.URLError, OSError) as error:
            last = str(error)
        time.sleep(0.1)
    raise CannotStart(f"The edge did not answer within {EDGE_TIMEOUT_S:g} s ({last}); {caddy_log} says why.")


def wait_for_asleep(api_url: str, token: str) -> None:
    """Until the first tick has looked at the machines and found the GPU asleep."""
    deadline = time.monotonic() + FIRST_PASS_TIMEOUT_S
    phase = ""
    while time.monotonic() < deadline:
        request = urllib.request.Request(  # noqa: S310  our own gateway
            f"{api_url}/v1/status", headers={"Authorization": f"Bearer {token}"}
        )
        with (
            contextlib.suppress(TimeoutError),  # a machine that does more than this is slow to answer
            urllib.request.urlopen(request, timeout=5) as answer,  # noqa: S310  our own gateway
        ):
            phase = json.load(answer)["phase"]
        if phase == "asleep":
            return
        time.sleep(0.05)
    raise CannotStart(f"The control plane says {phase!r} where it should say asleep; logs/lambda.log may say why.")


def _check(directory: Path, progress: Progress, out: IO[str]) -> int:
    from whisperctl.checks import run_check
    from whisperctl.stack import read_stack

    progress.say("checking: wake, speak, read the words, put to sleep")
    stack = read_stack(directory)
    assert stack is not None
    result = run_check(stack)
    print(json.dumps(result.as_dict(), indent=2), file=out, flush=True)
    progress.say("the check passed" if result.ok else f"the check failed: {result.problem}")
    return 0 if result.ok else 1


def _write_private(path: Path, value: Any) -> None:
    """Write JSON for the owner only, whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(json.dumps(value, indent=2) + "\n")
    new.replace(path)
