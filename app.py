"""Every entry point of the control plane: the REST API, the minute's tick and probe, and EC2's state events."""

from __future__ import annotations

from typing import Any

from chalice.app import IAMAuthorizer, Rate, Response

from chalicelib import web, wiring
from chalicelib.domain.machines import Role as Target
from chalicelib.errors import Invalid, NotFound, Unavailable
from chalicelib.services import (
    bookings,
    costs,
    edge,
    events,
    host_link,
    invites,
    notifications,
    power,
    probes,
    releases,
    sessions,
    status,
    tokens,
    version,
)
from chalicelib.services.context import Context
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal, Role
from chalicelib.telemetry import correlated

app = web.ProblemApp("whisperlive-edge")

ANY: list[str] = []
"""No demand on Content-Type: a body is JSON or refused as not JSON."""
YEAR_S = 366 * 86400.0
MODEL = web.matching(r"([A-Za-z0-9._-]{1,40}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "small.en")
RELEASE = web.matching(r"[0-9a-f]{16}", "0123456789abcdef")
LANGUAGE = web.matching(r"[a-z]{2,3}(-[A-Za-z]{2,4})?|auto", "en")


def _called(need: Role) -> tuple[Context, Principal, Cause]:
    context, request = wiring.context(), app.caller()
    principal = tokens.authenticate(context.store, request.headers.get("authorization"), need, context.clock())
    return context, principal, Cause(principal.name, f"{request.method} {request.path}")


def _body(**readers: web.Reader) -> dict[str, Any]:
    return web.fields(web.json_object(app.caller()), **readers)


@app.route("/v1/sessions", methods=["POST"], content_types=ANY)
def open_session() -> Response:
    context, principal, cause = _called(Role.SPEAKER)
    body = _body(
        language=LANGUAGE,
        model=MODEL,
        task=web.choice("transcribe", "translate"),
        minutes=web.number(1, 100_000),
    )
    key = app.caller().headers.get("idempotency-key")
    return Response(sessions.open_session(context, principal, sessions.Wanted(**body), key, cause), status_code=201)


@app.route("/v1/sessions/{session_id}", methods=["GET"])
def look_at_session(session_id: str) -> dict[str, Any]:
    context, principal, _ = _called(Role.SPEAKER)
    return sessions.look(context, principal, session_id)


@app.route("/v1/sessions/{session_id}/heartbeat", methods=["POST"], content_types=ANY)
def heartbeat(session_id: str) -> dict[str, Any]:
    context, principal, _ = _called(Role.SPEAKER)
    seconds = web.number(0, 1e6)
    said = _body(latency=web.latency, lost_seconds=seconds, audio_seconds=seconds, words=web.number(0, 1e7))
    return sessions.heartbeat(context, principal, session_id, said)


@app.route("/v1/sessions/{session_id}", methods=["DELETE"], content_types=ANY)
def close_session(session_id: str) -> Response:
    context, principal, cause = _called(Role.SPEAKER)
    sessions.close(context, principal, session_id, cause)
    return Response("", status_code=204)


@app.route("/v1/gpu/start", methods=["POST"], content_types=ANY)
def start_gpu() -> Response:
    context, principal, cause = _called(Role.SPEAKER)
    body = _body(minutes=web.number(1, 100_000), reason=web.text(200))
    power.start(context, principal, body.get("minutes"), body.get("reason", ""), cause)
    return Response(status.status(context), status_code=202)


@app.route("/v1/gpu/stop", methods=["POST"], content_types=ANY)
def stop_gpu() -> Response:
    context, principal, cause = _called(Role.OPERATOR)
    body = {"force": False, "closed_until": None, "reason": ""} | _body(
        force=web.flag, closed_until=web.moment, reason=web.text(200)
    )
    if body["closed_until"] is not None and body["closed_until"] <= context.clock():
        raise Invalid("closed_until lies in the past.", field="closed_until")
    if body["closed_until"] is not None and body["closed_until"] > context.clock() + YEAR_S:
        raise Invalid("closed_until lies more than a year ahead.", field="closed_until")
    power.stop(context, principal, cause=cause, **body)
    return Response(status.status(context), status_code=202)


@app.route("/v1/gpu/restart", methods=["POST"], content_types=ANY)
def restart_gpu() -> Response:
    context, principal, cause = _called(Role.OPERATOR)
    power.restart(context, principal, force=_body(force=web.flag).get("force", False), cause=cause)
    return Response(status.status(context), status_code=202)


@app.route("/v1/bookings", methods=["POST"], content_types=ANY)
def book() -> Response:
    context, principal, cause = _called(Role.OPERATOR)
    body = _body(
        start=web.moment,
        end=web.moment,
        weekly=web.weekly,
        model=MODEL,
        language=LANGUAGE,
        note=web.text(200),
    )
    return Response(bookings.book(context, principal, bookings.WantedBooking(**body), cause), status_code=201)


@app.route("/v1/bookings", methods=["GET"])
def list_bookings() -> dict[str, Any]:
    context, _, _ = _called(Role.OPERATOR)
    return bookings.bookings(context)


@app.route("/v1/bookings/{booking_id}", methods=["DELETE"], content_types=ANY)
def cancel_booking(booking_id: str) -> Response:
    context, _, cause = _called(Role.OPERATOR)
    bookings.cancel(context, booking_id, cause)
    return Response("", status_code=204)


@app.route("/v1/invites", methods=["POST"], content_types=ANY)
def invite() -> Response:
    context, principal, cause = _called(Role.OPERATOR)
    body = _body(minutes=web.number(1, invites.MOST_MINUTES), booking=web.text(64))
    made = invites.invite(context, principal, body.get("minutes"), body.get("booking"), cause)
    return Response(made, status_code=201)


@app.route("/v1/status", methods=["GET"])
def get_status() -> dict[str, Any]:
    context, _, _ = _called(Role.VIEWER)
    return status.status(context)


@app.route("/v1/edge/refresh", methods=["POST"], content_types=ANY)
def refresh_edge() -> Response:
    context, _, cause = _called(Role.OPERATOR)
    _body()
    return Response(edge.refresh(context, cause), status_code=202)


@app.route("/v1/releases/{target}", methods=["POST"], content_types=ANY)
def roll_out(target: str) -> Response:
    context, principal, cause = _called(Role.OPERATOR)
    if target not in set(Target):
        raise NotFound(f"Releases are for gpu and edge hosts, not for {target[:64]}.")
    body = {"release": None, "force": False} | _body(release=RELEASE, force=web.flag)
    url = web.api_url(app.caller())
    begun = releases.begin(context, Target(target), by=principal.name, api_url=url, cause=cause, **body)
    return Response(begun, status_code=202)


@app.route("/v1/rollouts/{rollout_id}", methods=["GET"])
def look_at_rollout(rollout_id: str) -> dict[str, Any]:
    context, _, cause = _called(Role.VIEWER)
    return releases.look(context, rollout_id, cause)


@app.route("/v1/probe", methods=["POST"], content_types=ANY)
def probe_now() -> dict[str, Any]:
    try:
        context, _, cause = _called(Role.OPERATOR)
        _body()
        return probes.ask(context, cause)
    except Unavailable as error:
        raise probes.unreadable(error) from error


@app.route("/v1/hosts/{instance_id}/report", methods=["POST"], content_types=ANY, authorizer=IAMAuthorizer())
def report(instance_id: str) -> dict[str, Any]:
    web.host_identity(app.caller(), instance_id)
    return host_link.report(wiring.context(), instance_id, web.json_object(app.caller()))


@app.route("/v1/events", methods=["GET"])
def get_events() -> dict[str, Any]:
    context, _, _ = _called(Role.VIEWER)
    return events.since(context.store, web.query(app.caller(), "since"), context.clock())


@app.route("/v1/costs", methods=["GET"])
def get_costs() -> dict[str, Any] | Response:
    context, _, _ = _called(Role.VIEWER)
    period = web.chosen(app.caller(), "period", costs.PERIODS)
    answer = costs.costs(context, period)
    if web.chosen(app.caller(), "format", ("json", "csv")) == "json":
        return answer
    return Response(costs.as_csv(answer), headers={"Content-Type": "text/csv; charset=utf-8"}, status_code=200)


@app.route("/v1/health", methods=["GET"])
def health() -> dict[str, Any]:
    return {"ok": True, "version": version.version()}


@app.schedule(Rate(1, unit=Rate.MINUTES))
def tick(event: Any) -> None:
    """The truth: whatever events were lost, a minute later it is made right."""
    with correlated(web.invocation(event)):
        context, cause = wiring.context(), Cause("reconcile", "tick")
        context.reconcile(cause)
        releases.progress(context, cause)
        notifications.deliver(context)


@app.schedule(Rate(1, unit=Rate.MINUTES))
def probe(event: Any) -> None:  # noqa: ARG001  # Chalice hands the event over
    """Looks at every layer each minute, and lets a canary speak when one is due."""
    probes.look(wiring.context(), Cause("probe", "schedule"))


@app.on_cw_event({"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]})
def machine_event(event: Any) -> None:
    """A hint that some instance changed its state; what is true is looked up, never taken from the event."""
    with correlated(web.invocation(event)):
        context, cause = wiring.context(), Cause("reconcile", f"ec2:{event.detail.get('state', '')}")
        context.wishes_changed(cause)
        releases.progress(context, cause)


@app.on_cw_event({"source": ["aws.ssm"], "detail-type": ["EC2 Command Invocation Status-change Notification"]})
def command_event(event: Any) -> None:
    """A hint that a command on some host ended; how it ended is looked up, never taken from the event."""
    with correlated(web.invocation(event)):
        releases.progress(wiring.context(), Cause("reconcile", f"ssm:{event.detail.get('status', '')}"))


wiring.warm()
