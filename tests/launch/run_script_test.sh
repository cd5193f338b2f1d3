#!/usr/bin/env bash
# launch/run: the command that it makes, the output of several ranks, the status, and its sentences for what is wrong. With the
# mpirun on the PATH; where launch/setup --mpi has installed another Open MPI, with that one too.
set -euo pipefail
run=$TROUPE_SOURCE_DIR/launch/run
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

cat >"$folder/program" <<'EOF'
#!/usr/bin/env bash
rank=$OMPI_COMM_WORLD_RANK
echo "rank $rank of $OMPI_COMM_WORLD_SIZE, $OMP_NUM_THREADS threads, ${1:-nothing}"
echo "complains $rank" >&2
[ "${2:-}" != "$rank" ] || exit 7
EOF
chmod +x "$folder/program"

fail() { echo "error: $*" >&2; failures=1; }

says() {  # says TEXT COMMAND...: a line of its output holds TEXT, whatever its status
  local text=$1 said
  shift
  said=$("$@" 2>&1) || true
  grep -qF -- "$text" <<<"$said" || fail "'$*' did not say '$text', but: $said"
}

refuses() {  # refuses TEXT ARGUMENT...: status 2 and one line with TEXT
  local text=$1 said status=0
  shift
  said=$("$run" "$@" 2>&1) || status=$?
  [ "$status" -eq 2 ] || fail "'$*' ended with $status instead of 2"
  [ "$(wc -l <<<"$said")" -eq 1 ] || fail "'$*' said more than one line: $said"
  grep -qF -- "$text" <<<"$said" || fail "'$*' did not say '$text', but: $said"
}

major=$(mpirun --version | sed -n 's/^mpirun (Open MPI) \([0-9]*\)\..*/\1/p')

refuses "how many ranks?" "$folder/program"
refuses "from 1 on, and got '0'" -n 0 "$folder/program"
refuses "from 1 on, and got 'two'" -n two "$folder/program"
refuses "needs a value" -n
refuses "which program?" -n 2
refuses "no program 'no_such_program'" -n 2 no_such_program
refuses "unknown option '--nodes'" --nodes 2 "$folder/program"
refuses "take 2 ranks, and -n asks for 3" -n 3 -H a:1,b:1 "$folder/program"
refuses "got 'a:x'" -n 2 -H a:x "$folder/program"
refuses "--devices-per-rank takes a number" -n 2 --devices-per-rank 0 "$folder/program"

says "mpirun -n 1" "$run" -n 1 --dry-run "$folder/program"
says "--bind-to core" "$run" -n 1 --dry-run "$folder/program"
says "$([ "$major" -eq 4 ] && echo --oversubscribe || echo "--map-by :OVERSUBSCRIBE")" "$run" -n 10000 --dry-run "$folder/program"
says "mpi_yield_when_idle 1" "$run" -n 10000 --dry-run "$folder/program"
says "a:2\\,b:1" "$run" -n 3 -H a,b --dry-run "$folder/program"
says "--mca btl_tcp_if_include eth1" "$run" -n 1 --mca btl_tcp_if_include eth1 --dry-run "$folder/program"
says "OMP_NUM_THREADS=1" "$run" -n 1 --devices-per-rank 10000 --dry-run "$folder/program"
OMP_NUM_THREADS=5 says "OMP_NUM_THREADS=5" "$run" -n 1 --dry-run "$folder/program"
# The number of threads is not the number of cores.
binding() { env "$@" "$run" -n 2 --dry-run "$folder/program" | sed 's/OMP_NUM_THREADS=[0-9]*//'; }
[ "$(binding OMP_NUM_THREADS=1)" = "$(binding -u OMP_NUM_THREADS)" ] ||
  fail "OMP_NUM_THREADS=1 counts as a core: $(binding OMP_NUM_THREADS=1)"

# How threads wait is set where nobody has chosen it.
says "-x GOMP_SPINCOUNT=10000" env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY "$run" -n 1 --dry-run "$folder/program"
says "-x GOMP_SPINCOUNT=77" env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=77 "$run" -n 1 --dry-run "$folder/program"
says "-x OMP_WAIT_POLICY=active" env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=active "$run" -n 1 --dry-run "$folder/program"
if env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=active "$run" -n 1 --dry-run "$folder/program" | grep -q GOMP_SPINCOUNT; then
  fail "OMP_WAIT_POLICY is chosen, and GOMP_SPINCOUNT set"
fi

# Cores that this process may not use stay free of ranks.
if [ "$(env -u OMP_NUM_THREADS nproc)" -gt 1 ]; then
  last=$(lscpu -p=CPU | tail -n 1)
  [ "$(taskset -c "$last" "$run" -n 1 sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)" = "$last" ] ||
    fail "a rank left the cores that it was given: $(taskset -c "$last" "$run" -n 1 --dry-run "$folder/program")"
fi
if [ "$(id -u)" -eq 0 ]; then
  says OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$run" -n 1 --dry-run "$folder/program"
elif "$run" -n 1 --dry-run "$folder/program" | grep -q OMPI_ALLOW_RUN_AS_ROOT; then
  fail "a user who is not root gets root's variables"
fi

OMP_NUM_THREADS=3 "$run" -n 3 "$folder/program" "an argument" >"$folder/out" 2>"$folder/err" || fail "status $?"
sort "$folder/out" | cmp -s - <(printf '%s\n' "[rank 1] rank 1 of 3, 3 threads, an argument" \
  "[rank 2] rank 2 of 3, 3 threads, an argument" "rank 0 of 3, 3 threads, an argument" | sort) ||
  fail "the output of three ranks is: $(cat "$folder/out")"
[ "$(env -u OMP_NUM_THREADS nproc)" -gt 2 ] || grep -q "^run: warning: 3 ranks share [12] core(s)" "$folder/err" ||
  fail "three ranks on fewer cores are no word: $(cat "$folder/err")"
for line in "complains 0" "[rank 1] complains 1" "[rank 2] complains 2"; do
  grep -qxF "$line" "$folder/err" || fail "'$line' is missing on stderr: $(cat "$folder/err")"
done

"$run" -n 2 --quiet "$folder/program" x >"$folder/out" 2>"$folder/err" || fail "status $? with --quiet"
[ "$(wc -l <"$folder/out")" -eq 1 ] || fail "--quiet printed: $(cat "$folder/out")"
grep -qxF "[rank 1] complains 1" "$folder/err" || fail "--quiet hides an error: $(cat "$folder/err")"

status=0
"$run" -n 1 --quiet bash -c 'exit 3' >"$folder/out" 2>"$folder/err" || status=$?
[ "$status" -eq 3 ] || fail "with --quiet a rank ended with 3 and the run with $status"
[ ! -s "$folder/out" ] && [ ! -s "$folder/err" ] || fail "--quiet lets mpirun remark: $(cat "$folder/out" "$folder/err")"

# Each line comes out whole, with its rank, however it was written, and none is lost: without a line end, in pieces between
# which others write, longer than what mpirun reads at once, short and many, like a tag of mpirun's.
cat >"$folder/lines" <<'EOF'
#!/usr/bin/env python3
import os, sys, time
rank = os.environ["OMPI_COMM_WORLD_RANK"]
def write(file, text):
    text = text.encode()
    while text: text = text[os.write(file, text):]
for file in (1, 2):
    for piece in ("run: ", "in pieces " + rank, "\n", "\n", "and on\nand "):
        write(file, piece)
        time.sleep(0.05)
    write(file, "off\n")
    write(file, rank * 20000 + "\n")
    write(file, "[1,1]<stderr>:no tag [1,0]<stdout>: either\n\x01\n")
    write(file, "".join(f"{number:05}\n" for number in range(20000)))
    write(file, "no end " + rank)
EOF
chmod +x "$folder/lines"
"$run" -n 2 "$folder/lines" >"$folder/out" 2>"$folder/err" || fail "status $? of the program that writes lines"
for file in "$folder/out" "$folder/err"; do
  for rank in 0 1; do
    prefix=""
    [ "$rank" = 0 ] || prefix="[rank $rank] "
    { OMPI_COMM_WORLD_RANK=$rank "$folder/lines" 2>/dev/null; echo; } | sed "s/^/$prefix/" >"$folder/expected"
    if [ "$rank" = 0 ]; then grep -v "^\[rank" "$file"; else grep "^\[rank $rank\] " "$file"; fi >"$folder/said" || true
    cmp -s "$folder/said" "$folder/expected" ||
      fail "lines of rank $rank in $(basename "$file"): $(diff "$folder/said" "$folder/expected" | cut -c1-100 | head -n 5)"
  done
done
"$run" -n 2 "$folder/lines" >"$folder/both" 2>&1 || fail "status $? of the program that writes lines"
[ "$(sed 's/^\[rank 1\] //' "$folder/both" | sort | uniq -c | awk '$1 == 4' | wc -l)" -eq 20005 ] ||
  fail "lines of two ranks on two outputs that lead to one file are not whole"

# What a rank says last without a line end stands apart from mpirun's remarks.
"$run" -n 2 bash -c 'printf "last of $OMPI_COMM_WORLD_RANK" >&2; [ "$OMPI_COMM_WORLD_RANK" = 0 ] || exit 3' \
  >"$folder/out" 2>"$folder/err" || true
grep -qxF "[rank 1] last of 1" "$folder/err" || fail "a rank's last words run into mpirun's: $(cat "$folder/err")"

# A program may wait for all of its children: what stands between it and mpirun is none.
says "[rank 1] waited" "$run" -n 2 python3 -c '
import os
try:
    while True: os.wait()
except ChildProcessError: print("waited")'

status=0
"$run" -n 2 "$folder/program" x 1 >/dev/null 2>&1 || status=$?
[ "$status" -eq 7 ] || fail "a rank ended with 7 and the run with $status"

# Closing lines and metrics are of the run, and rank zero alone says them; its output is that of a run alone.
program=$TROUPE_BUILD_DIR/tests/fault_program
OMP_NUM_THREADS=1 "$run" -n 2 "$program" fit --trainer.default_root_dir "$folder/runs" >"$folder/out" 2>"$folder/err" ||
  fail "a run of two ranks ended with $?: $(cat "$folder/err")"
grep -q "^best checkpoint: " "$folder/err" || fail "closing lines are missing: $(cat "$folder/err")"
[ "$(grep -c "run: \|best checkpoint: " "$folder/err")" -eq 2 ] || fail "closing lines are repeated: $(cat "$folder/err")"
! grep "run: \|best checkpoint: " "$folder/err" | grep -q "^\[rank" || fail "another rank closes: $(cat "$folder/err")"

# The first failure is the last line.
cat >"$folder/failing" <<'EOF2'
#!/usr/bin/env bash
[ "$OMPI_COMM_WORLD_RANK" != 1 ] || { echo "digits: out of luck (in training_step, stage fit, epoch 1, batch 2, rank 1 on here, cpu)" >&2; exit 1; }
sleep 60
EOF2
chmod +x "$folder/failing"
status=0
"$run" -n 2 "$folder/failing" >"$folder/out" 2>"$folder/err" || status=$?
[ "$status" -eq 1 ] || fail "a rank failed and the run ended with $status"
grep -q "out of luck (in training_step, stage fit, epoch 1, batch 2, rank 1 on here, cpu)" <(tail -n 1 "$folder/err") ||
  fail "the last line is not the failure: $(cat "$folder/err")"

# What asks it to end reaches the ranks as SIGUSR1, and the status is theirs, or what a shell has for the signal.
cat >"$folder/patient" <<'EOF2'
#!/usr/bin/env bash
trap 'echo "rank $OMPI_COMM_WORLD_RANK ends"; exit 143' USR1
[ "$OMPI_COMM_WORLD_RANK" != 0 ] || echo begins
while true; do sleep 0.05; done
EOF2
chmod +x "$folder/patient"
mkfifo "$folder/pipe"
ends_with() {  # ends_with STATUS SIGNAL [OPTION...]
  local started line status=0 options=("${@:3}")
  # Behind env, since a shell's background jobs ignore SIGINT.
  env --default-signal=INT "$run" -n 1 ${options[@]+"${options[@]}"} "$folder/patient" >"$folder/pipe" 2>"$folder/err" &
  started=$!
  exec 3<"$folder/pipe"
  read -r line <&3
  kill "-$2" "$started"
  read -r line <&3 || true
  [ "$line" = "rank 0 ends" ] || fail "after SIG$2 the rank said '$line': $(cat "$folder/err")"
  wait "$started" || status=$?
  exec 3<&-
  [ "$status" -eq "$1" ] || fail "after SIG$2 the run ended with $status, not $1"
}
ends_with 143 TERM
ends_with 143 USR1
ends_with 130 INT
ends_with 129 HUP
ends_with 140 USR2
ends_with 143 TERM --max-restarts 1
ends_with 130 INT --max-restarts 1

# A run that fails is started again, from its newest checkpoint.
cat >"$folder/fails_twice" <<'EOF'
#!/usr/bin/env bash
echo x >>"$1"
echo "$TROUPE_LAUNCH_ID" >>"$1.ids"
[ "$(wc -l <"$1")" -gt 2 ] || kill -9 $$
echo "third start of $TROUPE_LAUNCH_ID: $*"
EOF
chmod +x "$folder/fails_twice"
"$run" -n 1 --max-restarts 3 "$folder/fails_twice" "$folder/starts" fit >"$folder/out" 2>"$folder/err" ||
  fail "a run that may be started again ended with $?: $(cat "$folder/err")"
grep -q "third start of [0-9a-f-]*: $folder/starts fit --ckpt_path auto" "$folder/out" || fail "it said: $(cat "$folder/out")"
[ "$(sort -u "$folder/starts.ids" | wc -l)" -eq 1 ] || fail "its starts have other names: $(cat "$folder/starts.ids")"
[ "$(grep -cE "^run: restart ([12]) \(\1 of 3 without progress\) with 1 ranks in [012]\.[0-9]{3} s: .*exited on signal 9" "$folder/err")" -eq 2 ] ||
  fail "two restarts with their cause are missing: $(cat "$folder/err")"
status=0
TROUPE_RESTART_SEED=7 "$run" -n 1 --max-restarts 1 "$folder/program" x 0 >/dev/null 2>"$folder/err" || status=$?
[ "$status" -eq 7 ] || fail "the last start ended with 7 and the run with $status"
[ "$(grep -c "^run: restart" "$folder/err")" -eq 1 ] || fail "more than one restart: $(cat "$folder/err")"
grep -qx "run: no further start: 1 restarts in a row came no further" "$folder/err" || fail "it said: $(cat "$folder/err")"
# The pause is between half of a second and all of it, and a seed makes it the same again.
first=$(grep -o " in [0-9.]* s:" "$folder/err")
[[ $first =~ ^" in "(0\.[5-9][0-9]{2}|1\.000)" s:"$ ]] || fail "the first pause is$first"
TROUPE_RESTART_SEED=7 "$run" -n 1 --max-restarts 1 "$folder/program" x 0 >/dev/null 2>"$folder/err" || true
[ "$(grep -o " in [0-9.]* s:" "$folder/err")" = "$first" ] || fail "with one seed there are two pauses: $(cat "$folder/err")"

# Starts that come further do not count, and what happened is in the newest run's folder. The program does what rank zero
# does: a folder for each start, with the launch's name, and a checkpoint, of which the launcher reads the header alone.
cat >"$folder/gets_on" <<'EOF2'
#!/usr/bin/env python3
import json, os, struct, sys
root, failure, each = sys.argv[2], sys.argv[3], int(sys.argv[4])
name = os.path.join(root, "net")
os.makedirs(name, exist_ok=True)
start = len(os.listdir(name))
folder = os.path.join(name, f"version_{start}")
os.makedirs(os.path.join(folder, "checkpoints"))
with open(os.path.join(folder, "restarts.jsonl"), "w") as file:
    file.write(json.dumps({"event": "folder", "launch": os.environ["TROUPE_LAUNCH_ID"]}, separators=(",", ":")) + "\n")
troupe = {"metadata": {"progress": {"epoch": 0, "total_batches": 10 + each * start}}}
header = json.dumps({"__metadata__": {"troupe": json.dumps(troupe, separators=(",", ":"))}}).encode()
with open(os.path.join(folder, "checkpoints", "last.safetensors"), "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
if start < 3:
    print(failure.replace("START", str(start)) + f' (in training_step, stage fit, epoch 0, batch {start * each}, rank 0 on here, cpu)',
          file=sys.stderr)
    sys.exit(1)
EOF2
chmod +x "$folder/gets_on"
gets_on() {  # gets_on ROOT FAILURE BATCHES_A_START
  "$run" -n 1 --max-restarts 1 "$folder/gets_on" --trainer.default_root_dir "$1" "$2" "$3" >"$folder/out" 2>"$folder/err"
}
gets_on "$folder/on" "net: a \"bad\" day" 5 || fail "a run that gets on is given up: $(cat "$folder/err")"
[ "$(grep -cE "^run: restart [123] \(0 of 1 without progress\) with 1 ranks in 0\.(0[5-9]|100)" "$folder/err")" -eq 3 ] ||
  fail "starts that came further count, or wait: $(cat "$folder/err")"
python3 - "$folder/on/net/version_3/restarts.jsonl" <<'EOF2' || fail "restarts.jsonl is not what happened"
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
names = [event["event"] for event in events]
assert names == ["start"] + ["failure", "restart"] * 3 + ["end"], names
assert len({event["launch"] for event in events}) == 1
assert [event["batches"] for event in events if event["event"] == "failure"] == [10, 15, 20], events
assert 'a "bad" day' in events[1]["why"], events[1]
assert events[-1]["status"] == 0 and all(b["time"] >= a["time"] for a, b in zip(events, events[1:]))
EOF2
# The same checkpoint again is no progress, whatever its date.
if gets_on "$folder/stays" "net: START" 0; then fail "a run that stays where it is went on: $(cat "$folder/err")"; fi
grep -qx "run: no further start: 1 restarts in a row came no further" "$folder/err" || fail "it said: $(cat "$folder/err")"
# What failed twice in the same way would fail again, though rank and host differ.
cat >"$folder/fails_alike" <<'EOF2'
#!/usr/bin/env bash
echo x >>"$1"
echo "net: bad sample (in loader, stage fit, epoch 0, batch 7, rank 0 on node$(wc -l <"$1"), cpu)" >&2
exit 1
EOF2
chmod +x "$folder/fails_alike"
if "$run" -n 1 --max-restarts 5 "$folder/fails_alike" "$folder/alike" >"$folder/out" 2>"$folder/err"; then fail "it failed and ended with 0"; fi
[ "$(wc -l <"$folder/alike")" -eq 2 ] || fail "the same failure was tried $(wc -l <"$folder/alike") times"
grep -qx "run: no further start: the same failure came twice, and would come again" "$folder/err" ||
  fail "it said: $(cat "$folder/err")"
# The last words of a rank come out though the others are ended at once.
cat >"$folder/last_words" <<'EOF2'
#!/usr/bin/env bash
trap '' TERM
[ "$OMPI_COMM_WORLD_RANK" = 1 ] || exec sleep 60
printf 'last words' >&2
kill -9 $$
EOF2
chmod +x "$folder/last_words"
status=0
"$run" -n 2 --max-restarts 1 "$folder/last_words" >"$folder/out" 2>"$folder/err" || status=$?
[ "$status" -eq 137 ] || fail "a rank was killed and the run ended with $status"
[ "$(grep -cx "\[rank 1\] last words" "$folder/err")" -eq 2 ] || fail "last words are lost: $(cat "$folder/err")"
# A wrong option is not tried again.
if "$run" -n 1 --max-restarts 5 bash -c 'exit 2' 2>"$folder/err"; then fail "status 0 after 2"; fi
if grep -q "^run: restart" "$folder/err"; then fail "a usage error was tried again: $(cat "$folder/err")"; fi

# What is wrong with a host is said before a start: its folder, its disk, its memory, its clock.
checked() { bash "$TROUPE_SOURCE_DIR/launch/check_host" "$@"; }
[[ $(checked "$folder/new/runs" 1000 1) =~ ^"time "[0-9]+$ ]] || fail "a good host has: $(checked "$folder/new/runs" 1000 1)"
says "the folder $folder/program cannot be written" checked "$folder/program/runs" 1000 1
says "MiB, and a checkpoint takes 1073741824 MiB" checked "$folder" $((1 << 50)) 1
says "of memory are free, and 2 rank(s) take 2147484160 MiB" checked - $((1 << 50)) 2
if "$run" -n 1 --max-restarts 1 "$folder/program" --trainer.default_root_dir="$folder/program/runs" 2>"$folder/err"; then
  fail "a folder that cannot be written is no problem"
fi
grep -qx "run: the host localhost: the folder $folder/program cannot be written" "$folder/err" || fail "it said: $(cat "$folder/err")"
# As ssh: a clock that is an hour off, on one host; and one that nobody knows.
cat >"$folder/clocks" <<'EOF2'
#!/usr/bin/env bash
host=$1
shift
[ "$host" != nowhere ] || { echo "ssh: Could not resolve hostname nowhere" >&2; exit 255; }
sh -c "$*" | awk -v late="$([ "$host" = late ] && echo 3600 || echo 0)" '$1 == "time" { $2 = sprintf("%d", $2 - late) } { print }'
EOF2
chmod +x "$folder/clocks"
clocks() { "$run" -n 2 -H "$1" --mca plm_rsh_agent "$folder/clocks" --min-ranks 2 "$folder/program" 2>&1; }
said=$(clocks localhost:1,nowhere:1 || true)
grep -qx "run: the host nowhere does not answer: ssh: Could not resolve hostname nowhere" <<<"$said" || fail "it said: $said"
echo "nowhere slots=2" >"$folder/hostfile"
said=$("$run" -n 2 --mca orte_default_hostfile "$folder/hostfile" --mca plm_rsh_agent "$folder/clocks" "$folder/program" 2>&1 || true)
grep -qx "run: the host nowhere does not answer: ssh: Could not resolve hostname nowhere" <<<"$said" || fail "it said: $said"
said=$(OMPI_MCA_orte_default_hostfile=$folder/hostfile "$run" -n 2 --mca plm_rsh_agent "$folder/clocks" "$folder/program" 2>&1 || true)
grep -qx "run: the host nowhere does not answer: ssh: Could not resolve hostname nowhere" <<<"$said" || fail "it said: $said"

# Another LibTorch, or none, is named before the linker ends the program with a word of its own: hosts with an ldd of theirs.
program_of_torch=$TROUPE_BUILD_DIR/tests/fault_program
[[ $(checked - 1 1 "$program_of_torch") =~ libtorch\ [0-9]+\ "${TROUPE_TORCH_VERSION:-}"[^\ ]*\ /.*/libtorch_cpu\.so ]] ||
  fail "this host's LibTorch is not seen: $(checked - 1 1 "$program_of_torch")"
says "there is no program $folder/nothing, or it cannot be executed" checked - 1 1 "$folder/nothing"
mkdir -p "$folder/other/torch/lib" "$folder/other/bin" "$folder/lacks/bin" "$folder/older/bin"
echo "__version__ = '1.0.0+old'" >"$folder/other/torch/version.py"
echo library >"$folder/other/torch/lib/libtorch_cpu.so"
ldd_of() { { printf '#!/bin/sh\ncat <<"END"\n'; printf '%s\n' "${@:2}" END; } >"$folder/$1/bin/ldd"; chmod +x "$folder/$1/bin/ldd"; }
ldd_of other "	libtorch_cpu.so => $folder/other/torch/lib/libtorch_cpu.so (0x00007f0000000000)"
ldd_of lacks "	libtorch_cpu.so => not found" "	libc10.so => not found" "	libc.so.6 => /lib/libc.so.6 (0x00007f0000000000)"
ldd_of older "$program_of_torch: /lib/libstdc++.so.6: version \`GLIBCXX_3.4.30' not found (required by $program_of_torch)"
cat >"$folder/linkers" <<'EOF2'
#!/usr/bin/env bash
PATH=${0%/*}/$1/bin:$PATH exec sh -c "${*:2}"
EOF2
chmod +x "$folder/linkers"
linkers() { "$run" -n 2 -H "localhost:1,$1:1" --mca plm_rsh_agent "$folder/linkers" "$program_of_torch" 2>&1 || true; }
said=$(linkers other)
grep -qE "^run: the host other has another LibTorch than localhost: 1\.0\.0\+old, 8 bytes at $folder/other/torch/lib/libtorch_cpu\.so and .*[0-9]+ bytes at /.*/libtorch_cpu\.so; install the same version everywhere$" <<<"$said" ||
  fail "it said: $said"
[ "$(grep -c libtorch_cpu <<<"$said")" -eq 1 ] || fail "more than one sentence: $said"
said=$(linkers lacks)
grep -qx "run: the host lacks: $program_of_torch needs libc10.so, libtorch_cpu.so, and the linker does not find it" <<<"$said" ||
  fail "it said: $said"
said=$(linkers older)
grep -qx "run: the host older: $program_of_torch needs a libstdc++.so.6 with GLIBCXX_3.4.30, which is newer than what is installed" <<<"$said" ||
  fail "it said: $said"

# A host that no longer answers is left out.
cat >"$folder/agent" <<'EOF'
#!/usr/bin/env bash
[ "$1" != 192.0.2.1 ] || exit 255
shift
exec sh -c "$*"
EOF
chmod +x "$folder/agent"
"$run" -n 2 -H localhost,192.0.2.1 --mca plm_rsh_agent "$folder/agent" --max-restarts 1 --min-ranks 1 "$folder/program" \
  >"$folder/out" 2>"$folder/err" || fail "with one host left it ended with $?: $(cat "$folder/err")"
grep -q "rank 0 of 1" "$folder/out" || fail "with one host left it said: $(cat "$folder/out")"
grep -q "the host 192.0.2.1 does not answer" "$folder/err" || fail "the lost host is not named: $(cat "$folder/err")"
status=0
"$run" -n 2 -H localhost,192.0.2.1 --mca plm_rsh_agent "$folder/agent" --max-restarts 1 "$folder/program" \
  >"$folder/out" 2>"$folder/err" || status=$?
[ "$status" -ne 0 ] || fail "two ranks were asked for, one was there, and the status is 0"
grep -q "1 rank is left, and --min-ranks asks for 2" "$folder/err" || fail "it said: $(cat "$folder/err")"
said=$("$run" -n 2 -H late:1,nowhere:1 --mca plm_rsh_agent "$folder/clocks" "$folder/program" 2>&1 || true)
grep -qE "^run: warning: the clock of the host late is 3(599|60[0-9]) s behind this one's$" <<<"$said" || fail "it said: $said"
refuses "--min-ranks 3 is more than -n 2" -n 2 --min-ranks 3 "$folder/program"

# --- Versions of Open MPI: mpiruns that only say which they are, and what they read ---

fake() {  # fake NAME VERSION: with ompi_info's list on stdin
  mkdir -p "$folder/$1"
  printf '#!/bin/sh\necho "%s"\n' "$2" >"$folder/$1/mpirun"
  { printf '#!/bin/sh\ncat <<END\n'; cat; echo END; } >"$folder/$1/ompi_info"
  chmod +x "$folder/$1"/*
}
fake 4 "mpirun (Open MPI) 4.1.4" <<'END'
mca:btl:tcp:param:btl_tcp_if_include:value:
mca:orte:base:param:orte_default_hostfile:value:
mca:plm:rsh:param:plm_rsh_agent:value:ssh
mca:oob:tcp:param:oob_tcp_keepalive_time:value:300
mca:oob:tcp:param:oob_tcp_if_include:value:
END
fake 5 "mpirun (Open MPI) 5.0.11" <<'END'
mca:btl:tcp:param:btl_tcp_if_include:value:
END
cat >"$folder/5/prte_info" <<'END'
#!/bin/sh
cat <<LIST
                MCA prte: "prte_default_hostfile" (current value: "", data
                          source: default, type: string, synonyms:
                          prte_hosts)
                 MCA oob: "oob_tcp_if_include" (current value: "", data
                 MCA oob: "oob_tcp_keepalive_time" (current value: "300",
                 MCA plm: "plm_ssh_agent" (current value: "ssh : rsh", data
LIST
END
cat >"$folder/5/pmix_info" <<'END'
#!/bin/sh
echo '           MCA ptl base: "ptl_base_if_include" (current value: "", data'
END
chmod +x "$folder"/5/*
fake 3 "mpirun (Open MPI) 3.1.6" </dev/null
fake other "HYDRA build details:" </dev/null

# An mpirun that waits for itself when its rank has ended is killed, and what the rank ended with is the status.
fake stuck "mpirun (Open MPI) 4.1.4" </dev/null
# shellcheck disable=SC2016  # for the fake's shell
printf '%s\n' '#!/bin/sh' 'if [ "$1" = --version ]; then echo "mpirun (Open MPI) 4.1.4"; exit; fi' \
  "exec perl -e 'fork or exit 3; sleep'" >"$folder/stuck/mpirun"
said=0
PATH=$folder/stuck:$PATH "$run" -n 1 true 2>"$folder/err" || said=$?
[ "$said" -eq 3 ] || fail "an mpirun that is stuck behind status 3 came to $said"
stuck="run: mpirun is still there 10 s after the end of all that it has started, and is killed"
[ "$(cat "$folder/err")" = "$stuck" ] || fail "it said: $(cat "$folder/err")"

of() { local name=$1; shift; env "PATH=$folder/$name:$PATH" HOME="$folder/home" "$@"; }  # of VERSION COMMAND...
refuses_of() {  # refuses_of VERSION TEXT ARGUMENT...
  local name=$1
  shift
  PATH=$folder/$name:$PATH refuses "$@"
}
refuses_of other "is not Open MPI's: put the mpirun of Open MPI 4.1 or 5.0 first into PATH" -n 1 true
refuses_of 3 "is of Open MPI 3.1.6: put the mpirun of 4.1 or 5.0 first into PATH" -n 1 true

says "mpirun -n 2 --tag-output " of 4 "$run" -n 2 --dry-run true
says " -q " of 4 "$run" -n 2 --quiet --dry-run true
says "--oversubscribe" of 4 "$run" -n 10000 --dry-run true
says " relay true" of 4 "$run" -n 2 --dry-run true
says "OMPI_MCA_oob_tcp_keepalive_time=20 " of 4 "$run" -n 2 -H a,b --dry-run true
says "mpirun -n 2 --output tag-fullname " of 5 "$run" -n 2 --dry-run true
says "--map-by :OVERSUBSCRIBE" of 5 "$run" -n 10000 --dry-run true
says " PRTE_MCA_oob_tcp_keepalive_time=20 " of 5 "$run" -n 2 -H a,b --dry-run true
said=$(of 5 "$run" -n 2 --quiet --dry-run true)
[[ $said != *" -q "* && $said != *relay* && $said != *OMPI_MCA* ]] || fail "Open MPI 5 gets what is for 4.1: $said"

# Ranks that may be lost: by the option, an argument of the program, or a config file that it names.
printf '[trainer]\nelastic = "2:8"\n' >"$folder/elastic.toml"
printf '[trainer]\nelastic = ""\nelastic_every_n_steps = 50\n' >"$folder/rigid.toml"
says " --with-ft ulfm " of 5 "$run" -n 2 --elastic --dry-run true
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true --trainer.elastic 1:2
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true --trainer.elastic=1:2
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true --config "$folder/elastic.toml"
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true "--config=$folder/elastic.toml"
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true --set trainer.elastic=1:2
says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true --config "$folder/elastic.toml" --config /dev/null
TROUPE__TRAINER__ELASTIC=1:2 says " --with-ft ulfm " of 5 "$run" -n 2 --dry-run true
said=$(of 5 "$run" -n 2 --dry-run true --config "$folder/elastic.toml" --config "$folder/rigid.toml")
[[ $said != *ulfm* ]] || fail "a run that is not elastic is started as if it were: $said"
refuses_of 4 "--elastic needs Open MPI 5, and mpirun is of 4.1.4: use --max-restarts" -n 2 --elastic true
refuses_of 4 "--elastic needs Open MPI 5" -n 2 true --config "$folder/elastic.toml"

# A setting goes to who reads it, by this version's name.
says "--mca orte_default_hostfile hosts" of 4 "$run" -n 1 --mca orte_default_hostfile hosts --dry-run true
says "--mca orte_default_hostfile hosts" of 4 "$run" -n 1 --mca prte_default_hostfile hosts --dry-run true
says "--mca plm_rsh_agent krsh" of 4 "$run" -n 1 --mca plm_ssh_agent krsh --dry-run true
says "--mca oob_tcp_if_include lo" of 4 "$run" -n 1 --mca oob_tcp_if_include lo --dry-run true
says "--prtemca prte_default_hostfile hosts" of 5 "$run" -n 1 --mca orte_default_hostfile hosts --dry-run true
says "--prtemca plm_ssh_agent krsh" of 5 "$run" -n 1 --mca plm_rsh_agent krsh --dry-run true
says "--prtemca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth1" \
  of 5 "$run" -n 1 --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth1 --dry-run true
says "--prtemca prte_hosts hosts" of 5 "$run" -n 1 --mca prte_hosts hosts --dry-run true
says "--pmixmca ptl_base_if_include eth0" of 5 "$run" -n 1 --mca ptl_base_if_include eth0 --dry-run true
refuses_of 4 "Open MPI 4.1.4 has no setting 'btl_tcp_if_inclde'; the nearest is 'btl_tcp_if_include'" \
  -n 1 --mca btl_tcp_if_inclde eth1 true
refuses_of 5 "Open MPI 5.0.11 has no setting 'odls_base_sigkill_timeout'" -n 1 --mca odls_base_sigkill_timeout 9 true
refuses_of 5 "does not start with oob_tcp_if_include lo: leave it out on a single host" -n 1 --mca oob_tcp_if_include lo true

# So do variables, unless this version's own says otherwise.
says " PRTE_MCA_plm_ssh_agent=krsh mpirun" of 5 OMPI_MCA_plm_rsh_agent=krsh "$run" -n 1 --dry-run true
says " PRTE_MCA_oob_tcp_keepalive_time=7 " of 5 OMPI_MCA_oob_tcp_keepalive_time=7 "$run" -n 2 -H a,b --dry-run true
says "OMPI_MCA_plm_rsh_agent=krsh mpirun" of 4 PRTE_MCA_plm_ssh_agent=krsh "$run" -n 1 --dry-run true
said=$(of 5 OMPI_MCA_plm_rsh_agent=krsh PRTE_MCA_plm_ssh_agent=mine OMPI_MCA_btl_tcp_if_include=eth1 "$run" -n 1 --dry-run true)
[[ $said != *PRTE_MCA_* ]] || fail "a variable of this version is overwritten, or one of MPI's is not left alone: $said"
says "run: warning: Open MPI 5.0.11 does not read OMPI_MCA_orte_base_help_aggregate" \
  of 5 OMPI_MCA_orte_base_help_aggregate=0 "$run" -n 1 --dry-run true
refuses_loopback=$(of 5 OMPI_MCA_oob_tcp_if_include=127.0.0.0/8 "$run" -n 1 --dry-run true 2>&1) && fail "it takes loopback"
[[ $refuses_loopback == *"does not start with oob_tcp_if_include 127.0.0.0/8"* ]] || fail "it said: $refuses_loopback"
mkdir -p "$folder/home/.openmpi"
printf '# ours\n oob_tcp_if_include = eth0\nbtl_tcp_if_include=eth1\n' >"$folder/home/.openmpi/mca-params.conf"
says "does not read oob_tcp_if_include in $folder/home/.openmpi/mca-params.conf: write it into ~/.prte/mca-params.conf" \
  of 5 "$run" -n 1 --dry-run true
[ "$(of 5 "$run" -n 1 --dry-run true 2>&1 | grep -c warning)" -eq 1 ] || fail "MPI reads its own settings there"
[ "$(of 4 "$run" -n 1 --dry-run true 2>&1 | grep -c warning)" -eq 0 ] || fail "4.1 reads that file"

# The other Open MPI, if it is here.
# shellcheck source=launch/versions.sh
source "$TROUPE_SOURCE_DIR/launch/versions.sh"
# shellcheck disable=SC2154  # the version
other=${TROUPE_DEPS:-$HOME/.cache/troupe}/openmpi-$openmpi/bin
if [ "$major" -eq 4 ] && [ -x "$other/mpirun" ]; then
  PATH=$other:$PATH "$0" || fail "with Open MPI $openmpi: see above"
fi
exit $failures
