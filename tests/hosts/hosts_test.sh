#!/usr/bin/env bash
# Runs over two hosts, which are namespaces (with_hosts.sh): they train to the bits of one host's run, a cut link ends
# them with its cause, a slow one only slows. Each case gets hosts of its own.
#
#   hosts_test.sh [CASE...]
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cases=(trains_as_on_one_host slow_link_only_slows cut_link_ends_all cut_host_ends_by_itself cut_host_is_given_up)
skipped=77

if [ -z "${HOSTS_ON:-}" ]; then
  if ! command -v pidwait >/dev/null; then
    echo "there is no 'pidwait' of Debian's package procps: skipped" >&2
    exit $skipped
  fi
  "$here/with_hosts.sh" 2 true || exit $?
  [ $# -eq 0 ] || cases=("$@")
  status=0
  for name in "${cases[@]}"; do
    case_status=0
    "$here/with_hosts.sh" 2 "$0" "$name" || case_status=$?
    case $case_status in
      0) echo "passed: $name" ;;
      "$skipped") [ "$status" -ne 0 ] || status=$skipped ;;
      *) echo "failed: $name" >&2; status=1 ;;
    esac
  done
  exit "$status"
fi

# --- One case, beside its hosts --------------------------------------------------------------------------------------

program=$TROUPE_BUILD_DIR/tests/hosts_program
ranks=(-r D,R,S -x hosts_program)  # that have not ended: Open MPI 5's daemons notice it late
patience=5  # seconds after the timeout in which all ranks have to end
failures=0
export OMPI_MCA_mpi_yield_when_idle=1  # the hosts have the same cores

fail() { echo "error: $*" >&2; failures=1; }
give_up() { fail "$@"; exit 1; }

run() {  # run RANKS HOSTS [--mca NAME VALUE]... -- ARGUMENT...: control goes over eth0, messages over eth1
  local ranks=$1 hosts=$2 settings=()
  shift 2
  while [ "$1" != -- ]; do settings+=("$1"); shift; done
  shift
  "$HOSTS_ON" host1 "$TROUPE_SOURCE_DIR/launch/run" -n "$ranks" -H "$hosts" --mca plm_rsh_agent "$HOSTS_AGENT" \
    --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth1 "${settings[@]}" \
    "$program" fit "$@"
}

received() { awk '$1 == "host2-eth1:" { print $10 }' /proc/net/dev; }  # bytes that the switch has sent to host2

holds() { awk "BEGIN { exit !($1) }"; }  # a condition of numbers that may have fractions

weights() { grep -o 'weights [0-9a-f]*' <<<"$1" | sort | uniq -c; }
seconds() { sed -n 's/^weights .*, \(.*\) s$/\1/p' <<<"$1"; }

gradient_bytes=$((4 * (128 * 2048 + 2048 + 2048 * 2 + 2)))
nothing=100000  # bytes that are no gradients

trains_as_on_one_host() {
  local each one two before
  for each in 1 2; do
    before=$(received)
    one=$(run $((2 * each)) host1 -- 2>&1) || give_up "$each ranks a host, on one host: status $?, $one"
    [ $(($(received) - before)) -le $nothing ] || fail "a run on host1 alone sends to host2"
    before=$(received)
    two=$(run $((2 * each)) host1,host2 -- 2>&1) || give_up "$each ranks a host, on two hosts: status $?, $two"
    before=$(($(received) - before))
    [ "$(weights "$two")" = "$(weights "$one")" ] || fail "other weights: $(weights "$two"), not $(weights "$one")"
    [ "$(weights "$two" | awk '{ print $1 }')" = $((2 * each)) ] || fail "not the same weights on all ranks: $two"
    # 240 samples in batches of 4; the gradients of each step go over the link, once in each direction.
    holds "$before >= 240 / 4 / (2 * $each) * $gradient_bytes" || fail "only $before bytes went to host2"
    echo "$each ranks a host: $(seconds "$one") s on one host, $(seconds "$two") s and $before bytes to host2 on two"
  done
}

slow_link_only_slows() {
  local rate=12500000 fast slow bytes refusal
  fast=$(run 2 host1,host2 -- 2>&1) || give_up "status $?: $fast"
  if ! refusal=$(tc qdisc add dev host2-eth1 root tbf rate ${rate}bps burst 128kb latency 50ms 2>&1); then
    echo "this kernel cannot slow a link ($refusal): skipped" >&2
    exit "$skipped"
  fi
  bytes=$(received)
  slow=$(run 2 host1,host2 -- 2>&1) || give_up "over a slow link: status $?, $slow"
  bytes=$(($(received) - bytes))
  [ "$(weights "$slow")" = "$(weights "$fast")" ] || fail "other weights over a slow link: $fast, $slow"
  # The first of 30 steps is not in these seconds.
  holds "$(seconds "$slow") >= 0.9 * $bytes / $rate" || fail "the link is not slow: $bytes bytes, $slow"
  holds "$(seconds "$slow") > $(seconds "$fast")" || fail "not slower: $fast, $slow"
  echo "$bytes bytes to host2: $(seconds "$fast") s; at $rate bytes a second $(seconds "$slow") s"
}

# train_and_cut TIMEOUT PLUGS [--mca NAME VALUE]...: a run without end on two hosts, with that timeout, whose links are
# cut once it trains. All ranks have to end in time; $begun is when the links were cut.
train_and_cut() {
  local timeout=$1 plugs=$2 line="" plug
  shift 2
  exec {output}< <(run 2 host1,host2 "$@" -- --trainer.max_epochs -1 --trainer.collective_timeout "$timeout" 2>&1)
  running=$!
  while [[ $line != training ]] && read -r -u "$output" line; do said+=$line$'\n'; done
  [[ $line == training ]] || give_up "it does not train: $said"
  for plug in $plugs; do ip link set "host2-$plug" down; done
  begun=$(date +%s%N)
  while pgrep "${ranks[@]}" >/dev/null && holds "$(left $((timeout + patience))) > 0.1"; do
    timeout "$(left $((timeout + patience)))" pidwait "${ranks[@]}" || true  # which waits for one of them
  done
  ! pgrep -a "${ranks[@]}" || fail "these ranks are left after $((timeout + patience)) s"
  echo "$plugs cut, timeout $timeout s: all ranks have ended after $(since) s"
}

left() { awk "BEGIN { left = $1 - $(since); print (left > 0.1 ? left : 0.1) }"; }  # until $1 seconds after the cut

since() { awk "BEGIN { printf \"%.1f\", ($(date +%s%N) - $begun) / 1e9 }"; }

# ends_within SECONDS: of the cut the whole run has ended with a failure and left no process. mpirun takes 4 s for it.
ends_within() {
  local status=0 name
  said+=$(timeout "$(left "$1")" cat <&"$output") || give_up "the run is still there after $1 s: $said"
  wait "$running" || status=$?
  [ "$status" -ne 0 ] || fail "the run ended with 0: $said"
  echo "the run has ended with $status after $(since) s"
  for name in hosts_program orted prted mpirun prterun; do ! pgrep -xa $name || fail "$name is left"; done
}

says() { grep -qE -- "$1" <<<"$said" || fail "'$1' is missing in: $said"; }

# Messages alone are cut: each rank says what it waited for, and mpirun hears of both.
cut_link_ends_all() {
  train_and_cut 3 eth1
  ends_within $((3 + 2 * patience))
  says "not finished within 3 s.*rank 0 on host1"
  says "not finished within 3 s.*rank 1 on host2"
}

# Nothing gets through, and the ranks are the first to notice. mpirun would wait for host2's daemon until TCP gives up.
cut_host_ends_by_itself() {
  local line
  train_and_cut 3 "eth0 eth1"
  while [[ $said != *"not finished"* ]] && read -r -t 1 -u "$output" line; do said+=$line$'\n'; done
  says "not finished within 3 s.*rank 0 on host1"
}

# Nothing gets through, and mpirun and the daemon are the first to notice: each ends the ranks of its host. Keepalive
# finds an idle connection dead, and tcp_retries2 one with something on its way, both here after 3 s.
cut_host_is_given_up() {
  local host
  for host in host1 host2; do "$HOSTS_ON" $host sh -c "echo 3 >/proc/sys/net/ipv4/tcp_retries2"; done
  train_and_cut 10 "eth0 eth1" --mca oob_tcp_keepalive_time 1 --mca oob_tcp_keepalive_intvl 1 \
    --mca oob_tcp_keepalive_probes 2
  ends_within $((10 + patience))
  says "lost communication with a remote daemon"
  says "Remote daemon: .* on node host2"
}

said=""
"$1"
exit "$failures"
