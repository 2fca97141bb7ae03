"""``pamdi allocate``: who should hold what, and which way every source's works should go."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from pamdi.cli.runs import runs
from pamdi.core.allocation import Plan, Resident, Route, RouteVisit
from pamdi.core.errors import ConfigError

LINES_MAX = 40  # of each table, for people


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "allocate",
        help="solve the allocation of a fleet: residents and routes",
        epilog="example: pamdi allocate examples/fleet.toml",
    )
    parser.add_argument("fleet", metavar="FLEET", type=Path, help="a fleet.toml, such as examples/fleet.toml")
    parser.add_argument("--solver", choices=("fast", "exact"), default="fast", help="exact: small fleets only (fast)")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="S", help="a far limit; counts decide (600)")
    parser.add_argument("--previous", type=Path, metavar="PLAN", help="the plan in force: keep it unless moving pays")
    parser.add_argument(
        "--gain-min", type=float, default=0.02, metavar="SHARE", help="of J - J0, to move at all (0.02)"
    )
    parser.add_argument("--horizon", type=float, default=600.0, metavar="S", help="over which a gain counts (600)")
    parser.add_argument("--load-rate", type=float, default=50e6, metavar="B/S", help="how fast engines load (50e6)")
    parser.add_argument("--trace", action="store_true", help="on standard error, when which objective was reached")
    parser.add_argument("--json", action="store_true", help="plan.json on standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from pamdi.controller.fleet import read_fleet
    from pamdi.controller.solver.moving import Terms, solve_again, told
    from pamdi.controller.solver.solve import solve

    for name in ("seconds", "horizon", "load_rate"):
        if not getattr(arguments, name) > 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be positive")
    fleet = read_fleet(arguments.fleet)
    remarks: List[str] = []
    if arguments.previous is None:
        solved = solve(fleet, arguments.solver, arguments.seconds)
    else:
        terms = Terms(arguments.gain_min, arguments.horizon, arguments.load_rate)
        again = solve_again(fleet, read_plan(arguments.previous), arguments.solver, terms)
        solved, remarks = again.solved, [told(again)]
    remarks.extend(solved.remarks)
    remarks.extend(filled(fleet, solved.plan))
    if arguments.trace:
        for step in solved.trace:
            print(f"{step.seconds:9.3f} s  {step.phase:7} {step.objective:.6g}", file=sys.stderr)
    if arguments.json:
        for remark in remarks:
            print(remark, file=sys.stderr)
        print(json.dumps(document(solved.plan)))
    else:
        print("\n".join(table(solved.plan, solved.cost.floor, remarks)))
    return 0


def filled(fleet: Any, plan: Plan) -> List[str]:
    """That the live controller holds more: this plan has what its routes need, memory that is left is filled there."""
    from pamdi.controller.allocation import allocate_what_fits
    from pamdi.controller.solver.live import in_time

    if not in_time(fleet):
        return []
    held = sum(r.stop - r.first for found in plan.residents.values() for r in found)
    live = sum(len(found) for found in allocate_what_fits(fleet, solver="fast").plan.residents.values())
    return [
        f"residents are what these routes need ({held} units); `pamdi controller` holds single units and fills spare "
        f"memory with copies ({live} units here), so that a lost device leaves nothing uncovered"
    ]


def document(plan: Plan) -> Dict[str, Any]:
    """plan.json."""
    routes = {
        id: [
            {
                "fraction": route.fraction,
                "latency_s": route.latency_s,
                "visits": [{"first": v.first, "stop": v.stop, "device": v.device} for v in route.visits],
            }
            for route in found
        ]
        for id, found in plan.routes.items()
    }
    residents = {
        id: [{"model": r.model, "first": r.first, "stop": r.stop} for r in held] for id, held in plan.residents.items()
    }
    figures = {"solver": plan.solver, "objective": plan.objective, "bound": plan.bound}
    return {**figures, "routes": routes, "residents": residents}


def read_plan(path: Path) -> Plan:
    """Raises ConfigError in one line."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        routes = {
            id: tuple(
                Route(
                    float(route["fraction"]),
                    float(route["latency_s"]),
                    tuple(RouteVisit(int(v["first"]), int(v["stop"]), str(v["device"])) for v in route["visits"]),
                )
                for route in listed
            )
            for id, listed in found["routes"].items()
        }
        residents = {
            id: tuple(Resident(str(r["model"]), int(r["first"]), int(r["stop"])) for r in held)
            for id, held in found["residents"].items()
        }
        return Plan(str(found["solver"]), float(found["objective"]), found["bound"], routes, residents)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: give a plan.json") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a plan.json ({error}): make one with pamdi allocate --json") from error


def table(plan: Plan, floor: float, remarks: List[str]) -> List[str]:
    lines = [f"{plan.solver}: J {plan.objective:.6g}, J - J0 {plan.objective - floor:.6g}{_beside(plan, floor)}", ""]
    lines.append(f"{'source':16} {'share':>7} {'latency':>10}  route")
    routes = [(id, route) for id, found in plan.routes.items() for route in found]
    for id, route in routes[:LINES_MAX]:
        lines.append(f"{id:16} {route.fraction:7.1%} {route.latency_s * 1e3:7.1f} ms  {_way(route)}")
    lines.extend([*_left(len(routes), "routes"), "", f"{'device':16} {'memory':>12}  residents"])
    for id, held in list(plan.residents.items())[:LINES_MAX]:
        listed = " ".join(map(str, runs((r.model, r.first, r.stop) for r in held)))
        lines.append(f"{id:16} {sum(r.memory_bytes for r in held):12,}  {listed}")
    lines.extend([*_left(len(plan.residents), "devices"), *([""] if remarks else []), *remarks])
    return lines


def _beside(plan: Plan, floor: float) -> str:
    if plan.bound is None:
        return ", no bound"
    span: Optional[float] = plan.objective - floor
    share = (plan.bound - floor) / span if span and math.isfinite(span) else 1.0
    return f", bound (nobody waits) {plan.bound - floor:.6g}, {share:.1%} of it"


def _way(route: Route) -> str:
    return " > ".join(map(str, runs((v.device, v.first, v.stop) for v in route.visits)))


def _left(count: int, what: str) -> List[str]:
    return [f"... and {count - LINES_MAX} more {what}: --json has all"] if count > LINES_MAX else []
