#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh FOLDER RUNS: half of RUNS into each of the fuzzers that build.sh put into FOLDER, both at once.
# Exit code 1 and the tail of the log when one finds something; its input is kept in FOLDER/findings.
# FUZZ_SEED: 1 unless set, so that a short run is the same everywhere; the full run takes a new one (0).
set -eu

folder=$1
runs=$(($2 / 2))
seed=${FUZZ_SEED:-1}
[ "${FASTDNS_FULL:-}" = 1 ] && seed=${FUZZ_SEED:-0}
# The interpreter that is linked in frees little at its end; the code under test allocates nothing.
export ASAN_OPTIONS=detect_leaks=0

mkdir -p "$folder/findings"
for target in query response; do
    mkdir -p "$folder/corpus/$target"
    # Past 2,048 octets only the response's truncation over UDP has anything new to see.
    max_len=2048
    [ $target = response ] && max_len=6000
    nice "$folder/$target" -runs="$runs" -seed="$seed" -max_len=$max_len -len_control=20 \
        -dict=tests/fuzz/dns.dict -artifact_prefix="$folder/findings/$target-" -print_final_stats=1 \
        "$folder/corpus/$target" "tests/fuzz/corpus/$target" >"$folder/$target.log" 2>&1 &
    eval "pid_$target=$!"
done

failed=0
for target in query response; do
    eval "wait \$pid_$target" || failed=1
    sed -n 's/^stat::\(number_of_executed_units\|average_exec_per_sec\): */'"$target"' \1 /p' "$folder/$target.log"
    grep -E "check failed|SUMMARY|runtime error|Test unit written" "$folder/$target.log" || true
done
if [ $failed = 1 ]; then
    tail -n 40 "$folder"/*.log
    echo "fuzz: a finding (or a fuzzer that did not start): see above" >&2
    exit 1
fi
echo "fuzz: no finding in $((runs * 2)) inputs"
