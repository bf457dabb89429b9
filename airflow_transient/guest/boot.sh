# The machine's own part of a launch: run the job, report, end the machine. Whatever happens, it ends.
#
# core/bootscript.py puts the shebang and the variables above this text and leaves whole-line comments out.
# Runs as root under cloud-init on Amazon Linux 2023, Debian and Ubuntu, and where there is no systemd.
set -u
umask 077
# cloud-init gives no HOME, USER or SHELL.
export HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG="${LANG:-C.UTF-8}"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Debian and Ubuntu mount /run without the right to execute: data is kept there, in memory; programs lie in X.
D=/run/transient
X=/var/lib/transient
LOG=/var/log/transient-job.log
mkdir -p "$D" "$X" /var/log
: >"$LOG"
BOOTED=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# Two ways to keep a program apart from ours: systemd's, and a session of its own.
systemd() { [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; }
apart() {
  systemd && systemd-run --quiet --collect --unit="$1" -p OOMScoreAdjust=-1000 /bin/bash "$2" && return
  setsid /bin/bash "$2" </dev/null >/dev/null 2>&1 &
}

# Before anything else: the timer. It counts from boot, lives apart from the job, and is no `shutdown +N`, which a
# job could call off with `shutdown -c`. First it ends the job, so that a receipt can be written; then the machine.
cat >"$D/off" <<'END'
sync
shutdown -h now || systemctl poweroff || poweroff || halt -p
sleep 45
systemctl --force --force poweroff || poweroff -f || halt -f -p || echo o >/proc/sysrq-trigger
END
cat >"$D/timer" <<END
sleep $MAX_RUNTIME
: >$D/overdue
for try in 1 2 3 4; do
  if [ -d /run/systemd/system ]; then systemctl stop transient-job; fi
  [ -s $D/job.pid ] && kill -TERM -\$(cat $D/job.pid)
  sleep 5
done
[ -s $D/job.pid ] && kill -KILL -\$(cat $D/job.pid)
sleep $GRACE
. $D/off
END
apart transient-timer "$D/timer"
TIMER=${!-}

# User data runs once in a machine's life: after a reboot nothing of this would be there, so a second boot ends it.
mkdir -p /var/lib/cloud/scripts/per-boot
{ echo '#!/bin/bash'; cat "$D/off"; } >/var/lib/cloud/scripts/per-boot/transient-off
chmod 700 /var/lib/cloud/scripts/per-boot/transient-off

# One marker line is the whole report where there is no network and no permission.
if { : >/dev/console; } 2>/dev/null; then CONSOLE=/dev/console; else CONSOLE=/dev/stdout; fi
tell() { printf '\nTRANSIENT %s\n' "$1" >"$CONSOLE"; }

printf '%s' "$FORM" >"$D/form"
printf '%s' "$HANDS" >"$D/hands.py"
if command -v curl >/dev/null; then WITH=curl; elif command -v python3 >/dev/null; then WITH=python3; else WITH=none; fi

# metadata PATH [DEFAULT]
metadata() {
  local m=http://169.254.169.254/latest try value token
  for try in 1 2 3; do
    case $WITH in
      curl)
        token=$(curl -fsS -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $m/api/token 2>/dev/null) &&
          value=$(curl -fsS -m 3 -H "X-aws-ec2-metadata-token: $token" "$m/meta-data/$1" 2>/dev/null) &&
          { printf '%s' "$value"; return; } ;;
      python3) value=$(python3 "$D/hands.py" metadata "$1" 2>/dev/null) && { printf '%s' "$value"; return; } ;;
    esac
    sleep 1
  done
  printf '%s' "${2-}"
}
ME=$(metadata instance-id "$(cat /var/lib/cloud/data/instance-id 2>/dev/null)")
INDEX=$((OFFSET + $(metadata ami-launch-index 0)))

# put FILE [NAME]: through the signed form, else with the instance's own role. A program of its own, because jobs use
# it too ($TRANSIENT_PUT). The form is read from a file, so that it is in no process list.
declare -p WITH FORM_URL BUCKET PREFIX ME D >"$D/vars"
{ echo '#!/bin/bash'; echo ". $D/vars"; cat; } >"$X/put" <<'END'
[ -n "$FORM_URL$BUCKET" ] || { echo "put: this launch was given no results" >&2; exit 1; }
key="$PREFIX$ME/${2:-$(basename "$1")}"
limit=${TRANSIENT_PUT_LIMIT:-3600}
case $WITH in
  curl)
    file=${1//\\/\\\\}
    timeout "$limit" curl -fsS --connect-timeout 10 --retry 2 --retry-delay 1 -o /dev/null -K "$D/form" \
      --form-string "key=$key" -F "file=@\"${file//\"/\\\"}\"" "$FORM_URL" && exit ;;
  python3) timeout "$limit" python3 "$D/hands.py" post "$FORM_URL" "$D/form" "$key" "$1" && exit ;;
esac
command -v aws >/dev/null && exec timeout "$limit" aws s3 cp --only-show-errors "$1" "s3://$BUCKET/$key"
exit 1
END
chmod 700 "$X/put"
P=$X/put
put() { TRANSIENT_PUT_LIMIT=25 /bin/bash "$P" "$2" "$1"; }

# receipt PHASE [MORE]
receipt() {
  printf '{"nonce":"%s","instance":"%s","index":%d,"phase":"%s","booted":"%s"%s}' \
    "$NONCE" "$ME" "$INDEX" "$1" "$BOOTED" "${2-}"
}
stopping() {
  # /run/nologin alone proves little: systemd makes it five minutes before a planned shutdown.
  if command -v systemctl >/dev/null; then [ "$(systemctl is-system-running 2>/dev/null)" = stopping ]
  else [ -e /run/nologin ]; fi
}

STARTED=
NOTE=
finish() {
  # A copy of this shell (the sender, a command in the background) that a signal meets before it has given up the traps
  # comes here, too, and has no end to tell. Seen: the sender of a job that ended at once.
  [ "$BASHPID" = $$ ] || exit "$1"
  trap '' TERM INT HUP EXIT
  local code=${CODE:-$1} cause=exit signal= phase=end more tail bytes
  # Written by systemd when the unit ended: its result, how, and the exit status or the signal's name.
  if [ -s "$D/ended" ]; then
    read -r result how status state <"$D/ended"
    case $how in
      # As shells say it: 128 and the signal's number.
      killed | dumped) signal=SIG$status; cause=signal; code=$((128 + $(kill -l "$status"))) ;;
      *) code=$status ;;
    esac
    [ "$result" = oom-kill ] && cause=oom-kill
  else
    # A shell's word for a signal; of the numbers that jobs rarely choose themselves.
    case $((code - 128)) in
      1 | 2 | 3 | 4 | 6 | 7 | 8 | 9 | 11 | 13 | 14 | 15 | 24) signal=SIG$(kill -l $((code - 128))); cause=signal ;;
    esac
  fi
  { [ "${state-}" = stopping ] || stopping; } && phase=cut
  [ -n "$NOTE" ] && cause=setup
  [ -e "$D/overdue" ] && { cause=overdue; phase=end; }
  [ -n "${SENDER-}" ] && kill "$SENDER" 2>/dev/null
  bytes=$(stat -c %s "$LOG")
  eval "$CLEAN"
  if [ -n "$CLEAN" ] && [ "$code" = 0 ] && [ $cause = exit ] && ! clean >"$D/cleaned" 2>&1; then
    NOTE="the disk could not be cleaned for its image: $(tail -n 1 "$D/cleaned" | tr -d '"\\' | tr -c '[:print:]' ' ' | cut -c 1-200)"
    cause=setup code=125
  fi
  more=$(printf ',"cause":"%s","ended":"%s","log_bytes":%d' "$cause" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$bytes")
  [ -n "$code" ] && more="$more,\"exit_code\":$code"
  [ -n "$signal" ] && more="$more,\"signal\":\"$signal\""
  [ -n "$STARTED" ] && more="$more,\"started\":\"$STARTED\""
  [ -n "$NOTE" ] && more="$more,\"note\":\"$NOTE\""
  [ -e "$D/result.json" ] && more="$more,\"result_bytes\":$(stat -c %s "$D/result.json")"
  # The console first: uploads may take their time. The network of a machine that is being cut down may go at any
  # moment: then the shortest report goes first.
  receipt $phase "$more" >"$D/receipt"
  tell "$(cat "$D/receipt")"
  if [ $phase = cut ]; then put receipt.json "$D/receipt" 2>/dev/null; fi
  [ -e "$D/result.json" ] && put result.json "$D/result.json"
  tail -c 262144 "$LOG" >"$D/tail" && put job.log "$D/tail"
  # The receipt goes last: who reads it may rely on the log and the result.
  if [ $phase = end ]; then put receipt.json "$D/receipt"; fi
  { echo; echo "last lines of the job's output:"; tail -n 20 "$LOG" | cut -c 1-500; } >"$CONSOLE"
  # Somebody else is shutting the machine down; to wait here for its end would hold it up.
  : >"$D/told"
  [ $phase = cut ] && exit
  # A failed machine may be kept for a person to look at; the timer goes on with the hold's length.
  if [ "$HOLD" -gt 0 ] && [ "$code" != 0 ]; then
    echo "held for $HOLD s to be looked at; power it off when done" >"$CONSOLE"
    printf 'sleep %d\n. %s\n' "$HOLD" "$D/off" >"$D/hold"
    apart transient-hold "$D/hold"
    if systemd; then systemctl stop transient-timer; else kill "$TIMER" 2>/dev/null; fi
    exit
  fi
  # As a program with default signals: it must not hold up the very shutdown it asks for.
  trap - TERM INT HUP
  exec /bin/bash "$D/off" >/dev/null 2>&1
}
trap 'finish $?' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

receipt started ",\"started\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"" >"$D/started"
tell "$(cat "$D/started")"

# The secrets' values exist in this process's file only, on a RAM disk; they are in no user data and no process list.
printf '%s' "$JOB_ENV" >"$D/env"
if [ -n "$SECRETS" ]; then
  printf '%s' "$SECRETS" >"$D/secrets"
  if ! NOTE=$(python3 "$D/hands.py" secrets "$D/secrets" "$D/env" "$REGION" 2>&1); then
    NOTE=$(printf '%s' "${NOTE:-python3 is missing}" | tail -n 1 | tr -d '"\\' | tr -c '[:print:]' ' ' | cut -c 1-300)
    exit 125
  fi
fi
NOTE=
cat >>"$D/env" <<END
export TRANSIENT_INDEX=$INDEX TRANSIENT_COUNT=$COUNT TRANSIENT_LAUNCH=$TOKEN
export TRANSIENT_RESULT=$D/result.json TRANSIENT_PUT=$X/put
END
# A disk that is full leaves an empty file, and that would run and end with 0.
if ! printf '%s' "$JOB" >"$X/job" || ! chmod 700 "$X/job"; then
  NOTE="the job could not be written to the disk: is it full?"
  exit 125
fi
# systemd starts a unit with an environment of its own: what a job finds is said here.
cat >"$D/enter" <<END
umask 022
export HOME=$HOME USER=root LOGNAME=root SHELL=/bin/bash LANG=$LANG PATH=$PATH
. $D/env
cd /root 2>/dev/null || cd /
exec $X/job
END
put started.json "$D/started" &

# The log travels while the job runs, when it has grown.
sender() {
  local seen=0 size
  while sleep 10; do
    size=$(stat -c %s "$LOG")
    [ "$size" = "$seen" ] && continue
    seen=$size
    tail -c 262144 "$LOG" >"$D/sent" && put job.log "$D/sent"
  done
}
sender >/dev/null 2>&1 &
SENDER=$!

[ -e "$D/overdue" ] && exit 143
STARTED=$(date -u +%Y-%m-%dT%H:%M:%SZ)
if systemd; then
  # A job that asks for the shutdown itself is let come to its own end before systemd ends it.
  cat >"$D/let-end" <<'END'
for try in {1..20}; do [ -n "${MAINPID-}" ] && kill -0 "$MAINPID" 2>/dev/null || exit 0; sleep 0.1; done
END
  # At a shutdown the unit stays until its end is told, and dbus (by which systemd-run waits) and network stay with it.
  cat >"$D/note-end" <<END
state=\$(systemctl is-system-running)
echo "\$SERVICE_RESULT \$EXIT_CODE \$EXIT_STATUS \$state" >$D/ended
[ "\$state" = stopping ] || exit 0
kill $$
for try in {1..75}; do [ -e $D/told ] && exit; sleep 0.2; done
END
  systemd-run --quiet --wait --unit=transient-job -p ExecStopPost="/bin/bash $D/note-end" -p TimeoutStopSec=20 \
    -p ExecStop="/bin/bash $D/let-end" -p After=dbus.service -p After=network.target \
    -p StandardOutput="append:$LOG" -p StandardError="append:$LOG" /bin/bash "$D/enter" &
else
  setsid /bin/bash "$D/enter" </dev/null >>"$LOG" 2>&1 &
  echo $! >"$D/job.pid"
fi
JOB_PID=$!
wait $JOB_PID
CODE=$?
if systemd && [ ! -s "$D/ended" ]; then NOTE="systemd-run could not start the job (exit $CODE)"; fi
# The signal that ended our `wait` is handled by its trap; what is left is the job's own end.
exit $CODE
