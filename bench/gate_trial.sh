#!/bin/bash
# gate_trial.sh - how often the regression gate notices a kernel that is slower by 5 % on purpose, and
# how often it tells a regression where there is none.
#
#     bench/gate_trial.sh KERNEL [RUNS [OPTION...]]
#
# A baseline first, then RUNS (20) runs of each kind in turns; OPTIONs go to tacit bench kernels, such
# as --filter gemm_f32 --filter gelu_f32 (KERNEL must be among them). Without --no-counts instructions
# are a witness, too, where valgrind is installed. TACIT names the program (build/tacit), PERCENT (5)
# the slow-down, BASELINE a file to compare with in place of a new one. The last line is the result,
# and the status 1 where it is worse than 19 of 20 caught or 1 of 20 in vain.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
kernel=$1 runs=${2:-20}
shift $(($# < 2 ? $# : 2))
tacit=${TACIT:-build/tacit} percent=${PERCENT:-5}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
baseline=${BASELINE:-$folder/baseline.json}
[ -n "${BASELINE:-}" ] || "$tacit" bench kernels --save-baseline "$baseline" "$@"

# gate: its lines, and "failed" where it did not compare.
gate() {
    local status=0
    "$tacit" bench kernels --baseline "$baseline" "$@" >"$folder/out" || status=$?
    cat "$folder/out"
    grep -q '^[0-9]* compared: ' "$folder/out" || { echo "status $status" >&2; exit 1; }
}

caught=0 wolves=0 others=0
for ((i = 1; i <= runs; i++)); do
    echo "run $i, $kernel slower by $percent %"
    TACIT_BENCH_SLOW=$kernel:$percent gate "$@"
    if grep -q "^slower: $kernel " "$folder/out"; then caught=$((caught + 1)); fi
    if grep "^slower: " "$folder/out" | grep -qv "^slower: $kernel "; then others=$((others + 1)); fi
    echo "run $i, as it is"
    gate "$@"
    if grep -q "^slower: " "$folder/out"; then wolves=$((wolves + 1)); fi
done
echo "$kernel slower by $percent %: caught in $caught of $runs runs (in $others something else was told);" \
    "nothing slower: told in $wolves of $runs"
[ $((caught * 20)) -ge $((runs * 19)) ] && [ $((wolves * 20)) -le "$runs" ]
