# SPDX-License-Identifier: Apache-2.0
"""What both servers say to a case's queries, for people: `python -m tests.diff.show CASE [LOOK...]`."""

import sys

from tests.diff.cases import CASES
from tests.diff.expect import unmet
from tests.diff.reply import compare
from tests.diff.run import FASTDNS, NODE_CACHE, Outcome, run_cases


def main(arguments: list[str]) -> int:
    programs = [NODE_CACHE]
    if arguments and arguments[0] == "--both":
        programs.append(FASTDNS)
        arguments = arguments[1:]
    cases = [case for case in CASES if not arguments or case.name in arguments]
    results = run_cases(cases, programs, at_once=4)
    for case in cases:
        print(f"==== {case.name}")
        outcomes = [results[case.name, program.name] for program in programs]
        for outcome in outcomes:
            if not isinstance(outcome, Outcome):
                print(f"  {type(outcome).__name__}: {outcome}")
        if not all(isinstance(outcome, Outcome) for outcome in outcomes):
            continue
        for number, ask in enumerate(case.asks):
            seen = [outcome.seen[number] for outcome in outcomes if isinstance(outcome, Outcome)]
            wrong = unmet(ask.says, seen[0])
            mark = f"  UNMET {wrong}" if wrong else ""
            differing = compare(seen[0], seen[1], ask.any_order) if len(seen) == 2 else {}
            print(f"-- {ask.look}: {ask.name} {ask.rdtype}{mark}")
            if wrong or differing:
                print("\n".join(f"   {line}" for line in str(seen[0]).splitlines()))
            for name, (theirs, ours) in differing.items():
                print(f"   {name}: {theirs} | {ours}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
